//! Membership: a member of the DIR or the MRC group, or an OSD, makes place for a new one while the loads go on.
//!
//! Members of groups by the command that a person would type. An OSD in the steps that a person would take: another one is
//! started, the old one is drained, and when no file names it any more it is taken out and its process stopped.

use std::time::{Duration, Instant};

use proto::dir::{OsdEntry, OsdSetState, OsdState, SetOsdState};
use proto::mrc::{ListReplicas, ListReplicasRequest};

use super::net::{Network, number};
use super::target::Target;
use crate::cluster::{Cluster, head, once};
use crate::failure::Failure;
use crate::instance::plan;
use crate::launcher::control::{self, Request};

/// What one step may take on a busy machine.
const STEP: Duration = Duration::from_secs(45);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Replaces it; the name of who stands in its place.
pub(super) fn replace(target: &Target, network: Option<&Network>, name: &str) -> Result<String, Failure> {
    let role = number(name).0;
    // The launcher chooses the name; it is needed before, for the network.
    let new = plan::add_member(&mut target.instance(), role, target.home())?.name;
    if let Some(network) = network {
        network.admit(&new, number(&target.seat(name)).1)?;
    }
    if role == "osd" {
        osd(target, name, &new)?
    } else {
        target.replace_member(role, name, STEP)?
    }
    target.seated(name, &new)?;
    target.instance().service(&new)?;
    Ok(new)
}

fn osd(target: &Target, old: &str, new: &str) -> Result<(), Failure> {
    let instance = target.instance();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("starting the runtime", error))?;
    runtime.block_on(async {
        let cluster = Cluster::new(rt::rpc::Connector::new(), instance.addrs("dir"), STEP);
        let leaving = in_map(&cluster, &instance.service(old)?.addr)
            .await?
            .ok_or_else(|| Failure::new(format!("replacing {old}"), "the OSD map does not have it"))?;
        let made = ask(target, &Request::AddMember { role: "osd".to_owned() })?;
        ask(target, &Request::Start { name: new.to_owned() })?;
        let addr = made["addr"].as_str().unwrap_or_default().to_owned();
        wait(|| async {
            let entry = in_map(&cluster, &addr).await?;
            let is_up = entry.is_some_and(|osd| osd.state() == OsdState::Up);
            Ok((!is_up).then(|| (0, format!("{new} is not up in the OSD map"))))
        })
        .await?;
        set(&cluster, leaving.osd, OsdState::Draining).await?;
        wait(|| async {
            let left = named_by(&cluster, &instance.volume, leaving.osd).await?;
            Ok((left > 0).then(|| (left, format!("{left} files still name {old} (osd#{})", leaving.osd))))
        })
        .await?;
        set(&cluster, leaving.osd, OsdState::Out).await?;
        ask(target, &Request::Forget { name: old.to_owned() }).map(drop)
    })
}

/// Waits until nothing is left to do: `left` says `None`, or how much it is and in words. It fails when that becomes no less for
/// too long.
async fn wait<F>(left: impl Fn() -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<Option<(usize, String)>, Failure>>,
{
    let (mut least, mut since) = (usize::MAX, Instant::now());
    while let Some((count, why)) = left().await? {
        if count < least {
            (least, since) = (count, Instant::now());
        }
        if since.elapsed() > STEP {
            let why = format!("{why}, and no less for {} s", STEP.as_secs());
            return Err(Failure::new("replacing an OSD", why));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

async fn in_map(cluster: &Cluster, addr: &str) -> Result<Option<OsdEntry>, Failure> {
    Ok(cluster.map().await?.osds.into_iter().find(|osd| osd.addr == addr && osd.state() != OsdState::Out))
}

async fn set(cluster: &Cluster, osd: u64, state: OsdState) -> Result<(), Failure> {
    let request = SetOsdState { origin: once(), osd, state: state as i32 };
    cluster.dir::<OsdSetState>(&format!("changing the state of osd#{osd}"), &request).await.map(drop)
}

/// How many files name an OSD, in the lists that they have or had a moment ago.
async fn named_by(cluster: &Cluster, volume: &str, osd: u64) -> Result<usize, Failure> {
    let volume = cluster.volume(volume).await?;
    let (mut count, mut after) = (0, 0);
    loop {
        let ask = ListReplicasRequest { head: head(volume.volume), after, osds: vec![osd] };
        let page = cluster.mrc::<ListReplicas>("listing files of an OSD", &volume, &ask).await?;
        let lists = page.files.iter().map(|file| &file.layout);
        count += lists
            .filter(|layout| {
                let columns = layout.columns.iter().chain(&layout.previous);
                columns.into_iter().any(|column| column.osds.contains(&osd))
            })
            .count();
        after = page.next;
        if after == 0 {
            return Ok(count);
        }
    }
}

fn ask(target: &Target, request: &Request) -> Result<serde_json::Value, Failure> {
    match control::ask(&target.home().launcher(), request) {
        Some(answer) => answer.map(|(value, _)| value),
        None => Err(Failure::unreachable("the launcher of the instance", "it does not answer")),
    }
}
