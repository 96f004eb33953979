//! Every kind of damage is put into the table, found, told in words, and mended; then random damage.

use std::collections::BTreeSet;

use mrc::command::{Body, CountOwned, FoldUsage};
use mrc::fsck::{Told, check};
use mrc::namespace::inode::{self, Body as Data, Inode};
use mrc::namespace::keys::{self, table};
use mrc::namespace::{volume, xattr};
use mrc::quota::count;
use proptest::prelude::*;
use prost::Message;
use proto::error::{Code, WireError};
use proto::fsck::{Fault, Finding, MEND_MAX, MendFindings, Mended};
use proto::mrc::{ReportWrite, kind};
use proto::quota::{QuotaKind, QuotaLimits, SetQuota};
use proto::rpc::Origin;
use rt::table::{Batch, Reader, Table, Txn, prefix_end};

use crate::fsck;
use crate::harness::{Replica, VOLUME, code, head};
use crate::model::{Tree, op, reap, step};

#[derive(Default)]
struct All(Vec<Finding>);

impl Told for All {
    fn found(&mut self, finding: Finding) {
        assert!(!finding.text.is_empty(), "{finding:?}");
        self.0.push(finding);
    }

    fn looked_at(&mut self, _rows: u64) -> bool {
        true
    }
}

pub(crate) fn look(replica: &Replica) -> (Vec<Finding>, u64) {
    let (mut all, mut seen) = (All::default(), 0);
    Table::at_one_moment(&replica.table, &mut |moment| {
        seen = check(moment, VOLUME, &mut all).unwrap().seen;
    });
    (all.0, seen)
}

fn mend(replica: &mut Replica, seen: u64, findings: &[Finding]) -> Result<Mended, WireError> {
    let (head, origin) = (head(0, 0, false), Origin::default());
    let ask = MendFindings { head, origin, seen, findings: findings.to_vec() };
    replica.run(Body::Mend(ask)).map(|bytes| Mended::decode(bytes).unwrap())
}

/// As the tool does it: rows until there are none, then sums. Gives what could not be mended.
fn repair(replica: &mut Replica) -> Vec<Finding> {
    for _ in 0..12 {
        let (findings, mut seen) = look(replica);
        let hopeful: Vec<Finding> = findings.iter().filter(|finding| !finding.hopeless).cloned().collect();
        let rows: Vec<Finding> =
            hopeful.iter().filter(|finding| finding.fault < Fault::FIRST_SUM).cloned().collect();
        let chosen = if rows.is_empty() { hopeful } else { rows };
        if chosen.is_empty() {
            return findings;
        }
        for batch in chosen.chunks(MEND_MAX) {
            seen = mend(replica, seen, batch).unwrap().seen;
        }
    }
    panic!("repairs do not come to an end: {:#?}", look(replica).0);
}

fn put(replica: &Replica, key: Vec<u8>, value: Vec<u8>) {
    let mut batch = Batch::default();
    batch.put(key, value);
    replica.table.write(batch).unwrap();
}

fn delete(replica: &Replica, key: Vec<u8>) {
    let mut batch = Batch::default();
    batch.delete(key);
    replica.table.write(batch).unwrap();
}

fn change(replica: &Replica, ino: u64, change: impl FnOnce(&mut Inode)) {
    let mut inode = inode::find(&replica.table, VOLUME, ino).unwrap().unwrap();
    change(&mut inode);
    let mut txn = Txn::new(&replica.table);
    inode::put(&mut txn, VOLUME, &inode);
    replica.table.write(txn.into_batch()).unwrap();
}

fn change_volume(replica: &Replica, change: impl FnOnce(&mut volume::Volume)) {
    let mut record = volume::find(&replica.table, VOLUME).unwrap().unwrap();
    change(&mut record);
    let mut txn = Txn::new(&replica.table);
    volume::put(&mut txn, VOLUME, &record);
    replica.table.write(txn.into_batch()).unwrap();
}

