//! The invariants of `docs/protocols/leases.md`, case by case and against a model MRC that delivers in any order.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use proto::mrc::{Attr, DirEntry, kind};

use super::*;

const KEY: Key = (1, 7);
const DIR: Key = (1, 2);
const NOW: Duration = Duration::from_secs(1);

fn leases() -> Leases {
    let mut leases = Leases::default();
    leases.turn_on();
    leases.renewed(Duration::from_secs(6));
    leases
}

fn grant(ino: u64, bits: u32, number: u64) -> LeaseGrant {
    LeaseGrant { ino, bits, number }
}

fn recall(key: Key, bits: u32, number: u64) -> Recall {
    Recall { recall: 1, volume: key.0, ino: key.1, bits, number, tell_handles: false }
}

fn attr(change: u64) -> Attr {
    Attr { ino: KEY.1, change, size: change, ..Attr::default() }
}

/// A call whose answer brings a grant and attributes.
fn answer(leases: &mut Leases, bits: u32, number: u64, change: u64) {
    let ticket = leases.begin();
    let grant = grant(KEY.1, bits, number);
    leases.granted(KEY.0, &grant, ticket);
    leases.keep_attr(KEY.0, &attr(change), &grant, ticket);
    leases.end(ticket);
}

#[test]
fn attributes_are_answered_within_the_time_only() {
    let mut leases = leases();
    answer(&mut leases, LEASE_ATTR, 1, 5);
    assert_eq!(leases.attr(KEY, NOW).unwrap().change, 5);
    assert_eq!(leases.time_left(NOW), Duration::from_secs(5));
    assert_eq!(leases.attr(KEY, Duration::from_secs(6)), None);
    leases.renewed(Duration::from_secs(8));
    assert_eq!(leases.attr(KEY, Duration::from_secs(6)).unwrap().change, 5);
}

/// What is kept under bits that an answer no longer names is not told yet: a leader that hears of them as lost would give them to
/// others before.
#[test]
fn bits_that_an_answer_takes_away_are_held_until_their_recall_is_heard() {
    let all = LEASE_ATTR | LEASE_READ | LEASE_WRITE;
    let held = |leases: &Leases| leases.held().first().map_or(0, |held| held.bits);
    let mut leases = leases();
    answer(&mut leases, all, 10, 5);
    answer(&mut leases, LEASE_ATTR | LEASE_READ, 11, 5);
    assert_eq!(leases.bits(KEY, NOW), LEASE_ATTR | LEASE_READ, "nothing new is begun");
    assert_eq!(held(&leases), all);
    assert_eq!(leases.try_use(KEY, Use::WriteBack, NOW), Permit::Granted);
    leases.release(KEY, Use::WriteBack);
    // The same leader is told of them, and recalls them as before.
    leases.tell_begin(2);
    leases.tell_end(false);
    assert_eq!(held(&leases), all);
    leases.recalled(&recall(KEY, LEASE_WRITE, 11));
    assert_eq!(held(&leases), all);
    leases.returned(&recall(KEY, LEASE_WRITE, 11));
    assert_eq!(held(&leases), LEASE_ATTR | LEASE_READ);
    // Another one has recalled nothing.
    answer(&mut leases, all, 12, 6);
    answer(&mut leases, 0, 13, 6);
    assert_eq!((leases.bits(KEY, NOW), held(&leases)), (0, all));
    assert_eq!(leases.len(), 0);
    leases.tell_begin(3);
    leases.tell_end(true);
    assert_eq!((leases.bits(KEY, NOW), held(&leases)), (all, all));
    assert_eq!((leases.len(), leases.attr(KEY, NOW)), (1, None));
    assert!(leases.expelled().contains(&KEY));
    assert_eq!(held(&leases), 0);
}

#[test]
fn nothing_is_kept_before_recalls_are_heard() {
    let mut leases = Leases::default();
    leases.renewed(Duration::from_secs(6));
    answer(&mut leases, LEASE_ATTR | LEASE_WRITE, 1, 5);
    assert_eq!(leases.attr(KEY, NOW), None);
    assert_eq!(leases.try_use(KEY, Use::Write, NOW), Permit::Off);
}

