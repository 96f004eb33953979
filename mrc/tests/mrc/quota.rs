//! Quotas: the rules one by one, then random operations after each of which all sums are exact and no limit is passed.

use std::collections::BTreeMap;

use mrc::command::{Body, CountOwned, FoldUsage};
use mrc::namespace::{inode, volume};
use mrc::quota::{self, list, room};
use proptest::prelude::*;
use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{AttrReply, RENAME_EXCHANGE, ReportWrite};
use proto::quota::{ListQuotas, Quota, QuotaKind, QuotaLimits, SetQuota};
use proto::rpc::Origin;

use crate::fsck;
use crate::harness::{Replica, VOLUME, code, head};
use crate::model::{Op, op, reap};

const ALICE: u32 = 1000;
const STAFF: u32 = 50;

fn set(
    replica: &mut Replica,
    kind: QuotaKind,
    id: u64,
    limits: Option<(u64, u64)>,
) -> Result<Quota, WireError> {
    let request = SetQuota {
        head: head(0, 0, false),
        origin: Origin::default(),
        kind: kind as i32,
        id,
        limits: limits.map(|(bytes, inodes)| QuotaLimits { bytes, inodes }),
    };
    replica.run(Body::SetQuota(request)).map(|bytes| Quota::decode(bytes).unwrap())
}

/// Counts to the end.
fn count(replica: &mut Replica) {
    while quota::count::is_due(&volume::find(&replica.table, VOLUME).unwrap().unwrap()) {
        replica.run(Body::CountOwned(CountOwned { volume: VOLUME, limit: 2 })).unwrap();
    }
}

fn owned(replica: &Replica, kind: QuotaKind, id: u64) -> (u64, u64) {
    let sum = quota::owned(&replica.table, VOLUME, (kind, id)).unwrap();
    (sum.bytes(), sum.count())
}

fn write(replica: &mut Replica, ino: u64, size: u64) -> Option<u64> {
    let truncate_epoch = replica.getattr(ino).unwrap().truncate_epoch;
    let report =
        ReportWrite { head: replica.head.clone(), ino, size, truncate_epoch, ..ReportWrite::default() };
    AttrReply::decode(replica.run(Body::WriteDone(report)).unwrap()).unwrap().room
}

fn as_alice() -> Replica {
    let mut replica = Replica::new();
    replica.head = head(ALICE, STAFF, true);
    replica
}

#[test]
fn a_users_inodes_are_limited_exactly_whatever_they_are() {
    let mut replica = as_alice();
    let dir = replica.mkdir(1, "before", 0o755).unwrap().ino;
    replica.mkfile(dir, "f", 0o644).unwrap();
    let told = set(&mut replica, QuotaKind::User, ALICE.into(), Some((0, 5))).unwrap();
    assert!(told.counting);
    // It does not bind before all is counted; what comes meanwhile is counted too.
    replica.mkfile(dir, "meanwhile", 0o644).unwrap();
    count(&mut replica);
    assert_eq!(owned(&replica, QuotaKind::User, ALICE.into()), (0, 3));
    replica.make(1, "link", 0o12 << 12, "f").unwrap();
    let (value, error) = (replica.mkdir(dir, "last", 0o755), replica.mkdir(dir, "more", 0o755).unwrap_err());
    value.unwrap();
    assert_eq!(error.code, Code::QuotaExceeded);
    assert!(error.text.contains("user 1000 has 5 of 5 inodes"), "{error}");
    for refused in [
        code(replica.create(1, "x", false)),
        code(replica.mkfile(1, "x", 0o644)),
        code(crate::tmpfile::tmpfile(&mut replica, 1, false)),
    ] {
        assert_eq!(refused, Some(Code::QuotaExceeded));
    }
    // Another name is no further inode; an open file without a name still is one.
    let f = replica.lookup(dir, "f").unwrap().ino;
    replica.link(f, 1, "second").unwrap();
    replica.unlink(1, "second", 0).unwrap();
    replica.unlink(dir, "f", 0).unwrap();
    assert_eq!(code(replica.mkfile(1, "x", 0o644)), Some(Code::QuotaExceeded));
    reap(&mut replica);
    replica.mkfile(1, "x", 0o644).unwrap();
    // Somebody else is not bound by it.
    replica.head = head(ALICE + 1, STAFF, true);
    replica.mkfile(1, "bobs", 0o644).unwrap();
    fsck::check(&replica.table);
}

