//! Erasure coding of closed files: data that is being written for a file, the switch to it, and which files want it. See
//! docs/protocols/erasure-coding.md.

use std::collections::BTreeMap;

use prost::Message;
use proto::coding::{EncodableFile, EncodableFiles, ListEncodable};
use proto::error::Code;
use proto::id::Ino;
use proto::limits::CODING_BYTES_MIN;
use proto::mrc::{Time, kind};
use proto::stripe::{Coding, Layout};
use rt::table::{Reader, Txn, prefix_end};

use super::inode::{self, Body, Inode, Layers};
use super::keys::{self, table};
use super::record::{unversioned, versioned};
use super::volume::{self, Volume};
use super::{Outcome, collect, corrupt, layers, layout, refuse};

/// Inodes looked at for one page.
const PAGE_ROWS: usize = 1024;

/// Data that is being written for a file.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Pending {
    /// The file.
    #[prost(uint64, tag = "1")]
    pub ino: u64,
    /// Who writes it.
    #[prost(fixed64, tag = "2")]
    pub session: u64,
    /// Since when, Unix milliseconds.
    #[prost(uint64, tag = "3")]
    pub begun_ms: u64,
}

/// Begins an encoding of `ino`: allots its data. One that was begun before goes.
pub fn begin(
    txn: &mut Txn<'_>,
    now: Time,
    (volume, ino): (u64, u64),
    session: u64,
    layout: &Layout,
) -> Outcome<(Inode, u64)> {
    forget(txn, volume, ino)?;
    let mut inode = inode::get(txn, volume, ino)?;
    if inode.kind() != kind::FILE || inode.attr.nlink == 0 {
        return refuse(Code::InvalidArgument, format!("{} is not a regular file with a name", Ino(ino)));
    }
    if layout.coded_bytes != inode.attr.size || !layout.is_coded() {
        return refuse(Code::Busy, format!("{} changed while its encoding was begun", Ino(ino)));
    }
    let mut record = volume::live(txn, volume)?;
    let data = record.next_ino;
    record.next_ino += 1;
    (record.layered, record.coding) = (true, true);
    volume::put(txn, volume, &record);
    let body = Body::File(layout.encode_to_vec());
    let mut row = Inode::new(data, kind::FILE << 12, (inode.attr.uid, inode.attr.gid), now, body);
    row.attr.nlink = 0;
    row.set_shares(Layers { hidden: true, refs: 1, pending: true, ..Layers::default() });
    inode::put(txn, volume, &row);
    let mut shares = inode.shares();
    shares.encoding = data;
    inode.set_shares(shares);
    inode::put(txn, volume, &inode);
    let begun_ms = u64::try_from(now.seconds).unwrap_or(0) * 1000;
    txn.put(keys::encoding(volume, data), versioned(&Pending { ino, session, begun_ms }));
    Ok((inode, data))
}

/// The file shows its encoded data from now on, if nobody could write it since that was begun.
pub fn commit(txn: &mut Txn<'_>, volume: u64, ino: u64, data: u64) -> Outcome<Inode> {
    let mut inode = inode::get(txn, volume, ino)?;
    let mut shares = inode.shares();
    if data == 0 || shares.encoding != data {
        return refuse(Code::Stale, format!("{} was opened for writing while it was encoded", Ino(ino)));
    }
    let mut row = inode::get_any(txn, volume, data)?;
    row.set_shares(Layers { pending: false, ..row.shares() });
    inode::put(txn, volume, &row);
    txn.delete(keys::encoding(volume, data));
    let old = inode.top();
    (shares.top, shares.encoding) = (data, 0);
    inode.set_shares(shares);
    inode.attr.change += 1;
    inode::put(txn, volume, &inode);
    layers::gave_up(txn, volume, old, old == ino)?;
    inode::get(txn, volume, ino)
}

/// Gives up an encoding that was not committed; one that was, or is gone, is left alone.
pub fn give_up(txn: &mut Txn<'_>, volume: u64, data: u64) -> Outcome<()> {
    match pending(txn, volume, data)? {
        Some(pending) => forget_of(txn, volume, pending.ino, Some(data)),
        None => Ok(()),
    }
}

/// The file is about to change, or to go: what is being encoded of it is worth nothing.
pub fn forget(txn: &mut Txn<'_>, volume: u64, ino: u64) -> Outcome<()> {
    forget_of(txn, volume, ino, None)
}

fn forget_of(txn: &mut Txn<'_>, volume: u64, ino: u64, only: Option<u64>) -> Outcome<()> {
    let file = inode::find_any(txn, volume, ino)?;
    let of_file = file.as_ref().map_or(0, |file| file.shares().encoding);
    let data = only.unwrap_or(of_file);
    if data == 0 {
        return Ok(());
    }
    if let Some(mut file) = file.filter(|_| of_file == data) {
        file.set_shares(Layers { encoding: 0, ..file.shares() });
        inode::put(txn, volume, &file);
    }
    txn.delete(keys::encoding(volume, data));
    if let Some(row) = inode::find_any(txn, volume, data)?.filter(|row| row.shares().pending) {
        txn.delete(keys::inode(volume, data));
        collect::discard(txn, volume, &row)?;
    }
    Ok(())
}

/// An encoding that was not committed.
pub fn pending(reader: &(impl Reader + ?Sized), volume: u64, data: u64) -> Outcome<Option<Pending>> {
    let key = keys::encoding(volume, data);
    match reader.get(&key)? {
        Some(value) => Ok(Some(unversioned(&value).ok_or_else(|| corrupt("encoding", &key))?)),
        None => Ok(None),
    }
}

