//! The instance under test: started or given, its processes killed, stopped and started, its state asked for. Everything that
//! can hang is asked through the commands that a person would type, as processes that can be given up.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::net::Network;
use super::schedule::{Crew, Victim};
use crate::address::VolumeUrl;
use crate::cluster::Cluster;
use crate::commands::start::asked;
use crate::failure::Failure;
use crate::instance::process::Process;
use crate::instance::{Home, Instance, Service, lock};
use crate::launcher::control::Request;
use crate::launcher::spawn::program;

const START: Duration = Duration::from_secs(60);
/// An orderly stop of everything.
const STOP: Duration = Duration::from_secs(60);
/// How long a member may take to say whether it leads.
const LEADER: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Target {
    home: Home,
    instance: Instance,
    /// Started here, and so taken down here.
    ours: bool,
}

impl Target {
    /// Starts a fresh instance in this directory.
    pub(super) fn start(data: &Path, network: Option<&Network>) -> Result<Self, Failure> {
        let home = Home::at(data)?;
        let at = home.data.display().to_string();
        let size =
            ["--separate", "--dirs", "3", "--mrcs", "3", "--osds", "4", "--replicas", "3", "--no-exec"];
        let inside = network.map(|network| ["--network", network.name()]);
        let words =
            ["up", "--detach", "--data", &at].into_iter().chain(size).chain(inside.into_iter().flatten());
        tool(&words.collect::<Vec<_>>(), START)?;
        let home = Home::at(data)?;
        let instance = home.instance()?;
        Ok(Self { home, instance, ours: true })
    }

    /// Uses one that runs already.
    pub(super) fn given(data: &Path) -> Result<Self, Failure> {
        let home = Home::at(data)?;
        let instance = home.instance()?;
        let what = || format!("instance in {}", home.data.display());
        let next = format!(
            "xtfs up --separate --detach --dirs 3 --mrcs 3 --osds 4 --replicas 3 --data {}",
            home.data.display()
        );
        if !instance.separate || !instance.mounted || instance.replicas < 3 {
            return Err(
                Failure::usage(what(), "chaos needs separate processes, a mount and 3 replicas").next(next)
            );
        }
        let target = Self { home: home.clone(), instance, ours: false };
        match target.dead().as_slice() {
            [] => Ok(target),
            dead => Err(Failure::usage(what(), format!("{} does not run", dead.join(", "))).next(next)),
        }
    }

    pub(super) fn mount(&self) -> &Path {
        &self.instance.mount
    }

