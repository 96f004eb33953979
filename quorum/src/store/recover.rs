//! Opening the log: finds the live segments, cuts a torn tail off, notices damage.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rt::disk::{Disk, DiskFile};

use super::format::{self, Place, Record, State, Writer};
use super::{Located, SEAL, Segment, Store, StoreError, io_error, segment_name};

/// A segment as far as it is sound.
struct Scan {
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
    records: Vec<(Place, u32, Record)>,
    /// Where the first unsound byte is.
    sound: u64,
}

impl Scan {
    fn header(&self) -> Option<&State> {
        match self.records.first() {
            Some((_, _, Record::State(state))) => Some(state),
            _ => None,
        }
    }

    fn last_state(&self) -> Option<&State> {
        self.records.iter().rev().find_map(|(_, _, record)| match record {
            Record::State(state) => Some(state),
            _ => None,
        })
    }

    fn synced(&self) -> Place {
        let places = self.records.iter().filter_map(|(_, _, record)| match record {
            Record::Synced(place) => Some(*place),
            _ => None,
        });
        places.max().unwrap_or_default()
    }
}

fn scan(disk: &dyn Disk, number: u64) -> Result<Scan, StoreError> {
    let name = segment_name(number);
    let file = disk.open(&name, false).map_err(io_error(format!("open {name}")))?;
    let file_bytes = file.len().map_err(io_error(format!("length of {name}")))?;
    let length = usize::try_from(file_bytes)
        .map_err(|_| StoreError::Corrupt { what: format!("{name} is too long") })?;
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, 0).map_err(io_error(format!("read {name}")))?;
    let bytes = Bytes::from(bytes);
    let mut records = Vec::new();
    let mut at = 0;
    loop {
        let place = Place { segment: number, offset: at as u64 };
        let Some((record, size)) = format::parse(&bytes.slice(at..), place) else { break };
        if at == 0 && !matches!(record, Record::State(_)) {
            break;
        }
        records.push((place, u32::try_from(size).expect("a record's length has 32 bits"), record));
        at += size;
    }
    Ok(Scan { file, file_bytes, records, sound: at as u64 })
}

impl Store {
    /// Opens the log of a member, or begins it. The flag says whether it was begun now.
    pub fn open(
        disk: Arc<dyn Disk>,
        group: u64,
        member: u64,
        segment_bytes: u64,
    ) -> Result<(Self, bool), StoreError> {
        let names = disk.list().map_err(io_error("list"))?;
        let mut scans = BTreeMap::new();
        for name in &names {
            if let Some(number) = name.strip_prefix("log-").and_then(|hex| u64::from_str_radix(hex, 16).ok())
            {
                scans.insert(number, scan(&*disk, number)?);
            }
        }
        let sealed = names.iter().any(|name| name == SEAL);
        if rt::site!("log.begun", !sealed) {
            let mut store = Self::begin(disk, group, member, scans.keys().copied())?;
            store.segment_bytes = segment_bytes;
            return Ok((store, true));
        }
        let lost = || StoreError::Corrupt { what: "no segment of it is readable".into() };
        let found = scans.values().rev().find_map(Scan::last_state).ok_or_else(lost)?;
        if (found.group, found.member) != (group, member) {
            let (found_group, found_member) = (found.group, found.member);
            return Err(StoreError::Foreign { group, member, found_group, found_member });
        }
        let mut store = Self::recover(disk, scans)?;
        store.segment_bytes = segment_bytes;
        Ok((store, false))
    }

    fn begin(
        disk: Arc<dyn Disk>,
        group: u64,
        member: u64,
        leftovers: impl Iterator<Item = u64>,
    ) -> Result<Self, StoreError> {
        for number in leftovers {
            disk.remove(&segment_name(number)).map_err(io_error("remove an unfinished segment"))?;
        }
        let number = 1;
        let name = segment_name(number);
        let file = disk.open(&name, true).map_err(io_error(format!("create {name}")))?;
        let state = State { group, member, oldest: number, ..State::default() };
        let mut store = Self {
            disk: disk.clone(),
            segment_bytes: super::SEGMENT_BYTES,
            segments: BTreeMap::from([(number, Segment { file, max_index: 0, dirty: true })]),
            end: Place { segment: number, offset: 0 },
            synced: Place::default(),
            synced_noted: Place::default(),
            state: State::default(),
            entries: VecDeque::new(),
            droppable: None,
            names_dirty: true,
            written: 0,
            writer: Writer::default(),
        };
        store.append(Some(state), &[])?;
        store.sync_now()?;
        rt::disk::replace(&*disk, SEAL, format!("group {group} member {member}\n").as_bytes())
            .map_err(io_error("seal the new log"))?;
        Ok(store)
    }

