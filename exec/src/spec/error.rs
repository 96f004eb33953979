//! What is wrong with a descriptor, where, and what to do about it.

use std::fmt::Write as _;
use std::ops::Range;

use serde::Serialize;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpecError {
    /// Stable code, `E01xx` contents, `E02xx` kind of file, `E03xx` limits and rights.
    pub code: &'static str,
    /// Line, from 1; 0 when the error is about the file as a whole.
    pub line: u32,
    /// Column in characters, from 1; 0 with line 0.
    pub col: u32,
    /// What is wrong.
    #[serde(rename = "msg")]
    pub message: String,
    /// What to do.
    pub fix: Option<String>,
    /// The source line.
    #[serde(skip)]
    pub source: String,
    /// How many characters the caret marks.
    #[serde(skip)]
    pub width: u32,
}

/// Longest source line shown, characters.
const SHOWN_MAX: usize = 120;

impl SpecError {
    /// An error about the file as a whole.
    pub fn whole(code: &'static str, message: String, fix: &str) -> Self {
        let fix = (!fix.is_empty()).then(|| fix.to_string());
        Self { code, line: 0, col: 0, message, fix, source: String::new(), width: 0 }
    }

    /// An error at a place in the text.
    pub(super) fn at(
        text: &str,
        span: Range<usize>,
        code: &'static str,
        message: String,
        fix: Option<String>,
    ) -> Self {
        let start = floor_boundary(text, span.start.min(text.len()));
        let end = floor_boundary(text, span.end.clamp(start, text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
        let line = count(text[..start].matches('\n').count()).saturating_add(1);
        let col = count(text[line_start..start].chars().count()).saturating_add(1);
        let marked = text[start..end.min(line_end).max(start)].chars().count().max(1);
        let source: String =
            text[line_start..line_end].trim_end_matches('\r').chars().take(SHOWN_MAX).collect();
        let room = SHOWN_MAX.saturating_sub(col as usize - 1).max(1);
        Self { code, line, col, message, fix, source, width: count(marked.min(room)) }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The error for bytes that are not UTF-8, with the byte's place.
pub(super) fn not_utf8(bytes: &[u8], at: usize) -> SpecError {
    let line = count(bytes[..at].iter().filter(|b| **b == b'\n').count()).saturating_add(1);
    let line_start = bytes[..at].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    let source: String = String::from_utf8_lossy(&bytes[line_start..at]).chars().take(SHOWN_MAX).collect();
    SpecError {
        code: "E0100",
        line,
        col: count(source.chars().count()).saturating_add(1),
        message: format!("byte 0x{:02x} is not UTF-8", bytes.get(at).copied().unwrap_or_default()),
        fix: Some("save the file as UTF-8".into()),
        source,
        width: 1,
    }
}

/// The text of an `.error` file: each error with its line and a caret, then what to do with the file.
/// `resubmit` is the shell command that brings the descriptor back.
pub fn render_errors(file_name: &str, errors: &[SpecError], resubmit: &str) -> String {
    let mut out = String::new();
    for error in errors {
        if error.line == 0 {
            let _ = write!(out, "{file_name}: error {}: {}", error.code, error.message);
        } else {
            let (line, col) = (error.line, error.col);
            let _ = write!(out, "{file_name}:{line}:{col}: error {}: {}", error.code, error.message);
        }
        if let Some(fix) = &error.fix {
            let _ = write!(out, "; {fix}");
        }
        out.push('\n');
        if error.line > 0 {
            let _ = writeln!(out, "{:>5} | {}", error.line, error.source);
            // Tabs stay tabs, so that the caret stands under its place in any editor.
            let pad: String = (error.source.chars().take(error.col as usize - 1))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let _ = writeln!(out, "      | {pad}{}", "^".repeat(error.width as usize));
        }
    }
    let noun = if errors.len() == 1 { "error" } else { "errors" };
    let _ = writeln!(
        out,
        "{} {noun}; nothing was started. Fix the file and move it to new/ again:",
        errors.len()
    );
    let _ = writeln!(out, "  {resubmit}");
    out
}
