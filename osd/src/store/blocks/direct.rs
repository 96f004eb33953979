//! The real data area: preallocated files, O_DIRECT, one ring (or a few threads) per shard.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use proto::limits::BLOCK_BYTES;
use rt::rpc::BoxFuture;
use tokio::sync::{Semaphore, oneshot};

use super::job::{Job, Memory, Queue};
use super::{AlignedBuf, BlockIo, Hold, ring};

/// Blocks of one file: a file is at most 1 TiB long.
pub(crate) const FILE_BLOCKS: u64 = 1 << 28;

struct DataFile {
    file: Arc<File>,
    /// Blocks there is room for.
    blocks: u64,
    /// Written since the last sync.
    dirty: Arc<AtomicBool>,
}

/// See the module.
pub(crate) struct DirectBlocks {
    dir: PathBuf,
    shard: u16,
    file_blocks: u64,
    /// order: never held over an I/O; `grow` is called under the shard's lock.
    files: RwLock<Vec<DataFile>>,
    queue: Arc<Queue>,
    slots: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl DirectBlocks {
    /// Opens the data files of a shard. At most `depth` I/Os run at the same time.
    pub(crate) fn open(
        dir: &Path,
        shard: u16,
        depth: usize,
        file_blocks: u64,
        io_uring: bool,
    ) -> io::Result<Arc<Self>> {
        let mut files = Vec::new();
        while let Some(file) = open_file(&file_path(dir, shard, files.len()), false)? {
            let blocks = file.metadata()?.len() / BLOCK_BYTES as u64;
            files.push(DataFile { file: Arc::new(file), blocks, dirty: Arc::new(AtomicBool::new(true)) });
        }
        let queue = Arc::new(Queue::new()?);
        let threads = ring::start(&format!("osd-{shard}"), &queue, depth, io_uring)?;
        Ok(Arc::new(Self {
            dir: dir.to_path_buf(),
            shard,
            file_blocks,
            files: RwLock::new(files),
            queue,
            slots: Arc::new(Semaphore::new(depth)),
            threads: Mutex::new(threads),
        }))
    }

    /// Cuts a range at file borders: (file, byte in it, blocks).
    fn locate(
        &self,
        mut start: u64,
        mut count: u64,
        write: bool,
    ) -> io::Result<Vec<(Arc<File>, u64, usize)>> {
        let files = self.files.read();
        let mut parts = Vec::with_capacity(1);
        while count > 0 {
            let (index, within) = ((start / self.file_blocks) as usize, start % self.file_blocks);
            let here = count.min(self.file_blocks - within);
            let file = files.get(index).filter(|file| within + here <= file.blocks).ok_or_else(|| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the data files")
            })?;
            if write {
                file.dirty.store(true, Ordering::Release);
            }
            parts.push((file.file.clone(), within * BLOCK_BYTES as u64, here as usize));
            (start, count) = (start + here, count - here);
        }
        Ok(parts)
    }

    async fn run(
        &self,
        file: Arc<File>,
        offset: u64,
        memory: Memory,
        hold: Option<Hold>,
    ) -> io::Result<Memory> {
        let slot = self.slots.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (reply, answer) = oneshot::channel();
        self.queue.push(Job { file, offset, memory, done: 0, reply, _hold: hold, _slot: slot });
        let (result, memory) =
            answer.await.map_err(|_| io::Error::other("the I/O thread of the shard ended"))?;
        result.map(|()| memory)
    }

    async fn read_part(&self, (file, offset, blocks): (Arc<File>, u64, usize)) -> io::Result<AlignedBuf> {
        match self.run(file, offset, Memory::Read(AlignedBuf::new(blocks)), None).await? {
            Memory::Read(buf) => Ok(buf),
            Memory::Write(_) => Err(io::Error::other("a read was answered with a write")),
        }
    }
}

/// The path of a data file.
pub(crate) fn file_path(dir: &Path, shard: u16, index: usize) -> PathBuf {
    dir.join(format!("shard-{shard:02}.data-{index:04}"))
}

