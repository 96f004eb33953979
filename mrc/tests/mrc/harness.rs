//! A replica without Raft: commands go straight into the state machine over a table in memory.

use bytes::Bytes;
use mrc::Machine;
use mrc::command::{self, Body, Command, Create, CreateDone, Make, Move, Remove};
use mrc::namespace::read;
use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{
    Attr, AttrReply, CreateRequest, EntryRequest, Head, InitVolume, LinkRequest, LockReply, LockRequest,
    MakeRequest, ReadDirRequest, RemoveEntry, RenameRequest, SetAttrRequest, SetXattrRequest, kind,
};
use proto::rpc::Origin;
use proto::stripe::{Column, Layout, Striping};
use quorum::{Applied, StateMachine};
use rt::table::memory::MemoryTable;
use rt::table::{Table, Txn};

pub(crate) const VOLUME: u64 = 9;

/// See the module.
pub(crate) struct Replica {
    pub(crate) table: MemoryTable,
    machine: Machine,
    index: u64,
    /// Who acts in the helpers below.
    pub(crate) head: Head,
    /// Goes with everything that is made.
    pub(crate) umask: u32,
    /// Everything applied so far.
    pub(crate) log: Vec<(Applied, Bytes)>,
}

pub(crate) fn head(uid: u32, gid: u32, permission_checked: bool) -> Head {
    Head { volume: VOLUME, session: 5, uid, gid, groups: Vec::new(), permission_checked, snapshot: 0 }
}

pub(crate) fn layout() -> Layout {
    Layout {
        stripe_bytes: 1 << 20,
        columns: vec![Column { osds: vec![3] }],
        replication: 0,
        view: 1,
        ..Layout::default()
    }
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, WireError>) -> Option<Code> {
    result.err().map(|error| error.code)
}

