//! One operation per file: parse the request, answer from the table or propose a command.

use bytes::Bytes;
use prost::Message;
use proto::error::WireError;
use proto::mrc::ChangeReply;
use rt::rpc::Response;

use crate::engine::sessions::FileId;
use crate::namespace::inode;
use crate::service::Mrc;

/// Leases of an inode that its removal freed are over. One that nobody had open may live on under another name: then its
/// leases do, too. Gives the answer, which says so: who removed it need not tell of them any more.
fn forget_freed(mrc: &Mrc, file: FileId, answer: Bytes) -> Result<Response, WireError> {
    let mut message = answer;
    let freed = freed(mrc, file)?;
    if freed != 0 {
        let freed = ChangeReply { changed: Vec::new(), freed };
        // Two encoded messages one after the other are one with the fields of both.
        message = [&message[..], &freed.encode_to_vec()].concat().into();
    }
    Ok(Response { message, payload: Bytes::new() })
}

/// Likewise; gives its number, or 0 when it exists or there was none to free.
fn freed(mrc: &Mrc, file: FileId) -> Result<u64, WireError> {
    if file.1 == 0 || inode::find(mrc.table(), file.0, file.1)?.is_some() {
        return Ok(0);
    }
    mrc.leader().leasing().with(|engine, now| engine.forget(now, file));
    Ok(file.1)
}

/// How often an operation decides anew when names change between its decision and its command.
const DECISIONS: usize = 16;

pub(crate) mod access;
pub(crate) mod acquire_lease;
pub(crate) mod await_recalls;
pub(crate) mod changes;
pub(crate) mod close;
pub(crate) mod coding;
pub(crate) mod collect_lost;
pub(crate) mod create;
pub(crate) mod create_many;
pub(crate) mod dump;
pub(crate) mod find;
pub(crate) mod fsck;
pub(crate) mod getattr;
pub(crate) mod getxattr;
pub(crate) mod hold_many;
pub(crate) mod layout;
pub(crate) mod layout_default;
pub(crate) mod link;
pub(crate) mod listxattr;
pub(crate) mod lock;
pub(crate) mod lookup;
pub(crate) mod mkdir;
pub(crate) mod mknod;
pub(crate) mod open;
pub(crate) mod past;
pub(crate) mod quota_list;
pub(crate) mod quota_set;
pub(crate) mod readdir;
pub(crate) mod readlink;
pub(crate) mod rename;
pub(crate) mod replicas;
pub(crate) mod return_leases;
pub(crate) mod rmdir;
pub(crate) mod session_close;
pub(crate) mod session_open;
pub(crate) mod session_renew;
pub(crate) mod setattr;
pub(crate) mod setxattr;
pub(crate) mod snapshot;
pub(crate) mod statfs;
pub(crate) mod symlink;
pub(crate) mod sync;
pub(crate) mod tell_locks;
pub(crate) mod tmpfile;
pub(crate) mod trash;
pub(crate) mod unlink;
pub(crate) mod usage;
pub(crate) mod volume_drop;
pub(crate) mod volume_init;
pub(crate) mod walk;
pub(crate) mod write_done;
