//! What users see of a job's state: status files, results, and the directory its descriptor is in.

use super::{Hands, OWN, job_path, user_path};
use crate::engine::{Facts, StatusView};
use crate::store::{Put, RenameMode, StoreError};

impl Hands {
    /// `status.json` and `status`: derived, written again at any time.
    pub(crate) async fn write_status(
        &self,
        user: &str,
        id: &crate::id::JobId,
        view: &StatusView,
    ) -> Result<(), StoreError> {
        let json = format!("{:#}\n", view.to_json());
        self.store.replace(&job_path(user, id, "status.json"), json.as_bytes(), Put::DERIVED).await?;
        self.store.replace(&job_path(user, id, "status"), view.lines().as_bytes(), Put::DERIVED).await
    }

    /// The end of a job: results first, then the descriptor's move, then the entry in `active/`. Each step may be
    /// done again.
    pub(crate) async fn publish(&self, facts: &Facts, view: &StatusView) -> Result<(), StoreError> {
        let (user, id) = (facts.user.as_str(), &facts.id);
        let owner = self.account(user).map(|a| a.owner());
        let put = Put { mode: 0o644, owner, sync: false };
        let good = view.state == "DONE";
        let full = format!("{}~{id}", facts.file);
        let target = user_path(user, &format!("{}/{full}", if good { "done" } else { "failed" }));
        self.write_status(user, id, view).await?;
        let result = format!("{:#}\n", view.result_json(&facts.spec));
        self.store.replace(&format!("{target}.result.json"), result.as_bytes(), put).await?;
        if !good {
            let why = format!("{}: {}\n", view.state, view.reason.text);
            self.store.replace(&format!("{target}.why"), why.as_bytes(), put).await?;
        }
        crate::failpoint::reach("publish.before_rename");
        self.move_descriptor(facts, &target, put).await?;
        crate::failpoint::reach("publish.after_rename");
        match self.store.remove(&format!("{OWN}/active/{id}")).await {
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    }

    async fn move_descriptor(&self, facts: &Facts, target: &str, put: Put) -> Result<(), StoreError> {
        let full = format!("{}~{}", facts.file, facts.id);
        for from in ["run", "hold"] {
            let from_path = user_path(&facts.user, &format!("{from}/{full}"));
            match self.store.rename(&from_path, target, RenameMode::NoReplace).await {
                Ok(()) => {
                    if from == "hold" {
                        let _ = self.store.remove(&format!("{from_path}.why")).await;
                    }
                    return Ok(());
                }
                Err(error) if error.is_taken() => return Ok(()),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        if self.store.stat(target).await.is_ok() {
            return Ok(());
        }
        // The user removed it (that was the cancel): the result gets its descriptor back, to be submitted again.
        let source = job_path(&facts.user, &facts.id, "spec.src");
        let bytes = self.store.read(&source, crate::spec::DESCRIPTOR_BYTES_MAX).await.unwrap_or_default();
        self.store.replace(target, &bytes, put).await
    }

    /// Moves a live descriptor between `run/` and `hold/`.
    pub(crate) async fn move_held(&self, facts: &Facts, hold: bool, why: &str) -> Result<(), StoreError> {
        let full = format!("{}~{}", facts.file, facts.id);
        let held = user_path(&facts.user, &format!("hold/{full}"));
        let run = user_path(&facts.user, &format!("run/{full}"));
        let note = format!("{held}.why");
        let owner = self.account(&facts.user).map(|a| a.owner());
        if hold {
            let text = format!("{why}\n");
            let put = Put { mode: 0o644, owner, sync: false };
            self.store.replace(&note, text.as_bytes(), put).await?;
        }
        let (from, to) = if hold { (&run, &held) } else { (&held, &run) };
        match self.store.rename(from, to, RenameMode::NoReplace).await {
            Err(error) if !error.is_missing() && !error.is_taken() => return Err(error),
            _ => {}
        }
        if !hold {
            let _ = self.store.remove(&note).await;
        }
        Ok(())
    }
}
