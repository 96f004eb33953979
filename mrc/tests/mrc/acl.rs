//! Access control lists: kept, checked, handed down, and in step with the mode bits.

use mrc::command::Body;
use mrc::namespace::{access, acl, read, session, xattr};
use proto::error::{Code, WireError};
use proto::mrc::{
    ACL_ACCESS, ACL_DEFAULT, AccessRequest, GetXattrRequest, Head, KeptAttributes, ReportWrite,
    SetAttrRequest, SetXattrRequest, kind,
};

use crate::fsck;
use crate::harness::{Replica, VOLUME, code, head};

pub(crate) const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
const NOBODY: u32 = u32::MAX;

/// (tag, permissions, id) as acl(5) has them.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&permissions.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

/// u::rw-,u:200:rw-,g::r--,m::rw-,o::---
fn with_user_200() -> Vec<u8> {
    list(&[(1, 6, NOBODY), (2, 6, 200), (4, 4, NOBODY), (16, 6, NOBODY), (32, 0, NOBODY)])
}

/// A list that the mode shows as these nine bits; with user 7 named or without.
pub(crate) fn showing(bits: u32, named: bool) -> Vec<u8> {
    let class = |shift: u32| u16::try_from(bits >> shift & 7).unwrap();
    let mut entries = vec![(1, class(6), NOBODY), (4, class(3), NOBODY), (32, class(0), NOBODY)];
    if named {
        entries = vec![
            (1, class(6), NOBODY),
            (2, 5, 7),
            (4, 7, NOBODY),
            (16, class(3), NOBODY),
            (32, class(0), NOBODY),
        ];
    }
    list(&entries)
}

fn minimal() -> Vec<u8> {
    list(&[(1, 7, NOBODY), (4, 5, NOBODY), (32, 1, NOBODY)])
}

fn get(replica: &Replica, ino: u64, name: &str) -> Result<Vec<u8>, WireError> {
    let request = GetXattrRequest { head: replica.head.clone(), ino, name: name.into() };
    xattr::get(&replica.table, &request).map_err(WireError::from)
}

fn may(replica: &Replica, ino: u64, uid: u32, groups: &[u32], mask: u32) -> bool {
    let head = Head { groups: groups.to_vec(), ..head(uid, uid, false) };
    read::access(&replica.table, &AccessRequest { head, ino, mask }).is_ok()
}

fn mode(replica: &Replica, ino: u64) -> u32 {
    replica.getattr(ino).unwrap().mode & 0o7777
}

#[test]
fn a_list_is_kept_and_decides() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    assert_eq!(code(get(&replica, f, ACCESS)), Some(Code::NoAttribute));
    assert!(may(&replica, f, 300, &[], access::R) && !may(&replica, f, 200, &[], access::W));
    replica.setxattr(f, ACCESS, Some(&with_user_200()), 0).unwrap();
    fsck::check(&replica.table);
    assert_eq!(get(&replica, f, ACCESS).unwrap(), with_user_200());
    assert_eq!((mode(&replica, f), replica.getattr(f).unwrap().acl), (0o660, ACL_ACCESS));
    assert!(may(&replica, f, 200, &[], access::W) && !may(&replica, f, 300, &[], access::R));
    assert!(may(&replica, f, 300, &[0], access::R) && !may(&replica, f, 300, &[0], access::W));
    assert_eq!(xattr::list(&replica.table, &replica.head, f).unwrap(), [ACCESS.as_bytes()]);
    // The same rule guards operations of those whose kernel did not check.
    replica.head = head(200, 200, false);
    let cut = SetAttrRequest { size: Some(0), ..replica.change_of(f) };
    replica.setattr(cut).unwrap();
    replica.head = head(300, 300, false);
    let cut = SetAttrRequest { size: Some(0), ..replica.change_of(f) };
    assert_eq!(code(replica.setattr(cut)), Some(Code::PermissionDenied));
}

