//! Data that files and snapshots share: new tops, clones, and its end. See docs/protocols/snapshots.md.

use proto::error::Code;
use proto::id::Ino;
use proto::mrc::{Time, kind};
use proto::snapshot::{CloneRequest, FoldRequest};
use proto::stripe::Layout;
use rt::table::{Reader, Txn, prefix_end};

use super::inode::{self, FLAG_APPEND, FLAG_IMMUTABLE, Inode, Layers};
use super::keys::{self, table};
use super::past::Past;
use super::volume::{self, Volume};
use super::{Outcome, access, coding, collect, content, corrupt, refuse, snapshot};
use crate::quota::{self, room::room};
use crate::usage;

/// Layers below one another at most; beyond that a file cannot be written until its layers are folded.
pub const CHAIN_MAX: usize = 64;

/// Whether the file must get a new top before it is written: a snapshot or somebody else may show what it has now.
pub fn needs_thaw(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    record: &Volume,
    inode: &Inode,
) -> Outcome<bool> {
    if inode.kind() != kind::FILE {
        return Ok(false);
    }
    if inode.shares().encoding != 0 {
        return Ok(true);
    }
    let top = inode.top();
    if record.newest_snapshot().is_some_and(|moment| top < moment.next_ino) {
        return Ok(true);
    }
    if top == inode.attr.ino {
        return Ok(inode.shares().refs > 0);
    }
    let row = inode::get_any(reader, volume, top)?;
    if coding::is_coded(&row)? {
        return Ok(true);
    }
    let shares = row.shares();
    let shown_by_its_own = !shares.hidden && shares.top == 0;
    Ok(shares.refs > 1 || shown_by_its_own)
}

/// Likewise for somebody who writes, which the right to alone does not say: also when what it shows is at the MRC.
pub fn needs_thaw_to_write(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    record: &Volume,
    inode: &Inode,
) -> Outcome<bool> {
    Ok(needs_thaw(reader, volume, record, inode)? || content::shows_inline(reader, volume, inode)?)
}

/// Gives a file a top that nothing else needs, and ends its being encoded. Nothing is done when it has one. `place`: where a
/// new top goes that replaces data that is not at the OSDs as it is, else it goes where the file was.
pub fn thaw(
    txn: &mut Txn<'_>,
    now: Time,
    (volume, ino): (u64, u64),
    place: Option<&Layout>,
) -> Outcome<Inode> {
    coding::forget(txn, volume, ino)?;
    let mut inode = inode::get(txn, volume, ino)?;
    let mut record = volume::live(txn, volume)?;
    if !needs_thaw_to_write(txn, volume, &record, &inode)? {
        return Ok(inode);
    }
    let own = Layout { previous: Vec::new(), view: 1, inline: None, ..inode.layout()? };
    let layout = match place {
        Some(place)
            if coding::shows_coded(txn, volume, &inode)? || content::shows_inline(txn, volume, &inode)? =>
        {
            place.clone()
        }
        _ => own,
    };
    let below = inode.top();
    if shown(txn, volume, below)?.len() >= CHAIN_MAX {
        return refuse(
            Code::Busy,
            format!("{} has {CHAIN_MAX} layers of snapshots: copy it (`cp`), then remove it", Ino(ino)),
        );
    }
    let top = record.next_ino;
    record.next_ino += 1;
    record.layered = true;
    volume::put(txn, volume, &record);
    let mut data =
        Inode::new(top, kind::FILE << 12, (inode.attr.uid, inode.attr.gid), now, layout_body(&layout));
    data.attr.nlink = 0;
    let shows = inode.attr.size > 0;
    let base = if shows { below } else { 0 };
    data.set_shares(Layers { hidden: true, refs: 1, base, base_bytes: inode.attr.size, ..Layers::default() });
    inode::put(txn, volume, &data);
    let own = below == ino;
    let mut shares = inode.shares();
    shares.top = top;
    inode.set_shares(shares);
    inode.attr.change += 1;
    inode::put(txn, volume, &inode);
    // Who was counted as its top is now its base; the file's own data was not counted.
    match (own, shows) {
        (true, true) => hold(txn, volume, below)?,
        (false, false) => release(txn, volume, below)?,
        (true, false) | (false, true) => {}
    }
    given_up(txn, volume, below)?;
    collect_data(txn, volume, below)?;
    inode::get(txn, volume, ino)
}

fn layout_body(layout: &Layout) -> inode::Body {
    inode::Body::File(prost::Message::encode_to_vec(layout))
}

/// Data that a file shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Its number.
    pub data: u64,
    /// Where it is now, whenever it was written.
    pub layout: Layout,
    /// From here on it does not show through, bytes.
    pub bytes: u64,
}

/// The data that shows through `top`, itself first. Rows of now: a snapshot's own would say where the data was then.
pub fn shown(reader: &(impl Reader + ?Sized), volume: u64, top: u64) -> Outcome<Vec<Shown>> {
    let mut all = Vec::new();
    let (mut at, mut bytes) = (top, u64::MAX);
    while at != 0 && all.len() <= 2 * CHAIN_MAX {
        let row = inode::get_any(reader, volume, at)?;
        all.push(Shown { data: at, layout: row.layout()?, bytes });
        let shares = row.shares();
        bytes = bytes.min(shares.base_bytes);
        at = shares.base;
    }
    Ok(all)
}

