//! Two logs with an entry of the same index and term hold the same entries up to there (Raft, figure 3, "Log
//! Matching"). By induction it is enough that equal (index, term) have equal content and equal predecessors' term.

use std::collections::BTreeMap;

use super::Violation;

/// See the module.
#[derive(Debug, Default)]
pub struct LogMatching {
    /// (index, term) -> (term of the entry before, checksum of the content).
    seen: BTreeMap<(u64, u64), (u64, u32)>,
}

impl LogMatching {
    /// A log holds this entry after one of `before_term`.
    pub fn holds(
        &mut self,
        node: u64,
        index: u64,
        term: u64,
        before_term: u64,
        sum: u32,
    ) -> Result<(), Violation> {
        let first = *self.seen.entry((index, term)).or_insert((before_term, sum));
        if first == (before_term, sum) {
            return Ok(());
        }
        let what = format!(
            "entry {index} of term {term} at node {node} is {:?}, elsewhere {first:?}",
            (before_term, sum)
        );
        Err(Violation::new("log matching", what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_fail() {
        let mut seen = LogMatching::default();
        assert!(seen.holds(1, 5, 2, 1, 77).is_ok());
        assert!(seen.holds(2, 5, 2, 1, 77).is_ok());
        assert!(seen.holds(2, 5, 3, 2, 78).is_ok());
        assert!(seen.holds(2, 5, 2, 1, 78).is_err());
        assert!(seen.holds(2, 5, 2, 2, 77).is_err());
    }
}
