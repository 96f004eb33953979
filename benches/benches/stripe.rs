//! Stripe arithmetic: what every read and write of a client does before anything is sent.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use proto::id::ObjectNo;
use proto::stripe::{Column, Layout, pieces};

fn stripe(c: &mut Criterion) {
    let mut group = c.benchmark_group("stripe");
    for (name, offset, len) in [
        ("4k_inside_an_object", 123 << 12, 4096u64),
        ("1m_across_two", (1 << 20) - 4096, 1 << 20),
        ("64m", 0, 64 << 20),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                pieces(1 << 20, black_box(offset), black_box(len)).map(|piece| piece.len as u64).sum::<u64>()
            });
        });
    }
    let layout = Layout {
        stripe_bytes: 1 << 20,
        columns: (0..8).map(|column| Column { osds: vec![column, column + 8, column + 16] }).collect(),
        replication: 1,
        view: 1,
        ..Layout::default()
    };
    group.bench_function("osds_of", |b| b.iter(|| black_box(&layout).osds_of(black_box(ObjectNo(12345)))));
    group.finish();
}

criterion_group!(benches, stripe);
criterion_main!(benches);
