//! The size and time of a file as this client knows them: what the MRC said, and what was written since.
//!
//! ```text
//!            wrote            report             accepted
//!   clean ----------> dirty ---------> reporting ---------> clean
//!                       ^                  |  refused
//!                       +------------------+
//! ```
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use proto::limits::BLOCK_BYTES;
use proto::mrc::{Attr, KeptAttributes, Time};

use super::kept;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// What writing did and the MRC does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreported {
    /// End of the last byte written.
    pub end: u64,
    /// The truncate epoch that the writer knew when it became dirty.
    pub truncate_epoch: u64,
    /// Time of the last write.
    pub mtime: Time,
    /// A writer that is not the superuser: setuid and setgid go.
    pub clear_setid: bool,
}

impl Unreported {
    fn join(self, later: Self) -> Self {
        Self {
            end: self.end.max(later.end),
            truncate_epoch: self.truncate_epoch.min(later.truncate_epoch),
            mtime: later.mtime,
            clear_setid: self.clear_setid || later.clear_setid,
        }
    }
}

/// Size and times of one inode.
#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    size: u64,
    truncate_epoch: u64,
    change: u64,
    /// The newest attributes that the MRC has sent.
    newest: Attr,
    dirty: Option<Unreported>,
    reporting: Option<Unreported>,
    /// What was set after all that was written.
    kept: Option<KeptAttributes>,
    /// End and time of what was acknowledged and is not yet at the OSDs (write-back).
    gathered: Option<(u64, Time)>,
    /// Pieces of that: waiting, or on their way.
    pieces: u32,
    /// Those of them that wait for room at the OSDs, nobody knows for how long.
    held: u32,
    /// Time of the latest write.
    latest: Time,
    /// One of them left or fills a hole.
    gathered_holes: bool,
    /// Allocated 512-byte units as the MRC says.
    blocks: u64,
    /// Writing left or filled holes: what is allocated only the OSDs know.
    holes_changed: bool,
    unforced: Unforced,
}

/// Allocated 512-byte units of a file without holes.
fn dense(size: u64) -> u64 {
    size.div_ceil(BLOCK) * (BLOCK / 512)
}

/// Changes of an inode that may not be on the logs' media yet: each count grows with a change and is remembered when
/// the log was forced after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unforced {
    /// What the data cannot be read back without: that the file exists, its size.
    size: u64,
    size_forced: u64,
    /// Everything else but the time of the last write, which is promised to nobody.
    other: u64,
    other_forced: u64,
}

/// What a forced sync covers, taken before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covered {
    size: u64,
    other: u64,
}

impl Size {
    /// As the MRC says at open.
    #[must_use]
    pub fn new(attr: &Attr) -> Self {
        Self {
            size: attr.size,
            truncate_epoch: attr.truncate_epoch,
            change: attr.change,
            newest: attr.clone(),
            dirty: None,
            reporting: None,
            kept: None,
            gathered: None,
            pieces: 0,
            held: 0,
            latest: attr.mtime,
            gathered_holes: false,
            blocks: attr.blocks,
            holes_changed: false,
            // Nobody here knows what came before: the first sync forces.
            unforced: Unforced { size: 1, size_forced: 0, other: 1, other_forced: 0 },
        }
    }

    /// What a sync has to force now: `None` when the logs' media have all that `fsync` (`fdatasync` with `data_only`)
    /// promises. Report first.
    #[must_use]
    pub fn must_force(&self, data_only: bool) -> Option<Covered> {
        let counts = &self.unforced;
        let must = counts.size != counts.size_forced || !data_only && counts.other != counts.other_forced;
        must.then_some(Covered { size: counts.size, other: counts.other })
    }

    /// The logs were forced since [`Size::must_force`] gave this.
    pub fn forced(&mut self, covered: Covered) {
        let counts = &mut self.unforced;
        counts.size_forced = counts.size_forced.max(covered.size);
        counts.other_forced = counts.other_forced.max(covered.other);
    }

    /// Whether what was written and not reported makes the file longer; if not, a sync needs no report.
    #[must_use]
    pub fn grows(&self) -> bool {
        self.unreported().is_some_and(|unreported| unreported.end > self.size)
    }

    /// Whether the MRC, as far as known, takes the file to be shorter than this.
    #[must_use]
    pub fn is_beyond(&self, end: u64) -> bool {
        end > self.size
    }

