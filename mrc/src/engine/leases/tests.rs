//! One behaviour each.

use super::*;
use proto::mrc::{LEASE_ATTR as A, LEASE_NAMES as N, LEASE_READ as R, LEASE_WRITE as W};

const F: FileId = (1, 7);
const G: FileId = (1, 8);
const TIMES: Times = Times {
    ttl: Duration::from_secs(6),
    margin: Duration::from_millis(500),
    cool: Duration::from_millis(100),
    per_session: 3,
};
const END: Duration = Duration::from_millis(6500);
const T0: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A leader with these sessions taking part since [`T0`].
fn leading(sessions: &[u64]) -> Leases {
    let mut leases = Leases::new(TIMES);
    leases.lead(Duration::ZERO, 1000, []);
    for session in sessions {
        leases.open_session(T0, *session, told(5, true, &[])).unwrap();
    }
    leases.take_effects();
    leases
}

fn told(epoch: u64, part: bool, told: &[(FileId, u32)]) -> Opening<'_> {
    Opening { number: 0, epoch, part, told }
}

/// The expulsion that was asked for, and nothing else.
fn expulsion(leases: &mut Leases) -> (u64, u64, bool) {
    match leases.take_effects()[..] {
        [Effect::Expel { session, number, wrote }] => (session, number, wrote),
        ref other => panic!("{other:?}"),
    }
}

fn bits(grant: Option<LeaseGrant>) -> u32 {
    grant.map_or(0, |grant| grant.bits)
}

fn change(file: FileId, recall: u32) -> Claims {
    Claims::default().with(Claim::change(file, recall))
}

fn begin(leases: &mut Leases, now: Duration, session: u64, claims: Claims) -> (Pass, bool) {
    let begun = leases.begin(now, session, claims);
    leases.invariants();
    match begun {
        Begun::Free(pass) => (pass, false),
        Begun::Waits(pass) => (pass, true),
        other => panic!("{other:?}"),
    }
}

/// Returns what a session is asked for.
fn give_back(leases: &mut Leases, now: Duration, session: u64) {
    for recall in leases.recalls(session, 0, 100) {
        leases.returned(now, session, (recall.volume, recall.ino), recall.bits, recall.number);
        leases.invariants();
    }
}

#[test]
fn nothing_is_given_before_a_session_takes_part() {
    let mut leases = leading(&[]);
    leases.open_session(T0, 1, told(5, false, &[])).unwrap();
    assert_eq!(leases.grant(T0, 1, F, A), None);
    assert_eq!(leases.acquire(T0, 1, F, W), Acquired::Given(None));
    assert_eq!(leases.grant(T0, 9, F, A), None, "nobody knows it");
    assert!(leases.enable(1) && !leases.enable(1));
    assert_eq!(bits(leases.grant(T0, 1, F, A)), A);
    leases.invariants();
}

#[test]
fn a_session_that_joins_waits_for_changes_without_a_mark() {
    let mut leases = leading(&[]);
    leases.open_session(T0, 1, told(5, false, &[])).unwrap();
    let (unmarked, waits) = begin(&mut leases, T0, 2, change(F, A));
    assert!(!waits && unmarked.ticket().is_none());
    leases.enable(1);
    assert_eq!(leases.grant(T0, 1, G, A), None, "nobody knows what the change is about");
    let (marked, _) = begin(&mut leases, T0, 1, change(G, A));
    assert!(marked.ticket().is_some(), "or joining would never end under load");
    leases.finish(T0, &unmarked, true);
    assert_eq!(bits(leases.grant(T0, 1, F, A)), A);
    leases.finish(T0, &marked, true);
}