fn row(replica: &Replica, key: &[u8]) -> Vec<u8> {
    Reader::get(&replica.table, key).unwrap().expect("the row is there")
}

/// A volume with something of everything.
struct World {
    replica: Replica,
    a: u64,
    b: u64,
    file: u64,
    twice: u64,
    orphan: u64,
}

impl World {
    fn new() -> Self {
        let mut replica = Replica::new();
        replica.head = head(1000, 1000, true);
        let a = replica.mkdir(1, "a", 0o755).unwrap().ino;
        let b = replica.mkdir(a, "b", 0o755).unwrap().ino;
        let file = replica.mkfile(a, "file", 0o644).unwrap().ino;
        let report =
            ReportWrite { head: replica.head.clone(), ino: file, size: 9000, ..ReportWrite::default() };
        replica.run(Body::WriteDone(report)).unwrap();
        replica.setxattr(file, "user.colour", Some(b"red"), 0).unwrap();
        replica.setxattr(file, crate::acl::ACCESS, Some(&crate::acl::showing(0o640, true)), 0).unwrap();
        replica.lock(file, (5, 1), (0, 9), 1).unwrap();
        let twice = replica.mkfile(a, "twice", 0o644).unwrap().ino;
        replica.link(twice, b, "again").unwrap();
        replica.make(b, "link", kind::SYMLINK << 12 | 0o777, "to").unwrap();
        replica.mkfile(b, "gone", 0o644).unwrap();
        replica.unlink(b, "gone", 0).unwrap();
        reap(&mut replica);
        let orphan = replica.mkfile(b, "orphan", 0o644).unwrap().ino;
        replica.unlink(b, "orphan", 0).unwrap();
        for (kind, id) in [(QuotaKind::Directory, a), (QuotaKind::User, 1000)] {
            let limits = Some(QuotaLimits { bytes: 1 << 30, inodes: 1000 });
            let set = SetQuota {
                head: head(0, 0, false),
                origin: Origin::default(),
                kind: kind as i32,
                id,
                limits,
            };
            replica.run(Body::SetQuota(set)).unwrap();
        }
        while count::is_due(&volume::find(&replica.table, VOLUME).unwrap().unwrap()) {
            replica.run(Body::CountOwned(CountOwned { volume: VOLUME, limit: 100 })).unwrap();
        }
        replica.run(Body::FoldUsage(FoldUsage { volume: VOLUME, limit: 100 })).unwrap();
        // Some of it is still to be carried up.
        replica.mkfile(b, "late", 0o644).unwrap();
        let world = Self { replica, a, b, file, twice, orphan };
        assert_eq!(look(&world.replica).0, []);
        fsck::check(&world.replica.table);
        world
    }

    fn inode(&self, ino: u64) -> Inode {
        inode::find(&self.replica.table, VOLUME, ino).unwrap().unwrap()
    }

    fn order(&self, ino: u64) -> Vec<u8> {
        let inode = self.inode(ino);
        keys::order(VOLUME, inode.parent, inode.cookie)
    }
}

/// Damages a volume, expects the finding among those told, mends, and expects that everything fits again.
fn seeded(fault: Fault, damage: impl FnOnce(&World)) -> World {
    let mut world = World::new();
    damage(&world);
    let (findings, _) = look(&world.replica);
    assert!(
        findings.iter().any(|finding| finding.fault == fault as i32),
        "{fault:?} is not among {findings:#?}"
    );
    let left = repair(&mut world.replica);
    assert_eq!(left, [], "after {fault:?}");
    fsck::check(&world.replica.table);
    world
}

#[test]
fn a_listing_row_that_does_not_parse_goes_and_its_entry_is_listed_again() {
    let world = seeded(Fault::BadRow, |world| put(&world.replica, world.order(world.file), vec![9, 9]));
    assert_eq!(world.replica.lookup(world.a, "file").unwrap().ino, world.file);
    assert_eq!(world.replica.list(world.a, 10).unwrap().len(), 3);
}

