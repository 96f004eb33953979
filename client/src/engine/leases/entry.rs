//! One inode's lease, what is kept under it, and what late answers must be measured against.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use proto::mrc::{Attr, LEASE_WRITE, LeaseGrant, Recall};
use proto::osd::Turn;

use super::crowd::Crowd;
use super::{KEEPS_ATTR, KEEPS_NAMES, Ticket, Use};

/// Most names of one directory that are kept in their order.
const ORDER_MAX: usize = 4096;
/// Bits of a lease.
const BITS: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Held and usable.
    pub(super) bits: u32,
    /// Recalled and not yet returned.
    pub(super) losing: u32,
    /// An answer says that these may not be used any more: they are being recalled, and the recall was not heard yet. Until it
    /// is, what is kept under them is not told, so they are held as before.
    pub(super) lapsing: u32,
    /// Of `bits`: the MRC has not given them, for it has yet to hear of the inode.
    pub(super) early: u32,
    /// Names that it was given, lost or changed here, of which the MRC has yet to hear: what an answer tells of it before that is older than what
    /// is kept.
    pub(super) untold: u32,
    /// It is a directory.
    pub(super) directory: bool,
    /// Highest grant number seen.
    pub(super) number: u64,
    /// Highest recall number seen, per bit.
    recalled: [u64; BITS],
    /// The last call that began before a bit was gained last.
    pub(super) gained: Ticket,
    /// The last call that began before the last recall arrived.
    pub(super) recalled_at: Ticket,
    /// Highest recall number answered.
    pub(super) returned: u64,
    /// Orders what is written under the right to write.
    pub(super) turn: Turn,
    /// Operations under way.
    pub(super) reading: u32,
    pub(super) writing: u32,
    /// Operations that wait for `R`, for `W`.
    pub(super) asking: [u32; 2],
    /// Own changes under way, and whether some of them overlapped.
    pub(super) changing: u32,
    pub(super) overlap: bool,
    /// The last call that began before the last own change ended.
    pub(super) changed: Ticket,
    /// The last call that began before anything happened here that it must be measured against.
    pub(super) at: Ticket,
    /// Since the last look for old ones.
    pub(super) used: bool,
    pub(super) attr: Option<Attr>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(super) names: BTreeMap<Vec<u8>, Option<u64>>,
    /// Names that own changes under way are about: how many, and whether some of them overlapped.
    pub(super) moving: BTreeMap<Vec<u8>, (u32, bool)>,
    /// Those for which `names` had no room.
    pub(super) crowd: Crowd,
    /// `names` and `crowd` have all that are there: any other is not.
    pub(super) whole: bool,
    /// Every name up to this cookie is in `names` or `crowd`.
    pub(super) listing: Option<u64>,
    /// Names as they were listed, with cookie and kind, from the first one on. Those that were taken away since are among them.
    pub(super) order: Vec<Listed>,
    /// `order` goes to the end, but for names of which it is not known yet where they stand.
    pub(super) ordered: bool,
    /// How many those are.
    pub(super) unplaced: u32,
    /// Names that were taken away: when one comes again it may be in `order` already, at another place.
    gone: BTreeSet<Box<[u8]>>,
    /// Where `..` of a directory leads: kept as its attributes are.
    pub(super) parent: Option<u64>,
}

/// A name in the order of the directory.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) cookie: u64,
    pub(super) kind: u32,
    pub(super) name: Box<[u8]>,
}

impl Entry {
    /// A page of the directory arrived that begins after the cookie `after` and ends with `last`, the directory's `end`
    /// or not. Its names are in `names` already. They are all when every page came and nothing happened meanwhile. Cookies only grow,
    /// so pages may overlap (a kernel whose buffer is full asks for the rest again) and come from several who list.
    pub(super) fn listed(&mut self, after: u64, last: u64, end: bool) {
        let upto = self.listing.unwrap_or(0);
        if after > upto {
            return;
        }
        self.listing = Some(upto.max(last));
        self.whole |= end;
    }

