//! `xtfs job ls|show|why`.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::find::{Place, users};
use super::{CliError, put};
use crate::spool::split_name;

pub(super) fn list(
    spool: &Path,
    all: bool,
    user: Option<&str>,
    json: bool,
    out: &mut dyn Write,
) -> Result<i32, CliError> {
    let dirs: &[&str] = if all { &["run", "hold", "done", "failed"] } else { &["run", "hold"] };
    let mut jobs = Vec::new();
    for name in users(spool).into_iter().filter(|u| user.is_none_or(|wanted| wanted == u)) {
        for dir in dirs {
            let Ok(entries) = std::fs::read_dir(spool.join(&name).join(dir)) else { continue };
            for entry in entries.flatten() {
                let full = entry.file_name().to_string_lossy().into_owned();
                // An ended job is known by its result: its descriptor may have been submitted again.
                let ended = matches!(*dir, "done" | "failed");
                let Some(full) =
                    (if ended { full.strip_suffix(".result.json") } else { Some(full.as_str()) })
                else {
                    continue;
                };
                if let Some((_, id)) = split_name(full) {
                    jobs.push(Place::of(spool, &name, id).status());
                }
            }
        }
    }
    jobs.sort_by(|a, b| word(a, "submitted").cmp(word(b, "submitted")));
    if json {
        put(out, &format!("{:#}\n", Value::from(jobs)))?;
        return Ok(0);
    }
    let mut text = format!(
        "{:<18} {:<16} {:<10} {:<9} {:<24} {}\n",
        "ID", "NAME", "USER", "STATE", "SUBMITTED", "REASON"
    );
    for job in &jobs {
        let _ = writeln!(
            text,
            "{:<18} {:<16} {:<10} {:<9} {:<24} {}",
            word(job, "id"),
            word(job, "name"),
            word(job, "user"),
            word(job, "state"),
            word(job, "submitted"),
            job["reason"]["text"].as_str().unwrap_or("")
        );
    }
    put(out, &text)?;
    Ok(0)
}

pub(super) fn show(place: &Place, json: bool, out: &mut dyn Write) -> Result<i32, CliError> {
    let mut status = place.status();
    let records = place.records();
    if json {
        let events: Vec<Value> =
            records.iter().map(|r| serde_json::to_value(r).unwrap_or_default()).collect();
        status["events"] = events.into();
        status["dir"] = json!(place.dir);
        put(out, &format!("{status:#}\n"))?;
        return Ok(0);
    }
    let mut text = head(&status);
    for (label, key) in [
        ("submitted", "submitted"),
        ("started", "started"),
        ("ended", "ended"),
        ("node", "node"),
        ("stdout", "stdout"),
    ] {
        if let Some(value) = status[key].as_str() {
            let _ = writeln!(text, "  {label:<10} {value}");
        }
    }
    let _ = writeln!(text, "  {:<10} {}", "directory", place.dir.display());
    text.push_str("events\n");
    for record in &records {
        let value = serde_json::to_value(record).unwrap_or_default();
        let context = &value["ctx"];
        let note = ["text", "why", "code"].iter().find_map(|k| context[*k].as_str()).unwrap_or("");
        let time = crate::text::rfc3339(record.t_ms);
        let _ = writeln!(text, "  {:>3} {time} {:<8} {note}", record.seq, word(&value, "e"));
    }
    put(out, &text)?;
    Ok(0)
}

pub(super) fn why(place: &Place, json: bool, out: &mut dyn Write) -> Result<i32, CliError> {
    let status = place.status();
    if json {
        let why = json!({ "id": status["id"], "state": status["state"], "reason": status["reason"] });
        put(out, &format!("{why:#}\n"))?;
        return Ok(0);
    }
    let mut text = head(&status);
    if let Some(since) = status["reason"]["since"].as_str() {
        let _ = writeln!(text, "  since {since}");
    }
    if let Some(hint) = status["reason"]["hint"].as_str() {
        let _ = writeln!(text, "  next: {hint}");
    }
    put(out, &text)?;
    Ok(0)
}

fn head(status: &Value) -> String {
    let reason = status["reason"]["text"].as_str().unwrap_or("");
    format!(
        "{} {} ({} of {}): {reason}\n",
        word(status, "id"),
        word(status, "state"),
        word(status, "name"),
        word(status, "user")
    )
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("")
}
