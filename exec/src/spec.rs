//! Descriptors: bytes that a user dropped become a [`JobSpec`], or a list of everything that is wrong with them.
//!
//! Pure and total: any bytes give an answer, never a panic (property-tested). Accepted forms, by content:
//! TOML, JSON, JSDL, and `#!` scripts with `#XOS key = value` lines or the common `#SBATCH` options. All end in the same
//! tree of [`value::Node`]s with source positions, which `schema` turns into the spec, so that every
//! error can show line, column and the place in the line whatever the form.

mod duration;
mod error;
mod jsdl;
mod json;
mod schema;
mod script;
mod suggest;
mod toml_form;
mod value;
mod xml;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use duration::duration_ms;
pub use duration::{signal_name, signal_number};
pub use error::{SpecError, render_errors};

/// Largest descriptor, bytes.
pub const DESCRIPTOR_BYTES_MAX: usize = 256 * 1024;
/// Errors collected for one descriptor; the rest is cut off with a note.
pub const ERRORS_MAX: usize = 50;

/// A sound job: exists only if the descriptor was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Schema version, 1.
    pub version: u32,
    /// What the user calls it; the file's name without its ending if the descriptor has none.
    pub name: String,
    /// What runs.
    pub program: Program,
    /// Arguments after the program, with placeholders.
    pub args: Vec<String>,
    /// Working directory; `None` is the user's home.
    pub cwd: Option<String>,
    /// Extra environment; nothing is inherited from a daemon.
    pub env: BTreeMap<String, String>,
    /// Standard input, default `/dev/null`.
    pub stdin: Option<String>,
    /// Standard output, default `stdout.txt` in the job's directory.
    pub stdout: Option<String>,
    /// Standard error, default `stderr.txt` in the job's directory.
    pub stderr: Option<String>,
    /// Append to stdout and stderr files of the user instead of truncating them.
    #[serde(default)]
    pub append_output: bool,
    /// What it needs and may use.
    pub resources: Resources,
    /// Not before this time, milliseconds since 1970.
    pub begin_unix_ms: Option<u64>,
    /// A signal some time before the time limit.
    pub signal: Option<EarlySignal>,
    /// Starts again after a start that is known not to have happened; 0 is never.
    pub retry_max: u32,
    /// A second descriptor of the same user with the same key is not a second job.
    pub idempotency_key: Option<String>,
    /// Things that were ignored because the descriptor says `strict = false`.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// A program by path, or by name in the default `PATH`.
    Exec(String),
    /// A script in the descriptor (`script = """..."""`).
    Script(String),
    /// The descriptor itself is the script (`#!`).
    Descriptor,
}

/// What a job needs and may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor slots.
    pub cpus: u32,
    /// Memory limit, bytes.
    pub memory: Option<u64>,
    /// Time limit, milliseconds.
    pub time_ms: Option<u64>,
}

/// A warning signal before the time limit ends the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlySignal {
    /// Signal number.
    pub number: i32,
    /// How long before the limit, milliseconds.
    pub before_end_ms: u64,
}

/// Placeholders that `args`, `stdin`, `stdout`, `stderr` and `cwd` may contain.
pub const PLACEHOLDERS: [&str; 4] = ["id", "name", "user", "unit"];

/// Reads a descriptor. `file_name` names it in messages and gives the default job name.
pub fn parse(bytes: &[u8], file_name: &str) -> Result<JobSpec, Vec<SpecError>> {
    if bytes.len() > DESCRIPTOR_BYTES_MAX {
        return Err(vec![SpecError::whole(
            "E0301",
            format!("the descriptor has {} bytes; the limit is {DESCRIPTOR_BYTES_MAX}", bytes.len()),
            "put large scripts into a file on the volume and name it with `exec`",
        )]);
    }
    let text = std::str::from_utf8(bytes).map_err(|e| vec![error::not_utf8(bytes, e.valid_up_to())])?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(at) = text.bytes().position(|b| b == 0) {
        return Err(vec![SpecError::at(
            text,
            at..at + 1,
            "E0100",
            "a NUL byte in a text file".into(),
            Some("remove it; a descriptor is plain UTF-8 text".into()),
        )]);
    }
    let start = text.trim_start();
    if start.is_empty() {
        return Err(vec![SpecError::whole(
            "E0102",
            "the descriptor is empty".into(),
            "write at least: exec = \"/bin/echo\"",
        )]);
    }
    let tree = if text.starts_with("#!") {
        script::read(text)
    } else if start.starts_with('{') {
        json::read(text)
    } else if start.starts_with('<') {
        jsdl::read(text)
    } else {
        toml_form::read(text)
    }?;
    schema::build(text, tree, default_name(file_name))
}

/// Whether these errors look like those of a file that is still being written: nothing is wrong but its end.
pub fn looks_cut_off(bytes: &[u8], errors: &[SpecError]) -> bool {
    let lines = bytes.split(|b| *b == b'\n').count();
    let last = u32::try_from(lines).unwrap_or(u32::MAX);
    !bytes.ends_with(b"\n")
        && errors.iter().any(|e| matches!(e.code, "E0101" | "E0100") && e.line.saturating_add(1) >= last)
        || bytes.is_empty()
}

/// Replaces `{id}` and its like; `{{` and `}}` are braces.
pub fn fill(template: &str, value_of: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            out.push_str(&tail[..1]);
            rest = &tail[2..];
            continue;
        }
        match tail.find('}').and_then(|end| value_of(tail.get(1..end)?).map(|v| (end, v))) {
            Some((end, value)) => {
                out.push_str(&value);
                rest = &tail[end + 1..];
            }
            None => {
                out.push_str(&tail[..1]);
                rest = &tail[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn default_name(file_name: &str) -> String {
    let base = file_name.rsplit('/').next().unwrap_or(file_name);
    let stem = [".toml", ".json", ".sh", ".job", ".sbatch", ".jsdl", ".xml"]
        .iter()
        .find_map(|e| base.strip_suffix(e));
    let stem = stem.unwrap_or(base);
    if stem.is_empty() { "job".into() } else { stem.into() }
}

#[cfg(test)]
#[path = "spec/parse_test.rs"]
mod parse_test;
