//! `xtfs quota`: how much users, groups and directories may take.

use clap::{Args, Subcommand};
use nix::unistd::{Gid, Group, Uid, User};
use proto::quota::{Quota as Entry, QuotaKind, QuotaLimits};
use serde_json::{Value, json};

use crate::address;
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{Opened, creds, place, run_with_tasks};

/// Limit what users, groups and directories may take: inodes and bytes
#[derive(Debug, Args)]
pub(crate) struct Quota {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set the limits of a directory, or of a user or group in its whole volume
    Set(Set),
    /// Show the quotas that apply to a file or directory, with what is used
    Get(Get),
    /// List the quotas of a volume
    Ls(Get),
    /// Remove a quota
    Rm(Rm),
}

/// Whose quota: without an option that of the directory.
#[derive(Debug, Args)]
struct Whose {
    /// A directory of a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
    /// Of this user (a name or a number) in the whole volume.
    #[arg(long, short = 'u', value_name = "USER", conflicts_with = "group")]
    user: Option<String>,
    /// Of this group (a name or a number) in the whole volume.
    #[arg(long, short = 'g', value_name = "GROUP")]
    group: Option<String>,
}

#[derive(Debug, Args)]
struct Set {
    #[command(flatten)]
    whose: Whose,
    /// Bytes that may be allocated, as 10G; 0: no limit [default: as it is].
    #[arg(long, alias = "size", value_name = "SIZE", value_parser = address::size)]
    bytes: Option<u64>,
    /// Files and directories; 0: no limit [default: as it is].
    #[arg(long, value_name = "N")]
    inodes: Option<u64>,
    /// Say what would be set, and set nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Get {
    /// A path on a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
}

#[derive(Debug, Args)]
struct Rm {
    #[command(flatten)]
    whose: Whose,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Quota {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let json = global.json;
        run_with_tasks(async {
            match &self.what {
                What::Set(set) => {
                    if set.bytes.is_none() && set.inodes.is_none() {
                        return Err(Failure::usage("xtfs quota set", "no limit was given")
                            .next("add --bytes SIZE, --inodes N, or both"));
                    }
                    let what = format!("setting the quota of {}", set.whose);
                    let opened = place(&set.whose.path)?.open(global, &what).await?;
                    let done = set.run(&opened, &what, json).await;
                    opened.close().await;
                    done
                }
                What::Rm(rm) => {
                    let what = format!("removing the quota of {}", rm.whose);
                    let opened = place(&rm.whose.path)?.open(global, &what).await?;
                    let done = rm.run(&opened, &what, json).await;
                    opened.close().await;
                    done
                }
                What::Get(get) => get.run(global, true).await,
                What::Ls(ls) => ls.run(global, false).await,
            }
        })
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.user, &self.group) {
            (Some(user), _) => write!(f, "user {user} on {}", self.path),
            (None, Some(group)) => write!(f, "group {group} on {}", self.path),
            (None, None) => write!(f, "directory {}", self.path),
        }
    }
}

impl Whose {
    fn subject(&self, opened: &Opened) -> Result<(QuotaKind, u64), Failure> {
        let number = |text: &str| text.parse::<u32>().ok();
        if let Some(name) = &self.user {
            let known = || User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
            let uid = number(name).or_else(known);
            let uid = uid.ok_or_else(|| Failure::usage(format!("--user {name}"), "no such user here"))?;
            return Ok((QuotaKind::User, uid.into()));
        }
        if let Some(name) = &self.group {
            let known = || Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
            let gid = number(name).or_else(known);
            let gid = gid.ok_or_else(|| Failure::usage(format!("--group {name}"), "no such group here"))?;
            return Ok((QuotaKind::Group, gid.into()));
        }
        Ok((QuotaKind::Directory, opened.ino))
    }

    async fn known(&self, opened: &Opened, what: &str) -> Result<Option<Entry>, Failure> {
        let (kind, id) = self.subject(opened)?;
        // A directory's own quota is among those that apply to it; a user's need not be.
        let about = if kind == QuotaKind::Directory { id } else { 0 };
        let all = opened.volume.quotas(&creds(), about).await;
        let all = all.map_err(|error| Failure::wire(what, &error))?;
        Ok(all.into_iter().find(|quota| (quota.kind(), quota.id) == (kind, id)))
    }
}

