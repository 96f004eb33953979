//! `xtfs rmfs`: removes a volume and everything in it.

use clap::Args;
use proto::dir::RemoveVolume;
use proto::mrc::DropVolume;
use serde_json::json;

use crate::address::VolumeUrl;
use crate::args::Global;
use crate::cluster::once;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Remove a volume with all its files
#[derive(Debug, Args)]
pub(crate) struct Rmfs {
    /// xtfs://HOST[:PORT]/VOLUME or HOST/VOLUME.
    url: String,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Rmfs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let url = VolumeUrl::parse(&self.url)?;
        if url.volume.is_empty() || !url.path.is_empty() {
            return Err(Failure::usage(format!("address {:?}", self.url), "it does not name a volume"));
        }
        let cluster = super::cluster(global, &url.dirs)?;
        super::run_async(async {
            let volume = cluster.volume(&url.volume).await?;
            if !self.dry_run {
                let question = format!("remove volume {:?} and all files in it?", volume.name);
                output::confirm(&question, self.yes)?;
                // The files first: if this dies half-way the name is still there to try again with.
                let what = format!("removing the files of volume {:?}", volume.name);
                let drop = DropVolume { origin: once(), volume: volume.volume };
                cluster.mrc::<proto::mrc::VolumeDrop>(&what, &volume, &drop).await?;
                let what = format!("removing volume {:?}", volume.name);
                let remove = RemoveVolume { origin: once(), name: volume.name.clone() };
                cluster.dir::<proto::dir::VolumeRemove>(&what, &remove).await?;
            }
            if global.json {
                output::json(
                    &json!({"name": volume.name, "volume": volume.volume, "removed": !self.dry_run}),
                );
            } else {
                let verb = if self.dry_run { "would remove" } else { "removed" };
                output::line(&format!("{verb} volume {}", volume.name));
            }
            Ok(0)
        })
    }
}
