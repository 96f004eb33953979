//! From the kernel's operations to the library: take the arguments along, run it, build the answer.

use std::time::Duration;

use proto::mrc::StatFsReply;

use super::convert::{BLOCK_SIZE, new_time};
use super::data::NewFile;
use super::dirs;
use super::door::{Call, Door, outside};
use super::flags::Asked;
use super::inside;
use super::kernel::answer::{Answer, Known, Opened, Totals};
use super::kernel::operation::{Create, Lock, Operation, SetAttr, Writing};
use super::kernel::responder::Responder;
use super::kernel::session::{Handler, Request};
use super::locks::kernel_kind;
use super::past;
use super::record::Op;
use crate::config::Creds;
use crate::error::Code;
use crate::volume::attrs::Changes;
use crate::volume::names::Move;

/// Set in the number of a request that the kernel sends again.
const RESENT: u64 = 1 << 63;
/// Longest name, bytes.
const NAME_MAX: u32 = 255;

impl Handler for Door {
    #[allow(clippy::too_many_lines, reason = "one arm per operation, each of them short")]
    fn handle(&self, request: Request<'_>, responder: Responder) {
        let (owner, operation) = (request.owner, request.parsed.operation);
        let call = Call::new(request.header, request.parsed.groups, responder);
        if past::is_past(call.ino()) {
            return self.in_past(call, operation);
        }
        match operation {
            Operation::Lookup { name } => self.lookup(call, name),
            Operation::GetAttr { handle } => self.getattr(Op::getattr, call, handle, Answer::attributes),
            Operation::Statx { handle } => self.getattr(Op::statx, call, handle, Answer::statx),
            Operation::SetAttr(what) => self.setattr(call, what),
            Operation::Access { mask } => self.access(call, mask),
            Operation::ReadLink => self.readlink(call),
            Operation::Symlink { name, target } => self.symlink(call, name, target),
            Operation::MkNod { name, mode, rdev, umask } => self.mknod(call, name, (mode, umask), rdev),
            Operation::MkDir { name, mode, umask } => self.mkdir(call, name, (mode, umask)),
            Operation::Unlink { name } => self.unlink(call, name),
            Operation::RmDir { name } => self.rmdir(call, name),
            Operation::Rename { name, new_parent, new_name, flags } => {
                self.rename(call, name, (new_parent, new_name), flags);
            }
            Operation::Link { ino, name } => self.link(call, ino, name),
            Operation::Open { flags, clear_setid } => {
                self.with(Op::open, call, move |shared, creds, ino| async move {
                    shared.open(creds, ino, flags, clear_setid).await.map(Answer::opened)
                });
            }
            Operation::Create(what) => self.create(call, &what),
            Operation::TmpFile(what) => self.tmpfile(call, &what),
            Operation::Read { handle, offset, size, flags } => {
                self.with(Op::read, call, move |shared, creds, ino| async move {
                    shared.read(creds, ino, handle, offset, size, flags).await.map(Answer::data)
                });
            }
            Operation::Write { handle, offset, flags, how, data } => {
                let data = owner.keep(data);
                let how = Writing { resent: call.unique() & RESENT != 0, ..how };
                self.with(Op::write, call, move |shared, creds, ino| async move {
                    outside(ino)?;
                    let written = shared.write(creds, ino, handle, offset, data, flags, how);
                    written.await.map(Answer::number)
                });
            }
            Operation::Flush { handle, owner } => {
                self.with(Op::flush, call, move |shared, creds, ino| async move {
                    shared.flush(creds, ino, handle, owner).await.map(|()| Answer::done())
                });
            }
            Operation::Release { handle, flock } => {
                self.with(Op::release, call, move |shared, creds, ino| async move {
                    shared.release(creds, ino, handle, flock).await.map(|()| Answer::done())
                });
            }
            Operation::Fsync { handle, datasync } => {
                self.with(Op::fsync, call, move |shared, creds, ino| async move {
                    shared.fsync(creds, ino, handle, datasync).await.map(|()| Answer::done())
                });
            }
            // Positions are cookies of the MRC; the handle only remembers where a listing ended.
            Operation::OpenDir => self.open_directory(call),
            Operation::ReleaseDir { handle } => self.release_directory(call, handle),
            Operation::ReadDir { handle, offset, size, with_attrs } => {
                let op = if with_attrs { Op::readdirplus } else { Op::readdir };
                self.shared.listings.over(handle);
                self.with(op, call, move |shared, creds, ino| async move {
                    if shared.ends.is_end(handle, offset) {
                        return Ok(dirs::answer(&dirs::Page::default(), size, with_attrs).0);
                    }
                    if with_attrs {
                        shared.listings.begins(handle, ino);
                    }
                    let page = shared.list(creds, ino, offset, size, with_attrs).await?;
                    let (answer, end) = dirs::answer(&page, size, with_attrs);
                    shared.ends.remember(handle, end);
                    Ok(answer)
                });
            }
            Operation::FsyncDir { .. } => {
                self.with(Op::fsyncdir, call, move |shared, creds, ino| async move {
                    shared.volume.sync_directory(&creds, ino).await.map(|()| Answer::done())
                });
            }
            Operation::StatFs => self.statfs(call),
            Operation::SyncFs => self.with(Op::syncfs, call, move |shared, creds, _| async move {
                shared.volume.sync_all(&creds).await.map(|()| Answer::done())
            }),
            Operation::SetXattr { name, value, flags, clear_setgid } => {
                let (name, value) = (name.to_vec(), value.to_vec());
                self.with(Op::setxattr, call, move |shared, creds, ino| async move {
                    outside(ino)?;
                    let set = shared.setxattr(creds, ino, name, Some(value), (flags, clear_setgid));
                    set.await.map(|()| Answer::done())
                });
            }
            Operation::GetXattr { name, size } => {
                let name = name.to_vec();
                self.with(Op::getxattr, call, move |shared, creds, ino| async move {
                    shared.getxattr(creds, ino, name).await.map(|value| sized(size, value))
                });
            }
            Operation::ListXattr { size } => {
                self.with(Op::listxattr, call, move |shared, creds, ino| async move {
                    shared.listxattr(creds, ino).await.map(|names| sized(size, names))
                });
            }
            Operation::RemoveXattr { name } => {
                let name = name.to_vec();
                self.with(Op::removexattr, call, move |shared, creds, ino| async move {
                    outside(ino)?;
                    shared.setxattr(creds, ino, name, None, (0, false)).await.map(|()| Answer::done())
                });
            }
            Operation::GetLock(lock) => self.getlk(call, lock),
            Operation::SetLock { lock, wait } => {
                let unique = call.unique();
                self.with(Op::setlk, call, move |shared, creds, ino| async move {
                    shared.set_lock(creds, ino, lock, wait, unique).await.map(|()| Answer::done())
                });
            }
            Operation::Ioctl { command, input, out_size } => self.ioctl(call, command, input, out_size),
            // Files are always ready, as poll(2) says of regular ones.
            Operation::Poll { events } => self.poll(call, events),
            // A block number on a local disk: there is none.
            Operation::Bmap => {
                self.with(Op::bmap, call, move |_, _, _| async move { Ok(Answer::error(libc::EINVAL)) });
            }
            Operation::Fallocate { handle, offset, length, mode } => {
                self.with(Op::fallocate, call, move |shared, creds, ino| async move {
                    outside(ino)?;
                    let done = shared.fallocate(creds, ino, handle, offset, length, mode);
                    done.await.map(|()| Answer::done())
                });
            }
            Operation::Lseek { handle, offset, whence } => {
                self.with(Op::lseek, call, move |shared, creds, ino| async move {
                    outside(ino)?;
                    let found = shared.lseek(creds, ino, handle, offset, whence).await?;
                    Ok(found.map_or(Answer::error(libc::ENXIO), Answer::wide_number))
                });
            }
            Operation::CopyFileRange { from, to, length, wide } => {
                self.with(Op::copy_file_range, call, move |shared, creds, _| async move {
                    outside(from.ino)?;
                    outside(to.ino)?;
                    let copied = shared.copy(creds, from, to, length).await?;
                    Ok(self::copied(copied, wide))
                });
            }
            Operation::Unknown
            | Operation::Init(_)
            | Operation::Destroy
            | Operation::Forget
            | Operation::Interrupt { .. }
            | Operation::NotifyReply => {
                tracing::debug!(opcode = request.header.opcode, "the kernel asks for what is not there");
                self.with(Op::unknown, call, move |_, _, _| async move { Ok(Answer::error(libc::ENOSYS)) });
            }
        }
    }