    /// Something came that is not where it was listed. Gives the number of names that were dropped.
    pub(super) fn forget_order(&mut self) -> usize {
        (self.ordered, self.unplaced) = (false, 0);
        self.gone.clear();
        std::mem::take(&mut self.order).len()
    }

    /// It is empty.
    pub(super) fn begin_order(&mut self) -> usize {
        let dropped = self.forget_order();
        self.ordered = true;
        dropped
    }

    /// A name was taken away, or means something else. Gives how many names were dropped.
    pub(super) fn take_name(&mut self, name: &[u8]) -> usize {
        if self.ordered {
            self.gone.insert(name.into());
        }
        if self.gone.len() > ORDER_MAX { self.forget_order() } else { 0 }
    }

    /// A name that is new stands there; `false`: it means something else since. Gives how many names that adds to the order, and how
    /// many were dropped.
    pub(super) fn place(&mut self, listed: Listed, is_there: bool) -> (usize, usize) {
        if !self.ordered {
            return (0, 0);
        }
        self.unplaced = self.unplaced.saturating_sub(1);
        if !is_there {
            return (0, 0);
        }
        let before = self.order.len();
        if self.gone.remove(&listed.name) {
            self.order.retain(|one| one.name != listed.name);
        }
        let dropped = before - self.order.len();
        let at = self.order.partition_point(|one| one.cookie < listed.cookie);
        if listed.cookie == 0 || self.order.len() >= ORDER_MAX {
            return (0, dropped + self.forget_order());
        }
        if let Some(same) = self.order.get_mut(at).filter(|one| one.cookie == listed.cookie) {
            // A name that moved within the directory stands where the old one stood.
            *same = listed;
            return (0, dropped);
        }
        self.order.insert(at, listed);
        (1, dropped)
    }

    /// A page that begins after the cookie `after`, to the directory's `end` or not; pages may overlap, see [`Entry::listed`]. Gives how
    /// many names it adds to the order, and how many were dropped.
    pub(super) fn extend_order(&mut self, after: u64, end: bool, page: Vec<Listed>) -> (usize, usize) {
        let upto = self.order.last().map_or(0, |last| last.cookie);
        if self.ordered || after > upto {
            return (0, 0);
        }
        let before = self.order.len();
        self.order.extend(page.into_iter().filter(|listed| listed.cookie > upto));
        self.ordered = end;
        let added = self.order.len() - before;
        if self.order.len() > ORDER_MAX { (added, self.forget_order()) } else { (added, 0) }
    }

    /// What a name means: known to be there, known to be absent.
    pub(super) fn name(&self, name: &[u8]) -> Option<Option<u64>> {
        if self.moving.contains_key(name) {
            return None;
        }
        self.names.get(name).copied().or_else(|| (self.whole && !self.crowd.may_have(name)).then_some(None))
    }

    /// An own change of a name begins. Gives the number of names that were dropped.
    pub(super) fn move_begin(&mut self, name: &[u8]) -> usize {
        let (count, overlap) = self.moving.entry(name.to_vec()).or_default();
        *overlap |= *count > 0;
        *count += 1;
        self.listing = None;
        usize::from(self.names.remove(name).is_some())
    }

    /// It is over; true when no other own change of that name overlapped it.
    pub(super) fn move_end(&mut self, name: &[u8]) -> bool {
        let Some((count, overlap)) = self.moving.get_mut(name) else { return false };
        *count = count.saturating_sub(1);
        let alone = !*overlap;
        if *count == 0 {
            self.moving.remove(name);
        }
        alone
    }

    /// Whether these are held, nobody wants them back, and nothing of it is being changed.
    pub(super) fn is_free(&self, bits: u32) -> bool {
        self.bits & bits == bits && self.losing == 0 && self.changing == 0
    }

