//! What is kept under leases: attributes, link targets, extended attributes, names; and own changes of them.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use proto::mrc::{Attr, DirEntry, LeaseGrant, ReadDirReply, kind};

use super::crowd::CROWDS_MAX;
use super::entry::Listed;
use super::{KEEPS_ATTR, KEEPS_NAMES, Key, Leases, NAMES_MAX, Ticket};

/// Names of one directory that are kept with what they mean; of the others it is known that they may be there.
const NAMES_PER_DIRECTORY: usize = 65_536;
/// Extended attributes kept of one inode, and the length of one, bytes.
const XATTRS_PER_INODE: usize = 8;
const XATTR_BYTES: usize = 1024;

/// An answer without a call: known to be there, or known to be absent.
pub type Cached<T> = Option<Option<T>>;

impl Leases {
    /// Attributes, if they may be answered without a call.
    pub fn attr(&mut self, key: Key, now: Duration) -> Option<Attr> {
        let good = self.is_good(now);
        let entry = self.entries.get_mut(&key).filter(|entry| good && entry.bits & KEEPS_ATTR != 0)?;
        entry.used = true;
        entry.attr.clone()
    }

    /// A symlink's target, likewise.
    #[must_use]
    pub fn target(&self, key: Key, now: Duration) -> Option<Vec<u8>> {
        let good = self.is_good(now);
        self.entries.get(&key).filter(|entry| good && entry.bits & KEEPS_ATTR != 0)?.target.clone()
    }

    /// An extended attribute, or that it is not there.
    #[must_use]
    pub fn xattr(&self, key: Key, name: &[u8], now: Duration) -> Cached<Vec<u8>> {
        let good = self.is_good(now);
        self.entries.get(&key).filter(|entry| good && entry.bits & KEEPS_ATTR != 0)?.xattrs.get(name).cloned()
    }

    /// The inode that a name means, or that it is not there.
    pub fn name(&mut self, dir: Key, name: &[u8], now: Duration) -> Cached<u64> {
        let good = self.is_good(now);
        let entry = self.entries.get_mut(&dir).filter(|entry| good && entry.bits & KEEPS_NAMES != 0)?;
        entry.used = true;
        entry.name(name)
    }

    /// Whether a value that came with `grant` in the answer of `ticket` may be kept under one of `bits`.
    fn may_keep(&self, key: Key, grant: &LeaseGrant, ticket: Ticket, bits: u32) -> bool {
        ticket > self.forgotten
            && self.entries.get(&key).is_some_and(|entry| {
                let given = entry.still_granted(grant.bits, grant.number) & entry.bits & bits != 0;
                given && entry.changing == 0 && ticket > entry.changed
            })
    }

    /// Keeps attributes that came with `grant`.
    pub fn keep_attr(&mut self, volume: u64, attr: &Attr, grant: &LeaseGrant, ticket: Ticket) {
        let key = (volume, attr.ino);
        if !self.may_keep(key, grant, ticket, KEEPS_ATTR) {
            return;
        }
        let entry = self.entries.get_mut(&key).expect("it was just looked at");
        entry.directory = attr.mode >> 12 == kind::DIR;
        if entry.attr.as_ref().is_none_or(|kept| kept.change <= attr.change) {
            entry.attr = Some(attr.clone());
        }
        // The size of a directory is the number of its entries.
        if attr.mode >> 12 == kind::DIR && attr.size == 0 && self.may_keep(key, grant, ticket, KEEPS_NAMES) {
            let entry = self.entries.get_mut(&key).expect("it was just looked at");
            self.names -= entry.forget_names();
            entry.whole = true;
            entry.begin_order();
        }
    }

    /// Keeps a page of a directory that came with `grant`: its names, which follow the cookie `after` and end with the cookie
    /// `last`, the directory's end or not.
    pub fn keep_page(
        &mut self,
        dir: Key,
        names: &[DirEntry],
        (after, last, end): (u64, u64, bool),
        grant: &LeaseGrant,
        ticket: Ticket,
    ) {
        if !self.may_keep(dir, grant, ticket, KEEPS_NAMES) {
            return;
        }
        let mut complete = true;
        for DirEntry { name, ino, .. } in names {
            complete &= self.insert_name(dir, name, Some(*ino));
        }
        let room = NAMES_MAX.saturating_sub(self.names);
        let entry = self.entries.get_mut(&dir).expect("it was just looked at");
        if !complete {
            entry.listing = None;
            self.names -= entry.forget_order();
            return;
        }
        entry.listed(after, last, end);
        if names.len() > room {
            self.names -= entry.forget_order();
            return;
        }
        let listed = names.iter().map(|entry| Listed {
            cookie: entry.cookie,
            kind: entry.kind,
            name: entry.name.as_slice().into(),
        });
        let (added, dropped) = entry.extend_order(after, end, listed.collect());
        self.names += added;
        self.names -= dropped;
    }

