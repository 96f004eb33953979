//! Names made, moved and taken away under the right to make them (`W` of the directory) before the MRC hears of them, and the files that they lead to: what
//! is held of these is **early**, until the answer brings grants. See `docs/protocols/async-create.md`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use proto::limits::LINKS_MAX;
use proto::mrc::{
    Attr, KeptAttributes, LEASE_ATTR, LEASE_NAMES, LEASE_READ, LEASE_WRITE, LeaseGrant, Time, kind,
};

use super::entry::Entry;
use super::{KEEPS_ATTR, Key, Leases, Ticket};
use crate::engine::kept;

/// What it takes of a directory.
pub(super) const MAKES: u32 = LEASE_ATTR | LEASE_NAMES | LEASE_WRITE;
/// What the maker of a file holds of it.
pub(super) const EARLY: u32 = LEASE_ATTR | LEASE_READ | LEASE_WRITE;

/// A file that may be moved without asking: attributes before.
#[derive(Clone, Debug, PartialEq)]
pub struct Moving {
    /// Of the directory that it leaves.
    pub from_dir: Attr,
    /// Of the directory that it comes to.
    pub to_dir: Attr,
    /// Its own.
    pub file: Attr,
    /// Of the file that loses its only name.
    pub replaced: Option<Attr>,
}

impl Leases {
    /// The directory's attributes, when a name that is not there may be made in it without asking.
    #[must_use]
    pub fn may_make(&mut self, dir: Key, name: &[u8], now: Duration) -> Option<Attr> {
        let good = self.is_good(now) && !self.is_crowded();
        let entry = self.entries.get_mut(&dir)?;
        if !good || !entry.is_free(MAKES) || entry.name(name) != Some(None) {
            return None;
        }
        entry.used = true;
        entry.attr.clone()
    }

    /// A file was made there, which nobody else knows.
    pub fn made(&mut self, dir: Key, name: &[u8], attr: &Attr) {
        let key = (dir.0, attr.ino);
        self.named(dir, name, Some(attr.ino), (1, attr.mtime));
        self.hold_early(key, EARLY, attr);
    }

    /// A directory was made there, which nobody else knows and in which nothing is.
    pub fn made_directory(&mut self, dir: Key, name: &[u8], attr: &Attr) {
        let key = (dir.0, attr.ino);
        self.named(dir, name, Some(attr.ino), (1, attr.mtime));
        if let Some(of_dir) = self.entries.get_mut(&dir).and_then(|entry| entry.attr.as_mut()) {
            of_dir.nlink = of_dir.nlink.saturating_add(1);
        }
        let entry = self.hold_early(key, MAKES, attr);
        (entry.directory, entry.whole, entry.parent) = (true, true, Some(dir.1));
        entry.begin_order();
    }

    /// What nobody else knows is held without its having been given.
    fn hold_early(&mut self, key: Key, bits: u32, attr: &Attr) -> &mut Entry {
        let next = self.next;
        let entry = self.entries.entry(key).or_default();
        if entry.bits == 0 {
            self.holding += 1;
            self.order.push_back(key);
        }
        entry.bits |= bits;
        entry.early |= bits;
        (entry.changed, entry.gained) = (next, next);
        entry.attr = Some(attr.clone());
        entry
    }

    /// The attributes of a directory, when they may be changed without asking: nobody else may look at them.
    #[must_use]
    pub fn may_set(&mut self, dir: Key, now: Duration) -> Option<Attr> {
        let good = self.is_good(now);
        let entry = self.entries.get_mut(&dir)?;
        if !good || !entry.is_free(MAKES) || !entry.directory {
            return None;
        }
        entry.used = true;
        entry.attr.clone()
    }

    /// They were changed. Gives them.
    pub fn set(&mut self, dir: Key, kept: &KeptAttributes) -> Option<Attr> {
        let next = self.next;
        let entry = self.entries.get_mut(&dir)?;
        entry.changed = next;
        // Lists of who may do what, as they were asked for.
        entry.xattrs.clear();
        let attr = entry.attr.as_mut()?;
        kept::show(kept, attr);
        Some(attr.clone())
    }

    /// Since when nobody else can have changed a directory: the last call that had begun when that was so.
    #[must_use]
    pub fn alone_since(&self, dir: Key, now: Duration) -> Option<Ticket> {
        let entry = self.entries.get(&dir).filter(|_| self.is_good(now))?;
        (entry.bits & MAKES == MAKES && entry.losing == 0).then_some(entry.gained)
    }

