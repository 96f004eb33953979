//! Load `coded`: files of a folder whose closed files are erasure-coded, written whole, in part, longer and shorter, read, and left alone in between for
//! long enough to be coded: so every write is a promotion back to replicas, and many reads are of coded data, some of it without one of its OSDs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::blocks::SIZE;
use super::dice::Dice;
use super::loads::{Data, Held, NO_ROOM};
use super::track::Recorder;

/// As with four OSDs, of which one may be away, is possible.
pub(super) const EC: &str = "2+1";
/// Files that nobody wrote for so long are coded, milliseconds.
pub(super) const QUIET_MS: &str = "300";
const FILES: usize = 30;
/// Between two operations: with it each file rests for half a second and more.
const PAUSE: Duration = Duration::from_millis(20);
/// How long files are made, in blocks. What is shorter than 64 KiB stays in replicas.
const LENGTHS: [usize; 6] = [1, 15, 16, 50, 128, 220];
const LONGEST: usize = 300;

/// See the module.
pub(super) struct Coded(pub(super) Data);

/// What is known of each file: its blocks; `None`: it is not there, or must not be looked at any more.
pub(super) type Known = Vec<Option<Vec<Held>>>;

impl Coded {
    pub(super) fn run(&self, stop: &AtomicBool, seen: &Recorder) -> Known {
        let mut known: Known = vec![None; FILES];
        let mut dice = Dice::new(self.0.seed ^ 3);
        let mut generation = 0;
        while !stop.load(Ordering::Relaxed) {
            generation += 1;
            let file = dice.below(FILES);
            match (known[file].take(), dice.below(10)) {
                (None, _) | (Some(_), 0) => known[file] = self.whole(file, generation, &mut dice, seen),
                (Some(held), 1..3) => known[file] = self.part(file, held, generation, &mut dice, seen),
                (Some(held), 3) => known[file] = self.cut(file, held, &mut dice, seen),
                (Some(held), _) => {
                    self.look(file, &held, seen);
                    known[file] = Some(held);
                }
            }
            std::thread::sleep(PAUSE);
        }
        known
    }

    /// Anew, in place of what was there.
    fn whole(&self, file: usize, generation: u64, dice: &mut Dice, seen: &Recorder) -> Option<Vec<Held>> {
        let (path, object) = (self.0.path(file), format!("f{file}"));
        let blocks = LENGTHS[dice.below(LENGTHS.len())];
        let content: Vec<u8> =
            (0..blocks).flat_map(|block| self.0.name(file, block, generation).content()).collect();
        let done = seen.attempt("write", &object, || {
            let mut made = File::create(&path)?;
            made.write_all(&content)?;
            Ok(nix::unistd::close(made)?)
        });
        if done.is_err() {
            self.give_up(file, seen);
            return None;
        }
        Some(vec![Held::only(generation); blocks])
    }

    /// Some blocks, which may lie past the end.
    fn part(
        &self,
        file: usize,
        mut held: Vec<Held>,
        generation: u64,
        dice: &mut Dice,
        seen: &Recorder,
    ) -> Option<Vec<Held>> {
        let (path, object) = (self.0.path(file), format!("f{file}"));
        let first = dice.below(held.len() + 1);
        let end = (first + 1 + dice.below(16)).min(LONGEST);
        if first >= end {
            return Some(held);
        }
        let content: Vec<u8> =
            (first..end).flat_map(|block| self.0.name(file, block, generation).content()).collect();
        let done = seen.attempt("write", &object, || {
            let open = OpenOptions::new().write(true).open(&path)?;
            open.write_all_at(&content, (first * SIZE) as u64)?;
            Ok(nix::unistd::close(open)?)
        });
        if done.is_err() {
            // What was not touched is still what it was.
            held.truncate(first);
            self.look_at_the_first(file, &held, seen);
            self.give_up(file, seen);
            return None;
        }
        held.resize(held.len().max(end), Held::default());
        held[first..end].fill(Held::only(generation));
        Some(held)
    }

