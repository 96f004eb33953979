//! Snapshots and clones through the whole stack: random operations of two clients against vectors of bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Code, Creds, File, Volume};
use proptest::prelude::*;
use proto::stripe::Coding;

use super::bed::{Bed, STRIPE, pattern};

/// The largest offset that operations touch, bytes.
const SPAN: u64 = 3 * STRIPE as u64;
const FILES: usize = 3;
const CODE: Coding = Coding { data: 2, parity: 1 };

#[derive(Debug, Clone)]
enum Op {
    Write {
        by: usize,
        file: usize,
        at: u64,
        len: usize,
        byte: u8,
    },
    Buffered {
        by: usize,
        file: usize,
        at: u64,
        len: usize,
        byte: u8,
    },
    Truncate {
        by: usize,
        file: usize,
        size: u64,
    },
    Punch {
        by: usize,
        file: usize,
        at: u64,
        len: u64,
    },
    Read {
        by: usize,
        file: usize,
        at: u64,
        len: usize,
    },
    Clone {
        by: usize,
        from: usize,
        past: Option<u8>,
        to: usize,
    },
    Snapshot {
        by: usize,
    },
    Remove {
        which: u8,
    },
    Reopen {
        by: usize,
        file: usize,
    },
    Encode {
        by: usize,
        file: usize,
    },
    /// Encoded, and written by somebody before the commit.
    Late {
        by: usize,
        file: usize,
        at: u64,
        byte: u8,
    },
}

fn offset() -> impl Strategy<Value = u64> {
    let corner = (0..SPAN / 4096, -2i64..3).prop_map(|(block, by)| (block * 4096).saturating_add_signed(by));
    prop_oneof![0..SPAN, corner]
}

fn op() -> impl Strategy<Value = Op> {
    let (by, file) = (|| 0usize..2, || 0..FILES);
    let len = || prop_oneof![1usize..100, 4000usize..4200, 1usize..100_000];
    prop_oneof![
        5 => (by(), file(), offset(), len(), any::<u8>())
            .prop_map(|(by, file, at, len, byte)| Op::Write { by, file, at, len, byte }),
        2 => (by(), file(), offset(), 1usize..5000, any::<u8>())
            .prop_map(|(by, file, at, len, byte)| Op::Buffered { by, file, at, len, byte }),
        2 => (by(), file(), offset()).prop_map(|(by, file, size)| Op::Truncate { by, file, size }),
        1 => (by(), file(), offset(), 1u64..100_000).prop_map(|(by, file, at, len)| Op::Punch { by, file, at, len }),
        4 => (by(), file(), offset(), len()).prop_map(|(by, file, at, len)| Op::Read { by, file, at, len }),
        2 => (by(), file(), prop::option::of(any::<u8>()), file())
            .prop_map(|(by, from, past, to)| Op::Clone { by, from, past, to }),
        2 => by().prop_map(|by| Op::Snapshot { by }),
        1 => any::<u8>().prop_map(|which| Op::Remove { which }),
        1 => (by(), file()).prop_map(|(by, file)| Op::Reopen { by, file }),
        3 => (by(), file()).prop_map(|(by, file)| Op::Encode { by, file }),
        1 => (by(), file(), offset(), any::<u8>()).prop_map(|(by, file, at, byte)| Op::Late { by, file, at, byte }),
    ]
}

fn content(byte: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| byte.wrapping_add((at % 251) as u8)).collect()
}

fn put(model: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = usize::try_from(at).unwrap();
    model.resize(model.len().max(at + data.len()), 0);
    model[at..at + data.len()].copy_from_slice(data);
}

/// Says where the first difference is instead of printing all.
fn same(read: &[u8], want: &[u8], what: &dyn std::fmt::Debug) {
    let first = read.iter().zip(want).position(|(one, other)| one != other);
    assert!(
        read == want,
        "{what:?}: {} bytes for {}, the first difference at {first:?}",
        read.len(),
        want.len()
    );
}

struct World {
    root: Creds,
    dir: u64,
    volumes: [Arc<Volume>; 2],
    /// By client and file.
    handles: Vec<Vec<Arc<File>>>,
    inos: Vec<u64>,
    now: Vec<Vec<u8>>,
    /// By name: number and content.
    past: BTreeMap<String, (u64, Vec<Vec<u8>>)>,
    made: usize,
}

