//! The engine alone: no files, no processes, no clock.

use super::*;
use crate::spec;

struct World {
    engine: Engine,
    now: u64,
    log: std::collections::BTreeMap<JobId, Vec<Record>>,
}

fn facts(n: u64, user: &str, text: &str) -> Facts {
    let spec = spec::parse(text.as_bytes(), "a.toml").unwrap();
    let id = JobId::derive(1, n, 0);
    Facts { id, user: user.into(), file: "a.toml".into(), sha256: String::new(), submitted_ms: 1000, spec }
}

fn exit(status: ExitStatus, code: i32) -> ExitRecord {
    ExitRecord {
        schema: 1,
        status,
        exit_code: Some(code),
        signal: None,
        text: "text".into(),
        started_ms: 1,
        ended_ms: 2,
        user_ms: 0,
        system_ms: 0,
        max_rss: 0,
        attempt: 1,
        epoch: 1,
        by: "supervisor".into(),
    }
}

impl World {
    fn new(cores: u32) -> Self {
        Self { engine: Engine::new("n1", 1, cores), now: 1000, log: Default::default() }
    }

    /// Feeds an event and every append's `Logged`; gives back the other effects.
    fn feed(&mut self, event: Event) -> Vec<Effect> {
        let mut todo = vec![event];
        let mut out = Vec::new();
        while let Some(event) = todo.pop() {
            for effect in self.engine.handle(event, self.now) {
                match effect {
                    Effect::Append { job, records, .. } => {
                        self.log.entry(job.clone()).or_default().extend(records.clone());
                        todo.push(Event::Logged { job, records });
                    }
                    other => out.push(other),
                }
            }
            self.engine.invariants();
        }
        out
    }

    fn claim(&mut self, n: u64, user: &str, text: &str) -> (JobId, Vec<Effect>) {
        let facts = facts(n, user, text);
        (facts.id.clone(), self.feed(Event::Claimed { facts }))
    }

    fn state(&self, id: &JobId) -> JobState {
        self.engine.job(id).unwrap().state
    }
}

fn launch(id: &JobId) -> Effect {
    Effect::Launch { job: id.clone(), attempt: 1, delay_ms: 0 }
}