    /// Attributes of the MRC as they are to be shown: when they were overtaken by what this client has learned since
    /// (its own report of a write that had ended before), the newer ones; and with what it does not know yet.
    pub fn newest(&self, attr: &mut Attr) {
        if attr.change < self.newest.change {
            *attr = self.newest.clone();
        }
        self.show(attr);
    }

    /// Takes what the MRC says now; an answer that was overtaken by a newer one is ignored.
    pub fn learn(&mut self, attr: &Attr) {
        if attr.change >= self.change {
            if attr.change > self.change {
                self.unforced.other += 1;
            }
            self.learn_newer(attr);
        }
    }

    fn learn_newer(&mut self, attr: &Attr) {
        if attr.size != self.size || attr.truncate_epoch > self.truncate_epoch {
            self.unforced.size += 1;
        }
        self.change = attr.change;
        self.newest = attr.clone();
        self.size = attr.size;
        self.blocks = attr.blocks;
        self.truncate_epoch = self.truncate_epoch.max(attr.truncate_epoch);
    }

    /// A truncation by this client was done: what was written before it no longer counts.
    pub fn truncated(&mut self, attr: &Attr) {
        self.unforced.size += 1;
        self.unforced.other += 1;
        self.dirty = None;
        self.reporting = None;
        self.size = attr.size;
        if let Some((end, _)) = &mut self.gathered {
            // What waits for room behind the cut was given up.
            *end = (*end).min(attr.size);
        }
        self.blocks = attr.blocks;
        self.holes_changed = false;
        self.truncate_epoch = attr.truncate_epoch;
        if attr.change >= self.change {
            self.change = attr.change;
            self.newest = attr.clone();
        }
    }

    /// Bytes up to `end` were written at `now`. True when this made a clean file dirty.
    pub fn wrote(&mut self, end: u64, now: Time, clear_setid: bool) -> bool {
        self.latest = now;
        self.landed(end, clear_setid)
    }

    /// Bytes up to `end` that were gathered are at the OSDs; the time is that of the latest write. True when this made a
    /// clean file dirty.
    pub fn landed(&mut self, end: u64, clear_setid: bool) -> bool {
        let (truncate_epoch, mtime) = (self.truncate_epoch, self.latest);
        let write = Unreported { end, truncate_epoch, mtime, clear_setid };
        let was_clean = self.dirty.is_none() && self.kept.is_none();
        self.dirty = Some(self.dirty.map_or(write, |dirty| dirty.join(write)));
        was_clean
    }

    /// A write begins at `offset`: whether it left a hole before it, or perhaps fills one. To be told before
    /// [`Size::wrote`].
    pub fn begins_at(&mut self, offset: u64) {
        // Of what was gathered the end counts already: [`Size::gathered`] has looked.
        if self.gathered_holes || self.meets_holes(offset) {
            self.holes_changed = true;
        }
    }

    fn meets_holes(&self, offset: u64) -> bool {
        let known_end = self.size().next_multiple_of(BLOCK);
        offset > known_end || (self.has_holes() && offset < known_end)
    }

    /// Bytes, in whole blocks, that a write may allocate: what lies behind the end, and where there are holes all of it.
    #[must_use]
    pub fn may_allocate(&self, offset: u64, len: u64) -> u64 {
        let known_end = self.size().next_multiple_of(BLOCK);
        let end = offset.saturating_add(len).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        let first = offset / BLOCK * BLOCK;
        let start = if self.has_holes() || first > known_end { first } else { first.max(known_end) };
        end.saturating_sub(start)
    }

    /// A hole was made.
    pub fn punched(&mut self) {
        self.holes_changed = true;
    }

    /// Whether the file has or may have holes.
    #[must_use]
    pub fn has_holes(&self) -> bool {
        self.holes_changed || self.blocks < dense(self.size)
    }

    /// Whether the OSDs have to be asked what is allocated. What is written afterwards counts anew.
    pub fn take_holes_changed(&mut self) -> bool {
        std::mem::take(&mut self.holes_changed)
    }

    /// Whether [`Size::take_holes_changed`] would say yes.
    #[must_use]
    pub fn holes_changed(&self) -> bool {
        self.holes_changed
    }

    /// The truncate epoch that this client knows.
    #[must_use]
    pub fn truncate_epoch(&self) -> u64 {
        self.truncate_epoch
    }

