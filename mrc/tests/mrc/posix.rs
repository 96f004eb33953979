//! POSIX rules, case by case.

use mrc::command::Body;
use mrc::namespace::inode::{FLAG_APPEND, FLAG_IMMUTABLE};
use mrc::namespace::locks::test as test_lock;
use mrc::namespace::{access, inode, make, read, session, volume, xattr};
use proto::changes::event;
use proto::error::Code;
use proto::locks;
use proto::mrc::{
    AccessRequest, Attr, DropVolume, GetXattrRequest, KeptAttributes, LockRequest, RENAME_EXCHANGE,
    RENAME_NOREPLACE, ReportWrite, Time, WalkRequest, XATTR_CREATE, XATTR_REPLACE, kind,
};
use proto::rpc::Origin;

use crate::fsck;
use crate::harness::{Replica, VOLUME, code, head};

/// `/d` (with `/d/sub/deep`, `/d/file`), `/e` (empty), `/f` (file), `/l` (symlink to `f`).
fn tree() -> Replica {
    let mut replica = Replica::new();
    let d = replica.mkdir(1, "d", 0o755).unwrap().ino;
    let sub = replica.mkdir(d, "sub", 0o755).unwrap().ino;
    replica.mkdir(sub, "deep", 0o755).unwrap();
    replica.mkfile(d, "file", 0o644).unwrap();
    replica.mkdir(1, "e", 0o755).unwrap();
    replica.mkfile(1, "f", 0o644).unwrap();
    replica.make(1, "l", kind::SYMLINK << 12 | 0o777, "f").unwrap();
    replica
}

/// The inode of a path from the root; `?` names one that does not exist.
fn at(replica: &Replica, path: &str) -> u64 {
    path.split('/').filter(|name| !name.is_empty()).fold(1, |parent, name| match name {
        "?" => 999,
        name => replica.lookup(parent, name).unwrap().ino,
    })
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap()
}

#[test]
fn rename_refusals() {
    let exchange = RENAME_EXCHANGE;
    let table: &[(&str, &str, u32, Option<Code>)] = &[
        ("/nope", "/x", 0, Some(Code::NotFound)),
        ("/f", "/?/x", 0, Some(Code::NotFound)),
        ("/f", "/f/x", 0, Some(Code::NotDirectory)),
        ("/f", "/e", 0, Some(Code::IsDirectory)),
        ("/e", "/f", 0, Some(Code::NotDirectory)),
        ("/e", "/d", 0, Some(Code::NotEmpty)),
        ("/d", "/d/sub/x", 0, Some(Code::InvalidArgument)),
        ("/d", "/d/x", 0, Some(Code::InvalidArgument)),
        ("/d", "/d/sub/deep", exchange, Some(Code::InvalidArgument)),
        ("/d/sub/deep", "/d", exchange, Some(Code::InvalidArgument)),
        ("/f", "/l", RENAME_NOREPLACE, Some(Code::Exists)),
        ("/f", "/x", exchange, Some(Code::NotFound)),
        ("/f", "/x", RENAME_NOREPLACE | exchange, Some(Code::InvalidArgument)),
        ("/f", "/x", 8, Some(Code::InvalidArgument)),
        ("/f", "/..", 0, Some(Code::InvalidArgument)),
        ("/f", "/", 0, Some(Code::InvalidArgument)),
        ("/f", "/f", 0, None),
        ("/d", "/e", 0, None),
        ("/f", "/l", 0, None),
        ("/d/sub", "/sub", 0, None),
        ("/d/sub", "/f", exchange, None),
        ("/d/sub/deep", "/e", exchange, None),
        ("/f", "/g", RENAME_NOREPLACE, None),
    ];
    for (from, to, flags, want) in table {
        let mut replica = tree();
        let ((from_dir, from_name), (to_dir, to_name)) = (split(from), split(to));
        let ends = (at(&replica, from_dir), at(&replica, to_dir));
        let got = replica.rename((ends.0, from_name), (ends.1, to_name), *flags, 0);
        assert_eq!(code(got), *want, "rename {from} {to} {flags}");
        fsck::check(&replica.table);
    }
}

#[test]
fn rename_of_two_names_of_one_inode_does_nothing() {
    let mut replica = tree();
    let f = at(&replica, "/f");
    replica.link(f, 1, "g").unwrap();
    replica.rename((1, "f"), (1, "g"), 0, f).unwrap();
    assert_eq!(at(&replica, "/f"), at(&replica, "/g"));
    assert_eq!(replica.getattr(f).unwrap().nlink, 2);
}

