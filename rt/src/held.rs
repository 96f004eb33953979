//! A file that one process uses at a time. One that is being killed holds its lock until the kernel has taken it apart.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

/// How often it is looked again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A locked file.
pub type Held = Flock<File>;

/// Locks a file for this process; waits at most `patience` for another one. Blocks the thread.
pub fn hold(mut file: File, patience: Duration) -> io::Result<Held> {
    let until = Instant::now() + patience;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((_, errno)) if Instant::now() >= until => {
                return Err(io::Error::new(io::Error::from(errno).kind(), "another process uses it"));
            }
            Err((again, _)) => file = again,
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
