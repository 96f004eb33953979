//! The MRC's namespace over RocksDB, without log and network: what applying a command and answering a read cost.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mrc::Machine;
use mrc::command::{Body, Command, Create, parse_answer};
use mrc::namespace::read;
use proto::mrc::{
    CreateRequest, EntryRequest, Head, InitVolume, MakeRequest, ReadDirRequest, RemoveEntry, kind,
};
use proto::rpc::Origin;
use proto::stripe::{Column, Layout, Striping};
use quorum::{Applied, StateMachine};
use rt::table::rocks::{RocksTable, Sizes};
use rt::table::{Table, Txn};

const FILES: u64 = 20_000;
const VOLUME: u64 = 1;
const ROOT: u64 = 1;

struct Replica {
    machine: Machine,
    table: Arc<RocksTable>,
    index: u64,
}

impl Replica {
    /// Applies these as one batch, as a replica under load does.
    fn apply(&mut self, commands: impl IntoIterator<Item = Body>) {
        let mut txn = Txn::new(&*self.table);
        for body in commands {
            self.index += 1;
            let at = Applied { index: self.index, unix_ms: 1_700_000_000_000 + self.index, sub_ms_nanos: 0 };
            let answer =
                self.machine.apply(&mut txn, at, &Command::from(body).to_bytes()).expect("the table works");
            parse_answer(answer).expect("the command is not refused");
        }
        self.table.write(txn.into_batch()).expect("the table works");
    }
}

fn head() -> Head {
    Head { volume: VOLUME, session: 7, permission_checked: true, ..Head::default() }
}

fn name(n: u64) -> Vec<u8> {
    format!("file-{n:08}").into_bytes()
}

fn create(n: u64) -> Body {
    let mode = kind::FILE << 12 | 0o644;
    let make = MakeRequest {
        head: head(),
        origin: Origin { session: 7, sequence: n, acked_below: n },
        parent: ROOT,
        name: name(n),
        mode,
        ..MakeRequest::default()
    };
    let layout = Layout {
        stripe_bytes: 1 << 20,
        columns: vec![Column { osds: vec![1] }],
        replication: 0,
        view: 1,
        ..Layout::default()
    };
    let request = CreateRequest { make, exclusive: true, write: true, append: false };
    Body::Create(Create { request, layout, must_exist: false })
}

fn unlink(n: u64) -> Body {
    let origin = Origin { session: 7, sequence: n, acked_below: n };
    let request = RemoveEntry { head: head(), origin, parent: ROOT, name: name(n), ..RemoveEntry::default() };
    Body::Unlink(mrc::command::Remove { request, closed: 0, expected: None })
}

fn replica(table: Arc<RocksTable>) -> Replica {
    let mut replica = Replica { machine: Machine::new(), table, index: 0 };
    let striping = Striping { stripe_bytes: 1 << 20, width: 1, replicas: 1, replication: 0, coding: None };
    let init = InitVolume {
        origin: Origin::default(),
        volume: VOLUME,
        name: "bench".into(),
        striping,
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    replica.apply([Body::InitVolume(init)]);
    for first in (0..FILES).step_by(500) {
        replica.apply((first..first + 500).map(create));
    }
    replica.table.flush().expect("the table works");
    replica
}

fn mrc_namespace(c: &mut Criterion) {
    let home = tempfile::tempdir().expect("a directory");
    let table = RocksTable::open(home.path(), Sizes::default()).expect("the table opens");
    let mut replica = replica(table.clone());
    let mut group = c.benchmark_group("mrc_namespace");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(20);
    let mut n = FILES;
    for (name, batch) in [("create_alone", 1), ("create_batch_of_64", 64)] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(name, |b| {
            b.iter(|| {
                replica.apply((n..n + batch).map(create));
                n += batch;
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("create_and_unlink", |b| {
        b.iter(|| {
            replica.apply([create(n), unlink(n)]);
            n += 1;
        });
    });
    group.bench_function("lookup", |b| {
        let mut n = 0;
        b.iter(|| {
            n = (n + 7919) % FILES;
            read::lookup(&*table, &EntryRequest { head: head(), parent: ROOT, name: name(n) })
                .expect("it is there")
        });
    });
    group.throughput(Throughput::Elements(1000));
    group.bench_function("readdir_1000_with_attrs", |b| {
        let request = ReadDirRequest { head: head(), ino: ROOT, after: 0, limit: 1000, with_attrs: true };
        b.iter(|| {
            let page = read::readdir(&*table, &request).expect("the directory lists");
            assert_eq!(page.entries.len(), 1000);
        });
    });
    group.finish();
}

criterion_group!(benches, mrc_namespace);
criterion_main!(benches);
