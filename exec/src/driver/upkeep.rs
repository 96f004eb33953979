//! What is done from time to time: looks into the spool, the lease, status files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::{Done, Driver};
use crate::engine::{Control, Event, JobState, Verb};
use crate::id::JobId;
use crate::spool::control::Wishes;
use crate::spool::lease::RenewError;
use crate::spool::scan::{Presence, Scan};
use crate::spool::user_path;
use crate::store::{Put, StoreError};

const PRESENCE_EVERY: Duration = Duration::from_secs(1);
const WISHES_EVERY: Duration = Duration::from_millis(300);
/// The same looks while the change stream tells what happens: for what it cannot tell.
const SCAN_WATCHED: Duration = Duration::from_secs(30);
const PRESENCE_WATCHED: Duration = Duration::from_secs(30);
const WISHES_WATCHED: Duration = Duration::from_secs(5);
/// A wish may have been made while its job was being claimed.
const WISHES_AFTER_CLAIM: Duration = Duration::from_millis(300);
const STATUS_EVERY: Duration = Duration::from_millis(250);
const USER_STATUS_EVERY: Duration = Duration::from_secs(2);
/// Status files written in one go.
const STATUS_AT_ONCE: usize = 16;
/// Control directories of waiting jobs looked at in one go; those of started jobs are looked at each time.
const WISH_LOOKS: usize = 32;
/// A job that lives shorter gets its status file at the end only, milliseconds.
const STATUS_AFTER_MS: u64 = 250;

impl Driver {
    pub(super) fn on_tick(&mut self) {
        let now = self.hands.clock.monotonic();
        self.feed(Event::Tick);
        self.look_where_due();
        if !self.renewing && now >= self.clocks.lease {
            self.clocks.lease = now + self.hands.set.lease_ttl / 5;
            self.renew();
        }
        if now >= self.clocks.status {
            self.clocks.status = now + STATUS_EVERY;
            self.write_statuses();
        }
        if now >= self.clocks.user_status {
            self.clocks.user_status = now + USER_STATUS_EVERY;
            self.write_user_statuses();
        }
        let (slots_used, slots) = self.engine.slots();
        let mut status = self.status.lock();
        status.active = true;
        status.epoch = self.hands.lease.epoch();
        (status.slots_used, status.slots) = (slots_used, slots);
        status.live = self.engine.live();
        status.ended = self.ended;
    }

    pub(super) fn look_where_due(&mut self) {
        let now = self.hands.clock.monotonic();
        if !self.scanning && now >= self.clocks.scan {
            self.start_scan();
        }
        if !self.looking && now >= self.clocks.presence {
            // A name in `run/` without a job is judged by a second look.
            let watched = self.watching && !self.suspects();
            self.clocks.presence = now + if watched { PRESENCE_WATCHED } else { PRESENCE_EVERY };
            self.start_presence(now);
        }
        if now >= self.clocks.wishes {
            self.clocks.wishes = now + if self.watching { WISHES_WATCHED } else { WISHES_EVERY };
            self.look_for_wishes();
        }
    }

    fn start_scan(&mut self) {
        self.scanning = true;
        let hands = self.hands.clone();
        let room = hands.set.live_max.saturating_sub(self.engine.live());
        self.tasks.spawn(async move {
            match hands.assert_lease().await {
                Ok(()) => vec![Done::Scan(hands.scan(room).await)],
                Err(RenewError::Fenced(fenced)) => vec![Done::Fenced(fenced.0)],
                Err(RenewError::Store(error)) => vec![Done::Scan(Err(error))],
            }
        });
    }

