//! The commands, one file each. Each is its arguments and a `run`.

pub(crate) mod acl;
pub(crate) mod bench;
pub(crate) mod chaos;
pub(crate) mod clone;
mod coding;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod daemon;
pub(crate) mod debug;
pub(crate) mod df;
pub(crate) mod dir;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod du;
pub(crate) mod dump;
pub(crate) mod explain;
pub(crate) mod find;
pub(crate) mod fsck;
pub(crate) mod gc;
pub(crate) mod info;
pub(crate) mod job;
pub(crate) mod layout;
pub(crate) mod links;
pub(crate) mod ls;
pub(crate) mod man;
mod members;
pub(crate) mod mkfs;
pub(crate) mod mount;
pub(crate) mod mrc;
pub(crate) mod osd;
pub(crate) mod profile;
pub(crate) mod ps;
pub(crate) mod quota;
mod redundancy;
pub(crate) mod replica;
pub(crate) mod restart;
pub(crate) mod rmfs;
pub(crate) mod scrub;
pub(crate) mod service;
pub(crate) mod snapshot;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod trash;
pub(crate) mod umount;
pub(crate) mod up;
pub(crate) mod warmup;
pub(crate) mod watch;
pub(crate) mod whoami;

use std::future::Future;
use std::path::Path;

use rt::rpc::Connector;

use crate::address;
use crate::args::Global;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::instance::Home;

/// Runs a tool's future on a runtime of its own.
fn run_async(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("starting the runtime", error))?;
    runtime.block_on(work)
}

/// The cluster that a command talks to: the URL's hosts, else `--dir`/`XTFS_DIR`, else the instance here.
pub(crate) fn cluster(global: &Global, dirs: &[String]) -> Result<Cluster, Failure> {
    let dirs = if !dirs.is_empty() {
        dirs.to_vec()
    } else if let Some(text) = &global.dir {
        address::dirs_of(text)?
    } else {
        let home = Home::at(Path::new("xtfs-data"))?;
        let instance = home.read()?.ok_or_else(|| {
            Failure::usage("which cluster?", "no DIR was named and there is no ./xtfs-data")
                .next("add --dir HOST[:PORT], set XTFS_DIR, or write xtfs://HOST/VOLUME")
        })?;
        instance.addrs("dir")
    };
    // A certificate is used as soon as nodes have one; tools on loopback talk plainly.
    Ok(Cluster::new(Connector::new(), dirs, global.timeout))
}
