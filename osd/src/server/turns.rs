//! Lets changes of a file in by their turns.

use parking_lot::Mutex;
use proto::error::{Code, WireError};
use proto::osd::{ObjectHead, Turn};
use tokio::sync::Notify;

use crate::engine::turns::{Entry, FileKey, Turns};

/// The turns of all files.
#[derive(Default)]
pub(super) struct Order {
    /// order: a leaf.
    turns: Mutex<Turns>,
    left: Notify,
}

/// A change that is inside or waits; dropping it lets it out. What it did is in the queue of its object then.
pub(super) struct Inside<'a> {
    order: &'a Order,
    key: FileKey,
    turn: Turn,
}

impl Order {
    /// Waits until nothing older is being done to the file; refuses what is too late itself. `None`: it has no turn.
    pub(super) async fn enter(&self, head: &ObjectHead) -> Result<Option<Inside<'_>>, WireError> {
        let Some(turn) = head.turn else { return Ok(None) };
        let key = (head.capability.volume, head.capability.ino);
        let mut entry = self.turns.lock().enter(key, turn);
        let mut inside = None;
        loop {
            match entry {
                Entry::TooLate(seen) => return Err(too_late(key, turn, seen)),
                Entry::In => return Ok(Some(inside.unwrap_or(Inside { order: self, key, turn }))),
                Entry::Waits => {}
            }
            // From here on it leaves also when its caller does.
            inside.get_or_insert(Inside { order: self, key, turn });
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            entry = self.turns.lock().may_go(key, turn);
            if entry == Entry::Waits {
                left.await;
                entry = self.turns.lock().may_go(key, turn);
            }
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.order.turns.lock().leave(self.key, self.turn);
        self.order.left.notify_waiters();
    }
}

fn too_late((volume, ino): FileKey, turn: Turn, seen: Turn) -> WireError {
    let text = format!(
        "a change of ino-{ino} of volume {volume} came after a later one (turn {}.{} after {}.{}): its client has given it up",
        turn.since, turn.round, seen.since, seen.round
    );
    WireError { hint: seen.to_hint(), ..WireError::new(Code::Superseded, text) }
}
