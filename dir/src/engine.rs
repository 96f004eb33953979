//! Decides who is alive; does nothing. The leader's memory: leases, evidence, last reports of space.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub(crate) mod map;
pub(crate) mod services;

use std::collections::BTreeMap;
use std::time::Duration;

use proto::dir::{OsdEntry, OsdMap, has_room};
use proto::limits::{OSD_HEARTBEAT_MS, OSD_LEASE_MS};

use map::OsdRow;

/// Silence after which an OSD is down.
const LEASE: Duration = Duration::from_millis(OSD_LEASE_MS);
/// Silence after which the DIR looks for itself: a heartbeat is late.
const SUSPECT: Duration = Duration::from_millis(OSD_HEARTBEAT_MS * 4 / 3);
/// For so long beyond the first lease a new leader believes in OSDs that answer its looks and have not found it yet.
const GRACE: Duration = Duration::from_millis(OSD_LEASE_MS);
/// A report of a dead process counts for this long.
const EVIDENCE: Duration = Duration::from_secs(3);
/// Pause before the next look at an OSD that somebody was refused by or lost, and that a look said nothing about: a process
/// that is killed may keep its door for a moment longer than its connections.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// A decision that did not reach the map by then is taken again.
const RETRY: Duration = Duration::from_secs(1);
/// Reporters remembered per OSD; two decide, the rest is slack.
const REPORTERS_MAX: usize = 8;
/// Longest sleep of the driver: expiry of services needs no better.
const IDLE: Duration = Duration::from_secs(60);

/// What can happen.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// This member leads from now on.
    Led,
    /// It no longer does: its memory is worth nothing.
    Lost,
    /// The replicated map changed.
    Map(BTreeMap<u64, OsdRow>),
    /// An OSD says that it lives.
    Heartbeat(OsdEntry),
    /// An OSD says that it stops and serves nobody any more.
    Leaves(OsdEntry),
    /// Somebody was refused by an OSD's address, or lost the connection to it.
    Reported { osd: u64, addr: String, reporter: String, refused: bool },
    /// The DIR looked for itself.
    Probed { osd: u64, addr: String, verdict: Verdict },
    /// This process did not run for a while: that it heard of nobody meanwhile says nothing.
    Stalled,
    /// Time passed.
    Tick,
}

/// What a probe of an OSD's address gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Connection refused: no process.
    Dead,
    /// It answered.
    Alive,
    /// Silence, or something else answered.
    Unclear,
}

/// What must be done about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Put this registration into the log.
    Register(OsdEntry),
    /// Put this death into the log.
    TakeDown { osd: u64, addr: String, why: Why },
    /// Call the OSD's address after a pause, with a short deadline, and say what came of it.
    Probe { osd: u64, addr: String, after: Duration },
}

/// Why an OSD is taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Nothing heard for a whole lease.
    Silent,
    /// Two parties were refused, each by itself.
    Reported,
    /// It said that it stops.
    Left,
    /// The DIR was refused, and its heartbeat was late or another party was refused as well.
    Refused,
}

/// What the leader remembers of one OSD.
#[derive(Debug, Clone, Default)]
struct Life {
    /// Alive until then unless heard of.
    lease_until: Duration,
    /// Until then an answer to a look is as good as a heartbeat: it may not have found this leader yet.
    grace_until: Duration,
    /// Reporter -> until when the report counts, and whether it was refused.
    evidence: BTreeMap<String, (Duration, bool)>,
    /// A probe is on its way until then.
    probe_until: Duration,
    /// It was asked for by a report; else by the tick, which nothing may hold up.
    for_report: bool,
    /// Late heartbeats are looked into no sooner than then.
    suspect_next: Duration,
    /// A death was put into the log and should show by then.
    verdict_until: Duration,
    /// Last report: total, free, http.
    report: Option<(u64, u64, String)>,
}

/// See the module. Time is the leader's monotonic clock.
#[derive(Default)]
pub(crate) struct Engine {
    leading: bool,
    rows: BTreeMap<u64, OsdRow>,
    /// UUID -> number, of `rows`.
    numbers: BTreeMap<String, u64>,
    /// Same keys as `rows` while leading, empty otherwise.
    lives: BTreeMap<u64, Life>,
    /// How often a heartbeat said that an OSD is full, or not any more, that was not before.
    room_changes: u64,
}

