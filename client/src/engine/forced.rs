//! What of a session's changes is known to be on the media of a majority, so that a sync of a directory need not ask for it again. (A program that
//! makes a file safe syncs the file and then its directory, with nothing in between.)
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::leases::Ticket;

/// See the module.
#[derive(Debug, Default)]
pub struct Forced {
    /// Changes that the MRC has answered, or whose callers gave up.
    changes: u64,
    /// So many of them were there when the last sync that succeeded began, and the last call that had begun then.
    covered: u64,
    since: Ticket,
}

/// A sync that began.
#[derive(Debug, Clone, Copy)]
pub struct Covering {
    changes: u64,
    ticket: Ticket,
}

impl Forced {
    /// A change is over: it may have been made.
    pub fn changed(&mut self) {
        self.changes += 1;
    }

    /// A sync begins; `ticket`: its own.
    #[must_use]
    pub fn begin(&self, ticket: Ticket) -> Covering {
        Covering { changes: self.changes, ticket }
    }

    /// It succeeded.
    pub fn done(&mut self, covering: Covering) {
        self.covered = self.covered.max(covering.changes);
        self.since = self.since.max(covering.ticket);
    }

    /// Whether everything in a directory is on the media that nobody else has been able to change since the ticket `held`.
    #[must_use]
    pub fn covers(&self, held: Ticket) -> bool {
        self.covered == self.changes && held < self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_or_held_since_a_sync_began_is_not_covered() {
        let mut forced = Forced::default();
        assert!(!forced.covers(0), "nothing was synced");
        forced.changed();
        let covering = forced.begin(7);
        forced.done(covering);
        assert!(forced.covers(6) && !forced.covers(7), "others may have changed it before it was ours");
        forced.changed();
        assert!(!forced.covers(6));
        let covering = forced.begin(9);
        forced.changed();
        forced.done(covering);
        assert!(!forced.covers(6), "answered while the sync was under way");
        let covering = forced.begin(11);
        forced.done(covering);
        assert!(forced.covers(10));
    }

    #[test]
    fn an_earlier_sync_that_ends_later_takes_nothing_back() {
        let mut forced = Forced::default();
        let (early, late) = (forced.begin(3), {
            forced.changed();
            forced.begin(5)
        });
        forced.done(late);
        forced.done(early);
        assert!(forced.covers(4));
    }
}
