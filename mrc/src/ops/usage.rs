//! What lies below a directory: one row, and what is still on its way up.

use proto::error::{Code, WireError};
use proto::rpc::Origin;
use proto::usage::{Usage, UsageReply};
use rt::rpc::{Request, Response, parse};

use crate::command::{Body, FoldUsage};
use crate::namespace::{access, inode};
use crate::service::Mrc;
use crate::usage;

/// Folding commands before a reader is sent away.
const FOLDS_MAX: usize = 64;

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<Usage>(&request)?;
    mrc.read(request.deadline).await?;
    let volume = ask.head.volume;
    let inode = inode::get(mrc.table(), volume, ask.ino)?;
    if inode.is_dir() {
        access::require(&inode, &ask.head, access::R | access::X)?;
    }
    for _ in 0..FOLDS_MAX {
        if let Some(sum) = usage::below(mrc.table(), volume, ask.ino)? {
            let count = |number: i64| u64::try_from(number).unwrap_or(0);
            return Ok(Response::of(&UsageReply {
                blocks: count(sum.blocks),
                bytes: count(sum.bytes),
                files: count(sum.files),
                directories: count(sum.directories),
            }));
        }
        let fold = FoldUsage { volume, limit: usage::FOLDS_PER_STEP };
        mrc.propose(Origin::default(), Body::FoldUsage(fold), request.deadline).await?;
    }
    Err(WireError::new(Code::Busy, "more directories change than can be added up; ask again in a second"))
}
