//! What must never be seen. Each invariant has a file that says where it comes from and a test that it can fail.

pub mod election_safety;
pub mod exactly_once;
pub mod fresh_reads;
pub mod leader_completeness;
pub mod linearizable;
pub mod log_matching;
pub mod nothing_lost;
pub mod replicas_converge;
pub mod same_bytes;
pub mod state_machine_safety;

/// What an invariant saw that must not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// Which one.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// A violation.
    #[must_use]
    pub fn new(invariant: &'static str, what: String) -> Self {
        Self { invariant, what }
    }
}
