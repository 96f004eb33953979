//! Makes directories and files what others are, now or in a snapshot. Content is shared, not copied.

pub(crate) mod dress;
mod gone;
mod voice;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use client::{Code, Creds, Error, Volume};
use futures::StreamExt;
use parking_lot::Mutex;
use proto::id::Ino;
use proto::mrc::{Attr, DirEntry, kind};

use crate::failure::Failure;
use voice::Voice;

/// Files of a directory that are made at the same time.
const AT_ONCE: usize = 16;
/// Mode of what is not finished: nobody else comes in.
const UNFINISHED: u32 = 0o700;

/// Where it comes from and where it goes.
pub(crate) struct Copy {
    /// The present, or what a snapshot shows.
    from: Arc<Volume>,
    /// That snapshot; 0: the present.
    snapshot: u64,
    /// The present.
    to: Arc<Volume>,
    creds: Creds,
    /// Inodes of the present (no directories) that may get names again instead of being made anew.
    there: HashSet<u64>,
    /// The directory that is being made; what must go lies in a directory in it until the end.
    root: u64,
    holding: tokio::sync::Mutex<Option<u64>>,
    displaced: AtomicU64,
    /// What became of source inodes with several names. order: a leaf.
    made: Mutex<HashMap<u64, u64>>,
    /// Of which source inode one of the present with several names is. order: after `made`.
    taken: Mutex<HashMap<u64, u64>>,
    pub(crate) totals: Totals,
    voice: Voice,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) directories: AtomicU64,
    pub(crate) files: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) removed: AtomicU64,
    pub(crate) problems: AtomicU64,
}

impl Totals {
    /// A file alone.
    pub(crate) fn one(&self, bytes: u64) {
        add(&self.files, 1);
        add(&self.bytes, bytes);
    }

    fn read(&self) -> [u64; 4] {
        [&self.files, &self.directories, &self.bytes, &self.removed]
            .map(|total| total.load(Ordering::Relaxed))
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        let [files, directories, bytes, removed] = self.read();
        serde_json::json!({"files": files, "directories": directories, "bytes": bytes, "removed": removed})
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [files, directories, bytes, removed] = self.read();
        write!(f, "{files} file(s) of {}, {directories} directories", crate::output::bytes(bytes))?;
        if removed > 0 { write!(f, ", {removed} removed") } else { Ok(()) }
    }
}

fn add(total: &AtomicU64, count: u64) {
    total.fetch_add(count, Ordering::Relaxed);
}

/// One thing to be made.
struct Wanted {
    parent: u64,
    name: Vec<u8>,
    path: String,
    attr: Attr,
    /// What has the name now and stays.
    there: Option<u64>,
}

/// A directory that has been made, apart from its attributes.
struct Finished {
    attr: Attr,
    ino: u64,
    path: String,
}

/// Whether somebody has to be asked again, later, for everything.
fn is_out_of_reach(error: &Error) -> bool {
    matches!(
        error.code,
        Code::Unavailable | Code::DeadlineExceeded | Code::NotLeader | Code::Stale | Code::QuotaExceeded
    )
}

/// What was removed and is kept is neither compared nor copied: it is the MRC's.
pub(crate) fn is_trash(directory: u64, name: &[u8]) -> bool {
    directory == Ino::ROOT.0 && name == mrc::trash::DIRECTORY
}

pub(crate) fn joined(path: &str, name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    if path.is_empty() { name.into_owned() } else { format!("{path}/{name}") }
}

impl Copy {
    /// `total`: how many there are, if known, for showing how far it is.
    pub(crate) fn new(
        (from, snapshot): (Arc<Volume>, u64),
        to: Arc<Volume>,
        creds: Creds,
        shows: bool,
        total: Option<u64>,
    ) -> Self {
        Self {
            from,
            snapshot,
            to,
            creds,
            there: HashSet::new(),
            root: 0,
            holding: tokio::sync::Mutex::new(None),
            displaced: AtomicU64::new(0),
            made: Mutex::default(),
            taken: Mutex::default(),
            totals: Totals::default(),
            voice: Voice::new(shows, total),
        }
    }

