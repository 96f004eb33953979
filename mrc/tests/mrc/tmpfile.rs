//! Files without a name: orphans from the start, freed with their last close unless linked.

use mrc::command::{Body, Create, CreateDone, Which};
use mrc::namespace::collect;
use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{CreateRequest, MakeRequest};

use crate::fsck;
use crate::harness::{Replica, VOLUME, code, head, layout};

pub(crate) fn tmpfile(replica: &mut Replica, parent: u64, exclusive: bool) -> Result<CreateDone, WireError> {
    let make = MakeRequest {
        head: replica.head.clone(),
        parent,
        mode: 0o666,
        umask: replica.umask,
        ..MakeRequest::default()
    };
    let request = CreateRequest { make, exclusive, write: true, append: false };
    let answer = replica.run(Body::TmpFile(Create { request, layout: layout(), must_exist: false }))?;
    Ok(CreateDone::decode(answer).unwrap())
}

fn orphans(replica: &Replica) -> Vec<(u64, u64)> {
    collect::orphans(&replica.table, (0, 0), usize::MAX).unwrap()
}

#[test]
fn a_nameless_file_is_there_until_it_is_reaped() {
    let mut replica = Replica::new();
    replica.umask = 0o022;
    let before = replica.getattr(1).unwrap();
    let made = tmpfile(&mut replica, 1, false).unwrap();
    assert_eq!((made.attr.nlink, made.attr.mode, made.created), (0, 0o100_644, true));
    assert_eq!(replica.getattr(1).unwrap(), before, "the directory does not change");
    fsck::check(&replica.table);
    assert_eq!(orphans(&replica), [(VOLUME, made.attr.ino)]);
    replica.run(Body::Reap(Which { volume: VOLUME, ino: made.attr.ino })).unwrap();
    assert_eq!(code(replica.getattr(made.attr.ino)), Some(Code::Stale));
    assert_eq!(collect::garbage(&replica.table, (0, 0), 9).unwrap().len(), 1, "its objects go too");
    fsck::check(&replica.table);
}

#[test]
fn a_linked_one_is_a_file_like_others() {
    let mut replica = Replica::new();
    let ino = tmpfile(&mut replica, 1, false).unwrap().attr.ino;
    assert_eq!(replica.link(ino, 1, "f").unwrap().nlink, 1);
    fsck::check(&replica.table);
    assert!(orphans(&replica).is_empty());
    replica.run(Body::Reap(Which { volume: VOLUME, ino })).unwrap();
    replica.link(ino, 1, "g").unwrap();
    replica.unlink(1, "f", 0).unwrap();
    replica.unlink(1, "g", 0).unwrap();
    assert_eq!(code(replica.link(ino, 1, "back")), Some(Code::NotFound), "it had names: none comes back");
    fsck::check(&replica.table);
}

#[test]
fn an_exclusive_one_never_gets_a_name() {
    let mut replica = Replica::new();
    let ino = tmpfile(&mut replica, 1, true).unwrap().attr.ino;
    assert_eq!(code(replica.link(ino, 1, "f")), Some(Code::NotFound));
    assert_eq!(orphans(&replica), [(VOLUME, ino)]);
}

#[test]
fn a_refused_link_leaves_it_linkable() {
    let mut replica = Replica::new();
    replica.mkfile(1, "f", 0o644).unwrap();
    let ino = tmpfile(&mut replica, 1, false).unwrap().attr.ino;
    assert_eq!(code(replica.link(ino, 1, "f")), Some(Code::Exists));
    replica.link(ino, 1, "g").unwrap();
    fsck::check(&replica.table);
}

#[test]
fn the_directory_must_be_writable_and_there() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    assert_eq!(code(tmpfile(&mut replica, f, false)), Some(Code::NotDirectory));
    assert_eq!(code(tmpfile(&mut replica, 999, false)), Some(Code::NotFound));
    replica.head = head(100, 100, false);
    assert_eq!(code(tmpfile(&mut replica, 1, false)), Some(Code::PermissionDenied));
}
