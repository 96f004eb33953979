//! Small files whose bytes are here and not at the OSDs. See docs/protocols/small-files.md.

use bytes::Bytes;
use prost::Message;
use proto::error::Code;
use proto::id::Ino;
use proto::limits::INLINE_BYTES_MAX;
use proto::mrc::{EarlyContent, kind};
use proto::stripe::{Inline, Layout};
use rt::table::{Reader, Txn};

use super::inode::{self, Body, Inode};
use super::record::{Cursor, Writer};
use super::{Outcome, corrupt, keys, layers, refuse, volume};

/// How these bytes are told of in a layout; `None`: they are none that may be kept here, or not those that were sent.
#[must_use]
pub fn inline_of(content: &EarlyContent) -> Option<Inline> {
    let inline = Inline::of(&content.data);
    let fits = (1..=INLINE_BYTES_MAX).contains(&content.data.len());
    (fits && inline.crc == content.crc).then_some(inline)
}

/// Keeps the bytes of the data of a number, whose layout says so.
pub fn put(txn: &mut Txn<'_>, volume: u64, data: u64, bytes: &[u8]) {
    txn.put(keys::content(volume, data), Writer::new(1 + bytes.len()).tail(bytes));
}

/// The data of this number is given up.
pub fn delete(txn: &mut Txn<'_>, volume: u64, data: u64) {
    txn.delete(keys::content(volume, data));
}

/// The bytes of the data of a number with this layout; none unless they are here.
pub fn of(reader: &(impl Reader + ?Sized), volume: u64, data: u64, layout: &Layout) -> Outcome<Bytes> {
    let Some(inline) = layout.inline else { return Ok(Bytes::new()) };
    let key = keys::content(volume, data);
    let value = reader.get(&key)?.ok_or_else(|| corrupt("content", &key))?;
    let bytes = Cursor::new(&value).ok_or_else(|| corrupt("content", &key))?.rest();
    if inline.is_of(bytes) { Ok(Bytes::copy_from_slice(bytes)) } else { Err(corrupt("content", &key)) }
}

/// Whether bytes of an inode's own data are to be here.
pub fn has(inode: &Inode) -> Outcome<bool> {
    Ok(inode.kind() == kind::FILE && !inode.shares().gone && inode.layout()?.is_inline())
}

/// Whether those that are to be here are.
pub fn is_whole(reader: &(impl Reader + ?Sized), volume: u64, inode: &Inode) -> Outcome<bool> {
    if !has(inode)? {
        return Ok(true);
    }
    let (layout, key) = (inode.layout()?, keys::content(volume, inode.attr.ino));
    let row = reader.get(&key)?;
    let bytes = row.as_deref().and_then(Cursor::new).map(|c| c.rest());
    Ok(layout.inline.zip(bytes).is_some_and(|(inline, bytes)| inline.is_of(bytes)))
}

/// Whether what a file shows is here.
pub fn shows_inline(reader: &(impl Reader + ?Sized), volume: u64, inode: &Inode) -> Outcome<bool> {
    let top = inode.top();
    if inode.kind() != kind::FILE {
        return Ok(false);
    }
    if top == inode.attr.ino {
        return Ok(inode.layout()?.is_inline());
    }
    Ok(inode::get_any(reader, volume, top)?.layout()?.is_inline())
}

/// The file is about to be cut: what is here is never cut. All of it goes when nobody else needs it: then the file is as if it had been
/// made empty. Otherwise it has to be given other data first.
pub fn cut(txn: &mut Txn<'_>, volume: u64, inode: &mut Inode, size: u64) -> Outcome<()> {
    if !shows_inline(txn, volume, inode)? {
        return Ok(());
    }
    let record = volume::live(txn, volume)?;
    if size > 0 || layers::needs_thaw(txn, volume, &record, inode)? {
        let text = format!(
            "{} is kept with its metadata: it is to be opened for writing first",
            Ino(inode.attr.ino)
        );
        return refuse(Code::Busy, text);
    }
    delete(txn, volume, inode.attr.ino);
    let layout = Layout { inline: None, ..inode.layout()? };
    inode.body = Body::File(layout.encode_to_vec());
    Ok(())
}
