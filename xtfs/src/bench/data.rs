//! The tests with one large file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::{Failed, OPS_MAX, Plan, Row, Times, at};

const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;

/// Sequential and random, write and read; the file is removed at the end.
pub(super) fn run(plan: &Plan, begins: &dyn Fn(&str)) -> Result<Vec<Row>, Failed> {
    let path = plan.dir.join("large");
    let rows = all(plan, &path, begins);
    match std::fs::remove_file(&path) {
        Err(error) if rows.is_ok() => Err(at(&path)(error)),
        _ => rows,
    }
}

fn all(plan: &Plan, path: &Path, begins: &dyn Fn(&str)) -> Result<Vec<Row>, Failed> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(at(path))?;
    let mut dice = StdRng::seed_from_u64(0x7874_6673);
    let mut block = vec![0; BLOCK];
    // Nothing on the way can make it smaller.
    dice.fill_bytes(&mut block);
    let mut rows = Vec::new();
    begins("sequential write");
    let (written, row) = write(plan, &file, &block).map_err(at(path))?;
    rows.push(row);
    forget(&file);
    for test in [sequential_read, random_read, random_write] {
        if let Some(row) = test(plan, &file, written, (&mut block, &mut dice), begins).map_err(at(path))? {
            rows.push(row);
        }
        forget(&file);
    }
    Ok(rows)
}

/// Takes what was written out of this machine's page cache: reading it again should ask the file system. Where that does
/// not work, reads are faster.
fn forget(file: &File) {
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

fn write(plan: &Plan, file: &File, block: &[u8]) -> std::io::Result<(u64, Row)> {
    let (mut times, mut written, start) = (Times::default(), 0, Instant::now());
    // One block at least: the tests after this one need something to read.
    while written < plan.size && (written == 0 || plan.goes_on(start, plan.data_share())) {
        let len = usize::try_from(plan.size - written).unwrap_or(BLOCK).min(BLOCK);
        times.take(|| file.write_all_at(&block[..len], written))?;
        written += len as u64;
    }
    file.sync_all()?;
    Ok((written, Row::new("sequential write", 1, Some(written), start.elapsed(), times.0)))
}

type Tools<'a> = (&'a mut Vec<u8>, &'a mut StdRng);
type Done = std::io::Result<Option<Row>>;

fn sequential_read(
    plan: &Plan,
    file: &File,
    size: u64,
    (block, _): Tools<'_>,
    begins: &dyn Fn(&str),
) -> Done {
    begins("sequential read");
    let (mut times, mut at, start) = (Times::default(), 0, Instant::now());
    while at < size && plan.goes_on(start, plan.data_share()) {
        let len = usize::try_from(size - at).unwrap_or(BLOCK).min(BLOCK);
        times.take(|| file.read_exact_at(&mut block[..len], at))?;
        at += len as u64;
    }
    Ok(finished(plan, Row::new("sequential read", 1, Some(at), start.elapsed(), times.0)))
}

fn random_read(plan: &Plan, file: &File, size: u64, (block, dice): Tools<'_>, begins: &dyn Fn(&str)) -> Done {
    begins("random read");
    let mut page = |at| file.read_exact_at(&mut block[..PAGE], at);
    random(plan, "random read", size, dice, &mut page, &|| Ok(()))
}

fn random_write(
    plan: &Plan,
    file: &File,
    size: u64,
    (block, dice): Tools<'_>,
    begins: &dyn Fn(&str),
) -> Done {
    begins("random write");
    let mut page = |at| file.write_all_at(&block[..PAGE], at);
    random(plan, "random write", size, dice, &mut page, &|| file.sync_all())
}

fn random(
    plan: &Plan,
    test: &'static str,
    size: u64,
    dice: &mut StdRng,
    page: &mut dyn FnMut(u64) -> std::io::Result<()>,
    end: &dyn Fn() -> std::io::Result<()>,
) -> Done {
    let pages = size / PAGE as u64;
    let (mut times, start) = (Times::default(), Instant::now());
    while pages > 0 && times.count() < OPS_MAX && plan.goes_on(start, plan.data_share()) {
        let at = dice.random_range(0..pages) * PAGE as u64;
        times.take(|| page(at))?;
    }
    end()?;
    let bytes = times.count() * PAGE;
    Ok(finished(plan, Row::new(test, 1, Some(bytes as u64), start.elapsed(), times.0)))
}

/// A test that was interrupted has no result.
fn finished(plan: &Plan, row: Row) -> Option<Row> {
    (!plan.stop.load(Ordering::Relaxed)).then_some(row)
}