#[test]
fn the_only_session_is_never_in_its_own_way_and_leaves_no_trace() {
    let mut leases = leading(&[1]);
    assert_eq!(bits(leases.grant(T0, 1, F, A | R | W)), A | R | W);
    let (pass, waits) = begin(&mut leases, T0, 1, change(F, A | R | W));
    assert!(!waits && pass.ticket().is_none());
    assert_eq!(bits(leases.grant(T0, 1, F, A)), A | R | W, "its own change");
    leases.finish(T0, &pass, true);
    assert_eq!(leases.take_effects(), []);
    assert_eq!(leases.counts().recalls, 0);
}

#[test]
fn readers_share_and_a_writer_is_alone() {
    let mut leases = leading(&[1, 2]);
    assert_eq!(bits(leases.grant(T0, 1, F, A | R)), A | R);
    assert_eq!(bits(leases.grant(T0, 2, F, A | R | W)), A | R, "no W while another holds something");
    assert_eq!(bits(leases.grant(T0, 1, F, W)), A | R);
    leases.returned(T0, 2, F, A | R, u64::MAX);
    assert_eq!(bits(leases.grant(T0, 1, F, W)), A | R | W);
    assert_eq!(
        leases.grant(T0, 2, F, A | R | W | N).map(|grant| grant.bits),
        None,
        "of a directory W is the right to make names unheard: nobody else may keep any"
    );
    leases.returned(T0, 1, F, A | R | W, u64::MAX);
    assert_eq!(bits(leases.grant(T0, 2, F, A | N)), A | N);
    assert_eq!(
        bits(leases.grant(T0, 1, F, A | N | W)),
        A | N,
        "names are shared, and then none is made unheard"
    );
    leases.invariants();
}

#[test]
fn a_change_waits_until_others_have_returned() {
    let mut leases = leading(&[1, 2, 3]);
    leases.grant(T0, 1, F, A | N);
    leases.grant(T0, 2, F, A | N);
    let (pass, waits) = begin(&mut leases, T0, 2, change(F, A | N));
    assert!(waits);
    assert_eq!(leases.take_effects(), [Effect::Recall(1)], "not from itself");
    let asked = leases.recalls(1, 0, 10);
    assert_eq!((asked[0].ino, asked[0].bits, asked[0].tell_handles), (7, A | N, false));
    assert_eq!(leases.grant(T0, 1, F, A), None, "a change is under way");
    assert_eq!(leases.grant(T0, 3, F, A), None);
    leases.returned(T0, 1, F, A, asked[0].number);
    assert_eq!(leases.standing(pass.ticket().unwrap()), Standing::Waits);
    leases.returned(T0, 1, F, N, asked[0].number);
    assert_eq!(leases.take_effects(), [Effect::Wake(pass.ticket().unwrap())]);
    assert_eq!(leases.standing(pass.ticket().unwrap()), Standing::Free);
    assert_eq!(leases.grant(T0, 3, F, A), None, "until it is applied");
    leases.finish(T0, &pass, true);
    leases.invariants();
    assert_eq!(leases.grant(T0 + ms(99), 1, F, A), None, "changed by another session a moment ago");
    assert_eq!(bits(leases.grant(T0, 2, F, A)), A | N, "its own change");
    assert_eq!(bits(leases.grant(T0 + ms(100), 1, F, A | N)), A | N);
}

#[test]
fn cooling_remembers_the_other_session_too() {
    let mut leases = leading(&[1, 2]);
    for (at, session) in [(0, 1), (50, 2)] {
        let (pass, _) = begin(&mut leases, T0 + ms(at), session, change(F, A));
        leases.finish(T0 + ms(at), &pass, true);
    }
    assert_eq!(leases.grant(T0 + ms(60), 1, F, A), None);
    assert_eq!(leases.grant(T0 + ms(60), 2, F, A), None);
    assert_eq!(bits(leases.grant(T0 + ms(60), 2, F, R)), R, "data is not concerned");
    assert_eq!(bits(leases.grant(T0 + ms(110), 2, F, A)), A | R);
    assert_eq!(leases.grant(T0 + ms(110), 1, F, A), None);
    let (failed, _) = begin(&mut leases, T0 + ms(300), 1, change(G, A));
    leases.finish(T0 + ms(300), &failed, false);
    assert_eq!(bits(leases.grant(T0 + ms(300), 2, G, A)), A, "nothing was changed");
    leases.returned(T0 + ms(300), 2, F, A | R, u64::MAX);
    leases.returned(T0 + ms(300), 2, G, A, u64::MAX);
    leases.tick(T0 + ms(400));
    assert!(leases.inodes.is_empty() && leases.cooling.is_empty(), "nothing is kept for ever");
}

