//! `fcntl` ranges and `flock` locks: one row per inode with all its locks, one per (session, inode) for the session's end.

use proto::error::Code;
use proto::id::Ino;
use proto::mrc::{LockReply, LockRequest};
use rt::table::{Reader, Txn, prefix_end};

use super::record::{Writer, unversioned, versioned};
use super::{Outcome, corrupt, inode, keys, refuse};

/// `F_RDLCK`.
pub const READ: u32 = 0;
/// `F_WRLCK`.
pub const WRITE: u32 = 1;
/// `F_UNLCK`.
pub const UNLOCK: u32 = 2;
/// Most locks of one inode; a row is rewritten with each change.
pub const LOCKS_PER_INODE: usize = 4096;

/// Who holds or wants a lock: (session, owner within it).
pub type Owner = (u64, u64);

/// A lock that is held.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Held {
    /// Session.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// Owner within the session.
    #[prost(fixed64, tag = "2")]
    pub owner: u64,
    /// First byte.
    #[prost(uint64, tag = "3")]
    pub start: u64,
    /// Last byte, inclusive.
    #[prost(uint64, tag = "4")]
    pub end: u64,
    /// [`READ`] or [`WRITE`].
    #[prost(uint32, tag = "5")]
    pub kind: u32,
    /// Process.
    #[prost(uint32, tag = "6")]
    pub pid: u32,
    /// `flock`: never meets `fcntl` locks.
    #[prost(bool, tag = "7")]
    pub flock: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    #[prost(message, repeated, tag = "1")]
    locks: Vec<Held>,
}

impl Held {
    /// Who holds it.
    #[must_use]
    pub fn by(&self) -> Owner {
        (self.session, self.owner)
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start <= end && start <= self.end
    }
}

/// The locks of a row, if it parses.
pub(crate) fn parse(value: &[u8]) -> Option<Vec<Held>> {
    Some(unversioned::<Row>(value)?.locks)
}

fn load(reader: &(impl Reader + ?Sized), volume: u64, ino: u64) -> Outcome<Vec<Held>> {
    let key = keys::lock(volume, ino);
    match reader.get(&key)? {
        Some(value) => parse(&value).ok_or_else(|| corrupt("lock", &key)),
        None => Ok(Vec::new()),
    }
}

fn store(txn: &mut Txn<'_>, volume: u64, ino: u64, locks: Vec<Held>) {
    let key = keys::lock(volume, ino);
    if locks.is_empty() { txn.delete(key) } else { txn.put(key, versioned(&Row { locks })) }
}

/// The range that a request means: a `flock` lock is on the whole file.
fn range(request: &LockRequest) -> Outcome<(u64, u64)> {
    if request.kind > UNLOCK || (!request.flock && request.start > request.end) {
        return refuse(
            Code::InvalidArgument,
            format!("lock kind {} on bytes {} to {}", request.kind, request.start, request.end),
        );
    }
    Ok(if request.flock { (0, u64::MAX) } else { (request.start, request.end) })
}

/// Locks of others that stand in the way of a request, lowest first.
pub fn conflicts(reader: &(impl Reader + ?Sized), request: &LockRequest) -> Outcome<Vec<Held>> {
    let (start, end) = range(request)?;
    let me = (request.head.session, request.owner);
    let mut found: Vec<Held> = load(reader, request.head.volume, request.ino)?
        .into_iter()
        .filter(|held| held.flock == request.flock && held.by() != me && held.overlaps(start, end))
        .filter(|held| request.kind == WRITE || (request.kind == READ && held.kind == WRITE))
        .collect();
    found.sort_by_key(|held| (held.start, held.end, held.by()));
    Ok(found)
}

/// Answer to `F_GETLK`.
pub fn test(reader: &(impl Reader + ?Sized), request: &LockRequest) -> Outcome<LockReply> {
    inode::get(reader, request.head.volume, request.ino)?;
    Ok(match conflicts(reader, request)?.first() {
        Some(held) => LockReply { start: held.start, end: held.end, kind: held.kind, pid: held.pid },
        None => LockReply { start: request.start, end: request.end, kind: UNLOCK, pid: 0 },
    })
}

