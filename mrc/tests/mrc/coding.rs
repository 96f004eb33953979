//! Erasure coding: beginning, committing, giving up; promotion; which files want it.

use bytes::Bytes;
use mrc::command::{BeginCoding, Body, CodingBegun, ThawFile, Which};
use mrc::namespace::coding::{Known, page};
use mrc::namespace::{collect, inode, layers, volume};
use prost::Message;
use proto::coding::{EncodableFiles, EndEncoding, ListEncodable};
use proto::error::{Code, WireError};
use proto::layout::SetLayout;
use proto::limits::CODING_BYTES_MIN;
use proto::mrc::ReportWrite;
use proto::rpc::Origin;
use proto::stripe::{Coding, Column, Layout, Striping};

use crate::harness::{Replica, VOLUME, code};

const ROOT: u64 = 1;
const CODE: Coding = Coding { data: 2, parity: 1 };
const SIZE: u64 = 1 << 20;

fn coded(size: u64) -> Layout {
    Layout {
        stripe_bytes: 1 << 16,
        columns: [5, 6, 7].map(|osd| Column { osds: vec![osd] }).to_vec(),
        view: 1,
        coding: Some(CODE),
        coded_bytes: size,
        ..Layout::default()
    }
}

/// Begins an encoding; gives the number of its data.
pub(crate) fn begin(replica: &mut Replica, ino: u64, size: u64) -> Result<u64, WireError> {
    let begin = BeginCoding { volume: VOLUME, ino, session: 9, layout: coded(size) };
    replica.run(Body::EncodeBegin(begin)).map(|answer| CodingBegun::decode(answer).unwrap().data)
}

/// Commits an encoding, or gives it up.
pub(crate) fn end(replica: &mut Replica, ino: u64, data: u64, commit: bool) -> Result<(), WireError> {
    let ask = EndEncoding { head: replica.head.clone(), origin: Origin::default(), ino, data };
    let body =
        if commit { Body::EncodeCommit(ask) } else { Body::EncodeDrop(Which { volume: VOLUME, ino: data }) };
    replica.run(body).map(drop)
}

/// A file of a size, as its writer reported it.
fn file(replica: &mut Replica, name: &str, size: u64) -> u64 {
    let ino = replica.create(ROOT, name, true).unwrap().attr.ino;
    let report = ReportWrite {
        head: replica.head.clone(),
        origin: Origin::default(),
        ino,
        size,
        ..ReportWrite::default()
    };
    replica.run(Body::WriteDone(report)).unwrap();
    ino
}

fn garbage(replica: &Replica) -> Vec<u64> {
    collect::garbage(&replica.table, (0, 0), 100).unwrap().iter().map(|garbage| garbage.ino).collect()
}

fn thaw(replica: &mut Replica, ino: u64, layout: Option<Layout>) -> Result<Bytes, WireError> {
    replica.run(Body::Thaw(ThawFile { volume: VOLUME, ino, layout }))
}

fn needs_thaw(replica: &Replica, ino: u64) -> bool {
    let record = volume::live(&replica.table, VOLUME).unwrap();
    let inode = inode::get(&replica.table, VOLUME, ino).unwrap();
    layers::needs_thaw(&replica.table, VOLUME, &record, &inode).unwrap()
}

#[test]
fn a_file_shows_its_encoded_data_after_the_commit_and_replicas_after_promotion() {
    let mut replica = Replica::new();
    let ino = file(&mut replica, "f", SIZE);
    let data = begin(&mut replica, ino, SIZE).unwrap();
    assert_eq!(inode::get(&replica.table, VOLUME, ino).unwrap().top(), ino, "not before the commit");
    end(&mut replica, ino, data, true).unwrap();
    let inode = inode::get(&replica.table, VOLUME, ino).unwrap();
    assert_eq!((inode.top(), inode.attr.size, garbage(&replica)), (data, SIZE, vec![ino]));
    assert_eq!(code(end(&mut replica, ino, data, true)), Some(Code::Stale), "only once");
    end(&mut replica, ino, data, false).unwrap();
    assert_eq!(inode::get(&replica.table, VOLUME, ino).unwrap().top(), data, "what is committed stays");

    assert!(needs_thaw(&replica, ino), "nobody writes encoded data");
    let place = Layout { columns: vec![Column { osds: vec![8, 9] }], ..crate::harness::layout() };
    thaw(&mut replica, ino, Some(place.clone())).unwrap();
    let inode = inode::get(&replica.table, VOLUME, ino).unwrap();
    let shown = layers::shown(&replica.table, VOLUME, inode.top()).unwrap();
    let shown: Vec<_> = shown.iter().map(|shown| (shown.data, shown.layout.clone(), shown.bytes)).collect();
    assert_eq!(shown, [(data + 1, place, u64::MAX), (data, coded(SIZE), SIZE)]);
    assert!(!needs_thaw(&replica, ino));

    let again = begin(&mut replica, ino, SIZE).unwrap();
    end(&mut replica, ino, again, true).unwrap();
    assert_eq!(garbage(&replica), [ino, data, data + 1], "replicas and the encoded data below go");
}

