//! Files that are made, moved and removed here first: [`crate::engine::creates`] connected to the session, the stage and the leases. See
//! `docs/protocols/async-create.md`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::error::{Code, WireError};
use proto::mrc::{
    Attr, CreateMany, CreateManyReply, CreateManyRequest, CreatedReply, EarlyFile, LEASE_ATTR, LEASE_READ,
    LEASE_WRITE, OpenReply, Recall, TAKES_CONTENT, kind, may_be_told_again,
};
use proto::rpc::Origin;
use tokio::sync::Notify;

use crate::config::{Creds, Patience};
use crate::engine::creates::{Batch, Creates, Made};
use crate::error::Result;
use crate::remote::Session;
use crate::stage::records::{RECORDS, Record};
use crate::volume::Volume;
use crate::volume::inode::Inode;

/// Pause after a failed call.
const PAUSE: Duration = Duration::from_millis(50);
/// So many that were not told are many: three quarters of what can be recorded.
const MANY: usize = RECORDS as usize / 4 * 3;
/// A program that writes a small file has closed it by then, mostly.
const BEING_WRITTEN: Duration = Duration::from_millis(100);
/// Patience of one call; it is made again until it is answered or the session is over.
const PATIENCE: Patience = Patience::For(Duration::from_secs(2));

/// A file that waits for the MRC's answer.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// In the order of making.
    number: AtomicU64,
    over: OnceLock<std::result::Result<(), WireError>>,
    told: Notify,
}

impl Early {
    /// All up to it are told before it.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.get().is_some()
    }

    /// Until the MRC has answered. An error: the file was lost.
    pub(crate) async fn wait(&self) -> Result<()> {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if let Some(result) = self.over.get() {
                return result.clone();
            }
            told.await;
        }
    }

    fn end(&self, result: std::result::Result<(), WireError>) {
        // The first end counts.
        let _ = self.over.set(result);
        self.told.notify_waiters();
    }
}

/// What belongs to what was done, beside what the MRC is told.
struct Kept {
    record: Record,
    numbered: Numbered,
    since: Instant,
    /// Of a file that was made.
    made: Option<(Weak<Inode>, Arc<Early>)>,
}

impl Kept {
    /// The MRC knows of it, or it is lost. In this order: what may still be told again has its answer kept.
    fn end(self, session: &Session, result: std::result::Result<(), WireError>) {
        self.record.cross_out();
        session.number_is_over(self.numbered);
        if let Some((_, early)) = self.made {
            early.end(result);
        }
    }
}

/// The number of a mutation that is told later.
#[derive(Clone, Copy)]
pub(crate) struct Numbered {
    pub(crate) origin: Origin,
    pub(crate) kernel: bool,
}

#[derive(Default)]
struct State {
    engine: Creates,
    /// By number.
    kept: BTreeMap<u64, Kept>,
    volumes: BTreeMap<u64, Weak<Volume>>,
}

impl State {
    /// What belongs to files that are over.
    fn with_kept(&mut self, over: Vec<Made>) -> Vec<(Made, Option<Kept>)> {
        let each = |made: Made| {
            let kept = self.kept.remove(&made.number);
            (made, kept)
        };
        over.into_iter().map(each).collect()
    }
}

/// The files of one session that were made and not told.
#[derive(Default)]
pub(crate) struct Waiting {
    /// order: after the leases' engine, else a leaf.
    state: Mutex<State>,
    /// There is something to send.
    work: Notify,
    /// Somebody waits for the answer.
    urgent: Notify,
    waiters: AtomicUsize,
    /// Up to here somebody waits, or has waited.
    awaited: AtomicU64,
    /// A batch was answered.
    answered: Notify,
    /// Files whose right to be written did not come, and which are being written out.
    surrendering: AtomicUsize,
    /// What the MRC takes, as it said last: [`CreateManyReply::takes`].
    takes: AtomicU32,
}

impl Waiting {
    /// A number for a new file of a volume.
    pub(crate) fn take_number(&self, volume: &Arc<Volume>) -> Option<u64> {
        let mut state = self.state.lock();
        let ino = state.engine.take_number(volume.id());
        if ino.is_none() {
            state.volumes.insert(volume.id(), Arc::downgrade(volume));
            drop(state);
            self.work.notify_one();
        }
        ino
    }

