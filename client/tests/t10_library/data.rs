//! Data: striping, holes, sizes seen by others, unlinked files, locks.

use std::time::Duration;

use client::remote::session::for_kernel;
use client::volume::attrs::Changes;
use client::{Code, Creds};
use proto::mrc::LockRequest;
use proto::rpc::Empty;

use super::bed::{Bed, STRIPE, pattern};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_spread_over_all_osds_and_read_back() {
    let bed = Bed::start(4).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    volume.create_exclusive(&root, "/wide", b"", 0o644).await.unwrap();
    let file = volume.open_path(&root, "/wide", true).await.unwrap();
    let len = 10 * STRIPE as usize + 1234;
    let data = pattern(0, len);
    file.write_at(0, data.clone()).await.unwrap();
    file.write_at(3 * u64::from(STRIPE) - 5, pattern(3 * u64::from(STRIPE) - 5, 10)).await.unwrap();
    assert_eq!(file.read_at(0, 2 * len).await.unwrap(), data);
    for (offset, len) in [(1, 4096), (65_535, 2), (STRIPE as usize - 1, 3 * STRIPE as usize), (len - 1, 100)]
    {
        let end = (offset + len).min(data.len());
        assert_eq!(file.read_at(offset as u64, len).await.unwrap(), data[offset..end]);
    }
    file.fsync().await.unwrap();
    file.close().await.unwrap();
    for osd in &bed.osds {
        let channel =
            bed.connector.channel(&format!("local://{}", osd.uuid().replace("uuid", "osd"))).unwrap();
        let status = rt::rpc::call::<proto::osd::Status>(&*channel, &Empty {}).await.unwrap();
        assert!(status.objects >= 2 && status.writes >= 2, "{status:?}");
    }
    let other = bed.volume("b").await;
    assert_eq!(other.read_file(&root, "/wide").await.unwrap(), data);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_again_means_the_same_when_there_is_nothing_left_to_report() {
    let bed = Bed::start(1).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    volume.create_exclusive(&root, "/file", b"", 0o644).await.unwrap();
    let file = volume.open_path(&root, "/file", true).await.unwrap();
    file.write_at(0, pattern(0, 1000)).await.unwrap();
    // For a chmod of its kernel's the first process reports the write, and dies; its successor finds that done.
    for_kernel(40, file.flush()).await.unwrap();
    let changes = Changes { mode: Some(0o600), ..Changes::default() };
    for_kernel(40, volume.setattr(&root, file.ino(), changes)).await.unwrap();
    file.close().await.unwrap();
    let other = bed.volume("b").await;
    assert_eq!(other.stat(&root, "/file").await.unwrap().mode & 0o7777, 0o600);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_are_seen_by_others_after_flush_and_after_a_second() {
    let bed = Bed::start(2).await;
    let (writer, reader, root) = (bed.volume("writer").await, bed.volume("reader").await, Creds::root());
    writer.create_exclusive(&root, "/log", b"", 0o644).await.unwrap();
    let file = writer.open_path(&root, "/log", true).await.unwrap();
    file.write_at(0, pattern(0, 1000)).await.unwrap();
    assert_eq!(writer.stat(&root, "/log").await.unwrap().size, 1000, "the writer sees its own writes");
    file.flush().await.unwrap();
    assert_eq!(reader.stat(&root, "/log").await.unwrap().size, 1000);
    file.write_at(1000, pattern(1000, 500)).await.unwrap();
    let mut size = 0;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        size = reader.stat(&root, "/log").await.unwrap().size;
        if size == 1500 {
            break;
        }
    }
    assert_eq!(size, 1500, "reported while the file stays open");
    reader.append(&root, "/log", b"tail", 0o644).await.unwrap();
    assert_eq!(
        file.read_at(1500, 100).await.unwrap(),
        &b"tail"[..],
        "the writer finds what another appended"
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cutting_and_growing_leave_no_old_bytes() {
    let bed = Bed::start(3).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    volume.create_exclusive(&root, "/f", &pattern(0, 400_000), 0o644).await.unwrap();
    let file = volume.open_path(&root, "/f", true).await.unwrap();
    file.truncate(70_001).await.unwrap();
    file.truncate(300_000).await.unwrap();
    let all = file.read_at(0, 1 << 20).await.unwrap();
    assert_eq!(all.len(), 300_000);
    assert_eq!(all[..70_001], pattern(0, 70_001));
    assert!(all[70_001..].iter().all(|byte| *byte == 0));
    file.truncate(0).await.unwrap();
    assert!(file.read_at(0, 10).await.unwrap().is_empty());
    assert_eq!(file.attr().await.unwrap().size, 0);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_are_found_and_made() {
    let bed = Bed::start(3).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    volume.create_exclusive(&root, "/sparse", b"", 0o644).await.unwrap();
    let file = volume.open_path(&root, "/sparse", true).await.unwrap();
    let far = 20 * u64::from(STRIPE);
    file.write_at(far, vec![1u8; 8192]).await.unwrap();
    assert_eq!(file.seek_data(0).await.unwrap(), Some(far));
    assert_eq!(file.seek_hole(0).await.unwrap(), Some(0));
    assert_eq!(file.seek_hole(far).await.unwrap(), Some(far + 8192), "the end counts as a hole");
    assert_eq!(file.seek_data(far + 8192).await.unwrap(), None);
    file.write_at(0, vec![2u8; 3 * STRIPE as usize]).await.unwrap();
    assert_eq!(
        file.seek_hole(0).await.unwrap(),
        Some(3 * u64::from(STRIPE)),
        "data of neighbouring objects is one"
    );
    file.punch(4096, 2 * u64::from(STRIPE)).await.unwrap();
    assert_eq!(file.seek_hole(0).await.unwrap(), Some(4096));
    assert_eq!(file.seek_data(4096).await.unwrap(), Some(4096 + 2 * u64::from(STRIPE)));
    assert!(file.read_at(4096, 8192).await.unwrap().iter().all(|byte| *byte == 0));
    file.allocate(0, far + 100_000, false).await.unwrap();
    assert_eq!(file.attr().await.unwrap().size, far + 100_000);
    file.allocate(0, far * 2, true).await.unwrap();
    assert_eq!(file.attr().await.unwrap().size, far + 100_000);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unlinked_file_lives_as_long_as_it_is_open() {
    let bed = Bed::start(2).await;
    let (volume, other, root) = (bed.volume("a").await, bed.volume("b").await, Creds::root());
    volume.create_exclusive(&root, "/f", &pattern(0, 100_000), 0o644).await.unwrap();
    let file = volume.open_path(&root, "/f", true).await.unwrap();
    other.remove(&root, "/f").await.unwrap();
    assert_eq!(file.read_at(0, 100_000).await.unwrap(), pattern(0, 100_000));
    file.write_at(100_000, pattern(100_000, 10)).await.unwrap();
    assert_eq!(file.attr().await.unwrap().nlink, 0);
    file.close().await.unwrap();
    let mut objects = u64::MAX;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        objects = bed.osds.iter().map(|osd| osd.status().objects).sum();
        if objects == 0 {
            break;
        }
    }
    assert_eq!(objects, 0, "the objects are collected");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_of_two_clients_exclude_one_another() {
    let bed = Bed::start(1).await;
    let (first, second, root) = (bed.volume("a").await, bed.volume("b").await, Creds::root());
    first.create_exclusive(&root, "/f", b"x", 0o666).await.unwrap();
    let ino = first.stat(&root, "/f").await.unwrap().ino;
    let lock = |kind, wait_ms| LockRequest { ino, owner: 1, end: 9, kind, wait_ms, ..LockRequest::default() };
    first.lock(&root, lock(1, 0)).await.unwrap();
    assert_eq!(second.lock(&root, lock(0, 0)).await.unwrap_err().code, Code::WouldBlock);
    let waiting = {
        let (second, wanted) = (second.clone(), lock(1, 5_000));
        tokio::spawn(async move { second.lock(&Creds::root(), wanted).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    first.lock(&root, lock(2, 0)).await.unwrap();
    waiting.await.unwrap().unwrap();
    let free = LockRequest { start: 10, end: 20, ..lock(1, 0) };
    first.lock(&root, free).await.unwrap();
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_ahead_gives_the_same_bytes() {
    let bed = Bed::start(4).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    let data = pattern(0, 3_000_000);
    volume.create_exclusive(&root, "/f", &data, 0o644).await.unwrap();
    let file = volume.open_path(&root, "/f", false).await.unwrap();
    file.set_readahead(1 << 20);
    let mut at = 0;
    for len in (1..).map(|step| 1 + step * 7919 % 200_000) {
        let got = file.read_at(at, len).await.unwrap();
        if got.is_empty() {
            break;
        }
        let from = usize::try_from(at).unwrap();
        assert_eq!(got, data[from..from + got.len()]);
        at += got.len() as u64;
    }
    assert_eq!(at, 3_000_000);
    assert_eq!(file.read_at(5, 100_000).await.unwrap(), data[5..100_005], "a jump back");
    bed.stop().await;
}

/// A reader sees a file that is being appended to as long as it was at some time, and all of it written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_while_a_read_is_under_way_does_not_read_as_zeroes() {
    let bed = Bed::start(2).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    volume.create_exclusive(&root, "/log", b"", 0o644).await.unwrap();
    let (writer, reader) = (
        volume.open_path(&root, "/log", true).await.unwrap(),
        volume.open_path(&root, "/log", false).await.unwrap(),
    );
    let records = 3000;
    let append = tokio::spawn(async move {
        for at in 0..records {
            writer.write_buffered(at * 16, &[b'r'; 16]).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let read = async {
        let mut len = 0;
        while len < records as usize * 16 {
            let data = reader.read_at(0, 1 << 20).await.unwrap();
            let zero = data.iter().position(|byte| *byte == 0);
            assert_eq!(zero, None, "a byte that nobody wrote, {} are there", data.len());
            assert!(data.len() >= len, "{} after {len}", data.len());
            len = data.len();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.unwrap();
    append.await.unwrap();
    bed.stop().await;
}
