//! Leases and evidence, driven by hand in virtual time.

use super::*;

const ADDR: &str = "tcp://osd:1";

fn entry(uuid: &str, free: u64) -> OsdEntry {
    OsdEntry {
        uuid: uuid.into(),
        addr: ADDR.into(),
        free_bytes: free,
        total_bytes: 100,
        ..OsdEntry::default()
    }
}

/// Times are told as if heartbeats came every 300 ms: then a lease is 1500, and one is late after 400.
const fn ms(ms: u64) -> Duration {
    Duration::from_micros(ms * OSD_HEARTBEAT_MS * 1000 / 300)
}

/// A leader since 0 that knows `n` OSDs "1".."n", all heard of at `from`.
fn leader(n: u64, from: Duration) -> Engine {
    let mut engine = Engine::default();
    let rows = (1..=n).map(|osd| (osd, OsdRow::new(osd, entry(&osd.to_string(), 0)))).collect();
    engine.handle(Event::Map(rows), from);
    engine.handle(Event::Led, from);
    for osd in 1..=n {
        assert_eq!(engine.handle(Event::Heartbeat(entry(&osd.to_string(), 50)), from), []);
    }
    engine
}

fn down(osd: u64, why: Why) -> Effect {
    Effect::TakeDown { osd, addr: ADDR.into(), why }
}

fn probe(osd: u64) -> Effect {
    Effect::Probe { osd, addr: ADDR.into(), after: Duration::ZERO }
}

fn probe_again(osd: u64) -> Effect {
    Effect::Probe { osd, addr: ADDR.into(), after: LOOK_AGAIN }
}

fn probed(verdict: Verdict) -> Event {
    Event::Probed { osd: 1, addr: ADDR.into(), verdict }
}

fn report(reporter: &str) -> Event {
    Event::Reported { osd: 1, addr: ADDR.into(), reporter: reporter.into(), refused: true }
}

fn reset(reporter: &str) -> Event {
    Event::Reported { osd: 1, addr: ADDR.into(), reporter: reporter.into(), refused: false }
}

#[test]
fn silence_takes_down_after_the_lease_and_not_before() {
    let mut engine = leader(2, ms(0));
    engine.handle(Event::Heartbeat(entry("2", 50)), ms(1000));
    assert_eq!(engine.next_tick(ms(0)), ms(400));
    assert_eq!(engine.handle(Event::Tick, ms(1499)), [probe(1), probe(2)], "late, but not out");
    assert_eq!(engine.handle(Event::Tick, ms(1500)), [down(1, Why::Silent)]);
    assert_eq!(engine.handle(Event::Tick, ms(1600)), [], "the log has it already");
    assert_eq!(
        engine.handle(Event::Tick, ms(1500) + RETRY),
        [down(1, Why::Silent), down(2, Why::Silent)],
        "until it shows"
    );
}

#[test]
fn a_late_heartbeat_and_a_refused_probe_decide() {
    let mut engine = leader(1, ms(0));
    assert_eq!(engine.handle(Event::Tick, ms(399)), []);
    assert_eq!(engine.handle(Event::Tick, ms(400)), [probe(1)]);
    assert_eq!(engine.handle(Event::Tick, ms(500)), [], "one probe at a time");
    assert_eq!(engine.handle(probed(Verdict::Unclear), ms(550)), [], "hung: the lease decides");
    assert_eq!(engine.next_tick(ms(550)), ms(800));
    assert_eq!(engine.handle(Event::Tick, ms(800)), [probe(1)]);
    assert_eq!(engine.handle(probed(Verdict::Dead), ms(801)), [down(1, Why::Refused)]);
    assert_eq!(engine.handle(Event::Tick, ms(1400)), [], "decided already");
    engine.handle(Event::Heartbeat(entry("1", 0)), ms(5000));
    assert_eq!(engine.handle(probed(Verdict::Dead), ms(5001)), [], "it has been heard of since");
}

#[test]
fn heartbeats_that_change_nothing_have_no_effect() {
    let mut engine = leader(1, ms(0));
    for at in (0..100).map(|n| ms(n * 300)) {
        assert_eq!(engine.handle(Event::Heartbeat(entry("1", at.as_millis() as u64)), at), []);
        assert_eq!(engine.handle(Event::Tick, at), []);
    }
    assert_eq!(
        engine.map(7).osds[0].free_bytes,
        ms(99 * 300).as_millis() as u64,
        "space is in the map all the same"
    );
}

#[test]
fn a_new_leader_waits_out_a_grace() {
    let mut engine = leader(1, ms(0));
    engine.handle(Event::Lost, ms(1000));
    assert_eq!(engine.handle(Event::Tick, ms(9000)), [], "a follower decides nothing");
    assert_eq!(engine.handle(report("a"), ms(9000)), []);
    engine.handle(Event::Led, ms(10_000));
    assert_eq!(engine.handle(Event::Tick, ms(10_399)), []);
    assert_eq!(engine.handle(Event::Tick, ms(10_400)), [probe(1)], "it looks for itself");
    assert_eq!(engine.handle(probed(Verdict::Unclear), ms(10_550)), []);
    assert_eq!(engine.handle(Event::Tick, ms(11_499)), [probe(1)]);
    assert_eq!(
        engine.handle(Event::Tick, ms(11_500)),
        [down(1, Why::Silent)],
        "no lease is older than the leader"
    );
}

