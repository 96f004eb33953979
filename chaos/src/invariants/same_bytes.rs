//! Two replicas whose object has the same version hold the same bytes (page replication.md, invariant 3), and a read that says
//! which version it shows shows these.

use std::collections::BTreeMap;

use super::Violation;

/// Column, object, and its version: epoch and number.
type OfVersion = (u64, u64, u64, u64);

/// See the module.
#[derive(Debug, Default)]
pub struct SameBytes {
    /// The content, block by block, and who had it first.
    seen: BTreeMap<OfVersion, (Vec<u64>, u64)>,
}

impl SameBytes {
    /// `osd` has this content in `object` of `column` at a version.
    pub fn holds(
        &mut self,
        osd: u64,
        (column, object): (u64, u64),
        (epoch, number): (u64, u64),
        blocks: Vec<u64>,
    ) -> Result<(), Violation> {
        let of_version = (column, object, epoch, number);
        let (first, whose) = self.seen.entry(of_version).or_insert_with(|| (blocks.clone(), osd));
        if *first == blocks {
            return Ok(());
        }
        let what = format!(
            "object {object} of column {column} at {epoch}.{number} differs between {whose} and {osd}"
        );
        Err(Violation::new("same bytes", what))
    }

    /// A read showed this value of a block, and said that it is of this version (of epoch 0: that there is no object).
    pub fn shows(
        &self,
        (column, object): (u64, u64),
        (epoch, number): (u64, u64),
        block: u32,
        value: u64,
    ) -> Result<(), Violation> {
        let content = self.seen.get(&(column, object, epoch, number));
        let of_block = content.and_then(|(blocks, _)| blocks.get(usize::try_from(block).ok()?));
        if of_block.copied().or((epoch == 0).then_some(0)) == Some(value) {
            return Ok(());
        }
        let what = format!(
            "a read of block {block} of object {object} of column {column} showed {value:x}, and \
             {epoch}.{number} has {of_block:x?}"
        );
        Err(Violation::new("same bytes", what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_fail() {
        let mut seen = SameBytes::default();
        assert!(seen.holds(1, (1, 1), (3, 4), vec![7, 7]).is_ok());
        assert!(seen.holds(2, (1, 1), (3, 4), vec![7, 7]).is_ok());
        assert!(seen.holds(2, (1, 1), (3, 5), vec![7, 8]).is_ok());
        assert!(seen.holds(3, (1, 1), (3, 4), vec![7, 9]).is_err());
        assert!(seen.shows((1, 1), (3, 5), 1, 8).is_ok());
        assert!(seen.shows((1, 1), (3, 5), 1, 7).is_err());
        assert!(seen.shows((1, 1), (3, 6), 1, 7).is_err(), "nobody ever had that version");
        assert!(seen.shows((1, 2), (0, 0), 1, 0).is_ok());
    }
}
