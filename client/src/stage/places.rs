//! Which file a mount uses: the first of a few that no process uses.
//!
//! A mount that was taken off a directory lives on where another mount namespace has a copy of it (a container, a service with
//! a private one): its process goes on using its file. The next mount of the directory takes another file, and is as fast.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{PREDECESSOR, Stage};

/// Files of one mount point.
const PLACES: u32 = 4;
/// How often it is looked whether one has become free.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

fn place(path: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return path.to_path_buf();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

impl Stage {
    /// The file for a mount. A file that is there and that nobody uses was left by a process that was killed, for a mount that
    /// ends removes it: it is taken first. `session`: that of the predecessor, when it is known.
    pub(crate) fn of_mount(path: &Path, session: Option<u64>) -> io::Result<Arc<Self>> {
        let all = || (1..=PLACES).map(|number| place(path, number));
        let there: Vec<PathBuf> = all().filter(|place| place.exists()).collect();
        let until = Instant::now() + PREDECESSOR;
        while !there.is_empty() {
            let mut free = there.iter().filter_map(|place| Self::open_within(place, Duration::ZERO).ok());
            let wanted = |stage: &Arc<Self>| {
                session.is_none_or(|id| stage.last_session().is_ok_and(|last| last == id))
            };
            let (is_over, first) = (Instant::now() >= until, free.next());
            match first {
                Some(stage) if is_over || wanted(&stage) => return Ok(stage),
                Some(_) => {
                    if let Some(stage) = free.find(wanted) {
                        return Ok(stage);
                    }
                }
                None if is_over => break,
                None => {}
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let unused = all().find(|place| !there.contains(place));
        let nowhere = || io::Error::new(io::ErrorKind::WouldBlock, "other processes use all of its files");
        Self::open_within(&unused.ok_or_else(nowhere)?, Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Label;

    fn left(stage: &Arc<Stage>, ino: u64) {
        let label = Label { session: 7, epoch: 3, volume: 1, ino, offset: 0, kept: None };
        let mut slot = stage.take(label, 1).unwrap();
        slot.append(b"acknowledged").unwrap();
    }

    fn found(stage: &Arc<Stage>) -> Vec<u64> {
        stage.left().unwrap().iter().map(|left| left.label.ino).collect()
    }

    #[test]
    fn a_mount_that_lives_on_elsewhere_keeps_its_file_and_the_next_one_gets_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stage");
        let lives_on = Stage::of_mount(&path, None).unwrap();
        left(&lives_on, 1);
        let second = Stage::of_mount(&path, None).unwrap();
        assert!(found(&second).is_empty(), "what lives on is its own affair");
        left(&second, 2);
        // Killed: its file is what the next one takes, also when the first is free by then.
        drop(second);
        let third = Stage::of_mount(&path, None).unwrap();
        assert_eq!(found(&third), [2]);
        third.remove();
        drop((third, lives_on));
        assert_eq!(found(&Stage::of_mount(&path, None).unwrap()), [1]);
    }

    #[test]
    fn a_successor_gets_the_file_of_its_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stage");
        let first = Stage::of_mount(&path, None).unwrap();
        first.used_by(11).unwrap();
        let second = Stage::of_mount(&path, None).unwrap();
        second.used_by(12).unwrap();
        drop((first, second));
        for id in [12, 11] {
            let stage = Stage::of_mount(&path, Some(id)).unwrap();
            assert_eq!(stage.last_session().unwrap(), id);
        }
    }
}
