//! How often what found no room at the OSDs is tried again. One piece of the whole mount at a time, so that a full OSD is
//! not sent the same bytes without end. See `docs/protocols/write-behind.md`, "No room".
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

/// First pause after a refusal; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause: of what waits for room one piece arrives in this time at the latest after there is room, and the others at
/// once behind it.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// For so long after a refusal writes wait for the OSDs: their own callers hear of the next one.
const WARY: Duration = Duration::from_secs(5);

/// The shortage of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Pieces that wait for room.
    waiting: usize,
    /// When an OSD last refused for want of room, and what is paused after that.
    refused: Option<(Duration, Duration)>,
}

impl Shortage {
    /// A piece waits for room from now on.
    pub fn waits(&mut self) {
        self.waiting += 1;
    }

    /// It does not wait any more.
    pub fn is_done(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// An OSD had no room.
    pub fn refused(&mut self, now: Duration) {
        let pause = self.refused.map_or(PAUSE_MIN, |(_, pause)| {
            if pause.is_zero() { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) }
        });
        self.refused = Some((now, pause));
    }

    /// What had been refused found room.
    pub fn found_room(&mut self) {
        if let Some((_, pause)) = &mut self.refused {
            *pause = Duration::ZERO;
        }
    }

    /// How long the next attempt has to wait.
    #[must_use]
    pub fn pause(&self, now: Duration) -> Duration {
        self.refused.map_or(Duration::ZERO, |(at, pause)| (at + pause).saturating_sub(now))
    }

    /// Whether a write should be acknowledged only when it is at its OSD.
    #[must_use]
    pub fn is_on(&self, now: Duration) -> bool {
        self.waiting > 0 || self.refused.is_some_and(|(at, _)| now.saturating_sub(at) < WARY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_grow_up_to_a_second_and_end_with_the_first_that_finds_room() {
        let (mut shortage, mut now) = (Shortage::default(), Duration::from_secs(9));
        assert!(!shortage.is_on(now) && shortage.pause(now).is_zero());
        shortage.waits();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            shortage.refused(now);
            pauses.push(shortage.pause(now).as_millis());
            now += shortage.pause(now);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        shortage.found_room();
        assert!(shortage.pause(now).is_zero());
        assert!(shortage.is_on(now + WARY), "one still waits");
        shortage.is_done();
        assert!(shortage.is_on(now) && !shortage.is_on(now + WARY));
        shortage.refused(now);
        assert_eq!(shortage.pause(now), PAUSE_MIN, "anew");
    }

    proptest! {
        /// However many wait: attempts that fail are no more than about one per second.
        #[test]
        fn attempts_are_bounded(pieces in 1..60usize, seconds in 1..600u64) {
            let (mut shortage, mut now, mut attempts) = (Shortage::default(), Duration::ZERO, 0u64);
            (0..pieces).for_each(|_| shortage.waits());
            while now < Duration::from_secs(seconds) {
                attempts += 1;
                shortage.refused(now);
                now += shortage.pause(now);
            }
            prop_assert!(attempts <= seconds + 5);
        }
    }
}