#[test]
fn giving_away_counts_for_the_new_owner_and_root_is_not_refused() {
    let mut replica = as_alice();
    let file = replica.mkfile(1, "f", 0o644).unwrap().ino;
    write(&mut replica, file, 8192);
    set(&mut replica, QuotaKind::User, 7, Some((4096, 0))).unwrap();
    set(&mut replica, QuotaKind::Group, 8, Some((0, 1))).unwrap();
    count(&mut replica);
    let mut change = replica.change_of(file);
    change.uid = Some(7);
    assert_eq!(code(replica.setattr(change.clone())), Some(Code::QuotaExceeded));
    replica.head = head(0, 0, false);
    change.head = replica.head.clone();
    replica.setattr(change.clone()).unwrap();
    assert_eq!(owned(&replica, QuotaKind::User, 7), (8192, 1));
    assert_eq!(owned(&replica, QuotaKind::User, ALICE.into()), (0, 0));
    change.gid = Some(8);
    replica.setattr(change).unwrap();
    assert_eq!(owned(&replica, QuotaKind::Group, 8), (8192, 1));
    fsck::check(&replica.table);
}

#[test]
fn a_directory_counts_what_is_below_it_from_the_moment_of_its_quota() {
    let mut replica = Replica::new();
    let dir = replica.mkdir(1, "d", 0o755).unwrap().ino;
    let deep = replica.mkdir(dir, "deep", 0o755).unwrap().ino;
    let file = replica.mkfile(deep, "f", 0o644).unwrap().ino;
    write(&mut replica, file, 10_000);
    let told = set(&mut replica, QuotaKind::Directory, dir, Some((0, 3))).unwrap();
    assert_eq!((told.bytes, told.inodes, told.counting), (12_288, 2, false));
    assert_eq!(told.path, b"d");
    replica.mkfile(deep, "third", 0o644).unwrap();
    assert_eq!(code(replica.mkfile(deep, "fourth", 0o644)), Some(Code::QuotaExceeded));
    assert_eq!(code(replica.mkdir(dir, "fourth", 0o755)), Some(Code::QuotaExceeded));
    // A subtree comes as a whole or not at all.
    let tree = replica.mkdir(1, "tree", 0o755).unwrap().ino;
    replica.mkfile(tree, "a", 0o644).unwrap();
    replica.unlink(deep, "third", 0).unwrap();
    assert_eq!(code(replica.rename((1, "tree"), (dir, "tree"), 0, 0)), Some(Code::QuotaExceeded));
    set(&mut replica, QuotaKind::Directory, dir, Some((0, 4))).unwrap();
    replica.rename((1, "tree"), (dir, "tree"), 0, 0).unwrap();
    assert_eq!(owned(&replica, QuotaKind::Directory, dir), (12_288, 4));
    // Replacing and exchanging count the difference.
    replica.mkfile(1, "new", 0o644).unwrap();
    replica.rename((1, "new"), (tree, "a"), 0, 0).unwrap();
    replica.mkdir(1, "empty", 0o755).unwrap();
    replica.rename((1, "empty"), (dir, "tree"), RENAME_EXCHANGE, 0).unwrap();
    assert_eq!(owned(&replica, QuotaKind::Directory, dir), (12_288, 3));
    assert_eq!(code(replica.rename((1, "empty"), (dir, "tree"), RENAME_EXCHANGE, 0)), None);
    assert_eq!(owned(&replica, QuotaKind::Directory, dir), (12_288, 4));
    fsck::check(&replica.table);
    // Its quota goes with it.
    replica.rename((dir, "deep"), (1, "deep"), 0, 0).unwrap();
    replica.unlink(tree, "a", 0).unwrap();
    replica.rmdir(dir, "tree").unwrap();
    replica.rmdir(1, "d").unwrap();
    assert_eq!(volume::find(&replica.table, VOLUME).unwrap().unwrap().directory_quotas, 0);
    fsck::check(&replica.table);
}

