//! The OSD behind its service face, on real files.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use osd::agent::{Agent, AgentConfig};
use osd::{Osd, OsdConfig, Tuning};
use proto::capability::{Capability, CapabilityKey, READ, REMOVE, WRITE};
use proto::checksum::{block_checksums, crc32c};
use proto::dir::{HeartbeatOsd, OsdEntry, OsdHeartbeatReply, OsdMap};
use proto::error::{Code, WireError};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::osd::*;
use proto::rpc::{Empty, Method};
use rt::clock::{Clock, SystemClock};
use rt::rpc::local::LocalChannel;
use rt::rpc::{
    BoxFuture, CallOptions, Channel, Connector, Peer, Request, Response, Service, call, call_with,
};

fn secret() -> CapabilityKey {
    CapabilityKey { number: 1, secret: vec![7; 32] }
}

fn capability(rights: u32, ino: u64) -> Capability {
    Capability {
        volume: 1,
        ino,
        rights,
        session: 5,
        session_epoch: 1,
        expires_ms: u64::MAX / 2,
        ..Capability::default()
    }
    .sign(&secret())
}

fn head(rights: u32, ino: u64, object: u64) -> ObjectHead {
    ObjectHead { capability: capability(rights, ino), object, map_epoch: 1, replicas: None, turn: None }
}

fn open(path: &std::path::Path, capacity_bytes: u64) -> Arc<Osd> {
    let tuning = Tuning { grow_bytes: 8 << 20, idle_ms: 50, ..Tuning::default() };
    let config = OsdConfig { capacity_bytes, tuning, ..OsdConfig::new(path, "osd-a", SystemClock::new()) };
    let osd = Osd::open(config).unwrap();
    osd.set_keys(vec![secret()]);
    osd.set_map_epoch(1);
    osd
}

async fn write(
    channel: &dyn Channel,
    ino: u64,
    object: u64,
    offset: u32,
    data: Bytes,
    sync: bool,
) -> Result<u64, WireError> {
    let key = ObjectKey { volume: VolumeId(1), ino: Ino(ino), object: ObjectNo(object) };
    let aligned = offset.is_multiple_of(4096);
    let checksums = if aligned { block_checksums(key, offset / 4096, &data) } else { Vec::new() };
    let message =
        WriteRequest { head: head(WRITE, ino, object), offset, crc: crc32c(&data), checksums, sync };
    Ok(call_with::<Write>(channel, &message, data, &CallOptions::default()).await?.0.version)
}

async fn read(channel: &dyn Channel, ino: u64, object: u64, offset: u32, len: u32) -> Vec<u8> {
    let message = ReadRequest { head: head(READ, ino, object), offset, len, check: false };
    let (reply, payload) =
        call_with::<Read>(channel, &message, Bytes::new(), &CallOptions::default()).await.unwrap();
    let key = ObjectKey { volume: VolumeId(1), ino: Ino(ino), object: ObjectNo(object) };
    assert_eq!(block_checksums(key, reply.first_block, &payload), reply.checksums);
    let mut bytes =
        payload[(offset as usize - reply.first_block as usize * 4096).min(payload.len())..].to_vec();
    bytes.resize(len as usize, 0);
    bytes
}

fn pattern(len: usize, salt: usize) -> Bytes {
    Bytes::from((0..len).map(|byte| (byte / 7 + byte + salt) as u8).collect::<Vec<u8>>())
}

