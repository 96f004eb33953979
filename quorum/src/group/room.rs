//! Whether a leader should take changes: not when its log's disk is nearly full. It goes on leading and answering reads, which
//! need no room, and lets another member lead that may have some. See `docs/protocols/raft.md`, "A full disk".

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rt::disk::Disk;

/// With less than this free a leader takes no changes: votes, heads of terms and the table's flushes need some.
const FLOOR: u64 = 4 << 20;
/// It is looked so often at most.
const LOOK: Duration = Duration::from_millis(20);
/// A leader without room lets another one lead so often at most: they may all have one disk.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(30);

/// See the module. Times are nanoseconds of the monotonic clock.
#[derive(Default)]
pub(super) struct Room {
    look_at: AtomicU64,
    tight: AtomicBool,
    hand_over_at: AtomicU64,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Room {
    pub(super) fn is_tight(&self, disk: &dyn Disk, now: Duration) -> bool {
        if nanos(now) >= self.look_at.load(Ordering::Acquire) {
            // What it cannot say does not stop anybody: the writes find out.
            let tight = disk.free_bytes().is_ok_and(|free| free < FLOOR);
            self.tight.store(tight, Ordering::Release);
            self.look_at.store(nanos(now + LOOK), Ordering::Release);
        }
        self.tight.load(Ordering::Acquire)
    }

    /// Whether it is time to let another member lead; then it is not for a while.
    pub(super) fn hands_over(&self, now: Duration) -> bool {
        let due = self.hand_over_at.load(Ordering::Acquire);
        let next = nanos(now + HAND_OVER_AGAIN);
        nanos(now) >= due
            && self.hand_over_at.compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use rt::disk::sim::SimDisk;

    use super::*;

    #[test]
    fn it_is_looked_now_and_then_and_handed_over_rarely() {
        let (room, disk) = (Room::default(), SimDisk::new());
        let at = Duration::from_secs(100);
        assert!(!room.is_tight(&disk, at));
        disk.resize(FLOOR - 1);
        assert!(!room.is_tight(&disk, at) && room.is_tight(&disk, at + LOOK));
        disk.resize(FLOOR);
        assert!(!room.is_tight(&disk, at + 2 * LOOK));
        assert!(room.hands_over(at) && !room.hands_over(at + Duration::from_secs(29)));
        assert!(room.hands_over(at + HAND_OVER_AGAIN));
    }
}