#[test]
fn names_do_not_cross_into_another_directory_quota() {
    let mut replica = Replica::new();
    let dir = replica.mkdir(1, "d", 0o755).unwrap().ino;
    let file = replica.mkfile(1, "f", 0o644).unwrap().ino;
    set(&mut replica, QuotaKind::Directory, dir, Some((0, 2))).unwrap();
    assert_eq!(code(replica.link(file, dir, "f")), Some(Code::CrossVolume));
    replica.link(file, 1, "g").unwrap();
    assert_eq!(code(replica.rename((1, "g"), (dir, "g"), 0, 0)), Some(Code::CrossVolume));
    replica.unlink(1, "g", 0).unwrap();
    replica.rename((1, "f"), (dir, "f"), 0, 0).unwrap();
    // A file without a name gets its first one like a new file.
    let made = crate::tmpfile::tmpfile(&mut replica, dir, false).unwrap().attr.ino;
    replica.link(made, dir, "made").unwrap();
    let made = crate::tmpfile::tmpfile(&mut replica, dir, false).unwrap().attr.ino;
    assert_eq!(code(replica.link(made, dir, "more")), Some(Code::QuotaExceeded));
    fsck::check(&replica.table);
}

#[test]
fn reports_tell_how_much_may_still_be_written() {
    let mut replica = as_alice();
    let dir = replica.mkdir(1, "d", 0o755).unwrap().ino;
    let file = replica.mkfile(dir, "f", 0o644).unwrap().ino;
    assert_eq!(write(&mut replica, file, 1), None);
    set(&mut replica, QuotaKind::Directory, dir, Some((10 << 20, 0))).unwrap();
    assert_eq!(write(&mut replica, file, 2 << 20), Some(2 << 20));
    set(&mut replica, QuotaKind::User, ALICE.into(), Some((3 << 20, 0))).unwrap();
    assert_eq!(write(&mut replica, file, 2 << 20), Some(2 << 20), "not counted yet");
    count(&mut replica);
    assert_eq!(write(&mut replica, file, 2 << 20), Some(1 << 20), "the least of them");
    // A report is never refused: the data is there.
    assert_eq!(write(&mut replica, file, 20 << 20), Some(0));
    let inode = inode::find(&replica.table, VOLUME, file).unwrap().unwrap();
    assert_eq!(room::room(&replica.table, VOLUME, &inode, 1 << 30).unwrap(), Some(0));
    let record = volume::find(&replica.table, VOLUME).unwrap().unwrap();
    let (bytes, inodes) = room::shares(&replica.table, VOLUME, &record, file).unwrap();
    assert_eq!(bytes.map(|share| (share.limit, share.left())), Some((10 << 20, 0)));
    assert_eq!(inodes, None);
    assert_eq!(room::shares(&replica.table, VOLUME, &record, 1).unwrap(), (None, None));
    fsck::check(&replica.table);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut replica = Replica::new();
    let file = replica.mkfile(1, "f", 0o644).unwrap().ino;
    let mut refused = |kind, id, limits| code(set(&mut replica, kind, id, limits));
    assert_eq!(refused(QuotaKind::User, 0, Some((0, 1))), Some(Code::InvalidArgument));
    assert_eq!(refused(QuotaKind::Group, 1 << 32, Some((0, 1))), Some(Code::InvalidArgument));
    assert_eq!(refused(QuotaKind::Directory, file, Some((0, 1))), Some(Code::NotDirectory));
    assert_eq!(refused(QuotaKind::Directory, 99, Some((0, 1))), Some(Code::Stale));
    assert_eq!(refused(QuotaKind::Directory, 1, Some((0, 0))), Some(Code::InvalidArgument));
    assert_eq!(refused(QuotaKind::Directory, 1, None), Some(Code::NotFound));
}

