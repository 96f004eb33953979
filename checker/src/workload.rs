//! What processes do: random calls, in rounds, each on objects of its own round. The same generator drives real system
//! calls and the file system in memory.

use crate::dice::Dice;
use crate::history::{FileOp, LockKind, LockOp, LogOp, Object, Operation, Outcome, RenameMode, TreeOp};

/// Cells of the file whose size never changes.
pub const FIXED_CELLS: u32 = 8;

/// Cells up to which the other file grows.
const GROWING_CELLS: u32 = 10;

/// Cells of the file with locks.
const LOCK_CELLS: u32 = 4;

/// Handles of a process in a tree.
const HANDLES: u16 = 3;

/// Kinds of calls, to be switched on one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Names, links, attributes, small contents.
    Names,
    /// Reads and writes of cells in a file of fixed size.
    Cells,
    /// Writes, truncations, holes: a file whose size changes.
    Sizes,
    /// Appends of one cell to that file as well.
    Grow,
    /// A log.
    Append,
    /// Locks.
    Locks,
}

/// All of them, with the names that the command line uses.
pub const CLASSES: [(Class, &str); 6] = [
    (Class::Names, "names"),
    (Class::Cells, "cells"),
    (Class::Sizes, "sizes"),
    (Class::Grow, "grow"),
    (Class::Append, "append"),
    (Class::Locks, "locks"),
];

/// The objects of a round.
#[derive(Debug, Clone, Copy)]
pub struct Round(pub u32);

impl Round {
    /// Its directory.
    #[must_use]
    pub fn tree(self) -> Object {
        Object::Tree(self.0)
    }

    /// Its file of fixed size.
    #[must_use]
    pub fn fixed(self) -> Object {
        Object::File(self.0 * 2)
    }

    /// Its file whose size changes.
    #[must_use]
    pub fn growing(self) -> Object {
        Object::File(self.0 * 2 + 1)
    }

    /// Its log.
    #[must_use]
    pub fn log(self) -> Object {
        Object::Log(self.0)
    }

    /// Its file with locks.
    #[must_use]
    pub fn locks(self) -> Object {
        Object::Locks(self.0)
    }

    /// What is done once before the processes begin.
    #[must_use]
    pub fn prepare(self, classes: &[Class]) -> Vec<(Object, Operation)> {
        let size = Operation::File(FileOp::Truncate { size: FIXED_CELLS });
        if classes.contains(&Class::Cells) { vec![(self.fixed(), size)] } else { Vec::new() }
    }

    /// What every client looks at when the processes are done.
    #[must_use]
    pub fn look(self, classes: &[Class]) -> Vec<(Object, Operation)> {
        let mut calls = Vec::new();
        if classes.contains(&Class::Names) {
            for path in ["", "d0", "d1"] {
                calls.push((self.tree(), Operation::Tree(TreeOp::List { path: path.into() })));
            }
            for path in PATHS {
                calls.push((self.tree(), Operation::Tree(TreeOp::Stat { path: path.into() })));
                calls.push((self.tree(), Operation::Tree(TreeOp::GetPath { path: path.into() })));
            }
        }
        let read = |count| Operation::File(FileOp::Read { at: 0, count });
        if classes.contains(&Class::Cells) {
            calls.push((self.fixed(), read(FIXED_CELLS)));
        }
        if classes.contains(&Class::Sizes) || classes.contains(&Class::Grow) {
            calls.push((self.growing(), Operation::File(FileOp::Size)));
            calls.push((self.growing(), read(GROWING_CELLS * 4)));
        }
        if classes.contains(&Class::Append) {
            calls.push((self.log(), Operation::Log(LogOp::Read)));
        }
        calls
    }
}

/// Every path that is used.
pub const PATHS: [&str; 9] = ["n0", "n1", "n2", "n3", "d0", "d1", "d0/n0", "d0/n1", "d1/n0"];

/// One process.
#[derive(Debug)]
pub struct Actor {
    /// Its number in the history.
    pub process: u16,
    dice: Dice,
    classes: Vec<Class>,
    tags: u32,
    open: [bool; HANDLES as usize],
    held: Vec<(LockKind, u32, u32)>,
    /// `fsync` is called too: it costs time.
    syncs: bool,
}