    /// What the MRC counts as ours.
    pub(super) fn held(&self) -> u32 {
        self.bits & !self.early | self.losing | self.lapsing
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.reading + self.writing + self.asking[0] + self.asking[1] + self.changing > 0 || self.early != 0
    }

    pub(super) fn users(&mut self, what: Use) -> &mut u32 {
        match what {
            Use::Read => &mut self.reading,
            Use::Write | Use::WriteBack => &mut self.writing,
        }
    }

    pub(super) fn askers(&mut self, what: Use) -> &mut u32 {
        &mut self.asking[usize::from(what != Use::Read)]
    }

    /// Bits that are being asked for.
    pub(super) fn asked(&self) -> u32 {
        let bit = |at: usize, bit: u32| if self.asking[at] > 0 { bit } else { 0 };
        bit(0, Use::Read.bit()) | bit(1, Use::Write.bit())
    }

    /// The bits of a grant that no recall has taken away again.
    pub(super) fn still_granted(&self, bits: u32, number: u64) -> u32 {
        let recalled = (0..BITS).filter(|bit| number <= self.recalled[*bit]).map(|bit| 1 << bit);
        bits & !recalled.fold(0, |all, bit: u32| all | bit) & !self.losing
    }

    /// Takes a grant; an older one than the last adds nothing. Gives the number of names that were dropped.
    pub(super) fn grant(&mut self, grant: &LeaseGrant) -> usize {
        // Also of one that a recall has overtaken: an operation may be waiting for it.
        if grant.bits & LEASE_WRITE != 0 && self.held() & LEASE_WRITE == 0 {
            self.turn = self.turn.max(Turn { since: grant.number, round: 0 });
        }
        if grant.number < self.number {
            return 0;
        }
        self.number = grant.number;
        let bits = self.still_granted(grant.bits, grant.number);
        let lost = self.bits & !bits;
        self.bits = bits;
        self.lapsing = (self.lapsing | lost & !self.early) & !bits & !self.losing;
        self.drop_values(lost)
    }

    pub(super) fn recall(&mut self, recall: &Recall) {
        for bit in 0..BITS {
            if recall.bits & (1 << bit) != 0 {
                self.recalled[bit] = self.recalled[bit].max(recall.number);
            }
        }
        self.losing |= recall.bits;
        self.lapsing &= !recall.bits;
    }

    /// Bits are gone, and what was kept under them. Gives the number of names that were dropped.
    pub(super) fn lose(&mut self, bits: u32) -> usize {
        self.bits &= !bits;
        self.drop_values(bits)
    }

    fn drop_values(&mut self, lost: u32) -> usize {
        if lost & KEEPS_ATTR != 0 && self.bits & KEEPS_ATTR == 0 {
            self.forget_attr();
            self.parent = None;
        }
        if lost & KEEPS_NAMES != 0 { self.forget_names() } else { 0 }
    }

    pub(super) fn forget_attr(&mut self) {
        self.attr = None;
        self.target = None;
        self.xattrs.clear();
    }

    /// There are more names than are kept: from now on it is known of each only that it may be there. Gives how many those
    /// were; of absent ones nothing is known any more.
    pub(super) fn crowd_names(&mut self) -> usize {
        let ordered = self.forget_order();
        let names = std::mem::take(&mut self.names);
        for (name, ino) in &names {
            if ino.is_some() {
                self.crowd.add(name);
            }
        }
        names.len() + ordered
    }

    pub(super) fn forget_names(&mut self) -> usize {
        let names = self.names.len() + self.forget_order();
        self.names = BTreeMap::new();
        self.crowd = Crowd::default();
        self.whole = false;
        self.listing = None;
        names
    }

    /// Another leader was told what is held: it has recalled nothing.
    pub(super) fn numbers_start_anew(&mut self) {
        self.bits |= std::mem::take(&mut self.lapsing);
        self.number = 0;
        self.returned = 0;
        self.recalled = [0; BITS];
    }
}
