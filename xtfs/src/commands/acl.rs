//! `xtfs acl`: access control lists of files and directories.

mod show;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use clap::{Args, Subcommand};
use client::{Code, Volume};
use futures::StreamExt;
use nix::unistd::{Gid, Group, Uid, User};
use proto::mrc::{ACL_ACCESS, ACL_DEFAULT, Attr, kind};

use crate::acl::change::{Change, How};
use crate::acl::text::{self, Entry, Kind, Wants};
use crate::acl::{ACCESS_NAME, Acl as List, DEFAULT_NAME, Lists};
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{Opened, creds, place, run_with_tasks};
use crate::walk::{self, Found, Lost, is_kind};
use show::Shown;

/// Files of a tree that are worked on at a time.
const AT_ONCE: usize = 32;
/// Longest text of entries that is read from a file.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Access control lists: who else may use a file or directory, and what new files below get
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  xtfs acl set report.txt user:alice:rw group:dev:r
  xtfs acl set -R project group:dev:rwX default:group:dev:rwX
  xtfs acl get report.txt
  xtfs acl get a | xtfs acl set b --replace --file -
  xtfs acl rm report.txt user:alice

Entries are those of getfacl(1) and setfacl(1): user:NAME:rwx, group:NAME:r-x, user::rwx (the owner), group::r-x, mask::rwx, \
other::---; default:... is for what is made in a directory. u, g, m, o, d do as well, so do numbers for names, and X, which \
is x for directories and where somebody may execute already.")]
pub(crate) struct Acl {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the lists of files and directories, as getfacl does
    Get(Get),
    /// Add entries, or change those of the same user or group; the mask is calculated, unless an entry says it
    Set(Set),
    /// Remove entries; without any, everything that says more than the mode
    Rm(Rm),
}

#[derive(Debug, Args)]
struct Get {
    /// Paths on a mounted volume, or xtfs://HOST/VOLUME/PATH.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Only default lists, without the word `default:`.
    #[arg(long, short = 'd')]
    default: bool,
    /// Everything below as well; with --json a line per file.
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Numbers instead of names.
    #[arg(long, short = 'n')]
    numeric: bool,
}

#[derive(Debug, Args)]
struct Set {
    #[command(flatten)]
    which: Which,
    /// Read entries from a file, a line each, as getfacl writes them; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// Of the lists that are spoken of nothing else stays, but owner, group and others.
    #[arg(long)]
    replace: bool,
    /// Leave the mask as it is.
    #[arg(long, short = 'n')]
    no_mask: bool,
}

#[derive(Debug, Args)]
struct Rm {
    #[command(flatten)]
    which: Which,
}

/// Of what.
#[derive(Debug, Args)]
struct Which {
    /// A path on a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
    /// user:alice:rwx, default:group:dev:r-x and the like.
    #[arg(value_name = "ENTRY")]
    entries: Vec<String>,
    /// Entries are for the default list, also those without `default:`.
    #[arg(long, short = 'd')]
    default: bool,
    /// Everything below as well.
    #[arg(long, short = 'R')]
    recursive: bool,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Acl {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        match self.what {
            What::Get(get) => run_with_tasks(get.run(global)),
            What::Set(set) => {
                let change = set.change()?;
                run_with_tasks(set.which.run(&change, global))
            }
            What::Rm(rm) => {
                let change = rm.change()?;
                run_with_tasks(rm.which.run(&change, global))
            }
        }
    }
}

/// The number of a user or group of this machine.
fn number(kind: Kind, name: &str) -> Option<u32> {
    match kind {
        Kind::User => User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()),
        Kind::Group => Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw()),
    }
}

/// And its name.
fn name(kind: Kind, id: u32) -> Option<String> {
    match kind {
        Kind::User => User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name),
        Kind::Group => Group::from_gid(Gid::from_raw(id)).ok().flatten().map(|group| group.name),
    }
}

impl Which {
    fn entries(&self, texts: &[String], wants: Wants) -> Result<Vec<Entry>, Failure> {
        let mut entries = Vec::new();
        for text in texts {
            let parsed = text::parse(text, wants, &number).map_err(|why| {
                Failure::usage(format!("access control list of {}", self.path), why)
                    .next("write e.g. user:alice:rwx, group:dev:r-x, mask::rwx or default:user:bob:rx")
            })?;
            entries.extend(parsed);
        }
        for entry in &mut entries {
            entry.default |= self.default;
        }
        Ok(entries)
    }
}