    fn interrupt(&self, unique: u64) {
        self.shared.interrupts.interrupt(unique);
    }
}

impl Door {
    fn lookup(&self, call: Call, name: &[u8]) {
        let name = name.to_vec();
        self.with(Op::lookup, call, move |shared, creds, parent| async move {
            match shared.lookup(creds, parent, &name).await {
                Err(error) if error.code == Code::NotFound => match shared.absent_ttl(parent, &name) {
                    Duration::ZERO => Err(error),
                    ttl => Ok(Answer::no_entry(ttl)),
                },
                found => found.map(|entry| Answer::entry(&entry)),
            }
        });
    }

    fn getattr(&self, op: Op, call: Call, handle: Option<u64>, show: fn(&Known) -> Answer) {
        self.with(op, call, move |shared, creds, ino| async move {
            if inside::is_inside(ino) {
                return Ok(show(&inside::attr(&shared, ino)));
            }
            let attr = match shared.getattr(&creds, ino, handle).await {
                Err(error) if error.code == Code::Stale => shared.directories.removed(ino).ok_or(error)?,
                told => told?,
            };
            Ok(show(&shared.known(&attr)))
        });
    }

    fn setattr(&self, call: Call, what: SetAttr) {
        let changes = Changes {
            mode: what.mode.map(|mode| mode & 0o7777),
            uid: what.uid,
            gid: what.gid,
            size: what.size,
            atime: what.atime.map(new_time),
            mtime: what.mtime.map(new_time),
            flags: None,
            clear_setid: what.clear_setid,
        };
        self.with(Op::setattr, call, move |shared, creds, ino| async move {
            outside(ino)?;
            let attr = if changes == Changes::default() {
                shared.volume.getattr(&creds, ino).await?
            } else {
                shared.volume.setattr_behind(&creds, ino, changes, shared.stage.as_ref()).await?
            };
            Ok(Answer::attributes(&super::door::Shared::changed(&attr)))
        });
    }