#[test]
fn askers_are_served_in_order_and_later_ones_queue_behind() {
    let mut leases = leading(&[1, 2, 3]);
    leases.grant(T0, 1, F, A | R | W);
    let Acquired::Waits(second) = leases.acquire(T0, 2, F, W) else { panic!() };
    assert_eq!(leases.take_effects(), [Effect::Recall(1)]);
    let Acquired::Waits(third) = leases.acquire(T0, 3, F, R) else { panic!() };
    assert_eq!(leases.grant(T0, 3, F, A), None, "it would come before the waiting writer");
    leases.invariants();
    give_back(&mut leases, T0, 1);
    let Standing::Given(given) = leases.standing(second) else { panic!() };
    assert_eq!(bits(given), W);
    assert_eq!(leases.standing(second), Standing::Gone, "told once");
    assert_eq!(leases.standing(third), Standing::Waits);
    assert_eq!(leases.recalls(2, 0, 10)[0].bits, W, "recalled for the next in the queue");
    give_back(&mut leases, T0, 2);
    assert!(matches!(leases.standing(third), Standing::Given(Some(grant)) if grant.bits == R));
}

#[test]
fn whoever_gives_up_makes_room() {
    let mut leases = leading(&[1, 2, 3]);
    leases.grant(T0, 1, F, R);
    let Acquired::Waits(second) = leases.acquire(T0, 2, F, W) else { panic!() };
    let Acquired::Waits(third) = leases.acquire(T0, 3, F, R) else { panic!() };
    leases.cancel(T0, second);
    leases.invariants();
    assert!(matches!(leases.standing(third), Standing::Given(Some(_))));
    assert_eq!(leases.standing(second), Standing::Gone);
}

#[test]
fn a_recalled_writer_may_still_report() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, A | R | W);
    let Acquired::Waits(_) = leases.acquire(T0, 2, F, W) else { panic!() };
    let (report, waits) = begin(&mut leases, T0, 1, change(F, A | R | W));
    assert!(!waits, "its report must not wait for its own return");
    leases.finish(T0, &report, true);
}

#[test]
fn an_overtaken_return_takes_nothing_away() {
    let mut leases = leading(&[1, 2]);
    let first = leases.grant(T0, 1, F, A).unwrap();
    let second = leases.grant(T0, 1, F, R).unwrap();
    assert!(second.number > first.number);
    leases.returned(T0, 1, F, A | R, first.number);
    assert_eq!(leases.held(1, F), A | R);
    let (_, waits) = begin(&mut leases, T0, 2, change(F, A));
    assert!(waits);
    let asked = leases.recalls(1, 0, 10)[0];
    // A grant of another bit while the recall is open must not make its return void.
    assert_eq!(bits(leases.grant(T0, 1, G, A)), A);
    leases.returned(T0, 1, F, A, first.number);
    assert_eq!(leases.held(1, F), A | R, "an answer from before the recalled grant");
    leases.returned(T0, 1, F, A, asked.number);
    assert_eq!(leases.held(1, F), R);
    leases.invariants();
}