impl Set {
    fn change(&self) -> Result<Change, Failure> {
        let mut texts = self.which.entries.clone();
        if let Some(file) = &self.file {
            texts.push(read_text(file)?);
        }
        let entries = self.which.entries(&texts, Wants::Permissions)?;
        if entries.is_empty() {
            return Err(Failure::usage("xtfs acl set", "no entry was given")
                .next(format!("xtfs acl set {} user:NAME:rwx", self.which.path)));
        }
        let how = if self.replace { How::Replace } else { How::Modify };
        Ok(Change { how, entries, keeps_mask: self.no_mask, only_default: false })
    }
}

impl Rm {
    fn change(&self) -> Result<Change, Failure> {
        let entries = self.which.entries(&self.which.entries, Wants::Names)?;
        Ok(Change { how: How::Remove, entries, keeps_mask: false, only_default: self.which.default })
    }
}

fn read_text(file: &str) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("reading entries from {file}"), error);
    let source: Box<dyn Read> = match file {
        "-" => Box::new(std::io::stdin()),
        file => Box::new(std::fs::File::open(file).map_err(failed)?),
    };
    let mut text = String::new();
    source.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(Failure::new(format!("reading entries from {file}"), "more than 1 MiB is no list"));
    }
    Ok(text)
}

/// A path is followed when it is a link of a mount, as getfacl and setfacl do.
fn followed(path: &str) -> String {
    let is_link = !path.contains("://") && Path::new(path).is_symlink();
    let target = is_link.then(|| Path::new(path).canonicalize().ok()).flatten();
    target.map_or_else(|| path.to_owned(), |target| target.to_string_lossy().into_owned())
}

async fn open(path: &str, global: &Global) -> Result<(Opened, Found), Failure> {
    let what = format!("access control list of {path}");
    let opened = place(&followed(path))?.open(global, &what).await?;
    match opened.volume.getattr(&creds(), opened.ino).await {
        Ok(attr) if is_kind(&attr, kind::SYMLINK) => {
            opened.close().await;
            Err(Failure::new(what, "it is a symbolic link, which has none").next("name what it points to"))
        }
        Ok(attr) => Ok((opened, Found { path: path.to_owned(), attr })),
        Err(error) => {
            opened.close().await;
            Err(Failure::wire(what, &error))
        }
    }
}

/// The lists of an inode; what its attributes rule out is not asked for.
async fn lists(volume: &Volume, attr: &Attr) -> client::Result<Lists> {
    let access = match attr.acl & ACL_ACCESS {
        0 => None,
        _ => list(volume, attr.ino, ACCESS_NAME).await?,
    };
    let default = match attr.acl & ACL_DEFAULT {
        0 => None,
        _ => list(volume, attr.ino, DEFAULT_NAME).await?,
    };
    Ok(Lists { access: access.unwrap_or_else(|| List::of_mode(attr.mode)), default })
}

async fn list(volume: &Volume, ino: u64, name: &[u8]) -> client::Result<Option<List>> {
    match volume.getxattr(&creds(), ino, name).await {
        Ok(value) => List::parse(&value).map_err(|why| client::Error::new(Code::Corrupt, why)),
        // Removed meanwhile.
        Err(error) if error.code == Code::NoAttribute => Ok(None),
        Err(error) => Err(error),
    }
}

/// What was found and can have lists, the first one and, when it is wanted, all that is below.
fn all(
    opened: &Opened,
    first: Found,
    recursive: bool,
) -> impl futures::Stream<Item = Result<Found, Lost>> + use<> {
    let walks = recursive && is_kind(&first.attr, kind::DIR);
    let below = walks.then(|| walk::below(opened.volume.clone(), first.attr.ino, &first.path));
    let below = futures::stream::iter(below).flatten();
    let first = futures::stream::iter([Ok(first)]);
    first.chain(below).filter(|found| {
        let links = found.as_ref().is_ok_and(|found| is_kind(&found.attr, kind::SYMLINK));
        std::future::ready(!links)
    })
}

/// How a tree was gone through.
#[derive(Default)]
struct Sum {
    seen: u64,
    changed: u64,
    failed: u64,
}

impl Sum {
    /// What could not be done is said at once; what is gone is no failure.
    fn fail(&mut self, (path, error): &Lost) {
        if error.code != Code::NotFound {
            self.failed += 1;
            eprintln!("xtfs: {}", Failure::wire(format!("access control list of {path}"), error));
        }
    }

    fn outcome(&self, path: &str) -> Outcome {
        match self.failed {
            0 => Ok(0),
            failed => Err(Failure::new(
                format!("access control lists of {path}"),
                format!("{failed} of {} could not be done", self.seen + failed),
            )),
        }
    }
}

impl Get {
    async fn run(self, global: &Global) -> Outcome {
        let mut sum = Sum::default();
        for path in &self.paths {
            let (opened, first) = open(path, global).await?;
            self.show(&opened, first, global.json, &mut sum).await;
            opened.close().await;
        }
        sum.outcome(&self.paths.join(", "))
    }

