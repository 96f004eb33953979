//! Which rows parse, table by table.

use proto::limits::INLINE_BYTES_MAX;
use proto::quota::QuotaLimits;
use proto::snapshot::SnapshotInfo;
use proto::stripe::{Layout, Striping};

use crate::changes;
use crate::namespace::keys::{self, table};
use crate::namespace::record::{Cursor, unversioned};
use crate::namespace::{entry, inode, locks, name::Name, past};
use crate::quota::Taken;
use crate::trash;
use crate::usage::Amount;

/// Whether a row of a volume parses.
pub(super) fn parses(key: &[u8], value: &[u8]) -> bool {
    let Some(table) = key.first() else { return false };
    let words = |count: usize| key.len() == 1 + 8 * count;
    match *table {
        table::INODE => words(2) && inode::parse(key, value).is_ok(),
        table::DENTRY => {
            key.len() > 17
                && Name::parse(&key[17..]).is_ok()
                && Cursor::new(value)
                    .and_then(|mut c| Some((c.u64()?, c.u8()?, c.u64()?, c.rest().is_empty())))
                    .is_some_and(|(.., whole)| whole)
        }
        table::ORDER => {
            words(3) && entry::parse_order(key, value).is_ok_and(|(_, name)| Name::parse(&name).is_ok())
        }
        table::XATTR => key.len() > 17 && Cursor::new(value).is_some(),
        table::ORPHAN => words(2) && Cursor::new(value).and_then(|mut c| c.u8()).is_some(),
        table::GARBAGE => {
            words(2)
                && Cursor::new(value).is_some_and(|c| {
                    <Layout as prost::Message>::decode(c.rest())
                        .is_ok_and(|layout| !layout.columns.is_empty())
                })
        }
        table::LOCK => words(2) && locks::parse(value).is_some_and(|locks| !locks.is_empty()),
        table::LOCK_SESSION => words(3) && Cursor::new(value).is_some(),
        table::CHANGE => words(2) && changes::Row::parse(key, value).is_ok(),
        table::MOVED => words(3) && Cursor::new(value).and_then(|mut c| c.u64()).is_some(),
        table::FLOOR => words(1) && Cursor::new(value).and_then(|mut c| c.u64()).is_some(),
        table::LINK => words(4) && Cursor::new(value).is_some(),
        table::TOTAL | table::PENDING => words(2) && Amount::parse(key, value).is_ok(),
        table::QUOTA => {
            words(3)
                && matches!(keys::word(key, 1), Some(1..=3))
                && unversioned::<QuotaLimits>(value).is_some_and(|limits| limits != QuotaLimits::default())
        }
        table::OWNED => {
            words(3) && matches!(keys::word(key, 1), Some(1..=3)) && Taken::parse(key, value).is_ok()
        }
        table::LAYOUT => {
            words(2)
                && unversioned::<Striping>(value).is_some_and(|striping| striping.check() == Ok(striping))
        }
        table::SNAPSHOT => words(2) && unversioned::<SnapshotInfo>(value).is_some(),
        table::CONTENT => {
            words(2) && Cursor::new(value).is_some_and(|c| (1..=INLINE_BYTES_MAX).contains(&c.rest().len()))
        }
        table::FROZEN => words(2) && Cursor::new(value).is_some(),
        table::PAST => past::parses(key, value),
        table::TRASH => words(3) && unversioned::<trash::Row>(value).is_some(),
        _ => true,
    }
}