#[test]
fn a_job_goes_its_way_with_few_log_writes() {
    let mut w = World::new(1);
    let (id, effects) = w.claim(1, "a", "exec='true'");
    assert_eq!(effects, [launch(&id)]);
    assert_eq!(w.feed(Event::Started { job: id.clone(), attempt: 1, pid: 7 }), []);
    let effects = w.feed(Event::Exited { job: id.clone(), attempt: 1, exit: exit(ExitStatus::Exited, 0) });
    assert_eq!(effects, [Effect::Publish { job: id.clone() }]);
    assert_eq!(w.state(&id), JobState::Over(Ending::Done));
    let words: Vec<String> =
        w.log[&id].iter().map(|r| serde_json::to_value(r).unwrap()["e"].to_string()).collect();
    assert_eq!(words.join(" "), r#""submit" "alloc" "start" "finish" "clean""#);
    w.feed(Event::Published { job: id });
    assert_eq!((w.engine.live(), w.engine.slots()), (0, (0, 1)));
}

#[test]
fn slots_are_shared_by_turns_among_users() {
    let mut w = World::new(1);
    let (first, _) = w.claim(1, "a", "exec='true'");
    let (a2, effects) = w.claim(2, "a", "exec='true'");
    assert_eq!(effects, []);
    let (a3, _) = w.claim(3, "a", "exec='true'");
    let (b1, _) = w.claim(4, "b", "exec='true'");
    assert!(w.engine.view(&b1).unwrap().reason.text.contains("needs 1 of 1 cpus on n1, 0 free"));
    let mut order = Vec::new();
    let mut running = first;
    loop {
        let ended = Event::Exited { job: running.clone(), attempt: 1, exit: exit(ExitStatus::Exited, 0) };
        let started: Vec<JobId> = w
            .feed(ended)
            .into_iter()
            .filter_map(|e| if let Effect::Launch { job, .. } = e { Some(job) } else { None })
            .collect();
        assert!(started.len() <= 1, "one slot");
        w.feed(Event::Published { job: running });
        let Some(next) = started.into_iter().next() else { break };
        order.push(next.clone());
        running = next;
    }
    assert_eq!(order.len(), 3);
    assert!(order.iter().position(|j| *j == b1).unwrap() < 2, "b does not wait for all of a: {order:?}");
    assert!(order.iter().position(|j| *j == a2) < order.iter().position(|j| *j == a3));
}

#[test]
fn a_wide_job_at_the_head_is_not_overtaken_for_ever() {
    let mut w = World::new(2);
    let (first, _) = w.claim(1, "a", "exec='true'");
    let (wide, effects) = w.claim(2, "a", "exec='true'\nresources.cpus=2");
    assert_eq!(effects, []);
    let (_, effects) = w.claim(3, "a", "exec='true'");
    assert_eq!(effects, [], "nobody overtakes the head");
    let exited = Event::Exited { job: first.clone(), attempt: 1, exit: exit(ExitStatus::Exited, 0) };
    assert_eq!(w.feed(exited), [Effect::Publish { job: first }, launch(&wide)]);
}

#[test]
fn cancel_before_start_never_launches() {
    let mut w = World::new(1);
    let (first, _) = w.claim(1, "a", "exec='true'");
    let (second, _) = w.claim(2, "a", "exec='true'");
    let effects = w.feed(Event::DescriptorGone { job: second.clone() });
    assert_eq!(effects, [Effect::Publish { job: second.clone() }]);
    assert_eq!(w.state(&second), JobState::Over(Ending::Canceled));
    // The first is being launched: the wish waits for what becomes of the launch, then the supervisor is told.
    let control =
        Control { file: Some("cancel".into()), verb: Verb::Cancel { grace_ms: 5 }, text: "enough".into() };
    let effects = w.feed(Event::Control { job: first.clone(), control });
    assert!(matches!(&effects[..], [Effect::Answer { ok: true, .. }]), "{effects:?}");
    let effects = w.feed(Event::Started { job: first.clone(), attempt: 1, pid: 7 });
    assert_eq!(effects, [Effect::Tell { job: first.clone(), attempt: 1, told: Told::Cancel(5) }]);
    w.feed(Event::Exited { job: first.clone(), attempt: 1, exit: exit(ExitStatus::Canceled, 0) });
    assert_eq!(w.state(&first), JobState::Over(Ending::Canceled));
}

#[test]
fn failed_launches_are_repeated_then_revoked() {
    let mut w = World::new(1);
    let (id, _) = w.claim(1, "a", "exec='true'");
    let failed = || Event::LaunchFailed { job: JobId::derive(1, 1, 0), attempt: 1, why: "no pids".into() };
    for _ in 1..LAUNCH_TRIES_MAX {
        assert!(matches!(&w.feed(failed())[..], [Effect::Launch { delay_ms: 200.., .. }]));
    }
    assert!(matches!(&w.feed(failed())[..], [Effect::Revoke { .. }]));
    let effects = w.feed(Event::Revoked { job: id.clone(), attempt: 1 });
    assert_eq!(effects, [Effect::Publish { job: id.clone() }]);
    assert_eq!(w.state(&id), JobState::Over(Ending::Failed));
}

#[test]
fn hold_release_suspend_resume() {
    let mut w = World::new(1);
    let (first, _) = w.claim(1, "a", "exec='true'");
    let (second, _) = w.claim(2, "a", "exec='true'");
    let control = |file: &str, verb| Control { file: Some(file.into()), verb, text: String::new() };
    let effects = w.feed(Event::Control { job: second.clone(), control: control("hold", Verb::Hold) });
    assert!(matches!(&effects[..], [Effect::Answer { ok: true, .. }, Effect::Move { hold: true, .. }]));
    assert_eq!(w.state(&second), JobState::Held);
    let effects = w.feed(Event::Control { job: second.clone(), control: control("release", Verb::Release) });
    assert!(matches!(&effects[..], [Effect::Answer { ok: true, .. }, Effect::Move { hold: false, .. }]));
    assert_eq!(w.state(&second), JobState::Sched);
    let effects = w.feed(Event::Control { job: second, control: control("signal", Verb::Signal(10)) });
    assert!(matches!(&effects[..], [Effect::Answer { ok: false, .. }]));

    w.feed(Event::Started { job: first.clone(), attempt: 1, pid: 7 });
    let effects = w.feed(Event::Control { job: first.clone(), control: control("suspend", Verb::Suspend) });
    assert!(matches!(
        &effects[..],
        [Effect::Tell { told: Told::Suspend, .. }, Effect::Answer { ok: true, .. }]
    ));
    assert_eq!(w.state(&first), JobState::Susp);
    w.feed(Event::Control { job: first.clone(), control: control("resume", Verb::Resume) });
    assert_eq!(w.state(&first), JobState::Run);
}

#[test]
fn recovery_redoes_what_the_log_and_the_files_say() {
    let started =
        Evidence { started: true, decision: Some(true), supervisor: Some(7), ..Evidence::default() };
    let gone = Evidence { gone: true, ..Evidence::default() };
    for (evidence, expected) in [
        (Evidence::default(), "Launch"),
        (Evidence { decision: Some(true), ..Evidence::default() }, "Launch"),
        (Evidence { decision: Some(false), ..Evidence::default() }, "Publish"),
        (started.clone(), "Adopt"),
        (Evidence { exit: Some(exit(ExitStatus::Exited, 0)), ..started }, "Publish"),
        (gone, "Revoke"),
    ] {
        let mut before = World::new(1);
        let (id, _) = before.claim(1, "a", "exec='true'");
        let records = before.log[&id].clone();
        let mut w = World::new(1);
        w.engine.epoch = 2;
        let effects = w.feed(Event::Recovered { facts: facts(1, "a", "exec='true'"), records, evidence });
        assert!(format!("{effects:?}").contains(&format!("[{expected} ")), "{expected}: {effects:?}");
    }
}

#[test]
fn lost_before_exec_is_repeated_only_when_wished() {
    for (retry, expected) in [("", true), ("\nretry.max=1", false)] {
        let mut w = World::new(1);
        let (id, _) = w.claim(1, "a", &format!("exec='true'{retry}"));
        w.feed(Event::Started { job: id.clone(), attempt: 1, pid: 7 });
        let lost = ExitRecord { started_ms: 0, ..exit(ExitStatus::LostBeforeExec, 0) };
        let effects = w.feed(Event::Exited { job: id.clone(), attempt: 1, exit: lost });
        assert_eq!(effects == [Effect::Publish { job: id.clone() }], expected, "{effects:?}");
        if !expected {
            assert_eq!(effects, [Effect::Launch { job: id, attempt: 2, delay_ms: 0 }]);
        }
    }
}

#[test]
fn begin_time_waits_for_the_clock() {
    let mut w = World::new(1);
    let (id, effects) = w.claim(1, "a", "exec='true'\nafter.begin='1970-01-01T00:00:02Z'");
    assert_eq!((effects, w.state(&id)), (vec![], JobState::Depend));
    w.now = 2000;
    assert_eq!(w.feed(Event::Tick), [launch(&id)]);
}

#[test]
fn a_competing_writers_records_do_not_count() {
    let mut w = World::new(1);
    let (id, _) = w.claim(1, "a", "exec='true'");
    let line = |r: &Record| serde_json::to_string(r).unwrap() + "\n";
    let mut bytes: String = w.log[&id].iter().map(line).collect();
    let good = replay(bytes.as_bytes());
    let stale = Record { epoch: 0, seq: 3, ..good[1].clone() };
    let again = Record { epoch: 9, ..good[1].clone() };
    bytes.push_str(&line(&stale));
    bytes.push_str(&line(&again));
    bytes.push_str("{\"t_ms\":1,\"se");
    assert_eq!(replay(bytes.as_bytes()), good);
}

#[test]
fn every_pair_of_state_and_change_is_decided() {
    let changes = [
        Change::Ready {},
        Change::Release {},
        Change::Suspend {},
        Change::Resume {},
        Change::Clean {},
        Change::Alloc { attempt: 1, node: String::new(), cpus: 1 },
        Change::Finish { exit: None, state: "DONE".into(), text: String::new() },
    ];
    for ending in Ending::ALL {
        for change in &changes {
            assert_eq!(JobState::Over(ending).after(change), None, "nothing follows the end");
        }
    }
    assert_eq!(JobState::Held.after(&changes[5]), None, "a held job gets no slots");
    assert_eq!(JobState::Run.after(&changes[5]), None, "a running job is not allocated again");
}
