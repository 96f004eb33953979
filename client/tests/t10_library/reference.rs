//! The whole client API against a reference: random operations from two clients, and after each one the whole tree as
//! both clients see it, a model in memory and a local directory are the same.
//!
//!     XTFS_REFERENCE_CASES=2000 cargo test -p xtfs-client --test t10_library reference
//!
//! A failure is shrunk to few operations, printed as a list that goes into a named test below as it is.

mod local;
mod remote;
mod tree;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::bed::{Bed, STRIPE};
use local::Local;
use remote::Remote;
use tree::Tree;

/// Runs of the property in the gate; each is up to [`OPS_MAX`] operations.
const CASES: u32 = 20;

const OPS_MAX: usize = 24;

/// Names that operations use.
const PATHS: [&str; 9] = ["a", "b", "c", "d", "e", "d/a", "d/b", "e/a", "d/e"];

/// One operation. Paths are indices into [`PATHS`].
#[derive(Debug, Clone, PartialEq)]
enum Op {
    Mkdir(usize),
    Rmdir(usize),
    Create { path: usize, len: usize, byte: u8 },
    Write { path: usize, at: u64, len: usize, byte: u8 },
    Append { path: usize, len: usize, byte: u8 },
    Replace { path: usize, len: usize, byte: u8 },
    Truncate { path: usize, size: u64 },
    Punch { path: usize, at: u64, len: u64 },
    Allocate { path: usize, at: u64, len: u64, keep: bool },
    Unlink(usize),
    Link { from: usize, to: usize },
    Symlink(usize),
    Rename { from: usize, to: usize, how: How },
    Chmod { path: usize, mode: u32 },
}

/// What a rename does when the new name exists.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Replace,
    NoReplace,
    Exchange,
}

/// A node of a tree, by path, in a form that all three can give.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Directory { mode: u32 },
    File { mode: u32, links: u32, content: Vec<u8> },
    Symlink { target: String },
}

type Snapshot = BTreeMap<String, Node>;

fn path() -> impl Strategy<Value = usize> {
    0..PATHS.len()
}

fn offset() -> impl Strategy<Value = u64> {
    let stripe = u64::from(STRIPE);
    prop_oneof![0..100u64, 4000..4200u64, stripe - 5..stripe + 5, Just(2 * stripe)]
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![0..50usize, 4090..4100usize, Just(STRIPE as usize + 3)]
}

fn op() -> impl Strategy<Value = Op> {
    let how = prop_oneof![3 => Just(How::Replace), 1 => Just(How::NoReplace), 1 => Just(How::Exchange)];
    let mode = prop_oneof![Just(0o600), Just(0o755), Just(0o640)];
    prop_oneof![
        3 => prop_oneof![3usize..5, 8..9usize, 0..1usize].prop_map(Op::Mkdir),
        2 => path().prop_map(Op::Rmdir),
        6 => (path(), len(), 1..u8::MAX).prop_map(|(path, len, byte)| Op::Create { path, len, byte }),
        5 => (path(), offset(), len(), 1..u8::MAX)
            .prop_map(|(path, at, len, byte)| Op::Write { path, at, len, byte }),
        3 => (path(), len(), 1..u8::MAX).prop_map(|(path, len, byte)| Op::Append { path, len, byte }),
        2 => (path(), len(), 1..u8::MAX).prop_map(|(path, len, byte)| Op::Replace { path, len, byte }),
        3 => (path(), offset()).prop_map(|(path, size)| Op::Truncate { path, size }),
        2 => (path(), offset(), 1..9000u64).prop_map(|(path, at, len)| Op::Punch { path, at, len }),
        1 => (path(), offset(), 1..9000u64, any::<bool>())
            .prop_map(|(path, at, len, keep)| Op::Allocate { path, at, len, keep }),
        4 => path().prop_map(Op::Unlink),
        4 => (path(), path()).prop_map(|(from, to)| Op::Link { from, to }),
        2 => path().prop_map(Op::Symlink),
        6 => (path(), path(), how).prop_map(|(from, to, how)| Op::Rename { from, to, how }),
        2 => (path(), mode).prop_map(|(path, mode)| Op::Chmod { path, mode }),
    ]
}

/// Content that differs from byte to byte.
fn content(byte: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| byte.wrapping_add((at % 251) as u8).max(1)).collect()
}

