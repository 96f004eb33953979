//! `xtfs find`: files by their attributes, answered by the MRC.

use clap::Args;
use nix::unistd::{Group, User};
use proto::find::Found;
use proto::query::Query;
use serde_json::{Value, json};

use super::watch::{time, word};
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{creds, place, run_with_tasks};

/// Find files by name, size, owner, times and user.* attributes, without walking the tree
///
/// Conditions: name == "*.log" (a glob), type == file, size > 1M, allocated, links, mode == 640, owner == alice, group,
/// ino, mtime < now-7d (also atime, ctime, btime; or 2026-11-21, @SECONDS), user.NAME (exists), user.NAME == "glob*". Join them with
/// && and ||, negate with !, group with parentheses.
#[derive(Debug, Args)]
pub(crate) struct Find {
    /// A directory of a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
    /// The conditions, quoted for the shell.
    #[arg(value_name = "EXPR")]
    query: String,
}

impl Find {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let what = format!("finding files in {}", self.path);
        let query = parse(&self.query)?.to_string();
        let place = place(&self.path)?;
        run_with_tasks(async {
            let opened = place.open(global, &what).await?;
            let mut after = 0;
            loop {
                let asked = opened.volume.find(&creds(), opened.ino, &query, after).await;
                let page = asked.map_err(|error| Failure::wire(&what, &error))?;
                for found in &page.found {
                    if global.json {
                        output::json(&line(found));
                    } else {
                        output::line(&format!("/{}", String::from_utf8_lossy(&found.path)));
                    }
                }
                if page.end || page.after <= after {
                    break;
                }
                after = page.after;
            }
            opened.close().await;
            Ok(0)
        })
    }
}

/// Parses the query and looks its users and groups up.
fn parse(text: &str) -> Result<Query, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("query {text:?}"), why).next("`xtfs find --help` shows the conditions")
    };
    let query = Query::parse(text).map_err(|error| wrong(&error))?;
    query.resolve(&|is_group, name| {
        let id = match is_group {
            true => Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw()),
            false => User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()),
        };
        let what = if is_group { "group" } else { "user" };
        id.ok_or_else(|| wrong(&format!("this machine knows no {what} {name:?}; write the number")))
    })
}

fn line(found: &Found) -> Value {
    let attr = &found.attr;
    json!({
        "path": format!("/{}", String::from_utf8_lossy(&found.path)),
        "ino": attr.ino,
        "type": word(attr.mode >> 12),
        "size": attr.size,
        "allocated": attr.blocks.saturating_mul(512),
        "mode": format!("{:04o}", attr.mode & 0o7777),
        "uid": attr.uid,
        "gid": attr.gid,
        "links": attr.nlink,
        "mtime": time(attr.mtime),
        "ctime": time(attr.ctime),
        "btime": time(attr.btime),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_and_faults_are_wrong_usage() {
        assert_eq!(
            parse("owner == root && group == root").unwrap().to_string(),
            "(owner == 0 && group == 0)"
        );
        for text in ["size >", "owner == nobody-is-called-so", "colour == red"] {
            assert_eq!(parse(text).unwrap_err().status, 2, "{text}");
        }
    }
}
