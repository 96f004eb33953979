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

    /// The data that the file shows (0: its own), and of which truncation.
    #[must_use]
    pub fn shows(&self) -> (u64, u64) {
        (self.newest.layer, self.newest.truncate_epoch)
    }

    fn learn_newer(&mut self, attr: &Attr) {
        let moved = attr.layer != self.newest.layer;
        if attr.size != self.size || attr.truncate_epoch > self.truncate_epoch || moved {
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

    /// What was written to a new file, all of it one piece of `len` bytes from its beginning that nobody has heard of: when, and what was
    /// set after that. `None`: there is more to it.
    #[must_use]
    pub fn is_one_piece(&self, len: u64) -> Option<(Time, Option<KeptAttributes>)> {
        let new =
            self.size == 0 && self.truncate_epoch == 0 && self.dirty.is_none() && self.reporting.is_none();
        let one = self.pieces == 1 && self.held == 0 && self.gathered_end() == Some(len);
        (new && one && self.knows_blocks()).then_some((self.latest, self.kept))
    }

    /// The MRC was told of the file and of that piece, and of what was set as `kept` said then. True: nothing was set since.
    pub fn told(&mut self, attr: &Attr, kept: Option<KeptAttributes>) -> bool {
        let same = self.kept == kept;
        self.unforced.size += 1;
        self.unforced.other += 1;
        if let Some(mtime) = kept.and_then(|kept| kept.mtime) {
            self.mtime_set(mtime);
        }
        if same {
            self.kept = None;
        }
        if attr.change >= self.change {
            self.learn_newer(attr);
        }
        same
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
mod tests;
