//! Appends: whole records, each once, none over another.
//!
//! A log only grows, so what the last reader saw is the order in which the appends took effect. That every read is the
//! beginning of it and that it agrees with the clock is necessary and sufficient; no search is needed.

use std::collections::HashMap;

use crate::check::Finding;
use crate::history::{Cell, LogOp, Operation, Outcome, Value};
use crate::model::Part;

struct Append {
    source: usize,
    from: u64,
    to: u64,
    sure: bool,
}

struct Read<'a> {
    source: usize,
    from: u64,
    to: u64,
    seen: &'a [Cell],
}

/// The first rule that a log breaks.
pub(crate) fn check(parts: &[Part<'_>]) -> Vec<Finding> {
    let (appends, mut reads) = (appends(parts), reads(parts));
    reads.sort_by_key(|read| read.to);
    reads
        .iter()
        .find_map(|read| whole(read, &appends))
        .or_else(|| order(&appends, &mut reads))
        .into_iter()
        .collect()
}

fn appends(parts: &[Part<'_>]) -> HashMap<u32, Append> {
    let mut appends = HashMap::new();
    for part in parts {
        let (Some(source), Some(call)) = (part.source, part.call) else { continue };
        if let Operation::Log(LogOp::Append { tag }) = call.operation {
            let failed = matches!(call.outcome, Outcome::Failed(_));
            let to = if failed { 0 } else { part.span.to };
            appends.insert(tag, Append { source, from: part.span.from, to, sure: call.outcome.is_ok() });
        }
    }
    appends
}

fn reads<'a>(parts: &[Part<'a>]) -> Vec<Read<'a>> {
    let read = |part: &Part<'a>| {
        let (source, call) = (part.source?, part.call?);
        match (&call.operation, &call.outcome) {
            (Operation::Log(LogOp::Read), Outcome::Ok(Value::Cells(seen))) => {
                Some(Read { source, from: part.span.from, to: part.span.to, seen })
            }
            _ => None,
        }
    };
    parts.iter().filter_map(read).collect()
}

fn finding(rule: &'static str, call: usize, state: String) -> Option<Finding> {
    Some(Finding { rule, call, state })
}

/// What one read alone says.
fn whole(read: &Read<'_>, appends: &HashMap<u32, Append>) -> Option<Finding> {
    let mut places: HashMap<u32, usize> = HashMap::new();
    for (place, cell) in read.seen.iter().enumerate() {
        let tag = match cell {
            Cell::Tag(tag) => *tag,
            // The last record may be on its way.
            Cell::Torn(_) if place + 1 == read.seen.len() && being_appended(read, appends) => continue,
            Cell::Torn(tags) => {
                return finding(
                    "an appended record is torn",
                    read.source,
                    format!("record {place} has parts of {tags:?}"),
                );
            }
            Cell::Zero | Cell::Garbage => {
                let state = format!("record {place} is not one that anybody appended");
                return finding("an appended record is overwritten or missing", read.source, state);
            }
        };
        match appends.get(&tag) {
            Some(append) if append.to == 0 => {
                return finding(
                    "an append that failed took effect",
                    read.source,
                    format!("t{tag} is record {place}"),
                );
            }
            Some(append) if append.from <= read.to => {}
            _ => {
                let state = format!("t{tag} is record {place}");
                return finding("a record was read before it was appended", read.source, state);
            }
        }
        if let Some(before) = places.insert(tag, place) {
            let state = format!("t{tag} is record {before} and record {place}");
            return finding("a record was appended twice", read.source, state);
        }
    }
    let lost = appends
        .iter()
        .filter(|(tag, append)| append.sure && append.to < read.from && !places.contains_key(tag));
    let (tag, append) = lost.min_by_key(|(_, append)| append.to)?;
    let state =
        format!("t{tag} (call {}) was appended before the read began and is not there", append.source);
    finding("an appended record was lost", read.source, state)
}

fn being_appended(read: &Read<'_>, appends: &HashMap<u32, Append>) -> bool {
    appends.values().any(|append| append.from <= read.to && append.to >= read.from)
}

/// What reads say together: one order, which agrees with the clock.
fn order(appends: &HashMap<u32, Append>, reads: &mut [Read<'_>]) -> Option<Finding> {
    let tags = |read: &Read<'_>| -> Vec<u32> {
        read.seen
            .iter()
            .filter_map(|cell| if let Cell::Tag(tag) = cell { Some(*tag) } else { None })
            .collect()
    };
    reads.sort_by_key(|read| (read.seen.len(), read.to));
    let longest = tags(reads.last()?);
    for read in reads.iter() {
        let seen = tags(read);
        if let Some(place) = seen.iter().zip(&longest).position(|(one, other)| one != other) {
            let state = format!("record {place} is t{} here and t{} elsewhere", seen[place], longest[place]);
            return finding("two readers saw appended records in two orders", read.source, state);
        }
    }
    for read in reads.iter() {
        let longer = |other: &&Read<'_>| other.to < read.from && other.seen.len() > read.seen.len();
        if reads.iter().any(|other| longer(&other)) {
            return finding(
                "a log became shorter",
                read.source,
                "an earlier read had more records".to_owned(),
            );
        }
    }
    // Each record began before every later one ended.
    let mut latest: Option<(u64, u32)> = None;
    for tag in &longest {
        let append = &appends[tag];
        if let Some((from, before)) = latest
            && append.to < from
        {
            let source = reads.last().map_or(append.source, |read| read.source);
            let state = format!("t{tag} stands after t{before}, but had been appended before that was begun");
            return finding("appended records stand in the wrong order", source, state);
        }
        if latest.is_none_or(|(from, _)| from < append.from) {
            latest = Some((append.from, *tag));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::check::{Options, check as verdict};
    use crate::history::text;

    fn rule(lines: &[&str]) -> Option<&'static str> {
        let text = format!("{}\n{}\n", text::HEADER, lines.join("\n"));
        let history = text::load(&mut text.as_bytes()).unwrap();
        verdict(&history, &Options::default()).violations.first().map(|one| one.rule)
    }

    #[test]
    fn overlapping_appends_have_any_order() {
        let lines = [
            "call 0 0 1 5 log:1 log-append t1 = ok",
            "call 1 1 2 6 log:1 log-append t2 = ok",
            "call 0 0 7 8 log:1 log-read = ok cells:t2,t1",
        ];
        assert_eq!(rule(&lines), None);
    }

    #[test]
    fn a_lost_record_is_found() {
        let lines = [
            "call 0 0 1 5 log:1 log-append t1 = ok",
            "call 1 1 2 6 log:1 log-append t2 = ok",
            "call 0 0 7 8 log:1 log-read = ok cells:t2",
        ];
        assert_eq!(rule(&lines), Some("an appended record was lost"));
    }

    #[test]
    fn records_in_an_order_against_the_clock_are_found() {
        let lines = [
            "call 0 0 1 2 log:1 log-append t1 = ok",
            "call 1 1 3 4 log:1 log-append t2 = ok",
            "call 0 0 7 8 log:1 log-read = ok cells:t2,t1",
        ];
        assert_eq!(rule(&lines), Some("appended records stand in the wrong order"));
    }

    #[test]
    fn an_unknown_append_may_be_there_once() {
        let lines = [
            "call 0 0 1 2 log:1 log-append t1 = ?",
            "call 0 0 3 4 log:1 log-read = ok cells:",
            "call 0 0 7 8 log:1 log-read = ok cells:t1",
        ];
        assert_eq!(rule(&lines), None);
    }
}
