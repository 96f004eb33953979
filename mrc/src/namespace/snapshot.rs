//! Snapshots of a volume: making, removing, listing. See docs/protocols/snapshots.md.

use std::collections::BTreeSet;

use proto::error::{Code, WireError};
use proto::id::Ino;
use proto::mrc::Time;
use proto::snapshot::{ListSnapshots, SnapshotInfo, SnapshotRequest};
use rt::table::{Reader, Txn, prefix_end};

use crate::changes::subtree::path_of;

use super::keys::{self, table};
use super::name::Name;
use super::past::{self, Past};
use super::record::{unversioned, versioned};
use super::volume::{self, Moment, Volume};
use super::{Outcome, access, corrupt, inode, layers, refuse};

/// Snapshots of one volume at most.
pub const SNAPSHOTS_MAX: usize = 256;
/// Snapshot numbers have this many bits in the inode numbers that a mount shows; the last one stands for `.snap` there.
pub const NUMBER_BITS: u32 = 20;

/// Refuses a snapshot that does not exist.
pub fn exists(record: &Volume, id: u64) -> Outcome<()> {
    if record.snapshots.iter().any(|moment| moment.id == id) {
        return Ok(());
    }
    refuse(Code::Stale, format!("snapshot {id} of volume {:?} does not exist any more", record.name))
}

/// Why nothing of a snapshot is changed.
#[must_use]
pub fn read_only() -> WireError {
    WireError::new(
        Code::ReadOnly,
        "a snapshot cannot be changed; `xtfs snapshot restore` brings back what it shows",
    )
}

fn rows(reader: &(impl Reader + ?Sized), volume: u64) -> Outcome<Vec<SnapshotInfo>> {
    let prefix = keys::of_volume(table::SNAPSHOT, volume);
    let rows = reader.scan(&prefix, &prefix_end(&prefix), SNAPSHOTS_MAX)?;
    rows.iter().map(|(key, value)| unversioned(value).ok_or_else(|| corrupt("snapshot", key))).collect()
}

/// Makes a snapshot of what lies below a directory.
pub fn create(txn: &mut Txn<'_>, now: Time, ask: &SnapshotRequest) -> Outcome<SnapshotInfo> {
    let volume = ask.head.volume;
    let name = Name::parse_new(&ask.name)?;
    let directory = inode::directory(txn, volume, ask.ino)?;
    access::require_owner(&directory, &ask.head)?;
    let mut record = volume::live(txn, volume)?;
    if rows(txn, volume)?.iter().any(|row| row.directory == ask.ino && row.name == ask.name) {
        return refuse(
            Code::Exists,
            format!("a snapshot {name} of {} exists; choose another name", Ino(ask.ino)),
        );
    }
    if record.snapshots.len() >= SNAPSHOTS_MAX || record.last_snapshot + 1 >= (1 << NUMBER_BITS) - 1 {
        return refuse(
            Code::NoSpace,
            format!(
                "volume {:?} has {} snapshots ({} were made); {SNAPSHOTS_MAX} is the limit: remove some with `xtfs snapshot rm`",
                record.name,
                record.snapshots.len(),
                record.last_snapshot
            ),
        );
    }
    let id = record.last_snapshot + 1;
    record.last_snapshot = id;
    record.snapshots.push(Moment { id, next_ino: record.next_ino });
    volume::put(txn, volume, &record);
    let info = SnapshotInfo {
        id,
        name: ask.name.clone(),
        directory: ask.ino,
        created: now,
        uid: ask.head.uid,
        ..SnapshotInfo::default()
    };
    txn.put(keys::snapshot(volume, id), versioned(&info));
    Ok(info)
}

/// Removes a snapshot; what only it needed goes in [`sweep`]s. Also one whose directory is gone.
pub fn remove(txn: &mut Txn<'_>, ask: &SnapshotRequest) -> Outcome<()> {
    let volume = ask.head.volume;
    let found = rows(txn, volume)?.into_iter().find(|row| row.directory == ask.ino && row.name == ask.name);
    let Some(info) = found else {
        return refuse(
            Code::NotFound,
            format!(
                "{} has no snapshot {:?}; see `xtfs snapshot ls`",
                Ino(ask.ino),
                String::from_utf8_lossy(&ask.name)
            ),
        );
    };
    match inode::find(txn, volume, ask.ino)? {
        Some(directory) => access::require_owner(&directory, &ask.head)?,
        None if ask.head.uid == info.uid => {}
        None => access::require_root(&ask.head, "remove snapshots of directories that are gone")?,
    }
    let mut record = volume::live(txn, volume)?;
    record.snapshots.retain(|moment| moment.id != info.id);
    (record.sweeping, record.swept) = (true, Vec::new());
    volume::put(txn, volume, &record);
    txn.delete(keys::snapshot(volume, info.id));
    Ok(())
}

/// Snapshots that show a directory, or all.
pub fn list(reader: &(impl Reader + ?Sized), ask: &ListSnapshots) -> Outcome<Vec<SnapshotInfo>> {
    let volume = ask.head.volume;
    let mut all = rows(reader, volume)?;
    if ask.ino == 0 {
        for info in &mut all {
            match path_of(reader, volume, info.directory)? {
                Some(path) => info.path = path,
                None => info.detached = true,
            }
        }
        return Ok(all);
    }
    inode::directory(reader, volume, ask.ino)?;
    let above = way_up(reader, volume, ask.ino)?;
    let mut shown = Vec::new();
    for info in all.into_iter().filter(|info| above.contains(&info.directory)) {
        if inode::find(&Past::new(reader, info.id), volume, ask.ino)?.is_some() {
            shown.push(info);
        }
    }
    Ok(shown)
}

/// A directory and those above it.
fn way_up(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<BTreeSet<u64>> {
    let mut passed = BTreeSet::from([ino]);
    let mut at = ino;
    while let Some(directory) = inode::find(reader, volume, at)? {
        at = directory.parent;
        if !passed.insert(at) {
            break;
        }
    }
    Ok(passed)
}

/// A bounded step of removing what only removed snapshots needed.
pub fn sweep(txn: &mut Txn<'_>, volume: u64, limit: u32) -> Outcome<()> {
    let Some(mut record) = volume::find(txn, volume)?.filter(|record| record.sweeping) else { return Ok(()) };
    let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
    let in_past = record.swept.first().is_none_or(|table| *table == table::PAST);
    let next = match in_past {
        true => Some(match past::sweep(txn, volume, &record, &record.swept, limit)? {
            Some(next) => next,
            None => keys::of_volume(table::FROZEN, volume),
        }),
        false => layers::sweep(txn, volume, &record.swept, limit)?,
    };
    // What was let go has changed the record meanwhile.
    record = volume::find(txn, volume)?.unwrap_or(record);
    record.sweeping = next.is_some();
    record.swept = next.unwrap_or_default();
    volume::put(txn, volume, &record);
    Ok(())
}
