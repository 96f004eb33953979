//! Quotas: rows of limits and sums, what a change adds to them, and whether there is room for it.
//!
//! Pure and deterministic. Setting and counting in [`count`], what may still be written in [`room`], answers in
//! [`list`]. The argument is docs/protocols/quota.md.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod count;
pub mod list;
pub mod room;

use std::ops::{Add, Neg, Sub};

use proto::error::Code;
use proto::id::Ino;
use proto::mrc::{Attr, Head, kind};
use proto::quota::{QuotaKind, QuotaLimits};
use rt::table::{Reader, Txn};

use crate::namespace::inode::{self, Inode};
use crate::namespace::record::{Cursor, Writer, unversioned};
use crate::namespace::volume::{self, Volume};
use crate::namespace::{Outcome, corrupt, keys, refuse};
use crate::usage::{self, Amount};

/// Bytes of a unit of `st_blocks`.
pub const UNIT: u64 = 512;
/// Directories above one another at most; more is a circle in a damaged table.
const DEPTH_MAX: usize = 65_536;

/// What inodes take, or a change of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Taken {
    /// 512-byte units.
    pub blocks: i64,
    /// Inodes.
    pub inodes: i64,
}

impl Taken {
    /// What one inode takes.
    #[must_use]
    pub fn of(attr: &Attr) -> Self {
        Amount::of(attr).into()
    }

    pub(crate) fn parse(key: &[u8], value: &[u8]) -> Outcome<Self> {
        let parse = || {
            let mut c = Cursor::new(value)?;
            Some(Self { blocks: c.u64()?.cast_signed(), inodes: c.u64()?.cast_signed() })
        };
        parse().ok_or_else(|| corrupt("owned", key))
    }

    fn encode(self) -> Vec<u8> {
        Writer::new(17).u64(self.blocks.cast_unsigned()).u64(self.inodes.cast_unsigned()).0
    }

    /// Bytes; a sum below nothing counts as nothing.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::try_from(self.blocks).unwrap_or(0).saturating_mul(UNIT)
    }

    /// Inodes; likewise.
    #[must_use]
    pub fn count(self) -> u64 {
        u64::try_from(self.inodes).unwrap_or(0)
    }
}

impl From<Amount> for Taken {
    fn from(amount: Amount) -> Self {
        Self { blocks: amount.blocks, inodes: amount.files.saturating_add(amount.directories) }
    }
}

impl Add for Taken {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            blocks: self.blocks.saturating_add(other.blocks),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

impl Neg for Taken {
    type Output = Self;

    fn neg(self) -> Self {
        Self { blocks: -self.blocks, inodes: -self.inodes }
    }
}

impl Sub for Taken {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

/// Whom a sum is for, as in keys.
pub type Subject = (QuotaKind, u64);

fn key_of(table: u8, volume: u64, (kind, id): Subject) -> Vec<u8> {
    keys::quota(table, volume, kind as u64, id)
}

/// The limits of a subject, if it has a quota.
pub fn limits(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    subject: Subject,
) -> Outcome<Option<QuotaLimits>> {
    let key = key_of(keys::table::QUOTA, volume, subject);
    match reader.get(&key)? {
        Some(value) => Ok(Some(unversioned(&value).ok_or_else(|| corrupt("quota", &key))?)),
        None => Ok(None),
    }
}

/// What a subject takes, as far as it was counted.
pub fn owned(reader: &(impl Reader + ?Sized), volume: u64, subject: Subject) -> Outcome<Taken> {
    let key = key_of(keys::table::OWNED, volume, subject);
    match reader.get(&key)? {
        Some(value) => Taken::parse(&key, &value),
        None => Ok(Taken::default()),
    }
}

/// Writes a sum.
pub(crate) fn put_owned(txn: &mut Txn<'_>, volume: u64, subject: Subject, sum: Taken) {
    let key = key_of(keys::table::OWNED, volume, subject);
    if sum == Taken::default() {
        txn.delete(key);
    } else {
        txn.put(key, sum.encode());
    }
}

pub(crate) fn add(txn: &mut Txn<'_>, volume: u64, subject: Subject, more: Taken) -> Outcome<()> {
    if more == Taken::default() {
        return Ok(());
    }
    let sum = owned(txn, volume, subject)? + more;
    put_owned(txn, volume, subject, sum);
    Ok(())
}

impl Volume {
    /// Whether users' and groups' sums are complete, so that their limits bind.
    #[must_use]
    pub fn owners_bind(&self) -> bool {
        self.owner_quotas > 0 && self.counted == u64::MAX
    }

