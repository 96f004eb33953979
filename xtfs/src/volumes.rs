//! Making volumes: the DIR's entry first, then the root directory in the metadata group.

use std::time::{Duration, Instant};

use proto::dir::{CreateVolume, OsdState, VolumeEntry};
use proto::error::{Code, WireError};
use proto::mrc::InitVolume;

use crate::cluster::{Cluster, once};
use crate::failure::Failure;

/// Whether a volume of that name may exist already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is used as it is.
    Use,
    /// It is an error.
    Refuse,
}

/// The DIR is asked again who serves a volume when nobody of those that it named has answered for so long.
const ASK_ANEW: Duration = Duration::from_secs(2);

/// Makes a volume. A `mkfs` that died half-way is completed by the next one.
pub(crate) async fn create(
    cluster: &Cluster,
    wanted: VolumeEntry,
    existing: Existing,
) -> Result<VolumeEntry, Failure> {
    let what = format!("making volume {:?}", wanted.name);
    let name = wanted.name.clone();
    let request = CreateVolume { origin: once(), entry: wanted };
    let end = Instant::now() + Duration::from_secs(15);
    let mut entry = loop {
        match cluster.call::<proto::dir::VolumeCreate>(&cluster.dirs, &request).await {
            Ok(entry) => break entry,
            Err(error) if error.code == Code::Exists => {
                let entry = cluster.volume(&name).await?;
                if existing == Existing::Refuse && has_root(cluster, &entry).await {
                    return Err(
                        Failure::new(what, error.text).next("choose another name, or `xtfs rmfs` it first")
                    );
                }
                break entry;
            }
            // A cluster that has just started has no metadata group until its first MRC has registered.
            Err(error) if no_group_yet(&error) && Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(Failure::wire(what, &error)),
        }
    };
    let init = InitVolume {
        origin: once(),
        volume: entry.volume,
        name: entry.name.clone(),
        striping: entry.striping,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
    };
    loop {
        let call = cluster.mrc::<proto::mrc::VolumeInit>(&what, &entry, &init);
        match tokio::time::timeout(ASK_ANEW, call).await {
            Ok(Ok(_)) => return Ok(entry),
            Ok(Err(failure)) if Instant::now() >= end || failure.status != 3 => return Err(failure),
            _ if Instant::now() >= end => {
                cluster.mrc::<proto::mrc::VolumeInit>(&what, &entry, &init).await?;
                return Ok(entry);
            }
            // A DIR that has just started names the members that it was told of at some time, until one has registered.
            _ => entry = cluster.volume(&name).await?,
        }
    }
}

fn no_group_yet(error: &WireError) -> bool {
    matches!(error.code, Code::Unavailable | Code::NoSpace | Code::NotFound | Code::Busy)
}

async fn has_root(cluster: &Cluster, volume: &VolumeEntry) -> bool {
    let request =
        proto::mrc::InoRequest { head: crate::cluster::head(volume.volume), ino: proto::id::Ino::ROOT.0 };
    cluster.call::<proto::mrc::GetAttr>(&volume.mrc.addrs, &request).await.is_ok()
}

/// Waits until that many OSDs serve; an error says how many did.
pub(crate) async fn wait_for_osds(cluster: &Cluster, wanted: usize, limit: Duration) -> Result<(), Failure> {
    let end = Instant::now() + limit;
    loop {
        let map = cluster.map().await?;
        let up = map.osds.iter().filter(|osd| osd.state() == OsdState::Up).count();
        if up >= wanted {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(Failure::unreachable(
                "waiting for the OSDs",
                format!("{up} of {wanted} registered within {} s", limit.as_secs()),
            )
            .next("their logs say why: DATA/log/osd-*.log"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
