//! Rough figures of the hot paths; run by hand.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Instant;

use bytes::Bytes;
use osd::{Osd, OsdConfig};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use rt::clock::SystemClock;

#[tokio::test]
#[ignore = "a measurement"]
async fn figures() {
    let dir = tempfile::tempdir().unwrap();
    let osd = Osd::open(OsdConfig::new(dir.path(), "a", SystemClock::new())).unwrap();
    let key = |object: u64| ObjectKey { volume: VolumeId(1), ino: Ino(1), object: ObjectNo(object) };
    for (name, bytes, sync, count) in [
        ("4 KiB write", 4096, false, 20_000u64),
        ("4 KiB write + sync", 4096, true, 200),
        ("1 MiB write", 1 << 20, false, 300),
        ("100 B write", 100, false, 5_000),
    ] {
        let data = Bytes::from(vec![7; bytes]);
        let begun = Instant::now();
        for n in 0..count {
            let (object, offset) =
                if bytes > 4096 { (100 + n % 50, 0) } else { (n % 8, (n * 4096 % (1 << 20)) as u32) };
            osd.write_object(key(object), offset, data.clone(), sync).await.unwrap();
        }
        println!("{name}: {:.1} us", begun.elapsed().as_secs_f64() * 1e6 / count as f64);
    }
    osd.store().fold(0).await.unwrap();
    for (name, len, count) in [("4 KiB read", 4096u32, 2_000u64), ("1 MiB read", 1 << 20, 300)] {
        let begun = Instant::now();
        for n in 0..count {
            let offset = if len > 4096 { 0 } else { (n * 4096 % (1 << 20)) as u32 };
            osd.read_object(key(100 + n % 50), offset, len).await.unwrap();
        }
        println!("{name}: {:.1} us", begun.elapsed().as_secs_f64() * 1e6 / count as f64);
    }
    osd.shutdown().await.unwrap();
}