#[test]
fn recalls_are_told_once_and_again_when_asked_from_the_start() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, A | R);
    leases.grant(T0, 1, G, A);
    begin(&mut leases, T0, 2, change(F, A));
    begin(&mut leases, T0, 2, change(G, A));
    let first = leases.recalls(1, 0, 1);
    assert_eq!(first.len(), 1);
    let rest = leases.recalls(1, first[0].recall, 10);
    assert_eq!((rest.len(), rest[0].ino), (1, 8));
    assert_eq!(leases.recalls(1, rest[0].recall, 10), []);
    begin(&mut leases, T0, 2, change(F, A | R));
    let more = leases.recalls(1, rest[0].recall, 10);
    assert_eq!((more.len(), more[0].bits), (1, A | R), "one recall for all that is asked back of an inode");
    assert_eq!(leases.recalls(1, 0, 10).len(), 2);
    give_back(&mut leases, T0, 1);
    assert_eq!(leases.recalls(1, 0, 10), []);
    assert_eq!(leases.next_deadline(), None);
}

#[test]
fn whoever_does_not_return_is_expelled_in_time_even_when_it_renews() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, W);
    let (pass, _) = begin(&mut leases, T0, 2, change(F, A | W));
    assert_eq!(leases.renew(T0 + ms(2000), 1), Some(ms(4000)), "its time ends with the recall's");
    assert_eq!(leases.renew(T0 + ms(2000), 2), Some(TIMES.ttl));
    assert_eq!(leases.renew(T0 + ms(6400), 1), Some(ms(0)), "the margin is not for leases");
    assert_eq!(leases.next_deadline(), Some(T0 + END));
    leases.tick(T0 + END - ms(1));
    leases.take_effects();
    leases.tick(T0 + END);
    let (session, number, wrote) = expulsion(&mut leases);
    assert_eq!((session, wrote), (1, true));
    leases.tick(T0 + END * 2);
    assert_eq!(leases.take_effects(), [], "once");
    assert!(leases.is_expelled(1) && leases.renew(T0 + END, 1).is_none());
    leases.returned(T0 + END, 1, F, W, u64::MAX);
    assert_eq!(leases.standing(pass.ticket().unwrap()), Standing::Waits, "until the OSDs are told");
    assert_eq!(leases.open_session(T0 + END, 1, told(5, true, &[])), Err(OpenRefused::Expelling));
    leases.expelled(T0 + END, 1, number, 6);
    leases.invariants();
    assert_eq!(leases.standing(pass.ticket().unwrap()), Standing::Free);
    assert!(leases.is_expelled(1), "until it is opened anew");
    leases.open_session(T0 + END, 1, told(6, true, &[])).unwrap();
    assert_eq!((leases.epoch(1), leases.is_expelled(1)), (6, false));
}

#[test]
fn a_silent_session_is_expelled_as_soon_as_somebody_wants_its_lease() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, A);
    let later = T0 + ms(60_000);
    assert_eq!(leases.grant(later, 1, F, R), None, "its time is over");
    leases.renew(later, 2);
    leases.tick(later);
    assert_eq!(leases.take_effects(), [], "nobody wants anything");
    begin(&mut leases, later, 2, change(F, A));
    leases.tick(later);
    let effects = leases.take_effects();
    assert!(matches!(effects.last(), Some(Effect::Expel { session: 1, wrote: false, .. })), "{effects:?}");
}

#[test]
fn a_leader_that_stood_still_gives_everybody_time() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, A);
    begin(&mut leases, T0, 2, change(F, A));
    leases.take_effects();
    leases.forgive(T0 + END);
    leases.tick(T0 + END);
    assert_eq!(leases.take_effects(), []);
    assert_eq!(leases.next_deadline(), Some(T0 + END + END));
}

#[test]
fn the_changing_sessions_own_lease_is_recalled_when_asked() {
    let mut leases = leading(&[1]);
    leases.grant(T0, 1, F, A);
    let claim = Claim { own: true, tell: true, ..Claim::change(F, A | R | W) };
    let (pass, waits) = begin(&mut leases, T0, 1, Claims::default().with(claim));
    assert!(waits && leases.recalls(1, 0, 10)[0].tell_handles);
    give_back(&mut leases, T0, 1);
    assert_eq!(leases.grant(T0, 1, F, A), None, "it could open the file by itself again");
    leases.finish(T0, &pass, true);
    leases.invariants();
}

