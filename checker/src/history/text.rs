//! Histories as text: one line for a call, fields separated by blanks, bounds checked when read.
//!
//! ```text
//! posix-history 1
//! call CLIENT PROCESS INVOKED RETURNED|- OBJECT OPERATION... = OUTCOME
//! event AT killed | power-lost | fenced CLIENT
//! # a comment
//! ```
//! An object is `tree:N`, `file:N`, `log:N` or `locks:N`. An outcome is `ok`, `ok VALUE`, `!ERRNO` or `?`. Paths may
//! hold any visible ASCII but blanks; the root of a tree is `.`.

mod read;
mod write;

use std::io::{self, BufRead, Write};

use super::{Call, Event, History};

/// First line of every history.
pub const HEADER: &str = "posix-history 1";

/// Longest line, bytes: a listing of a large directory.
const LINE_MAX: usize = 1 << 20;

/// Why a text is not a history.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// It could not be read.
    #[error("cannot read the history: {0}; check that the file is readable")]
    Io(#[from] io::Error),
    /// A line means nothing.
    #[error("line {line}: {text}; the format is described in checker/README.md")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        text: String,
    },
}

/// A call as one line, without its end.
#[must_use]
pub fn call_line(call: &Call) -> String {
    write::call(call)
}

/// An event as one line, without its end.
#[must_use]
pub fn event_line(event: &Event) -> String {
    write::event(event)
}

/// What was asked, as in a line.
#[must_use]
pub fn operation_text(operation: &super::Operation) -> String {
    write::operation(operation)
}

/// What came of it, as in a line.
#[must_use]
pub fn outcome_text(outcome: &super::Outcome) -> String {
    write::outcome(outcome)
}

/// The object, as in a line.
#[must_use]
pub fn object_text(object: super::Object) -> String {
    write::object(object)
}

/// Writes a history with its header.
pub fn save(history: &History, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{HEADER}")?;
    for event in &history.events {
        writeln!(out, "{}", event_line(event))?;
    }
    for call in &history.calls {
        writeln!(out, "{}", call_line(call))?;
    }
    out.flush()
}

/// Reads what [`save`] wrote.
pub fn load(input: &mut dyn BufRead) -> Result<History, TextError> {
    let mut history = History::default();
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        let got = io::Read::take(&mut *input, LINE_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if got == 0 {
            break;
        }
        number += 1;
        let wrong = |text: String| TextError::Line { line: number, text };
        if got > LINE_MAX {
            return Err(wrong(format!("longer than {LINE_MAX} bytes")));
        }
        let text = std::str::from_utf8(&line).map_err(|_| wrong("is not UTF-8".into()))?.trim();
        if number == 1 && text != HEADER {
            return Err(wrong(format!("does not say `{HEADER}`")));
        }
        if number == 1 || text.is_empty() || text.starts_with('#') {
            continue;
        }
        match text.split_once(' ') {
            Some(("call", rest)) => history.calls.push(read::call(rest).map_err(wrong)?),
            Some(("event", rest)) => history.events.push(read::event(rest).map_err(wrong)?),
            _ => return Err(wrong("is neither a call nor an event".into())),
        }
    }
    if number == 0 {
        return Err(TextError::Line { line: 1, text: "the file is empty".into() });
    }
    Ok(history)
}
