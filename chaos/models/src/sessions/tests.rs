//! A small instance to its end, and every part of the protocol left out once.

use super::*;
use crate::check::{Limits, search};

#[test]
fn a_mutation_is_done_once() {
    let model = Sessions { mutations: [1, 1], ..Sessions::new(1) };
    let report = search(model, Limits::default());
    assert!(report.complete && report.failures.is_empty(), "{report}");
    assert_eq!(report.missed, Vec::<&str>::new());
}

#[test]
fn every_part_is_needed() {
    for (name, fault, faults, mutations, property) in [
        ("no-dedup", Fault::NoDedup, 0, [1, 0], broken::TWICE),
        ("dedup-at-door-only", Fault::DedupAtDoorOnly, 0, [1, 0], broken::TWICE),
        ("answer-before-commit", Fault::AnswerBeforeCommit, 0, [1, 0], broken::LOST),
        ("commit-alone", Fault::CommitAlone, 1, [1, 0], broken::FORKED),
        ("vote-for-anybody", Fault::VoteForAnybody, 1, [1, 0], broken::FORKED),
        ("acked-too-early", Fault::AckedTooEarly, 0, [2, 0], broken::FORGOTTEN),
    ] {
        assert!(Fault::ALL.contains(&(name, fault)));
        let model = Sessions { mutations, fault: Some(fault), ..Sessions::new(faults) };
        let report = search(model, Limits::default());
        let found = report.failures.iter().map(|failure| failure.property).collect::<Vec<_>>();
        assert!(found.contains(&property), "{name} was not noticed: {report}");
        println!("{name}: {report}");
    }
}