#[test]
fn rows_of_every_table_that_do_not_parse_are_found() {
    let world = World::new();
    let tables: BTreeSet<u8> = world.replica.table.dump().iter().map(|(key, _)| key[0]).collect();
    for which in tables.into_iter().filter(|which| ![0, table::VOLUME, table::SESSION].contains(which)) {
        let mut world = World::new();
        let prefix = keys::of_volume(which, VOLUME);
        let (key, value) = Table::scan(&world.replica.table, &prefix, &prefix_end(&prefix), usize::MAX)
            .unwrap()
            .pop()
            .unwrap();
        let mut spoilt = value;
        spoilt[0] = 77;
        put(&world.replica, key, spoilt);
        let (findings, _) = look(&world.replica);
        assert!(findings.iter().any(|finding| finding.fault == Fault::BadRow as i32), "table {which:#04x}");
        let left = repair(&mut world.replica);
        if which == table::INODE {
            assert!(left.iter().all(|finding| finding.hopeless), "{left:#?}");
        } else {
            assert_eq!(left, [], "table {which:#04x}");
            fsck::check(&world.replica.table);
        }
    }
}

#[test]
fn an_entry_that_leads_to_nothing_goes() {
    let world = seeded(Fault::EntryLost, |world| delete(&world.replica, keys::inode(VOLUME, world.file)));
    assert_eq!(code(world.replica.lookup(world.a, "file")), Some(Code::NotFound));
}

#[test]
fn entries_of_a_directory_that_is_gone_bring_what_they_lead_to_to_lost_and_found() {
    let world = seeded(Fault::EntryLost, |world| delete(&world.replica, keys::inode(VOLUME, world.b)));
    let found = world.replica.lookup(1, "lost+found").unwrap();
    assert_eq!(found.mode & 0o7777, 0o700);
    assert_eq!(world.replica.list(found.ino, 10).unwrap().len(), 2, "the symlink and the late file");
    assert_eq!(world.replica.lookup(world.a, "twice").unwrap().nlink, 1);
}

#[test]
fn an_entry_of_the_wrong_kind_is_corrected() {
    seeded(Fault::EntryKind, |world| {
        let (key, mut value) = (world.order(world.file), row(&world.replica, &world.order(world.file)));
        value[9] = u8::try_from(kind::DIR).unwrap();
        put(&world.replica, key, value);
    });
}

#[test]
fn an_entry_without_its_row_by_name_can_be_looked_up_again() {
    let world =
        seeded(Fault::EntryUnnamed, |world| delete(&world.replica, keys::dentry(VOLUME, world.a, b"file")));
    assert_eq!(world.replica.lookup(world.a, "file").unwrap().ino, world.file);
}

#[test]
fn a_name_that_is_listed_twice_is_listed_once() {
    let world = seeded(Fault::EntryUnnamed, |world| {
        let value = row(&world.replica, &world.order(world.file));
        put(&world.replica, keys::order(VOLUME, world.a, 3000), value);
    });
    assert_eq!(world.replica.list(world.a, 10).unwrap().len(), 3);
}

#[test]
fn an_entry_without_its_listing_row_is_listed_again() {
    let world = seeded(Fault::EntryUnlisted, |world| delete(&world.replica, world.order(world.b)));
    assert!(world.replica.list(world.a, 10).unwrap().iter().any(|entry| entry.ino == world.b));
}

#[test]
fn a_name_whose_cookie_belongs_to_another_gets_a_new_one() {
    let world = seeded(Fault::EntryUnlisted, |world| {
        let file = world.inode(world.file);
        let mut value = row(&world.replica, &keys::dentry(VOLUME, world.a, b"twice"));
        value[10..18].copy_from_slice(&file.cookie.to_le_bytes());
        delete(&world.replica, world.order(world.twice));
        put(&world.replica, keys::dentry(VOLUME, world.a, b"twice"), value);
    });
    assert_eq!(world.replica.lookup(world.a, "twice").unwrap().ino, world.twice);
    assert_eq!(world.replica.lookup(world.a, "twice").unwrap().nlink, 2);
}

