//! Origins of mutations that a kernel asked for: numbered after the kernel's own request numbers, so that a request
//! which is sent again to the successor of a killed mount process gets the recorded answer.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proto::rpc::Origin;

/// Keeps these numbers apart from those of the library.
const BASE: u64 = 1 << 62;
/// Set in a request's number when the kernel sends it again.
const RESENT: u64 = 1 << 63;
/// Mutations of one request; request numbers are even.
const PER_REQUEST: u64 = 4;
/// An answer may be forgotten when requests that came so much later have been seen: by then the kernel's queue has
/// nothing older left, and neither has another thread that is slow to begin.
const KEEP: Duration = Duration::from_secs(5);

/// Numbers of one mount.
#[derive(Debug)]
pub struct KernelNumbers {
    session: u64,
    awaited: BTreeSet<u64>,
    /// Highest request begun at some time, oldest first, at most one per second.
    marks: VecDeque<(Duration, u64)>,
    highest: u64,
    acked_below: u64,
}

impl KernelNumbers {
    /// For the mount's session, which stays when its process is replaced.
    #[must_use]
    pub fn new(session: u64) -> Self {
        Self { session, awaited: BTreeSet::new(), marks: VecDeque::new(), highest: 0, acked_below: 0 }
    }

    /// The `step`th mutation of the kernel's request `unique`.
    pub fn begin(&mut self, unique: u64, step: u64, now: Duration) -> Origin {
        assert!(step < 2 * PER_REQUEST, "a request has few mutations");
        let sequence = BASE + (unique & !RESENT) * PER_REQUEST + step;
        self.awaited.insert(sequence);
        self.highest = self.highest.max(sequence);
        if self.marks.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= Duration::from_secs(1)) {
            self.marks.push_back((now, self.highest));
        }
        while let Some((at, mark)) = self.marks.front() {
            if now.saturating_sub(*at) < KEEP {
                break;
            }
            self.acked_below = self.acked_below.max(*mark);
            self.marks.pop_front();
        }
        let oldest = self.awaited.first().copied().unwrap_or(sequence);
        Origin { session: self.session, sequence, acked_below: self.acked_below.min(oldest) }
    }

    /// Its answer has arrived.
    pub fn end(&mut self, sequence: u64) {
        self.awaited.remove(&sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resent_request_has_the_same_number_at_the_successor() {
        let (mut first, mut second) = (KernelNumbers::new(7), KernelNumbers::new(7));
        let now = Duration::from_secs(100);
        let origin = first.begin(1234, 0, now);
        first.begin(1236, 0, now);
        let again = second.begin(1234 | RESENT, 0, now);
        assert_eq!((origin.session, origin.sequence), (again.session, again.sequence));
        assert!(again.acked_below <= again.sequence);
        assert_ne!(first.begin(1238, 0, now).sequence, first.begin(1238, 1, now).sequence);
    }

    #[test]
    fn answers_are_forgotten_late_and_never_one_that_is_awaited() {
        let mut numbers = KernelNumbers::new(7);
        let stuck = numbers.begin(2, 0, Duration::ZERO);
        let mut last = stuck;
        for second in 1..20 {
            last = numbers.begin(2 + 2 * second, 0, Duration::from_secs(second));
            numbers.end(last.sequence);
        }
        assert!(last.acked_below <= stuck.sequence);
        numbers.end(stuck.sequence);
        let next = numbers.begin(100, 0, Duration::from_secs(20));
        assert!(next.acked_below > stuck.sequence && next.acked_below <= last.sequence);
    }
}
