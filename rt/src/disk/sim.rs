//! A disk in memory that can lose and tear what was not synced.
//!
//! Each file has a live and a durable image. A process crash keeps the live image; a machine crash goes back to
//! the durable one, plus, per unsynced write and as the caller's random numbers say, all, none or a torn prefix
//! (in whole 512-byte sectors) of it. Names have the same two images. Nothing here is survivable beyond that:
//! synced bytes are never lost; damage of synced bytes is injected by [`SimDisk::corrupt`] and must be detected.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::{Disk, DiskFile};

const SECTOR: usize = 512;

#[derive(Default)]
struct Node {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Unsynced changes in order.
    pending: Vec<Change>,
}

enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn run(&self, image: &mut Vec<u8>) {
        match self {
            Change::Write { offset, data } => {
                let end = offset + data.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset..end].copy_from_slice(data);
            }
            Change::SetLen(len) => image.resize(*len, 0),
        }
    }
}

type Shared = Arc<Mutex<Node>>;

#[derive(Default)]
struct State {
    live: BTreeMap<String, Shared>,
    durable: BTreeMap<String, Shared>,
    /// Every further write or sync fails (a dead disk), after this many more of them.
    fail_after: Option<u64>,
    /// What fits onto it, bytes; `None`: everything.
    size: Option<u64>,
}

impl State {
    fn free(&self) -> u64 {
        let used: u64 = self.live.values().map(|node| lock(node).live.len() as u64).sum();
        self.size.map_or(u64::MAX, |size| size.saturating_sub(used))
    }
}

