//! What the page promises, step by step, without a driver.

#[path = "voters_test.rs"]
mod voters_test;

use std::time::Duration;

use super::*;

type Engine = Column<u32, &'static str>;

const NOW: Duration = Duration::from_secs(1);

fn role(epoch: u64) -> Role {
    let member = |osd| Standing { osd, up: true, since: 1, votes: true };
    Role {
        epoch,
        primary: Some(1),
        members: (1..=3).map(member).collect(),
        previous: Vec::new(),
        all: false,
        heard: None,
    }
}

fn told(adopted: u64, objects: &[(u64, Version)]) -> Reply {
    Reply::Told(Told { adopted, objects: objects.to_vec(), ..Told::default() })
}

fn version(epoch: u64, number: u64) -> Version {
    Version { epoch, number }
}

/// Ids of the calls of a kind, by OSD.
fn calls(effects: &[Effect<u32, &'static str>], kind: fn(&Request<u32>) -> bool) -> Vec<(u64, u64)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Call { call, osd, what, .. } if kind(what) => Some((*osd, *call)),
            _ => None,
        })
        .collect()
}

fn works(effects: &[Effect<u32, &'static str>]) -> Vec<(u64, Work<u32>)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Work { work, what } => Some((*work, what.clone())),
            _ => None,
        })
        .collect()
}

fn answers(effects: &[Effect<u32, &'static str>]) -> Vec<(&'static str, Outcome)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Answer { waiter, outcome } => Some((*waiter, outcome.clone())),
            _ => None,
        })
        .collect()
}

fn called(call: u64, reply: Reply) -> Event<u32, &'static str> {
    Event::Called { call, result: Ok(reply), mine: Vec::new() }
}

fn worked(work: u64) -> Event<u32, &'static str> {
    Event::Worked { work, done: Some(Reply::Done) }
}

fn change(waiter: &'static str) -> Event<u32, &'static str> {
    Event::Change {
        object: 4,
        range: Range { from: 0, to: 9 },
        payload: 5,
        local: Version::default(),
        damaged: false,
        waiter,
    }
}

/// A primary that serves in epoch 7, with all three equal and empty.
fn serving() -> Engine {
    let mut engine = Engine::new(1, role(7), 0);
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "first" }, NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    assert_eq!(asks.iter().map(|(osd, _)| *osd).collect::<Vec<_>>(), [2, 3]);
    let (list, _) = works(&effects)[0];
    engine.handle(Event::Worked { work: list, done: Some(told(3, &[])) }, NOW);
    let early = engine.handle(called(asks[0].1, told(3, &[])), NOW);
    assert!(works(&early).is_empty(), "osd 3 may believe that it leads");
    let settled = engine.handle(called(asks[1].1, told(3, &[])), NOW);
    let adopts = calls(&settled, |what| matches!(what, Request::Adopt));
    assert_eq!(adopts.len(), 2);
    let (adopt, _) = works(&settled)[0];
    engine.handle(called(adopts[0].1, Reply::Done), NOW);
    let effects = engine.handle(worked(adopt), NOW);
    assert_eq!(answers(&effects), [("first", Outcome::Again)]);
    engine.handle(called(adopts[1].1, Reply::Done), NOW);
    assert!(engine.is_serving());
    engine
}

