//! A volume's rows as records that mean the same elsewhere, and back.
//!
//! Pure. The format of files is docs/formats/dump.md; the thread that reads a snapshot is [`crate::dumps`].
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use prost::Message;
use proto::backup::{DumpHeader, DumpPage, LoadPage, NameOf, Node, PAGE_BYTES, PAGE_RECORDS, Xattr};
use proto::error::Code;
use proto::id::{Ino, VolumeId};
use proto::limits::{
    FILE_BYTES_MAX, INLINE_BYTES_MAX, SYMLINK_BYTES_MAX, XATTR_LIST_BYTES_MAX, XATTR_VALUE_BYTES_MAX,
};
use proto::mrc::kind;
use proto::stripe::Layout;
use rt::table::{Pair, Reader, Txn, prefix_end};

use crate::namespace::acl::{Acl, Acls};
use crate::namespace::entry::{self, Entry};
use crate::namespace::inode::{self, Body, FIRST_COOKIE, Inode, Layers};
use crate::namespace::keys::{self, table};
use crate::namespace::name::Name;
use crate::namespace::record::{Cursor, VERSION, Writer};
use crate::namespace::volume::{self, Volume};
use crate::namespace::{Outcome, content, corrupt, home, refuse};

/// Rows read at once.
const CHUNK: usize = 512;
/// Numbers that may have been given out after a dump was made.
const LOST_NUMBERS: u64 = 1 << 32;

/// Gives a volume page by page to `take`, which returns false to end it early.
pub fn dump(reader: &dyn Reader, volume: u64, take: &mut dyn FnMut(DumpPage) -> bool) -> Outcome<()> {
    let record = volume::live(reader, volume)?;
    let header =
        DumpHeader { volume, name: record.name, next_ino: record.next_ino, striping: record.striping };
    let mut pages = Pages {
        take,
        page: DumpPage { header: Some(header), ..DumpPage::default() },
        bytes: 0,
        stopped: false,
    };
    each_row(reader, volume, table::INODE, &mut |(key, value)| {
        let inode = inode::parse(key, value)?;
        // A file without a name ends with those who have it open.
        if (inode.parent != 0 || inode.is_hidden()) && !inode.shares().pending {
            let node = node_of(reader, volume, &inode)?;
            pages.add(node.encoded_len(), |page| page.nodes.push(node));
        }
        Ok(!pages.stopped)
    })?;
    pages.finish(false);
    each_row(reader, volume, table::ORDER, &mut |(key, value)| {
        let (entry, name) = entry::parse_order(key, value)?;
        let parent = keys::word(key, 1).ok_or_else(|| corrupt("listing", key))?;
        let name = NameOf { parent, name, ino: entry.ino, cookie: entry.cookie };
        pages.add(name.encoded_len(), |page| page.names.push(name));
        Ok(!pages.stopped)
    })?;
    pages.finish(true);
    Ok(())
}

fn each_row(
    reader: &dyn Reader,
    volume: u64,
    table: u8,
    look: &mut dyn FnMut(&Pair) -> Outcome<bool>,
) -> Outcome<()> {
    let prefix = keys::of_volume(table, volume);
    let end = prefix_end(&prefix);
    let mut from = prefix;
    loop {
        let rows = reader.scan(&from, &end, CHUNK)?;
        for row in &rows {
            if !look(row)? {
                return Ok(());
            }
        }
        match rows.last() {
            Some((key, _)) if rows.len() == CHUNK => from = keys::after(key),
            _ => return Ok(()),
        }
    }
}

struct Pages<'t> {
    take: &'t mut dyn FnMut(DumpPage) -> bool,
    page: DumpPage,
    bytes: usize,
    stopped: bool,
}

impl Pages<'_> {
    fn add(&mut self, bytes: usize, add: impl FnOnce(&mut DumpPage)) {
        add(&mut self.page);
        self.bytes += bytes;
        if self.bytes > PAGE_BYTES || self.page.nodes.len() + self.page.names.len() >= PAGE_RECORDS {
            self.finish(false);
        }
    }

    fn finish(&mut self, end: bool) {
        let page = std::mem::take(&mut self.page);
        self.bytes = 0;
        let empty = page.header.is_none() && page.nodes.is_empty() && page.names.is_empty();
        if !self.stopped && (end || !empty) {
            self.stopped = !(self.take)(DumpPage { end, ..page });
        }
    }
}

