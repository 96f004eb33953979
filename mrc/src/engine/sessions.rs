//! Sessions and open files in the leader's memory.
//!
//! ```text
//!            lead()                     every known session came back, or one TTL passed
//! Following ────────> Leading, grace ──────────────────────────────────────────────────> Leading
//!     ^                   │  every unlinked file counts as open                             │
//!     └───────────────────┴───────────────────────── follow() ──────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::error::{Code, WireError};
use proto::limits::ANSWERS_PER_SESSION;
use proto::mrc::OpenFile;

/// (volume, inode).
pub type FileId = (u64, u64);

/// Most sessions of one leader.
const SESSIONS_MAX: usize = 65_536;
/// Most files that one session has open.
const OPEN_FILES_MAX: usize = 1 << 20;

/// How long a file can still be opened after a rename put another in its place.
const REPLACED_STAYS: Duration = Duration::from_secs(1);
/// Most such files.
const REPLACED_MAX: usize = 65_536;

/// Handles of one file.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Handles {
    /// All.
    pub all: u32,
    /// Those that may write.
    pub writing: u32,
}

#[derive(Debug)]
struct Session {
    seen: Duration,
    open: BTreeMap<FileId, Handles>,
    /// Sequences of `Create`s whose handle is counted: a repeat is not counted again.
    creates: BTreeSet<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Sessions {
    ttl: Duration,
    leading: bool,
    incarnation: u64,
    /// End of the grace period, at the latest.
    grace_until: Duration,
    /// Sessions of former leaders that have not come back yet.
    awaited: BTreeSet<u64>,
    sessions: BTreeMap<u64, Session>,
    /// Sums over the sessions.
    files: BTreeMap<FileId, Handles>,
    /// Files that a command in flight frees because nobody had them open, with the number of such commands.
    freeing: BTreeMap<FileId, u32>,
    /// Commands in flight that make a file without a name: in that volume, with a number from there on. Its handle is
    /// counted when the command is answered; until then nothing of that range may be freed.
    nameless: BTreeMap<FileId, u32>,
    /// Files whose name was taken by another a moment ago, and until when they stay: whoever found the name just before
    /// is about to open them.
    replaced: BTreeMap<FileId, Duration>,
}

impl Sessions {
    /// Follows nobody and leads nobody yet.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            leading: false,
            incarnation: 0,
            grace_until: Duration::ZERO,
            awaited: BTreeSet::new(),
            sessions: BTreeMap::new(),
            files: BTreeMap::new(),
            freeing: BTreeMap::new(),
            nameless: BTreeMap::new(),
            replaced: BTreeMap::new(),
        }
    }

    /// This member leads from now on; `known` are the sessions that the table has.
    pub fn lead(&mut self, now: Duration, incarnation: u64, known: impl IntoIterator<Item = u64>) {
        *self = Self { leading: true, incarnation, grace_until: now + self.ttl, ..Self::new(self.ttl) };
        self.awaited = known.into_iter().collect();
    }

    /// This member does not lead any more: what it knew is void.
    pub fn follow(&mut self) {
        *self = Self::new(self.ttl);
    }

    /// Whether this member leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leading
    }

    /// Changes whenever open files were forgotten.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether some client may still have files open that it has not told of.
    #[must_use]
    pub fn in_grace(&self, now: Duration) -> bool {
        !self.awaited.is_empty() && now < self.grace_until
    }

    /// Whether one more session may be opened.
    pub fn room_for(&self, id: u64) -> Result<(), WireError> {
        if !self.sessions.contains_key(&id) && self.sessions.len() >= SESSIONS_MAX {
            return Err(WireError::new(Code::Busy, format!("{SESSIONS_MAX} sessions are open, the limit")));
        }
        Ok(())
    }

    /// Opens or re-opens a session; its open files are exactly `open` afterwards.
    pub fn open_session(&mut self, now: Duration, id: u64, open: &[OpenFile]) -> Result<(), WireError> {
        self.room_for(id)?;
        if open.len() > OPEN_FILES_MAX {
            return Err(WireError::new(
                Code::Busy,
                format!("{OPEN_FILES_MAX} open files are the limit of a session"),
            ));
        }
        let creates = self.end_session(id).unwrap_or_default();
        self.awaited.remove(&id);
        self.sessions.insert(id, Session { seen: now, open: BTreeMap::new(), creates });
        for file in open {
            let all = file.count.max(1);
            let handles = Handles { all, writing: if file.writing { all } else { 0 } };
            self.count(id, (file.volume, file.ino), handles);
        }
        self.invariants();
        Ok(())
    }

    /// A sign of life.
    pub fn renew(&mut self, now: Duration, id: u64) -> Result<(), WireError> {
        match self.sessions.get_mut(&id) {
            Some(session) => {
                session.seen = session.seen.max(now);
                Ok(())
            }
            None => Err(unknown(id)),
        }
    }

    /// Forgets a session and closes what it had open; gives back its counted creates.
    fn end_session(&mut self, id: u64) -> Option<BTreeSet<u64>> {
        let session = self.sessions.remove(&id)?;
        for (file, handles) in session.open {
            self.subtract(file, handles);
        }
        Some(session.creates)
    }

    /// The session is over. True when it had been known.
    pub fn close_session(&mut self, id: u64) -> bool {
        let awaited = self.awaited.remove(&id);
        let known = self.end_session(id).is_some();
        self.invariants();
        known || awaited
    }

    /// This process itself stood still (a suspended machine, a stopped process): nobody could give it a sign of
    /// life, so every session gets its full time from now on.
    pub fn forgive(&mut self, now: Duration) {
        for session in self.sessions.values_mut() {
            session.seen = now;
        }
        if !self.awaited.is_empty() {
            self.grace_until = now + self.ttl;
        }
    }

    /// Sessions that gave no sign of life for a TTL, and after the grace period those that never came back.
    #[must_use]
    pub fn expired(&self, now: Duration) -> Vec<u64> {
        let silent = self.sessions.iter().filter(|(_, session)| now.saturating_sub(session.seen) > self.ttl);
        let mut out: Vec<u64> = silent.map(|(id, _)| *id).collect();
        if now >= self.grace_until {
            out.extend(&self.awaited);
        }
        out
    }

    /// Whether the session is known here.
    #[must_use]
    pub fn knows(&self, id: u64) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Counts a handle. Refused while a command in flight frees the file.
    pub fn open_file(&mut self, id: u64, file: FileId, write: bool) -> Result<(), WireError> {
        if self.freeing.contains_key(&file) {
            return Err(WireError::new(
                Code::Busy,
                format!("ino-{} is being removed or encoded at this moment; try again", file.1),
            ));
        }
        let session = self.sessions.get(&id).ok_or_else(|| unknown(id))?;
        if session.open.len() >= OPEN_FILES_MAX && !session.open.contains_key(&file) {
            return Err(WireError::new(
                Code::Busy,
                format!("{OPEN_FILES_MAX} open files are the limit of a session"),
            ));
        }
        self.count(id, file, Handles { all: 1, writing: u32::from(write) });
        self.invariants();
        Ok(())
    }

    /// Counts the handle of a `Create` with this sequence, once however often it is repeated.
    pub fn open_created(
        &mut self,
        id: u64,
        file: FileId,
        write: bool,
        sequence: u64,
        acked_below: u64,
    ) -> Result<(), WireError> {
        self.count_once(id, file, Handles { all: 1, writing: u32::from(write) }, (sequence, acked_below))
    }

    /// Counts handles that a mutation with this (sequence, acked below) tells of, once however often it is repeated.
    pub fn count_once(
        &mut self,
        id: u64,
        file: FileId,
        handles: Handles,
        (sequence, acked_below): (u64, u64),
    ) -> Result<(), WireError> {
        let session = self.sessions.get_mut(&id).ok_or_else(|| unknown(id))?;
        session.creates = session.creates.split_off(&acked_below);
        if sequence != 0 && !session.creates.insert(sequence) {
            return Ok(());
        }
        // The group keeps no more answers than this either, so an older sequence cannot be repeated.
        if session.creates.len() > ANSWERS_PER_SESSION {
            session.creates.pop_first();
        }
        self.count(id, file, handles);
        self.invariants();
        Ok(())
    }

    /// The client opened handles by itself and tells of them now.
    pub fn count_untold(&mut self, id: u64, file: FileId, handles: Handles) {
        if handles.all > 0 && self.knows(id) {
            self.count(id, file, handles);
            self.invariants();
        }
    }

    /// Whether the session has any file open for writing.
    #[must_use]
    pub fn writes(&self, id: u64) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.open.values().any(|handles| handles.writing > 0))
    }

    /// A handle is closed. True when it was the last one of any session.
    pub fn close_file(&mut self, id: u64, file: FileId, write: bool) -> bool {
        let Some(held) = self.sessions.get_mut(&id).and_then(|session| session.open.get_mut(&file)) else {
            return false;
        };
        let before = *held;
        held.all -= 1;
        // After re-opening every handle of a written file counts as a writing one: too many, never too few.
        held.writing = held.writing.saturating_sub(u32::from(write)).min(held.all);
        let gone = Handles { all: 1, writing: before.writing - held.writing };
        if held.all == 0 {
            self.sessions.get_mut(&id).expect("found above").open.remove(&file);
        }
        self.subtract(file, gone);
        self.invariants();
        !self.files.contains_key(&file)
    }

    /// Handles of a file over all sessions.
    #[must_use]
    pub fn handles(&self, file: FileId) -> Handles {
        self.files.get(&file).copied().unwrap_or_default()
    }

    /// A rename is about to put another file in the place of this one: it can still be opened for a while. Otherwise an
    /// open that found it would fail although the name was there all the time.
    pub fn replaces(&mut self, now: Duration, file: FileId) {
        if self.replaced.len() >= REPLACED_MAX {
            self.replaced.retain(|_, until| now < *until);
        }
        if self.replaced.len() < REPLACED_MAX {
            self.replaced.insert(file, now + REPLACED_STAYS);
        }
    }

    /// Begins freeing a file: true when surely nobody has it open; then opens are refused until [`Sessions::freed`].
    pub fn begin_free(&mut self, now: Duration, file: FileId) -> bool {
        let perhaps_new = self.nameless.range((file.0, 0)..=file).next().is_some();
        if !self.leading || self.in_grace(now) || self.files.contains_key(&file) || perhaps_new {
            return false;
        }
        if self.replaced.get(&file).is_some_and(|until| now < *until) {
            return false;
        }
        self.replaced.remove(&file);
        *self.freeing.entry(file).or_default() += 1;
        true
    }

    /// Begins an encoding's decision: true when surely nobody of those who do not take part in leases has the file open; then
    /// opens are refused until [`Sessions::freed`].
    pub fn begin_closed(&mut self, now: Duration, file: FileId, takes_part: impl Fn(u64) -> bool) -> bool {
        let known = self.files.contains_key(&file);
        let open = known
            && self.sessions.iter().any(|(id, session)| session.open.contains_key(&file) && !takes_part(*id));
        if !self.leading || self.in_grace(now) || open {
            return false;
        }
        *self.freeing.entry(file).or_default() += 1;
        true
    }

    /// Ends what [`Sessions::begin_free`] or [`Sessions::begin_closed`] began.
    pub fn freed(&mut self, file: FileId) {
        if let Some(count) = self.freeing.get_mut(&file) {
            *count -= 1;
            if *count == 0 {
                self.freeing.remove(&file);
            }
        }
    }

    /// A command is about to make a file without a name, which will have number `floor.1` or a higher one.
    pub fn begin_nameless(&mut self, floor: FileId) {
        *self.nameless.entry(floor).or_default() += 1;
    }

    /// The command is answered and its handle counted, or it failed.
    pub fn end_nameless(&mut self, floor: FileId) {
        if let Some(count) = self.nameless.get_mut(&floor) {
            *count -= 1;
            if *count == 0 {
                self.nameless.remove(&floor);
            }
        }
    }

    /// Sessions known, for status pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn count(&mut self, id: u64, file: FileId, add: Handles) {
        let session = self.sessions.get_mut(&id).expect("callers checked");
        for sum in [session.open.entry(file).or_default(), self.files.entry(file).or_default()] {
            sum.all = sum.all.saturating_add(add.all);
            sum.writing = sum.writing.saturating_add(add.writing);
        }
    }

    fn subtract(&mut self, file: FileId, gone: Handles) {
        let Some(sum) = self.files.get_mut(&file) else { return };
        sum.all = sum.all.saturating_sub(gone.all);
        sum.writing = sum.writing.saturating_sub(gone.writing);
        if sum.all == 0 {
            self.files.remove(&file);
        }
    }

    /// What holds after every event (tests only: it walks everything).
    fn invariants(&self) {
        if cfg!(test) {
            let mut sums: BTreeMap<FileId, Handles> = BTreeMap::new();
            for (file, handles) in self.sessions.values().flat_map(|session| &session.open) {
                assert!(handles.all > 0 && handles.writing <= handles.all, "{file:?}: {handles:?}");
                let sum = sums.entry(*file).or_default();
                sum.all += handles.all;
                sum.writing += handles.writing;
            }
            assert_eq!(sums, self.files);
            assert!(self.sessions.keys().all(|id| !self.awaited.contains(id)));
        }
    }
}

