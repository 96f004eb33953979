//! What raft-rs sees of the log: terms of all entries, the newest entries themselves. Older entries are fetched.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::Recovered;
use super::event::Fetch;

/// Bytes of entries kept in memory for followers; entries that are not applied yet are kept beyond it.
const TAIL_BYTES_MAX: usize = 8 << 20;

/// See the module.
pub(super) struct View {
    hard: HardState,
    conf: ConfState,
    base: (u64, u64),
    /// Terms as runs: (first index, term), ascending, the first one starting after the base.
    terms: Vec<(u64, u64)>,
    last: u64,
    /// The newest entries, without a gap up to `last`.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    /// Entries put here for the one call that wants them.
    offered: Vec<Entry>,
    fetches: std::cell::RefCell<Vec<Fetch>>,
    /// Entries up to here are in the table and wanted by followers only.
    applied: u64,
    snapshot: Option<(u64, Snapshot)>,
    snapshot_wanted: std::cell::RefCell<Vec<u64>>,
}

impl View {
    pub(super) fn new(from: Recovered) -> Self {
        let hard =
            HardState { term: from.term, vote: from.vote, commit: from.commit, ..HardState::default() };
        let mut view = Self {
            hard,
            conf: from.conf,
            base: (from.base_index, from.base_term),
            terms: Vec::new(),
            last: from.base_index,
            tail: VecDeque::new(),
            tail_bytes: 0,
            offered: Vec::new(),
            fetches: Vec::new().into(),
            applied: from.applied,
            snapshot: None,
            snapshot_wanted: Vec::new().into(),
        };
        for term in from.terms {
            view.last += 1;
            view.note_term(view.last, term);
        }
        view.tail_bytes = from.tail.iter().map(weight).sum();
        view.tail = from.tail.into();
        view
    }

    fn note_term(&mut self, index: u64, term: u64) {
        if self.terms.last().is_none_or(|(_, newest)| *newest != term) {
            self.terms.push((index, term));
        }
    }

    pub(super) fn vote(&self) -> (u64, u64) {
        (self.hard.term, self.hard.vote)
    }

    pub(super) fn set_hard_state(&mut self, term: u64, vote: u64, commit: u64) {
        self.hard.term = term;
        self.hard.vote = vote;
        self.hard.commit = commit;
    }

    pub(super) fn set_conf(&mut self, conf: ConfState) {
        self.conf = conf;
    }

    /// Appends entries, cutting off at the first one's index.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first().map(|entry| entry.index) else { return };
        assert!(first > self.base.0 && first <= self.last + 1, "entry {first} does not follow {}", self.last);
        rt::site!("raft.log.conflict_cut", first <= self.last);
        while self.tail.back().is_some_and(|entry| entry.index >= first) {
            let entry = self.tail.pop_back().expect("it has a last one");
            self.tail_bytes -= weight(&entry);
        }
        while self.terms.last().is_some_and(|(start, _)| *start >= first) {
            self.terms.pop();
        }
        for entry in entries {
            self.last = entry.index;
            self.note_term(entry.index, entry.term);
            self.tail_bytes += weight(entry);
            self.tail.push_back(entry.clone());
        }
        self.last = entries.last().map_or(self.last, |entry| entry.index);
        self.trim();
    }

    /// The table shows everything up to `index`.
    pub(super) fn applied(&mut self, index: u64) {
        self.applied = index;
        self.trim();
    }

    fn trim(&mut self) {
        while self.tail_bytes > TAIL_BYTES_MAX
            && self.tail.front().is_some_and(|entry| entry.index <= self.applied)
        {
            let entry = self.tail.pop_front().expect("it has a first one");
            self.tail_bytes -= weight(&entry);
        }
    }

    pub(super) fn compact(&mut self, index: u64) {
        if index <= self.base.0 {
            return;
        }
        let term = self.known_term(index).expect("only what exists is compacted");
        self.base = (index, term);
        while self.terms.get(1).is_some_and(|(start, _)| *start <= index + 1) {
            self.terms.remove(0);
        }
        if let Some((start, _)) = self.terms.first_mut() {
            *start = (*start).max(index + 1);
        }
        if self.last == index {
            self.terms.clear();
        }
        while self.tail.front().is_some_and(|entry| entry.index <= index) {
            let entry = self.tail.pop_front().expect("it has a first one");
            self.tail_bytes -= weight(&entry);
        }
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        let meta = snapshot.get_metadata();
        self.base = (meta.index, meta.term);
        self.conf = meta.get_conf_state().clone();
        self.applied = meta.index;
        self.last = meta.index;
        self.terms.clear();
        self.tail.clear();
        self.tail_bytes = 0;
    }

    pub(super) fn take_fetches(&mut self) -> Vec<Fetch> {
        std::mem::take(self.fetches.get_mut())
    }

    pub(super) fn offer(&mut self, low: u64, entries: Vec<Entry>) {
        debug_assert!(entries.first().is_none_or(|entry| entry.index == low));
        self.offered = entries;
    }

    pub(super) fn withdraw(&mut self) {
        self.offered.clear();
    }

    pub(super) fn offer_snapshot(&mut self, snapshot: Option<(u64, Snapshot)>) {
        self.snapshot = snapshot;
    }

    pub(super) fn take_snapshot_wanted(&mut self) -> Vec<u64> {
        std::mem::take(self.snapshot_wanted.get_mut())
    }

    fn known_term(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        if index < self.base.0 || index > self.last {
            return None;
        }
        let run = self.terms.partition_point(|(start, _)| *start <= index);
        Some(self.terms[run - 1].1)
    }
}

fn weight(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 64
}

fn limited<'a>(entries: impl Iterator<Item = &'a Entry>, bytes_max: u64) -> Vec<Entry> {
    let mut total = 0;
    let mut taken = Vec::new();
    for entry in entries {
        total += weight(entry) as u64;
        if total > bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(entry.clone());
    }
    taken
}

impl Storage for View {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard.clone(), conf_state: self.conf.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let tail_from = self.last + 1 - self.tail.len() as u64;
        if low >= tail_from {
            let range = self.tail.range(position(low - tail_from)..position(high - tail_from));
            return Ok(limited(range, bytes_max));
        }
        if self.offered.first().is_some_and(|entry| entry.index == low) {
            return Ok(limited(self.offered.iter().take_while(|entry| entry.index < high), bytes_max));
        }
        if context.can_async() {
            self.fetches.borrow_mut().push(Fetch { low, high, bytes_max, context });
            return Err(Error::Store(StorageError::LogTemporarilyUnavailable));
        }
        Err(Error::Store(StorageError::Unavailable))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.known_term(index).ok_or(Error::Store(if index < self.base.0 {
            StorageError::Compacted
        } else {
            StorageError::Unavailable
        }))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        match &self.snapshot {
            Some((member, snapshot)) if *member == to && snapshot.get_metadata().index >= request_index => {
                Ok(snapshot.clone())
            }
            _ => {
                let mut wanted = self.snapshot_wanted.borrow_mut();
                if rt::site!("snapshot.wanted", !wanted.contains(&to)) {
                    wanted.push(to);
                }
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("entries in memory")
}
