//! A command takes effect once however often it was sent, an acknowledged one did, and every acknowledgement of it
//! says the same (contract of `quorum::Group::propose`).

use std::collections::BTreeMap;

use super::Violation;

/// See the module.
#[derive(Debug, Default)]
pub struct ExactlyOnce {
    /// Index at which an operation took effect.
    effects: BTreeMap<u64, u64>,
    acknowledged: BTreeMap<u64, String>,
}

impl ExactlyOnce {
    /// Some node applied operation `op` at `index`.
    pub fn effect(&mut self, op: u64, index: u64) -> Result<(), Violation> {
        let first = *self.effects.entry(op).or_insert(index);
        if first == index {
            return Ok(());
        }
        Err(Violation::new("exactly once", format!("operation {op} took effect at {first} and at {index}")))
    }

    /// A client got `answer` for `op`, which says that it took effect at `index`.
    pub fn acknowledged(&mut self, op: u64, index: u64, answer: &str) -> Result<(), Violation> {
        let violation = |what| Err(Violation::new("exactly once", what));
        if self.effects.get(&op) != Some(&index) {
            let effect = self.effects.get(&op);
            return violation(format!(
                "operation {op} was acknowledged at {index} and took effect at {effect:?}"
            ));
        }
        match self.acknowledged.entry(op).or_insert_with(|| answer.to_owned()) {
            first if first == answer => Ok(()),
            first => violation(format!("operation {op} was answered {first:?}, then {answer:?}")),
        }
    }

    /// The final state holds the effects of exactly these operations.
    pub fn finally(&self, held: &BTreeMap<u64, u64>) -> Result<(), Violation> {
        for op in self.acknowledged.keys() {
            if held.get(op) != self.effects.get(op) {
                let what = format!("acknowledged operation {op} is {:?} in the final state", held.get(op));
                return Err(Violation::new("exactly once", what));
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
        let mut seen = ExactlyOnce::default();
        assert!(seen.effect(1, 10).is_ok());
        assert!(seen.effect(1, 10).is_ok());
        assert!(seen.effect(1, 11).is_err());
        assert!(seen.acknowledged(1, 10, "ten").is_ok());
        assert!(seen.acknowledged(1, 10, "eleven").is_err());
        assert!(seen.acknowledged(2, 12, "never").is_err());
        assert!(seen.finally(&BTreeMap::from([(1, 10)])).is_ok());
        assert!(seen.finally(&BTreeMap::new()).is_err());
    }
}
