//! Setting quotas, and counting what users and groups own while the volume is in use.

use proto::error::Code;
use proto::id::{Ino, VolumeId};
use proto::quota::{Quota, QuotaKind, QuotaLimits, SetQuota};
use rt::table::{Reader, Txn, prefix_end};

use super::{Subject, Taken, add, is_directory, key_of, limits, list, put_owned};
use crate::namespace::inode::{self};
use crate::namespace::keys::{self, table};
use crate::namespace::record::versioned;
use crate::namespace::volume::{self, Volume};
use crate::namespace::{Outcome, refuse};
use crate::usage;

/// Quotas of owners and of directories in one volume, each.
const QUOTAS_MAX: u32 = 1 << 20;

/// Sets, changes or removes a quota and gives it.
pub fn set(txn: &mut Txn<'_>, request: &SetQuota) -> Outcome<Quota> {
    let volume = request.head.volume;
    let mut record = volume::live(txn, volume)?;
    let subject = subject_of(txn, request)?;
    let known = limits(txn, volume, subject)?;
    match request.limits {
        Some(wanted) => {
            if wanted == QuotaLimits::default() {
                return refuse(Code::InvalidArgument, "a quota without limits; `xtfs quota rm` removes one");
            }
            if known.is_none() {
                begin(txn, volume, &mut record, subject)?;
            }
            txn.put(key_of(table::QUOTA, volume, subject), versioned(&wanted));
        }
        None if known.is_none() => {
            return refuse(Code::NotFound, format!("{} has no such quota", VolumeId(volume)));
        }
        None => remove(txn, volume, &mut record, subject),
    }
    volume::put(txn, volume, &record);
    list::show(txn, volume, &record, subject, request.limits.or(known).unwrap_or_default())
}

fn subject_of(txn: &Txn<'_>, request: &SetQuota) -> Outcome<Subject> {
    let kind = match QuotaKind::try_from(request.kind) {
        Ok(kind) => kind,
        Err(_) => {
            return refuse(Code::InvalidArgument, format!("quotas of kind {} do not exist", request.kind));
        }
    };
    match kind {
        QuotaKind::Directory => {
            let inode = inode::get(txn, request.head.volume, request.id)?;
            if !is_directory(&inode.attr) {
                return refuse(Code::NotDirectory, format!("{} is not a directory", Ino(request.id)));
            }
        }
        QuotaKind::User | QuotaKind::Group => {
            if request.id == 0 || u32::try_from(request.id).is_err() {
                return refuse(
                    Code::InvalidArgument,
                    format!("user and group {} cannot have a quota; root has none", request.id),
                );
            }
        }
    }
    Ok((kind, request.id))
}

fn begin(txn: &mut Txn<'_>, volume: u64, record: &mut Volume, subject: Subject) -> Outcome<()> {
    let counter = match subject.0 {
        QuotaKind::Directory => &mut record.directory_quotas,
        _ => &mut record.owner_quotas,
    };
    if *counter >= QUOTAS_MAX {
        return refuse(Code::NoSpace, format!("the volume has {QUOTAS_MAX} such quotas, the limit"));
    }
    *counter += 1;
    if subject.0 == QuotaKind::Directory {
        let below = usage::below_folded(txn, volume, subject.1)?;
        put_owned(txn, volume, subject, below.into());
    } else if record.owner_quotas == 1 {
        (record.counted, record.clearing) = (0, true);
    }
    Ok(())
}

fn remove(txn: &mut Txn<'_>, volume: u64, record: &mut Volume, subject: Subject) {
    txn.delete(key_of(table::QUOTA, volume, subject));
    if subject.0 == QuotaKind::Directory {
        txn.delete(key_of(table::OWNED, volume, subject));
        record.directory_quotas = record.directory_quotas.saturating_sub(1);
        return;
    }
    record.owner_quotas = record.owner_quotas.saturating_sub(1);
    if record.owner_quotas == 0 {
        (record.counted, record.clearing) = (0, false);
    }
}

/// A directory is freed: its quota goes with it.
pub(super) fn forget_directory(txn: &mut Txn<'_>, volume: u64, record: &mut Volume, ino: u64) -> Outcome<()> {
    let subject = (QuotaKind::Directory, ino);
    if limits(txn, volume, subject)?.is_some() {
        remove(txn, volume, record, subject);
    }
    Ok(())
}

/// Whether a volume's owners still have to be counted.
#[must_use]
pub fn is_due(record: &Volume) -> bool {
    record.owner_quotas > 0 && record.counted != u64::MAX && !record.dropping
}

/// Counts what up to `limit` further inodes take (or removes as many stale sums first).
pub fn step(txn: &mut Txn<'_>, volume: u64, limit: u32) -> Outcome<()> {
    let Some(mut record) = volume::find(txn, volume)?.filter(is_due) else { return Ok(()) };
    let limit = limit.max(1) as usize;
    if record.clearing {
        record.clearing = clear(txn, volume, limit)?;
        volume::put(txn, volume, &record);
        return Ok(());
    }
    let from = keys::inode(volume, record.counted.saturating_add(1));
    let rows = txn.scan(&from, &prefix_end(&keys::of_volume(table::INODE, volume)), limit)?;
    let finished = rows.len() < limit;
    for (key, value) in rows {
        let inode = inode::parse(&key, &value)?;
        let (counts, attr) = (!inode.is_hidden(), inode.attr);
        for subject in super::owners(attr.uid, attr.gid).into_iter().filter(|_| counts) {
            add(txn, volume, subject, Taken::of(&attr))?;
        }
        record.counted = attr.ino;
    }
    if finished {
        record.counted = u64::MAX;
    }
    volume::put(txn, volume, &record);
    Ok(())
}

/// Removes sums of a count before this one; true when there may be more.
fn clear(txn: &mut Txn<'_>, volume: u64, limit: usize) -> Outcome<bool> {
    let from = keys::quota(table::OWNED, volume, QuotaKind::User as u64, 0);
    let to = keys::quota(table::OWNED, volume, QuotaKind::Directory as u64, 0);
    let rows = txn.scan(&from, &to, limit)?;
    let more = rows.len() == limit;
    for (key, _) in rows {
        txn.delete(key);
    }
    Ok(more)
}
