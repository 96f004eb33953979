//! Listings that are answered without a call, and where `..` leads.

use std::time::Duration;

use proto::mrc::{Attr, DirEntry, LEASE_ATTR, LEASE_NAMES, LEASE_WRITE, LeaseGrant, Recall, Time, kind};

use super::{Leases, Moving};

const DIR: (u64, u64) = (1, 2);
const NOW: Duration = Duration::from_secs(1);
/// Entries of the directory, by cookie; inodes are 10 more.
const ALL: [u64; 4] = [3, 4, 7, 9];

fn name(cookie: u64) -> Vec<u8> {
    format!("n{cookie}").into_bytes()
}

fn grant(ino: u64, bits: u32) -> LeaseGrant {
    LeaseGrant { ino, bits, number: 1 }
}

fn attr(ino: u64, kind: u32) -> Attr {
    Attr { ino, mode: kind << 12 | 0o755, size: 4, nlink: 1, ..Attr::default() }
}

fn entry(cookie: u64) -> DirEntry {
    DirEntry { name: name(cookie), ino: cookie + 10, kind: kind::FILE, cookie, attr: None }
}

/// The page after a cookie, of two entries at most.
fn arrives(leases: &mut Leases, after: u64) {
    let ticket = leases.begin();
    let page: Vec<DirEntry> =
        ALL.iter().filter(|cookie| **cookie > after).take(2).copied().map(entry).collect();
    let last = page.last().map_or(after, |entry| entry.cookie);
    let grant = grant(DIR.1, LEASE_ATTR | LEASE_NAMES | LEASE_WRITE);
    leases.granted(DIR.0, &grant, ticket);
    leases.keep_attr(DIR.0, &attr(DIR.1, kind::DIR), &grant, ticket);
    leases.keep_page(DIR, &page, (after, last, last == 9), &grant, ticket);
    leases.end(ticket);
}

fn all_known() -> Leases {
    let mut leases = Leases::default();
    leases.turn_on();
    leases.renewed(Duration::from_secs(100));
    // A kernel whose buffer was full asks from the middle of a page.
    [0, 3, 7].into_iter().for_each(|after| arrives(&mut leases, after));
    leases
}

fn answered(leases: &mut Leases, after: u64, limit: usize) -> Option<(Vec<u64>, bool)> {
    let page = leases.page(DIR, after, limit, false, NOW)?;
    assert!(page.entries.iter().all(|found| *found == entry(found.cookie)));
    Some((page.entries.iter().map(|entry| entry.cookie).collect(), page.end))
}

#[test]
fn a_directory_that_was_listed_to_its_end_is_listed_again_without_a_call() {
    let mut leases = Leases::default();
    leases.turn_on();
    leases.renewed(Duration::from_secs(100));
    arrives(&mut leases, 0);
    assert_eq!(answered(&mut leases, 0, 10), None, "not to its end yet");
    let mut leases = all_known();
    assert_eq!(answered(&mut leases, 0, 10), Some((ALL.to_vec(), true)));
    assert_eq!(answered(&mut leases, 0, 4), Some((ALL.to_vec(), true)));
    assert_eq!(answered(&mut leases, 0, 3), Some((vec![3, 4, 7], false)));
    assert_eq!(answered(&mut leases, 5, 10), Some((vec![7, 9], true)));
    assert_eq!(answered(&mut leases, 9, 10), Some((Vec::new(), true)));
    assert_eq!(leases.page(DIR, 0, 10, false, Duration::from_secs(200)), None, "its time is over");
}