#[test]
fn a_grant_that_its_recall_has_overtaken_is_not_kept() {
    let mut leases = leases();
    let (late, newer) = (leases.begin(), leases.begin());
    leases.recalled(&recall(KEY, LEASE_ATTR, 3));
    leases.returned(&recall(KEY, LEASE_ATTR, 3));
    let (old, new) = (grant(KEY.1, LEASE_ATTR, 3), grant(KEY.1, LEASE_ATTR, 4));
    leases.granted(KEY.0, &old, late);
    leases.keep_attr(KEY.0, &attr(1), &old, late);
    assert_eq!((leases.attr(KEY, NOW), leases.bits(KEY, NOW)), (None, 0));
    leases.granted(KEY.0, &new, newer);
    leases.keep_attr(KEY.0, &attr(2), &new, newer);
    // The old answer once more, now that the bit is held again.
    leases.keep_attr(KEY.0, &attr(9), &old, late);
    assert_eq!(leases.attr(KEY, NOW).unwrap().change, 2);
}

#[test]
fn an_answer_read_before_an_own_change_is_not_kept_after_it() {
    let mut leases = leases();
    answer(&mut leases, LEASE_ATTR, 1, 5);
    let read = leases.begin();
    leases.change_begin(KEY, None, NOW);
    assert_eq!(leases.attr(KEY, NOW), None);
    let change = leases.begin();
    let grant = grant(KEY.1, LEASE_ATTR, 2);
    leases.granted(KEY.0, &grant, read);
    leases.keep_attr(KEY.0, &attr(5), &grant, read);
    assert_eq!(leases.attr(KEY, NOW), None, "a change is under way");
    leases.change_end(KEY, change, (Some(&attr(6)), true), None);
    leases.keep_attr(KEY.0, &attr(5), &grant, read);
    assert_eq!(leases.attr(KEY, NOW).unwrap().change, 6);
}

/// Holds `N` of the directory, and `A` when attributes are to be kept.
fn names(leases: &mut Leases, number: u64) -> LeaseGrant {
    let ticket = leases.begin();
    let names = grant(DIR.1, LEASE_NAMES | LEASE_ATTR, number);
    leases.granted(DIR.0, &names, ticket);
    leases.end(ticket);
    names
}

/// An own change of a name: begun, done with that meaning.
fn change_name(leases: &mut Leases, name: &[u8], meaning: Cached<u64>) {
    leases.change_begin(DIR, Some(name), NOW);
    let ticket = leases.begin();
    leases.change_end(DIR, ticket, (None, false), Some((name, meaning)));
    leases.end(ticket);
}

#[test]
fn overlapping_own_changes_of_a_name_leave_it_unknown() {
    let mut leases = leases();
    names(&mut leases, 1);
    for name in [b"a", b"a", b"b"] {
        leases.change_begin(DIR, Some(name), NOW);
    }
    let ticket = leases.begin();
    leases.change_end(DIR, ticket, (None, false), Some((b"a", Some(Some(10)))));
    assert_eq!(leases.name(DIR, b"a", NOW), None, "another change of it is under way");
    leases.change_end(DIR, ticket, (None, false), Some((b"a", Some(None))));
    leases.change_end(DIR, ticket, (None, false), Some((b"b", Some(Some(11)))));
    assert_eq!(leases.name(DIR, b"a", NOW), None, "which of both came last?");
    assert_eq!(leases.name(DIR, b"b", NOW), Some(Some(11)), "nobody else changed b");
    change_name(&mut leases, b"a", Some(Some(10)));
    assert_eq!(leases.name(DIR, b"a", NOW), Some(Some(10)));
}

fn empty_directory() -> Attr {
    Attr { ino: DIR.1, mode: kind::DIR << 12 | 0o755, size: 0, ..Attr::default() }
}

