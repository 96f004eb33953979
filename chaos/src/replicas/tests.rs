//! A few runs, and the proof that runs repeat.

use super::{Broken, run, run_broken};
use crate::raft::Plan;

#[test]
fn seeds_hold_all_invariants() {
    let (mut operations, mut patches) = (0, std::collections::BTreeMap::new());
    for seed in 0..30 {
        let outcome = run(Plan { seed, steps: 4000, keep_log: false, blackout: false });
        assert_eq!(outcome.violation, None, "seed {seed}");
        operations += outcome.operations;
        for (what, count) in outcome.faults {
            *patches.entry(what).or_insert(0) += count;
        }
    }
    // Each way to bring a replica into sync was gone, and the digest has caught what checksums did not show.
    for way in ["trail", "compare", "patch refused", "slow or not", "demoted", "promoted"] {
        assert!(patches.get(way).is_some_and(|count| *count > 10), "{way} is missing in {patches:?}");
    }
    for way in ["hedged", "read by replicas"] {
        assert!(patches.get(way).is_some_and(|count| *count > 100), "{way} is missing in {patches:?}");
    }
    assert!(operations > 2500, "only {operations} operations in all runs: the clients do not get through");
}

#[test]
fn after_all_machines_lost_power_what_was_synced_is_there() {
    for seed in 100..110 {
        let outcome = run(Plan { seed, steps: 3000, keep_log: false, blackout: true });
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}

/// Every condition of a read without the primary is needed, and the invariants say so.
#[test]
fn a_condition_that_is_left_out_is_noticed() {
    let cases = [
        (Broken::OneWord, 0..20, "fresh reads"),
        (Broken::LooksOnce, 0..20, "same bytes"),
        (Broken::LooksEarly, 0..400, "fresh reads"),
        (Broken::VotesAtOnce, 0..400, "fresh reads"),
    ];
    for (broken, mut seeds, invariant) in cases {
        let noticed = seeds.find_map(|seed| {
            let plan = Plan { seed, steps: 4000, keep_log: false, blackout: false };
            run_broken(plan, Some(broken)).violation
        });
        let violation = noticed.unwrap_or_else(|| panic!("{broken:?} was not noticed"));
        assert!(violation.to_string().contains(invariant), "{broken:?}: {violation}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 4] {
        let log = || run(Plan { seed, steps: 2000, keep_log: true, blackout: false }).log;
        let (first, second) = (log(), log());
        assert!(first.lines().count() > 500);
        assert!(first == second, "seed {seed} gave two different runs");
    }
}
