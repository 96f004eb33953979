//! Small files whose bytes are at the MRC: told with the file, read by others, left when somebody writes.

use bytes::Bytes;
use mrc::namespace::{content, inode, keys};
use proto::capability::WRITE;
use proto::checksum::crc32c;
use proto::error::Code;
use proto::fsck::Fault;
use proto::limits::INLINE_BYTES_MAX;
use proto::mrc::{
    AcquireLease, AcquireLeaseRequest, CreateMany, CreateManyRequest, EarlyContent, EarlyFile,
    FileCredentials, KeptAttributes, LEASE_ATTR as A, LEASE_READ as R, LEASE_WRITE as W, Open, OpenReply,
    OpenRequest, RESERVE_MAX, SetAttr, SetAttrRequest, TAKES_CONTENT, Time,
};
use rt::table::{Batch, Table};

use crate::service::{SESSION, VOLUME, World, head};

const OTHER: u64 = 78;
const ROOT: u64 = 1;

fn at(seconds: i64) -> Time {
    Time { seconds, nanos: 5 }
}

fn told(bytes: &[u8]) -> EarlyContent {
    let data = Bytes::copy_from_slice(bytes);
    EarlyContent { crc: crc32c(&data), data, mtime: at(20), kept: None }
}

/// Two sessions; gives the first one's epoch and the first number that it may give away.
async fn two(world: &World) -> (u64, u64) {
    let epoch = world.takes_part(SESSION).await;
    world.takes_part(OTHER).await;
    world.create("first").await;
    let request = CreateManyRequest { head: head(SESSION), files: Vec::new(), reserve: RESERVE_MAX };
    let reply = world.ask::<CreateMany>(&request).await.unwrap();
    assert_eq!(reply.takes & TAKES_CONTENT, TAKES_CONTENT);
    (epoch, reply.first)
}

fn file(world: &World, name: &str, ino: u64, epoch: u64, content: EarlyContent) -> EarlyFile {
    let file = EarlyFile { parent: ROOT, name: name.into(), ino, at: at(9), epoch, ..EarlyFile::default() };
    EarlyFile { origin: world.origin(), mode: 0o640, content: Some(content), ..file }
}

async fn tells(world: &World, file: &EarlyFile) -> proto::mrc::CreatedReply {
    let request = CreateManyRequest { head: head(SESSION), files: vec![file.clone()], reserve: 0 };
    world.ask::<CreateMany>(&request).await.unwrap().files.remove(0)
}

async fn opens(world: &World, session: u64, ino: u64, write: bool, renew: bool) -> OpenReply {
    let open = OpenRequest { head: head(session), ino, write, renew, ..OpenRequest::default() };
    world.ask::<Open>(&open).await.unwrap()
}

