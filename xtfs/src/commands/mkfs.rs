//! `xtfs mkfs`: makes a volume.

use clap::{Args, ValueEnum};
use nix::unistd::{Group, User};
use proto::dir::{MrcGroup, VolumeEntry};
use proto::stripe::{Coding, Replication, Striping};
use serde_json::json;

use crate::address::{self, VolumeUrl};
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::volumes::{self, Existing};

/// Make a volume
#[derive(Debug, Args)]
pub(crate) struct Mkfs {
    /// xtfs://HOST[:PORT]/VOLUME, HOST/VOLUME, or xtfs:///VOLUME with --dir.
    url: String,
    /// Bytes of an object: 4K to 16M, a power of two.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = address::size)]
    stripe_size: u64,
    /// OSDs over which a file is spread.
    #[arg(long, value_name = "W", default_value_t = 1)]
    stripe_width: u32,
    /// Copies of each file's data.
    #[arg(long, value_name = "R", default_value_t = 1)]
    replicas: u32,
    /// How copies agree.
    #[arg(long, value_name = "POLICY")]
    replication: Option<Policy>,
    /// Erasure-code closed files: K data and M parity objects per group, on K+M OSDs.
    #[arg(long, value_name = "K+M")]
    ec: Option<Coding>,
    /// Permission bits of the root directory, octal.
    #[arg(long, short = 'm', value_name = "MODE", default_value = "755", value_parser = octal)]
    mode: u32,
    /// Owner of the root directory: a name or a number [default: you].
    #[arg(long, short = 'u', value_name = "USER")]
    owner: Option<String>,
    /// Group of the root directory: a name or a number [default: yours].
    #[arg(long, short = 'g', value_name = "GROUP")]
    group: Option<String>,
    /// Who decides on access.
    #[arg(long, value_name = "POLICY", default_value = "posix")]
    access: Access,
    /// A label; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<String>,
    /// Say what would be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Policy {
    Quorum,
    All,
    None,
}

impl Policy {
    /// As layouts say it.
    pub(super) fn replication(self) -> Replication {
        match self {
            Self::Quorum => Replication::Quorum,
            Self::All => Replication::All,
            Self::None => Replication::None,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Access {
    Posix,
    Volume,
    Null,
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| format!("{text:?} is no octal mode"))
}

fn label(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

impl Mkfs {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let url = VolumeUrl::parse(&self.url)?;
        let entry = self.entry(&url)?;
        let cluster = super::cluster(global, &url.dirs)?;
        if self.dry_run {
            show(&entry, "would make", global.json);
            return Ok(0);
        }
        super::run_async(async {
            let made = volumes::create(&cluster, entry, Existing::Refuse).await?;
            show(&made, "made", global.json);
            Ok(0)
        })
    }

    fn entry(&self, url: &VolumeUrl) -> Result<VolumeEntry, Failure> {
        let what = || format!("volume {:?}", url.volume);
        if url.volume.is_empty() || !url.path.is_empty() {
            return Err(Failure::usage(format!("address {:?}", self.url), "it does not name a volume")
                .next("write xtfs://HOST[:PORT]/VOLUME"));
        }
        let replication = self.replication.map_or(Replication::None, Policy::replication);
        let striping = Striping {
            stripe_bytes: u32::try_from(self.stripe_size).unwrap_or(u32::MAX),
            width: self.stripe_width,
            replicas: self.replicas,
            replication: replication as i32,
            coding: self.ec,
        };
        Ok(VolumeEntry {
            volume: 0,
            name: url.volume.clone(),
            mrc: MrcGroup::default(),
            striping: striping.check().map_err(|why| Failure::usage(what(), why))?,
            mode: self.mode,
            uid: owner(self.owner.as_deref())?,
            gid: group(self.group.as_deref())?,
            created_ms: 0,
            labels: self.label.clone(),
            removed: false,
            access: match self.access {
                Access::Posix => "posix",
                Access::Volume => "volume",
                Access::Null => "null",
            }
            .to_owned(),
        })
    }
}

fn owner(name: Option<&str>) -> Result<u32, Failure> {
    let Some(name) = name else { return Ok(nix::unistd::geteuid().as_raw()) };
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let user = User::from_name(name).ok().flatten();
    user.map(|user| user.uid.as_raw())
        .ok_or_else(|| Failure::usage(format!("--owner {name}"), "no such user here"))
}

fn group(name: Option<&str>) -> Result<u32, Failure> {
    let Some(name) = name else { return Ok(nix::unistd::getegid().as_raw()) };
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let group = Group::from_name(name).ok().flatten();
    group
        .map(|group| group.gid.as_raw())
        .ok_or_else(|| Failure::usage(format!("--group {name}"), "no such group here"))
}

fn show(entry: &VolumeEntry, verb: &str, json: bool) {
    if json {
        output::json(&to_json(entry));
    } else {
        let striping = entry.striping;
        output::line(&format!(
            "{verb} volume {} (stripes of {}, width {}, {} replica(s){})",
            entry.name,
            output::bytes(striping.stripe_bytes.into()),
            striping.width,
            striping.replicas,
            coding_text(striping.coding)
        ));
    }
}

/// A volume as JSON, the same in every command.
pub(super) fn to_json(entry: &VolumeEntry) -> serde_json::Value {
    json!({
        "name": entry.name,
        "volume": entry.volume,
        "stripe_size": entry.striping.stripe_bytes,
        "stripe_width": entry.striping.width,
        "replicas": entry.striping.replicas,
        "replication": replication_name(entry.striping.replication()),
        "ec": entry.striping.coding.map(|coding| coding.to_string()),
        "mode": format!("{:03o}", entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "access": entry.access,
        "labels": entry.labels,
        "created": output::time_ms(entry.created_ms),
        "mrc_group": entry.mrc.group,
        "mrc": entry.mrc.addrs,
    })
}

/// What closed files become, as the end of a line of text.
pub(super) fn coding_text(coding: Option<Coding>) -> String {
    coding.map_or_else(String::new, |coding| format!(", closed files erasure-coded {coding}"))
}

/// As people write it.
pub(super) fn replication_name(replication: Replication) -> &'static str {
    match replication {
        Replication::None => "none",
        Replication::Quorum => "quorum",
        Replication::All => "all",
    }
}