impl World {
    async fn new(bed: &Bed, number: usize) -> Self {
        let (root, volumes) = (Creds::root(), [bed.volume("one").await, bed.volume("two").await]);
        let dir = volumes[0].mkdir_all(&root, &format!("/d{number}"), 0o755).await.unwrap().ino;
        let mut world = Self {
            root: root.clone(),
            dir,
            volumes,
            handles: vec![Vec::new(), Vec::new()],
            inos: Vec::new(),
            now: vec![Vec::new(); FILES],
            past: BTreeMap::new(),
            made: 0,
        };
        for file in 0..FILES {
            let path = format!("/d{number}/f{file}");
            world.volumes[0].create_exclusive(&root, &path, b"", 0o644).await.unwrap();
            for by in 0..2 {
                let handle = world.volumes[by].open_path(&root, &path, true).await.unwrap();
                if by == 0 {
                    world.inos.push(handle.ino());
                }
                world.handles[by].push(handle);
            }
        }
        world
    }

    async fn run(&mut self, op: &Op) {
        let root = self.root.clone();
        match op.clone() {
            Op::Write { by, file, at, len, byte } => {
                self.handles[by][file].write_at(at, content(byte, len)).await.unwrap();
                put(&mut self.now[file], at, &content(byte, len));
            }
            Op::Buffered { by, file, at, len, byte } => {
                self.handles[by][file].write_buffered(at, &content(byte, len)).await.unwrap();
                put(&mut self.now[file], at, &content(byte, len));
            }
            Op::Truncate { by, file, size } => {
                self.handles[by][file].truncate(size).await.unwrap();
                self.now[file].resize(usize::try_from(size).unwrap(), 0);
            }
            Op::Punch { by, file, at, len } => {
                self.handles[by][file].punch(at, len).await.unwrap();
                let model = &mut self.now[file];
                let from = usize::try_from(at).unwrap().min(model.len());
                let to = (from + usize::try_from(len).unwrap()).min(model.len());
                model[from..to].fill(0);
            }
            Op::Read { by, file, at, len } => {
                let model = &self.now[file];
                let from = usize::try_from(at).unwrap().min(model.len());
                let to = (from + len).min(model.len());
                same(&self.handles[by][file].read_at(at, len).await.unwrap(), &model[from..to], op);
            }
            Op::Clone { by, from, past, to } => {
                let chosen = past.and_then(|which| {
                    self.past.values().nth(usize::from(which) % self.past.len().max(1)).cloned()
                });
                let (id, content) =
                    chosen.map_or((0, self.now[from].clone()), |(id, files)| (id, files[from].clone()));
                let source = (self.inos[from], id);
                let attr = self.volumes[by].clone_data(&root, source, self.inos[to]).await.unwrap();
                assert_eq!(attr.size, content.len() as u64, "{op:?}");
                self.now[to] = content;
            }
            Op::Snapshot { by } => {
                let name = format!("s{}", self.made);
                self.made += 1;
                let info = self.volumes[by].snapshot(&root, self.dir, name.as_bytes()).await.unwrap();
                let again = self.volumes[by].snapshot(&root, self.dir, name.as_bytes()).await;
                assert_eq!(again.unwrap_err().code, Code::Exists);
                self.past.insert(name, (info.id, self.now.clone()));
            }
            Op::Remove { which } => {
                let Some(name) = self.past.keys().nth(usize::from(which) % self.past.len().max(1)).cloned()
                else {
                    return;
                };
                self.volumes[0].remove_snapshot(&root, self.dir, name.as_bytes()).await.unwrap();
                self.past.remove(&name);
            }
            Op::Encode { by, file } => {
                // A session that was given no lease yet counts as one that takes none.
                let done = self.volumes[by].encode(&root, self.inos[file], CODE).await;
                assert!(done.as_ref().err().is_none_or(|error| error.code == Code::WouldBlock), "{done:?}");
            }
            Op::Late { by, file, at, byte } => {
                let (volume, ino) = (&self.volumes[by], self.inos[file]);
                let Ok(begun) = volume.begin_encoding(&root, ino, CODE).await else { return };
                let data = begun.credentials.capability.ino;
                volume.write_encoded(&root, ino, begun).await.unwrap();
                self.handles[1 - by][file].write_at(at, content(byte, 5000)).await.unwrap();
                put(&mut self.now[file], at, &content(byte, 5000));
                let refused = volume.commit_encoding(&root, ino, data).await.unwrap_err();
                assert!(matches!(refused.code, Code::Stale | Code::WouldBlock), "{refused}");
            }
            Op::Reopen { by, file } => {
                self.handles[by][file].close().await.unwrap();
                self.handles[by][file] = self.volumes[by].open(&root, self.inos[file], true).await.unwrap();
            }
        }
    }