#[test]
fn a_reader_keeps_writers_away_until_it_has_read() {
    let mut leases = leading(&[1, 2, 3]);
    leases.grant(T0, 1, F, A | R | W);
    assert!(leases.is_written_by_others(2, F) && !leases.is_written_by_others(1, F));
    let claim = Claim { file: F, recall: W, block: W, ..Claim::default() };
    let (pass, waits) = begin(&mut leases, T0, 2, Claims::default().with(claim));
    assert!(waits);
    give_back(&mut leases, T0, 1);
    assert_eq!(leases.held(1, F), A | R);
    let Acquired::Waits(again) = leases.acquire(T0, 1, F, W) else { panic!() };
    assert_eq!(bits(leases.grant(T0, 3, F, A)), 0, "1 has the next turn");
    leases.finish(T0, &pass, false);
    assert!(matches!(leases.standing(again), Standing::Given(Some(grant)) if grant.bits == A | R | W));
}

#[test]
fn a_session_holds_no_more_than_it_may() {
    let mut leases = leading(&[1]);
    for ino in 0..3 {
        assert_eq!(bits(leases.grant(T0, 1, (1, ino), A)), A);
    }
    assert_eq!(leases.grant(T0, 1, F, A), None);
    assert_eq!(leases.acquire(T0, 1, F, W), Acquired::Full);
    assert_eq!(bits(leases.grant(T0, 1, (1, 0), R)), A | R, "a further bit of one that it has");
    leases.returned(T0, 1, (1, 0), A | R, u64::MAX);
    assert_eq!(bits(leases.grant(T0, 1, F, A)), A);
    leases.invariants();
}

#[test]
fn the_queue_of_an_inode_is_bounded() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, W);
    for _ in 0..ASKING_PER_INODE {
        assert!(matches!(leases.acquire(T0, 2, F, W), Acquired::Waits(_)));
    }
    assert_eq!(leases.acquire(T0, 2, F, W), Acquired::Full);
}

#[test]
fn a_new_leader_waits_for_sessions_and_takes_up_what_they_tell() {
    let mut leases = Leases::new(TIMES);
    leases.lead(T0, 1000, [1, 2]);
    leases.open_session(T0, 3, told(5, true, &[])).unwrap();
    let (pass, waits) = begin(&mut leases, T0, 3, change(F, A | W));
    assert!(waits && leases.in_grace());
    assert_eq!(leases.grant(T0, 3, G, A), None);
    assert!(matches!(leases.acquire(T0, 3, G, W), Acquired::Waits(_)));
    leases.open_session(T0, 1, told(5, true, &[(F, W)])).unwrap();
    leases.invariants();
    let asked = leases.recalls(1, 0, 10)[0];
    assert!(asked.bits == W && asked.number >= 1000, "above every number of the former leader: {asked:?}");
    leases.open_session(T0, 2, told(5, true, &[])).unwrap();
    leases.invariants();
    assert!(!leases.in_grace());
    assert_eq!(leases.standing(pass.ticket().unwrap()), Standing::Waits, "1 holds what it told");
    leases.returned(T0, 1, F, W, asked.number);
    assert_eq!(leases.standing(pass.ticket().unwrap()), Standing::Free);
    assert_eq!(leases.held(3, G), W, "given at the end of the grace period");
}

#[test]
fn a_change_that_claims_nothing_goes_on_when_the_grace_period_ends() {
    // A repeated create of what is there already: its first attempt was done by the former leader.
    let mut leases = Leases::new(TIMES);
    leases.lead(T0, 1000, [1, 2]);
    leases.open_session(T0, 1, told(1, true, &[])).unwrap();
    let (pass, waits) = begin(&mut leases, T0, 1, Claims::default());
    assert!(waits, "session 2 may still hold anything");
    leases.take_effects();
    leases.open_session(T0, 2, told(1, true, &[])).unwrap();
    let ticket = pass.ticket().unwrap();
    assert!(leases.take_effects().contains(&Effect::Wake(ticket)));
    assert_eq!(leases.standing(ticket), Standing::Free);
    leases.invariants();
}