fn node_of(reader: &dyn Reader, volume: u64, inode: &Inode) -> Outcome<Node> {
    let mut node = Node { attr: inode.attr.clone(), ..Node::default() };
    if inode.layers.is_some() {
        // Snapshots are not in a dump.
        node.shares = Layers { died: 0, encoding: 0, ..inode.shares() }.encode_to_vec();
    }
    match &inode.body {
        Body::Directory { next_cookie } => node.next_cookie = *next_cookie,
        Body::File(_) => {
            let layout = inode.layout()?;
            if !inode.shares().gone {
                node.content = content::of(reader, volume, inode.attr.ino, &layout)?;
            }
            node.layout = Some(layout);
        }
        Body::Symlink(target) => node.target.clone_from(target),
        Body::Special => {}
    }
    let value = |list: &Option<Acl>| list.as_ref().map(Acl::to_value).unwrap_or_default();
    (node.acl, node.default_acl) = (value(&inode.acls.access), value(&inode.acls.default));
    if inode.xattrs > 0 {
        let prefix = keys::xattr(volume, inode.attr.ino, &[]);
        for (key, value) in reader.scan(&prefix, &prefix_end(&prefix), XATTR_LIST_BYTES_MAX)? {
            let value = Cursor::new(&value).ok_or_else(|| corrupt("attribute", &key))?.rest().to_vec();
            node.xattrs.push(Xattr { name: key[prefix.len()..].to_vec(), value });
        }
    }
    Ok(node)
}

/// Puts a page into a volume. The first page asks for an empty one.
pub fn load(txn: &mut Txn<'_>, ask: &LoadPage) -> Outcome<()> {
    let volume = ask.head.volume;
    let Some(mut record) = volume::find(txn, volume)?.filter(|record| !record.dropping) else {
        return refuse(Code::NotFound, format!("{} does not exist here", VolumeId(volume)));
    };
    if let Some(header) = &ask.begin {
        begin(txn, volume, &record)?;
        record.loading = true;
        // What was made since the dump is lost, but its objects are at the OSDs: no new file may get such a number.
        let lost = if ask.without_data { 0 } else { LOST_NUMBERS };
        record.next_ino = record.next_ino.max(header.next_ino.saturating_add(lost));
        volume::put(txn, volume, &record);
    }
    if !record.loading {
        return refuse(Code::InvalidArgument, format!("{} is not being loaded", VolumeId(volume)));
    }
    for node in &ask.nodes {
        put_node(txn, volume, &mut record, node)?;
    }
    volume::put(txn, volume, &record);
    for name in &ask.names {
        put_name(txn, volume, name)?;
    }
    if ask.end {
        let mut record = volume::find(txn, volume)?.unwrap_or(record);
        record.loading = false;
        volume::put(txn, volume, &record);
    }
    Ok(())
}

fn begin(txn: &Txn<'_>, volume: u64, record: &Volume) -> Outcome<()> {
    let full = |why: &str| {
        refuse(
            Code::NotEmpty,
            format!("volume {:?} {why}; load into an empty one (`xtfs rmfs`, then `xtfs mkfs`)", record.name),
        )
    };
    if record.loading {
        return full("is left over from a load that was broken off");
    }
    if record.inodes > 1 || inode::get(txn, volume, Ino::ROOT.0)?.attr.size > 0 {
        return full("has files");
    }
    if record.directory_quotas + record.owner_quotas > 0 {
        return full("has quotas");
    }
    Ok(())
}

fn damaged<T>(text: String) -> Outcome<T> {
    refuse(Code::InvalidArgument, text)
}

