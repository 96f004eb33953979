//! Random events from several sessions; after each the invariants of the protocol page hold, and every request ends.

use proptest::prelude::*;
use proto::limits::RECALLS_PER_ANSWER;

use super::*;

const SESSIONS: u64 = 4;
const FILES: u64 = 3;
const TIMES: Times = Times {
    ttl: Duration::from_millis(600),
    margin: Duration::from_millis(50),
    cool: Duration::from_millis(10),
    per_session: 2,
};

#[derive(Clone, Debug)]
enum Event {
    Grant(u64, u64, u32),
    Acquire(u64, u64, u32),
    GiveUp(usize),
    Begin(u64, Vec<(u64, u32, bool)>),
    Finish(usize, bool),
    Return(u64, bool),
    GiveBack(u64, u64, u32, bool),
    Renew(u64),
    Open(u64, bool),
    OpenUntrue(u64, u64),
    Expel(u64),
    Close(u64),
    Expelled(usize),
    Lead(Vec<u64>),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let session = || 1..=SESSIONS;
    let file = || 1..=FILES;
    let bits = || 1..=ALL_BITS;
    prop_oneof![
        6 => (session(), file(), bits()).prop_map(|(s, f, b)| Event::Grant(s, f, b)),
        6 => (session(), file(), bits()).prop_map(|(s, f, b)| Event::Acquire(s, f, b)),
        1 => any::<usize>().prop_map(Event::GiveUp),
        6 => (session(), prop::collection::vec((file(), bits(), any::<bool>()), 0..4))
            .prop_map(|(s, claims)| Event::Begin(s, claims)),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(at, changed)| Event::Finish(at, changed)),
        8 => (session(), any::<bool>()).prop_map(|(s, all)| Event::Return(s, all)),
        3 => (session(), file(), bits(), any::<bool>()).prop_map(|(s, f, b, old)| Event::GiveBack(s, f, b, old)),
        4 => session().prop_map(Event::Renew),
        2 => (session(), any::<bool>()).prop_map(|(s, tell)| Event::Open(s, tell)),
        1 => (session(), file()).prop_map(|(s, f)| Event::OpenUntrue(s, f)),
        1 => session().prop_map(Event::Expel),
        1 => session().prop_map(Event::Close),
        4 => any::<usize>().prop_map(Event::Expelled),
        1 => prop::collection::vec(session(), 0..3).prop_map(Event::Lead),
        6 => (1..300u64).prop_map(Event::Pass),
    ]
}

/// What surrounds the engine.
struct World {
    leases: Leases,
    now: Duration,
    acquiring: Vec<u64>,
    changes: Vec<Pass>,
    /// What the driver is expelling: session and number.
    expelling: Vec<(u64, u64)>,
    /// The expulsion of a session that counts.
    current: BTreeMap<u64, u64>,
    epochs: BTreeMap<u64, u64>,
    /// Since when a session is asked for by a recall.
    asked: BTreeMap<(u64, u64), Duration>,
}

impl World {
    fn new() -> Self {
        let mut leases = Leases::new(TIMES);
        leases.lead(Duration::ZERO, 1, []);
        let (now, acquiring, changes) = (Duration::ZERO, Vec::new(), Vec::new());
        let (expelling, current) = (Vec::new(), BTreeMap::new());
        let (epochs, asked) = (BTreeMap::new(), BTreeMap::new());
        Self { leases, now, acquiring, changes, expelling, current, epochs, asked }
    }

