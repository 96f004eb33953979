//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::failure::Outcome;

/// A distributed file system and what runs on it: storage, metadata, mounts and jobs in one program.
#[derive(Debug, Parser)]
#[command(name = "xtfs", version, max_term_width = 110, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Seconds to wait for services before giving up with exit status 3.
    #[arg(long, global = true, default_value = "30", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// What to log on stderr, as in RUST_LOG: `info`, `warn,osd=debug`.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// The DIR services; without it the host of a URL, else the instance in ./xtfs-data.
    #[arg(long, global = true, env = "XTFS_DIR", value_name = "HOST[:PORT],...")]
    pub(crate) dir: Option<String>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let text = text.strip_suffix('s').unwrap_or(text);
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// A `--data DIR` option.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataDir {
    /// The instance's data directory.
    #[arg(long, value_name = "DIR", default_value = "xtfs-data")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(commands::up::Up),
    Down(commands::down::Down),
    Ps(commands::ps::Ps),
    Start(commands::start::Start),
    Stop(commands::stop::Stop),
    Restart(commands::restart::Restart),
    Status(commands::status::Status),
    Doctor(commands::doctor::Doctor),
    Top(commands::top::Top),
    Stats(commands::top::Stats),
    Profile(commands::profile::ProfileCommand),
    Mkfs(commands::mkfs::Mkfs),
    Rmfs(commands::rmfs::Rmfs),
    Ls(commands::ls::Ls),
    Df(commands::df::Df),
    Mount(commands::mount::Mount),
    Umount(commands::umount::Umount),
    Info(commands::info::Info),
    Watch(commands::watch::Watch),
    Du(commands::du::Du),
    Find(commands::find::Find),
    Replica(commands::replica::Replica),
    Scrub(commands::scrub::Scrub),
    Bench(commands::bench::Bench),
    Warmup(commands::warmup::Warmup),
    Acl(commands::acl::Acl),
    Quota(commands::quota::Quota),
    Fsck(commands::fsck::Fsck),
    Gc(commands::gc::Gc),
    Dump(commands::dump::Dump),
    Load(commands::dump::Load),
    Trash(commands::trash::Trash),
    Snapshot(commands::snapshot::Snapshot),
    Clone(commands::clone::Clone),
    Layout(commands::layout::Layout),
    Job(commands::job::Job),
    Service(commands::service::Service),
    Osd(commands::osd::Osd),
    Mrc(commands::mrc::Mrc),
    Dir(commands::dir::Dir),
    Exec(commands::daemon::Exec),
    Rms(commands::daemon::Rms),
    Vo(commands::daemon::Vo),
    Config(commands::config::Config),
    Whoami(commands::whoami::Whoami),
    Chaos(commands::chaos::Chaos),
    Debug(commands::debug::Debug),
    Explain(commands::explain::Explain),
    Completion(commands::completion::Completion),
    Man(commands::man::Man),
    InstallLinks(commands::links::InstallLinks),
}

impl Command {
    /// Runs it.
    pub(crate) fn run(self, global: &Global) -> Outcome {
        match self {
            Command::Up(command) => command.run(global),
            Command::Down(command) => command.run(global),
            Command::Ps(command) => command.run(global),
            Command::Start(command) => command.run(global),
            Command::Stop(command) => command.run(global),
            Command::Restart(command) => command.run(global),
            Command::Status(command) => command.run(global),
            Command::Doctor(command) => command.run(global),
            Command::Top(command) => command.run(global),
            Command::Stats(command) => command.run(global),
            Command::Profile(command) => command.run(global),
            Command::Mkfs(command) => command.run(global),
            Command::Rmfs(command) => command.run(global),
            Command::Ls(command) => command.run(global),
            Command::Df(command) => command.run(global),
            Command::Mount(command) => command.run(global),
            Command::Umount(command) => command.run(global),
            Command::Info(command) => command.run(global),
            Command::Watch(command) => command.run(global),
            Command::Du(command) => command.run(global),
            Command::Find(command) => command.run(global),
            Command::Replica(command) => command.run(global),
            Command::Bench(command) => command.run(global),
            Command::Warmup(command) => command.run(global),
            Command::Scrub(command) => command.run(global),
            Command::Acl(command) => command.run(global),
            Command::Quota(command) => command.run(global),
            Command::Fsck(command) => command.run(global),
            Command::Gc(command) => command.run(global),
            Command::Dump(command) => command.run(global),
            Command::Load(command) => command.run(global),
            Command::Trash(command) => command.run(global),
            Command::Snapshot(command) => command.run(global),
            Command::Clone(command) => command.run(global),
            Command::Layout(command) => command.run(global),
            Command::Job(command) => command.run(global),
            Command::Service(command) => command.run(global),
            Command::Osd(command) => command.run(global),
            Command::Mrc(command) => command.run(global),
            Command::Dir(command) => command.run(global),
            Command::Exec(command) => command.run(global),
            Command::Rms(command) => command.run(global),
            Command::Vo(command) => command.run(global),
            Command::Config(command) => command.run(global),
            Command::Whoami(command) => command.run(global),
            Command::Chaos(command) => command.run(global),
            Command::Debug(command) => command.run(global),
            Command::Explain(command) => command.run(global),
            Command::Completion(command) => command.run(global),
            Command::Man(command) => command.run(global),
            Command::InstallLinks(command) => command.run(global),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
        // Arguments of a command must not hide those that all commands have.
        let cli = Cli::command();
        let global: Vec<&clap::Id> = cli.get_arguments().map(clap::Arg::get_id).collect();
        for command in cli.get_subcommands() {
            for argument in command.get_arguments() {
                assert!(
                    !global.contains(&argument.get_id()),
                    "{} of {}",
                    argument.get_id(),
                    command.get_name()
                );
            }
        }
    }

    #[test]
    fn a_timeout_is_seconds() {
        let cli = Cli::try_parse_from(["xtfs", "ls", "h", "--timeout", "0.5"]).unwrap();
        assert_eq!(cli.global.timeout, Duration::from_millis(500));
        assert!(Cli::try_parse_from(["xtfs", "ls", "h", "--timeout", "-1"]).is_err());
    }
}
