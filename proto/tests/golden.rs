//! Bytes that must keep decoding, and values that must keep encoding to them: one frame per service.
//!
//! A failure here means that binaries of before this change cannot talk to those of after it. When that is
//! intended (a new field in a sample), write the files anew with `GOLDEN=write cargo test -p xtfs-proto` and say
//! so in the change; old files stay as `<name>-1.hex` and must still decode.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use bytes::{Bytes, BytesMut};
use prost::Message;
use proto::capability::{Capability, CapabilityKey, READ, REPLICATE, WRITE};
use proto::error::{Code, ErrorMessage, WireError};
use proto::frame::{self, Frame, Header, Kind};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::rpc::{Method, Origin};
use proto::stripe::{Column, Layout, Replication};
use proto::{
    backup, changes, checksum, coding, dir, find, fsck, layout, mrc, osd, quota, raft, snapshot, trash, usage,
};

#[path = "golden/replicas.rs"]
mod replicas;

/// The frame of `message` as this binary sends it, compared with the file, then read back from the file.
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(
    name: &str,
    kind: Kind,
    method: u16,
    message: &M,
    payload: &[u8],
) {
    let body = message.encode_to_vec();
    let header = Header {
        kind,
        method,
        request: 0x0102_0304_0506_0708,
        trace: 0x1112_1314_1516_1718,
        deadline_ms: if kind == Kind::Request { 30_000 } else { 0 },
        message_bytes: u32::try_from(body.len()).unwrap(),
        payload_bytes: u32::try_from(payload.len()).unwrap(),
    };
    let sent = [&header.encode(&body)[..], &body, payload].concat();
    let path = format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, to_hex(&sent)).unwrap();
    }
    let kept = from_hex(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")));
    assert_eq!(to_hex(&sent), to_hex(&kept), "{name}: this binary sends other bytes than before");

    let mut buffer = BytesMut::from(&kept[..]);
    let Frame { header: read, message: body, payload: raw } = frame::take(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty());
    assert_eq!(read, header, "{name}");
    assert_eq!(raw, payload, "{name}");
    assert_eq!(&M::decode(body).unwrap(), message, "{name}");
}

