//! Quotas, checks, lost objects and dumps, against a real MRC and OSDs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::volume::open::CreateOptions;
use client::{Code, Creds, Volume};
use proto::backup::LoadPage;
use proto::capability::Capability;
use proto::checksum::crc32c;
use proto::dir::{GetMap, Map};
use proto::fsck::{Fault, Finding};
use proto::mrc::{Head, Open, OpenRequest};
use proto::osd::{ObjectHead, Write, WriteRequest};
use proto::quota::{QuotaKind, QuotaLimits};
use rt::rpc::{CallOptions, call_with};
use rt::table::Batch;

use crate::bed::{Bed, pattern};

const MIB: u64 = 1 << 20;

async fn create(volume: &Volume, parent: u64, name: &str) -> Arc<client::File> {
    let options = CreateOptions { mode: 0o644, exclusive: true, write: true };
    volume.create(&Creds::root(), parent, name.as_bytes(), options).await.unwrap().file
}

async fn limit(volume: &Volume, directory: u64, bytes: u64) {
    let limits = Some(QuotaLimits { bytes, inodes: 0 });
    volume.set_quota(&Creds::root(), QuotaKind::Directory, directory, limits).await.unwrap();
}

async fn used(volume: &Volume, directory: u64) -> u64 {
    volume.quotas(&Creds::root(), directory).await.unwrap()[0].bytes
}

