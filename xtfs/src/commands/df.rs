//! `xtfs df`: space of volumes.

use clap::Args;
use proto::dir::VolumeEntry;
use proto::id::Ino;
use proto::mrc::{InoRequest, StatFs, StatFsReply};
use serde_json::{Value, json};

use crate::address::VolumeUrl;
use crate::args::Global;
use crate::cluster::head;
use crate::failure::Outcome;
use crate::output;

/// Show space: capacity, free, used by each volume
#[derive(Debug, Args)]
pub(crate) struct Df {
    /// xtfs://HOST[:PORT][/VOLUME]; without a volume all of them.
    url: Option<String>,
}

impl Df {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let url = self.url.as_deref().map(VolumeUrl::parse).transpose()?;
        let dirs = url.as_ref().map(|url| url.dirs.clone()).unwrap_or_default();
        let cluster = super::cluster(global, &dirs)?;
        let name = url.map(|url| url.volume).unwrap_or_default();
        super::run_async(async {
            let volumes =
                if name.is_empty() { cluster.volumes().await? } else { vec![cluster.volume(&name).await?] };
            let mut shown: Vec<(VolumeEntry, StatFsReply)> = Vec::new();
            for volume in volumes {
                let what = format!("space of volume {:?}", volume.name);
                let request = InoRequest { head: head(volume.volume), ino: Ino::ROOT.0 };
                let reply = cluster.mrc::<StatFs>(&what, &volume, &request).await?;
                shown.push((volume, reply));
            }
            if global.json {
                output::json(&Value::Array(
                    shown.iter().map(|(volume, space)| to_json(volume, space)).collect(),
                ));
                return Ok(0);
            }
            let rows: Vec<Vec<String>> = shown
                .iter()
                .map(|(volume, space)| {
                    let taken = space.total_bytes.saturating_sub(space.free_bytes);
                    let percent = (taken * 100).checked_div(space.total_bytes);
                    vec![
                        volume.name.clone(),
                        output::bytes(space.total_bytes),
                        output::bytes(space.free_bytes),
                        percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %")),
                        output::bytes(space.used_bytes),
                        space.inodes.to_string(),
                    ]
                })
                .collect();
            output::table(&["VOLUME", "SIZE", "FREE", "FULL", "FILES USE", "INODES"], &rows, "no volumes");
            Ok(0)
        })
    }
}

fn to_json(volume: &VolumeEntry, space: &StatFsReply) -> Value {
    json!({
        "name": volume.name,
        "total_bytes": space.total_bytes,
        "free_bytes": space.free_bytes,
        "used_bytes": space.used_bytes,
        "inodes": space.inodes,
    })
}