#[test]
fn who_has_no_room_to_adopt_is_asked_again_and_nothing_breaks() {
    let mut engine = Engine::new(1, role(7), 0);
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "first" }, NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    let (list, _) = works(&effects)[0];
    engine.handle(Event::Worked { work: list, done: Some(told(3, &[])) }, NOW);
    engine.handle(called(asks[0].1, told(3, &[])), NOW);
    let settled = engine.handle(called(asks[1].1, told(3, &[])), NOW);
    let adopts = calls(&settled, |what| matches!(what, Request::Adopt));
    let (adopt, _) = works(&settled)[0];
    let full = |call| Event::Called { call, result: Err(Trouble::NoSpace), mine: Vec::new() };
    let none = engine.handle(full(adopts[0].1), NOW);
    assert!(calls(&none, |_| true).is_empty(), "not at once, and its state is still known");
    let none = engine.handle(Event::Worked { work: adopt, done: Some(Reply::NoSpace) }, NOW);
    assert!(works(&none).is_empty() && !engine.is_broken());
    let later = engine.next_tick().expect("it is tried again");
    assert!(later > NOW && later <= NOW + Duration::from_secs(2));
    let again = engine.handle(Event::Tick, later);
    assert_eq!(calls(&again, |what| matches!(what, Request::Adopt)).len(), 1);
    let (adopt, _) = works(&again)[0];
    engine.handle(called(adopts[1].1, Reply::Done), later);
    let effects = engine.handle(worked(adopt), later);
    assert_eq!(answers(&effects), [("first", Outcome::Again)]);
}

#[test]
fn what_finds_no_room_at_the_primary_is_told_and_tried_again_until_it_is_there() {
    let mut engine = serving();
    let effects = engine.handle(change("w"), NOW);
    let (apply, _) = works(&effects)[0];
    for (_, call) in calls(&effects, |what| matches!(what, Request::Apply { .. })) {
        engine.handle(called(call, Reply::Applied), NOW);
    }
    assert!(works(&engine.handle(change("next"), NOW)).is_empty(), "one after the other");
    let none = engine.handle(Event::Worked { work: apply, done: Some(Reply::NoSpace) }, NOW);
    let refused = Outcome::Failed(Failure::NoSpace);
    assert_eq!(answers(&none), [("w", refused.clone()), ("next", refused)]);
    assert!(works(&none).is_empty() && !engine.is_broken() && engine.is_serving());
    let later = engine.next_tick().expect("it is tried again");
    assert!(later > NOW && later <= NOW + Duration::from_secs(2));
    let effects = engine.handle(Event::Tick, later);
    let (again, what) = works(&effects)[0].clone();
    assert!(
        matches!(what, Work::Apply { object: 4, version, .. } if version == self::version(7, 1)),
        "{what:?}"
    );
    // Still none, then some; what came behind it follows.
    engine.handle(Event::Worked { work: again, done: Some(Reply::NoSpace) }, later);
    let later = engine.next_tick().expect("and again");
    let (again, _) = works(&engine.handle(Event::Tick, later))[0].clone();
    let effects = engine.handle(worked(again), later);
    let (next, what) = works(&effects)[0].clone();
    assert!(
        matches!(what, Work::Apply { object: 4, version, .. } if version == self::version(7, 2)),
        "{what:?}"
    );
    engine.handle(worked(next), later);
    let read = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "reader" }, later);
    assert_eq!(answers(&read), [("reader", Outcome::Readable(7))]);
    assert!(engine.busy_objects().is_empty());
}

#[test]
fn new_data_is_not_numbered_while_a_majority_is_known_to_be_full() {
    let mut engine = serving();
    assert!(!engine.lacks_room(NOW));
    let effects = engine.handle(change("w"), NOW);
    let (apply, _) = works(&effects)[0];
    let sends = calls(&effects, |what| matches!(what, Request::Apply { .. }));
    engine.handle(worked(apply), NOW);
    let full = |call| Event::Called { call, result: Err(Trouble::NoSpace), mine: Vec::new() };
    assert!(answers(&engine.handle(full(sends[0].1), NOW)).is_empty());
    assert!(!engine.lacks_room(NOW), "two of three have room");
    let told = engine.handle(full(sends[1].1), NOW);
    assert_eq!(answers(&told), [("w", Outcome::Failed(Failure::NoSpace))]);
    assert!(engine.lacks_room(NOW));
    // It is looked again after a while.
    let later = engine.next_tick().expect("they are asked again");
    let effects = engine.handle(Event::Tick, later);
    assert!(!engine.lacks_room(later));
    assert_eq!(calls(&effects, |what| matches!(what, Request::Push { .. })).len(), 2);
}