fn put_node(txn: &mut Txn<'_>, volume: u64, record: &mut Volume, node: &Node) -> Outcome<()> {
    let (attr, what) = (&node.attr, Ino(node.attr.ino));
    let is_root = attr.ino == Ino::ROOT.0;
    let known = inode::find(txn, volume, attr.ino)?;
    if attr.ino == 0 || attr.ino >= record.next_ino || known.is_some() != is_root {
        return damaged(format!("{what} is there twice, or has a number that was never given out"));
    }
    let body = match (attr.mode >> 12, &node.layout) {
        (kind::DIR, None) if (FIRST_COOKIE..1 << 63).contains(&node.next_cookie) => {
            Body::Directory { next_cookie: node.next_cookie }
        }
        (kind::FILE, Some(layout)) if attr.size <= FILE_BYTES_MAX => Body::File(layout.encode_to_vec()),
        (kind::SYMLINK, None) if (1..=SYMLINK_BYTES_MAX).contains(&node.target.len()) => {
            Body::Symlink(node.target.clone())
        }
        (kind::FIFO | kind::SOCKET | kind::CHAR | kind::BLOCK, None) => Body::Special,
        _ => return damaged(format!("{what} has mode {:o} and not what belongs to it", attr.mode)),
    };
    if is_root && !matches!(body, Body::Directory { .. }) {
        return damaged(format!("{what} is the root and no directory"));
    }
    let acls = Acls { access: Acl::parse(&node.acl)?, default: Acl::parse(&node.default_acl)? };
    let (xattrs, xattr_list_bytes) = put_xattrs(txn, volume, node)?;
    let (parent, cookie) = if is_root { (attr.ino, 0) } else { (0, 0) };
    let mut inode =
        Inode { attr: attr.clone(), xattrs, xattr_list_bytes, parent, cookie, acls, layers: None, body };
    inode.tell_lists();
    let inline = node.layout.as_ref().and_then(|layout| layout.inline);
    let Ok(shares) = Layers::decode(node.shares.as_slice()) else {
        return damaged(format!("what {what} shares with others does not parse"));
    };
    inode.set_shares(shares);
    inode::put(txn, volume, &inode);
    match inline.filter(|_| !shares.gone) {
        Some(inline) if inline.is_of(&node.content) && node.content.len() <= INLINE_BYTES_MAX => {
            content::put(txn, volume, attr.ino, &node.content);
        }
        None if node.content.is_empty() => {}
        _ => return damaged(format!("what is in {what} is not what was dumped")),
    }
    if !node.shares.is_empty() {
        record.layered = true;
        record.coding |= shares.hidden && node.layout.as_ref().is_some_and(Layout::is_coded);
        txn.put(keys::frozen(volume, attr.ino), vec![VERSION]);
    }
    if shares.hidden {
        return Ok(());
    }
    record.inodes += u64::from(!is_root);
    if inode.kind() == kind::FILE {
        record.used_bytes = record.used_bytes.saturating_add(inode.attr.size);
    }
    Ok(())
}

fn put_xattrs(txn: &mut Txn<'_>, volume: u64, node: &Node) -> Outcome<(u32, u32)> {
    let (mut count, mut bytes) = (0u32, 0u32);
    for attribute in &node.xattrs {
        let key = keys::xattr(volume, node.attr.ino, &attribute.name);
        let name_fits = (1..=255).contains(&attribute.name.len()) && !attribute.name.contains(&0);
        if !name_fits || attribute.value.len() > XATTR_VALUE_BYTES_MAX || txn.get(&key)?.is_some() {
            return damaged(format!("{} has an attribute twice, or one that cannot be", Ino(node.attr.ino)));
        }
        txn.put(key, Writer::new(1 + attribute.value.len()).tail(&attribute.value));
        count += 1;
        bytes += u32::try_from(attribute.name.len() + 1).expect("at most 256");
    }
    if bytes as usize > XATTR_LIST_BYTES_MAX {
        return damaged(format!("{} has more attributes than fit", Ino(node.attr.ino)));
    }
    Ok((count, bytes))
}

fn put_name(txn: &mut Txn<'_>, volume: u64, name: &NameOf) -> Outcome<()> {
    let parsed = Name::parse_new(&name.name)?;
    let directory = inode::directory(txn, volume, name.parent)?;
    let Body::Directory { next_cookie } = directory.body else {
        unreachable!("inode::directory gives directories");
    };
    let mut inode = inode::get(txn, volume, name.ino)?;
    let taken = txn.get(&keys::order(volume, name.parent, name.cookie))?.is_some()
        || entry::find(txn, volume, name.parent, parsed)?.is_some();
    if taken || !(FIRST_COOKIE..next_cookie).contains(&name.cookie) {
        return damaged(format!("{parsed} in {} is there twice, or has a wrong cookie", Ino(name.parent)));
    }
    if name.ino == Ino::ROOT.0 || inode.is_dir() && inode.parent != 0 {
        return damaged(format!("{parsed} is a second name of directory {}", Ino(name.ino)));
    }
    let entry = Entry { ino: name.ino, kind: inode.kind(), cookie: name.cookie };
    entry::put(txn, volume, name.parent, parsed, entry);
    home::add(txn, volume, &mut inode, (name.parent, name.cookie))?;
    inode::put(txn, volume, &inode);
    Ok(())
}
