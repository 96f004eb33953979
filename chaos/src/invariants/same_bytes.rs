//! Two replicas whose object has the same version hold the same bytes (page replication.md, invariant 3).

use std::collections::BTreeMap;

use super::Violation;

/// See the module.
#[derive(Debug, Default)]
pub struct SameBytes {
    /// (object, version) -> hash of the content, and who had it first.
    seen: BTreeMap<(u64, u64, u64, u64), (u64, u64)>,
}

impl SameBytes {
    /// `osd` has this content in `object` of `column` at a version.
    pub fn holds(
        &mut self,
        osd: u64,
        (column, object): (u64, u64),
        (epoch, number): (u64, u64),
        hash: u64,
    ) -> Result<(), Violation> {
        let (first, whose) = *self.seen.entry((column, object, epoch, number)).or_insert((hash, osd));
        if first == hash {
            return Ok(());
        }
        let what = format!(
            "object {object} of column {column} at {epoch}.{number} differs between {whose} and {osd}"
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
        assert!(seen.holds(1, (1, 1), (3, 4), 77).is_ok());
        assert!(seen.holds(2, (1, 1), (3, 4), 77).is_ok());
        assert!(seen.holds(2, (1, 1), (3, 5), 78).is_ok());
        assert!(seen.holds(3, (1, 1), (3, 4), 79).is_err());
    }
}