    fn access(&self, call: Call, mask: u32) {
        self.with(Op::access, call, move |shared, creds, ino| async move {
            if !inside::is_inside(ino) {
                shared.volume.access(&creds, ino, mask).await?;
            }
            Ok(Answer::done())
        });
    }

    fn readlink(&self, call: Call) {
        self.with(Op::readlink, call, move |shared, creds, ino| async move {
            shared.volume.readlink(&creds, ino).await.map(Answer::data)
        });
    }

    fn symlink(&self, call: Call, name: &[u8], target: &[u8]) {
        let (name, target) = (name.to_vec(), target.to_vec());
        self.with(Op::symlink, call, move |shared, creds, parent| async move {
            outside(parent)?;
            let attr = shared.volume.symlink(&creds, parent, &name, &target).await?;
            Ok(Answer::entry(&shared.made(parent, &attr)))
        });
    }

    fn mknod(&self, call: Call, name: &[u8], (mode, umask): (u32, u32), rdev: u32) {
        let name = name.to_vec();
        self.with(Op::mknod, call, move |shared, creds, parent| async move {
            outside(parent)?;
            let creds = Creds { umask, ..creds };
            let attr = shared.volume.mknod(&creds, parent, &name, mode, rdev).await?;
            Ok(Answer::entry(&shared.made(parent, &attr)))
        });
    }

    fn mkdir(&self, call: Call, name: &[u8], (mode, umask): (u32, u32)) {
        let name = name.to_vec();
        self.with(Op::mkdir, call, move |shared, creds, parent| async move {
            outside(parent)?;
            let creds = Creds { umask, ..creds };
            let of = (parent, &name[..]);
            let attr = shared.volume.mkdir_behind(&creds, of, mode, shared.stage.as_ref()).await?;
            Ok(Answer::entry(&shared.made(parent, &attr)))
        });
    }

    fn unlink(&self, call: Call, name: &[u8]) {
        let name = name.to_vec();
        self.with(Op::unlink, call, move |shared, creds, parent| async move {
            outside(parent)?;
            let done = shared.volume.unlink_behind(&creds, (parent, &name), shared.stage.as_ref()).await;
            done.map(|()| Answer::done())
        });
    }

    fn rmdir(&self, call: Call, name: &[u8]) {
        let name = name.to_vec();
        self.with(Op::rmdir, call, move |shared, creds, parent| async move {
            outside(parent)?;
            past::not_the_directory(&name)?;
            let stage = shared.stage.as_ref();
            shared.volume.rmdir_behind(&creds, (parent, &name), stage).await.map(|()| Answer::done())
        });
    }

    fn rename(&self, call: Call, name: &[u8], to: (u64, &[u8]), flags: u32) {
        let (name, new_parent, new_name) = (name.to_vec(), to.0, to.1.to_vec());
        self.with(Op::rename, call, move |shared, creds, parent| async move {
            outside(parent)?;
            outside(new_parent)?;
            past::not_the_directory(&name)?;
            past::not_the_directory(&new_name)?;
            let (name, new_name) = (&name[..], &new_name[..]);
            let what = Move { parent, name, new_parent, new_name, flags, only_if_no_writer: false };
            shared.volume.rename_behind(&creds, what, shared.stage.as_ref()).await?;
            shared.moved(parent, new_parent, flags);
            Ok(Answer::done())
        });
    }