#[test]
fn chmod_changes_the_mask_and_a_list_changes_the_mode() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    replica.setxattr(f, ACCESS, Some(&with_user_200()), 0).unwrap();
    let chmod = SetAttrRequest { mode: Some(0o4740), ..replica.change_of(f) };
    assert_eq!(replica.setattr(chmod).unwrap().mode & 0o7777, 0o4740);
    fsck::check(&replica.table);
    assert!(may(&replica, f, 200, &[], access::R) && !may(&replica, f, 200, &[], access::W));
    let list_now = list(&[(1, 7, NOBODY), (2, 6, 200), (4, 4, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]);
    assert_eq!(get(&replica, f, ACCESS).unwrap(), list_now);
    // A list that says no more than nine bits becomes nine bits; the higher bits stay.
    replica.setxattr(f, ACCESS, Some(&minimal()), 0).unwrap();
    assert_eq!((mode(&replica, f), replica.getattr(f).unwrap().acl), (0o4751, 0));
    assert_eq!(code(get(&replica, f, ACCESS)), Some(Code::NoAttribute));
    // Removing leaves the mode; removing what is not there is no error (as ext4 has it).
    replica.setxattr(f, ACCESS, Some(&with_user_200()), 0).unwrap();
    replica.setxattr(f, ACCESS, None, 0).unwrap();
    replica.setxattr(f, ACCESS, None, 0).unwrap();
    assert_eq!((mode(&replica, f), replica.getattr(f).unwrap().acl), (0o4660, 0));
    fsck::check(&replica.table);
}

#[test]
fn attributes_say_when_nothing_needs_to_be_asked_for() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o640).unwrap();
    let bare = |replica: &Replica| replica.getattr(f.ino).unwrap().bare;
    assert!(f.bare && bare(&replica));
    replica.setxattr(f.ino, ACCESS, Some(&with_user_200()), 0).unwrap();
    assert!(!bare(&replica));
    // The holder of a lease for writing sets a list that is no more than a mode, and tells it later.
    let begin = mrc::command::SessionBegin { session: replica.head.session, client: "test".into() };
    replica.run(Body::SessionBegin(begin)).unwrap();
    let row = session::find(&replica.table, replica.head.session).unwrap().expect("it is open");
    let ctime = replica.getattr(f.ino).unwrap().ctime;
    let mode = Some(0o604);
    let kept = KeptAttributes { mode, ctime, epoch: row.epoch, plain_acl: true, ..KeptAttributes::default() };
    let report =
        ReportWrite { head: replica.head.clone(), ino: f.ino, kept: Some(kept), ..ReportWrite::default() };
    replica.run(Body::WriteDone(report)).unwrap();
    let after = replica.getattr(f.ino).unwrap();
    assert_eq!((after.acl, after.bare, after.mode & 0o7777), (0, true, 0o604));
    replica.setxattr(f.ino, "user.a", Some(b"1"), 0).unwrap();
    assert!(!bare(&replica));
    replica.setxattr(f.ino, "user.a", None, 0).unwrap();
    assert!(bare(&replica));
    fsck::check(&replica.table);
}