impl Engine {
    /// Takes one event and says what must be done about it.
    pub(crate) fn handle(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let effects = match event {
            Event::Led => {
                self.leading = true;
                self.lives.clear();
                self.adopt(now + LEASE, now + LEASE + GRACE);
                Vec::new()
            }
            Event::Lost => {
                self.leading = false;
                self.lives.clear();
                Vec::new()
            }
            Event::Map(rows) => {
                self.numbers = rows.iter().map(|(osd, row)| (row.entry.uuid.clone(), *osd)).collect();
                self.rows = rows;
                self.adopt(now + LEASE, Duration::ZERO);
                Vec::new()
            }
            _ if !self.leading => Vec::new(),
            Event::Heartbeat(entry) => self.heartbeat(entry, now),
            Event::Leaves(entry) => self.leaves(&entry, now),
            Event::Reported { osd, addr, reporter, refused } => {
                self.reported(osd, &addr, (reporter, refused), now)
            }
            Event::Probed { osd, addr, verdict } => self.probed(osd, &addr, verdict, now),
            Event::Stalled => {
                for life in self.lives.values_mut() {
                    life.lease_until = life.lease_until.max(now + SUSPECT);
                }
                Vec::new()
            }
            Event::Tick => self.tick(now),
        };
        self.invariants();
        effects
    }

    /// When the next `Tick` is due.
    pub(crate) fn next_tick(&self, now: Duration) -> Duration {
        let due = |(osd, life): (&u64, &Life)| {
            let alive = self.rows.get(osd).is_some_and(|row| row.alive);
            alive.then(|| life.suspect_at().min(life.lease_until).max(life.verdict_until))
        };
        self.lives.iter().filter_map(due).min().unwrap_or(now + IDLE).clamp(now, now + IDLE)
    }

    /// The map with the last reports of space in it.
    pub(crate) fn map(&self, epoch: u64) -> OsdMap {
        let mut map = map::osd_map(epoch, self.rows.values());
        for entry in &mut map.osds {
            if let Some((total, free, http)) = self.lives.get(&entry.osd).and_then(|life| life.report.clone())
            {
                (entry.total_bytes, entry.free_bytes, entry.http) = (total, free, http);
            }
        }
        map
    }

    /// Grows with each OSD that becomes full, or has room again.
    pub(crate) fn room_changes(&self) -> u64 {
        self.room_changes
    }

    /// The number of an OSD.
    pub(crate) fn number_of(&self, uuid: &str) -> Option<u64> {
        self.numbers.get(uuid).copied()
    }

    /// `lives` follows `rows`; who is new gets this lease.
    fn adopt(&mut self, lease_until: Duration, grace_until: Duration) {
        if !self.leading {
            return;
        }
        let rows = &self.rows;
        self.lives.retain(|osd, _| rows.contains_key(osd));
        for osd in rows.keys() {
            self.lives.entry(*osd).or_insert_with(|| Life { lease_until, grace_until, ..Life::default() });
        }
    }

    fn heartbeat(&mut self, entry: OsdEntry, now: Duration) -> Vec<Effect> {
        let Some(osd) = self.number_of(&entry.uuid) else {
            return vec![Effect::Register(entry)];
        };
        if let Some(life) = self.lives.get_mut(&osd) {
            (life.lease_until, life.grace_until) = (now + LEASE, Duration::ZERO);
            life.evidence.clear();
            // Before its first heartbeat here it counts by what it registered with, as in the map.
            let had_room = match &life.report {
                Some((total, free, _)) => has_room(*total, *free),
                None => self.rows.get(&osd).is_some_and(|row| row.entry.has_room()),
            };
            if had_room != entry.has_room() {
                self.room_changes += 1;
            }
            life.report = Some((entry.total_bytes, entry.free_bytes, entry.http.clone()));
        }
        let changes = self.rows.get(&osd).is_some_and(|row| row.changes_with(&entry));
        if changes { vec![Effect::Register(entry)] } else { Vec::new() }
    }

    /// Only the life that the map knows may end: an OSD that was started again has another one.
    fn leaves(&mut self, entry: &OsdEntry, now: Duration) -> Vec<Effect> {
        let Some(osd) = self.number_of(&entry.uuid) else { return Vec::new() };
        if self.rows.get(&osd).is_none_or(|row| row.entry.life != entry.life) {
            return Vec::new();
        }
        match Self::living(&self.rows, &mut self.lives, osd, &entry.addr) {
            Some(life) => life.take_down(osd, &entry.addr, Why::Left, now),
            None => Vec::new(),
        }
    }

