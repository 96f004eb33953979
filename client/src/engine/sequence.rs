//! Sequence numbers of a session's mutations, so that a repeat is recognised and old answers can be forgotten.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;

use proto::limits::ANSWERS_PER_SESSION;
use proto::rpc::Origin;

/// Hands out sequence numbers and knows which answers are still awaited.
#[derive(Clone, Debug)]
pub struct Sequence {
    session: u64,
    next: u64,
    awaited: BTreeSet<u64>,
}

impl Sequence {
    /// The first number is 1.
    #[must_use]
    pub fn new(session: u64) -> Self {
        assert!(session != 0, "0 means that nothing is recorded");
        Self { session, next: 1, awaited: BTreeSet::new() }
    }

    /// A new mutation; `None` while the oldest awaited one is so old that the group might forget answers.
    pub fn begin(&mut self) -> Option<Origin> {
        if self.next - self.acked_below() >= ANSWERS_PER_SESSION as u64 / 2 {
            return None;
        }
        let sequence = self.next;
        self.next += 1;
        self.awaited.insert(sequence);
        Some(Origin { session: self.session, sequence, acked_below: self.acked_below() })
    }

    /// The answer has arrived, or nobody waits for it any more.
    pub fn end(&mut self, sequence: u64) {
        let known = self.awaited.remove(&sequence);
        assert!(known, "each mutation ends once");
    }

    /// Every answer below this has arrived.
    #[must_use]
    pub fn acked_below(&self) -> u64 {
        self.awaited.first().copied().unwrap_or(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acked_below_follows_the_oldest_awaited_answer() {
        let mut sequence = Sequence::new(7);
        let first = sequence.begin().unwrap();
        let second = sequence.begin().unwrap();
        assert_eq!((first.sequence, first.acked_below), (1, 1));
        assert_eq!((second.sequence, second.acked_below), (2, 1));
        sequence.end(2);
        assert_eq!(sequence.acked_below(), 1);
        sequence.end(1);
        assert_eq!(sequence.begin().unwrap(), Origin { session: 7, sequence: 3, acked_below: 3 });
    }

    #[test]
    fn one_stuck_mutation_stops_the_others_before_answers_are_forgotten() {
        let mut sequence = Sequence::new(7);
        let stuck = sequence.begin().unwrap();
        let mut begun = 1;
        while let Some(origin) = sequence.begin() {
            sequence.end(origin.sequence);
            begun += 1;
        }
        assert!(begun < ANSWERS_PER_SESSION);
        sequence.end(stuck.sequence);
        assert!(sequence.begin().is_some());
    }
}
