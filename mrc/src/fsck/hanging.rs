//! Rows that hang on inodes: attributes, links, locks, orphans, garbage, usage, quotas; and rows that only have to parse.

use proto::fsck::{Fault, Finding};
use proto::id::Ino;
use rt::table::{Pair, Reader};

use super::{Check, Row, leads_to, look, rows};
use crate::namespace::keys::{self, table};
use crate::namespace::{Outcome, content, corrupt, inode, locks};

/// Tables whose second word is an inode that must exist.
const HANGING: [(u8, &str); 9] = [
    (table::XATTR, "attribute"),
    (table::LINK, "link"),
    (table::LOCK, "lock"),
    (table::LOCK_SESSION, "lock index"),
    (table::ORPHAN, "orphan"),
    (table::TOTAL, "usage"),
    (table::PENDING, "usage"),
    (table::LAYOUT, "layout"),
    (table::CONTENT, "content"),
];
/// Tables that stand for themselves.
const OTHERS: [(u8, &str); 8] = [
    (table::CHANGE, "change"),
    (table::MOVED, "moved"),
    (table::FLOOR, "floor"),
    (table::GARBAGE, "garbage"),
    (table::TRASH, "trash"),
    (table::SNAPSHOT, "snapshot"),
    (table::PAST, "past"),
    (table::FROZEN, "frozen"),
];

impl Check<'_> {
    /// All tables but those of entries and inodes.
    pub(super) fn hanging(&mut self) -> Outcome<()> {
        for (table, what) in HANGING.into_iter().chain(OTHERS) {
            self.each_row(table, |check, row| check.row(table, what, row))?;
        }
        for table in [table::QUOTA, table::OWNED] {
            self.each_row(table, |check, row| check.row(table, "quota", row))?;
        }
        Ok(())
    }

    fn row(&mut self, table: u8, what: &str, row: &Pair) -> Outcome<()> {
        let (key, value) = row;
        if !rows::parses(key, value) {
            self.bad_row(key, what);
            return Ok(());
        }
        if hangs(self.reader, self.volume, key)? {
            let text = format!("the {what} row {key:02x?} belongs to nothing that exists");
            self.tell(Finding { fault: Fault::Hanging as i32, key: key.clone(), text, ..Finding::default() });
            return Ok(());
        }
        let word = |index| keys::word(key, index).ok_or_else(|| corrupt(what, key));
        match table {
            table::LINK => self.link(word(1)?, (word(2)?, word(3)?)),
            table::ORPHAN => self.orphan(word(1)?),
            table::GARBAGE => self.garbage(word(1)?),
            table::LOCK => self.locks(word(1)?, value),
            _ => Ok(()),
        }
    }

    fn link(&mut self, ino: u64, link: (u64, u64)) -> Outcome<()> {
        if is_link(self.reader, self.volume, ino, link)? {
            return Ok(());
        }
        let text = format!("{} says that it has a name in {} that is not there", Ino(ino), self.path(link.0));
        let (parent, cookie) = link;
        self.tell(Finding { fault: Fault::LinkLost as i32, ino, parent, cookie, text, ..Finding::default() });
        Ok(())
    }

    fn orphan(&mut self, ino: u64) -> Outcome<()> {
        if let Row::Here(inode) = self.look(ino)?
            && inode.attr.nlink > 0
        {
            let text = format!("{} has names and is among the files without", Ino(ino));
            self.tell(Finding { fault: Fault::OrphanWrong as i32, ino, text, ..Finding::default() });
        }
        Ok(())
    }

    fn garbage(&mut self, ino: u64) -> Outcome<()> {
        // Of a file that shows other data its own may go.
        let own_is_gone = matches!(self.look(ino)?, Row::Here(inode) if inode.shares().gone);
        if !own_is_gone && !matches!(self.look(ino)?, Row::Missing) {
            let text = format!("{} exists, and its objects are to be removed", Ino(ino));
            self.tell(Finding { fault: Fault::GarbageInUse as i32, ino, text, ..Finding::default() });
        }
        Ok(())
    }

    fn locks(&mut self, ino: u64, value: &[u8]) -> Outcome<()> {
        for held in locks::parse(value).unwrap_or_default() {
            let index = keys::lock_session(self.volume, held.session, ino);
            if self.reader.get(&index)?.is_none() {
                let text = format!(
                    "a lock of session {:016x} on {} would outlive the session",
                    held.session,
                    Ino(ino)
                );
                let (fault, parent) = (Fault::LockIndex as i32, held.session);
                self.tell(Finding { fault, ino, parent, text, ..Finding::default() });
            }
        }
        Ok(())
    }
}

/// Whether a row that parses belongs to nothing.
pub(super) fn hangs(reader: &(impl Reader + ?Sized), volume: u64, key: &[u8]) -> Outcome<bool> {
    let word = |index| keys::word(key, index).ok_or_else(|| corrupt("hanging", key));
    let is_dir = |ino| -> Outcome<bool> {
        // Of a row that does not parse nothing is known: what hangs on it stays.
        Ok(match look(reader, volume, ino)? {
            Row::Missing => false,
            Row::Bad => true,
            Row::Here(inode) => inode.is_dir(),
        })
    };
    Ok(match key.first().copied() {
        Some(table::XATTR | table::LINK | table::LOCK | table::ORPHAN) => {
            matches!(look(reader, volume, word(1)?)?, Row::Missing)
        }
        Some(table::LOCK_SESSION) => {
            let row = reader.get(&keys::lock(volume, word(2)?))?;
            let held = row.and_then(|row| locks::parse(&row)).unwrap_or_default();
            let session = word(1)?;
            !held.iter().any(|held| held.session == session)
        }
        Some(table::TOTAL | table::PENDING | table::LAYOUT) => !is_dir(word(1)?)?,
        Some(table::CONTENT) => {
            // Also of data that only others need.
            let of = keys::inode(volume, word(1)?);
            match reader.get(&of)? {
                None => true,
                Some(row) => {
                    inode::parse(&of, &row).is_ok_and(|inode| matches!(content::has(&inode), Ok(false)))
                }
            }
        }
        Some(table::QUOTA) => word(1)? == 3 && !is_dir(word(2)?)?,
        Some(table::OWNED) => {
            word(1)? == 3 && reader.get(&keys::quota(table::QUOTA, volume, 3, word(2)?))?.is_none()
        }
        _ => false,
    })
}

/// Whether a link row is as it should be: leads to the inode, which is no directory, and is not its home.
pub(super) fn is_link(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    ino: u64,
    link: (u64, u64),
) -> Outcome<bool> {
    let ours = match look(reader, volume, ino)? {
        Row::Here(inode) => !inode.is_dir() && (inode.parent, inode.cookie) != link,
        Row::Bad => true,
        Row::Missing => false,
    };
    Ok(ours && leads_to(reader, volume, link, ino)?)
}