fn to_hex(bytes: &[u8]) -> String {
    bytes
        .chunks(16)
        .map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n")
        .collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn key() -> CapabilityKey {
    CapabilityKey { number: 3, secret: (0..32).collect() }
}

fn capability() -> Capability {
    Capability {
        volume: 2,
        ino: 77,
        rights: READ | WRITE,
        session: 0xfeed_face_cafe_beef,
        session_epoch: 5,
        expires_ms: 1_790_000_000_000,
        view: 1,
        ..Capability::default()
    }
    .sign(&key())
}

fn head() -> mrc::Head {
    mrc::Head {
        volume: 2,
        session: 0xfeed_face_cafe_beef,
        uid: 1000,
        gid: 100,
        groups: vec![4, 27],
        permission_checked: true,
        snapshot: 0,
    }
}

fn origin() -> Origin {
    Origin { session: 0xfeed_face_cafe_beef, sequence: 42, acked_below: 40 }
}

fn attr() -> mrc::Attr {
    let time = |seconds| mrc::Time { seconds, nanos: 999_999_999 };
    mrc::Attr {
        ino: 77,
        mode: 0o100_644,
        nlink: 1,
        uid: 1000,
        gid: 100,
        rdev: 0,
        size: 1 << 40,
        blocks: 8,
        atime: time(1_790_000_000),
        mtime: time(-1),
        ctime: time(0),
        btime: time(1),
        flags: 0x10,
        truncate_epoch: 2,
        change: 9,
        acl: 3,
        bare: false,
        layer: 0,
    }
}

#[test]
fn raft_deliver() {
    let message = raft::RaftMessages {
        group: 2,
        from: 1,
        incarnation: 0x2122_2324_2526_2728,
        messages: vec![Bytes::from_static(b"\x08\x03"), Bytes::from_static(b"opaque")],
    };
    check("raft-deliver", Kind::Request, raft::Deliver::NUMBER, &message, b"");
}

#[test]
fn dir_heartbeat_of_an_osd() {
    let message = dir::OsdHeartbeat {
        entry: dir::OsdEntry {
            osd: 4,
            uuid: "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b".to_owned(),
            addr: "tcp://10.0.0.7:32640".to_owned(),
            state: dir::OsdState::Draining as i32,
            domain: "rack-2".to_owned(),
            total_bytes: 1 << 40,
            free_bytes: 1 << 39,
            http: "10.0.0.7:30640".to_owned(),
            ..dir::OsdEntry::default()
        },
        known_epoch: 12,
        leaving: false,
    };
    check("dir-heartbeat-osd", Kind::Request, dir::HeartbeatOsd::NUMBER, &message, b"");
}

#[test]
fn dir_heartbeat_reply_with_map_and_keys() {
    let message = dir::OsdHeartbeatReply {
        osd: 4,
        lease_ms: 1500,
        map: Some(dir::OsdMap {
            epoch: 13,
            osds: vec![dir::OsdEntry { osd: 1, ..Default::default() }],
            dirs: Vec::new(),
        }),
        keys: vec![key()],
        dirs: Vec::new(),
        unix_ms: 0,
    };
    check("dir-heartbeat-osd-reply", Kind::Reply, dir::HeartbeatOsd::NUMBER, &message, b"");
}

#[test]
fn heartbeat_replies_with_the_clock() {
    let unix_ms = 1_796_000_000_123;
    let message = dir::OsdHeartbeatReply { osd: 4, lease_ms: 1500, unix_ms, ..Default::default() };
    check("dir-heartbeat-osd-reply-clock", Kind::Reply, dir::HeartbeatOsd::NUMBER, &message, b"");
    let message = dir::ServiceHeartbeatReply { cluster: "c".to_owned(), unix_ms, ..Default::default() };
    check("dir-heartbeat-service-reply-clock", Kind::Reply, dir::HeartbeatService::NUMBER, &message, b"");
}

#[test]
fn members_of_groups() {
    let addr = || "tcp://10.0.0.9:32636".to_owned();
    let message = raft::AddMember { group: 2, addr: addr() };
    check("raft-member-add", Kind::Request, raft::MemberAdd::NUMBER, &message, b"");
    let message = raft::MemberAdded { member: 4 };
    check("raft-member-added", Kind::Reply, raft::MemberAdd::NUMBER, &message, b"");
    let message = raft::RemoveMember { group: 2, member: 1 };
    check("raft-member-remove", Kind::Request, raft::MemberRemove::NUMBER, &message, b"");
    let message = raft::TransferLeader { group: 2, to: 3 };
    check("raft-leader-transfer", Kind::Request, raft::LeaderTransfer::NUMBER, &message, b"");
    let message = dir::ServiceEntry {
        uuid: "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b".to_owned(),
        role: "mrc".to_owned(),
        name: "mrc-3".to_owned(),
        addr: addr(),
        http: "10.0.0.9:30636".to_owned(),
        host: "nine".to_owned(),
        silent_ms: 7,
        group: 2,
        member: 4,
        members: vec![addr(), "tcp://10.0.0.7:32636".to_owned()],
        term: 12,
    };
    check("dir-heartbeat-service", Kind::Request, dir::HeartbeatService::NUMBER, &message, b"");
    let dirs = || vec!["tcp://10.0.0.7:32638".to_owned(), "tcp://10.0.0.8:32638".to_owned()];
    let message = dir::ServiceHeartbeatReply {
        keys: vec![key()],
        cluster: "c".to_owned(),
        dirs: dirs(),
        ..Default::default()
    };
    check("dir-heartbeat-service-reply", Kind::Reply, dir::HeartbeatService::NUMBER, &message, b"");
    let message = dir::OsdMap { epoch: 13, osds: Vec::new(), dirs: dirs() };
    check("dir-map-with-members", Kind::Reply, dir::Map::NUMBER, &message, b"");
    let message = dir::GetMap { known_epoch: 13, wait_ms: 10_000, dirs: dir::digest(&dirs()), full: 0 };
    check("dir-map-of-members-known", Kind::Request, dir::Map::NUMBER, &message, b"");
    let full = |osd| dir::OsdEntry { osd, total_bytes: 1 << 40, ..dir::OsdEntry::default() };
    let full = dir::digest_of_full(&[full(1), full(7)]);
    let message = dir::GetMap { known_epoch: 13, wait_ms: 2_000, dirs: 0, full };
    check("dir-map-of-full-known", Kind::Request, dir::Map::NUMBER, &message, b"");
    let message = dir::OsdHeartbeat { entry: dir::OsdEntry::default(), known_epoch: 1, leaving: true };
    check("dir-heartbeat-leaving", Kind::Request, dir::HeartbeatOsd::NUMBER, &message, b"");
    let message = mrc::SessionReply {
        ttl_ms: 15_000,
        incarnation: 77,
        lease_ttl_ms: 6000,
        session_epoch: 5,
        members: vec![addr()],
        number: 0,
    };
    check("mrc-session-reply", Kind::Reply, mrc::SessionRenew::NUMBER, &message, b"");
}

#[test]
fn the_digest_of_members_does_not_ask_for_their_order() {
    let list = |addrs: &[&str]| addrs.iter().map(|addr| (*addr).to_owned()).collect::<Vec<_>>();
    assert_eq!(dir::digest(&list(&["a", "b"])), dir::digest(&list(&["b", "a"])));
    assert_ne!(dir::digest(&list(&["a", "b"])), dir::digest(&list(&["ab"])));
    assert_ne!(dir::digest(&[]), 0);
}

#[test]
fn mrc_create() {
    let make = mrc::MakeRequest {
        head: head(),
        origin: origin(),
        parent: 1,
        name: b"na\xffme".to_vec(),
        mode: 0o640,
        rdev: 0,
        target: Vec::new(),
        umask: 0o27,
    };
    let message = mrc::CreateRequest { make, exclusive: true, write: true, append: false };
    check("mrc-create", Kind::Request, mrc::Create::NUMBER, &message, b"");
}

#[test]
fn mrc_open_reply() {
    let layout = Layout {
        stripe_bytes: 1 << 20,
        columns: vec![Column { osds: vec![1, 2] }, Column { osds: vec![3] }],
        replication: Replication::Quorum as i32,
        view: 1,
        ..Layout::default()
    };
    let credentials =
        mrc::FileCredentials { capability: capability(), layout, ..mrc::FileCredentials::default() };
    let message = mrc::OpenReply { attr: attr(), credentials, created: true, ..mrc::OpenReply::default() };
    check("mrc-open-reply", Kind::Reply, mrc::Open::NUMBER, &message, b"");
    let message = mrc::ChangeReply { changed: vec![attr()], freed: 0 };
    check("mrc-change-reply", Kind::Reply, mrc::Rename::NUMBER, &message, b"");
    let message = mrc::ChangeReply { changed: vec![attr()], freed: 77 };
    check("mrc-change-freed", Kind::Reply, mrc::Unlink::NUMBER, &message, b"");
}

#[test]
fn mrc_changes_reply() {
    let change = changes::Change {
        cursor: 0x12345,
        kind: changes::event::RENAMED,
        ino: 77,
        file_kind: mrc::kind::FILE,
        parent: 1,
        name: b"a".to_vec(),
        new_parent: 9,
        new_name: b"b\xff".to_vec(),
        time: mrc::Time { seconds: 1_790_000_000, nanos: 5 },
        uid: 1000,
        session: 0xfeed_face_cafe_beef,
        inside: changes::INSIDE_FROM | changes::INSIDE_TO,
        directory: Some(Vec::new()),
        new_directory: Some(b"d/e".to_vec()),
    };
    let message = changes::ChangesReply { changes: vec![change], next: 0x1234f };
    check("mrc-changes-reply", Kind::Reply, changes::Changes::NUMBER, &message, b"");
}

#[test]
fn mrc_usage_and_find_replies() {
    let message = usage::UsageReply { blocks: 8, bytes: 1 << 40, files: 3, directories: 1 };
    check("mrc-usage-reply", Kind::Reply, usage::Usage::NUMBER, &message, b"");
    let found = find::Found { path: b"d/e".to_vec(), attr: attr() };
    let message = find::FindReply { found: vec![found], after: 77, end: true };
    check("mrc-find-reply", Kind::Reply, find::Find::NUMBER, &message, b"");
}

#[test]
fn mrc_quota() {
    let limits = quota::QuotaLimits { bytes: 1 << 40, inodes: 1000 };
    let message = quota::SetQuota {
        head: head(),
        origin: origin(),
        kind: quota::QuotaKind::Directory as i32,
        id: 77,
        limits: Some(limits),
    };
    check("mrc-quota-set", Kind::Request, quota::QuotaSet::NUMBER, &message, b"");
    let message = quota::QuotaList {
        quotas: vec![quota::Quota {
            kind: quota::QuotaKind::User as i32,
            id: 1000,
            limits,
            bytes: 4096,
            inodes: 3,
            counting: true,
            path: b"d/e".to_vec(),
        }],
        after_kind: 1,
        after_id: 1000,
        end: true,
    };
    check("mrc-quota-list", Kind::Reply, quota::QuotaLs::NUMBER, &message, b"");
    let kept = mrc::KeptAttributes {
        mode: Some(0o640),
        atime: Some(attr().atime),
        mtime: Some(attr().mtime),
        ctime: attr().ctime,
        chown: true,
        epoch: 9,
        plain_acl: true,
    };
    let message = mrc::ReportWrite {
        head: head(),
        origin: origin(),
        ino: 7,
        size: 1 << 33,
        truncate_epoch: 3,
        mtime: Some(attr().mtime),
        blocks: Some(8),
        clear_setid: true,
        want: 1 << 20,
        kept: Some(kept),
    };
    check("mrc-report", Kind::Request, mrc::WriteDone::NUMBER, &message, b"");
    let message = mrc::AttrReply { attr: attr(), room: Some(1 << 20), ..mrc::AttrReply::default() };
    check("mrc-report-reply", Kind::Reply, mrc::WriteDone::NUMBER, &message, b"");
}

#[test]
fn mrc_fsck_and_lost_objects() {
    let finding = fsck::Finding {
        fault: fsck::Fault::Usage as i32,
        ino: 77,
        parent: 1,
        cookie: 3,
        name: b"a".to_vec(),
        key: vec![0x11, 0],
        add: vec![-8, 4096],
        text: "in words".into(),
        hopeless: true,
    };
    let message =
        fsck::MendFindings { head: head(), origin: origin(), seen: 2, findings: vec![finding.clone()] };
    check("mrc-fsck-mend", Kind::Request, fsck::FsckMend::NUMBER, &message, b"");
    let message = fsck::FsckProgress {
        check: 9,
        findings: vec![finding],
        rows: 100,
        done: true,
        cut: true,
        seen: 2,
        ..fsck::FsckProgress::default()
    };
    check("mrc-fsck-progress", Kind::Reply, fsck::FsckRun::NUMBER, &message, b"");
    let message = fsck::RunFsck { head: head(), check: 9, after: 1, wait_ms: 2000, begin: true };
    check("mrc-fsck-begin", Kind::Request, fsck::FsckRun::NUMBER, &message, b"");
    let message =
        fsck::FsckProgress { check: 9, phase: "names".into(), inodes: 7, ..fsck::FsckProgress::default() };
    check("mrc-fsck-phase", Kind::Reply, fsck::FsckRun::NUMBER, &message, b"");
    let lost = fsck::LostFile { ino: 77, objects: 3, bytes: 1 << 20, young: true, unknown: true };
    let message = fsck::CollectedLost { lost: vec![lost], after: 77, end: true, files: 5 };
    check("mrc-lost-collect", Kind::Reply, fsck::LostCollect::NUMBER, &message, b"");
    let message = osd::ListFilesRequest { capability: capability(), after: 5, limit: 10 };
    check("osd-list-files", Kind::Request, osd::ListFiles::NUMBER, &message, b"");
    let message = osd::ListFilesReply { inos: vec![6, 77], end: true };
    check("osd-list-files-reply", Kind::Reply, osd::ListFiles::NUMBER, &message, b"");
}

#[test]
fn mrc_backup() {
    let layout = Layout {
        stripe_bytes: 1 << 20,
        columns: vec![Column { osds: vec![3] }],
        replication: 0,
        view: 1,
        ..Layout::default()
    };
    let node = backup::Node {
        attr: attr(),
        layout: Some(layout),
        target: b"t".to_vec(),
        next_cookie: 9,
        acl: vec![2],
        default_acl: vec![3],
        xattrs: vec![backup::Xattr { name: b"user.a".to_vec(), value: b"v".to_vec() }],
        shares: Vec::new(),
        content: bytes::Bytes::new(),
    };
    let name = backup::NameOf { parent: 1, name: b"n".to_vec(), ino: 77, cookie: 3 };
    let striping = proto::stripe::Striping {
        stripe_bytes: 1 << 20,
        width: 1,
        replicas: 1,
        replication: 0,
        coding: None,
    };
    let header = backup::DumpHeader { volume: 2, name: "home".into(), next_ino: 78, striping };
    let message = backup::LoadPage {
        head: head(),
        origin: origin(),
        begin: Some(header),
        nodes: vec![node],
        names: vec![name],
        end: true,
        without_data: true,
    };
    check("mrc-dump-load", Kind::Request, backup::DumpLoad::NUMBER, &message, b"");
}

#[test]
fn mrc_layout_of_a_directory() {
    let striping = proto::stripe::Striping {
        stripe_bytes: 1 << 16,
        width: 2,
        replicas: 3,
        replication: 1,
        coding: None,
    };
    let message = layout::SetLayout { head: head(), origin: origin(), ino: 77, striping: Some(striping) };
    check("mrc-layout-set", Kind::Request, layout::LayoutSet::NUMBER, &message, b"");
    let message = layout::LayoutDefault { striping, from: 77 };
    check("mrc-layout-default", Kind::Reply, layout::LayoutGet::NUMBER, &message, b"");
}

#[test]
fn mrc_snapshot() {
    let snapshot = snapshot::SnapshotInfo {
        id: 3,
        name: b"before".to_vec(),
        directory: 77,
        created: attr().mtime,
        uid: 1000,
        path: b"d/e".to_vec(),
        detached: true,
    };
    let message = snapshot::SnapshotList { snapshots: vec![snapshot] };
    check("mrc-snapshot-list", Kind::Reply, snapshot::SnapshotLs::NUMBER, &message, b"");
    let message =
        snapshot::SnapshotRequest { head: head(), origin: origin(), ino: 77, name: b"before".to_vec() };
    check("mrc-snapshot-create", Kind::Request, snapshot::SnapshotCreate::NUMBER, &message, b"");
    let message =
        snapshot::CloneRequest { head: head(), origin: origin(), from: 77, from_snapshot: 3, to: 78 };
    check("mrc-clone-data", Kind::Request, snapshot::CloneData::NUMBER, &message, b"");
    let message = snapshot::FoldRequest { head: head(), origin: origin(), layer: 79 };
    check("mrc-fold-layers", Kind::Request, snapshot::FoldLayers::NUMBER, &message, b"");
    let message = mrc::InoRequest { head: mrc::Head { snapshot: 3, ..head() }, ino: 77 };
    check("mrc-getattr-snapshot", Kind::Request, mrc::GetAttr::NUMBER, &message, b"");
    let layout =
        Layout { stripe_bytes: 4096, columns: vec![Column { osds: vec![1] }], view: 1, ..Layout::default() };
    let base = mrc::Base {
        capability: capability(),
        layout: layout.clone(),
        bytes: 12345,
        content: bytes::Bytes::new(),
    };
    let credentials = mrc::FileCredentials {
        capability: capability(),
        layout: layout.clone(),
        bases: vec![base.clone()],
        truncate_epoch: 2,
        content: bytes::Bytes::new(),
    };
    let attr = mrc::Attr { layer: 79, ..attr() };
    let message = mrc::OpenReply { attr, credentials, ..mrc::OpenReply::default() };
    check("mrc-open-layered", Kind::Reply, mrc::Open::NUMBER, &message, b"");
    let content = bytes::Bytes::from_static(b"all of it");
    let layout = Layout { inline: Some(proto::stripe::Inline::of(&content)), ..layout };
    let base = mrc::Base { layout: layout.clone(), content: content.clone(), ..base };
    let credentials = mrc::FileCredentials {
        capability: capability(),
        layout,
        bases: vec![base],
        truncate_epoch: 2,
        content: content.clone(),
    };
    let message = mrc::OpenReply { attr: self::attr(), credentials, ..mrc::OpenReply::default() };
    check("mrc-open-inline", Kind::Reply, mrc::Open::NUMBER, &message, b"");
    let message = osd::ReadReply { holes: vec![1, 2, 7, 1], ..osd::ReadReply::default() };
    check("osd-read-holes", Kind::Reply, osd::Read::NUMBER, &message, b"");
}

#[test]
fn mrc_trash() {
    let trashed = trash::Trashed {
        ino: 77,
        removed_ms: 1_790_000_000_000,
        path: b"d/e".to_vec(),
        removed_by: 1000,
        mode: 0o100_644,
        uid: 1000,
        gid: 100,
        size: 5,
        mtime: attr().mtime,
    };
    let message = trash::TrashList {
        trashed: vec![trashed],
        after_ms: 9,
        after_ino: 77,
        end: true,
        keep_ms: 86_400_000,
    };
    check("mrc-trash-list", Kind::Reply, trash::TrashLs::NUMBER, &message, b"");
    let message = trash::TrashRequest { head: head(), origin: origin(), ino: 77, removed_ms: 9 };
    check("mrc-trash-restore", Kind::Request, trash::TrashRestore::NUMBER, &message, b"");
}

#[test]
fn osd_write_with_payload() {
    let key = ObjectKey { volume: VolumeId(2), ino: Ino(77), object: ObjectNo(3) };
    let payload: Vec<u8> = (0..4500u32).map(|n| (n * 7 % 251) as u8).collect();
    let message = osd::WriteRequest {
        head: osd::ObjectHead {
            capability: capability(),
            object: 3,
            map_epoch: 13,
            replicas: None,
            turn: None,
        },
        offset: 8192,
        checksums: checksum::block_checksums(key, 2, &payload),
        crc: 0,
        sync: true,
    };
    check("osd-write", Kind::Request, osd::Write::NUMBER, &message, &payload);
    let turn = osd::Turn { since: 7 << 40 | 3, round: 2 };
    let head = osd::ObjectHead { turn: Some(turn), ..message.head.clone() };
    let message = osd::WriteRequest { head, ..message };
    check("osd-write-in-turn", Kind::Request, osd::Write::NUMBER, &message, &payload);
    assert_eq!(osd::Turn::of_hint(&turn.to_hint()), Some(turn));
    assert_eq!(osd::Turn::of_hint("7"), None);
}

#[test]
fn osd_change_for_a_replica() {
    let columns = vec![Column { osds: vec![3, 1, 2] }, Column { osds: vec![1, 2, 4] }];
    let layout = Layout {
        stripe_bytes: 1 << 20,
        columns,
        replication: Replication::Quorum as i32,
        view: 1,
        ..Layout::default()
    };
    let head = osd::ReplicaHead {
        capability: Capability { rights: REPLICATE, layout: layout.digest(), ..Capability::default() }
            .sign(&key()),
        volume: 2,
        ino: 77,
        of: osd::ColumnOf { layout, column: 1 },
        epoch: 13,
        to_since: 9,
    };
    let message = osd::ReplicaApply {
        head,
        object: 3,
        base_epoch: 12,
        base_number: 400,
        number: 401,
        kind: osd::ChangeKind::Write as i32,
        offset: 4096,
        len: 0,
        checksums: vec![0xdead_beef],
        crc: 0,
        sync: true,
    };
    check("osd-apply-replica", Kind::Request, osd::ApplyReplica::NUMBER, &message, &[7; 4096]);
}

#[test]
fn an_error() {
    let error = WireError::new(Code::NotLeader, "member-2 of group-2 does not lead")
        .with_hint("tcp://10.0.0.8:32636");
    check("error", Kind::Error, mrc::Create::NUMBER, &ErrorMessage::from(error.clone()), b"");
    assert_eq!(WireError::from(ErrorMessage::from(error.clone())), error);
}

#[test]
fn method_numbers_are_unique_and_lie_in_their_service() {
    let mut seen = std::collections::BTreeMap::new();
    for (service, high, methods) in [
        ("dir", 0x00, dir::METHODS),
        ("raft", 0x01, raft::METHODS),
        ("mrc", 0x02, mrc::METHODS),
        ("mrc", 0x02, changes::METHODS),
        ("mrc", 0x02, find::METHODS),
        ("mrc", 0x02, usage::METHODS),
        ("mrc", 0x02, quota::METHODS),
        ("mrc", 0x02, fsck::METHODS),
        ("mrc", 0x02, backup::METHODS),
        ("mrc", 0x02, trash::METHODS),
        ("mrc", 0x02, snapshot::METHODS),
        ("mrc", 0x02, layout::METHODS),
        ("osd", 0x03, osd::METHODS),
    ] {
        for (number, name) in methods {
            assert_eq!(number >> 8, high, "{service} {name} has number {number:#06x}");
            if let Some(other) = seen.insert(*number, name) {
                panic!("{name} and {other} share {number:#06x}");
            }
        }
    }
}

/// What a newer peer adds must not hurt an older one: unknown fields are passed over.
#[test]
fn unknown_fields_are_passed_over() {
    let mut bytes = origin().encode_to_vec();
    // Tag 100, a string.
    bytes.extend([0xa2, 0x06, 3, b'n', b'e', b'w']);
    assert_eq!(Origin::decode(&bytes[..]).unwrap(), origin());
}

#[test]
fn mrc_erasure_coding() {
    let coding = proto::stripe::Coding { data: 4, parity: 2 };
    let message = coding::BeginEncoding { head: head(), origin: origin(), ino: 77, coding };
    check("mrc-encode-begin", Kind::Request, coding::EncodeBegin::NUMBER, &message, b"");
    let layout = Layout {
        stripe_bytes: 1 << 16,
        columns: (3..9).map(|osd| Column { osds: vec![osd] }).collect(),
        view: 1,
        coding: Some(coding),
        coded_bytes: 1 << 18,
        ..Layout::default()
    };
    let file = coding::EncodableFile { ino: 77, size: 1 << 18, coding, repair: true };
    let message = coding::EncodableFiles { files: vec![file], next: 78, encoded: 4, busy: 1 };
    check("mrc-encode-list-reply", Kind::Reply, coding::EncodeList::NUMBER, &message, b"");
    let message = coding::EndEncoding { head: head(), origin: origin(), ino: 77, data: 90 };
    check("mrc-encode-commit", Kind::Request, coding::EncodeCommit::NUMBER, &message, b"");
    let message = mrc::LayoutReply { layout, attr: attr(), open_handles: 0, open_writers: 0 };
    check("mrc-layout-reply-coded", Kind::Reply, mrc::GetLayout::NUMBER, &message, b"");
}
