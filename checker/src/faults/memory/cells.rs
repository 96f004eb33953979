//! Files of the file system in memory.

use super::{Bug, Memory, Thing};
use crate::dice::Dice;
use crate::history::{Call, Cell, FileOp, Outcome, Value};

/// A file.
#[derive(Debug, Clone, Default)]
pub(super) struct Cells {
    now: Vec<u32>,
    /// Contents since the last sync, that one included.
    past: Vec<Vec<u32>>,
    /// What each cell held before.
    before: Vec<u32>,
    /// What the last truncation cut off, from where.
    cut: (usize, Vec<u32>),
}

impl Cells {
    pub(super) fn lose_power(&mut self, dice: &mut Dice, bug: Option<Bug>) {
        if matches!(bug, Some(Bug::SyncLosesData | Bug::SyncLosesSize)) {
            self.past.insert(0, Vec::new());
        }
        self.past.push(self.now.clone());
        let chosen = dice.below(self.past.len() as u64) as usize;
        let mut left = self.past.swap_remove(chosen);
        if bug == Some(Bug::SyncLosesData) {
            // The size is there, the data is not.
            left.resize(self.now.len(), 0);
        }
        *self = Self { now: left, ..Self::default() };
    }

    fn change(&mut self) -> &mut Vec<u32> {
        self.past.push(self.now.clone());
        if self.past.len() > 64 {
            self.past.remove(1);
        }
        self.before.clone_from(&self.now);
        &mut self.now
    }

    fn write(&mut self, at: usize, count: usize, tag: u32) {
        let cells = self.change();
        if cells.len() < at + count {
            cells.resize(at + count, 0);
        }
        cells[at..at + count].fill(tag);
    }

    fn resize(&mut self, size: usize, keeps: bool) {
        let old = self.now.len();
        if size < old {
            self.cut = (size, self.now[size..].to_vec());
        }
        let cut = self.cut.clone();
        let cells = self.change();
        cells.resize(size, 0);
        if keeps && size > old {
            for (place, tag) in (cut.0..).zip(&cut.1) {
                if place >= old && place < size {
                    cells[place] = *tag;
                }
            }
        }
    }
}

fn cells_of(tags: &[u32]) -> Vec<Cell> {
    tags.iter().map(|tag| if *tag == 0 { Cell::Zero } else { Cell::Tag(*tag) }).collect()
}

fn done() -> Outcome {
    Outcome::Ok(Value::Nothing)
}

impl Memory {
    fn cells(&mut self, call: &Call) -> &mut Cells {
        let thing = self.things.entry(call.object).or_insert_with(|| super::empty(call.object));
        match thing {
            Thing::File(cells) => cells,
            // Objects keep their kind: `perform` made this one from the object's own.
            _ => unreachable!("a file holds cells"),
        }
    }

