//! Volume records: defaults, counters, and making and dropping volumes.

use proto::error::Code;
use proto::id::{Ino, VolumeId};
use proto::mrc::{InitVolume, Time, kind};
use proto::stripe::Striping;
use rt::table::{Reader, Txn, prefix_end};

use super::inode::{self, Body, FIRST_COOKIE, Inode};
use super::keys::{self, table};
use super::record::{unversioned, versioned};
use super::{Outcome, collect, corrupt, refuse};

/// A volume's row.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Volume {
    /// Name, for messages.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Defaults for new files.
    #[prost(message, required, tag = "2")]
    pub striping: Striping,
    /// The next inode number. Only grows.
    #[prost(uint64, tag = "3")]
    pub next_ino: u64,
    /// Inodes in use.
    #[prost(uint64, tag = "4")]
    pub inodes: u64,
    /// Sum of the sizes of regular files.
    #[prost(uint64, tag = "5")]
    pub used_bytes: u64,
    /// Being dropped: nothing new is made in it.
    #[prost(bool, tag = "6")]
    pub dropping: bool,
    /// Quotas of directories.
    #[prost(uint32, tag = "7")]
    pub directory_quotas: u32,
    /// Quotas of users and groups.
    #[prost(uint32, tag = "8")]
    pub owner_quotas: u32,
    /// The greatest inode number that is in the users' and groups' sums; the greatest there is: all are.
    #[prost(uint64, tag = "9")]
    pub counted: u64,
    /// Sums of an earlier count have to go first.
    #[prost(bool, tag = "10")]
    pub clearing: bool,
    /// What is removed is kept this long, milliseconds; 0: it is not.
    #[prost(uint64, tag = "13")]
    pub keep_ms: u64,
    /// The directory of what was removed; 0: there was none yet.
    #[prost(uint64, tag = "14")]
    pub trash_dir: u64,
    /// Directories may have defaults of their own.
    #[prost(bool, tag = "15")]
    pub layouts: bool,
    /// Being loaded from a dump: nothing else is made in it.
    #[prost(bool, tag = "12")]
    pub loading: bool,
    /// Repairs by `fsck`.
    #[prost(uint64, tag = "11")]
    pub repairs: u64,
    /// Snapshots, the oldest first.
    #[prost(message, repeated, tag = "16")]
    pub snapshots: Vec<Moment>,
    /// The number of the last snapshot. Only grows.
    #[prost(uint64, tag = "17")]
    pub last_snapshot: u64,
    /// What only removed snapshots needed has to go.
    #[prost(bool, tag = "18")]
    pub sweeping: bool,
    /// Where that goes on.
    #[prost(bytes = "vec", tag = "19")]
    pub swept: Vec<u8>,
    /// Some files share data.
    #[prost(bool, tag = "20")]
    pub layered: bool,
    /// Some files are, or may have to be, erasure-coded.
    #[prost(bool, tag = "21")]
    pub coding: bool,
}

/// When a snapshot was made, in the volume's own count.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Moment {
    /// The snapshot's number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The next inode number then: what has a smaller one was there.
    #[prost(uint64, tag = "2")]
    pub next_ino: u64,
}

impl Volume {
    /// The newest snapshot that exists.
    #[must_use]
    pub fn newest_snapshot(&self) -> Option<Moment> {
        self.snapshots.last().copied()
    }
}

/// The record if the volume is known here.
pub fn find(reader: &(impl Reader + ?Sized), volume: u64) -> Outcome<Option<Volume>> {
    let key = keys::volume(volume);
    match reader.get(&key)? {
        Some(value) => Ok(Some(unversioned(&value).ok_or_else(|| corrupt("volume", &key))?)),
        None => Ok(None),
    }
}

/// The record of a volume that is in use.
pub fn live(reader: &(impl Reader + ?Sized), volume: u64) -> Outcome<Volume> {
    match find(reader, volume)? {
        Some(record) if record.loading => refuse(
            Code::Busy,
            format!(
                "volume {:?} is being loaded from a dump (or that was broken off: `xtfs rmfs` it)",
                record.name
            ),
        ),
        Some(record) if !record.dropping => Ok(record),
        Some(record) => refuse(Code::NotFound, format!("volume {:?} is being removed", record.name)),
        None => refuse(Code::NotFound, format!("{} is not known to this metadata group", VolumeId(volume))),
    }
}