fn change(txn: &mut Txn<'_>, volume: u64, ino: u64, change: impl FnOnce(&mut Layers)) -> Outcome<()> {
    let Some(mut row) = inode::find_any(txn, volume, ino)? else {
        return Err(corrupt("shared data of inode", &keys::inode(volume, ino)));
    };
    let mut shares = row.shares();
    change(&mut shares);
    row.set_shares(shares);
    inode::put(txn, volume, &row);
    Ok(())
}

fn hold(txn: &mut Txn<'_>, volume: u64, ino: u64) -> Outcome<()> {
    change(txn, volume, ino, |shares| shares.refs += 1)
}

fn release(txn: &mut Txn<'_>, volume: u64, ino: u64) -> Outcome<()> {
    change(txn, volume, ino, |shares| shares.refs = shares.refs.saturating_sub(1))
}

/// Somebody does not show this data any more: only snapshots until now may.
fn given_up(txn: &mut Txn<'_>, volume: u64, ino: u64) -> Outcome<()> {
    let newest = volume::find(txn, volume)?.map_or(0, |record| record.last_snapshot);
    change(txn, volume, ino, |shares| shares.died = shares.died.max(newest))?;
    txn.put(keys::frozen(volume, ino), vec![super::record::VERSION]);
    Ok(())
}

/// Lets data go that nobody needs any more, and what was below it.
pub fn collect_data(txn: &mut Txn<'_>, volume: u64, ino: u64) -> Outcome<()> {
    let Some(record) = volume::find(txn, volume)? else { return Ok(()) };
    let mut at = ino;
    while at != 0 {
        let Some(mut row) = inode::find_any(txn, volume, at)? else { return Ok(()) };
        let mut shares = row.shares();
        let is_shown = !shares.hidden && shares.top == 0;
        let in_snapshot =
            record.snapshots.iter().any(|moment| at < moment.next_ino && moment.id <= shares.died);
        if is_shown || shares.refs > 0 || in_snapshot {
            if is_shown && shares.refs == 0 {
                // Only its own file needs it, which looks when it goes.
                txn.delete(keys::frozen(volume, at));
            }
            return Ok(());
        }
        txn.delete(keys::frozen(volume, at));
        if !shares.gone {
            collect::discard(txn, volume, &row)?;
        }
        let base = std::mem::take(&mut shares.base);
        if shares.hidden {
            txn.delete(keys::inode(volume, at));
        } else {
            shares.gone = true;
            row.set_shares(shares);
            inode::put(txn, volume, &row);
        }
        if base != 0 {
            release(txn, volume, base)?;
            given_up(txn, volume, base)?;
        }
        at = base;
    }
    Ok(())
}

/// A file is freed: true when its row stays, hidden, because its data is needed. Nothing is done for a file that shares
/// nothing, unless a snapshot shows it.
pub fn freed(txn: &mut Txn<'_>, volume: u64, inode: &Inode) -> Outcome<bool> {
    let Some(record) = volume::find(txn, volume)? else { return Ok(false) };
    let ino = inode.attr.ino;
    let in_snapshot = record.newest_snapshot().is_some_and(|moment| ino < moment.next_ino);
    if inode.layers.is_none() && !in_snapshot {
        return Ok(false);
    }
    coding::forget(txn, volume, ino)?;
    let mut row = Inode { attr: inode.attr.clone(), ..Inode::clone(inode) };
    let mut shares = row.shares();
    shares.encoding = 0;
    let top = std::mem::take(&mut shares.top);
    shares.hidden = true;
    row.set_shares(shares);
    (row.attr.nlink, row.attr.size, row.attr.blocks, row.attr.flags) = (0, 0, 0, 0);
    (row.parent, row.cookie, row.xattrs, row.xattr_list_bytes) = (0, 0, 0, 0);
    row.acls = super::acl::Acls::default();
    row.tell_lists();
    inode::put(txn, volume, &row);
    if top == 0 {
        given_up(txn, volume, ino)?;
    } else {
        release(txn, volume, top)?;
        given_up(txn, volume, top)?;
        collect_data(txn, volume, top)?;
    }
    collect_data(txn, volume, ino)?;
    Ok(true)
}

/// A file became this small: less of what is below it shows through.
pub fn cut(txn: &mut Txn<'_>, volume: u64, inode: &mut Inode, size: u64) -> Outcome<()> {
    if inode.layers.is_none() {
        return Ok(());
    }
    let top = inode.top();
    if top == inode.attr.ino {
        let mut shares = inode.shares();
        shares.base_bytes = shares.base_bytes.min(size);
        inode.set_shares(shares);
        return Ok(());
    }
    change(txn, volume, top, |shares| shares.base_bytes = shares.base_bytes.min(size))?;
    if size == 0 {
        give_base_up(txn, volume, top)?;
        // That may have been its own.
        let encoding = inode.shares().encoding;
        let shares = inode::get_any(txn, volume, inode.attr.ino)?.shares();
        inode.set_shares(Layers { encoding, ..shares });
    }
    Ok(())
}

