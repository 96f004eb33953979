//! Checksums: blocks as they travel and are stored, and headers.

use std::hint::black_box;

use benches::{noise, object};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto::checksum::{block_checksums, crc32c};

fn checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for (name, len) in [("crc32c_64", 64), ("crc32c_4k", 4096), ("crc32c_1m", 1 << 20)] {
        let data = noise(len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |b| b.iter(|| crc32c(black_box(&data))));
    }
    for (name, len) in [("blocks_4k", 4096), ("blocks_short", 100), ("blocks_1m", 1 << 20)] {
        let data = noise(len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |b| b.iter(|| block_checksums(object(7, 3), 0, black_box(&data))));
    }
    group.finish();
}

criterion_group!(benches, checksum);
criterion_main!(benches);
