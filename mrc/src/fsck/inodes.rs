//! Inodes: where they are, how many names they have, attributes, access control lists.

use proto::fsck::{Fault, Finding};
use proto::id::Ino;
use proto::limits::XATTR_LIST_BYTES_MAX;
use proto::mrc::kind;
use rt::table::{Reader, prefix_end};

use super::near::Near;
use super::{Check, ROOTED_MAX, Row, listed, look};
use crate::namespace::inode::{self, Inode};
use crate::namespace::keys::{self, table};
use crate::namespace::{Outcome, collect, content, home};
use crate::quota::{self, Taken};

/// Directories above one another at most.
const DEPTH_MAX: usize = 1 << 16;

/// Tables beside that of the inodes, looked ahead in.
struct Beside {
    links: Near,
    xattrs: Near,
    lists: Near,
}

impl Check<'_> {
    /// All inodes.
    pub(super) fn inodes(&mut self) -> Outcome<()> {
        let mut near = Beside {
            links: Near::new(table::LINK),
            xattrs: Near::new(table::XATTR),
            lists: Near::new(table::ORDER),
        };
        self.each_row(table::INODE, |check, (key, value)| {
            let Ok(inode) = inode::parse(key, value) else {
                check.inodes += 1;
                check.bad_row(key, "inode");
                return Ok(());
            };
            check.count(&inode);
            check.place(&inode)?;
            let (reader, volume, ino) = (check.reader, check.volume, inode.attr.ino);
            check.names_of(&inode, near.links.has(reader, volume, ino)?)?;
            check.attributes(&inode, near.xattrs.has(reader, volume, ino)?)?;
            if !content::is_whole(reader, volume, &inode)? {
                let text = format!("what was in {} is lost; mended, it is empty", Ino(ino));
                check.about(&inode, Fault::ContentLost, text);
            }
            if inode.is_dir() {
                check.rooted(&inode)?;
                if !near.lists.has(reader, volume, ino)? {
                    check.empty_directory(ino)?;
                }
            }
            Ok(())
        })
    }

    fn count(&mut self, inode: &Inode) {
        if inode.is_hidden() {
            return;
        }
        self.inodes += 1;
        if inode.kind() == kind::FILE {
            self.bytes = self.bytes.saturating_add(inode.attr.size);
        }
        if self.record.owner_quotas > 0 && !self.record.clearing && inode.attr.ino <= self.record.counted {
            for subject in quota::owners(inode.attr.uid, inode.attr.gid) {
                let sum = self.owned.entry(subject).or_default();
                *sum = *sum + Taken::of(&inode.attr);
            }
        }
        if inode.attr.ino >= self.record.next_ino {
            let text = format!("{} was given out, and would be given out again", Ino(inode.attr.ino));
            self.about(inode, Fault::NextIno, text);
        }
    }

    fn about(&mut self, inode: &Inode, fault: Fault, text: String) {
        self.tell(Finding { fault: fault as i32, ino: inode.attr.ino, text, ..Finding::default() });
    }

    fn place(&mut self, inode: &Inode) -> Outcome<()> {
        // The directory is looked at first, for it is nearly always that of the inode before.
        let lies = inode.parent != 0 && self.is_directory(inode.parent)?;
        if !is_home(self.reader, self.volume, inode, lies)? {
            let text = format!("{} is not where it says: no name leads to it there", Ino(inode.attr.ino));
            self.about(inode, Fault::HomeLost, text);
        }
        Ok(())
    }

    fn names_of(&mut self, inode: &Inode, has_links: bool) -> Outcome<()> {
        if inode.is_dir() {
            return Ok(());
        }
        let ino = inode.attr.ino;
        let names = match has_links {
            true => count_names(self.reader, self.volume, inode)?,
            false => u64::from(inode.parent != 0),
        };
        if names != u64::from(inode.attr.nlink) {
            let text = format!("{} says that it has {} names; it has {names}", Ino(ino), inode.attr.nlink);
            self.about(inode, Fault::Links, text);
        }
        if inode.attr.nlink == 0
            && inode.kind() == kind::FILE
            && !inode.is_hidden()
            && !collect::is_orphan(self.reader, self.volume, ino)?
        {
            let text = format!("{} has no name, and nothing would ever free it", Ino(ino));
            self.about(inode, Fault::OrphanMissing, text);
        }
        Ok(())
    }

    fn attributes(&mut self, inode: &Inode, has_some: bool) -> Outcome<()> {
        let (count, bytes) = match has_some {
            true => xattrs(self.reader, self.volume, inode.attr.ino)?,
            false => (0, 0),
        };
        if (count, bytes) != (inode.xattrs, inode.xattr_list_bytes) {
            let text = format!(
                "{} says that it has {} extended attributes; it has {count}",
                Ino(inode.attr.ino),
                inode.xattrs
            );
            self.about(inode, Fault::Xattrs, text);
        }
        if !acls_fit(inode) {
            let text = format!("mode and access control lists of {} do not fit", Ino(inode.attr.ino));
            self.about(inode, Fault::Acl, text);
        }
        Ok(())
    }

    /// Whether the way up from a directory ends at the root.
    fn rooted(&mut self, inode: &Inode) -> Outcome<()> {
        let mut passed = Vec::new();
        let (mut at, mut parent) = (inode.attr.ino, inode.parent);
        while !self.rooted.contains(&at) {
            if passed.contains(&at) || passed.len() > DEPTH_MAX {
                // Of a circle the smallest number tells, so that it is told once.
                if passed.iter().min() == Some(&inode.attr.ino) {
                    let text = format!("directories {} and above lie in one another", Ino(inode.attr.ino));
                    self.about(inode, Fault::Circle, text);
                }
                return Ok(());
            }
            passed.push(at);
            // A home that does not exist is told of where it is missing.
            let Row::Here(above) = self.look(parent)? else { return Ok(()) };
            (at, parent) = (above.attr.ino, above.parent);
        }
        if self.rooted.len() + passed.len() > ROOTED_MAX {
            self.rooted = std::collections::BTreeSet::from([Ino::ROOT.0]);
        }
        self.rooted.extend(passed);
        Ok(())
    }
}

