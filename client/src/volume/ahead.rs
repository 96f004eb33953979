//! Asks for more than one thing at once where a program seems to want one after the other; see [`crate::engine::ahead`].

use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::mrc::{Attr, FURTHER_MAX, HoldMany, HoldManyRequest, LEASE_WRITE, kind};

use super::Volume;
use super::names::is_plain;
use crate::config::Creds;

/// Entries of a directory that is listed for its lookups.
const ENTRIES_MAX: u64 = 32_768;
const PAGE: u32 = 1024;
/// For less than these the right is not asked for: it would cost as much as it saves.
const FEW: usize = 3;

impl Volume {
    fn clock(&self) -> Duration {
        self.client.config().clock.monotonic()
    }

    /// The MRC was asked for a name of a directory, and found it. After some of these all names are asked for, behind the back of
    /// whoever looks.
    pub(super) fn looked_up(&self, creds: &Creds, parent: u64) {
        if !creds.may_use_kept() || self.is_past() {
            return;
        }
        let Some(of_dir) = self.leasing().attr(self.key(parent)) else { return };
        let entries = of_dir.size;
        let lists = of_dir.mode >> 12 == kind::DIR
            && entries <= ENTRIES_MAX
            && self.ahead.lock().looked_up(self.key(parent), entries, self.clock());
        if !lists || self.is_listing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (volume, creds) = (self.arc(), creds.clone());
        self.runtime.spawn(async move {
            volume.learn_entries(&creds, parent, entries).await;
            volume.is_listing.store(false, Ordering::Release);
        });
    }

    /// Lists a directory for what is learned by it.
    async fn learn_entries(&self, creds: &Creds, parent: u64, entries: u64) {
        let mut after = 0;
        // Not without end where entries are made all the time.
        for _ in 0..=2 * entries / u64::from(PAGE) + 1 {
            // Who may look up names may not always list them.
            let Ok(page) = self.readdir(creds, parent, after, PAGE, true).await else { return };
            match page.entries.last() {
                Some(last) if !page.end => after = last.cookie,
                _ => return,
            }
        }
    }

    /// A name of a directory is about to be taken away, and perhaps to replace another one, and the MRC would have to be asked.
    /// When that goes on, it is asked for the right to do so alone, with these and the files that may be next. True when it was given.
    pub(super) async fn hold_ahead(
        &self,
        creds: &Creds,
        (parent, name): (u64, &[u8]),
        to: Option<(u64, &[u8])>,
    ) -> bool {
        let dir = self.key(parent);
        if !creds.may_use_kept() || self.is_past() || !is_plain(name) {
            return false;
        }
        let Some(ino) = self.leasing().named(dir, name) else { return false };
        let ask = self.ahead.lock().changes(dir, self.clock());
        if ask.files == 0 || self.is_open_to_programs(ino) {
            return false;
        }
        let mut directories = vec![parent];
        let mut inos = self.leasing().siblings(dir, ino, ask.files - 1);
        let here = inos.len();
        let mut further = Vec::new();
        // Who moves something is not about to go through a tree.
        if to.is_none() && ask.of_tree > here {
            let (next, files) = self.leasing().next_in_tree(dir, FURTHER_MAX, ask.of_tree - here);
            further = next;
            inos.extend(files);
        }
        if inos.len() < FEW {
            return false;
        }
        if let Some((new_parent, new_name)) = to {
            inos.extend(self.leasing().named(self.key(new_parent), new_name));
            if new_parent != parent {
                directories.push(new_parent);
            }
        }
        let held = self.ask_for(creds, directories, further, inos).await;
        self.ahead.lock().held(dir, held.min(here), held, self.clock());
        held > 0
    }

    /// Likewise for a directory that is about to be removed, and the one that it is in: who takes away a tree has taken away what was
    /// in it. It is known by then to be empty.
    pub(super) async fn hold_directories(&self, creds: &Creds, parent: u64, name: &[u8]) -> bool {
        let dir = self.key(parent);
        if !creds.may_use_kept() || self.is_past() || !is_plain(name) {
            return false;
        }
        let Some(ino) = self.leasing().named(dir, name) else { return false };
        if self.ahead.lock().changes(dir, self.clock()).files == 0 {
            return false;
        }
        self.ask_for(creds, vec![parent, ino], Vec::new(), Vec::new()).await > 0
    }

    /// Asks for the right to change names in directories, and for files. Gives how many of all were given, none when a directory was not,
    /// a further one of which the attributes are known excepted.
    async fn ask_for(
        &self,
        creds: &Creds,
        directories: Vec<u64>,
        further: Vec<u64>,
        inos: Vec<u64>,
    ) -> usize {
        // Their attributes tell of what was done unheard: then the leader need not hear of that first, and does not tell of them anew. It has
        // nothing to do with the files.
        let known = directories.iter().all(|ino| self.leasing().attr(self.key(*ino)).is_some());
        let request = HoldManyRequest { head: self.head(creds), directories, inos, further };
        if !known {
            self.session().creates().told().await;
        }
        let asked = self.leasing().ask();
        let reply = match self.session().call_ahead::<HoldMany>(&request, Duration::ZERO).await {
            Ok(reply) => reply,
            Err(error) => {
                tracing::debug!(?error, "the right to change names alone was not given");
                return 0;
            }
        };
        let is_asked = |ino| request.directories.contains(&ino) && known || request.further.contains(&ino);
        let news = |attr: &&Attr| !is_asked(attr.ino);
        asked.learn(self.id(), &reply.leases, reply.attrs.iter().filter(news));
        let ours =
            |ino: u64| reply.leases.iter().any(|grant| grant.ino == ino && grant.bits & LEASE_WRITE != 0);
        let given = request.directories.iter().chain(&request.inos).filter(|ino| ours(**ino)).count();
        if request.directories.iter().all(|ino| ours(*ino)) { given } else { 0 }
    }

    /// A name of a directory was changed without asking.
    pub(super) fn changed_unheard(&self, parent: u64) {
        self.ahead.lock().changed_unheard(self.key(parent), self.clock());
    }
}