/// Up to `limit` of a volume's encodings that were not committed.
pub fn all_pending(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    limit: usize,
) -> Outcome<Vec<(u64, Pending)>> {
    let prefix = keys::of_volume(table::ENCODING, volume);
    let rows = reader.scan(&prefix, &prefix_end(&prefix), limit)?;
    rows.iter()
        .map(|(key, value)| {
            let parse = || Some((keys::word(key, 1)?, unversioned(value)?));
            parse().ok_or_else(|| corrupt("encoding", key))
        })
        .collect()
}

/// Encoded data is damaged: it is to be encoded anew.
pub fn damaged(txn: &mut Txn<'_>, volume: u64, data: u64) -> Outcome<()> {
    let Some(mut row) = inode::find_any(txn, volume, data)? else { return Ok(()) };
    if is_coded(&row)? && !row.shares().damaged {
        row.set_shares(Layers { damaged: true, ..row.shares() });
        inode::put(txn, volume, &row);
    }
    Ok(())
}

/// Whether the data of this very row is encoded.
pub fn is_coded(row: &Inode) -> Outcome<bool> {
    Ok(row.is_hidden() && row.layout()?.is_coded())
}

/// Whether a file shows encoded data.
pub fn shows_coded(reader: &(impl Reader + ?Sized), volume: u64, inode: &Inode) -> Outcome<bool> {
    let top = inode.top();
    Ok(top != inode.attr.ino && is_coded(&inode::get_any(reader, volume, top)?)?)
}

/// What the leader knows beyond the rows.
pub struct Known<'a> {
    /// Now, Unix milliseconds.
    pub now_ms: u64,
    /// Whether a file is open for writing.
    pub is_written: &'a dyn Fn(u64) -> bool,
}

/// Files that are to be encoded, a page of them.
pub fn page(
    reader: &(impl Reader + ?Sized),
    ask: &ListEncodable,
    known: &Known<'_>,
) -> Outcome<EncodableFiles> {
    let volume = ask.head.volume;
    let record = volume::live(reader, volume)?;
    let mut page = EncodableFiles::default();
    if !record.coding {
        return Ok(page);
    }
    let from = keys::after(&keys::inode(volume, ask.after));
    let rows = reader.scan(&from, &prefix_end(&keys::of_volume(table::INODE, volume)), PAGE_ROWS)?;
    let full = rows.len() == PAGE_ROWS;
    let mut policies = BTreeMap::new();
    for (key, value) in rows {
        let inode = inode::parse(&key, &value)?;
        page.next = if full { inode.attr.ino } else { 0 };
        if inode.kind() != kind::FILE || inode.is_hidden() || inode.attr.nlink == 0 {
            continue;
        }
        let policy = policy_of(reader, (volume, &record), inode.parent, &mut policies)?;
        let want = wants(reader, volume, &inode, policy, &ask.leaving)?;
        let (coding, repair) = match want {
            Want::Nothing => continue,
            Want::Encoded => {
                page.encoded += 1;
                continue;
            }
            Want::Encoding { coding, repair } => (coding, repair),
        };
        let ctime = inode.attr.ctime;
        let changed_ms =
            u64::try_from(ctime.seconds).unwrap_or(0) * 1000 + u64::from(ctime.nanos / 1_000_000);
        let quiet = known.now_ms.saturating_sub(changed_ms) >= ask.quiet_ms;
        if !quiet || (known.is_written)(inode.attr.ino) {
            page.busy += 1;
            continue;
        }
        page.files.push(EncodableFile { ino: inode.attr.ino, size: inode.attr.size, coding, repair });
    }
    Ok(page)
}

/// What a directory's files become.
fn policy_of(
    reader: &(impl Reader + ?Sized),
    (volume, record): (u64, &Volume),
    directory: u64,
    known: &mut BTreeMap<u64, Option<Coding>>,
) -> Outcome<Option<Coding>> {
    if !record.layouts || directory == 0 {
        return Ok(record.striping.coding);
    }
    if let Some(policy) = known.get(&directory) {
        return Ok(*policy);
    }
    let policy = layout::default_of(reader, volume, record, directory)?.striping.coding;
    known.insert(directory, policy);
    Ok(policy)
}

enum Want {
    Nothing,
    /// As it should be.
    Encoded,
    Encoding {
        coding: Coding,
        /// Parts are lost, leaving or damaged.
        repair: bool,
    },
}

fn wants(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    inode: &Inode,
    policy: Option<Coding>,
    leaving: &[u64],
) -> Outcome<Want> {
    if inode.top() != inode.attr.ino {
        let row = inode::get_any(reader, volume, inode.top())?;
        let layout = row.layout()?;
        if let Some(has) = layout.coding.filter(|_| row.is_hidden()) {
            let leaves = layout.all_osds().iter().any(|osd| leaving.contains(&osd.0));
            let coding = policy.unwrap_or(has);
            return Ok(match leaves || row.shares().damaged {
                true => Want::Encoding { coding, repair: true },
                false if coding == has => Want::Encoded,
                false => Want::Encoding { coding, repair: false },
            });
        }
    }
    Ok(match policy {
        Some(coding) if inode.attr.size >= CODING_BYTES_MIN => Want::Encoding { coding, repair: false },
        _ => Want::Nothing,
    })
}
