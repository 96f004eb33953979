//! Sums over the whole volume: inodes, bytes, quotas.

use std::collections::BTreeMap;

use proto::fsck::{Fault, Finding};
use proto::quota::QuotaKind;

use super::{Check, rows};
use crate::namespace::keys::{self, table};
use crate::namespace::{Outcome, corrupt};
use crate::quota::{Subject, Taken};
use crate::usage;

impl Check<'_> {
    /// To be called last: inodes were added up on the way.
    pub(super) fn sums(&mut self) -> Outcome<()> {
        if self.stopped || self.cut {
            return Ok(());
        }
        let mut said: BTreeMap<Subject, Taken> = BTreeMap::new();
        self.each_row(table::OWNED, |_, (key, value)| {
            if rows::parses(key, value) {
                said.insert(subject(key)?, Taken::parse(key, value)?);
            }
            Ok(())
        })?;
        let (mut directories, mut owners) = (Vec::new(), 0);
        self.each_row(table::QUOTA, |_, (key, value)| {
            if rows::parses(key, value) {
                match subject(key)? {
                    (QuotaKind::Directory, ino) => directories.push(ino),
                    _ => owners += 1,
                }
            }
            Ok(())
        })?;
        self.volume_counts(directories.len() as u64, owners);
        let mut should = std::mem::take(&mut self.owned);
        for ino in directories {
            // Of a directory that is gone the row hangs.
            if let Ok(Some(below)) = usage::below_of(self.reader, self.volume, ino, usize::MAX) {
                should.insert((QuotaKind::Directory, ino), below.into());
            }
        }
        let counts_owners = self.record.owner_quotas > 0 && !self.record.clearing;
        let mut subjects: Vec<Subject> = said.keys().chain(should.keys()).copied().collect();
        subjects.sort_unstable();
        subjects.dedup();
        for subject in subjects {
            let is_directory = subject.0 == QuotaKind::Directory;
            if is_directory && !should.contains_key(&subject) || !is_directory && !counts_owners {
                continue;
            }
            let should = should.get(&subject).copied().unwrap_or_default();
            let add = should - said.get(&subject).copied().unwrap_or_default();
            if add != Taken::default() {
                self.quota_sum(subject, should, add);
            }
        }
        Ok(())
    }

    fn quota_sum(&mut self, (kind, id): Subject, should: Taken, add: Taken) {
        self.tell(Finding {
            fault: Fault::QuotaSum as i32,
            parent: kind as u64,
            ino: id,
            add: vec![add.blocks, add.inodes],
            text: format!(
                "the quota sum of {kind:?} {id} should be {} bytes and {} inodes, and is off by {} and {}",
                should.bytes(),
                should.inodes,
                add.blocks.saturating_mul(512),
                add.inodes
            ),
            ..Finding::default()
        });
    }

    fn volume_counts(&mut self, directories: u64, owners: u64) {
        let record = &self.record;
        let pairs = [
            (self.inodes, record.inodes),
            (self.bytes, record.used_bytes),
            (directories, record.directory_quotas.into()),
            (owners, record.owner_quotas.into()),
        ];
        let add: Vec<i64> = pairs
            .iter()
            .map(|(should, is)| i64::try_from(i128::from(*should) - i128::from(*is)).unwrap_or(0))
            .collect();
        if add.iter().all(|difference| *difference == 0) {
            return;
        }
        let text = format!(
            "the volume says that it has {} inodes, {} bytes, {} and {} quotas; it has {}, {}, {directories} and {owners}",
            record.inodes,
            record.used_bytes,
            record.directory_quotas,
            record.owner_quotas,
            self.inodes,
            self.bytes
        );
        self.tell(Finding { fault: Fault::VolumeCounts as i32, add, text, ..Finding::default() });
    }
}

fn subject(key: &[u8]) -> Outcome<Subject> {
    let parse = || {
        let kind = QuotaKind::try_from(i32::try_from(keys::word(key, 1)?).ok()?).ok()?;
        Some((kind, keys::word(key, 2)?))
    };
    parse().ok_or_else(|| corrupt("quota", key))
}
