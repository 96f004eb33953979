//! Which session the last process of a service had: its successor ends it, so that nobody waits until it runs out.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use rt::held::{Held, hold};

/// In the service's directory; locked by the process that uses it.
const FILE: &str = "session";
/// How long a process that is being killed may hold it.
const DYING: Duration = Duration::from_secs(3);

/// The last process's session.
pub(crate) struct Predecessor {
    /// 0: there was none.
    pub(crate) session: u64,
    _file: Held,
}

impl Predecessor {
    /// Reads it, and writes down `session` as ours.
    pub(crate) fn replace(directory: &Path, session: u64) -> io::Result<Self> {
        let path = directory.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut file = hold(file, DYING)?;
        let mut text = String::new();
        // What is unreadable names nobody.
        let _ = file.read_to_string(&mut text);
        let last = u64::from_str_radix(text.trim(), 16).unwrap_or(0);
        file.rewind()?;
        file.write_all(format!("{session:016x}\n").as_bytes())?;
        Ok(Self { session: last, _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_hears_of_the_session_before_and_of_none_that_lives() {
        let place = tempfile::tempdir().unwrap();
        let first = Predecessor::replace(place.path(), 0xabc).unwrap();
        assert_eq!(first.session, 0);
        let path = place.path().to_owned();
        let second = std::thread::spawn(move || Predecessor::replace(&path, 0xdef).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!second.is_finished(), "the first one lives");
        drop(first);
        let second = second.join().unwrap();
        assert_eq!(second.session, 0xabc);
        drop(second);
        std::fs::write(place.path().join(FILE), "no number").unwrap();
        assert_eq!(Predecessor::replace(place.path(), 1).unwrap().session, 0);
    }
}
