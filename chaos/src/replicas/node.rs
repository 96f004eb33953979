//! An OSD: the real engine per column, and a store that forgets what was not synced when the power goes.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use osd::engine::replication::{Column, Lists, Version, Work};
use osd::engine::trail::Trails;
use proto::dir::OsdMap;

use super::BLOCKS;
use super::wire::{Body, Waiter};
use crate::invariants::replicas_converge::Objects;
use crate::world::World;

/// What a change carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Payload {
    /// One block.
    Write { block: u32, value: u64 },
    /// All blocks become this value, as a cut makes them zero.
    Cut { value: u64 },
    /// A whole object, or that there is none.
    Copy(Option<Content>),
    /// What differs from another version; with a digest when that was found by comparing.
    Patch { base: Version, blocks: Vec<(u32, u64)>, digest: Option<u64> },
}

/// Objects whose changes are remembered: too few for all of them.
const TRAILS: usize = 3;

/// An object's content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Content {
    pub(super) version: Version,
    /// What the last cut left everywhere.
    ground: u64,
    blocks: BTreeMap<u32, u64>,
}

impl Content {
    pub(super) fn value(&self, block: u32) -> u64 {
        self.blocks.get(&block).copied().unwrap_or(self.ground)
    }

    /// All blocks.
    pub(super) fn values(&self) -> Vec<u64> {
        (0..BLOCKS).map(|block| self.value(block)).collect()
    }

    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (0..BLOCKS).for_each(|block| self.value(block).hash(&mut hasher));
        hasher.finish()
    }
}

/// A column on the disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    pub(super) objects: BTreeMap<u64, Content>,
    /// Adopted epoch, and the losses when it was written.
    pub(super) record: Option<(u64, u64)>,
}

/// Work under way.
#[derive(Debug)]
pub(super) struct Doing {
    pub(super) what: Work<Payload>,
}

/// A call under way, of the column in memory that made it.
#[derive(Debug)]
pub(super) struct Calling {
    /// As the column counts: from the start again after it was dropped from memory.
    pub(super) id: u64,
    pub(super) fetch: bool,
}

/// See the module.
pub(super) struct Node {
    pub(super) id: u64,
    pub(super) life: u64,
    pub(super) runs: bool,
    /// Stopped by a signal: nothing happens in it, messages wait.
    pub(super) paused: bool,
    pub(super) waiting: Vec<super::Event>,
    /// The disk has no room: some changes fail.
    pub(super) full: bool,
    /// Its next write of a block goes to another place of the disk.
    pub(super) misdirects: bool,
    /// Its next sync fails.
    pub(super) sync_fails: bool,
    pub(super) map: OsdMap,
    /// Maps and when they were heard of.
    pub(super) heard: Vec<(u64, Duration)>,
    pub(super) lease_until: Duration,
    pub(super) columns: BTreeMap<u64, Column<Payload, Waiter>>,
    pub(super) doing: BTreeMap<(u64, u64), Doing>,
    /// By the number of the call on the wire, which is not given twice: an answer that comes twice or late
    /// meets its own call or none.
    pub(super) calling: BTreeMap<(u64, u64), Calling>,
    pub(super) calls: u64,
    /// Page cache.
    pub(super) cached: BTreeMap<u64, Kept>,
    /// Objects whose bytes the disk would not give back as they were: known here, and given to nobody.
    pub(super) damaged: BTreeSet<(u64, u64)>,
    /// The lists of a column as heard of last.
    pub(super) lists: BTreeMap<u64, Lists>,
    /// Views promised, on the medium.
    pub(super) promised: BTreeMap<u64, u64>,
    /// What changed lately, by (column, object).
    pub(super) trails: Trails<(u64, u64)>,
    /// Medium.
    synced: BTreeMap<u64, Kept>,
    /// Losses of power.
    pub(super) losses: u64,
    /// When the next tick of a column is planned.
    pub(super) ticks: BTreeMap<u64, Duration>,
    /// The last number that a column gave which is not in memory any more.
    pub(super) numbers: u64,
}