#[test]
fn an_empty_directory_is_known_as_a_whole_until_a_recall() {
    let mut leases = leases();
    let ticket = leases.begin();
    let grant = grant(DIR.1, LEASE_NAMES | LEASE_ATTR, 1);
    leases.granted(DIR.0, &grant, ticket);
    leases.keep_attr(DIR.0, &empty_directory(), &grant, ticket);
    leases.end(ticket);
    assert_eq!(leases.name(DIR, b"a", NOW), Some(None));
    change_name(&mut leases, b"a", Some(Some(10)));
    change_name(&mut leases, b"b", Some(Some(11)));
    change_name(&mut leases, b"a", Some(None));
    let seen = [b"a", b"b", b"c"].map(|name| leases.name(DIR, name, NOW));
    assert_eq!(seen, [Some(None), Some(Some(11)), Some(None)]);
    // While a name is being changed nobody knows what it means; the others stay known.
    leases.change_begin(DIR, Some(b"c"), NOW);
    assert_eq!((leases.name(DIR, b"c", NOW), leases.name(DIR, b"d", NOW)), (None, Some(None)));
    let ticket = leases.begin();
    leases.change_end(DIR, ticket, (None, false), Some((b"c", Some(None))));
    leases.recalled(&recall(DIR, LEASE_NAMES, 1));
    assert_eq!((leases.name(DIR, b"b", NOW), leases.name(DIR, b"d", NOW)), (None, None));
}

#[test]
fn a_change_with_an_unknown_end_leaves_the_directory_known_in_parts() {
    let mut leases = leases();
    let ticket = leases.begin();
    let grant = grant(DIR.1, LEASE_NAMES | LEASE_ATTR, 1);
    leases.granted(DIR.0, &grant, ticket);
    leases.keep_attr(DIR.0, &empty_directory(), &grant, ticket);
    leases.end(ticket);
    change_name(&mut leases, b"a", Some(Some(10)));
    change_name(&mut leases, b"b", None);
    let seen = [b"a", b"b", b"c"].map(|name| leases.name(DIR, name, NOW));
    assert_eq!(seen, [Some(Some(10)), None, None]);
}

fn page(leases: &mut Leases, grant: &LeaseGrant, reach: (u64, u64, bool), names: &[(&[u8], u64)]) {
    let ticket = leases.begin();
    leases.keep_page(DIR, &listed(reach.1, names), reach, grant, ticket);
    leases.end(ticket);
}

/// The names in a row, the last one with the cookie `last`.
fn listed(last: u64, names: &[(&[u8], u64)]) -> Vec<DirEntry> {
    let first = last + 1 - names.len() as u64;
    let entry = |(cookie, (name, ino)): (u64, &(&[u8], u64))| DirEntry {
        name: name.to_vec(),
        ino: *ino,
        kind: kind::FILE,
        cookie,
        attr: None,
    };
    (first..).zip(names).map(entry).collect()
}

#[test]
fn a_directory_read_to_its_end_is_known_as_a_whole() {
    let mut leases = leases();
    // The first page brings the lease.
    let ticket = leases.begin();
    let grant = grant(DIR.1, LEASE_NAMES, 1);
    leases.granted(DIR.0, &grant, ticket);
    leases.keep_page(DIR, &listed(5, &[(b"a", 10)]), (0, 5, false), &grant, ticket);
    leases.end(ticket);
    assert_eq!(leases.name(DIR, b"z", NOW), None, "it may be on the next page");
    page(&mut leases, &grant, (5, 9, true), &[(b"b", 11)]);
    assert_eq!((leases.name(DIR, b"b", NOW), leases.name(DIR, b"z", NOW)), (Some(Some(11)), Some(None)));
}

/// In a directory with more names than are kept whoever makes another one needs not ask; who looks for one that is there does.
#[test]
fn of_a_very_large_directory_it_is_known_what_is_not_there() {
    let of = |number: u64| format!("file-{number}").into_bytes();
    for listed in [true, false] {
        let mut leases = leases();
        let grant = names(&mut leases, 1);
        let count = 200_000;
        if listed {
            for first in (0..count).step_by(1000) {
                let all: Vec<_> = (first..first + 1000).map(|number| (of(number), number + 10)).collect();
                let page_of: Vec<_> = all.iter().map(|(name, ino)| (name.as_slice(), *ino)).collect();
                page(&mut leases, &grant, (first, first + 1000, first + 1000 == count), &page_of);
            }
        } else {
            page(&mut leases, &grant, (0, 1, true), &[]);
            (0..count).for_each(|number| change_name(&mut leases, &of(number), Some(Some(number + 10))));
        }
        let seen = [0, count - 1, count, count + 1].map(|number| leases.name(DIR, &of(number), NOW));
        assert_eq!(seen, [None, Some(Some(count + 9)), Some(None), Some(None)], "listed: {listed}");
        // What is removed is asked for again at worst.
        change_name(&mut leases, &of(0), Some(None));
        change_name(&mut leases, &of(count), Some(Some(7)));
        assert_eq!(leases.name(DIR, &of(0), NOW), Some(None));
        assert_eq!(leases.name(DIR, &of(count), NOW), Some(Some(7)));
        leases.recalled(&recall(DIR, LEASE_NAMES, 1));
        assert_eq!(leases.name(DIR, &of(count + 5), NOW), None);
    }
}