fn may_write(credentials: &FileCredentials) -> bool {
    credentials.capability.rights & WRITE != 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_small_file_comes_with_it_and_stays_until_somebody_writes() {
    let world = World::new(2).await;
    let (epoch, ino) = two(&world).await;
    let kept = KeptAttributes {
        mode: Some(0o600),
        mtime: Some(at(3)),
        ctime: at(21),
        epoch,
        ..KeptAttributes::default()
    };
    let small = file(&world, "small", ino, epoch, EarlyContent { kept: Some(kept), ..told(b"all of it") });
    for _ in 0..2 {
        let created = tells(&world, &small).await;
        let (attr, credentials) = (created.attr.unwrap(), created.credentials.unwrap());
        assert!(created.has_content && credentials.layout.is_inline() && !may_write(&credentials));
        assert_eq!(
            (attr.size, attr.blocks, attr.mode & 0o777, attr.mtime, attr.layer),
            (9, 8, 0o600, at(3), 0)
        );
        assert_eq!(credentials.content, "", "who told it has it");
        assert_eq!(credentials.layout.all_osds(), [], "who does not know of this asks nobody");
    }
    // Its maker may change its names and attributes, which says nothing of writing.
    let acquire = AcquireLeaseRequest { head: head(SESSION), ino, bits: A | R | W };
    let attr = world.ask::<AcquireLease>(&acquire).await.unwrap().attr;
    assert_eq!(attr.layer, 0);
    let before = opens(&world, SESSION, ino, false, false).await.credentials;
    assert_eq!((before.content, before.layout.is_inline()), (Bytes::from_static(b"all of it"), true));
    // Who opens it for writing may cut it first.
    let reply = opens(&world, SESSION, ino, true, false).await;
    assert_eq!((reply.attr.layer, may_write(&reply.credentials)), (0, false));
    // Who writes gets other data, with this below it.
    let reply = opens(&world, SESSION, ino, true, true).await;
    let (layer, after) = (reply.attr.layer, reply.credentials);
    assert!(layer != 0 && after.capability.ino == layer && may_write(&after) && !after.layout.is_inline());
    assert_eq!(after.bases.len(), 1);
    assert_eq!((&after.bases[0].content[..], after.bases[0].bytes), (&b"all of it"[..], 9));
    let again = opens(&world, SESSION, ino, true, true).await;
    assert_eq!(again.attr.layer, layer, "once");
    // A repeat by then is of a file that had it.
    let created = tells(&world, &small).await;
    assert!(created.has_content);
    assert_eq!(created.attr.unwrap().layer, layer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_size_takes_it_from_the_mrc_and_so_does_the_end_of_the_file() {
    let world = World::new(2).await;
    let (epoch, ino) = two(&world).await;
    let row = |ino| Table::get(&world.table, &keys::content(VOLUME, ino)).unwrap();
    assert!(tells(&world, &file(&world, "cut", ino, epoch, told(b"all of it"))).await.has_content);
    let cut = |size| SetAttrRequest {
        head: head(SESSION),
        origin: world.origin(),
        ino,
        size: Some(size),
        ..SetAttrRequest::default()
    };
    world.ask::<SetAttr>(&cut(3)).await.unwrap();
    let base = opens(&world, SESSION, ino, false, false).await.credentials.bases.remove(0);
    assert_eq!((&base.content[..], base.bytes), (&b"all of it"[..], 3));
    world.ask::<SetAttr>(&cut(0)).await.unwrap();
    assert_eq!(row(ino), None, "nothing of it shows through");
    assert_eq!(opens(&world, SESSION, ino, false, false).await.credentials.bases, []);
    let emptied = ino + 2;
    assert!(tells(&world, &file(&world, "empty", emptied, epoch, told(b"all of it"))).await.has_content);
    world.ask::<SetAttr>(&SetAttrRequest { ino: emptied, ..cut(0) }).await.unwrap();
    assert_eq!(row(emptied), None);
    let reply = opens(&world, SESSION, emptied, true, true).await;
    assert_eq!((reply.attr.layer, reply.attr.size, reply.attr.truncate_epoch), (0, 0, 1));
    assert!(
        may_write(&reply.credentials) && !reply.credentials.layout.is_inline(),
        "it is as if it had been made empty"
    );
    let removed = ino + 1;
    assert!(tells(&world, &file(&world, "gone", removed, epoch, told(b"x"))).await.has_content);
    assert!(row(removed).is_some());
    let removal =
        EarlyFile { removed: true, content: None, ..file(&world, "gone", removed, epoch, told(b"x")) };
    assert_eq!(tells(&world, &removal).await.freed, removed);
    assert_eq!(row(removed), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_damaged_on_its_way_is_asked_for_again_and_what_is_too_large_goes_to_the_osds() {
    let world = World::new(2).await;
    let (epoch, ino) = two(&world).await;
    let bad = file(&world, "x", ino, epoch, EarlyContent { crc: 1, ..told(b"all of it") });
    let request = CreateManyRequest { head: head(SESSION), files: vec![bad], reserve: 0 };
    assert_eq!(world.ask::<CreateMany>(&request).await.unwrap_err().code, Code::Internal);
    for (nth, size) in [(0, 0), (1, INLINE_BYTES_MAX), (2, INLINE_BYTES_MAX + 1)] {
        let made = file(&world, &format!("f{nth}"), ino + nth, epoch, told(&vec![7; size]));
        let created = tells(&world, &made).await;
        let (attr, credentials) = (created.attr.unwrap(), created.credentials.unwrap());
        assert_eq!(created.has_content, nth == 1, "{size}");
        assert_eq!((attr.size == size as u64, may_write(&credentials)), (nth != 2, nth != 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_is_found_and_never_read_as_something_else() {
    let world = World::new(2).await;
    let (epoch, ino) = two(&world).await;
    assert!(tells(&world, &file(&world, "x", ino, epoch, told(b"all of it"))).await.has_content);
    let mut batch = Batch::default();
    batch.put(keys::content(VOLUME, ino), b"\x02all of It".to_vec());
    world.table.write(batch).unwrap();
    let open = OpenRequest { head: head(OTHER), ino, ..OpenRequest::default() };
    assert!(world.ask::<Open>(&open).await.is_err());
    let row = inode::get(&world.table, VOLUME, ino).unwrap();
    assert!(!content::is_whole(&world.table, VOLUME, &row).unwrap());
    assert_eq!(Fault::try_from(20), Ok(Fault::ContentLost));
}