    /// Whether any quota binds.
    #[must_use]
    pub fn has_quota(&self) -> bool {
        self.owners_bind() || self.directory_quotas > 0
    }
}

pub(crate) fn owners(uid: u32, gid: u32) -> [Subject; 2] {
    [(QuotaKind::User, u64::from(uid)), (QuotaKind::Group, u64::from(gid))]
}

fn charge_owners(txn: &mut Txn<'_>, volume: u64, record: &Volume, attr: &Attr, more: Taken) -> Outcome<()> {
    if record.owner_quotas == 0 || attr.ino > record.counted {
        return Ok(());
    }
    for subject in owners(attr.uid, attr.gid) {
        add(txn, volume, subject, more)?;
    }
    Ok(())
}

/// An inode came to be.
pub fn created(txn: &mut Txn<'_>, volume: u64, record: &Volume, inode: &Inode) -> Outcome<()> {
    charge_owners(txn, volume, record, &inode.attr, Taken::of(&inode.attr))
}

/// An inode is freed.
pub fn freed(txn: &mut Txn<'_>, volume: u64, record: &mut Volume, inode: &Inode) -> Outcome<()> {
    charge_owners(txn, volume, record, &inode.attr, -Taken::of(&inode.attr))?;
    if inode.is_dir() && record.directory_quotas > 0 {
        count::forget_directory(txn, volume, record, inode.attr.ino)?;
    }
    Ok(())
}

/// An inode's owner or allocated space changed. Its directories are charged by [`usage::changed`].
pub fn changed(txn: &mut Txn<'_>, volume: u64, before: &Attr, after: &Attr) -> Outcome<()> {
    let same_owner = (before.uid, before.gid) == (after.uid, after.gid);
    if same_owner && Taken::of(before) == Taken::of(after) {
        return Ok(());
    }
    let Some(record) = volume::find(txn, volume)? else { return Ok(()) };
    charge_owners(txn, volume, &record, before, -Taken::of(before))?;
    charge_owners(txn, volume, &record, after, Taken::of(after))
}

/// The quota directories that count what lies in `directory`, the nearest first.
pub fn chain(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    record: &Volume,
    directory: u64,
) -> Outcome<Vec<u64>> {
    let mut chain = Vec::new();
    if record.directory_quotas == 0 {
        return Ok(chain);
    }
    let mut at = directory;
    for _ in 0..DEPTH_MAX {
        if reader.get(&keys::quota(keys::table::QUOTA, volume, QuotaKind::Directory as u64, at))?.is_some() {
            chain.push(at);
        }
        if at == Ino::ROOT.0 {
            return Ok(chain);
        }
        // A directory that is gone has no ancestors: nothing is left to be charged.
        let Some(inode) = inode::find(reader, volume, at)? else { return Ok(chain) };
        at = inode.parent;
    }
    Err(corrupt("circle of directories at", &keys::inode(volume, directory)))
}

/// A sum of a directory's quotas grows or shrinks.
pub fn charge(txn: &mut Txn<'_>, volume: u64, directory: u64, more: Taken) -> Outcome<()> {
    let Some(record) = volume::find(txn, volume)? else { return Ok(()) };
    for counted_by in chain(txn, volume, &record, directory)? {
        add(txn, volume, (QuotaKind::Directory, counted_by), more)?;
    }
    Ok(())
}

/// A file, or a new directory, came to a directory.
pub fn entered(txn: &mut Txn<'_>, volume: u64, directory: u64, inode: &Inode) -> Outcome<()> {
    charge(txn, volume, directory, Taken::of(&inode.attr))
}

/// A file left a directory.
pub fn left(txn: &mut Txn<'_>, volume: u64, directory: u64, inode: &Inode) -> Outcome<()> {
    charge(txn, volume, directory, -Taken::of(&inode.attr))
}

/// An inode moved, a directory with all that is below it. To be told before usage hears of it.
pub fn moved(txn: &mut Txn<'_>, volume: u64, (from, to): (u64, u64), inode: &Inode) -> Outcome<()> {
    let Some(record) = volume::find(txn, volume)? else { return Ok(()) };
    let (from, to) = (chain(txn, volume, &record, from)?, chain(txn, volume, &record, to)?);
    if from == to {
        return Ok(());
    }
    let whole = whole(txn, volume, inode)?;
    for (chain, other, more) in [(&from, &to, -whole), (&to, &from, whole)] {
        for directory in chain.iter().filter(|directory| !other.contains(directory)) {
            add(txn, volume, (QuotaKind::Directory, *directory), more)?;
        }
    }
    Ok(())
}

/// What an inode brings along: a directory everything below it. Looks at all that is pending: [`admit_move`] has folded.
fn whole(reader: &(impl Reader + ?Sized), volume: u64, inode: &Inode) -> Outcome<Taken> {
    let own = Taken::of(&inode.attr);
    if !inode.is_dir() || inode.attr.size == 0 {
        return Ok(own);
    }
    let below = usage::below_of(reader, volume, inode.attr.ino, usize::MAX)?;
    Ok(own + below.unwrap_or_default().into())
}

fn describe(subject: Subject) -> String {
    match subject {
        (QuotaKind::User, id) => format!("user {id}"),
        (QuotaKind::Group, id) => format!("group {id}"),
        (QuotaKind::Directory, id) => format!("directory {}", Ino(id)),
    }
}

/// Refuses what would make a growing sum of `subject` pass its limit.
pub fn admit(reader: &(impl Reader + ?Sized), volume: u64, subject: Subject, more: Taken) -> Outcome<()> {
    if more.inodes <= 0 && more.blocks <= 0 {
        return Ok(());
    }
    let Some(limits) = limits(reader, volume, subject)? else { return Ok(()) };
    let (used, sum) = {
        let used = owned(reader, volume, subject)?;
        (used, used + more)
    };
    let who = describe(subject);
    if more.inodes > 0 && limits.inodes > 0 && sum.count() > limits.inodes {
        return refuse(
            Code::QuotaExceeded,
            format!(
                "{who} has {} of {} inodes and {} more are needed; remove some, or have the quota raised (`xtfs quota set`)",
                used.count(),
                limits.inodes,
                more.inodes
            ),
        );
    }
    if more.blocks > 0 && limits.bytes > 0 && sum.bytes() > limits.bytes {
        return refuse(
            Code::QuotaExceeded,
            format!(
                "{who} has {} of {} bytes and {} more are needed; remove files, or have the quota raised (`xtfs quota set`)",
                used.bytes(),
                limits.bytes,
                more.bytes()
            ),
        );
    }
    Ok(())
}

/// A new inode of this owner, in a directory unless it has no name.
pub fn admit_new(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    record: &Volume,
    owner: (u32, u32),
    directory: Option<u64>,
) -> Outcome<()> {
    let one = Taken { blocks: 0, inodes: 1 };
    if record.owners_bind() {
        for subject in owners(owner.0, owner.1) {
            admit(reader, volume, subject, one)?;
        }
    }
    let Some(directory) = directory else { return Ok(()) };
    for counted_by in chain(reader, volume, record, directory)? {
        admit(reader, volume, (QuotaKind::Directory, counted_by), one)?;
    }
    Ok(())
}

/// An inode gets another owner or group. Root's doing is counted, never refused.
pub fn admit_owner(reader: &(impl Reader + ?Sized), head: &Head, before: &Attr, after: &Attr) -> Outcome<()> {
    if head.uid == 0 || (before.uid, before.gid) == (after.uid, after.gid) {
        return Ok(());
    }
    if !volume::find(reader, head.volume)?.is_some_and(|record| record.owners_bind()) {
        return Ok(());
    }
    let old = owners(before.uid, before.gid);
    for subject in owners(after.uid, after.gid).into_iter().filter(|subject| !old.contains(subject)) {
        admit(reader, head.volume, subject, Taken::of(after))?;
    }
    Ok(())
}

/// An inode gets another name in `directory`. One that has a name already must be counted by the same quotas there.
pub fn admit_link(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    inode: &Inode,
    directory: u64,
) -> Outcome<()> {
    let Some(record) = volume::find(reader, volume)? else { return Ok(()) };
    let there = chain(reader, volume, &record, directory)?;
    if inode.parent == 0 {
        for counted_by in there {
            admit(reader, volume, (QuotaKind::Directory, counted_by), Taken::of(&inode.attr))?;
        }
        return Ok(());
    }
    if chain(reader, volume, &record, inode.parent)? == there {
        return Ok(());
    }
    refuse(
        Code::CrossVolume,
        format!("{} would have names under different directory quotas; copy it", Ino(inode.attr.ino)),
    )
}

/// A rename.
pub struct Shift<'a> {
    /// From directory.
    pub from: u64,
    /// To directory.
    pub to: u64,
    /// What moves.
    pub moved: &'a Inode,
    /// What was there before.
    pub other: Option<&'a Inode>,
    /// It changes places with what moves; else it is replaced.
    pub exchange: bool,
}

/// Whether the quotas allow a rename.
pub fn admit_move(txn: &mut Txn<'_>, volume: u64, shift: &Shift<'_>) -> Outcome<()> {
    let Some(record) = volume::find(txn, volume)?.filter(|record| record.directory_quotas > 0) else {
        return Ok(());
    };
    let (from, to) = (chain(txn, volume, &record, shift.from)?, chain(txn, volume, &record, shift.to)?);
    if from == to {
        return Ok(());
    }
    let exchanged = shift.other.filter(|_| shift.exchange);
    for inode in [Some(shift.moved), exchanged].into_iter().flatten() {
        if !inode.is_dir() && inode.attr.nlink > 1 {
            return refuse(
                Code::CrossVolume,
                format!(
                    "{} has several names, which would be under different directory quotas; copy it",
                    Ino(inode.attr.ino)
                ),
            );
        }
    }
    if shift.moved.is_dir() {
        // Bounds what has to be added up here and when it moves.
        usage::below_folded(txn, volume, shift.moved.attr.ino)?;
    }
    let comes = whole(txn, volume, shift.moved)?;
    let goes = match shift.other {
        // A name that was not the file's home took nothing.
        Some(other) if other.parent == shift.to && (other.is_dir() || other.attr.nlink == 1) => {
            whole(txn, volume, other)?
        }
        _ => Taken::default(),
    };
    for directory in to.iter().filter(|directory| !from.contains(directory)) {
        admit(txn, volume, (QuotaKind::Directory, *directory), comes - goes)?;
    }
    if shift.exchange {
        for directory in from.iter().filter(|directory| !to.contains(directory)) {
            admit(txn, volume, (QuotaKind::Directory, *directory), goes - comes)?;
        }
    }
    Ok(())
}

/// Whether an inode may have a directory quota.
pub(crate) fn is_directory(attr: &Attr) -> bool {
    attr.mode >> 12 == kind::DIR
}
