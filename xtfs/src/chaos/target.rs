//! The instance under test: started or given, its processes killed, stopped and started, its state asked for. Everything that
//! can hang is asked through the commands that a person would type, as processes that can be given up.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde_json::Value;

use super::net::{Network, number};
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
    /// order: a leaf.
    now: Mutex<Now>,
    /// Started here, and so taken down here.
    ours: bool,
}

/// What membership changes change.
struct Now {
    instance: Instance,
    /// Who stands for a service of the beginning, where that has made place: the schedule knows only those of the beginning.
    seats: BTreeMap<String, String>,
}

/// What a fresh instance is to have.
pub(super) struct Fresh<'a> {
    pub(super) network: Option<&'a Network>,
    /// The hooks that let disks be slow and full and clocks jump.
    pub(super) hooks: bool,
    /// Jobs.
    pub(super) exec: bool,
    /// Files are coded soon.
    pub(super) coded: bool,
}

impl Target {
    /// Starts a fresh instance in this directory.
    pub(super) fn start(data: &Path, fresh: &Fresh<'_>) -> Result<Self, Failure> {
        let home = Home::at(data)?;
        let at = home.data.display().to_string();
        let size = ["--separate", "--dirs", "3", "--mrcs", "3", "--osds", "4", "--replicas", "3"];
        let mut words = vec!["up", "--detach", "--data", &at];
        words.extend(size);
        words.extend(fresh.network.into_iter().flat_map(|network| ["--network", network.name()]));
        if !fresh.exec {
            words.push("--no-exec");
        }
        let clocks = clocks(&home).display().to_string();
        let hooks = [(rt::disk::fault::VARIABLE, "1"), (rt::clock::FAULT_VARIABLE, clocks.as_str())];
        let mut more = if fresh.hooks { hooks.to_vec() } else { Vec::new() };
        more.extend(fresh.coded.then_some(("XTFS_EC_QUIET_MS", super::coded::QUIET_MS)));
        tool_with(&words, START, &more)?;
        let home = Home::at(data)?;
        let instance = home.instance()?;
        Ok(Self { home, now: Mutex::new(Now { instance, seats: BTreeMap::new() }), ours: true })
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
        let target = Self {
            home: home.clone(),
            now: Mutex::new(Now { instance, seats: BTreeMap::new() }),
            ours: false,
        };
        match target.dead().as_slice() {
            [] => Ok(target),
            dead => Err(Failure::usage(what(), format!("{} does not run", dead.join(", "))).next(next)),
        }
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// As it is now.
    pub(super) fn instance(&self) -> Instance {
        self.now.lock().instance.clone()
    }

    pub(super) fn mount(&self) -> PathBuf {
        self.instance().mount
    }

    /// `new` stands where `old` stood.
    pub(super) fn seated(&self, old: &str, new: &str) -> Result<(), Failure> {
        let instance = self.home.instance()?;
        let mut now = self.now.lock();
        now.instance = instance;
        let seat = now.seats.iter().find(|(_, holder)| *holder == old).map(|(seat, _)| seat.clone());
        now.seats.insert(seat.unwrap_or_else(|| old.to_owned()), new.to_owned());
        Ok(())
    }

    /// Who stands for this service of the beginning.
    fn holder(&self, seat: &str) -> String {
        self.now.lock().seats.get(seat).cloned().unwrap_or_else(|| seat.to_owned())
    }

    /// The service of the beginning that this one stands for.
    pub(super) fn seat(&self, name: &str) -> String {
        let now = self.now.lock();
        let seat = now.seats.iter().find(|(_, holder)| *holder == name).map(|(seat, _)| seat.clone());
        seat.unwrap_or_else(|| name.to_owned())
    }

    /// Where a service keeps its state.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.home.state(name)
    }

    pub(super) fn crew(&self) -> Crew {
        let instance = self.instance();
        let names = |role| instance.of_role(role).map(|service| service.name.clone()).collect();
        Crew { dirs: names("dir"), mrcs: names("mrc"), osds: names("osd") }
    }

    /// The names of whom it hits, now.
    pub(super) fn names(&self, victim: &Victim) -> Result<Vec<String>, Failure> {
        let instance = self.instance();
        let all = |services: &mut dyn Iterator<Item = &Service>| -> Vec<String> {
            services.map(|service| service.name.clone()).collect()
        };
        match victim {
            Victim::Service(seat) => Ok(vec![self.holder(seat)]),
            Victim::Everything => Ok(all(&mut instance.enabled())),
            Victim::Osds => Ok(all(&mut instance.of_role("osd"))),
            Victim::Leader(role) => Ok(vec![self.leader(role)?]),
            Victim::Host(host) => {
                let here = |service: &&Service| {
                    usize::try_from(number(&self.seat(&service.name)).1).is_ok_and(|number| number == *host)
                };
                Ok(all(&mut instance.enabled().filter(|service| !service.addr.is_empty()).filter(here)))
            }
        }
    }

