//! What a load saw: how long its operations took, what failed, what was wrong; and the pure reckoning of stalls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

/// Width of the pieces of time of which the longest operation is kept: a minute is 600 of them, however many operations.
pub(super) const BIN_MS: u64 = 100;
/// Errors and wrong bytes kept in words; all are counted.
const TOLD_MAX: usize = 20;
/// So long after a disk was full operations may still be told so: OSDs look again now and then, and take their reserve back first.
const ROOM_AGAIN: Duration = Duration::from_secs(30);

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Op {
    pub(super) start_ms: u64,
    pub(super) took_ms: u64,
    pub(super) what: &'static str,
}

impl Op {
    fn end_ms(self) -> u64 {
        self.start_ms + self.took_ms
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Trouble {
    pub(super) at_ms: u64,
    pub(super) text: String,
}

/// Counted, and the first of them in words.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Troubles {
    pub(super) count: u64,
    pub(super) first: Vec<Trouble>,
}

impl Troubles {
    pub(super) fn add(&mut self, at_ms: u64, text: String) {
        self.count += 1;
        if self.first.len() < TOLD_MAX {
            self.first.push(Trouble { at_ms, text });
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Track {
    pub(super) count: u64,
    /// The longest operation that ended in each piece of time.
    pub(super) bins: BTreeMap<u64, Op>,
    pub(super) errors: Troubles,
    pub(super) wrong: Troubles,
    /// Refused for lack of room while a disk was full: no errors.
    pub(super) no_room: u64,
    /// What is being waited for.
    pub(super) pending: Option<(u64, &'static str)>,
}

impl Track {
    fn ended(&mut self, op: Op) {
        self.pending = None;
        self.count += 1;
        let longest = self.bins.entry(op.end_ms() / BIN_MS).or_insert(op);
        if op.took_ms > longest.took_ms {
            *longest = op;
        }
    }

    /// The longest operation in a window that starts with a fault: what went on before the fault is not its doing, what
    /// outlasts the window is.
    pub(super) fn longest(&self, from_ms: u64, to_ms: u64) -> Option<Op> {
        let touches = |op: &&Op| op.end_ms() >= from_ms && op.start_ms < to_ms;
        let since = |op: &Op| {
            let start_ms = op.start_ms.max(from_ms);
            Op { start_ms, took_ms: op.end_ms() - start_ms, what: op.what }
        };
        self.bins.values().filter(touches).map(since).max_by_key(|op| op.took_ms)
    }
}

/// Whether operations may be refused for lack of room.
#[derive(Debug, Clone, Default)]
pub(super) struct NoRoom(Arc<Mutex<Full>>);

#[derive(Debug, Default)]
struct Full {
    /// Disks are full for so many reasons.
    now: usize,
    /// And were for the last time.
    until: Option<Instant>,
}

impl NoRoom {
    pub(super) fn begins(&self) {
        self.0.lock().now += 1;
    }

    pub(super) fn ends(&self) {
        let mut full = self.0.lock();
        full.now -= 1;
        full.until = Some(Instant::now() + ROOM_AGAIN);
    }

    fn explains(&self, error: &std::io::Error) -> bool {
        let full = self.0.lock();
        error.raw_os_error() == Some(libc::ENOSPC)
            && (full.now > 0 || full.until.is_some_and(|until| Instant::now() < until))
    }
}

/// Why an operation was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undone {
    /// It may be tried again when there is room.
    NoRoom,
    Failed,
}

/// A track that a load writes and the others look at.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    began: Instant,
    no_room: NoRoom,
    /// order: never held while another lock is taken, nor over an operation.
    track: Arc<Mutex<Track>>,
}

impl Recorder {
    pub(super) fn new(began: Instant, no_room: NoRoom) -> Self {
        Self { began, no_room, track: Arc::default() }
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn track(&self) -> Track {
        self.track.lock().clone()
    }

    /// Does one operation; `None` when it failed, which is recorded with what it was done to.
    pub(super) fn timed<T>(
        &self,
        what: &'static str,
        object: &str,
        action: impl FnOnce() -> std::io::Result<T>,
    ) -> Option<T> {
        let done = self.attempt(what, object, action);
        if matches!(done, Err(Undone::NoRoom)) {
            // Only what needs room may find none.
            let at_ms = self.now_ms();
            self.track.lock().errors.add(at_ms, format!("{what} {object}: no room, which it does not need"));
        }
        done.ok()
    }

    /// The same for what needs room: that there is none is no error while a disk is full.
    pub(super) fn attempt<T>(
        &self,
        what: &'static str,
        object: &str,
        action: impl FnOnce() -> std::io::Result<T>,
    ) -> Result<T, Undone> {
        let start_ms = self.now_ms();
        self.track.lock().pending = Some((start_ms, what));
        let result = action();
        let end_ms = self.now_ms();
        let mut track = self.track.lock();
        track.ended(Op { start_ms, took_ms: end_ms - start_ms, what });
        match result {
            Ok(value) => Ok(value),
            Err(error) if self.no_room.explains(&error) => {
                track.no_room += 1;
                Err(Undone::NoRoom)
            }
            Err(error) => {
                track.errors.add(end_ms, format!("{what} {object}: {error}"));
                Err(Undone::Failed)
            }
        }
    }

    /// The file system answered, and not what it had to.
    pub(super) fn wrong(&self, text: String) {
        let at_ms = self.now_ms();
        self.track.lock().wrong.add(at_ms, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(ops: &[(u64, u64)]) -> Track {
        let mut track = Track::default();
        for (start_ms, took_ms) in ops {
            track.ended(Op { start_ms: *start_ms, took_ms: *took_ms, what: "write" });
        }
        track
    }

    #[test]
    fn the_longest_of_each_piece_of_time_is_kept() {
        let track = track(&[(0, 10), (20, 40), (70, 5), (150, 3)]);
        let kept: Vec<u64> = track.bins.values().map(|op| op.took_ms).collect();
        assert_eq!((track.count, kept), (4, vec![40, 3]));
    }

    #[test]
    fn a_stall_belongs_to_the_fault_that_began_before_it_ended() {
        let track = track(&[(900, 500), (1500, 1), (2900, 700)]);
        assert_eq!(track.longest(1000, 3000).map(|op| (op.start_ms, op.took_ms)), Some((2900, 700)));
        // Clipped on the left only: of the 500 ms 400 came after the fault.
        assert_eq!(track.longest(1000, 2000).map(|op| op.took_ms), Some(400));
        assert_eq!(track.longest(3000, 4000).map(|op| op.took_ms), Some(600));
        assert_eq!(track.longest(5000, 6000), None);
    }

    #[test]
    fn what_fails_is_counted_and_told() {
        let recorder = Recorder::new(Instant::now(), NoRoom::default());
        let failed: Option<()> =
            recorder.timed("unlink", "n1", || Err(std::io::Error::from_raw_os_error(libc::EIO)));
        assert_eq!(failed, None);
        let track = recorder.track();
        assert_eq!((track.count, track.errors.count, track.pending), (1, 1, None));
        assert!(track.errors.first[0].text.starts_with("unlink n1: "));
    }

    #[test]
    fn no_room_is_an_error_unless_a_disk_is_full_and_for_who_needs_none_always() {
        let full = || Err::<(), _>(std::io::Error::from_raw_os_error(libc::ENOSPC));
        let no_room = NoRoom::default();
        let recorder = Recorder::new(Instant::now(), no_room.clone());
        assert_eq!(recorder.attempt("write", "f", full), Err(Undone::Failed));
        no_room.begins();
        assert_eq!(recorder.attempt("write", "f", full), Err(Undone::NoRoom));
        assert_eq!(
            recorder.attempt("write", "f", || Err::<(), _>(std::io::ErrorKind::NotFound.into())),
            Err(Undone::Failed)
        );
        assert_eq!((recorder.track().errors.count, recorder.track().no_room), (2, 1));
        no_room.ends();
        assert_eq!(recorder.attempt("write", "f", full), Err(Undone::NoRoom));
        assert_eq!(recorder.timed("unlink", "f", full), None);
        assert_eq!((recorder.track().errors.count, recorder.track().no_room), (3, 3));
    }
}
