//! What is said about replicas: states, copies, patches, mending, scrubbing, changes of lists.

use super::*;

fn layout() -> Layout {
    Layout {
        stripe_bytes: 1 << 20,
        columns: vec![Column { osds: vec![3, 1, 2] }, Column { osds: vec![1, 2, 4] }],
        replication: Replication::Quorum as i32,
        view: 4,
        previous: vec![Column { osds: vec![3, 1, 2] }, Column { osds: vec![1, 2, 5] }],
        ..Layout::default()
    }
}

fn right() -> Capability {
    Capability { rights: REPLICATE, expires_ms: 1_790_000_000_000, ..Capability::default() }.sign(&key())
}

fn replica_head() -> osd::ReplicaHead {
    let of = osd::ColumnOf { layout: layout(), column: 1 };
    osd::ReplicaHead { capability: right(), volume: 2, ino: 77, of, epoch: (3 << 40) | 13, to_since: 9 }
}

fn delta() -> osd::ObjectDelta {
    osd::ObjectDelta {
        object: 3,
        base_epoch: 12,
        base_number: 400,
        epoch: (3 << 40) | 13,
        number: 407,
        bytes: 1 << 20,
        changed: vec![7, 2, 100, 1],
        runs: vec![7, 1],
        checksums: vec![0xdead_beef],
        digest: (0..32).collect(),
    }
}

#[test]
fn osd_state_of_a_replica() {
    let message = osd::ReplicaAsk { head: replica_head(), map_epoch: 14 };
    check("osd-ask-replica", Kind::Request, osd::AskReplica::NUMBER, &message, b"");
    let (objects, damaged) = (vec![1, 12, 400, 3, 13, 401], vec![3]);
    let message = osd::ReplicaState { adopted: 12, doubtful: true, objects, damaged };
    check("osd-ask-replica-reply", Kind::Reply, osd::AskReplica::NUMBER, &message, b"");
    let message = osd::ReplicaApplied { needs_object: true };
    check("osd-apply-replica-reply", Kind::Reply, osd::ApplyReplica::NUMBER, &message, b"");
    let message = osd::ReplicaOrder { head: replica_head(), kind: osd::OrderKind::Open as i32 };
    check("osd-order-replica", Kind::Request, osd::OrderReplica::NUMBER, &message, b"");
}

#[test]
fn osd_whole_objects() {
    let copy = osd::ObjectCopy {
        object: 3,
        epoch: 13,
        number: 401,
        bytes: 70_000,
        runs: vec![0, 1, 17, 1],
        checksums: vec![0xdead_beef, 0x0102_0304],
    };
    let message = osd::ReplicaInstall { head: replica_head(), copy: copy.clone() };
    check("osd-install-replica", Kind::Request, osd::InstallReplica::NUMBER, &message, &[7; 8192]);
    let message = osd::ReplicaInstalled { epoch: 13, number: 401 };
    check("osd-install-replica-reply", Kind::Reply, osd::InstallReplica::NUMBER, &message, b"");
    let message = osd::ReplicaFetch { head: replica_head(), object: 3 };
    check("osd-fetch-replica", Kind::Request, osd::FetchReplica::NUMBER, &message, b"");
    check("osd-fetch-replica-reply", Kind::Reply, osd::FetchReplica::NUMBER, &copy, &[7; 8192]);
}

#[test]
fn osd_patches() {
    let message = osd::CompareRequest { head: replica_head(), object: 3, groups: vec![1, 0xdead_beef] };
    check("osd-compare-replica", Kind::Request, osd::CompareReplica::NUMBER, &message, b"");
    let message = osd::CompareReply {
        epoch: 12,
        number: 400,
        bytes: 70_000,
        groups: vec![1],
        checksums: vec![0, 0xdead_beef],
        damaged: true,
    };
    check("osd-compare-replica-reply", Kind::Reply, osd::CompareReplica::NUMBER, &message, b"");
    let message = osd::ReplicaPatch { head: replica_head(), delta: delta() };
    check("osd-patch-replica", Kind::Request, osd::PatchReplica::NUMBER, &message, &[7; 4096]);
    let message = osd::ReplicaPatched { epoch: 13, number: 407, needs_object: true };
    check("osd-patch-replica-reply", Kind::Reply, osd::PatchReplica::NUMBER, &message, b"");
    let message = osd::DeltaRequest {
        head: replica_head(),
        object: 3,
        base_epoch: 12,
        base_number: 400,
        epoch: 13,
        number: 407,
        changed: vec![7, 2, 100, 1],
        compared: true,
    };
    check("osd-fetch-delta", Kind::Request, osd::FetchDelta::NUMBER, &message, b"");
    let message = osd::DeltaReply { delta: Some(delta()) };
    check("osd-fetch-delta-reply", Kind::Reply, osd::FetchDelta::NUMBER, &message, &[7; 4096]);
}