#[test]
fn what_was_taken_away_here_is_left_out_and_what_was_made_is_asked_for() {
    let at = Time::default();
    let mut leases = all_known();
    leases.removed(DIR, &name(4), 14, at);
    assert_eq!(answered(&mut leases, 0, 10), Some((vec![3, 7, 9], true)));
    assert_eq!(answered(&mut leases, 0, 3), Some((vec![3, 7, 9], true)));
    // By the MRC: while that is under way nobody knows.
    leases.change_begin(DIR, Some(&name(9)), NOW);
    assert_eq!(answered(&mut leases, 0, 10), None);
    let ticket = leases.begin();
    leases.change_end(DIR, ticket, (None, false), Some((&name(9), Some(None))));
    assert_eq!(answered(&mut leases, 0, 10), Some((vec![3, 7], true)));
    // It is in another place now.
    leases.made(DIR, &name(4), &attr(14, kind::FILE));
    assert_eq!(answered(&mut leases, 0, 10), None);
    let mut leases = all_known();
    leases.change_begin(DIR, Some(b"new"), NOW);
    let ticket = leases.begin();
    leases.change_end(DIR, ticket, (None, false), Some((b"new", Some(Some(30)))));
    assert_eq!(answered(&mut leases, 0, 10), None);
    let mut leases = all_known();
    leases.change_begin(DIR, Some(&name(3)), NOW);
    let ticket = leases.begin();
    leases.change_end(DIR, ticket, (None, false), Some((&name(3), None)));
    assert_eq!(answered(&mut leases, 0, 10), None, "nobody knows how that ended");
}

#[test]
fn what_was_made_here_is_listed_once_it_is_known_where_it_stands() {
    let at = Time::default();
    let mut leases = all_known();
    assert!(!leases.awaits_order(DIR));
    leases.made(DIR, b"n12", &attr(22, kind::FILE));
    leases.made(DIR, b"n11", &attr(21, kind::FILE));
    leases.placed(DIR, b"n11", (21, kind::FILE), 11);
    assert!(leases.awaits_order(DIR));
    assert_eq!(answered(&mut leases, 0, 10), None);
    leases.placed(DIR, b"n12", (22, kind::FILE), 12);
    assert!(!leases.awaits_order(DIR));
    assert_eq!(answered(&mut leases, 0, 10), Some((vec![3, 4, 7, 9, 11, 12], true)));
    // Taken away and made again: it is at its new place alone. So is what another took the place of.
    leases.removed(DIR, b"n4", 14, at);
    leases.made(DIR, b"n4", &attr(31, kind::FILE));
    leases.placed(DIR, b"n4", (31, kind::FILE), 13);
    let moving = Moving {
        from_dir: attr(DIR.1, kind::DIR),
        to_dir: attr(DIR.1, kind::DIR),
        file: attr(17, kind::FILE),
        replaced: Some(attr(13, kind::FILE)),
    };
    leases.moved((DIR, b"n7"), (DIR, b"n3"), &moving, at);
    leases.placed(DIR, b"n3", (17, kind::FILE), 14);
    let page = leases.page(DIR, 0, 10, false, NOW).unwrap();
    let found: Vec<_> = page.entries.iter().map(|entry| (entry.cookie, entry.ino)).collect();
    assert_eq!(found, [(9, 19), (11, 21), (12, 22), (13, 31), (14, 17)]);
    // A move within the directory, at the place of the old name.
    leases.moved(
        (DIR, b"n12"),
        (DIR, b"z"),
        &Moving { file: attr(22, kind::FILE), replaced: None, ..moving },
        at,
    );
    leases.placed(DIR, b"z", (22, kind::FILE), 12);
    let page = leases.page(DIR, 0, 10, false, NOW).unwrap();
    let found: Vec<_> = page.entries.iter().map(|entry| (entry.cookie, entry.ino)).collect();
    assert_eq!(found, [(9, 19), (11, 21), (12, 22), (13, 31), (14, 17)]);
    // It was given another name before the MRC had heard of the first.
    leases.made(DIR, b"x", &attr(40, kind::FILE));
    leases.removed(DIR, b"x", 40, at);
    leases.placed(DIR, b"x", (40, kind::FILE), 15);
    assert_eq!(leases.page(DIR, 0, 10, false, NOW).unwrap().entries.len(), 5);
    // An MRC that does not say where: it is asked.
    leases.made(DIR, b"y", &attr(41, kind::FILE));
    leases.placed(DIR, b"y", (41, kind::FILE), 0);
    assert_eq!(leases.page(DIR, 0, 10, false, NOW), None);
    assert!(!leases.awaits_order(DIR));
}