/// Takes or frees a lock, or refuses with `WouldBlock`.
pub fn change(txn: &mut Txn<'_>, request: &LockRequest) -> Outcome<LockReply> {
    let (start, end) = range(request)?;
    let (volume, session) = (request.head.volume, request.head.session);
    if session == 0 {
        return refuse(Code::InvalidArgument, "a lock needs a session");
    }
    if request.kind != UNLOCK {
        inode::get(txn, volume, request.ino)?;
        if let Some(held) = conflicts(txn, request)?.first() {
            return refuse(
                Code::WouldBlock,
                format!(
                    "{} is locked by process {} (bytes {} to {})",
                    Ino(request.ino),
                    held.pid,
                    held.start,
                    held.end
                ),
            );
        }
    }
    let mut locks = load(txn, volume, request.ino)?;
    let mine = (session, request.owner);
    cut(&mut locks, mine, request.flock, start, end);
    if request.kind != UNLOCK {
        let new = Held {
            session,
            owner: request.owner,
            start,
            end,
            kind: request.kind,
            pid: request.pid,
            flock: request.flock,
        };
        insert(&mut locks, new);
        txn.put(keys::lock_session(volume, session, request.ino), Writer::new(1).0);
    } else if !locks.iter().any(|held| held.session == session) {
        txn.delete(keys::lock_session(volume, session, request.ino));
    }
    if locks.len() > LOCKS_PER_INODE {
        return refuse(
            Code::Busy,
            format!("{} has {LOCKS_PER_INODE} locks, the limit; free some first", Ino(request.ino)),
        );
    }
    store(txn, volume, request.ino, locks);
    Ok(LockReply { start: request.start, end: request.end, kind: request.kind, pid: request.pid })
}

/// Takes `start..=end` out of the owner's locks; one that reaches over both ends is split.
fn cut(locks: &mut Vec<Held>, by: Owner, flock: bool, start: u64, end: u64) {
    let mut kept = Vec::with_capacity(locks.len() + 1);
    for held in locks.drain(..) {
        if held.by() != by || held.flock != flock || !held.overlaps(start, end) {
            kept.push(held);
            continue;
        }
        if held.start < start {
            kept.push(Held { end: start - 1, ..held });
        }
        if held.end > end {
            kept.push(Held { start: end + 1, ..held });
        }
    }
    *locks = kept;
}

/// Adds a lock, merged with the owner's adjacent ones of the same kind; keeps the list sorted.
fn insert(locks: &mut Vec<Held>, mut new: Held) {
    locks.retain(|held| {
        let same = held.by() == new.by() && held.flock == new.flock && held.kind == new.kind;
        let adjacent = held.end.saturating_add(1) >= new.start && new.end.saturating_add(1) >= held.start;
        if same && adjacent {
            new.start = new.start.min(held.start);
            new.end = new.end.max(held.end);
        }
        !(same && adjacent)
    });
    locks.push(new);
    locks.sort_by_key(|held| (held.start, held.end, held.by(), held.flock));
}

/// A freed inode's locks go with it.
pub fn remove_all(txn: &mut Txn<'_>, volume: u64, ino: u64) -> Outcome<()> {
    let locks = load(txn, volume, ino)?;
    if !locks.is_empty() {
        txn.delete(keys::lock(volume, ino));
    }
    for held in locks {
        txn.delete(keys::lock_session(volume, held.session, ino));
    }
    Ok(())
}

/// Releases everything that a session holds in a volume.
pub fn release_session(txn: &mut Txn<'_>, volume: u64, session: u64) -> Outcome<()> {
    let prefix = keys::locks_of_session(volume, session);
    for (key, _) in txn.scan(&prefix, &prefix_end(&prefix), usize::MAX)? {
        let ino = keys::word(&key, 2).ok_or_else(|| corrupt("lock session", &key))?;
        let mut locks = load(txn, volume, ino)?;
        locks.retain(|held| held.session != session);
        store(txn, volume, ino, locks);
        txn.delete(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Locks of one owner and kind as a map from byte to kind, against a model that knows single bytes only.
    #[test]
    fn split_and_merge_agree_with_single_bytes() {
        let mut locks = Vec::new();
        let mut model = [None; 16];
        let mut seed = 7u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (a, b, kind) =
                (seed >> 33 & 15, seed >> 40 & 15, u32::try_from(seed >> 50 & 0xff).unwrap() % 3);
            let (start, end) = (a.min(b), a.max(b));
            cut(&mut locks, (1, 1), false, start, end);
            model[usize::try_from(start).unwrap()..=usize::try_from(end).unwrap()].fill(None);
            if kind != UNLOCK {
                insert(&mut locks, Held { session: 1, owner: 1, start, end, kind, pid: 0, flock: false });
                model[usize::try_from(start).unwrap()..=usize::try_from(end).unwrap()].fill(Some(kind));
            }
            let mut seen = [None; 16];
            for held in &locks {
                for byte in held.start..=held.end {
                    assert_eq!(
                        seen[usize::try_from(byte).unwrap()].replace(held.kind),
                        None,
                        "overlap in {locks:?}"
                    );
                }
            }
            assert_eq!(seen, model);
            assert!(
                locks.windows(2).all(|pair| pair[0].end + 1 < pair[1].start || pair[0].kind != pair[1].kind)
            );
        }
    }
}
