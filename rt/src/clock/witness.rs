//! Another machine's wall clock beside one's own: which of the two is wrong nobody can tell, so what ran out by only one of them has not run out.

use std::sync::atomic::{AtomicI64, Ordering};

use super::Clock;

/// Clocks that differ by more than this are worth a word, milliseconds: capabilities have room for as much.
const APART_MS: u64 = 5_000;

/// What the other clock showed, as long as somebody told it: how far it was from one's own monotonic time.
#[derive(Debug, Default)]
pub struct Witness {
    /// Milliseconds; 0: nothing was told. (A machine that boots in 1970 sharp is taken for silent.)
    offset_ms: AtomicI64,
}

impl Witness {
    /// The other clock showed this a moment ago; 0: it does not say. Gives by how much one's own is ahead, when that is too much and was not before.
    pub fn told(&self, unix_ms: u64, clock: &dyn Clock) -> Option<i64> {
        if unix_ms == 0 {
            return None;
        }
        let apart = |witness: &Self| witness.ahead_ms(clock).unsigned_abs() > APART_MS;
        let was_apart = apart(self);
        self.offset_ms.store(signed(unix_ms).saturating_sub(monotonic_ms(clock)), Ordering::Release);
        (apart(self) && !was_apart).then(|| self.ahead_ms(clock))
    }

    /// By how much one's own clock is ahead of the other one.
    pub fn ahead_ms(&self, clock: &dyn Clock) -> i64 {
        self.other_ms(clock).map_or(0, |other| signed(unix_ms(clock)).saturating_sub(signed(other)))
    }

    /// Now, Unix milliseconds, by the clock that is behind: what has run out by it has run out.
    pub fn earlier_ms(&self, clock: &dyn Clock) -> u64 {
        let own = unix_ms(clock);
        self.other_ms(clock).map_or(own, |other| own.min(other))
    }

    /// Now, Unix milliseconds, by the clock that is ahead: what is to last has to be counted from here.
    pub fn later_ms(&self, clock: &dyn Clock) -> u64 {
        let own = unix_ms(clock);
        self.other_ms(clock).map_or(own, |other| own.max(other))
    }

    fn other_ms(&self, clock: &dyn Clock) -> Option<u64> {
        let offset = Some(self.offset_ms.load(Ordering::Acquire)).filter(|offset| *offset != 0)?;
        Some(u64::try_from(monotonic_ms(clock).saturating_add(offset)).unwrap_or(0))
    }
}

fn monotonic_ms(clock: &dyn Clock) -> i64 {
    i64::try_from(clock.monotonic().as_millis()).unwrap_or(i64::MAX)
}

fn unix_ms(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.unix().as_millis()).unwrap_or(u64::MAX)
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::ManualClock;
    use super::*;

    #[test]
    fn the_clock_behind_ends_and_the_clock_ahead_begins() {
        let clock = ManualClock::new();
        let (witness, own) = (Witness::default(), 1_700_000_000_000);
        assert_eq!((witness.earlier_ms(&*clock), witness.later_ms(&*clock)), (own, own), "nobody told");
        assert_eq!(witness.told(0, &*clock), None);
        assert_eq!(witness.told(own + APART_MS, &*clock), None);
        assert_eq!(witness.told(own - 60_000, &*clock), Some(60_000), "that is too much");
        assert_eq!(witness.told(own - 61_000, &*clock), None, "and known");
        clock.advance(Duration::from_secs(10));
        assert_eq!(
            (witness.earlier_ms(&*clock), witness.later_ms(&*clock)),
            (own - 51_000, own + 10_000),
            "both go on"
        );
        assert_eq!(witness.told(own + 910_000, &*clock), None, "still apart, the other way");
        assert_eq!((witness.earlier_ms(&*clock), witness.later_ms(&*clock)), (own + 10_000, own + 910_000));
        assert_eq!(witness.told(own + 10_000, &*clock), None);
        assert_eq!(witness.ahead_ms(&*clock), 0);
    }
}
