//! How we work: `cargo xtask verify` reads and judges, `cargo xtask fix` writes, the rest are parts of them.
//!
//! Nothing of ours is used here, so that the gate builds in seconds and judges crates that do not compile.
//!
//! Reading order: [`verify`] (the gate) -> [`tidy`], [`layers`], [`licences`] (its parts) -> [`dst`] (the
//! simulator) -> [`finding`], [`tree`], [`code`] below all of them.

mod verify;

mod dst;
mod layers;
mod licences;
mod tidy;

mod code;
mod finding;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND
  verify               the read-only gate: format, clippy, tidy, layers, licences
  fix                  formats and lets clippy mend what it can
  tidy                 rules on files and documents
  layers               who may depend on whom
  licences             licences of all dependencies (cargo deny where it is installed)
  dst --seed N         one simulated run
  dst --seeds A..B     many simulated runs
  dst --meta N         the same seed twice, histories compared byte by byte";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = root();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["verify"] => verify::run(&root),
        ["fix"] => verify::fix(&root),
        ["tidy"] => finding::report("tidy", &tidy::check(&root)),
        ["layers"] => finding::report("layers", &layers::check(&root)),
        ["licences"] => licences::run(&root),
        ["dst", rest @ ..] => dst::run(&root, rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("xtask: {text}");
            ExitCode::FAILURE
        }
    }
}

/// The repository: the folder above this crate.
fn root() -> PathBuf {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| "xtask".into()));
    here.parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}
