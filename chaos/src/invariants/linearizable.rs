//! Operations take effect between their call and their answer (Herlihy and Wing, "Linearizability"). The log gives
//! the order, so it is enough that real time respects it: a read that begins after something at index i was
//! answered sees at least i; a write that begins then comes after i.

use std::collections::BTreeMap;

use super::Violation;

/// See the module.
#[derive(Debug, Default)]
pub struct Linearizable {
    /// Highest index that any finished operation has shown.
    floor: u64,
    /// The floor when each unfinished operation began.
    begun: BTreeMap<u64, u64>,
}

impl Linearizable {
    /// A client calls operation `op`.
    pub fn begin(&mut self, op: u64) {
        self.begun.insert(op, self.floor);
    }

    /// The floor that `op` began with.
    fn finish(&mut self, op: u64, index: u64) -> u64 {
        self.floor = self.floor.max(index);
        self.begun.remove(&op).unwrap_or(0)
    }

    /// The read `op` was answered from a state at `index`.
    pub fn read(&mut self, op: u64, index: u64) -> Result<(), Violation> {
        let floor = self.finish(op, index);
        if index >= floor {
            return Ok(());
        }
        let what = format!("read {op} saw the state at {index}; {floor} had been answered before it began");
        Err(Violation::new("linearizable", what))
    }

    /// The write `op` was answered: it took effect at `index`.
    pub fn write(&mut self, op: u64, index: u64) -> Result<(), Violation> {
        let floor = self.finish(op, index);
        if index > floor {
            return Ok(());
        }
        let what = format!("write {op} took effect at {index}; {floor} had been answered before it began");
        Err(Violation::new("linearizable", what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_fail() {
        let mut seen = Linearizable::default();
        seen.begin(1);
        seen.begin(2);
        assert!(seen.write(1, 10).is_ok());
        assert!(seen.read(2, 5).is_ok(), "it began before the write was answered");
        seen.begin(3);
        assert!(seen.read(3, 9).is_err());
        seen.begin(4);
        assert!(seen.write(4, 10).is_err());
        seen.begin(5);
        assert!(seen.read(5, 10).is_ok());
    }
}
