//! What is removed is kept, comes back, and goes for good.

use mrc::command::Body;
use mrc::namespace::volume;
use mrc::trash;
use proptest::prelude::*;
use proto::error::{Code, WireError};
use proto::mrc::kind;
use proto::quota::{QuotaKind, QuotaLimits, SetQuota};
use proto::rpc::Origin;
use proto::trash::{KeepTrash, ListTrash, TrashRequest, Trashed};

use crate::fsck;
use crate::harness::{Replica, VOLUME, code, head};
use crate::model::{op, reap};

const DAY_MS: u64 = 86_400_000;

fn keep(replica: &mut Replica, keep_ms: u64) {
    let ask = KeepTrash { head: head(0, 0, false), origin: Origin::default(), keep_ms };
    replica.run(Body::TrashKeep(ask)).unwrap();
}

fn list(replica: &Replica, uid: u32) -> Vec<Trashed> {
    let request = ListTrash { head: head(uid, uid, false), after_ms: 0, after_ino: 0 };
    trash::list(&replica.table, &request).unwrap().trashed
}

fn paths(replica: &Replica) -> Vec<String> {
    list(replica, 0).iter().map(|trashed| String::from_utf8(trashed.path.clone()).unwrap()).collect()
}

fn request(uid: u32, trashed: &Trashed) -> TrashRequest {
    let (head, origin) = (head(uid, uid, false), Origin::default());
    TrashRequest { head, origin, ino: trashed.ino, removed_ms: trashed.removed_ms }
}

fn restore(replica: &mut Replica, uid: u32, trashed: &Trashed) -> Result<(), WireError> {
    replica.run(Body::TrashRestore(request(uid, trashed))).map(drop)
}

fn remove(replica: &mut Replica, uid: u32, trashed: &Trashed) -> Result<(), WireError> {
    replica.run(Body::TrashRemove(request(uid, trashed))).map(drop)
}

#[test]
fn a_removed_file_comes_back_with_all_it_had() {
    let mut replica = Replica::new();
    keep(&mut replica, DAY_MS);
    let dir = replica.mkdir(1, "d", 0o755).unwrap().ino;
    let file = replica.mkfile(dir, "f", 0o640).unwrap().ino;
    replica.setxattr(file, "user.x", Some(b"y"), 0).unwrap();
    let before = replica.getattr(file).unwrap();
    replica.unlink(dir, "f", 0).unwrap();
    assert_eq!(code(replica.lookup(dir, "f")), Some(Code::NotFound));
    reap(&mut replica);
    assert_eq!(paths(&replica), ["d/f"]);
    fsck::check(&replica.table);
    let there = list(&replica, 0);
    restore(&mut replica, 0, &there[0]).unwrap();
    let after = replica.lookup(dir, "f").unwrap();
    assert_eq!((after.ino, after.mode, after.nlink, after.mtime), (file, before.mode, 1, before.mtime));
    assert_eq!(paths(&replica), [] as [&str; 0]);
    assert_eq!(code(restore(&mut replica, 0, &there[0])), Some(Code::NotFound));
    fsck::check(&replica.table);
}

#[test]
fn restoring_never_overwrites_and_wants_its_directory() {
    let mut replica = Replica::new();
    keep(&mut replica, DAY_MS);
    let dir = replica.mkdir(1, "d", 0o1775).unwrap().ino;
    replica.mkfile(dir, "f", 0o644).unwrap();
    replica.unlink(dir, "f", 0).unwrap();
    let new = replica.mkfile(dir, "f", 0o644).unwrap().ino;
    let there = list(&replica, 0);
    assert_eq!(code(restore(&mut replica, 0, &there[0])), Some(Code::Exists));
    assert_eq!(replica.lookup(dir, "f").unwrap().ino, new);
    replica.unlink(dir, "f", 0).unwrap();
    replica.rmdir(1, "d").unwrap();
    assert_eq!(paths(&replica), ["d/f", "d/f", "d"]);
    let there = list(&replica, 0);
    assert_eq!(code(restore(&mut replica, 0, &there[1])), Some(Code::NotFound));
    restore(&mut replica, 0, &there[2]).unwrap();
    let made = replica.lookup(1, "d").unwrap();
    assert_eq!((made.mode & 0o7777, made.ino == dir), (0o1775, false));
    restore(&mut replica, 0, &there[1]).unwrap();
    assert_eq!(replica.lookup(made.ino, "f").unwrap().ino, new);
    fsck::check(&replica.table);
}

#[test]
fn what_a_rename_replaces_is_kept_and_what_has_other_names_is_not() {
    let mut replica = Replica::new();
    keep(&mut replica, DAY_MS);
    let old = replica.mkfile(1, "f", 0o644).unwrap().ino;
    replica.mkfile(1, "new", 0o644).unwrap();
    replica.rename((1, "new"), (1, "f"), 0, 0).unwrap();
    assert_eq!(list(&replica, 0).iter().map(|trashed| trashed.ino).collect::<Vec<_>>(), [old]);
    let twice = replica.mkfile(1, "one", 0o644).unwrap().ino;
    replica.link(twice, 1, "two").unwrap();
    replica.unlink(1, "one", 0).unwrap();
    assert_eq!(list(&replica, 0).len(), 1);
    replica.make(1, "link", kind::SYMLINK << 12 | 0o777, "to").unwrap();
    replica.unlink(1, "link", 0).unwrap();
    assert_eq!(paths(&replica), ["f", "link"]);
    // In the trash removing is for good.
    let trash = replica.lookup(1, ".xtfs-trash").unwrap();
    assert_eq!(trash.mode & 0o777, 0o700);
    replica.unlink(trash.ino, &old.to_string(), old).unwrap();
    assert_eq!(paths(&replica), ["link"]);
    assert_eq!(code(replica.getattr(old)), Some(Code::Stale));
    fsck::check(&replica.table);
}