#[test]
fn people_see_the_quotas_that_concern_them() {
    let mut replica = Replica::new();
    let open = replica.mkdir(1, "open", 0o755).unwrap().ino;
    let closed = replica.mkdir(open, "closed", 0o700).unwrap().ino;
    for (kind, id) in [
        (QuotaKind::User, 1000),
        (QuotaKind::User, 1001),
        (QuotaKind::Group, 50),
        (QuotaKind::Directory, open),
        (QuotaKind::Directory, closed),
    ] {
        set(&mut replica, kind, id, Some((1 << 30, 100))).unwrap();
    }
    let seen = |head, applying_to| {
        let request = ListQuotas { head, applying_to, ..ListQuotas::default() };
        let list = list::list(&replica.table, &request).unwrap();
        assert!(list.end);
        list.quotas.iter().map(|quota| (quota.kind, quota.id)).collect::<Vec<_>>()
    };
    assert_eq!(seen(head(0, 0, false), 0).len(), 5);
    assert_eq!(seen(head(1000, 50, false), 0), [(1, 1000), (2, 50), (3, open)]);
    assert_eq!(seen(head(0, 0, false), closed), [(3, closed), (3, open)]);
    assert_eq!(seen(head(1001, 0, false), 1), []);
}

/// The last quota of owners goes, things change uncounted, and a new count begins from nothing.
#[test]
fn a_second_count_is_not_misled_by_the_first() {
    let mut replica = as_alice();
    for n in 0..5 {
        replica.mkfile(1, &format!("f{n}"), 0o644).unwrap();
    }
    set(&mut replica, QuotaKind::User, ALICE.into(), Some((0, 10))).unwrap();
    count(&mut replica);
    set(&mut replica, QuotaKind::User, ALICE.into(), None).unwrap();
    replica.unlink(1, "f0", 0).unwrap();
    reap(&mut replica);
    replica.mkfile(1, "f8", 0o644).unwrap();
    replica.mkfile(1, "f9", 0o644).unwrap();
    set(&mut replica, QuotaKind::Group, STAFF.into(), Some((0, 6))).unwrap();
    count(&mut replica);
    assert_eq!(owned(&replica, QuotaKind::User, ALICE.into()), (0, 6));
    assert_eq!(code(replica.mkfile(1, "f10", 0o644)), Some(Code::QuotaExceeded));
    fsck::check(&replica.table);
}

#[derive(Clone, Debug)]
enum Step {
    Op(Op, u32),
    Chown(u64, u32, u32),
    Set(QuotaKind, u64, Option<(u64, u64)>),
    Count,
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = prop_oneof![Just(QuotaKind::User), Just(QuotaKind::Group), Just(QuotaKind::Directory)];
    let limits = proptest::option::weighted(0.8, (0..3u64, 1..9u64));
    prop_oneof![
        12 => (op(), 1..3u32).prop_map(|(op, uid)| Step::Op(op, uid)),
        1 => (1..16u64, 1..3u32, 1..3u32).prop_map(|(a, b, c)| Step::Chown(a, b, c)),
        2 => (kinds, 1..5u64, limits).prop_map(|(a, b, c)| Step::Set(a, b, c.map(|(bytes, n)| (bytes * 4096, n)))),
        2 => Just(Step::Count),
    ]
}

