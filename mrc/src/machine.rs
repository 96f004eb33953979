//! The replicated state machine: a command in, changes of the table and an answer out.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use proto::mrc::AttrReply;
use proto::rpc::Empty;
use quorum::{Applied, StateMachine};
use rt::table::Txn;

use crate::command::{self, Body, Command, CreateDone, DropDone};
use crate::namespace::{
    Broken, Fail, Outcome, collect, inode::Inode, link, locks, make, rename, session, setattr, time_of,
    volume, xattr,
};

/// Told when this member starts or stops leading.
pub trait Leading: Send + Sync + 'static {
    /// See [`StateMachine::leadership`].
    fn leadership(&self, leading: bool, term: u64);
}

/// See the module.
#[derive(Default)]
pub struct Machine {
    leading: Option<Arc<dyn Leading>>,
}

impl Machine {
    /// A machine that tells nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A machine that tells `leading` of leadership.
    #[must_use]
    pub fn with_leading(leading: Arc<dyn Leading>) -> Self {
        Self { leading: Some(leading) }
    }
}

impl StateMachine for Machine {
    fn apply(&self, txn: &mut Txn<'_>, at: Applied, command: &[u8]) -> rt::table::Result<Bytes> {
        txn.savepoint();
        let result = match Command::parse(command) {
            Ok(body) => run(txn, at, &body),
            // Skipping what the others apply would make this replica differ from them: it stops instead.
            Err(error) => Err(Fail::Broken(Broken { table: "metadata log".into(), cause: error.text })),
        };
        match result {
            Ok(reply) => Ok(command::answer(Ok(reply))),
            Err(Fail::Refused(error)) => {
                txn.rollback();
                Ok(command::answer(Err(error)))
            }
            Err(Fail::Broken(broken)) => Err(broken.into()),
        }
    }

    fn leadership(&self, leading: bool, term: u64) {
        if let Some(told) = &self.leading {
            told.leadership(leading, term);
        }
    }
}

/// Runs one command and gives its reply message's bytes.
fn run(txn: &mut Txn<'_>, at: Applied, body: &Body) -> Outcome<Vec<u8>> {
    let now = time_of(at);
    let empty = |(): ()| Empty {}.encode_to_vec();
    let attr = |attr| AttrReply { attr, leases: Vec::new() }.encode_to_vec();
    let made = |inode: Inode| attr(inode.attr);
    match body {
        Body::InitVolume(request) => volume::init(txn, now, request).map(empty),
        Body::DropVolume(request) => volume::start_drop(txn, request.volume).map(empty),
        Body::DropStep(step) => volume::drop_step(txn, step.volume, step.limit)
            .map(|finished| DropDone { finished }.encode_to_vec()),
        Body::Make(make) => make::make(txn, now, &make.request, make.layout.as_ref()).map(made),
        Body::Create(create) => {
            let request = &create.request;
            let done =
                make::create(txn, now, &request.make, &create.layout, request.exclusive, request.write)?;
            let layout = if done.created { create.layout.clone() } else { done.inode.layout()? };
            Ok(CreateDone { attr: done.inode.attr, layout, created: done.created }.encode_to_vec())
        }
        Body::Unlink(remove) => link::unlink(txn, now, &remove.request, remove.closed).map(empty),
        Body::RmDir(request) => link::rmdir(txn, now, request).map(empty),
        Body::Link(request) => link::link(txn, now, request).map(made),
        Body::Rename(rename) => rename::rename(txn, now, &rename.request, rename.closed).map(empty),
        Body::SetAttr(request) => setattr::setattr(txn, now, request).map(attr),
        Body::WriteDone(request) => setattr::report_write(txn, now, request).map(attr),
        Body::SetXattr(request) => xattr::set(txn, now, request).map(empty),
        Body::Lock(request) => locks::change(txn, request).map(|reply| reply.encode_to_vec()),
        Body::Reap(which) => collect::reap(txn, which.volume, which.ino).map(empty),
        Body::Removed(removed) => {
            collect::forget_garbage(txn, removed.volume, &removed.inos);
            Ok(empty(()))
        }
        Body::SessionBegin(begin) => {
            session::open(txn, now, begin.session, &begin.client);
            Ok(empty(()))
        }
        Body::SessionEnd(end) => session::end(txn, end.session).map(empty),
    }
}
