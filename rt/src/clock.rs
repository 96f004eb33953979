//! The clock seam. Engines get `now` as an argument; drivers ask a [`Clock`].

mod witness;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use witness::Witness;

/// Time as drivers see it.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time since some fixed instant; never goes back.
    fn monotonic(&self) -> Duration;
    /// Wall time since 1970.
    fn unix(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    /// Nearly always `None`.
    jump: Option<Jump>,
}

/// The variable that lets the wall clock of a process be wrong, for tests: it names a folder, whose file `clock-PID` says by how many
/// milliseconds. Without it nothing is looked at.
pub const FAULT_VARIABLE: &str = "XTFS_FAULT_CLOCK";

/// By how much a wall clock is wrong, see [`FAULT_VARIABLE`].
#[derive(Debug)]
struct Jump {
    file: PathBuf,
    offset_ms: AtomicI64,
    /// When the file is read again, in milliseconds of the monotonic clock.
    look_ms: AtomicU64,
}

impl Jump {
    /// The file is read again after this.
    const LOOK_AGAIN_MS: u64 = 50;

    fn asked_for() -> Option<Self> {
        let folder = std::env::var_os(FAULT_VARIABLE)?;
        Some(Self::told_by(PathBuf::from(folder).join(format!("clock-{}", std::process::id()))))
    }

    fn told_by(file: PathBuf) -> Self {
        Self { file, offset_ms: AtomicI64::new(0), look_ms: AtomicU64::new(0) }
    }

    /// `unix`, as this clock has it at `monotonic`.
    fn seen(&self, unix: Duration, monotonic: Duration) -> Duration {
        let now_ms = u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX);
        if now_ms >= self.look_ms.load(Ordering::Relaxed) {
            let text = std::fs::read_to_string(&self.file).unwrap_or_default();
            self.offset_ms.store(text.trim().parse().unwrap_or(0), Ordering::Relaxed);
            self.look_ms.store(now_ms + Self::LOOK_AGAIN_MS, Ordering::Relaxed);
        }
        let offset_ms = self.offset_ms.load(Ordering::Relaxed);
        let by = Duration::from_millis(offset_ms.unsigned_abs());
        if offset_ms < 0 { unix.saturating_sub(by) } else { unix.saturating_add(by) }
    }
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), jump: Jump::asked_for() })
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix(&self) -> Duration {
        // A clock before 1970 is a broken machine; zero keeps the daemon up and the skew visible.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.jump.as_ref().map_or(unix, |jump| jump.seen(unix, self.monotonic()))
    }
}

/// Ticks at multiples of `period` since one moment of the process: what several loops do regularly is due at the same instants,
/// and one wake-up serves all. The first comes within a period. Those that were missed stay missed.
#[must_use]
pub fn ticks(period: Duration) -> tokio::time::Interval {
    static BEGIN: OnceLock<tokio::time::Instant> = OnceLock::new();
    let now = tokio::time::Instant::now();
    let begin = *BEGIN.get_or_init(|| now);
    let past = now.saturating_duration_since(begin).as_nanos() / period.as_nanos().max(1);
    let next = begin + period.saturating_mul(u32::try_from(past + 1).unwrap_or(u32::MAX));
    // A paused clock of a test may be before the one of another.
    let first = if next <= now + period { next } else { now + period };
    let mut ticks = tokio::time::interval_at(first, period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl ManualClock {
    /// A clock at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).expect("tests advance by less than 584 years");
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }

    fn unix(&self) -> Duration {
        Duration::from_secs(1_700_000_000) + self.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_jumps_when_it_is_told_to_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clock");
        let jump = Jump::told_by(file.clone());
        let (unix, ms) = (Duration::from_secs(1000), Duration::from_millis);
        assert_eq!(jump.seen(unix, ms(0)), unix);
        std::fs::write(&file, "-2500\n").unwrap();
        assert_eq!(jump.seen(unix, ms(10)), unix, "it is not looked at each time");
        assert_eq!(jump.seen(unix, ms(60)), unix - ms(2500));
        std::fs::write(&file, "3600000").unwrap();
        assert_eq!(jump.seen(unix, ms(200)), unix + Duration::from_secs(3600));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(jump.seen(unix, ms(300)), unix);
    }

    #[tokio::test]
    async fn what_is_done_regularly_is_due_at_the_same_instants() {
        let period = Duration::from_millis(40);
        let mut one = ticks(period);
        tokio::time::sleep(Duration::from_millis(7)).await;
        let (mut other, mut half) = (ticks(period), ticks(period / 2));
        let at = one.tick().await;
        let after = other.tick().await - at;
        assert!(after.as_nanos() % period.as_nanos() == 0, "{after:?}");
        // Late or not: multiples of the shorter one, as of the moment when the first was made.
        let ends = [half.tick().await, half.tick().await];
        for end in ends {
            let apart = end.max(at) - end.min(at);
            assert!(apart.as_nanos() % (period / 2).as_nanos() == 0, "{apart:?}");
        }
    }
}
