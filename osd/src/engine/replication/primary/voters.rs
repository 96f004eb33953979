//! Policy `all`: what becomes of who waits for a voter that is down. Somebody has to make it a learner.

use super::{Phase, Primary};
use crate::engine::replication::column::Column;
use crate::engine::replication::effect::Outcome;
use crate::engine::replication::event::Failure;

impl<P: Clone, W> Column<P, W> {
    /// Nothing new is numbered while it could not be committed.
    pub(in crate::engine::replication) fn when_voters_are_up(&mut self, waiter: W) -> Option<W> {
        let Some(osd) = self.primary.as_ref().and_then(Primary::voter_down) else { return Some(waiter) };
        rt::site!("column.voter.down_refused");
        self.answer(waiter, Outcome::Failed(Failure::VoterDown(osd)));
        None
    }

    /// A voter may have gone down: who waits for its word is told. What was numbered may still be committed, when it is back.
    pub(super) fn refuse_without_voter(&mut self) {
        let Some(primary) = &mut self.primary else { return };
        let Some(osd) = primary.voter_down() else { return };
        let mut refused: Vec<W> = Vec::new();
        if primary.phase != Phase::Serving {
            refused.append(&mut primary.waiting);
        }
        rt::site!("column.voter.down_in_opening", !refused.is_empty());
        refused.extend(primary.changes.values_mut().filter_map(|change| change.waiter.take()));
        refused.extend(std::mem::take(&mut primary.reads).into_values().map(|read| read.waiter));
        refused.extend(std::mem::take(&mut primary.rounds).into_values().filter_map(|round| round.waiter));
        rt::site!("column.voter.down_under_changes", !primary.changes.is_empty());
        for waiter in refused {
            self.answer(waiter, Outcome::Failed(Failure::VoterDown(osd)));
        }
    }
}