#[test]
fn rename_keeps_cookies_so_that_a_listing_sees_the_file_once() {
    let mut replica = tree();
    let cookie = |replica: &Replica, name: &str| {
        replica.list(1, 9).unwrap().into_iter().find(|entry| entry.name == name.as_bytes()).unwrap().cookie
    };
    let (f, l) = (cookie(&replica, "f"), cookie(&replica, "l"));
    replica.rename((1, "f"), (1, "renamed"), 0, 0).unwrap();
    assert_eq!(cookie(&replica, "renamed"), f);
    replica.rename((1, "renamed"), (1, "l"), 0, 0).unwrap();
    assert_eq!(cookie(&replica, "l"), l);
}

#[test]
fn a_listing_survives_removal_and_creation_under_it() {
    let mut replica = Replica::new();
    for name in 0..20 {
        replica.mkfile(1, &format!("{name}"), 0o644).unwrap();
    }
    let mut seen = Vec::new();
    let mut after = 0;
    for round in 0.. {
        let request = proto::mrc::ReadDirRequest {
            head: replica.head.clone(),
            ino: 1,
            after,
            limit: 3,
            with_attrs: false,
        };
        let page = read::readdir(&replica.table, &request).unwrap();
        for entry in &page.entries {
            let name = String::from_utf8(entry.name.clone()).unwrap();
            replica.unlink(1, &name, 0).unwrap();
            seen.push(name);
            after = entry.cookie;
        }
        if page.end {
            break;
        }
        replica.mkfile(1, &format!("new{round}"), 0o644).unwrap();
    }
    for name in 0..20 {
        assert!(seen.contains(&name.to_string()), "{name} was there throughout and not listed: {seen:?}");
    }
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), seen.len());
}

#[test]
fn names() {
    let long = "x".repeat(256);
    for (name, want) in [
        ("", Code::InvalidArgument),
        ("a/b", Code::InvalidArgument),
        ("a\0b", Code::InvalidArgument),
        (".", Code::Exists),
        ("..", Code::Exists),
        (long.as_str(), Code::NameTooLong),
    ] {
        assert_eq!(code(tree().mkdir(1, name, 0o755)), Some(want), "mkdir {name:?}");
    }
    tree().mkdir(1, &long[1..], 0o755).unwrap();
    assert_eq!(code(tree().unlink(1, ".", 0)), Some(Code::InvalidArgument));
    assert_eq!(code(tree().rmdir(1, ".")), Some(Code::InvalidArgument));
    assert_eq!(code(tree().rmdir(1, "..")), Some(Code::NotEmpty));
    let target = "t".repeat(4096);
    assert_eq!(code(tree().make(1, "s", kind::SYMLINK << 12, &target)), Some(Code::NameTooLong));
    assert_eq!(code(tree().make(1, "s", kind::SYMLINK << 12, "")), Some(Code::NotFound));
}

#[test]
fn removal_refusals() {
    let mut replica = tree();
    let f = at(&replica, "/f");
    assert_eq!(code(replica.unlink(1, "d", 0)), Some(Code::IsDirectory));
    assert_eq!(code(replica.unlink(1, "nope", 0)), Some(Code::NotFound));
    assert_eq!(code(replica.unlink(f, "x", 0)), Some(Code::NotDirectory));
    assert_eq!(code(replica.rmdir(1, "f")), Some(Code::NotDirectory));
    assert_eq!(code(replica.rmdir(1, "d")), Some(Code::NotEmpty));
    assert_eq!(code(replica.rmdir(1, "nope")), Some(Code::NotFound));
    let e = at(&replica, "/e");
    replica.rmdir(1, "e").unwrap();
    assert_eq!(code(replica.mkdir(e, "x", 0o755)), Some(Code::NotFound));
    assert_eq!(code(replica.getattr(e)), Some(Code::Stale));
}

