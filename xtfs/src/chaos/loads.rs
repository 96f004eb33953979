//! The loads: names, random 4 KiB writes, and readers of what is not changed any more. Each runs in a thread of its own
//! until told to end and remembers exactly what was acknowledged; each is the only user of its directory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::blocks::{Name, SIZE};
use super::dice::Dice;
use super::ledger::{Ledger, Must};
use super::track::{Recorder, Undone};

const DIRECTORIES: usize = 4;
const NAMES: usize = 300;
/// Several files, so that several OSDs lead.
pub(super) const FILES: usize = 4;
pub(super) const BLOCKS: usize = 512;
/// Who found no room tries again after this.
pub(super) const NO_ROOM: Duration = Duration::from_millis(20);
/// Room must be there again after this, when it is known that nothing keeps it.
const ROOM_AGAIN: Duration = Duration::from_secs(40);

/// Creates, renames, unlinks, lists.
pub(super) struct Names {
    root: PathBuf,
    seed: u64,
    log: PathBuf,
    noted: String,
}

impl Names {
    /// `log` gets a line for each acknowledged operation, for whoever has to find out what happened.
    pub(super) fn new(root: PathBuf, seed: u64, log: PathBuf) -> io::Result<Self> {
        for directory in 0..DIRECTORIES {
            fs::create_dir_all(root.join(format!("d{directory}")))?;
        }
        Ok(Self { root, seed, log, noted: String::new() })
    }

    pub(super) fn run(mut self, stop: &AtomicBool, seen: &Recorder) -> Ledger {
        let (mut dice, mut ledger, mut number) = (Dice::new(self.seed), Ledger::default(), 0u64);
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let any = dice.below(NAMES);
            let path = format!("d{}/n{any}", any % DIRECTORIES);
            let other = format!("d{}/n{}", dice.below(DIRECTORIES), dice.below(NAMES));
            match (ledger.get(&path).clone(), dice.below(20)) {
                (_, 19) => self.list(&format!("d{}", any % DIRECTORIES), &ledger, seen),
                (Must::NotBe, _) => self.create(&path, format!("{path} {number}"), &mut ledger, seen),
                (Must::Be(_), 0..8) if other != path => self.rename(&path, &other, &mut ledger, seen),
                (Must::Be(content), 8..11) => self.read(&path, &content, seen),
                (Must::Be(_), _) => self.unlink(&path, &mut ledger, seen),
                (Must::Unknown, _) => {}
            }
        }
        if let Err(error) = fs::write(&self.log, &self.noted) {
            eprintln!("xtfs: the log {} is not written: {error}", self.log.display());
        }
        ledger
    }

    /// In memory until the end: the disk below the log is the one that the OSDs keep busy, and a load that waits for it
    /// would show a stall that is none, or hide one.
    fn note(&mut self, seen: &Recorder, text: &str) {
        let _ = writeln!(self.noted, "{} {text}", seen.now_ms());
    }

    fn create(&mut self, path: &str, content: String, ledger: &mut Ledger, seen: &Recorder) {
        let full = self.root.join(path);
        ledger.set(path, Must::Unknown);
        let made = seen.attempt("create", path, || File::create_new(&full));
        let written = made.and_then(|mut file| {
            seen.attempt("write", path, || file.write_all(content.as_bytes()))?;
            // Closed here, as a program that wants to know does: `drop` would keep to itself what the file system says.
            seen.attempt("close", path, || Ok(nix::unistd::close(file)?))
        });
        match written {
            Ok(()) => {
                self.note(seen, &format!("create {path}"));
                ledger.set(path, Must::Be(content));
            }
            Err(Undone::NoRoom) => self.give_up(path, ledger, seen),
            Err(Undone::Failed) => {}
        }
    }

    /// Takes away what is there of a file that found no room, and lets some time pass.
    fn give_up(&mut self, path: &str, ledger: &mut Ledger, seen: &Recorder) {
        let full = self.root.join(path);
        let gone = seen.timed("unlink", path, || match fs::remove_file(&full) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        });
        if gone.is_some() {
            self.note(seen, &format!("no room {path}"));
            ledger.set(path, Must::NotBe);
        }
        std::thread::sleep(NO_ROOM);
    }

    fn rename(&mut self, from: &str, to: &str, ledger: &mut Ledger, seen: &Recorder) {
        let (old, new) = (self.root.join(from), self.root.join(to));
        if seen.timed("rename", from, || fs::rename(&old, &new)).is_some() {
            self.note(seen, &format!("rename {from} {to}"));
            ledger.renamed(from, to);
        } else {
            ledger.set(from, Must::Unknown);
            ledger.set(to, Must::Unknown);
        }
    }

    fn unlink(&mut self, path: &str, ledger: &mut Ledger, seen: &Recorder) {
        let full = self.root.join(path);
        if seen.timed("unlink", path, || fs::remove_file(&full)).is_some() {
            self.note(seen, &format!("unlink {path}"));
            ledger.set(path, Must::NotBe);
        } else {
            ledger.set(path, Must::Unknown);
        }
    }

    fn read(&self, path: &str, content: &str, seen: &Recorder) {
        let full = self.root.join(path);
        match seen.timed("read", path, || fs::read(&full)) {
            Some(found) if found != content.as_bytes() => {
                seen.wrong(format!(
                    "{path} must hold {content:?}, read {:?}",
                    String::from_utf8_lossy(&found)
                ));
            }
            _ => {}
        }
    }

    fn list(&self, directory: &str, ledger: &Ledger, seen: &Recorder) {
        let full = self.root.join(directory);
        let listed = seen.timed("list", directory, || {
            fs::read_dir(&full)?
                .map(|entry| Ok(format!("{directory}/{}", entry?.file_name().to_string_lossy())))
                .collect::<io::Result<Vec<String>>>()
        });
        let Some(listed) = listed else { return };
        let inside = |path: &&str| path.starts_with(&format!("{directory}/"));
        for path in ledger.there().map(|(path, _)| path).filter(inside) {
            if !listed.iter().any(|one| one == path) {
                seen.wrong(format!("a list of {directory} lacks {path}"));
            }
        }
        for path in listed.iter().filter(|path| *ledger.get(path) == Must::NotBe) {
            seen.wrong(format!("a list of {directory} has {path}, which is not there"));
        }
    }
}