#[test]
fn an_entry_of_which_its_inode_does_not_know_becomes_a_link() {
    let world = seeded(Fault::EntryUnknown, |world| {
        let prefix = keys::links_of(VOLUME, world.twice);
        for (key, _) in Table::scan(&world.replica.table, &prefix, &prefix_end(&prefix), 9).unwrap() {
            delete(&world.replica, key);
        }
    });
    assert_eq!(world.replica.lookup(world.b, "again").unwrap().nlink, 2);
}

#[test]
fn a_second_name_of_a_directory_goes() {
    let world = seeded(Fault::EntryUnknown, |world| {
        let entry = mrc::namespace::entry::Entry { ino: world.b, kind: kind::DIR, cookie: 2000 };
        let mut txn = Txn::new(&world.replica.table);
        let name = mrc::namespace::name::Name::parse(b"second").unwrap();
        mrc::namespace::entry::put(&mut txn, VOLUME, 1, name, entry);
        world.replica.table.write(txn.into_batch()).unwrap();
    });
    assert_eq!(code(world.replica.lookup(1, "second")), Some(Code::NotFound));
    assert_eq!(world.replica.lookup(world.a, "b").unwrap().ino, world.b);
}

#[test]
fn an_inode_without_its_name_is_found_again() {
    let world = seeded(Fault::HomeLost, |world| {
        delete(&world.replica, world.order(world.file));
        delete(&world.replica, keys::dentry(VOLUME, world.a, b"file"));
    });
    let found = world.replica.lookup(1, "lost+found").unwrap().ino;
    let there = world.replica.lookup(found, &format!("ino-{}", world.file)).unwrap();
    assert_eq!((there.ino, there.size), (world.file, 9000));
}

#[test]
fn a_file_with_another_name_comes_home_to_it() {
    let world = seeded(Fault::HomeLost, |world| {
        delete(&world.replica, world.order(world.twice));
        delete(&world.replica, keys::dentry(VOLUME, world.a, b"twice"));
    });
    assert_eq!(code(world.replica.lookup(1, "lost+found")), Some(Code::NotFound));
    assert_eq!(world.replica.lookup(world.b, "again").unwrap().nlink, 1);
}

#[test]
fn a_directory_without_its_name_is_found_again_with_all_it_has() {
    let world = seeded(Fault::HomeLost, |world| {
        delete(&world.replica, world.order(world.b));
        delete(&world.replica, keys::dentry(VOLUME, world.a, b"b"));
    });
    let found = world.replica.lookup(1, "lost+found").unwrap().ino;
    assert_eq!(world.replica.lookup(found, &format!("ino-{}", world.b)).unwrap().ino, world.b);
    assert!(world.replica.lookup(world.b, "late").is_ok());
}

#[test]
fn the_root_is_where_it_was() {
    seeded(Fault::HomeLost, |world| {
        change(&world.replica, 1, |inode| (inode.parent, inode.cookie) = (world.a, 3))
    });
}

#[test]
fn a_link_row_that_leads_nowhere_goes() {
    seeded(Fault::LinkLost, |world| {
        put(&world.replica, keys::link(VOLUME, world.file, world.b, 99), vec![2])
    });
}

#[test]
fn a_wrong_number_of_names_is_corrected() {
    seeded(Fault::Links, |world| change(&world.replica, world.twice, |inode| inode.attr.nlink = 7));
}

#[test]
fn a_file_without_names_is_freed_in_the_end() {
    let mut world =
        seeded(Fault::OrphanMissing, |world| delete(&world.replica, keys::orphan(VOLUME, world.orphan)));
    reap(&mut world.replica);
    assert_eq!(code(world.replica.getattr(world.orphan)), Some(Code::Stale));
}