    /// The attributes of a directory and of a file, when that may be given a further name there without asking.
    #[must_use]
    pub fn may_link(&mut self, dir: Key, name: &[u8], ino: u64, now: Duration) -> Option<(Attr, Attr)> {
        let crowded = self.is_crowded();
        let (of_dir, None) = self.may_change(dir, name, now)? else { return None };
        let of_file = self.is_ours((dir.0, ino)).filter(|attr| (1..LINKS_MAX).contains(&attr.nlink))?;
        (!crowded).then(|| (of_dir, of_file.clone()))
    }

    /// A file has a further name. Gives its attributes.
    pub fn linked(&mut self, dir: Key, name: &[u8], ino: u64, at: Time) -> Option<Attr> {
        self.named(dir, name, Some(ino), (1, at));
        self.counted((dir.0, ino), 1, at)
    }

    /// A file has so many names more.
    fn counted(&mut self, key: Key, names: i32, at: Time) -> Option<Attr> {
        let next = self.next;
        let entry = self.entries.get_mut(&key)?;
        entry.changed = next;
        entry.untold += 1;
        let attr = entry.attr.as_mut()?;
        attr.nlink = attr.nlink.saturating_add_signed(names);
        attr.ctime = attr.ctime.max(at);
        Some(attr.clone())
    }

    /// The attributes of a directory and of a file in it a name of which may be taken away without asking: what else is to be known of the
    /// file nobody else may ask for, either.
    #[must_use]
    pub fn may_remove(&mut self, dir: Key, name: &[u8], now: Duration) -> Option<(Attr, Attr)> {
        let (of_dir, ino) = self.may_change(dir, name, now)?;
        let of_file = self.is_ours((dir.0, ino?)).filter(|attr| attr.nlink > 0)?.clone();
        Some((of_dir, of_file))
    }

    /// Likewise of a directory: nobody else may look into it, and there is nothing in it.
    #[must_use]
    pub fn may_remove_directory(&mut self, dir: Key, name: &[u8], now: Duration) -> Option<(Attr, Attr)> {
        let (of_dir, ino) = self.may_change(dir, name, now)?;
        let entry = self.entries.get(&(dir.0, ino?))?;
        let attr = entry.attr.as_ref().filter(|attr| entry.is_free(MAKES) && attr.mode >> 12 == kind::DIR)?;
        (attr.size == 0 && attr.flags == 0 && attr.nlink > 0).then(|| (of_dir, attr.clone()))
    }

    /// What there is to know of a move that may be made without asking.
    #[must_use]
    pub fn may_move(&mut self, from: (Key, &[u8]), to: (Key, &[u8]), now: Duration) -> Option<Moving> {
        let (from_dir, ino) = self.may_change(from.0, from.1, now)?;
        let (to_dir, replaced) = self.may_change(to.0, to.1, now)?;
        let of_file = self.is_ours((from.0.0, ino?))?.clone();
        let replaced = match replaced {
            // Two names of one file both stay.
            Some(replaced) if Some(replaced) == ino => return None,
            Some(replaced) => Some(self.is_ours((to.0.0, replaced)).filter(|attr| attr.nlink == 1)?.clone()),
            None => None,
        };
        Some(Moving { from_dir, to_dir, file: of_file, replaced })
    }

    /// Files of a directory that are not ours alone, by what its names are known to mean: at most `most` of those that follow
    /// `first`, itself among them. In the order of the directory where that is known, for that is how files are made, listed and gone through;
    /// else by number, which is mostly the same.
    #[must_use]
    pub fn siblings(&self, dir: Key, first: u64, most: usize) -> Vec<u64> {
        let Some(entry) = self.entries.get(&dir) else { return vec![first] };
        let is_other = |ino: &u64| *ino != first && self.is_ours((dir.0, *ino)).is_none();
        let most = most.saturating_sub(1);
        let mut inos: Vec<u64> = if entry.ordered {
            let files = entry.order.iter().filter(|listed| listed.kind != kind::DIR);
            let meant: Vec<u64> =
                files.filter_map(|listed| entry.names.get(&listed.name[..]).copied().flatten()).collect();
            // Behind those at the end come those at the beginning.
            let at = meant.iter().position(|ino| *ino == first).unwrap_or(0);
            let (before, behind) = meant.split_at(at);
            behind.iter().chain(before).copied().filter(is_other).take(most).collect()
        } else {
            let mut others: Vec<u64> = entry.names.values().flatten().copied().filter(is_other).collect();
            if others.len() > most {
                others.select_nth_unstable_by_key(most, |ino| ino.wrapping_sub(first));
                others.truncate(most);
            }
            others
        };
        inos.push(first);
        inos
    }

