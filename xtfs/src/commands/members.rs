//! `xtfs mrc` and `xtfs dir`: who is in a Raft group, and changes of that.

mod change;
pub(crate) mod view;

use std::time::Duration;

use clap::{Args, Subcommand};
use proto::dir::ServiceEntry;
use serde_json::Value;

use crate::address::VolumeUrl;
use crate::args::{DataDir, Global};
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::instance::{Home, Instance};
use crate::output;
use view::View;

/// Which group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Dir,
    Mrc,
}

impl Role {
    /// As commands, services and files name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Role::Dir => "dir",
            Role::Mrc => "mrc",
        }
    }

    /// As people read it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Role::Dir => "DIR",
            Role::Mrc => "MRC",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// List the members of the group, their roles and how far each is
    Members(Members),
    /// Take another member in: it catches up, then it votes
    Add(Add),
    /// Let go of a member
    Remove(Remove),
    /// Take another member in, then let go of one
    Replace(Replace),
    /// Hand leadership to another member
    Transfer(Transfer),
}

#[derive(Debug, Args)]
pub(crate) struct Members {
    #[command(flatten)]
    data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Where the new member runs, or will (HOST:PORT; its file has `join = true`). Without it an `up --separate` makes
    /// and starts another process.
    #[arg(value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Return when it is a learner; it votes later.
    #[arg(long)]
    no_wait: bool,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Its number, name or address, as `members` shows it.
    member: String,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct Replace {
    /// Who goes: number, name or address, as `members` shows it.
    member: String,
    /// Where the new member runs, or will. Without it an `up --separate` makes and starts another process.
    #[arg(value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct Transfer {
    /// To whom: number, name or address; without it to whoever is furthest.
    member: Option<String>,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    data: DataDir,
}

/// What all of the commands work with.
struct Bed {
    role: Role,
    cluster: Cluster,
    /// The instance that these services belong to, if it is known here.
    local: Option<(Home, Instance)>,
    json: bool,
    timeout: Duration,
}

impl What {
    pub(crate) fn run(self, role: Role, global: &Global) -> Outcome {
        let data = match &self {
            What::Members(Members { data })
            | What::Add(Add { data, .. })
            | What::Remove(Remove { data, .. })
            | What::Replace(Replace { data, .. })
            | What::Transfer(Transfer { data, .. }) => data.clone(),
        };
        let bed = Bed::new(role, global, &data)?;
        super::run_async(async {
            match self {
                What::Members(_) => members(&bed).await?,
                What::Add(add) => change::add(&bed, &add).await?,
                What::Remove(remove) => change::remove(&bed, &remove).await?,
                What::Replace(replace) => change::replace(&bed, &replace).await?,
                What::Transfer(transfer) => change::transfer(&bed, &transfer).await?,
            }
            Ok(0)
        })
    }
}

impl Bed {
    fn new(role: Role, global: &Global, data: &DataDir) -> Result<Self, Failure> {
        let local = if global.dir.is_some() {
            None
        } else {
            let home = Home::at(&data.data)?;
            home.read()?.map(|instance| (home, instance))
        };
        let dirs = local.as_ref().map(|(_, instance)| instance.addrs("dir")).unwrap_or_default();
        let cluster = super::cluster(global, &dirs)?;
        Ok(Self { role, cluster, local, json: global.json, timeout: global.timeout })
    }

    /// The group as it is now.
    async fn look(&self) -> Result<View, Failure> {
        let services = match self.role {
            Role::Mrc => self.cluster.services().await?.services,
            // Also when the DIR has no majority: then this is what somebody wants to see.
            Role::Dir => self.names(),
        };
        Ok(view::look(&self.cluster, self.role, &services).await)
    }

    /// Names of an instance's services, by address.
    fn names(&self) -> Vec<ServiceEntry> {
        let services = self.local.iter().flat_map(|(_, instance)| instance.of_role(self.role.name()));
        let entry = |service: &crate::instance::Service| ServiceEntry {
            role: service.role.clone(),
            name: service.name.clone(),
            addr: service.addr.clone(),
            ..ServiceEntry::default()
        };
        services.map(entry).collect()
    }
}

/// `HOST:PORT` or a whole RPC address.
fn address(text: &str) -> Result<String, Failure> {
    if text.starts_with("tls://") || text.starts_with("local://") {
        return Ok(text.to_owned());
    }
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let url = VolumeUrl::parse(text)?;
    match url.dirs.as_slice() {
        [addr] if has_port && url.volume.is_empty() => Ok(addr.clone()),
        _ => Err(Failure::usage(format!("address {text:?}"), "it is not one host with its port")
            .next("write HOST:PORT")),
    }
}

async fn members(bed: &Bed) -> Result<(), Failure> {
    let rows = bed.look().await?.to_json();
    if bed.json {
        output::json(&Value::Array(rows));
        return Ok(());
    }
    let keys = ["name", "group", "member", "role", "behind", "term", "committed", "applied", "addr"];
    let lines: Vec<Vec<String>> =
        rows.iter().map(|row| keys.iter().map(|key| text(row, key)).collect()).collect();
    let header = ["NAME", "GROUP", "MEMBER", "ROLE", "BEHIND", "TERM", "COMMITTED", "APPLIED", "ADDR"];
    output::table(&header, &lines, "nobody answers, and nobody is registered");
    Ok(())
}

fn text(row: &Value, key: &str) -> String {
    match &row[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_a_port() {
        assert_eq!(address("h:5").unwrap(), "tcp://h:5");
        assert_eq!(address("tcp://h:5").unwrap(), "tcp://h:5");
        assert_eq!(address("[::1]:5").unwrap(), "tcp://[::1]:5");
        for wrong in ["h", "h:5/volume", "h:5,i:6", "mrc-0", ""] {
            assert!(address(wrong).is_err(), "{wrong:?}");
        }
    }
}
