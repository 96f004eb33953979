//! Makes the directories and the texts that explain them.

use super::users::{self, Account};
use super::{Hands, OWN, SPOOL, user_path};
use crate::spec::DESCRIPTOR_BYTES_MAX;
use crate::store::{Kind, Put, StoreError};

/// Directories of a user that the user may change.
pub(crate) const USER_DIRS: [&str; 7] = ["tmp", "new", "run", "hold", "done", "failed", "rejected"];

/// Users looked at, at most.
const USERS_MAX: usize = 4096;

impl Hands {
    /// The spool itself, and the directories of the users who get one without asking.
    pub(crate) async fn make_spool(&self) -> Result<(), StoreError> {
        // Sticky and writable: `xtfs job submit` of a user without a spool makes the user's directory.
        if !self.store.mkdir(SPOOL, 0o1777, None).await? {
            // Made by hand, or through a mount with its mask. It may be somebody else's; then it stays as it is.
            let stat = self.store.stat(SPOOL).await?;
            if stat.mode != 0o1777 && stat.uid == nix::unistd::geteuid().as_raw() {
                self.store.chmod(SPOOL, 0o1777).await?;
            }
        }
        self.store.mkdir(OWN, 0o755, None).await?;
        self.store.mkdir(&format!("{OWN}/active"), 0o755, None).await?;
        let own = Account::by_uid(nix::unistd::geteuid().as_raw());
        let mut names: Vec<String> = own.into_iter().map(|a| a.name).collect();
        if self.privileged && self.set.make_user_dirs {
            names.extend(users::login_users());
        }
        names.sort();
        names.dedup();
        for name in names {
            if let Some(account) = self.account(&name) {
                self.make_user(&account).await?;
            }
        }
        Ok(())
    }

    /// A user's directories; those that are there stay as they are.
    pub(crate) async fn make_user(&self, account: &Account) -> Result<(), StoreError> {
        let (name, owner) = (account.name.as_str(), Some(account.owner()));
        self.store.mkdir(&format!("{SPOOL}/{name}"), 0o700, owner).await?;
        for dir in USER_DIRS {
            self.store.mkdir(&user_path(name, dir), 0o700, owner).await?;
        }
        // exec's: what stands below decides what a privileged process kills and adopts.
        self.store.mkdir(&user_path(name, "jobs"), 0o755, None).await?;
        if self.store.stat(&user_path(name, "README")).await.is_err() {
            let put = Put { mode: 0o644, owner, sync: false };
            self.store.replace(&user_path(name, "LIMITS.json"), self.limits().as_bytes(), put).await?;
            self.store.replace(&user_path(name, "README"), README.as_bytes(), put).await?;
        }
        Ok(())
    }

    fn limits(&self) -> String {
        let limits = serde_json::json!({
            "schema": 1,
            "descriptor_bytes_max": DESCRIPTOR_BYTES_MAX,
            "live_jobs_max": self.set.live_max,
            "cpus_max": self.set.cores,
            "versions": [1],
        });
        format!("{limits:#}\n")
    }

    /// Users who have a spool that belongs to them.
    pub(crate) async fn users(&self) -> Result<Vec<Account>, StoreError> {
        let mut out = Vec::new();
        for entry in self.store.list(SPOOL, USERS_MAX).await? {
            if entry.kind != Kind::Directory || entry.name.starts_with('.') {
                continue;
            }
            let Some(account) = self.account(&entry.name) else { continue };
            let stat = self.store.stat(&format!("{SPOOL}/{}", entry.name)).await?;
            // A directory made in another's name is nobody's spool, nor is one that others may write.
            let mine = stat.uid == account.uid && stat.mode & 0o022 == 0;
            if mine && (self.privileged || account.uid == nix::unistd::geteuid().as_raw()) {
                out.push(account);
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// The account of a name; asked of the host once.
    pub(crate) fn account(&self, name: &str) -> Option<Account> {
        if let Some(known) = self.accounts.lock().get(name) {
            return known.clone();
        }
        let account = Account::by_name(name);
        self.accounts.lock().insert(name.to_string(), account.clone());
        account
    }
}

const README: &str = "\
Drop a job description into new/ and it runs:
  printf 'exec = \"/bin/echo\"\\nargs = [\"hello\"]\\n' > tmp/a.toml && mv tmp/a.toml new/
Look: run/ (live), hold/, done/ (exit 0), failed/ (with .why), rejected/ (with .error); jobs/ID/ has everything.

TOML, JSON, JSDL, and #! scripts with '#XOS key = value' or '#SBATCH' lines are understood. Write in tmp/ and rename into new/;
names: letters, digits, '.', '_', '+', '-'; ignored: dotfiles, *~, *.tmp, *.part, *.swp, *.lock.
Cancel:  rm run/NAME~ID   or   touch jobs/ID/control/cancel
Control: jobs/ID/control/{cancel,signal,suspend,resume,hold,release}; answers appear in control/.done/
Again:   mv failed/NAME~ID new/NAME   (a new job with a new id)
Limits stand in LIMITS.json, the service's state in status.
";