#[test]
fn a_listing_with_a_gap_or_a_change_in_between_is_not_whole() {
    for disturb in 0..4 {
        let mut leases = leases();
        let mut grant = names(&mut leases, 1);
        page(&mut leases, &grant, (0, 5, false), &[(b"a", 10)]);
        let mut last = 5;
        match disturb {
            0 => last = 6,
            1 => change_name(&mut leases, b"y", Some(Some(12))),
            2 => {
                leases.recalled(&recall(DIR, LEASE_NAMES, 1));
                leases.returned(&recall(DIR, LEASE_NAMES, 1));
                grant = names(&mut leases, 2);
            }
            _ => {
                page(&mut leases, &grant, (7, 8, false), &[]);
                last = 8;
            }
        }
        page(&mut leases, &grant, (last, 9, true), &[(b"b", 11)]);
        assert_eq!(leases.name(DIR, b"z", NOW), None, "disturbance {disturb}");
    }
}

/// A kernel asks again for what its buffer had no room for, and two may list a directory at the same time.
#[test]
fn pages_that_overlap_make_a_directory_whole() {
    let mut leases = leases();
    let grant = names(&mut leases, 1);
    for reach in [(0, 5, false), (0, 3, false), (3, 7, false), (5, 6, false), (6, 9, true)] {
        assert_eq!(leases.name(DIR, b"z", NOW), None);
        page(&mut leases, &grant, reach, &[(b"a", 10)]);
    }
    assert_eq!((leases.name(DIR, b"a", NOW), leases.name(DIR, b"z", NOW)), (Some(Some(10)), Some(None)));
}

#[test]
fn a_name_is_not_kept_under_a_lease_that_came_while_it_was_changed() {
    let mut leases = leases();
    leases.change_begin(DIR, Some(b"a"), NOW);
    let ticket = leases.begin();
    // Done at the MRC; then another client changed the name again, and after that this one got its lease.
    names(&mut leases, 1);
    leases.change_end(DIR, ticket, (None, false), Some((b"a", Some(Some(10)))));
    assert_eq!(leases.name(DIR, b"a", NOW), None);
}

#[test]
fn attributes_are_not_kept_under_a_lease_that_came_otherwise_while_they_changed() {
    let mut leases = leases();
    leases.change_begin(KEY, None, NOW);
    let change = leases.begin();
    let read = leases.begin();
    leases.granted(KEY.0, &grant(KEY.1, LEASE_ATTR, 1), read);
    leases.change_end(KEY, change, (Some(&attr(6)), false), None);
    assert_eq!(leases.attr(KEY, NOW), None);
}

#[test]
fn an_absent_name_is_kept_only_under_a_lease_older_than_the_question() {
    let mut leases = leases();
    let (asked, granting) = (leases.begin(), leases.begin());
    leases.granted(DIR.0, &grant(DIR.1, LEASE_NAMES, 1), granting);
    leases.keep_absent(DIR, b"x", asked);
    assert_eq!(leases.name(DIR, b"x", NOW), None, "somebody may have made it before the grant");
    let asked = leases.begin();
    leases.keep_absent(DIR, b"x", asked);
    assert_eq!(leases.name(DIR, b"x", NOW), Some(None));
}

