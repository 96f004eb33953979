//! Names made, moved and taken away under the right to make them (`W` of the directory) before the MRC hears of them, and the files that they lead to: what
//! is held of these is **early**, until the answer brings grants. See `docs/protocols/async-create.md`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use proto::limits::LINKS_MAX;
use proto::mrc::{
    Attr, KeptAttributes, LEASE_ATTR, LEASE_NAMES, LEASE_READ, LEASE_WRITE, LeaseGrant, Time, kind,
};

use super::{KEEPS_ATTR, Key, Leases, Ticket};
use crate::engine::kept;

/// What it takes of a directory.
const MAKES: u32 = LEASE_ATTR | LEASE_NAMES | LEASE_WRITE;
/// What the maker of a file holds of it.
const EARLY: u32 = LEASE_ATTR | LEASE_READ | LEASE_WRITE;

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
        let free = entry.bits & MAKES == MAKES && entry.losing == 0 && entry.changing == 0;
        if !good || !free || entry.name(name) != Some(None) {
            return None;
        }
        entry.used = true;
        entry.attr.clone()
    }

    /// A file was made there, which nobody else knows.
    pub fn made(&mut self, dir: Key, name: &[u8], attr: &Attr) {
        let (key, next) = ((dir.0, attr.ino), self.next);
        self.named(dir, name, Some(attr.ino), (1, attr.mtime));
        let entry = self.entries.entry(key).or_default();
        if entry.bits == 0 {
            self.holding += 1;
            self.order.push_back(key);
        }
        entry.bits |= EARLY;
        entry.early |= EARLY;
        (entry.changed, entry.gained) = (next, next);
        entry.attr = Some(attr.clone());
    }

    /// A directory was made there, which nobody else knows and in which nothing is.
    pub fn made_directory(&mut self, dir: Key, name: &[u8], attr: &Attr) {
        let (key, next) = ((dir.0, attr.ino), self.next);
        self.named(dir, name, Some(attr.ino), (1, attr.mtime));
        if let Some(of_dir) = self.entries.get_mut(&dir).and_then(|entry| entry.attr.as_mut()) {
            of_dir.nlink = of_dir.nlink.saturating_add(1);
        }
        let entry = self.entries.entry(key).or_default();
        if entry.bits == 0 {
            self.holding += 1;
            self.order.push_back(key);
        }
        entry.bits |= MAKES;
        entry.early |= MAKES;
        (entry.changed, entry.gained) = (next, next);
        (entry.directory, entry.whole, entry.parent) = (true, true, Some(dir.1));
        entry.attr = Some(attr.clone());
    }

    /// The attributes of a directory, when they may be changed without asking: nobody else may look at them.
    #[must_use]
    pub fn may_set(&mut self, dir: Key, now: Duration) -> Option<Attr> {
        let good = self.is_good(now);
        let entry = self.entries.get_mut(&dir)?;
        let ours = entry.bits & MAKES == MAKES && entry.losing == 0 && entry.changing == 0;
        if !good || !ours || !entry.directory {
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
        let ours = entry.bits & MAKES == MAKES && entry.losing == 0 && entry.changing == 0;
        let attr = entry.attr.as_ref().filter(|attr| ours && attr.mode >> 12 == kind::DIR)?;
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
        if entry.bits & MAKES != MAKES || entry.losing != 0 || entry.changing != 0 {
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
        let ours = file.bits & EARLY == EARLY && file.losing == 0 && file.changing == 0;
        file.attr.as_ref().filter(|attr| ours && attr.mode >> 12 == kind::FILE && attr.flags == 0)
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
            if let Some(attr) = &mut entry.attr {
                attr.ctime = attr.ctime.max(at);
            }
        }
        if let Some(replaced) = &moving.replaced {
            self.gone((to.0.0, replaced.ino));
        }
    }

    /// A name of a directory means something else.
    fn named(&mut self, dir: Key, name: &[u8], ino: Option<u64>, (entries, at): (i64, Time)) {
        let next = self.next;
        if let Some(entry) = self.entries.get_mut(&dir) {
            // Answers that are on their way do not tell of it.
            entry.changed = next;
            entry.listing = None;
            if ino.is_some() {
                // It comes to another place.
                self.names -= entry.forget_order();
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
        } else if entry.attr.is_some() && entry.changing == 0 && !entry.directory {
            // A directory may have changed since it was told of.
            entry.attr = Some(attr.clone());
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

#[cfg(test)]
mod tests {
    use proto::mrc::Recall;

    use super::super::{Permit, Use};
    use super::*;

    const DIR: Key = (1, 5);
    const FILE: Key = (1, 70);
    const NOW: Duration = Duration::from_secs(10);

    fn time(seconds: i64) -> Time {
        Time { seconds, nanos: 0 }
    }

    fn directory() -> Attr {
        let (mode, mtime) = (kind::DIR << 12 | 0o755, time(3));
        Attr { ino: DIR.1, mode, nlink: 2, mtime, change: 4, ..Attr::default() }
    }

    fn file() -> Attr {
        Attr { ino: FILE.1, mode: kind::FILE << 12, nlink: 1, mtime: time(9), change: 1, ..Attr::default() }
    }

    fn grant(ino: u64, bits: u32, number: u64) -> LeaseGrant {
        LeaseGrant { ino, bits, number }
    }

    /// An empty directory in which names may be made.
    fn maker() -> Leases {
        let mut leases = Leases::default();
        leases.turn_on();
        leases.renewed(Duration::from_secs(60));
        let ticket = leases.begin();
        let given = grant(DIR.1, MAKES, 10);
        leases.granted(1, &given, ticket);
        leases.keep_attr(1, &directory(), &given, ticket);
        leases.end(ticket);
        leases
    }

    #[test]
    fn a_name_is_made_where_it_is_known_to_be_absent_and_others_cannot_look() {
        let mut leases = maker();
        assert!(leases.may_make(DIR, b"x", NOW).is_some());
        leases.made(DIR, b"x", &file());
        assert_eq!(leases.may_make(DIR, b"x", NOW), None, "it is there");
        assert_eq!(leases.name(DIR, b"x", NOW), Some(Some(FILE.1)));
        let dir = leases.attr(DIR, NOW).unwrap();
        assert_eq!((dir.size, dir.mtime, dir.change), (1, time(9), 4));
        assert_eq!(leases.attr(FILE, NOW), Some(file()));
        assert_eq!(leases.try_use(FILE, Use::Write, NOW), Permit::Granted);
        leases.release(FILE, Use::Write);
        assert!(leases.held().iter().all(|held| held.ino != FILE.1), "no leader is told of it");
        // Past the time of the leases, and while somebody wants the directory.
        assert_eq!(leases.may_make(DIR, b"y", Duration::from_secs(61)), None);
        leases.recalled(&Recall {
            recall: 1,
            volume: 1,
            ino: DIR.1,
            bits: LEASE_WRITE,
            number: 10,
            tell_handles: false,
        });
        assert_eq!(leases.may_make(DIR, b"y", NOW), None);
        assert_eq!(leases.name(DIR, b"x", NOW), Some(Some(FILE.1)), "names are kept still");
    }

    #[test]
    fn the_answer_brings_grants_or_says_what_did_not_come() {
        for (given, missing) in
            [(Some(EARLY), 0), (Some(LEASE_ATTR | LEASE_READ), LEASE_WRITE), (None, EARLY)]
        {
            let mut leases = maker();
            leases.made(DIR, b"x", &file());
            let ticket = leases.begin();
            let grants: Vec<LeaseGrant> = given.map(|bits| grant(FILE.1, bits, 20)).into_iter().collect();
            assert_eq!(leases.confirm(1, &file(), &grants, ticket), missing);
            leases.end(ticket);
            let held = leases.held().iter().find(|held| held.ino == FILE.1).map(|held| held.bits);
            assert_eq!(held, given);
            assert_eq!(leases.attr(FILE, NOW).is_some(), given.is_some());
            assert_eq!(leases.len(), 1 + usize::from(given.is_some()));
            assert_eq!(leases.confirm(1, &file(), &grants, ticket), 0, "once");
        }
    }

    #[test]
    fn a_recall_that_overtakes_the_answer_is_not_missing() {
        let mut leases = maker();
        leases.made(DIR, b"x", &file());
        let ticket = leases.begin();
        let recall =
            Recall { recall: 30, volume: 1, ino: FILE.1, bits: LEASE_WRITE, number: 20, tell_handles: false };
        leases.recalled(&recall);
        assert_eq!(leases.try_use(FILE, Use::Write, NOW), Permit::Ask);
        assert_eq!(leases.confirm(1, &file(), &[grant(FILE.1, EARLY, 20)], ticket), 0);
        assert_eq!(leases.bits(FILE, NOW), LEASE_ATTR | LEASE_READ);
        assert_eq!(leases.returned(&recall).bits, LEASE_WRITE);
        assert_eq!(
            leases.held().iter().find(|held| held.ino == FILE.1).unwrap().bits,
            LEASE_ATTR | LEASE_READ
        );
    }

    #[test]
    fn what_the_mrc_did_not_take_is_not_there_and_asked_for() {
        let mut leases = maker();
        leases.made(DIR, b"x", &file());
        leases.forget_early(FILE, DIR, b"x");
        assert_eq!(leases.name(DIR, b"x", NOW), None);
        assert_eq!((leases.attr(FILE, NOW), leases.attr(DIR, NOW)), (None, None));
        assert_eq!(leases.len(), 1);
    }

    #[test]
    fn a_file_is_removed_where_others_cannot_look_at_it() {
        let mut leases = maker();
        leases.made(DIR, b"x", &file());
        assert!(leases.may_remove(DIR, b"x", NOW).is_some(), "also when the MRC has yet to hear of it");
        let ticket = leases.begin();
        leases.confirm(1, &file(), &[grant(FILE.1, EARLY, 20)], ticket);
        leases.end(ticket);
        assert_eq!(leases.may_remove(DIR, b"y", NOW), None, "not there");
        assert_eq!(leases.may_remove(DIR, b"x", Duration::from_secs(61)), None, "past the leases");
        let (of_dir, of_file) = leases.may_remove(DIR, b"x", NOW).unwrap();
        assert_eq!((of_dir.size, of_file.ino), (1, FILE.1));
        leases.removed(DIR, b"x", FILE.1, time(11));
        assert_eq!(leases.name(DIR, b"x", NOW), Some(None));
        let dir = leases.attr(DIR, NOW).unwrap();
        assert_eq!((dir.size, dir.mtime, dir.ctime), (0, time(11), time(11)));
        assert_eq!(leases.attr(FILE, NOW), None, "it is asked for");
        assert!(leases.may_make(DIR, b"x", NOW).is_some());
        assert_eq!(leases.bits(FILE, NOW), EARLY, "others ask us for it until the MRC has removed it");
        leases.freed(FILE);
        assert_eq!(leases.len(), 1);
    }

    #[test]
    fn a_file_moves_and_what_it_replaces_is_gone() {
        let mut leases = maker();
        leases.made(DIR, b"x", &file());
        let other = Attr { ino: 71, ..file() };
        leases.made(DIR, b"y", &other);
        let moving = leases.may_move((DIR, b"x"), (DIR, b"z"), NOW).unwrap();
        assert_eq!((moving.file.ino, moving.replaced.is_none()), (FILE.1, true));
        leases.moved((DIR, b"x"), (DIR, b"z"), &moving, time(11));
        assert_eq!(leases.name(DIR, b"x", NOW), Some(None));
        assert_eq!(leases.name(DIR, b"z", NOW), Some(Some(FILE.1)));
        assert_eq!(leases.attr(FILE, NOW).unwrap().ctime, time(11));
        let dir = leases.attr(DIR, NOW).unwrap();
        assert_eq!((dir.size, dir.mtime), (2, time(11)));
        assert_eq!(leases.may_move((DIR, b"x"), (DIR, b"z"), NOW), None, "not there any more");
        assert_eq!(leases.may_move((DIR, b"z"), (DIR, b"z"), NOW), None, "nothing to do");
        let moving = leases.may_move((DIR, b"z"), (DIR, b"y"), NOW).unwrap();
        assert_eq!(moving.replaced.as_ref().map(|attr| attr.ino), Some(71));
        leases.moved((DIR, b"z"), (DIR, b"y"), &moving, time(12));
        assert_eq!(leases.name(DIR, b"y", NOW), Some(Some(FILE.1)));
        assert_eq!((leases.attr(DIR, NOW).unwrap().size, leases.attr((1, 71), NOW)), (1, None));
        // Into a directory that others may use.
        assert_eq!(leases.may_move((DIR, b"y"), ((1, 6), b"y"), NOW), None);
    }

    #[test]
    fn a_directory_is_made_and_filled_before_the_mrc_hears_of_it() {
        let inner = Attr { ino: 20, nlink: 2, size: 0, ..directory() };
        let key = (1, 20);
        let mut leases = maker();
        assert!(leases.may_make(DIR, b"sub", NOW).is_some());
        leases.made_directory(DIR, b"sub", &inner);
        let of_dir = leases.attr(DIR, NOW).unwrap();
        assert_eq!((of_dir.size, of_dir.nlink, leases.attr(key, NOW)), (1, 3, Some(inner.clone())));
        assert!(leases.held().iter().all(|held| held.ino != 20), "no leader is told of it");
        assert_eq!(leases.name(key, b"x", NOW), Some(None), "it is empty");
        assert!(leases.may_make(key, b"x", NOW).is_some());
        leases.made(key, b"x", &file());
        let kept = KeptAttributes { mode: Some(0o700), ctime: time(20), ..KeptAttributes::default() };
        assert!(leases.may_set(key, NOW).is_some());
        let set = leases.set(key, &kept).unwrap();
        assert_eq!((set.mode, set.ctime, set.size), (kind::DIR << 12 | 0o700, time(20), 1));
        assert_eq!(leases.may_set(FILE, NOW), None, "a file is set otherwise");
        let ticket = leases.begin();
        assert_eq!(leases.confirm(1, &inner, &[grant(20, MAKES, 20)], ticket), 0);
        leases.end(ticket);
        assert_eq!(leases.attr(key, NOW), Some(set), "the answer knows less");
        assert_eq!(
            (leases.name(key, b"x", NOW), leases.name(key, b"y", NOW)),
            (Some(Some(FILE.1)), Some(None))
        );
        assert!(leases.held().iter().any(|held| (held.ino, held.bits) == (20, MAKES)));
        assert_eq!(leases.may_set(key, Duration::from_secs(61)), None, "past the leases");
    }

    #[test]
    fn a_file_gets_a_further_name_and_goes_with_its_last() {
        let mut leases = maker();
        leases.made(DIR, b"x", &file());
        assert_eq!(leases.may_link(DIR, b"x", FILE.1, NOW), None, "the name is taken");
        assert_eq!(leases.may_link(DIR, b"y", 99, NOW), None, "not ours");
        assert_eq!(leases.may_link(DIR, b"y", FILE.1, Duration::from_secs(61)), None, "past the leases");
        let (of_dir, of_file) = leases.may_link(DIR, b"y", FILE.1, NOW).unwrap();
        assert_eq!((of_dir.size, of_file.nlink), (1, 1));
        let linked = leases.linked(DIR, b"y", FILE.1, time(11)).unwrap();
        assert_eq!((linked.nlink, linked.ctime, leases.attr(FILE, NOW)), (2, time(11), Some(linked.clone())));
        assert_eq!(leases.name(DIR, b"y", NOW), Some(Some(FILE.1)));
        assert_eq!(leases.may_move((DIR, b"x"), (DIR, b"y"), NOW), None, "both stay");
        let (_, of_file) = leases.may_remove(DIR, b"x", NOW).unwrap();
        leases.removed(DIR, b"x", of_file.ino, time(12));
        let left = leases.attr(FILE, NOW).unwrap();
        assert_eq!((left.nlink, left.ctime, leases.attr(DIR, NOW).unwrap().size), (1, time(12), 1));
        leases.removed(DIR, b"y", FILE.1, time(13));
        assert_eq!((leases.attr(FILE, NOW), leases.attr(DIR, NOW).unwrap().size), (None, 0));
        let full = Attr { nlink: LINKS_MAX, ..file() };
        let mut leases = maker();
        leases.made(DIR, b"x", &full);
        assert_eq!(leases.may_link(DIR, b"y", FILE.1, NOW), None, "the MRC refuses it");
    }

    #[test]
    fn what_was_removed_before_the_mrc_heard_of_it_stays_so_with_the_answer() {
        let mut leases = maker();
        leases.made(DIR, b"x", &file());
        leases.removed(DIR, b"x", FILE.1, time(11));
        let ticket = leases.begin();
        assert_eq!(leases.confirm(1, &file(), &[grant(FILE.1, EARLY, 20)], ticket), 0);
        leases.end(ticket);
        assert_eq!((leases.name(DIR, b"x", NOW), leases.attr(FILE, NOW)), (Some(None), None));
        leases.freed(FILE);
        assert_eq!(leases.len(), 1);
    }

    #[test]
    fn what_others_may_know_of_is_the_mrcs_to_remove() {
        let recall =
            |ino, bits, number| Recall { recall: 1, volume: 1, ino, bits, number, tell_handles: false };
        let with = |given: u32, attr: Attr| {
            let mut leases = maker();
            let ticket = leases.begin();
            let grant = grant(FILE.1, given, 20);
            leases.granted(1, &grant, ticket);
            leases.keep_attr(1, &attr, &grant, ticket);
            leases.insert_name(DIR, b"x", Some(FILE.1));
            leases.end(ticket);
            leases
        };
        assert!(with(EARLY, file()).may_remove(DIR, b"x", NOW).is_some());
        assert_eq!(with(LEASE_ATTR | LEASE_READ, file()).may_remove(DIR, b"x", NOW), None);
        for attr in [
            Attr { flags: 1, ..file() },
            Attr { mode: kind::DIR << 12, ..file() },
            Attr { mode: kind::FIFO << 12, ..file() },
        ] {
            assert_eq!(with(EARLY, attr.clone()).may_remove(DIR, b"x", NOW), None, "{attr:?}");
        }
        for what in [recall(FILE.1, LEASE_WRITE, 20), recall(DIR.1, LEASE_WRITE, 10)] {
            let mut leases = with(EARLY, file());
            leases.recalled(&what);
            assert_eq!(leases.may_remove(DIR, b"x", NOW), None);
        }
        let mut leases = with(EARLY, file());
        leases.change_begin(FILE, None, NOW);
        assert_eq!(leases.may_remove(DIR, b"x", NOW), None, "it may be getting another name");
    }

    #[test]
    fn a_right_that_comes_later_serves_for_names_that_were_known_before() {
        let mut leases = Leases::default();
        leases.turn_on();
        leases.renewed(Duration::from_secs(60));
        let ticket = leases.begin();
        let given = grant(DIR.1, LEASE_NAMES | LEASE_ATTR, 1);
        leases.granted(1, &given, ticket);
        leases.keep_name(DIR, b"x", Some(FILE.1), &given, ticket);
        leases.end(ticket);
        // The kernel looks whether the new name is there.
        let ticket = leases.begin();
        leases.keep_absent(DIR, b"y", ticket);
        leases.end(ticket);
        assert_eq!(leases.may_move((DIR, b"x"), (DIR, b"y"), NOW), None);
        let ticket = leases.begin();
        let of_dir = Attr { size: 1, ..directory() };
        for (of, bits, number) in [(of_dir, MAKES, 2), (file(), EARLY, 3)] {
            let given = grant(of.ino, bits, number);
            leases.granted(1, &given, ticket);
            leases.keep_attr(1, &of, &given, ticket);
        }
        leases.end(ticket);
        assert!(leases.may_move((DIR, b"x"), (DIR, b"y"), NOW).is_some());
        assert!(leases.may_remove(DIR, b"x", NOW).is_some());
    }

    #[test]
    fn siblings_are_files_that_are_not_ours_by_number() {
        let mut leases = maker();
        let ticket = leases.begin();
        for ino in 10..20 {
            leases.keep_name(DIR, format!("{ino}").as_bytes(), Some(ino), &grant(DIR.1, MAKES, 9), ticket);
        }
        assert_eq!(
            leases.siblings(DIR, 17, 4).iter().copied().collect::<std::collections::BTreeSet<_>>(),
            [10, 17, 18, 19].into()
        );
        assert_eq!(leases.siblings(DIR, 17, 100).len(), 10);
        assert_eq!(leases.siblings((1, 99), 5, 4), [5]);
    }

    #[test]
    fn an_empty_directory_that_nobody_else_may_look_into_is_removed() {
        let inner = Attr { ino: 20, nlink: 2, ..directory() };
        let with = |bits: u32, size: u64| {
            let mut leases = Leases::default();
            leases.turn_on();
            leases.renewed(Duration::from_secs(60));
            let ticket = leases.begin();
            let of_dir = Attr { size: 1, nlink: 3, ..directory() };
            for (of, bits) in [(of_dir, MAKES), (Attr { size, ..inner.clone() }, bits)] {
                let given = grant(of.ino, bits, 10);
                leases.granted(1, &given, ticket);
                leases.keep_attr(1, &of, &given, ticket);
            }
            leases.keep_name(DIR, b"sub", Some(20), &grant(DIR.1, MAKES, 10), ticket);
            leases.end(ticket);
            leases
        };
        assert_eq!(with(MAKES, 1).may_remove_directory(DIR, b"sub", NOW), None, "there is something in it");
        assert_eq!(with(LEASE_ATTR | LEASE_NAMES, 0).may_remove_directory(DIR, b"sub", NOW), None);
        let mut leases = with(MAKES, 0);
        assert_eq!(leases.may_remove(DIR, b"sub", NOW), None, "it is no file");
        let (of_dir, removed) = leases.may_remove_directory(DIR, b"sub", NOW).unwrap();
        assert_eq!((of_dir.nlink, removed.ino), (3, 20));
        leases.removed_directory(DIR, b"sub", 20, Time::default());
        let of_dir = leases.attr(DIR, NOW).unwrap();
        assert_eq!((of_dir.size, of_dir.nlink), (0, 2));
        assert_eq!((leases.attr((1, 20), NOW), leases.name(DIR, b"sub", NOW)), (None, Some(None)));
        assert_eq!(leases.may_make((1, 20), b"x", NOW), None, "nothing is made in it any more");
        let mut leases = with(MAKES, 0);
        leases.recalled(&Recall {
            recall: 1,
            volume: 1,
            ino: 20,
            bits: LEASE_WRITE,
            number: 10,
            tell_handles: false,
        });
        assert_eq!(leases.may_remove_directory(DIR, b"sub", NOW), None, "somebody looks into it");
    }

    #[test]
    fn answers_that_were_on_their_way_do_not_undo_it() {
        let mut leases = maker();
        let ticket = leases.begin();
        leases.made(DIR, b"x", &file());
        let given = grant(DIR.1, MAKES, 11);
        leases.granted(1, &given, ticket);
        leases.keep_attr(1, &directory(), &given, ticket);
        leases.keep_absent(DIR, b"x", ticket);
        assert_eq!(leases.name(DIR, b"x", NOW), Some(Some(FILE.1)));
        assert_eq!(leases.attr(DIR, NOW).unwrap().size, 1);
    }

    #[test]
    fn who_lost_everything_has_made_nothing() {
        let mut leases = maker();
        leases.made(DIR, b"x", &file());
        assert_eq!(leases.expelled(), [DIR, FILE], "the kernel forgets both");
        assert_eq!((leases.len(), leases.held().len()), (0, 0));
        assert_eq!(leases.attr(FILE, NOW), None);
    }
}
