//! The change stream: readers that keep a copy of a subtree by it, against the subtree itself.

use std::collections::{BTreeMap, BTreeSet};

use mrc::changes::{index_of, page, trim};
use mrc::command::{Body, TrimChanges};
use mrc::namespace::inode;
use proptest::prelude::*;
use proto::changes::{Change, ChangesRequest, INSIDE_FROM, INSIDE_TO, event};
use proto::error::Code;
use proto::mrc::{RENAME_EXCHANGE, kind};

use crate::harness::{Replica, VOLUME, head};
use crate::model::{self, Tree};

type Names = BTreeMap<(u64, Vec<u8>), u64>;

/// What lies below a directory, by asking the table.
fn below(replica: &Replica, root: u64) -> Names {
    let (mut names, mut open) = (Names::new(), vec![root]);
    while let Some(dir) = open.pop() {
        for entry in replica.list(dir, 100).unwrap() {
            if entry.kind == kind::DIR {
                open.push(entry.ino);
            }
            names.insert((dir, entry.name), entry.ino);
        }
    }
    names
}

fn request(subtree: u64, limit: u32) -> ChangesRequest {
    ChangesRequest { head: head(0, 0, true), subtree, from: None, wait_ms: 0, limit }
}

/// Everything after `from`, in pages of `limit`; and the cursor behind it.
pub(crate) fn read(replica: &Replica, subtree: u64, mut from: u64, limit: u32) -> (Vec<Change>, u64) {
    let (mut all, asked) = (Vec::new(), request(subtree, limit));
    loop {
        let page = page::read(&replica.table, &asked, from, replica.index()).unwrap();
        from = page.reply.next;
        all.extend(page.reply.changes);
        if !page.more {
            return (all, from);
        }
    }
}

/// A copy of a subtree that is kept by its events alone; directories that come along with a rename are looked at.
struct Mirror {
    root: u64,
    names: Names,
    cursor: u64,
    /// Reads everything twice: delivery is at least once.
    twice: bool,
}

impl Mirror {
    fn new(replica: &Replica, root: u64, twice: bool) -> Self {
        let (_, cursor) = read(replica, root, 0, 0);
        Self { root, names: below(replica, root), cursor, twice }
    }

    fn follow(&mut self, replica: &Replica) {
        let (changes, next) = read(replica, self.root, self.cursor, 3);
        for _ in 0..=usize::from(self.twice) {
            for change in &changes {
                self.apply(replica, change);
            }
        }
        self.cursor = next;
    }

    fn apply(&mut self, replica: &Replica, change: &Change) {
        let (from, to) = (change.inside & INSIDE_FROM != 0, change.inside & INSIDE_TO != 0);
        match change.kind {
            event::CREATED | event::LINKED => {
                self.names.insert((change.parent, change.name.clone()), change.ino);
            }
            event::REMOVED => {
                self.names.remove(&(change.parent, change.name.clone()));
            }
            event::RENAMED => {
                let old = (change.parent, change.name.clone());
                // An exchange: the other one stands there already.
                if from && self.names.get(&old) == Some(&change.ino) {
                    self.names.remove(&old);
                }
                if to {
                    self.names.insert((change.new_parent, change.new_name.clone()), change.ino);
                }
                if change.file_kind == kind::DIR && from && !to {
                    self.drop_below(change.ino);
                }
                if change.file_kind == kind::DIR && to && !from && replica.getattr(change.ino).is_ok() {
                    self.names.extend(below(replica, change.ino));
                }
            }
            _ => {}
        }
    }

    fn drop_below(&mut self, dir: u64) {
        let gone: Vec<_> = self
            .names
            .range((dir, Vec::new())..(dir + 1, Vec::new()))
            .map(|(key, ino)| (key.clone(), *ino))
            .collect();
        for (key, ino) in gone {
            self.names.remove(&key);
            self.drop_below(ino);
        }
    }

