//! Room on the file system below an OSD: what clients may take of it, and what is kept for work that must go on on a
//! full disk. See `docs/protocols/osd-write.md`, "A full disk".
//!
//! ```text
//!   the file system:  used | free for clients | floor: journals, table | reserve (a file)
//! ```
//!
//! Clients' data may grow into what is free above the floor. Their journal entries may go into the upper half of the
//! floor. Data that a primary has numbered may take the floor and a quarter of the reserve, for some replica may have it already.
//! Everything else takes what there is, and when there is nothing the reserve, step by step.

/// What is kept, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Kept {
    /// In a file of the OSD's own, which nobody else can take.
    pub(crate) reserve: u64,
    /// Free, as far as this OSD has a say.
    pub(crate) floor: u64,
}

/// Least and most that is kept in either way.
const KEPT_MIN: u64 = 4 << 20;
const KEPT_MAX: u64 = 128 << 20;
/// Parts of the capacity that are kept in either way.
const KEPT_PART: u64 = 32;
/// The reserve is given up in so many steps: whoever fills the disk may take each of them away from us.
const STEPS: u64 = 8;
/// The part of the reserve that data may take that a primary has numbered.
const NUMBERED_PART: u64 = 4;
/// After so many bytes were taken one looks again what others have taken.
const LOOK_AGAIN: u64 = 1 << 20;

impl Kept {
    /// For an OSD that may use `capacity` bytes, one of `sharers` on the same file system: each of them stops at the same
    /// free space.
    pub(crate) fn of(capacity: u64, sharers: u64) -> Self {
        let part = (capacity / KEPT_PART).clamp(KEPT_MIN, KEPT_MAX);
        Self { reserve: part, floor: part.saturating_mul(sharers) }
    }
}

/// Why clients get no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The table lacks what the journal has, since the start.
    Unsettled,
    /// The reserve is not whole.
    Reserve {
        /// Bytes that are missing.
        missing: u64,
    },
    /// Even the journal has reached what is kept.
    Floor {
        /// Bytes that are free.
        free: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    kept: Kept,
    /// Bytes that the reserve has.
    held: u64,
    /// Bytes free when it was last looked, less those taken since.
    free: u64,
    /// Taken since.
    unseen: u64,
    settled: bool,
}

impl Room {
    /// `held`: what the reserve has.
    pub(crate) fn new(kept: Kept, held: u64, free: u64) -> Self {
        Self { kept, held, free, unseen: 0, settled: false }
    }

    /// So much is free, as the file system says.
    pub(crate) fn saw(&mut self, free: u64) {
        (self.free, self.unseen) = (free, 0);
    }

    /// We took something. True: look how much is left.
    pub(crate) fn took(&mut self, bytes: u64) -> bool {
        self.free = self.free.saturating_sub(bytes);
        self.unseen = self.unseen.saturating_add(bytes);
        self.unseen >= LOOK_AGAIN
    }

