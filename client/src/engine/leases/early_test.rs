//! Names made, moved and taken away before the MRC hears of them.

use std::time::Duration;

use proto::limits::LINKS_MAX;
use proto::mrc::{
    Attr, KeptAttributes, LEASE_ATTR, LEASE_NAMES, LEASE_READ, LEASE_WRITE, LeaseGrant, Recall, Time, kind,
};

use super::early::{EARLY, MAKES};
use super::{Key, Leases, Permit, Use};

const DIR: Key = (1, 5);
const FILE: Key = (1, 70);
const NOW: Duration = Duration::from_secs(10);

fn time(seconds: i64) -> Time {
    Time { seconds, nanos: 0 }
}

fn directory() -> Attr {
    let (mode, mtime) = (kind::DIR << 12 | 0o755, time(3));
    Attr { ino: DIR.1, mode, nlink: 2, mtime, change: 4, ..Attr::default() }
}

fn file() -> Attr {
    Attr { ino: FILE.1, mode: kind::FILE << 12, nlink: 1, mtime: time(9), change: 1, ..Attr::default() }
}

fn grant(ino: u64, bits: u32, number: u64) -> LeaseGrant {
    LeaseGrant { ino, bits, number }
}

/// An empty directory in which names may be made.
fn maker() -> Leases {
    let mut leases = Leases::default();
    leases.turn_on();
    leases.renewed(Duration::from_secs(60));
    let ticket = leases.begin();
    let given = grant(DIR.1, MAKES, 10);
    leases.granted(1, &given, ticket);
    leases.keep_attr(1, &directory(), &given, ticket);
    leases.end(ticket);
    leases
}

#[test]
fn a_name_is_made_where_it_is_known_to_be_absent_and_others_cannot_look() {
    let mut leases = maker();
    assert!(leases.may_make(DIR, b"x", NOW).is_some());
    leases.made(DIR, b"x", &file());
    assert_eq!(leases.may_make(DIR, b"x", NOW), None, "it is there");
    assert_eq!(leases.name(DIR, b"x", NOW), Some(Some(FILE.1)));
    let dir = leases.attr(DIR, NOW).unwrap();
    assert_eq!((dir.size, dir.mtime, dir.change), (1, time(9), 4));
    assert_eq!(leases.attr(FILE, NOW), Some(file()));
    assert_eq!(leases.try_use(FILE, Use::Write, NOW), Permit::Granted);
    leases.release(FILE, Use::Write);
    assert!(leases.held().iter().all(|held| held.ino != FILE.1), "no leader is told of it");
    // Past the time of the leases, and while somebody wants the directory.
    assert_eq!(leases.may_make(DIR, b"y", Duration::from_secs(61)), None);
    leases.recalled(&Recall {
        recall: 1,
        volume: 1,
        ino: DIR.1,
        bits: LEASE_WRITE,
        number: 10,
        tell_handles: false,
    });
    assert_eq!(leases.may_make(DIR, b"y", NOW), None);
    assert_eq!(leases.name(DIR, b"x", NOW), Some(Some(FILE.1)), "names are kept still");
}

#[test]
fn the_answer_brings_grants_or_says_what_did_not_come() {
    for (given, missing) in [(Some(EARLY), 0), (Some(LEASE_ATTR | LEASE_READ), LEASE_WRITE), (None, EARLY)] {
        let mut leases = maker();
        leases.made(DIR, b"x", &file());
        let ticket = leases.begin();
        let grants: Vec<LeaseGrant> = given.map(|bits| grant(FILE.1, bits, 20)).into_iter().collect();
        assert_eq!(leases.confirm(1, &file(), &grants, ticket), missing);
        leases.end(ticket);
        let held = leases.held().iter().find(|held| held.ino == FILE.1).map(|held| held.bits);
        assert_eq!(held, given);
        assert_eq!(leases.attr(FILE, NOW).is_some(), given.is_some());
        assert_eq!(leases.len(), 1 + usize::from(given.is_some()));
        assert_eq!(leases.confirm(1, &file(), &grants, ticket), 0, "once");
    }
}