#[test]
fn a_recall_waits_for_users_and_pages_may_be_written_out_meanwhile() {
    let mut leases = leases();
    answer(&mut leases, LEASE_ATTR | LEASE_READ | LEASE_WRITE, 1, 5);
    assert_eq!(leases.try_use(KEY, Use::Write, NOW), Permit::Granted);
    let down = recall(KEY, LEASE_WRITE, 1);
    leases.recalled(&down);
    assert!(!leases.is_unused(&down));
    assert_eq!(leases.try_use(KEY, Use::Write, NOW), Permit::Ask);
    assert_eq!(leases.try_use(KEY, Use::WriteBack, NOW), Permit::Granted);
    assert_eq!(leases.try_use(KEY, Use::Read, NOW), Permit::Granted, "R stays");
    assert!(leases.release(KEY, Use::Write));
    assert!(!leases.is_unused(&down));
    assert!(leases.release(KEY, Use::WriteBack));
    assert!(leases.is_unused(&down));
    assert_eq!(leases.returned(&down).bits, LEASE_WRITE);
    assert_eq!(leases.try_use(KEY, Use::WriteBack, NOW), Permit::Ask);
    assert_eq!(leases.attr(KEY, NOW).unwrap().change, 5, "A stays");
}

#[test]
fn an_operation_whose_grant_was_overtaken_runs_once() {
    let mut leases = leases();
    leases.ask_begin(KEY, Use::Write);
    let ticket = leases.begin();
    let early = recall(KEY, LEASE_WRITE, 4);
    leases.recalled(&early);
    assert!(leases.is_early(&early), "the grant that it means is on its way");
    assert!(leases.ask_granted(KEY, Some(&grant(KEY.1, LEASE_WRITE, 4)), Use::Write, ticket));
    leases.ask_end(KEY, Use::Write);
    assert!(!leases.is_early(&early) && !leases.is_unused(&early));
    assert_eq!(leases.try_use(KEY, Use::Write, NOW), Permit::Ask, "nobody else may");
    leases.release(KEY, Use::Write);
    assert!(leases.is_unused(&early));
    leases.returned(&early);
    // Had it been returned first, the operation would have to ask again.
    leases.ask_begin(KEY, Use::Write);
    assert!(!leases.ask_granted(KEY, Some(&grant(KEY.1, LEASE_WRITE, 4)), Use::Write, ticket));
}

#[test]
fn a_recall_does_not_wait_for_somebody_who_waits_for_other_bits() {
    let mut leases = leases();
    answer(&mut leases, LEASE_READ, 1, 5);
    leases.ask_begin(KEY, Use::Write);
    for bits in [LEASE_READ, LEASE_ATTR] {
        let other = recall(KEY, bits, 9);
        assert!(leases.is_unused(&other) && !leases.is_early(&other));
    }
    assert!(leases.is_early(&recall(KEY, LEASE_WRITE, 9)) && !leases.is_early(&recall(KEY, LEASE_WRITE, 1)));
}

#[test]
fn an_expelled_client_forgets_everything_and_its_late_answers() {
    let mut leases = leases();
    answer(&mut leases, LEASE_ATTR | LEASE_WRITE, 1, 5);
    let late = leases.begin();
    let before = leases.generation();
    assert_eq!(leases.expelled(), [KEY]);
    assert_ne!(leases.generation(), before);
    leases.renewed(Duration::from_secs(9));
    leases.granted(KEY.0, &grant(KEY.1, LEASE_ATTR, 50), late);
    assert_eq!((leases.bits(KEY, NOW), leases.is_empty()), (0, true));
}

#[test]
fn grants_given_while_the_session_is_opened_are_not_kept() {
    let mut leases = leases();
    answer(&mut leases, LEASE_ATTR, 1, 5);
    assert_eq!(leases.tell_begin(1).len(), 1);
    answer(&mut leases, LEASE_ATTR | LEASE_READ, 2, 6);
    assert_eq!(
        leases.bits(KEY, NOW),
        LEASE_ATTR,
        "the leader forgot the second one when it was told the first"
    );
    leases.tell_end(true);
    answer(&mut leases, LEASE_ATTR | LEASE_READ, 1, 7);
    assert_eq!(leases.bits(KEY, NOW), LEASE_ATTR | LEASE_READ, "numbers start anew");
}

