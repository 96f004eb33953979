//! The tests with many small files in one directory.

use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Failed, OPS_MAX, Plan, Row, Times, at};

/// What each file holds.
const FILE_BYTES: usize = 4096;

/// Files of one thread: `0-17`, after a rename `0-17.moved`.
struct Files<'a> {
    dir: &'a Path,
    thread: usize,
    made: usize,
    moved: usize,
}

impl Files<'_> {
    fn path(&self, number: usize) -> PathBuf {
        self.dir.join(format!("{}-{number}", self.thread))
    }

    fn moved_path(&self, number: usize) -> PathBuf {
        self.dir.join(format!("{}-{number}.moved", self.thread))
    }

    /// As it is called now.
    fn current(&self, number: usize) -> PathBuf {
        if number < self.moved { self.moved_path(number) } else { self.path(number) }
    }
}

/// What is done with each file; false: nothing is left to do.
type Step = fn(&mut Files<'_>, usize) -> Result<(), Failed>;

fn create(files: &mut Files<'_>, number: usize) -> Result<(), Failed> {
    let path = files.path(number);
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    // Counted once it is there: whatever comes now, it is removed.
    files.made = number + usize::from(file.is_ok());
    file.and_then(|mut file| file.write_all(&[b'x'; FILE_BYTES])).map_err(at(&path))
}

fn stat(files: &mut Files<'_>, number: usize) -> Result<(), Failed> {
    let path = files.path(number);
    std::fs::symlink_metadata(&path).map(|_| ()).map_err(at(&path))
}

fn rename(files: &mut Files<'_>, number: usize) -> Result<(), Failed> {
    let path = files.path(number);
    std::fs::rename(&path, files.moved_path(number)).map_err(at(&path))?;
    files.moved = number + 1;
    Ok(())
}

fn unlink(files: &mut Files<'_>, number: usize) -> Result<(), Failed> {
    let path = files.current(number);
    std::fs::remove_file(&path).map_err(at(&path))
}

/// Four tests; the directory is gone afterwards, whatever happened.
pub(super) fn run(plan: &Plan, threads: usize, begins: &dyn Fn(&str)) -> Result<Vec<Row>, Failed> {
    let dir = plan.dir.join(format!("names-{threads}"));
    std::fs::create_dir(&dir).map_err(at(&dir))?;
    let rows = all(plan, &dir, threads, begins);
    let removed = std::fs::remove_dir_all(&dir).map_err(at(&dir));
    let rows = rows?;
    removed.map(|()| rows)
}

fn all(plan: &Plan, dir: &Path, threads: usize, begins: &dyn Fn(&str)) -> Result<Vec<Row>, Failed> {
    let mut files: Vec<Files<'_>> =
        (0..threads).map(|thread| Files { dir, thread, made: 0, moved: 0 }).collect();
    let mut rows = Vec::new();
    let tests: [(&'static str, Step); 4] =
        [("create", create), ("stat", stat), ("rename", rename), ("unlink", unlink)];
    for (test, step) in tests {
        begins(&if threads == 1 { test.to_owned() } else { format!("{test}, {threads} threads") });
        let (elapsed, times) = on_threads(plan, &mut files, test, step)?;
        if plan.stop.load(Ordering::Relaxed) {
            break;
        }
        rows.push(Row::new(test, threads, None, elapsed, times));
    }
    Ok(rows)
}

/// All threads begin at once; files are made until the time is over, the rest is done to each file that was made, within
/// the time of all four tests.
fn on_threads(
    plan: &Plan,
    files: &mut [Files<'_>],
    test: &str,
    step: Step,
) -> Result<(Duration, Vec<u32>), Failed> {
    let barrier = Barrier::new(files.len());
    let makes = test == "create";
    let share = if makes { plan.names_share() } else { plan.names_share() * 4 };
    let work = |mine: &mut Files<'_>| {
        let mut times = Times::default();
        let limit = if makes { OPS_MAX } else { mine.made };
        barrier.wait();
        let start = Instant::now();
        for number in 0..limit {
            if !plan.goes_on(start, share) && (number > 0 || plan.stop.load(Ordering::Relaxed)) {
                break;
            }
            times.take(|| step(mine, number))?;
        }
        Ok((start..Instant::now(), times.0))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = files.iter_mut().map(|mine| scope.spawn(|| work(mine))).collect();
        let mut all = Vec::new();
        let mut failed = None;
        // From the first call to the last one, as the threads saw it: who waits for them may be woken when all is over.
        let mut took: Option<Range<Instant>> = None;
        for thread in threads {
            match thread.join() {
                Ok(Ok((mine, times))) => {
                    all.extend(times);
                    took = Some(
                        took.map_or(mine.clone(), |took| took.start.min(mine.start)..took.end.max(mine.end)),
                    );
                }
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        let elapsed = took.map_or(Duration::ZERO, |took| took.end - took.start);
        failed.map_or_else(|| Ok((elapsed, all)), Err)
    })
}