#[test]
fn a_recall_that_overtakes_the_answer_is_not_missing() {
    let mut leases = maker();
    leases.made(DIR, b"x", &file());
    let ticket = leases.begin();
    let recall =
        Recall { recall: 30, volume: 1, ino: FILE.1, bits: LEASE_WRITE, number: 20, tell_handles: false };
    leases.recalled(&recall);
    assert_eq!(leases.try_use(FILE, Use::Write, NOW), Permit::Ask);
    assert_eq!(leases.confirm(1, &file(), &[grant(FILE.1, EARLY, 20)], ticket), 0);
    assert_eq!(leases.bits(FILE, NOW), LEASE_ATTR | LEASE_READ);
    assert_eq!(leases.returned(&recall).bits, LEASE_WRITE);
    assert_eq!(leases.held().iter().find(|held| held.ino == FILE.1).unwrap().bits, LEASE_ATTR | LEASE_READ);
}

#[test]
fn what_the_mrc_did_not_take_is_not_there_and_asked_for() {
    let mut leases = maker();
    leases.made(DIR, b"x", &file());
    leases.forget_early(FILE, DIR, b"x");
    assert_eq!(leases.name(DIR, b"x", NOW), None);
    assert_eq!((leases.attr(FILE, NOW), leases.attr(DIR, NOW)), (None, None));
    assert_eq!(leases.len(), 1);
}

#[test]
fn a_file_is_removed_where_others_cannot_look_at_it() {
    let mut leases = maker();
    leases.made(DIR, b"x", &file());
    assert!(leases.may_remove(DIR, b"x", NOW).is_some(), "also when the MRC has yet to hear of it");
    let ticket = leases.begin();
    leases.confirm(1, &file(), &[grant(FILE.1, EARLY, 20)], ticket);
    leases.end(ticket);
    assert_eq!(leases.may_remove(DIR, b"y", NOW), None, "not there");
    assert_eq!(leases.may_remove(DIR, b"x", Duration::from_secs(61)), None, "past the leases");
    let (of_dir, of_file) = leases.may_remove(DIR, b"x", NOW).unwrap();
    assert_eq!((of_dir.size, of_file.ino), (1, FILE.1));
    leases.removed(DIR, b"x", FILE.1, time(11));
    assert_eq!(leases.name(DIR, b"x", NOW), Some(None));
    let dir = leases.attr(DIR, NOW).unwrap();
    assert_eq!((dir.size, dir.mtime, dir.ctime), (0, time(11), time(11)));
    assert_eq!(leases.attr(FILE, NOW), None, "it is asked for");
    assert!(leases.may_make(DIR, b"x", NOW).is_some());
    assert_eq!(leases.bits(FILE, NOW), EARLY, "others ask us for it until the MRC has removed it");
    leases.freed(FILE);
    assert_eq!(leases.len(), 1);
}

#[test]
fn a_file_moves_and_what_it_replaces_is_gone() {
    let mut leases = maker();
    leases.made(DIR, b"x", &file());
    let other = Attr { ino: 71, ..file() };
    leases.made(DIR, b"y", &other);
    let moving = leases.may_move((DIR, b"x"), (DIR, b"z"), NOW).unwrap();
    assert_eq!((moving.file.ino, moving.replaced.is_none()), (FILE.1, true));
    leases.moved((DIR, b"x"), (DIR, b"z"), &moving, time(11));
    assert_eq!(leases.name(DIR, b"x", NOW), Some(None));
    assert_eq!(leases.name(DIR, b"z", NOW), Some(Some(FILE.1)));
    assert_eq!(leases.attr(FILE, NOW).unwrap().ctime, time(11));
    let dir = leases.attr(DIR, NOW).unwrap();
    assert_eq!((dir.size, dir.mtime), (2, time(11)));
    assert_eq!(leases.may_move((DIR, b"x"), (DIR, b"z"), NOW), None, "not there any more");
    assert_eq!(leases.may_move((DIR, b"z"), (DIR, b"z"), NOW), None, "nothing to do");
    let moving = leases.may_move((DIR, b"z"), (DIR, b"y"), NOW).unwrap();
    assert_eq!(moving.replaced.as_ref().map(|attr| attr.ino), Some(71));
    leases.moved((DIR, b"z"), (DIR, b"y"), &moving, time(12));
    assert_eq!(leases.name(DIR, b"y", NOW), Some(Some(FILE.1)));
    assert_eq!((leases.attr(DIR, NOW).unwrap().size, leases.attr((1, 71), NOW)), (1, None));
    // Into a directory that others may use.
    assert_eq!(leases.may_move((DIR, b"y"), ((1, 6), b"y"), NOW), None);
}

