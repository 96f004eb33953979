//! Policy `all`: voters and learners.

use super::*;
use crate::engine::replication::Failure;
use crate::engine::replication::primary::Phase;

/// Two copies: OSD 1 leads; `learner` does not vote.
fn all(epoch: u64, learner: Option<u64>) -> Role {
    let member = |osd| Standing { osd, up: true, since: 1, votes: learner != Some(osd) };
    Role { members: (1..=2).map(member).collect(), all: true, ..role(epoch) }
}

fn read(waiter: &'static str) -> Event<u32, &'static str> {
    Event::Read { object: 4, range: Range::ALL, waiter }
}

fn ask(engine: &mut Engine) -> (u64, u64) {
    let effects = engine.handle(read("first"), NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    (works(&effects)[0].0, asks.first().map_or(0, |ask| ask.1))
}

/// Both have told the same, and have adopted.
fn serving_all(learner: Option<u64>) -> Engine {
    let mut engine = Engine::new(1, all(7, learner), 0);
    let (list, asked) = ask(&mut engine);
    engine.handle(Event::Worked { work: list, done: Some(told(3, &[])) }, NOW);
    let effects = engine.handle(called(asked, told(3, &[])), NOW);
    let adopts = calls(&effects, |what| matches!(what, Request::Adopt));
    let (adopt, _) = works(&effects)[0];
    let early = answers(&engine.handle(worked(adopt), NOW));
    assert_eq!(
        early.is_empty(),
        learner.is_none(),
        "every voter adopts before it serves, a learner is not waited for"
    );
    engine.handle(called(adopts[0].1, Reply::Done), NOW);
    assert!(engine.is_serving());
    engine
}

#[test]
fn a_change_is_answered_when_every_voter_has_it() {
    let mut engine = serving_all(None);
    let effects = engine.handle(change("w"), NOW);
    let sends = calls(&effects, |what| matches!(what, Request::Apply { .. }));
    assert_eq!(answers(&engine.handle(worked(works(&effects)[0].0), NOW)), [], "one of two is not enough");
    assert_eq!(
        answers(&engine.handle(called(sends[0].1, Reply::Applied), NOW)),
        [("w", Outcome::Committed(1))]
    );
}

#[test]
fn nobody_waits_for_a_learner_and_it_gets_everything() {
    let mut engine = serving_all(Some(2));
    let effects = engine.handle(change("w"), NOW);
    assert_eq!(calls(&effects, |what| matches!(what, Request::Apply { .. })).len(), 1);
    assert_eq!(answers(&engine.handle(worked(works(&effects)[0].0), NOW)), [("w", Outcome::Committed(1))]);
    let effects = engine.handle(Event::Sync { waiter: "s" }, NOW);
    assert!(
        calls(&effects, |what| matches!(what, Request::Sync)).is_empty(),
        "it has not answered the change"
    );
    let sync = works(&effects).iter().find(|(_, what)| *what == Work::Sync).unwrap().0;
    assert_eq!(answers(&engine.handle(worked(sync), NOW)), [("s", Outcome::Synced)]);
}

#[test]
fn a_learner_that_leads_answers_when_the_voter_has_it() {
    let mut engine = serving_all(None);
    engine.handle(Event::Map(all(8, Some(1))), NOW);
    let (list, asked) = ask(&mut engine);
    engine.handle(Event::Worked { work: list, done: Some(told(7, &[])) }, NOW);
    let effects = engine.handle(called(asked, told(7, &[])), NOW);
    let adopts = calls(&effects, |what| matches!(what, Request::Adopt));
    engine.handle(worked(works(&effects)[0].0), NOW);
    assert!(!engine.is_serving(), "its own adopting counts for nothing");
    engine.handle(called(adopts[0].1, Reply::Done), NOW);
    let effects = engine.handle(change("w"), NOW);
    let sends = calls(&effects, |what| matches!(what, Request::Apply { .. }));
    assert_eq!(answers(&engine.handle(worked(works(&effects)[0].0), NOW)), []);
    assert_eq!(
        answers(&engine.handle(called(sends[0].1, Reply::Applied), NOW)),
        [("w", Outcome::Committed(1))]
    );
}

#[test]
fn who_waits_for_a_voter_that_goes_down_is_told() {
    let mut engine = serving_all(None);
    engine.handle(change("w"), NOW);
    engine.handle(Event::Sync { waiter: "s" }, NOW);
    engine.handle(Event::Looked { epoch: 7, object: 4, range: Range::ALL, leased: true, waiter: "r" }, NOW);
    let mut down = all(7, None);
    down.members[1].up = false;
    let refused = Outcome::Failed(Failure::VoterDown(2));
    let told = answers(&engine.handle(Event::Map(down), NOW));
    assert_eq!(told, ["w", "r", "s"].map(|waiter| (waiter, refused.clone())));
    assert_eq!(answers(&engine.handle(change("later"), NOW)), [("later", refused.clone())]);
    assert_eq!(answers(&engine.handle(Event::Sync { waiter: "sync" }, NOW)), [("sync", refused)]);
    let beside = Event::Read { object: 5, range: Range::ALL, waiter: "beside" };
    assert_eq!(
        answers(&engine.handle(beside, NOW)),
        [("beside", Outcome::Readable(7))],
        "what is there is read"
    );
}

#[test]
fn an_opening_needs_one_voter_that_has_everything() {
    // OSD 2 is down and was made a learner: OSD 1 alone, as the only voter, opens.
    let mut alone = all(9, Some(2));
    alone.members[1].up = false;
    let mut engine = Engine::new(1, alone.clone(), 0);
    let (list, _) = ask(&mut engine);
    let effects = engine.handle(Event::Worked { work: list, done: Some(told(3, &[])) }, NOW);
    assert_eq!(answers(&engine.handle(worked(works(&effects)[0].0), NOW)), [("first", Outcome::Again)]);
    // The learner alone does not, however long it waits.
    let mut learner = all(9, Some(1));
    learner.members[1].up = false;
    let mut engine = Engine::new(1, learner, 0);
    let (list, _) = ask(&mut engine);
    engine.handle(Event::Worked { work: list, done: Some(told(3, &[])) }, NOW);
    assert!(works(&engine.handle(Event::Tick, NOW + LEASE * 2)).is_empty());
    // Nor does a voter that may have forgotten what it had while there was another one.
    let doubtful = Reply::Told(Told { adopted: 3, doubtful: true, ..Told::default() });
    let both = Role { members: all(9, None).members, ..alone };
    let mut down = both.clone();
    down.members[1].up = false;
    let mut engine = Engine::new(1, down, 0);
    let (list, _) = {
        let effects = engine.handle(read("first"), NOW);
        // Its voter is down: it is told so, and the opening goes on.
        (works(&effects)[0].0, answers(&effects))
    };
    let effects = engine.handle(Event::Worked { work: list, done: Some(doubtful.clone()) }, NOW + LEASE * 2);
    assert!(works(&effects).is_empty());
    let effects = engine.handle(Event::Map(both), NOW + LEASE * 2);
    let asked = calls(&effects, |what| matches!(what, Request::Ask))[0].1;
    let effects = engine.handle(called(asked, told(3, &[(4, version(3, 1))])), NOW + LEASE * 2);
    assert_eq!(
        calls(&effects, |what| matches!(what, Request::Fetch { object: 4, .. })).len(),
        1,
        "the other one's counts"
    );
}

#[test]
fn the_state_comes_from_voters_of_the_list_before_until_the_view_was_opened() {
    // View 2: OSD 2 votes again; before, only OSD 1 did. OSD 1 is down.
    let epoch = (1 << 40) | 9;
    let standing = |osd, votes| Standing { osd, up: osd == 2, since: 1, votes };
    let role = Role {
        epoch,
        primary: Some(2),
        members: vec![standing(1, true), standing(2, true)],
        previous: vec![standing(1, true), standing(2, false)],
        all: true,
        heard: None,
    };
    let opens = |adopted: u64| {
        let mut engine = Engine::new(2, role.clone(), 0);
        let effects = engine.handle(read("first"), NOW);
        let list = works(&effects)[0].0;
        engine.handle(Event::Worked { work: list, done: Some(told(adopted, &[])) }, NOW + LEASE * 2);
        engine.handle(Event::Tick, NOW + LEASE * 2);
        engine.primary.as_ref().is_some_and(|primary| primary.phase == Phase::Settling)
    };
    assert!(!opens(8), "it may lack what OSD 1 has");
    assert!(
        opens((1 << 40) | 8),
        "whoever adopted an epoch of the view shows that all its voters have everything"
    );
}