#[test]
fn osd_reads_of_replicas() {
    let of = osd::ColumnOf { layout: layout(), column: 1 };
    let head = osd::ObjectHead {
        capability: capability(),
        object: 5,
        map_epoch: 14,
        replicas: Some(of),
        turn: None,
    };
    let read = osd::ReadRequest { head, offset: 4096, len: 8192, check: false };
    let message = osd::ReplicaReadRequest { read, word_only: true };
    check("osd-read-replica", Kind::Request, osd::ReadReplica::NUMBER, &message, b"");
    let read = osd::ReadReply {
        first_block: 1,
        checksums: vec![1, 2],
        version: 407,
        object_bytes: 12_288,
        holes: vec![1, 1],
    };
    let message = osd::ReplicaReadReply { epoch: 9, version_epoch: 8, version_number: 407, read: Some(read) };
    check("osd-read-replica-reply", Kind::Reply, osd::ReadReplica::NUMBER, &message, &[7; 8192]);
}

#[test]
fn osd_probe() {
    let message = osd::ProbeRequest { capability: right(), from: 3, slow: Some(false) };
    check("osd-probe", Kind::Request, osd::Probe::NUMBER, &message, b"");
}

#[test]
fn dir_map_with_a_slow_osd() {
    let entry = dir::OsdEntry {
        osd: 3,
        uuid: "4f2a".to_owned(),
        addr: "tcp://10.0.0.8:32640".to_owned(),
        state: dir::OsdState::Up as i32,
        life: 0xfeed_face_cafe_beef,
        since_epoch: 9,
        slow: true,
        slow_since: 13,
        ..dir::OsdEntry::default()
    };
    let message = dir::OsdMap { epoch: 13, osds: vec![entry], ..dir::OsdMap::default() };
    check("dir-map-reply", Kind::Reply, dir::Map::NUMBER, &message, b"");
}

#[test]
fn dir_weights_of_osds() {
    let message =
        dir::SetOsdWeight { origin: Origin { session: 9, sequence: 2, acked_below: 1 }, osd: 3, weight: 250 };
    check("dir-osd-weight", Kind::Request, dir::OsdSetWeight::NUMBER, &message, b"");
    let entry = |osd, weight| dir::OsdEntry { osd, weight, ..dir::OsdEntry::default() };
    let osds = vec![entry(1, None), entry(2, Some(0)), entry(3, Some(250))];
    assert_eq!(osds.iter().map(dir::OsdEntry::weight).collect::<Vec<_>>(), [100, 0, 250]);
    let message = dir::OsdMap { epoch: 13, osds, ..dir::OsdMap::default() };
    check("dir-map-weights", Kind::Reply, dir::Map::NUMBER, &message, b"");
}

#[test]
fn osd_mending_and_scrubbing() {
    let message = osd::MendRequest {
        capability: right(),
        volume: 2,
        ino: 77,
        object: 3,
        epoch: 13,
        number: 401,
        blocks: vec![5, 200],
    };
    check("osd-mend-replica", Kind::Request, osd::MendReplica::NUMBER, &message, b"");
    let message = osd::MendReply { found: true };
    check("osd-mend-replica-reply", Kind::Reply, osd::MendReplica::NUMBER, &message, &[7; 8192]);
    let message = osd::ScrubRequest { volume: 2, start: true };
    check("osd-scrub", Kind::Request, osd::Scrub::NUMBER, &message, b"");
    let message = osd::ScrubReply {
        running: true,
        round: 3,
        bytes: 1 << 33,
        found: 5,
        mended: 4,
        left: 1,
        blocks: vec![osd::DamagedBlock { volume: 2, ino: 77, object: 3, block: 200 }],
        error: "the disk is gone".to_owned(),
    };
    check("osd-scrub-reply", Kind::Reply, osd::Scrub::NUMBER, &message, b"");
}