/// Runs an operation without looking at its answer.
pub(crate) fn blind(replica: &mut Replica, op: &Op) {
    let text = |name: &u8| format!("n{name}");
    match op {
        Op::Make(dir, name, kind, mode) => {
            let target = if *kind == proto::mrc::kind::SYMLINK { "to" } else { "" };
            drop(replica.make(*dir, &text(name), kind << 12 | mode, target));
        }
        Op::Create(dir, name, exclusive) => drop(replica.create(*dir, &text(name), *exclusive)),
        Op::Unlink(dir, name, _) => drop(replica.unlink(*dir, &text(name), 0)),
        Op::RmDir(dir, name) => drop(replica.rmdir(*dir, &text(name))),
        Op::Link(ino, dir, name) => drop(replica.link(*ino, *dir, &text(name))),
        Op::Rename((dir, name), (to, to_name), flags) => {
            drop(replica.rename((*dir, &text(name)), (*to, &text(to_name)), *flags, 0));
        }
        Op::Truncate(ino, size) => {
            let change = replica.change_of(*ino);
            drop(replica.setattr(proto::mrc::SetAttrRequest { size: Some(*size), ..change }));
        }
        Op::Write(ino, size) => {
            let report = ReportWrite {
                head: replica.head.clone(),
                ino: *ino,
                size: *size * 100,
                truncate_epoch: u64::MAX,
                ..ReportWrite::default()
            };
            drop(replica.run(Body::WriteDone(report)));
        }
        Op::TmpFile(dir, name, exclusive) => {
            if let Ok(made) = crate::tmpfile::tmpfile(replica, *dir, *exclusive) {
                drop(replica.link(made.attr.ino, *dir, &text(name)));
            }
        }
        Op::Chmod(..) | Op::Xattr(..) | Op::Acl(..) => {}
    }
}

/// Inodes under each quota that binds, with its limit.
fn sums(replica: &Replica) -> BTreeMap<(QuotaKind, u64), (u64, u64)> {
    let record = volume::find(&replica.table, VOLUME).unwrap().unwrap();
    let request = ListQuotas { head: head(0, 0, false), ..ListQuotas::default() };
    let all = list::list(&replica.table, &request).unwrap().quotas;
    let binding = all.iter().filter(|quota| quota.kind() == QuotaKind::Directory || record.owners_bind());
    binding.map(|quota| ((quota.kind(), quota.id), (quota.inodes, quota.limits.inodes))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_operations_passes_a_limit_or_loses_count(steps in proptest::collection::vec(step(), 1..120)) {
        let mut replica = Replica::new();
        for (at, step) in steps.iter().enumerate() {
            let before = sums(&replica);
            match step {
                Step::Op(op, uid) => {
                    replica.head = head(*uid, *uid, true);
                    blind(&mut replica, op);
                }
                Step::Chown(ino, uid, gid) => {
                    let change = replica.change_of(*ino);
                    drop(replica.setattr(proto::mrc::SetAttrRequest { uid: Some(*uid), gid: Some(*gid), ..change }));
                }
                Step::Set(kind, id, limits) => drop(set(&mut replica, *kind, *id, *limits)),
                Step::Count => {
                    replica.run(Body::CountOwned(CountOwned { volume: VOLUME, limit: 3 })).unwrap();
                }
            }
            if at % 3 == 0 {
                replica.run(Body::FoldUsage(FoldUsage { volume: VOLUME, limit: 2 })).unwrap();
            }
            fsck::check(&replica.table);
            // Removing one of a file's names may bring it home to another directory, which is counted, not refused.
            let may_come_home = matches!(step, Step::Op(Op::Unlink(..) | Op::Rename(..), _));
            for (subject, (now, limit)) in sums(&replica) {
                let known = before.get(&subject).filter(|(_, was_limit)| *was_limit == limit);
                if let Some((was, _)) = known
                    && !(may_come_home && subject.0 == QuotaKind::Directory)
                {
                    prop_assert!(now <= limit.max(*was), "{subject:?}: {was} became {now} of {limit} by {step:?}");
                }
            }
        }
    }
}