    /// What the client saw last.
    fn known(&self, call: &Call) -> Vec<u32> {
        match self.views.get(&(call.client, call.object)) {
            Some(Thing::File(cells)) => cells.now.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn file_call(&mut self, call: &Call, op: &FileOp) -> Outcome {
        match *op {
            FileOp::Write { at, count, tag } => self.write_cells(call, at as usize, count as usize, tag),
            FileOp::Append { tag } => self.append_cell(call, tag),
            FileOp::Truncate { size } => self.truncate(call, size as usize),
            FileOp::Allocate { at, count } => self.allocate(call, at as usize, count as usize),
            FileOp::Punch { at, count } => self.punch(call, at as usize, count as usize),
            FileOp::Sync => {
                self.cells(call).past.clear();
                done()
            }
            FileOp::Size => {
                let known = self.known(call).len();
                let size = self.cells(call).now.len();
                let size = if known > 0 && self.strikes(Bug::SizeStale) { known } else { size };
                Outcome::Ok(Value::Offset(size as u32))
            }
            FileOp::Read { at, count } => self.read_cells(call, at as usize, count as usize),
            FileOp::SeekData { at } => self.seek_data(call, at as usize),
            FileOp::SeekHole { at } => self.seek_hole(call, at as usize),
        }
    }

    fn write_cells(&mut self, call: &Call, at: usize, count: usize, tag: u32) -> Outcome {
        let object = call.object;
        let later = move |at: usize, count: usize| {
            move |memory: &mut Self| {
                if let Some(Thing::File(cells)) = memory.things.get_mut(&object) {
                    cells.write(at, count, tag);
                }
            }
        };
        if self.strikes(Bug::WriteLost) {
            return done();
        }
        if self.strikes(Bug::WriteFailedApplies) {
            self.cells(call).write(at, count, tag);
            return Outcome::Failed(libc::ENOSPC);
        }
        if self.strikes(Bug::WriteLate) {
            self.late(later(at, count));
            return done();
        }
        if count > 1 && self.strikes(Bug::WriteTorn) {
            self.cells(call).write(at, 1, tag);
            self.late(later(at + 1, count - 1));
            return done();
        }
        let size = self.cells(call).now.len();
        if at + count < size && self.strikes(Bug::WriteMisdirected) {
            self.cells(call).write(at + 1, count, tag);
            return done();
        }
        let before = self.cells(call).now.clone();
        let known = self.known(call);
        self.cells(call).write(at, count, tag);
        if self.strikes(Bug::WriteUndone) {
            self.late(move |memory| {
                if let Some(Thing::File(cells)) = memory.things.get_mut(&object)
                    && cells.now.len() == before.len()
                {
                    cells.now[at..at + count].copy_from_slice(&before[at..at + count]);
                }
            });
        }
        if let (Some(stale), true) = (known.get(at + count).copied(), at + count < size)
            && self.strikes(Bug::WriteTakesNeighbour)
        {
            self.cells(call).now[at + count] = stale;
        }
        if known.len() > at + count && self.strikes(Bug::SizeGoesBack) {
            let size = known.len();
            self.cells(call).now.resize(size, 0);
        }
        done()
    }

    fn append_cell(&mut self, call: &Call, tag: u32) -> Outcome {
        if self.strikes(Bug::AppendInFileLost) {
            return done();
        }
        let known = self.known(call).len();
        let size = self.cells(call).now.len();
        let at = if self.strikes(Bug::AppendOverwrites) { known.min(size) } else { size };
        self.cells(call).write(at, 1, tag);
        done()
    }

    fn truncate(&mut self, call: &Call, size: usize) -> Outcome {
        if self.strikes(Bug::TruncateIgnored) {
            return done();
        }
        let keeps = self.bug == Some(Bug::TruncateKeepsBytes);
        let too_far = size > 0 && self.strikes(Bug::TruncateTooFar);
        self.cells(call).resize(size, keeps);
        if too_far {
            self.cells(call).now[size - 1] = 0;
        }
        done()
    }

    fn allocate(&mut self, call: &Call, at: usize, count: usize) -> Outcome {
        if self.strikes(Bug::AllocateKeepsSize) {
            return done();
        }
        let size = self.cells(call).now.len();
        let shrinks = self.strikes(Bug::AllocateShrinks);
        let clears = self.strikes(Bug::AllocateClears);
        let keeps = self.bug == Some(Bug::TruncateKeepsBytes);
        let cells = self.cells(call);
        if at + count > size || shrinks {
            cells.resize(at + count, keeps);
        }
        if clears {
            cells.now[at..at + count].fill(0);
        }
        done()
    }

    fn punch(&mut self, call: &Call, at: usize, count: usize) -> Outcome {
        if self.strikes(Bug::PunchIgnored) {
            return done();
        }
        let count = if self.strikes(Bug::PunchTooFar) { count + 1 } else { count };
        let grows = self.strikes(Bug::PunchGrows);
        let cells = self.cells(call).change();
        if grows && cells.len() < at + count {
            cells.resize(at + count, 0);
        }
        let (from, to) = (at.min(cells.len()), (at + count).min(cells.len()));
        cells[from..to].fill(0);
        done()
    }

    fn read_cells(&mut self, call: &Call, at: usize, count: usize) -> Outcome {
        let known = self.known(call);
        let stale = known.len() > at && self.strikes(Bug::ReadStale);
        let pages = self.strikes(Bug::TruncateKeepsRemotePages);
        let cells = self.cells(call).clone();
        let mut now = if stale { known.clone() } else { cells.now.clone() };
        if pages {
            for (tag, old) in now.iter_mut().zip(&known) {
                if *tag == 0 {
                    *tag = *old;
                }
            }
        }
        let (from, to) = (at.min(now.len()), (at + count).min(now.len()));
        let mut seen = cells_of(&now[from..to]);
        if self.strikes(Bug::ReadShort) {
            seen.pop();
        }
        for (place, cell) in seen.iter_mut().enumerate() {
            if *cell == Cell::Zero && self.strikes(Bug::ReadGarbage) {
                *cell = Cell::Garbage;
            }
            if *cell != Cell::Zero && self.strikes(Bug::ReadZeroes) {
                *cell = Cell::Zero;
            }
            let old = cells.before.get(from + place).copied();
            if let Some(old) = old.filter(|old| *old != now[from + place])
                && self.strikes(Bug::WriteTornInCell)
            {
                *cell = Cell::Torn(vec![old, now[from + place]]);
            }
        }
        Outcome::Ok(Value::Cells(seen))
    }

    fn seek_data(&mut self, call: &Call, at: usize) -> Outcome {
        let cells = self.cells(call).now.clone();
        let skips = self.strikes(Bug::SeekDataSkips);
        let mut found = (at..cells.len()).filter(|place| cells[*place] != 0);
        match if skips { found.nth(1) } else { found.next() } {
            Some(place) => Outcome::Ok(Value::Offset(place as u32)),
            None => Outcome::Failed(libc::ENXIO),
        }
    }

    fn seek_hole(&mut self, call: &Call, at: usize) -> Outcome {
        let cells = self.cells(call).now.clone();
        if at >= cells.len() {
            return Outcome::Failed(libc::ENXIO);
        }
        let hole = (at..cells.len()).find(|place| cells[*place] == 0).unwrap_or(cells.len());
        let found = if self.strikes(Bug::SeekHoleInData) { at } else { hole };
        Outcome::Ok(Value::Offset(found as u32))
    }
}