#[test]
fn a_file_with_a_name_is_no_orphan() {
    let mut world =
        seeded(Fault::OrphanWrong, |world| put(&world.replica, keys::orphan(VOLUME, world.file), vec![2, 0]));
    reap(&mut world.replica);
    assert!(world.replica.getattr(world.file).is_ok());
}

#[test]
fn attributes_are_counted_again() {
    let world = seeded(Fault::Xattrs, |world| change(&world.replica, world.file, |inode| inode.xattrs = 0));
    let names = xattr::list(&world.replica.table, &head(0, 0, true), world.file).unwrap();
    assert!(names.contains(&b"user.colour".to_vec()));
}

#[test]
fn the_list_decides_about_the_mode() {
    let world =
        seeded(Fault::Acl, |world| change(&world.replica, world.file, |inode| inode.attr.mode ^= 0o77));
    assert_eq!(world.inode(world.file).attr.mode & 0o777, 0o640);
}

#[test]
fn counters_that_would_give_numbers_twice_go_on_behind_them() {
    seeded(Fault::NextCookie, |world| {
        change(&world.replica, world.a, |inode| inode.body = inode::Body::Directory { next_cookie: 3 });
    });
    let mut world =
        seeded(Fault::NextIno, |world| change_volume(&world.replica, |record| record.next_ino = 4));
    world.replica.mkfile(1, "new", 0o644).unwrap();
    fsck::check(&world.replica.table);
}

#[test]
fn directories_that_lie_in_one_another_come_out() {
    let world = seeded(Fault::Circle, |world| {
        // `a` lies in `b`, which lies in `a`.
        let (a, b) = (world.inode(world.a), world.inode(world.b));
        let mut value = row(&world.replica, &keys::dentry(VOLUME, 1, b"a"));
        delete(&world.replica, keys::dentry(VOLUME, 1, b"a"));
        delete(&world.replica, keys::order(VOLUME, 1, a.cookie));
        value[10..18].copy_from_slice(&500u64.to_le_bytes());
        put(&world.replica, keys::dentry(VOLUME, b.attr.ino, b"a"), value);
        let mut listed = vec![2];
        listed.extend(world.a.to_le_bytes());
        listed.push(u8::try_from(kind::DIR).unwrap());
        listed.extend(b"a");
        put(&world.replica, keys::order(VOLUME, b.attr.ino, 500), listed);
        change(&world.replica, world.a, |inode| (inode.parent, inode.cookie) = (b.attr.ino, 500));
    });
    let found = world.replica.lookup(1, "lost+found").unwrap().ino;
    assert_eq!(world.replica.list(found, 10).unwrap().len(), 1);
    assert!(world.replica.lookup(world.a, "file").is_ok());
}

#[test]
fn rows_of_inodes_that_are_gone_go() {
    let hanging: [fn(u64) -> Vec<u8>; 9] = [
        |ino| keys::xattr(VOLUME, ino, b"user.x"),
        |ino| keys::link(VOLUME, ino, 1, 3),
        |ino| keys::orphan(VOLUME, ino),
        |ino| keys::total(VOLUME, ino),
        |ino| keys::pending(VOLUME, ino),
        |ino| keys::lock_session(VOLUME, 5, ino),
        |ino| keys::quota(table::OWNED, VOLUME, 3, ino),
        |ino| keys::quota(table::QUOTA, VOLUME, 3, ino),
        |ino| keys::content(VOLUME, ino),
    ];
    for key in hanging {
        seeded(Fault::Hanging, |world| {
            let value = match key(777)[0] {
                table::ORPHAN | table::CONTENT => vec![2, 0],
                table::TOTAL | table::PENDING => [&[2][..], &[1; 32]].concat(),
                table::OWNED => [&[2][..], &[1; 16]].concat(),
                table::QUOTA => row(&world.replica, &keys::quota(table::QUOTA, VOLUME, 3, world.a)),
                _ => vec![2],
            };
            put(&world.replica, key(777), value);
        });
    }
}

