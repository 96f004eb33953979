//! The locks of one file as a list, without overlaps of one owner: what stands in the way, taking and freeing.
//!
//! Pure; the MRC (rows) and a client that decides alone (`docs/protocols/locks.md`) use the same.

use crate::mrc::HeldLock as Held;

/// `F_RDLCK`.
pub const READ: u32 = 0;
/// `F_WRLCK`.
pub const WRITE: u32 = 1;
/// `F_UNLCK`.
pub const UNLOCK: u32 = 2;
/// Most locks of one inode.
pub const LOCKS_PER_INODE: usize = 4096;

/// Who holds or wants a lock: (session, owner within it).
pub type Owner = (u64, u64);

impl Held {
    /// Who holds it.
    #[must_use]
    pub fn by(&self) -> Owner {
        (self.session, self.owner)
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start <= end && start <= self.end
    }

    /// Whether it stands in the way of `wanted`.
    #[must_use]
    pub fn stops(&self, wanted: &Self) -> bool {
        self.flock == wanted.flock
            && self.by() != wanted.by()
            && self.overlaps(wanted.start, wanted.end)
            && (wanted.kind == WRITE || (wanted.kind == READ && self.kind == WRITE))
    }
}

/// Locks of others that stand in the way of `wanted`, lowest first.
#[must_use]
pub fn conflicts(locks: &[Held], wanted: &Held) -> Vec<Held> {
    let mut found: Vec<Held> = locks.iter().filter(|held| held.stops(wanted)).copied().collect();
    found.sort_by_key(|held| (held.start, held.end, held.by()));
    found
}

/// Makes `change` true: its owner has that lock, or with [`UNLOCK`] none, on its range.
pub fn apply(locks: &mut Vec<Held>, change: &Held) {
    cut(locks, change);
    if change.kind != UNLOCK {
        insert(locks, *change);
    }
}

/// Takes the range out of the owner's locks; one that reaches over both ends is split.
fn cut(locks: &mut Vec<Held>, change: &Held) {
    let (start, end) = (change.start, change.end);
    let mut kept = Vec::with_capacity(locks.len() + 1);
    for held in locks.drain(..) {
        if held.by() != change.by() || held.flock != change.flock || !held.overlaps(start, end) {
            kept.push(held);
            continue;
        }
        if held.start < start {
            kept.push(Held { end: start - 1, ..held });
        }
        if held.end > end {
            kept.push(Held { start: end + 1, ..held });
        }
    }
    *locks = kept;
}

/// Adds a lock, merged with the owner's adjacent ones of the same kind; keeps the list sorted.
fn insert(locks: &mut Vec<Held>, mut new: Held) {
    locks.retain(|held| {
        let same = held.by() == new.by() && held.flock == new.flock && held.kind == new.kind;
        let adjacent = held.end.saturating_add(1) >= new.start && new.end.saturating_add(1) >= held.start;
        if same && adjacent {
            new.start = new.start.min(held.start);
            new.end = new.end.max(held.end);
        }
        !(same && adjacent)
    });
    locks.push(new);
    locks.sort_by_key(|held| (held.start, held.end, held.by(), held.flock));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Locks of one owner and kind as a map from byte to kind, against a model that knows single bytes only.
    #[test]
    fn split_and_merge_agree_with_single_bytes() {
        let mut locks = Vec::new();
        let mut model = [None; 16];
        let mut seed = 7u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (a, b, kind) =
                (seed >> 33 & 15, seed >> 40 & 15, u32::try_from(seed >> 50 & 0xff).unwrap() % 3);
            let (start, end) = (a.min(b), a.max(b));
            apply(&mut locks, &Held { session: 1, owner: 1, start, end, kind, pid: 0, flock: false });
            model[usize::try_from(start).unwrap()..=usize::try_from(end).unwrap()].fill(None);
            if kind != UNLOCK {
                model[usize::try_from(start).unwrap()..=usize::try_from(end).unwrap()].fill(Some(kind));
            }
            let mut seen = [None; 16];
            for held in &locks {
                for byte in held.start..=held.end {
                    assert_eq!(
                        seen[usize::try_from(byte).unwrap()].replace(held.kind),
                        None,
                        "overlap in {locks:?}"
                    );
                }
            }
            assert_eq!(seen, model);
            assert!(
                locks.windows(2).all(|pair| pair[0].end + 1 < pair[1].start || pair[0].kind != pair[1].kind)
            );
        }
    }
}