    /// The table has everything that was found at the start.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
    }

    /// Bytes by which data of clients may grow.
    pub(crate) fn growable(&self) -> u64 {
        if self.settled && self.held >= self.kept.reserve {
            self.free.saturating_sub(self.kept.floor)
        } else {
            0
        }
    }

    /// Why clients may not even overwrite what they have; `None`: they may.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        if !self.settled {
            return Some(Refusal::Unsettled);
        }
        if self.held < self.kept.reserve {
            return Some(Refusal::Reserve { missing: self.kept.reserve - self.held });
        }
        (self.free < self.kept.floor / 2).then_some(Refusal::Floor { free: self.free })
    }

    /// The same for data that its column's primary has numbered.
    pub(crate) fn refusal_of_numbered(&self) -> Option<Refusal> {
        if !self.settled {
            return Some(Refusal::Unsettled);
        }
        let missing = self.kept.reserve.saturating_sub(self.held);
        (missing > self.kept.reserve / NUMBERED_PART).then_some(Refusal::Reserve { missing })
    }

    /// What a primary may promise of the growable bytes: its members may have the same disk, and so may other primaries.
    pub(crate) fn promisable(&self) -> u64 {
        let sharers = self.sharers();
        self.growable() / (sharers * sharers)
    }

    /// OSDs on the file system.
    pub(crate) fn sharers(&self) -> u64 {
        self.kept.floor.checked_div(self.kept.reserve).unwrap_or(1).max(1)
    }

    /// Less is free than there should be: what can be given back should be.
    pub(crate) fn is_tight(&self) -> bool {
        self.free < self.kept.floor || self.held < self.kept.reserve
    }

    /// Whether `bytes` more can be written now by whoever must.
    pub(crate) fn has(&self, bytes: u64) -> bool {
        self.free >= bytes
    }

    fn step(&self) -> u64 {
        self.kept.reserve.div_ceil(STEPS).max(1)
    }

    /// What the reserve has after the next step down; `None`: there is nothing left of it.
    pub(crate) fn smaller(&self) -> Option<u64> {
        (self.held > 0).then(|| self.held.saturating_sub(self.step()))
    }

    /// The same for data that a primary has numbered: it may not take more than its part.
    pub(crate) fn smaller_for_numbered(&self) -> Option<u64> {
        let least = self.kept.reserve - self.kept.reserve / NUMBERED_PART;
        self.smaller().filter(|smaller| *smaller >= least)
    }

    /// What the reserve may have again. A half of the floor stays free.
    pub(crate) fn larger(&self) -> Option<u64> {
        let missing = self.kept.reserve.checked_sub(self.held).filter(|missing| *missing > 0)?;
        let may = self.free.saturating_sub(self.kept.floor / 2).min(missing);
        (may == missing || may >= self.step()).then_some(self.held + may)
    }

    /// The reserve has so many bytes now.
    pub(crate) fn holds(&mut self, bytes: u64) {
        self.held = bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_kept_follows_the_size_of_the_disk() {
        assert_eq!(Kept::of(200 << 20, 3), Kept { reserve: 200 << 15, floor: 3 * (200 << 15) });
        assert_eq!(Kept::of(8 << 40, 1), Kept { reserve: KEPT_MAX, floor: KEPT_MAX });
        assert_eq!(Kept::of(1, 1).reserve, KEPT_MIN);
    }

    #[test]
    fn clients_wait_until_the_table_has_everything_and_the_reserve_is_whole() {
        let kept = Kept { reserve: 80, floor: 100 };
        let mut room = Room::new(kept, 0, 1000);
        assert_eq!((room.refusal(), room.growable()), (Some(Refusal::Unsettled), 0));
        room.settle();
        assert_eq!((room.refusal(), room.growable()), (Some(Refusal::Reserve { missing: 80 }), 0));
        assert_eq!(room.larger(), Some(80));
        room.holds(80);
        room.saw(920);
        assert_eq!((room.refusal(), room.growable(), room.larger()), (None, 820, None));
        room.saw(99);
        assert_eq!((room.refusal(), room.growable(), room.is_tight()), (None, 0, true));
        room.saw(49);
        assert_eq!(room.refusal(), Some(Refusal::Floor { free: 49 }));
    }

    #[test]
    fn what_was_numbered_takes_a_quarter_of_the_reserve_and_a_primary_promises_little() {
        let mut room = Room::new(Kept { reserve: 80, floor: 240 }, 80, 900 + 240);
        assert_eq!((room.refusal_of_numbered(), room.promisable()), (Some(Refusal::Unsettled), 0));
        room.settle();
        assert_eq!((room.sharers(), room.promisable()), (3, 100));
        room.saw(0);
        let mut taken = Vec::new();
        while let Some(smaller) = room.smaller_for_numbered() {
            room.holds(smaller);
            taken.push(smaller);
        }
        assert_eq!((taken, room.refusal_of_numbered()), (vec![70, 60], None));
        assert!(room.refusal().is_some() && room.smaller() == Some(50), "the rest is for what gives room");
        room.holds(50);
        assert_eq!(room.refusal_of_numbered(), Some(Refusal::Reserve { missing: 30 }));
    }

    #[test]
    fn a_reserve_that_comes_back_in_parts_is_not_made_of_crumbs() {
        let mut room = Room::new(Kept { reserve: 80, floor: 100 }, 40, 55);
        assert_eq!(room.larger(), None, "less than a step");
        room.saw(65);
        assert_eq!(room.larger(), Some(55));
        let mut room = Room::new(Kept { reserve: 80, floor: 100 }, 75, 55);
        assert_eq!(room.larger(), Some(80), "the last bit of it");
        room.saw(54);
        assert_eq!(room.larger(), None);
    }

    proptest! {
        /// Whatever comes: clients grow only into what is above the floor while the reserve is whole; the reserve can be given
        /// up to the last byte in a bounded number of steps, and taking it back leaves half of the floor.
        #[test]
        fn what_is_kept_is_kept(reserve in 0..1000u64, floor in 0..1000u64, held in 0..1000u64, free in 0..4000u64, took in 0..4000u64) {
            let held = held.min(reserve);
            let mut room = Room::new(Kept { reserve, floor }, held, free);
            room.settle();
            room.took(took);
            let left = free.saturating_sub(took);
            if room.growable() > 0 {
                prop_assert!(held == reserve && left - room.growable() >= floor);
                prop_assert_eq!(room.refusal(), None);
            }
            if let Some(larger) = room.larger() {
                prop_assert!(larger <= reserve && left - (larger - held) >= floor / 2);
            }
            if let Some(smaller) = room.smaller_for_numbered() {
                prop_assert!(held - smaller <= reserve / NUMBERED_PART && smaller >= reserve - reserve / NUMBERED_PART);
                prop_assert_eq!(room.refusal_of_numbered(), None);
            }
            prop_assert!(room.promisable() <= room.growable());
            let mut steps = 0;
            while let Some(smaller) = room.smaller() {
                prop_assert!(smaller < room.held);
                room.holds(smaller);
                steps += 1;
            }
            prop_assert!(room.held == 0 && steps <= STEPS);
        }
    }
}