#[test]
fn objects_of_a_file_that_exists_are_not_removed() {
    let world = seeded(Fault::GarbageInUse, |world| {
        let prefix = keys::of_volume(table::GARBAGE, VOLUME);
        let (_, layout) =
            Table::scan(&world.replica.table, &prefix, &prefix_end(&prefix), 1).unwrap().remove(0);
        put(&world.replica, keys::garbage(VOLUME, world.file), layout);
    });
    let garbage = mrc::namespace::collect::garbage(&world.replica.table, (0, 0), 10).unwrap();
    assert!(garbage.iter().all(|garbage| garbage.ino != world.file));
}

#[test]
fn a_small_file_whose_bytes_are_lost_is_empty() {
    let inline = proto::stripe::Inline::of(b"all of it");
    for left in [None, Some(&b"all of It"[..])] {
        let world = seeded(Fault::ContentLost, |world| {
            change(&world.replica, world.file, |inode| {
                let layout = proto::stripe::Layout { inline: Some(inline), ..inode.layout().unwrap() };
                inode.body = Data::File(layout.encode_to_vec());
            });
            if let Some(bytes) = left {
                put(&world.replica, keys::content(VOLUME, world.file), [&[2], bytes].concat());
            }
        });
        let inode = world.inode(world.file);
        assert_eq!((inode.attr.size, inode.attr.blocks, inode.layout().unwrap().inline), (0, 0, None));
        assert_eq!(Reader::get(&world.replica.table, &keys::content(VOLUME, world.file)).unwrap(), None);
    }
    // Bytes of a file that does not say so hang on nothing.
    seeded(Fault::Hanging, |world| put(&world.replica, keys::content(VOLUME, world.file), vec![2, 7]));
}

#[test]
fn a_lock_is_forgotten_with_its_session_again() {
    seeded(Fault::LockIndex, |world| delete(&world.replica, keys::lock_session(VOLUME, 5, world.file)));
}

#[test]
fn sums_are_corrected_by_differences() {
    seeded(Fault::DirectoryCounts, |world| {
        change(&world.replica, world.a, |inode| (inode.attr.size, inode.attr.nlink) = (40, 9));
    });
    seeded(Fault::Usage, |world| {
        let value = [&[2][..], &1000u64.to_le_bytes(), &7u64.to_le_bytes(), &[0; 16]].concat();
        put(&world.replica, keys::total(VOLUME, world.b), value);
    });
    seeded(Fault::Usage, |world| delete(&world.replica, keys::pending(VOLUME, world.b)));
    seeded(Fault::VolumeCounts, |world| {
        change_volume(&world.replica, |record| (record.inodes, record.used_bytes) = (1, 1 << 40));
    });
    seeded(Fault::VolumeCounts, |world| change_volume(&world.replica, |record| record.directory_quotas = 0));
    for (kind, id) in [(1, 1000u64), (2, 1000), (3, 0)] {
        seeded(Fault::QuotaSum, |world| {
            let id = if kind == 3 { world.a } else { id };
            put(&world.replica, keys::quota(table::OWNED, VOLUME, kind, id), [&[2][..], &[3; 16]].concat());
        });
    }
}

/// What happens between the check and the repair stays counted.
#[test]
fn sums_that_move_on_before_they_are_mended_come_right_all_the_same() {
    let mut world = World::new();
    change(&world.replica, world.a, |inode| inode.attr.size += 5);
    let wrong = [&[2][..], &5u64.to_le_bytes(), &3u64.to_le_bytes()].concat();
    put(&world.replica, keys::quota(table::OWNED, VOLUME, 1, 1000), wrong);
    let (findings, seen) = look(&world.replica);
    for n in 0..4 {
        world.replica.mkfile(world.a, &format!("since{n}"), 0o644).unwrap();
    }
    world.replica.unlink(world.a, "since0", 0).unwrap();
    mend(&mut world.replica, seen, &findings).unwrap();
    assert_eq!(look(&world.replica).0, []);
    fsck::check(&world.replica.table);
}

