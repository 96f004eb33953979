//! At most one leader in a term (Raft, figure 3, "Election Safety").

use std::collections::BTreeMap;

use super::Violation;

/// See the module.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<u64, u64>,
}

impl ElectionSafety {
    /// `node` believes to lead in `term`.
    pub fn leads(&mut self, term: u64, node: u64) -> Result<(), Violation> {
        let first = *self.leaders.entry(term).or_insert(node);
        if first == node {
            return Ok(());
        }
        Err(Violation::new("election safety", format!("nodes {first} and {node} both led in term {term}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_fail() {
        let mut seen = ElectionSafety::default();
        assert!(seen.leads(1, 1).is_ok());
        assert!(seen.leads(1, 1).is_ok());
        assert!(seen.leads(2, 2).is_ok());
        assert!(seen.leads(1, 2).is_err());
    }
}