impl Node {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            life: 0,
            runs: false,
            paused: false,
            waiting: Vec::new(),
            full: false,
            misdirects: false,
            sync_fails: false,
            map: OsdMap::default(),
            heard: Vec::new(),
            lease_until: Duration::ZERO,
            columns: BTreeMap::new(),
            doing: BTreeMap::new(),
            calling: BTreeMap::new(),
            calls: 0,
            cached: BTreeMap::new(),
            damaged: BTreeSet::new(),
            lists: BTreeMap::new(),
            promised: BTreeMap::new(),
            trails: Trails::new(TRAILS),
            synced: BTreeMap::new(),
            losses: 0,
            ticks: BTreeMap::new(),
            numbers: 0,
        }
    }

    /// A new life of the process.
    pub(super) fn start(&mut self) -> u64 {
        self.life += 1;
        self.runs = true;
        self.life
    }

    /// The process ends; its disk stays.
    pub(super) fn end(&mut self) {
        self.runs = false;
        self.paused = false;
        self.waiting.clear();
        self.map = OsdMap::default();
        self.heard.clear();
        self.lease_until = Duration::ZERO;
        self.columns.clear();
        self.lists.clear();
        self.doing.clear();
        self.calling.clear();
        self.ticks.clear();
        self.numbers = 0;
        self.trails = Trails::new(TRAILS);
    }

    /// The page cache goes: any part of what was not synced may be gone, object by object.
    pub(super) fn lose_power(&mut self, world: &mut World<super::Event>) {
        self.losses += 1;
        for (column, kept) in &mut self.cached {
            let synced = self.synced.get(column).cloned().unwrap_or_default();
            let objects: Vec<u64> = kept.objects.keys().chain(synced.objects.keys()).copied().collect();
            for object in objects {
                if world.percent(50) {
                    match synced.objects.get(&object) {
                        Some(content) => kept.objects.insert(object, content.clone()),
                        None => kept.objects.remove(&object),
                    };
                }
            }
            if world.percent(50) {
                kept.record = synced.record;
            }
        }
        self.synced = self.cached.clone();
        let cached = &self.cached;
        self.damaged.retain(|(column, object)| {
            cached.get(column).is_some_and(|kept| kept.objects.contains_key(object))
        });
    }

    /// Whether any object of the column is damaged.
    pub(super) fn has_damage(&self, column: u64) -> bool {
        self.damaged.iter().any(|(of, _)| *of == column)
    }

    pub(super) fn is_doubtful(&self, column: u64) -> bool {
        match self.cached.get(&column).and_then(|kept| kept.record) {
            Some((_, losses)) => losses != self.losses,
            None => self.losses > 0,
        }
    }

    pub(super) fn adopted(&self, column: u64) -> u64 {
        self.cached.get(&column).and_then(|kept| kept.record).map_or(0, |(adopted, _)| adopted)
    }

    pub(super) fn versions(&self, column: u64) -> Vec<(u64, Version)> {
        let objects = self.cached.get(&column).map(|kept| &kept.objects);
        objects.into_iter().flatten().map(|(object, content)| (*object, content.version)).collect()
    }

    pub(super) fn version(&self, column: u64, object: u64) -> Version {
        self.content(column, object).map(|content| content.version).unwrap_or_default()
    }

    pub(super) fn content(&self, column: u64, object: u64) -> Option<&Content> {
        self.cached.get(&column)?.objects.get(&object)
    }

    pub(super) fn objects_of(&self, column: u64) -> Objects {
        let objects = self.cached.get(&column).map(|kept| &kept.objects);
        let row = |content: &Content| (content.version.epoch, content.version.number, content.hash());
        objects.into_iter().flatten().map(|(object, content)| (*object, row(content))).collect()
    }

    /// Changes an object. False: it is not what the patch was made for.
    pub(super) fn apply(&mut self, column: u64, object: u64, version: Version, payload: &Payload) -> bool {
        let objects = &mut self.cached.entry(column).or_default().objects;
        let before = objects.get(&object).map(|content| content.version).unwrap_or_default();
        if let Payload::Patch { base, blocks, digest } = payload {
            let mut content = objects.get(&object).cloned().unwrap_or_default();
            content.blocks.extend(blocks.iter().copied());
            let fits = digest.is_none_or(|digest| content.hash() == digest);
            if before != *base || self.damaged.contains(&(column, object)) || !fits {
                return false;
            }
            content.version = version;
            objects.insert(object, content);
        }
        self.trace((column, object), before, version, payload);
        let objects = &mut self.cached.entry(column).or_default().objects;
        if matches!(payload, Payload::Cut { .. } | Payload::Copy(_)) {
            // The whole object is written anew.
            self.damaged.remove(&(column, object));
        }
        match payload {
            Payload::Write { block, value } => {
                let content = objects.entry(object).or_default();
                content.blocks.insert(*block, *value);
                content.version = version;
            }
            Payload::Cut { value } => {
                objects.insert(object, Content { version, ground: *value, blocks: BTreeMap::new() });
            }
            Payload::Copy(None) => {
                objects.remove(&object);
            }
            Payload::Copy(Some(content)) => {
                objects.insert(object, content.clone());
            }
            Payload::Patch { .. } => {}
        }
        true
    }

    /// Remembers what a change touched, as the store does.
    fn trace(&mut self, key: (u64, u64), before: Version, version: Version, payload: &Payload) {
        let (from, to) = ((before.epoch, before.number), (version.epoch, version.number));
        match payload {
            Payload::Write { block, .. } => {
                self.trails.step(key, from, to, [(*block, block + 1)].into_iter())
            }
            Payload::Cut { .. } => self.trails.step(key, from, to, [(0, BLOCKS)].into_iter()),
            Payload::Patch { blocks, digest: None, .. } => {
                self.trails.step(key, from, to, blocks.iter().map(|(block, _)| (*block, block + 1)));
            }
            Payload::Patch { .. } | Payload::Copy(_) => self.trails.forget(&key),
        }
    }

    /// What a replica with the version `has` lacks, as far as it is known here.
    pub(super) fn patch(&self, column: u64, object: u64, has: Version) -> Option<Body> {
        let content = self.content(column, object)?;
        let head = (content.version.epoch, content.version.number);
        let ranges = self.trails.since(&(column, object), head, (has.epoch, has.number))?;
        let numbers = ranges.into_iter().flat_map(|(from, to)| from..to);
        let blocks = numbers.map(|block| (block, content.value(block))).collect();
        let payload = Payload::Patch { base: has, blocks, digest: None };
        Some(Body::Copy { version: content.version, payload })
    }

    /// The same by comparing with what another one has. Equal checksums are no proof: some blocks that differ are missed.
    pub(super) fn compared(
        &self,
        column: u64,
        object: u64,
        theirs: &Content,
        misses: impl Fn(u32) -> bool,
    ) -> Option<Body> {
        let content = self.content(column, object)?;
        let differs = |block: &u32| content.value(*block) != theirs.value(*block) && !misses(*block);
        let blocks = (0..BLOCKS).filter(differs).map(|block| (block, content.value(block))).collect();
        let payload = Payload::Patch { base: theirs.version, blocks, digest: Some(content.hash()) };
        Some(Body::Copy { version: content.version, payload })
    }

    pub(super) fn adopt(&mut self, column: u64, epoch: u64) {
        let losses = self.losses;
        self.cached.entry(column).or_default().record = Some((epoch, losses));
    }

    /// Its objects of a column go; what it promised and adopted stays.
    pub(super) fn clear(&mut self, column: u64) {
        for kept in [&mut self.cached, &mut self.synced] {
            if let Some(kept) = kept.get_mut(&column) {
                kept.objects.clear();
            }
        }
        self.damaged.retain(|(of, _)| *of != column);
        for object in 0..super::OBJECTS {
            self.trails.forget(&(column, object));
        }
        self.doing.retain(|(of, _), _| *of != column);
        self.calling.retain(|(of, _), _| *of != column);
        self.ticks.remove(&column);
        if let Some(gone) = self.columns.remove(&column) {
            self.numbers = self.numbers.max(gone.numbers());
        }
        self.lists.remove(&column);
    }

    pub(super) fn sync(&mut self, column: u64) {
        let kept = self.cached.get(&column).cloned().unwrap_or_default();
        self.synced.insert(column, kept);
    }

    /// What an object is here, for whoever needs a copy.
    pub(super) fn copy(&self, column: u64, object: u64) -> Body {
        let content = self.content(column, object).cloned();
        let version = content.as_ref().map(|content| content.version).unwrap_or_default();
        Body::Copy { version, payload: Payload::Copy(content) }
    }
}