#[test]
fn a_repair_is_not_done_twice_and_what_is_in_order_by_then_is_left_alone() {
    let mut world = World::new();
    change(&world.replica, world.a, |inode| inode.attr.size += 5);
    let (findings, seen) = look(&world.replica);
    assert_eq!(mend(&mut world.replica, seen, &findings).unwrap(), Mended { seen: seen + 1, mended: 1 });
    assert_eq!(code(mend(&mut world.replica, seen, &findings)), Some(Code::Stale));
    let harmless = [
        Finding { fault: Fault::EntryLost as i32, parent: world.a, cookie: 3, ..Finding::default() },
        Finding { fault: Fault::HomeLost as i32, ino: world.file, ..Finding::default() },
        Finding { fault: Fault::GarbageInUse as i32, ino: 12_345, ..Finding::default() },
        Finding { fault: Fault::BadRow as i32, key: keys::inode(VOLUME, 1), ..Finding::default() },
        Finding { fault: Fault::BadRow as i32, key: keys::volume(VOLUME), ..Finding::default() },
        Finding { fault: Fault::Hanging as i32, key: keys::inode(VOLUME + 1, 1), ..Finding::default() },
        Finding { fault: 9999, ino: 1, ..Finding::default() },
    ];
    assert_eq!(mend(&mut world.replica, seen + 1, &harmless).unwrap().mended, 0);
    assert_eq!(look(&world.replica).0, []);
    fsck::check(&world.replica.table);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A sound volume has no findings, whatever was done to it.
    #[test]
    fn nothing_is_found_where_nothing_is_wrong(ops in proptest::collection::vec(op(), 1..60)) {
        let (mut replica, mut tree) = (Replica::new(), Tree::new());
        for op in &ops {
            step(&mut replica, &mut tree, op);
            reap(&mut replica);
        }
        prop_assert_eq!(look(&replica).0, []);
    }

    /// Rows are lost and spoilt at random: the repair ends, and everything that is left fits together.
    #[test]
    fn random_damage_is_mended(
        ops in proptest::collection::vec(op(), 20..80),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<u8>()), 1..8),
    ) {
        let mut replica = Replica::new();
        for op in &ops {
            crate::quota::blind(&mut replica, op);
        }
        for (which, how, byte) in damage {
            let rows: Vec<_> = replica
                .table
                .dump()
                .into_iter()
                .filter(|(key, _)| ![0, table::VOLUME, table::SESSION].contains(&key[0]))
                // The root cannot be mended: what has none is no volume.
                .filter(|(key, _)| *key != keys::inode(VOLUME, 1))
                .collect();
            if rows.is_empty() {
                break;
            }
            let (key, mut value) = rows[which.index(rows.len())].clone();
            let is_inode = key[0] == table::INODE;
            match how {
                0 | 1 => delete(&replica, key),
                2 => {
                    let at = usize::from(byte) % value.len();
                    // An inode row that does not parse is hopeless; its numbers may be wrong.
                    if !(is_inode && (at == 0 || at > 128 || (1..5).contains(&at))) {
                        value[at] ^= 1 << (byte % 8);
                        put(&replica, key, value);
                    }
                }
                _ => {
                    let other = rows[usize::from(byte) % rows.len()].clone();
                    if other.0[0] == key[0] && !is_inode {
                        put(&replica, key, other.1);
                    }
                }
            }
        }
        let left = repair(&mut replica);
        prop_assert_eq!(left, []);
        fsck::check(&replica.table);
    }
}
