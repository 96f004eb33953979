//! Carries the engine's effects out, each as a task that brings an event back.

use std::sync::Arc;
use std::time::Duration;

use super::{Done, Driver, launch};
use crate::engine::{Effect, Event, Record};
use crate::id::JobId;
use crate::spool::lease::RenewError;
use crate::spool::{Hands, job_path};
use crate::store::StoreError;

/// First and longest pause between tries of something that must succeed in the end.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl Driver {
    pub(super) fn perform(&mut self, effect: Effect) {
        let hands = self.hands.clone();
        match effect {
            Effect::Append { job, records, durable } => {
                let Some(user) = self.user_of(&job) else { return };
                self.tasks.spawn(async move { vec![append(&hands, user, job, records, durable).await] });
            }
            Effect::Launch { job, attempt, delay_ms } => {
                let Some(live) = self.engine.job(&job) else { return };
                let facts = live.facts.clone();
                self.tasks.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                    launch::launch(&hands, &facts, attempt).await
                });
            }
            Effect::Revoke { job, attempt, why } => {
                let Some(user) = self.user_of(&job) else { return };
                self.tasks.spawn(async move { launch::revoke(&hands, &user, &job, attempt, &why).await });
            }
            Effect::Adopt { job, attempt } => {
                let Some(user) = self.user_of(&job) else { return };
                self.tasks.spawn(async move { launch::settle(&hands, &user, &job, attempt, "").await });
            }
            Effect::Tell { job, attempt, told } => {
                let Some(user) = self.user_of(&job) else { return };
                self.tasks.spawn(async move {
                    launch::tell(&hands, &user, &job, attempt, told).await;
                    vec![Done::Nothing]
                });
            }
            Effect::Move { job, hold, why } => {
                let Some(live) = self.engine.job(&job) else { return };
                let facts = live.facts.clone();
                self.moving.insert(job.clone());
                self.tasks.spawn(async move {
                    insist(&hands, "moving a descriptor", || hands.move_held(&facts, hold, &why)).await;
                    vec![Done::Moved(job)]
                });
            }
            Effect::Publish { job } => {
                let (Some(live), Some(view)) = (self.engine.job(&job), self.engine.view(&job)) else {
                    return;
                };
                let facts = live.facts.clone();
                self.moving.insert(job.clone());
                self.tasks.spawn(async move {
                    insist(&hands, "publishing a result", || hands.publish(&facts, &view)).await;
                    vec![Done::Moved(job.clone()), Done::event(Event::Published { job })]
                });
            }
            Effect::Answer { job, file, ok, text } => {
                let Some(user) = self.user_of(&job) else { return };
                self.answer(user, job, file, ok, text);
            }
        }
    }

    pub(super) fn answer(&mut self, user: String, job: JobId, file: String, ok: bool, text: String) {
        let hands = self.hands.clone();
        self.tasks.spawn(async move {
            if let Err(error) = hands.answer(&user, &job, &file, ok, &text).await {
                tracing::warn!(%job, file, %error, "answering a control file");
            }
            vec![Done::Answered { job, file }]
        });
    }

    pub(super) fn user_of(&self, job: &JobId) -> Option<String> {
        self.engine.job(job).map(|j| j.facts.user.clone())
    }
}

/// Appends to a job's event log, for ever if the file system is away, not at all if the job is not ours any more.
async fn append(hands: &Arc<Hands>, user: String, job: JobId, records: Vec<Record>, durable: bool) -> Done {
    let path = job_path(&user, &job, "eventlog");
    let word =
        records.last().map(|r| serde_json::to_value(r).unwrap_or_default()["e"].clone()).unwrap_or_default();
    let word = word.as_str().unwrap_or("").to_string();
    crate::failpoint::reach(&format!("log.before_{word}"));
    let mut pause = PAUSE.0;
    loop {
        match hands.assert_lease().await {
            Ok(()) => {}
            Err(RenewError::Fenced(fenced)) => return Done::Fenced(fenced.0),
            Err(RenewError::Store(error)) => {
                wait_after("renewing the lease", &error, &mut pause).await;
                continue;
            }
        }
        let end = hands.log_ends.lock().get(&job).copied().unwrap_or_default();
        let mut bytes = if end.torn { b"\n".to_vec() } else { Vec::new() };
        for record in &records {
            serde_json::to_writer(&mut bytes, record).expect("records are plain data");
            bytes.push(b'\n');
        }
        match hands.store.append(&path, &bytes, end.length, durable).await {
            Ok(()) => {
                let length = end.length + bytes.len() as u64;
                hands.log_ends.lock().insert(job.clone(), crate::spool::LogEnd { length, torn: false });
                crate::failpoint::reach(&format!("log.after_{word}"));
                return Done::event(Event::Logged { job, records });
            }
            Err(error) if error.is_stale() || error.is_missing() => {
                tracing::warn!(%job, %error, "its log was changed by somebody else; reading it again");
                hands.log_ends.lock().remove(&job);
                return Done::event(Event::Gone { job });
            }
            Err(error) => {
                wait_after("appending to a log", &error, &mut pause).await;
                // A part may have been written.
                match hands.store.stat(&path).await {
                    Ok(stat) if stat.size != end.length => return Done::event(Event::Gone { job }),
                    _ => {}
                }
            }
        }
    }
}

async fn wait_after(what: &str, error: &StoreError, pause: &mut Duration) {
    tracing::warn!(%error, "{what}; trying again");
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(PAUSE.1);
}

/// Does something until it succeeds.
async fn insist<F, R>(hands: &Arc<Hands>, what: &str, mut work: F)
where
    F: FnMut() -> R,
    R: Future<Output = Result<(), StoreError>>,
{
    let mut pause = PAUSE.0;
    loop {
        if matches!(hands.assert_lease().await, Err(RenewError::Fenced(_))) {
            // The next manager does it.
            return;
        }
        match work().await {
            Ok(()) => return,
            Err(error) => wait_after(what, &error, &mut pause).await,
        }
    }
}
