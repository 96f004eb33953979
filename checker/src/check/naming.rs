//! Which rule a call breaks that has no place in any order. The search says that; this only finds the words.

use crate::history::{Cell, FileOp, LogOp, Operation, Outcome, TreeOp, Value};
use crate::model::Part;
use crate::model::file::{Ask, Content, Piece};
use crate::model::tree::{Plan, Tree};

fn power_was_lost(parts: &[Part<'_>], before: u64) -> bool {
    parts.iter().any(|part| part.call.is_none() && part.span.from <= before)
}

pub(super) fn file(parts: &[Part<'_>], piece: &Piece, states: &[Content]) -> &'static str {
    let lost = power_was_lost(parts, piece.span.to);
    match &piece.ask {
        Ask::Saw { cell, .. } => saw(parts, piece, cell, states, lost),
        Ask::Read { seen, .. } if seen.iter().any(|cell| matches!(cell, Cell::Torn(_))) => "a write was torn",
        Ask::Read { at, count, seen } => {
            let mixed = states.iter().any(|state| state.cells.len() >= (*at + *count) as usize);
            match seen.iter().find(|cell| matches!(cell, Cell::Garbage)) {
                Some(_) => "bytes that nobody wrote were read",
                None if lost => "synced data was lost with the power",
                None if mixed && seen.len() < *count as usize => "a read ended before the end of the file",
                None => "a read saw what no order of the writes gives",
            }
        }
        Ask::SawEnd { .. } | Ask::Size { .. } if lost => "a synced size was lost with the power",
        Ask::SawEnd { .. } => "a read ended before the end of the file",
        Ask::Size { seen } if states.iter().all(|state| state.cells.len() > *seen as usize) => {
            "the size is smaller than it was made"
        }
        Ask::Size { .. } => "the size is larger than it was made",
        Ask::Data { .. } => "SEEK_DATA passed over data or found none where there is none",
        Ask::Hole { .. } => "SEEK_HOLE found a hole where data is",
        _ => "a call on a file gave what no order of the calls gives",
    }
}

fn saw(parts: &[Part<'_>], piece: &Piece, cell: &Cell, states: &[Content], lost: bool) -> &'static str {
    let tag = match cell {
        Cell::Zero if lost => return "synced data was lost with the power",
        Cell::Zero => return "written data reads as zeroes",
        Cell::Torn(_) => return "a write was torn",
        Cell::Garbage => return "bytes that nobody wrote were read",
        Cell::Tag(tag) => *tag,
    };
    let mut writers = parts.iter().filter(|part| {
        matches!(part.operation(), Some(Operation::File(FileOp::Write { tag: one, .. } | FileOp::Append { tag: one }))
            if *one == tag)
    });
    let Some(writer) = writers.next() else { return "bytes that nobody wrote were read" };
    let failed = writer.call.is_some_and(|call| matches!(call.outcome, Outcome::Failed(_)));
    let state_is_zero = states.iter().all(|state| state.cells.iter().all(|cell| *cell == 0));
    if failed {
        "a write that failed took effect"
    } else if writer.span.from > piece.span.to {
        "a value was read before it was written"
    } else if writer.span.optional && writer.span.to < piece.span.from {
        "a write took effect after its client was shut out"
    } else if lost {
        "synced data was lost with the power"
    } else if state_is_zero {
        "bytes that were cut off or punched out came back"
    } else {
        "an old value was read after a newer one was written"
    }
}

pub(super) fn tree(parts: &[Part<'_>], plan: &Plan, states: &[Tree]) -> &'static str {
    if power_was_lost(parts, plan.span.to) {
        return "synced names or data were lost with the power";
    }
    if let Some((_, present)) = states.first().and_then(|state| plan.differs(state)) {
        return if present {
            "a listing has a name that did not exist"
        } else {
            "a listing lacks a name that existed throughout"
        };
    }
    let call = plan.source.and_then(|source| parts.iter().find(|part| part.source == Some(source)));
    let Some(call) = call.and_then(|part| part.call) else { return "a call has no place" };
    let Operation::Tree(op) = &call.operation else { return "a call has no place" };
    match (&call.outcome, op) {
        (Outcome::Failed(libc::ENOENT), _) => "a name that existed was not found",
        (
            Outcome::Failed(libc::EEXIST),
            TreeOp::Mkdir { .. } | TreeOp::Create { .. } | TreeOp::Link { .. },
        ) => "a call failed with EEXIST though the name did not exist",
        (Outcome::Failed(_), _) => "a call failed with an error that nothing explains",
        (_, TreeOp::Create { exclusive: true, .. }) => {
            "an exclusive creation succeeded though the name existed"
        }
        (_, TreeOp::Mkdir { .. } | TreeOp::Symlink { .. }) => "a name was made that existed",
        (_, TreeOp::Link { .. }) => "a link was made that could not be",
        (_, TreeOp::Rename { .. }) => "a rename succeeded that could not",
        (_, TreeOp::Unlink { .. } | TreeOp::Rmdir { .. }) => "a name was removed that was not there",
        (_, TreeOp::Get { .. }) => "an open file shows what it does not hold",
        (_, TreeOp::GetPath { .. }) => "a name shows content that its file does not hold",
        (_, TreeOp::Readlink { .. }) => "a symlink shows a target that it does not have",
        (Outcome::Ok(Value::Attributes(seen)), TreeOp::Stat { .. } | TreeOp::StatHandle { .. }) => {
            attributes(*seen, states)
        }
        (Outcome::Ok(_), TreeOp::List { .. }) => "a listing shows names that were never there together",
        (_, TreeOp::Open { .. } | TreeOp::Create { .. }) => "a name led to an inode that it does not name",
        _ => "a call on a tree gave what no order of the calls gives",
    }
}

/// What is wrong with attributes: the inode with that number says otherwise.
fn attributes(seen: crate::history::Attributes, states: &[Tree]) -> &'static str {
    let inodes: Vec<_> = states
        .iter()
        .filter_map(|state| state.inodes.values().find(|inode| inode.number == Some(seen.ino)))
        .collect();
    if inodes.is_empty() {
        return "a name led to an inode that it does not name";
    }
    if inodes.iter().all(|inode| inode.kind == crate::history::Kind::File && inode.links != seen.links) {
        return "a link count is wrong";
    }
    if inodes.iter().all(|inode| inode.mode != seen.mode) {
        return "old attributes were shown";
    }
    "a name led to an inode that it does not name"
}

/// Whether a call changes anything.
pub(crate) fn only_looks(operation: &Operation) -> bool {
    match operation {
        Operation::Tree(op) => matches!(
            op,
            TreeOp::Readlink { .. }
                | TreeOp::Stat { .. }
                | TreeOp::StatHandle { .. }
                | TreeOp::List { .. }
                | TreeOp::Get { .. }
                | TreeOp::GetPath { .. }
        ),
        Operation::File(op) => matches!(
            op,
            FileOp::Read { .. } | FileOp::Size | FileOp::SeekData { .. } | FileOp::SeekHole { .. }
        ),
        Operation::Log(op) => *op == LogOp::Read,
        Operation::Lock(_) => false,
    }
}
