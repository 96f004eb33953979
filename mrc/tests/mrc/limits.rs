//! The far ends: many links, many entries, early and late times, odd names, great sizes, locks without end.

use std::cell::Cell;

use mrc::namespace::entry::{self, Entry};
use mrc::namespace::inode;
use mrc::namespace::name::Name;
use mrc::namespace::{read, xattr};
use proto::error::Code;
use proto::limits::FILE_BYTES_MAX;
use proto::locks;
use proto::mrc::{RENAME_EXCHANGE, RENAME_NOREPLACE, ReadDirRequest, SetAttrRequest, Time, kind};
use rt::table::memory::MemoryTable;
use rt::table::{Pair, Reader, Table, Txn};

use crate::fsck;
use crate::harness::{Replica, VOLUME, code, head};

#[test]
fn seventy_thousand_links() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    for number in 1..70_000 {
        replica.link(f, 1, &format!("{number}")).unwrap();
    }
    assert_eq!(replica.getattr(f).unwrap().nlink, 70_000);
    assert_eq!(replica.getattr(1).unwrap().size, 70_000);
    replica.unlink(1, "f", 0).unwrap();
    assert_eq!(replica.lookup(1, "69999").unwrap().nlink, 69_999);
}

/// Counts the rows that readers get.
struct Counting<'a> {
    table: &'a MemoryTable,
    rows: Cell<usize>,
}

impl Reader for Counting<'_> {
    fn get(&self, key: &[u8]) -> rt::table::Result<Option<Vec<u8>>> {
        self.rows.set(self.rows.get() + 1);
        Table::get(self.table, key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> rt::table::Result<Vec<Pair>> {
        let rows = Table::scan(self.table, from, to, limit)?;
        self.rows.set(self.rows.get() + rows.len());
        Ok(rows)
    }
}

#[test]
fn a_page_of_a_million_entries_costs_what_a_page_of_ten_costs() {
    const ENTRIES: u64 = 1_000_000;
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    // As `link` would leave them, without a million commands.
    for batch in 0..ENTRIES / 10_000 {
        let mut txn = Txn::new(&replica.table);
        let mut parent = inode::directory(&txn, VOLUME, 1).unwrap();
        for number in 0..10_000 {
            let name = format!("n{}", batch * 10_000 + number);
            let cookie = entry::take_cookie(&mut parent);
            let name = Name::parse(name.as_bytes()).unwrap();
            entry::put(&mut txn, VOLUME, 1, name, Entry { ino: f, kind: kind::FILE, cookie });
        }
        inode::put(&mut txn, VOLUME, &parent);
        let batch = txn.into_batch();
        replica.table.write(batch).unwrap();
    }
    let (mut after, mut listed) = (0, 0);
    loop {
        let counting = Counting { table: &replica.table, rows: Cell::new(0) };
        let request =
            ReadDirRequest { head: replica.head.clone(), ino: 1, after, limit: 4096, with_attrs: false };
        let page = read::readdir(&counting, &request).unwrap();
        assert!(counting.rows.get() <= 4096 + 2, "{} rows read for one page", counting.rows.get());
        listed += page.entries.len() as u64;
        let Some(last) = page.entries.last() else { break };
        assert!(last.cookie > after);
        after = last.cookie;
        if page.end {
            break;
        }
    }
    assert_eq!(listed, ENTRIES + 1);
    assert_eq!(replica.lookup(1, "n999999").unwrap().ino, f);
    // A cookie to which a program seeks back later leads to the same place.
    let request =
        ReadDirRequest { head: replica.head.clone(), ino: 1, after: 500_003, limit: 1, with_attrs: false };
    let page = read::readdir(&replica.table, &request).unwrap();
    assert_eq!(page.entries[0].cookie, 500_004);
}

#[test]
fn times_from_1901_to_2446_to_the_nanosecond() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    for seconds in [-2_147_483_648, -1, 0, 2_147_483_648, 4_294_967_296, 15_032_385_535] {
        for nanos in [0, 1, 999_999_999] {
            let time = Time { seconds, nanos };
            let change = SetAttrRequest { atime: Some(time), mtime: Some(time), ..replica.change_of(f) };
            replica.setattr(change).unwrap();
            let attr = replica.getattr(f).unwrap();
            assert_eq!((attr.atime, attr.mtime), (time, time));
        }
    }
}