#[test]
fn an_encoding_ends_when_somebody_may_write_the_file_changes_or_goes() {
    let mut replica = Replica::new();
    let ino = file(&mut replica, "f", SIZE);
    let data = begin(&mut replica, ino, SIZE).unwrap();
    assert!(needs_thaw(&replica, ino));
    thaw(&mut replica, ino, None).unwrap();
    assert_eq!(code(end(&mut replica, ino, data, true)), Some(Code::Stale));
    assert_eq!(garbage(&replica), [data]);
    assert!(!needs_thaw(&replica, ino), "its own data is written on");

    let data = begin(&mut replica, ino, SIZE).unwrap();
    let change = proto::mrc::SetAttrRequest { size: Some(5), ..replica.change_of(ino) };
    replica.setattr(change).unwrap();
    assert_eq!(code(end(&mut replica, ino, data, true)), Some(Code::Stale));

    assert_eq!(code(begin(&mut replica, ino, SIZE)), Some(Code::Busy), "the size is another one");
    let first = begin(&mut replica, ino, 5).unwrap();
    let second = begin(&mut replica, ino, 5).unwrap();
    assert_eq!(code(end(&mut replica, ino, first, true)), Some(Code::Stale), "one at a time");
    end(&mut replica, ino, second, false).unwrap();
    end(&mut replica, ino, second, false).unwrap();
    assert_eq!(code(end(&mut replica, ino, second, true)), Some(Code::Stale));

    let last = begin(&mut replica, ino, 5).unwrap();
    replica.unlink(ROOT, "f", ino).unwrap();
    assert_eq!(code(end(&mut replica, ino, last, true)), Some(Code::Stale));
    assert!(garbage(&replica).contains(&last) && garbage(&replica).contains(&ino));
}

#[test]
fn encoded_data_is_not_cut() {
    let mut replica = Replica::new();
    let ino = file(&mut replica, "f", SIZE);
    let data = begin(&mut replica, ino, SIZE).unwrap();
    end(&mut replica, ino, data, true).unwrap();
    let change = proto::mrc::SetAttrRequest { size: Some(5), ..replica.change_of(ino) };
    assert_eq!(code(replica.setattr(change.clone())), Some(Code::Busy));
    thaw(&mut replica, ino, None).unwrap();
    replica.setattr(change).unwrap();
    let top = inode::get(&replica.table, VOLUME, ino).unwrap().top();
    assert_eq!(layers::shown(&replica.table, VOLUME, top).unwrap()[1].bytes, 5);
}

fn list(replica: &Replica, leaving: &[u64], quiet_ms: u64, written: &[u64]) -> EncodableFiles {
    let ask = ListEncodable {
        head: replica.head.clone(),
        leaving: leaving.to_vec(),
        quiet_ms,
        ..ListEncodable::default()
    };
    let is_written = |ino: u64| written.contains(&ino);
    let known = Known { now_ms: 1_700_000_000_000 + 1000 * (replica.index() + 60), is_written: &is_written };
    page(&replica.table, &ask, &known).unwrap()
}

#[test]
fn files_under_the_policy_are_listed_until_they_are_as_they_should_be() {
    let mut replica = Replica::new();
    let ino = file(&mut replica, "f", SIZE);
    let small = file(&mut replica, "small", CODING_BYTES_MIN - 1);
    assert_eq!(list(&replica, &[], 0, &[]), EncodableFiles::default(), "nobody wants it");
    let striping =
        Striping { stripe_bytes: 1 << 20, width: 1, replicas: 3, replication: 1, coding: Some(CODE) };
    let set = |coding| SetLayout {
        head: replica.head.clone(),
        origin: Origin::default(),
        ino: ROOT,
        striping: Some(Striping { coding, ..striping }),
    };
    let (with, other) = (set(Some(CODE)), set(Some(Coding { data: 3, parity: 1 })));
    let without = set(None);
    replica.run(Body::SetLayout(with)).unwrap();
    let inos = |page: &EncodableFiles| page.files.iter().map(|file| file.ino).collect::<Vec<_>>();
    let page = list(&replica, &[], 0, &[]);
    assert_eq!((inos(&page), page.files[0].coding, page.files[0].repair), (vec![ino], CODE, false));
    assert_eq!(list(&replica, &[], 3_600_000, &[]).busy, 1, "it was written not long ago");
    assert_eq!(list(&replica, &[], 0, &[ino]).busy, 1, "it is open for writing");
    assert!(small > 0);

    let data = begin(&mut replica, ino, SIZE).unwrap();
    end(&mut replica, ino, data, true).unwrap();
    let page = list(&replica, &[], 0, &[]);
    assert_eq!((inos(&page), page.encoded), (vec![], 1));
    let page = list(&replica, &[6], 0, &[]);
    assert!(page.files[0].repair && page.files[0].ino == ino, "an OSD of it leaves");
    assert_eq!(inos(&list(&replica, &[3], 0, &[])), [0; 0], "its replicas are gone");
    replica.run(Body::EncodeDamaged(Which { volume: VOLUME, ino: data })).unwrap();
    assert!(list(&replica, &[], 0, &[]).files[0].repair, "it is damaged");
    let data = begin(&mut replica, ino, SIZE).unwrap();
    end(&mut replica, ino, data, true).unwrap();
    assert_eq!(inos(&list(&replica, &[], 0, &[])), [0; 0], "the new data is not");

    replica.run(Body::SetLayout(other)).unwrap();
    let page = list(&replica, &[], 0, &[]);
    assert_eq!((page.files[0].coding.data, page.files[0].repair), (3, false));
    replica.run(Body::SetLayout(without)).unwrap();
    assert_eq!(list(&replica, &[], 0, &[]).encoded, 1, "it stays as it is");
    assert!(list(&replica, &[7], 0, &[]).files[0].repair, "and is looked after");
    thaw(&mut replica, ino, None).unwrap();
    assert_eq!(list(&replica, &[], 0, &[]), EncodableFiles::default(), "promoted for good");
}
