//! What the mount did: counters per operation and the last operations, for `.xtfs/stats` and `.xtfs/accesslog`.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Operations kept for the access log.
const KEPT: usize = 512;

macro_rules! operations {
    ($($name:ident),+ $(,)?) => {
        /// A FUSE operation.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(non_camel_case_types)]
        pub(super) enum Op { $($name),+ }

        impl Op {
            const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];
        }
    };
}

operations!(
    lookup,
    getattr,
    setattr,
    readlink,
    mknod,
    mkdir,
    unlink,
    rmdir,
    symlink,
    rename,
    link,
    open,
    create,
    read,
    write,
    flush,
    release,
    fsync,
    readdir,
    readdirplus,
    fsyncdir,
    statfs,
    setxattr,
    getxattr,
    listxattr,
    removexattr,
    access,
    getlk,
    setlk,
    ioctl,
    fallocate,
    lseek,
    copy_file_range,
    tmpfile,
    statx,
    syncfs,
    poll,
    bmap,
    unknown,
);

impl Op {
    fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

#[derive(Default)]
struct Count {
    done: AtomicU64,
    failed: AtomicU64,
    micros: AtomicU64,
}

#[derive(Clone, Copy)]
struct Entry {
    at: Duration,
    took: Duration,
    op: Op,
    ino: u64,
    uid: u32,
    errno: i32,
}

/// How often an operation was done, how often it failed, and how long all of them took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpCount {
    /// `lookup`, `read` and so on.
    pub name: &'static str,
    /// All, with those that failed.
    pub done: u64,
    /// Those that were answered with an error.
    pub failed: u64,
    /// Of all together, microseconds.
    pub micros: u64,
}

/// What a mount has done since its process began.
#[derive(Clone)]
pub struct Counts(pub(super) Arc<Record>);

impl Counts {
    /// Operations that were done at all.
    #[must_use]
    pub fn operations(&self) -> Vec<OpCount> {
        let count = |(name, count): (&&'static str, &Count)| OpCount {
            name,
            done: count.done.load(Ordering::Relaxed),
            failed: count.failed.load(Ordering::Relaxed),
            micros: count.micros.load(Ordering::Relaxed),
        };
        Op::NAMES.iter().zip(&self.0.counts).map(count).filter(|count| count.done > 0).collect()
    }

    /// Bytes that were read and written.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.0.read_bytes.load(Ordering::Relaxed), self.0.written_bytes.load(Ordering::Relaxed))
    }
}

/// Counters and the last operations.
pub(super) struct Record {
    counts: Vec<Count>,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    /// order: a leaf.
    recent: Mutex<VecDeque<Entry>>,
}

impl Record {
    pub(super) fn new() -> Self {
        Self {
            counts: Op::NAMES.iter().map(|_| Count::default()).collect(),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            recent: Mutex::new(VecDeque::with_capacity(KEPT)),
        }
    }

    pub(super) fn done(&self, op: Op, ino: u64, uid: u32, errno: i32, at: Duration, took: Duration) {
        let count = &self.counts[op as usize];
        count.done.fetch_add(1, Ordering::Relaxed);
        count.failed.fetch_add(u64::from(errno != 0), Ordering::Relaxed);
        count.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut recent = self.recent.lock();
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(Entry { at, took, op, ino, uid, errno });
    }

    pub(super) fn bytes(&self, read: u64, written: u64) {
        self.read_bytes.fetch_add(read, Ordering::Relaxed);
        self.written_bytes.fetch_add(written, Ordering::Relaxed);
    }

    /// `.xtfs/stats`.
    pub(super) fn stats(&self) -> String {
        let mut out = String::new();
        let (read, written) = (&self.read_bytes, &self.written_bytes);
        let _ = writeln!(out, "read_bytes {}", read.load(Ordering::Relaxed));
        let _ = writeln!(out, "written_bytes {}", written.load(Ordering::Relaxed));
        for (name, count) in Op::NAMES.iter().zip(&self.counts) {
            let done = count.done.load(Ordering::Relaxed);
            if let Some(mean) = count.micros.load(Ordering::Relaxed).checked_div(done) {
                let failed = count.failed.load(Ordering::Relaxed);
                let _ = writeln!(out, "{name} done {done} failed {failed} mean_us {mean}");
            }
        }
        out
    }

    /// `.xtfs/accesslog`: oldest first.
    pub(super) fn access_log(&self) -> String {
        let mut out = String::new();
        for entry in self.recent.lock().iter() {
            let _ = writeln!(
                out,
                "{:.6} {} ino={} uid={} errno={} us={}",
                entry.at.as_secs_f64(),
                entry.op.name(),
                entry.ino,
                entry.uid,
                entry.errno,
                entry.took.as_micros()
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_counts_go_on() {
        let record = Record::new();
        for at in 0..2 * KEPT as u64 {
            record.done(
                Op::mkdir,
                at,
                0,
                i32::from(at == 0),
                Duration::from_secs(at),
                Duration::from_micros(3),
            );
        }
        assert_eq!(record.access_log().lines().count(), KEPT);
        assert!(record.stats().contains("mkdir done 1024 failed 1 mean_us 3"));
        record.bytes(5, 7);
        let counts = Counts(Arc::new(record));
        assert_eq!(
            counts.operations(),
            [OpCount { name: "mkdir", done: 1024, failed: 1, micros: 3072 }],
            "what was never done is not told"
        );
        assert_eq!(counts.bytes(), (5, 7));
    }
}