    /// What somebody who takes away one name of a tree after the other comes to when `dir` is through: directories of which all
    /// names and the attributes are known, and files in them, that are not ours alone; so many of each at most.
    #[must_use]
    pub fn next_in_tree(&self, dir: Key, most_dirs: usize, most_files: usize) -> (Vec<u64>, Vec<u64>) {
        let (mut dirs, mut files) = (Vec::new(), Vec::new());
        let Some(parent) = self.entries.get(&dir).and_then(|entry| entry.parent) else {
            return (dirs, files);
        };
        self.add_if_not_ours(parent, dir.0, &mut dirs);
        // What is still to be gone through, the next one last.
        let mut left: Vec<u64> = self.directories_in((dir.0, parent), Some(dir.1));
        left.reverse();
        while let Some(next) = left.pop() {
            let Some(entry) = self.entries.get(&(dir.0, next)).filter(|entry| entry.whole) else { continue };
            if dirs.len() >= most_dirs {
                break;
            }
            self.add_if_not_ours(next, dir.0, &mut dirs);
            let (file, key) = (kind::FILE, |ino| (dir.0, ino));
            let is_file = |ino: &u64| {
                let attr = self.entries.get(&key(*ino)).and_then(|entry| entry.attr.as_ref());
                attr.is_some_and(|attr| attr.mode >> 12 == file) && self.is_ours(key(*ino)).is_none()
            };
            let in_it: Vec<u64> = entry.names.values().flatten().copied().filter(is_file).collect();
            if files.len() + in_it.len() > most_files {
                break;
            }
            files.extend(in_it);
            let mut below = self.directories_in(key(next), None);
            below.reverse();
            left.extend(below);
        }
        (dirs, files)
    }

    fn add_if_not_ours(&self, ino: u64, volume: u64, dirs: &mut Vec<u64>) {
        let entry = self.entries.get(&(volume, ino));
        if entry.is_some_and(|entry| entry.bits & MAKES != MAKES && entry.attr.is_some()) {
            dirs.push(ino);
        }
    }

    /// Directories in a directory that was listed to its end, in that order, behind `after`.
    fn directories_in(&self, dir: Key, after: Option<u64>) -> Vec<u64> {
        let Some(entry) = self.entries.get(&dir).filter(|entry| entry.ordered) else { return Vec::new() };
        let listed = entry.order.iter().filter(|listed| listed.kind == kind::DIR);
        let mut all = listed.filter_map(|listed| entry.names.get(&listed.name[..]).copied().flatten());
        if let Some(after) = after
            && !all.by_ref().any(|ino| ino == after)
        {
            return Vec::new();
        }
        all.collect()
    }

    /// A directory whose names this session alone may use, and what one of them means.
    fn may_change(&mut self, dir: Key, name: &[u8], now: Duration) -> Option<(Attr, Option<u64>)> {
        if !self.is_good(now) {
            return None;
        }
        let entry = self.entries.get_mut(&dir)?;
        if !entry.is_free(MAKES) {
            return None;
        }
        let ino = entry.name(name)?;
        entry.used = true;
        Some((entry.attr.clone()?, ino))
    }

    /// A file of which nobody else knows anything. What is still being written to it does not matter; but it may not be getting
    /// another name.
    fn is_ours(&self, key: Key) -> Option<&Attr> {
        let file = self.entries.get(&key)?;
        file.attr
            .as_ref()
            .filter(|attr| file.is_free(EARLY) && attr.mode >> 12 == kind::FILE && attr.flags == 0)
    }

    /// The name is taken away: nothing is answered of a file that has no other any more without asking.
    pub fn removed(&mut self, dir: Key, name: &[u8], ino: u64, at: Time) {
        self.named(dir, name, None, (-1, at));
        let key = (dir.0, ino);
        let names = self.entries.get(&key).and_then(|entry| entry.attr.as_ref()).map_or(0, |attr| attr.nlink);
        if names > 1 && !self.is_directory(key) {
            self.counted(key, -1, at);
        } else {
            self.gone(key);
        }
    }

    /// Likewise, of a directory.
    pub fn removed_directory(&mut self, dir: Key, name: &[u8], ino: u64, at: Time) {
        self.removed(dir, name, ino, at);
        if let Some(attr) = self.entries.get_mut(&dir).and_then(|entry| entry.attr.as_mut()) {
            attr.nlink = attr.nlink.saturating_sub(1);
        }
        if let Some(gone) = self.entries.get_mut(&(dir.0, ino)) {
            self.names -= gone.forget_names();
        }
    }