impl Replica {
    /// With an empty volume whose root belongs to root and has mode 0755.
    pub(crate) fn new() -> Self {
        let mut replica = Self {
            table: MemoryTable::new(),
            machine: Machine::new(),
            index: 0,
            head: head(0, 0, true),
            umask: 0,
            log: Vec::new(),
        };
        let striping =
            Striping { stripe_bytes: 1 << 20, width: 1, replicas: 1, replication: 0, coding: None };
        let init = InitVolume {
            origin: Origin::default(),
            volume: VOLUME,
            name: "home".into(),
            striping,
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        replica.run(Body::InitVolume(init)).unwrap();
        replica
    }

    /// Index of the newest command.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Applies one command a second after the one before.
    pub(crate) fn run(&mut self, body: Body) -> Result<Bytes, WireError> {
        self.index += 1;
        let at =
            Applied { index: self.index, unix_ms: 1_700_000_000_000 + 1000 * self.index, sub_ms_nanos: 7 };
        let bytes = Command::from(body).to_bytes();
        self.log.push((at, bytes.clone()));
        self.apply(at, &bytes)
    }

    pub(crate) fn apply(&self, at: Applied, bytes: &[u8]) -> Result<Bytes, WireError> {
        let mut txn = Txn::new(&self.table);
        let answer = self.machine.apply(&mut txn, at, bytes).expect("the table is whole");
        let result = command::parse_answer(answer);
        if let Err(error) = &result {
            assert!(txn.is_empty(), "a refused command left changes: {error}");
            assert!(!error.text.is_empty());
        }
        self.table.write(txn.into_batch()).unwrap();
        result
    }

    fn attr(&mut self, body: Body) -> Result<Attr, WireError> {
        self.run(body).map(|bytes| AttrReply::decode(bytes).unwrap().attr)
    }

    /// MkDir, MkNod and Symlink by the type in `mode`.
    pub(crate) fn make(
        &mut self,
        parent: u64,
        name: &str,
        mode: u32,
        target: &str,
    ) -> Result<Attr, WireError> {
        let request = MakeRequest {
            head: self.head.clone(),
            origin: Origin::default(),
            parent,
            name: name.into(),
            mode,
            target: target.into(),
            umask: self.umask,
            ..MakeRequest::default()
        };
        let layout = (mode >> 12 == kind::FILE).then(layout);
        self.attr(Body::Make(Make { request, layout }))
    }

    pub(crate) fn mkdir(&mut self, parent: u64, name: &str, mode: u32) -> Result<Attr, WireError> {
        self.make(parent, name, kind::DIR << 12 | mode, "")
    }

    pub(crate) fn mkfile(&mut self, parent: u64, name: &str, mode: u32) -> Result<Attr, WireError> {
        self.make(parent, name, kind::FILE << 12 | mode, "")
    }

    pub(crate) fn create(
        &mut self,
        parent: u64,
        name: &str,
        exclusive: bool,
    ) -> Result<CreateDone, WireError> {
        self.create_placed(parent, name, exclusive, layout())
    }

    pub(crate) fn create_placed(
        &mut self,
        parent: u64,
        name: &str,
        exclusive: bool,
        layout: Layout,
    ) -> Result<CreateDone, WireError> {
        let make = MakeRequest {
            head: self.head.clone(),
            origin: Origin::default(),
            parent,
            name: name.into(),
            mode: kind::FILE << 12 | 0o644,
            umask: self.umask,
            ..MakeRequest::default()
        };
        let request = CreateRequest { make, exclusive, write: true, append: false };
        self.run(Body::Create(Create { request, layout, must_exist: false }))
            .map(|bytes| CreateDone::decode(bytes).unwrap())
    }

    fn entry(&self, parent: u64, name: &str) -> RemoveEntry {
        RemoveEntry {
            head: self.head.clone(),
            origin: Origin::default(),
            parent,
            name: name.into(),
            ..RemoveEntry::default()
        }
    }

    /// `closed`: the leader vouches that nobody has the file open.
    pub(crate) fn unlink(&mut self, parent: u64, name: &str, closed: u64) -> Result<(), WireError> {
        let request = self.entry(parent, name);
        self.run(Body::Unlink(Remove { request, closed, expected: None })).map(drop)
    }

    pub(crate) fn rmdir(&mut self, parent: u64, name: &str) -> Result<(), WireError> {
        let request = self.entry(parent, name);
        self.run(Body::RmDir(Remove { request, closed: 0, expected: None })).map(drop)
    }

    pub(crate) fn link(&mut self, ino: u64, parent: u64, name: &str) -> Result<Attr, WireError> {
        let request = LinkRequest {
            head: self.head.clone(),
            origin: Origin::default(),
            ino,
            parent,
            name: name.into(),
        };
        self.attr(Body::Link(request))
    }

    pub(crate) fn rename(
        &mut self,
        from: (u64, &str),
        to: (u64, &str),
        flags: u32,
        closed: u64,
    ) -> Result<(), WireError> {
        let request = RenameRequest {
            head: self.head.clone(),
            origin: Origin::default(),
            parent: from.0,
            name: from.1.into(),
            new_parent: to.0,
            new_name: to.1.into(),
            flags,
            only_if_no_writer: false,
            ..RenameRequest::default()
        };
        self.run(Body::Rename(Move { request, closed, expected_moved: None, expected_replaced: None }))
            .map(drop)
    }

    /// An empty SetAttr to be filled in.
    pub(crate) fn change_of(&self, ino: u64) -> SetAttrRequest {
        SetAttrRequest { head: self.head.clone(), ino, ..SetAttrRequest::default() }
    }

    pub(crate) fn setattr(&mut self, request: SetAttrRequest) -> Result<Attr, WireError> {
        self.attr(Body::SetAttr(request))
    }

    pub(crate) fn setxattr(
        &mut self,
        ino: u64,
        name: &str,
        value: Option<&[u8]>,
        flags: u32,
    ) -> Result<(), WireError> {
        let request = SetXattrRequest {
            head: self.head.clone(),
            origin: Origin::default(),
            ino,
            name: name.into(),
            value: value.map(<[u8]>::to_vec),
            flags,
            clear_setgid: false,
        };
        self.run(Body::SetXattr(request)).map(drop)
    }

    pub(crate) fn lock(
        &mut self,
        ino: u64,
        by: (u64, u64),
        range: (u64, u64),
        kind: u32,
    ) -> Result<LockReply, WireError> {
        let request = LockRequest {
            head: Head { session: by.0, ..self.head.clone() },
            ino,
            owner: by.1,
            start: range.0,
            end: range.1,
            kind,
            pid: 1,
            flock: false,
            ..LockRequest::default()
        };
        self.run(Body::Lock(request)).map(|bytes| LockReply::decode(bytes).unwrap())
    }

    pub(crate) fn lookup(&self, parent: u64, name: &str) -> Result<Attr, WireError> {
        let request = EntryRequest { head: self.head.clone(), parent, name: name.into() };
        Ok(read::lookup(&self.table, &request)?)
    }

    pub(crate) fn getattr(&self, ino: u64) -> Result<Attr, WireError> {
        Ok(read::getattr(&self.table, VOLUME, ino)?)
    }

    /// Names of a directory in cookie order, in pages of `limit`.
    pub(crate) fn list(&self, ino: u64, limit: u32) -> Result<Vec<proto::mrc::DirEntry>, WireError> {
        let mut entries: Vec<proto::mrc::DirEntry> = Vec::new();
        loop {
            let after = entries.last().map_or(0, |entry| entry.cookie);
            let request = ReadDirRequest { head: self.head.clone(), ino, after, limit, with_attrs: true };
            let page = read::readdir(&self.table, &request)?;
            assert!(page.entries.len() <= limit as usize);
            entries.extend(page.entries);
            if page.end {
                return Ok(entries);
            }
        }
    }
}