    /// Makes the directory `target` what `source` is: what it holds otherwise goes at the end, files that are the same
    /// inode stay it.
    pub(crate) async fn tree(&mut self, what: &str, source: u64, target: u64) -> Result<(), Failure> {
        self.root = target;
        let done = self.whole(source, target).await;
        self.voice.end();
        done.map_err(|error| Failure::wire(what, &error))?;
        match self.totals.problems.load(Ordering::Relaxed) {
            0 => Ok(()),
            count => {
                Err(Failure::new(what, format!("{count} thing(s) are not what they should be, see above"))
                    .next("mend what was named and repeat the command: what is right stays as it is"))
            }
        }
    }

    async fn whole(&mut self, source: u64, target: u64) -> client::Result<()> {
        let attr = self.from.getattr(&self.creds, source).await?;
        self.there = self.inodes_below(target).await?;
        let mut left = vec![Finished { attr, ino: target, path: String::new() }];
        let mut finished = Vec::new();
        while let Some(directory) = left.pop() {
            match self.directory(&directory).await {
                Ok(below) => left.extend(below),
                Err(error) => self.problem(&directory.path, error)?,
            }
            finished.push(directory);
        }
        self.remove_displaced().await?;
        // Those below first: what is made in a directory changes its times.
        for Finished { attr, ino, path } in finished.into_iter().rev() {
            if let Err(error) = self.dress(&attr, ino).await {
                self.problem(&path, error)?;
            }
        }
        Ok(())
    }

    /// Makes the file `name` of `parent`, which does not exist, what `source` is (no directory).
    pub(crate) async fn file(&self, source: &Attr, parent: u64, name: &[u8]) -> client::Result<u64> {
        let ino = self.make(source, parent, name).await?;
        let finished = async {
            self.fill(source, ino).await?;
            self.dress(source, ino).await
        };
        if let Err(error) = finished.await {
            // Half a file would be taken for a whole one.
            let _ = self.to.unlink(&self.creds, parent, name).await;
            return Err(error);
        }
        Ok(ino)
    }

    /// Says what went wrong with one thing and goes on, unless nothing else would work either.
    fn problem(&self, path: &str, error: Error) -> client::Result<()> {
        if is_out_of_reach(&error) {
            return Err(Error { text: format!("/{path}: {}", error.text), ..error });
        }
        add(&self.totals.problems, 1);
        self.voice.note(&format!("/{path}: {}", error.text));
        Ok(())
    }

    /// Everything that has a name below a directory now and is none.
    async fn inodes_below(&self, directory: u64) -> client::Result<HashSet<u64>> {
        let (mut left, mut found) = (vec![directory], HashSet::new());
        while let Some(ino) = left.pop() {
            for entry in self.to.entries(&self.creds, ino, false).await? {
                if entry.kind == kind::DIR {
                    left.push(entry.ino);
                } else {
                    found.insert(entry.ino);
                }
            }
        }
        Ok(found)
    }

