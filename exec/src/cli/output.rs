//! `xtfs job log`: what a job printed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::find::Place;
use super::{CliError, put};
use crate::engine::JobState;

pub(super) fn print(place: &Place, stderr: bool, follow: bool, out: &mut dyn Write) -> Result<i32, CliError> {
    let mut at = 0u64;
    loop {
        // Looked at before reading: what was printed before the end is then read in any case.
        let state = place.state(&place.records());
        let over = matches!(state, JobState::Over(_));
        match path(place, stderr) {
            Some(path) => match File::open(&path) {
                Ok(mut file) => at = copy(&mut file, at, out)?,
                Err(error) if over || !follow => return Err(CliError::io("reading", &path, &error)),
                Err(_) => {}
            },
            None if over || !follow => {
                let text = format!(
                    "{} has no output: it is {}; see xtfs job why {}",
                    place.id,
                    state.word(),
                    place.id
                );
                return Err(CliError::new(text));
            }
            None => {}
        }
        if over || !follow {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Where the output is: the supervisor wrote it down when it let the program go.
fn path(place: &Place, stderr: bool) -> Option<PathBuf> {
    let mut units: Vec<PathBuf> =
        std::fs::read_dir(place.dir.join("units")).ok()?.flatten().map(|e| e.path()).collect();
    units.sort();
    let log = std::fs::read_to_string(units.last()?.join("log")).ok()?;
    let line: serde_json::Value = serde_json::from_str(log.lines().next()?).ok()?;
    let path = line["ctx"][if stderr { "stderr" } else { "stdout" }].as_str()?;
    // Relative to the job's directory, wherever this host has it.
    Some(place.dir.join(path))
}

fn copy(file: &mut File, at: u64, out: &mut dyn Write) -> Result<u64, CliError> {
    let wrong = |e: std::io::Error| CliError::new(format!("reading the output: {e}"));
    file.seek(SeekFrom::Start(at)).map_err(wrong)?;
    let mut at = at;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = file.read(&mut buffer).map_err(wrong)?;
        if n == 0 {
            put(out, "")?;
            return Ok(at);
        }
        at += n as u64;
        if out.write_all(&buffer[..n]).is_err() {
            return Ok(at);
        }
    }
}
