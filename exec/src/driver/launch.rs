//! Starts supervisors, follows them, and finds out about those that others started.

use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};

use super::{Done, Driver};
use crate::engine::{Event, Facts, Told};
use crate::id::JobId;
use crate::spool::lease::RenewError;
use crate::spool::recover::{Attempt, is_go};
use crate::spool::{Hands, job_path, unit_dir};
use crate::store::{Put, StoreError};
use crate::supervisor::{self, Order, Report};

/// A supervisor's report pipe.
pub(super) type Supervision = Lines<BufReader<ChildStdout>>;

/// Between looks at an attempt that can only be looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Wins the decision for "go" and starts the supervisor.
pub(super) async fn launch(hands: &Arc<Hands>, facts: &Facts, attempt: u32) -> Vec<Done> {
    let job = facts.id.clone();
    let failed = |why: String| {
        tracing::warn!(job = %facts.id, attempt, why, "starting a supervisor");
        vec![Done::event(Event::LaunchFailed { job: facts.id.clone(), attempt, why })]
    };
    match hands.assert_lease().await {
        Ok(()) => {}
        Err(RenewError::Fenced(fenced)) => return vec![Done::Fenced(fenced.0)],
        Err(RenewError::Store(error)) => return failed(error.to_string()),
    }
    match decide(hands, facts, attempt).await {
        Ok(true) => {}
        Ok(false) => return vec![Done::event(Event::Revoked { job, attempt })],
        Err(error) => return failed(error.to_string()),
    }
    crate::failpoint::reach("launch.after_decision");
    let Some(account) = hands.account(&facts.user) else {
        return failed(format!("the host knows no user {}", facts.user));
    };
    let order = match hands.order(&account, facts, attempt).await {
        Ok(order) => order,
        Err(error) => return failed(error.to_string()),
    };
    let mut supervision = match spawn(hands, &order).await {
        Ok(supervision) => supervision,
        Err(error) => return failed(error.to_string()),
    };
    crate::failpoint::reach("launch.after_spawn");
    match next_report(&mut supervision).await {
        Some(Report::Started { pid }) => vec![
            Done::event(Event::Started { job: job.clone(), attempt, pid }),
            Done::Follow { job, attempt, supervision: Some(supervision) },
        ],
        Some(Report::Failed { why }) => failed(why),
        Some(Report::Taken {} | Report::Exited { .. }) | None => {
            settle(hands, &facts.user, &facts.id, attempt, "the supervisor ended without a word").await
        }
    }
}

/// Whether the attempt's decision is "go"; makes it so if there is none.
async fn decide(hands: &Hands, facts: &Facts, attempt: u32) -> Result<bool, StoreError> {
    let (user, id) = (facts.user.as_str(), &facts.id);
    let alloc = serde_json::json!({
        "attempt": attempt,
        "units": [{ "unit": 0, "node": hands.set.node, "cpus": facts.spec.resources.cpus }],
        "epoch": hands.lease.epoch(),
    });
    let path = job_path(user, id, &format!("alloc-{attempt}.json"));
    hands.store.replace(&path, alloc.to_string().as_bytes(), Put::DERIVED).await?;
    if attempt > 1 {
        hands.store.mkdir(&job_path(user, id, &unit_dir(attempt)), 0o755, None).await?;
    }
    crate::failpoint::reach("launch.before_decision");
    let go = serde_json::json!({ "decision": "go", "attempt": attempt, "epoch": hands.lease.epoch() });
    let path = job_path(user, id, &format!("decision-{attempt}"));
    if hands.store.create_once(&path, go.to_string().as_bytes(), Put::DERIVED).await? {
        return Ok(true);
    }
    Ok(is_go(&hands.store.read(&path, 1 << 16).await?))
}

async fn spawn(hands: &Hands, order: &Order) -> std::io::Result<Supervision> {
    let (program, arguments) =
        hands.set.supervise.split_first().ok_or_else(|| std::io::Error::other("no command"))?;
    let mut child = Command::new(program)
        .args(arguments)
        // Only so that `ps` shows what it is for; the order comes on stdin.
        .arg(format!("{}/{}", order.mount, order.job_dir))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::Error::other("the child has no pipes"));
    };
    let bytes = serde_json::to_vec(order).map_err(std::io::Error::other)?;
    stdin.write_all(&bytes).await?;
    drop(stdin);
    // The first process forks the supervisor and ends; this only reaps it.
    tokio::spawn(async move { child.wait().await });
    Ok(BufReader::new(stdout).lines())
}

async fn next_report(supervision: &mut Supervision) -> Option<Report> {
    let line = supervision.next_line().await.ok().flatten()?;
    serde_json::from_str(&line).ok()
}