    /// Makes the entries of a directory; gives the directories in it.
    async fn directory(&self, made: &Finished) -> client::Result<Vec<Finished>> {
        let mut wanted = self.from.entries(&self.creds, made.attr.ino, true).await?;
        wanted.retain(|entry| !is_trash(made.attr.ino, &entry.name));
        let mut kept: HashMap<Vec<u8>, u64> = HashMap::new();
        let by_name: HashMap<&[u8], &DirEntry> =
            wanted.iter().map(|entry| (entry.name.as_slice(), entry)).collect();
        let holding = *self.holding.lock().await;
        for entry in self.to.entries(&self.creds, made.ino, true).await? {
            if is_trash(made.ino, &entry.name) {
                continue;
            }
            if let Some(wanted) = by_name.get(entry.name.as_slice())
                && self.stays(wanted, &entry).await?
            {
                kept.insert(entry.name, entry.ino);
            } else if Some(entry.ino) != holding {
                self.displace(made.ino, &entry.name).await?;
            }
        }
        let (mut below, mut files) = (Vec::new(), Vec::new());
        for mut entry in wanted {
            let path = joined(&made.path, &entry.name);
            let there = kept.remove(&entry.name);
            let attr = match entry.attr.take() {
                Some(attr) => attr,
                None => self.from.getattr(&self.creds, entry.ino).await?,
            };
            if entry.kind != kind::DIR {
                let (parent, name) = (made.ino, entry.name);
                files.push(Wanted { parent, name, path, attr, there });
                continue;
            }
            let ino = match there {
                Some(there) => Ok(there),
                None => {
                    self.to.mkdir(&self.creds, made.ino, &entry.name, UNFINISHED).await.map(|attr| attr.ino)
                }
            };
            add(&self.totals.directories, 1);
            match ino {
                Ok(ino) => below.push(Finished { attr, ino, path }),
                Err(error) => self.problem(&path, error)?,
            }
        }
        self.files(files).await?;
        Ok(below)
    }

    /// Whether what has a name now stays what has it: the same inode, or one with the same content when that inode is gone.
    async fn stays(&self, wanted: &DirEntry, now: &DirEntry) -> client::Result<bool> {
        if wanted.kind != now.kind {
            return Ok(false);
        }
        if wanted.kind == kind::DIR {
            return Ok(true);
        }
        let (Some(source), Some(there)) = (&wanted.attr, &now.attr) else { return Ok(wanted.ino == now.ino) };
        let elsewhere = self.there.contains(&source.ino);
        if source.ino != there.ino && (elsewhere || !self.has_content_of(source, there).await?) {
            return Ok(false);
        }
        // Two names of one file lead to one, and names of two files to two.
        let (mut made, mut taken) = (self.made.lock(), self.taken.lock());
        if made.get(&source.ino).is_some_and(|made| *made != there.ino)
            || taken.get(&there.ino).is_some_and(|taken| *taken != source.ino)
        {
            return Ok(false);
        }
        if source.nlink > 1 || there.nlink > 1 {
            made.insert(source.ino, there.ino);
            taken.insert(there.ino, source.ino);
        }
        Ok(true)
    }

    /// Files that have other names one after the other, so that none is made twice.
    async fn files(&self, files: Vec<Wanted>) -> client::Result<()> {
        let (several, single): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.attr.nlink > 1);
        for (files, at_once) in [(several, 1), (single, AT_ONCE)] {
            let mut done = futures::stream::iter(files)
                .map(|file| async move { (self.one(&file).await, file) })
                .buffer_unordered(at_once);
            while let Some((result, file)) = done.next().await {
                add(&self.totals.files, 1);
                add(&self.totals.bytes, file.attr.size);
                self.voice.far(&self.totals);
                if let Err(error) = result {
                    self.problem(&file.path, error)?;
                }
            }
        }
        Ok(())
    }

    async fn one(&self, file: &Wanted) -> client::Result<()> {
        let source = file.attr.ino;
        if let Some(there) = file.there {
            return self.bring_back(&file.attr, there).await;
        }
        let made = self.made.lock().get(&source).copied();
        if let Some(made) = made {
            return self.to.link(&self.creds, made, file.parent, &file.name).await.map(|_| ());
        }
        let ino = if self.snapshot != 0 && self.there.contains(&source) {
            self.to.link(&self.creds, source, file.parent, &file.name).await?;
            source
        } else {
            self.file(&file.attr, file.parent, &file.name).await?
        };
        if file.attr.nlink > 1 {
            self.made.lock().insert(source, ino);
        }
        if ino == source {
            self.bring_back(&file.attr, source).await?;
        }
        Ok(())
    }
}