/// POSIX leaves the choice between the two.
fn same(one: Result<(), i32>, other: Result<(), i32>) -> bool {
    let one_name = |result| if result == Err(libc::ENOTEMPTY) { Err(libc::EEXIST) } else { result };
    one_name(one) == one_name(other)
}

/// Which client does an operation, and which.
type Step = (bool, Op);

static NUMBER: AtomicU32 = AtomicU32::new(0);

struct World {
    bed: Bed,
    clients: [std::sync::Arc<client::Volume>; 2],
}

impl World {
    async fn start() -> Self {
        let bed = Bed::start(2).await;
        let clients = [bed.volume("one").await, bed.volume("two").await];
        Self { bed, clients }
    }

    async fn check(&self, steps: &[Step]) -> Result<(), String> {
        let place = format!("/case-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let remotes = self.clients.clone().map(|volume| Remote::new(volume, &place));
        remotes[0].make_root().await;
        let (mut model, local) = (Tree::default(), Local::new());
        for (number, (second, op)) in steps.iter().enumerate() {
            let expected = model.apply(op);
            let on_disk = local.apply(op);
            if !same(on_disk, expected) {
                return Err(format!("step {number} {op:?}: local {on_disk:?}, model {expected:?}"));
            }
            let got = remotes[usize::from(*second)].apply(op).await;
            if !same(got, expected) {
                return Err(format!("step {number} {op:?}: client {got:?}, model {expected:?}"));
            }
            let tree = model.snapshot();
            differ(&format!("step {number} {op:?}, local directory"), &local.snapshot(), &tree)?;
            for (client, remote) in remotes.iter().enumerate() {
                let seen = remote.snapshot().await?;
                differ(&format!("step {number} {op:?}, client {client}"), &seen, &tree)?;
            }
        }
        Ok(())
    }
}

/// Names the first node that differs.
fn differ(who: &str, seen: &Snapshot, expected: &Snapshot) -> Result<(), String> {
    for path in seen.keys().chain(expected.keys()) {
        let (one, other) = (seen.get(path), expected.get(path));
        if one != other {
            return Err(format!("{who}: `{path}` is {}, not {}", short(one), short(other)));
        }
    }
    Ok(())
}

fn short(node: Option<&Node>) -> String {
    match node {
        Some(Node::File { mode, links, content }) => {
            let runs: Vec<(usize, u8)> =
                content.chunk_by(|a, b| a == b).map(|run| (run.len(), run[0])).collect();
            let shown = &runs[..runs.len().min(4)];
            format!("a file {mode:o}, {links} links, {} bytes {shown:?}...", content.len())
        }
        other => format!("{other:?}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// For named tests: a failure as it was printed.
fn replay(steps: &[Step]) {
    runtime().block_on(async {
        let world = World::start().await;
        let outcome = world.check(steps).await;
        world.bed.stop().await;
        outcome.unwrap();
    });
}

#[test]
fn random_operations_of_two_clients_agree_with_a_model_and_a_local_directory() {
    let cases = std::env::var("XTFS_REFERENCE_CASES").ok().and_then(|cases| cases.parse().ok());
    let runtime = runtime();
    let world = runtime.block_on(World::start());
    let config = Config {
        cases: cases.unwrap_or(CASES),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let steps = prop::collection::vec((any::<bool>(), op()), 1..OPS_MAX);
    let outcome = TestRunner::new(config)
        .run(&steps, |steps| runtime.block_on(world.check(&steps)).map_err(TestCaseError::fail));
    runtime.block_on(world.bed.stop());
    outcome.unwrap();
}

#[test]
fn a_link_outlives_a_rename_over_the_other_name() {
    replay(&[
        (false, Op::Create { path: 0, len: 5000, byte: 7 }),
        (true, Op::Link { from: 0, to: 1 }),
        (false, Op::Create { path: 2, len: 10, byte: 9 }),
        (true, Op::Rename { from: 2, to: 0, how: How::Replace }),
        (false, Op::Append { path: 1, len: 4, byte: 3 }),
        (true, Op::Truncate { path: 1, size: 4000 }),
    ]);
}

#[test]
fn a_file_does_not_replace_the_directory_that_holds_it() {
    replay(&[
        (false, Op::Mkdir(4)),
        (false, Op::Create { path: 7, len: 0, byte: 1 }),
        (false, Op::Rename { from: 7, to: 4, how: How::Replace }),
        (true, Op::Rename { from: 7, to: 4, how: How::Exchange }),
    ]);
}
