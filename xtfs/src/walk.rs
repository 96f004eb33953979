//! Everything below a directory of a volume, page by page: a tree of any size takes one page per level.

use std::collections::VecDeque;
use std::sync::Arc;

use client::{Code, Volume};
use futures::Stream;
use proto::limits::READDIR_ENTRIES_MAX;
use proto::mrc::{Attr, DirEntry, kind};

use crate::place::creds;

/// Something that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The path that the walk began with, and what comes below it.
    pub(crate) path: String,
    /// Its attributes.
    pub(crate) attr: Attr,
}

/// A directory that could not be read, and why.
pub(crate) type Lost = (String, client::Error);

struct Level {
    ino: u64,
    path: String,
    page: VecDeque<DirEntry>,
    after: u64,
    ended: bool,
}

impl Level {
    fn of(ino: u64, path: &str) -> Self {
        let path = path.trim_end_matches('/').to_owned();
        Self { ino, path, page: VecDeque::new(), after: 0, ended: false }
    }
}

/// Whether it is of this type.
pub(crate) fn is_kind(attr: &Attr, kind: u32) -> bool {
    attr.mode >> 12 == kind
}

/// Whatever is below a directory, itself not; symbolic links are found and not followed.
pub(crate) fn below(
    volume: Arc<Volume>,
    ino: u64,
    path: &str,
) -> impl Stream<Item = Result<Found, Lost>> + use<> {
    let levels = vec![Level::of(ino, path)];
    futures::stream::unfold((volume, levels), |(volume, mut levels)| async move {
        let found = next(&volume, &mut levels).await?;
        Some((found, (volume, levels)))
    })
}

async fn next(volume: &Arc<Volume>, levels: &mut Vec<Level>) -> Option<Result<Found, Lost>> {
    loop {
        let level = levels.last_mut()?;
        let Some(entry) = level.page.pop_front() else {
            if level.ended {
                levels.pop();
            } else if let Err(error) = turn(volume, level).await {
                let path = std::mem::take(&mut level.path);
                levels.pop();
                // Removed meanwhile: there is nothing below it.
                if error.code != Code::NotFound {
                    return Some(Err((path, error)));
                }
            }
            continue;
        };
        let path = format!("{}/{}", level.path, String::from_utf8_lossy(&entry.name));
        let attr = match entry.attr {
            Some(attr) => Ok(attr),
            None => volume.getattr(&creds(), entry.ino).await,
        };
        match attr {
            Ok(attr) => {
                if is_kind(&attr, kind::DIR) {
                    levels.push(Level::of(attr.ino, &path));
                }
                return Some(Ok(Found { path, attr }));
            }
            Err(error) if error.code == Code::NotFound => {}
            Err(error) => return Some(Err((path, error))),
        }
    }
}

/// Reads the next page of a directory.
async fn turn(volume: &Arc<Volume>, level: &mut Level) -> client::Result<()> {
    let page = volume.readdir(&creds(), level.ino, level.after, READDIR_ENTRIES_MAX, true).await?;
    level.ended = page.end || page.entries.is_empty();
    level.after = page.entries.last().map_or(level.after, |entry| entry.cookie);
    level.page = page.entries.into();
    Ok(())
}
