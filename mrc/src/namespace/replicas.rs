//! Replica lists of files: views, one change at a time. `docs/protocols/views.md` has the argument.

use std::collections::BTreeSet;

use prost::Message;
use proto::error::Code;
use proto::id::{Ino, OsdId};
use proto::limits::REPLICAS_MAX;
use proto::mrc::{
    CompleteReplicasRequest, Head, ListReplicasRequest, ReplicatedFile, ReplicatedFiles, SetReplicasRequest,
    kind,
};
use proto::stripe::{Column, Layout};
use rt::table::{Reader, Txn, prefix_end};

use super::inode::{self, Body, Inode};
use super::keys::{self, table};
use super::record::{Cursor, Writer};
use super::{Outcome, corrupt, refuse};

/// Inodes looked at for one page.
const PAGE_ROWS: usize = 1024;

/// Gives a file new lists; the old ones stay beside them until [`complete`].
pub fn set(txn: &mut Txn<'_>, request: &SetReplicasRequest) -> Outcome<Layout> {
    let (volume, mut inode) = (request.head.volume, inode::get_any(txn, request.head.volume, request.ino)?);
    let mut layout = layout_at(&inode, request.view, &request.head)?;
    if !layout.previous.is_empty() {
        return refuse(
            Code::Busy,
            format!(
                "the replicas of {} are being changed (view {}); complete that first",
                Ino(request.ino),
                layout.view
            ),
        );
    }
    check(&layout, &request.columns)?;
    let cleared = dropped(txn, volume, request.ino)?;
    let wanted: BTreeSet<u64> =
        request.columns.iter().flat_map(|column| column.osds.iter().copied()).collect();
    if let Some(osd) = cleared.intersection(&wanted).next() {
        return refuse(
            Code::Busy,
            format!(
                "{} was dropped from {} and is still being cleared; try again",
                OsdId(*osd),
                Ino(request.ino)
            ),
        );
    }
    let learners = learners(&layout, request)?;
    layout.previous = std::mem::replace(&mut layout.columns, request.columns.clone());
    layout.previous_learners = std::mem::replace(&mut layout.learners, learners);
    layout.view += 1;
    inode.body = Body::File(layout.encode_to_vec());
    inode::put(txn, volume, &inode);
    Ok(layout)
}

/// The new lists have everything: the old ones go, and what OSDs hold that are in no list any more.
pub fn complete(txn: &mut Txn<'_>, request: &CompleteReplicasRequest) -> Outcome<Layout> {
    let (volume, mut inode) = (request.head.volume, inode::get_any(txn, request.head.volume, request.ino)?);
    let mut layout = layout_at(&inode, request.view, &request.head)?;
    if layout.previous.is_empty() {
        return Ok(layout);
    }
    let before = layout.all_osds();
    layout.previous.clear();
    layout.previous_learners.clear();
    layout.view += 1;
    let stays = layout.all_osds();
    let gone: BTreeSet<u64> = before.iter().filter(|osd| !stays.contains(osd)).map(|osd| osd.0).collect();
    if !gone.is_empty() {
        put_dropped(txn, volume, request.ino, &layout, &gone)?;
    }
    inode.body = Body::File(layout.encode_to_vec());
    inode::put(txn, volume, &inode);
    Ok(layout)
}

/// The layout, when the caller may change it and saw its present view.
fn layout_at(inode: &Inode, view: u64, head: &Head) -> Outcome<Layout> {
    let ino = Ino(inode.attr.ino);
    if head.uid != 0 && head.uid != inode.attr.uid {
        return refuse(
            Code::NotPermitted,
            format!("the replicas of {ino} are its owner's business and root's"),
        );
    }
    let layout = inode.layout()?;
    if layout.view != view {
        return refuse(
            Code::OldView,
            format!("{ino} is in view {}, the caller saw view {view}; look again", layout.view),
        );
    }
    Ok(layout)
}

/// Policy `all`: who does not vote in the new lists: who is said not to, and who was in none of the lists before.
fn learners(layout: &Layout, request: &SetReplicasRequest) -> Outcome<Vec<u64>> {
    if !layout.is_all() {
        return Ok(Vec::new());
    }
    let was_there = |osd: &u64| layout.columns.iter().any(|column| column.osds.contains(osd));
    let learns = |osd: &u64| request.learners.contains(osd) || !was_there(osd);
    let listed: BTreeSet<u64> =
        request.columns.iter().flat_map(|column| column.osds.iter().copied()).collect();
    let learners: Vec<u64> = listed.into_iter().filter(learns).collect();
    // Somebody who has everything, in each column.
    let voted = |osd: &u64| !layout.learners.contains(osd);
    let stays = |(now, before): (&Column, &Column)| {
        now.osds.iter().any(|osd| !learners.contains(osd) && before.osds.contains(osd) && voted(osd))
    };
    match request.columns.iter().zip(&layout.columns).position(|both| !stays(both)) {
        None => Ok(learners),
        Some(index) => refuse(
            Code::InvalidArgument,
            format!(
                "the new replica lists leave nobody in column {index} who has everything; keep one replica that counts (`xtfs replica ls`)"
            ),
        ),
    }
}

