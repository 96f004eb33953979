//! Time, randomness, what happens next, and the log of it. A run is a function of its seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Arguments;
use std::fmt::Write as _;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

struct Scheduled<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<E> Eq for Scheduled<E> {}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Scheduled<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// See the module. `E` is what can happen in a scenario.
pub struct World<E> {
    now: Duration,
    queue: BinaryHeap<Reverse<Scheduled<E>>>,
    scheduled: u64,
    happened: u64,
    /// The only source of randomness.
    pub rng: ChaCha8Rng,
    log: Option<String>,
}

impl<E> World<E> {
    /// A world at time zero. `keep_log`: see [`World::note`].
    #[must_use]
    pub fn new(seed: u64, keep_log: bool) -> Self {
        Self {
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            happened: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            log: keep_log.then(String::new),
        }
    }

    /// Time since the world began.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Events so far.
    #[must_use]
    pub fn happened(&self) -> u64 {
        self.happened
    }

    /// Lets `event` happen later.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled { at: self.now + delay, number: self.scheduled, event }));
    }

    /// The next event; time moves to it.
    pub fn next_event(&mut self) -> Option<E> {
        let Reverse(next) = self.queue.pop()?;
        self.now = next.at;
        self.happened += 1;
        Some(next.event)
    }

    /// A number below `n` (0 for 0).
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.rng.random_range(0..n) }
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time between two, in microseconds.
    pub fn micros(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_micros(least + self.below(most - least + 1))
    }

    /// One of some things.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        let at = self.below(things.len() as u64);
        things.get(usize::try_from(at).unwrap_or(0))
    }

    /// A line of the log; costs nothing when no log is kept.
    pub fn note(&mut self, line: Arguments<'_>) {
        if let Some(log) = &mut self.log {
            let micros = self.now.as_micros();
            // Writing to a string cannot fail.
            let _ = writeln!(log, "{:>4}.{:06} {line}", micros / 1_000_000, micros % 1_000_000);
        }
    }

    /// Whether [`World::note`] does anything.
    #[must_use]
    pub fn keeps_log(&self) -> bool {
        self.log.is_some()
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> &str {
        self.log.as_deref().unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_then_of_scheduling() {
        let mut world = World::new(1, true);
        for (delay, event) in [(3, 'c'), (1, 'a'), (3, 'd'), (2, 'b')] {
            world.after(Duration::from_micros(delay), event);
        }
        let mut order = String::new();
        while let Some(event) = world.next_event() {
            world.note(format_args!("{event}"));
            order.push(event);
        }
        assert_eq!(order, "abcd");
        assert_eq!(world.log().lines().last(), Some("   0.000003 d"));
    }
}