    fn link(&self, call: Call, ino: u64, name: &[u8]) {
        let name = name.to_vec();
        self.with(Op::link, call, move |shared, creds, parent| async move {
            outside(ino)?;
            outside(parent)?;
            let to = (parent, &name[..]);
            let attr = shared.volume.link_behind(&creds, ino, to, shared.stage.as_ref()).await?;
            Ok(Answer::entry(&shared.made(parent, &attr)))
        });
    }

    fn create(&self, call: Call, what: &Create<'_>) {
        let new = NewFile::of(call.ino(), what);
        let umask = what.umask;
        self.with(Op::create, call, move |shared, creds, parent| async move {
            outside(parent)?;
            let creds = Creds { umask, ..creds };
            let (attr, made, opened) = shared.create(creds, new).await?;
            // What was there before it may have been told to forget meanwhile.
            let entry = if made { shared.entry(parent, &attr) } else { shared.made(parent, &attr) };
            Ok(Answer::created(&entry, opened))
        });
    }

    fn tmpfile(&self, call: Call, what: &Create<'_>) {
        let new = NewFile::of(call.ino(), what);
        let umask = what.umask;
        self.with(Op::tmpfile, call, move |shared, creds, parent| async move {
            outside(parent)?;
            let creds = Creds { umask, ..creds };
            let (attr, opened) = shared.tmpfile(creds, new).await?;
            Ok(Answer::created(&shared.made(parent, &attr), opened))
        });
    }

    pub(super) fn open_directory(&self, call: Call) {
        let handle = self.shared.ends.begin();
        call.answer(Answer::opened(Opened { handle, flags: 0 }));
    }

    pub(super) fn release_directory(&self, call: Call, handle: u64) {
        self.shared.ends.forget(handle);
        self.shared.listings.over(handle);
        call.answer(Answer::done());
    }

    pub(super) fn poll(&self, call: Call, events: u32) {
        self.with(Op::poll, call, move |_, _, _| async move {
            let ready = libc::POLLIN | libc::POLLOUT | libc::POLLRDNORM | libc::POLLWRNORM;
            Ok(Answer::number(events & u32::from(ready.cast_unsigned())))
        });
    }

    pub(super) fn statfs(&self, call: Call) {
        self.with(Op::statfs, call, move |shared, creds, ino| async move {
            let ino = if inside::is_inside(ino) || past::is_past(ino) { 1 } else { ino };
            shared.volume.statfs(&creds, ino).await.map(|totals| Answer::totals(&in_blocks(&totals)))
        });
    }

    fn getlk(&self, call: Call, lock: Lock) {
        self.with(Op::getlk, call, move |shared, creds, ino| async move {
            let found = shared.test_lock(creds, ino, lock).await?;
            Ok(Answer::lock(found.start, found.end, kernel_kind(found.kind), found.pid))
        });
    }

    fn ioctl(&self, call: Call, command: u32, input: &[u8], out_size: u32) {
        let asked = Asked::parse(command, input);
        self.with(Op::ioctl, call, move |shared, creds, ino| async move {
            let Some(asked) = asked else { return Ok(Answer::error(libc::ENOTTY)) };
            let mut out = shared.ioctl(creds, ino, asked).await?;
            out.truncate(out_size as usize);
            Ok(Answer::ioctl(out))
        });
    }
}

/// How much was copied.
pub(super) fn copied(bytes: u64, wide: bool) -> Answer {
    let narrow = || u32::try_from(bytes).map(Answer::number);
    if wide { Answer::wide_number(bytes) } else { narrow().expect("bounded by a call") }
}

/// Attribute values and name lists: the caller first asks how long they are.
pub(super) fn sized(size: u32, value: Vec<u8>) -> Answer {
    let len = u32::try_from(value.len()).expect("bounded by the limits of attributes");
    match size {
        0 => Answer::number(len),
        _ if len > size => Answer::error(libc::ERANGE),
        _ => Answer::data(value),
    }
}

fn in_blocks(totals: &StatFsReply) -> Totals {
    let block = u64::from(BLOCK_SIZE);
    // Inodes are rows of a table: as many as there is room for, unless a quota limits them.
    let free_inodes = totals.inodes_max.unwrap_or(u64::from(u32::MAX)).saturating_sub(totals.inodes);
    Totals {
        blocks: totals.total_bytes / block,
        free: totals.free_bytes / block,
        inodes: totals.inodes + free_inodes,
        free_inodes,
        block_size: BLOCK_SIZE,
        name_max: NAME_MAX,
    }
}
