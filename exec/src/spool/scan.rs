//! Looking at the spool: what is new, what vanished, what is wished.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::claim::Claim;
use super::users::Account;
use super::{Hands, NameClass, classify, split_name, user_path};
use crate::engine::Facts;
use crate::id::JobId;
use crate::store::{Kind, Put, StoreError};

/// Names read of one `new/` in one look.
const NEW_NAMES_MAX: usize = 20_000;
/// Claims of one user in one look, so that others get their turn.
const CLAIMS_PER_USER: usize = 64;
/// Claims under way at the same time.
const CLAIMS_AT_ONCE: usize = 8;
/// A name that is not accepted is reported after so long, nanoseconds.
const IGNORED_AFTER_NS: u64 = 300_000_000_000;

/// What a look at the `new/` directories gave.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) claimed: Vec<Facts>,
    pub(crate) rejected: usize,
    /// More is there: look again at once.
    pub(crate) more: bool,
    /// A name waits for its writer, or for time.
    pub(crate) pending: bool,
    /// A claim ended half-way: its descriptor may be in `run/` already.
    pub(crate) failed: bool,
    pub(crate) users: Vec<Account>,
}

/// What a look at one live job gave.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// Live descriptors: in `run/` and in `hold/`.
    pub(crate) run: BTreeMap<JobId, (String, String)>,
    pub(crate) hold: BTreeMap<JobId, (String, String)>,
}

impl Hands {
    /// Claims what is new, in turns among users, `room` jobs at most.
    pub(crate) async fn scan(&self, room: usize) -> Result<Scan, StoreError> {
        let mut out = Scan { users: self.users().await?, ..Scan::default() };
        for account in out.users.clone() {
            let left = room.saturating_sub(out.claimed.len());
            match self.scan_user(&account, left, &mut out).await {
                Err(error) if error.is_missing() => {
                    // A directory that the user removed comes back.
                    self.make_user(&account).await?;
                }
                Err(error) => tracing::warn!(user = account.name, %error, "scanning the spool"),
                Ok(()) => {}
            }
        }
        Ok(out)
    }

    async fn scan_user(&self, account: &Account, room: usize, out: &mut Scan) -> Result<(), StoreError> {
        let dir = user_path(&account.name, "new");
        let mut names = Vec::new();
        let mut refused = Vec::new();
        for entry in self.store.list(&dir, NEW_NAMES_MAX).await? {
            match (classify(&entry.name), entry.kind) {
                (NameClass::Temporary, _) => {}
                (NameClass::Accepted, Kind::Directory) if !entry.name.ends_with(".job") => {
                    refused.push((entry.name, "a directory whose name does not end in .job"));
                }
                (NameClass::Accepted, _) => names.push(entry.name),
                (NameClass::Refused, _) => {
                    refused
                        .push((entry.name, "the name is not accepted (letters, digits, '.', '_', '+', '-')"));
                }
            }
        }
        if !refused.is_empty() {
            self.list_ignored(account, refused).await?;
        }
        if names.is_empty() {
            return Ok(());
        }
        if room == 0 {
            out.pending = true;
            self.told_waiting.lock().insert(account.name.clone());
            let text =
                format!("{} descriptors wait: {} jobs are live, the limit\n", names.len(), self.set.live_max);
            let put = Put { mode: 0o644, owner: Some(account.owner()), sync: false };
            return self.store.replace(&format!("{dir}/.waiting"), text.as_bytes(), put).await;
        }
        if self.told_waiting.lock().remove(&account.name) {
            let _ = self.store.remove(&format!("{dir}/.waiting")).await;
        }
        names.sort_by_cached_key(|name| natural(name));
        let most = CLAIMS_PER_USER.min(room);
        out.more |= names.len() > most;
        names.truncate(most);
        let claims: Vec<BoxFuture<'_, _>> = (names.iter())
            .map(|name| async move { (name, self.claim(account, name).await) }.boxed())
            .collect();
        let mut claims = futures::stream::iter(claims).buffered(CLAIMS_AT_ONCE);
        while let Some((name, claim)) = claims.next().await {
            match claim {
                Ok(Claim::Job(facts)) => out.claimed.push(*facts),
                Ok(Claim::Rejected) => out.rejected += 1,
                Ok(Claim::Later) => out.pending = true,
                Err(error) => {
                    (out.pending, out.failed) = (true, true);
                    tracing::warn!(user = account.name, file = name, %error, "claiming a descriptor");
                }
            }
        }
        Ok(())
    }

    /// `new/.ignored`: silence is the worst answer.
    async fn list_ignored(&self, account: &Account, refused: Vec<(String, &str)>) -> Result<(), StoreError> {
        let dir = user_path(&account.name, "new");
        let now = u64::try_from(self.clock.unix().as_nanos()).unwrap_or(u64::MAX);
        let mut text = String::new();
        for (name, why) in refused.into_iter().take(1000) {
            let old = match self.store.stat(&format!("{dir}/{name}")).await {
                Ok(stat) => now.saturating_sub(stat.mtime_ns) > IGNORED_AFTER_NS,
                Err(_) => false,
            };
            if old {
                text.push_str(&format!("{}: {why}\n", name.escape_default()));
            }
        }
        let path = format!("{dir}/.ignored");
        let before = self.read_or_nothing(&path, 1 << 20).await.unwrap_or_default();
        if text.is_empty() || before == text.as_bytes() {
            return Ok(());
        }
        let put = Put { mode: 0o644, owner: Some(account.owner()), sync: false };
        self.store.replace(&path, text.as_bytes(), put).await
    }

    /// Which live descriptors stand where.
    pub(crate) async fn presence(&self, users: &[String]) -> Result<Presence, StoreError> {
        let mut out = Presence::default();
        for user in users {
            for (dir, into) in [("run", &mut out.run), ("hold", &mut out.hold)] {
                for entry in self.store.list(&user_path(user, dir), 1_000_000).await? {
                    if let Some((file, id)) = split_name(&entry.name) {
                        into.insert(id, (user.clone(), file.to_string()));
                    }
                }
            }
        }
        Ok(out)
    }
}

/// `job-9` before `job-10`: digits count as numbers.
fn natural(name: &str) -> Vec<(u64, String)> {
    let mut out = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let tail = &rest[letters..];
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        // The text first, then its number: compare text by text, number by number.
        out.push((0, rest[..letters].to_string()));
        out.push((tail[..digits].parse().unwrap_or(u64::MAX), String::new()));
        rest = &tail[digits..];
    }
    out
}
