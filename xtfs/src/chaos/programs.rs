//! Loads that are other people's programs, which check what they read themselves: fsx and `fio --verify`. One run after the other;
//! a run counts as one operation.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::dice::Dice;
use super::track::{Recorder, Undone};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Fsx,
    Fio,
}

/// Reads, writes, truncations and syncs of one file. Short runs: a picture of stalls should show more than one bar.
const FSX: &str = "flen = 262144\n[opsize]\nmin = 0\nmax = 32768\n[weights]\nclose_open = 1\ninvalidate = 1\ntruncate = 5\nfsync = 1\nfdatasync = 1\n";
const FSX_OPERATIONS: &str = "100";
/// Who found no room tries again after this.
const NO_ROOM: Duration = Duration::from_millis(200);

impl Program {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Program::Fsx => "fsx",
            Program::Fio => "fio",
        }
    }

    /// Where it is; `None`: not on this machine.
    pub(super) fn find(self) -> Option<PathBuf> {
        let cache = std::env::var_os("XTFS_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/xtfs")));
        let folders = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
        let folders = folders.into_iter().flatten().chain(cache.map(|cache| cache.join("tools/bin")));
        folders.map(|folder| folder.join(self.name())).find(|path| path.is_file())
    }

    /// One run in `folder`; what it wants to say of it goes to `out`.
    fn command(self, at: &Path, folder: &Path, out: &Path, seed: u64) -> Command {
        let mut command = Command::new(at);
        match self {
            Program::Fsx => {
                command
                    .args(["-q", "-N", FSX_OPERATIONS, "-S", &seed.to_string(), "-f"])
                    .arg(out.join("fsx.toml"));
                command.arg("-P").arg(out).arg(folder.join("file"));
            }
            Program::Fio => {
                command.args([
                    "--name=verify",
                    "--rw=randwrite",
                    "--bs=4k",
                    "--size=256k",
                    "--ioengine=psync",
                ]);
                command.args(["--verify=crc32c", "--verify_fatal=1", "--fsync=32", "--invalidate=1"]);
                command.arg(format!("--randseed={seed}")).arg(format!("--aux-path={}", out.display()));
                command.arg(format!("--filename={}", folder.join("file").display()));
            }
        }
        command
    }

    /// Runs it again and again in `folder`, which nobody else uses.
    pub(super) fn run(self, folder: &Path, out: &Path, seed: u64, stop: &AtomicBool, seen: &Recorder) {
        let Some(at) = self.find() else { return };
        if let Err(error) = fs::create_dir_all(out).and_then(|()| fs::write(out.join("fsx.toml"), FSX)) {
            return seen.wrong(format!("{}: {error}", out.display()));
        }
        let (mut dice, file) = (Dice::new(seed), folder.join("file"));
        while !stop.load(Ordering::Relaxed) {
            let seed = dice.next() >> 33;
            let done = seen.attempt(self.name(), &format!("with seed {seed}"), || {
                ended(&mut self.command(&at, folder, out, seed), &out.join(format!("{}.out", self.name())))
            });
            if done == Err(Undone::NoRoom) {
                std::thread::sleep(NO_ROOM);
            }
            seen.timed("unlink", "file", || match fs::remove_file(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            });
        }
    }
}

/// Runs it to its end, which may be that it found no room.
fn ended(command: &mut Command, log: &Path) -> io::Result<()> {
    let out = fs::File::create(log)?;
    let status = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).status()?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    if ["No space left", "ENOSPC", "os error 28", "code: 28"].iter().any(|full| said.contains(full)) {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    Err(io::Error::other(format!("{status}: {last}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_its_error_and_no_room_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let run = |text: &str| ended(Command::new("/bin/sh").args(["-c", text]), &dir.path().join("out"));
        assert!(run("exit 0").is_ok());
        let wrong = run("echo a; echo miscompare >&2; exit 3").unwrap_err();
        assert!(wrong.to_string().contains("miscompare"), "{wrong}");
        let full = run("echo 'write: No space left on device'; exit 1").unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    }
}
