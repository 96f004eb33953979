//! No two members apply different commands at an index, and the states after an index are equal (Raft, figure 3,
//! "State Machine Safety"), over restarts and snapshots too. Answers never decrease in time along the log.

use std::collections::BTreeMap;

use super::Violation;

/// See the module.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    /// Index -> (hash of the state after it, time it was given).
    seen: BTreeMap<u64, (u64, u64)>,
}

impl StateMachineSafety {
    /// `node` applied `index` at log time `unix_ms`, which made the state hash to `hash`.
    pub fn applied(&mut self, node: u64, index: u64, hash: u64, unix_ms: u64) -> Result<(), Violation> {
        let violation = |what| Err(Violation::new("state machine safety", what));
        let first = *self.seen.entry(index).or_insert((hash, unix_ms));
        if first != (hash, unix_ms) {
            return violation(format!(
                "index {index} at node {node} gives {:?}, elsewhere {first:?}",
                (hash, unix_ms)
            ));
        }
        if let Some((before, (_, earlier))) = self.seen.range(..index).next_back()
            && *earlier > unix_ms
        {
            return violation(format!("time goes back from {earlier} at {before} to {unix_ms} at {index}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_fail() {
        let mut seen = StateMachineSafety::default();
        assert!(seen.applied(1, 5, 100, 7).is_ok());
        assert!(seen.applied(2, 5, 100, 7).is_ok());
        assert!(seen.applied(2, 6, 101, 8).is_ok());
        assert!(seen.applied(1, 6, 102, 8).is_err());
        assert!(seen.applied(1, 7, 103, 6).is_err());
    }
}