#[test]
fn the_largest_file_and_no_larger() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    let resize = |replica: &mut Replica, size: u64| {
        let change = SetAttrRequest { size: Some(size), ..replica.change_of(f) };
        replica.setattr(change)
    };
    assert_eq!(resize(&mut replica, FILE_BYTES_MAX).unwrap().size, i64::MAX as u64);
    assert_eq!(replica.getattr(f).unwrap().blocks, 0, "a hole");
    assert_eq!(code(resize(&mut replica, FILE_BYTES_MAX + 1)), Some(Code::FileTooLarge));
    assert_eq!(resize(&mut replica, 0).unwrap().size, 0);
    fsck::check(&replica.table);
}

#[test]
fn names_of_any_bytes_but_two() {
    let mut replica = Replica::new();
    let mut made = 0;
    for byte in 1..=255u8 {
        let name = [b'x', byte];
        let request = proto::mrc::MakeRequest {
            head: replica.head.clone(),
            parent: 1,
            name: name.to_vec(),
            mode: kind::DIR << 12 | 0o755,
            ..proto::mrc::MakeRequest::default()
        };
        let body = mrc::command::Body::Make(mrc::command::Make { request, layout: None });
        let result = code(replica.run(body));
        assert_eq!(result.is_none(), byte != b'/', "{byte}");
        made += u64::from(result.is_none());
    }
    assert_eq!(replica.list(1, 1000).unwrap().len() as u64, made);
    assert_eq!(code(replica.lookup(1, &"x".repeat(256))), Some(Code::NameTooLong));
    assert_eq!(code(replica.lookup(1, &"x".repeat(255))), Some(Code::NotFound));
}

/// `a` and `b` of every pair of types: what rename, with each flag, does to them.
#[test]
fn rename_over_all_pairs_of_types() {
    let kinds = [kind::FILE, kind::DIR, kind::SYMLINK, kind::FIFO, kind::SOCKET, kind::CHAR, kind::BLOCK];
    for from in kinds {
        for to in kinds {
            for flags in [0, RENAME_NOREPLACE, RENAME_EXCHANGE] {
                let mut replica = Replica::new();
                let d = replica.mkdir(1, "d", 0o755).unwrap().ino;
                let a = replica.make(1, "a", from << 12 | 0o755, "t").unwrap().ino;
                let b = replica.make(d, "b", to << 12 | 0o755, "t").unwrap().ino;
                let want = match (flags, from == kind::DIR, to == kind::DIR) {
                    (RENAME_NOREPLACE, ..) => Some(Code::Exists),
                    (0, true, false) => Some(Code::NotDirectory),
                    (0, false, true) => Some(Code::IsDirectory),
                    _ => None,
                };
                let got = code(replica.rename((1, "a"), (d, "b"), flags, 0));
                assert_eq!(got, want, "{from:o} over {to:o}, flags {flags}");
                let ends = (
                    replica.lookup(1, "a").ok().map(|attr| attr.ino),
                    replica.lookup(d, "b").ok().map(|attr| attr.ino),
                );
                let want = match (want, flags) {
                    (Some(_), _) => (Some(a), Some(b)),
                    (None, RENAME_EXCHANGE) => (Some(b), Some(a)),
                    (None, _) => (None, Some(a)),
                };
                assert_eq!(ends, want, "{from:o} over {to:o}, flags {flags}");
                fsck::check(&replica.table);
            }
        }
    }
}

#[test]
fn device_nodes_keep_their_number_and_others_have_none() {
    let mut replica = Replica::new();
    for (name, mode, want) in [
        ("char", kind::CHAR << 12 | 0o600, 0xfff_fffff),
        ("block", kind::BLOCK << 12 | 0o600, 0xfff_fffff),
        ("fifo", kind::FIFO << 12 | 0o600, 0),
        ("socket", kind::SOCKET << 12 | 0o600, 0),
    ] {
        let request = proto::mrc::MakeRequest {
            head: replica.head.clone(),
            parent: 1,
            name: name.into(),
            mode,
            rdev: 0xfff_fffff,
            ..proto::mrc::MakeRequest::default()
        };
        let body = mrc::command::Body::Make(mrc::command::Make { request, layout: None });
        replica.run(body).unwrap();
        let attr = replica.lookup(1, name).unwrap();
        assert_eq!((attr.rdev, attr.mode, attr.blocks), (want, mode, 0), "{name}");
    }
}