    /// A piece is being gathered, or on its way to the OSDs, until [`Size::piece_is_out`].
    pub fn piece_begins(&mut self) {
        self.pieces += 1;
    }

    /// One of them waits for room from now on, until [`Size::piece_is_out`] of a held one.
    pub fn piece_is_held(&mut self) {
        self.held += 1;
    }

    /// Whether there are such.
    #[must_use]
    pub fn is_gathering(&self) -> bool {
        self.pieces > 0
    }

    /// Bytes from `offset` up to `end` wait in the buffer since `now`; they count here and are told to nobody. True when
    /// nothing waited before.
    pub fn gathered(&mut self, offset: u64, end: u64, now: Time) -> bool {
        self.gathered_holes |= self.meets_holes(offset);
        let first = self.gathered.is_none() && !self.is_dirty();
        self.latest = now;
        self.gathered = Some((end.max(self.gathered.map_or(0, |(end, _)| end)), now));
        first
    }

    /// Where what is gathered ends.
    #[must_use]
    pub fn gathered_end(&self) -> Option<u64> {
        self.gathered.map(|(end, _)| end)
    }

    /// Whether what is allocated is known here, so that a report will not change what is shown.
    #[must_use]
    pub fn knows_blocks(&self) -> bool {
        !self.gathered_holes && !self.holes_changed
    }

    /// A piece, perhaps one that was `held`, is at the OSDs, or lost; with the last one nothing is gathered any more.
    pub fn piece_is_out(&mut self, held: bool) {
        self.pieces = self.pieces.saturating_sub(1);
        self.held = self.held.saturating_sub(u32::from(held));
        if self.pieces == 0 {
            self.gathered = None;
            self.gathered_holes = false;
        }
    }

    /// Attributes were set here; they count until a report has told of them. True when this made a clean file dirty.
    pub fn keep(&mut self, kept: KeptAttributes) -> bool {
        let was_clean = self.dirty.is_none() && self.kept.is_none() && self.gathered.is_none();
        self.kept = Some(kept);
        was_clean
    }

    /// What was set and nobody was told.
    #[must_use]
    pub fn kept(&self) -> Option<KeptAttributes> {
        self.kept
    }

    /// What of it a report may tell now: what was written before it must be told before, or with it. What waits for room is
    /// not waited for: it takes the time that is told here along when it lands.
    #[must_use]
    pub fn report_kept(&self) -> Option<KeptAttributes> {
        self.kept.filter(|_| self.pieces == self.held)
    }

    /// The MRC was told a time that was set after all that is gathered: what lands of that later must not change it.
    pub fn mtime_set(&mut self, mtime: Time) {
        self.latest = mtime;
        if let Some((_, time)) = &mut self.gathered {
            *time = mtime;
        }
    }

    /// It counts no more.
    pub fn forget_kept(&mut self) {
        self.kept = None;
    }

