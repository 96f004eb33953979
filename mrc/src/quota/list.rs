//! Quotas as they are told.

use proto::error::Code;
use proto::mrc::Head;
use proto::quota::{ListQuotas, Quota, QuotaKind, QuotaLimits, QuotaList};
use rt::table::{Reader, prefix_end};

use super::{Subject, chain, limits, owned, owners};
use crate::changes::subtree::path_of;
use crate::namespace::keys::{self, table};
use crate::namespace::record::unversioned;
use crate::namespace::volume::{self, Volume};
use crate::namespace::{Outcome, access, corrupt, inode, refuse};

/// Quotas in one answer.
const PAGE: usize = 512;

/// One quota as it is now.
pub(super) fn show(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    record: &Volume,
    subject: Subject,
    limits: QuotaLimits,
) -> Outcome<Quota> {
    let used = owned(reader, volume, subject)?;
    let is_directory = subject.0 == QuotaKind::Directory;
    Ok(Quota {
        kind: subject.0 as i32,
        id: subject.1,
        limits,
        bytes: used.bytes(),
        inodes: used.count(),
        counting: !is_directory && !record.owners_bind(),
        path: if is_directory { path_of(reader, volume, subject.1)?.unwrap_or_default() } else { Vec::new() },
    })
}

/// The quota of a subject.
pub fn get(reader: &(impl Reader + ?Sized), volume: u64, subject: Subject) -> Outcome<Option<Quota>> {
    let record = volume::live(reader, volume)?;
    match limits(reader, volume, subject)? {
        Some(limits) => show(reader, volume, &record, subject, limits).map(Some),
        None => Ok(None),
    }
}

fn may_see(reader: &(impl Reader + ?Sized), head: &Head, (kind, id): Subject) -> Outcome<bool> {
    if head.uid == 0 || head.permission_checked {
        return Ok(true);
    }
    Ok(match kind {
        QuotaKind::User => u64::from(head.uid) == id,
        QuotaKind::Group => u32::try_from(id).is_ok_and(|gid| access::in_group(head, gid)),
        QuotaKind::Directory => {
            inode::find(reader, head.volume, id)?.is_some_and(|inode| access::allows(&inode, head, access::R))
        }
    })
}

/// A page of the volume's quotas, or all that apply to an inode.
pub fn list(reader: &(impl Reader + ?Sized), request: &ListQuotas) -> Outcome<QuotaList> {
    let volume = request.head.volume;
    let record = volume::live(reader, volume)?;
    let (found, more) = match request.applying_to {
        0 => page(reader, request)?,
        ino => (applying(reader, &record, volume, ino)?, false),
    };
    let mut list = QuotaList { end: !more, ..QuotaList::default() };
    for (subject, limits) in found {
        (list.after_kind, list.after_id) = (subject.0 as u32, subject.1);
        if may_see(reader, &request.head, subject)? {
            list.quotas.push(show(reader, volume, &record, subject, limits)?);
        }
    }
    Ok(list)
}

type Limited = (Subject, QuotaLimits);

fn page(reader: &(impl Reader + ?Sized), request: &ListQuotas) -> Outcome<(Vec<Limited>, bool)> {
    let volume = request.head.volume;
    let after = keys::quota(table::QUOTA, volume, request.after_kind.into(), request.after_id);
    let end = prefix_end(&keys::of_volume(table::QUOTA, volume));
    let rows = reader.scan(&keys::after(&after), &end, PAGE)?;
    let more = rows.len() == PAGE;
    let parse = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let parse = || {
            let kind = QuotaKind::try_from(i32::try_from(keys::word(key, 1)?).ok()?).ok()?;
            Some(((kind, keys::word(key, 2)?), unversioned(value)?))
        };
        parse().ok_or_else(|| corrupt("quota", key))
    };
    Ok((rows.iter().map(parse).collect::<Outcome<_>>()?, more))
}

fn applying(
    reader: &(impl Reader + ?Sized),
    record: &Volume,
    volume: u64,
    ino: u64,
) -> Outcome<Vec<Limited>> {
    let inode = inode::get(reader, volume, ino)?;
    let directory = if inode.is_dir() { ino } else { inode.parent };
    let mut subjects = owners(inode.attr.uid, inode.attr.gid).to_vec();
    if directory != 0 {
        let above = chain(reader, volume, record, directory)?;
        subjects.extend(above.into_iter().map(|directory| (QuotaKind::Directory, directory)));
    }
    let mut found = Vec::new();
    for subject in subjects {
        if let Some(limits) = limits(reader, volume, subject)? {
            found.push((subject, limits));
        }
    }
    Ok(found)
}

/// The subject that a request names.
pub fn subject(kind: i32, id: u64) -> Outcome<Subject> {
    match QuotaKind::try_from(kind) {
        Ok(kind) => Ok((kind, id)),
        Err(_) => refuse(Code::InvalidArgument, format!("quotas of kind {kind} do not exist")),
    }
}