#[test]
fn who_answers_a_new_leader_has_longer_to_find_it_and_not_for_ever() {
    let mut engine = leader(1, ms(0));
    engine.handle(Event::Lost, ms(1000));
    engine.handle(Event::Led, ms(10_000));
    for at in [10_400, 10_900, 11_400, 11_900, 12_400, 12_900] {
        assert_eq!(engine.handle(Event::Tick, ms(at)), [probe(1)], "{at}");
        assert_eq!(engine.handle(probed(Verdict::Alive), ms(at + 1)), []);
    }
    assert_eq!(engine.handle(Event::Tick, ms(12_999)), []);
    assert_eq!(engine.handle(Event::Tick, ms(13_000)), [down(1, Why::Silent)]);
    // Once it has been heard of, only heartbeats count.
    engine.handle(Event::Led, ms(20_000));
    engine.handle(Event::Heartbeat(entry("1", 50)), ms(20_100));
    assert_eq!(engine.handle(Event::Tick, ms(21_500)), [probe(1)]);
    assert_eq!(engine.handle(probed(Verdict::Alive), ms(21_501)), []);
    assert_eq!(engine.handle(Event::Tick, ms(21_600)), [down(1, Why::Silent)]);
}

#[test]
fn a_look_that_says_nothing_is_repeated_as_long_as_somebody_was_refused() {
    let mut engine = leader(1, ms(0));
    assert_eq!(engine.handle(reset("a"), ms(10)), [probe(1)]);
    assert_eq!(
        engine.handle(probed(Verdict::Unclear), ms(20)),
        [probe_again(1)],
        "its door closes any moment"
    );
    assert_eq!(engine.handle(report("a"), ms(30)), [], "one look at a time");
    assert_eq!(engine.handle(probed(Verdict::Unclear), ms(50)), [probe_again(1)]);
    assert_eq!(engine.handle(probed(Verdict::Dead), ms(80)), [down(1, Why::Refused)]);
    // Late already: the tick looks again, and is never held up, for it is what sees that the lease is out.
    let mut engine = leader(1, ms(0));
    assert_eq!(engine.handle(Event::Tick, ms(400)), [probe(1)]);
    assert_eq!(engine.handle(reset("a"), ms(410)), []);
    assert_eq!(engine.handle(probed(Verdict::Unclear), ms(550)), []);
    assert_eq!(engine.next_tick(ms(550)), ms(550) + LOOK_AGAIN);
    assert_eq!(engine.handle(Event::Tick, ms(550) + LOOK_AGAIN), [probe(1)]);
    // A hung one: until the evidence is old.
    let mut engine = leader(1, ms(0));
    engine.handle(reset("a"), ms(10));
    engine.handle(Event::Stalled, ms(5_000));
    assert_eq!(engine.handle(probed(Verdict::Unclear), ms(10) + EVIDENCE), []);
    // One that was heard of since.
    let mut engine = leader(1, ms(0));
    engine.handle(reset("a"), ms(10));
    engine.handle(Event::Heartbeat(entry("1", 50)), ms(15));
    assert_eq!(engine.handle(probed(Verdict::Unclear), ms(20)), []);
}

#[test]
fn two_reporters_decide_at_once_one_asks_for_a_probe() {
    let mut engine = leader(1, ms(0));
    assert_eq!(engine.handle(report("a"), ms(10)), [probe(1)]);
    assert_eq!(
        engine.handle(report("a"), ms(11)),
        [],
        "the same party twice is one party, one probe is on its way"
    );
    assert_eq!(engine.handle(report("b"), ms(12)), [down(1, Why::Reported)]);
    assert_eq!(engine.handle(report("c"), ms(13)), []);
}

#[test]
fn lost_connections_prove_nothing_however_many_report_them() {
    let mut engine = leader(1, ms(0));
    assert_eq!(engine.handle(reset("a"), ms(10)), [probe(1)]);
    assert_eq!(engine.handle(reset("b"), ms(11)), [], "the probe will tell");
    assert_eq!(engine.handle(report("c"), ms(12)), [], "one was refused");
    assert_eq!(engine.handle(report("a"), ms(13)), [down(1, Why::Reported)], "a tried again");
}

#[test]
fn silence_while_the_dir_itself_stood_still_takes_nobody_down() {
    let mut engine = leader(1, ms(0));
    engine.handle(Event::Stalled, ms(2_000));
    assert_eq!(engine.handle(Event::Tick, ms(2_000)), [probe(1)], "late, and looked at");
    engine.handle(Event::Heartbeat(entry("1", 50)), ms(2_010));
    assert_eq!(engine.handle(Event::Tick, ms(2_399)), []);
    // Who stays silent goes down all the same.
    let mut engine = leader(1, ms(0));
    engine.handle(Event::Stalled, ms(2_000));
    assert_eq!(engine.handle(Event::Tick, ms(2_400)), [down(1, Why::Silent)]);
}

