//! The change stream of a volume as news for the spool.

use std::time::Duration;

use client::Code;
use client::error::errno;
use client::volume::changes::ChangeStream;
use futures::FutureExt;
use futures::future::BoxFuture;
use proto::changes::{Change, INSIDE_FROM, INSIDE_TO, event};

use super::{News, SpoolWatch, StoreError};

/// Longest single question.
const WAIT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct VolumeNews {
    stream: ChangeStream,
    /// What this session did itself is no news.
    own: u64,
    /// Path of the watched directory, for errors.
    dir: String,
}

impl VolumeNews {
    pub(super) fn new(stream: ChangeStream, own: u64, dir: &str) -> Self {
        Self { stream, own, dir: dir.to_owned() }
    }
}

fn directories(change: &Change) -> Vec<Option<String>> {
    if change.kind == event::GAP {
        return vec![None];
    }
    let text = |path: &Option<Vec<u8>>| path.as_ref().map(|path| String::from_utf8_lossy(path).into_owned());
    let mut out = Vec::new();
    if change.inside & INSIDE_FROM != 0 {
        out.push(text(&change.directory));
    }
    if change.inside & INSIDE_TO != 0 {
        out.push(text(&change.new_directory));
    }
    out
}

impl SpoolWatch for VolumeNews {
    fn next(&mut self) -> BoxFuture<'_, Result<News, StoreError>> {
        async move {
            let changes = self.stream.next(WAIT, 0).await.map_err(|error| {
                let errno = if error.code == Code::NotFound { libc::ENOENT } else { errno(error.code) };
                StoreError::new("watch", &self.dir, errno)
            })?;
            let mut news: News = (changes.iter())
                .filter(|change| change.kind == event::GAP || change.session != self.own)
                .flat_map(directories)
                .collect();
            news.sort();
            news.dedup();
            Ok(news)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_rename_are_news_where_they_lie_inside() {
        let change = Change {
            kind: event::RENAMED,
            inside: INSIDE_TO,
            directory: Some(b"home".to_vec()),
            new_directory: Some(b"spool/u/new".to_vec()),
            ..Change::default()
        };
        assert_eq!(directories(&change), [Some("spool/u/new".to_owned())]);
        assert_eq!(directories(&Change { inside: INSIDE_FROM | INSIDE_TO, ..change }).len(), 2);
        assert_eq!(directories(&Change { kind: event::GAP, ..Change::default() }), [None]);
    }
}
