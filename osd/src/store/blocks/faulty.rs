//! A data area with the faults of [`rt::disk::fault`], for tests.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use proto::limits::BLOCK_BYTES;
use rt::disk::fault::Faults;
use rt::rpc::BoxFuture;
use tokio::sync::oneshot;

use super::{AlignedBuf, BlockIo, Hold};

/// See the module.
pub(crate) struct FaultyBlocks {
    blocks: Arc<dyn BlockIo>,
    faults: Arc<Faults>,
}

impl FaultyBlocks {
    /// `blocks`, with these faults.
    pub(crate) fn over(blocks: Arc<dyn BlockIo>, faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self { blocks, faults })
    }

    /// A thread sleeps: whoever waits may run on any executor. There are as many of them as requests, which have a bound.
    async fn pause(&self) {
        let delay = self.faults.delay();
        if delay.is_zero() {
            return;
        }
        let (over, wait) = oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            // Nobody waits any more: nothing is lost.
            let _ = over.send(());
        });
        let _ = wait.await;
    }
}

impl BlockIo for FaultyBlocks {
    fn read(&self, start: u64, count: u32) -> BoxFuture<'_, io::Result<AlignedBuf>> {
        Box::pin(async move {
            self.pause().await;
            self.blocks.read(start, count).await
        })
    }

    fn write(&self, start: u64, data: Bytes, hold: Hold) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.pause().await;
            self.blocks.write(start, data, hold).await
        })
    }

    fn grow(&self, total: u64) -> io::Result<()> {
        let missing = total.saturating_sub(self.blocks.total()?) * BLOCK_BYTES as u64;
        self.faults.take(missing)?;
        self.blocks.grow(total).inspect_err(|_| self.faults.give_back(missing))
    }

    fn total(&self) -> io::Result<u64> {
        self.blocks.total()
    }

    fn sync(&self) -> io::Result<()> {
        let delay = self.faults.delay();
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        self.blocks.sync()
    }
}