#[test]
fn osd_views() {
    let of = osd::ColumnOf { layout: layout(), column: 1 };
    let message = osd::ColumnStatusRequest { capability: capability(), of, map_epoch: 14 };
    check("osd-column-status", Kind::Request, osd::ColumnStatus::NUMBER, &message, b"");
    let members = vec![
        osd::ReplicaStanding { osd: 1, up: true, in_sync: true, behind: 0 },
        osd::ReplicaStanding { osd: 4, up: true, in_sync: false, behind: 12 },
    ];
    let message = osd::ColumnStatusReply { view: 4, serving: true, complete: true, members };
    check("osd-column-status-reply", Kind::Reply, osd::ColumnStatus::NUMBER, &message, b"");
    let message = osd::RemoveRequest { capability: capability(), keep_records: true };
    check("osd-remove-content", Kind::Request, osd::Remove::NUMBER, &message, b"");
    let status = osd::OsdStatus {
        uuid: "4f2a".to_owned(),
        total_bytes: 1 << 40,
        free_bytes: 1 << 39,
        objects: 1000,
        reads: 1,
        writes: 2,
        read_bytes: 3,
        written_bytes: 4,
        columns_led: 5,
        behind: vec![osd::Behind { osd: 4, columns: 2, objects: 12 }],
        damage_found: 6,
        damage_mended: 7,
        damaged_blocks: 8,
        resync_bytes: 9,
        resync_objects: 10,
        resync_patches: 11,
        replica_reads: 12,
    };
    check("osd-status-reply", Kind::Reply, osd::Status::NUMBER, &status, b"");
}

#[test]
fn mrc_replica_lists() {
    let origin = origin();
    let (ino, view) = (77, 4);
    let columns = layout().columns;
    let message = mrc::SetReplicasRequest { head: head(), origin, ino, view, columns, learners: Vec::new() };
    check("mrc-set-replicas", Kind::Request, mrc::SetReplicas::NUMBER, &message, b"");
    let message = mrc::SetReplicasRequest { learners: vec![1, 4], ..message };
    check("mrc-set-replicas-learners", Kind::Request, mrc::SetReplicas::NUMBER, &message, b"");
    let message = mrc::DemoteReplicasRequest { head: head(), origin, ino, view };
    check("mrc-demote-replicas", Kind::Request, mrc::DemoteReplicas::NUMBER, &message, b"");
    let message = mrc::CompleteReplicasRequest { head: head(), origin, ino, view };
    check("mrc-complete-replicas", Kind::Request, mrc::CompleteReplicas::NUMBER, &message, b"");
    let message = mrc::ReplicasReply { layout: layout() };
    check("mrc-replicas-reply", Kind::Reply, mrc::SetReplicas::NUMBER, &message, b"");
    let replication = Replication::All as i32;
    let layout = Layout { replication, learners: vec![2], previous_learners: vec![5, 4], ..layout() };
    let message = mrc::ReplicasReply { layout };
    check("mrc-replicas-reply-learners", Kind::Reply, mrc::DemoteReplicas::NUMBER, &message, b"");
    let message = mrc::ListReplicasRequest { head: head(), after: 76, osds: vec![3, 4] };
    check("mrc-list-replicas", Kind::Request, mrc::ListReplicas::NUMBER, &message, b"");
    let files = vec![mrc::ReplicatedFile { ino, size: 1 << 33, layout: self::layout() }];
    let message = mrc::ReplicatedFiles { files, next: 78 };
    check("mrc-list-replicas-reply", Kind::Reply, mrc::ListReplicas::NUMBER, &message, b"");
}