    /// A page of a directory after the cookie `after`, if it may be answered without a call.
    pub fn page(
        &mut self,
        dir: Key,
        after: u64,
        limit: usize,
        with_attrs: bool,
        now: Duration,
    ) -> Option<ReadDirReply> {
        let good = self.is_good(now);
        let entry = self.entries.get_mut(&dir).filter(|entry| good && entry.bits & KEEPS_NAMES != 0)?;
        entry.used = true;
        let entry = self
            .entries
            .get(&dir)
            .filter(|entry| entry.ordered && entry.unplaced == 0 && entry.changing == 0)?;
        let mut entries = Vec::new();
        let from = entry.order.partition_point(|listed| listed.cookie <= after);
        let mut end = true;
        for Listed { cookie, kind, name } in &entry.order[from..] {
            let Some(ino) = entry.name(name)? else { continue };
            if entries.len() == limit {
                end = false;
                break;
            }
            let kept = |key| self.entries.get(&key).filter(|one| one.bits & KEEPS_ATTR != 0)?.attr.clone();
            let attr = if with_attrs { Some(kept((dir.0, ino))?) } else { None };
            entries.push(DirEntry { name: name.to_vec(), ino, kind: *kind, cookie: *cookie, attr });
        }
        Some(ReadDirReply { entries, end, ..ReadDirReply::default() })
    }

    /// Whether a directory can be listed once the MRC has said where names stand that were made here.
    #[must_use]
    pub fn awaits_order(&self, dir: Key) -> bool {
        self.entries.get(&dir).is_some_and(|entry| entry.ordered && entry.unplaced > 0)
    }

    /// The MRC has said where a name of `ino` stands that was made here.
    pub fn placed(&mut self, dir: Key, name: &[u8], (ino, kind): (u64, u32), cookie: u64) {
        let Some(entry) = self.entries.get_mut(&dir) else { return };
        let is_there = entry.names.get(name) == Some(&Some(ino));
        let (added, dropped) = entry.place(Listed { cookie, kind, name: name.into() }, is_there);
        self.names += added;
        self.names -= dropped;
    }

    /// Keeps where `..` of a directory leads, which came with `grant` on it.
    pub fn keep_parent(&mut self, key: Key, parent: u64, grant: &LeaseGrant, ticket: Ticket) {
        if self.may_keep(key, grant, ticket, KEEPS_ATTR) {
            self.entries.get_mut(&key).expect("it was just looked at").parent = Some(parent);
        }
    }

    /// Where `..` of a directory leads, if that may be answered without a call.
    #[must_use]
    pub fn parent(&self, key: Key, now: Duration) -> Option<u64> {
        let good = self.is_good(now);
        self.entries.get(&key).filter(|entry| good && entry.bits & KEEPS_ATTR != 0)?.parent
    }

    /// Keeps a name, or that it is not there, that came with `grant` on the directory.
    pub fn keep_name(&mut self, dir: Key, name: &[u8], ino: Option<u64>, grant: &LeaseGrant, ticket: Ticket) {
        if self.may_keep(dir, grant, ticket, KEEPS_NAMES) {
            let entry = self.entries.get_mut(&dir).expect("it was just looked at");
            if ino.is_some() && entry.ordered && entry.names.get(name) != Some(&ino) {
                self.names -= entry.forget_order();
            }
            self.insert_name(dir, name, ino);
        }
    }

    /// False when those before it were forgotten.
    pub(super) fn insert_name(&mut self, dir: Key, name: &[u8], ino: Option<u64>) -> bool {
        let Some(entry) = self.entries.get_mut(&dir) else { return false };
        if ino.is_none() && entry.whole && !entry.crowd.may_have(name) {
            // That goes without saying.
            self.names -= usize::from(entry.names.remove(name).is_some());
            return true;
        }
        if entry.names.len() >= NAMES_PER_DIRECTORY || self.names >= NAMES_MAX {
            let kept = entry.crowd_names();
            self.names -= kept;
            self.crowded += kept;
        }
        if self.names < NAMES_MAX {
            self.names += usize::from(entry.names.insert(name.to_vec(), ino).is_none());
        } else if ino.is_some() {
            entry.crowd.add(name);
            self.crowded += 1;
        }
        self.bound_crowds() != Some(dir)
    }

