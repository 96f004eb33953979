//! Whoever leads has every entry that was committed before (Raft, figure 3, "Leader Completeness"): this is what
//! keeps acknowledged commands.

use std::collections::BTreeMap;

use super::Violation;

/// See the module.
#[derive(Debug, Default)]
pub struct LeaderCompleteness {
    committed: BTreeMap<u64, u64>,
    /// Newest term in which the check was done.
    checked: BTreeMap<u64, u64>,
}

impl LeaderCompleteness {
    /// Some node applied the entry at `index`, which is of `term`.
    pub fn committed(&mut self, index: u64, term: u64) -> Result<(), Violation> {
        let first = *self.committed.entry(index).or_insert(term);
        if first == term {
            return Ok(());
        }
        let what = format!("entry {index} was committed with term {first} and with term {term}");
        Err(Violation::new("leader completeness", what))
    }

    /// `node` has come to lead in `term`; `term_at` tells its log's term of an entry (`None`: not there), of those
    /// after `base`.
    pub fn leads(
        &mut self,
        node: u64,
        term: u64,
        base: u64,
        term_at: impl Fn(u64) -> Option<u64>,
    ) -> Result<(), Violation> {
        if self.checked.insert(node, term) == Some(term) {
            return Ok(());
        }
        for (index, committed) in self.committed.range(base + 1..) {
            let has = term_at(*index);
            if *committed < term && has != Some(*committed) {
                let what = format!(
                    "node {node} leads in term {term} with {has:?} at {index}, where term {committed} was committed"
                );
                return Err(Violation::new("leader completeness", what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_fail() {
        let mut seen = LeaderCompleteness::default();
        assert!(seen.committed(3, 1).is_ok());
        assert!(seen.committed(4, 2).is_ok());
        assert!(seen.committed(4, 3).is_err());
        let log = BTreeMap::from([(3, 1), (4, 2)]);
        assert!(seen.leads(1, 5, 0, |index| log.get(&index).copied()).is_ok());
        assert!(seen.leads(2, 5, 3, |index| (index == 4).then_some(2)).is_ok());
        assert!(seen.leads(3, 6, 0, |index| (index == 3).then_some(1)).is_err());
        assert!(seen.leads(4, 7, 0, |_| Some(1)).is_err());
    }
}