#[test]
fn a_directory_that_was_made_here_is_listed_without_a_call() {
    let mut leases = all_known();
    let made = (1, 50);
    leases.made_directory(DIR, b"d", &Attr { size: 0, nlink: 2, ..attr(50, kind::DIR) });
    let found = |leases: &mut Leases| {
        let page = leases.page(made, 0, 10, false, NOW)?;
        Some(page.entries.iter().map(|entry| (entry.ino, entry.kind, entry.cookie)).collect::<Vec<_>>())
    };
    assert_eq!(found(&mut leases), Some(Vec::new()));
    leases.made(made, b"f", &attr(51, kind::FILE));
    leases.made_directory(made, b"sub", &Attr { size: 0, nlink: 2, ..attr(52, kind::DIR) });
    assert_eq!((found(&mut leases), leases.awaits_order(made)), (None, true));
    leases.placed(made, b"sub", (52, kind::DIR), 9);
    leases.placed(made, b"f", (51, kind::FILE), 8);
    assert_eq!(found(&mut leases), Some(vec![(51, kind::FILE, 8), (52, kind::DIR, 9)]));
    leases.forget_early((1, 51), made, b"f");
    assert_eq!(found(&mut leases), None, "the MRC did not take it");
}

#[test]
fn nothing_is_listed_after_a_recall_or_without_the_attributes() {
    let mut leases = all_known();
    assert_eq!(leases.page(DIR, 0, 10, true, NOW), None);
    for cookie in ALL {
        let ticket = leases.begin();
        let grant = grant(cookie + 10, LEASE_ATTR);
        leases.granted(DIR.0, &grant, ticket);
        leases.keep_attr(DIR.0, &attr(cookie + 10, kind::FILE), &grant, ticket);
        leases.end(ticket);
    }
    let page = leases.page(DIR, 0, 10, true, NOW).unwrap();
    assert!(page.entries.iter().all(|entry| entry.attr == Some(attr(entry.ino, kind::FILE))));
    let recall = |ino, bits| Recall { recall: 1, volume: 1, ino, bits, number: 1, tell_handles: false };
    leases.recalled(&recall(17, LEASE_ATTR));
    assert_eq!(leases.page(DIR, 0, 10, true, NOW), None);
    assert_eq!(answered(&mut leases, 0, 10), Some((ALL.to_vec(), true)));
    leases.recalled(&recall(DIR.1, LEASE_NAMES));
    assert_eq!(answered(&mut leases, 0, 10), None);
    assert_eq!(leases.names, 0, "nothing is left of it");
}

/// A directory with these entries, all known: inode, kind.
fn listed(leases: &mut Leases, dir: u64, parent: u64, entries: &[(u64, u32)]) {
    let ticket = leases.begin();
    let of_dir = grant(dir, LEASE_ATTR | LEASE_NAMES);
    leases.granted(1, &of_dir, ticket);
    leases.keep_attr(1, &attr(dir, kind::DIR), &of_dir, ticket);
    let page: Vec<DirEntry> = entries
        .iter()
        .zip(3..)
        .map(|((ino, kind), cookie)| DirEntry {
            name: name(*ino),
            ino: *ino,
            kind: *kind,
            cookie,
            attr: None,
        })
        .collect();
    leases.keep_page((1, dir), &page, (0, 2 + page.len() as u64, true), &of_dir, ticket);
    leases.keep_parent((1, dir), parent, &of_dir, ticket);
    for (ino, kind) in entries {
        let of_entry = grant(*ino, LEASE_ATTR);
        leases.granted(1, &of_entry, ticket);
        leases.keep_attr(1, &attr(*ino, *kind), &of_entry, ticket);
    }
    leases.end(ticket);
}

