//! What is done about a finding: looked at again in the table as it is now, then mended by the smallest change. Rows are
//! mended without regard to sums, which a later pass corrects by differences. See docs/protocols/fsck.md.

use prost::Message;
use proto::error::Code;
use proto::fsck::{Fault, Finding, MEND_MAX, Mended};
use proto::id::{Ino, VolumeId};
use proto::mrc::{Time, kind};
use proto::quota::QuotaKind;
use proto::stripe::Layout;
use rt::table::{Reader, Txn};

use super::hanging::{hangs, is_link};
use super::inodes::{acls_fit, count_names, is_placed, xattrs};
use super::{Row, leads_to, listed, look, rows};
use crate::namespace::entry::{self, Entry};
use crate::namespace::inode::{self, Body, FIRST_COOKIE, Inode};
use crate::namespace::keys::{self, table};
use crate::namespace::name::Name;
use crate::namespace::record::Writer;
use crate::namespace::{Fail, Outcome, collect, content, home, refuse, volume};
use crate::quota::{self, Taken};
use crate::usage::{self, Amount};

/// Where inodes without a name go.
pub const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Mends findings of the check that had seen `seen` repairs.
pub fn mend(txn: &mut Txn<'_>, now: Time, volume: u64, seen: u64, findings: &[Finding]) -> Outcome<Mended> {
    if findings.len() > MEND_MAX {
        return refuse(Code::InvalidArgument, format!("more than {MEND_MAX} findings to be mended at once"));
    }
    let mut record = volume::live(txn, volume)?;
    if record.repairs != seen {
        return refuse(
            Code::Stale,
            format!("another repair of {} came first; check it again", VolumeId(volume)),
        );
    }
    record.repairs += 1;
    volume::put(txn, volume, &record);
    let mut mended = 0;
    for finding in findings {
        let mut mender = Mender { txn: &mut *txn, volume, now, finding };
        match mender.mend() {
            Ok(done) => mended += u64::from(done),
            // A damaged row in the way must not stop the replica: nothing of this command happens.
            Err(Fail::Broken(broken)) => {
                return refuse(
                    Code::Corrupt,
                    format!("{:?} cannot be mended: {}", finding.text, broken.cause),
                );
            }
            Err(refused) => return Err(refused),
        }
    }
    Ok(Mended { seen: seen + 1, mended })
}

struct Mender<'t, 'd, 'f> {
    txn: &'t mut Txn<'d>,
    volume: u64,
    now: Time,
    finding: &'f Finding,
}

