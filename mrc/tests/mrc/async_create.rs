//! Files that a session has made under its right to make names in a directory, told afterwards.

use std::sync::Arc;
use std::time::Duration;

use mrc::command::{Body, ChangeAs, CreateAs, DoneAs, ReserveInos, SessionBegin, SessionRaise};
use proto::error::Code;
use proto::mrc::{
    AwaitRecalls, AwaitRecallsRequest, Create, CreateMany, CreateManyReply, CreateManyRequest, CreateRequest,
    CreatedReply, DropVolume, EarlyFile, EarlyMove, EntryRequest, FURTHER_MAX, GetAttr, HOLDS_MAX, HeldLease,
    HoldMany, HoldManyReply, HoldManyRequest, InoRequest, KeptAttributes, LEASE_ATTR as A, LEASE_NAMES as N,
    LEASE_READ as R, LEASE_WRITE as W, Lookup, MakeRequest, MkDir, Open, OpenRequest, OpenSession,
    RESERVE_MAX, ReadDir, ReadDirRequest, ReturnLeases, ReturnLeasesRequest, ReturnedLease, SessionOpen,
    TAKES_DIRECTORIES, TAKES_LINKS, Time, VolumeDrop,
};
use proto::quota::{QuotaKind, QuotaLimits, QuotaSet, SetQuota};
use proto::rpc::Origin;

use crate::harness::{self, Replica, code, layout};
use crate::service::{SESSION, VOLUME, World, head};

const OTHER: u64 = 78;
const ROOT: u64 = 1;

fn at(seconds: i64) -> Time {
    Time { seconds, nanos: 5 }
}

impl World {
    pub(crate) async fn takes_part(&self, session: u64) -> u64 {
        let open = OpenSession { session, client: "test".into(), ..OpenSession::default() };
        let epoch = self.ask::<SessionOpen>(&open).await.unwrap().session_epoch;
        assert_eq!(self.wanted(session, 0).await, []);
        epoch
    }

    /// Recalls as inode and bits, in their order.
    pub(crate) async fn wanted(&self, session: u64, wait_ms: u32) -> Vec<(u64, u32, u64)> {
        let request = AwaitRecallsRequest { session, after: 0, wait_ms };
        let recalls = self.ask::<AwaitRecalls>(&request).await.unwrap().recalls;
        let mut all: Vec<_> = recalls.iter().map(|one| (one.ino, one.bits, one.number)).collect();
        all.sort_unstable();
        all
    }

    pub(crate) async fn gives_back(&self, session: u64, wanted: &[(u64, u32, u64)]) {
        let returned = wanted.iter().map(|(ino, bits, number)| ReturnedLease {
            volume: VOLUME,
            ino: *ino,
            bits: *bits,
            number: *number,
            untold_readers: 0,
            untold_writers: 0,
        });
        let request = ReturnLeasesRequest { session, returned: returned.collect(), opening: 0 };
        self.ask::<ReturnLeases>(&request).await.unwrap();
    }

    async fn tell(&self, files: Vec<EarlyFile>, reserve: u32) -> CreateManyReply {
        let request = CreateManyRequest { head: head(SESSION), files, reserve };
        self.ask::<CreateMany>(&request).await.unwrap()
    }

    /// Makes a file; gives what the session holds of the root then.
    async fn makes(&self, name: &str) -> u32 {
        let make =
            MakeRequest { head: head(SESSION), parent: ROOT, name: name.into(), ..MakeRequest::default() };
        let request = CreateRequest { make, exclusive: true, write: true, append: false };
        let reply = self.ask::<Create>(&request).await.unwrap();
        reply.leases.iter().find(|grant| grant.ino == ROOT).map_or(0, |grant| grant.bits)
    }

    fn file(&self, name: &str, ino: u64, epoch: u64) -> EarlyFile {
        let (origin, name) = (self.origin(), name.into());
        let file = EarlyFile { origin, parent: ROOT, name, ino, at: at(9), epoch, ..EarlyFile::default() };
        EarlyFile { mode: 0o640, uid: 3, gid: 4, ..file }
    }

    fn removed(&self, name: &str, ino: u64, epoch: u64) -> EarlyFile {
        EarlyFile { removed: true, at: at(11), ..self.file(name, ino, epoch) }
    }

    fn moved(&self, name: &str, to: (&str, u64), ino: u64, epoch: u64) -> EarlyFile {
        let moved = EarlyMove { parent: ROOT, name: to.0.into(), replaced: to.1 };
        EarlyFile { moved: Some(moved), at: at(12), ..self.file(name, ino, epoch) }
    }

