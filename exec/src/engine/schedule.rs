//! From one step to the next: slots, launches, wishes, ends.

use super::event::{Control, Verb};
use super::job::{Ending, Job, JobState};
use super::record::{Change, ExitRecord, ExitStatus};
use super::{Effect, Engine, LAUNCH_TRIES_MAX, START_LOG_AFTER_MS, Told, UnixMs};
use crate::id::JobId;

impl Engine {
    pub(super) fn fits(&self, job: &Job) -> bool {
        // A job wider than the node (its core count was lowered since) runs alone rather than never.
        self.used + job.facts.spec.resources.cpus <= self.cores || self.used == 0
    }

    pub(super) fn take_slots(&mut self, job: &mut Job) {
        assert!(!job.holds_slots, "{} holds its slots already", job.facts.id);
        job.holds_slots = true;
        self.used += job.facts.spec.resources.cpus;
    }

    pub(super) fn give_slots(&mut self, job: &mut Job) {
        if std::mem::take(&mut job.holds_slots) {
            assert!(self.used >= job.facts.spec.resources.cpus, "slots are given back once");
            self.used -= job.facts.spec.resources.cpus;
        }
    }

    /// Starts jobs from the queue while slots are free. The head waits until it fits: nobody overtakes it, so wide
    /// jobs do not starve.
    pub(super) fn fill_slots(&mut self, now: UnixMs, out: &mut Vec<Effect>) {
        while let Some((_, head)) = self.queue.head() {
            let job = self.jobs.get(head).expect("the queue holds live jobs");
            if !self.fits(job) {
                return;
            }
            let id = self.queue.pop().expect("there is a head");
            let mut job = self.jobs.remove(&id).expect("just looked at");
            self.take_slots(&mut job);
            let (attempt, cpus) = (job.attempt + 1, job.facts.spec.resources.cpus);
            self.jobs.insert(id.clone(), job);
            self.append(&id, vec![Change::Alloc { attempt, node: self.node.clone(), cpus }], now, out);
        }
    }

    pub(super) fn on_started(
        &mut self,
        id: &JobId,
        attempt: u32,
        pid: u32,
        now: UnixMs,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(id).filter(|j| j.attempt == attempt) else { return };
        job.started = true;
        job.acting = false;
        job.pid = Some(pid);
        job.started_ms.get_or_insert(now);
        self.proceed(id, now, out);
    }

    pub(super) fn on_launch_failed(
        &mut self,
        id: &JobId,
        attempt: u32,
        why: String,
        now: UnixMs,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(id).filter(|j| j.attempt == attempt) else { return };
        job.acting = false;
        job.launch_tries += 1;
        if job.launch_tries >= LAUNCH_TRIES_MAX {
            job.launch_error = Some(why);
        }
        self.proceed(id, now, out);
    }

    pub(super) fn on_revoked(&mut self, id: &JobId, attempt: u32, now: UnixMs, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(id).filter(|j| j.attempt == attempt) else { return };
        job.acting = false;
        job.revoked = true;
        self.proceed(id, now, out);
    }

    pub(super) fn on_exited(
        &mut self,
        id: &JobId,
        attempt: u32,
        exit: ExitRecord,
        now: UnixMs,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(id).filter(|j| j.attempt == attempt) else { return };
        job.started = true;
        job.acting = false;
        job.exit = Some(exit);
        self.proceed(id, now, out);
    }

    pub(super) fn on_control(&mut self, id: &JobId, control: Control, now: UnixMs, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.wishes.len() < 64 {
            job.wishes.push(control);
        }
        self.proceed(id, now, out);
    }

    pub(super) fn on_tick(&mut self, now: UnixMs, out: &mut Vec<Effect>) {
        let due: Vec<JobId> = (self.jobs.values())
            .filter(|job| match job.state {
                JobState::Depend => job.facts.spec.begin_unix_ms.is_none_or(|begin| begin <= now),
                JobState::Alloc => job.started && self.start_is_due(job, now),
                _ => false,
            })
            .map(|job| job.facts.id.clone())
            .collect();
        for id in due {
            self.proceed(&id, now, out);
        }
    }

    fn start_is_due(&self, job: &Job, now: UnixMs) -> bool {
        job.started_ms.is_some_and(|at| now >= at + START_LOG_AFTER_MS)
    }

    /// Takes the job's next step if it has one and its log is idle.
    pub(super) fn proceed(&mut self, id: &JobId, now: UnixMs, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.appending {
            return;
        }
        match job.state {
            JobState::New => {}
            JobState::Sched | JobState::Depend | JobState::Held => self.proceed_waiting(id, now, out),
            JobState::Alloc | JobState::Run | JobState::Susp => self.proceed_started(id, now, out),
            JobState::Cleanup(_) => self.append(id, vec![Change::Clean {}], now, out),
            JobState::Over(_) => {
                for wish in std::mem::take(&mut job.wishes) {
                    answer(id, &wish, false, "the job is over", out);
                }
                if !std::mem::replace(&mut job.acting, true) {
                    out.push(Effect::Publish { job: id.clone() });
                }
                let mut job = self.jobs.remove(id).expect("just looked at");
                self.give_slots(&mut job);
                self.jobs.insert(id.clone(), job);
            }
        }
    }

