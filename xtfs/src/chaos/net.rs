//! The network of a run: a namespace per server, a bridge per host, one bridge between the hosts, and packets dropped on demand.
//!
//! ```text
//!  ns RUN-dir-0 --+                                    RUN: namespace of this process, launcher, mount
//!  ns RUN-mrc-0 --+-- bridge host0 -- up0 = port0 --+
//!  ns RUN-osd-0 --+                                 +-- bridge hosts (10.73.0.1)
//!  ns RUN-dir-1 ----- bridge host1 -- up1 = port1 --+
//! ```
//!
//! A cut is a filter on a port of a bridge, which is named like the server: what a port lets in is what the server sends. The
//! packets have left the sender's network stack then, so nobody is told, as when a cable is pulled.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};

use super::schedule::{Crew, Way};
use crate::failure::Failure;
use crate::instance::network::{PREFIX_LEN, address, outside, path};

/// Drops everything: a classic program of one instruction that returns TC_ACT_SHOT.
const DROP: &str = "1,6 0 0 2,";

/// See the module. Gone with this value.
pub(super) struct Network {
    name: String,
    servers: Vec<String>,
}

/// The port of a host on the bridge between the hosts.
pub(super) fn uplink(host: usize) -> String {
    format!("port{host}")
}

impl Network {
    /// Makes it for these servers; this thread and what it starts are in it from now on.
    pub(super) fn enter(crew: &Crew) -> Result<Self, Failure> {
        if !nix::unistd::geteuid().is_root() {
            let why = "they need network namespaces, which only root may make";
            return Err(Failure::usage("partitions", why)
                .next("run it as root, or name other faults: --nemesis kill,pause,corrupt,restart,pair"));
        }
        sweep();
        let servers: Vec<String> =
            [&crew.dirs, &crew.mrcs, &crew.osds].into_iter().flatten().cloned().collect();
        let network = Self { name: format!("xtfs-{}", std::process::id()), servers };
        network.make()?;
        Ok(network)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn make(&self) -> Result<(), Failure> {
        let spaces: String = ["run".to_owned()]
            .iter()
            .chain(&self.servers)
            .map(|server| format!("netns add {}-{server}\n", self.name))
            .collect();
        tool("ip", &["-batch", "-"], &spaces)?;
        let run = path(&self.name, "run");
        let failed = |error: std::io::Error| Failure::new(format!("entering {}", run.display()), error);
        let space = std::fs::File::open(&run).map_err(failed)?;
        setns(space, CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.into()))?;
        let (mut links, mut drops) = (String::new(), String::new());
        links += "link set lo up\nlink add hosts type bridge\nlink set hosts up\n";
        links += &format!("address add {}/{PREFIX_LEN} dev hosts\n", outside());
        for host in 0..self.hosts() {
            links += &format!(
                "link add host{host} type bridge\nlink set host{host} up\n\
                 link add up{host} type veth peer name port{host}\n\
                 link set up{host} master host{host} up\nlink set port{host} master hosts up\n"
            );
            drops += &format!("qdisc add dev port{host} clsact\n");
        }
        tool("ip", &["-batch", "-"], &links)?;
        tool("tc", &["-batch", "-"], &drops)?;
        self.servers.iter().try_for_each(|server| self.place(server, number(server).1))
    }

    /// One more server, on this host.
    pub(super) fn admit(&self, server: &str, host: u32) -> Result<(), Failure> {
        tool("ip", &["netns", "add", &format!("{}-{server}", self.name)], "")?;
        self.place(server, host)
    }

    /// Puts a server, which has its namespace, on a host.
    fn place(&self, server: &str, host: u32) -> Result<(), Failure> {
        let (role, index) = number(server);
        let Some(address) = address(role, index) else { return Ok(()) };
        let link = format!(
            "link add {server} type veth peer name eth0 netns {}-{server}\n\
             link set {server} master host{host} up\n",
            self.name
        );
        let inside =
            format!("link set lo up\naddress add {address}/{PREFIX_LEN} dev eth0\nlink set eth0 up\n");
        tool("ip", &["-batch", "-"], &link)?;
        tool("ip", &["-netns", &format!("{}-{server}", self.name), "-batch", "-"], &inside)?;
        tool("tc", &["-batch", "-"], &format!("qdisc add dev {server} clsact\n"))
    }

    fn hosts(&self) -> u32 {
        self.servers.iter().map(|server| number(server).1 + 1).max().unwrap_or(0)
    }

    /// Drops the packets of a port from now on.
    pub(super) fn cut(&self, port: &str, way: Way) -> Result<(), Failure> {
        let rule = |side| format!("filter add dev {port} {side} prio 1 bpf da bytecode '{DROP}'\n");
        tool("tc", &["-batch", "-"], &sides(way).iter().map(rule).collect::<String>())
    }

    /// Lets them pass again.
    pub(super) fn heal(&self, port: &str, way: Way) -> Result<(), Failure> {
        let rule = |side| format!("filter del dev {port} {side} prio 1\n");
        tool("tc", &["-batch", "-"], &sides(way).iter().map(rule).collect::<String>())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// What a port lets in is what the server behind it sends.
fn sides(way: Way) -> &'static [&'static str] {
    match way {
        Way::Both => &["ingress", "egress"],
        Way::Out => &["ingress"],
        Way::In => &["egress"],
    }
}

/// Role and number of a server, by its name.
pub(super) fn number(server: &str) -> (&str, u32) {
    let (role, number) = server.split_once('-').unwrap_or((server, ""));
    (role, number.parse().unwrap_or(0))
}

/// Namespaces of runs that were killed before they could clean up.
fn sweep() {
    for name in spaces() {
        let owner = name.strip_prefix("xtfs-").and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        let Some(pid) = owner.filter(|pid| pid.parse::<u32>().is_ok()) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            remove(&format!("xtfs-{pid}"));
        }
    }
}

fn remove(network: &str) {
    let prefix = format!("{network}-");
    for name in spaces().into_iter().filter(|name| name.starts_with(&prefix)) {
        if let Err(failure) = tool("ip", &["netns", "del", &name], "") {
            eprintln!("xtfs: {failure}");
        }
    }
}

fn spaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Runs `ip` or `tc` with these lines as its input.
fn tool(program: &str, words: &[&str], input: &str) -> Result<(), Failure> {
    let what = || format!("{program} {}", words.join(" "));
    let next =
        "partitions need `ip` and `tc` (apt-get install iproute2) and a kernel with veth, bridge and cls_bpf";
    let failed = |error: std::io::Error| Failure::new(what(), error).next(next);
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that refuses the first line reads no other; its own words say why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(Failure::new(what(), format!("{}: {first}", output.status)).next(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_sends_is_dropped_where_its_port_lets_it_in() {
        assert_eq!((sides(Way::Out), sides(Way::In)), (&["ingress"][..], &["egress"][..]));
        assert_eq!(sides(Way::Both).len(), 2);
        assert_eq!(number("osd-3"), ("osd", 3));
    }
}
