//! A leader whose log's disk is nearly full takes no changes that need room. It goes on leading and answering reads, and now and
//! then lets another member lead that may have some. See `docs/protocols/raft.md`, "A full disk".

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A leader without room lets another one lead so often at most: they may all have one disk.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(30);
/// Likewise when it had room in between.
const ANEW: Duration = Duration::from_secs(1);

/// See the module. Times are nanoseconds of the monotonic clock.
#[derive(Default)]
pub(super) struct Room {
    handed_over: AtomicU64,
    had_room: AtomicBool,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Room {
    /// Whether it is time to let another member lead; then it is not for a while.
    pub(super) fn hands_over(&self, now: Duration) -> bool {
        let last = self.handed_over.load(Ordering::Acquire);
        let pause = if self.had_room.load(Ordering::Acquire) { ANEW } else { HAND_OVER_AGAIN };
        let due = last == 0 || nanos(now) >= last.saturating_add(nanos(pause));
        let hands_over = due
            && self
                .handed_over
                .compare_exchange(last, nanos(now), Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if hands_over {
            self.had_room.store(false, Ordering::Release);
        }
        hands_over
    }

    /// There is room.
    pub(super) fn has_room(&self) {
        self.had_room.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_member_is_to_lead_rarely() {
        let (room, at) = (Room::default(), Duration::from_secs(100));
        assert!(room.hands_over(at) && !room.hands_over(at + Duration::from_secs(29)));
        assert!(room.hands_over(at + HAND_OVER_AGAIN));
        // Another shortage: the others may not have it.
        let at = at + HAND_OVER_AGAIN;
        room.has_room();
        assert!(
            !room.hands_over(at + ANEW / 2) && room.hands_over(at + ANEW) && !room.hands_over(at + 3 * ANEW)
        );
    }
}
