//! What a check found, and how it is shown.

use std::fmt;
use std::path::{Path, PathBuf};

/// One broken rule at one place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Finding {
    /// Relative to the repository.
    pub(crate) path: PathBuf,
    /// 1-based; 0 where the whole file is meant.
    pub(crate) line: usize,
    /// The rule, why, and what to do.
    pub(crate) text: String,
}

impl Finding {
    /// A finding about a whole file.
    pub(crate) fn of_file(path: &Path, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: 0, text: text.into() }
    }

    /// A finding about a line.
    pub(crate) fn at(path: &Path, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path.display(), self.text),
            line => write!(f, "{}:{line}: {}", self.path.display(), self.text),
        }
    }
}

/// Prints the findings of a check; any of them fails it.
pub(crate) fn report(check: &str, findings: &[Finding]) -> Result<(), String> {
    for finding in findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(format!("{check}: {count} finding(s)")),
    }
}