impl Actor {
    /// A process that makes calls of these classes.
    #[must_use]
    pub fn new(process: u16, seed: u64, classes: &[Class], syncs: bool) -> Self {
        let dice = Dice::new(seed.wrapping_mul(1009).wrapping_add(u64::from(process)));
        let (classes, open, held) = (classes.to_vec(), [false; HANDLES as usize], Vec::new());
        Self { process, dice, classes, tags: 0, open, held, syncs }
    }

    /// The next call.
    pub fn next(&mut self, round: Round) -> (Object, Operation) {
        let class = self.classes[self.dice.below(self.classes.len() as u64) as usize];
        match class {
            Class::Names => (round.tree(), Operation::Tree(self.name_call())),
            Class::Cells => (round.fixed(), Operation::File(self.cell_call())),
            Class::Sizes => (round.growing(), Operation::File(self.size_call())),
            Class::Grow => (round.growing(), Operation::File(self.grow_call())),
            Class::Append if self.dice.one_in(4) => (round.log(), Operation::Log(LogOp::Read)),
            Class::Append => (round.log(), Operation::Log(LogOp::Append { tag: self.tag() })),
            Class::Locks => (round.locks(), Operation::Lock(self.lock_call())),
        }
    }

    /// What it must do before the round can end.
    #[must_use]
    pub fn finish(&self, round: Round) -> Vec<(Object, Operation)> {
        let mut calls = Vec::new();
        for (kind, at, count) in &self.held {
            let unlock = LockOp::Unlock { kind: *kind, at: *at, count: *count };
            calls.push((round.locks(), Operation::Lock(unlock)));
        }
        for handle in (0..HANDLES).filter(|handle| self.open[usize::from(*handle)]) {
            calls.push((round.tree(), Operation::Tree(TreeOp::Close { handle })));
        }
        calls
    }

    /// Tells it what came of a call.
    pub fn learn(&mut self, operation: &Operation, outcome: &Outcome) {
        match operation {
            Operation::Tree(TreeOp::Create { handle, .. } | TreeOp::Open { handle, .. }) => {
                self.open[usize::from(*handle)] = outcome.is_ok();
            }
            Operation::Tree(TreeOp::Close { handle }) => self.open[usize::from(*handle)] = false,
            Operation::Lock(LockOp::Lock { kind, at, count, .. })
                if !matches!(outcome, Outcome::Failed(_)) =>
            {
                self.held.push((*kind, *at, *count));
            }
            Operation::Lock(LockOp::Unlock { kind, at, count }) if outcome.is_ok() => {
                self.held.retain(|held| *held != (*kind, *at, *count));
            }
            _ => {}
        }
    }

    /// Its handles and locks are gone.
    pub fn crashed(&mut self) {
        self.open = [false; HANDLES as usize];
        self.held.clear();
    }

    fn tag(&mut self) -> u32 {
        self.tags += 1;
        (u32::from(self.process) + 1) << 20 | self.tags & 0xf_ffff
    }

    fn path(&mut self) -> String {
        PATHS[self.dice.weighted(&[6, 6, 4, 3, 3, 2, 3, 2, 2])].into()
    }

    fn handle(&mut self, open: bool) -> Option<u16> {
        let start = self.dice.below(u64::from(HANDLES)) as u16;
        (0..HANDLES).map(|by| (start + by) % HANDLES).find(|handle| self.open[usize::from(*handle)] == open)
    }

