//! Checks that end because nobody wants them, and starts and questions that are repeated.

use std::sync::mpsc::{Receiver, Sender, channel};

use proto::id::Ino;
use proto::mrc::{InitVolume, MakeRequest, kind};
use proto::rpc::Origin;
use proto::stripe::Striping;
use quorum::{Applied, StateMachine};
use rt::clock::ManualClock;
use rt::table::memory::MemoryTable;
use rt::table::{Batch, Pair, Reader, Result as TableResult, Txn};

use super::*;
use crate::Machine;
use crate::command::{Body, Command, Make};
use crate::namespace::keys;

const VOLUME: u64 = 9;
/// A test that waits so long has failed.
const LONG: Duration = Duration::from_secs(30);

/// A volume with one name in its root.
fn small() -> MemoryTable {
    let (table, machine) = (MemoryTable::new(), Machine::new());
    let init = InitVolume {
        volume: VOLUME,
        name: "v".into(),
        striping: Striping { stripe_bytes: 1 << 20, width: 1, replicas: 1, replication: 0, coding: None },
        mode: 0o755,
        ..InitVolume::default()
    };
    let head = proto::mrc::Head { volume: VOLUME, ..proto::mrc::Head::default() };
    let request = MakeRequest {
        head,
        origin: Origin::default(),
        parent: Ino::ROOT.0,
        name: b"d".to_vec(),
        mode: kind::DIR << 12 | 0o755,
        ..MakeRequest::default()
    };
    for (index, body) in
        [Body::InitVolume(init), Body::Make(Make { request, layout: None })].into_iter().enumerate()
    {
        let mut txn = Txn::new(&table);
        let at = Applied { index: 1 + index as u64, unix_ms: 1_700_000_000_000, sub_ms_nanos: 0 };
        machine.apply(&mut txn, at, &Command::from(body).to_bytes()).unwrap();
        table.write(txn.into_batch()).unwrap();
    }
    table
}

/// The same volume, whose listing never ends.
struct Endless {
    table: MemoryTable,
    /// Told when the check is over.
    over: Mutex<Sender<()>>,
}

impl Endless {
    fn new() -> (Arc<Self>, Receiver<()>) {
        let (over, heard) = channel();
        (Arc::new(Self { table: small(), over: Mutex::new(over) }), heard)
    }
}

struct Moment<'a>(&'a MemoryTable);

impl Reader for Moment<'_> {
    fn get(&self, key: &[u8]) -> TableResult<Option<Vec<u8>>> {
        Table::get(self.0, key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> TableResult<Vec<Pair>> {
        let all = keys::of_volume(keys::table::ORDER, VOLUME);
        if !from.starts_with(&all) {
            return Table::scan(self.0, from, to, limit);
        }
        let rows = Table::scan(self.0, &all, to, 1)?;
        Ok(rows.into_iter().cycle().take(limit).collect())
    }
}

impl Table for Endless {
    fn get(&self, key: &[u8]) -> TableResult<Option<Vec<u8>>> {
        Table::get(&self.table, key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> TableResult<Vec<Pair>> {
        Table::scan(&self.table, from, to, limit)
    }

    fn write(&self, batch: Batch) -> TableResult<()> {
        self.table.write(batch)
    }

    fn flush(&self) -> TableResult<()> {
        self.table.flush()
    }

    fn clear(&self, from: &[u8], to: &[u8]) -> TableResult<()> {
        self.table.clear(from, to)
    }

    fn at_one_moment(&self, work: &mut dyn FnMut(&dyn Reader)) {
        work(&Moment(&self.table));
        self.over.lock().send(()).unwrap();
    }
}

struct World {
    clock: Arc<ManualClock>,
    leads: Arc<AtomicBool>,
    checks: Checks,
}

impl World {
    fn new() -> Self {
        let (clock, leads) = (ManualClock::new(), Arc::new(AtomicBool::new(true)));
        let known = leads.clone();
        let checks = Checks::new(clock.clone(), Arc::new(move || known.load(Ordering::SeqCst)), 77);
        Self { clock, leads, checks }
    }

    fn start(&self, table: Arc<dyn Table>, number: u64) -> Result<u64, WireError> {
        self.checks.start(table, (VOLUME, 2), number)
    }

    async fn ask(&self, number: u64) -> Result<FsckProgress, WireError> {
        self.checks.ask(number, 0, Duration::ZERO).await
    }

    async fn whole(&self, number: u64) -> FsckProgress {
        loop {
            let progress = self.checks.ask(number, 0, LONG).await.unwrap();
            if progress.done {
                return progress;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_the_last_question_may_be_repeated() {
    let world = World::new();
    let table = Arc::new(small());
    assert_eq!(world.start(table.clone(), 5).unwrap(), 5);
    assert_eq!(world.start(table.clone(), 5).unwrap(), 5, "the same one");
    let first = world.whole(5).await;
    assert_eq!((first.findings.len(), first.inodes, first.check), (0, 2, 5));
    assert_eq!(world.whole(5).await, first, "its answer may have been lost");
    // A number of another volume's check is not taken over.
    let other = world.checks.start(table.clone(), (VOLUME + 1, 2), 5).unwrap_err();
    assert_eq!(other.code, Code::Stale);
    // One that is over is in nobody's way, and what is remembered is bounded.
    for number in 100..150 {
        world.start(table.clone(), number).unwrap();
        world.whole(number).await;
    }
    assert!(world.checks.running.lock().len() <= KNOWN_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_nobody_asks_for_ends_by_itself() {
    let world = World::new();
    let (table, over) = Endless::new();
    world.start(table, 5).unwrap();
    let progress = world.ask(5).await.unwrap();
    assert!(!progress.done);
    // A question that waits keeps it, however long.
    let check = world.checks.running.lock()[&5].clone();
    let question = Question::new(&check);
    world.clock.advance(ASKED_WITHIN * 10);
    assert!(check.is_wanted());
    drop(question);
    assert!(check.is_wanted(), "answered just now");
    world.clock.advance(ASKED_WITHIN + Duration::from_millis(1));
    over.recv_timeout(LONG).expect("it ended, without anybody asking or starting another");
    assert_eq!(world.checks.ask(5, 0, LONG).await.unwrap_err().code, Code::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_ends_with_the_leadership_and_tells_nothing_as_the_whole() {
    let world = World::new();
    let (table, over) = Endless::new();
    world.start(table, 5).unwrap();
    world.leads.store(false, Ordering::SeqCst);
    over.recv_timeout(LONG).expect("it ended");
    // It leads again: what the check had found so far is not all there is.
    world.leads.store(true, Ordering::SeqCst);
    let answer = world.checks.ask(5, 0, LONG).await;
    assert_eq!(answer.unwrap_err().code, Code::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tool_waits_for_a_check_that_is_asked_for_and_not_for_one_that_was_left() {
    let world = World::new();
    let (table, over) = Endless::new();
    world.start(table.clone(), 5).unwrap();
    world.ask(5).await.unwrap();
    let refused = world.start(table.clone(), 6).unwrap_err();
    assert_eq!(refused.code, Code::Busy);
    assert!(refused.text.contains("another check of this volume runs"), "{refused}");
    world.clock.advance(WANTED_WITHIN + Duration::from_millis(1));
    let (next, next_over) = Endless::new();
    world.start(next, 6).unwrap();
    over.recv_timeout(LONG).expect("the one that was left ended");
    // The service ends, and does not wait for it.
    world.checks.stop_all();
    next_over.recv_timeout(LONG).expect("so did the next one");
}
