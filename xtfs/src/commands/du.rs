//! `xtfs du`: what lies below a directory, from sums that the MRC keeps.

use clap::Args;
use serde_json::json;

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{creds, place, run_with_tasks};

/// Show how much lies below a directory, at once, however much it is
#[derive(Debug, Args)]
pub(crate) struct Du {
    /// Paths on mounted volumes, or xtfs://HOST/VOLUME/PATH.
    #[arg(required = true)]
    paths: Vec<String>,
}

/// Unit of `blocks`, bytes.
const BLOCK: u64 = 512;

impl Du {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        run_with_tasks(async {
            let (mut rows, mut values) = (Vec::new(), Vec::new());
            for path in &self.paths {
                let what = format!("usage of {path}");
                let opened = place(path)?.open(global, &what).await?;
                let asked = opened.volume.usage(&creds(), opened.ino).await;
                let usage = asked.map_err(|error| Failure::wire(&what, &error))?;
                opened.close().await;
                let allocated = usage.blocks.saturating_mul(BLOCK);
                rows.push(vec![
                    output::bytes(allocated),
                    output::bytes(usage.bytes),
                    usage.files.to_string(),
                    usage.directories.to_string(),
                    path.clone(),
                ]);
                values.push(json!({
                    "path": path,
                    "allocated": allocated,
                    "bytes": usage.bytes,
                    "files": usage.files,
                    "directories": usage.directories,
                    "inodes": usage.files.saturating_add(usage.directories),
                }));
            }
            if !global.json {
                output::table(&["ALLOCATED", "SIZE", "FILES", "DIRS", "PATH"], &rows, "");
            } else if let [value] = &values[..] {
                output::json(value);
            } else {
                output::json(&json!(values));
            }
            Ok(0)
        })
    }
}