    fn proceed_waiting(&mut self, id: &JobId, now: UnixMs, out: &mut Vec<Effect>) {
        let job = self.jobs.get_mut(id).expect("the caller looked");
        if job.holds_slots && job.state == JobState::Sched {
            // After a retry: the attempt is over, its slots are free.
            let mut job = self.jobs.remove(id).expect("just looked at");
            self.give_slots(&mut job);
            self.jobs.insert(id.clone(), job);
            return self.proceed_waiting(id, now, out);
        }
        if std::mem::take(&mut job.evidence.gone) {
            job.wishes.insert(0, Control::cancel("its file was removed from run/"));
        }
        if job.cancel.is_some() {
            let text = canceled_text(job);
            return self.finish(id, None, Ending::Canceled, text, Vec::new(), now, out);
        }
        if !job.wishes.is_empty() {
            let wish = job.wishes.remove(0);
            return self.grant_waiting(id, wish, now, out);
        }
        let in_hold = job.evidence.in_hold;
        match job.state {
            JobState::Held if !in_hold => {
                job.evidence.in_hold = true;
                let (code, text) = job.hold.clone().unwrap_or_default();
                out.push(Effect::Move { job: id.clone(), hold: true, why: format!("{code}: {text}") });
            }
            JobState::Sched | JobState::Depend if in_hold => {
                job.evidence.in_hold = false;
                out.push(Effect::Move { job: id.clone(), hold: false, why: String::new() });
            }
            _ => {}
        }
        let job = self.jobs.get_mut(id).expect("the caller looked");
        let user = job.facts.user.clone();
        match job.state {
            JobState::Depend if job.facts.spec.begin_unix_ms.is_none_or(|begin| begin <= now) => {
                self.append(id, vec![Change::Ready {}], now, out);
            }
            JobState::Sched if !self.queue.contains(&user, id) => self.queue.push(&user, id.clone()),
            _ => {}
        }
    }

    fn grant_waiting(&mut self, id: &JobId, wish: Control, now: UnixMs, out: &mut Vec<Effect>) {
        let job = self.jobs.get_mut(id).expect("the caller looked");
        let (user, held) = (job.facts.user.clone(), job.state == JobState::Held);
        match wish.verb {
            Verb::Cancel { grace_ms } => {
                self.queue.remove(&user, id);
                let text = format!("canceled: {}", wish.text);
                answer(id, &wish, true, "canceled before it started", out);
                let first = vec![Change::Cancel { text: wish.text, grace_ms }];
                self.finish(id, None, Ending::Canceled, text, first, now, out);
            }
            Verb::Hold if !held => {
                self.queue.remove(&user, id);
                answer(id, &wish, true, "held", out);
                let text = if wish.text.is_empty() { "held by the user".into() } else { wish.text };
                self.append(id, vec![Change::Hold { code: "USER".into(), text }], now, out);
            }
            Verb::Release if held => {
                answer(id, &wish, true, "released", out);
                // Moved by the user already, when there is no control file.
                job.evidence.in_hold = wish.file.is_some();
                self.append(id, vec![Change::Release {}], now, out);
            }
            Verb::Hold | Verb::Release | Verb::Signal(_) | Verb::Suspend | Verb::Resume => {
                let text = match wish.verb {
                    Verb::Hold => "it is held already",
                    Verb::Release => "it is not held",
                    _ => "it does not run yet",
                };
                answer(id, &wish, false, text, out);
                self.proceed(id, now, out);
            }
        }
    }

    fn proceed_started(&mut self, id: &JobId, now: UnixMs, out: &mut Vec<Effect>) {
        let job = self.jobs.get_mut(id).expect("the caller looked");
        if let Some(exit) = job.exit.take().or_else(|| job.evidence.exit.take()) {
            return self.end_attempt(id, exit, now, out);
        }
        if job.revoked || job.evidence.decision == Some(false) {
            let (ending, text) = match &job.launch_error {
                Some(why) => (Ending::Failed, format!("could not be started: {why}")),
                None => (Ending::Canceled, canceled_text(job)),
            };
            return self.finish(id, None, ending, text, Vec::new(), now, out);
        }
        if std::mem::take(&mut job.evidence.gone) {
            job.wishes.insert(0, Control::cancel("its file was removed from run/"));
        }
        let due = job.started && job.state == JobState::Alloc;
        let long = job.started_ms.is_some_and(|at| now >= at + START_LOG_AFTER_MS);
        if due && (long || !job.wishes.is_empty()) {
            let change = start_change(job, now);
            return self.append(id, vec![change], now, out);
        }
        if !job.wishes.is_empty() && (job.started || matches!(job.wishes[0].verb, Verb::Cancel { .. })) {
            let wish = job.wishes.remove(0);
            return self.grant_started(id, wish, now, out);
        }
        if job.started {
            if let Some((_, grace_ms)) = job.cancel
                && !std::mem::replace(&mut job.told_cancel, true)
            {
                out.push(Effect::Tell {
                    job: id.clone(),
                    attempt: job.attempt,
                    told: Told::Cancel(grace_ms),
                });
            }
            return;
        }
        if !job.acting {
            job.acting = true;
            out.push(next_action(job));
        }
    }