#[test]
fn orphans_live_until_reaped_and_leave_garbage() {
    let mut replica = tree();
    let f = at(&replica, "/f");
    replica.unlink(1, "f", 0).unwrap();
    assert_eq!(replica.getattr(f).unwrap().nlink, 0);
    assert_eq!(code(replica.link(f, 1, "back")), Some(Code::NotFound));
    let garbage = |replica: &Replica| mrc::namespace::collect::garbage(&replica.table, (0, 0), 9).unwrap();
    assert!(garbage(&replica).is_empty());
    replica.run(Body::Reap(mrc::command::Which { volume: VOLUME, ino: f })).unwrap();
    assert_eq!(code(replica.getattr(f)), Some(Code::Stale));
    assert_eq!(garbage(&replica)[0].ino, f);
    replica.run(Body::Removed(mrc::command::Removed { volume: VOLUME, inos: vec![f] })).unwrap();
    assert!(garbage(&replica).is_empty());
    fsck::check(&replica.table);
}

#[test]
fn times() {
    let mut replica = tree();
    let root = |replica: &Replica| replica.getattr(1).unwrap();
    let before = root(&replica);
    let made = replica.mkfile(1, "new", 0o644).unwrap();
    let after = root(&replica);
    assert!(after.mtime > before.mtime && after.ctime == after.mtime && after.change > before.change);
    assert_eq!(
        (made.atime, made.mtime, made.ctime, made.btime),
        (after.mtime, after.mtime, after.mtime, after.mtime)
    );
    // chmod: only ctime.
    let changed =
        replica.setattr(proto::mrc::SetAttrRequest { mode: Some(0o600), ..replica.change_of(made.ino) });
    let changed = changed.unwrap();
    assert_eq!(changed.mtime, made.mtime);
    assert!(changed.ctime > made.ctime && changed.change > made.change);
    // link and unlink: ctime of the inode, times of the directory.
    let linked = replica.link(made.ino, 1, "second").unwrap();
    assert!(linked.ctime > changed.ctime && linked.mtime == changed.mtime);
    replica.unlink(1, "second", 0).unwrap();
    let unlinked = replica.getattr(made.ino).unwrap();
    assert!(unlinked.ctime > linked.ctime && root(&replica).mtime == unlinked.ctime);
    // rename: both directories and the inode's ctime.
    let e = at(&replica, "/e");
    replica.rename((1, "new"), (e, "moved"), 0, 0).unwrap();
    let moved = replica.getattr(made.ino).unwrap();
    assert_eq!((root(&replica).mtime, replica.getattr(e).unwrap().mtime), (moved.ctime, moved.ctime));
    assert_eq!(moved.mtime, made.mtime);
    // Before 1970, to the nanosecond.
    let early = Time { seconds: -5, nanos: 999_999_999 };
    let set =
        proto::mrc::SetAttrRequest { atime: Some(early), mtime: Some(early), ..replica.change_of(made.ino) };
    let set = replica.setattr(set).unwrap();
    assert_eq!((set.atime, set.mtime), (early, early));
    let bad = Time { seconds: 0, nanos: 1_000_000_000 };
    let bad = proto::mrc::SetAttrRequest { atime: Some(bad), ..replica.change_of(made.ino) };
    assert_eq!(code(replica.setattr(bad)), Some(Code::InvalidArgument));
}

#[test]
fn size_reports_only_grow_and_not_across_a_truncation() {
    let mut replica = tree();
    let ino = at(&replica, "/f");
    let report = |replica: &mut Replica, size: u64, truncate_epoch: u64| {
        let report =
            ReportWrite { head: replica.head.clone(), ino, size, truncate_epoch, ..ReportWrite::default() };
        replica.run(Body::WriteDone(report)).unwrap();
        replica.getattr(ino).unwrap()
    };
    assert_eq!(report(&mut replica, 1000, 0).size, 1000);
    assert_eq!(report(&mut replica, 10, 0).size, 1000);
    let cut =
        replica.setattr(proto::mrc::SetAttrRequest { size: Some(5), ..replica.change_of(ino) }).unwrap();
    assert_eq!((cut.size, cut.truncate_epoch), (5, 1));
    assert_eq!(report(&mut replica, 1000, 0).size, 5);
    assert_eq!(report(&mut replica, 600, 1).size, 600);
    let grown =
        replica.setattr(proto::mrc::SetAttrRequest { size: Some(4096), ..replica.change_of(ino) }).unwrap();
    assert_eq!((grown.size, grown.truncate_epoch, grown.blocks), (4096, 1, 8));
    let before = replica.getattr(ino).unwrap();
    assert_eq!(report(&mut replica, 7, 1), before, "a report without news changes nothing");
    let huge = proto::mrc::SetAttrRequest { size: Some(1 << 63), ..replica.change_of(ino) };
    assert_eq!(code(replica.setattr(huge)), Some(Code::FileTooLarge));
    assert_eq!(volume::find(&replica.table, VOLUME).unwrap().unwrap().used_bytes, 4096);
}

