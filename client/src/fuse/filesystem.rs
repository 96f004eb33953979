//! The callbacks, one per opcode: take the arguments along, run the operation, turn its result into the reply.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::convert::{BLOCK_SIZE, file_attr, new_time};
use super::data::NewFile;
use super::dirs::{GENERATION, reply_plain, reply_plus};
use super::door::{Door, NAME_TTL, attr_ttl, outside};
use super::flags::Asked;
use super::locks::{Wanted, kernel_kind};
use super::mount::{READAHEAD_KIB, REQUEST_BYTES};
use super::record::Op;
use super::{inside, raw};
use crate::volume::attrs::Changes;
use crate::volume::names::Move;

/// Background requests (read-ahead, asynchronous direct I/O) under way.
const BACKGROUND: u16 = 64;

impl Filesystem for Door {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_POSIX_LOCKS,
            InitFlags::FUSE_FLOCK_LOCKS,
            // Pages go when mtime or size change: right as long as others may write without telling us.
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            // The kernel then tells who loses setuid, instead of asking for a capability xattr at each write.
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_HAS_IOCTL_DIR,
        ];
        for flag in wanted {
            // A kernel without one of them works too, only less well.
            if let Err(missing) = config.add_capabilities(flag) {
                tracing::debug!(?missing, "the kernel lacks a FUSE capability");
            }
        }
        let _ = config.set_max_write(REQUEST_BYTES);
        if let Err(most) = config.set_max_readahead(READAHEAD_KIB << 10) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (shared, creds, name) = (self.shared.clone(), self.creds(request), name.as_bytes().to_vec());
        let work = async move { shared.lookup(creds, parent.0, name).await };
        self.run(Op::lookup, parent.0, request, reply, work, |reply, attr| {
            reply.entry_with_ttls(&attr_ttl(&attr), &NAME_TTL, &attr, GENERATION)
        });
    }

    fn getattr(&self, request: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move {
            if inside::is_inside(ino.0) {
                return Ok(inside::attr(&shared, ino.0));
            }
            shared.getattr(&creds, ino.0, handle.map(|handle| handle.0)).await.map(|attr| file_attr(&attr))
        };
        self.run(Op::getattr, ino.0, request, reply, work, |reply, attr| reply.attr(&attr_ttl(&attr), &attr));
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let changes = Changes {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(new_time),
            mtime: mtime.map(new_time),
            flags: None,
            clear_setid: raw::setattr_clears_setid(request),
        };
        let work = async move {
            outside(ino.0)?;
            let attr = if changes == Changes::default() {
                shared.volume.getattr(&creds, ino.0).await?
            } else {
                shared.volume.setattr(&creds, ino.0, changes).await?
            };
            Ok(file_attr(&attr))
        };
        self.run(Op::setattr, ino.0, request, reply, work, |reply, attr| reply.attr(&attr_ttl(&attr), &attr));
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move { shared.volume.readlink(&creds, ino.0).await };
        self.run(Op::readlink, ino.0, request, reply, work, |reply, target| reply.data(&target));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (shared, creds, name) = (self.shared.clone(), self.creds(request), name.as_bytes().to_vec());
        let work = async move {
            outside(parent.0)?;
            shared.volume.mknod(&creds, parent.0, &name, mode, rdev).await.map(|attr| file_attr(&attr))
        };
        self.run(Op::mknod, parent.0, request, reply, work, |reply, attr| {
            reply.entry_with_ttls(&attr_ttl(&attr), &NAME_TTL, &attr, GENERATION)
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (shared, creds, name) = (self.shared.clone(), self.creds(request), name.as_bytes().to_vec());
        let work = async move {
            outside(parent.0)?;
            shared.volume.mkdir(&creds, parent.0, &name, mode).await.map(|attr| file_attr(&attr))
        };
        self.run(Op::mkdir, parent.0, request, reply, work, |reply, attr| {
            reply.entry_with_ttls(&attr_ttl(&attr), &NAME_TTL, &attr, GENERATION)
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (shared, creds, name) = (self.shared.clone(), self.creds(request), name.as_bytes().to_vec());
        let work = async move {
            outside(parent.0)?;
            shared.volume.unlink(&creds, parent.0, &name).await
        };
        self.run(Op::unlink, parent.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (shared, creds, name) = (self.shared.clone(), self.creds(request), name.as_bytes().to_vec());
        let work = async move {
            outside(parent.0)?;
            shared.volume.rmdir(&creds, parent.0, &name).await
        };
        self.run(Op::rmdir, parent.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (shared, creds, name) = (self.shared.clone(), self.creds(request), name.as_bytes().to_vec());
        let target = target.as_os_str().as_bytes().to_vec();
        let work = async move {
            outside(parent.0)?;
            shared.volume.symlink(&creds, parent.0, &name, &target).await.map(|attr| file_attr(&attr))
        };
        self.run(Op::symlink, parent.0, request, reply, work, |reply, attr| {
            reply.entry_with_ttls(&attr_ttl(&attr), &NAME_TTL, &attr, GENERATION)
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let (name, new_name) = (name.as_bytes().to_vec(), new_name.as_bytes().to_vec());
        let work = async move {
            outside(parent.0)?;
            outside(new_parent.0)?;
            let what = Move {
                parent: parent.0,
                name: &name,
                new_parent: new_parent.0,
                new_name: &new_name,
                flags: flags.bits(),
                only_if_no_writer: false,
            };
            shared.volume.rename(&creds, what).await
        };
        self.run(Op::rename, parent.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn link(
        &self,
        request: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let (shared, creds, name) = (self.shared.clone(), self.creds(request), new_name.as_bytes().to_vec());
        let work = async move {
            outside(ino.0)?;
            outside(new_parent.0)?;
            shared.volume.link(&creds, ino.0, new_parent.0, &name).await.map(|attr| file_attr(&attr))
        };
        self.run(Op::link, ino.0, request, reply, work, |reply, attr| {
            reply.entry_with_ttls(&attr_ttl(&attr), &NAME_TTL, &attr, GENERATION)
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let clear_setid = raw::open_clears_setid(request);
        let work = async move { shared.open(creds, ino.0, flags.0, clear_setid).await };
        self.run(Op::open, ino.0, request, reply, work, |reply, opened| {
            reply.opened(FileHandle(opened.handle), opened.flags);
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let clear_setid = raw::create_clears_setid(request);
        let new = NewFile { parent: parent.0, name: name.as_bytes().to_vec(), mode, flags, clear_setid };
        let work = async move {
            outside(new.parent)?;
            shared.create(creds, new).await
        };
        self.run(Op::create, parent.0, request, reply, work, |reply, (attr, opened)| {
            reply.created(&NAME_TTL, &file_attr(&attr), GENERATION, FileHandle(opened.handle), opened.flags);
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move { shared.read(creds, ino.0, handle.0, offset, size, flags.0).await };
        self.run(Op::read, ino.0, request, reply, work, |reply, data| reply.data(&data));
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (shared, creds, data) = (self.shared.clone(), self.creds(request), Bytes::copy_from_slice(data));
        let clear_setid = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let work = async move {
            outside(ino.0)?;
            shared.write(creds, ino.0, handle.0, offset, data, flags.0, clear_setid).await
        };
        self.run(Op::write, ino.0, request, reply, work, |reply, written| reply.written(written));
    }

    fn flush(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move { shared.flush(creds, ino.0, handle.0, owner.0).await };
        self.run(Op::flush, ino.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn release(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let flock = owner.map(|owner| owner.0);
        let work = async move { shared.release(creds, ino.0, handle.0, flock).await };
        self.run(Op::release, ino.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn fsync(&self, request: &Request, ino: INodeNo, handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move { shared.fsync(creds, ino.0, handle.0).await };
        self.run(Op::fsync, ino.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let (shared, creds, bytes) = (self.shared.clone(), self.creds(request), raw::readdir_bytes(request));
        let work = async move { shared.list(creds, ino.0, offset, bytes, false).await };
        self.run(Op::readdir, ino.0, request, reply, work, reply_plain);
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let (shared, creds, bytes) = (self.shared.clone(), self.creds(request), raw::readdir_bytes(request));
        let work = async move { shared.list(creds, ino.0, offset, bytes, true).await };
        self.run(Op::readdirplus, ino.0, request, reply, work, reply_plus);
    }

    fn fsyncdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move { shared.volume.sync_metadata(&creds).await };
        self.run(Op::fsyncdir, ino.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn statfs(&self, request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let ino = if inside::is_inside(ino.0) { 1 } else { ino.0 };
        let work = async move { shared.volume.statfs(&creds, ino).await };
        self.run(Op::statfs, ino, request, reply, work, |reply, totals| {
            let block = u64::from(BLOCK_SIZE);
            let (total, free) = (totals.total_bytes / block, totals.free_bytes / block);
            // Inodes are rows of a table: as many as there is room for.
            let free_inodes = u64::from(u32::MAX).saturating_sub(totals.inodes);
            let inodes = totals.inodes + free_inodes;
            reply.statfs(total, free, free, inodes, free_inodes, BLOCK_SIZE, 255, BLOCK_SIZE);
        });
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (shared, creds, name) = (self.shared.clone(), self.creds(request), name.as_bytes().to_vec());
        let (value, flags) = (value.to_vec(), flags.cast_unsigned());
        let work = async move {
            outside(ino.0)?;
            shared.setxattr(creds, ino.0, name, Some(value), flags).await
        };
        self.run(Op::setxattr, ino.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (shared, creds, name) = (self.shared.clone(), self.creds(request), name.as_bytes().to_vec());
        let work = async move { shared.getxattr(creds, ino.0, name).await };
        self.run(Op::getxattr, ino.0, request, reply, work, move |reply, value| {
            reply_sized(reply, size, &value)
        });
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move { shared.listxattr(creds, ino.0).await };
        self.run(Op::listxattr, ino.0, request, reply, work, move |reply, names| {
            reply_sized(reply, size, &names)
        });
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (shared, creds, name) = (self.shared.clone(), self.creds(request), name.as_bytes().to_vec());
        let work = async move {
            outside(ino.0)?;
            shared.setxattr(creds, ino.0, name, None, 0).await
        };
        self.run(Op::removexattr, ino.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn access(&self, request: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move {
            if inside::is_inside(ino.0) {
                return Ok(());
            }
            shared.volume.access(&creds, ino.0, mask.bits().cast_unsigned()).await
        };
        self.run(Op::access, ino.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn getlk(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        let (shared, creds, flock) = (self.shared.clone(), self.creds(request), raw::is_flock(request));
        let wanted =
            Wanted { ino: ino.0, owner: owner.0, start, end, kind, pid, flock, thread: request.pid() };
        let work = async move { shared.test_lock(creds, wanted).await };
        self.run(Op::getlk, ino.0, request, reply, work, |reply, found| {
            reply.locked(found.start, found.end, kernel_kind(found.kind), found.pid);
        });
    }

    fn setlk(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let (shared, creds, flock) = (self.shared.clone(), self.creds(request), raw::is_flock(request));
        let wanted =
            Wanted { ino: ino.0, owner: owner.0, start, end, kind, pid, flock, thread: request.pid() };
        let work = async move { shared.set_lock(creds, wanted, sleep).await };
        self.run(Op::setlk, ino.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn ioctl(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        input: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let Some(asked) = Asked::parse(command, input) else { return reply.error(Errno::ENOTTY) };
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move { shared.ioctl(creds, ino.0, asked).await };
        self.run(Op::ioctl, ino.0, request, reply, work, |reply, out| reply.ioctl(0, &out));
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move {
            outside(ino.0)?;
            shared.fallocate(creds, ino.0, handle.0, offset, length, mode).await
        };
        self.run(Op::fallocate, ino.0, request, reply, work, |reply, ()| reply.ok());
    }

    fn lseek(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let work = async move {
            outside(ino.0)?;
            shared.lseek(creds, ino.0, handle.0, offset, whence).await
        };
        self.run(Op::lseek, ino.0, request, reply, work, |reply, found| match found {
            Some(at) => reply.offset(at),
            None => reply.error(Errno::ENXIO),
        });
    }

    fn copy_file_range(
        &self,
        request: &Request,
        ino_in: INodeNo,
        handle_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        handle_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (shared, creds) = (self.shared.clone(), self.creds(request));
        let (from, to) = ((ino_in.0, handle_in.0, offset_in), (ino_out.0, handle_out.0, offset_out));
        let work = async move {
            outside(from.0)?;
            outside(to.0)?;
            shared.copy(creds, from, to, len).await
        };
        self.run(Op::copy_file_range, ino_out.0, request, reply, work, |reply, copied| reply.written(copied));
    }
}

/// Attribute values and name lists: the caller first asks how long they are.
fn reply_sized(reply: ReplyXattr, size: u32, value: &[u8]) {
    let len = u32::try_from(value.len()).expect("bounded by the limits of attributes");
    if size == 0 {
        reply.size(len);
    } else if len > size {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(value);
    }
}