    /// Whether the MRC may be told of such things.
    pub(crate) fn takes(&self, what: u32) -> bool {
        self.takes.load(Ordering::Relaxed) & what == what
    }

    /// Numbers that were reserved before now are not used.
    pub(crate) fn drop_numbers(&self) {
        self.state.lock().engine.drop_numbers();
    }

    /// A file was made, moved or removed.
    pub(crate) fn add(
        &self,
        volume: &Arc<Volume>,
        file: EarlyFile,
        (record, numbered): (Record, Numbered),
        made: Option<(&Arc<Inode>, Arc<Early>)>,
    ) {
        let made = made.map(|(inode, early)| (Arc::downgrade(inode), early));
        let mut state = self.state.lock();
        state.volumes.insert(volume.id(), Arc::downgrade(volume));
        let number = state.engine.add(volume.id(), file);
        if let Some((_, early)) = &made {
            early.number.store(number, Ordering::Release);
        }
        state.kept.insert(number, Kept { record, numbered, since: Instant::now(), made });
        drop(state);
        self.work.notify_one();
    }

    /// Until the MRC knows every file that was made before this call, or they are lost.
    pub(crate) async fn told(&self) {
        let last = self.state.lock().engine.last();
        self.told_upto(last).await;
    }

    /// Not more is made than can be told soon: who makes more waits for some of it.
    pub(crate) async fn not_too_many(&self) {
        let (count, last) = {
            let state = self.state.lock();
            (state.engine.count(), state.engine.last())
        };
        if count > MANY {
            self.told_upto(last - MANY as u64 / 2).await;
        }
    }

    /// Until the MRC knows every file up to this number, or they are lost.
    pub(crate) async fn told_upto(&self, upto: u64) {
        if self.state.lock().engine.are_over(upto) {
            return;
        }
        self.awaited.fetch_max(upto, Ordering::AcqRel);
        self.waiters.fetch_add(1, Ordering::AcqRel);
        let _waiting = Counted(&self.waiters);
        self.urgent.notify_one();
        loop {
            let answered = self.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            if self.state.lock().engine.are_over(upto) {
                return;
            }
            answered.await;
        }
    }

    /// Likewise, and nothing is written under a right that did not come.
    pub(crate) async fn settled(&self) {
        self.told().await;
        loop {
            let answered = self.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            if self.surrendering.load(Ordering::Acquire) == 0 {
                return;
            }
            answered.await;
        }
    }