#[test]
fn attributes_that_a_writer_kept_come_last_and_only_from_the_session_that_it_was() {
    let mut replica = tree();
    let ino = at(&replica, "/f");
    let begin = mrc::command::SessionBegin { session: replica.head.session, client: "test".into() };
    replica.run(Body::SessionBegin(begin)).unwrap();
    let epoch_of = |replica: &Replica| {
        session::find(&replica.table, replica.head.session).unwrap().expect("it is open").epoch
    };
    let epoch = epoch_of(&replica);
    let time = |seconds| Some(Time { seconds, nanos: 5 });
    let before = replica.getattr(ino).unwrap();
    let kept = KeptAttributes {
        mode: Some(0o7640),
        atime: time(11),
        mtime: time(12),
        ctime: Time { seconds: before.ctime.seconds + 1, nanos: 3 },
        chown: true,
        epoch,
        plain_acl: false,
    };
    let report = ReportWrite {
        head: replica.head.clone(),
        ino,
        size: 1000,
        mtime: time(99),
        kept: Some(kept),
        ..ReportWrite::default()
    };
    let from = replica.index();
    replica.run(Body::WriteDone(report.clone())).unwrap();
    let after = replica.getattr(ino).unwrap();
    assert_eq!((after.size, after.mtime, after.atime), (1000, time(12).unwrap(), time(11).unwrap()));
    assert_eq!((after.mode & 0o7777, after.mode >> 12), (0o7640, kind::FILE));
    assert_eq!((after.ctime, after.change), (kept.ctime, before.change + 1));
    let (told, _) = crate::changes::read(&replica, 1, mrc::changes::cursor_after(from), 0);
    assert_eq!(
        told.iter().map(|change| change.kind).collect::<Vec<_>>(),
        [event::WRITTEN, event::ATTRIBUTES]
    );
    // The session was expelled meanwhile: others may have set something else.
    let raise = mrc::command::SessionRaise { session: replica.head.session, fence: true };
    replica.run(Body::SessionRaise(raise)).unwrap();
    assert!(epoch_of(&replica) > epoch);
    let late = KeptAttributes { mode: Some(0o600), ..kept };
    replica.run(Body::WriteDone(ReportWrite { kept: Some(late), ..report.clone() })).unwrap();
    assert_eq!(replica.getattr(ino).unwrap().mode & 0o7777, 0o7640);
    // Nor what is no time, or a file that nobody may change.
    let bad = KeptAttributes { atime: Some(Time { seconds: 0, nanos: 1_000_000_000 }), ..kept };
    let bad = ReportWrite { kept: Some(bad), ..report.clone() };
    assert_eq!(code(replica.run(Body::WriteDone(bad))), Some(Code::InvalidArgument));
    let fixed = proto::mrc::SetAttrRequest { flags: Some(inode::FLAG_IMMUTABLE), ..replica.change_of(ino) };
    replica.setattr(fixed).unwrap();
    let now = KeptAttributes { epoch: epoch_of(&replica), mode: Some(0o600), ..kept };
    replica.run(Body::WriteDone(ReportWrite { kept: Some(now), ..report })).unwrap();
    assert_eq!(replica.getattr(ino).unwrap().mode & 0o7777, 0o7640);
}

