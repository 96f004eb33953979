//! Blocks of 4 KiB that say what they are, so that a wrong one also says whose it is. Pure.

use super::dice::Dice;

pub(super) const SIZE: usize = 4096;

/// Where a block belongs, and its how-manieth content it is. Generation 0 was never written: zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) seed: u64,
    pub(super) file: usize,
    pub(super) block: usize,
    pub(super) generation: u64,
}

impl Name {
    fn head(self) -> String {
        let Self { seed, file, block, generation } = self;
        format!("xtfs chaos {seed} file {file} block {block} generation {generation}\n")
    }

    pub(super) fn content(self) -> Vec<u8> {
        if self.generation == 0 {
            return vec![0; SIZE];
        }
        let mut bytes = self.head().into_bytes();
        let key = (self.file as u64) << 48 ^ (self.block as u64) << 24 ^ self.generation;
        let mut dice = Dice::new(self.seed ^ key.wrapping_mul(0x2545_f491_4f6c_dd1d));
        while bytes.len() < SIZE {
            bytes.extend(dice.next().to_le_bytes());
        }
        bytes.truncate(SIZE);
        bytes
    }

    /// Whether a block of a disk begins as this one does.
    pub(super) fn heads(self, bytes: &[u8]) -> bool {
        bytes.starts_with(self.head().as_bytes())
    }

    /// `None` when these are the bytes; else what is wrong with them.
    pub(super) fn judge(self, found: &[u8]) -> Option<String> {
        let want = self.content();
        if found == want {
            return None;
        }
        let wrong = want.iter().zip(found).filter(|(a, b)| a != b).count() + want.len().abs_diff(found.len());
        let line = found.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let is = match std::str::from_utf8(line) {
            Ok(line) if line.starts_with("xtfs chaos") => format!("it says {line:?}"),
            _ if found.iter().all(|byte| *byte == 0) => format!("{} zeros", found.len()),
            _ => "it says nothing known".to_owned(),
        };
        Some(format!(
            "file {} block {}: {wrong} wrong bytes, generation {} was acknowledged, {is}",
            self.file, self.block, self.generation
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Name = Name { seed: 5, file: 1, block: 7, generation: 3 };

    #[test]
    fn the_right_bytes_pass_and_no_others() {
        assert_eq!(ONE.content().len(), SIZE);
        assert_eq!(ONE.judge(&ONE.content()), None);
        let mut flipped = ONE.content();
        flipped[4000] ^= 0x10;
        assert!(ONE.judge(&flipped).unwrap().contains(": 1 wrong bytes"));
        assert!(ONE.judge(&ONE.content()[..4095]).is_some());
        assert!(ONE.judge(&vec![0; SIZE]).unwrap().contains("4096 zeros"));
    }

    #[test]
    fn an_old_block_says_that_it_is_old() {
        let old = Name { generation: 2, ..ONE };
        assert!(
            ONE.judge(&old.content()).unwrap().contains("says \"xtfs chaos 5 file 1 block 7 generation 2\"")
        );
        assert!(ONE.heads(&ONE.content()) && !ONE.heads(&old.content()));
    }
}
