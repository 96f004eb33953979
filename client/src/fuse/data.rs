//! Data of files: open, create, read, write, flush, release, sync, space.

use std::sync::Arc;

use bytes::Bytes;
use fuser::FopenFlags;
use proto::mrc::Attr;

use super::door::Shared;
use super::inside;
use crate::config::Creds;
use crate::error::{Code, Error, Result};
use crate::file::File;
use crate::volume::attrs::Changes;
use crate::volume::open::CreateOptions;

/// A handle for the kernel.
pub(super) struct Opened {
    pub(super) handle: u64,
    pub(super) flags: FopenFlags,
}

/// What to create.
pub(super) struct NewFile {
    pub(super) parent: u64,
    pub(super) name: Vec<u8>,
    pub(super) mode: u32,
    pub(super) flags: i32,
    pub(super) clear_setid: bool,
}

/// `fallocate` modes that are understood.
const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE;
const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE;

fn wants_write(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY
}

impl Shared {
    pub(super) async fn open(&self, creds: Creds, ino: u64, flags: i32, clear_setid: bool) -> Result<Opened> {
        if inside::is_inside(ino) {
            let flags = FopenFlags::FOPEN_DIRECT_IO;
            return Ok(Opened { handle: 0, flags });
        }
        let file = self.volume.open(&creds, ino, wants_write(flags)).await?;
        if flags & libc::O_TRUNC != 0 {
            let changes = Changes { clear_setid, ..Changes::default() };
            file.inode().resize(&creds, 0, changes).await?;
        }
        Ok(self.opened(file))
    }

    pub(super) async fn create(&self, creds: Creds, new: NewFile) -> Result<(Attr, Opened)> {
        let exclusive = new.flags & libc::O_EXCL != 0;
        // A new file is writable by its maker whatever its mode; a capability for it costs nothing.
        let options = CreateOptions { mode: new.mode, exclusive, write: wants_write(new.flags) };
        let made = self.volume.create(&creds, new.parent, &new.name, options).await?;
        let attr = if !made.created && new.flags & libc::O_TRUNC != 0 {
            let changes = Changes { clear_setid: new.clear_setid, ..Changes::default() };
            made.file.inode().resize(&creds, 0, changes).await?
        } else {
            made.attr
        };
        Ok((attr, self.opened(made.file)))
    }

    fn opened(&self, file: Arc<File>) -> Opened {
        let keep = self.handles.is_unchanged(file.ino(), file.inode().change());
        let flags = if keep { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
        Opened { handle: self.handles.insert(file), flags }
    }

    pub(super) async fn read(
        &self,
        creds: Creds,
        ino: u64,
        handle: u64,
        offset: u64,
        len: u32,
        flags: i32,
    ) -> Result<Bytes> {
        if inside::is_inside(ino) {
            let text = Bytes::from(inside::text(self, ino, &creds)?);
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
            return Ok(text.slice(from..(from + len as usize).min(text.len())));
        }
        let file = self.file(&creds, ino, handle).await?;
        let len = len as usize;
        // The kernel has just asked for the size, except before direct reads.
        let data = if flags & libc::O_DIRECT != 0 {
            file.read_at(offset, len).await?
        } else {
            file.inode().flush_buffer().await;
            file.read_known(offset, len).await?
        };
        self.record.bytes(data.len() as u64, 0);
        Ok(data)
    }

    #[allow(clippy::too_many_arguments, reason = "what the kernel says about a write")]
    pub(super) async fn write(
        &self,
        creds: Creds,
        ino: u64,
        handle: u64,
        offset: u64,
        data: Bytes,
        flags: i32,
        clear_setid: bool,
    ) -> Result<u32> {
        let file = self.file(&creds, ino, handle).await?;
        let len = u32::try_from(data.len()).expect("bounded by max_write");
        let sync = flags & (libc::O_SYNC | libc::O_DSYNC) != 0;
        if self.options.writeback && !sync && flags & libc::O_DIRECT == 0 && !clear_setid {
            file.write_buffered(offset, &data).await?;
        } else {
            file.write_for_kernel(offset, data, sync, clear_setid).await?;
        }
        self.record.bytes(0, u64::from(len));
        Ok(len)
    }

    /// `close(2)` of one descriptor.
    pub(super) async fn flush(&self, creds: Creds, ino: u64, handle: u64, owner: u64) -> Result<()> {
        if inside::is_inside(ino) {
            return Ok(());
        }
        self.unlock_all(&creds, ino, owner, false).await?;
        // A handle of an earlier process is re-opened even for this: its size may be unreported.
        self.file(&creds, ino, handle).await?.flush().await
    }

    /// The last descriptor is closed.
    pub(super) async fn release(
        &self,
        creds: Creds,
        ino: u64,
        handle: u64,
        flock: Option<u64>,
    ) -> Result<()> {
        if inside::is_inside(ino) {
            return Ok(());
        }
        if let Some(owner) = flock {
            self.unlock_all(&creds, ino, owner, true).await?;
        }
        let file = self.file(&creds, ino, handle).await?;
        self.handles.remove(handle);
        let closed = file.close().await;
        self.handles.saw(ino, file.inode().change());
        closed
    }

    pub(super) async fn fsync(&self, creds: Creds, ino: u64, handle: u64) -> Result<()> {
        if inside::is_inside(ino) {
            return Ok(());
        }
        self.file(&creds, ino, handle).await?.fsync().await
    }

    pub(super) async fn fallocate(
        &self,
        creds: Creds,
        ino: u64,
        handle: u64,
        offset: u64,
        len: u64,
        mode: i32,
    ) -> Result<()> {
        let file = self.file(&creds, ino, handle).await?;
        let keep_size = mode & KEEP_SIZE != 0;
        match mode & !KEEP_SIZE {
            0 => file.allocate(offset, len, keep_size).await,
            PUNCH_HOLE if keep_size => file.punch(offset, len).await,
            ZERO_RANGE => file.zero(offset, len, keep_size).await,
            other => Err(Error::new(
                Code::NotSupported,
                format!("fallocate mode {other:#x} is not supported on ino-{ino}"),
            )),
        }
    }

    /// The place of the next data or hole; `None` when there is none (`ENXIO`).
    pub(super) async fn lseek(
        &self,
        creds: Creds,
        ino: u64,
        handle: u64,
        offset: i64,
        whence: i32,
    ) -> Result<Option<i64>> {
        let file = self.file(&creds, ino, handle).await?;
        let Ok(from) = u64::try_from(offset) else { return Ok(None) };
        let found = match whence {
            libc::SEEK_DATA => file.seek_data(from).await?,
            libc::SEEK_HOLE => file.seek_hole(from).await?,
            other => return Err(Error::new(Code::InvalidArgument, format!("lseek whence {other}"))),
        };
        Ok(found.and_then(|at| i64::try_from(at).ok()))
    }

    pub(super) async fn copy(
        &self,
        creds: Creds,
        from: (u64, u64, u64),
        to: (u64, u64, u64),
        len: u64,
    ) -> Result<u32> {
        let source = self.file(&creds, from.0, from.1).await?;
        let target = self.file(&creds, to.0, to.1).await?;
        // One call is bounded; the caller asks again for the rest.
        let len = len.min(64 << 20);
        let copied = target.copy_from(&source, from.2, to.2, len).await?;
        Ok(u32::try_from(copied).expect("bounded above"))
    }
}