/// Appends until it is refused; gives the bytes that were taken.
async fn fill(file: &client::File, piece: usize) -> u64 {
    let mut written = 0;
    loop {
        match file.append(pattern(written, piece)).await {
            Ok(_) => written += piece as u64,
            Err(error) => {
                assert_eq!(error.code, Code::QuotaExceeded, "{error}");
                return written;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writer_ends_at_the_limit_and_several_within_the_bound() {
    let bed = Bed::start(2).await;
    let volume = bed.volume("a").await;
    let root = Creds::root();
    let dir = volume.mkdir(&root, 1, b"one", 0o755).await.unwrap().ino;
    limit(&volume, dir, 10 * MIB).await;
    let file = create(&volume, dir, "f").await;
    assert_eq!(fill(&file, 64 << 10).await, 10 * MIB, "exactly");
    // A refused write wrote nothing; overwriting needs no room.
    file.write_at(0, pattern(5, 4096)).await.unwrap();
    file.close().await.unwrap();
    assert_eq!(used(&volume, dir).await, 10 * MIB);
    // A buffered write is refused when it is made, not when it is written out.
    let other = create(&volume, dir, "g").await;
    assert_eq!(other.write_buffered(0, b"x").await.unwrap_err().code, Code::QuotaExceeded);
    other.close().await.unwrap();

    let dir = volume.mkdir(&root, 1, b"many", 0o755).await.unwrap().ino;
    limit(&volume, dir, 40 * MIB).await;
    let mut volumes = Vec::new();
    for n in 0..6 {
        volumes.push((n, bed.volume(&format!("writer{n}")).await));
    }
    let writers: Vec<_> = volumes
        .into_iter()
        .map(|(n, volume)| async move {
            let file = create(&volume, dir, &format!("f{n}")).await;
            let written = fill(&file, 64 << 10).await;
            file.close().await.unwrap();
            written
        })
        .collect();
    let written: u64 = futures::future::join_all(writers).await.iter().sum();
    // Less than n times the room given last, which was at most a quarter of what was left.
    assert!((40 * MIB..40 * MIB + 6 * 10 * MIB).contains(&written), "{} MiB", written / MIB);
    assert_eq!(used(&volume, dir).await, written, "what was written is counted");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_holes_takes_what_is_allocated() {
    let bed = Bed::start(1).await;
    let volume = bed.volume("a").await;
    let dir = volume.mkdir(&Creds::root(), 1, b"d", 0o755).await.unwrap().ino;
    limit(&volume, dir, MIB).await;
    let file = create(&volume, dir, "f").await;
    // One byte a terabyte away is one block.
    file.write_at(1 << 40, Bytes::from_static(b"x")).await.unwrap();
    file.flush().await.unwrap();
    assert_eq!(used(&volume, dir).await, 4096);
    let mut written = 4096;
    for at in 0.. {
        match file.write_at(at * MIB, pattern(0, 64 << 10)).await {
            Ok(()) => written += 64 << 10,
            Err(error) => {
                assert_eq!(error.code, Code::QuotaExceeded);
                break;
            }
        }
    }
    assert!(written <= MIB && written > MIB - (128 << 10), "{written}");
    // A hole gives room back.
    file.punch(0, MIB).await.unwrap();
    file.flush().await.unwrap();
    file.write_at(500 * MIB, pattern(0, 64 << 10)).await.unwrap();
    file.close().await.unwrap();
    bed.stop().await;
}

/// A whole check; gives the findings and the number of repairs that it had seen.
async fn check(volume: &Volume) -> (Vec<Finding>, u64) {
    let (mut findings, mut number) = (Vec::new(), 0);
    loop {
        let after = findings.len() as u64;
        let asked = volume.fsck(&Creds::root(), number, after, Duration::from_secs(5)).await.unwrap();
        number = asked.check;
        findings.extend(asked.findings);
        if asked.done {
            return (findings, asked.seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_real_table_is_found_and_mended_while_the_volume_is_in_use() {
    let bed = Bed::start(1).await;
    let volume = bed.volume("a").await;
    let root = Creds::root();
    let dir = volume.mkdir(&root, 1, b"d", 0o755).await.unwrap().ino;
    for n in 0..300 {
        create(&volume, dir, &format!("f{n}")).await.close().await.unwrap();
    }
    assert_eq!(check(&volume).await.0, []);
    let lost = volume.lookup(&root, dir, b"f7").await.unwrap().ino;
    let mut damage = Batch::default();
    damage.delete(mrc::namespace::keys::dentry(volume.id(), dir, b"f7"));
    damage.delete(mrc::namespace::keys::total(volume.id(), dir));
    bed.mrc.table().write(damage).unwrap();
    // Others go on making and removing files.
    let busy = tokio::spawn({
        let volume = bed.volume("b").await;
        async move {
            for n in 0..200 {
                create(&volume, dir, &format!("busy{n}")).await.close().await.unwrap();
                volume.unlink(&Creds::root(), dir, format!("busy{n}").as_bytes()).await.unwrap();
            }
        }
    });
    let mut passes = 0;
    loop {
        let (findings, seen) = check(&volume).await;
        passes += 1;
        assert!(passes < 8, "{findings:#?}");
        let rows: Vec<Finding> = findings.iter().filter(|f| f.fault < Fault::FIRST_SUM).cloned().collect();
        let chosen = if rows.is_empty() { findings } else { rows };
        if chosen.is_empty() {
            break;
        }
        volume.mend(&root, seen, chosen).await.unwrap();
    }
    assert!(passes >= 2, "something was found");
    busy.await.unwrap();
    assert_eq!(check(&volume).await.0, []);
    // A client that held nothing of it in mind sees the name again.
    assert_eq!(bed.volume("c").await.lookup(&root, dir, b"f7").await.unwrap().ino, lost);
    assert_eq!(volume.usage(&root, dir).await.unwrap().files, 300);
    // Not everybody may.
    let nobody = Creds::new(1000, 1000);
    let refused = volume.fsck(&nobody, 0, 0, Duration::ZERO).await.unwrap_err();
    assert_eq!(refused.code, Code::NotPermitted);
    bed.stop().await;
}

/// Writes to an object with a capability alone, as a client does that has not heard that its file is gone.
async fn write_late(bed: &Bed, capability: &Capability) {
    let data = Bytes::from(pattern(0, 5000));
    let map_epoch = bed.call::<Map>("dir", &GetMap::default()).await.epoch;
    let head =
        ObjectHead { capability: capability.clone(), object: 0, map_epoch, replicas: None, turn: None };
    let request = WriteRequest { head, offset: 0, checksums: Vec::new(), crc: crc32c(&data), sync: false };
    let channel = bed.connector.channel(bed.addr("osd-0")).unwrap();
    let options = CallOptions { deadline: Duration::from_secs(5), trace: 0 };
    call_with::<Write>(&*channel, &request, data, &options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_objects_go_and_those_of_live_and_open_files_stay() {
    let bed = Bed::start(1).await;
    let volume = bed.volume("a").await;
    let root = Creds::root();
    let (live, open) = (create(&volume, 1, "live").await, create(&volume, 1, "open").await);
    for file in [&live, &open] {
        file.write_at(0, pattern(0, 100_000)).await.unwrap();
        file.flush().await.unwrap();
    }
    volume.unlink(&root, 1, b"open").await.unwrap();
    let gone = create(&volume, 1, "gone").await;
    let ino = gone.ino();
    gone.write_at(0, pattern(0, 9000)).await.unwrap();
    gone.close().await.unwrap();
    let head = Head { volume: volume.id(), ..Head::default() };
    let request = OpenRequest { head, ino, write: true, renew: true, append: false, exact: false };
    let capability = bed.call::<Open>("mrc", &request).await.credentials.capability;
    volume.unlink(&root, 1, b"gone").await.unwrap();
    let osd = bed.call::<Map>("dir", &GetMap::default()).await.osds[0].osd;
    let collect =
        async |older_than, dry_run| volume.collect_lost(&root, osd, 0, older_than, dry_run).await.unwrap();
    // Until its row is gone it is not lost, and its objects go anyway.
    for _ in 0..500 {
        if collect(Duration::ZERO, true).await.files == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    write_late(&bed, &capability).await;
    let found = collect(Duration::ZERO, true).await;
    assert_eq!((found.files, found.lost.len()), (3, 1));
    assert_eq!((found.lost[0].ino, found.lost[0].objects, found.lost[0].bytes), (ino, 1, 8192));
    // Too young, it stays.
    assert!(collect(Duration::from_secs(600), false).await.lost[0].young);
    let removed = collect(Duration::ZERO, false).await;
    assert_eq!(removed.lost[0].ino, ino);
    let after = collect(Duration::ZERO, true).await;
    assert_eq!((after.files, after.lost.len()), (2, 0));
    // A number that was never given out is left alone.
    let mut older = mrc::namespace::volume::find(bed.mrc.table(), volume.id()).unwrap().unwrap();
    older.next_ino = open.ino();
    let mut txn = rt::table::Txn::new(bed.mrc.table());
    mrc::namespace::volume::put(&mut txn, volume.id(), &older);
    bed.mrc.table().write(txn.into_batch()).unwrap();
    let unknown = collect(Duration::ZERO, false).await;
    assert!(unknown.lost.iter().all(|lost| lost.unknown), "{unknown:?}");
    for file in [live, open] {
        assert_eq!(file.read_at(0, 100_000).await.unwrap(), pattern(0, 100_000));
        file.close().await.unwrap();
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_of_one_moment_and_loads_only_where_nothing_is() {
    let bed = Bed::start(1).await;
    let volume = bed.volume("a").await;
    let root = Creds::root();
    let dir = volume.mkdir(&root, 1, b"d", 0o755).await.unwrap().ino;
    for n in 0..700 {
        create(&volume, dir, &format!("f{n}")).await.close().await.unwrap();
    }
    let mut page = volume.dump_page(&root, 0, 0).await.unwrap();
    let dump = page.dump;
    // What comes now is not in it.
    create(&volume, dir, "later").await.close().await.unwrap();
    let (mut nodes, mut names, mut number) = (0, Vec::new(), 0);
    loop {
        nodes += page.nodes.len();
        names.extend(page.names);
        if page.end {
            break;
        }
        number += 1;
        page = volume.dump_page(&root, dump, number).await.unwrap();
        // An answer that was lost is asked for again.
        assert_eq!(volume.dump_page(&root, dump, number).await.unwrap(), page);
    }
    assert_eq!((nodes, names.len()), (702, 701));
    assert_eq!(volume.dump_page(&root, dump, number + 7).await.unwrap_err().code, Code::Stale);
    let begin = Some(proto::backup::DumpHeader::default());
    let refused = volume.load_page(&root, LoadPage { begin, ..LoadPage::default() }).await.unwrap_err();
    assert_eq!(refused.code, Code::NotEmpty);
    bed.stop().await;
}
