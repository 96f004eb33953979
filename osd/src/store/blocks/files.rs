//! A data area over one file of an [`rt::disk::Disk`]: for the simulated disk.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use proto::limits::BLOCK_BYTES;
use rt::disk::{Disk, DiskFile};
use rt::rpc::BoxFuture;

use super::{AlignedBuf, BlockIo, Hold};

/// See the module.
pub(crate) struct FileBlocks {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
}

impl FileBlocks {
    pub(crate) fn open(disk: Arc<dyn Disk>, name: &str) -> io::Result<Arc<Self>> {
        let file = disk.open(name, true)?;
        Ok(Arc::new(Self { disk, file }))
    }
}

impl BlockIo for FileBlocks {
    fn read(&self, start: u64, count: u32) -> BoxFuture<'_, io::Result<AlignedBuf>> {
        Box::pin(async move {
            yield_once().await;
            let mut buf = AlignedBuf::new(count as usize);
            self.file.read_at(&mut buf, start * BLOCK_BYTES as u64)?;
            Ok(buf)
        })
    }

    fn write(&self, start: u64, data: Bytes, hold: Hold) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            yield_once().await;
            let done = self.file.write_at(&data, start * BLOCK_BYTES as u64);
            drop(hold);
            done
        })
    }

    fn grow(&self, total: u64) -> io::Result<()> {
        self.file.set_len(total * BLOCK_BYTES as u64)?;
        // The length must outlive the machine before any block beyond the old one is used.
        self.file.sync()?;
        self.disk.sync_dir()
    }

    fn total(&self) -> io::Result<u64> {
        Ok(self.file.len()? / BLOCK_BYTES as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Lets others run between a call and its answer, as a real disk does.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
