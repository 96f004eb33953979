//! The data area of a shard: a linear space of blocks over preallocated files, read and written in whole blocks.

pub(crate) mod aligned;
pub(crate) mod direct;
pub(crate) mod faulty;
#[cfg(test)]
pub(crate) mod files;
mod job;
mod ring;

use std::io;

use bytes::Bytes;
use rt::rpc::BoxFuture;

pub(crate) use aligned::AlignedBuf;

/// Reads and writes whole blocks of a shard's data area.
///
/// A write that answered survives the death of the process; the loss of the machine only after `sync`.
pub(crate) trait BlockIo: Send + Sync + 'static {
    /// Reads `count` blocks from block `start` on.
    fn read(&self, start: u64, count: u32) -> BoxFuture<'_, io::Result<AlignedBuf>>;
    /// Writes whole blocks from `start` on. `hold` is dropped when the medium is done with it, also when the
    /// caller no longer waits: what it guards is not reused before.
    fn write(&self, start: u64, data: Bytes, hold: Hold) -> BoxFuture<'_, io::Result<()>>;
    /// Makes room for blocks up to `total`; blocks that run over file borders are the callee's business.
    fn grow(&self, total: u64) -> io::Result<()>;
    /// Blocks there is room for.
    fn total(&self) -> io::Result<u64>;
    /// Everything written before is on the medium.
    fn sync(&self) -> io::Result<()>;
}

/// Something kept alive as long as an I/O runs.
pub(crate) type Hold = std::sync::Arc<dyn std::any::Any + Send + Sync>;