    async fn show(&self, opened: &Opened, first: Found, json: bool, sum: &mut Sum) {
        let asked = all(opened, first, self.recursive).map(|found| async {
            let found = found?;
            match lists(&opened.volume, &found.attr).await {
                Ok(lists) => Ok((found, lists)),
                Err(error) => Err((found.path, error)),
            }
        });
        let mut told = std::pin::pin!(asked.buffered(AT_ONCE));
        while let Some(one) = told.next().await {
            match one {
                Ok((found, lists)) => {
                    sum.seen += 1;
                    let shown = Shown { found: &found, lists: &lists, numeric: self.numeric };
                    if json {
                        output::json(&shown.to_json());
                    } else {
                        output::line(&shown.text(self.default));
                    }
                }
                Err(lost) => sum.fail(&lost),
            }
        }
    }
}

impl Which {
    async fn run(&self, change: &Change, global: &Global) -> Outcome {
        let (opened, first) = open(&self.path, global).await?;
        let done = self.change_all(&opened, first, change, global.json).await;
        opened.close().await;
        done
    }

    async fn change_all(&self, opened: &Opened, first: Found, change: &Change, json: bool) -> Outcome {
        let what = format!("access control list of {}", self.path);
        let is_dir = is_kind(&first.attr, kind::DIR);
        if change.wants_directory() && !is_dir {
            return Err(Failure::new(what, "it is no directory, and only those have default lists")
                .next("leave `default:` and --default away"));
        }
        if !self.recursive {
            let (before, after) = self.change_one(&opened.volume, &first, change).await?;
            let shown = Shown { found: &first, lists: &after, numeric: false };
            shown.changed(before != after, self.dry_run, json);
            return Ok(0);
        }
        let mut sum = Sum::default();
        let volume: &Arc<Volume> = &opened.volume;
        let changes = all(opened, first, true).map(|found| async {
            let found = found?;
            let (before, after) = match self.change_found(volume, &found, change).await {
                Ok(Some(lists)) => lists,
                Ok(None) => return Ok(false),
                Err(error) => return Err((found.path, error)),
            };
            Ok(before != after)
        });
        let mut told = std::pin::pin!(changes.buffer_unordered(AT_ONCE));
        while let Some(one) = told.next().await {
            match one {
                Ok(changed) => (sum.seen, sum.changed) = (sum.seen + 1, sum.changed + u64::from(changed)),
                Err(lost) => sum.fail(&lost),
            }
        }
        show::summary(&self.path, &sum, self.dry_run, json);
        sum.outcome(&self.path)
    }

    /// One of a tree: default lists are left away where there are none.
    async fn change_found(
        &self,
        volume: &Volume,
        found: &Found,
        change: &Change,
    ) -> client::Result<Option<(Lists, Lists)>> {
        let is_dir = is_kind(&found.attr, kind::DIR);
        let change = if is_dir { Some(change.clone()) } else { change.for_files() };
        let Some(change) = change else { return Ok(None) };
        let before = lists(volume, &found.attr).await?;
        let after =
            change.apply(&before, is_dir).map_err(|why| client::Error::new(Code::InvalidArgument, why))?;
        if !self.dry_run {
            store(volume, found.attr.ino, &before, &after).await?;
        }
        Ok(Some((before, after)))
    }

    async fn change_one(
        &self,
        volume: &Volume,
        found: &Found,
        change: &Change,
    ) -> Result<(Lists, Lists), Failure> {
        let what = || format!("access control list of {}", found.path);
        let failed = |error: client::Error| Failure::wire(what(), &error);
        let before = lists(volume, &found.attr).await.map_err(failed)?;
        let after = change.apply(&before, is_kind(&found.attr, kind::DIR));
        let after = after.map_err(|why| Failure::new(what(), why))?;
        if !self.dry_run {
            store(volume, found.attr.ino, &before, &after).await.map_err(failed)?;
        }
        Ok((before, after))
    }
}

/// Tells the MRC what changed.
async fn store(volume: &Volume, ino: u64, before: &Lists, after: &Lists) -> client::Result<()> {
    if before.access != after.access {
        volume.setxattr(&creds(), ino, ACCESS_NAME, Some(&after.access.to_value()), 0).await?;
    }
    if before.default != after.default {
        let value = after.default.as_ref().map(List::to_value);
        // An empty value takes the list away, and none being there is no error.
        volume.setxattr(&creds(), ino, DEFAULT_NAME, Some(&value.unwrap_or_default()), 0).await?;
    }
    Ok(())
}
