//! Hearing recalls and answering them: one call waits at the leader; each recall is worked off on its own; what was given
//! up is sent back together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::error::Code;
use proto::limits::{LEASE_TTL_MS, RECALL_POLL_MS};
use proto::mrc::{
    AwaitRecalls, AwaitRecallsRequest, LEASE_ATTR, LEASE_LOCKS, LEASE_NAMES, LEASE_READ, LEASE_WRITE, Recall,
};

use super::{KernelCaches, Leasing, Return};
use crate::config::Patience;
use crate::engine::leases::Leases;
use crate::remote::Session;
use crate::volume::Volume;

/// How long operations that use a lease may take to end. Then it is looked again.
const USERS: Duration = Duration::from_millis(LEASE_TTL_MS);
/// Most attempts to give up what a recall wants. The MRC has lost its patience long before.
pub(super) const ATTEMPTS: u32 = 8;
/// How long an answer that a recall may have overtaken is waited for. If it comes later its operation asks anew.
const EARLY: Duration = Duration::from_millis(20);
/// After this long the kernel is asked anew to drop pages, around those that it has locked meanwhile.
const PAGES: Duration = Duration::from_millis(20);
/// Most attempts of that; each waits twice as long.
const PAGES_ATTEMPTS: u32 = 8;
/// How often a kernel is told to forget a file that was just made, and how long it has to come to know it.
const KNOWN: Duration = Duration::from_millis(1);
const KNOWN_ATTEMPTS: u32 = 100;
/// How long the kernel may work through a listing before names are forgotten once more without waiting for it.
const LISTED: Duration = Duration::from_millis(1);
const LISTED_ATTEMPTS: u32 = 20;
/// Pause after a failed call.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// How long a new session is not used until the leader has said whether it gives leases.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// Returns in one call.
const RETURNS_AT_ONCE: usize = 1024;

