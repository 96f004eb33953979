//! When two states are alike: grants, recalls, tickets and stamps matter by their order only, moments by how far off they are,
//! and what is longer over than anything lasts is over. Without that no two ways through the protocol would ever meet.
//!
//! The engine tells its insides to nobody but `Debug`, so the text is what is made alike: numbers from 2^40 on become their
//! ranks, and what reads as seconds becomes relative.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{START, State, TIMES, UNIT};

/// Numbers from here on are names.
const NAMES: u64 = 1 << 40;

impl State {
    fn text(&self) -> String {
        let mut text = format!("{:?}", self.engine);
        // Sums for status pages, at the end: they grow for ever and nothing depends on them.
        if let Some(end) = text.rfind("counts: ") {
            text.truncate(end);
        }
        let mut net = self.net.clone();
        net.sort_unstable();
        let (rows, fences, clients) = (&self.rows, &self.fences, &self.clients);
        let rest = (&self.pending, &self.expelling, rows, self.version, fences, clients, net);
        let flags = (self.incarnation, self.faults, self.refused, self.taken_up, self.broken);
        // Writing to a string cannot fail.
        let _ = write!(text, "{rest:?}{flags:?}");
        text
    }

    pub(super) fn likeness(&self) -> u64 {
        let text = self.text();
        let words = || text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
        let number = |word: &str| {
            let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
            (word[..end].parse::<u64>().ok(), end)
        };
        let names: BTreeSet<u64> =
            words().filter_map(|word| number(word).0).filter(|number| *number >= NAMES).collect();
        let names: Vec<u64> = names.into_iter().collect();
        let now = self.now.as_secs();
        // The longest that anything lasts after its beginning.
        let over = (TIMES.ttl + TIMES.margin + UNIT).as_secs();
        let mut hasher = DefaultHasher::new();
        for word in words() {
            let (value, end) = number(word);
            let rest = &word[end..];
            match value {
                Some(name) if name >= NAMES => {
                    // An incarnation's first number keeps its place among the ranks.
                    (names.binary_search(&name), rest).hash(&mut hasher);
                }
                Some(moment) if rest.starts_with('s') && moment >= START.as_secs() => {
                    let off = (moment + over).saturating_sub(now);
                    (off, rest).hash(&mut hasher);
                }
                _ => word.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.likeness().hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.likeness() == other.likeness()
    }
}