#[test]
fn the_oldest_unused_are_given_back_and_tables_stay_bounded() {
    let mut leases = leases();
    for ino in 0..GIVE_BACK_AT as u64 {
        let ticket = leases.begin();
        leases.granted(1, &grant(ino, LEASE_ATTR, ino + 1), ticket);
        leases.keep_attr(1, &Attr { ino, ..Attr::default() }, &grant(ino, LEASE_ATTR, ino + 1), ticket);
        leases.end(ticket);
    }
    leases.attr((1, 0), NOW);
    let back = leases.too_many();
    assert_eq!((back.len(), back[0].ino), (GIVE_BACK, 1), "0 was just used");
    for one in &back {
        leases.recalled(one);
        leases.returned(one);
    }
    assert_eq!(leases.len(), GIVE_BACK_AT - GIVE_BACK);
    let ticket = leases.begin();
    leases.end(ticket);
    assert_eq!(leases.entries.len(), GIVE_BACK_AT - GIVE_BACK, "nothing is remembered of what is gone");
    assert!(leases.waning.is_empty());
}

/// What happens between this client, another one and the MRC; answers and recalls arrive in any order.
#[derive(Debug, Clone)]
enum Step {
    /// This client asks for attributes.
    Ask,
    /// The answer number n of those under way arrives.
    Arrive(usize),
    /// Another client changes the inode: recalled first, applied when returned.
    Foreign,
    /// The recall arrives and is answered.
    Answer,
    /// This client changes the inode.
    Own,
    /// The answer to its change arrives.
    OwnArrives,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Ask),
        4 => (0..4usize).prop_map(Step::Arrive),
        1 => Just(Step::Foreign),
        2 => Just(Step::Answer),
        1 => Just(Step::Own),
        2 => Just(Step::OwnArrives),
    ]
}

/// The MRC and the way to it.
#[derive(Default)]
struct Model {
    change: u64,
    number: u64,
    held: bool,
    upto: Option<u64>,
    waiting: bool,
    answers: Vec<(Ticket, LeaseGrant, u64)>,
    own: Option<(Ticket, LeaseGrant, u64)>,
}

impl Model {
    fn give(&mut self) -> LeaseGrant {
        self.number += 1;
        self.held |= !self.waiting;
        grant(KEY.1, if self.held && !self.waiting { LEASE_ATTR } else { 0 }, self.number)
    }

    fn take(&mut self, leases: &mut Leases, step: Step) {
        match step {
            Step::Ask if self.answers.len() < 4 => {
                let (ticket, grant) = (leases.begin(), self.give());
                self.answers.push((ticket, grant, self.change));
            }
            Step::Arrive(at) if at < self.answers.len() => {
                let (ticket, grant, change) = self.answers.remove(at);
                leases.granted(KEY.0, &grant, ticket);
                leases.keep_attr(KEY.0, &attr(change), &grant, ticket);
                leases.end(ticket);
            }
            Step::Foreign if self.held && !self.waiting => {
                (self.waiting, self.upto) = (true, Some(self.number));
            }
            Step::Foreign if !self.waiting => self.change += 1,
            Step::Answer => {
                if let Some(upto) = self.upto.take() {
                    let recall = recall(KEY, LEASE_ATTR, upto);
                    leases.recalled(&recall);
                    assert!(leases.returned(&recall).number >= upto);
                    (self.held, self.waiting) = (false, false);
                    self.change += 1;
                }
            }
            Step::Own if self.own.is_none() => {
                leases.change_begin(KEY, None, NOW);
                let ticket = leases.begin();
                self.change += 1;
                self.own = Some((ticket, self.give(), self.change));
            }
            Step::OwnArrives => {
                if let Some((ticket, grant, change)) = self.own.take() {
                    leases.granted(KEY.0, &grant, ticket);
                    leases.change_end(KEY, ticket, (Some(&attr(change)), true), None);
                    leases.end(ticket);
                }
            }
            _ => {}
        }
    }
}

proptest! {
    /// What is answered from a lease is what the MRC would answer; after an own change at least that.
    #[test]
    fn kept_attributes_are_the_newest(steps in prop::collection::vec(step(), 1..60)) {
        let (mut leases, mut model) = (leases(), Model::default());
        for step in steps {
            model.take(&mut leases, step);
            if let Some(kept) = leases.attr(KEY, NOW) {
                prop_assert_eq!(kept.change, model.change);
            }
        }
    }
}