/// The layout of a file or of other data.
pub fn layout_of(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Layout> {
    inode::get_any(reader, volume, ino)?.layout()
}

fn check(layout: &Layout, columns: &[Column]) -> Outcome<()> {
    let bad = |why: String| refuse(Code::InvalidArgument, format!("the new replica lists {why}"));
    if !layout.is_replicated() {
        return bad(
            "are of a file with one copy, which has none; copy the file into a volume with replicas".into()
        );
    }
    if columns.len() != layout.columns.len() {
        return bad(format!("have {} columns, the file has {}", columns.len(), layout.columns.len()));
    }
    for (index, column) in columns.iter().enumerate() {
        let distinct: BTreeSet<u64> = column.osds.iter().copied().collect();
        if column.osds.len() < 2 || column.osds.len() > REPLICAS_MAX as usize || distinct.contains(&0) {
            return bad(format!(
                "give column {index} {} replicas: from 2 to {REPLICAS_MAX}",
                column.osds.len()
            ));
        }
        if distinct.len() != column.osds.len() {
            return bad(format!("name an OSD twice in column {index}"));
        }
    }
    Ok(())
}

/// OSDs whose objects of a living file are still to be removed.
fn dropped(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<BTreeSet<u64>> {
    let key = keys::garbage(volume, ino);
    let Some(value) = reader.get(&key)? else { return Ok(BTreeSet::new()) };
    let layout: Option<Layout> = Cursor::new(&value).and_then(|cursor| Layout::decode(cursor.rest()).ok());
    let layout = layout.ok_or_else(|| corrupt("garbage", &key))?;
    Ok(layout.all_osds().iter().map(|osd| osd.0).collect())
}

fn put_dropped(
    txn: &mut Txn<'_>,
    volume: u64,
    ino: u64,
    layout: &Layout,
    gone: &BTreeSet<u64>,
) -> Outcome<()> {
    let mut all = dropped(txn, volume, ino)?;
    all.extend(gone);
    // No columns: the file itself is not garbage.
    let previous = vec![Column { osds: all.into_iter().collect() }];
    let row = Layout { columns: Vec::new(), previous, ..layout.clone() };
    let bytes = row.encode_to_vec();
    txn.put(keys::garbage(volume, ino), Writer::new(1 + bytes.len()).tail(&bytes));
    Ok(())
}

/// A freed file takes along who was dropped from its lists and is not cleared yet.
pub fn with_dropped(txn: &Txn<'_>, volume: u64, ino: u64, mut layout: Layout) -> Outcome<Layout> {
    let dropped = dropped(txn, volume, ino)?;
    if !dropped.is_empty() {
        layout.previous.push(Column { osds: dropped.into_iter().collect() });
    }
    Ok(layout)
}

/// Replicated files of a volume that concern certain OSDs, a page of them.
pub fn page(reader: &(impl Reader + ?Sized), request: &ListReplicasRequest) -> Outcome<ReplicatedFiles> {
    let volume = request.head.volume;
    let from = keys::after(&keys::inode(volume, request.after));
    let of_volume = keys::inode(volume, 0);
    let end = prefix_end(&of_volume[..of_volume.len() - 8]);
    debug_assert_eq!(of_volume[0], table::INODE);
    let rows = reader.scan(&from, &end, PAGE_ROWS)?;
    let full = rows.len() == PAGE_ROWS;
    let mut page = ReplicatedFiles::default();
    for (key, value) in rows {
        let inode = inode::parse(&key, &value)?;
        page.next = if full { inode.attr.ino } else { 0 };
        if inode.kind() != kind::FILE {
            continue;
        }
        let layout = inode.layout()?;
        let changes = !layout.previous.is_empty() || !layout.learners.is_empty();
        let lies = || layout.all_osds().iter().any(|osd| request.osds.contains(&osd.0));
        // What is kept here has no objects: where it would go is decided anew when it is written.
        let concerns = changes || !layout.is_inline() && (request.osds.is_empty() || lies());
        if layout.is_replicated() && concerns {
            page.files.push(ReplicatedFile { ino: inode.attr.ino, size: inode.attr.size, layout });
        }
    }
    Ok(page)
}