#[test]
fn a_directory_is_made_and_filled_before_the_mrc_hears_of_it() {
    let inner = Attr { ino: 20, nlink: 2, size: 0, ..directory() };
    let key = (1, 20);
    let mut leases = maker();
    assert!(leases.may_make(DIR, b"sub", NOW).is_some());
    leases.made_directory(DIR, b"sub", &inner);
    let of_dir = leases.attr(DIR, NOW).unwrap();
    assert_eq!((of_dir.size, of_dir.nlink, leases.attr(key, NOW)), (1, 3, Some(inner.clone())));
    assert!(leases.held().iter().all(|held| held.ino != 20), "no leader is told of it");
    assert_eq!(leases.name(key, b"x", NOW), Some(None), "it is empty");
    assert!(leases.may_make(key, b"x", NOW).is_some());
    leases.made(key, b"x", &file());
    let kept = KeptAttributes { mode: Some(0o700), ctime: time(20), ..KeptAttributes::default() };
    assert!(leases.may_set(key, NOW).is_some());
    let set = leases.set(key, &kept).unwrap();
    assert_eq!((set.mode, set.ctime, set.size), (kind::DIR << 12 | 0o700, time(20), 1));
    assert_eq!(leases.may_set(FILE, NOW), None, "a file is set otherwise");
    let ticket = leases.begin();
    assert_eq!(leases.confirm(1, &inner, &[grant(20, MAKES, 20)], ticket), 0);
    leases.end(ticket);
    assert_eq!(leases.attr(key, NOW), Some(set), "the answer knows less");
    assert_eq!((leases.name(key, b"x", NOW), leases.name(key, b"y", NOW)), (Some(Some(FILE.1)), Some(None)));
    assert!(leases.held().iter().any(|held| (held.ino, held.bits) == (20, MAKES)));
    assert_eq!(leases.may_set(key, Duration::from_secs(61)), None, "past the leases");
}

#[test]
fn the_answer_to_a_create_does_not_take_away_what_was_done_since() {
    let mut leases = maker();
    leases.made(DIR, b"x", &file());
    let ticket = leases.begin();
    leases.linked(DIR, b"y", FILE.1, time(11)).unwrap();
    assert_eq!(leases.confirm(1, &file(), &[grant(FILE.1, EARLY, 20)], ticket), 0);
    leases.end(ticket);
    assert_eq!(leases.attr(FILE, NOW).unwrap().nlink, 2);
    assert!(leases.is_untold(FILE));
}

#[test]
fn what_the_mrc_has_sent_knows_less_of_names() {
    let mut leases = maker();
    leases.made(DIR, b"x", &file());
    // It was moved, which counts as a change at the MRC and not here; somebody has asked for it, and heard of that.
    let (other, ticket) = (leases.begin(), leases.begin());
    leases.changed(1, &Attr { change: 5, ..file() });
    leases.end(ticket);
    let linked = leases.linked(DIR, b"y", FILE.1, time(11)).unwrap();
    let mut shown = linked.clone();
    leases.newest(FILE, &mut shown);
    assert_eq!((shown.change, shown.nlink, shown.ctime), (5, 2, time(11)));
    leases.end(other);
}