#[test]
fn set_id_bits() {
    let mut replica = Replica::new();
    let shared = replica.mkdir(1, "shared", 0o755).unwrap().ino;
    let mut change = replica.change_of(shared);
    (change.mode, change.gid) = (Some(0o2777), Some(70));
    assert_eq!(replica.setattr(change).unwrap().mode & 0o7777, 0o2777);
    replica.head = head(100, 100, false);
    let sub = replica.mkdir(shared, "sub", 0o755).unwrap();
    assert_eq!((sub.gid, sub.mode & 0o7777), (70, 0o2755));
    let file = replica.mkfile(shared, "file", 0o644).unwrap();
    assert_eq!((file.gid, file.uid), (70, 100));
    // Not a member of group 70: no setgid program for it.
    assert_eq!(replica.mkfile(shared, "p", 0o2755).unwrap().mode & 0o7777, 0o755);
    let chmod = |replica: &mut Replica, ino: u64, mode: u32| {
        replica
            .setattr(proto::mrc::SetAttrRequest { mode: Some(mode), ..replica.change_of(ino) })
            .unwrap()
            .mode
            & 0o7777
    };
    assert_eq!(chmod(&mut replica, file.ino, 0o6755), 0o4755);
    replica.head.groups = vec![70];
    assert_eq!(chmod(&mut replica, file.ino, 0o6755), 0o6755);
    let chown = proto::mrc::SetAttrRequest { gid: Some(100), ..replica.change_of(file.ino) };
    assert_eq!(replica.setattr(chown).unwrap().mode & 0o7777, 0o755);
    assert_eq!(chmod(&mut replica, file.ino, 0o6744), 0o6744);
    let report = ReportWrite {
        head: replica.head.clone(),
        ino: file.ino,
        clear_setid: true,
        ..ReportWrite::default()
    };
    replica.run(Body::WriteDone(report)).unwrap();
    assert_eq!(
        replica.getattr(file.ino).unwrap().mode & 0o7777,
        0o2744,
        "setgid without execute is mandatory locking"
    );
}

#[test]
fn permissions() {
    let mut replica = Replica::new();
    let public = replica.mkdir(1, "tmp", 0o777).unwrap().ino;
    let mut sticky = replica.change_of(public);
    sticky.mode = Some(0o1777);
    replica.setattr(sticky).unwrap();
    replica.head = head(100, 100, false);
    assert_eq!(code(replica.mkdir(1, "x", 0o755)), Some(Code::PermissionDenied));
    let mine = replica.mkfile(public, "mine", 0o640).unwrap().ino;
    let hidden = replica.mkdir(public, "hidden", 0o700).unwrap().ino;
    replica.mkfile(hidden, "inside", 0o644).unwrap();
    replica.head = head(200, 200, false);
    let denied = |replica: &mut Replica, change: proto::mrc::SetAttrRequest| code(replica.setattr(change));
    for (what, change, want) in [
        (
            "chmod",
            proto::mrc::SetAttrRequest { mode: Some(0), ..replica.change_of(mine) },
            Code::NotPermitted,
        ),
        (
            "chown",
            proto::mrc::SetAttrRequest { uid: Some(200), ..replica.change_of(mine) },
            Code::NotPermitted,
        ),
        (
            "chgrp",
            proto::mrc::SetAttrRequest { gid: Some(200), ..replica.change_of(mine) },
            Code::NotPermitted,
        ),
        (
            "utime",
            proto::mrc::SetAttrRequest { mtime: Some(Time::default()), ..replica.change_of(mine) },
            Code::NotPermitted,
        ),
        (
            "touch",
            proto::mrc::SetAttrRequest { mtime_now: true, ..replica.change_of(mine) },
            Code::PermissionDenied,
        ),
        (
            "truncate",
            proto::mrc::SetAttrRequest { size: Some(0), ..replica.change_of(mine) },
            Code::PermissionDenied,
        ),
    ] {
        assert_eq!(denied(&mut replica, change), Some(want), "{what}");
    }
    assert_eq!(code(replica.unlink(public, "mine", 0)), Some(Code::NotPermitted), "sticky");
    assert_eq!(
        code(replica.rename((public, "mine"), (public, "x"), 0, 0)),
        Some(Code::NotPermitted),
        "sticky"
    );
    assert_eq!(code(replica.lookup(hidden, "inside")), Some(Code::PermissionDenied));
    assert_eq!(code(replica.list(hidden, 9)), Some(Code::PermissionDenied));
    assert_eq!(code(replica.create(public, "mine", false)), Some(Code::PermissionDenied));
    let ask = |uid: u32, groups: Vec<u32>, mask: u32| {
        let head = proto::mrc::Head { groups, ..head(uid, uid, true) };
        code(read::access(&replica.table, &AccessRequest { head, ino: mine, mask }).map_err(Into::into))
    };
    assert_eq!(ask(200, vec![], access::R), Some(Code::PermissionDenied));
    assert_eq!(ask(200, vec![100], access::R), None);
    assert_eq!(ask(200, vec![100], access::W), Some(Code::PermissionDenied));
    assert_eq!(ask(100, vec![], access::R | access::W), None);
    assert_eq!(ask(0, vec![], access::R | access::W), None);
    assert_eq!(
        ask(0, vec![], access::X),
        Some(Code::PermissionDenied),
        "root does not execute what nobody may"
    );
    replica.head = head(200, 200, false);
    assert_eq!(code(replica.make(public, "dev", kind::CHAR << 12 | 0o666, "")), Some(Code::NotPermitted));
    replica.head = head(200, 200, true);
    replica.unlink(public, "mine", 0).unwrap();
}