#[test]
fn nobody_is_waited_for_in_an_epoch_that_is_older_than_a_lease() {
    let now = NOW + LEASE;
    for (heard, waits) in [(NOW, false), (NOW + Duration::from_millis(1), true)] {
        let mut engine = Engine::new(1, role(7).heard_at(Some(heard)), 0);
        let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "r" }, now);
        let asks = calls(&effects, |what| matches!(what, Request::Ask));
        let (list, _) = works(&effects)[0];
        engine.handle(Event::Worked { work: list, done: Some(told(3, &[])) }, now);
        let effects = engine.handle(called(asks[0].1, told(3, &[])), now);
        let adopts = calls(&effects, |what| matches!(what, Request::Adopt)).len();
        assert_eq!(adopts, usize::from(!waits), "heard of {heard:?} at {now:?}");
        let due = waits.then_some(heard + LEASE);
        assert_eq!(engine.next_tick(), due, "the rest of the lease, no more");
    }
}

#[test]
fn a_patch_is_taken_on_its_base_alone() {
    let mut engine = Engine::new(3, Role { primary: Some(1), ..role(7) }, 0);
    engine.handle(Event::Ask { epoch: 7, map: 7, waiter: "ask" }, NOW);
    let install = |local, damaged| Event::Install {
        epoch: 7,
        object: 4,
        base: Some(version(6, 3)),
        version: version(6, 9),
        payload: 5,
        local,
        damaged,
        waiter: "patch",
    };
    let refused = [("patch", Outcome::Replied(Reply::NeedsObject))];
    assert_eq!(answers(&engine.handle(install(version(6, 4), false), NOW)), refused);
    assert_eq!(answers(&engine.handle(install(version(6, 3), true), NOW)), refused);
    let there = engine.handle(install(version(6, 9), false), NOW);
    assert_eq!(answers(&there), [("patch", Outcome::Replied(Reply::Version(version(6, 9))))]);
    let effects = engine.handle(install(version(6, 3), false), NOW);
    let (work, what) = works(&effects)[0].clone();
    assert!(matches!(what, Work::Install { object: 4, .. }));
    // The store may find out as well that it does not fit.
    let done = engine.handle(Event::Worked { work, done: Some(Reply::NeedsObject) }, NOW);
    assert_eq!(answers(&done), refused);
}

#[test]
fn who_does_not_tell_is_waited_for_as_long_as_it_may_have_a_lease() {
    let mut engine = Engine::new(1, role(7), 0);
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "r" }, NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    let (list, _) = works(&effects)[0];
    engine.handle(Event::Worked { work: list, done: Some(told(3, &[])) }, NOW);
    let effects = engine.handle(called(asks[0].1, told(3, &[])), NOW);
    assert!(all_calls(&effects).is_empty() && works(&effects).is_empty());
    assert_eq!(engine.next_tick(), Some(NOW + LEASE));
    assert!(works(&engine.handle(Event::Tick, NOW + LEASE - Duration::from_millis(1))).is_empty());
    let effects = engine.handle(Event::Tick, NOW + LEASE);
    assert_eq!(calls(&effects, |what| matches!(what, Request::Adopt)).len(), 1, "without osd 3");
    // Or until it is known to be down.
    let mut engine = Engine::new(1, role(7), 0);
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "r" }, NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    let (list, _) = works(&effects)[0];
    engine.handle(Event::Worked { work: list, done: Some(told(3, &[])) }, NOW);
    engine.handle(called(asks[0].1, told(3, &[])), NOW);
    let mut without = role(7);
    without.members[2].up = false;
    let effects = engine.handle(Event::Map(without), NOW);
    assert_eq!(calls(&effects, |what| matches!(what, Request::Adopt)).len(), 1);
}