#[test]
fn a_file_gets_a_further_name_and_goes_with_its_last() {
    let mut leases = maker();
    leases.made(DIR, b"x", &file());
    assert_eq!(leases.may_link(DIR, b"x", FILE.1, NOW), None, "the name is taken");
    assert_eq!(leases.may_link(DIR, b"y", 99, NOW), None, "not ours");
    assert_eq!(leases.may_link(DIR, b"y", FILE.1, Duration::from_secs(61)), None, "past the leases");
    let (of_dir, of_file) = leases.may_link(DIR, b"y", FILE.1, NOW).unwrap();
    assert_eq!((of_dir.size, of_file.nlink), (1, 1));
    let linked = leases.linked(DIR, b"y", FILE.1, time(11)).unwrap();
    assert_eq!((linked.nlink, linked.ctime, leases.attr(FILE, NOW)), (2, time(11), Some(linked.clone())));
    assert_eq!(leases.name(DIR, b"y", NOW), Some(Some(FILE.1)));
    assert_eq!(leases.may_move((DIR, b"x"), (DIR, b"y"), NOW), None, "both stay");
    assert!(leases.is_untold(FILE), "what is reported of it waits");
    leases.told_name(FILE);
    assert!(!leases.is_untold(FILE));
    let (_, of_file) = leases.may_remove(DIR, b"x", NOW).unwrap();
    leases.removed(DIR, b"x", of_file.ino, time(12));
    let left = leases.attr(FILE, NOW).unwrap();
    assert_eq!((left.nlink, left.ctime, leases.attr(DIR, NOW).unwrap().size), (1, time(12), 1));
    assert!(leases.is_untold(FILE));
    leases.removed(DIR, b"y", FILE.1, time(13));
    assert_eq!((leases.attr(FILE, NOW), leases.attr(DIR, NOW).unwrap().size), (None, 0));
    let full = Attr { nlink: LINKS_MAX, ..file() };
    let mut leases = maker();
    leases.made(DIR, b"x", &full);
    assert_eq!(leases.may_link(DIR, b"y", FILE.1, NOW), None, "the MRC refuses it");
}

#[test]
fn what_was_removed_before_the_mrc_heard_of_it_stays_so_with_the_answer() {
    let mut leases = maker();
    leases.made(DIR, b"x", &file());
    leases.removed(DIR, b"x", FILE.1, time(11));
    let ticket = leases.begin();
    assert_eq!(leases.confirm(1, &file(), &[grant(FILE.1, EARLY, 20)], ticket), 0);
    leases.end(ticket);
    assert_eq!((leases.name(DIR, b"x", NOW), leases.attr(FILE, NOW)), (Some(None), None));
    leases.freed(FILE);
    assert_eq!(leases.len(), 1);
}

#[test]
fn what_others_may_know_of_is_the_mrcs_to_remove() {
    let recall = |ino, bits, number| Recall { recall: 1, volume: 1, ino, bits, number, tell_handles: false };
    let with = |given: u32, attr: Attr| {
        let mut leases = maker();
        let ticket = leases.begin();
        let grant = grant(FILE.1, given, 20);
        leases.granted(1, &grant, ticket);
        leases.keep_attr(1, &attr, &grant, ticket);
        leases.insert_name(DIR, b"x", Some(FILE.1));
        leases.end(ticket);
        leases
    };
    assert!(with(EARLY, file()).may_remove(DIR, b"x", NOW).is_some());
    assert_eq!(with(LEASE_ATTR | LEASE_READ, file()).may_remove(DIR, b"x", NOW), None);
    for attr in [
        Attr { flags: 1, ..file() },
        Attr { mode: kind::DIR << 12, ..file() },
        Attr { mode: kind::FIFO << 12, ..file() },
    ] {
        assert_eq!(with(EARLY, attr.clone()).may_remove(DIR, b"x", NOW), None, "{attr:?}");
    }
    for what in [recall(FILE.1, LEASE_WRITE, 20), recall(DIR.1, LEASE_WRITE, 10)] {
        let mut leases = with(EARLY, file());
        leases.recalled(&what);
        assert_eq!(leases.may_remove(DIR, b"x", NOW), None);
    }
    let mut leases = with(EARLY, file());
    leases.change_begin(FILE, None, NOW);
    assert_eq!(leases.may_remove(DIR, b"x", NOW), None, "it may be getting another name");
}

#[test]
fn a_right_that_comes_later_serves_for_names_that_were_known_before() {
    let mut leases = Leases::default();
    leases.turn_on();
    leases.renewed(Duration::from_secs(60));
    let ticket = leases.begin();
    let given = grant(DIR.1, LEASE_NAMES | LEASE_ATTR, 1);
    leases.granted(1, &given, ticket);
    leases.keep_name(DIR, b"x", Some(FILE.1), &given, ticket);
    leases.end(ticket);
    // The kernel looks whether the new name is there.
    let ticket = leases.begin();
    leases.keep_absent(DIR, b"y", ticket);
    leases.end(ticket);
    assert_eq!(leases.may_move((DIR, b"x"), (DIR, b"y"), NOW), None);
    let ticket = leases.begin();
    let of_dir = Attr { size: 1, ..directory() };
    for (of, bits, number) in [(of_dir, MAKES, 2), (file(), EARLY, 3)] {
        let given = grant(of.ino, bits, number);
        leases.granted(1, &given, ticket);
        leases.keep_attr(1, &of, &given, ticket);
    }
    leases.end(ticket);
    assert!(leases.may_move((DIR, b"x"), (DIR, b"y"), NOW).is_some());
    assert!(leases.may_remove(DIR, b"x", NOW).is_some());
}

