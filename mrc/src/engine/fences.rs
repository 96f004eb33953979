//! Fences that OSDs still have to hear of: an OSD that was down when a session was expelled is told when it is back.

use std::collections::{BTreeMap, BTreeSet};

/// Most sessions in the queue.
const FENCES_MAX: usize = 4096;

#[derive(Debug)]
struct Fence {
    epoch: u64,
    /// Unix milliseconds after which no capability below the epoch is valid any more.
    until_ms: u64,
    told: BTreeSet<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Fences {
    sessions: BTreeMap<u64, Fence>,
}

impl Fences {
    /// Capabilities of `session` below `epoch` are to be refused until `until_ms`. False: the queue is full.
    #[must_use]
    pub fn add(&mut self, session: u64, epoch: u64, until_ms: u64) -> bool {
        if self.sessions.len() >= FENCES_MAX && !self.sessions.contains_key(&session) {
            return false;
        }
        let fence = Fence { epoch, until_ms, told: BTreeSet::new() };
        if self.sessions.get(&session).is_none_or(|known| known.epoch < epoch) {
            self.sessions.insert(session, fence);
        }
        true
    }

    /// An OSD has answered.
    pub fn told(&mut self, session: u64, epoch: u64, osd: u64) {
        if let Some(fence) = self.sessions.get_mut(&session).filter(|fence| fence.epoch == epoch) {
            fence.told.insert(osd);
        }
    }

    /// Whom to tell of `osds`: (session, epoch, OSD). Forgets what no capability can meet any more.
    pub fn untold(&mut self, now_ms: u64, osds: &[u64]) -> Vec<(u64, u64, u64)> {
        self.sessions.retain(|_, fence| now_ms < fence.until_ms);
        let mut out = Vec::new();
        for (session, fence) in &self.sessions {
            let missing = osds.iter().filter(|osd| !fence.told.contains(*osd));
            out.extend(missing.map(|osd| (*session, fence.epoch, *osd)));
        }
        out
    }

    /// Whether all of `osds` have answered for the session.
    #[must_use]
    pub fn all_told(&self, session: u64, osds: &[u64]) -> bool {
        let fence = self.sessions.get(&session);
        fence.is_none_or(|fence| osds.iter().all(|osd| fence.told.contains(osd)))
    }

    /// Another member leads.
    pub fn clear(&mut self) {
        self.sessions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_osd_that_was_down_is_told_later_and_only_once() {
        let mut fences = Fences::default();
        assert!(fences.add(7, 5, 1000));
        assert_eq!(fences.untold(0, &[1]), [(7, 5, 1)]);
        fences.told(7, 5, 1);
        assert!(fences.all_told(7, &[1]) && !fences.all_told(7, &[1, 2]));
        assert_eq!(fences.untold(0, &[1, 2]), [(7, 5, 2)], "2 is back");
        fences.told(7, 4, 2);
        assert!(!fences.all_told(7, &[2]), "an answer to an older fence");
        assert!(fences.add(7, 6, 2000));
        assert_eq!(fences.untold(0, &[1]), [(7, 6, 1)], "a newer epoch has to be told again");
        assert!(fences.add(7, 5, 9000), "an older one changes nothing");
        assert_eq!(fences.untold(2000, &[1]), []);
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut fences = Fences::default();
        assert!((0..FENCES_MAX as u64).all(|session| fences.add(session, 1, 10)));
        assert!(!fences.add(u64::MAX, 1, 10));
        assert!(fences.add(0, 2, 10), "a session that is in it");
        assert_eq!(fences.untold(10, &[]), []);
        assert!(fences.add(u64::MAX, 1, 20));
    }
}
