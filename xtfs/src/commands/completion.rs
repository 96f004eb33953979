//! `xtfs completion`: completion scripts made from the definitions of the commands.

use clap::{Args, CommandFactory, ValueEnum};

use crate::args::{Cli, Global};
use crate::failure::Outcome;

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub(crate) struct Completion {
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(crate) fn run(self, _global: &Global) -> Outcome {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "xtfs", &mut script);
        crate::output::line(String::from_utf8_lossy(&script).trim_end());
        Ok(0)
    }
}