#[test]
fn a_change_is_answered_when_a_majority_has_it() {
    let mut engine = serving();
    let effects = engine.handle(change("w"), NOW);
    let sends = calls(&effects, |what| matches!(what, Request::Apply { number: 1, .. }));
    assert_eq!(sends.len(), 2, "one message to each replica");
    let (own, what) = works(&effects)[0].clone();
    assert_eq!(what, Work::Apply { object: 4, version: version(7, 1), payload: 5 });
    assert_eq!(answers(&engine.handle(worked(own), NOW)), []);
    let read =
        Event::Looked { epoch: 7, object: 4, range: Range { from: 8, to: 9 }, leased: true, waiter: "r" };
    assert_eq!(answers(&engine.handle(read, NOW)), [], "not committed: not shown");
    let done = answers(&engine.handle(called(sends[0].1, Reply::Applied), NOW));
    assert_eq!(done, [("w", Outcome::Committed(1)), ("r", Outcome::Readable(7))]);
}

/// Others may have applied a change already, and shown it to who reads without the primary.
#[test]
fn a_read_looks_when_what_was_numbered_before_it_is_applied_here() {
    let mut engine = serving();
    let effects = engine.handle(change("w"), NOW);
    let (own, _) = works(&effects)[0].clone();
    let read = |from, to, waiter| Event::Read { object: 4, range: Range { from, to }, waiter };
    assert_eq!(answers(&engine.handle(read(9, 20, "beside"), NOW)), [("beside", Outcome::Readable(7))]);
    assert_eq!(answers(&engine.handle(read(8, 20, "r"), NOW)), []);
    assert!(!engine.is_idle());
    assert_eq!(answers(&engine.handle(worked(own), NOW)), [("r", Outcome::Readable(7))]);
}

#[test]
fn without_a_lease_a_read_asks_a_majority() {
    let mut engine = serving();
    let read = Event::Looked { epoch: 7, object: 4, range: Range::ALL, leased: false, waiter: "r" };
    let effects = engine.handle(read, NOW);
    assert_eq!(answers(&effects), []);
    let confirms = calls(&effects, |what| matches!(what, Request::Confirm));
    assert_eq!(
        answers(&engine.handle(called(confirms[0].1, Reply::Done), NOW)),
        [("r", Outcome::Readable(7))]
    );
}

#[test]
fn a_newer_promise_ends_a_primary() {
    let mut engine = serving();
    let effects = engine.handle(change("w"), NOW);
    let sends = calls(&effects, |what| matches!(what, Request::Apply { .. }));
    let refused = Event::Called { call: sends[0].1, result: Err(Trouble::OldEpoch(9)), mine: Vec::new() };
    assert_eq!(answers(&engine.handle(refused, NOW)), [("w", Outcome::Failed(Failure::OldEpoch(9)))]);
    assert_eq!(answers(&engine.handle(change("x"), NOW)), [("x", Outcome::Failed(Failure::OldEpoch(9)))]);
}

