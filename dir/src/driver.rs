//! The only loop: time, and what the engine wants done.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use prost::Message;
use proto::dir::OsdHeartbeatReply;
use proto::error::WireError;
use proto::osd::Status;
use proto::rpc::{Empty, Origin};
use rand::RngCore;
use rt::rpc::{CallOptions, call_with};
use tokio::sync::{Notify, watch};

use crate::command::{Bootstrap, Change, RotateKey, TakeDown};
use crate::engine::{Effect, Event, Verdict, Why};
use crate::server::Dir;
use crate::state::View;

/// How long the DIR's own look at an OSD may take; a refusal comes at once.
const PROBE_DEADLINE: Duration = Duration::from_millis(150);
/// Deadline of proposals that nobody waits for: they are decided again after it.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Pause after a proposal failed.
const RETRY: Duration = Duration::from_millis(200);
/// Waking up so much later than planned: the process did not run, and heartbeats wait to be read.
const STALLED: Duration = Duration::from_millis(150);

/// Runs until the DIR is dropped or told to stop.
pub(crate) async fn run(dir: Weak<Dir>, mut views: watch::Receiver<Arc<View>>, stop: Arc<Notify>) {
    loop {
        views.borrow_and_update();
        let Some(this) = dir.upgrade() else { return };
        let pause = turn(&this).await;
        let due = this.clock.monotonic() + pause;
        drop(this);
        tokio::select! {
            () = tokio::time::sleep(pause) => {
                let Some(this) = dir.upgrade() else { return };
                let late = this.clock.monotonic().saturating_sub(due);
                if late > STALLED {
                    tracing::warn!(late_ms = late.as_millis(), "the DIR did not run for a while; leases are extended");
                    this.decide(Event::Stalled);
                }
            }
            changed = views.changed() => if changed.is_err() { return },
            () = stop.notified() => return,
        }
    }
}

/// Does what is due; gives how long to wait for the next time.
async fn turn(dir: &Dir) -> Duration {
    let effects = dir.decide(Event::Tick);
    carry_out(dir, effects).await;
    let housekeeping = if dir.view().leads.is_some() { house_keeping(dir).await } else { Ok(()) };
    let due = dir.with_memory(|memory, now| memory.engine.next_tick(now).saturating_sub(now));
    match housekeeping {
        Ok(()) => due,
        Err(error) => {
            tracing::debug!(%error, "the DIR's housekeeping is tried again");
            due.min(RETRY)
        }
    }
}

/// Does what the engine decided and what follows from it; gives the number if an OSD was registered.
pub(crate) async fn carry_out(dir: &Dir, effects: Vec<Effect>) -> Option<Result<u64, WireError>> {
    let mut registered = None;
    let mut queue = VecDeque::from([effects]);
    while let Some(effects) = queue.pop_front() {
        for outcome in join_all(effects.into_iter().map(|effect| one(dir, effect))).await {
            match outcome {
                Outcome::Registered(result) => registered = Some(result),
                Outcome::More(effects) => queue.push_back(effects),
            }
        }
    }
    registered
}

enum Outcome {
    Registered(Result<u64, WireError>),
    More(Vec<Effect>),
}

async fn one(dir: &Dir, effect: Effect) -> Outcome {
    match effect {
        Effect::Register(entry) => {
            let reply = dir.propose(Origin::default(), Change::RegisterOsd(entry), PROPOSE_DEADLINE).await;
            Outcome::Registered(
                reply.map(|reply| OsdHeartbeatReply::decode(reply).map_or(0, |reply| reply.osd)),
            )
        }
        Effect::TakeDown { osd, addr, why } => {
            take_down(dir, osd, addr, why).await;
            Outcome::More(Vec::new())
        }
        Effect::Probe { osd, addr, after } => {
            tokio::time::sleep(after).await;
            let verdict = probe(dir, &addr).await;
            Outcome::More(dir.decide(Event::Probed { osd, addr, verdict }))
        }
    }
}

async fn take_down(dir: &Dir, osd: u64, addr: String, why: Why) {
    let cause = match why {
        Why::Silent => "its lease ran out",
        Why::Reported => "two parties were refused",
        Why::Refused => "it refuses connections",
        Why::Left => "it was stopped",
    };
    let death = Change::TakeDown(TakeDown { osd, addr: addr.clone() });
    match dir.propose(Origin::default(), death, PROPOSE_DEADLINE).await {
        Ok(_) => tracing::warn!(osd, addr, cause, epoch = dir.view().epoch, "OSD is down"),
        Err(error) => {
            tracing::warn!(osd, addr, cause, %error, "OSD is dead but the map could not be changed")
        }
    }
}

/// Looks at an OSD's address.
async fn probe(dir: &Dir, addr: &str) -> Verdict {
    let Ok(channel) = dir.connector.channel(addr) else {
        return Verdict::Unclear;
    };
    let options = CallOptions { deadline: PROBE_DEADLINE, ..CallOptions::default() };
    // A reset may be the end of an old connection: only the second look tells.
    for _ in 0..2 {
        match call_with::<Status>(&*channel, &Empty {}, bytes::Bytes::new(), &options).await {
            Ok(_) => return Verdict::Alive,
            Err(error) if error.hint == "refused" => return Verdict::Dead,
            Err(error) if error.hint == "reset" => {}
            Err(_) => return Verdict::Unclear,
        }
    }
    Verdict::Unclear
}

/// What a leader looks after beside OSDs.
async fn house_keeping(dir: &Dir) -> Result<(), WireError> {
    let view = dir.view();
    if view.cluster.is_empty() {
        let id = uuid_of(secret());
        let bootstrap =
            Bootstrap { cluster: id.clone(), name: dir.cluster.clone(), secret: secret().to_vec() };
        dir.propose(Origin::default(), Change::Bootstrap(bootstrap), PROPOSE_DEADLINE).await?;
        tracing::info!(cluster = dir.view().cluster, name = dir.view().name, "cluster has its identity");
    }
    let unix_ms = dir.unix_ms();
    let rotation_ms = u64::try_from(dir.key_rotation.as_millis()).unwrap_or(u64::MAX);
    if let Some(newest) = view.keys.first()
        && newest.made_ms.saturating_add(rotation_ms) <= unix_ms
    {
        rotate(dir, newest.key.number).await?;
    }
    let dirs = dir.group.voter_addrs();
    for uuid in dir.with_memory(|memory, now| memory.services.expire(now, &dirs)) {
        dir.propose(Origin::default(), Change::ForgetService(uuid), PROPOSE_DEADLINE).await?;
    }
    Ok(())
}

/// Puts a new key after key number `after`.
pub(crate) async fn rotate(dir: &Dir, after: u32) -> Result<(), WireError> {
    let rotation = Change::RotateKey(RotateKey { secret: secret().to_vec(), after });
    dir.propose(Origin::default(), rotation, PROPOSE_DEADLINE).await?;
    tracing::info!(after, "capability key rotated");
    Ok(())
}

/// Randomness goes into the command, so that every replica stores the same.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    secret
}

/// The text of a version 4 UUID made of random bytes.
fn uuid_of(random: [u8; 32]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&random[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
