//! Modification times of files: they never go back, and a write moves them on.

use std::collections::HashMap;

use crate::check::Finding;
use crate::history::{Kind, Operation, Outcome, TreeOp, Value};
use crate::model::Part;

struct Seen {
    source: usize,
    from: u64,
    to: u64,
    mtime: u64,
}

/// The first rule that the times of a tree's files break. File systems take the time from a clock that moves every
/// `tick` nanoseconds.
pub(crate) fn check(parts: &[Part<'_>], tick: u64) -> Option<Finding> {
    let (mut seen, mut puts, mut handles) = (HashMap::<u64, Vec<Seen>>::new(), Vec::new(), HashMap::new());
    // A number names another file once it was created anew.
    let mut created = Vec::new();
    for part in parts {
        let (Some(source), Some(call)) = (part.source, part.call) else { continue };
        let Operation::Tree(op) = &call.operation else { continue };
        match (op, &call.outcome) {
            (TreeOp::Stat { .. } | TreeOp::StatHandle { .. }, Outcome::Ok(Value::Attributes(attributes)))
                if attributes.kind == Kind::File && attributes.mtime != 0 =>
            {
                let one = Seen { source, from: part.span.from, to: part.span.to, mtime: attributes.mtime };
                seen.entry(attributes.ino).or_default().push(one);
            }
            (TreeOp::Create { handle, .. } | TreeOp::Open { handle, .. }, Outcome::Ok(Value::Inode(ino))) => {
                handles.insert((call.process, *handle), *ino);
                if matches!(op, TreeOp::Create { .. }) {
                    created.push((*ino, part.span.from, part.span.to));
                }
            }
            (TreeOp::Put { handle, .. }, Outcome::Ok(_)) => {
                if let Some(ino) = handles.get(&(call.process, *handle)) {
                    puts.push((*ino, part.span.from, part.span.to));
                }
            }
            _ => {}
        }
    }
    seen.iter().find_map(|(ino, list)| {
        let of = |calls: &[(u64, u64, u64)]| -> Vec<(u64, u64)> {
            calls.iter().filter(|(one, ..)| one == ino).map(|(_, from, to)| (*from, *to)).collect()
        };
        one_file(list, &of(&puts), &of(&created), *ino, tick)
    })
}

fn one_file(
    list: &[Seen],
    puts: &[(u64, u64)],
    created: &[(u64, u64)],
    ino: u64,
    tick: u64,
) -> Option<Finding> {
    for (index, later) in list.iter().enumerate() {
        for earlier in list[..index].iter().filter(|earlier| earlier.to < later.from) {
            if created.iter().any(|(from, to)| *from <= later.to && *to >= earlier.from) {
                continue;
            }
            if later.mtime < earlier.mtime {
                let state = format!("inode {ino}: {} ns after {} ns", later.mtime, earlier.mtime);
                return Some(Finding { rule: "a modification time went back", call: later.source, state });
            }
            let written =
                |(from, to): &(u64, u64)| *from > earlier.to.saturating_add(tick) && *to < later.from;
            if puts.iter().any(written) && later.mtime == earlier.mtime {
                let state = format!("inode {ino}: still {} ns after a write", later.mtime);
                let rule = "a write did not move the modification time";
                return Some(Finding { rule, call: later.source, state });
            }
        }
    }
    None
}
