//! `xtfs ls`: the volumes of a cluster.

use clap::Args;
use serde_json::Value;

use super::mkfs::to_json;
use crate::address::VolumeUrl;
use crate::args::Global;
use crate::failure::Outcome;
use crate::output;

/// List volumes
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// xtfs://HOST[:PORT] or HOST [default: --dir, XTFS_DIR or the instance here].
    url: Option<String>,
}

impl Ls {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let dirs =
            self.url.as_deref().map(VolumeUrl::parse).transpose()?.map(|url| url.dirs).unwrap_or_default();
        let cluster = super::cluster(global, &dirs)?;
        super::run_async(async {
            let volumes = cluster.volumes().await?;
            if global.json {
                output::json(&Value::Array(volumes.iter().map(to_json).collect()));
                return Ok(0);
            }
            let rows: Vec<Vec<String>> = volumes
                .iter()
                .map(|volume| {
                    let striping = volume.striping;
                    vec![
                        volume.name.clone(),
                        output::bytes(striping.stripe_bytes.into()),
                        striping.width.to_string(),
                        striping.replicas.to_string(),
                        striping.coding.map_or_else(|| "-".to_owned(), |coding| coding.to_string()),
                        format!("{:03o}", volume.mode),
                        format!("{}:{}", volume.uid, volume.gid),
                        output::time_ms(volume.created_ms),
                    ]
                })
                .collect();
            let header = ["VOLUME", "STRIPE", "WIDTH", "REPLICAS", "EC", "MODE", "OWNER", "CREATED"];
            output::table(&header, &rows, "no volumes; `xtfs mkfs` makes one");
            Ok(0)
        })
    }
}