/// The MRC numbers a file now and then that another client makes: its number is far from those around it.
#[test]
fn what_comes_next_in_a_directory_is_so_by_its_order_and_not_by_numbers() {
    let (file, directory) = (kind::FILE, kind::DIR);
    let mut leases = Leases::default();
    leases.turn_on();
    leases.renewed(Duration::from_secs(100));
    let entries = [(30, file), (31, file), (40, directory), (900, file), (32, file), (33, file), (34, file)];
    listed(&mut leases, 2, 1, &entries);
    assert_eq!(leases.siblings((1, 2), 31, 4), [900, 32, 33, 31]);
    assert_eq!(leases.siblings((1, 2), 33, 4), [34, 30, 31, 33], "then those at the beginning");
    assert_eq!(leases.siblings((1, 2), 31, 100).len(), 6, "and no directory");
    leases.made((1, 2), &name(50), &attr(50, file));
    leases.placed((1, 2), &name(50), (50, file), 0);
    assert_eq!(leases.siblings((1, 2), 31, 4), [32, 33, 34, 31], "by number where the order is not known");
}

#[test]
fn what_comes_next_in_a_tree_is_found_in_the_order_of_the_listings() {
    let (file, directory) = (kind::FILE, kind::DIR);
    let mut leases = Leases::default();
    leases.turn_on();
    leases.renewed(Duration::from_secs(100));
    listed(
        &mut leases,
        2,
        1,
        &[(20, directory), (21, directory), (22, directory), (23, file), (24, directory)],
    );
    listed(&mut leases, 20, 2, &[(30, file)]);
    listed(&mut leases, 21, 2, &[(31, file), (40, directory), (32, kind::SYMLINK)]);
    listed(&mut leases, 40, 21, &[(41, file), (42, file)]);
    listed(&mut leases, 24, 2, &[(50, file)]);
    // 22 was never listed.
    assert_eq!(leases.next_in_tree((1, 20), 64, 100), (vec![2, 21, 40, 24], vec![31, 41, 42, 50]));
    assert_eq!(leases.next_in_tree((1, 20), 64, 2).1, [31], "as many as there is room for");
    assert_eq!(leases.next_in_tree((1, 20), 2, 100), (vec![2, 21], vec![31]));
    assert_eq!(leases.next_in_tree((1, 24), 64, 100), (vec![2], Vec::new()), "the last one");
    assert_eq!(leases.next_in_tree((1, 99), 64, 100), (Vec::new(), Vec::new()), "nobody knows where it is");
    let ticket = leases.begin();
    let own = LeaseGrant { number: 2, ..grant(21, LEASE_ATTR | LEASE_NAMES | LEASE_WRITE) };
    leases.granted(1, &own, ticket);
    leases.end(ticket);
    assert_eq!(leases.next_in_tree((1, 20), 64, 100).0, [2, 40, 24], "what is ours is not asked for");
}

#[test]
fn where_a_directory_lies_is_known_until_it_may_be_moved() {
    let known = || {
        let mut leases = all_known();
        let ticket = leases.begin();
        let grant = grant(DIR.1, LEASE_ATTR | LEASE_NAMES | LEASE_WRITE);
        leases.keep_parent(DIR, 1, &grant, ticket);
        leases.end(ticket);
        leases
    };
    let mut leases = known();
    assert_eq!(leases.parent(DIR, NOW), Some(1));
    leases.change_begin(DIR, Some(b"x"), NOW);
    assert_eq!(leases.parent(DIR, NOW), Some(1), "a name in it makes no difference");
    let mut leases = known();
    leases.change_begin(DIR, None, NOW);
    assert_eq!(leases.parent(DIR, NOW), None);
    let mut leases = known();
    let recall = Recall {
        recall: 1,
        volume: 1,
        ino: DIR.1,
        bits: LEASE_ATTR | LEASE_NAMES | LEASE_WRITE,
        number: 1,
        tell_handles: false,
    };
    leases.recalled(&recall);
    assert_eq!(leases.parent(DIR, NOW), None);
}