fn unknown(id: u64) -> WireError {
    WireError::new(
        Code::SessionUnknown,
        format!("session {id:016x} is not known to this leader; open it again"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_can_be_opened_for_a_while() {
        let mut sessions = Sessions::new(Duration::from_secs(10));
        sessions.lead(Duration::ZERO, 1, []);
        sessions.open_session(Duration::ZERO, 1, &[]).unwrap();
        sessions.replaces(Duration::ZERO, (1, 7));
        assert!(!sessions.begin_free(REPLACED_STAYS / 2, (1, 7)));
        sessions.open_file(1, (1, 7), false).unwrap();
        sessions.close_file(1, (1, 7), false);
        assert!(sessions.begin_free(REPLACED_STAYS, (1, 7)) && sessions.replaced.is_empty());
        for ino in 0..=REPLACED_MAX as u64 {
            sessions.replaces(Duration::ZERO, (1, ino));
        }
        assert_eq!(sessions.replaced.len(), REPLACED_MAX);
        sessions.replaces(REPLACED_STAYS, (1, 1));
        assert_eq!(sessions.replaced.len(), 1);
    }

    const TTL: Duration = Duration::from_secs(15);
    const FILE: FileId = (1, 7);

    fn leading(known: &[u64]) -> Sessions {
        let mut sessions = Sessions::new(TTL);
        sessions.lead(Duration::ZERO, 42, known.iter().copied());
        sessions
    }

    #[test]
    fn grace_ends_when_every_known_session_is_back_or_the_ttl_is_over() {
        let mut sessions = leading(&[1, 2]);
        assert!(!sessions.begin_free(Duration::ZERO, FILE));
        sessions.open_session(Duration::ZERO, 1, &[]).unwrap();
        assert!(sessions.in_grace(TTL - Duration::from_millis(1)));
        assert_eq!(sessions.expired(TTL), [2]);
        assert!(!sessions.in_grace(TTL));
        sessions.open_session(Duration::ZERO, 2, &[]).unwrap();
        assert!(!sessions.in_grace(Duration::ZERO));
        assert!(!leading(&[]).in_grace(Duration::ZERO));
    }

    #[test]
    fn a_file_is_open_until_the_last_session_closes_it() {
        let mut sessions = leading(&[]);
        let mine = OpenFile { volume: 1, ino: 7, writing: true, count: 2 };
        sessions.open_session(Duration::ZERO, 1, &[mine]).unwrap();
        sessions.open_session(Duration::ZERO, 2, &[]).unwrap();
        sessions.open_file(2, FILE, false).unwrap();
        assert_eq!(sessions.handles(FILE), Handles { all: 3, writing: 2 });
        assert!(!sessions.close_file(1, FILE, true));
        assert!(!sessions.close_file(1, FILE, false));
        assert!(!sessions.close_file(1, FILE, false), "closed more often than opened");
        assert_eq!(sessions.handles(FILE), Handles { all: 1, writing: 0 });
        assert!(!sessions.begin_free(Duration::ZERO, FILE));
        assert!(sessions.close_file(2, FILE, false));
        assert!(sessions.begin_free(Duration::ZERO, FILE));
        assert_eq!(sessions.open_file(1, FILE, false).unwrap_err().code, Code::Busy);
        sessions.freed(FILE);
        sessions.open_file(1, FILE, false).unwrap();
        assert_eq!(sessions.expired(TTL + Duration::from_millis(1)), [1, 2]);
        assert!(sessions.close_session(1));
        assert_eq!(sessions.handles(FILE), Handles::default());
        assert_eq!(sessions.renew(Duration::ZERO, 1).unwrap_err().code, Code::SessionUnknown);
    }

    #[test]
    fn a_leader_that_stood_still_blames_nobody() {
        let mut sessions = leading(&[2]);
        sessions.open_session(Duration::ZERO, 1, &[]).unwrap();
        let later = TTL * 3;
        assert_eq!(sessions.expired(later), [1, 2]);
        sessions.forgive(later);
        assert!(sessions.expired(later).is_empty() && sessions.in_grace(later));
        assert_eq!(sessions.expired(later + TTL * 2), [1, 2]);
    }

    #[test]
    fn a_file_without_a_name_is_not_freed_before_its_handle_is_counted() {
        let mut sessions = leading(&[]);
        sessions.open_session(Duration::ZERO, 1, &[]).unwrap();
        sessions.begin_nameless((1, 7));
        sessions.begin_nameless((1, 7));
        assert!(!sessions.begin_free(Duration::ZERO, (1, 7)));
        assert!(!sessions.begin_free(Duration::ZERO, (1, 900)));
        assert!(sessions.begin_free(Duration::ZERO, (1, 6)));
        assert!(sessions.begin_free(Duration::ZERO, (2, 8)));
        sessions.open_created(1, FILE, true, 5, 2).unwrap();
        sessions.end_nameless((1, 7));
        assert!(!sessions.begin_free(Duration::ZERO, (1, 8)), "the other one is still under way");
        sessions.end_nameless((1, 7));
        assert!(sessions.begin_free(Duration::ZERO, (1, 8)));
        assert!(!sessions.begin_free(Duration::ZERO, FILE));
    }

    #[test]
    fn a_repeated_create_counts_one_handle() {
        let mut sessions = leading(&[]);
        sessions.open_session(Duration::ZERO, 1, &[]).unwrap();
        for _ in 0..3 {
            sessions.open_created(1, FILE, true, 5, 2).unwrap();
        }
        assert_eq!(sessions.handles(FILE).all, 1);
        assert!(sessions.close_file(1, FILE, true));
    }
}
