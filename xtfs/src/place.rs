//! From a path or URL on the command line to an inode of a volume.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::volume::snapshots::{LISTING, split_ino};
use client::{Client, ClientConfig, Code, Creds, Patience, Volume};
use proto::id::Ino;
use proto::mrc::Attr;

use crate::address::VolumeUrl;
use crate::args::Global;
use crate::cluster::head;
use crate::failure::{Failure, Outcome};
use crate::{commands, mounts};

/// The name below which mounts show snapshots.
const SNAPSHOTS: &str = ".snap";

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
    // A mount makes files by itself and tells the MRC a moment later; what it asks the MRC comes after that. Whether it could
    // ask does not matter here: we ask the MRC ourselves.
    let _ = nix::sys::statvfs::statvfs(&mounted.at);
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

/// The snapshot (0: none) and inode of a path that may lead through `.snap/NAME`.
async fn resolve_any(volume: &Arc<Volume>, path: &str) -> client::Result<(u64, u64)> {
    let (mut view, mut snapshot, mut ino) = (volume.clone(), 0, Ino::ROOT.0);
    let mut names = path.split('/').filter(|name| !name.is_empty());
    while let Some(name) = names.next() {
        if name != SNAPSHOTS || snapshot != 0 {
            ino = view.lookup(&creds(), ino, name.as_bytes()).await?.ino;
            continue;
        }
        let Some(name) = names.next() else { return Ok((LISTING, ino)) };
        snapshot = volume.snapshot_called(&creds(), ino, name.as_bytes()).await?.id;
        view = volume.past(snapshot);
    }
    Ok((snapshot, ino))
}

/// A place that was found: its volume through the client library, and its inode.
pub(crate) struct Opened {
    /// Ends the session when it is shut down.
    pub(crate) client: Arc<Client>,
    /// The volume, as the named path shows it: in `.snap` as that snapshot.
    pub(crate) volume: Arc<Volume>,
    /// The volume as it is now.
    pub(crate) present: Arc<Volume>,
    /// The snapshot that the path lies in; 0: none.
    pub(crate) snapshot: u64,
    /// The inode.
    pub(crate) ino: u64,
}

impl Place {
    /// Connects and finds the inode, within the time that the user gives. What lies in a snapshot is refused.
    pub(crate) async fn open(&self, global: &Global, what: &str) -> Result<Opened, Failure> {
        let opened = self.open_any(global, what).await?;
        if opened.snapshot == 0 {
            return Ok(opened);
        }
        opened.close().await;
        Err(Failure::new(what, "it lies in a snapshot, which never changes")
            .next("name the directory itself, not what is below its .snap"))
    }

    /// Likewise, also in a snapshot.
    pub(crate) async fn open_any(&self, global: &Global, what: &str) -> Result<Opened, Failure> {
        let cluster = commands::cluster(global, &self.dirs)?;
        let mut config = ClientConfig::new(cluster.dirs.clone(), "xtfs");
        config.patience = Patience::For(global.timeout);
        let open = async {
            let client = Client::connect(config).await?;
            let present = client.volume(&self.volume).await?;
            let (snapshot, ino) = match self.ino {
                Some(shown) => split_ino(shown),
                None => resolve_any(&present, &self.path).await?,
            };
            if snapshot == LISTING {
                let why = ".snap is no directory of the volume: it lists the snapshots of one";
                return Err(client::Error::new(Code::InvalidArgument, why));
            }
            let volume = if snapshot == 0 { present.clone() } else { present.past(snapshot) };
            Ok(Opened { client, volume, present, snapshot, ino })
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

/// A path that something is to be made at.
#[derive(Debug)]
pub(crate) struct NewPlace {
    directory: Place,
    name: Vec<u8>,
}

/// Likewise, found.
pub(crate) struct New {
    /// The directory that it is in.
    pub(crate) parent: u64,
    /// Its name there.
    pub(crate) name: Vec<u8>,
    /// What has the name now.
    pub(crate) there: Option<Attr>,
}

impl NewPlace {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let trimmed = text.trim_end_matches('/');
        let (above, name) = match trimmed.rsplit_once('/') {
            Some(("", name)) => ("/", name),
            Some(found) => found,
            None => (".", trimmed),
        };
        if matches!(name, "" | "." | "..") {
            return Err(Failure::usage(format!("new path {text:?}"), "it does not end in a name"));
        }
        let directory = place(above)?;
        Ok(Self { directory, name: name.as_bytes().to_vec() })
    }

    /// Finds the directory, on the volume of what was opened.
    pub(crate) async fn on(&self, opened: &Opened, place: &Place, what: &str) -> Result<New, Failure> {
        let of = &self.directory;
        if (&of.dirs, &of.volume) != (&place.dirs, &place.volume) {
            return Err(Failure::usage(what, "both must lie on one volume")
                .next("name both on the same mount, or both as xtfs:// of the same hosts"));
        }
        let found = async {
            let (snapshot, parent) = match of.ino {
                Some(shown) => split_ino(shown),
                None => resolve_any(&opened.present, &of.path).await?,
            };
            if snapshot != 0 {
                return Err(client::Error::new(Code::ReadOnly, "nothing can be made in a snapshot"));
            }
            let there = match opened.present.lookup(&creds(), parent, &self.name).await {
                Err(error) if error.code == Code::NotFound => None,
                other => Some(other?),
            };
            Ok(New { parent, name: self.name.clone(), there })
        };
        found.await.map_err(|error| Failure::wire(what, &error))
    }
}

impl New {
    /// Refuses what exists.
    pub(crate) fn must_be_free(&self, what: &str, path: &str) -> Result<(), Failure> {
        match self.there {
            None => Ok(()),
            Some(_) => Err(Failure::new(what, format!("{path} exists")).next("choose another name")),
        }
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