#[test]
fn a_replica_takes_changes_in_order_and_repeats_for_nothing() {
    let mut engine = Engine::new(2, role(7), 0);
    let apply = |number, base, local, waiter| Event::Apply {
        epoch: 7,
        object: 4,
        base,
        number,
        payload: 5,
        local,
        waiter,
    };
    let early = engine.handle(apply(1, Version::default(), Version::default(), "a"), NOW);
    assert_eq!(
        answers(&early),
        [("a", Outcome::Failed(Failure::OldEpoch(7)))],
        "its state was not asked yet"
    );
    let effects = engine.handle(Event::Ask { epoch: 7, map: 7, waiter: "ask" }, NOW);
    let (list, _) = works(&effects)[0];
    engine.handle(Event::Worked { work: list, done: Some(told(0, &[])) }, NOW);
    // The second overtakes the first: it waits.
    let second = engine.handle(apply(2, version(7, 1), Version::default(), "b"), NOW);
    assert!(answers(&second).is_empty() && works(&second).is_empty());
    let first = engine.handle(apply(1, Version::default(), Version::default(), "a"), NOW);
    let (work, _) = works(&first)[0];
    let effects = engine.handle(worked(work), NOW);
    assert_eq!(answers(&effects), [("a", Outcome::Replied(Reply::Applied))]);
    let (work, _) = works(&effects)[0];
    let effects = engine.handle(worked(work), NOW);
    assert_eq!(answers(&effects), [("b", Outcome::Replied(Reply::Applied))]);
    let repeat = engine.handle(apply(1, Version::default(), version(7, 2), "c"), NOW);
    assert_eq!(answers(&repeat), [("c", Outcome::Replied(Reply::Applied))]);
    assert!(works(&repeat).is_empty());
    // A base that never comes.
    engine.handle(apply(9, version(7, 8), version(7, 2), "d"), NOW);
    let late = engine.handle(Event::Tick, NOW + PARKED);
    assert_eq!(answers(&late), [("d", Outcome::Replied(Reply::NeedsObject))]);
    let old = engine.handle(Event::Ask { epoch: 6, map: 7, waiter: "old" }, NOW);
    assert_eq!(answers(&old), [("old", Outcome::Failed(Failure::OldEpoch(7)))]);
}

#[test]
fn the_newest_state_of_those_who_adopted_last_wins() {
    let mut engine = Engine::new(1, role(7), 0);
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "r" }, NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    let (list, _) = works(&effects)[0];
    // Osd 1 kept a change of epoch 3 that epoch 5 was opened without: it is dead.
    let mine = told(3, &[(4, version(3, 9)), (8, version(3, 8))]);
    engine.handle(Event::Worked { work: list, done: Some(mine) }, NOW);
    let theirs = told(5, &[(4, version(5, 1))]);
    engine.handle(called(asks[0].1, theirs.clone()), NOW);
    let effects = engine.handle(called(asks[1].1, theirs), NOW);
    assert_eq!(calls(&effects, |what| matches!(what, Request::Fetch { .. })).len(), 2);
    assert_eq!(calls(&effects, |what| matches!(what, Request::Adopt)).len(), 2);
    assert_eq!(engine.lag(), (3, 2));
}

/// Of a list of so many, what opening asks for once `mine` and `theirs` were told.
fn opened(size: u64, mine: Reply, theirs: &[Reply]) -> (Engine, Vec<Effect<u32, &'static str>>) {
    let mut role = role(7);
    role.members = (1..=size).map(|osd| Standing { osd, up: true, since: 1, votes: true }).collect();
    let mut engine = Engine::new(1, role, 0);
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "r" }, NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    let (list, _) = works(&effects)[0];
    let mut effects = engine.handle(Event::Worked { work: list, done: Some(mine) }, NOW);
    for ((_, call), reply) in asks.iter().zip(theirs) {
        effects.extend(engine.handle(called(*call, reply.clone()), NOW));
    }
    (engine, effects)
}

fn forgot(adopted: u64, objects: &[(u64, Version)]) -> Reply {
    Reply::Told(Told { adopted, doubtful: true, objects: objects.to_vec(), ..Told::default() })
}

#[test]
fn the_sound_half_of_an_even_list_knows_all_that_was_committed() {
    let of = |reply: &[(u64, Version)]| told(5, reply);
    let (old, new) = ([(4, version(5, 1))], [(4, version(5, 2))]);
    let settles = |effects: &[Effect<u32, &'static str>]| {
        calls(effects, |what| matches!(what, Request::Adopt)).len()
            + calls(effects, |what| matches!(what, Request::Push { .. })).len()
            + calls(effects, |what| matches!(what, Request::Fetch { .. })).len()
    };
    // Power went away under one of two: what it forgot the other has.
    let (engine, effects) = opened(2, of(&new), &[forgot(5, &old)]);
    assert!(settles(&effects) > 0, "it opens");
    assert_eq!(engine.behind(), [(1, 0), (2, 1)], "the other lacks it");
    let (_, effects) = opened(2, forgot(5, &old), &[of(&new)]);
    assert_eq!(
        calls(&effects, |what| matches!(what, Request::Fetch { .. })).len(),
        1,
        "the leader forgot it"
    );
    // The other has to speak: without it no majority has promised.
    let (_, effects) = opened(2, of(&new), &[]);
    assert_eq!(settles(&effects), 0);
    // Of four, half; with less something may be known to nobody, and everybody is waited for.
    let (_, effects) = opened(4, of(&new), &[of(&old), forgot(5, &old), forgot(5, &old)]);
    assert!(settles(&effects) > 0);
    let (_, effects) = opened(4, of(&new), &[of(&old), forgot(5, &old)]);
    assert_eq!(settles(&effects), 0, "one more is up");
}