#[test]
fn what_a_removal_freed_is_neither_told_nor_counted() {
    let mut leases = leases();
    answer(&mut leases, LEASE_ATTR | LEASE_WRITE, 1, 5);
    assert_eq!((leases.len(), leases.held().len()), (1, 1));
    let before = leases.begin();
    leases.freed(KEY);
    leases.freed(KEY);
    assert_eq!((leases.len(), leases.held().len()), (0, 0));
    assert_eq!(leases.attr(KEY, NOW), None);
    assert_eq!(leases.try_use(KEY, Use::Write, NOW), Permit::Ask);
    // Another process had it open after all: what the leader asks back then is given back.
    let late = recall(KEY, LEASE_WRITE, 9);
    leases.recalled(&late);
    assert_eq!(leases.returned(&late).bits, LEASE_WRITE);
    leases.end(before);
    assert!(leases.is_empty());
}

#[test]
fn a_lease_that_comes_and_goes_takes_up_no_room() {
    let mut leases = leases();
    let other = (1, 8);
    leases.assume(other, LEASE_ATTR);
    for number in (1..20_000).step_by(2) {
        answer(&mut leases, LEASE_ATTR, number, number);
        let back = recall(KEY, LEASE_ATTR, number);
        leases.recalled(&Recall { recall: number + 1, ..back });
        leases.returned(&Recall { recall: number + 1, ..back });
    }
    assert!(leases.order.len() <= ORDER_SLACK + 2, "{}", leases.order.len());
    assert!(leases.order.contains(&other));
}

#[test]
fn an_answer_that_an_own_change_overtook_is_corrected_as_long_as_it_may_come() {
    let mut leases = leases();
    let (late, changing) = (leases.begin(), leases.begin());
    leases.changed(1, &attr(7));
    leases.end(changing);
    let newest = |leases: &Leases, change| {
        let mut answer = attr(change);
        leases.newest((1, answer.ino), &mut answer);
        answer.change
    };
    assert_eq!(newest(&leases, 5), 7);
    assert_eq!(newest(&leases, 9), 9, "it is newer itself");
    leases.end(late);
    assert_eq!(newest(&leases, 5), 5, "nobody is left who could need it");
    let alone = leases.begin();
    leases.changed(1, &attr(8));
    leases.end(alone);
    assert!(leases.told_is_empty());
}

#[test]
fn what_is_written_under_a_later_right_or_after_a_doubt_is_numbered_higher() {
    let mut leases = leases();
    let key = (1, 3);
    assert_eq!(leases.turn(key), None, "no right, no turn");
    let give = |leases: &mut Leases, number| {
        let ticket = leases.begin();
        leases.granted(1, &grant(3, LEASE_WRITE, number), ticket);
        leases.end(ticket);
        leases.turn(key).unwrap()
    };
    let first = give(&mut leases, 5);
    assert_eq!(give(&mut leases, 6), first, "it has the right since then");
    leases.doubted(key);
    let doubted = leases.turn(key).unwrap();
    assert!(doubted > first);
    leases.outrun(key, first);
    assert_eq!(leases.turn(key), Some(doubted), "it is beyond that already");
    let seen = proto::osd::Turn { since: 77, round: 3 };
    leases.outrun(key, seen);
    assert!(leases.turn(key).unwrap() > seen);
    let recall = recall(key, LEASE_WRITE, 90);
    leases.recalled(&recall);
    assert!(leases.turn(key).unwrap() > seen, "what is on its way goes on");
    leases.returned(&recall);
    assert_eq!(leases.turn(key), None);
    leases.outrun(key, proto::osd::Turn { since: 99, round: 0 });
    assert!(
        give(&mut leases, 91) < proto::osd::Turn { since: 92, round: 0 },
        "who has no right goes beyond nothing"
    );
    // An earlier process of the session has written to this one.
    leases.assume((1, 4), LEASE_WRITE);
    leases.opened(95);
    assert_eq!(leases.turn((1, 4)), Some(proto::osd::Turn { since: 95, round: 0 }));
    assert!(leases.turn(key).unwrap() < proto::osd::Turn { since: 95, round: 0 }, "this one is its own");
}
