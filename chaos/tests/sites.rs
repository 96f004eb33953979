//! `chaos soak` tells which fault sites its seeds did not reach, and fails when it is asked to.

use std::process::{Command, Output};

fn soak(more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(["soak", "--seeds", "0..1", "--steps", "300"]).args(more);
    command.output().expect("the simulator runs")
}

#[test]
fn a_site_that_no_seed_hits_fails_a_soak_that_requires_all() {
    let free = soak(&[]);
    let text = String::from_utf8_lossy(&free.stdout).into_owned();
    assert!(free.status.success(), "{text}");
    let line = text.lines().find(|line| line.starts_with("fault sites: ")).expect("it tells");
    assert!(line.contains("; never: ") && line.contains("lease."), "{line}");

    let strict = soak(&["--require-sites"]);
    assert!(!strict.status.success());
    assert!(String::from_utf8_lossy(&strict.stderr).contains("no seed reaches"), "it says why");
    assert!(String::from_utf8_lossy(&strict.stdout).contains("; never: "), "it names them");
}

#[test]
fn hits_are_listed() {
    let text = String::from_utf8_lossy(&soak(&["--list-sites"]).stdout).into_owned();
    let hits = |name: &str| {
        let line = text.lines().find(|line| line.ends_with(&format!(" {name}"))).expect("it is listed");
        line.split_whitespace().next().and_then(|word| word.parse::<u32>().ok()).expect("a number")
    };
    assert!(hits("raft.election.won") > 0 && hits("lease.leader.new") > 0 && hits("column.open.begun") > 0);
}

#[test]
fn one_scenario_cannot_be_asked_for_all_sites() {
    assert!(!soak(&["--scenario", "leases", "--require-sites"]).status.success());
}
