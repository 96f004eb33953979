//! One file: its cells and its size.

use std::collections::BTreeSet;

use super::{Atomicity, Part};
use crate::history::{Cell, FileOp, Operation, Outcome, Value};
use crate::search::{Model, Span, Step};

/// Content, and what it may fall back to when power goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Content {
    /// Tags; 0 where nothing was written. Its length is the file's size.
    pub cells: Vec<u32>,
    /// Earlier contents since the last sync.
    past: BTreeSet<Vec<u32>>,
}

/// A part of a call on a file. Several parts of one call have the same span and any order.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Index in the history; `None` for an event.
    pub source: Option<usize>,
    /// When.
    pub span: Span,
    /// What.
    pub ask: Ask,
}

/// What a piece does or has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Puts a tag into cells.
    Write { at: u32, count: u32, tag: u32 },
    /// Saw these cells from `at` on, of `count` that it asked for.
    Read { at: u32, count: u32, seen: Vec<Cell> },
    /// Saw this in one cell.
    Saw { at: u32, cell: Cell },
    /// Saw that the file ends at or before this cell.
    SawEnd { at: u32 },
    /// Puts a tag at the end.
    Append { tag: u32 },
    /// Sets the size.
    Truncate { size: u32 },
    /// Grows to at least this size.
    Grow { size: u32 },
    /// Makes cells zero.
    Zero { at: u32, count: u32 },
    /// Saw this size.
    Size { seen: u32 },
    /// Saw no data before `found` (`None`: to the end).
    Data { at: u32, found: Option<u32> },
    /// Saw a hole or the end at `found` (`None`: `at` is beyond the end).
    Hole { at: u32, found: Option<u32> },
    /// Makes everything so far safe.
    Sync,
    /// Power goes.
    PowerLost,
    /// Saw what cannot be.
    Impossible,
}

/// The model of a file, or of one cell of it.
#[derive(Debug)]
pub struct File {
    pieces: Vec<Ask>,
    start: Vec<u32>,
    /// Of each piece, whether power goes later: only then the past is kept.
    remembers: Vec<bool>,
}

impl File {
    /// A model of these pieces, of a file that begins with these cells.
    #[must_use]
    pub fn new(pieces: &[Piece], start: Vec<u32>) -> Self {
        let losses = pieces.iter().filter(|piece| piece.ask == Ask::PowerLost);
        let last = losses.map(|piece| piece.span.from).max().unwrap_or(0);
        let remembers = pieces.iter().map(|piece| piece.span.from < last).collect();
        Self { pieces: pieces.iter().map(|piece| piece.ask.clone()).collect(), start, remembers }
    }

    fn change(
        &self,
        content: &Content,
        call: usize,
        change: impl FnOnce(&mut Vec<u32>),
    ) -> Step<Content, ()> {
        let mut next = content.clone();
        if self.remembers[call] {
            next.past.insert(next.cells.clone());
        }
        change(&mut next.cells);
        Step::Changed(next)
    }
}

impl Model for File {
    type State = Content;
    type Stage = ();

    fn start(&self) -> Content {
        Content { cells: self.start.clone(), past: BTreeSet::new() }
    }

    fn steps(&self, content: &Content, call: usize, (): &(), out: &mut Vec<Step<Content, ()>>) {
        let cells = &content.cells;
        let fits = match &self.pieces[call] {
            Ask::Write { at, count, tag } => {
                let (from, to) = (*at as usize, (*at + *count) as usize);
                return out.push(self.change(content, call, |cells| {
                    if cells.len() < to {
                        cells.resize(to, 0);
                    }
                    cells[from..to].fill(*tag);
                }));
            }
            Ask::Append { tag } => return out.push(self.change(content, call, |cells| cells.push(*tag))),
            Ask::Truncate { size } => {
                return out.push(self.change(content, call, |cells| cells.resize(*size as usize, 0)));
            }
            Ask::Grow { size } => {
                let size = (*size as usize).max(cells.len());
                return out.push(self.change(content, call, |cells| cells.resize(size, 0)));
            }
            Ask::Zero { at, count } => {
                let (from, to) = (*at as usize, (*at + *count) as usize);
                return out.push(self.change(content, call, |cells| {
                    let (from, to) = (from.min(cells.len()), to.min(cells.len()));
                    cells[from..to].fill(0);
                }));
            }
            Ask::Sync => {
                return out.push(Step::Changed(Content { cells: cells.clone(), past: BTreeSet::new() }));
            }
            Ask::PowerLost => {
                let earlier: BTreeSet<&Vec<u32>> = content.past.iter().chain([cells]).collect();
                let step =
                    |cells: &Vec<u32>| Step::Changed(Content { cells: cells.clone(), past: BTreeSet::new() });
                return out.extend(earlier.into_iter().map(step));
            }
            Ask::Read { at, count, seen } => reads(cells, *at, *count, seen),
            Ask::Saw { at, cell } => cells.get(*at as usize).is_some_and(|tag| holds(*tag, cell)),
            Ask::SawEnd { at } => cells.len() <= *at as usize,
            Ask::Size { seen } => cells.len() == *seen as usize,
            Ask::Data { at, found } => no_data(cells, *at, *found),
            Ask::Hole { at, found: None } => cells.len() <= *at as usize,
            Ask::Hole { at, found: Some(found) } => {
                let place = *found as usize;
                at <= found && (place == cells.len() || cells.get(place) == Some(&0))
            }
            Ask::Impossible => false,
        };
        if fits {
            out.push(Step::Seen);
        }
    }
}

