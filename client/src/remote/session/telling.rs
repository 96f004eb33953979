//! Handles that were opened under a lease and that the leader hears of with its return or with the removal of their file. Who
//! closes one of them meanwhile waits with telling it: a leader that heard of the close first would count the handle for ever.

use std::collections::BTreeMap;

use proto::mrc::{CloseRequest, ReturnLeases, ReturnLeasesRequest, ReturnedLease};

use super::{Duration, LEASE_RENEW_MS, Ordering, Patience, Result, Session};
use crate::lease::Return;

type Key = (u64, u64);

/// See the module.
#[derive(Default)]
pub(super) struct Told {
    /// Files whose handles are being told, by how many calls.
    files: BTreeMap<Key, u32>,
    /// Closes of such handles; bounded by these.
    closes: Vec<CloseRequest>,
}

impl Told {
    /// Whether the close has to wait; then it does.
    pub(super) fn defer(&mut self, close: &CloseRequest) -> bool {
        let waits = self.files.contains_key(&(close.head.volume, close.ino));
        if waits {
            self.closes.push(close.clone());
        }
        waits
    }

    /// The leader was told what is open, without what was closed.
    pub(super) fn forget_closes(&mut self) {
        self.closes.clear();
    }

    fn begin(&mut self, key: Key) {
        *self.files.entry(key).or_default() += 1;
    }

    /// The closes that waited for this and need not wait for another call.
    fn end(&mut self, keys: &[Key]) -> Vec<CloseRequest> {
        for key in keys {
            if let Some(calls) = self.files.get_mut(key) {
                *calls -= 1;
                if *calls == 0 {
                    self.files.remove(key);
                }
            }
        }
        let files = &self.files;
        let may_go = |close: &mut CloseRequest| !files.contains_key(&(close.head.volume, close.ino));
        self.closes.extract_if(.., may_go).collect()
    }
}

/// The leader is being told; closes wait until this is dropped.
pub(crate) struct Telling<'a> {
    session: &'a Session,
    keys: Vec<Key>,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        for close in self.session.told.lock().end(&self.keys) {
            self.session.closes.add(close);
        }
    }
}

impl Session {
    /// The leader is about to hear of all handles of a file: how many it did not know, reading and writing.
    pub(crate) fn tell(&self, key: Key) -> ((u32, u32), Telling<'_>) {
        let mut telling = Telling { session: self, keys: Vec::new() };
        (self.tell_too(key, &mut telling), telling)
    }

    fn tell_too(&self, key: Key, telling: &mut Telling<'_>) -> (u32, u32) {
        // In this order: who finds a handle told finds that it is being told.
        self.told.lock().begin(key);
        telling.keys.push(key);
        self.open.lock().get_mut(&key).map_or((0, 0), super::Handles::tell)
    }

    /// Gives leases back, of the time of `opening`; with some the leader hears of handles.
    pub(crate) async fn return_leases(&self, opening: u64, returns: &[Return]) -> Result<()> {
        self.tell_closes().await?;
        let mut telling = Telling { session: self, keys: Vec::new() };
        let tell = |one: &Return| {
            let key = (one.lease.volume, one.lease.ino);
            let (untold_readers, untold_writers) =
                if one.tells { self.tell_too(key, &mut telling) } else { (0, 0) };
            ReturnedLease { untold_readers, untold_writers, ..one.lease }
        };
        let returned: Vec<ReturnedLease> = returns.iter().map(tell).collect();
        let told = returned.iter().any(|lease| lease.untold_readers + lease.untold_writers > 0);
        let request = ReturnLeasesRequest { session: self.id, returned, opening };
        let patience = Patience::For(Duration::from_millis(LEASE_RENEW_MS));
        let (result, attempts) =
            self.group.call_for::<ReturnLeases>(&request, patience, Duration::ZERO).await;
        if told && (result.is_err() || attempts.uncertain) {
            // The leader may have counted the handles twice, or not at all.
            if let Err(error) = self.reopen().await {
                // The next renewal finds another incarnation and opens the session anew.
                self.incarnation.store(0, Ordering::Release);
                return Err(error);
            }
        }
        result.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(ino: u64) -> CloseRequest {
        let head = proto::mrc::Head { volume: 1, ..proto::mrc::Head::default() };
        CloseRequest { head, ino, write: true }
    }

    #[test]
    fn a_close_waits_for_all_calls_that_tell_of_its_file_and_for_no_other() {
        let mut told = Told::default();
        told.begin((1, 5));
        told.begin((1, 5));
        told.begin((1, 6));
        assert!(told.defer(&close(5)) && told.defer(&close(6)) && !told.defer(&close(7)));
        assert_eq!(told.end(&[(1, 5)]), []);
        assert_eq!(told.end(&[(1, 6)]), [close(6)]);
        assert_eq!(told.end(&[(1, 5)]), [close(5)]);
        assert!(!told.defer(&close(5)));
        told.begin((1, 5));
        assert!(told.defer(&close(5)));
        told.forget_closes();
        assert_eq!(told.end(&[(1, 5)]), []);
    }
}