    fn linked(&self, name: &str, ino: u64, epoch: u64) -> EarlyFile {
        EarlyFile { linked: true, at: at(10), ..self.file(name, ino, epoch) }
    }

    fn directory(&self, name: &str, ino: u64, epoch: u64) -> EarlyFile {
        EarlyFile { directory: true, mode: 0o750, ..self.file(name, ino, epoch) }
    }

    fn within(directory: u64, file: EarlyFile) -> EarlyFile {
        EarlyFile { parent: directory, ..file }
    }

    fn set(&self, ino: u64, mode: u32, epoch: u64) -> EarlyFile {
        let (mode, mtime) = (Some(mode), Some(at(1)));
        let kept = KeptAttributes { mode, mtime, ctime: at(13), epoch, ..KeptAttributes::default() };
        Self::within(ino, EarlyFile { kept: Some(kept), at: at(13), ..self.file("", ino, epoch) })
    }

    async fn holds(&self, session: u64, inos: Vec<u64>) -> HoldManyReply {
        let request =
            HoldManyRequest { head: head(session), directories: vec![ROOT], inos, further: Vec::new() };
        self.ask::<HoldMany>(&request).await.unwrap()
    }

    /// Names of the root and what they lead to, as another client sees them.
    async fn names(&self) -> Vec<(String, u64)> {
        let list = ReadDirRequest { head: head(OTHER), ino: ROOT, after: 0, limit: 100, with_attrs: false };
        let entries = self.ask::<ReadDir>(&list).await.unwrap().entries;
        let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        let mut all: Vec<_> = entries.iter().map(|entry| (name(&entry.name), entry.ino)).collect();
        all.sort();
        all
    }
}