#[test]
fn a_lease_taken_up_can_be_given_back_under_its_old_number() {
    let mut leases = Leases::new(TIMES);
    leases.lead(T0, 1000, [1]);
    leases.open_session(T0, 1, told(5, true, &[(F, A)])).unwrap();
    leases.returned(T0, 1, F, A, 17);
    assert_eq!(leases.held(1, F), 0);
}

#[test]
fn whoever_does_not_come_back_after_a_change_of_leader_is_expelled() {
    let mut leases = Leases::new(TIMES);
    leases.lead(T0, 1000, [1]);
    let (pass, _) = begin(&mut leases, T0, 3, change(F, A));
    assert_eq!(leases.next_deadline(), Some(T0 + END));
    leases.tick(T0 + END);
    let (session, number, wrote) = expulsion(&mut leases);
    assert_eq!((session, wrote), (1, true), "nobody knows what it held");
    assert_eq!(leases.open_session(T0 + END, 1, told(5, true, &[(F, A)])), Err(OpenRefused::Expelling));
    assert_eq!(leases.standing(pass.ticket().unwrap()), Standing::Waits);
    leases.expelled(T0 + END, 1, number, 6);
    assert_eq!(leases.standing(pass.ticket().unwrap()), Standing::Free);
    assert_eq!(leases.open_session(T0 + END, 1, told(6, true, &[(F, A)])), Err(OpenRefused::NotHeld));
    leases.invariants();
}

#[test]
fn reopening_at_the_same_leader_keeps_only_what_is_told_and_was_held() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, A | R);
    leases.grant(T0, 1, G, A);
    begin(&mut leases, T0, 2, change(G, A));
    leases.open_session(T0, 1, told(5, true, &[(F, A)])).unwrap();
    leases.invariants();
    assert_eq!((leases.held(1, F), leases.held(1, G)), (A, 0));
    assert_eq!(leases.recalls(1, 0, 10), []);
}

#[test]
fn whoever_tells_what_it_does_not_hold_is_expelled_when_its_time_is_over() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, A | R);
    leases.grant(T0, 2, G, W);
    let Acquired::Waits(ticket) = leases.acquire(T0, 1, G, R) else { panic!() };
    let (pass, _) = begin(&mut leases, T0, 2, change(F, A));
    leases.renew(T0 + ms(3000), 1);
    leases.take_effects();
    let untrue = told(5, true, &[(F, W)]);
    assert_eq!(leases.open_session(T0 + ms(3500), 1, untrue), Err(OpenRefused::Expelling));
    leases.invariants();
    assert_eq!(leases.standing(ticket), Standing::Given(None));
    assert_eq!(
        leases.standing(pass.ticket().unwrap()),
        Standing::Waits,
        "it may still rely on what it holds"
    );
    assert_eq!(leases.renew(T0 + ms(3600), 1), None);
    assert_eq!(leases.open_session(T0 + ms(3700), 1, told(5, true, &[])), Err(OpenRefused::Expelling));
    assert_eq!(leases.next_deadline(), Some(T0 + END), "a renewal has not prolonged the recall's time");
    leases.renew(T0 + END, 2);
    leases.take_effects();
    leases.returned(T0 + END, 2, G, W, u64::MAX);
    leases.tick(T0 + END);
    let (session, number, wrote) = expulsion(&mut leases);
    assert_eq!((session, wrote), (1, false));
    leases.expelled(T0 + END * 2, 1, number, 6);
    leases.invariants();
    assert_eq!(leases.standing(pass.ticket().unwrap()), Standing::Free);
    leases.open_session(T0 + END * 2, 1, told(6, true, &[])).unwrap();
}

