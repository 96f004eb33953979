//! Small instances to their end, and every part of the protocol left out once.

use super::*;
use crate::check::{Limits, search};

#[test]
fn attributes_are_never_stale() {
    let scripts = [vec![Op::Get], vec![Op::Change]];
    let report = search(LeaseModel { scripts, faults: 0, fault: None }, Limits::default());
    assert!(report.complete && report.failures.is_empty(), "{report}");
}

#[test]
fn data_has_one_writer() {
    let report = search(LeaseModel::data(0), Limits::default());
    assert!(report.is_good(), "{report}");
}

#[test]
fn every_part_is_needed() {
    let attributes = |faults| LeaseModel { scripts: [vec![Op::Get], vec![Op::Change]], faults, fault: None };
    for (name, fault, model, property) in [
        ("no-time", Fault::NoTime, attributes(0), broken::EXCLUSION),
        ("late-grant", Fault::LateGrant, attributes(0), broken::STALE),
        ("no-fence", Fault::NoFence, LeaseModel::data(0), broken::FENCED),
        ("no-grace", Fault::NoGrace, attributes(1), broken::EXCLUSION),
        ("no-recall", Fault::NoRecall, attributes(0), broken::EXCLUSION),
        ("return-while-writing", Fault::ReturnWhileWriting, LeaseModel::data(0), broken::FENCED),
        ("clock-beyond-bound", Fault::ClockBeyondBound, attributes(1), broken::EXCLUSION),
    ] {
        assert!(Fault::ALL.contains(&(name, fault)));
        let report = search(LeaseModel { fault: Some(fault), ..model }, Limits::default());
        let found = report.failures.iter().map(|failure| failure.property).collect::<Vec<_>>();
        assert!(found.contains(&property), "{name} was not noticed: {report}");
        println!("{name}: {report}");
    }
}
