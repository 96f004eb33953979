//! How long to wait before trying again: 10 ms, doubling, at most 100 ms.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::config::Patience;

/// First pause.
pub const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause. Half of it is lost on average once a group has a leader again, of the second that it had none.
pub const PAUSE_MAX: Duration = Duration::from_millis(100);

/// The retries of one operation.
#[derive(Debug, Clone)]
pub struct Backoff {
    patience: Patience,
    first_failure: Option<Duration>,
    next: Duration,
}

impl Backoff {
    /// An operation that has not failed yet.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self { patience, first_failure: None, next: PAUSE_MIN }
    }

    /// An attempt failed at `now`: how long to pause before the next one, or `None` when patience has ended.
    pub fn failed(&mut self, now: Duration) -> Option<Duration> {
        let since = now.saturating_sub(*self.first_failure.get_or_insert(now));
        let pause = self.next;
        self.next = (self.next * 2).min(PAUSE_MAX);
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
}