/// Found by the simulator: all machines lost power while a list was being changed, and the primary had settled its own state
/// before it died once more.
#[test]
fn a_list_that_is_half_sound_opens_beside_one_of_which_power_took_the_majority() {
    let member = |osd| Standing { osd, up: true, since: 1, votes: true };
    let lists =
        Role { members: [1, 2].map(member).into(), previous: [1, 2, 3].map(member).into(), ..role(7) };
    let mut engine = Engine::new(1, lists, 0);
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "r" }, NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    assert_eq!(asks.len(), 2);
    let (list, _) = works(&effects)[0];
    let (old, new) = ([(4, version(5, 1))], [(4, version(5, 2))]);
    engine.handle(Event::Worked { work: list, done: Some(told(6, &old)) }, NOW);
    assert!(
        all_calls(&engine.handle(called(asks[0].1, forgot(5, &new)), NOW)).is_empty(),
        "one has yet to tell"
    );
    let effects = engine.handle(called(asks[1].1, forgot(5, &old)), NOW);
    let fetched = calls(&effects, |what| matches!(what, Request::Fetch { object: 4, .. }));
    assert_eq!(fetched.len(), 1, "the newest that is left anywhere counts");
}

#[test]
fn what_a_doubtful_one_lacks_it_may_have_forgotten() {
    // Committed at both of two; then one lost power, and the other's copy rotted.
    let rotten = Reply::Told(Told {
        adopted: 5,
        objects: vec![(4, version(5, 2))],
        damaged: [4].into(),
        ..Told::default()
    });
    let (engine, _) = opened(2, rotten.clone(), &[forgot(5, &[(4, version(5, 1))])]);
    assert_eq!(engine.behind(), [(1, 1), (2, 1)], "the newer one stands: nobody may be shown the one before");
    // Who is sound and lacks it shows that it was never committed.
    let (engine, _) = opened(2, rotten, &[told(5, &[(4, version(5, 1))])]);
    assert_eq!(engine.behind(), [(1, 1), (2, 0)]);
}

#[test]
fn what_the_last_epoch_wrote_counts_wherever_it_is() {
    // Osd 2 has not adopted epoch 5 and took its changes; the copy of osd 1, which has, is damaged by a write that went elsewhere.
    let mut engine = Engine::new(1, role(7), 0);
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "r" }, NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    let (list, _) = works(&effects)[0];
    let mine = Told { adopted: 5, objects: vec![(4, version(5, 3))], damaged: [4].into(), ..Told::default() };
    engine.handle(Event::Worked { work: list, done: Some(Reply::Told(mine)) }, NOW);
    engine.handle(called(asks[0].1, told(3, &[(4, version(5, 4)), (8, version(4, 9))])), NOW);
    let effects = engine.handle(called(asks[1].1, told(5, &[(4, version(5, 1))])), NOW);
    let fetched = calls(&effects, |what| matches!(what, Request::Fetch { object: 4, .. }));
    assert_eq!(
        fetched.iter().map(|(osd, _)| *osd).collect::<Vec<_>>(),
        [2],
        "it has what the epoch wrote last"
    );
    assert_eq!(engine.behind(), [(1, 1), (2, 1), (3, 1)], "what osd 2 alone has of an earlier epoch is dead");
}

