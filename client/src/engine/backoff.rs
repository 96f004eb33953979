//! How long to wait before trying again: 10 ms, doubling, at most 100 ms. What carries much data waits up to a second once it has
//! failed for some seconds: nobody is helped by gigabytes that are sent in vain.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::config::Patience;

/// First pause.
pub const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause. Half of it is lost on average once a group has a leader again, of the second that it had none.
pub const PAUSE_MAX: Duration = Duration::from_millis(100);
/// So much data is much.
const MUCH: usize = 64 << 10;
/// Its longest pause, and after how long a failure. Failovers are over by then.
const PAUSE_OF_MUCH: Duration = Duration::from_secs(1);
const FAILED_LONG: Duration = Duration::from_secs(5);

/// The retries of one operation.
#[derive(Debug, Clone)]
pub struct Backoff {
    patience: Patience,
    first_failure: Option<Duration>,
    next: Duration,
    much: bool,
}

impl Backoff {
    /// An operation that has not failed yet.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self { patience, first_failure: None, next: PAUSE_MIN, much: false }
    }

    /// The same for one that sends so many bytes each time.
    #[must_use]
    pub fn with_data(patience: Patience, bytes: usize) -> Self {
        Self { much: bytes >= MUCH, ..Self::new(patience) }
    }

    /// An attempt failed at `now`: how long to pause before the next one, or `None` when patience has ended.
    pub fn failed(&mut self, now: Duration) -> Option<Duration> {
        let since = now.saturating_sub(*self.first_failure.get_or_insert(now));
        let pause = self.next;
        let most = if self.much && since >= FAILED_LONG { PAUSE_OF_MUCH } else { PAUSE_MAX };
        self.next = (self.next * 2).min(most);
        match self.patience {
            Patience::Forever => Some(pause),
            Patience::For(limit) if since + pause <= limit => Some(pause),
            Patience::For(_) => None,
        }
    }

    /// Whether an attempt has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.first_failure.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_patience_ends() {
        let mut backoff = Backoff::new(Patience::For(Duration::from_millis(100)));
        let mut now = Duration::from_secs(1);
        let mut pauses = Vec::new();
        while let Some(pause) = backoff.failed(now) {
            pauses.push(pause.as_millis());
            now += pause;
        }
        assert_eq!(pauses, [10, 20, 40]);
        let mut forever = Backoff::new(Patience::Forever);
        let pauses: Vec<_> = (0..100).filter_map(|at| forever.failed(Duration::from_secs(at))).collect();
        assert_eq!((pauses.len(), pauses[99]), (100, PAUSE_MAX));
    }

    #[test]
    fn much_data_is_not_sent_without_end() {
        for (bytes, sent) in [(1 << 20, 30..120), (100, 550..700)] {
            let mut backoff = Backoff::with_data(Patience::Forever, bytes);
            let (mut now, mut attempts) = (Duration::ZERO, 0);
            while now < Duration::from_secs(60) {
                attempts += 1;
                now += backoff.failed(now).unwrap();
                let late = now < FAILED_LONG && now + PAUSE_MAX > FAILED_LONG;
                assert!(!late || backoff.next == PAUSE_MAX, "failovers are not slowed down");
            }
            assert!(sent.contains(&attempts), "{attempts} in a minute");
        }
    }
}
