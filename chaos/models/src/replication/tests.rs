//! A small instance to its end, and every part of the protocol left out once.

use super::*;
use crate::check::{Limits, search};

fn small(faults: u8, fault: Option<Fault>) -> Replication {
    Replication { scripts: [vec![Op::Write(1)], vec![Op::Read]], faults, fault }
}

#[test]
fn what_one_fault_can_do_does_no_harm() {
    let report = search(small(1, None), Limits::default());
    assert!(report.complete && report.failures.is_empty(), "{report}");
}

#[test]
fn every_part_is_needed() {
    for (name, fault, faults, property) in [
        ("acked-not-applied", Fault::AckedNotApplied, 0, broken::LOST),
        ("epoch-ignored", Fault::EpochIgnored, 1, broken::LOST),
        ("lease-beyond-bound", Fault::LeaseBeyondBound, 1, broken::STALE),
    ] {
        assert!(Fault::ALL.contains(&(name, fault)));
        let report = search(small(faults, Some(fault)), Limits::default());
        let found = report.failures.iter().map(|failure| failure.property).collect::<Vec<_>>();
        assert!(found.contains(&property), "{name} was not noticed: {report}");
        println!("{name}: {report}");
    }
}
