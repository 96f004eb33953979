//! Answers to readers of the stream.

use std::collections::BTreeMap;

use proto::changes::{Change, ChangesReply, ChangesRequest, EVENTS_MAX, INSIDE_FROM, INSIDE_TO, event};
use proto::error::Code;
use proto::mrc::Head;
use rt::table::Reader;

use super::eyes::Eyes;
use super::subtree::{self, Subtree};
use super::{Row, cursor_after, floor};
use crate::namespace::{Outcome, access, inode, keys, refuse, volume};

/// Rows looked at for one page. A page may be empty and still carry the reader forward.
const ROWS_PER_PAGE: usize = 4096;
/// Bytes of events in one page, about.
const PAGE_BYTES: usize = 1 << 20;

/// A page and whether the log goes on behind it.
#[derive(Debug)]
pub struct Page {
    /// The answer.
    pub reply: ChangesReply,
    /// There are more rows: ask again at once.
    pub more: bool,
}

/// May the caller watch this directory? Also: is there such a volume and directory?
pub fn permitted(reader: &(impl Reader + ?Sized), request: &ChangesRequest) -> Outcome<()> {
    volume::live(reader, request.head.volume)?;
    let directory = inode::get(reader, request.head.volume, request.subtree)?;
    if !directory.is_dir() {
        return refuse(Code::NotDirectory, format!("ino-{} is not a directory", request.subtree));
    }
    access::require(&directory, &request.head, access::R | access::X)
}

/// The events after `from`; `applied` is the newest index that the table shows.
pub fn read(
    reader: &(impl Reader + ?Sized),
    request: &ChangesRequest,
    from: u64,
    applied: u64,
) -> Outcome<Page> {
    let volume = request.head.volume;
    let end = cursor_after(applied);
    if from > end {
        return refuse(
            Code::InvalidArgument,
            format!(
                "cursor {from} lies ahead of the log (at {end}): it is of another cluster or of a later state; start without it"
            ),
        );
    }
    let floor = floor(reader, volume)?;
    if from < floor {
        let gap = Change { cursor: floor, kind: event::GAP, inside: INSIDE_FROM, ..Change::default() };
        return Ok(Page { reply: ChangesReply { changes: vec![gap], next: floor }, more: true });
    }
    let limit = match request.limit {
        0 => EVENTS_MAX,
        limit => limit.min(EVENTS_MAX),
    } as usize;
    let rows = reader.scan(&keys::change(volume, from + 1), &keys::change(volume, end + 1), ROWS_PER_PAGE)?;
    let all = rows.len() < ROWS_PER_PAGE;
    let mut view = View::new(reader, &request.head, request.subtree);
    let (mut changes, mut next, mut bytes) = (Vec::new(), from, 0);
    for (key, value) in &rows {
        if changes.len() >= limit || bytes >= PAGE_BYTES {
            return Ok(Page { reply: ChangesReply { changes, next }, more: true });
        }
        let (cursor, row) = Row::parse(key, value)?;
        if let Some(change) = view.show(cursor, row)? {
            bytes += 128 + change.name.len() + change.new_name.len();
            bytes += change.directory.as_ref().map_or(0, Vec::len);
            changes.push(change);
        }
        next = cursor;
    }
    let next = if all { end } else { next };
    Ok(Page { reply: ChangesReply { changes, next }, more: !all })
}

/// What one reader sees of the log.
struct View<'a, R: Reader + ?Sized> {
    reader: &'a R,
    head: &'a Head,
    subtree: Subtree<'a, R>,
    /// Paths of directories as they are now.
    paths: BTreeMap<u64, Option<Vec<u8>>>,
    eyes: Eyes<'a, R>,
}

impl<'a, R: Reader + ?Sized> View<'a, R> {
    fn new(reader: &'a R, head: &'a Head, root: u64) -> Self {
        let subtree = Subtree::new(reader, head.volume, root);
        Self { reader, head, subtree, paths: BTreeMap::new(), eyes: Eyes::new(reader, head) }
    }

    fn show(&mut self, cursor: u64, row: Row) -> Outcome<Option<Change>> {
        let sees = |view: &mut Self, directory| -> Outcome<bool> {
            Ok(view.subtree.contains(directory, cursor)? && view.eyes.may_list(directory)?)
        };
        let mut inside = 0;
        if sees(self, row.parent)? {
            inside |= INSIDE_FROM;
        }
        if row.has_two_ends() && sees(self, row.new_parent)? {
            inside |= INSIDE_TO;
        }
        // A directory's own attributes are events of its parent, and of the watched directory itself.
        if inside == 0
            && row.name.is_empty()
            && sees(self, row.ino)?
            && row.file_kind == proto::mrc::kind::DIR
        {
            inside = INSIDE_FROM;
        }
        if inside == 0 {
            return Ok(None);
        }
        let two = row.has_two_ends();
        let name = match row.name.is_empty() {
            true => subtree::name_of(self.reader, self.head.volume, (row.parent, row.new_parent))?
                .unwrap_or_default(),
            false => row.name,
        };
        Ok(Some(Change {
            cursor,
            kind: row.kind,
            ino: row.ino,
            file_kind: row.file_kind,
            parent: row.parent,
            name,
            new_parent: if two { row.new_parent } else { 0 },
            new_name: row.new_name,
            time: row.time,
            uid: row.uid,
            session: row.session,
            inside,
            directory: self.path(row.parent)?,
            new_directory: if two { self.path(row.new_parent)? } else { None },
        }))
    }

    fn path(&mut self, directory: u64) -> Outcome<Option<Vec<u8>>> {
        if let Some(path) = self.paths.get(&directory) {
            return Ok(path.clone());
        }
        let path = subtree::path_of(self.reader, self.head.volume, directory)?;
        self.paths.insert(directory, path.clone());
        Ok(path)
    }
}