    async fn check(&self) {
        for (file, want) in self.now.iter().enumerate() {
            for by in 0..2 {
                let read = self.handles[by][file].read_at(0, 1 << 20).await.unwrap();
                same(&read, want, &("file", file, "as seen by", by));
            }
        }
        for (name, (id, files)) in &self.past {
            let past = self.volumes[id.is_multiple_of(2) as usize].past(*id);
            for (file, want) in files.iter().enumerate() {
                let attr = past.lookup(&self.root, self.dir, format!("f{file}").as_bytes()).await.unwrap();
                assert_eq!((attr.ino, attr.size), (self.inos[file], want.len() as u64), "{name}: {file}");
                let handle = past.open(&self.root, attr.ino, false).await.unwrap();
                same(&handle.read_at(0, 1 << 20).await.unwrap(), want, &(name, file));
                let refused = handle.write_at(0, b"x".to_vec()).await;
                assert!(refused.is_err(), "the past was written to");
                handle.close().await.unwrap();
            }
        }
    }
}

#[test]
fn files_and_snapshots_hold_what_two_clients_wrote() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let bed = runtime.block_on(Bed::start(3));
    let numbers = std::sync::atomic::AtomicUsize::new(0);
    let config = ProptestConfig { cases: 16, max_shrink_iters: 60, ..ProptestConfig::default() };
    let result =
        proptest::test_runner::TestRunner::new(config).run(&prop::collection::vec(op(), 1..40), |ops| {
            let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let checked = runtime.block_on(async {
                let mut world = World::new(&bed, number).await;
                let run = async {
                    for (nth, op) in ops.iter().enumerate() {
                        world.run(op).await;
                        if nth % 8 == 7 {
                            world.check().await;
                        }
                    }
                    world.check().await;
                    // The next one has a right to its own.
                    while !world.past.is_empty() {
                        world.run(&Op::Remove { which: 0 }).await;
                    }
                    world.check().await;
                };
                futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(run)).await
            });
            checked.map_err(|_| TestCaseError::fail("see above"))
        });
    if let Err(why) = result {
        panic!("{why}");
    }
    runtime.block_on(bed.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_has_what_was_acknowledged_and_not_what_comes_after() {
    let bed = Bed::start(2).await;
    let (one, two, root) = (bed.volume("one").await, bed.volume("two").await, Creds::root());
    one.create_exclusive(&root, "/log", b"", 0o644).await.unwrap();
    let writer = one.open_path(&root, "/log", true).await.unwrap();
    writer.write_buffered(0, &pattern(0, 5000)).await.unwrap();
    // Asked by another client: what waits at the first must be in it.
    let info = two.snapshot(&root, 1, b"s").await.unwrap();
    writer.write_buffered(5000, &pattern(9, 100)).await.unwrap();
    writer.write_at(10, b"later".to_vec()).await.unwrap();
    let past = two.past(info.id);
    assert_eq!(past.read_file(&root, "/log").await.unwrap(), pattern(0, 5000));
    assert_eq!(two.read_file(&root, "/log").await.unwrap().len(), 5100);
    let refused = [
        past.create_exclusive(&root, "/new", b"", 0o644).await.unwrap_err(),
        past.mkdir_all(&root, "/new", 0o755).await.unwrap_err(),
        past.remove(&root, "/log").await.unwrap_err(),
    ];
    assert!(refused.iter().all(|error| error.code == Code::ReadOnly), "{refused:?}");
    one.remove(&root, "/log").await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(past.read_file(&root, "/log").await.unwrap(), pattern(0, 5000));
    one.remove_snapshot(&root, 1, b"s").await.unwrap();
    assert_eq!(past.stat(&root, "/log").await.unwrap_err().code, Code::Stale);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_and_its_source_part_when_they_are_written() {
    let bed = Bed::start(2).await;
    let (one, two, root) = (bed.volume("one").await, bed.volume("two").await, Creds::root());
    let len = 5 * STRIPE as usize + 77;
    one.create_exclusive(&root, "/a", &pattern(0, len), 0o644).await.unwrap();
    two.create_exclusive(&root, "/b", b"what was there", 0o644).await.unwrap();
    let (a, b) =
        (one.open_path(&root, "/a", true).await.unwrap(), two.open_path(&root, "/b", true).await.unwrap());
    assert_eq!(b.read_at(0, 100).await.unwrap(), &b"what was there"[..]);
    let before: u64 = bed.osds.iter().map(|osd| osd.status().objects).sum();
    one.clone_data(&root, (a.ino(), 0), b.ino()).await.unwrap();
    let after: u64 = bed.osds.iter().map(|osd| osd.status().objects).sum();
    assert!(after <= before, "nothing is copied: {before} -> {after}");
    assert_eq!(b.read_at(0, len).await.unwrap(), pattern(0, len));
    b.write_at(4097, b"b".to_vec()).await.unwrap();
    a.write_at(4096, b"a".to_vec()).await.unwrap();
    let (mut want_a, mut want_b) = (pattern(0, len), pattern(0, len));
    (want_b[4097], want_a[4096]) = (b'b', b'a');
    assert_eq!(a.read_at(0, len).await.unwrap(), want_a);
    assert_eq!(b.read_at(0, len).await.unwrap(), want_b);
    assert_eq!(two.read_file(&root, "/a").await.unwrap(), want_a);
    assert_eq!(one.read_file(&root, "/b").await.unwrap(), want_b);
    // Shorter and longer again: nothing of what was shared comes back.
    b.truncate(5000).await.unwrap();
    b.truncate(20_000).await.unwrap();
    want_b.truncate(5000);
    want_b.resize(20_000, 0);
    assert_eq!(b.read_at(0, len).await.unwrap(), want_b);
    assert_eq!(one.read_file(&root, "/b").await.unwrap(), want_b);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_snapshots_of_a_file_that_is_written_do_not_make_it_slow_for_ever() {
    let bed = Bed::start(2).await;
    let (volume, root) = (bed.volume("one").await, Creds::root());
    let mut want = pattern(0, 3 * STRIPE as usize).to_vec();
    volume.create_exclusive(&root, "/a", &want, 0o644).await.unwrap();
    let file = volume.open_path(&root, "/a", true).await.unwrap();
    let mut past = Vec::new();
    for round in 0..40u64 {
        let name = format!("s{round}");
        let id = volume.snapshot(&root, 1, name.as_bytes()).await.unwrap().id;
        past.push((id, want.clone()));
        let at = round * 4801;
        file.write_at(at, vec![round as u8; 3000]).await.unwrap();
        put(&mut want, at, &[round as u8; 3000]);
    }
    let mut layers = usize::MAX;
    for _ in 0..100 {
        file.write_at(0, b"x".to_vec()).await.unwrap();
        want[0] = b'x';
        layers = volume.layers(&root, file.ino()).await.unwrap();
        if layers < 16 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(layers < 16, "{layers} layers are left");
    assert!(file.read_at(0, 1 << 20).await.unwrap() == want[..]);
    assert!(bed.volume("two").await.read_file(&root, "/a").await.unwrap() == want[..]);
    for (id, want) in past {
        let read = volume.past(id).read_file(&root, "/a").await.unwrap();
        let differs = (0..want.len().max(read.len())).filter(|at| read.get(*at) != want.get(*at));
        let differs: Vec<_> = differs.map(|at| (at, read.get(at), want.get(at))).collect();
        assert!(
            differs.is_empty(),
            "snapshot {id}: {} of {} bytes, first {:?}, last {:?}",
            differs.len(),
            want.len(),
            differs[0],
            differs[differs.len() - 1]
        );
    }
    bed.stop().await;
}
