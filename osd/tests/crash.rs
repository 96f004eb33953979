//! The OSD's process dies at every failpoint and at random moments; what it acknowledged must be there.
//!
//! Each life is a child process (this test binary again) that runs random operations of a known seed against a
//! store on real files and notes each one before and after it. The parent then opens the store and compares: every
//! object is as after the last acknowledged operation, or as after the one that was running.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::executor::block_on;
use osd::store::Store;
use osd::{Osd, OsdConfig, Stamp, StoreError, Tuning, failpoint};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rt::clock::SystemClock;

#[path = "support/model.rs"]
#[allow(dead_code, reason = "shared with the tests inside the crate")]
mod model;

use model::{BLOCK, Model, Objects, apply_to_model, apply_to_store, key, random_op, read_back};

/// Operations of one life at most.
const OPS: usize = 60;

fn open(path: &Path, background: bool) -> Arc<Osd> {
    let tuning = Tuning {
        large_bytes: 4 * BLOCK as u32,
        segment_bytes: 16 * BLOCK as u32,
        fold_bytes: 64 * BLOCK as u64,
        grow_bytes: 256 * BLOCK as u64,
        cached_objects: 4,
        dirty_objects: 8,
        idle_ms: 5,
        background,
        ..Tuning::default()
    };
    let config = OsdConfig {
        capacity_bytes: 1 << 30,
        shards: 2,
        tuning,
        ..OsdConfig::new(path, "osd-crash", SystemClock::new())
    };
    Osd::open(config).unwrap()
}

/// One life. Not a test of its own: it runs as a child, where its variables are set.
#[test]
#[ignore = "the child of `survives_death_at_every_failpoint`"]
fn life() {
    let (Some(dir), Ok(seed)) = (std::env::var_os("OSD_CRASH_DIR"), std::env::var("OSD_CRASH_SEED")) else {
        return;
    };
    let dir = Path::new(&dir);
    let mut rng = StdRng::seed_from_u64(seed.parse().unwrap());
    let mut log = std::fs::OpenOptions::new().append(true).create(true).open(dir.join("log")).unwrap();
    let osd = open(&dir.join("store"), true);
    for _ in 0..OPS {
        let op = random_op(&mut rng);
        log.write_all(b"s").unwrap();
        assert!(apply_to_store(osd.store(), &op));
        log.write_all(b"d").unwrap();
        match rng.random_range(0..16) {
            0 => block_on(osd.store().fold(0)).unwrap(),
            1 => block_on(osd.store().checkpoint()).unwrap(),
            2 => block_on(osd.store().sync_all()).unwrap(),
            _ => {}
        }
    }
    // As good as kill -9: no last checkpoint.
    std::process::exit(7);
}

/// How the life ended: by its failpoint or signal, or after all operations.
fn run_life(dir: &Path, seed: u64, failpoint: Option<&str>, kill_after_ms: Option<u64>) -> bool {
    let _ = std::fs::remove_file(dir.join("log"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "life", "--ignored", "--nocapture", "--test-threads=1"])
        .env("OSD_CRASH_DIR", dir)
        .env("OSD_CRASH_SEED", seed.to_string())
        .stdout(Stdio::null());
    if let Some(failpoint) = failpoint {
        command.env("XTFS_FAILPOINT", failpoint);
    }
    let mut child = command.spawn().unwrap();
    if let Some(after) = kill_after_ms {
        std::thread::sleep(std::time::Duration::from_millis(after));
        let _ = child.kill();
    }
    let status = child.wait().unwrap();
    assert!(matches!(status.code(), None | Some(7)), "seed {seed}, failpoint {failpoint:?}: {status}");
    status.code().is_none()
}

/// Brings the model up to what the life acknowledged, lets the store decide about the last operation.
fn check(store: &Store, objects: &mut Objects, seed: u64, log: &[u8], what: &str) {
    let mut rng = StdRng::seed_from_u64(seed);
    let done = log.iter().filter(|byte| **byte == b'd').count();
    let started = log.iter().filter(|byte| **byte == b's').count();
    assert!(started - done <= 1);
    for _ in 0..done {
        let op = random_op(&mut rng);
        apply_to_model(objects, &op);
        let _: u32 = rng.random_range(0..16);
    }
    let mut after = objects.clone();
    if started > done {
        let op = random_op(&mut rng);
        apply_to_model(&mut after, &op);
    }
    let mut found = BTreeMap::new();
    for ino in 1..4 {
        for object in 0..4 {
            let key = key(ino, object);
            let now: Option<Model> = read_back(store, key);
            assert!(
                now.as_ref() == objects.get(&key) || now.as_ref() == after.get(&key),
                "{what}: {key:?} is neither as after operation {done} nor as after the next"
            );
            found.extend(now.map(|model| (key, model)));
        }
    }
    assert_eq!(store.usage().objects, found.len() as u64, "{what}");
    *objects = found;
}

fn life_and_check(
    dir: &Path,
    objects: &mut Objects,
    seed: u64,
    failpoint: Option<&str>,
    kill: Option<u64>,
) -> bool {
    let died = run_life(dir, seed, failpoint, kill);
    let log = std::fs::read(dir.join("log")).unwrap_or_default();
    let osd = open(&dir.join("store"), false);
    check(osd.store(), objects, seed, &log, &format!("seed {seed}, failpoint {failpoint:?}, kill {kill:?}"));
    died
}

#[test]
fn survives_death_at_every_failpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut objects = Objects::new();
    let mut rng = StdRng::seed_from_u64(1);
    let mut seed = 0;
    for round in 0..2 {
        for name in failpoint::ALL {
            // A late passage, so that there is something to lose; an earlier one when there are not that many.
            let mut count = rng.random_range(1..40 - round * 20);
            loop {
                seed += 1;
                let failpoint = format!("{name}:{count}");
                if life_and_check(dir.path(), &mut objects, seed, Some(&failpoint), None) {
                    break;
                }
                assert!(count > 1, "no life passed {name}");
                count = (count / 3).max(1);
            }
        }
    }
    assert!(!objects.is_empty());
}

#[test]
fn survives_kill_at_random_moments() {
    let dir = tempfile::tempdir().unwrap();
    let mut objects = Objects::new();
    let mut rng = StdRng::seed_from_u64(2);
    for seed in 0..8 {
        life_and_check(dir.path(), &mut objects, 5000 + seed, None, Some(rng.random_range(20..500)));
    }
}
