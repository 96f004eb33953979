//! What differs between two views of a directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Creds, Volume};
use proto::mrc::{Attr, DirEntry, kind};
use serde_json::{Value, json};

use crate::commands::watch::word;
use crate::copy::dress::xattrs;
use crate::copy::{is_trash, joined};
use crate::output;

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Removed,
    /// Its content.
    Modified,
    /// Only its attributes.
    Attributes,
}

impl Change {
    fn sign(self) -> char {
        match self {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Modified => 'M',
            Change::Attributes => 'm',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Modified => "modified",
            Change::Attributes => "attributes",
        }
    }
}

/// One difference.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) change: Change,
    path: String,
    attr: Attr,
}

impl Difference {
    /// As a line for people or programs.
    pub(crate) fn print(&self, json: bool) {
        let is_directory = self.attr.mode >> 12 == kind::DIR;
        if json {
            output::json(&self.to_json());
        } else {
            output::line(&format!(
                "{} {}{}",
                self.change.sign(),
                self.path,
                if is_directory { "/" } else { "" }
            ));
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "change": self.change.word(),
            "path": self.path,
            "type": word(self.attr.mode >> 12),
            "size": self.attr.size,
            "ino": self.attr.ino,
        })
    }
}

/// A view: the present or a snapshot.
type View<'a> = &'a Arc<Volume>;

/// What is still to be compared.
enum Left {
    One(Change, String, DirEntry),
    Both(String, Box<(Attr, Attr)>),
}

/// Tells how the directory `ino` of `new` differs from what it is in `old`, names in order.
pub(crate) async fn walk(
    (old, new): (View<'_>, View<'_>),
    creds: &Creds,
    ino: u64,
    mut tell: impl FnMut(Difference),
) -> client::Result<()> {
    let root = (old.getattr(creds, ino).await?, new.getattr(creds, ino).await?);
    let mut left = vec![Left::Both(String::new(), Box::new(root))];
    while let Some(next) = left.pop() {
        match next {
            Left::One(change, path, entry) => {
                let view = if change == Change::Removed { old } else { new };
                let attr = attr_of(view, creds, &entry).await?;
                if entry.kind == kind::DIR {
                    let mut entries = view.entries(creds, entry.ino, true).await?;
                    entries.sort_by(|a, b| b.name.cmp(&a.name));
                    left.extend(entries.into_iter().map(|entry| {
                        let path = joined(&path, &entry.name);
                        Left::One(change, path, entry)
                    }));
                }
                tell(Difference { change, path, attr });
            }
            Left::Both(path, both) => {
                let (before, after) = *both;
                if let Some(change) = compare((old, new), creds, &before, &after).await? {
                    let shown = if path.is_empty() { ".".to_owned() } else { path.clone() };
                    tell(Difference { change, path: shown, attr: after.clone() });
                }
                if after.mode >> 12 == kind::DIR {
                    below((old, new), creds, (&path, before.ino, after.ino), &mut left).await?;
                }
            }
        }
    }
    Ok(())
}

async fn attr_of(view: View<'_>, creds: &Creds, entry: &DirEntry) -> client::Result<Attr> {
    match &entry.attr {
        Some(attr) => Ok(attr.clone()),
        None => view.getattr(creds, entry.ino).await,
    }
}

/// Pairs the entries of a directory in both views.
async fn below(
    (old, new): (View<'_>, View<'_>),
    creds: &Creds,
    (path, before, after): (&str, u64, u64),
    left: &mut Vec<Left>,
) -> client::Result<()> {
    let mut names: BTreeMap<Vec<u8>, (Option<DirEntry>, Option<DirEntry>)> = BTreeMap::new();
    for entry in old.entries(creds, before, true).await? {
        let name = entry.name.clone();
        names.entry(name).or_default().0 = Some(entry);
    }
    for entry in new.entries(creds, after, true).await? {
        let name = entry.name.clone();
        names.entry(name).or_default().1 = Some(entry);
    }
    names.retain(|name, _| !is_trash(before, name));
    // The next one last.
    for (name, pair) in names.into_iter().rev() {
        let path = joined(path, &name);
        match pair {
            (Some(before), Some(after)) if before.kind == after.kind => {
                let both = (attr_of(old, creds, &before).await?, attr_of(new, creds, &after).await?);
                left.push(Left::Both(path, Box::new(both)));
            }
            (before, after) => {
                left.extend(after.map(|entry| Left::One(Change::Added, path.clone(), entry)));
                left.extend(before.map(|entry| Left::One(Change::Removed, path, entry)));
            }
        }
    }
    Ok(())
}

/// How something with one name and type in both views differs.
async fn compare(
    (old, new): (View<'_>, View<'_>),
    creds: &Creds,
    before: &Attr,
    after: &Attr,
) -> client::Result<Option<Change>> {
    let same_inode = before.ino == after.ino;
    // Whatever a program changes, it changes this time, which it cannot set.
    if same_inode && before.ctime == after.ctime && before.size == after.size {
        return Ok(None);
    }
    match after.mode >> 12 {
        kind::DIR => {}
        kind::FILE if same_inode => {
            // The same data, as far as it reaches, is the same content.
            if before.layer != after.layer || before.size != after.size {
                return Ok(Some(Change::Modified));
            }
        }
        kind::SYMLINK if !same_inode => {
            let targets = (old.readlink(creds, before.ino).await?, new.readlink(creds, after.ino).await?);
            if targets.0 != targets.1 {
                return Ok(Some(Change::Modified));
            }
        }
        kind::FILE => {
            let (was, is) = (shown_data(before), shown_data(after));
            if (before.size, before.size > 0 && was != is) != (after.size, false) {
                return Ok(Some(Change::Modified));
            }
        }
        _ => {
            if before.rdev != after.rdev {
                return Ok(Some(Change::Modified));
            }
        }
    }
    let plain =
        |attr: &Attr| (attr.mode, attr.uid, attr.gid, attr.flags, attr.nlink * u32::from(!is_dir(attr)));
    let times = |attr: &Attr| (!is_dir(attr)).then_some((attr.mtime, attr.atime));
    if plain(before) != plain(after) || times(before) != times(after) {
        return Ok(Some(Change::Attributes));
    }
    let lists = (xattrs(old, creds, before).await?, xattrs(new, creds, after).await?);
    Ok((lists.0 != lists.1).then_some(Change::Attributes))
}

fn is_dir(attr: &Attr) -> bool {
    attr.mode >> 12 == kind::DIR
}

/// Which data a file shows.
fn shown_data(attr: &Attr) -> u64 {
    if attr.layer == 0 { attr.ino } else { attr.layer }
}