/// Opens with O_DIRECT, or without where the file system refuses it.
fn open_file(path: &Path, create: bool) -> io::Result<Option<File>> {
    let open = |flags: i32| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .custom_flags(flags)
            .open(path)
    };
    match open(libc::O_DIRECT).or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => open(0),
        _ => Err(error),
    }) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl BlockIo for DirectBlocks {
    fn read(&self, start: u64, count: u32) -> BoxFuture<'_, io::Result<AlignedBuf>> {
        Box::pin(async move {
            let mut parts = self.locate(start, u64::from(count), false)?;
            if let (1, Some(part)) = (parts.len(), parts.pop()) {
                return self.read_part(part).await;
            }
            let parts = self.locate(start, u64::from(count), false)?;
            let mut whole = AlignedBuf::new(count as usize);
            let mut at = 0;
            for buf in
                futures::future::try_join_all(parts.into_iter().map(|part| self.read_part(part))).await?
            {
                whole[at..at + buf.len()].copy_from_slice(&buf);
                at += buf.len();
            }
            Ok(whole)
        })
    }

    fn write(&self, start: u64, data: Bytes, hold: Hold) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let data = AlignedBuf::align(data);
            let mut at = 0;
            let mut writes = Vec::with_capacity(1);
            for (file, offset, blocks) in self.locate(start, (data.len() / BLOCK_BYTES) as u64, true)? {
                let part = data.slice(at..at + blocks * BLOCK_BYTES);
                at += part.len();
                writes.push(self.run(file, offset, Memory::Write(part), Some(hold.clone())));
            }
            futures::future::try_join_all(writes).await.map(drop)
        })
    }

    fn grow(&self, total: u64) -> io::Result<()> {
        let mut files = self.files.write();
        loop {
            let (index, have) = match files.last() {
                Some(last) if last.blocks < self.file_blocks => (files.len() - 1, last.blocks),
                _ => (files.len(), 0),
            };
            let before = index as u64 * self.file_blocks;
            if before + have >= total {
                return Ok(());
            }
            let wanted = (total - before).min(self.file_blocks);
            if index == files.len() {
                let file = open_file(&file_path(&self.dir, self.shard, index), true)?
                    .ok_or_else(|| io::Error::other("a file that was just made is not there"))?;
                File::open(&self.dir)?.sync_all()?;
                files.push(DataFile {
                    file: Arc::new(file),
                    blocks: 0,
                    dirty: Arc::new(AtomicBool::new(true)),
                });
            }
            let entry = &mut files[index];
            rt::disk::os::allocate(
                &entry.file,
                have * BLOCK_BYTES as u64,
                (wanted - have) * BLOCK_BYTES as u64,
            )?;
            entry.blocks = wanted;
            entry.dirty.store(true, Ordering::Release);
        }
    }

    fn total(&self) -> io::Result<u64> {
        Ok(self.files.read().iter().map(|file| file.blocks).sum())
    }

    fn sync(&self) -> io::Result<()> {
        let dirty: Vec<(Arc<File>, Arc<AtomicBool>)> =
            self.files.read().iter().map(|file| (file.file.clone(), file.dirty.clone())).collect();
        for (file, dirty) in dirty {
            if dirty.swap(false, Ordering::AcqRel) {
                file.sync_data()?;
            }
        }
        Ok(())
    }
}

impl Drop for DirectBlocks {
    fn drop(&mut self) {
        self.queue.stop();
        for thread in self.threads.lock().drain(..) {
            // The last owner may be the thread itself, through what a job held.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn pattern(blocks: usize, salt: usize) -> Bytes {
        Bytes::from((0..blocks * BLOCK_BYTES).map(|byte| (byte / 9 + salt) as u8).collect::<Vec<u8>>())
    }

    /// Many at once, over file borders, unaligned memory, reopened.
    #[test]
    fn reads_what_was_written() {
        for io_uring in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            write_and_read(dir.path(), io_uring);
        }
    }

    fn write_and_read(dir: &Path, with_ring: bool) {
        let hold = || -> Hold { Arc::new(()) };
        for round in 0..2 {
            let area = DirectBlocks::open(dir, 3, 4, 64, with_ring).unwrap();
            let ring_allowed = io_uring::IoUring::new(2).is_ok();
            assert_eq!(area.threads.lock().len() == 1, with_ring && ring_allowed);
            if round == 0 {
                assert_eq!(area.total().unwrap(), 0);
                area.grow(40).unwrap();
                area.grow(200).unwrap();
            }
            assert_eq!(area.total().unwrap(), 200);
            if round == 0 {
                let writes =
                    (0..20).map(|n| area.write(n * 10, pattern(11, n as usize).slice(4096..), hold()));
                block_on(futures::future::try_join_all(writes)).unwrap();
                area.sync().unwrap();
            }
            let reads = (0..20).map(|n| area.read(n * 10, 10));
            for (n, buf) in block_on(futures::future::try_join_all(reads)).unwrap().iter().enumerate() {
                assert_eq!(buf[..], pattern(11, n)[4096..], "round {round} read {n}");
            }
            assert!(block_on(area.read(195, 10)).is_err());
            assert!(block_on(area.write(200, pattern(1, 0), hold())).is_err());
        }
    }

    /// A write whose caller went away is finished, and holds its blocks until then.
    #[test]
    fn abandoned_writes_end() {
        let dir = tempfile::tempdir().unwrap();
        let area = DirectBlocks::open(dir.path(), 0, 2, 64, true).unwrap();
        area.grow(64).unwrap();
        let held = Arc::new(());
        for n in 0..8 {
            let mut write = area.write(n * 8, pattern(8, 5), held.clone());
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = write.as_mut().poll(&mut context);
        }
        // Slots are given back, so later I/O is not stuck.
        assert_eq!(block_on(area.read(0, 8)).unwrap()[..], pattern(8, 5)[..]);
        drop(area);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