    /// Only what hangs on the root: leftovers below removed directories hang on nothing.
    fn reachable(&self) -> Names {
        let (mut names, mut open, mut seen) = (Names::new(), vec![self.root], BTreeSet::new());
        while let Some(dir) = open.pop() {
            if !seen.insert(dir) {
                continue;
            }
            for (key, ino) in self.names.range((dir, Vec::new())..(dir + 1, Vec::new())) {
                names.insert(key.clone(), *ino);
                open.push(*ino);
            }
        }
        names
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever follows a directory step by step, or all at once afterwards, or reads everything twice, ends with
    /// what is there.
    #[test]
    fn a_copy_kept_by_the_stream_equals_the_subtree(ops in proptest::collection::vec(model::op(), 1..100)) {
        let (mut replica, mut tree) = (Replica::new(), Tree::new());
        let mut mirrors: Vec<(bool, Mirror)> = Vec::new();
        for (at, op) in ops.iter().enumerate() {
            model::step(&mut replica, &mut tree, op);
            model::reap(&mut replica);
            if at % 8 == 0 {
                for root in 1..6 {
                    if mirrors.len() < 24 && replica.getattr(root).is_ok_and(|attr| attr.mode >> 12 == kind::DIR) {
                        mirrors.push((at % 16 == 0, Mirror::new(&replica, root, at % 3 == 0)));
                    }
                }
            }
            for (stepwise, mirror) in &mut mirrors {
                if *stepwise && !mirror.twice {
                    mirror.follow(&replica);
                    if replica.getattr(mirror.root).is_ok() {
                        assert_eq!(mirror.reachable(), below(&replica, mirror.root), "below {} after {op:?}", mirror.root);
                    }
                }
            }
        }
        for (_, mirror) in &mut mirrors {
            mirror.follow(&replica);
            if !mirror.twice && replica.getattr(mirror.root).is_ok() {
                assert_eq!(mirror.reachable(), below(&replica, mirror.root), "below {} at the end", mirror.root);
            }
        }
    }
}

fn told(changes: &[Change]) -> Vec<(u32, String)> {
    changes.iter().map(|change| (change.kind, String::from_utf8_lossy(&change.name).into_owned())).collect()
}

#[test]
fn what_happened_in_a_directory_belongs_to_where_it_was_then() {
    let mut replica = Replica::new();
    let a = replica.mkdir(1, "a", 0o755).unwrap().ino;
    let b = replica.mkdir(1, "b", 0o755).unwrap().ino;
    let d = replica.mkdir(a, "d", 0o755).unwrap().ino;
    let start = read(&replica, 1, 0, 0).1;
    replica.mkfile(d, "in-a", 0o644).unwrap();
    replica.rename((a, "d"), (b, "d"), 0, 0).unwrap();
    replica.mkfile(d, "in-b", 0o644).unwrap();
    for name in ["in-a", "in-b"] {
        replica.unlink(d, name, replica.lookup(d, name).unwrap().ino).unwrap();
    }
    replica.rmdir(b, "d").unwrap();
    let of = |root| told(&read(&replica, root, start, 0).0);
    let name = |kind, name: &str| (kind, name.to_owned());
    assert_eq!(of(a), [name(event::CREATED, "in-a"), name(event::RENAMED, "d")]);
    let later = [
        name(event::RENAMED, "d"),
        name(event::CREATED, "in-b"),
        name(event::REMOVED, "in-a"),
        name(event::REMOVED, "in-b"),
        name(event::REMOVED, "d"),
    ];
    assert_eq!(of(b), later);
    assert_eq!(of(1).len(), 6);
}

#[test]
fn events_of_a_file_come_in_each_directory_that_has_a_link() {
    let mut replica = Replica::new();
    let (a, b) = (replica.mkdir(1, "a", 0o755).unwrap().ino, replica.mkdir(1, "b", 0o755).unwrap().ino);
    let file = replica.mkfile(a, "x", 0o644).unwrap().ino;
    replica.link(file, b, "y").unwrap();
    let chmod = |replica: &mut Replica| {
        let start = read(replica, 1, 0, 0).1;
        let change = proto::mrc::SetAttrRequest { mode: Some(0o600), ..replica.change_of(file) };
        replica.setattr(change).unwrap();
        [a, b].map(|root| told(&read(replica, root, start, 0).0))
    };
    let in_a = vec![(event::ATTRIBUTES, "x".to_owned())];
    let in_b = vec![(event::ATTRIBUTES, "y".to_owned())];
    assert_eq!(chmod(&mut replica), [in_a, in_b.clone()]);
    // The home goes, the other link takes its place.
    replica.unlink(a, "x", 0).unwrap();
    assert_eq!(chmod(&mut replica), [vec![], in_b]);
    replica.rename((b, "y"), (a, "z"), 0, 0).unwrap();
    assert_eq!(chmod(&mut replica), [vec![(event::ATTRIBUTES, "z".to_owned())], vec![]]);
    assert_eq!(inode::get(&replica.table, VOLUME, file).unwrap().parent, a);
}

#[test]
fn a_file_without_a_name_tells_nobody() {
    let mut replica = Replica::new();
    let file = replica.mkfile(1, "x", 0o644).unwrap().ino;
    let other = replica.mkdir(1, "other", 0o755).unwrap().ino;
    replica.unlink(1, "x", 0).unwrap();
    let start = read(&replica, 1, 0, 0).1;
    let change = proto::mrc::SetAttrRequest { size: Some(7), ..replica.change_of(file) };
    replica.setattr(change).unwrap();
    assert_eq!(read(&replica, other, start, 0).0, []);
    assert_eq!(read(&replica, 1, start, 0).0, []);
}

#[test]
fn an_exchange_of_directories_takes_their_later_events_along() {
    let mut replica = Replica::new();
    let (a, b) = (replica.mkdir(1, "a", 0o755).unwrap().ino, replica.mkdir(1, "b", 0o755).unwrap().ino);
    let (x, y) = (replica.mkdir(a, "x", 0o755).unwrap().ino, replica.mkdir(b, "y", 0o755).unwrap().ino);
    let start = read(&replica, 1, 0, 0).1;
    replica.mkfile(x, "before", 0o644).unwrap();
    replica.rename((a, "x"), (b, "y"), RENAME_EXCHANGE, 0).unwrap();
    replica.mkfile(x, "x-after", 0o644).unwrap();
    replica.mkfile(y, "y-after", 0o644).unwrap();
    let created = |root| {
        let changes = read(&replica, root, start, 0).0;
        told(&changes)
            .into_iter()
            .filter(|(kind, _)| *kind == event::CREATED)
            .map(|(_, name)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(created(a), ["before", "y-after"]);
    assert_eq!(created(b), ["x-after"]);
}

#[test]
fn a_reader_who_was_away_too_long_is_told_of_the_gap() {
    let mut replica = Replica::new();
    let start = read(&replica, 1, 0, 0).1;
    for n in 0..10 {
        replica.mkdir(1, &format!("d{n}"), 0o755).unwrap();
    }
    replica.rmdir(1, "d0").unwrap();
    let all = read(&replica, 1, start, 0).0;
    let upto = all[6].cursor;
    let cut = TrimChanges { volume: VOLUME, upto, limit: 4 };
    replica.run(Body::TrimChanges(cut)).unwrap();
    replica.run(Body::TrimChanges(cut)).unwrap();
    let (after, next) = read(&replica, 1, start, 0);
    assert_eq!((after[0].kind, after[0].cursor), (event::GAP, upto));
    assert_eq!(after[1..], all[7..]);
    assert_eq!(read(&replica, 1, next, 0).0, []);
    // Who is not behind sees no gap.
    assert_eq!(read(&replica, 1, upto, 0).0, all[7..]);
    let ahead = page::read(&replica.table, &request(1, 0), u64::MAX / 2, replica.index()).unwrap_err();
    assert_eq!(proto::error::WireError::from(ahead).code, Code::InvalidArgument);
    // All of it can go, with what it kept of removed directories.
    replica.run(Body::TrimChanges(TrimChanges { upto: u64::MAX - 1, limit: 1000, ..cut })).unwrap();
    let left = |which| replica.table.dump().into_iter().filter(|(key, _)| key[0] == which).count();
    assert_eq!((left(0x20), left(0x21), left(0x22)), (0, 0, 1));
}

#[test]
fn the_log_is_cut_by_age_and_by_entries() {
    let mut replica = Replica::new();
    for n in 0..5 {
        replica.mkdir(1, &format!("d{n}"), 0o755).unwrap();
    }
    let last = read(&replica, 1, 0, 0).0.last().unwrap().clone();
    let due = |applied, now| trim::due(&replica.table, VOLUME, applied, now).unwrap();
    let now = last.time.seconds;
    assert_eq!(due(replica.index(), now), None);
    assert_eq!(
        due(replica.index(), now + trim::AGE_MAX_S),
        Some(last.cursor).map(|_| read(&replica, 1, 0, 0).0[3].cursor)
    );
    assert_eq!(due(replica.index(), now + trim::AGE_MAX_S + 1), Some(last.cursor));
    let second = read(&replica, 1, 0, 0).0[1].cursor;
    assert_eq!(due(index_of(second) + trim::ENTRIES_MAX, now), Some(second));
}

#[test]
fn others_see_only_what_they_may_list() {
    let mut replica = Replica::new();
    let open = replica.mkdir(1, "open", 0o755).unwrap().ino;
    let closed = replica.mkdir(1, "closed", 0o700).unwrap().ino;
    replica.mkfile(open, "seen", 0o644).unwrap();
    replica.mkfile(closed, "hidden", 0o644).unwrap();
    let asked = ChangesRequest { head: head(1000, 1000, false), ..request(1, 0) };
    let shown = page::read(&replica.table, &asked, 0, replica.index()).unwrap().reply.changes;
    let names: Vec<String> = told(&shown).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["open", "closed", "seen"]);
    let refused = page::permitted(&replica.table, &ChangesRequest { subtree: closed, ..asked });
    assert_eq!(proto::error::WireError::from(refused.unwrap_err()).code, Code::PermissionDenied);
}