    /// The session was expelled: what was not told is lost.
    pub(crate) fn lost(&self, session: &Session) {
        let mut state = self.state.lock();
        let lost = state.engine.lost();
        let kept: Vec<(Made, Option<Kept>)> = state.with_kept(lost);
        drop(state);
        for (made, kept) in kept {
            let Some(kept) = kept else { continue };
            lose(session, &made, kept, "this client did not answer in time and lost its session");
        }
        self.answered.notify_waiters();
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lose(session: &Session, made: &Made, kept: Kept, why: &str) {
    let name = String::from_utf8_lossy(&made.file.name).into_owned();
    let EarlyFile { ino, parent, removed, linked, .. } = made.file;
    let moved = made.file.moved.is_some();
    tracing::error!(ino, parent, name, removed, moved, linked, why, "what was done with a file here is lost");
    let text = format!("{name:?} was made here, and the MRC never took it: {why}");
    kept.end(session, Err(WireError::new(Code::Io, text)));
}

/// Tells the MRC of what is made, until nobody uses the session any more.
pub(crate) async fn keep_telling(session: Weak<Session>) {
    loop {
        let Some(waiting) = session.upgrade().map(|session| session.creates().clone()) else { return };
        let idle = async {
            loop {
                let work = waiting.work.notified();
                tokio::pin!(work);
                work.as_mut().enable();
                if waiting.state.lock().engine.has_work() {
                    return;
                }
                work.await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(1), idle).await.is_err() {
            continue;
        }
        let Some(until) = session.upgrade().map(|session| session.until_together()) else { return };
        if waiting.waiters.load(Ordering::Acquire) == 0 {
            // Not missed when it comes before we wait: it leaves a permit.
            let _ = tokio::time::timeout(until, waiting.urgent.notified()).await;
        }
        let Some(session) = session.upgrade() else { return };
        if session.is_over() {
            return;
        }
        if !tell(&session, &waiting).await {
            drop(session);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One call. False: it has to be made again.
async fn tell(session: &Arc<Session>, waiting: &Arc<Waiting>) -> bool {
    begin(waiting);
    let (batch, volume) = {
        let mut state = waiting.state.lock();
        let Some(batch) = state.engine.batch() else { return true };
        let volume = state.volumes.get(&batch.volume).and_then(Weak::upgrade);
        (batch, volume)
    };
    let Some(volume) = volume else {
        // Nobody uses the volume any more, so nobody waits for numbers; and a file that was made holds it.
        waiting.state.lock().engine.gave_up_numbers();
        return batch.files.is_empty();
    };
    let Batch { files, reserve, .. } = batch;
    let request = CreateManyRequest { head: volume.head(&Creds::checked(0, 0)), files, reserve };
    let asked = session.leasing().ask();
    let known = session.opened();
    let (answer, _) = session.group().call_for::<CreateMany>(&request, PATIENCE, Duration::ZERO).await;
    let reply = match answer {
        Ok(reply) => reply,
        Err(error) if error.code == Code::SessionUnknown => {
            drop(asked);
            if let Err(error) = session.reopen_past(known).await {
                tracing::debug!(%error, "the session could not be opened to tell of files; trying again");
                return false;
            }
            return true;
        }
        Err(error) if request.files.is_empty() && !may_be_told_again(error.code) => {
            // An MRC of an older build, or the volume is gone: whoever makes files asks for each, and hears.
            waiting.state.lock().engine.gave_up_numbers();
            return true;
        }
        Err(error) if !may_be_told_again(error.code) => {
            // The same would be said again, and everybody waits behind it.
            refused(session, waiting, &volume, &error.text);
            return true;
        }
        Err(error) => {
            tracing::debug!(%error, files = request.files.len(), "files that were made could not be told; trying again");
            return false;
        }
    };
    waiting.takes.store(reply.takes, Ordering::Relaxed);
    if !request.files.is_empty() && !asked.counts() {
        // Another leader was told of the leases meanwhile, and has given none of these: it is told of the files.
        return true;
    }
    if reply.files.len() != request.files.len() {
        tracing::error!(
            asked = request.files.len(),
            answered = reply.files.len(),
            "an MRC answered for other files than it was told of"
        );
        return false;
    }
    let surrendered = take(session, waiting, &volume, &reply, &asked);
    drop(asked);
    surrender(session, waiting, surrendered);
    true
}

/// What was done goes under way, and small files with what is in them. One that a program is just writing waits for the next moment with
/// what came after it, for then it goes as a whole.
fn begin(waiting: &Waiting) {
    let next: Vec<Next> = {
        let state = waiting.state.lock();
        let next = |number| {
            let kept = state.kept.get(&number);
            let inode = kept.and_then(|kept| kept.made.as_ref()).and_then(|(inode, _)| inode.upgrade());
            Next { number, inode, since: kept.map(|kept| kept.since) }
        };
        state.engine.next().into_iter().map(next).collect()
    };
    // Not under the lock: they have locks of their own.
    let (fills, awaited) = (waiting.takes(TAKES_CONTENT), waiting.awaited.load(Ordering::Acquire));
    let (mut contents, mut count) = (Vec::new(), next.len());
    for (at, Next { number, inode, since }) in next.into_iter().enumerate() {
        let Some(inode) = inode.filter(|_| fills) else { continue };
        if let Some(content) = inode.content_to_tell() {
            contents.push((number, content));
        } else if number > awaited
            && since.is_some_and(|since| since.elapsed() < BEING_WRITTEN)
            && inode.is_small_and_open()
        {
            count = at;
            break;
        }
    }
    let mut state = waiting.state.lock();
    state.engine.begin(count);
    contents.into_iter().for_each(|(number, content)| state.engine.fill(number, content));
}

/// What may go next.
struct Next {
    number: u64,
    /// Of a file that was made.
    inode: Option<Arc<Inode>>,
    since: Option<Instant>,
}

/// None of what is under way is made.
fn refused(session: &Session, waiting: &Waiting, volume: &Volume, why: &str) {
    let taken: Vec<(Made, Option<Kept>)> = {
        let mut state = waiting.state.lock();
        let answered = state.engine.answered(0);
        state.with_kept(answered)
    };
    for (made, kept) in taken {
        session.leasing().forget_early(volume, &made.file);
        if let Some(kept) = kept {
            lose(session, &made, kept, why);
        }
    }
    waiting.answered.notify_waiters();
}

/// Takes an answer: gives the files for which no right to write came.
fn take(
    session: &Arc<Session>,
    waiting: &Arc<Waiting>,
    volume: &Arc<Volume>,
    reply: &CreateManyReply,
    asked: &crate::lease::Asked<'_>,
) -> Vec<(Arc<Volume>, u64)> {
    let taken: Vec<(Made, Option<Kept>)> = {
        let mut state = waiting.state.lock();
        let answered = state.engine.under_way();
        state.with_kept(answered)
    };
    let mut surrendered = Vec::new();
    for ((made, kept), answer) in taken.into_iter().zip(&reply.files) {
        let Some(kept) = kept else { continue };
        if answer.refused.is_none() {
            session.leasing().told_name(volume, &made.file, answer.cookie);
            if !made.file.is_made() {
                session.leasing().freed(volume.id(), answer.freed);
                kept.end(session, Ok(()));
                continue;
            }
        }
        if made.file.directory
            && let Some(attr) = &answer.attr
        {
            if asked.confirm(volume.id(), attr, &reply.leases) & LEASE_WRITE != 0 {
                tracing::error!(
                    ino = attr.ino,
                    "the MRC took a directory and gave no right to make names in it"
                );
            }
            kept.end(session, Ok(()));
            continue;
        }
        let CreatedReply { attr: Some(attr), credentials: Some(credentials), .. } = answer else {
            let why = answer
                .refused
                .clone()
                .map_or_else(|| "no reason was given".to_owned(), |error| WireError::from(error).text);
            session.leasing().forget_early(volume, &made.file);
            lose(session, &made, kept, &why);
            continue;
        };
        let mut credentials = credentials.clone();
        let content = made.file.content.as_ref().filter(|_| answer.has_content);
        let is_inline = content.is_some() && credentials.layout.is_inline();
        if is_inline && let Some(content) = content {
            credentials.content = content.data.clone();
        }
        let opened = OpenReply { attr: attr.clone(), credentials, created: true, ..OpenReply::default() };
        volume.keep_rights(&opened, !is_inline);
        if asked.confirm(volume.id(), attr, &reply.leases) & LEASE_WRITE != 0 {
            waiting.surrendering.fetch_add(1, Ordering::AcqRel);
            surrendered.push((volume.clone(), attr.ino));
        }
        let inode = kept.made.as_ref().and_then(|(inode, _)| inode.upgrade());
        if let Some(inode) = inode {
            if let Some(content) = content {
                inode.content_is_told(content, attr);
            }
            inode.confirm(opened);
            if is_inline {
                inode.is_kept_at_the_mrc();
            }
        }
        kept.end(session, Ok(()));
    }
    waiting.state.lock().engine.answered(reply.first);
    waiting.answered.notify_waiters();
    surrendered
}

/// The right to write did not come with the answer (a snapshot is being made, or too much is leased): what was gathered
/// under it is written out, as if it had been recalled.
fn surrender(session: &Arc<Session>, waiting: &Arc<Waiting>, files: Vec<(Arc<Volume>, u64)>) {
    for (volume, ino) in files {
        let (session, waiting) = (session.clone(), waiting.clone());
        tokio::spawn(async move {
            let bits = LEASE_ATTR | LEASE_READ | LEASE_WRITE;
            let recall = Recall { recall: 0, volume: volume.id(), ino, bits, number: 0, tell_handles: false };
            session.leasing().surrender(&volume, &recall).await;
            // The leader hears of the handles that nobody has told it of.
            if session.writers(volume.id(), ino) > 0 && session.leasing().bits((volume.id(), ino)) == 0 {
                let _ = session.reopen().await;
            }
            waiting.surrendering.fetch_sub(1, Ordering::AcqRel);
            waiting.answered.notify_waiters();
        });
    }
}

/// What the MRC will answer for a file.
pub(crate) fn attributes(file: &EarlyFile) -> Attr {
    Attr {
        ino: file.ino,
        mode: if file.directory { kind::DIR } else { kind::FILE } << 12 | file.mode & 0o7777,
        nlink: if file.directory { 2 } else { 1 },
        uid: file.uid,
        gid: file.gid,
        atime: file.at,
        mtime: file.at,
        ctime: file.at,
        btime: file.at,
        change: 1,
        bare: true,
        ..Attr::default()
    }
}