    /// Whether something was written that the MRC does not know.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.dirty.is_some() || self.reporting.is_some() || self.pieces > 0
    }

    /// What must be told to the MRC now, if anything. Until [`Size::reported`] or [`Size::not_reported`] it counts on.
    pub fn report(&mut self) -> Option<Unreported> {
        let dirty = self.dirty.take()?;
        self.reporting = Some(self.reporting.map_or(dirty, |earlier| earlier.join(dirty)));
        self.reporting
    }

    /// The MRC has it, and what was set if it was `told`.
    pub fn reported(&mut self, attr: &Attr, told: bool) {
        // The report itself changed nothing but the size and the time of the last write (and setuid, which it cleared).
        let others = self.reporting.is_some_and(|told| told.clear_setid) || told;
        self.unforced.other += u64::from(others);
        self.reporting = None;
        if told && let Some(mtime) = self.kept.take().and_then(|kept| kept.mtime) {
            self.mtime_set(mtime);
        }
        if attr.change >= self.change {
            self.learn_newer(attr);
        }
    }

    /// The MRC could not be told: dirty again.
    pub fn not_reported(&mut self) {
        if let Some(reporting) = self.reporting.take() {
            self.dirty = Some(self.dirty.map_or(reporting, |dirty| reporting.join(dirty)));
        }
    }

    /// The file is gone: there is nobody to report to.
    pub fn forget_unreported(&mut self) {
        self.dirty = None;
        self.reporting = None;
        self.kept = None;
    }

    /// The MRC's change number as last heard of.
    #[must_use]
    pub fn change(&self) -> u64 {
        self.change
    }

    /// Whether something is unreported.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty.is_some() || self.reporting.is_some() || self.kept.is_some()
    }

    fn unreported(&self) -> Option<Unreported> {
        match (self.reporting, self.dirty) {
            (Some(reporting), Some(dirty)) => Some(reporting.join(dirty)),
            (one, other) => one.or(other),
        }
    }

    /// The file's size as far as this client knows.
    #[must_use]
    pub fn size(&self) -> u64 {
        let unreported = self.unreported().map_or(0, |unreported| unreported.end);
        self.size.max(unreported).max(self.gathered.map_or(0, |(end, _)| end))
    }

    /// Shows what was written and not yet reported in attributes from the MRC.
    pub fn show(&self, attr: &mut Attr) {
        let before = dense(attr.size);
        self.show_size_and_times(attr);
        attr.blocks += dense(attr.size) - before;
        if let Some(kept) = &self.kept {
            kept::show(kept, attr);
        }
    }

    fn show_size_and_times(&self, attr: &mut Attr) {
        if let Some((end, time)) = self.gathered {
            attr.size = attr.size.max(end);
            attr.mtime = attr.mtime.max(time);
            attr.ctime = attr.ctime.max(time);
        }
        let Some(unreported) = self.unreported() else { return };
        if unreported.truncate_epoch == attr.truncate_epoch {
            attr.size = attr.size.max(unreported.end);
        }
        attr.mtime = attr.mtime.max(unreported.mtime);
        attr.ctime = attr.ctime.max(unreported.mtime);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(size: u64, truncate_epoch: u64, change: u64) -> Attr {
        Attr { size, truncate_epoch, change, ..Attr::default() }
    }

    fn at(seconds: i64) -> Time {
        Time { seconds, nanos: 0 }
    }

    #[test]
    fn what_waits_for_room_behind_a_cut_does_not_count_any_more() {
        let mut size = Size::new(&attr(10, 0, 1));
        for (offset, end) in [(10, 20), (20, 30)] {
            size.piece_begins();
            size.gathered(offset, end, at(5));
            size.piece_is_held();
        }
        assert_eq!(size.size(), 30);
        size.truncated(&attr(20, 1, 2));
        size.piece_is_out(true);
        assert_eq!((size.size(), size.is_gathering()), (20, true));
    }

    #[test]
    fn unreported_writes_count_until_the_mrc_has_them() {
        let mut size = Size::new(&attr(10, 0, 1));
        assert!(size.wrote(30, at(5), false));
        assert!(!size.wrote(20, at(6), false));
        assert_eq!(size.size(), 30);
        let report = size.report().unwrap();
        assert_eq!((report.end, report.mtime), (30, at(6)));
        assert_eq!(size.report(), None);
        assert_eq!(size.size(), 30);
        assert!(size.wrote(40, at(7), false));
        size.reported(&attr(30, 0, 2), false);
        assert_eq!(size.size(), 40);
        let mut shown = attr(30, 0, 2);
        size.show(&mut shown);
        assert_eq!((shown.size, shown.mtime), (40, at(7)));
    }

    #[test]
    fn what_is_gathered_counts_until_the_last_piece_is_out() {
        let mut size = Size::new(&attr(10, 0, 1));
        size.piece_begins();
        assert!(size.gathered(10, 100, at(1)), "the file is in nobody's list of dirty ones yet");
        size.piece_begins();
        assert!(!size.gathered(100, 200, at(2)));
        size.wrote(100, at(3), false);
        size.piece_is_out(false);
        assert_eq!((size.size(), size.is_gathering()), (200, true));
        size.wrote(150, at(4), false);
        size.piece_is_out(false);
        assert_eq!((size.size(), size.is_gathering()), (150, false), "what was lost does not count");
    }

    #[test]
    fn attributes_that_were_set_come_after_what_was_written_until_they_are_reported() {
        let set = KeptAttributes {
            mode: Some(0o600),
            mtime: Some(at(3)),
            ctime: at(8),
            ..KeptAttributes::default()
        };
        let mut size = Size::new(&attr(10, 0, 1));
        assert!(size.wrote(30, at(7), false));
        assert!(!size.keep(set), "it is in the list of dirty ones");
        let mut shown = Attr { mode: 0o100_644, ..attr(10, 0, 1) };
        size.show(&mut shown);
        assert_eq!((shown.size, shown.mtime, shown.ctime, shown.mode), (30, at(3), at(8), 0o100_600));
        size.report().unwrap();
        size.not_reported();
        assert_eq!(size.kept(), Some(set), "tried again");
        // More was written before it and is on its way: that comes first.
        size.piece_begins();
        size.gathered(30, 40, at(7));
        assert_eq!(size.report_kept(), None);
        size.report().unwrap();
        size.reported(&attr(30, 0, 2), false);
        assert_eq!(size.kept(), Some(set));
        size.landed(40, false);
        size.piece_is_out(false);
        size.report().unwrap();
        assert_eq!(size.report_kept(), Some(set));
        size.reported(&attr(40, 0, 3), true);
        assert!(size.kept().is_none() && !size.is_dirty());
        // Alone: that is something to report, and nothing that was written.
        let covered = size.must_force(false).unwrap();
        size.forced(covered);
        assert!(size.keep(set), "nobody knew of it");
        assert!(size.is_dirty() && !size.is_written());
        assert_eq!(size.report(), None);
        size.reported(&attr(40, 0, 4), true);
        assert!(size.must_force(true).is_none(), "rights do not matter to the data");
        assert!(size.must_force(false).is_some());
    }

    #[test]
    fn attributes_do_not_wait_for_what_waits_for_room_and_their_time_stays() {
        let set = KeptAttributes { mtime: Some(at(3)), ctime: at(8), ..KeptAttributes::default() };
        let mut size = Size::new(&attr(10, 0, 1));
        for end in [20, 30] {
            size.piece_begins();
            size.gathered(end - 10, end, at(7));
        }
        size.piece_is_held();
        size.keep(set);
        assert_eq!(size.report_kept(), None, "one is on its way");
        size.landed(30, false);
        size.piece_is_out(false);
        let written = size.report().unwrap();
        assert_eq!(
            (size.report_kept(), written.mtime),
            (Some(set), at(7)),
            "told with what was written before"
        );
        size.reported(&Attr { mtime: at(3), ..attr(30, 0, 2) }, true);
        assert!(!size.is_dirty() && size.is_gathering());
        let mut shown = Attr { mtime: at(3), ..attr(30, 0, 2) };
        size.show(&mut shown);
        assert_eq!(shown.mtime, at(3));
        // There is room at last.
        size.landed(20, false);
        size.piece_is_out(true);
        assert_eq!(size.report().unwrap().mtime, at(3), "it was written before the time was set");
        // Likewise when the MRC was asked to set it.
        size.reported(&Attr { mtime: at(3), ..attr(30, 0, 3) }, false);
        size.piece_begins();
        size.gathered(30, 40, at(9));
        size.piece_is_held();
        size.mtime_set(at(4));
        size.landed(40, false);
        size.piece_is_out(true);
        assert_eq!(size.report().unwrap().mtime, at(4));
    }

    #[test]
    fn an_answer_that_the_own_report_overtook_does_not_take_the_size_back() {
        let mut size = Size::new(&attr(0, 0, 1));
        size.wrote(300, at(5), false);
        // A question for attributes is answered before the report, its answer is dealt with after it.
        let mut asked = attr(0, 0, 1);
        size.report().unwrap();
        size.reported(&Attr { mtime: at(5), ..attr(300, 0, 2) }, false);
        size.learn(&asked);
        size.newest(&mut asked);
        assert_eq!((asked.size, asked.mtime, asked.change), (300, at(5), 2));
        let mut later = attr(100, 0, 3);
        size.learn(&later);
        size.newest(&mut later);
        assert_eq!((later.size, later.change), (100, 3));
    }

    #[test]
    fn a_sync_forces_the_log_only_for_what_it_promises() {
        let mut size = Size::new(&attr(10, 0, 1));
        let first = size.must_force(true).expect("nobody knows what came before");
        size.forced(first);
        assert_eq!((size.must_force(true), size.must_force(false)), (None, None));
        // An overwrite changes the time only.
        size.wrote(10, at(5), false);
        assert!(!size.grows());
        size.report().unwrap();
        size.reported(&attr(10, 0, 2), false);
        assert_eq!((size.must_force(true), size.must_force(false)), (None, None));
        // Growth counts, and what comes while the log is being forced counts for the next time.
        size.wrote(20, at(6), false);
        assert!(size.grows());
        size.report().unwrap();
        size.reported(&attr(20, 0, 3), false);
        let growth = size.must_force(true).unwrap();
        size.wrote(30, at(7), false);
        size.report().unwrap();
        size.reported(&attr(30, 0, 4), false);
        size.forced(growth);
        let later = size.must_force(true).expect("the second growth came after");
        size.forced(later);
        // Rights, owner, times: fsync, not fdatasync.
        size.learn(&attr(30, 0, 5));
        assert!(size.must_force(true).is_none() && size.must_force(false).is_some());
        size.truncated(&attr(0, 1, 6));
        assert!(size.must_force(true).is_some());
    }

    #[test]
    fn a_refused_report_is_repeated_with_what_came_after() {
        let mut size = Size::new(&attr(0, 0, 1));
        size.wrote(5, at(1), true);
        size.report().unwrap();
        size.wrote(3, at(2), false);
        size.not_reported();
        let again = size.report().unwrap();
        assert_eq!((again.end, again.mtime, again.clear_setid), (5, at(2), true));
    }

    #[test]
    fn truncation_forgets_writes_and_late_answers_do_not_bring_them_back() {
        let mut size = Size::new(&attr(100, 3, 7));
        size.wrote(200, at(1), false);
        size.truncated(&attr(10, 4, 9));
        assert_eq!(size.size(), 10);
        assert!(!size.is_dirty());
        size.learn(&attr(100, 3, 8));
        assert_eq!(size.size(), 10);
    }

    #[test]
    fn only_writes_that_meet_holes_ask_the_osds() {
        let with_blocks = |size: u64, blocks: u64| Attr { blocks, ..attr(size, 0, 1) };
        let asks = |size: &mut Size, offset: u64, end: u64| {
            size.begins_at(offset);
            size.wrote(end, at(1), false);
            size.take_holes_changed()
        };
        let mut whole = Size::new(&with_blocks(100, 8));
        assert!(!asks(&mut whole, 0, 50) && !asks(&mut whole, 100, 5000) && !asks(&mut whole, 5000, 9000));
        assert!(!asks(&mut whole, 12_288, 12_300), "the rest of the last block is no hole");
        assert!(asks(&mut whole, 1 << 20, 1 << 21));
        whole.punched();
        assert!(whole.holes_changed() && whole.take_holes_changed() && !whole.holes_changed());
        let mut behind = Size::new(&with_blocks(0, 0));
        for offset in [0, 1 << 20] {
            behind.piece_begins();
            behind.gathered(offset, offset + 4096, at(1));
        }
        for offset in [0, 1 << 20] {
            behind.begins_at(offset);
            behind.wrote(offset + 4096, at(1), false);
            behind.piece_is_out(false);
        }
        assert!(behind.take_holes_changed(), "what is written later has left its hole when it was gathered");
        let mut sparse = Size::new(&with_blocks(1 << 20, 8));
        assert!(sparse.has_holes() && asks(&mut sparse, 4096, 8192));
        assert!(!asks(&mut sparse, 1 << 20, 2 << 20), "appending fills no hole");
        let mut shown = with_blocks(1 << 20, 8);
        sparse.show(&mut shown);
        assert_eq!((shown.size, shown.blocks), (2 << 20, 8 + 2048));
    }

    #[test]
    fn a_truncation_by_others_hides_the_end_of_older_writes() {
        let mut size = Size::new(&attr(0, 0, 1));
        size.wrote(50, at(1), false);
        let mut cut = attr(8, 1, 2);
        size.show(&mut cut);
        assert_eq!(cut.size, 8);
    }

    #[test]
    fn what_was_gathered_lands_with_the_time_of_the_latest_write() {
        let mut size = Size::new(&attr(0, 1, 1));
        size.piece_begins();
        size.gathered(0, 10, at(5));
        assert!(size.landed(10, false));
        assert_eq!(size.report().unwrap().mtime, at(5), "not the time at which it landed");
        size.not_reported();
        let mut shown = attr(0, 1, 2);
        size.show(&mut shown);
        assert_eq!((shown.size, shown.mtime), (10, at(5)));
        size.wrote(30, at(7), false);
        assert_eq!(size.report().unwrap().mtime, at(7));
    }
}