impl Set {
    async fn run(&self, opened: &Opened, what: &str, json: bool) -> Outcome {
        let (kind, id) = self.whose.subject(opened)?;
        let known = self.whose.known(opened, what).await?;
        let before = known.as_ref().map(|quota| quota.limits).unwrap_or_default();
        let limits = QuotaLimits {
            bytes: self.bytes.unwrap_or(before.bytes),
            inodes: self.inodes.unwrap_or(before.inodes),
        };
        if self.dry_run {
            let quota = Entry { limits, kind: kind as i32, id, ..known.unwrap_or_default() };
            show_one(&quota, "would be set", json);
            return Ok(0);
        }
        let set = opened.volume.set_quota(&creds(), kind, id, Some(limits)).await;
        show_one(&set.map_err(|error| Failure::wire(what, &error))?, "set", json);
        Ok(0)
    }
}

impl Rm {
    async fn run(&self, opened: &Opened, what: &str, json: bool) -> Outcome {
        let (kind, id) = self.whose.subject(opened)?;
        if self.dry_run {
            let known = self.whose.known(opened, what).await?;
            let quota = known.ok_or_else(|| {
                Failure::new(what, "there is no such quota").next("`xtfs quota ls` lists them")
            })?;
            show_one(&quota, "would be removed", json);
            return Ok(0);
        }
        let removed = opened.volume.set_quota(&creds(), kind, id, None).await;
        show_one(&removed.map_err(|error| Failure::wire(what, &error))?, "removed", json);
        Ok(0)
    }
}

impl Get {
    async fn run(&self, global: &Global, applying: bool) -> Outcome {
        let what = format!("quotas of {}", self.path);
        let opened = place(&self.path)?.open(global, &what).await?;
        let asked = opened.volume.quotas(&creds(), if applying { opened.ino } else { 0 }).await;
        opened.close().await;
        let quotas = asked.map_err(|error| Failure::wire(&what, &error))?;
        if global.json {
            output::json(&Value::Array(quotas.iter().map(to_json).collect()));
            return Ok(0);
        }
        let rows: Vec<Vec<String>> = quotas.iter().map(row).collect();
        let header = ["QUOTA OF", "USED", "OF", "INODES", "OF", ""];
        output::table(&header, &rows, if applying { "no quota applies" } else { "no quotas" });
        Ok(0)
    }
}

fn show_one(quota: &Entry, verb: &str, json: bool) {
    if json {
        return output::json(&to_json(quota));
    }
    let row = row(quota);
    output::line(&format!(
        "quota of {} {verb}: {} of {}, {} of {} inodes{}",
        row[0],
        row[1],
        row[2],
        row[3],
        row[4],
        if quota.counting { "; counting what is there, the limits bind when that is done" } else { "" }
    ));
}

/// `user alice`, `directory /a/b`.
fn name(quota: &Entry) -> (&'static str, String) {
    let id = u32::try_from(quota.id).unwrap_or(u32::MAX);
    match quota.kind() {
        QuotaKind::User => {
            let user = User::from_uid(Uid::from_raw(id)).ok().flatten();
            ("user", user.map_or_else(|| quota.id.to_string(), |user| user.name))
        }
        QuotaKind::Group => {
            let group = Group::from_gid(Gid::from_raw(id)).ok().flatten();
            ("group", group.map_or_else(|| quota.id.to_string(), |group| group.name))
        }
        QuotaKind::Directory => ("directory", format!("/{}", String::from_utf8_lossy(&quota.path))),
    }
}

fn row(quota: &Entry) -> Vec<String> {
    let (kind, name) = name(quota);
    let limit = |limit: u64, show: String| if limit == 0 { "-".to_owned() } else { show };
    vec![
        format!("{kind} {name}"),
        output::bytes(quota.bytes),
        limit(quota.limits.bytes, output::bytes(quota.limits.bytes)),
        quota.inodes.to_string(),
        limit(quota.limits.inodes, quota.limits.inodes.to_string()),
        if quota.counting { "counting".to_owned() } else { String::new() },
    ]
}

fn to_json(quota: &Entry) -> Value {
    let (kind, name) = name(quota);
    let limit = |limit: u64| (limit > 0).then_some(limit);
    json!({
        "kind": kind,
        "id": quota.id,
        "name": name,
        "bytes": quota.bytes,
        "bytes_limit": limit(quota.limits.bytes),
        "inodes": quota.inodes,
        "inodes_limit": limit(quota.limits.inodes),
        "counting": quota.counting,
    })
}
