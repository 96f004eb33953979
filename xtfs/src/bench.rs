//! A short benchmark of a directory, with ordinary system calls: what a program would see there, on any file system.
//!
//! Everything happens in a folder of its own, which goes when the benchmark ends, however it ends (but by SIGKILL).

pub(crate) mod data;
pub(crate) mod names;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Operations of one thread in one test: enough to be fast for a while, few enough to remember all times.
pub(crate) const OPS_MAX: usize = 200_000;

/// What is measured, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The folder that everything is made in.
    pub(crate) dir: PathBuf,
    /// Of the large file, bytes.
    pub(crate) size: u64,
    /// For all tests together.
    pub(crate) time: Duration,
    /// For the tests with several threads.
    pub(crate) threads: usize,
    /// Somebody wants it to end.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Plan {
    /// Whether a test that began at `start` goes on: its share of the time is not over, and nobody wants it to end.
    fn goes_on(&self, start: Instant, share: Duration) -> bool {
        start.elapsed() < share && !self.stop.load(Ordering::Relaxed)
    }

    /// Time of a test with the large file.
    fn data_share(&self) -> Duration {
        self.time / 8
    }

    /// Time of a test with small files.
    fn names_share(&self) -> Duration {
        self.time / 16
    }
}

/// What failed, on which file.
pub(crate) type Failed = (PathBuf, io::Error);

fn at(path: &Path) -> impl Fn(io::Error) -> Failed + '_ {
    |error| (path.to_owned(), error)
}

/// How long operations took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Vec<u32>);

impl Times {
    /// Does something and remembers how long it took.
    fn take<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        self.0.push(u32::try_from(start.elapsed().as_nanos() / 100).unwrap_or(u32::MAX));
        done
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn sorted(mut all: Vec<u32>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The time that `share` of all did not exceed; zero when there was none. Sorted times only.
    fn quantile(&self, share: f64) -> Duration {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let ticks = self.0.get(rank.saturating_sub(1)).copied().unwrap_or(0);
        Duration::from_nanos(u64::from(ticks) * 100)
    }
}

/// A result.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) test: &'static str,
    /// By how many threads.
    pub(crate) threads: usize,
    /// How often.
    pub(crate) ops: u64,
    /// Bytes moved; `None` when it is not about bytes.
    pub(crate) bytes: Option<u64>,
    /// From the first to the end of the last, and to the end of what makes it durable.
    pub(crate) elapsed: Duration,
    /// Half of all took at most this.
    pub(crate) p50: Duration,
    /// 99 of 100.
    pub(crate) p99: Duration,
    /// The longest.
    pub(crate) max: Duration,
}

impl Row {
    fn new(
        test: &'static str,
        threads: usize,
        bytes: Option<u64>,
        elapsed: Duration,
        times: Vec<u32>,
    ) -> Self {
        let times = Times::sorted(times);
        let (p50, p99, max) = (times.quantile(0.5), times.quantile(0.99), times.quantile(1.0));
        Self { test, threads, ops: times.count() as u64, bytes, elapsed, p50, p99, max }
    }

    /// Operations in a second.
    pub(crate) fn ops_per_second(&self) -> f64 {
        self.ops as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Bytes in a second.
    pub(crate) fn bytes_per_second(&self) -> Option<f64> {
        self.bytes.map(|bytes| bytes as f64 / self.elapsed.as_secs_f64().max(1e-9))
    }
}

/// Does it all; `begins` hears what comes next. What was measured before an interruption is given too.
pub(crate) fn run(plan: &Plan, begins: &dyn Fn(&str)) -> Result<Vec<Row>, Failed> {
    let mut rows = data::run(plan, begins)?;
    for threads in [1, plan.threads] {
        if !plan.stop.load(Ordering::Relaxed) {
            rows.extend(names::run(plan, threads, begins)?);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(dir: &Path, time: Duration) -> Plan {
        Plan { dir: dir.to_owned(), size: 3 << 20, time, threads: 3, stop: Arc::default() }
    }

    #[test]
    fn quantiles_are_those_of_the_ranks() {
        let times = Times::sorted(vec![40, 10, 30, 20]);
        let of = |share| times.quantile(share).as_nanos() / 100;
        assert_eq!([of(0.0), of(0.5), of(0.75), of(0.99), of(1.0)], [10, 20, 30, 40, 40]);
        assert_eq!(Times::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn every_test_gives_a_row_and_small_files_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let begun = std::cell::RefCell::new(Vec::new());
        let rows = run(&plan(dir.path(), Duration::from_millis(800)), &|what| {
            begun.borrow_mut().push(what.to_owned())
        });
        let rows = rows.unwrap();
        let seen: Vec<(&str, usize)> = rows.iter().map(|row| (row.test, row.threads)).collect();
        let names = ["create", "stat", "rename", "unlink"];
        let mut wanted: Vec<(&str, usize)> =
            ["sequential write", "sequential read", "random read", "random write"]
                .map(|test| (test, 1))
                .into();
        wanted.extend(names.map(|test| (test, 1)));
        wanted.extend(names.map(|test| (test, 3)));
        assert_eq!(seen, wanted);
        assert_eq!(begun.borrow().len(), wanted.len());
        assert!(rows.iter().all(|row| row.ops > 0 && row.max >= row.p99 && row.p99 >= row.p50));
        assert_eq!(rows[0].bytes, Some(3 << 20));
        assert_eq!(rows[1].bytes, Some(3 << 20));
        // Each thread removes what it made: what is created goes.
        assert_eq!((rows[4].ops, rows[8].ops), (rows[7].ops, rows[11].ops));
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path(), Duration::from_secs(3600));
        let stop = plan.stop.clone();
        let rows = run(&plan, &move |what| {
            if what == "random read" {
                stop.store(true, Ordering::Relaxed);
            }
        });
        assert_eq!(rows.unwrap().len(), 2, "those that ended before");
    }

    #[test]
    fn what_fails_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let gone = plan(&dir.path().join("gone"), Duration::from_secs(1));
        let (path, error) = run(&gone, &|_| ()).unwrap_err();
        assert!(path.starts_with(&gone.dir), "{}", path.display());
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