    fn grant_started(&mut self, id: &JobId, wish: Control, now: UnixMs, out: &mut Vec<Effect>) {
        let job = self.jobs.get_mut(id).expect("the caller looked");
        let attempt = job.attempt;
        let mut tell = |told| out.push(Effect::Tell { job: id.clone(), attempt, told });
        match (&wish.verb, job.state) {
            (Verb::Cancel { grace_ms }, _) if job.cancel.is_none() => {
                let grace_ms = *grace_ms;
                answer(id, &wish, true, "being ended", out);
                self.append(id, vec![Change::Cancel { text: wish.text, grace_ms }], now, out);
            }
            (Verb::Cancel { grace_ms: 0 }, _) if job.started => {
                tell(Told::Cancel(0));
                answer(id, &wish, true, "killed", out);
            }
            (Verb::Signal(number), _) => {
                tell(Told::Signal(*number));
                answer(id, &wish, true, "sent", out);
            }
            (Verb::Suspend, JobState::Run) => {
                tell(Told::Suspend);
                answer(id, &wish, true, "suspended", out);
                self.append(id, vec![Change::Suspend {}], now, out);
            }
            (Verb::Resume, JobState::Susp) => {
                tell(Told::Resume);
                answer(id, &wish, true, "resumed", out);
                self.append(id, vec![Change::Resume {}], now, out);
            }
            (verb, state) => {
                let text = match verb {
                    Verb::Cancel { .. } => "it is being ended already".to_string(),
                    Verb::Hold | Verb::Release => "it runs already; use suspend and resume".to_string(),
                    _ => format!("not possible in state {}", state.word()),
                };
                answer(id, &wish, false, &text, out);
                self.proceed(id, now, out);
            }
        }
    }

    /// The attempt has its exit record: once more, or over.
    fn end_attempt(&mut self, id: &JobId, exit: ExitRecord, now: UnixMs, out: &mut Vec<Effect>) {
        let job = self.jobs.get_mut(id).expect("the caller looked");
        let never_ran = match exit.status {
            ExitStatus::LostBeforeExec => true,
            ExitStatus::NodeReboot => exit.started_ms == 0,
            _ => false,
        };
        if never_ran && job.attempt <= job.facts.spec.retry_max && job.cancel.is_none() {
            let change = Change::Retry { attempt: job.attempt, why: exit.text };
            job.state = JobState::Alloc;
            return self.append(id, vec![change], now, out);
        }
        let mut first = Vec::new();
        if job.state == JobState::Alloc && exit.started_ms > 0 {
            job.started_ms = Some(exit.started_ms);
            first.push(start_change(job, now));
        }
        let (ending, text) = (Ending::of(&exit), exit.text.clone());
        self.finish(id, Some(exit), ending, text, first, now, out);
    }

    #[expect(clippy::too_many_arguments, reason = "all parts of one record")]
    fn finish(
        &mut self,
        id: &JobId,
        exit: Option<ExitRecord>,
        ending: Ending,
        text: String,
        mut changes: Vec<Change>,
        now: UnixMs,
        out: &mut Vec<Effect>,
    ) {
        changes.push(Change::Finish { exit, state: ending.word().into(), text });
        changes.push(Change::Clean {});
        self.append(id, changes, now, out);
    }
}

/// What a job with slots and without a supervisor needs.
fn next_action(job: &Job) -> Effect {
    let (id, attempt) = (job.facts.id.clone(), job.attempt);
    if job.evidence.started {
        return Effect::Adopt { job: id, attempt };
    }
    if let Some(why) = &job.launch_error {
        return Effect::Revoke { job: id, attempt, why: why.clone() };
    }
    if let Some((text, _)) = &job.cancel {
        return Effect::Revoke { job: id, attempt, why: format!("canceled: {text}") };
    }
    let delay_ms = if job.launch_tries == 0 { 0 } else { 100 << job.launch_tries };
    Effect::Launch { job: id, attempt, delay_ms }
}

fn start_change(job: &Job, now: UnixMs) -> Change {
    Change::Start {
        attempt: job.attempt,
        pid: job.pid.unwrap_or_default(),
        at_ms: job.started_ms.unwrap_or(now),
    }
}

fn canceled_text(job: &Job) -> String {
    match &job.cancel {
        Some((text, _)) if !text.is_empty() => format!("canceled: {text}"),
        _ => "canceled".into(),
    }
}

fn answer(id: &JobId, wish: &Control, ok: bool, text: &str, out: &mut Vec<Effect>) {
    if let Some(file) = &wish.file {
        out.push(Effect::Answer { job: id.clone(), file: file.clone(), ok, text: text.to_string() });
    }
}
