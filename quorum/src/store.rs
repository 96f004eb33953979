//! The Raft log of one member on an `rt::disk::Disk`: append-only segments of checksummed records.
//!
//! Writing is one `write_at` per batch and survives the death of the process; [`Store::sync_job`] gives what must
//! be synced to survive the loss of the machine, to be run without the store's owner being blocked. Nothing is
//! ever rewritten: an entry at an index that exists already cuts the log off there. A failed write or sync is
//! final: the owner stops.
//!
//! Not here: which entries to keep (`replica`), what they mean (`raft`, `replica::apply`).

pub mod format;
mod recover;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use raft::eraftpb::Entry;
use rt::disk::{Disk, DiskFile};

use format::{Place, Record, RecordRef, State, Writer};

/// A segment is closed when it is longer, bytes; the size for real use.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// What failed when a write that failed could not be undone: nobody knows what is there.
pub const CUT: &str = "cut off what a failed write left";

/// The log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("raft log: {doing}: {cause}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the disk said.
        #[source]
        cause: io::Error,
    },
    /// Bytes that were on the medium are not what was written.
    #[error(
        "raft log is damaged: {what}; remove this member from its group, empty its directory and add it again"
    )]
    Corrupt {
        /// What does not fit.
        what: String,
    },
    /// Somebody else's log.
    #[error(
        "this is the raft log of member {found_member} of group {found_group}, not of member {member} of group {group}"
    )]
    Foreign {
        /// Whose log was wanted.
        group: u64,
        /// Whose log was wanted.
        member: u64,
        /// Whose it is.
        found_group: u64,
        /// Whose it is.
        found_member: u64,
    },
}

fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> StoreError {
    let doing = doing.into();
    move |cause| StoreError::Io { doing, cause }
}

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
struct Located {
    place: Place,
    /// Length of the whole record.
    bytes: u32,
    term: u64,
}

struct Segment {
    file: Arc<dyn DiskFile>,
    /// Highest index of an entry in it.
    max_index: u64,
    /// Written since its last sync.
    dirty: bool,
}

/// See the module.
pub struct Store {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    segments: BTreeMap<u64, Segment>,
    /// Where the next record goes.
    end: Place,
    /// Everything before is on the medium.
    synced: Place,
    /// The newest `Synced` record written.
    synced_noted: Place,
    state: State,
    /// Entry `state.base_index + 1 + i`.
    entries: VecDeque<Located>,
    /// Segments that may be removed when the log is synced up to the place.
    droppable: Option<(Place, u64)>,
    /// The directory has names that are not durable.
    names_dirty: bool,
    /// Index of the last entry (or of the base) when last something was written: all that a restart can find.
    written: u64,
    writer: Writer,
}

/// What must reach the medium; run it anywhere, then tell [`Store::synced`].
pub struct SyncJob {
    files: Vec<Arc<dyn DiskFile>>,
    disk: Option<Arc<dyn Disk>>,
    upto: Place,
}

impl SyncJob {
    /// Syncs.
    pub fn run(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync()?;
        }
        match &self.disk {
            Some(disk) => disk.sync_dir(),
            None => Ok(()),
        }
    }

    /// Everything before is on the medium when the job has run.
    #[must_use]
    pub fn upto(&self) -> Place {
        self.upto
    }
}

fn segment_name(number: u64) -> String {
    format!("log-{number:016x}")
}

/// Exists once the first segment is durable: without it an empty directory is a new member, with it a loss.
const SEAL: &str = "log-begun";