#[test]
fn siblings_are_files_that_are_not_ours_by_number() {
    let mut leases = maker();
    let ticket = leases.begin();
    for ino in 10..20 {
        leases.keep_name(DIR, format!("{ino}").as_bytes(), Some(ino), &grant(DIR.1, MAKES, 9), ticket);
    }
    assert_eq!(
        leases.siblings(DIR, 17, 4).iter().copied().collect::<std::collections::BTreeSet<_>>(),
        [10, 17, 18, 19].into()
    );
    assert_eq!(leases.siblings(DIR, 17, 100).len(), 10);
    assert_eq!(leases.siblings((1, 99), 5, 4), [5]);
}

#[test]
fn an_empty_directory_that_nobody_else_may_look_into_is_removed() {
    let inner = Attr { ino: 20, nlink: 2, ..directory() };
    let with = |bits: u32, size: u64| {
        let mut leases = Leases::default();
        leases.turn_on();
        leases.renewed(Duration::from_secs(60));
        let ticket = leases.begin();
        let of_dir = Attr { size: 1, nlink: 3, ..directory() };
        for (of, bits) in [(of_dir, MAKES), (Attr { size, ..inner.clone() }, bits)] {
            let given = grant(of.ino, bits, 10);
            leases.granted(1, &given, ticket);
            leases.keep_attr(1, &of, &given, ticket);
        }
        leases.keep_name(DIR, b"sub", Some(20), &grant(DIR.1, MAKES, 10), ticket);
        leases.end(ticket);
        leases
    };
    assert_eq!(with(MAKES, 1).may_remove_directory(DIR, b"sub", NOW), None, "there is something in it");
    assert_eq!(with(LEASE_ATTR | LEASE_NAMES, 0).may_remove_directory(DIR, b"sub", NOW), None);
    let mut leases = with(MAKES, 0);
    assert_eq!(leases.may_remove(DIR, b"sub", NOW), None, "it is no file");
    let (of_dir, removed) = leases.may_remove_directory(DIR, b"sub", NOW).unwrap();
    assert_eq!((of_dir.nlink, removed.ino), (3, 20));
    leases.removed_directory(DIR, b"sub", 20, Time::default());
    let of_dir = leases.attr(DIR, NOW).unwrap();
    assert_eq!((of_dir.size, of_dir.nlink), (0, 2));
    assert_eq!((leases.attr((1, 20), NOW), leases.name(DIR, b"sub", NOW)), (None, Some(None)));
    assert_eq!(leases.may_make((1, 20), b"x", NOW), None, "nothing is made in it any more");
    let mut leases = with(MAKES, 0);
    leases.recalled(&Recall {
        recall: 1,
        volume: 1,
        ino: 20,
        bits: LEASE_WRITE,
        number: 10,
        tell_handles: false,
    });
    assert_eq!(leases.may_remove_directory(DIR, b"sub", NOW), None, "somebody looks into it");
}

#[test]
fn answers_that_were_on_their_way_do_not_undo_it() {
    let mut leases = maker();
    let ticket = leases.begin();
    leases.made(DIR, b"x", &file());
    let given = grant(DIR.1, MAKES, 11);
    leases.granted(1, &given, ticket);
    leases.keep_attr(1, &directory(), &given, ticket);
    leases.keep_absent(DIR, b"x", ticket);
    assert_eq!(leases.name(DIR, b"x", NOW), Some(Some(FILE.1)));
    assert_eq!(leases.attr(DIR, NOW).unwrap().size, 1);
}

#[test]
fn who_lost_everything_has_made_nothing() {
    let mut leases = maker();
    leases.made(DIR, b"x", &file());
    assert_eq!(leases.expelled(), [DIR, FILE], "the kernel forgets both");
    assert_eq!((leases.len(), leases.held().len()), (0, 0));
    assert_eq!(leases.attr(FILE, NOW), None);
}