#[tokio::test]
async fn objects_through_the_door() {
    let dir = tempfile::tempdir().unwrap();
    let osd = open(dir.path(), 1 << 30);
    let channel = LocalChannel::new(osd.clone(), "local://osd");
    let channel: &dyn Channel = &*channel;

    let small = pattern(100, 1);
    let first = write(channel, 2, 0, 50, small.clone(), false).await.unwrap();
    assert_eq!(read(channel, 2, 0, 50, 100).await, small);
    assert_eq!(read(channel, 2, 0, 0, 50).await, vec![0; 50]);
    let large = pattern(1 << 20, 2);
    let second = write(channel, 2, 0, 0, large.clone(), true).await.unwrap();
    assert!(second > first);
    assert_eq!(read(channel, 2, 0, 0, 1 << 20).await, large);
    assert_eq!(read(channel, 2, 0, 12_345, 54_321).await, large[12_345..12_345 + 54_321]);
    let odd = pattern(300_001, 3);
    write(channel, 2, 3, 77, odd.clone(), false).await.unwrap();
    assert_eq!(read(channel, 2, 3, 77, 300_001).await, odd);
    call::<Sync>(channel, &SyncRequest { capability: capability(0, 2), ..SyncRequest::default() })
        .await
        .unwrap();

    let stat =
        StatObjectsRequest { capability: capability(READ, 2), limit: 1, ..StatObjectsRequest::default() };
    let reply = call::<StatObjects>(channel, &stat).await.unwrap();
    assert!(reply.more);
    assert_eq!(
        (reply.objects[0].object, reply.objects[0].bytes, &reply.objects[0].data[..]),
        (0, 1 << 20, &[0, 1 << 20][..])
    );
    call::<Punch>(channel, &PunchRequest { head: head(WRITE, 2, 0), offset: 4000, len: 9000 }).await.unwrap();
    let mut punched = large.to_vec();
    punched[4000..13_000].fill(0);
    assert_eq!(read(channel, 2, 0, 0, 1 << 20).await, punched);
    let reply = call::<StatObjects>(channel, &StatObjectsRequest { limit: 9, ..stat.clone() }).await.unwrap();
    assert!(!reply.more);
    assert_eq!(reply.objects[0].data, [0, 4096, 12_288, (1 << 20) - 12_288]);
    assert_eq!(reply.objects[1].object, 3);

    call::<Truncate>(channel, &TruncateRequest { head: head(WRITE, 2, 0), keep: 5000 }).await.unwrap();
    let reply = call::<StatObjects>(channel, &StatObjectsRequest { limit: 9, ..stat.clone() }).await.unwrap();
    assert_eq!(reply.objects.len(), 1);
    assert_eq!((reply.objects[0].bytes, reply.objects[0].allocated), (5000, 4096));
    assert_eq!(read(channel, 2, 0, 0, 6000).await[..4000], large[..4000]);
    call::<Remove>(channel, &RemoveRequest { capability: capability(REMOVE, 2), keep_records: false })
        .await
        .unwrap();
    call::<Remove>(channel, &RemoveRequest { capability: capability(REMOVE, 2), keep_records: false })
        .await
        .unwrap();
    assert_eq!(call::<Status>(channel, &Empty {}).await.unwrap().objects, 0);
    osd.shutdown().await.unwrap();
    assert_eq!(write(channel, 2, 0, 0, small, false).await.unwrap_err().code, Code::Io);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let contents: Vec<Bytes> = (0..20).map(|n| pattern(40_000 * n + 10, n)).collect();
    for round in 0..3 {
        let osd = open(dir.path(), 1 << 30);
        let channel = LocalChannel::new(osd.clone(), "local://osd");
        for (object, data) in (0..).zip(&contents) {
            if round > 0 {
                assert_eq!(
                    read(&*channel, 4, object, 0, data.len() as u32).await,
                    data[..],
                    "round {round} object {object}"
                );
            }
            write(&*channel, 4, object, 0, data.clone(), false).await.unwrap();
        }
        if round == 1 {
            osd.shutdown().await.unwrap();
        }
    }
}