/// Nothing of what is below this data shows through it any more.
fn give_base_up(txn: &mut Txn<'_>, volume: u64, data: u64) -> Outcome<()> {
    let Some(row) = inode::find_any(txn, volume, data)? else { return Ok(()) };
    let base = row.shares().base;
    if base == 0 {
        return Ok(());
    }
    change(txn, volume, data, |shares| (shares.base, shares.base_bytes) = (0, 0))?;
    release(txn, volume, base)?;
    given_up(txn, volume, base)?;
    collect_data(txn, volume, base)
}

/// A file shows other data than `old` from now on; `own`: that was the data of its number.
pub(super) fn gave_up(txn: &mut Txn<'_>, volume: u64, old: u64, own: bool) -> Outcome<()> {
    if !own {
        release(txn, volume, old)?;
    }
    given_up(txn, volume, old)?;
    collect_data(txn, volume, old)
}

/// Some data holds everything that showed through it.
pub fn fold(txn: &mut Txn<'_>, ask: &FoldRequest) -> Outcome<()> {
    let volume = ask.head.volume;
    // Let go meanwhile: there is nothing left to do.
    give_base_up(txn, volume, ask.layer)
}

/// Gives a file the content of another.
pub fn clone(txn: &mut Txn<'_>, now: Time, ask: &CloneRequest) -> Outcome<Inode> {
    let (head, volume) = (&ask.head, ask.head.volume);
    let mut record = volume::live(txn, volume)?;
    let source = match ask.from_snapshot {
        0 => inode::get(txn, volume, ask.from)?,
        id => {
            snapshot::exists(&record, id)?;
            inode::get(&Past::new(&*txn, id), volume, ask.from)?
        }
    };
    let mut target = inode::get(txn, volume, ask.to)?;
    if source.kind() != kind::FILE || target.kind() != kind::FILE {
        return refuse(Code::InvalidArgument, "only the content of regular files can be cloned");
    }
    if target.has_flag(FLAG_IMMUTABLE | FLAG_APPEND) {
        return refuse(Code::NotPermitted, format!("{} is immutable or append-only", Ino(ask.to)));
    }
    access::require(&source, head, access::R)?;
    access::require(&target, head, access::W)?;
    let top = source.top();
    let growth = source.attr.size.saturating_sub(target.attr.size);
    if let Some(left) = room(txn, volume, &target, growth)?.filter(|left| *left < growth) {
        return refuse(
            Code::QuotaExceeded,
            format!(
                "{} may grow by {left} bytes, the clone needs {growth}; see `xtfs quota ls`",
                Ino(ask.to)
            ),
        );
    }
    if ask.from_snapshot == 0 && ask.from == ask.to
        || top == target.top() && target.attr.size == source.attr.size
    {
        return Ok(target);
    }
    record.layered = true;
    volume::put(txn, volume, &record);
    // First, so that it is not let go when the target gives up the same data.
    if top != ask.to {
        hold(txn, volume, top)?;
    }
    if ask.from_snapshot == 0 {
        // Who writes it looks again before it goes on.
        let mut source = inode::get(txn, volume, ask.from)?;
        source.attr.change += 1;
        inode::put(txn, volume, &source);
    }
    txn.put(keys::frozen(volume, top), vec![super::record::VERSION]);
    coding::forget(txn, volume, ask.to)?;
    target = inode::get(txn, volume, ask.to)?;
    let before = target.attr.clone();
    let old = target.top();
    let mut shares = target.shares();
    shares.top = if top == ask.to { 0 } else { top };
    target.set_shares(shares);
    (target.attr.size, target.attr.blocks) = (source.attr.size, source.attr.blocks);
    target.attr.truncate_epoch += 1;
    target.modified(now);
    inode::put(txn, volume, &target);
    gave_up(txn, volume, old, old == ask.to)?;
    let target = inode::get(txn, volume, ask.to)?;
    volume::resized(txn, volume, before.size, target.attr.size)?;
    usage::changed(txn, volume, &before, &target)?;
    quota::changed(txn, volume, &before, &target.attr)?;
    Ok(target)
}

/// Looks at up to `limit` frozen data after `after`. Gives where to go on; `None`: at the end.
pub fn sweep(txn: &mut Txn<'_>, volume: u64, after: &[u8], limit: usize) -> Outcome<Option<Vec<u8>>> {
    let prefix = keys::of_volume(table::FROZEN, volume);
    let from = if after.starts_with(&prefix) { keys::after(after) } else { prefix.clone() };
    let rows = txn.scan(&from, &prefix_end(&prefix), limit)?;
    let full = rows.len() == limit;
    for (key, _) in &rows {
        let ino = keys::word(key, 1).ok_or_else(|| corrupt("frozen", key))?;
        match inode::find_any(txn, volume, ino)? {
            Some(_) => collect_data(txn, volume, ino)?,
            None => txn.delete(key.clone()),
        }
    }
    Ok(rows.last().filter(|_| full).map(|(key, _)| key.clone()))
}
