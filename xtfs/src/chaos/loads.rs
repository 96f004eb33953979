//! The loads: names, random 4 KiB writes, and readers of what is not changed any more. Each runs in a thread of its own
//! until told to end and remembers exactly what was acknowledged; each is the only user of its directory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::blocks::{Name, SIZE};
use super::dice::Dice;
use super::ledger::{Ledger, Must};
use super::track::Recorder;

const DIRECTORIES: usize = 4;
const NAMES: usize = 300;
/// Several files, so that several OSDs lead.
pub(super) const FILES: usize = 4;
pub(super) const BLOCKS: usize = 512;

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
        let Some(mut file) = seen.timed("create", path, || File::create_new(&full)) else { return };
        if seen.timed("write", path, || file.write_all(content.as_bytes())).is_some() {
            self.note(seen, &format!("create {path}"));
            ledger.set(path, Must::Be(content));
        }
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

/// Of each block of each file which generation was acknowledged.
pub(super) type Generations = Vec<Vec<u64>>;

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
        let mut generations = vec![vec![0; BLOCKS]; FILES];
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
                0 => drop(seen.timed("fsync", &object, || file.sync_all())),
                1..12 => {
                    let name = self.name(at, block, generations[at][block] + 1);
                    if seen.timed("write", &object, || file.write_all_at(&name.content(), offset)).is_some() {
                        generations[at][block] += 1;
                    } else {
                        unsure.insert((at, block));
                    }
                }
                _ => self.read_block(file, self.name(at, block, generations[at][block]), seen),
            }
        }
        for (at, file) in files.iter().enumerate() {
            seen.timed("fsync", &format!("f{at}"), || file.sync_all());
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
            self.read_block(&files[file], self.name(file, block, 1), seen);
            // It is there to meet damage, not to keep the machine busy.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn read_block(&self, file: &File, name: Name, seen: &Recorder) {
        let object = format!("f{}", name.file);
        let offset = (name.block * SIZE) as u64;
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
            if name.generation == 0 {
                bytes.resize(SIZE, 0);
            }
            Ok(bytes)
        });
        if let Some(wrong) = bytes.and_then(|bytes| name.judge(&bytes)) {
            seen.wrong(wrong);
        }
    }

    /// All blocks that were acknowledged, read anew past the kernel's cache: what is wrong.
    pub(super) fn judge(&self, generations: &[Vec<u64>]) -> io::Result<Vec<String>> {
        let mut wrong = Vec::new();
        for (file, blocks) in generations.iter().enumerate() {
            let mut content = Vec::new();
            direct(&self.path(file))?.read_to_end(&mut content)?;
            let last = blocks.iter().rposition(|generation| *generation > 0).map_or(0, |last| last + 1);
            content.resize(content.len().max(last * SIZE), 0);
            for (block, generation) in blocks.iter().enumerate().take(last) {
                let bytes = &content[block * SIZE..(block + 1) * SIZE];
                wrong.extend(self.name(file, block, *generation).judge(bytes));
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
    use std::time::Instant;

    use super::*;

    #[test]
    fn names_on_a_local_file_system_are_all_there() {
        let dir = tempfile::tempdir().unwrap();
        let (root, stop, seen) =
            (dir.path().join("names"), AtomicBool::new(false), Recorder::new(Instant::now()));
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
        let generations = vec![vec![1; BLOCKS]; FILES];
        // tmpfs of old kernels has no O_DIRECT: then there is nothing to try here.
        let Ok(clean) = data.judge(&generations) else { return };
        assert!(clean.is_empty());
        let file = OpenOptions::new().read(true).write(true).open(data.path(2)).unwrap();
        file.write_all_at(b"x", 7 * 4096 + 100).unwrap();
        assert_eq!(data.judge(&generations).unwrap().len(), 1);
        let seen = Recorder::new(Instant::now());
        data.read_block(&file, data.name(2, 7, 1), &seen);
        data.read_block(&file, data.name(2, 8, 1), &seen);
        assert_eq!(seen.track().wrong.count, 1);
    }
}