#[test]
fn everybody_sees_and_restores_what_is_his() {
    let mut replica = Replica::new();
    keep(&mut replica, DAY_MS);
    let dir = replica.mkdir(1, "d", 0o777).unwrap().ino;
    for uid in [1000, 1001] {
        replica.head = head(uid, uid, true);
        replica.mkfile(dir, &format!("of{uid}"), 0o644).unwrap();
        replica.unlink(dir, &format!("of{uid}"), 0).unwrap();
    }
    let mine = list(&replica, 1000);
    assert_eq!(mine.len(), 1);
    assert_eq!(list(&replica, 0).len(), 2);
    assert_eq!(code(restore(&mut replica, 1001, &mine[0])), Some(Code::NotPermitted));
    assert_eq!(code(remove(&mut replica, 1001, &mine[0])), Some(Code::NotPermitted));
    // He may have lost the right to write there.
    let mut change = replica.change_of(dir);
    (change.head, change.mode) = (head(0, 0, false), Some(0o755));
    replica.setattr(change).unwrap();
    assert_eq!(code(restore(&mut replica, 1000, &mine[0])), Some(Code::PermissionDenied));
    remove(&mut replica, 1000, &mine[0]).unwrap();
    reap(&mut replica);
    assert_eq!(code(replica.getattr(mine[0].ino)), Some(Code::Stale));
    fsck::check(&replica.table);
}

#[test]
fn it_counts_for_its_owner_and_not_for_the_directory_it_left() {
    let mut replica = Replica::new();
    keep(&mut replica, DAY_MS);
    let dir = replica.mkdir(1, "d", 0o777).unwrap().ino;
    let limits = Some(QuotaLimits { bytes: 0, inodes: 1 });
    let kind = QuotaKind::Directory as i32;
    let set = SetQuota { head: head(0, 0, false), origin: Origin::default(), kind, id: dir, limits };
    replica.run(Body::SetQuota(set)).unwrap();
    replica.mkfile(dir, "f", 0o644).unwrap();
    replica.unlink(dir, "f", 0).unwrap();
    replica.mkfile(dir, "g", 0o644).unwrap();
    let there = list(&replica, 0);
    assert_eq!(code(restore(&mut replica, 0, &there[0])), Some(Code::QuotaExceeded));
    replica.rename((dir, "g"), (1, "g"), 0, 0).unwrap();
    restore(&mut replica, 0, &there[0]).unwrap();
    fsck::check(&replica.table);
}

#[test]
fn what_is_old_enough_is_due_the_oldest_first() {
    let mut replica = Replica::new();
    keep(&mut replica, 10_000);
    for n in 0..5 {
        replica.mkfile(1, &format!("f{n}"), 0o644).unwrap();
        replica.unlink(1, &format!("f{n}"), 0).unwrap();
    }
    let record = volume::find(&replica.table, VOLUME).unwrap().unwrap();
    let there = list(&replica, 0);
    let due = |now_ms, limit| trash::due(&replica.table, VOLUME, &record, now_ms, limit).unwrap();
    assert_eq!(due(there[0].removed_ms + 10_000, 10), []);
    assert_eq!(due(there[2].removed_ms + 10_001, 10).len(), 3);
    assert_eq!(
        due(there[2].removed_ms + 10_001, 2),
        [(there[0].ino, there[0].removed_ms), (there[1].ino, there[1].removed_ms)]
    );
    // Off: it is everything, and nothing more comes.
    keep(&mut replica, 0);
    let record = volume::find(&replica.table, VOLUME).unwrap().unwrap();
    assert_eq!(trash::due(&replica.table, VOLUME, &record, u64::MAX, 10).unwrap().len(), 5);
    replica.mkfile(1, "gone", 0o644).unwrap();
    replica.unlink(1, "gone", 0).unwrap();
    assert_eq!(list(&replica, 0).len(), 5);
    fsck::check(&replica.table);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done with the trash on, the rows fit together; and everything can be removed from it again.
    #[test]
    fn the_trash_fits_into_the_volume(ops in proptest::collection::vec(op(), 1..100), restored in any::<u64>()) {
        let mut replica = Replica::new();
        keep(&mut replica, DAY_MS);
        for (at, op) in ops.iter().enumerate() {
            crate::quota::blind(&mut replica, op);
            fsck::check(&replica.table);
            if restored >> (at % 64) & 1 == 1 && let Some(newest) = list(&replica, 0).last() {
                // Its name may be taken, its directory gone.
                drop(restore(&mut replica, 0, newest));
                fsck::check(&replica.table);
            }
        }
        for trashed in list(&replica, 0) {
            remove(&mut replica, 0, &trashed).unwrap();
        }
        reap(&mut replica);
        fsck::check(&replica.table);
        prop_assert_eq!(paths(&replica), [] as [&str; 0]);
    }
}
