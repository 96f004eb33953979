//! Small instances searched to their end, and the parts of the protocols left out one by one: each must be noticed.

use std::hash::Hash;

use models::check::{Limits, Readable, Report, search};
use models::leases::{self, LeaseModel};
use models::replication::{self, Replication};
use models::sessions::{self, Sessions};
use models::staging::{self, Staging};

/// All was looked at and holds. `missed`: what only more faults or operations reach.
fn holds(report: &Report, missed: &[&str]) {
    assert!(report.complete && report.failures.is_empty(), "{report}");
    assert_eq!(report.missed, missed, "{report}");
}

fn breaks<M>(name: &str, model: M, property: &'static str)
where
    M: Readable + Clone + Send + Sync + 'static,
    M::State: Clone + PartialEq + Hash + Send + Sync + 'static,
    M::Action: Clone + PartialEq,
{
    let report = search(model, Limits { until: Some(property), ..Limits::default() });
    let found: Vec<&str> = report.failures.iter().map(|failure| failure.property).collect();
    assert!(found.contains(&property), "{name} was not noticed: {report}");
    assert!(report.failures.iter().all(|failure| failure.trace.len() > 1), "{name}: {report}");
}

#[test]
fn replication_without_faults_holds() {
    let faultless = [
        "two epochs commit",
        "a client reads what was written in an epoch before",
        "a former primary has a lease while another one leads",
        "an older epoch is refused",
    ];
    holds(&search(Replication::new(0), Limits::default()), &faultless);
}

#[test]
fn replication_with_a_fault_holds() {
    let one_write = ["two writes are acknowledged", "two epochs commit"];
    holds(&search(Replication::small(1), Limits::default()), &one_write);
}

#[test]
fn reads_without_the_primary_with_a_fault_hold() {
    let one_write = ["two writes are acknowledged", "two epochs commit"];
    holds(&search(Replication::clean(1), Limits::default()), &one_write);
}

#[test]
fn reads_without_the_primary_need_two_words_of_an_epoch() {
    let stale = "no read is older than what was acknowledged before it";
    column_breaks(replication::Fault::OneWord, Replication::clean(0), stale);
    column_breaks(replication::Fault::OpenNotAsked, Replication::clean(1), LOST);
    column_breaks(replication::Fault::DoubtfulSays, Replication::clean(1), stale);
}

/// Replication without a part of it.
fn column_breaks(fault: replication::Fault, model: Replication, property: &'static str) {
    breaks(&format!("{fault:?}"), Replication { fault: Some(fault), ..model }, property);
}

const LOST: &str = "a majority that adopted its epoch or a later one holds what was acknowledged";

#[test]
fn what_a_minority_applied_is_lost() {
    column_breaks(replication::Fault::AckedNotApplied, Replication::small(0), LOST);
}

#[test]
fn what_a_doubtful_replica_had_is_lost_when_it_says_nothing() {
    column_breaks(replication::Fault::DoubtNotTold, Replication::small(1), LOST);
}

#[test]
fn what_a_deposed_primary_commits_is_lost() {
    column_breaks(replication::Fault::EpochIgnored, Replication::small(1), LOST);
}

#[test]
fn a_read_under_a_lease_beyond_its_bound_is_stale() {
    let stale = "no read is older than what was acknowledged before it";
    column_breaks(replication::Fault::LeaseBeyondBound, Replication::small(1), stale);
}

#[test]
fn two_lives_commit_in_an_epoch_when_promises_are_forgotten() {
    let two = "one OSD in one life commits in an epoch";
    column_breaks(replication::Fault::PromiseNotDurable, Replication::writes(1), two);
}

#[test]
fn one_version_is_two_contents_when_promises_are_forgotten() {
    let bytes = "the same version is the same bytes";
    column_breaks(replication::Fault::PromiseNotDurable, Replication::writes(1), bytes);
}

#[test]
fn a_client_waits_for_ever_when_losses_are_not_told() {
    let waits = "nobody waits when all is quiet";
    column_breaks(replication::Fault::LossNotTold, Replication::write(2), waits);
}

#[test]
fn a_mutation_is_done_once_with_a_fault() {
    holds(&search(Sessions::small(1), Limits::default()), &[]);
}

#[test]
fn a_mutation_is_done_once() {
    let alone = ["two members believe to lead", "an entry is taken back"];
    holds(&search(Sessions::small(0), Limits::default()), &alone);
}

#[test]
fn sessions_need_their_parts() {
    use sessions::Fault;
    let cases = [
        (Fault::NoDedup, 0, [1, 1], "a mutation is done once"),
        (Fault::DedupAtDoorOnly, 0, [1, 1], "a mutation is done once"),
        (Fault::AnswerBeforeCommit, 0, [1, 1], "an acknowledged mutation is done"),
        (Fault::AnswerBeforeCommit, 1, [1, 1], "the answer is that of the mutation, whoever gives it"),
        (Fault::CommitAlone, 1, [1, 1], "what is committed stays"),
        (Fault::VoteForAnybody, 1, [1, 1], "what is committed stays"),
        (Fault::AckedTooEarly, 0, [2, 0], "nobody who waits hears that his answer was forgotten"),
    ];
    for (fault, faults, mutations, property) in cases {
        let model = Sessions { mutations, fault: Some(fault), ..Sessions::small(faults) };
        breaks(&format!("{fault:?}"), model, property);
    }
}

#[test]
fn what_is_staged_is_committed_or_worth_nothing() {
    holds(&search(Staging::small(0), Limits::default()), &[]);
}

#[test]
fn what_is_staged_outlives_a_fault() {
    holds(&search(Staging::small(1), Limits::default()), &[]);
}

#[test]
fn staging_needs_its_parts() {
    use staging::Fault;
    let lost = "what was acknowledged is at its OSD or in a slot, or its loss was told";
    let fenced = "no write arrives while somebody else has the right to write";
    let shared = "nobody else has the right to write while a piece is worth something";
    let cases = [
        (Fault::AckBeforeStage, 1, lost),
        (Fault::ReturnUnwritten, 0, shared),
        (Fault::NoFence, 0, fenced),
        (Fault::ReplayAnyEpoch, 1, shared),
        (Fault::CrossedOutEarly, 0, lost),
        (Fault::Overtaking, 0, lost),
        (Fault::LateAttempt, 1, fenced),
    ];
    for (fault, faults, property) in cases {
        let model = Staging { fault: Some(fault), ..Staging::small(faults) };
        breaks(&format!("{fault:?}"), model, property);
    }
}

#[test]
fn what_clients_keep_is_so() {
    holds(&search(LeaseModel::small(0), Limits::default()), &[]);
}

#[test]
fn what_clients_keep_is_so_when_a_clock_loses_what_it_may() {
    let model = LeaseModel { clocks_only: true, ..LeaseModel::small(1) };
    holds(&search(model, Limits::default()), &[]);
}

#[test]
fn who_may_write_is_alone() {
    holds(&search(LeaseModel::data(0), Limits::default()), &[]);
}

#[test]
fn leases_need_their_parts() {
    use leases::Fault;
    let stale = "no client answers from a lease what is not so any more";
    let alone = "a change is applied when nobody else keeps what it changes";
    let fenced = "no write arrives while somebody else holds the data";
    let clocks = LeaseModel { clocks_only: true, ..LeaseModel::small(1) };
    let cases = [
        (Fault::NoRecall, LeaseModel::small(0), alone),
        (Fault::NoRecall, LeaseModel::small(0), stale),
        (Fault::NoTime, LeaseModel::small(0), stale),
        (Fault::LateGrant, LeaseModel::small(0), stale),
        (Fault::ReturnWhileWriting, LeaseModel::data(0), fenced),
        (Fault::NoFence, LeaseModel::data(0), fenced),
        (Fault::NoGrace, LeaseModel::small(1), alone),
        (Fault::ClockBeyondBound, clocks.clone(), stale),
        (Fault::RenewedInMargin, clocks, stale),
    ];
    for (fault, model, property) in cases {
        breaks(&format!("{fault:?}"), LeaseModel { fault: Some(fault), ..model }, property);
    }
}
