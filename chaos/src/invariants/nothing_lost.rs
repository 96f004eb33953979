//! What was acknowledged is still there when a majority of each list is back: the last value of a block is none that
//! an acknowledged write had replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Violation;

/// Of one write: when it was begun, when acknowledged, whether it is durable.
type Write = (Duration, Option<Duration>, bool);

/// See the module.
#[derive(Debug, Default)]
pub struct NothingLost {
    /// Block -> value -> its write.
    blocks: BTreeMap<u64, BTreeMap<u64, Write>>,
}

impl NothingLost {
    /// A client begins to write.
    pub fn begin_write(&mut self, block: u64, value: u64, now: Duration) {
        self.blocks.entry(block).or_default().insert(value, (now, None, false));
    }

    /// The write was acknowledged.
    pub fn end_write(&mut self, block: u64, value: u64, now: Duration) {
        if let Some(write) = self.blocks.get_mut(&block).and_then(|block| block.get_mut(&value)) {
            write.1 = Some(now);
        }
    }

    /// A sync of some blocks that began at `begun` was acknowledged.
    pub fn synced(&mut self, blocks: impl Iterator<Item = u64>, begun: Duration) {
        for block in blocks {
            for write in self.blocks.entry(block).or_default().values_mut() {
                write.2 |= write.1.is_some_and(|at| at <= begun);
            }
        }
    }

    /// All machines lost power: only what was synced must be there.
    pub fn blackout(&mut self) {
        for write in self.blocks.values_mut().flat_map(BTreeMap::values_mut) {
            if !write.2 {
                write.1 = None;
            }
        }
    }

    /// Everything is over: the block holds this value.
    pub fn finally(&self, block: u64, value: u64) -> Result<(), Violation> {
        let Some(writes) = self.blocks.get(&block) else { return Ok(()) };
        let replaced = match writes.get(&value) {
            Some((_, acknowledged, _)) => *acknowledged,
            None => Some(Duration::ZERO),
        };
        let lost = |(begun, acknowledged, _): &(Duration, Option<Duration>, bool)| {
            acknowledged.is_some() && replaced.is_some_and(|at| at < *begun)
        };
        match writes.iter().find(|(_, write)| lost(write)) {
            None => Ok(()),
            Some((newer, _)) => {
                let what = format!("block {block} ends with {value:x}; {newer:x} was acknowledged after it");
                Err(Violation::new("nothing lost", what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_fail() {
        let at = Duration::from_millis;
        let mut seen = NothingLost::default();
        assert!(seen.finally(1, 0).is_ok());
        seen.begin_write(1, 7, at(1));
        assert!(seen.finally(1, 0).is_ok(), "not acknowledged");
        seen.end_write(1, 7, at(2));
        assert!(seen.finally(1, 0).is_err());
        seen.begin_write(1, 8, at(3));
        assert!(seen.finally(1, 7).is_ok() && seen.finally(1, 8).is_ok());
        seen.end_write(1, 8, at(4));
        assert!(seen.finally(1, 7).is_err());
        seen.synced(std::iter::once(1), at(3));
        seen.blackout();
        assert!(seen.finally(1, 7).is_ok(), "8 was not synced");
        assert!(seen.finally(1, 0).is_err(), "7 was");
    }
}
