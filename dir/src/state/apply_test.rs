//! Commands against a table, without a log.

use proto::dir::{MrcGroup, OsdEntry, OsdState};
use proto::error::{Code, WireError};
use proto::stripe::Striping;
use rt::table::memory::MemoryTable;

use super::*;
use crate::command::{Bootstrap, Change, RotateKey, SetAdmin, SetWeight, TakeDown};

/// Applies commands as the driver does.
struct Replica {
    state: Arc<DirState>,
    table: Arc<MemoryTable>,
    index: u64,
    unix_ms: u64,
}

impl Replica {
    fn new() -> Self {
        let table = Arc::new(MemoryTable::new());
        Self { state: DirState::new(table.clone()).unwrap(), table, index: 0, unix_ms: 1000 }
    }

    fn apply(&mut self, change: Change) -> std::result::Result<Bytes, WireError> {
        self.index += 1;
        let at = Applied { index: self.index, unix_ms: self.unix_ms, sub_ms_nanos: 0 };
        let mut txn = Txn::new(&*self.table);
        txn.savepoint();
        let answer = self.state.apply(&mut txn, at, &Command::from(change).encode_to_vec()).unwrap();
        self.table.write(txn.into_batch()).unwrap();
        self.state.applied(self.index);
        Answer::decode_result(answer)
    }

    fn register(&mut self, uuid: &str, addr: &str) {
        let entry = OsdEntry { uuid: uuid.into(), addr: addr.into(), ..OsdEntry::default() };
        self.apply(Change::RegisterOsd(entry)).unwrap();
    }

    fn epoch(&self) -> u64 {
        self.state.view().epoch
    }

    fn state_of(&self, osd: u64) -> OsdState {
        self.state.view().osds[&osd].state()
    }

    fn create(&mut self, name: &str) -> std::result::Result<VolumeEntry, WireError> {
        let striping = Striping { stripe_bytes: 1 << 20, width: 1, replicas: 1, ..Striping::default() };
        let mrc = MrcGroup { group: 2, addrs: Vec::new() };
        let entry = VolumeEntry { name: name.into(), mrc, striping, ..VolumeEntry::default() };
        self.apply(Change::CreateVolume(entry)).map(|reply| VolumeEntry::decode(reply).unwrap())
    }
}

#[test]
fn osd_numbers_are_dense_and_stay() {
    let mut replica = Replica::new();
    for uuid in ["a", "b", "a", "c"] {
        replica.register(uuid, &format!("tcp://{uuid}:1"));
    }
    let view = replica.state.view();
    let numbers: Vec<(u64, &str)> =
        view.osds.iter().map(|(osd, row)| (*osd, row.entry.uuid.as_str())).collect();
    assert_eq!(numbers, [(1, "a"), (2, "b"), (3, "c")]);
    assert_eq!(view.epoch, 3, "a repeated registration changes nothing");
}

#[test]
fn a_slow_osd_is_the_same_one_in_a_newer_map() {
    let mut replica = Replica::new();
    replica.register("a", "tcp://a:1");
    let mut say = |slow: bool| {
        let (uuid, addr) = ("a".to_owned(), "tcp://a:1".to_owned());
        replica.apply(Change::RegisterOsd(OsdEntry { uuid, addr, slow, ..OsdEntry::default() })).unwrap();
        let entry = replica.state.view().osds[&1].entry.clone();
        (replica.epoch(), entry.since_epoch, entry.slow, entry.slow_since)
    };
    assert_eq!(say(false), (1, 1, false, 0));
    assert_eq!(say(true), (2, 1, true, 2));
    assert_eq!(say(true), (2, 1, true, 2));
    assert_eq!(say(false), (3, 1, false, 3));
}

#[test]
fn an_osd_that_weighs_otherwise_is_the_same_one_in_a_newer_map() {
    let mut replica = Replica::new();
    replica.register("a", "tcp://a:1");
    let mut say = |weight: u32| {
        replica.apply(Change::SetWeight(SetWeight { osd: 1, weight })).unwrap();
        replica.register("a", "tcp://a:1");
        let entry = replica.state.view().osds[&1].entry.clone();
        (replica.epoch(), entry.since_epoch, entry.weight())
    };
    assert_eq!(say(100), (1, 1, 100), "as it was");
    assert_eq!(say(50), (2, 1, 50));
    assert_eq!(say(50), (2, 1, 50));
    assert_eq!(say(0), (3, 1, 0));
    let refused = replica.apply(Change::SetWeight(SetWeight { osd: 1, weight: 1001 })).unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument);
    let refused = replica.apply(Change::SetWeight(SetWeight { osd: 9, weight: 1 })).unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    assert_eq!(replica.epoch(), 3);
}

