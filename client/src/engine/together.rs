//! When the MRC is told of what was answered here already: at the same moments for all of it, whatever it is, so that it
//! is replicated together. (Files that are made, sizes of files that were closed, handles that are gone: each round of a group costs its
//! members about the same, however much is in it.)
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

/// From one moment to the next.
const STEP: Duration = Duration::from_millis(5);

/// How long until the next of them; never nothing. `unix`: the clock that hosts have in common.
#[must_use]
pub fn until_next(unix: Duration) -> Duration {
    let step = STEP.as_nanos();
    let into = unix.as_nanos() % step;
    Duration::from_nanos(u64::try_from(step - into).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_the_same_for_all() {
        let at = |micros| until_next(Duration::from_micros(micros)).as_micros();
        assert_eq!(
            [at(0), at(1), at(4_999), at(5_000), at(1_000_000_002_500)],
            [5_000, 4_999, 1, 5_000, 2_500]
        );
    }
}
