//! Random file operations against a vector of bytes.

use client::Creds;
use proptest::prelude::*;

use super::bed::{Bed, STRIPE};

/// The largest offset that operations touch, bytes.
const SPAN: u64 = 6 * STRIPE as u64;

#[derive(Debug, Clone)]
enum Op {
    Write { at: u64, len: usize, byte: u8 },
    Buffered { at: u64, len: usize, byte: u8 },
    Read { at: u64, len: usize },
    Truncate(u64),
    Punch { at: u64, len: u64 },
    Allocate { at: u64, len: u64, keep: bool },
    Fsync,
    Reopen,
}

fn offset() -> impl Strategy<Value = u64> {
    // Corners of stripes and blocks are where mistakes live.
    let corner = (0..SPAN / 4096, -2i64..3).prop_map(|(block, by)| (block * 4096).saturating_add_signed(by));
    prop_oneof![0..SPAN, corner]
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![1usize..100, 4000usize..4200, 1usize..150_000];
    prop_oneof![
        4 => (offset(), len.clone(), any::<u8>()).prop_map(|(at, len, byte)| Op::Write { at, len, byte }),
        2 => (offset(), 1usize..5000, any::<u8>()).prop_map(|(at, len, byte)| Op::Buffered { at, len, byte }),
        4 => (offset(), len).prop_map(|(at, len)| Op::Read { at, len }),
        2 => offset().prop_map(Op::Truncate),
        2 => (offset(), 1u64..200_000).prop_map(|(at, len)| Op::Punch { at, len }),
        1 => (offset(), 1u64..100_000, any::<bool>()).prop_map(|(at, len, keep)| Op::Allocate { at, len, keep }),
        1 => Just(Op::Fsync),
        1 => Just(Op::Reopen),
    ]
}

fn write(model: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = usize::try_from(at).unwrap();
    if model.len() < at + data.len() {
        model.resize(at + data.len(), 0);
    }
    model[at..at + data.len()].copy_from_slice(data);
}

/// Content that differs from byte to byte.
fn content(byte: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| byte.wrapping_add((at % 251) as u8)).collect()
}

async fn check(bed: &Bed, number: usize, ops: Vec<Op>) {
    let (volume, root) = (bed.volume("model").await, Creds::root());
    let path = format!("/file-{number}");
    volume.create_exclusive(&root, &path, b"", 0o644).await.unwrap();
    let mut file = volume.open_path(&root, &path, true).await.unwrap();
    let mut model: Vec<u8> = Vec::new();
    for op in ops {
        match op.clone() {
            Op::Write { at, len, byte } => {
                file.write_at(at, content(byte, len)).await.unwrap();
                write(&mut model, at, &content(byte, len));
            }
            Op::Buffered { at, len, byte } => {
                file.write_buffered(at, &content(byte, len)).await.unwrap();
                write(&mut model, at, &content(byte, len));
            }
            Op::Read { at, len } => {
                let from = usize::try_from(at).unwrap().min(model.len());
                let to = (from + len).min(model.len());
                assert_eq!(file.read_at(at, len).await.unwrap(), model[from..to], "{op:?}");
            }
            Op::Truncate(size) => {
                file.truncate(size).await.unwrap();
                model.resize(usize::try_from(size).unwrap(), 0);
            }
            Op::Punch { at, len } => {
                file.punch(at, len).await.unwrap();
                let from = usize::try_from(at).unwrap().min(model.len());
                let to = (from + usize::try_from(len).unwrap()).min(model.len());
                model[from..to].fill(0);
            }
            Op::Allocate { at, len, keep } => {
                file.allocate(at, len, keep).await.unwrap();
                let end = usize::try_from(at + len).unwrap();
                if !keep && model.len() < end {
                    model.resize(end, 0);
                }
            }
            Op::Fsync => file.fsync().await.unwrap(),
            Op::Reopen => {
                file.close().await.unwrap();
                file = volume.open_path(&root, &path, true).await.unwrap();
            }
        }
    }
    assert_eq!(file.attr().await.unwrap().size, model.len() as u64);
    assert_eq!(file.read_at(0, model.len() + 1).await.unwrap(), model);
    let data = file.seek_data(0).await.unwrap();
    let first = model.iter().position(|byte| *byte != 0).map(|at| at as u64);
    assert!(first.is_none() || data.is_some_and(|data| Some(data) <= first), "a hole never hides data");
    file.close().await.unwrap();
    let other = bed.volume("other").await;
    assert_eq!(other.read_file(&root, &path).await.unwrap(), model);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_agree_with_a_vector_of_bytes() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let bed = Bed::start(4).await;
    let mut runner = TestRunner::default();
    let strategy = prop::collection::vec(op(), 1..40);
    for number in 0..24 {
        let ops = strategy.new_tree(&mut runner).unwrap().current();
        eprintln!("run {number}: {ops:?}");
        check(&bed, number, ops).await;
    }
    bed.stop().await;
}