#[test]
fn the_epoch_grows_with_what_others_see_and_only_with_it() {
    let mut replica = Replica::new();
    replica.register("a", "tcp://a:1");
    let mut steps = vec![replica.epoch()];
    let down = TakeDown { osd: 1, addr: "tcp://a:1".into() };
    let admin = |admin: OsdState| Change::SetAdmin(SetAdmin { osd: 1, admin: admin as i32 });
    for change in [
        Change::TakeDown(down.clone()),
        Change::TakeDown(down.clone()), // again: nothing
        admin(OsdState::Draining),      // hidden behind Down: nothing
    ] {
        replica.apply(change).unwrap();
        steps.push(replica.epoch());
    }
    replica.register("a", "tcp://a:1"); // Down -> Draining
    steps.push(replica.epoch());
    assert_eq!(replica.state_of(1), OsdState::Draining);
    replica.apply(admin(OsdState::Out)).unwrap();
    steps.push(replica.epoch());
    replica.apply(Change::TakeDown(down)).unwrap(); // out stays out: nothing
    steps.push(replica.epoch());
    assert_eq!(replica.state_of(1), OsdState::Out);
    replica.apply(admin(OsdState::Up)).unwrap(); // its process is dead: Down
    steps.push(replica.epoch());
    assert_eq!(replica.state_of(1), OsdState::Down);
    assert_eq!(steps, [1, 2, 2, 2, 3, 4, 4, 5]);
}

#[test]
fn a_death_at_a_former_address_is_ignored() {
    let mut replica = Replica::new();
    replica.register("a", "tcp://a:1");
    replica.register("a", "tcp://a:2");
    replica.apply(Change::TakeDown(TakeDown { osd: 1, addr: "tcp://a:1".into() })).unwrap();
    assert_eq!(replica.state_of(1), OsdState::Up);
    assert_eq!(replica.epoch(), 2);
}

#[test]
fn admin_words_about_nobody_and_of_no_sense_are_refused() {
    let mut replica = Replica::new();
    let word = |osd, admin| Change::SetAdmin(SetAdmin { osd, admin });
    assert_eq!(replica.apply(word(9, OsdState::Out as i32)).unwrap_err().code, Code::NotFound);
    replica.register("a", "tcp://a:1");
    assert_eq!(replica.apply(word(1, OsdState::Down as i32)).unwrap_err().code, Code::InvalidArgument);
    assert_eq!(replica.apply(word(1, 77)).unwrap_err().code, Code::InvalidArgument);
    assert_eq!(replica.epoch(), 1);
}

#[test]
fn volume_names_are_unique_and_ids_never_come_back() {
    let mut replica = Replica::new();
    let first = replica.create("v").unwrap();
    assert_eq!((first.volume, first.created_ms, first.mrc.group), (1, 1000, 2));
    assert_eq!(replica.create("v").unwrap_err().code, Code::Exists);
    assert_eq!(replica.create("w").unwrap().volume, 2, "a refusal uses up no id");
    replica.apply(Change::RemoveVolume("v".into())).unwrap();
    assert_eq!(replica.apply(Change::RemoveVolume("v".into())).unwrap_err().code, Code::NotFound);
    assert_eq!(replica.create("v").unwrap().volume, 3);
    let names = |list: Vec<VolumeEntry>| -> Vec<(String, u64)> {
        list.into_iter().map(|v| (v.name, v.volume)).collect()
    };
    assert_eq!(names(replica.state.volumes("").unwrap()), [("v".to_owned(), 3), ("w".to_owned(), 2)]);
    assert_eq!(names(replica.state.volumes("w").unwrap()), [("w".to_owned(), 2)]);
    assert!(replica.state.volumes("x").unwrap().is_empty());
}

#[test]
fn the_first_identity_stays_and_keys_rotate() {
    let mut replica = Replica::new();
    let bootstrap = |cluster: &str| {
        Change::Bootstrap(Bootstrap { cluster: cluster.into(), name: "n".into(), secret: vec![1; 32] })
    };
    replica.apply(bootstrap("first")).unwrap();
    replica.apply(bootstrap("second")).unwrap();
    assert_eq!(replica.state.view().cluster, "first");
    let numbers = |replica: &Replica| -> Vec<u32> {
        replica.state.view().keys.iter().map(|row| row.key.number).collect()
    };
    let rotate = |after| Change::RotateKey(RotateKey { secret: vec![2; 32], after });
    replica.apply(rotate(1)).unwrap();
    assert_eq!(replica.apply(rotate(1)).unwrap_err().code, Code::Exists, "two leaders rotate once");
    assert_eq!(numbers(&replica), [2, 1]);
    replica.unix_ms += 2 * proto::limits::CAPABILITY_TTL_MS;
    replica.apply(rotate(2)).unwrap();
    assert_eq!(numbers(&replica), [3, 2, 1], "key 1 may just still be in use");
    replica.unix_ms += 1;
    replica.apply(rotate(3)).unwrap();
    assert_eq!(numbers(&replica), [4, 3, 2]);
}

