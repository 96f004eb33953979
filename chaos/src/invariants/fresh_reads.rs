//! A read of a block returns something that was written, and nothing that was overwritten before the read began
//! (linearizability of a register, as far as answers show it). Values are drawn once; 0 is what there was first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Violation;

/// What is known of a written value.
#[derive(Debug, Clone, Copy)]
struct Write {
    begun: Duration,
    /// From then on it was in effect for sure: acknowledged, or seen by a read that had ended.
    in_effect: Option<Duration>,
    /// A sync that began after it was in effect was acknowledged.
    durable: bool,
}

/// See the module. Blocks are any numbers.
#[derive(Debug, Default)]
pub struct FreshReads {
    blocks: BTreeMap<u64, BTreeMap<u64, Write>>,
}

impl FreshReads {
    /// A client begins to write a value that nobody wrote before.
    pub fn begin_write(&mut self, block: u64, value: u64, now: Duration) {
        self.blocks
            .entry(block)
            .or_default()
            .insert(value, Write { begun: now, in_effect: None, durable: false });
    }

    /// The write was acknowledged.
    pub fn end_write(&mut self, block: u64, value: u64, now: Duration) {
        if let Some(write) = self.blocks.get_mut(&block).and_then(|block| block.get_mut(&value)) {
            write.in_effect = Some(write.in_effect.unwrap_or(now).min(now));
        }
    }

    /// A sync of some blocks that began at `begun` was acknowledged.
    pub fn synced(&mut self, blocks: impl Iterator<Item = u64>, begun: Duration) {
        for block in blocks {
            for write in self.blocks.entry(block).or_default().values_mut() {
                write.durable |= write.in_effect.is_some_and(|at| at <= begun);
            }
        }
    }

    /// All machines lost power: what was not durable may be gone or not.
    pub fn blackout(&mut self) {
        for write in self.blocks.values_mut().flat_map(BTreeMap::values_mut) {
            if !write.durable {
                write.in_effect = None;
            }
        }
    }

    /// A read that began at `begun` returned a value now.
    pub fn read(&mut self, block: u64, value: u64, begun: Duration, now: Duration) -> Result<(), Violation> {
        let writes = self.blocks.entry(block).or_default();
        let nothing = Write { begun: Duration::ZERO, in_effect: Some(Duration::ZERO), durable: true };
        let Some(seen) = writes.get(&value).copied().or((value == 0).then_some(nothing)) else {
            let what = format!("a read of block {block} returned {value:x}, which nobody ever wrote there");
            return Err(Violation::new("fresh reads", what));
        };
        let later = |write: &Write| {
            write.in_effect.is_some_and(|at| at < begun) && seen.in_effect.is_some_and(|at| at < write.begun)
        };
        if let Some((newer, _)) = writes.iter().find(|(_, write)| later(write)) {
            let what = format!(
                "a read of block {block} begun at {begun:?} returned {value:x}, which {newer:x} had overwritten before"
            );
            return Err(Violation::new("fresh reads", what));
        }
        if let Some(write) = writes.get_mut(&value) {
            write.in_effect = Some(write.in_effect.unwrap_or(now).min(now));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_can_fail() {
        let mut seen = FreshReads::default();
        assert!(seen.read(1, 0, at(0), at(1)).is_ok());
        assert!(seen.read(1, 7, at(0), at(1)).is_err(), "never written");
        seen.begin_write(1, 7, at(2));
        assert!(seen.read(1, 0, at(3), at(4)).is_ok(), "not acknowledged yet");
        seen.end_write(1, 7, at(5));
        assert!(seen.read(1, 0, at(4), at(6)).is_ok(), "the read began before");
        assert!(seen.read(1, 0, at(6), at(7)).is_err(), "overwritten");
        seen.begin_write(1, 8, at(8));
        assert!(seen.read(1, 8, at(9), at(10)).is_ok());
        assert!(seen.read(1, 7, at(11), at(12)).is_err(), "a read had shown the newer one");
    }

    #[test]
    fn a_loss_of_power_takes_what_was_not_synced() {
        let mut seen = FreshReads::default();
        for (value, ms) in [(7, 1), (8, 11)] {
            seen.begin_write(1, value, at(ms));
            seen.end_write(1, value, at(ms + 1));
            seen.synced(std::iter::once(1), at(5));
        }
        seen.blackout();
        assert!(seen.read(1, 7, at(20), at(21)).is_ok());
        assert!(seen.read(1, 0, at(22), at(23)).is_err(), "7 was synced");
    }
}
