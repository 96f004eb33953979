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

/// Sessions of job services of this instance that are surely dead: nobody holds their file. `directory`: of one that starts. Their successors will end them,
/// but may be started after it, and whoever takes up a mount waits for their leases meanwhile.
pub(crate) fn dead_beside(directory: &Path) -> Vec<u64> {
    let all = directory.parent().and_then(|all| std::fs::read_dir(all).ok()).into_iter().flatten();
    // By name: mount points are there too, and looking into one that nobody serves yet would last for ever.
    let jobs = all.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"exec-"));
    jobs.filter_map(|entry| dead_in(&entry.path())).collect()
}

fn dead_in(directory: &Path) -> Option<u64> {
    let file = OpenOptions::new().read(true).open(directory.join(FILE)).ok()?;
    let mut text = String::new();
    hold(file, Duration::ZERO).ok()?.read_to_string(&mut text).ok()?;
    u64::from_str_radix(text.trim(), 16).ok().filter(|session| *session != 0)
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

    #[test]
    fn who_is_dead_is_seen_from_beside_and_who_lives_is_not() {
        let all = tempfile::tempdir().unwrap();
        let [mount, dead, lives] = ["mount-0", "exec-0", "exec-1"].map(|name| all.path().join(name));
        for folder in [&mount, &dead, &lives] {
            std::fs::create_dir(folder).unwrap();
        }
        drop(Predecessor::replace(&dead, 0xabc).unwrap());
        let _held = Predecessor::replace(&lives, 0xdef).unwrap();
        assert_eq!(dead_beside(&mount), [0xabc]);
    }
}