#[test]
fn a_replica_that_starts_from_the_table_shows_the_same() {
    let mut replica = Replica::new();
    replica.register("a", "tcp://a:1");
    replica.create("v").unwrap();
    replica
        .apply(Change::PutService(ServiceEntry { uuid: "s".into(), silent_ms: 9, ..ServiceEntry::default() }))
        .unwrap();
    let again = DirState::new(replica.table.clone()).unwrap();
    assert_eq!(again.view(), replica.state.view());
    assert_eq!(again.services().unwrap(), [ServiceEntry { uuid: "s".into(), ..ServiceEntry::default() }]);
    replica.apply(Change::ForgetService("s".into())).unwrap();
    assert!(again.services().unwrap().is_empty());
}

#[test]
fn an_unreadable_command_is_refused_and_changes_nothing() {
    let replica = Replica::new();
    let mut txn = Txn::new(&*replica.table);
    let at = Applied { index: 1, unix_ms: 1, sub_ms_nanos: 0 };
    for command in [&b"\xff\xff"[..], b""] {
        let answer = replica.state.apply(&mut txn, at, command).unwrap();
        assert_eq!(Answer::decode_result(answer).unwrap_err().code, Code::BadRequest);
    }
    assert!(txn.is_empty());
}

#[test]
fn watchers_hear_of_changes_and_of_leadership() {
    let mut replica = Replica::new();
    let mut watch = replica.state.watch();
    replica.register("a", "tcp://a:1");
    assert!(watch.has_changed().unwrap());
    assert_eq!(watch.borrow_and_update().epoch, 1);
    replica.create("v").unwrap();
    assert!(!watch.has_changed().unwrap(), "volumes are not in the view");
    replica.state.leadership(true, 3);
    assert_eq!(watch.borrow_and_update().leads, Some(3));
    replica.register("b", "tcp://b:1");
    assert_eq!(watch.borrow_and_update().leads, Some(3));
}

/// Any command, from small pools so that they meet.
fn any_change(rng: &mut impl rand::Rng) -> Change {
    let osd = rng.random_range(0..5);
    let uuid = format!("u{}", rng.random_range(0..4));
    let addr = format!("tcp://h:{}", rng.random_range(1..4));
    let name = format!("v{}", rng.random_range(0..3));
    match rng.random_range(0..10) {
        0..3 => {
            let domain = format!("d{}", rng.random_range(0..2));
            Change::RegisterOsd(OsdEntry {
                uuid,
                addr,
                domain,
                free_bytes: rng.random(),
                ..OsdEntry::default()
            })
        }
        3 => Change::TakeDown(TakeDown { osd, addr }),
        4 => Change::SetAdmin(SetAdmin { osd, admin: rng.random_range(0..5) }),
        5 => Change::CreateVolume(VolumeEntry { name, ..VolumeEntry::default() }),
        6 => Change::RemoveVolume(name),
        7 => Change::RotateKey(RotateKey { secret: vec![0; 32], after: rng.random_range(0..3) }),
        8 => Change::SetWeight(SetWeight { osd, weight: [0, 50, 100, 1001][rng.random_range(0..4)] }),
        _ => Change::PutService(ServiceEntry { uuid, addr, ..ServiceEntry::default() }),
    }
}

/// What others see of the map.
fn faces(view: &View) -> Vec<(u64, String, i32, String, String, u32)> {
    let face = |(osd, row): (&u64, &OsdRow)| {
        let entry = row.entry.clone();
        let weight = entry.weight();
        (*osd, entry.uuid, entry.state, entry.addr, entry.domain, weight)
    };
    view.osds.iter().map(face).collect()
}

/// Invariants 1 and 2 of docs/protocols/osd-map.md, and that two replicas of one log are equal byte for byte.
#[test]
fn random_logs_keep_the_invariants_and_replicas_equal() {
    use rand::{Rng, SeedableRng};
    for seed in 0..50 {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let mut replicas = [Replica::new(), Replica::new()];
        let mut volumes = std::collections::BTreeSet::new();
        let mut before = (0, Vec::new());
        for _ in 0..100 {
            let change = any_change(&mut rng);
            let makes_volume = matches!(change, Change::CreateVolume(_));
            let pause = rng.random_range(0..600_000);
            let [first, second] = replicas.each_mut().map(|replica| {
                replica.unix_ms += pause;
                replica.apply(change.clone())
            });
            assert_eq!(first, second, "seed {seed}");
            if let (true, Ok(reply)) = (makes_volume, first) {
                assert!(
                    volumes.insert(VolumeEntry::decode(reply).unwrap().volume),
                    "seed {seed}: an id came back"
                );
            }
            let view = replicas[0].state.view();
            let now = (view.epoch, faces(&view));
            assert!(now.0 >= before.0, "seed {seed}: the epoch went back");
            assert_eq!(
                now.0 == before.0,
                now.1 == before.1,
                "seed {seed}: one epoch, one map: {before:?} {now:?}"
            );
            for (osd, uuid, ..) in &before.1 {
                assert_eq!(&view.osds[osd].entry.uuid, uuid, "seed {seed}: a number changed hands");
            }
            before = now;
        }
        let tables =
            replicas.each_ref().map(|replica| Table::scan(&*replica.table, b"", b"", usize::MAX).unwrap());
        assert_eq!(tables[0], tables[1], "seed {seed}");
    }
}
