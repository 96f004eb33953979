//! The model to its end, and every part of the protocol left out once.

use super::*;
use crate::check::{Limits, search};

fn small(faults: u8, fault: Option<Fault>) -> Staging {
    Staging { scripts: [vec![0, 0], vec![0, 1]], faults, fault }
}

#[test]
fn what_is_staged_is_committed_or_worth_nothing() {
    let report = search(small(1, None), Limits::default());
    assert!(report.is_good(), "{report}");
}

#[test]
fn every_part_is_needed() {
    for (name, fault, faults, property) in [
        ("ack-before-stage", Fault::AckBeforeStage, 1, broken::LOST),
        ("return-unwritten", Fault::ReturnUnwritten, 0, broken::SHARED),
        ("no-fence", Fault::NoFence, 0, broken::FENCED),
        ("replay-any-epoch", Fault::ReplayAnyEpoch, 1, broken::SHARED),
        ("crossed-out-early", Fault::CrossedOutEarly, 0, broken::LOST),
        ("overtaking", Fault::Overtaking, 0, broken::LOST),
        ("late-attempt", Fault::LateAttempt, 1, broken::LOST),
    ] {
        assert!(Fault::ALL.contains(&(name, fault)));
        let report = search(small(faults, Some(fault)), Limits::default());
        let found = report.failures.iter().map(|failure| failure.property).collect::<Vec<_>>();
        assert!(found.contains(&property), "{name} was not noticed: {report}");
        println!("{name}: {report}");
    }
}