    pub(super) fn on_scan(&mut self, result: Result<Scan, StoreError>) {
        self.scanning = false;
        let now = self.hands.clock.monotonic();
        match result {
            Ok(scan) => {
                self.status.lock().trouble = None;
                let claimed = scan.claimed.len();
                let some = claimed + scan.rejected > 0;
                self.users = scan.users.into_iter().map(|a| a.name).collect();
                for facts in scan.claimed {
                    self.feed(Event::Claimed { facts });
                }
                if scan.failed {
                    // Its descriptor may be in `run/` by now (a full disk): a scan of `new/` will not see it again.
                    self.half_claimed = Some(now);
                    self.clocks.presence = self.clocks.presence.min(now + PRESENCE_EVERY);
                }
                if claimed > 0 {
                    self.clocks.wishes = self.clocks.wishes.min(now + WISHES_AFTER_CLAIM);
                }
                // A writer that closes its file is no event: what waits for one is looked at again.
                self.busy = scan.pending || !self.watching && (some || self.engine.live() > 0);
                let again = scan.more && some || std::mem::take(&mut self.look_again);
                let pause = match (again, self.busy, self.watching) {
                    (true, _, _) => Duration::ZERO,
                    (false, true, _) => self.poll_busy,
                    (false, false, true) => SCAN_WATCHED,
                    (false, false, false) => self.poll_idle,
                };
                self.clocks.scan = now + pause;
                if again {
                    self.look_where_due();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "looking into the spool");
                self.status.lock().trouble = Some(error.to_string());
                self.clocks.scan = now + self.poll_idle;
            }
        }
    }

    /// Whether something in `run/` may belong to no job.
    fn suspects(&self) -> bool {
        !self.strangers.is_empty() || self.half_claimed.is_some()
    }

    fn start_presence(&mut self, began: Duration) {
        let before: BTreeSet<JobId> = self.engine.jobs().map(|j| j.facts.id.clone()).collect();
        let users: BTreeSet<String> = self.engine.jobs().map(|j| j.facts.user.clone()).collect();
        let users: Vec<String> =
            if self.suspects() { self.users.clone() } else { users.into_iter().collect() };
        if users.is_empty() {
            return;
        }
        self.looking = true;
        let hands = self.hands.clone();
        self.tasks.spawn(async move {
            let result = hands.presence(&users).await;
            vec![Done::Presence { result, before, began }]
        });
    }

    /// Compares where descriptors stand with where jobs think they do.
    pub(super) fn on_presence(
        &mut self,
        result: Result<Presence, StoreError>,
        before: &BTreeSet<JobId>,
        began: Duration,
    ) {
        self.looking = false;
        let presence = match result {
            Ok(presence) => presence,
            Err(error) => {
                tracing::warn!(%error, "looking at run/ and hold/");
                return;
            }
        };
        let mut events = Vec::new();
        for id in before {
            let Some(job) = self.engine.job(id) else { continue };
            let over = matches!(job.state, JobState::Over(_) | JobState::Cleanup(_));
            let moved = self.moving.contains(id) || self.moved.get(id).is_some_and(|at| *at >= began);
            if over || moved || job.cancel.is_some() {
                continue;
            }
            let held = job.state == JobState::Held;
            match (presence.run.contains_key(id), presence.hold.contains_key(id)) {
                (false, false) => events.push(Event::DescriptorGone { job: id.clone() }),
                (true, _) if held => events.push(Event::MovedToRun { job: id.clone() }),
                (false, true) if job.state.is_waiting() && !held => {
                    let control = Control::bare(Verb::Hold);
                    events.push(Event::Control { job: id.clone(), control });
                }
                _ => {}
            }
        }
        for event in events {
            self.feed(event);
        }
        let unknown: BTreeMap<&JobId, &(String, String)> =
            presence.run.iter().filter(|(id, _)| self.engine.job(id).is_none()).collect();
        for (id, (user, file)) in &unknown {
            // Seen twice in a row: not one that is just being claimed or published.
            if self.strangers.contains(*id) {
                let (hands, id, user, file) = (self.hands.clone(), (*id).clone(), user.clone(), file.clone());
                self.tasks.spawn(async move {
                    match hands.recover(&user, &file, &id).await {
                        Ok(Some(found)) => vec![Done::Found(Box::new(found))],
                        Ok(None) => vec![],
                        Err(error) => {
                            tracing::warn!(job = %id, %error, "taking up a descriptor in run/");
                            vec![]
                        }
                    }
                });
            }
        }
        self.strangers = unknown.into_keys().cloned().collect();
        if self.strangers.is_empty() && self.half_claimed.is_some_and(|at| at <= began) {
            self.half_claimed = None;
        }
        if self.suspects() {
            let soon = self.hands.clock.monotonic() + PRESENCE_EVERY;
            self.clocks.presence = self.clocks.presence.min(soon);
        }
    }