    fn recover(disk: Arc<dyn Disk>, mut scans: BTreeMap<u64, Scan>) -> Result<Self, StoreError> {
        // Marks may stand in segments that are cut off: they are sound records all the same.
        let synced = scans.values().map(Scan::synced).max().unwrap_or_default();
        let (oldest, cut) = find_end(&scans)
            .ok_or_else(|| StoreError::Corrupt { what: "a segment that it needs is missing".into() })?;
        if cut < synced {
            let what = format!(
                "{} is unreadable at byte {}, and everything before byte {} of {} had been synced",
                segment_name(cut.segment),
                cut.offset,
                synced.offset,
                segment_name(synced.segment)
            );
            return Err(StoreError::Corrupt { what });
        }
        // These go before anything is appended, and durably (below): they must not come back behind new segments.
        for number in scans.keys().copied().filter(|number| *number > cut.segment) {
            rt::site!("log.segment.behind_cut");
            disk.remove(&segment_name(number)).map_err(io_error("remove a segment behind the cut"))?;
        }
        let stale: Vec<u64> = scans.keys().copied().filter(|number| *number < oldest).collect();
        scans.retain(|number, _| *number >= oldest && *number <= cut.segment);
        let tail = &scans[&cut.segment];
        if rt::site!("log.tail.torn", tail.file_bytes > cut.offset) {
            tail.file.set_len(cut.offset).map_err(io_error("cut the torn tail off"))?;
        }
        let mut store = Self {
            disk,
            segment_bytes: super::SEGMENT_BYTES,
            segments: BTreeMap::new(),
            end: cut,
            synced,
            synced_noted: synced,
            state: State::default(),
            entries: VecDeque::new(),
            droppable: None,
            names_dirty: true,
            written: 0,
            writer: Writer::default(),
        };
        store.replay(scans)?;
        store.written = store.last_index();
        // What was read may be in the page cache only; the cut and what was behind it must not come back.
        store.sync_all()?;
        // Only now: the record that made them needless is on the medium.
        for number in stale {
            rt::site!("log.segment.came_back");
            store.disk.remove(&segment_name(number)).map_err(io_error("remove a compacted segment"))?;
        }
        Ok(store)
    }

    fn replay(&mut self, scans: BTreeMap<u64, Scan>) -> Result<(), StoreError> {
        let records = || scans.values().flat_map(|scan| &scan.records);
        let last_state = records().rev().find_map(|(_, _, record)| match record {
            Record::State(state) => Some(state.clone()),
            _ => None,
        });
        self.state = State { void_before: false, ..last_state.unwrap_or_default() };
        let void_before = records()
            .filter(|(_, _, record)| matches!(record, Record::State(state) if state.void_before))
            .map(|(place, _, _)| *place)
            .next_back();
        for (number, scan) in &scans {
            self.segments.insert(*number, Segment { file: scan.file.clone(), max_index: 0, dirty: true });
        }
        for (place, bytes, record) in records() {
            let Record::Entry(entry) = record else { continue };
            if let Some(segment) = self.segments.get_mut(&place.segment) {
                segment.max_index = segment.max_index.max(entry.index);
            }
            if rt::site!("log.replay.voided", void_before.is_some_and(|void| *place < void)) {
                continue;
            }
            if entry.index <= self.state.base_index {
                rt::site!("log.replay.below_base");
                // It cut the log off at its index, which is before all that is kept.
                self.entries.clear();
                continue;
            }
            if entry.index > self.last_index() + 1 {
                let what = format!(
                    "entry {} in {} at {} follows entry {} (the log begins after {})",
                    entry.index,
                    segment_name(place.segment),
                    place.offset,
                    self.last_index(),
                    self.state.base_index
                );
                return Err(StoreError::Corrupt { what });
            }
            self.note_entry(entry, Located { place: *place, bytes: *bytes, term: entry.term });
        }
        Ok(())
    }
}

/// The oldest live segment and the place where the log ends: the newest segment from which a whole row of files reaches
/// back to the oldest that it needs. What lies behind a gap or a torn segment was never synced; with it goes, perhaps,
/// the record that made older segments needless, and these are part of the log again.
fn find_end(scans: &BTreeMap<u64, Scan>) -> Option<(u64, Place)> {
    scans.iter().rev().find_map(|(last, scan)| {
        let oldest = scan.last_state()?.oldest;
        let whole = (oldest..*last).all(|number| {
            let (one, next) = (scans.get(&number), scans.get(&(number + 1)).and_then(Scan::header));
            one.zip(next).is_some_and(|(one, next)| one.header().is_some() && next.before_bytes == one.sound)
        });
        whole.then_some((oldest, Place { segment: *last, offset: scan.sound }))
    })
}