    fn reported(
        &mut self,
        osd: u64,
        addr: &str,
        (reporter, refused): (String, bool),
        now: Duration,
    ) -> Vec<Effect> {
        let Some(life) = Self::living(&self.rows, &mut self.lives, osd, addr) else {
            return Vec::new();
        };
        life.evidence.retain(|_, (until, _)| *until > now);
        if life.evidence.len() < REPORTERS_MAX || life.evidence.contains_key(&reporter) {
            life.evidence.insert(reporter, (now + EVIDENCE, refused));
        }
        // A reset connection proves nothing: a living OSD holds a lease and may answer reads as long as it lasts.
        if life.evidence.values().filter(|(_, refused)| *refused).count() >= 2 {
            return life.take_down(osd, addr, Why::Reported, now);
        }
        if life.probe_until > now {
            return Vec::new();
        }
        life.for_report = true;
        vec![life.probe(osd, addr, Duration::ZERO, now)]
    }

    fn probed(&mut self, osd: u64, addr: &str, verdict: Verdict, now: Duration) -> Vec<Effect> {
        let Some(life) = Self::living(&self.rows, &mut self.lives, osd, addr) else {
            return Vec::new();
        };
        life.probe_until = Duration::ZERO;
        life.evidence.retain(|_, (until, _)| *until > now);
        match verdict {
            // A heartbeat since has cleared the evidence: then it is a young process that is not listening yet.
            Verdict::Dead if !life.evidence.is_empty() || life.is_late(now) => {
                life.take_down(osd, addr, Why::Refused, now)
            }
            Verdict::Alive => {
                life.evidence.clear();
                life.lease_until = life.lease_until.max(life.grace_until.min(now + LEASE));
                Vec::new()
            }
            Verdict::Unclear if !life.evidence.is_empty() => {
                if life.for_report {
                    return vec![life.probe(osd, addr, LOOK_AGAIN, now)];
                }
                life.suspect_next = now + LOOK_AGAIN;
                Vec::new()
            }
            Verdict::Dead | Verdict::Unclear => Vec::new(),
        }
    }

    fn tick(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (osd, row) in self.rows.iter().filter(|(_, row)| row.alive) {
            let Some(life) = self.lives.get_mut(osd) else { continue };
            if life.lease_until <= now {
                effects.extend(life.take_down(*osd, &row.entry.addr, Why::Silent, now));
            } else if life.suspect_at() <= now && life.verdict_until <= now && life.probe_until <= now {
                (life.suspect_next, life.for_report) = (now + SUSPECT, false);
                effects.push(life.probe(*osd, &row.entry.addr, Duration::ZERO, now));
            }
        }
        effects
    }

    /// The memory of an OSD that the map says lives at `addr`.
    fn living<'a>(
        rows: &BTreeMap<u64, OsdRow>,
        lives: &'a mut BTreeMap<u64, Life>,
        osd: u64,
        addr: &str,
    ) -> Option<&'a mut Life> {
        rows.get(&osd).filter(|row| row.alive && row.entry.addr == addr)?;
        lives.get_mut(&osd)
    }

    fn invariants(&self) {
        assert!(self.leading || self.lives.is_empty(), "only a leader remembers");
        assert_eq!(self.numbers.len(), self.rows.len(), "one number per UUID");
        assert!(!self.leading || self.lives.keys().eq(self.rows.keys()), "a life per row");
    }
}

impl Life {
    /// No heartbeat when there should have been one.
    fn is_late(&self, now: Duration) -> bool {
        self.lease_until.saturating_sub(LEASE - SUSPECT) <= now
    }

    /// When its silence is looked into.
    fn suspect_at(&self) -> Duration {
        self.lease_until.saturating_sub(LEASE - SUSPECT).max(self.suspect_next).max(self.probe_until)
    }

    /// One look at a time; one that nobody hears of again counts as lost after a while.
    fn probe(&mut self, osd: u64, addr: &str, after: Duration, now: Duration) -> Effect {
        self.probe_until = now + after + RETRY;
        Effect::Probe { osd, addr: addr.to_owned(), after }
    }

    /// The decision, unless it was taken a moment ago.
    fn take_down(&mut self, osd: u64, addr: &str, why: Why, now: Duration) -> Vec<Effect> {
        if self.verdict_until > now {
            return Vec::new();
        }
        self.verdict_until = now + RETRY;
        self.evidence.clear();
        vec![Effect::TakeDown { osd, addr: addr.to_owned(), why }]
    }
}

#[cfg(test)]
#[path = "engine/liveness_test.rs"]
mod liveness_test;