/// Writes the record.
pub fn put(txn: &mut Txn<'_>, volume: u64, record: &Volume) {
    txn.put(keys::volume(volume), versioned(record));
}

/// Takes inode numbers that nothing else will have; gives the first.
pub fn reserve(txn: &mut Txn<'_>, volume: u64, count: u32) -> Outcome<u64> {
    let mut record = live(txn, volume)?;
    let first = record.next_ino;
    record.next_ino += u64::from(count);
    put(txn, volume, &record);
    Ok(first)
}

/// A file's size went from `old` to `new`.
pub fn resized(txn: &mut Txn<'_>, volume: u64, old: u64, new: u64) -> Outcome<()> {
    if old == new {
        return Ok(());
    }
    if let Some(mut record) = find(txn, volume)? {
        record.used_bytes = record.used_bytes.saturating_sub(old).saturating_add(new);
        put(txn, volume, &record);
    }
    Ok(())
}

/// Makes a volume and its root; a repeat changes nothing.
pub fn init(txn: &mut Txn<'_>, now: Time, request: &InitVolume) -> Outcome<()> {
    if request.volume == 0 {
        return refuse(Code::InvalidArgument, "volume 0 does not exist");
    }
    match find(txn, request.volume)? {
        Some(record) if record.dropping => {
            return refuse(Code::Exists, format!("{} is being removed", VolumeId(request.volume)));
        }
        Some(_) => return Ok(()),
        None => {}
    }
    let striping = match request.striping.check() {
        Ok(striping) => striping,
        Err(why) => return refuse(Code::InvalidArgument, format!("volume {:?}: {why}", request.name)),
    };
    let body = Body::Directory { next_cookie: FIRST_COOKIE };
    let mode = kind::DIR << 12 | request.mode & 0o7777;
    let root = Inode::new(Ino::ROOT.0, mode, (request.uid, request.gid), now, body).at_home(Ino::ROOT.0, 0);
    inode::put(txn, request.volume, &root);
    let record = Volume {
        name: request.name.clone(),
        striping,
        next_ino: Ino::ROOT.0 + 1,
        inodes: 1,
        coding: striping.coding.is_some(),
        ..Volume::default()
    };
    put(txn, request.volume, &record);
    Ok(())
}

/// Starts dropping a volume; one that is gone is no error. The rows go in [`drop_step`]s.
pub fn start_drop(txn: &mut Txn<'_>, volume: u64) -> Outcome<()> {
    if let Some(mut record) = find(txn, volume)? {
        record.dropping = true;
        record.snapshots.clear();
        put(txn, volume, &record);
    }
    Ok(())
}

/// Removes up to `limit` rows of a volume that is being dropped; files become garbage. True when nothing is left.
pub fn drop_step(txn: &mut Txn<'_>, volume: u64, limit: u32) -> Outcome<bool> {
    match find(txn, volume)? {
        None => return Ok(true),
        Some(record) if !record.dropping => {
            return refuse(Code::Busy, format!("{} is in use, not being removed", VolumeId(volume)));
        }
        Some(_) => {}
    }
    let mut left = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
    for table in keys::VOLUME_TABLES {
        let prefix = keys::of_volume(table, volume);
        let rows = txn.scan(&prefix, &prefix_end(&prefix), left)?;
        left -= rows.len();
        for (key, _) in rows {
            txn.delete(key);
        }
        if left == 0 {
            return Ok(false);
        }
    }
    let prefix = keys::of_volume(table::INODE, volume);
    let rows = txn.scan(&prefix, &prefix_end(&prefix), left)?;
    let finished = rows.len() < left;
    for (key, value) in rows {
        let inode = inode::parse(&key, &value)?;
        if !inode.shares().gone {
            collect::discard(txn, volume, &inode)?;
        }
        txn.delete(key);
    }
    if finished {
        txn.delete(keys::volume(volume));
    }
    Ok(finished)
}

/// Volumes of this group, ascending by id.
pub fn list(reader: &(impl Reader + ?Sized)) -> Outcome<Vec<(u64, Volume)>> {
    let prefix = [table::VOLUME];
    let mut out = Vec::new();
    for (key, value) in reader.scan(&prefix, &prefix_end(&prefix), usize::MAX)? {
        let id = keys::word(&key, 0).ok_or_else(|| corrupt("volume", &key))?;
        out.push((id, unversioned(&value).ok_or_else(|| corrupt("volume", &key))?));
    }
    Ok(out)
}