#[test]
fn a_default_list_takes_the_place_of_the_umask() {
    let mut replica = Replica::new();
    replica.umask = 0o077;
    let d = replica.mkdir(1, "d", 0o777).unwrap();
    assert_eq!(d.mode & 0o7777, 0o700, "without a list the umask counts");
    let default = list(&[(1, 7, NOBODY), (2, 7, 200), (4, 5, NOBODY), (16, 7, NOBODY), (32, 5, NOBODY)]);
    replica.setxattr(d.ino, DEFAULT, Some(&default), 0).unwrap();
    assert_eq!(replica.getattr(d.ino).unwrap().acl, ACL_DEFAULT);
    assert_eq!(mode(&replica, d.ino), 0o700);

    let file = replica.mkfile(d.ino, "file", 0o666).unwrap();
    assert_eq!((file.mode & 0o7777, file.acl), (0o664, ACL_ACCESS));
    let got = list(&[(1, 6, NOBODY), (2, 7, 200), (4, 5, NOBODY), (16, 6, NOBODY), (32, 4, NOBODY)]);
    assert_eq!(get(&replica, file.ino, ACCESS).unwrap(), got);
    let created = replica.create(d.ino, "created", true).unwrap().attr;
    assert_eq!((created.mode & 0o7777, created.acl), (0o644, ACL_ACCESS));

    let sub = replica.mkdir(d.ino, "sub", 0o750).unwrap();
    assert_eq!((sub.mode & 0o7777, sub.acl), (0o750, ACL_ACCESS | ACL_DEFAULT));
    assert_eq!(get(&replica, sub.ino, DEFAULT).unwrap(), default);
    let symlink = replica.make(d.ino, "symlink", kind::SYMLINK << 12 | 0o777, "to").unwrap();
    assert_eq!((symlink.mode & 0o7777, symlink.acl), (0o777, 0));
    let fifo = replica.make(sub.ino, "fifo", kind::FIFO << 12 | 0o600, "").unwrap();
    assert_eq!((fifo.mode & 0o7777, fifo.acl), (0o600, ACL_ACCESS));

    // A minimal default list is a default list too: new files get mode bits from it and no list.
    replica.setxattr(d.ino, DEFAULT, Some(&minimal()), 0).unwrap();
    let plain = replica.mkfile(d.ino, "plain", 0o666).unwrap();
    assert_eq!((plain.mode & 0o7777, plain.acl), (0o640, 0));
    replica.setxattr(d.ino, DEFAULT, None, 0).unwrap();
    assert_eq!(replica.mkfile(d.ino, "last", 0o666).unwrap().mode & 0o7777, 0o600);
    fsck::check(&replica.table);
}

#[test]
fn who_may_set_a_list_and_on_what() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    let symlink = replica.make(1, "l", kind::SYMLINK << 12 | 0o777, "f").unwrap().ino;
    let set = |replica: &mut Replica, ino: u64, name: &str, value: Option<&[u8]>| {
        code(replica.setxattr(ino, name, value, 0))
    };
    let value = with_user_200();
    assert_eq!(set(&mut replica, f, DEFAULT, Some(&value)), Some(Code::PermissionDenied));
    assert_eq!(set(&mut replica, f, DEFAULT, None), None);
    assert_eq!(set(&mut replica, symlink, ACCESS, Some(&value)), Some(Code::NotSupported));
    assert_eq!(set(&mut replica, f, ACCESS, Some(b"x")), Some(Code::InvalidArgument));
    assert_eq!(set(&mut replica, f, "system.other", Some(b"x")), Some(Code::NotSupported));
    replica.head = head(200, 200, false);
    assert_eq!(set(&mut replica, f, ACCESS, Some(&value)), Some(Code::NotPermitted));
}

#[test]
fn setting_a_list_by_an_outsider_clears_setgid() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o2755).unwrap().ino;
    let request = SetXattrRequest {
        head: replica.head.clone(),
        ino: f,
        name: acl::ACCESS_NAME.to_vec(),
        value: Some(with_user_200()),
        clear_setgid: true,
        ..SetXattrRequest::default()
    };
    replica.run(Body::SetXattr(request)).unwrap();
    assert_eq!(mode(&replica, f), 0o660);
}

#[test]
fn lists_survive_the_row_and_end_with_the_inode() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    let mut entries = vec![(1, 6, NOBODY)];
    entries.extend((0..1000).map(|id| (2, 4, id)));
    entries.extend([(4, 4, NOBODY), (16, 6, NOBODY), (32, 0, NOBODY)]);
    replica.setxattr(f, ACCESS, Some(&list(&entries)), 0).unwrap();
    replica.setxattr(f, "user.a", Some(b"1"), 0).unwrap();
    assert_eq!(get(&replica, f, ACCESS).unwrap(), list(&entries));
    assert!(may(&replica, f, 999, &[], access::R) && !may(&replica, f, 1000, &[], access::R));
    assert_eq!(xattr::list(&replica.table, &replica.head, f).unwrap(), [ACCESS.as_bytes(), b"user.a"]);
    replica.unlink(1, "f", f).unwrap();
    fsck::check(&replica.table);
    assert_eq!(mrc::namespace::volume::find(&replica.table, VOLUME).unwrap().unwrap().inodes, 1);
}