/// See the module.
#[derive(Default, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine lost power. `choose(n)` gives a number below `n` and decides what became of each unsynced
    /// change; open files of before must not be used any more.
    pub fn lose_power(&self, mut choose: impl FnMut(u64) -> u64) {
        let mut state = lock(&self.state);
        // Each unsynced name change either reached the disk or did not, independently.
        let names: std::collections::BTreeSet<String> =
            state.live.keys().chain(state.durable.keys()).cloned().collect();
        let mut after = BTreeMap::new();
        for name in names {
            let kept = match (state.live.get(&name), state.durable.get(&name)) {
                (Some(live), Some(durable)) if Arc::ptr_eq(live, durable) => Some(live.clone()),
                (live, durable) => {
                    if crate::site!("disk.power.name_undone", choose(2) == 0) {
                        durable.cloned()
                    } else {
                        crate::site!("disk.power.name_kept");
                        live.cloned()
                    }
                }
            };
            if let Some(node) = kept {
                after.insert(name, node);
            }
        }
        for node in after.values() {
            let mut node = lock(node);
            let node = &mut *node;
            for change in std::mem::take(&mut node.pending) {
                match choose(4) {
                    0 => {
                        crate::site!("disk.power.write_lost", matches!(change, Change::Write { .. }));
                        crate::site!("disk.power.length_lost", matches!(change, Change::SetLen(_)));
                    }
                    1 => match change {
                        Change::Write { offset, mut data } => {
                            // Sectors of the medium: the first and the last may be written in part.
                            let first = offset / SECTOR;
                            let sectors = (offset + data.len()).div_ceil(SECTOR) - first;
                            let kept = usize::try_from(choose(sectors as u64 + 1)).unwrap_or(0);
                            let keep = ((first + kept) * SECTOR).saturating_sub(offset).min(data.len());
                            crate::site!("disk.power.write_torn", keep > 0 && keep < data.len());
                            data.truncate(keep);
                            Change::Write { offset, data }.run(&mut node.durable);
                        }
                        Change::SetLen(_) => {}
                    },
                    _ => {
                        crate::site!("disk.power.unsynced_kept");
                        change.run(&mut node.durable);
                    }
                }
            }
            node.live = node.durable.clone();
        }
        state.live.clone_from(&after);
        state.durable = after;
        state.fail_after = None;
    }

    /// Flips a bit of a file's durable and live bytes; `false` when there is no such byte.
    pub fn corrupt(&self, name: &str, offset: usize) -> bool {
        let state = lock(&self.state);
        let Some(node) = state.live.get(name) else { return false };
        let mut node = lock(node);
        if offset >= node.live.len() {
            return false;
        }
        node.live[offset] ^= 1;
        if offset < node.durable.len() {
            node.durable[offset] ^= 1;
        }
        true
    }

    /// After `changes` more writes, truncations and syncs every further one fails.
    pub fn fail_after(&self, changes: u64) {
        lock(&self.state).fail_after = Some(changes);
    }

    /// From now on so many bytes fit beside what is there; `None`: everything does.
    pub fn leave_room(&self, bytes: Option<u64>) {
        let mut state = lock(&self.state);
        let used: u64 = state.live.values().map(|node| lock(node).live.len() as u64).sum();
        state.size = bytes.map(|bytes| used + bytes);
    }

    /// From now on so many bytes fit onto it. What is there stays, also when it is more.
    pub fn resize(&self, size: u64) {
        lock(&self.state).size = Some(size);
    }

    /// Whether a file may grow by `bytes`.
    fn take(&self, bytes: u64) -> io::Result<()> {
        let state = lock(&self.state);
        if bytes > 0 && state.size.is_some() && bytes > state.free() {
            crate::site!("disk.full");
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn spend(&self) -> io::Result<()> {
        match &mut lock(&self.state).fail_after {
            Some(0) => {
                crate::site!("disk.dead");
                Err(io::Error::other("simulated disk failure"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        let node = match state.live.get(name) {
            Some(node) => node.clone(),
            None if create => {
                let node = Shared::default();
                state.live.insert(name.to_owned(), node.clone());
                node
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile { disk: self.clone(), node }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.state).live.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.spend()?;
        lock(&self.state).live.remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.spend()?;
        let mut state = lock(&self.state);
        let node = state.live.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.live.insert(to.to_owned(), node);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.spend()?;
        let mut state = lock(&self.state);
        state.durable = state.live.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.state).free())
    }
}

struct SimFile {
    disk: SimDisk,
    node: Shared,
}

impl SimFile {
    fn change(&self, change: Change) -> io::Result<()> {
        self.disk.spend()?;
        let end = match &change {
            Change::Write { offset, data } => offset + data.len(),
            Change::SetLen(len) => *len,
        };
        let before = lock(&self.node).live.len();
        let change = match (self.disk.take(end.saturating_sub(before) as u64), change) {
            (Ok(()), change) => change,
            // As a real one does: what fits is there.
            (Err(full), Change::Write { offset, mut data }) => {
                let fits = before + usize::try_from(self.disk.free_bytes()?).map_err(io::Error::other)?;
                data.truncate(fits.saturating_sub(offset));
                crate::site!("disk.full.part_written", !data.is_empty());
                let part = Change::Write { offset, data };
                let mut node = lock(&self.node);
                part.run(&mut node.live);
                node.pending.push(part);
                return Err(full);
            }
            (Err(full), _) => return Err(full),
        };
        let mut node = lock(&self.node);
        change.run(&mut node.live);
        node.pending.push(change);
        Ok(())
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let offset = position(offset)?;
        let node = lock(&self.node);
        let from = node.live.get(offset..offset + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(from);
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write { offset: position(offset)?, data: data.to_vec() })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.node).live.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(position(len)?))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len > self.len()? { self.set_len(len) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.spend()?;
        let mut node = lock(&self.node);
        node.durable = node.live.clone();
        node.pending.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_contract() {
        super::super::contract(|| Arc::new(SimDisk::new()));
    }

    #[test]
    fn power_loss_keeps_what_was_synced_and_may_lose_the_rest() {
        let disk = SimDisk::new();
        let file = disk.open("f", true).unwrap();
        disk.sync_dir().unwrap();
        file.write_at(b"synced", 0).unwrap();
        file.sync().unwrap();
        file.write_at(b"XXXXXX", 0).unwrap();
        disk.lose_power(|_| 0);
        assert_eq!(super::super::read(&disk, "f").unwrap().unwrap(), b"synced");
    }

    #[test]
    fn what_does_not_fit_is_there_in_part_and_fits_when_there_is_room() {
        let disk = SimDisk::new();
        let file = disk.open("f", true).unwrap();
        disk.resize(10);
        file.write_at(&[1; 8], 0).unwrap();
        let full = file.write_at(&[2; 8], 4).unwrap_err();
        assert!(super::super::is_full(&full) && file.set_len(11).is_err() && file.allocate(11).is_err());
        assert_eq!((disk.free_bytes().unwrap(), file.len().unwrap()), (0, 10));
        assert_eq!(super::super::read(&disk, "f").unwrap().unwrap(), [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
        file.set_len(8).unwrap();
        file.write_at(&[3; 4], 4).unwrap();
        disk.resize(12);
        file.write_at(&[2; 8], 4).unwrap();
        disk.remove("f").unwrap();
        assert_eq!(disk.free_bytes().unwrap(), 12);
    }

    #[test]
    fn power_loss_can_tear_a_write_at_a_sector() {
        let disk = SimDisk::new();
        let file = disk.open("f", true).unwrap();
        disk.sync_dir().unwrap();
        file.write_at(&[7; 2048], 0).unwrap();
        disk.lose_power(|n| u64::from(n > 2));
        assert_eq!(super::super::read(&disk, "f").unwrap().unwrap(), [7; 512]);
    }
}