/// Everything below a directory, with content: what the ledger is compared with.
pub(super) fn found(root: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for directory in 0..DIRECTORIES {
        for entry in fs::read_dir(root.join(format!("d{directory}")))? {
            let entry = entry?;
            let name = format!("d{directory}/{}", entry.file_name().to_string_lossy());
            found.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(found)
}

/// What a block holds: the generation that was acknowledged, or one after it that was tried and found no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    acked: u64,
    tried: u64,
}

impl Held {
    /// This one and no other.
    pub(super) const fn only(generation: u64) -> Self {
        Self { acked: generation, tried: generation }
    }
}

/// Of each block of each file what it holds.
pub(super) type Generations = Vec<Vec<Held>>;

/// Files of numbered blocks.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) root: PathBuf,
    pub(super) seed: u64,
}

impl Data {
    pub(super) fn path(&self, file: usize) -> PathBuf {
        self.root.join(format!("f{file}"))
    }

    /// Makes the files, empty, or full of generation 1 and synced.
    pub(super) fn make(&self, full: bool) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        for file in 0..FILES {
            let mut made = File::create(self.path(file))?;
            for block in (0..BLOCKS).filter(|_| full) {
                made.write_all(&self.name(file, block, 1).content())?;
            }
            made.sync_all()?;
        }
        Ok(())
    }

    pub(super) fn name(&self, file: usize, block: usize, generation: u64) -> Name {
        Name { seed: self.seed, file, block, generation }
    }

    /// Random writes of one block; every read is compared with what was acknowledged; fsync now and then.
    pub(super) fn write(&self, stop: &AtomicBool, seen: &Recorder) -> Generations {
        let mut generations = vec![vec![Held::default(); BLOCKS]; FILES];
        let open = |file| OpenOptions::new().read(true).write(true).open(self.path(file));
        let files = seen.timed("open", "data", || (0..FILES).map(open).collect::<io::Result<Vec<File>>>());
        let Some(files) = files else { return generations };
        // A write that failed may have been done or not: its block is left alone.
        let mut unsure = std::collections::BTreeSet::new();
        let mut dice = Dice::new(self.seed ^ 1);
        while !stop.load(Ordering::Relaxed) {
            let (at, block) = (dice.below(FILES), dice.below(BLOCKS));
            let (file, object, offset) = (&files[at], format!("f{at}"), (block * SIZE) as u64);
            if unsure.contains(&(at, block)) {
                continue;
            }
            match dice.below(20) {
                // What was acknowledged stays so, also when there is no room to force it out.
                0 => drop(seen.attempt("fsync", &object, || file.sync_all())),
                1..12 => {
                    let held = &mut generations[at][block];
                    held.tried += 1;
                    let name = self.name(at, block, held.tried);
                    match seen.attempt("write", &object, || file.write_all_at(&name.content(), offset)) {
                        Ok(()) => held.acked = held.tried,
                        Err(Undone::NoRoom) => std::thread::sleep(NO_ROOM),
                        Err(Undone::Failed) => drop(unsure.insert((at, block))),
                    }
                }
                _ => self.read_block(file, (at, block), generations[at][block], seen),
            }
        }
        let limit = Instant::now() + ROOM_AGAIN;
        for (at, file) in files.iter().enumerate() {
            while seen.attempt("fsync", &format!("f{at}"), || file.sync_all()) == Err(Undone::NoRoom) {
                if Instant::now() > limit {
                    seen.wrong(format!("f{at}: still no room long after there was some again"));
                    break;
                }
                std::thread::sleep(NO_ROOM);
            }
        }
        generations
    }

    /// Random reads of what [`Data::make`] wrote, past the kernel's cache.
    pub(super) fn read(&self, stop: &AtomicBool, seen: &Recorder) {
        let files = seen.timed("open", "still", || {
            (0..FILES).map(|file| direct(&self.path(file))).collect::<io::Result<Vec<File>>>()
        });
        let Some(files) = files else { return };
        let mut dice = Dice::new(self.seed ^ 2);
        while !stop.load(Ordering::Relaxed) {
            let (file, block) = (dice.below(FILES), dice.below(BLOCKS));
            self.read_block(&files[file], (file, block), Held::only(1), seen);
            // It is there to meet damage, not to keep the machine busy.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn read_block(&self, file: &File, (at, block): (usize, usize), held: Held, seen: &Recorder) {
        let object = format!("f{at}");
        let offset = (block * SIZE) as u64;
        let bytes = seen.timed("read", &object, || {
            let mut bytes = Vec::with_capacity(SIZE);
            let mut piece = vec![0; SIZE];
            while bytes.len() < SIZE {
                let got = file.read_at(&mut piece[..SIZE - bytes.len()], offset + bytes.len() as u64)?;
                if got == 0 {
                    break;
                }
                bytes.extend(&piece[..got]);
            }
            // Behind the end of a file that is written here and there, there is nothing: as good as a hole.
            if held.acked == 0 {
                bytes.resize(SIZE, 0);
            }
            Ok(bytes)
        });
        if let Some(wrong) = bytes.and_then(|bytes| self.judge_block(at, block, held, &bytes)) {
            seen.wrong(wrong);
        }
    }

    /// `None` when these are the bytes of what was acknowledged, or of one that was tried after it; else what is wrong.
    pub(super) fn judge_block(&self, file: usize, block: usize, held: Held, found: &[u8]) -> Option<String> {
        let wrong = self.name(file, block, held.acked).judge(found)?;
        let later =
            (held.acked + 1..=held.tried).any(|tried| self.name(file, block, tried).judge(found).is_none());
        (!later).then_some(wrong)
    }

    /// All blocks that were acknowledged, read anew past the kernel's cache: what is wrong.
    pub(super) fn judge(&self, generations: &[Vec<Held>]) -> io::Result<Vec<String>> {
        let mut wrong = Vec::new();
        for (file, blocks) in generations.iter().enumerate() {
            let mut content = Vec::new();
            direct(&self.path(file))?.read_to_end(&mut content)?;
            let last = blocks.iter().rposition(|held| held.tried > 0).map_or(0, |last| last + 1);
            content.resize(content.len().max(last * SIZE), 0);
            for (block, held) in blocks.iter().enumerate().take(last) {
                let bytes = &content[block * SIZE..(block + 1) * SIZE];
                wrong.extend(self.judge_block(file, block, *held, bytes));
            }
        }
        Ok(wrong)
    }
}