    fn name_call(&mut self) -> TreeOp {
        let syncs = if self.syncs { 12 } else { 0 };
        let weights = [5, 3, 12, 5, 4, 8, 5, 4, 3, 9, 12, 5, 5, 3, 5, 5, 7, syncs];
        let choice = self.dice.weighted(&weights);
        let path = self.path();
        let used = self.handle(true);
        match (choice, used, self.handle(false)) {
            (0, _, _) => {
                let path = ["d0", "d1", "n3"][self.dice.below(3) as usize].into();
                TreeOp::Mkdir { path, mode: 0o755 }
            }
            (1, _, _) => TreeOp::Rmdir { path: ["d0", "d1", "n3"][self.dice.below(3) as usize].into() },
            (2, _, Some(handle)) => {
                TreeOp::Create { path, mode: 0o644, exclusive: self.dice.one_in(2), handle }
            }
            (3, _, Some(handle)) => TreeOp::Open { path, handle },
            (2..=4, Some(handle), _) => TreeOp::Close { handle },
            (5, _, _) => TreeOp::Unlink { path },
            (6, _, _) => TreeOp::Link { from: path, to: self.path() },
            (7, _, _) => TreeOp::Symlink { target: format!("to-{}", self.tag()), path },
            (8, _, _) => TreeOp::Readlink { path },
            (9, _, _) => {
                let mode = match self.dice.below(6) {
                    0 => RenameMode::NoReplace,
                    1 => RenameMode::Exchange,
                    _ => RenameMode::Replace,
                };
                TreeOp::Rename { from: path, to: self.path(), mode }
            }
            (11, _, _) => TreeOp::List { path: ["", "", "d0"][self.dice.below(3) as usize].into() },
            (12, _, _) => TreeOp::Chmod { path, mode: [0o600, 0o644, 0o640][self.dice.below(3) as usize] },
            (13, Some(handle), _) => TreeOp::StatHandle { handle },
            (14, Some(handle), _) => TreeOp::Put { handle, tag: self.tag() },
            (15, Some(handle), _) => TreeOp::Get { handle },
            (16, _, _) => TreeOp::GetPath { path },
            (17, Some(handle), _) if self.dice.one_in(2) => TreeOp::Sync { handle },
            (17, _, _) => TreeOp::SyncNames,
            _ => TreeOp::Stat { path },
        }
    }

    fn cell_call(&mut self) -> FileOp {
        let at = self.dice.below(u64::from(FIXED_CELLS)) as u32;
        let count = 1 + self.dice.below(u64::from((FIXED_CELLS - at).min(3))) as u32;
        match self.dice.below(12) {
            0..5 => FileOp::Write { at, count, tag: self.tag() },
            5 if self.syncs => FileOp::Sync,
            6 => FileOp::Read { at: 0, count: FIXED_CELLS },
            _ => FileOp::Read { at, count },
        }
    }

    fn size_call(&mut self) -> FileOp {
        let at = self.dice.below(u64::from(GROWING_CELLS)) as u32;
        let count = 1 + self.dice.below(3) as u32;
        match self.dice.below(20) {
            0..5 => FileOp::Write { at, count, tag: self.tag() },
            5 => FileOp::Truncate { size: at },
            6 => FileOp::Truncate { size: at / 2 },
            7 => FileOp::Allocate { at, count },
            8 => FileOp::Punch { at, count },
            9..12 => FileOp::Size,
            12 => FileOp::SeekData { at },
            13 => FileOp::SeekHole { at },
            14 if self.syncs => FileOp::Sync,
            15 => FileOp::Read { at: 0, count: GROWING_CELLS + 4 },
            _ => FileOp::Read { at, count },
        }
    }

    fn grow_call(&mut self) -> FileOp {
        // The order of overlapping appends is open until somebody reads: many reads keep the search short.
        match self.dice.below(8) {
            0..3 => FileOp::Append { tag: self.tag() },
            3 => FileOp::Truncate { size: self.dice.below(4) as u32 },
            4 => FileOp::Size,
            _ => FileOp::Read { at: 0, count: GROWING_CELLS + 4 },
        }
    }

    fn lock_call(&mut self) -> LockOp {
        if let Some(place) = self.held.len().checked_sub(1)
            && (self.held.len() > 2 || self.dice.one_in(2))
        {
            let (kind, at, count) = self.held[self.dice.below(place as u64 + 1) as usize];
            return LockOp::Unlock { kind, at, count };
        }
        let kind = if self.dice.one_in(3) { LockKind::Flock } else { LockKind::Fcntl };
        let at = self.dice.below(u64::from(LOCK_CELLS)) as u32;
        let (at, count) = match kind {
            LockKind::Flock => (0, 1),
            LockKind::Fcntl => (at, 1 + self.dice.below(u64::from((LOCK_CELLS - at).min(2))) as u32),
        };
        let exclusive = self.dice.one_in(2);
        // Converting a flock is not one step, and who waits while holding something may wait for ever.
        let again = |(held, from, len): &(LockKind, u32, u32)| {
            *held == kind && (kind == LockKind::Flock || (*from < at + count && at < *from + *len))
        };
        if let Some((kind, at, count)) = self.held.iter().find(|held| again(held)) {
            return LockOp::Unlock { kind: *kind, at: *at, count: *count };
        }
        let wait = self.held.is_empty() && self.dice.one_in(4);
        LockOp::Lock { kind, exclusive, at, count, wait }
    }
}