fn holds(tag: u32, cell: &Cell) -> bool {
    match cell {
        Cell::Zero => tag == 0,
        Cell::Tag(seen) => *seen == tag,
        Cell::Torn(_) | Cell::Garbage => false,
    }
}

fn reads(cells: &[u32], at: u32, count: u32, seen: &[Cell]) -> bool {
    let from = (at as usize).min(cells.len());
    let to = ((at + count) as usize).min(cells.len());
    cells[from..to].len() == seen.len()
        && cells[from..to].iter().zip(seen).all(|(tag, cell)| holds(*tag, cell))
}

fn no_data(cells: &[u32], at: u32, found: Option<u32>) -> bool {
    let from = at as usize;
    match found {
        None => from >= cells.len() || cells[from..].iter().all(|tag| *tag == 0),
        Some(found) => {
            let to = found as usize;
            from <= to && to < cells.len() && cells[from..to].iter().all(|tag| *tag == 0)
        }
    }
}

/// Takes the calls on a file apart. A call that failed has no piece: it had no effect.
#[must_use]
pub fn pieces(parts: &[Part<'_>], atomicity: Atomicity) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for part in parts {
        let mut add = |ask| pieces.push(Piece { source: part.source, span: part.span, ask });
        let Some(call) = part.call else {
            add(Ask::PowerLost);
            continue;
        };
        let Operation::File(op) = &call.operation else { continue };
        match &call.outcome {
            Outcome::Ok(value) => match asked(op, atomicity) {
                Some(asks) => asks.into_iter().for_each(&mut add),
                None => seen(op, value, parts, part, atomicity, &mut add),
            },
            Outcome::Unknown => asked(op, atomicity).into_iter().flatten().for_each(&mut add),
            Outcome::Failed(libc::ENXIO) => match op {
                FileOp::SeekData { at } => add(Ask::Data { at: *at, found: None }),
                FileOp::SeekHole { at } => add(Ask::Hole { at: *at, found: None }),
                _ => {}
            },
            Outcome::Failed(_) => {}
        }
    }
    pieces
}

/// The pieces of a call that changes something; `None` if it only looks.
fn asked(op: &FileOp, atomicity: Atomicity) -> Option<Vec<Ask>> {
    let whole = atomicity == Atomicity::Call;
    Some(match *op {
        FileOp::Write { at, count, tag } if whole => vec![Ask::Write { at, count, tag }],
        FileOp::Write { at, count, tag } => {
            (at..at + count).map(|at| Ask::Write { at, count: 1, tag }).collect()
        }
        FileOp::Append { tag } => vec![Ask::Append { tag }],
        FileOp::Truncate { size } => vec![Ask::Truncate { size }],
        FileOp::Allocate { at, count } if whole => vec![Ask::Grow { size: at + count }],
        // Block by block: ext4 shows the end of each on the way.
        FileOp::Allocate { at, count } => (at + 1..=at + count).map(|size| Ask::Grow { size }).collect(),
        FileOp::Punch { at, count } if whole => vec![Ask::Zero { at, count }],
        FileOp::Punch { at, count } => (at..at + count).map(|at| Ask::Zero { at, count: 1 }).collect(),
        FileOp::Sync => vec![Ask::Sync],
        FileOp::Read { .. } | FileOp::Size | FileOp::SeekData { .. } | FileOp::SeekHole { .. } => {
            return None;
        }
    })
}