    fn cut(&self, file: usize, mut held: Vec<Held>, dice: &mut Dice, seen: &Recorder) -> Option<Vec<Held>> {
        let (path, object) = (self.0.path(file), format!("f{file}"));
        let keep = dice.below(held.len() + 1);
        let done = seen.attempt("cut", &object, || {
            OpenOptions::new().write(true).open(&path)?.set_len((keep * SIZE) as u64)
        });
        if done.is_err() {
            self.give_up(file, seen);
            return None;
        }
        held.truncate(keep);
        Some(held)
    }

    fn look(&self, file: usize, held: &[Held], seen: &Recorder) {
        let found = seen.timed("read", &format!("f{file}"), || fs::read(self.0.path(file)));
        found.map(|found| self.judge_file(file, held, &found)).into_iter().flatten().for_each(|wrong| {
            seen.wrong(wrong);
        });
    }

    fn look_at_the_first(&self, file: usize, held: &[Held], seen: &Recorder) {
        let found = seen.timed("read", &format!("f{file}"), || fs::read(self.0.path(file)));
        let wrong = found.and_then(|found| match found.get(..held.len() * SIZE) {
            Some(first) => self.judge_file(file, held, first),
            None => Some(format!("file {file} has lost its end: {} bytes", found.len())),
        });
        wrong.into_iter().for_each(|wrong| seen.wrong(wrong));
    }

    /// The first thing that is wrong.
    fn judge_file(&self, file: usize, held: &[Held], found: &[u8]) -> Option<String> {
        if found.len() != held.len() * SIZE {
            return Some(format!(
                "file {file} has {} bytes, {} must be there",
                found.len(),
                held.len() * SIZE
            ));
        }
        let mut blocks = held.iter().zip(found.chunks(SIZE)).enumerate();
        blocks.find_map(|(block, (held, bytes))| self.0.judge_block(file, block, *held, bytes))
    }

    /// A file of which not all is known goes.
    fn give_up(&self, file: usize, seen: &Recorder) {
        seen.timed("unlink", &format!("f{file}"), || match fs::remove_file(self.0.path(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        });
        std::thread::sleep(NO_ROOM);
    }

    /// What is wrong with what is there.
    pub(super) fn judge(&self, known: &[Option<Vec<Held>>]) -> io::Result<Vec<String>> {
        let mut wrong = Vec::new();
        for (file, held) in known.iter().enumerate() {
            if let Some(held) = held {
                wrong.extend(self.judge_file(file, held, &fs::read(self.0.path(file))?));
            }
        }
        Ok(wrong.into_iter().map(|text| format!("coded {text}")).collect())
    }

    /// Those that are long enough to be coded.
    pub(super) fn long(&self, known: &[Option<Vec<Held>>]) -> Vec<PathBuf> {
        let long = |held: &Option<Vec<Held>>| held.as_ref().is_some_and(|held| held.len() * SIZE >= 64 << 10);
        (0..known.len()).filter(|file| long(&known[*file])).map(|file| self.0.path(file)).collect()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0.root
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::track::NoRoom;
    use super::*;

    #[test]
    fn files_on_a_local_file_system_are_what_was_written_and_a_changed_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let coded = Coded(Data { root: dir.path().to_owned(), seed: 5 });
        let (stop, seen) = (AtomicBool::new(false), Recorder::new(Instant::now(), NoRoom::default()));
        let known = std::thread::scope(|scope| {
            let load = scope.spawn(|| coded.run(&stop, &seen));
            while seen.track().count < 60 {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
            load.join().unwrap()
        });
        let track = seen.track();
        assert_eq!((track.errors.count, track.wrong.count), (0, 0), "{track:?}");
        assert!(coded.judge(&known).unwrap().is_empty());
        let long = coded.long(&known);
        let file = OpenOptions::new().write(true).open(&long[0]).unwrap();
        file.write_all_at(b"x", 5 * 4096 + 7).unwrap();
        assert_eq!(coded.judge(&known).unwrap().len(), 1);
        file.set_len(4096).unwrap();
        assert!(coded.judge(&known).unwrap()[0].contains("must be there"));
    }
}
