//! The OSD's store on a real directory: small and large writes, synced and not, and reads of both kinds.

use std::time::Duration;

use benches::{noise, object};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osd::{Osd, OsdConfig};
use rt::clock::SystemClock;
use tokio::runtime::Runtime;

/// Objects that writes go round: enough that they do not sit in one journal segment.
const OBJECTS: u64 = 64;
const BLOCK: u64 = 4096;
const OBJECT: u64 = 1 << 20;

fn osd_store(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let home = tempfile::tempdir().expect("a directory");
    let mut config = OsdConfig::new(home.path(), "bench", SystemClock::new());
    config.capacity_bytes = 4 << 30;
    let _inside = runtime.enter();
    let osd = Osd::open(config).expect("the store opens");
    let block = Bytes::from(noise(BLOCK as usize));
    let whole = Bytes::from(noise(OBJECT as usize));
    runtime.block_on(async {
        for number in 0..OBJECTS {
            osd.write_object(object(1, number), 0, whole.clone(), false).await.expect("write");
        }
        osd.store().sync_all().await.expect("sync");
    });
    // A stride that is odd against both counts visits every block of every object.
    let place = |n: u64| (object(1, n * 7 % OBJECTS), (n * 13 % (OBJECT / BLOCK) * BLOCK) as u32);

    let mut group = c.benchmark_group("osd_store");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(20);
    let mut n = 0;
    for (name, sync) in [("write_4k", false), ("write_4k_sync", true)] {
        group.throughput(Throughput::Bytes(BLOCK));
        group.bench_function(name, |b| {
            b.iter(|| {
                n += 1;
                let ((key, offset), data) = (place(n), block.clone());
                runtime.block_on(async { osd.write_object(key, offset, data, sync).await.expect("write") })
            });
        });
    }
    group.bench_function("read_4k", |b| {
        b.iter(|| {
            n += 1;
            let (key, offset) = place(n);
            runtime.block_on(async { osd.read_object(key, offset, BLOCK as u32).await.expect("read") })
        });
    });
    group.throughput(Throughput::Bytes(OBJECT));
    group.bench_function("write_1m", |b| {
        b.iter(|| {
            n += 1;
            let (key, data) = (object(2, n % OBJECTS), whole.clone());
            runtime.block_on(async { osd.write_object(key, 0, data, false).await.expect("write") })
        });
    });
    group.bench_function("read_1m", |b| {
        b.iter(|| {
            n += 1;
            let key = object(1, n % OBJECTS);
            runtime.block_on(async { osd.read_object(key, 0, OBJECT as u32).await.expect("read") })
        });
    });
    group.finish();
    runtime.block_on(osd.shutdown()).expect("the store closes");
}

criterion_group!(benches, osd_store);
criterion_main!(benches);
