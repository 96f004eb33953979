//! Deterministic simulation: builds the simulator once in release form and runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::verify::cargo;

/// So many seeds come by every fault site, or one of these is dead (chaos/README.md).
const ENOUGH_SEEDS: u64 = 1000;

/// What the simulator is asked.
#[derive(PartialEq, Eq, Debug)]
enum Ask {
    Run { seed: u64 },
    Soak { seeds: (u64, u64) },
    Meta { seed: u64 },
}

/// `--seed N`, `--seeds A..B` or `--meta N`.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let ask = parse(arguments)?;
    cargo(root, &["build", "--release", "--locked", "--quiet", "--package", "xtfs-chaos"])?;
    let words = match ask {
        Ask::Run { seed } => vec!["run".to_owned(), "--seed".to_owned(), seed.to_string()],
        Ask::Soak { seeds: (from, to) } => {
            let mut words = vec!["soak".to_owned(), "--seeds".to_owned(), format!("{from}..{to}")];
            words.extend((to - from >= ENOUGH_SEEDS).then(|| "--require-sites".to_owned()));
            words
        }
        Ask::Meta { seed } => vec!["meta".to_owned(), "--seed".to_owned(), seed.to_string()],
    };
    let binary = target(root).join("release/chaos");
    match Command::new(&binary).args(&words).current_dir(root).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("chaos {}: {status}", words.join(" "))),
        Err(error) => Err(format!("{} does not run: {error}", binary.display())),
    }
}

fn parse(arguments: &[&str]) -> Result<Ask, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}` is not a seed: {error}"));
    match arguments {
        ["--seed", seed] => Ok(Ask::Run { seed: number(seed)? }),
        ["--meta", seed] => Ok(Ask::Meta { seed: number(seed)? }),
        ["--seeds", range] => {
            let (from, to) = range.split_once("..").ok_or(format!("`{range}` is not A..B"))?;
            let (from, to) = (number(from)?, number(to)?);
            if from >= to {
                return Err(format!("the range {from}..{to} is empty"));
            }
            Ok(Ask::Soak { seeds: (from, to) })
        }
        _ => Err("dst takes --seed N, --seeds A..B or --meta N".to_owned()),
    }
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood() {
        assert_eq!(parse(&["--seed", "7"]), Ok(Ask::Run { seed: 7 }));
        assert_eq!(parse(&["--seeds", "1..100"]), Ok(Ask::Soak { seeds: (1, 100) }));
        assert_eq!(parse(&["--meta", "3"]), Ok(Ask::Meta { seed: 3 }));
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_built() {
        for bad in [&["--seed", "x"][..], &["--seeds", "5"], &["--seeds", "9..9"], &["--seed"], &[]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
