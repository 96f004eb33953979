//! `xtfs layout`: what new files below a directory get.

use clap::{Args, Subcommand};
use proto::layout::LayoutDefault;
use proto::stripe::{Coding, Replication, Striping};
use serde_json::json;

use super::mkfs::{Policy, coding_text, replication_name};
use crate::address;
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{Opened, creds, place, run_with_tasks};

/// Defaults for new files below a directory: stripes, replicas, how copies agree
#[derive(Debug, Args)]
pub(crate) struct Layout {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set them; files that exist stay as they are, but for erasure coding
    Set(Set),
    /// Show what a new file in a directory gets
    Get(Get),
}

#[derive(Debug, Args)]
struct Set {
    /// A directory of a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
    /// Bytes of an object: 4K to 16M, a power of two [default: as it is].
    #[arg(long, value_name = "SIZE", value_parser = address::size)]
    stripe_size: Option<u64>,
    /// OSDs over which a file is spread [default: as it is].
    #[arg(long, value_name = "W")]
    stripe_width: Option<u32>,
    /// Copies of each file's data [default: as it is].
    #[arg(long, value_name = "R")]
    replicas: Option<u32>,
    /// How copies agree.
    #[arg(long, value_name = "POLICY")]
    replication: Option<Policy>,
    /// Erasure-code closed files, also those that exist: K data and M parity objects per group, or `none` [default: as it is].
    #[arg(long, value_name = "K+M", value_parser = code)]
    ec: Option<Ec>,
    /// Remove the directory's own defaults.
    #[arg(long, conflicts_with_all = ["stripe_size", "stripe_width", "replicas", "replication", "ec"])]
    unset: bool,
    /// Say what would be set, and set nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What `--ec` says.
#[derive(Debug, Clone, Copy)]
struct Ec(Option<Coding>);

fn code(text: &str) -> Result<Ec, String> {
    if text == "none" { Ok(Ec(None)) } else { text.parse().map(|coding| Ec(Some(coding))) }
}

#[derive(Debug, Args)]
struct Get {
    /// A directory of a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
}

impl Layout {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let path = match &self.what {
            What::Set(set) => &set.path,
            What::Get(get) => &get.path,
        };
        let what = format!("layout of new files in {path}");
        let place = place(path)?;
        run_with_tasks(async {
            let opened = place.open(global, &what).await?;
            let done = match &self.what {
                What::Set(set) => set.run(&opened, &what, global.json).await,
                What::Get(_) => default(&opened, &what).await.map(|found| show(&found, global.json)),
            };
            opened.close().await;
            done.map(|()| 0)
        })
    }
}

async fn default(opened: &Opened, what: &str) -> Result<LayoutDefault, Failure> {
    let found = opened.volume.default_layout(&creds(), opened.ino).await;
    found.map_err(|error| Failure::wire(what, &error))
}

impl Set {
    async fn run(&self, opened: &Opened, what: &str, json: bool) -> Result<(), Failure> {
        let before = default(opened, what).await?.striping;
        let wanted = self.striping(before).map_err(|why| Failure::usage(what, why))?;
        if self.dry_run {
            let from = if self.unset { 0 } else { opened.ino };
            show(&LayoutDefault { striping: wanted, from }, json);
            return Ok(());
        }
        let striping = (!self.unset).then_some(wanted);
        let set = opened.volume.set_default_layout(&creds(), opened.ino, striping).await;
        set.map_err(|error| Failure::wire(what, &error))?;
        show(&default(opened, what).await?, json);
        Ok(())
    }

    fn striping(&self, before: Striping) -> Result<Striping, String> {
        let replicas = self.replicas.unwrap_or(before.replicas);
        let replication = match self.replication {
            Some(policy) => policy.replication() as i32,
            None if replicas == 1 => Replication::None as i32,
            None if before.replicas > 1 => before.replication,
            None => Replication::None as i32,
        };
        let stripe_bytes = match self.stripe_size {
            Some(size) => u32::try_from(size).unwrap_or(u32::MAX),
            None => before.stripe_bytes,
        };
        let width = self.stripe_width.unwrap_or(before.width);
        let coding = self.ec.map_or(before.coding, |ec| ec.0);
        Striping { stripe_bytes, width, replicas, replication, coding }.check()
    }
}

fn show(found: &LayoutDefault, json: bool) {
    let striping = found.striping;
    if json {
        return output::json(&json!({
            "stripe_size": striping.stripe_bytes,
            "stripe_width": striping.width,
            "replicas": striping.replicas,
            "replication": replication_name(striping.replication()),
            "ec": striping.coding.map(|coding| coding.to_string()),
            "from": if found.from == 0 { "volume" } else { "directory" },
            "directory": (found.from != 0).then_some(found.from),
        }));
    }
    let from = match found.from {
        0 => "the volume".to_owned(),
        ino => format!("directory ino-{ino}"),
    };
    output::line(&format!(
        "new files: stripes of {}, width {}, {} replica(s), {}{} (from {from})",
        output::bytes(striping.stripe_bytes.into()),
        striping.width,
        striping.replicas,
        replication_name(striping.replication()),
        coding_text(striping.coding)
    ));
}
