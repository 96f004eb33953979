//! Frame codec: a request out, a request in; small messages and a 4 KiB payload.

use std::hint::black_box;

use benches::noise;
use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use proto::frame::{Header, Kind, take};
use proto::mrc::{EntryRequest, Head};

fn message() -> Vec<u8> {
    let head = Head { volume: 1, session: 7, uid: 1000, gid: 1000, ..Head::default() };
    EntryRequest { head, parent: 1, name: b"a-file-name.txt".to_vec() }.encode_to_vec()
}

fn header(message: &[u8], payload: &[u8]) -> Header {
    Header {
        kind: Kind::Request,
        method: 0x0210,
        request: 42,
        trace: 7,
        deadline_ms: 30_000,
        message_bytes: message.len() as u32,
        payload_bytes: payload.len() as u32,
    }
}

fn wire(message: &[u8], payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::from(&header(message, payload).encode(message)[..]);
    out.extend_from_slice(message);
    out.extend_from_slice(payload);
    out
}

fn frame(c: &mut Criterion) {
    let message = message();
    let mut group = c.benchmark_group("frame");
    group.bench_function("encode_header", |b| {
        let header = header(&message, &[]);
        b.iter(|| black_box(&header).encode(black_box(&message)));
    });
    for (name, payload) in [("take_lookup", 0), ("take_4k", 4096), ("take_1m", 1 << 20)] {
        let bytes = wire(&message, &noise(payload));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || bytes.clone(),
                |buffer| take(buffer).expect("a sound frame").expect("a whole frame"),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    let mut group = c.benchmark_group("message");
    group.bench_function("encode_lookup", |b| {
        let request = EntryRequest::decode(&message[..]).expect("our own message");
        b.iter(|| black_box(&request).encode_to_vec());
    });
    group.bench_function("decode_lookup", |b| {
        let bytes = Bytes::from(message.clone());
        b.iter(|| EntryRequest::decode(black_box(bytes.clone())).expect("our own message"));
    });
    group.finish();
}

criterion_group!(benches, frame);
criterion_main!(benches);
