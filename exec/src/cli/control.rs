//! `xtfs job cancel|signal|suspend|resume|hold|release`: a file in the job's control directory, and its answer.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::find::Place;
use super::{Action, CliError, put};
use crate::engine::JobState;

/// How long an answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn control(
    place: &Place,
    action: &Action,
    json: bool,
    out: &mut dyn Write,
) -> Result<i32, CliError> {
    let (verb, text) = match action {
        Action::Cancel { reason, grace } => {
            let grace = grace.map(|g| format!(" grace={}ms", g.as_millis())).unwrap_or_default();
            ("cancel", format!("{}{grace}\n", reason.as_deref().unwrap_or("")))
        }
        Action::Signal(name) => ("signal", format!("{name}\n")),
        Action::Suspend => ("suspend", String::new()),
        Action::Resume => ("resume", String::new()),
        Action::Hold => ("hold", String::new()),
        Action::Release => ("release", String::new()),
    };
    let state = place.state(&place.records());
    if matches!(state, JobState::Over(_)) {
        return Err(CliError::new(format!("{verb} {}: it is over ({})", place.id, state.word())));
    }
    let dir = place.dir.join("control");
    let before = answers(&dir, verb);
    let (temporary, target) = (dir.join(format!(".{verb}.{}", std::process::id())), dir.join(verb));
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &target));
    written.map_err(|e| CliError::io("writing", &target, &e))?;
    let deadline = Instant::now() + ANSWER_WITHIN;
    loop {
        let new = answers(&dir, verb).into_iter().find(|name| !before.contains(name));
        if let Some(name) = new {
            let answer = std::fs::read_to_string(dir.join(".done").join(&name)).unwrap_or_default();
            return match answer.trim().split_once(": ") {
                Some(("ok", text)) => {
                    let line = if json {
                        format!("{}\n", json!({ "id": place.id.as_str(), "action": verb, "result": text }))
                    } else {
                        format!("{}: {text}\n", place.id)
                    };
                    put(out, &line)?;
                    Ok(0)
                }
                _ => {
                    let text = answer.trim().strip_prefix("error: ").unwrap_or(answer.trim()).to_string();
                    Err(CliError::new(format!("{verb} {}: {text}", place.id)))
                }
            };
        }
        if matches!(place.state(&place.records()), JobState::Over(_)) {
            // It ended by itself; nobody reads the wish any more.
            let _ = std::fs::remove_file(&target);
            put(out, &format!("{}: it ended\n", place.id))?;
            return Ok(0);
        }
        if Instant::now() > deadline {
            let text = format!(
                "{verb} {}: no answer yet; is exec running (xtfs ps)? The wish stands in {}",
                place.id,
                target.display()
            );
            return Err(CliError::late(text));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Names of the answers to wishes of that kind.
fn answers(dir: &Path, verb: &str) -> Vec<String> {
    let end = format!("-{verb}.result");
    std::fs::read_dir(dir.join(".done"))
        .map(|d| {
            d.flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .filter(|n| n.ends_with(&end))
                .collect()
        })
        .unwrap_or_default()
}