impl Store {
    /// The small state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Index of the first entry that is kept.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.state.base_index + 1
    }

    /// Index of the last entry (or of the base).
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.state.base_index + self.entries.len() as u64
    }

    /// Index of the last entry that is in the files; after a write that failed that may be less than in memory.
    #[must_use]
    pub fn last_written(&self) -> u64 {
        self.written
    }

    /// Term of an entry or of the base.
    #[must_use]
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.state.base_index {
            return Some(self.state.base_term);
        }
        Some(self.located(index)?.term)
    }

    /// Where the next record goes.
    #[must_use]
    pub fn end(&self) -> Place {
        self.end
    }

    /// Everything before is on the medium.
    #[must_use]
    pub fn synced_upto(&self) -> Place {
        self.synced
    }

    /// Whether an entry is on the medium.
    #[must_use]
    pub fn is_synced(&self, index: u64) -> bool {
        index <= self.state.base_index || self.located(index).is_some_and(|at| at.place < self.synced)
    }

    fn located(&self, index: u64) -> Option<&Located> {
        let at = index.checked_sub(self.state.base_index + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Appends entries, cutting the log off at the first one's index, after a change of the small state (if any).
    pub fn append(&mut self, state: Option<State>, entries: &[Entry]) -> Result<(), StoreError> {
        if state.is_none() && entries.is_empty() {
            return Ok(());
        }
        let mut writer = std::mem::take(&mut self.writer);
        writer.clear();
        if self.synced > self.synced_noted {
            writer.push(self.end, RecordRef::Synced(self.synced));
            self.synced_noted = self.synced;
        }
        if let Some(state) = state {
            writer.push(self.end, RecordRef::State(&state));
            if rt::site!("log.voided", state.void_before) {
                self.entries.clear();
            }
            self.rebase(&state);
            self.state = State { void_before: false, ..state };
        }
        for entry in entries {
            let offset = self.end.offset + writer.bytes().len() as u64;
            writer.push(self.end, RecordRef::Entry(entry));
            let bytes = self.end.offset + writer.bytes().len() as u64 - offset;
            let place = Place { segment: self.end.segment, offset };
            let bytes = u32::try_from(bytes).expect("a record's length has 32 bits");
            self.note_entry(entry, Located { place, bytes, term: entry.term });
        }
        let written = self.write(writer.bytes());
        self.writer = writer;
        written?;
        self.written = self.last_index();
        if self.end.offset > self.segment_bytes { self.roll() } else { Ok(()) }
    }

    /// Changes the small state.
    pub fn change_state(&mut self, change: impl FnOnce(&mut State)) -> Result<(), StoreError> {
        let mut state = self.state.clone();
        change(&mut state);
        if state == self.state { Ok(()) } else { self.append(Some(state), &[]) }
    }

    /// Drops the entries that a new base makes needless from memory.
    fn rebase(&mut self, state: &State) {
        let dropped = state.base_index.saturating_sub(self.state.base_index);
        let dropped = usize::try_from(dropped).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.drain(..dropped);
    }

    fn note_entry(&mut self, entry: &Entry, located: Located) {
        let at = entry.index.checked_sub(self.state.base_index + 1).expect("entries come after the base");
        let at = usize::try_from(at).expect("a log in memory");
        assert!(
            at <= self.entries.len(),
            "entry {} would leave a gap after {}",
            entry.index,
            self.last_index()
        );
        rt::site!("log.entry.replaced", at < self.entries.len());
        self.entries.truncate(at);
        self.entries.push_back(located);
        if let Some(segment) = self.segments.get_mut(&located.place.segment) {
            segment.max_index = segment.max_index.max(entry.index);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let segment = self.segments.get_mut(&self.end.segment).expect("the last segment is open");
        if let Err(error) = segment.file.write_at(bytes, self.end.offset) {
            rt::site!("log.write.cut_back");
            // Whoever waits for it is told that it was not done: its whole records must not be found by a restart.
            segment.file.set_len(self.end.offset).map_err(io_error(CUT))?;
            return Err(io_error("write")(error));
        }
        segment.dirty = true;
        self.end.offset += bytes.len() as u64;
        Ok(())
    }

    /// Begins a new segment.
    fn roll(&mut self) -> Result<(), StoreError> {
        rt::site!("log.segment.rolled");
        let number = self.end.segment + 1;
        let name = segment_name(number);
        let file = self.disk.open(&name, true).map_err(io_error(format!("create {name}")))?;
        file.set_len(0).map_err(io_error(format!("empty {name}")))?;
        self.state.before_bytes = self.end.offset;
        self.end = Place { segment: number, offset: 0 };
        self.segments.insert(number, Segment { file, max_index: 0, dirty: true });
        self.names_dirty = true;
        let mut writer = Writer::default();
        writer.push(self.end, RecordRef::State(&self.state));
        if self.synced > Place::default() {
            writer.push(self.end, RecordRef::Synced(self.synced));
            self.synced_noted = self.synced;
        }
        self.write(writer.bytes())
    }

    /// What must be synced now so that everything written survives the machine; `None` when it does already.
    pub fn sync_job(&mut self) -> Option<SyncJob> {
        if self.synced == self.end {
            return None;
        }
        let files =
            self.segments.values().filter(|segment| segment.dirty).map(|segment| segment.file.clone());
        let disk = self.names_dirty.then(|| self.disk.clone());
        Some(SyncJob { files: files.collect(), disk, upto: self.end })
    }

    /// A job has run. Removes the segments that have become needless.
    pub fn synced(&mut self, job: &SyncJob) -> Result<(), StoreError> {
        self.synced = self.synced.max(job.upto);
        let current = self.end.segment;
        for (number, segment) in &mut self.segments {
            // The current segment may have been written since; older ones are closed.
            if *number < job.upto.segment || (*number == job.upto.segment && job.upto == self.end) {
                segment.dirty = false;
            }
        }
        if job.disk.is_some() && job.upto.segment == current {
            self.names_dirty = false;
        }
        match self.droppable {
            Some((place, below)) if place <= self.synced => {
                self.droppable = None;
                self.remove_below(below)
            }
            _ => Ok(()),
        }
    }

    fn remove_below(&mut self, below: u64) -> Result<(), StoreError> {
        while let Some(first) = self.segments.first_entry() {
            if *first.key() >= below {
                break;
            }
            rt::site!("log.segment.dropped");
            let name = segment_name(*first.key());
            first.remove();
            self.disk.remove(&name).map_err(io_error(format!("remove {name}")))?;
        }
        Ok(())
    }

    /// Syncs now, on this thread.
    pub fn sync_now(&mut self) -> Result<(), StoreError> {
        match self.sync_job() {
            Some(job) => {
                job.run().map_err(io_error("sync"))?;
                self.synced(&job)
            }
            None => Ok(()),
        }
    }

    /// Syncs all files and names, whatever is known of them.
    fn sync_all(&mut self) -> Result<(), StoreError> {
        let files = self.segments.values().map(|segment| segment.file.clone()).collect();
        let job = SyncJob { files, disk: Some(self.disk.clone()), upto: self.end };
        job.run().map_err(io_error("sync"))?;
        self.synced(&job)
    }

    /// Forgets entries up to `index`; whole segments go once that is on the medium.
    pub fn compact(&mut self, index: u64) -> Result<(), StoreError> {
        let Some(term) = self.term(index) else { return Ok(()) };
        if index <= self.state.base_index {
            return Ok(());
        }
        let oldest = self
            .segments
            .iter()
            .find(|(number, segment)| segment.max_index > index || **number == self.end.segment)
            .map_or(self.end.segment, |(number, _)| *number);
        self.change_state(|state| {
            state.base_index = index;
            state.base_term = term;
            state.oldest = oldest;
        })?;
        self.droppable = Some((self.end, oldest));
        Ok(())
    }

    /// A snapshot takes the place of all entries.
    pub fn reset(
        &mut self,
        index: u64,
        term: u64,
        change: impl FnOnce(&mut State),
    ) -> Result<(), StoreError> {
        let mut state = self.state.clone();
        state.base_index = index;
        state.base_term = term;
        state.commit = index;
        state.term = state.term.max(term);
        state.void_before = true;
        change(&mut state);
        self.append(Some(state), &[])
    }

    /// Entries `low..high`, at least one, at most about `bytes_max`.
    pub fn read(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let mut total = 0u64;
        for index in low..high {
            let located = self
                .located(index)
                .ok_or_else(|| StoreError::Corrupt { what: format!("no entry {index}") })?;
            total += u64::from(located.bytes);
            if total > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(self.read_one(index, located)?);
        }
        Ok(entries)
    }

    fn read_one(&self, index: u64, located: &Located) -> Result<Entry, StoreError> {
        let what = || {
            format!("entry {index} in {} at {}", segment_name(located.place.segment), located.place.offset)
        };
        let segment =
            self.segments.get(&located.place.segment).ok_or_else(|| StoreError::Corrupt { what: what() })?;
        let mut bytes = vec![0; located.bytes as usize];
        segment
            .file
            .read_at(&mut bytes, located.place.offset)
            .map_err(io_error(format!("read {}", what())))?;
        match format::parse(&bytes.into(), located.place) {
            Some((Record::Entry(entry), _)) if entry.index == index => Ok(entry),
            _ => Err(StoreError::Corrupt { what: what() }),
        }
    }
}

#[cfg(test)]
mod tests;
