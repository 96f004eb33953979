//! Two replicas that apply the same log hold the same bytes.

use crate::fsck;
use crate::harness::Replica;

#[test]
fn the_same_log_gives_the_same_table() {
    let mut first = Replica::new();
    let a = first.mkdir(1, "a", 0o755).unwrap().ino;
    let b = first.mkdir(a, "b", 0o755).unwrap().ino;
    for round in 0..40u64 {
        let file = first.create(a, &format!("f{round}"), true).unwrap().attr.ino;
        first.setxattr(file, "user.round", Some(&round.to_le_bytes()), 0).unwrap();
        first.lock(file, (round % 3 + 1, 1), (round, round + 10), 1).unwrap();
        match round % 4 {
            0 => first.unlink(a, &format!("f{round}"), file).unwrap(),
            1 => first.unlink(a, &format!("f{round}"), 0).unwrap(),
            2 => first.rename((a, &format!("f{round}")), (b, "moved"), 0, 0).unwrap(),
            _ => drop(first.mkdir(a, "b", 0o700).unwrap_err()),
        }
    }
    fsck::check(&first.table);
    let second = Replica::new();
    for (at, command) in first.log.iter().skip(1) {
        // Refusals are answers: only the table counts here.
        let _ = second.apply(*at, command);
    }
    assert_eq!(first.table.dump(), second.table.dump());
}

/// A command that was decided on names that moved is decided anew under the same origin: its answer must not be kept.
#[test]
fn an_answer_that_asks_to_decide_anew_is_not_recorded() {
    use mrc::command;
    use quorum::StateMachine;
    let machine = mrc::Machine::new();
    assert!(!StateMachine::is_recorded(&machine, &command::moved()));
    assert!(StateMachine::is_recorded(&machine, &command::answer(Ok(Vec::new()))));
}