fn direct(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)
}

#[cfg(test)]
mod tests {
    use super::super::track::NoRoom;
    use super::*;

    #[test]
    fn names_on_a_local_file_system_are_all_there() {
        let dir = tempfile::tempdir().unwrap();
        let (root, stop, seen) = (
            dir.path().join("names"),
            AtomicBool::new(false),
            Recorder::new(Instant::now(), NoRoom::default()),
        );
        let names = Names::new(root.clone(), 1, dir.path().join("log")).unwrap();
        let ledger = std::thread::scope(|scope| {
            let load = scope.spawn(|| names.run(&stop, &seen));
            std::thread::sleep(std::time::Duration::from_millis(200));
            stop.store(true, Ordering::Relaxed);
            load.join().unwrap()
        });
        let track = seen.track();
        assert_eq!((track.errors.count, track.wrong.count), (0, 0), "{track:?}");
        assert!(ledger.there().count() > 0 && ledger.judge(&found(&root).unwrap()).is_empty());
        let victim = ledger.there().next().unwrap().0.to_owned();
        fs::remove_file(root.join(&victim)).unwrap();
        assert_eq!(ledger.judge(&found(&root).unwrap()).len(), 1);
    }

    #[test]
    fn a_changed_block_is_seen_by_the_reader_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let data = Data { root: dir.path().join("still"), seed: 9 };
        data.make(true).unwrap();
        let mut generations = vec![vec![Held::only(1); BLOCKS]; FILES];
        // tmpfs of old kernels has no O_DIRECT: then there is nothing to try here.
        let Ok(clean) = data.judge(&generations) else { return };
        assert!(clean.is_empty());
        let file = OpenOptions::new().read(true).write(true).open(data.path(2)).unwrap();
        file.write_all_at(b"x", 7 * 4096 + 100).unwrap();
        assert_eq!(data.judge(&generations).unwrap().len(), 1);
        let seen = Recorder::new(Instant::now(), NoRoom::default());
        data.read_block(&file, (2, 7), Held::only(1), &seen);
        data.read_block(&file, (2, 8), Held::only(1), &seen);
        assert_eq!(seen.track().wrong.count, 1);
        // One that found no room may be there or not, one before what was acknowledged may not.
        file.write_all_at(&data.name(2, 7, 3).content(), 7 * 4096).unwrap();
        generations[2][7] = Held { acked: 2, tried: 4 };
        assert!(data.judge(&generations).unwrap().is_empty());
        generations[2][7] = Held { acked: 4, tried: 5 };
        assert_eq!(data.judge(&generations).unwrap().len(), 1);
    }
}