#[test]
fn inode_flags() {
    let mut replica = tree();
    let flag = |replica: &mut Replica, ino: u64, flags: u32| -> Attr {
        replica.setattr(proto::mrc::SetAttrRequest { flags: Some(flags), ..replica.change_of(ino) }).unwrap()
    };
    let (d, f) = (at(&replica, "/d"), at(&replica, "/f"));
    for set in [FLAG_IMMUTABLE, FLAG_APPEND] {
        flag(&mut replica, f, set);
        flag(&mut replica, d, set);
        let denied = Some(Code::NotPermitted);
        assert_eq!(code(replica.unlink(1, "f", 0)), denied);
        assert_eq!(code(replica.rename((1, "f"), (1, "g"), 0, 0)), denied);
        assert_eq!(code(replica.link(f, 1, "g")), denied);
        assert_eq!(code(replica.unlink(d, "file", 0)), denied);
        assert_eq!(code(replica.rename((d, "file"), (1, "g"), 0, 0)), denied);
        assert_eq!(code(replica.setxattr(f, "user.a", Some(b"1"), 0)), denied);
        for change in [
            proto::mrc::SetAttrRequest { mode: Some(0o600), ..replica.change_of(f) },
            proto::mrc::SetAttrRequest { size: Some(0), ..replica.change_of(f) },
        ] {
            assert_eq!(code(replica.setattr(change)), denied);
        }
        let touch = proto::mrc::SetAttrRequest { mtime_now: true, ..replica.change_of(f) };
        let immutable = set == FLAG_IMMUTABLE;
        assert_eq!(code(replica.setattr(touch)).is_some(), immutable);
        assert_eq!(code(replica.mkfile(d, &format!("new{set}"), 0o644)).is_some(), immutable);
        assert_eq!(code(replica.create(1, "f", false)), denied, "it would be opened without O_APPEND");
        let open = |append: bool| {
            let inode = inode::get(&replica.table, VOLUME, f).unwrap();
            code(make::may_open(&inode, &replica.head, true, append).map_err(proto::error::WireError::from))
        };
        assert_eq!((open(false), open(true).is_some()), (denied, immutable));
        flag(&mut replica, f, 0);
        flag(&mut replica, d, 0);
    }
    replica.unlink(1, "f", 0).unwrap();
}

#[test]
fn extended_attributes() {
    let mut replica = tree();
    let f = at(&replica, "/f");
    let set = |replica: &mut Replica, name: &str, value: Option<&[u8]>, flags: u32| {
        code(replica.setxattr(f, name, value, flags))
    };
    assert_eq!(set(&mut replica, "user.a", Some(b"1"), XATTR_REPLACE), Some(Code::NoAttribute));
    assert_eq!(set(&mut replica, "user.a", Some(b"1"), XATTR_CREATE), None);
    assert_eq!(set(&mut replica, "user.a", Some(b"2"), XATTR_CREATE), Some(Code::Exists));
    assert_eq!(set(&mut replica, "user.a", Some(b""), XATTR_REPLACE), None);
    assert_eq!(set(&mut replica, "user.b", None, 0), Some(Code::NoAttribute));
    assert_eq!(set(&mut replica, "system.other", Some(b"x"), 0), Some(Code::NotSupported));
    assert_eq!(set(&mut replica, "user.", Some(b"x"), 0), Some(Code::NotSupported));
    assert_eq!(
        set(&mut replica, &format!("user.{}", "n".repeat(251)), Some(b"x"), 0),
        Some(Code::AttributeTooLarge)
    );
    assert_eq!(set(&mut replica, "user.big", Some(&vec![0; 65537]), 0), Some(Code::AttributeTooLarge));
    assert_eq!(set(&mut replica, "user.big", Some(&vec![7; 65536]), 0), None);
    let get = |replica: &Replica, name: &str| {
        let request = GetXattrRequest { head: replica.head.clone(), ino: f, name: name.into() };
        xattr::get(&replica.table, &request).map_err(proto::error::WireError::from)
    };
    assert_eq!(get(&replica, "user.a").unwrap(), b"");
    assert_eq!(get(&replica, "user.big").unwrap().len(), 65536);
    assert_eq!(code(get(&replica, "user.c")), Some(Code::NoAttribute));
    for number in 0..255 {
        assert_eq!(set(&mut replica, &format!("user.{number:0250}"), Some(b""), 0), None);
    }
    assert_eq!(set(&mut replica, &format!("user.{:0250}", 999), Some(b""), 0), Some(Code::NoSpace));
    fsck::check(&replica.table);
    let l = at(&replica, "/l");
    assert_eq!(code(replica.setxattr(l, "user.a", Some(b"1"), 0)), Some(Code::NotPermitted));
    replica.unlink(1, "f", f).unwrap();
    fsck::check(&replica.table);
}