#[test]
fn an_opening_that_was_overtaken_takes_nothing_away() {
    let mut leases = leading(&[1]);
    let numbered = |number, told| Opening { number, epoch: 5, part: true, told };
    leases.open_session(T0, 1, numbered(2, &[])).unwrap();
    leases.grant(T0, 1, F, A);
    assert_eq!(leases.open_session(T0, 1, numbered(1, &[])), Err(OpenRefused::Late(2)));
    assert_eq!(leases.open_session(T0, 1, numbered(2, &[])), Err(OpenRefused::Late(2)), "sent twice");
    assert_eq!((leases.held(1, F), leases.opening(1)), (A, 2));
    leases.open_session(T0, 1, numbered(3, &[])).unwrap();
    assert_eq!(leases.held(1, F), 0);
}

#[test]
fn opening_a_session_does_not_prolong_the_time_of_a_recall() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, A);
    begin(&mut leases, T0, 2, change(F, A));
    leases.open_session(T0 + ms(5000), 1, told(5, true, &[(F, A)])).unwrap();
    assert_eq!(leases.renew(T0 + ms(5000), 1), Some(ms(1000)), "what the opening answers");
    assert_eq!(leases.next_deadline(), Some(T0 + END));
}

#[test]
fn an_expulsion_that_ends_late_does_not_count_for_a_later_one() {
    let mut leases = leading(&[1, 2]);
    leases.expel(T0, 1);
    let (_, first, _) = expulsion(&mut leases);
    // The housekeeping ends it meanwhile; the client comes back and is expelled again.
    leases.close_session(T0, 1);
    leases.open_session(T0, 1, told(7, true, &[])).unwrap();
    leases.grant(T0, 1, F, W);
    leases.take_effects();
    leases.expel(T0, 1);
    let (_, second, wrote) = expulsion(&mut leases);
    leases.expelled(T0, 1, first, 6);
    assert_eq!((leases.held(1, F), wrote), (W, true), "the second fence is not told yet");
    leases.expelled(T0, 1, second, 8);
    assert_eq!((leases.held(1, F), leases.epoch(1)), (0, 8));
    assert_eq!(leases.open_session(T0, 1, told(7, true, &[])), Err(OpenRefused::Expelling), "an old row");
    leases.invariants();
}

#[test]
fn leadership_that_is_lost_frees_everybody_who_waits() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, A);
    let (pass, _) = begin(&mut leases, T0, 2, change(F, A));
    leases.take_effects();
    leases.follow();
    assert!(leases.take_effects().contains(&Effect::Wake(pass.ticket().unwrap())));
    assert_eq!(leases.standing(pass.ticket().unwrap()), Standing::Gone);
    assert_eq!(leases.begin(T0, 2, change(F, A)), Begun::NotLeading);
    leases.lead(T0, 5, []);
    assert!(!leases.is_valid(&pass));
    leases.finish(T0, &pass, true);
    leases.invariants();
    assert!(leases.number() > 1000, "numbers never go back");
}

#[test]
fn a_session_that_leaves_takes_nothing_with_it() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, W);
    let Acquired::Waits(ticket) = leases.acquire(T0, 2, F, W) else { panic!() };
    leases.close_session(T0, 1);
    leases.invariants();
    assert!(matches!(leases.standing(ticket), Standing::Given(Some(_))));
    leases.forget(T0, F);
    assert_eq!(leases.counts().held, 0);
    leases.invariants();
}