#[test]
fn locks_of_one_file_have_a_limit_and_it_is_told() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    let mut refused = None;
    for number in 0..5000u64 {
        if let Err(error) = replica.lock(f, (5, 1), (number * 2, number * 2), locks::READ) {
            refused = Some((number, error));
            break;
        }
    }
    let (held, error) = refused.expect("locks without end");
    assert_eq!(held, 4096);
    assert!(error.text.contains("4096"), "{error}");
    replica.lock(f, (5, 1), (0, u64::MAX), locks::UNLOCK).unwrap();
    replica.lock(f, (5, 1), (i64::MAX as u64 - 1, i64::MAX as u64), locks::WRITE).unwrap();
}

#[test]
fn a_program_that_is_written_or_given_away_loses_its_capabilities() {
    let name = "security.capability";
    let has =
        |replica: &Replica, ino: u64| !xattr::list(&replica.table, &replica.head, ino).unwrap().is_empty();
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o755).unwrap().ino;
    let written = proto::mrc::ReportWrite {
        head: head(0, 0, true),
        ino: f,
        size: 4,
        mtime: Some(Time { seconds: 5, nanos: 0 }),
        ..proto::mrc::ReportWrite::default()
    };
    let given = SetAttrRequest { uid: Some(7), ..replica.change_of(f) };
    let cut = SetAttrRequest { size: Some(1), ..replica.change_of(f) };
    let bodies = [
        mrc::command::Body::WriteDone(written),
        mrc::command::Body::SetAttr(given),
        mrc::command::Body::SetAttr(cut),
    ];
    for body in bodies {
        replica.setxattr(f, name, Some(b"caps"), 0).unwrap();
        assert!(has(&replica, f));
        replica.run(body).unwrap();
        assert!(!has(&replica, f));
        fsck::check(&replica.table);
    }
    let chmod = SetAttrRequest { mode: Some(0o700), ..replica.change_of(f) };
    replica.setxattr(f, name, Some(b"caps"), 0).unwrap();
    replica.setattr(chmod).unwrap();
    assert!(has(&replica, f), "chmod changes neither content nor owner");
}

#[test]
fn blocks_count_what_is_allocated() {
    let mut replica = Replica::new();
    let f = replica.mkfile(1, "f", 0o644).unwrap().ino;
    let report = |replica: &mut Replica, size: u64, blocks: Option<u64>| {
        let epoch = replica.getattr(f).unwrap().truncate_epoch;
        let report = proto::mrc::ReportWrite {
            head: replica.head.clone(),
            ino: f,
            size,
            truncate_epoch: epoch,
            blocks,
            ..proto::mrc::ReportWrite::default()
        };
        replica.run(mrc::command::Body::WriteDone(report)).unwrap();
        replica.getattr(f).unwrap().blocks
    };
    let resize = |replica: &mut Replica, size: u64, blocks: Option<u64>| {
        let change = SetAttrRequest { size: Some(size), blocks, ..replica.change_of(f) };
        replica.setattr(change).unwrap().blocks
    };
    assert_eq!(report(&mut replica, 1, None), 8, "whole blocks of 4096 bytes");
    assert_eq!(report(&mut replica, 4096, None), 8);
    assert_eq!(report(&mut replica, 4097, None), 16);
    assert_eq!(resize(&mut replica, 1 << 30, None), 16, "growing makes a hole");
    assert_eq!(report(&mut replica, (1 << 30) + 4096, None), 24, "appended behind the hole");
    assert_eq!(report(&mut replica, 0, Some(8)), 8, "a punched hole");
    assert_eq!(resize(&mut replica, 1 << 20, Some(8)), 8);
    assert_eq!(resize(&mut replica, 5, None), 8);
    assert_eq!(resize(&mut replica, 0, None), 0);
    assert_eq!(report(&mut replica, 0, Some(1 << 40)), 0, "never more than the size can hold");
}
