//! `xtfs job wait`.

use std::io::Write;
use std::time::{Duration, Instant};

use super::find::Place;
use super::{CliError, put};

pub(super) fn wait(
    place: &Place,
    timeout: Option<Duration>,
    json: bool,
    out: &mut dyn Write,
) -> Result<i32, CliError> {
    let deadline = timeout.map(|t| Instant::now() + t);
    let mut pause = Duration::from_millis(20);
    loop {
        let file = place.file(&place.records());
        if let Some(result) = place.result(&file) {
            if json {
                put(out, &format!("{result:#}\n"))?;
            }
            let code = result["exit_code"].as_i64().and_then(|c| i32::try_from(c).ok());
            let signal = result["signal"].as_i64().and_then(|s| i32::try_from(s).ok());
            return Ok(match (result["state"].as_str(), code, signal) {
                (Some("DONE"), _, _) => 0,
                (_, Some(code), _) if code != 0 => code,
                (_, _, Some(signal)) => 128 + signal,
                _ => 1,
            });
        }
        if deadline.is_some_and(|at| Instant::now() >= at) {
            let status = place.status();
            let state = status["state"].as_str().unwrap_or("?").to_string();
            let reason = status["reason"]["text"].as_str().unwrap_or("").to_string();
            return Err(CliError::late(format!(
                "{} has not ended in time; it is {state}: {reason}",
                place.id
            )));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}