fn seen(
    op: &FileOp,
    value: &Value,
    parts: &[Part<'_>],
    part: &Part<'_>,
    atomicity: Atomicity,
    add: &mut dyn FnMut(Ask),
) {
    match (op, value) {
        (FileOp::Read { at, count }, Value::Cells(seen)) if atomicity == Atomicity::Call => {
            add(Ask::Read { at: *at, count: *count, seen: seen.clone() });
        }
        (FileOp::Read { at, count }, Value::Cells(seen)) => {
            for (cell, at) in seen.iter().zip(*at..) {
                saw(at, cell, parts, part, atomicity, add);
            }
            let end = u32::try_from(seen.len()).map_or(u32::MAX, |len| at + len);
            if end < at + count {
                add(Ask::SawEnd { at: end });
            }
        }
        (FileOp::Size, Value::Offset(size)) => add(Ask::Size { seen: *size }),
        (FileOp::SeekData { at }, Value::Offset(found)) => add(Ask::Data { at: *at, found: Some(*found) }),
        (FileOp::SeekHole { at }, Value::Offset(found)) => add(Ask::Hole { at: *at, found: Some(*found) }),
        _ => add(Ask::Impossible),
    }
}

/// What was seen in one cell.
fn saw(
    at: u32,
    cell: &Cell,
    parts: &[Part<'_>],
    part: &Part<'_>,
    atomicity: Atomicity,
    add: &mut dyn FnMut(Ask),
) {
    let byte = atomicity == Atomicity::Byte;
    let tags = match cell {
        // Each byte has an order of its own: as if each tag had been read by a read of its own.
        Cell::Torn(tags) if byte => tags.clone(),
        Cell::Zero => vec![0],
        other => return add(Ask::Saw { at, cell: other.clone() }),
    };
    for tag in tags {
        let cell = if tag == 0 { Cell::Zero } else { Cell::Tag(tag) };
        // Local file systems clear pages while a reader that knows the old size goes on.
        if !(byte
            && tag == 0
            && parts.iter().any(|other| clears(other, at) && overlap(other.span, part.span)))
        {
            add(Ask::Saw { at, cell });
        }
    }
}

fn clears(part: &Part<'_>, cell: u32) -> bool {
    match part.operation() {
        Some(Operation::File(FileOp::Truncate { size })) => *size <= cell,
        Some(Operation::File(FileOp::Punch { at, count })) => (*at..at + count).contains(&cell),
        _ => false,
    }
}

fn overlap(one: Span, other: Span) -> bool {
    one.from <= other.to && other.from <= one.to
}

/// If the file has one size from its first call on and every piece is about one cell: its pieces cell by cell, with the
/// size. Cells are then independent of one another.
#[must_use]
pub fn by_cell(pieces: &[Piece]) -> Option<(u32, Vec<Vec<Piece>>)> {
    let (first, rest) = pieces.split_first()?;
    let (Ask::Truncate { size } | Ask::Grow { size }) = first.ask else { return None };
    if first.span.optional || rest.iter().any(|piece| piece.span.from <= first.span.to) {
        return None;
    }
    let mut cells: Vec<Vec<Piece>> = vec![Vec::new(); size as usize];
    for piece in rest {
        match &piece.ask {
            Ask::Write { at, count: 1, .. } | Ask::Saw { at, .. } | Ask::Zero { at, count: 1 }
                if *at < size =>
            {
                cells[*at as usize].push(piece.clone());
            }
            Ask::SawEnd { at } if *at >= size => {}
            Ask::Size { seen } if *seen == size => {}
            Ask::Sync => {}
            _ => return None,
        }
    }
    // Of a cell of its own, each piece is about cell 0.
    for piece in cells.iter_mut().flatten() {
        if let Ask::Write { at, .. } | Ask::Saw { at, .. } | Ask::Zero { at, .. } = &mut piece.ask {
            *at = 0;
        }
    }
    Some((size, cells))
}

/// The state in words.
#[must_use]
pub fn describe(content: &Content) -> String {
    let cells: Vec<String> =
        content.cells.iter().map(|tag| if *tag == 0 { "0".into() } else { format!("t{tag}") }).collect();
    format!("{} cells [{}]", cells.len(), cells.join(" "))
}
