//! The size and time of a file as this client knows them: what the MRC said, and what was written since.
//!
//! ```text
//!            wrote            report             accepted
//!   clean ----------> dirty ---------> reporting ---------> clean
//!                       ^                  |  refused
//!                       +------------------+
//! ```
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use proto::mrc::{Attr, Time};

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
            mtime: self.mtime.max(later.mtime),
            clear_setid: self.clear_setid || later.clear_setid,
        }
    }
}

/// Size and times of one inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    size: u64,
    truncate_epoch: u64,
    change: u64,
    dirty: Option<Unreported>,
    reporting: Option<Unreported>,
    /// End and time of what was acknowledged and is not yet at the OSDs (write-back).
    gathered: Option<(u64, Time)>,
}

impl Size {
    /// As the MRC says at open.
    #[must_use]
    pub fn new(attr: &Attr) -> Self {
        Self {
            size: attr.size,
            truncate_epoch: attr.truncate_epoch,
            change: attr.change,
            dirty: None,
            reporting: None,
            gathered: None,
        }
    }

    /// Takes what the MRC says now; an answer that was overtaken by a newer one is ignored.
    pub fn learn(&mut self, attr: &Attr) {
        if attr.change >= self.change {
            self.change = attr.change;
            self.size = attr.size;
            self.truncate_epoch = self.truncate_epoch.max(attr.truncate_epoch);
        }
    }

    /// A truncation by this client was done: what was written before it no longer counts.
    pub fn truncated(&mut self, attr: &Attr) {
        self.dirty = None;
        self.reporting = None;
        self.size = attr.size;
        self.truncate_epoch = attr.truncate_epoch;
        self.change = self.change.max(attr.change);
    }

    /// Bytes up to `end` were written at `now`. True when this made a clean file dirty.
    pub fn wrote(&mut self, end: u64, now: Time, clear_setid: bool) -> bool {
        let write = Unreported { end, truncate_epoch: self.truncate_epoch, mtime: now, clear_setid };
        let was_clean = self.dirty.is_none();
        self.dirty = Some(self.dirty.map_or(write, |dirty| dirty.join(write)));
        was_clean
    }

    /// Bytes up to `end` wait in the buffer since `now`; they count here and are told to nobody. True when nothing
    /// waited before.
    pub fn gathered(&mut self, end: u64, now: Time) -> bool {
        let first = self.gathered.is_none() && !self.is_dirty();
        self.gathered = Some((end.max(self.gathered.map_or(0, |(end, _)| end)), now));
        first
    }

    /// The buffer is empty.
    pub fn gathered_is_out(&mut self) {
        self.gathered = None;
    }

    /// What must be told to the MRC now, if anything. Until [`Size::reported`] or [`Size::not_reported`] it counts on.
    pub fn report(&mut self) -> Option<Unreported> {
        let dirty = self.dirty.take()?;
        self.reporting = Some(self.reporting.map_or(dirty, |earlier| earlier.join(dirty)));
        self.reporting
    }

    /// The MRC has it.
    pub fn reported(&mut self, attr: &Attr) {
        self.reporting = None;
        self.learn(attr);
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
    }

    /// The MRC's change number as last heard of.
    #[must_use]
    pub fn change(&self) -> u64 {
        self.change
    }

    /// Whether something is unreported.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty.is_some() || self.reporting.is_some()
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
        size.reported(&attr(30, 0, 2));
        assert_eq!(size.size(), 40);
        let mut shown = attr(30, 0, 2);
        size.show(&mut shown);
        assert_eq!((shown.size, shown.mtime), (40, at(7)));
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
    fn a_truncation_by_others_hides_the_end_of_older_writes() {
        let mut size = Size::new(&attr(0, 0, 1));
        size.wrote(50, at(1), false);
        let mut cut = attr(8, 1, 2);
        size.show(&mut cut);
        assert_eq!(cut.size, 8);
    }
}
