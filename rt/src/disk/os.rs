//! The real disk: a directory of the operating system.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskFile};

/// A directory.
#[derive(Debug)]
pub struct OsDisk {
    path: PathBuf,
}

impl OsDisk {
    /// Uses `path`, making it when it is missing.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Arc<Self>> {
        let path = path.as_ref().to_path_buf();
        std::fs::create_dir_all(&path)?;
        Ok(Arc::new(Self { path }))
    }
}

impl Disk for OsDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(self.path.join(name))?;
        Ok(Arc::new(OsFile { file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.path)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }
}

struct OsFile {
    file: File,
}

impl DiskFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        if len <= before {
            return Ok(());
        }
        allocate(&self.file, before, len - before)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Makes a file longer and has the room for it. When there is not that much the file is as it was: what was had for a
/// part of it is given back.
pub fn allocate(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    let (start, len) = (from as libc::off_t, bytes as libc::off_t);
    match nix::fcntl::fallocate(file.as_fd(), nix::fcntl::FallocateFlags::empty(), start, len) {
        Ok(()) => Ok(()),
        // A file system without preallocation: the blocks come when they are written.
        Err(nix::errno::Errno::EOPNOTSUPP) => file.set_len(from + bytes),
        Err(error) => {
            file.set_len(from)?;
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn passes_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let count = std::cell::Cell::new(0);
        super::super::contract(|| {
            count.set(count.get() + 1);
            super::OsDisk::open(dir.path().join(count.get().to_string())).unwrap()
        });
    }
}
