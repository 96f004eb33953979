//! The gate: everything a machine can judge without running the system. It writes nothing; `fix` does.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::{finding, layers, licences, tidy};

type Stage<'a> = &'a dyn Fn() -> Result<(), String>;

/// Runs every check, also after one failed, so that one run shows all there is to mend.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let stages: [(&str, Stage<'_>); 5] = [
        ("format", &|| cargo(root, &["fmt", "--all", "--check"])),
        ("tidy", &|| finding::report("tidy", &tidy::check(root))),
        ("layers", &|| finding::report("layers", &layers::check(root))),
        ("licences", &|| licences::run(root)),
        ("clippy", &|| {
            cargo(
                root,
                &["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"],
            )
        }),
    ];
    let mut failed = Vec::new();
    for (name, stage) in stages {
        let start = Instant::now();
        let outcome = stage();
        let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("verify: {name:<9} {verdict} ({:.1} s)", start.elapsed().as_secs_f64());
        if let Err(text) = outcome {
            eprintln!("{text}");
            failed.push(name);
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        names => Err(format!("verify failed: {}; `cargo xtask fix` mends some of it", names.join(", "))),
    }
}

/// Mends what a machine can mend.
pub(crate) fn fix(root: &Path) -> Result<(), String> {
    cargo(
        root,
        &["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged", "--quiet"],
    )?;
    cargo(root, &["fmt", "--all"])
}

/// Runs cargo in the repository with its output on ours.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    match Command::new(program).args(arguments).current_dir(root).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo {}: {status}", arguments.join(" "))),
        Err(error) => Err(format!("cargo {}: does not run: {error}", arguments.join(" "))),
    }
}