/// Versions of many objects; one of them as told.
fn many(one: u64, version_of_one: Version) -> Vec<(u64, Version)> {
    (1..=64).map(|object| (object, if object == one { version_of_one } else { version(6, object) })).collect()
}

/// All calls.
fn all_calls<'a>(effects: &'a [Effect<u32, &'static str>]) -> Vec<(u64, u64, &'a Request<u32>)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Call { call, osd, what, .. } => Some((*osd, *call, what)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_osd_that_comes_back_serves_before_it_has_everything() {
    // It lacks 64 objects, and of one of them only one replica has the last change: that one goes first.
    let mut engine = Engine::new(1, role(7), 0);
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "r" }, NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    let (list, _) = works(&effects)[0];
    engine.handle(Event::Worked { work: list, done: Some(told(5, &[])) }, NOW);
    engine.handle(called(asks[0].1, told(6, &many(40, version(6, 90)))), NOW);
    let effects = engine.handle(called(asks[1].1, told(6, &many(40, version(6, 40)))), NOW);
    let fetches = calls(&effects, |what| matches!(what, Request::Fetch { object: 40, .. }));
    assert_eq!(fetches.iter().map(|(osd, _)| *osd).collect::<Vec<_>>(), [2], "from the one that has it");
    let got = Event::Fetched { call: fetches[0].1, result: Ok((version(6, 90), 5)) };
    let effects = engine.handle(got, NOW);
    let (install, _) = works(&effects)[0];
    let effects = engine.handle(worked(install), NOW);
    let pushes = calls(&effects, |what| matches!(what, Request::Push { object: 40, .. }));
    assert_eq!(pushes.len(), 1);
    assert!(engine.is_awaited(40), "the column does not serve before");
    let effects = engine.handle(called(pushes[0].1, Reply::Version(version(6, 90))), NOW);
    let adopts = calls(&effects, |what| matches!(what, Request::Adopt));
    assert_eq!(adopts.iter().map(|(osd, _)| *osd).collect::<Vec<_>>(), [2, 3]);
    engine.handle(called(adopts[0].1, Reply::Done), NOW);
    let effects = engine.handle(called(adopts[1].1, Reply::Done), NOW);
    assert_eq!(answers(&effects), [("r", Outcome::Again)]);
    assert!(engine.is_serving() && engine.lag().1 > 60, "with most of its objects still elsewhere");
}