    /// Asked from this process, see [`Target::revive`].
    fn leader(&self, role: &str) -> Result<String, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new("starting the runtime", error))?;
        let instance = self.instance();
        let cluster = Cluster::new(rt::rpc::Connector::new(), instance.addrs("dir"), LEADER);
        let leads = async |service: &Service| {
            let group = tokio::time::timeout(LEADER, cluster.group(&service.addr)).await;
            group
                .is_ok_and(|group| group.is_ok_and(|group| group.leader == group.member && group.leader != 0))
        };
        let members: Vec<&Service> = instance.of_role(role).collect();
        let told = runtime
            .block_on(async { futures::future::join_all(members.iter().map(|member| leads(member))).await });
        let leader =
            members.iter().zip(told).find(|(_, leads)| *leads).map(|(member, _)| member.name.clone());
        // A group that elects just now has no leader to hit: then its first member.
        Ok(leader.unwrap_or_else(|| self.holder(&format!("{role}-0"))))
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

    /// `xtfs mrc replace` or `xtfs dir replace`.
    pub(super) fn replace_member(&self, role: &str, name: &str, limit: Duration) -> Result<(), Failure> {
        let (at, seconds) = (self.at(), limit.as_secs().to_string());
        let words = [role, "replace", name, "--yes", "--data", &at, "--timeout", &seconds];
        tool(&words, limit * 2).map(drop)
    }

    /// What is wrong with the disk of an OSD from now on; `None`: nothing.
    pub(super) fn spoil_disk(&self, name: &str, what: Option<&str>) -> Result<(), Failure> {
        say(&self.folder(name).join(rt::disk::fault::FILE), what)
    }

    /// The file that says by how much the clock of a process is wrong. It is of the process that runs now: its successor's clock is
    /// right.
    pub(super) fn clock(&self, name: &str) -> Result<PathBuf, Failure> {
        let process = Process::recorded(&self.home.pid(name)).ok_or_else(|| {
            Failure::new(format!("the clock of {name}"), "it does not run; an earlier fault took it down")
        })?;
        Ok(clocks(&self.home).join(format!("clock-{}", process.pid)))
    }

    /// Services that should run and do not.
    pub(super) fn dead(&self) -> Vec<String> {
        let gone = |name: &&str| Process::recorded(&self.home.pid(name)).is_none();
        let instance = self.instance();
        instance.enabled().map(|service| service.name.as_str()).filter(gone).map(str::to_owned).collect()
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

    /// Has the closed files of a folder coded from now on.
    pub(super) fn code(&self, folder: &Path, ec: &str) -> Result<(), Failure> {
        tool(&["layout", "set", &folder.display().to_string(), "--ec", ec], Duration::from_secs(20)).map(drop)
    }

    /// Waits until all of these files are coded, or says which is not.
    pub(super) fn all_coded(&self, files: &[PathBuf], limit: Duration) -> Result<(), String> {
        let began = Instant::now();
        for file in files {
            let name = file.display().to_string();
            loop {
                let why = match self.json(&["info", &name], Duration::from_secs(20)) {
                    Ok(info) if info["layout"]["ec"].is_string() => break,
                    Ok(_) => format!("{name} is not coded {} s after the last fault", limit.as_secs()),
                    Err(failure) => failure.to_string(),
                };
                if began.elapsed() > limit {
                    return Err(why);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(())
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
        let instance = self.instance();
        let mounts = instance.of_role("mount");
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
        crate::address::hosts(&self.instance().addrs("dir"))
    }

    pub(super) fn url(&self) -> String {
        let instance = self.instance();
        VolumeUrl::show(&instance.addrs("dir"), &instance.volume)
    }

    fn json(&self, words: &[&str], limit: Duration) -> Result<Value, Failure> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let text = tool(&words, limit)?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("reading `xtfs {}`", words[0]), error))
    }
}

/// Where processes look by how much their clocks are wrong.
fn clocks(home: &Home) -> PathBuf {
    home.data.join("run")
}

/// Leaves word for a process that looks now and then, or takes it away.
pub(super) fn say(path: &Path, what: Option<&str>) -> Result<(), Failure> {
    let done = match what {
        Some(text) => std::fs::write(path, text),
        None => std::fs::remove_file(path),
    };
    done.map_err(|error| Failure::new(format!("the file {}", path.display()), error))
}

/// Runs one of our commands; its output, or why not. One that takes too long is ended.
fn tool(words: &[&str], limit: Duration) -> Result<String, Failure> {
    tool_with(words, limit, &[])
}

/// The same with more in its environment.
fn tool_with(words: &[&str], limit: Duration, more: &[(&str, &str)]) -> Result<String, Failure> {
    let what = || format!("xtfs {}", words.join(" "));
    let failed = |error: std::io::Error| Failure::new(what(), error);
    // Files, not pipes: a pipe that nobody reads holds up who writes it.
    let (out, err) = (scratch().map_err(failed)?, scratch().map_err(failed)?);
    let mut command = Command::new(program());
    command.args(words).env_remove("XTFS_DIR").envs(more.iter().copied()).stdin(Stdio::null());
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