#[test]
fn an_expelled_sessions_own_requests_end() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 2, F, W);
    leases.grant(T0, 1, G, A);
    let Acquired::Waits(ticket) = leases.acquire(T0, 1, F, W) else { panic!() };
    leases.take_effects();
    assert!(leases.expel(T0, 1) && !leases.expel(T0, 1));
    let [Effect::Expel { number, wrote: false, .. }, Effect::Wake(woken)] = leases.take_effects()[..] else {
        panic!("its requests end at once: it must not be given what nobody fences")
    };
    assert_eq!(woken, ticket);
    leases.returned(T0, 2, F, W, u64::MAX);
    assert_eq!((leases.standing(ticket), leases.held(1, F)), (Standing::Given(None), 0));
    leases.expelled(T0, 1, number, 6);
    leases.invariants();
}

#[test]
fn claims_of_one_inode_become_one() {
    let claims = change(F, A).with(Claim::change(F, N)).with(Claim::change(G, W));
    let all: Vec<_> = claims.iter().map(|claim| (claim.file, claim.recall)).collect();
    assert_eq!(all, [(F, A | N), (G, W)]);
}

#[test]
fn a_lease_on_what_its_holder_removed_may_be_told_again() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, A | R | W);
    leases.grant(T0, 1, G, A);
    // Its last name goes by the holder's own hand: nobody recalls it from itself, and nothing tells it.
    leases.forget(T0, F);
    leases.invariants();
    let all = [(F, A | R | W), (G, A)];
    let again = Opening { number: 1, ..told(5, true, &all) };
    assert_eq!(
        leases.open_session(T0 + ms(10), 1, again),
        Ok(()),
        "a lost answer makes a client open its session"
    );
    leases.invariants();
    assert_eq!(leases.holders(F), [], "nobody holds what is not there");
    assert_eq!(leases.holders(G), [(1, A)]);
    // Somebody else never held it.
    let untrue = [(F, A)];
    assert_eq!(leases.open_session(T0 + ms(20), 2, told(5, true, &untrue)), Err(OpenRefused::Expelling));
}

#[test]
fn what_went_last_may_be_told_again_however_old_it_was() {
    let mut leases = leading(&[1]);
    // More than a session may hold come and go; then one that is older than all of them.
    leases.grant(T0, 1, F, A | R | W);
    for ino in 100..110 {
        leases.grant(T0, 1, (1, ino), A);
        leases.forget(T0, (1, ino));
    }
    leases.forget(T0, F);
    let all = [(F, A | R | W), ((1, 109), A)];
    let again = Opening { number: 1, ..told(5, true, &all) };
    assert_eq!(leases.open_session(T0 + ms(10), 1, again), Ok(()));
    // What went long before is forgotten, so that this is bounded.
    let old = [((1, 100), A)];
    let again = Opening { number: 2, ..told(5, true, &old) };
    assert_eq!(leases.open_session(T0 + ms(20), 1, again), Err(OpenRefused::Expelling));
    leases.invariants();
}

#[test]
fn telling_the_same_again_settles_nothing_and_telling_less_frees_the_rest() {
    let mut leases = leading(&[1, 2]);
    leases.grant(T0, 1, F, A | R | W);
    leases.grant(T0, 1, G, A);
    let (pass, waits) = begin(&mut leases, T0, 2, change(F, A | W));
    assert!(waits);
    leases.take_effects();
    let all = [(F, A | R | W), (G, A)];
    let again = Opening { number: 1, ..told(5, true, &all) };
    assert_eq!(leases.open_session(T0 + ms(10), 1, again), Ok(()));
    leases.invariants();
    let ticket = pass.ticket().unwrap();
    assert_eq!((leases.standing(ticket), leases.take_effects()), (Standing::Waits, Vec::new()));
    assert_eq!(leases.recalls(1, 0, 9).len(), 1, "it is still asked back");
    let less = [(F, R), (G, A)];
    let again = Opening { number: 2, ..told(5, true, &less) };
    assert_eq!(leases.open_session(T0 + ms(20), 1, again), Ok(()));
    leases.invariants();
    assert_eq!(leases.standing(ticket), Standing::Free);
    assert_eq!((leases.holders(F), leases.holders(G)), (vec![(1, R)], vec![(1, A)]));
}