#[test]
fn one_reporter_and_a_refused_probe_decide() {
    let mut engine = leader(1, ms(0));
    engine.handle(report("a"), ms(10));
    assert_eq!(engine.handle(probed(Verdict::Unclear), ms(20)), [probe_again(1)]);
    engine.handle(report("a"), ms(30));
    assert_eq!(engine.handle(probed(Verdict::Alive), ms(40)), []);
    assert_eq!(engine.handle(report("b"), ms(50)), [probe(1)], "a's report was refuted");
    assert_eq!(engine.handle(probed(Verdict::Dead), ms(60)), [down(1, Why::Refused)]);
}

#[test]
fn a_heartbeat_refutes_older_evidence() {
    let mut engine = leader(1, ms(0));
    engine.handle(report("a"), ms(10));
    engine.handle(Event::Heartbeat(entry("1", 0)), ms(20));
    assert_eq!(
        engine.handle(Event::Probed { osd: 1, addr: ADDR.into(), verdict: Verdict::Dead }, ms(30)),
        []
    );
    assert_eq!(engine.handle(report("b"), ms(40)).len(), 1, "b alone asks for a probe");
}

#[test]
fn evidence_ages_and_names_the_address() {
    let mut engine = leader(1, ms(0));
    let elsewhere =
        Event::Reported { osd: 1, addr: "tcp://osd:2".into(), reporter: "a".into(), refused: true };
    assert_eq!(engine.handle(elsewhere, ms(1)), []);
    engine.handle(report("a"), ms(2));
    assert_eq!(engine.handle(report("b"), ms(3) + EVIDENCE), [probe(1)], "a is forgotten");
}

#[test]
fn unknown_moved_and_dead_osds_register() {
    let mut engine = leader(1, ms(0));
    assert_eq!(engine.handle(Event::Heartbeat(entry("new", 0)), ms(1)), [Effect::Register(entry("new", 0))]);
    let moved = OsdEntry { addr: "tcp://osd:9".into(), ..entry("1", 0) };
    assert_eq!(engine.handle(Event::Heartbeat(moved.clone()), ms(2)), [Effect::Register(moved)]);
    let dead = OsdRow::new(1, entry("1", 0)).taken_down(ADDR);
    engine.handle(Event::Map([(1, dead)].into()), ms(3));
    assert_eq!(engine.handle(report("a"), ms(4)), [], "it is down already");
    assert_eq!(engine.handle(Event::Tick, ms(60_000)), []);
    assert_eq!(engine.handle(Event::Heartbeat(entry("1", 0)), ms(60_001)), [Effect::Register(entry("1", 0))]);
}

#[test]
fn an_osd_that_registers_gets_a_lease() {
    let mut engine = leader(0, ms(0));
    let rows: BTreeMap<u64, OsdRow> = [(1, OsdRow::new(1, entry("1", 0)))].into();
    engine.handle(Event::Map(rows), ms(5000));
    assert_eq!(engine.handle(Event::Tick, ms(6499)), [probe(1)]);
    assert_eq!(engine.handle(Event::Tick, ms(6500)), [down(1, Why::Silent)]);
}

#[test]
fn who_says_that_it_stops_is_down_at_once_and_only_that_life_of_it() {
    let mut engine = leader(1, ms(0));
    let stale = OsdEntry { life: 7, ..entry("1", 0) };
    assert_eq!(engine.handle(Event::Leaves(stale), ms(100)), [], "another life of it than the map knows");
    assert_eq!(engine.handle(Event::Leaves(entry("9", 0)), ms(100)), [], "nobody knows it");
    assert_eq!(engine.handle(Event::Leaves(entry("1", 0)), ms(100)), [down(1, Why::Left)]);
    assert_eq!(engine.handle(Event::Leaves(entry("1", 0)), ms(110)), [], "decided already");
}

#[test]
fn changes_of_room_are_counted_and_changes_of_space_are_not() {
    let gib = |osd: &str, free: u64| OsdEntry { total_bytes: 1 << 40, ..entry(osd, free << 30) };
    let mut engine = leader(2, ms(0));
    let mut tell = |entry: OsdEntry| {
        engine.handle(Event::Heartbeat(entry), ms(1));
        engine.room_changes()
    };
    let at_first = tell(gib("1", 9));
    assert_eq!(tell(gib("2", 9)), at_first + 1, "both have room now");
    assert_eq!((tell(gib("1", 5)), tell(gib("1", 1))), (at_first + 1, at_first + 1));
    assert_eq!((tell(gib("1", 0)), tell(gib("1", 0))), (at_first + 2, at_first + 2), "full");
    assert_eq!(tell(gib("2", 0)), at_first + 3);
    assert_eq!(tell(gib("1", 1)), at_first + 4, "and not any more");
    assert_eq!(
        tell(OsdEntry { total_bytes: 0, ..gib("2", 0) }),
        at_first + 5,
        "it does not tell its capacity"
    );
}