    fn look_for_wishes(&mut self) {
        let mut looks: Vec<(JobId, String)> = Vec::new();
        let mut waiting = Vec::new();
        for job in self.engine.jobs() {
            let entry = (job.facts.id.clone(), job.facts.user.clone());
            match job.state {
                JobState::Run | JobState::Susp | JobState::Held => looks.push(entry),
                JobState::Sched | JobState::Depend => waiting.push(entry),
                _ => {}
            }
        }
        looks.truncate(256);
        // The others in turns.
        let start = match &self.wish_cursor {
            Some(cursor) => waiting.iter().position(|(id, _)| id > cursor).unwrap_or(0),
            None => 0,
        };
        let turn: Vec<_> =
            waiting.iter().cycle().skip(start).take(WISH_LOOKS.min(waiting.len())).cloned().collect();
        self.wish_cursor = turn.last().map(|(id, _)| id.clone());
        looks.extend(turn);
        if looks.is_empty() {
            return;
        }
        let hands = self.hands.clone();
        self.tasks.spawn(async move {
            let mut out = Vec::new();
            for (job, user) in looks {
                if let Ok(wishes) = hands.wishes(&user, &job).await
                    && !(wishes.sound.is_empty() && wishes.faulty.is_empty())
                {
                    out.push(Done::Wishes { job, wishes });
                }
            }
            out
        });
    }

    pub(super) fn on_wishes(&mut self, job: &JobId, wishes: Wishes) {
        let Some(user) = self.user_of(job) else { return };
        for (file, text) in wishes.faulty {
            if self.wished.insert((job.clone(), file.clone())) {
                self.answer(user.clone(), job.clone(), file, false, text);
            }
        }
        for control in wishes.sound {
            let Some(file) = control.file.clone() else { continue };
            if self.wished.insert((job.clone(), file)) {
                self.feed(Event::Control { job: job.clone(), control });
            }
        }
    }

    fn renew(&mut self) {
        self.renewing = true;
        let hands = self.hands.clone();
        self.tasks.spawn(async move {
            match hands.renew_lease().await {
                Ok(()) => vec![Done::Renewed(Ok(()))],
                Err(RenewError::Fenced(fenced)) => vec![Done::Fenced(fenced.0)],
                Err(RenewError::Store(error)) => vec![Done::Renewed(Err(error))],
            }
        });
    }

    fn write_statuses(&mut self) {
        let now = self.hands.now_ms();
        for id in self.engine.take_dirty(STATUS_AT_ONCE) {
            let Some(job) = self.engine.job(&id) else { continue };
            if matches!(job.state, JobState::Over(_)) {
                continue;
            }
            if now < job.facts.submitted_ms + STATUS_AFTER_MS {
                self.engine.mark_dirty(&id);
                continue;
            }
            let (user, view) = (job.facts.user.clone(), self.engine.view(&id));
            let Some(view) = view else { continue };
            let hands = self.hands.clone();
            self.tasks.spawn(async move {
                if let Err(error) = hands.write_status(&user, &id, &view).await {
                    tracing::debug!(job = %id, %error, "writing a status file");
                }
                vec![]
            });
        }
    }

    /// `spool/USER/status`: counts and health.
    fn write_user_statuses(&mut self) {
        let mut counts: BTreeMap<String, BTreeMap<&'static str, usize>> = BTreeMap::new();
        for user in &self.users {
            counts.entry(user.clone()).or_default();
        }
        for job in self.engine.jobs() {
            *counts.entry(job.facts.user.clone()).or_default().entry(job.state.word()).or_default() += 1;
        }
        let (used, slots) = self.engine.slots();
        for (user, states) in counts {
            let mut text =
                format!("job manager: ok on {}, epoch {}\n", self.hands.set.node, self.hands.lease.epoch());
            let _ = writeln!(text, "slots: {used} of {slots} in use");
            let live: usize = states.values().sum();
            let _ = writeln!(text, "your live jobs: {live}");
            for (state, count) in states {
                let _ = writeln!(text, "  {state:<8} {count}");
            }
            if self.told_users.get(&user) == Some(&text) {
                continue;
            }
            self.told_users.insert(user.clone(), text.clone());
            let hands = self.hands.clone();
            self.tasks.spawn(async move {
                let owner = hands.account(&user).map(|a| a.owner());
                let put = Put { mode: 0o644, owner, sync: false };
                let _ = hands.store.replace(&user_path(&user, "status"), text.as_bytes(), put).await;
                vec![]
            });
        }
    }
}
