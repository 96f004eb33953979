//! `fcntl` ranges and `flock` locks: one row per inode with all its locks, one per (session, inode) for the session's end.

use proto::error::Code;
use proto::id::Ino;
use proto::locks::{self, LOCKS_PER_INODE, UNLOCK, WRITE};
use proto::mrc::{HeldLock as Held, LockReply, LockRequest, TellLocksRequest};
use rt::table::{Reader, Txn, prefix_end};

use super::record::{Writer, unversioned, versioned};
use super::{Outcome, corrupt, inode, keys, refuse, session};

#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    #[prost(message, repeated, tag = "1")]
    locks: Vec<Held>,
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

fn put(txn: &mut Txn<'_>, volume: u64, ino: u64, locks: Vec<Held>) {
    let key = keys::lock(volume, ino);
    if locks.is_empty() { txn.delete(key) } else { txn.put(key, versioned(&Row { locks })) }
}

/// Writes all locks of a file, of which those of `session` were changed.
fn store(txn: &mut Txn<'_>, volume: u64, ino: u64, session: u64, locks: Vec<Held>) -> Outcome<()> {
    if locks.len() > LOCKS_PER_INODE {
        return refuse(
            Code::Busy,
            format!("{} has {LOCKS_PER_INODE} locks, the limit; free some first", Ino(ino)),
        );
    }
    let of_session = keys::lock_session(volume, session, ino);
    match locks.iter().any(|held| held.session == session) {
        true => txn.put(of_session, Writer::new(1).0),
        false => txn.delete(of_session),
    }
    put(txn, volume, ino, locks);
    Ok(())
}

/// What a request means: a `flock` lock is on the whole file.
fn wanted(request: &LockRequest) -> Outcome<Held> {
    if request.kind > UNLOCK || (!request.flock && request.start > request.end) {
        return refuse(
            Code::InvalidArgument,
            format!("lock kind {} on bytes {} to {}", request.kind, request.start, request.end),
        );
    }
    let (start, end) = if request.flock { (0, u64::MAX) } else { (request.start, request.end) };
    let LockRequest { owner, kind, pid, flock, .. } = *request;
    Ok(Held { session: request.head.session, owner, start, end, kind, pid, flock })
}

/// Locks of others that stand in the way of a request, lowest first.
pub fn conflicts(reader: &(impl Reader + ?Sized), request: &LockRequest) -> Outcome<Vec<Held>> {
    let wanted = wanted(request)?;
    Ok(locks::conflicts(&load(reader, request.head.volume, request.ino)?, &wanted))
}

/// All locks that a session has on a file; `None`: others have some too.
pub(crate) fn alone(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    ino: u64,
    session: u64,
) -> Outcome<Option<Vec<Held>>> {
    let locks = load(reader, volume, ino)?;
    Ok(locks.iter().all(|held| held.session == session).then_some(locks))
}

/// Answer to `F_GETLK`.
pub fn test(reader: &(impl Reader + ?Sized), request: &LockRequest) -> Outcome<LockReply> {
    inode::get(reader, request.head.volume, request.ino)?;
    Ok(match conflicts(reader, request)?.first() {
        Some(held) => {
            let Held { start, end, kind, pid, .. } = *held;
            LockReply { start, end, kind, pid, ..LockReply::default() }
        }
        None => LockReply { start: request.start, end: request.end, kind: UNLOCK, ..LockReply::default() },
    })
}

/// Takes or frees a lock, or refuses with `WouldBlock`.
pub fn change(txn: &mut Txn<'_>, request: &LockRequest) -> Outcome<LockReply> {
    let wanted = wanted(request)?;
    let (volume, session) = (request.head.volume, request.head.session);
    if session == 0 {
        return refuse(Code::InvalidArgument, "a lock needs a session");
    }
    let mut all = load(txn, volume, request.ino)?;
    if request.kind != UNLOCK {
        inode::get(txn, volume, request.ino)?;
        if let Some(held) = locks::conflicts(&all, &wanted).first() {
            return refuse(Code::WouldBlock, is_locked(request.ino, held));
        }
    }
    locks::apply(&mut all, &wanted);
    store(txn, volume, request.ino, session, all)?;
    let LockRequest { start, end, kind, pid, .. } = *request;
    Ok(LockReply { start, end, kind, pid, ..LockReply::default() })
}

fn is_locked(ino: u64, held: &Held) -> String {
    format!("{} is locked by process {} (bytes {} to {})", Ino(ino), held.pid, held.start, held.end)
}

/// Replaces what a session has on a file by what it decided alone; refused when it was expelled since.
pub fn tell(txn: &mut Txn<'_>, request: &TellLocksRequest) -> Outcome<()> {
    let (volume, session) = (request.head.volume, request.head.session);
    if session::find(txn, session)?.is_none_or(|row| row.epoch != request.epoch) {
        let text = format!(
            "locks on {} were decided by a session that has been expelled since: others may have taken them",
            Ino(request.ino)
        );
        return refuse(Code::CapabilityExpired, text);
    }
    inode::get(txn, volume, request.ino)?;
    let mut all = load(txn, volume, request.ino)?;
    all.retain(|held| held.session != session);
    for told in &request.locks {
        let told = Held { session, ..*told };
        if told.kind > WRITE || told.start > told.end {
            let text = format!("lock kind {} on bytes {} to {}", told.kind, told.start, told.end);
            return refuse(Code::InvalidArgument, text);
        }
        if let Some(held) = locks::conflicts(&all, &told).first() {
            return refuse(Code::WouldBlock, is_locked(request.ino, held));
        }
        locks::apply(&mut all, &told);
    }
    store(txn, volume, request.ino, session, all)
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
        put(txn, volume, ino, locks);
        txn.delete(key);
    }
    Ok(())
}