/// Whether an inode's home leads to it.
pub(super) fn is_placed(reader: &(impl Reader + ?Sized), volume: u64, inode: &Inode) -> Outcome<bool> {
    let lies = matches!(look(reader, volume, inode.parent)?, Row::Here(above) if above.is_dir());
    is_home(reader, volume, inode, lies)
}

/// The same; the caller knows whether the home `lies` in a directory.
fn is_home(reader: &(impl Reader + ?Sized), volume: u64, inode: &Inode, lies: bool) -> Outcome<bool> {
    let (ino, link) = (inode.attr.ino, (inode.parent, inode.cookie));
    if ino == Ino::ROOT.0 {
        return Ok(link == (ino, 0) && inode.is_dir());
    }
    if link == (0, 0) {
        return Ok(inode.attr.nlink == 0 && inode.kind() == kind::FILE);
    }
    Ok(lies && listed(reader, volume, link)?.is_some_and(|(entry, _)| entry.ino == ino))
}

/// Names that lead to an inode and that it knows.
pub(super) fn count_names(reader: &(impl Reader + ?Sized), volume: u64, inode: &Inode) -> Outcome<u64> {
    let others = home::others(reader, volume, inode.attr.ino, usize::MAX)?;
    Ok(u64::from(inode.parent != 0) + others.len() as u64)
}

/// Number of extended attributes and bytes of their names.
pub(super) fn xattrs(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<(u32, u32)> {
    let prefix = keys::xattr(volume, ino, &[]);
    let rows = reader.scan(&prefix, &prefix_end(&prefix), XATTR_LIST_BYTES_MAX)?;
    let bytes: usize = rows.iter().map(|(key, _)| key.len() - prefix.len() + 1).sum();
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Ok((number(rows.len()), number(bytes)))
}

/// Whether an inode's lists and mode say the same.
pub(super) fn acls_fit(inode: &Inode) -> bool {
    let access = inode.acls.access.as_ref();
    access.is_none_or(|acl| !acl.is_minimal() && acl.mode_bits() == inode.attr.mode & 0o777)
        && (inode.acls.default.is_none() || inode.is_dir())
}
