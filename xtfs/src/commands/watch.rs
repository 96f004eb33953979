//! `xtfs watch`: what happens below a directory, as JSON lines.

use std::time::Duration;

use clap::Args;
use proto::changes::{Change, INSIDE_FROM, INSIDE_TO, event};
use proto::mrc::{Time, kind};
use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{creds, place, run_with_tasks};

/// Print what changes below a directory, one JSON object per line
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// A directory of a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
    /// Go on after this cursor (the `cursor` of the last line that was processed).
    #[arg(long, value_name = "CURSOR")]
    from: Option<u64>,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End when nothing happened for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    idle: Option<f64>,
}

/// Longest single question.
const WAIT: Duration = Duration::from_secs(20);

impl Watch {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let what = format!("watching {}", self.path);
        let place = place(&self.path)?;
        let idle = self.idle.map(Duration::try_from_secs_f64).transpose();
        let idle = idle.map_err(|error| Failure::usage("--idle", error))?;
        run_with_tasks(async {
            let opened = place.open(global, &what).await?;
            let stream = opened.volume.changes(&creds(), opened.ino, self.from).await;
            let mut stream = stream.map_err(|error| Failure::wire(&what, &error))?;
            let mut left = self.count.unwrap_or(u64::MAX);
            while left > 0 {
                let limit = u32::try_from(left).unwrap_or(0);
                let next = stream.next(idle.unwrap_or(WAIT).min(WAIT), limit).await;
                let changes = next.map_err(|error| {
                    Failure::wire(&what, &error).next(format!("go on with --from {}", stream.cursor()))
                })?;
                if changes.is_empty() && idle.is_some() {
                    break;
                }
                for change in &changes {
                    output::json(&line(change));
                }
                left = left.saturating_sub(changes.len() as u64);
            }
            opened.close().await;
            Ok(0)
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Path of a name, when its directory still has one.
fn path(directory: Option<&Vec<u8>>, name: &[u8]) -> Value {
    match directory {
        Some(directory) if directory.is_empty() => format!("/{}", text(name)).into(),
        Some(directory) => format!("/{}/{}", text(directory), text(name)).into(),
        None => Value::Null,
    }
}

/// RFC 3339, UTC.
pub(crate) fn time(time: Time) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or(0);
    jiff::Timestamp::new(time.seconds, nanos).map_or_else(|_| time.seconds.to_string(), |t| t.to_string())
}

/// A file type for people and programs.
pub(crate) fn word(file_kind: u32) -> &'static str {
    match file_kind {
        kind::FILE => "file",
        kind::DIR => "directory",
        kind::SYMLINK => "symlink",
        kind::FIFO => "fifo",
        kind::SOCKET => "socket",
        kind::BLOCK => "block_device",
        _ => "character_device",
    }
}

fn line(change: &Change) -> Value {
    if change.kind == event::GAP {
        return json!({"cursor": change.cursor, "event": "gap"});
    }
    let mut value = json!({
        "cursor": change.cursor,
        "event": event::word(change.kind),
        "type": word(change.file_kind),
        "ino": change.ino,
        "parent": change.parent,
        "name": text(&change.name),
        "path": path(change.directory.as_ref(), &change.name),
        "time": time(change.time),
        "uid": change.uid,
        "session": format!("{:016x}", change.session),
    });
    if change.kind == event::RENAMED {
        value["new_parent"] = change.new_parent.into();
        value["new_name"] = text(&change.new_name).into();
        value["new_path"] = path(change.new_directory.as_ref(), &change.new_name);
        value["from_inside"] = (change.inside & INSIDE_FROM != 0).into();
        value["to_inside"] = (change.inside & INSIDE_TO != 0).into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_out_of_the_subtree_says_so() {
        let change = Change {
            cursor: 7,
            kind: event::RENAMED,
            name: b"a".to_vec(),
            new_name: b"b".to_vec(),
            directory: Some(b"x/y".to_vec()),
            new_directory: Some(Vec::new()),
            inside: INSIDE_FROM,
            ..Change::default()
        };
        let value = line(&change);
        assert_eq!((value["path"].as_str(), value["new_path"].as_str()), (Some("/x/y/a"), Some("/b")));
        assert_eq!((value["from_inside"].as_bool(), value["to_inside"].as_bool()), (Some(true), Some(false)));
        assert_eq!(value["time"], "1970-01-01T00:00:00Z");
    }
}