impl Leasing {
    /// Hears and answers recalls until nobody uses the session any more. Leases are kept from now on.
    pub(crate) fn start(session: &Arc<Session>) {
        let (hears, sends) = (Arc::downgrade(session), Arc::downgrade(session));
        tokio::spawn(async move {
            let mut after = 0;
            loop {
                let Some(session) = hears.upgrade().filter(|session| !session.is_over()) else { return };
                after = session.leasing().clone().hear(session, after).await;
            }
        });
        tokio::spawn(async move {
            loop {
                let Some(session) = sends.upgrade().filter(|session| !session.is_over()) else { return };
                session.leasing().give_back_old();
                let sent = session.leasing().send_returns(&session).await;
                let leasing = session.leasing().clone();
                drop(session);
                if sent {
                    // The session may end while nothing is owed.
                    let _ = tokio::time::timeout(Duration::from_secs(1), leasing.owing.notified()).await;
                } else {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }

    /// Until it is known whether leases are given: what is done before then is done without, and writing without a lease is
    /// what nobody else waits for ([snapshots](proto::snapshot) do not hold it).
    pub(crate) async fn decided(&self) {
        if !self.wait_for(FIRST_ANSWER, Leases::is_decided).await {
            tracing::warn!("the MRC does not say whether it gives leases; going on without");
        }
    }

    /// One waiting call; gives the number of the last recall heard.
    async fn hear(self: Arc<Self>, session: Arc<Session>, after: u64) -> u64 {
        // The first call does not wait: its answer says that the leader takes us for somebody who hears recalls.
        let wait_ms = if self.is_on() { RECALL_POLL_MS } else { 0 };
        let request = AwaitRecallsRequest { session: session.id(), after, wait_ms };
        let wait = Duration::from_millis(u64::from(wait_ms));
        let patience = Patience::For(Duration::ZERO);
        let (group, before, known) = (session.group().clone(), session.incarnation(), session.opened());
        let weak = Arc::downgrade(&session);
        // The session may end while the call waits.
        drop(session);
        let (answer, _) = group.call_for::<AwaitRecalls>(&request, patience, wait).await;
        let Some(session) = weak.upgrade() else { return after };
        match answer {
            Ok(reply) if before == session.incarnation() && reply.incarnation != before => {
                reopen(&session, known).await;
                0
            }
            Ok(reply) => {
                if !self.is_on() {
                    self.engine.lock().turn_on();
                    self.released.notify_waiters();
                    // The time for which leases are good comes with a renewal.
                    let _ = session.renew().await;
                }
                let last = reply.recalls.last().map_or(after, |recall| recall.recall);
                for recall in reply.recalls {
                    // After a failed call all open ones come again.
                    if self.at_work.lock().insert(recall.recall) {
                        let leasing = self.clone();
                        tokio::spawn(async move {
                            let number = recall.recall;
                            leasing.clone().give_up(recall).await;
                            leasing.at_work.lock().remove(&number);
                        });
                    }
                }
                last
            }
            Err(error) if error.code == Code::SessionUnknown => {
                reopen(&session, known).await;
                0
            }
            Err(error) if matches!(error.code, Code::UnknownMethod | Code::NotSupported) => {
                self.turn_off();
                tokio::time::sleep(Duration::from_secs(5)).await;
                0
            }
            Err(error) => {
                tracing::debug!(%error, "recalls cannot be heard; trying again");
                tokio::time::sleep(PAUSE).await;
                0
            }
        }
    }

    /// Works a recall off and owes the return.
    async fn give_up(self: Arc<Self>, recall: Recall) {
        let generation = self.generation();
        let directory = self.is_directory(&recall);
        self.engine.lock().recalled(&recall);
        if directory && recall.bits & LEASE_WRITE != 0 {
            // Whoever wants it may be about to make a snapshot: what is made later must have a later number.
            self.creates.drop_numbers();
        }
        if let Some(volume) = self.volume(recall.volume) {
            let kernel = volume.kernel();
            let known = forget_at_once(&*kernel, &recall);
            if !known && self.was_just_made((recall.volume, recall.ino)) {
                forget_when_known(&*kernel, recall.ino).await;
            }
            if recall.bits & LEASE_NAMES != 0 {
                forget_listed(&*kernel, recall.ino).await;
            }
            self.wait_for(EARLY, |engine| !engine.is_early(&recall)).await;
            let mut attempts = 0;
            while let Err(why) = self.give_up_data(&volume, &recall).await {
                attempts += 1;
                let is_over = self.generation() != generation || attempts == ATTEMPTS;
                tracing::warn!(
                    ino = recall.ino,
                    why,
                    is_over,
                    "a lease that was recalled cannot be given back"
                );
                if is_over {
                    // Not returned: others must not rely on it. The MRC expels us.
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        let (opening, lease) = {
            let mut engine = self.engine.lock();
            (engine.opening(), engine.returned(&recall))
        };
        let tells = recall.tell_handles || recall.bits & (LEASE_ATTR | LEASE_WRITE) != 0;
        self.returns.lock().push((opening, Return { lease, tells }));
        self.owing.notify_one();
    }

    async fn wait_unused(&self, recall: &Recall) -> bool {
        self.wait_for(USERS, |engine| engine.is_unused(recall)).await
    }

    /// False when it is not so in time.
    async fn wait_for(&self, time: Duration, is_so: impl Fn(&Leases) -> bool) -> bool {
        let wait = async {
            loop {
                let released = self.released.notified();
                tokio::pin!(released);
                released.as_mut().enable();
                if is_so(&self.engine.lock()) {
                    return;
                }
                released.await;
            }
        };
        tokio::time::timeout(time, wait).await.is_ok()
    }

    /// Until nobody uses it; then writes out and reports what was written here, and drops pages.
    pub(super) async fn give_up_data(&self, volume: &Arc<Volume>, recall: &Recall) -> Result<(), String> {
        let used = || Err("an operation still uses it".to_owned());
        if !self.wait_unused(recall).await {
            return used();
        }
        if recall.bits & LEASE_LOCKS != 0 {
            let told = volume.session().give_up_locks((recall.volume, recall.ino)).await;
            told.map_err(|error| format!("its locks could not be told: {error}"))?;
        }
        if recall.bits & (LEASE_READ | LEASE_WRITE) == 0 {
            return Ok(());
        }
        if self.is_directory(recall) {
            // Names that were made there are to be found by whoever wants it.
            let told = tokio::time::timeout(USERS, self.creates.settled()).await;
            return told.map_err(|_| "files that were made in it could not be told".to_owned());
        }
        if recall.recall != 0 {
            self.creates.told().await;
        }
        let inode = volume.inode(recall.ino);
        if let Some(inode) = inode.as_ref().filter(|_| recall.bits & LEASE_WRITE != 0) {
            inode.flush_buffer().await;
            inode.give_up_for_others().await;
        }
        // After a write lease others may read: then pages may stay, but none may be stored to without our hearing of it.
        let stored_to = inode.as_ref().is_none_or(|inode| inode.may_write());
        if recall.bits & LEASE_READ != 0 || stored_to {
            if !forget_pages(volume, recall.ino).await {
                return Err("the kernel does not give up its pages".to_owned());
            }
            // Pages were written out.
            if !self.wait_unused(recall).await {
                return used();
            }
        }
        let Some(inode) = inode.filter(|_| recall.bits & LEASE_WRITE != 0) else { return Ok(()) };
        let told = async {
            inode.report().await?;
            inode.settle().await
        };
        told.await.map_err(|error| format!("its size could not be reported: {error}"))
    }

    /// Sends what is owed. False when it has to be tried again.
    async fn send_returns(&self, session: &Arc<Session>) -> bool {
        loop {
            let (opening, is_telling) = {
                let engine = self.engine.lock();
                (engine.opening(), engine.is_telling())
            };
            if is_telling {
                // What was told must be known before it is returned; we are woken then.
                return true;
            }
            let mut returned: Vec<Return> = {
                let mut all = self.returns.lock();
                // Given up before the session was opened anew, so not told: the leader does not know of it.
                all.retain(|(told, _)| *told == opening);
                all.drain(..).map(|(_, one)| one).collect()
            };
            if returned.is_empty() {
                return true;
            }
            let owed = |returns: Vec<Return>| {
                self.returns.lock().extend(returns.into_iter().map(|one| (opening, one)));
            };
            if returned.len() > RETURNS_AT_ONCE {
                owed(returned.split_off(RETURNS_AT_ONCE));
            }
            match session.return_leases(opening, &returned).await {
                Ok(()) => {}
                // What was held under another leader or before an expulsion need not be returned.
                Err(error) if error.code == Code::SessionUnknown => {}
                Err(error) => {
                    tracing::debug!(%error, "leases could not be returned; trying again");
                    owed(returned);
                    return false;
                }
            }
        }
    }

    fn give_back_old(self: &Arc<Self>) {
        self.many.store(false, Ordering::Release);
        for recall in self.engine.lock().too_many() {
            tokio::spawn(self.clone().give_up(recall));
        }
    }
}

async fn reopen(session: &Session, known: u64) {
    if let Err(error) = session.reopen_past(known).await {
        tracing::debug!(%error, "the session could not be opened anew; trying again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// What the kernel forgets without waiting for anybody: attributes and names. False: it does not know the inode.
fn forget_at_once(kernel: &dyn KernelCaches, recall: &Recall) -> bool {
    let mut known = true;
    if recall.bits & (LEASE_ATTR | LEASE_READ | LEASE_WRITE) != 0 {
        known = kernel.forget_attr(recall.ino);
    }
    // An inode that the kernel does not know yet may be on its way to it with a name: that name must be looked up again
    // before it is believed.
    if recall.bits & LEASE_NAMES != 0 || !known {
        kernel.forget_names();
    }
    known
}

/// A file that was just made is reached by its descriptor too, without its name: the kernel must forget the attributes
/// that came with it. It does not come to know it when its maker was killed meanwhile.
async fn forget_when_known(kernel: &dyn KernelCaches, ino: u64) {
    for _ in 0..KNOWN_ATTEMPTS {
        tokio::time::sleep(KNOWN).await;
        if kernel.forget_attr(ino) {
            return;
        }
    }
}

/// What the kernel learns from listings that were answered before the names were wanted back is forgotten too. Mostly
/// there is none, and nobody waits.
async fn forget_listed(kernel: &dyn KernelCaches, directory: u64) {
    let listings = kernel.listings(directory);
    if listings.is_empty() {
        return;
    }
    for _ in 0..LISTED_ATTEMPTS {
        tokio::time::sleep(LISTED).await;
        if kernel.are_over(&listings) {
            break;
        }
    }
    kernel.forget_names();
}

/// Has the kernel write out and drop an inode's pages. Pages that it has locked for requests which wait for a lease
/// themselves hold nothing yet, and waiting for them would close a circle: after a while it is tried around them.
/// False: it has not done so.
async fn forget_pages(volume: &Arc<Volume>, ino: u64) -> bool {
    let mut pause = PAGES;
    for _ in 0..PAGES_ATTEMPTS {
        let (kernel, inode) = (volume.kernel(), volume.inode(ino));
        let gaps = inode.map_or_else(|| vec![(0, 0)], |inode| inode.locked.gaps());
        let done = volume.runtime().spawn_blocking(move || {
            for (offset, len) in gaps {
                kernel.forget_pages(ino, offset, len);
            }
        });
        if tokio::time::timeout(pause, done).await.is_ok() {
            return true;
        }
        pause *= 2;
    }
    false
}