impl Mender<'_, '_, '_> {
    /// True when something was changed.
    fn mend(&mut self) -> Outcome<bool> {
        let finding = self.finding;
        let Ok(fault) = Fault::try_from(finding.fault) else { return Ok(false) };
        match fault {
            Fault::BadRow => self.bad_row(),
            Fault::Hanging => self.hanging(),
            Fault::EntryLost => self.entry_lost(),
            Fault::EntryKind => self.entry_kind(),
            Fault::EntryUnnamed => self.entry_unnamed(),
            Fault::EntryUnlisted => self.entry_unlisted(),
            Fault::EntryUnknown => self.entry_unknown(),
            Fault::HomeLost => self.home_lost(),
            Fault::LinkLost => self.link_lost(),
            Fault::Links => self.on_inode(Self::links),
            Fault::OrphanMissing => self.on_inode(Self::orphan_missing),
            Fault::OrphanWrong => self.orphan_wrong(),
            Fault::Xattrs => self.on_inode(Self::xattrs),
            Fault::Acl => self.on_inode(Self::acl),
            Fault::NextCookie => self.on_inode(Self::next_cookie),
            Fault::NextIno => self.next_ino(),
            Fault::Circle => self.circle(),
            Fault::GarbageInUse => self.garbage(),
            Fault::LockIndex => self.lock_index(),
            Fault::ContentLost => self.on_inode(Self::content),
            Fault::DirectoryCounts => self.on_inode(Self::directory_counts),
            Fault::Usage => self.usage(),
            Fault::VolumeCounts => self.volume_counts(),
            Fault::QuotaSum => self.quota_sum(),
        }
    }

    fn look(&self, ino: u64) -> Outcome<Row> {
        look(self.txn, self.volume, ino)
    }

    fn here(&self, ino: u64) -> Outcome<Option<Inode>> {
        Ok(match self.look(ino)? {
            Row::Here(inode) => Some(*inode),
            _ => None,
        })
    }

    fn on_inode(&mut self, change: fn(&mut Self, &mut Inode) -> Outcome<bool>) -> Outcome<bool> {
        let Some(mut inode) = self.here(self.finding.ino)? else { return Ok(false) };
        let before = inode.clone();
        if !change(self, &mut inode)? {
            return Ok(false);
        }
        if inode != before {
            inode.attr.change += 1;
            inode::put(self.txn, self.volume, &inode);
        }
        Ok(true)
    }

    fn content(&mut self, inode: &mut Inode) -> Outcome<bool> {
        if content::is_whole(self.txn, self.volume, inode)? {
            return Ok(false);
        }
        content::delete(self.txn, self.volume, inode.attr.ino);
        let layout = Layout { inline: None, ..inode.layout()? };
        inode.body = Body::File(layout.encode_to_vec());
        if inode.top() == inode.attr.ino {
            (inode.attr.size, inode.attr.blocks) = (0, 0);
            inode.attr.truncate_epoch += 1;
        }
        Ok(true)
    }

    fn is_ours(&self, key: &[u8]) -> bool {
        key.len() >= 9 && key[0] != table::VOLUME && keys::word(key, 0) == Some(self.volume)
    }

    fn bad_row(&mut self) -> Outcome<bool> {
        let key = &self.finding.key;
        let value = self.txn.get(key)?;
        let bad = value.is_some_and(|value| !rows::parses(key, &value));
        if !bad || !self.is_ours(key) || key[0] == table::INODE {
            return Ok(false);
        }
        self.txn.delete(key.clone());
        Ok(true)
    }

    fn hanging(&mut self) -> Outcome<bool> {
        let key = &self.finding.key;
        if !self.is_ours(key) || self.txn.get(key)?.is_none() || !hangs(self.txn, self.volume, key)? {
            return Ok(false);
        }
        self.txn.delete(key.clone());
        Ok(true)
    }

    /// The entry of the finding as it is listed now, with its name.
    fn listed(&self) -> Outcome<Option<(Entry, Vec<u8>)>> {
        listed(self.txn, self.volume, (self.finding.parent, self.finding.cookie))
    }

    /// Removes the listing row of the finding, and the row by name if it is this entry's.
    fn unlist(&mut self, name: &[u8]) -> Outcome<()> {
        let (volume, parent, cookie) = (self.volume, self.finding.parent, self.finding.cookie);
        self.txn.delete(keys::order(volume, parent, cookie));
        let key = keys::dentry(volume, parent, name);
        let by_name = self.txn.get(&key)?.filter(|value| rows::parses(&key, value));
        let same = match by_name {
            Some(_) => {
                entry::find(self.txn, volume, parent, Name::parse(name)?)?.is_some_and(|e| e.cookie == cookie)
            }
            None => true,
        };
        if same {
            self.txn.delete(key);
        }
        Ok(())
    }

    fn entry_lost(&mut self) -> Outcome<bool> {
        let Some((entry, name)) = self.listed()? else { return Ok(false) };
        let in_directory = match self.look(self.finding.parent)? {
            Row::Here(directory) => directory.is_dir(),
            Row::Bad => true,
            Row::Missing => false,
        };
        if in_directory && !matches!(self.look(entry.ino)?, Row::Missing) {
            return Ok(false);
        }
        self.unlist(&name)?;
        Ok(true)
    }

    fn entry_kind(&mut self) -> Outcome<bool> {
        let Some((entry, name)) = self.listed()? else { return Ok(false) };
        let Some(inode) = self.here(entry.ino)? else { return Ok(false) };
        let entry = Entry { kind: inode.kind(), ..entry };
        entry::put(self.txn, self.volume, self.finding.parent, Name::parse(&name)?, entry);
        Ok(true)
    }

    fn entry_unnamed(&mut self) -> Outcome<bool> {
        let Some((entry, name)) = self.listed()? else { return Ok(false) };
        let parent = self.finding.parent;
        let key = keys::dentry(self.volume, parent, &name);
        let parsed = Name::parse(&name)?;
        let by_name = match self.txn.get(&key)? {
            Some(value) if rows::parses(&key, &value) => entry::find(self.txn, self.volume, parent, parsed)?,
            _ => None,
        };
        if let Some(other) = by_name.filter(|other| other.cookie != entry.cookie)
            && listed(self.txn, self.volume, (parent, other.cookie))?
                .is_some_and(|(there, its_name)| its_name == name && there.ino == other.ino)
        {
            // The name belongs to the other entry: this listing row is one too many.
            self.txn.delete(keys::order(self.volume, parent, entry.cookie));
            return Ok(true);
        }
        if by_name == Some(entry) {
            return Ok(false);
        }
        entry::put(self.txn, self.volume, parent, parsed, entry);
        Ok(true)
    }

    fn entry_unlisted(&mut self) -> Outcome<bool> {
        let (parent, name) = (self.finding.parent, self.finding.name.as_slice());
        let key = keys::dentry(self.volume, parent, name);
        if self.txn.get(&key)?.is_none_or(|value| !rows::parses(&key, &value)) {
            return Ok(false);
        }
        let parsed = Name::parse(name)?;
        let Some(entry) = entry::find(self.txn, self.volume, parent, parsed)? else { return Ok(false) };
        let there = listed(self.txn, self.volume, (parent, entry.cookie))?;
        if there.as_ref().is_some_and(|(_, other)| other == name) {
            return Ok(false);
        }
        let directory = self.here(parent)?.filter(Inode::is_dir);
        let target = self.here(entry.ino)?;
        let (Some(mut directory), Some(target)) = (directory, target) else {
            self.txn.delete(key);
            return Ok(true);
        };
        let cookie = if there.is_none() && entry.cookie >= FIRST_COOKIE && entry.cookie < 1 << 63 {
            entry.cookie
        } else {
            self.fresh_cookie(&mut directory)?
        };
        entry::put(self.txn, self.volume, parent, parsed, Entry { kind: target.kind(), cookie, ..entry });
        Ok(true)
    }

    /// A cookie of a directory that no listing row has.
    fn fresh_cookie(&mut self, directory: &mut Inode) -> Outcome<u64> {
        loop {
            let cookie = entry::take_cookie(directory);
            if self.txn.get(&keys::order(self.volume, directory.attr.ino, cookie))?.is_none() {
                inode::put(self.txn, self.volume, directory);
                return Ok(cookie);
            }
        }
    }

    fn entry_unknown(&mut self) -> Outcome<bool> {
        let Some((entry, name)) = self.listed()? else { return Ok(false) };
        let Some(mut inode) = self.here(entry.ino)? else { return Ok(false) };
        let link = (self.finding.parent, entry.cookie);
        let is_root = entry.ino == Ino::ROOT.0;
        if !is_root && (inode.parent, inode.cookie) == link
            || !inode.is_dir() && self.txn.get(&keys::link(self.volume, entry.ino, link.0, link.1))?.is_some()
        {
            return Ok(false);
        }
        let placed = inode.parent != 0 && is_placed(self.txn, self.volume, &inode)?;
        if !is_root && !placed && !self.is_above(entry.ino, link.0)? {
            (inode.parent, inode.cookie) = link;
            inode::put(self.txn, self.volume, &inode);
        } else if inode.is_dir() {
            // A directory has one name: the one that it knows.
            self.unlist(&name)?;
        } else {
            self.txn.put(keys::link(self.volume, entry.ino, link.0, link.1), Writer::new(1).0);
        }
        Ok(true)
    }

    /// Whether a directory is `below` or lies above it.
    fn is_above(&self, directory: u64, below: u64) -> Outcome<bool> {
        let (mut at, mut passed) = (below, Vec::new());
        while at != Ino::ROOT.0 && !passed.contains(&at) {
            if at == directory {
                return Ok(true);
            }
            passed.push(at);
            let Some(inode) = self.here(at)? else { return Ok(false) };
            at = inode.parent;
        }
        Ok(false)
    }

    fn home_lost(&mut self) -> Outcome<bool> {
        let Some(mut inode) = self.here(self.finding.ino)? else { return Ok(false) };
        if is_placed(self.txn, self.volume, &inode)? {
            return Ok(false);
        }
        let ino = inode.attr.ino;
        if ino == Ino::ROOT.0 {
            (inode.parent, inode.cookie) = (ino, 0);
            inode::put(self.txn, self.volume, &inode);
            return Ok(true);
        }
        (inode.parent, inode.cookie) = (0, 0);
        for link in home::others(self.txn, self.volume, ino, usize::MAX)? {
            if !inode.is_dir() && leads_to(self.txn, self.volume, link, ino)? {
                self.txn.delete(keys::link(self.volume, ino, link.0, link.1));
                (inode.parent, inode.cookie) = link;
                break;
            }
        }
        if inode.parent == 0 && !(inode.attr.nlink == 0 && inode.kind() == kind::FILE) {
            return self.attach(inode).map(|()| true);
        }
        inode::put(self.txn, self.volume, &inode);
        Ok(true)
    }

    /// Gives an inode a name in `lost+found`, which is made when it is missing.
    fn attach(&mut self, mut inode: Inode) -> Outcome<()> {
        let volume = self.volume;
        let (mut directory, name) = (self.lost_and_found()?, format!("ino-{}", inode.attr.ino));
        let parsed = Name::parse(name.as_bytes())?;
        let cookie = self.fresh_cookie(&mut directory)?;
        let entry = Entry { ino: inode.attr.ino, kind: inode.kind(), cookie };
        entry::put(self.txn, volume, directory.attr.ino, parsed, entry);
        (inode.parent, inode.cookie) = (directory.attr.ino, cookie);
        self.txn.delete(keys::orphan(volume, inode.attr.ino));
        inode::put(self.txn, volume, &inode);
        Ok(())
    }

    fn lost_and_found(&mut self) -> Outcome<Inode> {
        let (volume, root) = (self.volume, Ino::ROOT.0);
        let name = Name::parse(LOST_AND_FOUND)?;
        if let Some(found) = entry::find(self.txn, volume, root, name)?
            && let Some(directory) = self.here(found.ino)?.filter(Inode::is_dir)
            && is_placed(self.txn, volume, &directory)?
        {
            return Ok(directory);
        }
        let mut above = inode::directory(self.txn, volume, root)?;
        let mut record = volume::live(self.txn, volume)?;
        let ino = record.next_ino;
        if self.txn.get(&keys::inode(volume, ino))?.is_some() {
            return refuse(Code::Stale, "the next inode number is in use; repair again");
        }
        record.next_ino += 1;
        volume::put(self.txn, volume, &record);
        let cookie = self.fresh_cookie(&mut above)?;
        let body = Body::Directory { next_cookie: FIRST_COOKIE };
        let made = Inode::new(ino, kind::DIR << 12 | 0o700, (0, 0), self.now, body).at_home(root, cookie);
        entry::put(self.txn, volume, root, name, Entry { ino, kind: kind::DIR, cookie });
        inode::put(self.txn, volume, &made);
        Ok(made)
    }

    fn link_lost(&mut self) -> Outcome<bool> {
        let (ino, link) = (self.finding.ino, (self.finding.parent, self.finding.cookie));
        let key = keys::link(self.volume, ino, link.0, link.1);
        if self.txn.get(&key)?.is_none() || is_link(self.txn, self.volume, ino, link)? {
            return Ok(false);
        }
        self.txn.delete(key);
        Ok(true)
    }

    fn links(&mut self, inode: &mut Inode) -> Outcome<bool> {
        let names = u32::try_from(count_names(self.txn, self.volume, inode)?).unwrap_or(u32::MAX);
        if inode.is_dir() || names == inode.attr.nlink || (names == 0 && inode.kind() != kind::FILE) {
            return Ok(false);
        }
        inode.attr.nlink = names;
        if names == 0 {
            collect::put_orphan(self.txn, self.volume, inode.attr.ino, false);
        }
        Ok(true)
    }

    fn orphan_missing(&mut self, inode: &mut Inode) -> Outcome<bool> {
        if inode.attr.nlink > 0 || inode.kind() != kind::FILE {
            return Ok(false);
        }
        collect::put_orphan(self.txn, self.volume, inode.attr.ino, false);
        Ok(true)
    }

    fn orphan_wrong(&mut self) -> Outcome<bool> {
        let named = self.here(self.finding.ino)?.is_some_and(|inode| inode.attr.nlink > 0);
        if named {
            self.txn.delete(keys::orphan(self.volume, self.finding.ino));
        }
        Ok(named)
    }

    fn xattrs(&mut self, inode: &mut Inode) -> Outcome<bool> {
        (inode.xattrs, inode.xattr_list_bytes) = xattrs(self.txn, self.volume, inode.attr.ino)?;
        Ok(true)
    }

    fn acl(&mut self, inode: &mut Inode) -> Outcome<bool> {
        if acls_fit(inode) {
            return Ok(false);
        }
        if !inode.is_dir() {
            inode.acls.default = None;
        }
        if let Some(list) = &inode.acls.access {
            // The list says more than the mode, and is what was asked for last whenever both were set.
            inode.attr.mode = inode.attr.mode & !0o777 | list.mode_bits();
            if list.is_minimal() {
                inode.acls.access = None;
            }
        }
        inode.tell_lists();
        Ok(true)
    }

    fn next_cookie(&mut self, inode: &mut Inode) -> Outcome<bool> {
        let Body::Directory { next_cookie } = &mut inode.body else { return Ok(false) };
        *next_cookie = (*next_cookie).max(self.finding.cookie.saturating_add(1));
        Ok(true)
    }

    fn next_ino(&mut self) -> Outcome<bool> {
        let mut record = volume::live(self.txn, self.volume)?;
        if self.finding.ino < record.next_ino
            || self.txn.get(&keys::inode(self.volume, self.finding.ino))?.is_none()
        {
            return Ok(false);
        }
        record.next_ino = self.finding.ino + 1;
        volume::put(self.txn, self.volume, &record);
        Ok(true)
    }

    fn circle(&mut self) -> Outcome<bool> {
        let Some(inode) = self.here(self.finding.ino)?.filter(Inode::is_dir) else { return Ok(false) };
        if inode.attr.ino == Ino::ROOT.0 || !self.is_above(inode.attr.ino, inode.parent)? {
            return Ok(false);
        }
        let (parent, cookie) = (inode.parent, inode.cookie);
        if let Some((_, name)) = listed(self.txn, self.volume, (parent, cookie))? {
            self.txn.delete(keys::order(self.volume, parent, cookie));
            self.txn.delete(keys::dentry(self.volume, parent, &name));
        }
        self.attach(inode).map(|()| true)
    }

    fn garbage(&mut self) -> Outcome<bool> {
        match self.look(self.finding.ino)? {
            Row::Missing => return Ok(false),
            Row::Here(inode) if inode.shares().gone => return Ok(false),
            _ => {}
        }
        self.txn.delete(keys::garbage(self.volume, self.finding.ino));
        Ok(true)
    }

    fn lock_index(&mut self) -> Outcome<bool> {
        let (session, ino) = (self.finding.parent, self.finding.ino);
        let row = self.txn.get(&keys::lock(self.volume, ino))?;
        let held = row.and_then(|row| crate::namespace::locks::parse(&row)).unwrap_or_default();
        if !held.iter().any(|held| held.session == session) {
            return Ok(false);
        }
        self.txn.put(keys::lock_session(self.volume, session, ino), Writer::new(1).0);
        Ok(true)
    }

    fn added(&self, index: usize) -> i64 {
        self.finding.add.get(index).copied().unwrap_or(0)
    }

    fn directory_counts(&mut self, inode: &mut Inode) -> Outcome<bool> {
        if !inode.is_dir() {
            return Ok(false);
        }
        inode.attr.size = inode.attr.size.saturating_add_signed(self.added(0));
        let links = u64::from(inode.attr.nlink).saturating_add_signed(self.added(1));
        inode.attr.nlink = u32::try_from(links).unwrap_or(u32::MAX);
        Ok(true)
    }

    fn usage(&mut self) -> Outcome<bool> {
        if !self.here(self.finding.ino)?.is_some_and(|inode| inode.is_dir()) {
            return Ok(false);
        }
        let (blocks, bytes) = (self.added(0), self.added(1));
        let amount = Amount { blocks, bytes, files: self.added(2), directories: self.added(3) };
        usage::correct(self.txn, self.volume, self.finding.ino, amount)?;
        Ok(true)
    }

    fn volume_counts(&mut self) -> Outcome<bool> {
        let mut record = volume::live(self.txn, self.volume)?;
        record.inodes = record.inodes.saturating_add_signed(self.added(0));
        record.used_bytes = record.used_bytes.saturating_add_signed(self.added(1));
        let count = |count: u32, add: i64| {
            u32::try_from(u64::from(count).saturating_add_signed(add)).unwrap_or(u32::MAX)
        };
        record.directory_quotas = count(record.directory_quotas, self.added(2));
        let owners = record.owner_quotas;
        record.owner_quotas = count(owners, self.added(3));
        if (owners == 0) != (record.owner_quotas == 0) {
            // Nothing was charged meanwhile, or nothing will be: the next count begins anew.
            (record.counted, record.clearing) = (0, record.owner_quotas > 0);
        }
        volume::put(self.txn, self.volume, &record);
        Ok(true)
    }

    fn quota_sum(&mut self) -> Outcome<bool> {
        let kind = i32::try_from(self.finding.parent).ok().and_then(|kind| QuotaKind::try_from(kind).ok());
        let Some(kind) = kind else { return Ok(false) };
        let more = Taken { blocks: self.added(0), inodes: self.added(1) };
        quota::add(self.txn, self.volume, (kind, self.finding.ino), more)?;
        Ok(true)
    }
}