fn refusal(reply: &CreatedReply) -> Option<Code> {
    reply.refused.clone().map(|refused| proto::error::WireError::from(refused).code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_is_told_once_and_is_there_before_anybody_else_may_look() {
    let world = Arc::new(World::new(2).await);
    let epoch = world.takes_part(SESSION).await;
    world.takes_part(OTHER).await;
    assert_eq!(world.makes("first").await, A | N | W);
    let first = world.tell(Vec::new(), RESERVE_MAX).await.first;
    assert!(first > 2);
    let files = vec![world.file("x", first, epoch), world.file("y", first + 1, epoch)];
    // Somebody looks for a name that was made and not told: it waits for the right to come back.
    let looking = tokio::spawn({
        let world = world.clone();
        async move {
            world.ask::<Lookup>(&EntryRequest { head: head(OTHER), parent: ROOT, name: b"y".to_vec() }).await
        }
    });
    let wanted = world.wanted(SESSION, 10_000).await;
    assert_eq!(wanted.iter().map(|one| (one.0, one.1)).collect::<Vec<_>>(), [(ROOT, W)]);
    assert!(!looking.is_finished());
    let told = world.tell(files.clone(), 0).await;
    let attr = told.files[1].attr.clone().unwrap();
    assert_eq!((attr.ino, attr.mode, attr.uid, attr.gid), (first + 1, 0o100_640, 3, 4));
    assert_eq!((attr.mtime, attr.ctime, attr.btime, attr.nlink), (at(9), at(9), at(9), 1));
    let held = |ino| told.leases.iter().find(|grant| grant.ino == ino).unwrap().bits;
    assert_eq!((held(first), held(first + 1)), (A | R | W, A | R | W));
    let rights = told.files[0].credentials.clone().unwrap();
    assert_eq!((rights.capability.ino, rights.layout.columns.len()), (first, 2));
    // An answer that was lost: the same again changes nothing, also when the first is not kept any more.
    let again = world.tell(files, 0).await;
    assert_eq!(again.files[1].attr.clone().unwrap().change, 1);
    world.gives_back(SESSION, &wanted).await;
    // The file is its maker's still.
    let wanted = world.wanted(SESSION, 10_000).await;
    assert_eq!(wanted.iter().map(|one| (one.0, one.1)).collect::<Vec<_>>(), [(first + 1, W)]);
    world.gives_back(SESSION, &wanted).await;
    assert_eq!(looking.await.unwrap().unwrap().attr.ino, first + 1);
    let list = ReadDirRequest { head: head(OTHER), ino: ROOT, after: 0, limit: 10, with_attrs: false };
    let names = world.ask::<ReadDir>(&list).await.unwrap().entries;
    assert_eq!(names.iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), [&b"first"[..], b"x", b"y"]);
    let open = OpenRequest { head: head(OTHER), ino: first + 1, ..OpenRequest::default() };
    assert!(world.ask::<Open>(&open).await.is_ok());
}

/// Files that others made, removed unheard by who asked for the right to.
#[tokio::test(flavor = "multi_thread")]
async fn who_goes_on_removing_is_given_what_nobody_else_holds() {
    let world = Arc::new(World::new(1).await);
    world.takes_part(OTHER).await;
    let epoch = world.takes_part(SESSION).await;
    for name in ["a", "b", "c"] {
        world.makes(name).await;
    }
    let looking = tokio::spawn({
        let world = world.clone();
        async move { world.names().await }
    });
    let wanted = world.wanted(SESSION, 10_000).await;
    world.gives_back(SESSION, &wanted).await;
    let inos: Vec<u64> = looking.await.unwrap().iter().map(|(_, ino)| *ino).collect();
    let (a, b, c) = (inos[0], inos[1], inos[2]);
    // The maker holds them: another session is given nothing, and nothing is recalled.
    let held = world.holds(OTHER, inos.clone()).await;
    assert!(held.leases.iter().all(|grant| grant.bits & W == 0), "{held:?}");
    world.gives_back(SESSION, &[(ROOT, A | N | W, u64::MAX), (a, A | R | W, u64::MAX)]).await;
    world.gives_back(SESSION, &[(b, A | R | W, u64::MAX), (c, A | R | W, u64::MAX)]).await;
    world.gives_back(OTHER, &[(ROOT, A | N, u64::MAX)]).await;
    // Somebody has one of them open, and keeps its attributes.
    let open = OpenRequest { head: head(OTHER), ino: b, ..OpenRequest::default() };
    world.ask::<Open>(&open).await.unwrap();
    let held = world.holds(SESSION, vec![a, b, c, ROOT, 9_999]).await;
    let of = |ino: u64| held.leases.iter().find(|grant| grant.ino == ino).map_or(0, |grant| grant.bits);
    assert_eq!((of(ROOT), of(a), of(c)), (A | N | W, A | R | W, A | R | W));
    assert_eq!(of(b) & W, 0, "who has it open may ask for its attributes");
    let told = |ino: u64| held.attrs.iter().any(|attr| attr.ino == ino);
    assert!(told(ROOT) && told(a) && told(c) && !told(9_999));
    assert_eq!(world.wanted(OTHER, 0).await, [], "nothing is recalled");
    // It removes one of them unheard; another session sees that before it is told anything of the directory.
    let looking = tokio::spawn({
        let world = world.clone();
        async move { world.names().await }
    });
    let wanted = world.wanted(SESSION, 10_000).await;
    assert_eq!(wanted.iter().map(|one| (one.0, one.1 & W)).collect::<Vec<_>>(), [(ROOT, W)]);
    let told = world.tell(vec![world.removed("a", a, epoch)], 0).await;
    assert_eq!(refusal(&told.files[0]), None);
    world.gives_back(SESSION, &wanted).await;
    assert_eq!(looking.await.unwrap(), [("b".to_owned(), b), ("c".to_owned(), c)]);
    let none = HoldManyRequest { head: head(SESSION), ..HoldManyRequest::default() };
    let many = HoldManyRequest { inos: vec![1; HOLDS_MAX + 1], ..none.clone() };
    assert_eq!(code(world.ask::<HoldMany>(&many).await), Some(Code::InvalidArgument));
    let many = HoldManyRequest { further: vec![1; FURTHER_MAX + 1], ..none.clone() };
    assert_eq!(code(world.ask::<HoldMany>(&many).await), Some(Code::InvalidArgument));
    // What may be next is given or not; the rest does not depend on it.
    let next =
        HoldManyRequest { directories: vec![ROOT], further: vec![a, b, 1 << 40], inos: vec![b], ..none };
    let given = world.ask::<HoldMany>(&next).await.unwrap();
    assert_eq!(given.attrs.iter().map(|attr| attr.ino).collect::<Vec<_>>(), [ROOT, b]);
}

/// A tree that goes in one call, from its leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_goes_after_what_was_in_it() {
    let world = Arc::new(World::new(1).await);
    let epoch = world.takes_part(SESSION).await;
    world.makes("a").await;
    let make = |parent: u64, name: &str| {
        let make = MakeRequest { head: head(SESSION), parent, name: name.into(), ..MakeRequest::default() };
        MakeRequest { mode: 0o040_755, origin: world.origin(), ..make }
    };
    let top = world.ask::<MkDir>(&make(ROOT, "top")).await.unwrap().attr.ino;
    let deep = world.ask::<MkDir>(&make(top, "deep")).await.unwrap().attr.ino;
    let first = world.tell(Vec::new(), 8).await.first;
    let held =
        HoldManyRequest { head: head(SESSION), directories: vec![top, deep], ..HoldManyRequest::default() };
    let held = world.ask::<HoldMany>(&held).await.unwrap().leases;
    assert!(held.iter().all(|grant| grant.bits == A | N | W), "{held:?}");
    let within = |parent: u64, file: EarlyFile| EarlyFile { parent, ..file };
    let files = vec![
        within(deep, world.file("x", first, epoch)),
        within(deep, world.removed("x", first, epoch)),
        within(top, world.removed("deep", deep, epoch)),
        world.removed("top", top, epoch),
    ];
    let told = world.tell(files.clone(), 0).await;
    assert_eq!(told.files.iter().map(refusal).collect::<Vec<_>>(), [None; 4]);
    assert_eq!((told.files[2].freed, told.files[3].freed), (deep, top));
    let root = world.ask::<GetAttr>(&InoRequest { head: head(SESSION), ino: ROOT }).await.unwrap();
    assert_eq!((root.attr.size, root.attr.nlink), (1, 2));
    // Once more, when the answer to it is not kept any more.
    let again = files[2..].iter().map(|file| EarlyFile { origin: world.origin(), ..file.clone() }).collect();
    let again = world.tell(again, 0).await;
    assert_eq!(refusal(&again.files[1]), None);
    // One with something in it stays.
    let full = world.ask::<MkDir>(&make(ROOT, "full")).await.unwrap().attr.ino;
    world.ask::<MkDir>(&make(full, "inside")).await.unwrap();
    let told = world.tell(vec![world.removed("full", full, epoch)], 0).await;
    assert_eq!(refusal(&told.files[0]), Some(Code::NotEmpty));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_make_names_unheard_is_refused() {
    let world = Arc::new(World::new(1).await);
    let epoch = world.takes_part(SESSION).await;
    let first = world.tell(Vec::new(), 8).await.first;
    // It has never been given the right.
    let told = world.tell(vec![world.file("x", first, epoch)], 0).await;
    assert_eq!(refusal(&told.files[0]), Some(Code::CapabilityExpired));
    assert_eq!(world.makes("a").await, A | N | W);
    // A number that nobody reserved, a name of another file, another epoch; the good one among them is made.
    let files = vec![
        world.file("far", first + 5000, epoch),
        world.file("a", first + 1, epoch),
        world.file("late", first + 2, epoch - 1),
        world.file("good", first + 3, epoch),
        world.file("good", first + 4, epoch),
    ];
    let told = world.tell(files, 0).await;
    let codes: Vec<Option<Code>> = told.files.iter().map(refusal).collect();
    let (exists, expired) = (Some(Code::Exists), Some(Code::CapabilityExpired));
    assert_eq!(codes, [exists, exists, expired, None, exists]);
    assert!(told.files[1].refused.clone().unwrap().text.contains("is another's"));
    let root = world.ask::<GetAttr>(&InoRequest { head: head(SESSION), ino: ROOT }).await.unwrap();
    assert_eq!(root.attr.size, 2);
    let many = CreateManyRequest { head: head(SESSION), files: Vec::new(), reserve: RESERVE_MAX + 1 };
    assert_eq!(code(world.ask::<CreateMany>(&many).await), Some(Code::InvalidArgument));
    // The volume is removed under it: each hears, nobody tries for ever.
    world.ask::<VolumeDrop>(&DropVolume { origin: Origin::default(), volume: VOLUME }).await.unwrap();
    let told = world.tell(vec![world.file("gone", first + 5, epoch)], 0).await;
    assert_eq!(refusal(&told.files[0]), Some(Code::NotFound));
    let many = CreateManyRequest { head: head(SESSION), files: Vec::new(), reserve: 1 };
    assert_eq!(code(world.ask::<CreateMany>(&many).await), Some(Code::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_takes_the_right_back_first_and_it_is_not_given_again() {
    let world = Arc::new(World::new(1).await);
    let epoch = world.takes_part(SESSION).await;
    assert_eq!(world.makes("a").await, A | N | W);
    let first = world.tell(Vec::new(), 8).await.first;
    let setting = tokio::spawn({
        let world = world.clone();
        let limits = Some(QuotaLimits { bytes: 0, inodes: 100 });
        let ask = SetQuota {
            head: head(0),
            origin: Origin::default(),
            kind: QuotaKind::User as i32,
            id: 3,
            limits,
        };
        async move { world.ask::<QuotaSet>(&ask).await }
    });
    let wanted = world.wanted(SESSION, 10_000).await;
    assert!(wanted.iter().any(|one| (one.0, one.1) == (ROOT, W)), "{wanted:?}");
    assert!(!setting.is_finished());
    let told = world.tell(vec![world.file("promised", first, epoch)], 0).await;
    assert_eq!(told.files[0].refused, None);
    assert!(!told.leases.iter().any(|grant| grant.bits & W != 0), "nothing is given to be written now");
    world.gives_back(SESSION, &wanted).await;
    setting.await.unwrap().unwrap();
    assert_eq!(world.makes("b").await & W, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_takes_them_before_it_knows_what_others_hold() {
    let mut world = World::new(1).await;
    let epoch = world.takes_part(SESSION).await;
    world.takes_part(OTHER).await;
    assert_eq!(world.makes("a").await, A | N | W);
    let first = world.tell(Vec::new(), 8).await.first;
    world.restart().await;
    let root = HeldLease { volume: VOLUME, ino: ROOT, bits: A | N | W };
    let open = OpenSession {
        session: SESSION,
        client: "test".into(),
        leases: vec![root],
        session_epoch: epoch,
        ..OpenSession::default()
    };
    assert_eq!(world.open(open).await.session_epoch, epoch);
    // The other one does not come back; changes that others might stand against wait for it.
    let files = vec![world.file("x", first, epoch)];
    let told = tokio::time::timeout(Duration::from_secs(2), world.tell(files, 0))
        .await
        .expect("nobody is waited for");
    assert_eq!((told.files[0].refused.clone(), told.leases.len()), (None, 0));
    // Who does not say that it holds the right has not got it.
    let told = world.tell(vec![EarlyFile { parent: 2, ..world.file("y", first + 1, epoch) }], 0).await;
    assert_eq!(refusal(&told.files[0]), Some(Code::CapabilityExpired));
}

#[test]
fn numbers_are_reserved_and_times_of_the_directory_do_not_go_back() {
    let mut replica = Replica::new();
    replica.run(Body::SessionBegin(SessionBegin { session: 5, client: "test".into() })).unwrap();
    replica.run(Body::ReserveInos(ReserveInos { volume: harness::VOLUME, count: 3 })).unwrap();
    let epoch = mrc::namespace::session::find(&replica.table, 5).unwrap().unwrap().epoch;
    let make = |name: &str, ino, at| {
        let file = EarlyFile { parent: ROOT, name: name.into(), ino, ..EarlyFile::default() };
        let file = EarlyFile { mode: 0o600, at, epoch, ..file };
        Body::CreateAs(CreateAs { head: harness::head(0, 0, true), file, layout: layout() })
    };
    let root =
        |replica: &Replica| mrc::namespace::read::getattr(&replica.table, harness::VOLUME, ROOT).unwrap();
    let made_at = root(&replica).mtime;
    replica.run(make("old", 2, at(9))).unwrap();
    assert_eq!((root(&replica).mtime, root(&replica).size), (made_at, 1));
    replica.run(make("new", 4, at(made_at.seconds + 50))).unwrap();
    assert_eq!(
        (root(&replica).mtime, root(&replica).ctime),
        (at(made_at.seconds + 50), at(made_at.seconds + 50))
    );
    assert_eq!(code(replica.run(make("beyond", 5, at(9)))), Some(Code::Exists), "nobody reserved it");
    let next = replica.make(ROOT, "directory", 0o040_755, "").unwrap();
    assert_eq!(next.ino, 5, "what is made otherwise has other numbers");
    // Expelled: whatever comes does nothing.
    replica.run(Body::SessionRaise(SessionRaise { session: 5, fence: false })).unwrap();
    assert_eq!(code(replica.run(make("late", 3, at(9)))), Some(Code::CapabilityExpired));
    assert_eq!(root(&replica).size, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_from_what_comes_after_it_in_one_call() {
    let world = World::new(2).await;
    let epoch = world.takes_part(SESSION).await;
    assert_eq!(world.makes("first").await, A | N | W);
    let ino = world.tell(Vec::new(), RESERVE_MAX).await.first;
    let all = vec![
        world.file("x", ino, epoch),
        world.removed("x", ino, epoch),
        world.file("x", ino + 1, epoch),
        world.moved("x", ("y", 0), ino + 1, epoch),
        world.file("x", ino + 2, epoch),
        world.moved("x", ("y", ino + 1), ino + 2, epoch),
        world.moved("y", ("z", 0), ino + 2, epoch),
        world.file("w", ino + 3, epoch),
    ];
    // The same again, as after an answer that was lost, and with the answers not kept any more.
    for origin in [true, true, false] {
        let mut all = all.clone();
        if !origin {
            all.iter_mut().for_each(|file| file.origin = Origin::default());
        }
        let told = world.tell(all, 0).await;
        let refused: Vec<_> = told.files.iter().map(refusal).collect();
        if origin {
            assert_eq!(refused, [None; 8]);
            let freed: Vec<u64> = told.files.iter().map(|one| one.freed).collect();
            // What was replaced can be opened for a while: a kernel may be about to.
            assert_eq!(freed, [0, ino, 0, 0, 0, 0, 0, 0]);
        }
        let list = InoRequest { head: head(SESSION), ino: ROOT };
        let root = world.ask::<GetAttr>(&list).await.unwrap().attr;
        assert_eq!((root.size, root.mtime >= at(12)), (3, true));
        let find = |name: &str| EntryRequest { head: head(SESSION), parent: ROOT, name: name.into() };
        assert_eq!(world.ask::<Lookup>(&find("z")).await.unwrap().attr.ino, ino + 2);
        assert_eq!(code(world.ask::<Lookup>(&find("x")).await), Some(Code::NotFound));
        assert_eq!(code(world.ask::<Lookup>(&find("y")).await), Some(Code::NotFound));
        let gone = InoRequest { head: head(SESSION), ino };
        assert_eq!(code(world.ask::<GetAttr>(&gone).await), Some(Code::Stale));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_gets_a_further_name_once_however_often_it_is_told() {
    let world = World::new(2).await;
    let epoch = world.takes_part(SESSION).await;
    assert_eq!(world.makes("first").await, A | N | W);
    let told = world.tell(Vec::new(), RESERVE_MAX).await;
    assert_eq!(told.takes & TAKES_LINKS, TAKES_LINKS);
    let ino = told.first;
    // As git does it with an object; a name that moves on; one that goes again, and one that another file has then.
    let all = vec![
        world.file("tmp", ino, epoch),
        world.linked("object", ino, epoch),
        world.removed("tmp", ino, epoch),
        world.file("x", ino + 1, epoch),
        world.linked("y", ino + 1, epoch),
        world.moved("y", ("z", 0), ino + 1, epoch),
        world.linked("w", ino + 1, epoch),
        world.removed("w", ino + 1, epoch),
        world.file("y", ino + 2, epoch),
        world.file("v", ino + 3, epoch),
        world.linked("u", ino + 3, epoch),
        world.removed("v", ino + 3, epoch),
        world.removed("u", ino + 3, epoch),
    ];
    for origin in [true, true, false, false] {
        let mut all = all.clone();
        if !origin {
            all.iter_mut().for_each(|file| file.origin = Origin::default());
        }
        let told = world.tell(all, 0).await;
        assert!(told.files.iter().all(|file| refusal(file).is_none()), "{:?}", told.files);
        let list = ReadDirRequest { head: head(SESSION), ino: ROOT, after: 0, limit: 100, with_attrs: true };
        let entries = world.ask::<ReadDir>(&list).await.unwrap().entries;
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        let mut found: Vec<_> = entries
            .iter()
            .map(|entry| (text(&entry.name), entry.ino, entry.attr.as_ref().map_or(0, |attr| attr.nlink)))
            .collect();
        found.sort();
        assert_eq!(found.remove(0).0, "first");
        let want = [("object", ino, 1), ("x", ino + 1, 2), ("y", ino + 2, 1), ("z", ino + 1, 2)];
        assert_eq!(found, want.map(|(name, ino, links)| (name.to_owned(), ino, links)));
        let of = |ino| InoRequest { head: head(SESSION), ino };
        assert_eq!(world.ask::<GetAttr>(&of(ROOT)).await.unwrap().attr.size, 5);
        assert_eq!(code(world.ask::<GetAttr>(&of(ino + 3)).await), Some(Code::Stale));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_made_filled_and_its_attributes_are_set_in_one_call() {
    let world = Arc::new(World::new(2).await);
    let epoch = world.takes_part(SESSION).await;
    world.takes_part(OTHER).await;
    assert_eq!(world.makes("first").await, A | N | W);
    let told = world.tell(Vec::new(), RESERVE_MAX).await;
    assert_eq!(told.takes & TAKES_DIRECTORIES, TAKES_DIRECTORIES);
    let ino = told.first;
    let all = vec![
        world.directory("d", ino, epoch),
        World::within(ino, world.directory("sub", ino + 1, epoch)),
        World::within(ino + 1, world.file("x", ino + 2, epoch)),
        World::within(ino, world.file("y", ino + 3, epoch)),
        world.set(ino, 0o711, epoch),
        world.directory("gone", ino + 4, epoch),
        world.removed("gone", ino + 4, epoch),
    ];
    for origin in [true, true, false] {
        let mut all = all.clone();
        if !origin {
            all.iter_mut().for_each(|file| file.origin = Origin::default());
        }
        let told = world.tell(all, 0).await;
        // Made again when nobody knows any more that it was, and removed again.
        assert!(told.files.iter().all(|file| refusal(file).is_none()), "{:?}", told.files);
        let held = |ino| told.leases.iter().find(|grant| grant.ino == ino).map(|grant| grant.bits);
        assert_eq!((held(ino), held(ino + 1)), (Some(A | N | W), Some(A | N | W)));
        let of = |ino| InoRequest { head: head(SESSION), ino };
        let root = world.ask::<GetAttr>(&of(ROOT)).await.unwrap().attr;
        assert_eq!((root.size, root.nlink), (2, 3));
        let attr = world.ask::<GetAttr>(&of(ino)).await.unwrap().attr;
        assert_eq!((attr.mode, attr.size, attr.nlink, attr.mtime), (0o040_711, 2, 3, at(1)));
        assert_eq!((attr.uid, attr.gid, attr.btime, attr.ctime), (3, 4, at(9), at(13)));
        assert_eq!(code(world.ask::<GetAttr>(&of(ino + 4)).await), Some(Code::Stale));
    }
    // Nobody else looks into them before their maker has told all.
    let looking = tokio::spawn({
        let world = world.clone();
        async move {
            let list = |ino| ReadDirRequest { head: head(OTHER), ino, after: 0, limit: 9, with_attrs: false };
            let names = world.ask::<ReadDir>(&list(ino + 1)).await.unwrap().entries;
            names.iter().map(|entry| entry.ino).collect::<Vec<_>>()
        }
    });
    let wanted = world.wanted(SESSION, 10_000).await;
    assert_eq!(wanted.iter().map(|one| (one.0, one.1)).collect::<Vec<_>>(), [(ino + 1, W)]);
    world.tell(vec![World::within(ino + 1, world.file("z", ino + 5, epoch))], 0).await;
    world.gives_back(SESSION, &wanted).await;
    assert_eq!(looking.await.unwrap(), [ino + 2, ino + 5]);
    // From now on it is the MRC's to set.
    let told = world.tell(vec![world.set(ino + 1, 0o700, epoch)], 0).await;
    assert_eq!(refusal(&told.files[0]), Some(Code::CapabilityExpired));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_made_is_filled_after_a_change_of_leader() {
    let mut world = World::new(1).await;
    let epoch = world.takes_part(SESSION).await;
    world.takes_part(OTHER).await;
    assert_eq!(world.makes("a").await, A | N | W);
    let ino = world.tell(Vec::new(), 8).await.first;
    let made = vec![world.directory("d", ino, epoch), World::within(ino, world.file("x", ino + 1, epoch))];
    for _ in 0..2 {
        // The first time nobody has heard of it, the second time it was made and its maker has not heard that it was.
        world.restart().await;
        let leases = [ROOT].map(|ino| HeldLease { volume: VOLUME, ino, bits: A | N | W }).to_vec();
        let session = OpenSession { session: SESSION, client: "test".into(), ..OpenSession::default() };
        let open = OpenSession { leases, session_epoch: epoch, ..session };
        assert_eq!(world.open(open).await.session_epoch, epoch);
        let other = OpenSession { session: OTHER, client: "test".into(), ..OpenSession::default() };
        world.open(other).await;
        let told = world.tell(made.clone(), 0).await;
        assert!(told.files.iter().all(|file| refusal(file).is_none()), "{:?}", told.files);
        let grant = told.leases.iter().find(|grant| grant.ino == ino).expect("the right to make names in it");
        assert_eq!(grant.bits, A | N | W);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_sees_a_name_or_a_file_that_was_removed_or_moved() {
    let world = Arc::new(World::new(2).await);
    let epoch = world.takes_part(SESSION).await;
    world.takes_part(OTHER).await;
    assert_eq!(world.makes("first").await, A | N | W);
    let ino = world.tell(Vec::new(), RESERVE_MAX).await.first;
    let made = ["a", "b", "c"].iter().zip(ino..).map(|(name, ino)| world.file(name, ino, epoch)).collect();
    world.tell(made, 0).await;
    // Whoever asks for the file by its number waits for its right too.
    let asking = tokio::spawn({
        let world = world.clone();
        async move { world.ask::<GetAttr>(&InoRequest { head: head(OTHER), ino }).await }
    });
    let wanted = world.wanted(SESSION, 10_000).await;
    assert_eq!(wanted.iter().map(|one| (one.0, one.1)).collect::<Vec<_>>(), [(ino, W)]);
    let told = world.tell(vec![world.removed("a", ino, epoch)], 0).await;
    assert_eq!((refusal(&told.files[0]), told.files[0].freed), (None, ino));
    world.gives_back(SESSION, &wanted).await;
    assert_eq!(code(asking.await.unwrap()), Some(Code::Stale));
    let told = world.tell(vec![world.moved("b", ("c", ino + 2), ino + 1, epoch)], 0).await;
    assert_eq!(refusal(&told.files[0]), None);
    let looking = tokio::spawn({
        let world = world.clone();
        async move { world.names().await }
    });
    let wanted = world.wanted(SESSION, 10_000).await;
    world.gives_back(SESSION, &wanted).await;
    let first = looking.await.unwrap();
    assert_eq!(first.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), ["c", "first"]);
    assert_eq!(first[0].1, ino + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_somebody_has_open_lives_on_when_its_maker_has_removed_it() {
    let world = World::new(2).await;
    let epoch = world.takes_part(SESSION).await;
    assert_eq!(world.makes("first").await, A | N | W);
    let ino = world.tell(Vec::new(), RESERVE_MAX).await.first;
    world.tell(vec![world.file("a", ino, epoch)], 0).await;
    let open = OpenRequest { head: head(SESSION), ino, ..OpenRequest::default() };
    world.ask::<Open>(&open).await.unwrap();
    let told = world.tell(vec![world.removed("a", ino, epoch)], 0).await;
    assert_eq!((refusal(&told.files[0]), told.files[0].freed), (None, 0));
    let attr = world.ask::<GetAttr>(&InoRequest { head: head(SESSION), ino }).await.unwrap().attr;
    assert_eq!((attr.nlink, attr.ctime >= at(11)), (0, true));
}

#[test]
fn an_expelled_session_has_removed_and_moved_nothing() {
    let mut replica = Replica::new();
    let begin = SessionBegin { session: SESSION, client: "test".into() };
    replica.run(Body::SessionBegin(begin)).unwrap();
    let epoch = mrc::namespace::session::find(&replica.table, SESSION).unwrap().unwrap().epoch;
    replica.run(Body::ReserveInos(ReserveInos { volume: harness::VOLUME, count: 10 })).unwrap();
    let head = proto::mrc::Head { session: SESSION, ..harness::head(0, 0, true) };
    let file = |name: &str, ino| EarlyFile {
        parent: ROOT,
        name: name.into(),
        ino,
        epoch,
        at: at(9),
        ..EarlyFile::default()
    };
    let make = Body::CreateAs(CreateAs { head: head.clone(), file: file("x", 2), layout: layout() });
    replica.run(make).unwrap();
    replica.run(Body::SessionRaise(SessionRaise { session: SESSION, fence: false })).unwrap();
    let moved = EarlyMove { parent: ROOT, name: b"y".to_vec(), replaced: 0 };
    let made = EarlyFile { directory: true, ..file("d", 3) };
    let kept =
        EarlyFile { kept: Some(KeptAttributes { epoch, ..KeptAttributes::default() }), ..file("", ROOT) };
    for file in [made, kept, EarlyFile { linked: true, ..file("y", 2) }] {
        let done = Body::DoneAs(DoneAs { head: head.clone(), file });
        assert_eq!(code(replica.run(done)), Some(Code::CapabilityExpired));
    }
    for file in
        [EarlyFile { removed: true, ..file("x", 2) }, EarlyFile { moved: Some(moved), ..file("x", 2) }]
    {
        let change = Body::ChangeAs(ChangeAs { head: head.clone(), file, closed: 2 });
        assert_eq!(code(replica.run(change)), Some(Code::CapabilityExpired));
    }
    let root = mrc::namespace::read::getattr(&replica.table, harness::VOLUME, ROOT).unwrap();
    assert_eq!(root.size, 1);
}