    /// The file has moved.
    pub fn moved(&mut self, from: (Key, &[u8]), to: (Key, &[u8]), moving: &Moving, at: Time) {
        let ino = moving.file.ino;
        self.named(from.0, from.1, None, (-1, at));
        self.named(to.0, to.1, Some(ino), (i64::from(moving.replaced.is_none()), at));
        let next = self.next;
        if let Some(entry) = self.entries.get_mut(&(from.0.0, ino)) {
            entry.changed = next;
            entry.untold += 1;
            if let Some(attr) = &mut entry.attr {
                attr.ctime = attr.ctime.max(at);
            }
        }
        if let Some(replaced) = &moving.replaced {
            self.gone((to.0.0, replaced.ino));
        }
    }

    /// Whether the MRC has yet to hear of names that an inode was given, lost or changed here.
    #[must_use]
    pub fn is_untold(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.untold > 0)
    }

    /// The MRC has heard of one.
    pub fn told_name(&mut self, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.untold = entry.untold.saturating_sub(1);
        }
    }

    /// A name of a directory means something else.
    fn named(&mut self, dir: Key, name: &[u8], ino: Option<u64>, (entries, at): (i64, Time)) {
        let next = self.next;
        if let Some(entry) = self.entries.get_mut(&dir) {
            // Answers that are on their way do not tell of it.
            entry.changed = next;
            entry.listing = None;
            match ino {
                // The MRC will say where.
                Some(_) => {
                    entry.unplaced += u32::from(entry.ordered);
                    if matches!(entry.names.get(name), Some(Some(_))) {
                        self.names -= entry.take_name(name);
                    }
                }
                None => self.names -= entry.take_name(name),
            }
            if let Some(of_dir) = &mut entry.attr {
                of_dir.size = of_dir.size.saturating_add_signed(entries);
                of_dir.mtime = of_dir.mtime.max(at);
                of_dir.ctime = of_dir.ctime.max(at);
            }
        }
        self.insert_name(dir, name, ino);
    }

    fn gone(&mut self, key: Key) {
        let next = self.next;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.changed = next;
            entry.forget_attr();
        }
    }

    /// The MRC has answered for it. Gives the bits that did not come and were not recalled meanwhile: what was done under them
    /// has to be told before anybody else may look.
    pub fn confirm(&mut self, volume: u64, attr: &Attr, grants: &[LeaseGrant], ticket: Ticket) -> u32 {
        let key = (volume, attr.ino);
        let early = self.take_early(key);
        if early == 0 {
            return 0;
        }
        if let Some(grant) = grants.iter().find(|grant| grant.ino == attr.ino) {
            self.granted(volume, grant, ticket);
        }
        let Some(entry) = self.entries.get_mut(&key) else { return early };
        if entry.bits & KEEPS_ATTR == 0 {
            entry.forget_attr();
        } else if let Some(kept) = entry.attr.as_mut().filter(|_| entry.changing == 0 && !entry.directory) {
            // A directory may have changed since it was told of. Of a file that has another name since only that counts more.
            let names = (entry.untold > 0).then_some((kept.nlink, kept.ctime, kept.change));
            kept.clone_from(attr);
            if let Some((nlink, ctime, change)) = names {
                (kept.nlink, kept.ctime, kept.change) =
                    (nlink, ctime.max(attr.ctime), change.max(attr.change));
            }
        }
        let missing = early & !entry.held();
        if entry.bits == 0 {
            self.mark(key);
        }
        missing
    }

    /// The MRC did not take what was done: what the name means, and the file, are asked for.
    pub fn forget_early(&mut self, key: Key, dir: Key, name: &[u8]) {
        self.take_early(key);
        self.mark(key);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.forget_attr();
        }
        let next = self.next;
        if let Some(entry) = self.entries.get_mut(&dir) {
            entry.changed = next;
            entry.forget_attr();
            self.names -= usize::from(entry.names.remove(name).is_some()) + entry.forget_order();
            entry.whole = false;
        }
    }

    /// Ends that something is held early; gives what.
    fn take_early(&mut self, key: Key) -> u32 {
        let Some(entry) = self.entries.get_mut(&key) else { return 0 };
        let early = std::mem::take(&mut entry.early);
        if entry.bits != 0 && entry.bits & !early == 0 {
            self.holding -= 1;
        }
        entry.bits &= !early;
        early
    }

    /// Whether names may be made in an inode: then it is a directory.
    #[must_use]
    pub fn is_directory(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.directory)
    }
}