    /// Where a service keeps its state.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.home.state(name)
    }

    pub(super) fn crew(&self) -> Crew {
        let names = |role| self.instance.of_role(role).map(|service| service.name.clone()).collect();
        Crew { dirs: names("dir"), mrcs: names("mrc"), osds: names("osd") }
    }

    /// The names of whom it hits, now.
    pub(super) fn names(&self, victim: &Victim) -> Result<Vec<String>, Failure> {
        match victim {
            Victim::Service(name) => Ok(vec![name.clone()]),
            Victim::Everything => Ok(self.instance.enabled().map(|service| service.name.clone()).collect()),
            Victim::Leader(role) => Ok(vec![self.leader(role)?]),
            Victim::Host(number) => {
                let here = |service: &&Service| service.name.ends_with(&format!("-{number}"));
                let servers = self.instance.enabled().filter(|service| !service.addr.is_empty());
                Ok(servers.filter(here).map(|service| service.name.clone()).collect())
            }
        }
    }

    /// Asked from this process, see [`Target::revive`].
    fn leader(&self, role: &str) -> Result<String, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new("starting the runtime", error))?;
        let cluster = Cluster::new(rt::rpc::Connector::new(), self.instance.addrs("dir"), LEADER);
        let leads = async |service: &Service| {
            let group = tokio::time::timeout(LEADER, cluster.group(&service.addr)).await;
            group
                .is_ok_and(|group| group.is_ok_and(|group| group.leader == group.member && group.leader != 0))
        };
        let members: Vec<&Service> = self.instance.of_role(role).collect();
        let told = runtime
            .block_on(async { futures::future::join_all(members.iter().map(|member| leads(member))).await });
        let leader =
            members.iter().zip(told).find(|(_, leads)| *leads).map(|(member, _)| member.name.clone());
        // A group that elects just now has no leader to hit: then its first member.
        Ok(leader.unwrap_or_else(|| format!("{role}-0")))
    }

    pub(super) fn signal(&self, name: &str, signal: Signal) -> Result<(), Failure> {
        let process = Process::recorded(&self.home.pid(name)).ok_or_else(|| {
            Failure::new(
                format!("signal {signal} to {name}"),
                "it does not run; an earlier fault took it down",
            )
        })?;
        process.signal(signal);
        Ok(())
    }

    /// From this process and not by a command: the loads hold files of the mount open, a child inherits them and closes
    /// them when it becomes the command, and that waits for the mount - which may be what is to be started.
    pub(super) fn revive(&self, name: &str) -> Result<(), Failure> {
        asked(&self.home, name, Request::Start { name: name.to_owned() }).map(drop)
    }

    /// Services that should run and do not.
    pub(super) fn dead(&self) -> Vec<String> {
        let gone = |name: &&str| Process::recorded(&self.home.pid(name)).is_none();
        self.instance.enabled().map(|service| service.name.as_str()).filter(gone).map(str::to_owned).collect()
    }

    /// `xtfs status`.
    pub(super) fn status(&self) -> Result<Value, Failure> {
        self.json(&["status", "--timeout", "5", "--dir", &self.dirs()], Duration::from_secs(20))
    }

    /// Waits until all objects are in sync; the seconds it took, or what lags.
    pub(super) fn in_sync(&self, limit: Duration) -> Result<f64, String> {
        let began = Instant::now();
        loop {
            let lags = match self.status() {
                Ok(status) if status["replication"]["in_sync"] == true => {
                    return Ok(began.elapsed().as_secs_f64());
                }
                Ok(status) => status["replication"]["text"].to_string(),
                Err(failure) => failure.to_string(),
            };
            if began.elapsed() > limit {
                return Err(lags);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Blocks that a scrub of everything found damaged, and those that it could not mend.
    pub(super) fn scrub(&self) -> Result<(u64, u64), Failure> {
        let value = self.json(&["scrub", &self.url()], Duration::from_secs(180))?;
        let rows = value["osds"].as_array().cloned().unwrap_or_default();
        let sum = |key: &str| rows.iter().filter_map(|row| row[key].as_u64()).sum();
        Ok((sum("damaged"), sum("left")))
    }

    /// What `xtfs fsck` says of the volume.
    pub(super) fn fsck(&self) -> Result<String, Failure> {
        tool(&["fsck", &self.url()], Duration::from_secs(120))
    }

    /// Stops it if it was started here, and what it would leave in memory for a successor that will not come.
    pub(super) fn down(&self) -> Result<(), Failure> {
        if !self.ours {
            return Ok(());
        }
        let stages = self.stages();
        // Ended from here first, see `revive`: a load that hangs in the mount would hold up the command.
        if let Some(launcher) = lock::holder(&self.home).and_then(Process::of) {
            launcher.end("xtfs up", STOP);
        }
        tool(&["down", "--data", &self.at()], Duration::from_secs(90))?;
        for stage in stages {
            let _ = std::fs::remove_file(stage);
        }
        Ok(())
    }

    /// Files in memory that the mount's process has open.
    fn stages(&self) -> Vec<PathBuf> {
        let mounts = self.instance.of_role("mount");
        let pids = mounts.filter_map(|service| Process::recorded(&self.home.pid(&service.name)));
        let folders = pids.filter_map(|process| std::fs::read_dir(format!("/proc/{}/fd", process.pid)).ok());
        let open = folders.flatten().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        open.filter(|path| path.starts_with("/dev/shm") && path.extension().is_some_and(|end| end == "stage"))
            .collect()
    }

    fn at(&self) -> String {
        self.home.data.display().to_string()
    }

    fn dirs(&self) -> String {
        crate::address::hosts(&self.instance.addrs("dir"))
    }

    pub(super) fn url(&self) -> String {
        VolumeUrl::show(&self.instance.addrs("dir"), &self.instance.volume)
    }

    fn json(&self, words: &[&str], limit: Duration) -> Result<Value, Failure> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let text = tool(&words, limit)?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("reading `xtfs {}`", words[0]), error))
    }
}

/// Runs one of our commands; its output, or why not. One that takes too long is ended.
fn tool(words: &[&str], limit: Duration) -> Result<String, Failure> {
    let what = || format!("xtfs {}", words.join(" "));
    let failed = |error: std::io::Error| Failure::new(what(), error);
    // Files, not pipes: a pipe that nobody reads holds up who writes it.
    let (out, err) = (scratch().map_err(failed)?, scratch().map_err(failed)?);
    let mut command = Command::new(program());
    command.args(words).env_remove("XTFS_DIR").stdin(Stdio::null());
    command.stdout(out.try_clone().map_err(failed)?).stderr(err.try_clone().map_err(failed)?);
    let mut child = command.spawn().map_err(failed)?;
    let began = Instant::now();
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if began.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failure::unreachable(what(), format!("no end after {} s", limit.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if status.success() {
        return Ok(content(&out));
    }
    let (said, more) = (content(&err), content(&out));
    let lines: Vec<&str> = said.lines().chain(more.lines()).take(6).collect();
    Err(Failure::new(what(), format!("{status}: {}", lines.join("; "))))
}

/// A file without a name.
fn scratch() -> std::io::Result<File> {
    let name = c"xtfs-chaos";
    nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
        .map(File::from)
        .map_err(std::io::Error::from)
}

fn content(file: &File) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; 1 << 20];
    let got = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..got]).into_owned()
}
