//! Where workers wait for one another: a page of memory that all of them map.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Bytes of the page.
const LEN: usize = 4096;

#[repr(C)]
struct Page {
    arrived: AtomicU32,
    generation: AtomicU32,
    stop: AtomicU32,
}

/// The page.
pub(super) struct Barrier(*const Page);

impl Barrier {
    /// A new one in a file.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.set_len(LEN as u64)?;
        Self::map(&file)
    }

    /// The one in a file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() != LEN as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a meeting place"));
        }
        Self::map(&file)
    }

    fn map(file: &std::fs::File) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; the file has LEN bytes.
        let page = unsafe {
            libc::mmap(std::ptr::null_mut(), LEN, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(page.cast())) }
    }

    fn page(&self) -> &Page {
        // SAFETY: mapped until the end of the process, aligned to a page, and zeroes are a valid `Page`.
        unsafe { &*self.0 }
    }

    /// Waits until `workers` have come.
    pub(super) fn meet(&self, workers: u32, patience: Duration) -> io::Result<()> {
        let (page, began) = (self.page(), Instant::now());
        let generation = page.generation.load(Ordering::SeqCst);
        if page.arrived.fetch_add(1, Ordering::SeqCst) + 1 == workers {
            page.arrived.store(0, Ordering::SeqCst);
            page.generation.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        let mut spins = 0;
        while page.generation.load(Ordering::SeqCst) == generation {
            spins += 1;
            if spins > 50 {
                std::thread::sleep(Duration::from_micros(100));
            }
            if began.elapsed() > patience {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another worker never came"));
            }
        }
        Ok(())
    }

    /// Asks all to end after their round.
    pub(super) fn stop(&self) {
        self.page().stop.store(1, Ordering::SeqCst);
    }

    /// Whether they were asked to.
    pub(super) fn is_stopped(&self) -> bool {
        self.page().stop.load(Ordering::SeqCst) != 0
    }
}
