//! Finding files by their attributes: one pass over the volume's inodes in pages, by inode number.
//!
//! The order does not change under the reader, so a page needs nothing but the last number: what is there throughout is
//! found exactly once. A small directory of a large volume costs the large volume.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use proto::error::Code;
use proto::find::{FOUND_MAX, FindReply, FindRequest, Found};
use proto::id::Ino;
use proto::mrc::Attr;
use proto::query::{Query, Subject};
use rt::table::{Reader, prefix_end};

use crate::changes::eyes::Eyes;
use crate::changes::subtree::{Subtree, name_of, path_of};
use crate::namespace::inode::{self, Inode};
use crate::namespace::keys::{self, table};
use crate::namespace::{Fail, Outcome, access, home, refuse, xattr};

/// Inodes looked at for one page.
const ROWS_PER_PAGE: usize = 8192;
/// A cursor behind all moves: ancestors as they are now.
const NOW: u64 = u64::MAX - 1;

/// One page.
pub fn find(reader: &(impl Reader + ?Sized), request: &FindRequest, now_s: i64) -> Outcome<FindReply> {
    let query = match Query::parse(&request.query) {
        Ok(query) => query,
        Err(error) => return refuse(Code::InvalidArgument, format!("query {:?}: {error}", request.query)),
    };
    let (head, volume) = (&request.head, request.head.volume);
    let directory = inode::directory(reader, volume, request.subtree)?;
    access::require(&directory, head, access::R | access::X)?;
    let limit = match request.limit {
        0 => FOUND_MAX,
        limit => limit.min(FOUND_MAX),
    } as usize;
    let end = prefix_end(&keys::of_volume(table::INODE, volume));
    let rows = reader.scan(&keys::inode(volume, request.after.saturating_add(1)), &end, ROWS_PER_PAGE)?;
    let (mut found, mut after) = (Vec::new(), request.after);
    let mut places = Places::new(reader, request);
    for (key, value) in &rows {
        if found.len() >= limit {
            return Ok(FindReply { found, after, end: false });
        }
        let inode = inode::parse(key, value)?;
        after = inode.attr.ino;
        if inode.is_hidden() {
            continue;
        }
        if let Some(path) = places.matches(inode, &query, now_s)? {
            found.push(path);
        }
    }
    Ok(FindReply { found, after, end: rows.len() < ROWS_PER_PAGE })
}

/// Where files are, remembered for one page.
struct Places<'a, R: Reader + ?Sized> {
    reader: &'a R,
    volume: u64,
    subtree: Subtree<'a, R>,
    eyes: Eyes<'a, R>,
    paths: BTreeMap<u64, Option<Vec<u8>>>,
}

impl<'a, R: Reader + ?Sized> Places<'a, R> {
    fn new(reader: &'a R, request: &'a FindRequest) -> Self {
        Self {
            reader,
            volume: request.head.volume,
            subtree: Subtree::new(reader, request.head.volume, request.subtree),
            eyes: Eyes::new(reader, &request.head),
            paths: BTreeMap::new(),
        }
    }

    /// The first link that lies inside, may be seen and matches.
    fn matches(&mut self, inode: Inode, query: &Query, now_s: i64) -> Outcome<Option<Found>> {
        let ino = inode.attr.ino;
        // The root has no name, what is unlinked and open has none either.
        if ino == Ino::ROOT.0 || inode.parent == 0 {
            return Ok(None);
        }
        let mut links = vec![(inode.parent, inode.cookie)];
        if inode.attr.nlink > 1 && !inode.is_dir() {
            links.extend(home::others(self.reader, self.volume, ino, usize::MAX)?);
        }
        let mut candidate =
            Candidate { reader: self.reader, volume: self.volume, inode, link: (0, 0), name: None };
        for link in links {
            if !self.subtree.contains(link.0, NOW)? || !self.eyes.may_list(link.0)? {
                continue;
            }
            (candidate.link, candidate.name) = (link, None);
            if !query.holds(&mut candidate, now_s)? {
                continue;
            }
            let name = candidate.name()?;
            let Some(mut path) = self.path(link.0)? else { continue };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            return Ok(Some(Found { path, attr: candidate.inode.attr }));
        }
        Ok(None)
    }

    fn path(&mut self, directory: u64) -> Outcome<Option<Vec<u8>>> {
        if let Some(path) = self.paths.get(&directory) {
            return Ok(path.clone());
        }
        let path = path_of(self.reader, self.volume, directory)?;
        self.paths.insert(directory, path.clone());
        Ok(path)
    }
}

/// A file under one of its names.
struct Candidate<'a, R: Reader + ?Sized> {
    reader: &'a R,
    volume: u64,
    inode: Inode,
    link: home::Link,
    name: Option<Vec<u8>>,
}

impl<R: Reader + ?Sized> Subject for Candidate<'_, R> {
    type Error = Fail;

    fn attr(&self) -> &Attr {
        &self.inode.attr
    }

    fn name(&mut self) -> Outcome<Vec<u8>> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let name = name_of(self.reader, self.volume, self.link)?.unwrap_or_default();
        self.name = Some(name.clone());
        Ok(name)
    }

    fn xattr(&mut self, name: &str) -> Outcome<Option<Vec<u8>>> {
        if self.inode.xattrs == 0 {
            return Ok(None);
        }
        xattr::value_of(self.reader, self.volume, self.inode.attr.ino, name.as_bytes())
    }
}