#[tokio::test]
async fn refuses_what_it_must() {
    let dir = tempfile::tempdir().unwrap();
    let osd = open(dir.path(), 1 << 20);
    let channel = LocalChannel::new(osd.clone(), "local://osd");
    let channel: &dyn Channel = &*channel;
    let code = |result: Result<u64, WireError>| result.map_err(|error| error.code);
    let message = WriteRequest { head: head(READ, 2, 0), ..WriteRequest::default() };
    let refused =
        call_with::<Write>(channel, &message, Bytes::from_static(b"x"), &CallOptions::default()).await;
    assert_eq!(refused.unwrap_err().code, Code::PermissionDenied);
    let message = WriteRequest { head: head(WRITE, 2, 0), crc: 1, ..WriteRequest::default() };
    let refused =
        call_with::<Write>(channel, &message, Bytes::from_static(b"x"), &CallOptions::default()).await;
    assert_eq!(refused.unwrap_err().code, Code::Corrupt);
    // A signature that was good before is not good for another file, nor after its key is gone.
    write(channel, 2, 0, 0, pattern(10, 0), false).await.unwrap();
    let mut forged = head(WRITE, 2, 0);
    forged.capability.ino = 3;
    let message = WriteRequest { head: forged, crc: crc32c(b"x"), ..WriteRequest::default() };
    let refused =
        call_with::<Write>(channel, &message, Bytes::from_static(b"x"), &CallOptions::default()).await;
    assert_eq!(refused.unwrap_err().code, Code::CapabilityInvalid);
    osd.set_keys(vec![CapabilityKey { number: 2, secret: vec![8; 32] }]);
    assert_eq!(code(write(channel, 2, 0, 0, pattern(10, 0), false).await), Err(Code::CapabilityExpired));
    osd.set_keys(vec![secret()]);
    osd.set_map_epoch(9);
    let refused = write(channel, 2, 0, 0, pattern(10, 0), false).await.unwrap_err();
    assert_eq!((refused.code, refused.hint.as_str()), (Code::OldEpoch, "9"));
    drop(osd);

    let dir = tempfile::tempdir().unwrap();
    let osd = open(dir.path(), 1 << 20);
    let local = LocalChannel::new(osd.clone(), "local://osd");
    let channel: &dyn Channel = &*local;
    assert_eq!(code(write(channel, 2, 0, 0, pattern(2 << 20, 0), false).await), Err(Code::NoSpace));
    assert_eq!(code(write(channel, 2, 0, 16 << 20, pattern(1, 0), false).await), Err(Code::InvalidArgument));
    // Overwriting the same megabyte needs room that only checkpoints give back.
    for round in 0..20 {
        write(channel, 2, 0, 0, pattern(500 << 10, round), false).await.unwrap();
    }
    assert_eq!(read(channel, 2, 0, 0, 500 << 10).await, pattern(500 << 10, 19));

    let fence = |ino| FenceRequest { capability: capability(REMOVE, ino), session: 5, epoch: 2 };
    assert_eq!(call::<Fence>(channel, &fence(3)).await.unwrap_err().code, Code::PermissionDenied);
    call::<Fence>(channel, &fence(0)).await.unwrap();
    assert_eq!(code(write(channel, 2, 0, 0, pattern(1, 0), false).await), Err(Code::CapabilityExpired));
    osd.shutdown().await.unwrap();
    drop((local, osd));
    let osd = open(dir.path(), 1 << 20);
    let channel = LocalChannel::new(osd, "local://osd");
    assert_eq!(code(write(&*channel, 2, 0, 0, pattern(1, 0), false).await), Err(Code::CapabilityExpired));
}