#[test]
fn what_somebody_waits_for_is_pushed_first() {
    let mut engine = serving();
    let mut back = role(7);
    back.members[2].since = 8;
    let effects = engine.handle(Event::Map(back.clone()), NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    let told = Ok(told(7, &[]));
    let effects =
        engine.handle(Event::Called { call: asks[0].1, result: told, mine: many(1, version(6, 1)) }, NOW);
    let under_way = all_calls(&effects).len();
    assert_eq!(under_way, REPAIRS_AT_ONCE);
    back.members[1].up = false;
    engine.handle(Event::Map(back), NOW);
    let local = version(6, 50);
    let range = Range { from: 0, to: 9 };
    let change = Event::Change { object: 50, range, payload: 5, local, damaged: false, waiter: "w" };
    let effects = engine.handle(change, NOW);
    assert!(all_calls(&effects).is_empty(), "the one that is left lacks the object");
    let (own, _) = works(&effects)[0];
    let effects = engine.handle(worked(own), NOW);
    assert!(
        matches!(all_calls(&effects)[..], [(3, _, Request::Push { object: 50, .. })]),
        "not behind the 60 others: {effects:?}"
    );
    assert!(engine.is_awaited(50) && !engine.is_awaited(51), "and not when there are places, but at once");
    let push = all_calls(&effects)[0].1;
    let effects = engine.handle(called(push, Reply::Version(version(7, 1))), NOW);
    assert_eq!(answers(&effects), [("w", Outcome::Committed(1))]);
    assert!(!engine.is_awaited(50));
}

/// A client's change of an object that is here at (7, 1), damaged.
fn change_of_damaged(waiter: &'static str) -> Event<u32, &'static str> {
    let (range, local) = (Range { from: 0, to: 9 }, version(7, 1));
    Event::Change { object: 4, range, payload: 5, local, damaged: true, waiter }
}

#[test]
fn a_damaged_object_is_got_from_others_before_it_is_changed() {
    let mut engine = serving();
    let effects = engine.handle(change_of_damaged("w"), NOW);
    assert!(works(&effects).is_empty(), "the next version would be nobody's but its own");
    let fetches = calls(&effects, |what| matches!(what, Request::Fetch { object: 4, .. }));
    assert_eq!(fetches.iter().map(|(osd, _)| *osd).collect::<Vec<_>>(), [2]);
    let got = Event::Fetched { call: fetches[0].1, result: Ok((version(7, 1), 5)) };
    let effects = engine.handle(got, NOW);
    let (install, what) = works(&effects)[0].clone();
    assert_eq!(what, Work::Install { object: 4, version: version(7, 1), payload: 5 });
    assert_eq!(answers(&engine.handle(worked(install), NOW)), [("w", Outcome::Again)]);
}

#[test]
fn a_version_that_is_damaged_here_and_nowhere_else_is_given_up_by_a_new_opening() {
    let mut engine = serving();
    let mut alone = role(7);
    (alone.members[1].up, alone.members[2].up) = (false, false);
    engine.handle(Event::Map(alone), NOW);
    let effects = engine.handle(change("w"), NOW);
    let (own, _) = works(&effects)[0];
    engine.handle(worked(own), NOW);
    let mine = vec![(4, version(7, 1))];
    let mut back = role(7);
    let mut refused = Vec::new();
    for (index, osd) in [(1, 2), (2, 3)] {
        // One after the other comes back without the change.
        (back.members[index].since, back.members[2].up) = (8, osd == 3);
        let effects = engine.handle(Event::Map(back.clone()), NOW);
        let asks = calls(&effects, |what| matches!(what, Request::Ask));
        assert_eq!(asks.iter().map(|(osd, _)| *osd).collect::<Vec<_>>(), [osd]);
        let answer = Event::Called { call: asks[0].1, result: Ok(told(7, &[])), mine: mine.clone() };
        let mut effects = engine.handle(answer, NOW);
        if let Some((_, call)) = calls(&effects, |what| matches!(what, Request::Push { .. })).first() {
            let damaged = Event::Called { call: *call, result: Err(Trouble::Damaged), mine: mine.clone() };
            effects = engine.handle(damaged, NOW);
        }
        assert!(engine.is_serving() == (osd == 2), "osd 3 may have had it, and it may be whole there");
        refused = answers(&effects);
    }
    assert!(engine.is_broken());
    assert_eq!(refused, [("w", Outcome::Failed(Failure::Broken))]);
}

#[test]
fn a_late_refusal_does_not_end_the_epoch_that_it_names() {
    let mut engine = serving();
    let effects = engine.handle(change("w"), NOW);
    let sends = calls(&effects, |what| matches!(what, Request::Apply { .. }));
    // This OSD leads the next epoch as well.
    let effects = engine.handle(Event::Map(role(9)), NOW);
    assert_eq!(answers(&effects), [("w", Outcome::Failed(Failure::OldEpoch(9)))]);
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "r" }, NOW);
    let asks = calls(&effects, |what| matches!(what, Request::Ask));
    assert_eq!(asks.len(), 2);
    let late = Event::Called { call: sends[0].1, result: Err(Trouble::OldEpoch(9)), mine: Vec::new() };
    assert_eq!(answers(&engine.handle(late, NOW)), [], "the opening goes on");
    let effects = engine.handle(Event::Read { object: 4, range: Range::ALL, waiter: "again" }, NOW);
    assert!(all_calls(&effects).is_empty(), "it is the same opening");
}
