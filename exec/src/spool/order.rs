//! From a job to the supervisor's order: placeholders filled, paths and environment complete.

use super::users::Account;
use super::{Hands, job_path, unit_dir, user_path};
use crate::engine::Facts;
use crate::spec::{Program, fill};
use crate::store::StoreError;
use crate::supervisor::{DEFAULT_PATH, Order, Sink};

/// Between TERM and KILL at the time limit, milliseconds.
const TIMEOUT_GRACE_MS: u64 = 5_000;

impl Hands {
    /// The order for an attempt.
    pub(crate) async fn order(
        &self,
        account: &Account,
        facts: &Facts,
        attempt: u32,
    ) -> Result<Order, StoreError> {
        let spec = &facts.spec;
        let mount = self.set.mount.to_string_lossy().into_owned();
        let job_dir = job_path(&facts.user, &facts.id, "");
        let job_path_here = format!("{mount}/{job_dir}");
        let fill = |text: &str| {
            fill(text, &|word| match word {
                "id" => Some(facts.id.to_string()),
                "name" => Some(spec.name.clone()),
                "user" => Some(facts.user.clone()),
                "unit" => Some("0".into()),
                _ => None,
            })
        };
        let mut argv = match &spec.program {
            Program::Exec(path) => vec![home_path(&fill(path), account)],
            Program::Script(text) => interpreter(text.as_bytes(), &format!("{job_path_here}/script")),
            Program::Descriptor => {
                let most = crate::spec::DESCRIPTOR_BYTES_MAX;
                let text = self.store.read(&job_path(&facts.user, &facts.id, "spec.src"), most).await?;
                interpreter(&text, &format!("{job_path_here}/spec.src"))
            }
        };
        argv.extend(spec.args.iter().map(|a| fill(a)));
        let home =
            if std::path::Path::new(&account.home).is_dir() { account.home.clone() } else { "/".into() };
        let cwd = match &spec.cwd {
            Some(cwd) => {
                let cwd = home_path(&fill(cwd), account);
                if cwd.starts_with('/') { cwd } else { format!("{home}/{cwd}") }
            }
            // A bundle brings its inputs along.
            None if facts.file.ends_with(".job") => {
                format!("{mount}/{}", user_path(&facts.user, &format!("run/{}~{}", facts.file, facts.id)))
            }
            None => home,
        };
        let sink = |path: &Option<String>, default: &str| match path {
            Some(path) => Sink::UserPath {
                path: home_path(&fill(path), account),
                append: spec.append_output || attempt > 1,
            },
            None => Sink::JobFile(default.into()),
        };
        let stderr = match (&spec.stderr, &spec.stdout) {
            // As in other batch systems: one file for both when only stdout is named.
            (None, Some(_)) => sink(&spec.stdout, ""),
            (stderr, _) => sink(stderr, "stderr.txt"),
        };
        Ok(Order {
            job: facts.id.to_string(),
            unit: 0,
            attempt,
            epoch: self.lease.epoch(),
            node: self.set.node.clone(),
            unit_dir: unit_dir(attempt),
            data_dir: self.set.data_dir.to_string_lossy().into_owned(),
            identity: self.privileged.then(|| account.identity()),
            env: self.environment(account, facts, attempt, &job_path_here),
            stdin: spec.stdin.as_ref().map_or("/dev/null".into(), |p| home_path(&fill(p), account)),
            stdout: sink(&spec.stdout, "stdout.txt"),
            stderr,
            cpus: spec.resources.cpus,
            memory: spec.resources.memory,
            time_ms: spec.resources.time_ms,
            early_signal: spec.signal.as_ref().map(|s| (s.number, s.before_end_ms)),
            grace_ms: TIMEOUT_GRACE_MS,
            argv,
            cwd,
            mount,
            job_dir,
        })
    }

    /// Nothing is inherited from a daemon.
    fn environment(
        &self,
        account: &Account,
        facts: &Facts,
        attempt: u32,
        dir: &str,
    ) -> Vec<(String, String)> {
        let spec = &facts.spec;
        let mut out: Vec<(String, String)> = [
            ("PATH", DEFAULT_PATH.to_string()),
            ("HOME", account.home.clone()),
            ("USER", account.name.clone()),
            ("LOGNAME", account.name.clone()),
            ("SHELL", account.shell.clone()),
            ("LANG", "C.UTF-8".into()),
            ("XTFS_JOB_ID", facts.id.to_string()),
            ("XTFS_JOB_NAME", spec.name.clone()),
            ("XTFS_JOB_DIR", dir.to_string()),
            ("XTFS_JOB_CPUS", spec.resources.cpus.to_string()),
            ("XTFS_JOB_ATTEMPT", attempt.to_string()),
            ("XTFS_JOB_UNIT", "0".into()),
            ("XTFS_NODE", self.set.node.clone()),
        ]
        .map(|(k, v)| (k.to_string(), v))
        .into();
        if spec.program == Program::Descriptor {
            // What `#SBATCH` scripts look for.
            out.push(("SLURM_JOB_ID".into(), facts.id.to_string()));
            out.push(("SLURM_JOB_NAME".into(), spec.name.clone()));
            out.push(("SLURM_CPUS_PER_TASK".into(), spec.resources.cpus.to_string()));
        }
        for (key, value) in &spec.env {
            out.retain(|(k, _)| k != key);
            out.push((key.clone(), value.clone()));
        }
        out
    }
}

/// `~/x` is below the user's home.
fn home_path(path: &str, account: &Account) -> String {
    path.strip_prefix("~/").map_or_else(|| path.to_string(), |rest| format!("{}/{rest}", account.home))
}

/// What a script's first line asks for; a shell when it asks for nothing.
fn interpreter(script: &[u8], path: &str) -> Vec<String> {
    let first = script.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(first);
    let mut out = match line.strip_prefix("#!").map(str::trim).filter(|l| !l.is_empty()) {
        // As the kernel does it: everything after the first space is one argument.
        Some(line) => match line.split_once([' ', '\t']) {
            Some((program, argument)) => vec![program.to_string(), argument.trim().to_string()],
            None => vec![line.to_string()],
        },
        None => vec!["/bin/sh".to_string()],
    };
    out.push(path.to_string());
    out
}

#[cfg(test)]
mod tests {
    use super::interpreter;

    #[test]
    fn scripts_run_by_their_first_line() {
        assert_eq!(interpreter(b"#!/bin/bash\nx", "/p"), ["/bin/bash", "/p"]);
        assert_eq!(
            interpreter(b"#! /usr/bin/env  python3 -u\r\nx", "/p"),
            ["/usr/bin/env", "python3 -u", "/p"]
        );
        assert_eq!(interpreter(b"echo hello", "/p"), ["/bin/sh", "/p"]);
    }
}