/// Says what is known of an attempt that may or may not have been started.
pub(super) async fn settle(
    hands: &Arc<Hands>,
    user: &str,
    job: &JobId,
    attempt: u32,
    why: &str,
) -> Vec<Done> {
    let id = job.clone();
    let event = match hands.inspect(user, job, attempt).await {
        Ok(Attempt::NotStarted) => Event::LaunchFailed { job: id, attempt, why: why.to_string() },
        Ok(Attempt::Revoked) => Event::Revoked { job: id, attempt },
        Ok(Attempt::Ended(exit)) => Event::Exited { job: id, attempt, exit },
        Ok(Attempt::Alive(pid)) => {
            return vec![
                Done::event(Event::Started { job: id.clone(), attempt, pid }),
                Done::Follow { job: id, attempt, supervision: None },
            ];
        }
        Ok(Attempt::Elsewhere) => return vec![Done::Follow { job: id, attempt, supervision: None }],
        Err(error) => Event::LaunchFailed { job: id, attempt, why: error.to_string() },
    };
    vec![Done::event(event)]
}

/// Waits for the end of an attempt by looking at its files and its supervisor.
async fn until_over(hands: &Arc<Hands>, user: &str, job: &JobId, attempt: u32) -> Event {
    let id = job.clone();
    loop {
        match hands.inspect(user, job, attempt).await {
            Ok(Attempt::Ended(exit)) => return Event::Exited { job: id, attempt, exit },
            Ok(Attempt::Revoked) => return Event::Revoked { job: id, attempt },
            Ok(Attempt::Alive(pid)) => process_end(pid).await,
            Ok(Attempt::NotStarted) => {
                let why = "its manifest vanished".to_string();
                return Event::LaunchFailed { job: id, attempt, why };
            }
            Ok(Attempt::Elsewhere) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(error) => {
                tracing::warn!(%job, %error, "looking at a running job");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// Waits until a process of this host is gone.
async fn process_end(pid: u32) {
    // SAFETY: opens a new descriptor, which is ours alone.
    let fd = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK);
        i32::try_from(fd).ok().filter(|fd| *fd >= 0).map(|fd| OwnedFd::from_raw_fd(fd))
    };
    // SAFETY: the owned descriptor stays open and the same as long as the registration.
    match fd.and_then(|fd| unsafe { AsyncFd::register(fd) }.ok()) {
        Some(fd) => {
            let _ = fd.readable().await;
        }
        None => tokio::time::sleep(Duration::from_millis(100)).await,
    }
}

/// Wins the decision for "revoked", or finds out what it is.
pub(super) async fn revoke(
    hands: &Arc<Hands>,
    user: &str,
    job: &JobId,
    attempt: u32,
    why: &str,
) -> Vec<Done> {
    let revoked = serde_json::json!({ "decision": format!("revoked: {why}"), "attempt": attempt, "epoch": hands.lease.epoch() });
    let path = job_path(user, job, &format!("decision-{attempt}"));
    let barred = async {
        if hands.store.create_once(&path, revoked.to_string().as_bytes(), Put::DURABLE).await? {
            return Ok(true);
        }
        if !is_go(&hands.store.read(&path, 1 << 16).await?) {
            return Ok(true);
        }
        // "go" stands; the manifest is the last gate.
        hands.bar_manifest(user, job, attempt, why).await
    };
    match barred.await {
        Ok(true) => vec![Done::event(Event::Revoked { job: job.clone(), attempt })],
        Ok(false) => settle(hands, user, job, attempt, why).await,
        Err::<bool, StoreError>(error) => {
            tracing::warn!(%job, %error, "revoking a start; trying again");
            tokio::time::sleep(LOOK_AGAIN).await;
            vec![Done::event(Event::LaunchFailed { job: job.clone(), attempt, why: why.to_string() })]
        }
    }
}

/// Tells an attempt's supervisor, if it lives.
pub(super) async fn tell(hands: &Hands, user: &str, job: &JobId, attempt: u32, told: Told) {
    match hands.inspect(user, job, attempt).await {
        Ok(Attempt::Alive(pid)) => {
            if let Err(error) = supervisor::tell(pid, told) {
                tracing::warn!(%job, pid, %error, "telling a supervisor");
            }
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%job, %error, "telling a supervisor"),
    }
}

impl Driver {
    /// Follows an attempt to its end.
    pub(super) fn follow(&mut self, job: JobId, attempt: u32, supervision: Option<Supervision>) {
        let Some(user) = self.user_of(&job) else { return };
        let hands = self.hands.clone();
        self.follows.spawn(async move {
            if let Some(mut supervision) = supervision
                && let Some(Report::Exited { exit }) = next_report(&mut supervision).await
            {
                return vec![Done::event(Event::Exited { job, attempt, exit })];
            }
            // The pipe ended without a record: the files know, and if not, the process table.
            vec![Done::event(until_over(&hands, &user, &job, attempt).await)]
        });
    }
}
