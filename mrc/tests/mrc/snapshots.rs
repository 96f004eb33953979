//! Snapshots and clones: random operations against copies of everything. The OSDs are a table of blocks by data number.

use std::collections::{BTreeMap, BTreeSet};

use mrc::command::{
    Body, CreateAs, CreateDone, InosReserved, Make, Removed, ReserveInos, SessionBegin, SnapshotSweep,
    ThawFile, Which,
};
use mrc::namespace::past::Past;
use mrc::namespace::{collect, content, inode, keys, layers, read, session, volume};
use proptest::prelude::*;
use prost::Message;
use proto::checksum::crc32c;
use proto::error::Code;
use proto::mrc::{
    AttrReply, EarlyContent, EarlyFile, EntryRequest, Head, MakeRequest, ReportWrite, SetReplicasRequest,
    kind,
};
use proto::rpc::Origin;
use proto::snapshot::{CloneRequest, FoldRequest, SnapshotReply, SnapshotRequest};
use proto::stripe::{Column, Layout};
use rt::table::{Reader, Table, prefix_end};

use crate::coding;
use crate::fsck;
use crate::harness::{Replica, VOLUME, code};
use crate::repair;

/// Bytes of a block of this test's OSDs; sizes are whole blocks.
const BLOCK: u64 = 4096;
const ROOT: u64 = 1;
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Op {
    Create(usize),
    /// Made with a block in it, which the MRC keeps.
    Fill(usize),
    /// Blocks from `at` get new content.
    Write {
        name: usize,
        at: u8,
        count: u8,
    },
    Truncate {
        name: usize,
        size: u8,
    },
    Clone {
        from: usize,
        snapshot: Option<u8>,
        to: usize,
    },
    Unlink(usize),
    /// Open while its name goes, freed later.
    UnlinkOpen(usize),
    Reap,
    /// The top gets all that shows through it.
    Fold(usize),
    Rename(usize, usize),
    Snapshot,
    Remove(u8),
    Sweep(u8),
    /// The encoder begins and reads the file.
    Begin(usize),
    /// It has written what it read.
    Commit(usize),
    /// It gives up.
    Drop(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let name = || 0..NAMES.len();
    prop_oneof![
        3 => name().prop_map(Op::Create),
        3 => name().prop_map(Op::Fill),
        6 => (name(), 0u8..6, 1u8..4).prop_map(|(name, at, count)| Op::Write { name, at, count }),
        2 => (name(), 0u8..8).prop_map(|(name, size)| Op::Truncate { name, size }),
        3 => (name(), prop::option::of(any::<u8>()), name())
            .prop_map(|(from, snapshot, to)| Op::Clone { from, snapshot, to }),
        2 => name().prop_map(Op::Unlink),
        1 => name().prop_map(Op::UnlinkOpen),
        1 => Just(Op::Reap),
        2 => name().prop_map(Op::Fold),
        1 => (name(), name()).prop_map(|(from, to)| Op::Rename(from, to)),
        3 => Just(Op::Snapshot),
        2 => any::<u8>().prop_map(Op::Remove),
        2 => (1u8..9).prop_map(Op::Sweep),
        4 => name().prop_map(Op::Begin),
        4 => name().prop_map(Op::Commit),
        1 => name().prop_map(Op::Drop),
    ]
}

type Content = Vec<u64>;
/// Inode and content by name.
type Tree = BTreeMap<&'static str, (u64, Content)>;

struct World {
    replica: Replica,
    /// What OSDs hold: blocks by data number.
    osds: BTreeMap<u64, BTreeMap<u64, u64>>,
    now: Tree,
    past: BTreeMap<u64, Tree>,
    /// Unlinked, still open.
    open: BTreeMap<u64, Content>,
    /// By file: number and content of what was begun last.
    encoding: BTreeMap<u64, (u64, Content)>,
    stamp: u64,
}

impl World {
    fn new() -> Self {
        let mut replica = Replica::new();
        replica.run(Body::SessionBegin(SessionBegin { session: 5, client: "test".into() })).unwrap();
        Self {
            replica,
            osds: BTreeMap::new(),
            now: Tree::new(),
            past: BTreeMap::new(),
            open: BTreeMap::new(),
            encoding: BTreeMap::new(),
            stamp: 0,
        }
    }

    fn ask(&self, name: &str) -> SnapshotRequest {
        SnapshotRequest {
            head: self.replica.head.clone(),
            origin: Origin::default(),
            ino: ROOT,
            name: name.as_bytes().to_vec(),
        }
    }

    /// A file with a block in it, as a mount tells of it.
    fn fill(&mut self, name: &str, value: u64) -> u64 {
        let reserved = self.replica.run(Body::ReserveInos(ReserveInos { volume: VOLUME, count: 1 })).unwrap();
        let ino = InosReserved::decode(reserved).unwrap().first;
        let epoch = session::find(&self.replica.table, 5).unwrap().unwrap().epoch;
        let mut block = vec![0; usize::try_from(BLOCK).unwrap()];
        block[..8].copy_from_slice(&value.to_le_bytes());
        let content = EarlyContent { crc: crc32c(&block), data: block.into(), ..EarlyContent::default() };
        let layout = Layout { inline: content::inline_of(&content), ..crate::harness::layout() };
        assert!(layout.is_inline());
        let file =
            EarlyFile { parent: ROOT, name: name.into(), ino, mode: 0o644, epoch, ..EarlyFile::default() };
        let file = EarlyFile { content: Some(content), ..file };
        let create = CreateAs { head: self.replica.head.clone(), file, layout };
        for _ in 0..2 {
            let done = self.replica.run(Body::CreateFilled(create.clone())).unwrap();
            let done = CreateDone::decode(done).unwrap();
            assert_eq!(
                (done.attr.size, done.attr.blocks, done.layout.is_inline()),
                (BLOCK, BLOCK / 512, true)
            );
        }
        ino
    }

    /// As the leader does before somebody writes.
    fn thaw(&mut self, ino: u64) {
        let record = volume::live(&self.replica.table, VOLUME).unwrap();
        let inode = inode::get(&self.replica.table, VOLUME, ino).unwrap();
        if layers::needs_thaw_to_write(&self.replica.table, VOLUME, &record, &inode).unwrap() {
            let reply = self.replica.run(Body::Thaw(ThawFile { volume: VOLUME, ino, layout: None })).unwrap();
            let inode = inode::get(&self.replica.table, VOLUME, ino).unwrap();
            assert_eq!(AttrReply::decode(reply).unwrap().attr, inode.attr);
            assert!(!layers::needs_thaw_to_write(&self.replica.table, VOLUME, &record, &inode).unwrap());
        }
    }

    fn write(&mut self, ino: u64, at: u64, blocks: &[u64]) {
        self.thaw(ino);
        let inode = inode::get(&self.replica.table, VOLUME, ino).unwrap();
        let objects = self.osds.entry(inode.top()).or_default();
        objects.extend((at..).zip(blocks.iter().copied()));
        let report = ReportWrite {
            head: self.replica.head.clone(),
            origin: Origin::default(),
            ino,
            size: (at + blocks.len() as u64) * BLOCK,
            truncate_epoch: inode.attr.truncate_epoch,
            ..ReportWrite::default()
        };
        self.replica.run(Body::WriteDone(report)).unwrap();
    }

    fn truncate(&mut self, ino: u64, size: u64) {
        let inode = inode::get(&self.replica.table, VOLUME, ino).unwrap();
        let record = volume::live(&self.replica.table, VOLUME).unwrap();
        // What is at the MRC and nobody else needs goes with the size.
        if size > 0 || layers::needs_thaw(&self.replica.table, VOLUME, &record, &inode).unwrap() {
            self.thaw(ino);
        }
        let top = inode::get(&self.replica.table, VOLUME, ino).unwrap().top();
        self.osds.entry(top).or_default().retain(|block, _| *block < size);
        let change = proto::mrc::SetAttrRequest { size: Some(size * BLOCK), ..self.replica.change_of(ino) };
        self.replica.setattr(change).unwrap();
    }

    #[allow(clippy::too_many_lines, reason = "one arm per operation")]
    fn run(&mut self, op: &Op) {
        match *op {
            Op::Create(name) => {
                let name = NAMES[name];
                if !self.now.contains_key(name) {
                    let made = self.replica.create(ROOT, name, true).unwrap();
                    self.now.insert(name, (made.attr.ino, Content::new()));
                }
            }
            Op::Fill(name) => {
                let name = NAMES[name];
                if !self.now.contains_key(name) {
                    self.stamp += 1;
                    let ino = self.fill(name, self.stamp);
                    self.now.insert(name, (ino, vec![self.stamp]));
                }
            }
            Op::Write { name, at, count } => {
                let Some((ino, _)) = self.now.get(NAMES[name]) else { return };
                let (ino, at) = (*ino, u64::from(at));
                let blocks: Vec<u64> = (0..u64::from(count)).map(|nth| 1 + self.stamp + nth).collect();
                self.stamp += blocks.len() as u64;
                self.write(ino, at, &blocks);
                let (_, content) = self.now.get_mut(NAMES[name]).unwrap();
                let at = usize::try_from(at).unwrap();
                content.resize(content.len().max(at + blocks.len()), 0);
                content[at..at + blocks.len()].copy_from_slice(&blocks);
            }
            Op::Truncate { name, size } => {
                let Some((ino, _)) = self.now.get(NAMES[name]) else { return };
                self.truncate(*ino, u64::from(size));
                self.now.get_mut(NAMES[name]).unwrap().1.resize(usize::from(size), 0);
            }
            Op::Clone { from, snapshot, to } => {
                let (from, to) = (NAMES[from], NAMES[to]);
                let id = snapshot.and_then(|which| {
                    self.past.keys().nth(usize::from(which) % self.past.len().max(1)).copied()
                });
                let tree = id.map_or(&self.now, |id| &self.past[&id]);
                let (Some((source, content)), Some((target, _))) = (tree.get(from), self.now.get(to)) else {
                    return;
                };
                let ask = CloneRequest {
                    head: self.replica.head.clone(),
                    origin: Origin::default(),
                    from: *source,
                    from_snapshot: id.unwrap_or(0),
                    to: *target,
                };
                let (target, content) = (*target, content.clone());
                let attr = AttrReply::decode(self.replica.run(Body::CloneData(ask)).unwrap()).unwrap().attr;
                assert_eq!((attr.ino, attr.size), (target, content.len() as u64 * BLOCK));
                self.now.insert(to, (target, content));
            }
            Op::Unlink(name) => {
                let Some((ino, _)) = self.now.remove(NAMES[name]) else { return };
                self.replica.unlink(ROOT, NAMES[name], ino).unwrap();
                assert_eq!(code(self.replica.getattr(ino)), Some(Code::Stale));
            }
            Op::UnlinkOpen(name) => {
                let Some((ino, content)) = self.now.remove(NAMES[name]) else { return };
                self.replica.unlink(ROOT, NAMES[name], 0).unwrap();
                self.open.insert(ino, content);
            }
            Op::Reap => {
                for (ino, _) in std::mem::take(&mut self.open) {
                    self.replica.run(Body::Reap(Which { volume: VOLUME, ino })).unwrap();
                }
            }
            Op::Fold(name) => {
                let Some((ino, content)) = self.now.get(NAMES[name]) else { return };
                let (ino, content) = (*ino, content.clone());
                self.thaw(ino);
                let inode = inode::get(&self.replica.table, VOLUME, ino).unwrap();
                let top = self.osds.entry(inode.top()).or_default();
                for (block, value) in (0..).zip(content) {
                    top.entry(block).or_insert(value);
                }
                let head = self.replica.head.clone();
                let ask = FoldRequest { head, origin: Origin::default(), layer: inode.top() };
                self.replica.run(Body::FoldLayers(ask)).unwrap();
            }
            Op::Rename(from, to) => {
                let (from, to) = (NAMES[from], NAMES[to]);
                if from == to || !self.now.contains_key(from) {
                    return;
                }
                let replaced = self.now.get(to).map_or(0, |(ino, _)| *ino);
                self.replica.rename((ROOT, from), (ROOT, to), 0, replaced).unwrap();
                let moved = self.now.remove(from).unwrap();
                self.now.insert(to, moved);
            }
            Op::Snapshot => {
                let name = format!("s{}", self.stamp);
                self.stamp += 1;
                let reply = self.replica.run(Body::SnapshotCreate(self.ask(&name))).unwrap();
                let info = SnapshotReply::decode(reply).unwrap().snapshot;
                assert_eq!(code(self.replica.run(Body::SnapshotCreate(self.ask(&name)))), Some(Code::Exists));
                self.past.insert(info.id, self.now.clone());
            }
            Op::Remove(which) => {
                let ids: Vec<u64> = self.past.keys().copied().collect();
                let Some(id) = ids.get(usize::from(which) % ids.len().max(1)) else { return };
                let row = Table::get(&self.replica.table, &keys::snapshot(VOLUME, *id)).unwrap().unwrap();
                let info = proto::snapshot::SnapshotInfo::decode(&row[1..]).unwrap();
                let ask = self.ask(std::str::from_utf8(&info.name).unwrap());
                self.replica.run(Body::SnapshotRemove(ask.clone())).unwrap();
                assert_eq!(code(self.replica.run(Body::SnapshotRemove(ask))), Some(Code::NotFound));
                self.past.remove(id);
            }
            Op::Sweep(limit) => self.sweep(u32::from(limit)),
            Op::Begin(name) => {
                let Some((ino, content)) = self.now.get(NAMES[name]) else { return };
                let (ino, content) = (*ino, content.clone());
                let begun = coding::begin(&mut self.replica, ino, content.len() as u64 * BLOCK).unwrap();
                self.osds.insert(begun, (0..).zip(content.clone()).collect());
                self.encoding.insert(ino, (begun, content));
            }
            Op::Commit(name) => {
                let Some((ino, now)) = self.now.get(NAMES[name]) else { return };
                let Some((data, content)) = self.encoding.remove(ino) else { return };
                match coding::end(&mut self.replica, *ino, data, true) {
                    Ok(()) => assert_eq!(content, *now, "what was read is what it still is"),
                    Err(error) => assert_eq!(error.code, Code::Stale),
                }
            }
            Op::Drop(name) => {
                let Some((ino, _)) = self.now.get(NAMES[name]) else { return };
                let Some((data, _)) = self.encoding.get(ino) else { return };
                coding::end(&mut self.replica, *ino, *data, false).unwrap();
            }
        }
        self.collect();
    }

    fn sweep(&mut self, limit: u32) {
        while volume::live(&self.replica.table, VOLUME).unwrap().sweeping {
            self.replica.run(Body::SnapshotSweep(SnapshotSweep { volume: VOLUME, limit })).unwrap();
            self.collect();
        }
    }

    /// The leader's collector: objects of garbage go.
    fn collect(&mut self) {
        let garbage = collect::garbage(&self.replica.table, (0, 0), 1000).unwrap();
        let inos: Vec<u64> = garbage.into_iter().map(|garbage| garbage.ino).collect();
        for ino in &inos {
            self.osds.remove(ino);
        }
        self.replica.run(Body::Removed(Removed { volume: VOLUME, inos })).unwrap();
    }

    /// What a client reads of a file, through its layers.
    fn read(&self, inode: &inode::Inode) -> Content {
        let table = &self.replica.table;
        let layers = layers::shown(table, VOLUME, inode.top()).expect("what shows through exists");
        for layer in &layers {
            let row = inode::get_any(table, VOLUME, layer.data).unwrap();
            assert!(!row.shares().gone, "{layer:?} shows through and is gone");
        }
        let none = BTreeMap::new();
        let held = |layer: &layers::Shown, block: u64| {
            if !layer.layout.is_inline() {
                return self.osds.get(&layer.data).unwrap_or(&none).get(&block).copied();
            }
            let bytes = content::of(table, VOLUME, layer.data, &layer.layout).expect("it is kept here");
            (block == 0).then(|| u64::from_le_bytes(*bytes.first_chunk().unwrap()))
        };
        let block = |block: u64| {
            let mut shown = layers.iter().filter(|layer| block * BLOCK < layer.bytes);
            shown.find_map(|layer| held(layer, block)).unwrap_or(0)
        };
        (0..inode.attr.size / BLOCK).map(block).collect()
    }

    fn check_tree(&self, reader: &(impl Reader + ?Sized), tree: &Tree, what: &str) {
        for name in NAMES {
            let ask = EntryRequest { head: self.replica.head.clone(), parent: ROOT, name: name.into() };
            let found = read::lookup(reader, &ask).map_err(proto::error::WireError::from);
            match tree.get(name) {
                None => assert_eq!(code(found), Some(Code::NotFound), "{what}: {name}"),
                Some((ino, content)) => {
                    assert_eq!(found.unwrap().ino, *ino, "{what}: {name}");
                    let inode = inode::get(reader, VOLUME, *ino).unwrap();
                    assert_eq!(self.read(&inode), *content, "{what}: {name}");
                }
            }
        }
    }

    fn check(&self) {
        let table = &self.replica.table;
        self.check_tree(table, &self.now, "now");
        for (ino, content) in &self.open {
            assert_eq!(self.read(&inode::get(table, VOLUME, *ino).unwrap()), *content, "open {ino}");
        }
        for (id, tree) in &self.past {
            self.check_tree(&Past::new(table, *id), tree, &format!("snapshot {id}"));
        }
        fsck::check(table);
        let (findings, _) = repair::look(&self.replica);
        assert!(findings.is_empty(), "{findings:?}");
    }

    /// Everything goes: nothing may be left.
    fn end(&mut self) {
        self.run(&Op::Reap);
        while !self.past.is_empty() {
            self.run(&Op::Remove(0));
        }
        self.sweep(2);
        self.check();
        let table = &self.replica.table;
        let rows = |which: u8| {
            let prefix = keys::of_volume(which, VOLUME);
            Table::scan(table, &prefix, &prefix_end(&prefix), 1000).unwrap()
        };
        assert_eq!(rows(keys::table::PAST), [], "rows of the past are left");
        assert_eq!(rows(keys::table::SNAPSHOT), []);
        for name in 0..NAMES.len() {
            self.run(&Op::Unlink(name));
        }
        let table = &self.replica.table;
        let rows = |which: u8| {
            let prefix = keys::of_volume(which, VOLUME);
            Table::scan(table, &prefix, &prefix_end(&prefix), 1000).unwrap()
        };
        assert_eq!(rows(keys::table::ENCODING), [], "encodings are left");
        assert_eq!(rows(keys::table::FROZEN), [], "frozen data is left");
        assert_eq!(rows(keys::table::CONTENT), [], "what was in small files is left");
        assert_eq!(rows(keys::table::INODE).len(), 1, "inodes are left beside the root");
        let data: BTreeSet<&u64> =
            self.osds.iter().filter(|(_, blocks)| !blocks.is_empty()).map(|(ino, _)| ino).collect();
        assert_eq!(data, BTreeSet::new(), "objects are left");
        let record = volume::live(table, VOLUME).unwrap();
        assert_eq!((record.inodes, record.used_bytes), (1, 0));
    }
}

fn run(ops: &[Op]) {
    let mut world = World::new();
    for op in ops {
        world.run(op);
        world.check();
    }
    world.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn files_and_snapshots_show_what_they_should(ops in prop::collection::vec(op(), 1..60)) {
        run(&ops);
    }
}

#[test]
fn a_chain_of_layers_ends_and_folding_lets_it_go() {
    let mut world = World::new();
    world.run(&Op::Create(0));
    let ino = world.now["a"].0;
    for at in 0..200u8 {
        world.run(&Op::Write { name: 0, at: at % 7, count: 1 });
        world.run(&Op::Snapshot);
        if layers::shown(
            &world.replica.table,
            VOLUME,
            inode::get(&world.replica.table, VOLUME, ino).unwrap().top(),
        )
        .unwrap()
        .len()
            == layers::CHAIN_MAX
        {
            let thaw = world.replica.run(Body::Thaw(ThawFile { volume: VOLUME, ino, layout: None }));
            assert_eq!(code(thaw), Some(Code::Busy));
            // The newest is not in the way any more; its top can be folded.
            let newest = *world.past.keys().last().unwrap();
            let which = world.past.keys().position(|id| *id == newest).unwrap();
            world.run(&Op::Remove(u8::try_from(which).unwrap()));
            world.run(&Op::Fold(0));
            break;
        }
    }
    world.check();
    let top = inode::get(&world.replica.table, VOLUME, ino).unwrap().top();
    assert_eq!(layers::shown(&world.replica.table, VOLUME, top).unwrap().len(), 1);
    world.end();
}

#[test]
fn a_file_cloned_back_onto_its_source_keeps_the_shared_data() {
    let write = |name, at, count| Op::Write { name, at, count };
    let clone = |from, to| Op::Clone { from, snapshot: None, to };
    run(&[
        Op::Create(0),
        write(0, 0, 3),
        Op::Create(1),
        clone(0, 1),
        write(0, 1, 1),
        clone(1, 0),
        write(0, 0, 1),
        Op::Unlink(1),
        write(0, 2, 1),
    ]);
}

#[test]
fn a_file_whose_past_was_cloned_is_not_written_where_the_clone_shows_it() {
    let write = |name, at, count| Op::Write { name, at, count };
    run(&[
        Op::Create(0),
        Op::Create(1),
        write(0, 0, 2),
        Op::Snapshot,
        Op::Clone { from: 0, snapshot: Some(0), to: 1 },
        Op::Remove(0),
        write(0, 1, 1),
    ]);
}

#[test]
fn data_of_a_snapshot_is_where_its_replicas_went_since() {
    let mut world = World::new();
    let lists = |osds: &[u64]| vec![Column { osds: osds.to_vec() }];
    let layout = Layout { columns: lists(&[1, 2, 3]), replication: 1, view: 1, ..crate::harness::layout() };
    let request = MakeRequest {
        head: world.replica.head.clone(),
        parent: ROOT,
        name: b"a".to_vec(),
        mode: kind::FILE << 12 | 0o644,
        ..MakeRequest::default()
    };
    let made = world.replica.run(Body::Make(Make { request, layout: Some(layout) })).unwrap();
    let ino = AttrReply::decode(made).unwrap().attr.ino;
    let reply = world.replica.run(Body::SnapshotCreate(world.ask("s"))).unwrap();
    let id = SnapshotReply::decode(reply).unwrap().snapshot.id;
    let change = SetReplicasRequest {
        head: world.replica.head.clone(),
        ino,
        view: 1,
        columns: lists(&[2, 3, 4]),
        ..SetReplicasRequest::default()
    };
    world.replica.run(Body::SetReplicas(change)).unwrap();
    let table = &world.replica.table;
    let then = inode::get(&Past::new(table, id), VOLUME, ino).unwrap();
    assert_eq!(then.layout().unwrap().view, 1, "what the snapshot's own row says is of no use");
    let shown = layers::shown(table, VOLUME, then.top()).unwrap();
    assert_eq!((shown[0].layout.view, &shown[0].layout.columns), (2, &lists(&[2, 3, 4])));
}

#[test]
fn an_empty_clone_that_is_written_leaves_nothing_behind() {
    run(&[
        Op::Create(2),
        Op::Create(1),
        Op::Clone { from: 1, snapshot: None, to: 2 },
        Op::Write { name: 2, at: 0, count: 1 },
    ]);
}

#[test]
fn who_does_not_own_a_directory_makes_no_snapshot_of_it() {
    let mut world = World::new();
    let head = Head { uid: 1000, gid: 1000, permission_checked: false, ..world.replica.head.clone() };
    let ask = SnapshotRequest { head, ..world.ask("s") };
    assert_eq!(code(world.replica.run(Body::SnapshotCreate(ask))), Some(Code::NotPermitted));
    world.replica.mkdir(ROOT, "d", 0o755).unwrap();
    let bad = SnapshotRequest { ino: 77, ..world.ask("s") };
    assert_eq!(code(world.replica.run(Body::SnapshotCreate(bad))), Some(Code::NotFound));
    for name in ["", ".", "..", "a/b"] {
        assert!(world.replica.run(Body::SnapshotCreate(world.ask(name))).is_err(), "{name:?}");
    }
}
