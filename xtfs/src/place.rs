//! From a path or URL on the command line to an inode of a volume.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, ClientConfig, Creds, Patience, Volume};
use proto::id::Ino;

use crate::address::VolumeUrl;
use crate::args::Global;
use crate::cluster::head;
use crate::failure::{Failure, Outcome};
use crate::{commands, mounts};

/// A file or directory of a volume, as a user names it.
#[derive(Debug)]
pub(crate) struct Place {
    /// The DIR services.
    pub(crate) dirs: Vec<String>,
    /// Name of the volume.
    pub(crate) volume: String,
    /// Known from the mount.
    pub(crate) ino: Option<u64>,
    /// Below the root, when the inode is not known.
    pub(crate) path: String,
}

/// Acts as whoever runs the tool.
pub(crate) fn creds() -> Creds {
    let head = head(0);
    Creds { uid: head.uid, gid: head.gid, groups: head.groups, checked: false, umask: 0 }
}

/// From what was typed to a volume and an inode or path.
pub(crate) fn place(text: &str) -> Result<Place, Failure> {
    if text.contains("://") {
        let url = VolumeUrl::parse(text)?;
        if url.volume.is_empty() {
            return Err(Failure::usage(format!("address {text:?}"), "it does not name a volume"));
        }
        return Ok(Place { dirs: url.dirs, volume: url.volume, ino: None, path: url.path });
    }
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("information on {text}"), why);
    let meta = std::fs::symlink_metadata(text).map_err(|error| failed(&error))?;
    // The last name may be a link that must not be followed; the directory it is in tells the mount.
    let path = std::path::absolute(text).map_err(|error| failed(&error))?;
    let mounted = mounts::holding(&path)
        .filter(mounts::is_ours)
        .or_else(|| mounts::holding(&Path::new(text).canonicalize().ok()?).filter(mounts::is_ours))
        .ok_or_else(|| {
            failed(&"it does not lie on a mounted xtfs volume").next("`findmnt -t fuse.xtfs` lists them")
        })?;
    let url = VolumeUrl::parse(&mounted.source)?;
    Ok(Place { dirs: url.dirs, volume: url.volume, ino: Some(meta.ino()), path: String::new() })
}

/// The inode of a path; links are not followed.
pub(crate) async fn resolve(volume: &Arc<Volume>, path: &str) -> client::Result<u64> {
    let mut ino = Ino::ROOT.0;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        ino = volume.lookup(&creds(), ino, name.as_bytes()).await?.ino;
    }
    Ok(ino)
}

/// A place that was found: its volume through the client library, and its inode.
pub(crate) struct Opened {
    /// Ends the session when it is shut down.
    pub(crate) client: Arc<Client>,
    /// The volume.
    pub(crate) volume: Arc<Volume>,
    /// The inode.
    pub(crate) ino: u64,
}

impl Place {
    /// Connects and finds the inode, within the time that the user gives.
    pub(crate) async fn open(&self, global: &Global, what: &str) -> Result<Opened, Failure> {
        let cluster = commands::cluster(global, &self.dirs)?;
        let mut config = ClientConfig::new(cluster.dirs.clone(), "xtfs");
        config.patience = Patience::For(global.timeout);
        let open = async {
            let client = Client::connect(config).await?;
            let volume = client.volume(&self.volume).await?;
            let ino = match self.ino {
                Some(ino) => ino,
                None => resolve(&volume, &self.path).await?,
            };
            Ok(Opened { client, volume, ino })
        };
        let done = tokio::time::timeout(global.timeout, open).await;
        let done = done.map_err(|_| Failure::unreachable(what, "no answer in time"))?;
        done.map_err(|error: client::Error| Failure::wire(what, &error))
    }
}

impl Opened {
    /// Ends the session; a cluster that is gone ends it by itself.
    pub(crate) async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.client.shutdown()).await;
    }
}

/// Runs a tool's work on a runtime whose background tasks go on while it waits.
pub(crate) fn run_with_tasks(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|error| Failure::new("starting the runtime", error))?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_are_told_apart() {
        let place = place("xtfs://h/v/a/b").unwrap();
        assert_eq!((place.volume.as_str(), place.path.as_str(), place.ino), ("v", "a/b", None));
        assert_eq!(super::place("xtfs://h").err().map(|failure| failure.status), Some(2));
        let why = super::place("/etc/passwd").err().map(|failure| failure.to_string()).unwrap();
        assert!(why.contains("mounted xtfs volume"), "{why}");
    }
}