#[test]
fn walks_stop_at_what_is_no_directory() {
    let replica = tree();
    let walk = |names: &[&str]| {
        let names = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let request = WalkRequest { head: replica.head.clone(), parent: 1, names };
        read::walk(&replica.table, &request).map_err(proto::error::WireError::from)
    };
    assert_eq!(walk(&["d", "sub", "..", ".", "file"]).unwrap()[4].ino, at(&replica, "/d/file"));
    assert_eq!(walk(&["..", "d"]).unwrap()[0].ino, 1);
    assert_eq!(walk(&["l", "x"]).unwrap().len(), 1);
    assert_eq!(walk(&["d", "file", "x"]).unwrap().len(), 2);
    assert_eq!(code(walk(&["d", "nope", "x"])), Some(Code::NotFound));
}

#[test]
fn locks_conflict_split_and_end_with_their_session() {
    let mut replica = tree();
    let f = at(&replica, "/f");
    let (a, b) = ((1, 1), (2, 1));
    replica.lock(f, a, (0, 99), locks::READ).unwrap();
    replica.lock(f, b, (50, 149), locks::READ).unwrap();
    assert_eq!(code(replica.lock(f, b, (90, 200), locks::WRITE)), Some(Code::WouldBlock));
    replica.lock(f, b, (100, 200), locks::WRITE).unwrap();
    replica.lock(f, a, (20, 29), locks::UNLOCK).unwrap();
    let test = |replica: &Replica, start: u64, end: u64| {
        let request = LockRequest {
            head: replica.head.clone(),
            ino: f,
            owner: 77,
            start,
            end,
            kind: locks::WRITE,
            ..LockRequest::default()
        };
        test_lock(&replica.table, &request).unwrap()
    };
    assert_eq!((test(&replica, 10, 40).start, test(&replica, 10, 40).end), (0, 19));
    assert_eq!(test(&replica, 20, 29).kind, locks::UNLOCK);
    assert_eq!(test(&replica, 201, u64::MAX).kind, locks::UNLOCK);
    replica.run(Body::SessionEnd(mrc::command::SessionEnd { session: 1 })).unwrap();
    assert_eq!(test(&replica, 0, 49).kind, locks::UNLOCK);
    assert_eq!(test(&replica, 0, u64::MAX).start, 50);
    assert_eq!(code(replica.lock(f, a, (5, 4), locks::READ)), Some(Code::InvalidArgument));
    replica.unlink(1, "f", f).unwrap();
    fsck::check(&replica.table);
}

#[test]
fn a_dropped_volume_leaves_only_garbage() {
    let mut replica = tree();
    let f = at(&replica, "/f");
    replica.setxattr(f, "user.a", Some(b"1"), 0).unwrap();
    replica.lock(f, (1, 1), (0, 9), locks::WRITE).unwrap();
    replica.run(Body::DropVolume(DropVolume { origin: Origin::default(), volume: VOLUME })).unwrap();
    assert_eq!(code(replica.mkdir(1, "x", 0o755)), Some(Code::NotFound));
    for _ in 0..100 {
        replica.run(Body::DropStep(mrc::command::DropStep { volume: VOLUME, limit: 3 })).unwrap();
    }
    let rest = replica.table.dump();
    assert!(rest.iter().all(|(key, _)| key[0] == mrc::namespace::keys::table::GARBAGE), "{rest:?}");
    assert_eq!(rest.len(), 2, "the objects of /f and /d/file");
}