    fn run(&mut self, event: &Event) {
        let now = self.now;
        match event {
            Event::Grant(session, file, bits) => {
                self.leases.grant(now, *session, (1, *file), *bits);
            }
            Event::Acquire(session, file, bits) => {
                if let Acquired::Waits(ticket) = self.leases.acquire(now, *session, (1, *file), *bits) {
                    self.acquiring.push(ticket);
                }
            }
            Event::GiveUp(at) if !self.acquiring.is_empty() => {
                let ticket = self.acquiring.swap_remove(at % self.acquiring.len());
                self.leases.cancel(now, ticket);
            }
            Event::Begin(session, wanted) => {
                let claims = wanted.iter().fold(Claims::default(), |claims, (file, recall, own)| {
                    claims.with(Claim { own: *own && *file == 1, ..Claim::change((1, *file), *recall) })
                });
                if let Begun::Free(pass) | Begun::Waits(pass) = self.leases.begin(now, *session, claims) {
                    self.changes.push(pass);
                }
            }
            Event::Finish(at, changed) if !self.changes.is_empty() => {
                let pass = self.changes.swap_remove(at % self.changes.len());
                self.leases.finish(now, &pass, *changed);
            }
            Event::Return(session, all) => {
                for recall in self.leases.recalls(*session, 0, if *all { RECALLS_PER_ANSWER } else { 1 }) {
                    let file = (recall.volume, recall.ino);
                    self.leases.returned(now, *session, file, recall.bits, recall.number);
                }
            }
            Event::GiveBack(session, file, bits, old) => {
                let number = if *old { 3 } else { u64::MAX };
                self.leases.returned(now, *session, (1, *file), *bits, number);
            }
            Event::Renew(session) => {
                self.leases.renew(now, *session);
            }
            Event::Open(session, tell) => self.open(*session, *tell),
            Event::OpenUntrue(session, file) => {
                let epoch = *self.epochs.entry(*session).or_insert(1);
                let told = [((1, *file), ALL_BITS)];
                let _ = self.leases.open_session(
                    now,
                    *session,
                    Opening { epoch, part: true, told: &told, ..Opening::default() },
                );
            }
            Event::Expel(session) => {
                self.leases.expel(now, *session);
            }
            Event::Close(session) => {
                self.leases.close_session(now, *session);
                self.current.remove(session);
            }
            Event::Expelled(at) if !self.expelling.is_empty() => {
                self.expelled(at % self.expelling.len());
            }
            Event::Lead(awaited) => {
                self.leases.lead(now, 1, awaited.iter().copied());
                (self.expelling, self.changes, self.acquiring) = (Vec::new(), Vec::new(), Vec::new());
                self.asked.clear();
                self.current.clear();
            }
            Event::Pass(millis) => self.now += Duration::from_millis(*millis),
            _ => {}
        }
        self.look();
    }

    fn open(&mut self, session: u64, tell: bool) {
        let held: Vec<(FileId, u32)> =
            (1..=FILES).map(|file| ((1, file), self.leases.held(session, (1, file)))).collect();
        let epoch = *self.epochs.entry(session).or_insert(1);
        let told = if tell { &held[..] } else { &[] };
        let opening = Opening { epoch, part: true, told, ..Opening::default() };
        if self.leases.open_session(self.now, session, opening) == Err(OpenRefused::NotHeld) {
            self.leases.open_session(self.now, session, Opening { told: &[], ..opening }).unwrap();
        }
    }

    fn expelled(&mut self, at: usize) {
        let (session, number) = self.expelling.swap_remove(at);
        let epoch = self.epochs.entry(session).or_insert(1);
        *epoch += 1;
        let epoch = *epoch;
        let held = |leases: &Leases| -> Vec<u32> {
            (1..=FILES).map(|file| leases.held(session, (1, file))).collect()
        };
        let before = held(&self.leases);
        self.leases.expelled(self.now, session, number, epoch);
        if self.current.get(&session) == Some(&number) {
            self.current.remove(&session);
        } else {
            assert_eq!(before, held(&self.leases), "an expulsion that is over frees nothing");
        }
    }

    /// The driver's part, and what must hold.
    fn look(&mut self) {
        self.leases.tick(self.now);
        for effect in self.leases.take_effects() {
            if let Effect::Expel { session, number, .. } = effect {
                assert!(self.current.insert(session, number).is_none(), "{session} expelled twice at once");
                self.expelling.push((session, number));
            }
        }
        self.leases.invariants();
        self.acquiring.retain(|ticket| self.leases.standing(*ticket) == Standing::Waits);
        let mut open = BTreeMap::new();
        for session in 1..=SESSIONS {
            for recall in self.leases.recalls(session, 0, usize::MAX) {
                // By its number: an inode may be recalled anew as soon as it is given anew.
                let key = (session, recall.recall);
                let since = *self.asked.get(&key).unwrap_or(&self.now);
                let age = self.now - since;
                assert!(
                    age < TIMES.ttl + TIMES.margin || self.current.contains_key(&session),
                    "a recall is open for {age:?} and nobody is expelled"
                );
                open.insert(key, since);
            }
        }
        self.asked = open;
    }

    /// Nothing more comes from clients: everything ends by itself.
    fn finish(mut self) {
        for _ in 0..FILES * SESSIONS * 8 {
            self.now += TIMES.ttl + TIMES.margin;
            self.look();
            while !self.expelling.is_empty() {
                self.expelled(0);
            }
            let (over, waiting): (Vec<Pass>, Vec<Pass>) = self.changes.drain(..).partition(|pass| {
                pass.ticket().is_none_or(|ticket| self.leases.standing(ticket) != Standing::Waits)
            });
            for pass in over {
                self.leases.finish(self.now, &pass, true);
            }
            self.changes = waiting;
            self.look();
        }
        for pass in &self.changes {
            let ticket = pass.ticket().unwrap();
            assert_ne!(self.leases.standing(ticket), Standing::Waits, "a change waits for ever");
        }
        assert!(self.acquiring.is_empty(), "acquisitions wait for ever: {:?}", self.leases);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_everything_ends(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for session in 1..=SESSIONS {
            world.open(session, false);
        }
        for event in &events {
            world.run(event);
        }
        world.finish();
    }
}
