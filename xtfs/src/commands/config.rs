//! `xtfs config ROLE`: the default configuration file.

use clap::Args;
use serde_json::json;

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::{config, output};

/// Print the default configuration file of a role, with comments
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// dir, mrc, osd, rms or exec.
    role: String,
}

impl Config {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let text = config::default_text(&self.role).ok_or_else(|| {
            Failure::usage(format!("role {:?}", self.role), "it has no configuration file")
                .next("one of: dir mrc osd rms exec")
        })?;
        if global.json {
            output::json(&json!({"role": self.role, "toml": text}));
        } else {
            output::line(text.trim_end());
        }
        Ok(0)
    }
}
