//! The one binary: every daemon role, the mount, every tool.
//!
//! Reading order: `args` (the command line) -> `classic` (names of the original) -> `commands` (one file each) ->
//! `instance` (what `up` made) and `launcher` (processes of `up --separate`) -> `roles` (the services in a process)
//! -> `config`, `cluster`, `address`, `output`, `failure` below all of them.

mod acl;
mod address;
mod args;
mod bench;
mod chaos;
mod classic;
mod cluster;
mod commands;
mod config;
mod copy;
mod dump;
mod failure;
mod instance;
mod launcher;
mod mounts;
mod output;
mod place;
mod roles;
mod scrape;
mod volumes;
mod walk;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Before anything else: the supervisor of a job must be alone in its process.
    if std::env::args_os().nth(1).is_some_and(|word| word == roles::exec::SUPERVISE) {
        return ExitCode::from(u8::try_from(exec::supervisor::main()).unwrap_or(1));
    }
    let line = classic::command_line(std::env::args_os().collect());
    let cli = match args::Cli::try_parse_from(line) {
        Ok(cli) => cli,
        Err(error) => {
            // --help and --version are no failures.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match cli.command.run(&cli.global) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("xtfs: {failure}");
            ExitCode::from(failure.status)
        }
    }
}