    /// Gives the directory that was forgotten, the one with the largest crowd, if there was no room for all.
    fn bound_crowds(&mut self) -> Option<Key> {
        if self.crowded < CROWDS_MAX {
            return None;
        }
        // Counted anew, for what was forgotten meanwhile was not taken off. It is a while until that has to be done again.
        self.crowded = self.entries.values().map(|entry| entry.crowd.len()).sum();
        if self.crowded < CROWDS_MAX / 2 {
            return None;
        }
        let (key, entry) = self.entries.iter_mut().max_by_key(|(_, entry)| entry.crowd.len())?;
        self.crowded -= entry.crowd.len();
        self.names -= entry.forget_names();
        Some(*key)
    }

    /// Keeps what an answer without grants brought: only under a lease that was there when the call began and that
    /// nothing has touched since.
    fn may_keep_more(&self, key: Key, ticket: Ticket, bits: u32) -> bool {
        ticket > self.forgotten
            && self.entries.get(&key).is_some_and(|entry| {
                let last = entry.changed.max(entry.recalled_at).max(entry.gained);
                entry.bits & bits != 0 && entry.changing == 0 && ticket > last
            })
    }

    /// Keeps that a name is not there.
    pub fn keep_absent(&mut self, dir: Key, name: &[u8], ticket: Ticket) {
        if self.may_keep_more(dir, ticket, KEEPS_NAMES) {
            self.insert_name(dir, name, None);
        }
    }

    /// Keeps a symlink's target.
    pub fn keep_target(&mut self, key: Key, target: &[u8], ticket: Ticket) {
        if self.may_keep_more(key, ticket, KEEPS_ATTR) {
            self.entries.get_mut(&key).expect("it was just looked at").target = Some(target.to_vec());
        }
    }

    /// Keeps an extended attribute, or that it is not there.
    pub fn keep_xattr(&mut self, key: Key, name: &[u8], value: Option<&[u8]>, ticket: Ticket) {
        if value.is_some_and(|value| value.len() > XATTR_BYTES)
            || !self.may_keep_more(key, ticket, KEEPS_ATTR)
        {
            return;
        }
        let entry = self.entries.get_mut(&key).expect("it was just looked at");
        if entry.xattrs.len() < XATTRS_PER_INODE {
            entry.xattrs.insert(name.to_vec(), value.map(<[u8]>::to_vec));
        }
    }

    /// This session begins to change an inode, or in a directory the name `name`.
    /// Gives what the name means at this moment; that stays so until the change is done, as long as nothing is recalled.
    pub fn change_begin(&mut self, key: Key, name: Option<&[u8]>, now: Duration) -> Cached<u64> {
        let meant = name.and_then(|name| self.name(key, name, now));
        let entry = self.entries.entry(key).or_default();
        entry.overlap |= entry.changing > 0;
        entry.changing += 1;
        entry.forget_attr();
        match name {
            Some(name) => self.names -= entry.move_begin(name),
            // It may be moved.
            None => entry.parent = None,
        }
        meant
    }

    /// The change is done or failed. With `attr` or the meaning of a name the state afterwards is known; it is kept when
    /// no other change of the inode, or of that name, by this session overlapped.
    /// `ticket` is the one of the changing call; `fresh`: its answer brought a lease for `attr`, which was read under it.
    pub fn change_end(
        &mut self,
        key: Key,
        ticket: Ticket,
        (attr, fresh): (Option<&Attr>, bool),
        name: Option<(&[u8], Cached<u64>)>,
    ) {
        let next = self.next;
        let on = self.on && ticket > self.forgotten;
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.changing = entry.changing.saturating_sub(1);
        entry.changed = next;
        // A recall in between, also one that was followed by a new grant, may have been for a later change.
        let good = on && ticket > entry.recalled_at;
        // A lease that came since the call began, otherwise than with its answer, does not cover what the answer tells:
        // others may have changed it before they lost their right to.
        let covered = ticket > entry.gained;
        let alone = !entry.overlap;
        if entry.changing == 0 {
            entry.overlap = false;
        }
        entry.forget_attr();
        if good && alone && (covered || fresh) && entry.bits & KEEPS_ATTR != 0 {
            entry.attr = attr.cloned();
        }
        let bare = entry.held() == 0;
        if let Some((name, meaning)) = name {
            let keeps = entry.move_end(name) && good && covered && entry.bits & KEEPS_NAMES != 0;
            match meaning {
                Some(None) => self.names -= entry.take_name(name),
                _ => self.names -= entry.forget_order(),
            }
            match meaning.filter(|_| keeps) {
                Some(ino) => drop(self.insert_name(key, name, ino)),
                None => {
                    entry.whole = false;
                    self.names -= usize::from(entry.names.remove(name).is_some());
                }
            }
        }
        if bare {
            self.mark(key);
        }
    }
}
