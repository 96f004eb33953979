//! What went wrong, as a person reads it: what failed, on which object, why, what to type next.

use std::fmt;

use proto::error::{Code, WireError};

/// Why a command ended without doing what it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The process's exit status: 1 failed, 2 wrong usage, 3 not reached in time.
    pub(crate) status: u8,
    /// What failed, with the object.
    what: String,
    /// Why.
    why: String,
    /// What to do next.
    next: Option<String>,
}

/// What commands return: the exit status, 0 unless the command has its own (`job wait`).
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    /// The operation failed.
    pub(crate) fn new(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { status: 1, what: what.into(), why: why.to_string(), next: None }
    }

    /// The command line was wrong.
    pub(crate) fn usage(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { status: 2, ..Self::new(what, why) }
    }

    /// A service could not be reached in time.
    pub(crate) fn unreachable(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { status: 3, ..Self::new(what, why) }
    }

    /// A service refused; the exit status follows from its code.
    pub(crate) fn wire(what: impl Into<String>, error: &WireError) -> Self {
        match error.code {
            Code::Unavailable | Code::DeadlineExceeded | Code::NotLeader | Code::Busy => {
                Self::unreachable(what, &error.text).next("see who answers with `xtfs status`")
            }
            code => Self::new(what, &error.text).next(format!("`xtfs explain {code:?}` says more")),
        }
    }

    /// Ends the process with this status.
    #[must_use]
    pub(crate) fn status(mut self, status: u8) -> Self {
        self.status = status;
        self
    }

    /// Says what to type next.
    #[must_use]
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// As a JSON object, for callers that read it from a pipe.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"error": self.what, "why": self.why, "next": self.next, "status": self.status})
    }

    /// The inverse of [`Failure::to_json`]; `None` when it is not one.
    pub(crate) fn from_json(value: &serde_json::Value) -> Option<Self> {
        let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        Some(Self {
            status: value.get("status")?.as_u64().and_then(|status| u8::try_from(status).ok())?,
            what: text("error")?,
            why: text("why")?,
            next: text("next"),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)?;
        if let Some(next) = &self.next {
            write!(f, "\n  next: {next}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_pipe_of_detach() {
        let failure = Failure::unreachable("mounting /x", "no answer").next("xtfs ps");
        let back = Failure::from_json(&failure.to_json()).unwrap();
        assert_eq!(back.to_string(), "mounting /x: no answer\n  next: xtfs ps");
        assert_eq!(back.status, 3);
        assert!(Failure::from_json(&serde_json::json!({"mount": "/x"})).is_none());
    }

    #[test]
    fn wire_codes_choose_the_exit_status() {
        assert_eq!(Failure::wire("x", &WireError::new(Code::DeadlineExceeded, "late")).status, 3);
        assert_eq!(Failure::wire("x", &WireError::new(Code::Exists, "there")).status, 1);
    }
}