/// Many writers and readers at once, folds, checkpoints and scrubs beside them; every block read is one that was
/// written there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning {
        segment_bytes: 256 << 10,
        fold_bytes: 256 << 10,
        checkpoint_bytes: 1 << 20,
        dirty_objects: 4,
        cached_objects: 4,
        idle_ms: 5,
        io_depth: 4,
        scrub_seconds: 1,
        ..Tuning::default()
    };
    let config = OsdConfig {
        tuning,
        capacity_bytes: 256 << 20,
        ..OsdConfig::new(dir.path(), "osd-a", SystemClock::new())
    };
    let osd = Osd::open(config).unwrap();
    let key = |object: u64| ObjectKey { volume: VolumeId(1), ino: Ino(9), object: ObjectNo(object) };
    let tasks: Vec<_> = (0..8u64)
        .map(|task| {
            let osd = osd.clone();
            tokio::spawn(async move {
                for round in 0..60u64 {
                    // Each task has its own 64 KiB of each of the objects that all share, and large objects alone.
                    let salt = (task * 100 + round) as usize;
                    let object = (task + round) % 5;
                    let offset = task as u32 * 65_536 + (round as u32 % 15) * 4096 + 17 * (round as u32 % 3);
                    let small = pattern(3000, salt);
                    osd.write_object(key(object), offset, small.clone(), round % 16 == 0).await.unwrap();
                    let large = pattern(200_000, salt);
                    osd.write_object(key(100 + task), 0, large.clone(), false).await.unwrap();
                    let back = osd.read_object(key(object), offset, 3000).await.unwrap();
                    let skip = offset as usize % 4096;
                    assert_eq!(back.data[skip..skip + 3000], small[..]);
                    assert_eq!(block_checksums(key(object), back.first_block, &back.data), back.sums);
                    let back = osd.read_object(key(100 + task), 0, 200_000).await.unwrap();
                    assert_eq!(back.data, large);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(osd.scrub().await.unwrap(), []);
    osd.shutdown().await.unwrap();
}

/// A DIR member that knows the leader, and the leader.
#[derive(Default)]
struct FakeDir {
    leader: bool,
    /// What it was told, in order: the life, and whether it was the last word.
    told: std::sync::Mutex<Vec<(u64, bool)>>,
    /// The last heartbeat: when it came, and whether it told of room for new files.
    last: tokio::sync::watch::Sender<Option<(Instant, bool)>>,
    /// What its clock shows; 0: it does not say.
    unix_ms: u64,
}

impl Service for FakeDir {
    fn call(
        self: Arc<Self>,
        _peer: Peer,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, WireError>> {
        Box::pin(async move {
            assert_eq!(request.method, HeartbeatOsd::NUMBER);
            if !self.leader {
                return Err(WireError::new(Code::NotLeader, "not me").with_hint("local://dir-1"));
            }
            let beat = rt::rpc::parse::<HeartbeatOsd>(&request)?;
            self.last.send_replace(Some((Instant::now(), beat.entry.has_room())));
            self.told.lock().unwrap().push((beat.entry.life, beat.leaving));
            let map = OsdMap { epoch: 4, osds: vec![OsdEntry { osd: 3, ..beat.entry }], dirs: Vec::new() };
            let map = (beat.known_epoch < map.epoch).then_some(map);
            Ok(Response::of(&OsdHeartbeatReply {
                osd: 3,
                lease_ms: 1500,
                map,
                keys: vec![secret()],
                unix_ms: self.unix_ms,
                ..OsdHeartbeatReply::default()
            }))
        })
    }
}

#[tokio::test]
async fn the_agent_registers_with_the_leader() {
    let dir = tempfile::tempdir().unwrap();
    let osd = Osd::open(OsdConfig::new(dir.path(), "osd-a", SystemClock::new())).unwrap();
    let connector = Connector::new();
    connector.register_local("dir-0", Arc::new(FakeDir::default()));
    let leader = Arc::new(FakeDir { leader: true, ..FakeDir::default() });
    connector.register_local("dir-1", leader.clone());
    let config = AgentConfig {
        dirs: vec!["local://dir-gone".to_owned(), "local://dir-0".to_owned()],
        addr: "local://osd".to_owned(),
        ..AgentConfig::default()
    };
    let agent = Agent::start(osd.clone(), connector, config);
    agent.registered().await;
    assert_eq!((agent.number(), osd.map_epoch()), (Some(3), 4));
    assert_eq!(agent.map().borrow().osds[0].addr, "local://osd");
    let channel = LocalChannel::new(osd, "local://osd");
    assert_eq!(write(&*channel, 2, 0, 0, pattern(1, 0), false).await.unwrap_err().code, Code::OldEpoch);
    // The last word, in this life, and nothing after it: a heartbeat would bring it up again.
    agent.leave().await;
    let told = std::mem::take(&mut *leader.told.lock().unwrap());
    let (life, _) = told[0];
    assert_eq!(told.last(), Some(&(life, true)));
    assert!(told[..told.len() - 1].iter().all(|one| *one == (life, false)));
    assert!(leader.told.lock().unwrap().is_empty());
}

/// The machine's clock, its wall an hour ahead.
struct HourAhead(Arc<SystemClock>);

impl Clock for HourAhead {
    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn unix(&self) -> Duration {
        self.0.unix() + Duration::from_secs(3600)
    }
}

/// What an OSD whose clock is an hour ahead says to a write under a right that lasts from now, by the true clock, so long.
async fn written_with_a_wrong_clock(dir_tells: bool, lasts_ms: i64) -> Option<Code> {
    let place = tempfile::tempdir_in("/tmp").unwrap();
    let clock = SystemClock::new();
    let now_ms = u64::try_from(clock.unix().as_millis()).unwrap();
    let config = OsdConfig::new(place.path(), "osd-a", Arc::new(HourAhead(clock)));
    let osd = Osd::open(OsdConfig { capacity_bytes: 64 << 20, ..config }).unwrap();
    let connector = Connector::new();
    let unix_ms = if dir_tells { now_ms } else { 0 };
    connector.register_local("dir", Arc::new(FakeDir { leader: true, unix_ms, ..FakeDir::default() }));
    let (dirs, addr) = (vec!["local://dir".to_owned()], "local://osd".to_owned());
    let agent = Agent::start(osd.clone(), connector, AgentConfig { dirs, addr, ..AgentConfig::default() });
    agent.registered().await;
    let expires_ms = now_ms.checked_add_signed(lasts_ms).unwrap();
    let capability = Capability { expires_ms, ..capability(WRITE, 2) }.sign(&secret());
    let data = pattern(100, 1);
    let head = ObjectHead { capability, map_epoch: 4, ..head(WRITE, 2, 0) };
    let message = WriteRequest { head, crc: crc32c(&data), ..WriteRequest::default() };
    let channel = LocalChannel::new(osd, "local://osd");
    let done = call_with::<Write>(&*channel, &message, data, &CallOptions::default()).await;
    done.err().map(|error| error.code)
}

#[tokio::test]
async fn a_clock_that_is_wrong_takes_no_rights_away() {
    assert_eq!(written_with_a_wrong_clock(true, 600_000).await, None);
    assert_eq!(written_with_a_wrong_clock(false, 600_000).await, Some(Code::CapabilityExpired), "as before");
    assert_eq!(
        written_with_a_wrong_clock(true, -60_000).await,
        Some(Code::CapabilityExpired),
        "by both clocks"
    );
}

#[tokio::test]
async fn changes_that_come_after_their_turn_are_refused() {
    let place = tempfile::tempdir_in("/tmp").unwrap();
    let osd = open(place.path(), 64 << 20);
    let channel = LocalChannel::new(osd.clone(), "local://osd");
    let data = Bytes::from(vec![3; 100]);
    let request = |since, round| WriteRequest {
        head: ObjectHead { turn: Some(Turn { since, round }), ..head(WRITE, 9, 0) },
        offset: 0,
        checksums: Vec::new(),
        crc: crc32c(&data),
        sync: false,
    };
    let send = async |request: WriteRequest| {
        call_with::<Write>(&*channel, &request, data.clone(), &CallOptions::default()).await.map(|_| ())
    };
    send(request(5, 1)).await.unwrap();
    let refused = send(request(5, 0)).await.unwrap_err();
    assert_eq!(
        (refused.code, Turn::of_hint(&refused.hint)),
        (Code::Superseded, Some(Turn { since: 5, round: 1 }))
    );
    let cut = TruncateRequest { head: request(4, 9).head, keep: 0 };
    assert_eq!(call::<Truncate>(&*channel, &cut).await.unwrap_err().code, Code::Superseded);
    let punch = PunchRequest { head: request(4, 9).head, offset: 0, len: 10 };
    assert_eq!(call::<Punch>(&*channel, &punch).await.unwrap_err().code, Code::Superseded);
    // Whose client holds no lease is not ordered.
    send(WriteRequest { head: head(WRITE, 9, 0), ..request(0, 0) }).await.unwrap();
    send(request(6, 0)).await.unwrap();
}

/// Time from the last heartbeat that told of room to the first one that did not, when the OSD becomes full at once.
async fn told_full_after() -> Duration {
    let place = tempfile::tempdir_in("/tmp").unwrap();
    let osd = open(place.path(), 17 << 20);
    let connector = Connector::new();
    let leader = Arc::new(FakeDir { leader: true, ..FakeDir::default() });
    connector.register_local("dir", leader.clone());
    let config = AgentConfig {
        dirs: vec!["local://dir".to_owned()],
        addr: "local://osd".to_owned(),
        ..AgentConfig::default()
    };
    let agent = Agent::start(osd.clone(), connector, config);
    agent.registered().await;
    let mut told = leader.last.subscribe();
    told.mark_unchanged();
    told.changed().await.unwrap();
    let Some((mut roomy, true)) = *told.borrow_and_update() else { panic!("it is empty") };
    // The fake leader's map is of another epoch than these capabilities say.
    let key = |object| ObjectKey { volume: VolumeId(1), ino: Ino(2), object: ObjectNo(object) };
    let data = pattern(1 << 20, 5);
    let fill = async {
        let channel = LocalChannel::new(osd.clone(), "local://osd");
        for object in 0..16 {
            osd.write_object(key(object), 0, data.clone(), false).await.unwrap();
        }
        let message = WriteRequest {
            head: ObjectHead { map_epoch: 4, ..head(WRITE, 2, 17) },
            offset: 0,
            crc: crc32c(&pattern(2 << 20, 5)),
            checksums: Vec::new(),
            sync: false,
        };
        let refused =
            call_with::<Write>(&*channel, &message, pattern(2 << 20, 5), &CallOptions::default()).await;
        assert_eq!(refused.unwrap_err().code, Code::NoSpace);
    };
    let heard = async {
        loop {
            told.changed().await.unwrap();
            match *told.borrow_and_update() {
                Some((at, true)) => roomy = at,
                Some((at, false)) => return at - roomy,
                None => {}
            }
        }
    };
    let (took, ()) = tokio::join!(heard, fill);
    agent.leave().await;
    osd.shutdown().await.unwrap();
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn an_osd_that_is_full_says_so_before_its_next_heartbeat() {
    // A machine that is busy may take longer to fill it: then the ordinary heartbeat comes first, and another try counts.
    let mut tries = Vec::new();
    for _ in 0..8 {
        let took = told_full_after().await;
        if took.as_millis() + 20 < u128::from(proto::limits::OSD_HEARTBEAT_MS) {
            return;
        }
        tries.push(took);
    }
    panic!("the DIR heard that it is full after {tries:?}");
}
