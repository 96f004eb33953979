//! The kernel's operations on what snapshots show.

use std::time::Duration;

use super::super::door::{Call, outside};
use super::super::flags::Asked;
use super::super::kernel::answer::Answer;
use super::super::kernel::operation::Operation;
use super::super::record::Op;
use super::super::{dirs, dispatch};
use super::{Door, read_only, split_ino};

impl Door {
    /// Does what is asked about an inode of the past: reading, and making and removing snapshots.
    pub(in crate::fuse) fn in_past(&self, call: Call, operation: Operation<'_>) {
        match operation {
            Operation::Lookup { name } => {
                let name = name.to_vec();
                self.with(Op::lookup, call, move |shared, creds, parent| async move {
                    match shared.past_lookup(&creds, parent, &name).await {
                        Ok(entry) => Ok(Answer::entry(&entry)),
                        Err((error, Duration::ZERO)) => Err(error),
                        Err((_, ttl)) => Ok(Answer::no_entry(ttl)),
                    }
                });
            }
            Operation::GetAttr { .. } => self.with(Op::getattr, call, move |shared, creds, ino| async move {
                shared.past_attr(&creds, ino).await.map(|known| Answer::attributes(&known))
            }),
            Operation::Statx { .. } => self.with(Op::statx, call, move |shared, creds, ino| async move {
                shared.past_attr(&creds, ino).await.map(|known| Answer::statx(&known))
            }),
            Operation::Access { mask } => self.with(Op::access, call, move |shared, creds, ino| async move {
                shared.past_access(&creds, ino, mask).await.map(|()| Answer::done())
            }),
            Operation::ReadLink => self.with(Op::readlink, call, move |shared, creds, ino| async move {
                let (view, ino) = shared.view(ino)?;
                view.readlink(&creds, ino).await.map(Answer::data)
            }),
            Operation::MkDir { name, .. } => {
                let name = name.to_vec();
                self.with(Op::mkdir, call, move |shared, creds, parent| async move {
                    shared.past_mkdir(&creds, parent, &name).await.map(|entry| Answer::entry(&entry))
                });
            }
            Operation::RmDir { name } => {
                let name = name.to_vec();
                self.with(Op::rmdir, call, move |shared, creds, parent| async move {
                    shared.past_rmdir(&creds, parent, &name).await.map(|()| Answer::done())
                });
            }
            Operation::GetXattr { name, size } => {
                let name = name.to_vec();
                self.with(Op::getxattr, call, move |shared, creds, ino| async move {
                    let value = shared.past_xattr(&creds, ino, &name).await?;
                    Ok(dispatch::sized(size, value))
                });
            }
            Operation::ListXattr { size } => {
                self.with(Op::listxattr, call, move |shared, creds, ino| async move {
                    shared.past_xattrs(&creds, ino).await.map(|names| dispatch::sized(size, names))
                });
            }
            Operation::StatFs => self.statfs(call),
            Operation::OpenDir | Operation::ReleaseDir { .. } | Operation::ReadDir { .. } => {
                self.past_directory(call, &operation);
            }
            other => self.past_file(call, other),
        }
    }

    fn past_directory(&self, call: Call, operation: &Operation<'_>) {
        match *operation {
            Operation::ReadDir { handle, offset, size, with_attrs } => {
                let op = if with_attrs { Op::readdirplus } else { Op::readdir };
                self.with(op, call, move |shared, creds, ino| async move {
                    if shared.ends.is_end(handle, offset) {
                        return Ok(dirs::answer(&dirs::Page::default(), size, with_attrs).0);
                    }
                    let limit = dirs::limit(size, with_attrs);
                    let page = shared.past_list(&creds, ino, offset, limit, with_attrs).await?;
                    let (answer, end) = dirs::answer(&page, size, with_attrs);
                    shared.ends.remember(handle, end);
                    Ok(answer)
                });
            }
            Operation::ReleaseDir { handle } => self.release_directory(call, handle),
            _ => self.open_directory(call),
        }
    }

    fn past_file(&self, call: Call, operation: Operation<'_>) {
        match operation {
            Operation::Open { flags, .. } => {
                self.with(Op::open, call, move |shared, creds, ino| async move {
                    shared.past_open(&creds, ino, flags).await.map(Answer::opened)
                })
            }
            Operation::Read { handle, offset, size, .. } => {
                self.with(Op::read, call, move |shared, creds, ino| async move {
                    shared.past_read(&creds, ino, handle, offset, size).await.map(Answer::data)
                });
            }
            Operation::Release { handle, .. } => {
                self.with(Op::release, call, move |shared, _, _| async move {
                    shared.handles.remove(handle);
                    Ok(Answer::done())
                });
            }
            Operation::Lseek { handle, offset, whence } => {
                self.with(Op::lseek, call, move |shared, creds, ino| async move {
                    let found = shared.lseek(creds, ino, handle, offset, whence).await?;
                    Ok(found.map_or(Answer::error(libc::ENXIO), Answer::wide_number))
                });
            }
            Operation::CopyFileRange { from, to, length, wide } => {
                self.with(Op::copy_file_range, call, move |shared, creds, _| async move {
                    outside(to.ino)?;
                    let copied = shared.copy(creds, from, to, length).await?;
                    Ok(dispatch::copied(copied, wide))
                });
            }
            // Nothing is left behind, nothing changes.
            Operation::Flush { .. }
            | Operation::Fsync { .. }
            | Operation::FsyncDir { .. }
            | Operation::SyncFs => {
                self.with(Op::flush, call, move |_, _, _| async move { Ok(Answer::done()) });
            }
            // Who reads need not be kept from anything. Who wants to be alone cannot be.
            Operation::GetLock(lock) => self.with(Op::getlk, call, move |_, _, _| async move {
                Ok(Answer::lock(lock.start, lock.end, libc::F_UNLCK, 0))
            }),
            Operation::SetLock { lock, .. } => self.with(Op::setlk, call, move |_, _, _| async move {
                Ok(if lock.kind == libc::F_WRLCK { Answer::error(libc::ENOLCK) } else { Answer::done() })
            }),
            Operation::Ioctl { command, input, out_size } => {
                let asked = Asked::parse(command, input);
                self.with(Op::ioctl, call, move |shared, creds, shown| async move {
                    let Some(asked) = asked else { return Ok(Answer::error(libc::ENOTTY)) };
                    let (view, ino) = shared.view(shown)?;
                    let flags = view.getattr(&creds, ino).await?.flags;
                    let mut out = asked.shown(flags).ok_or_else(read_only)?;
                    out.truncate(out_size as usize);
                    Ok(Answer::ioctl(out))
                });
            }
            Operation::Poll { events } => self.poll(call, events),
            Operation::Unknown => {
                self.with(Op::unknown, call, move |_, _, _| async move { Ok(Answer::error(libc::ENOSYS)) });
            }
            _ => self.with(Op::setattr, call, move |_, _, ino| async move {
                tracing::debug!(snapshot = split_ino(ino).0, "a change of what a snapshot shows");
                Err(read_only())
            }),
        }
    }
}
