//! Why the store did not do it.

use proto::error::{Code, WireError};

/// See the module. The text says on which object and why.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No room; nothing was changed.
    #[error("{0}")]
    NoSpace(String),
    /// The medium failed: what was acknowledged and not synced may be lost, the store takes no more writes.
    #[error("{0}")]
    Failed(String),
    /// Stored bytes do not match their checksum, or on-disk structures contradict one another.
    #[error("{0}")]
    Corrupt(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
}

impl From<StoreError> for WireError {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NoSpace(_) => Code::NoSpace,
            StoreError::Failed(_) => Code::Io,
            StoreError::Corrupt(_) => Code::Corrupt,
            StoreError::Invalid(_) => Code::InvalidArgument,
        };
        WireError::new(code, error.to_string())
    }
}

impl From<rt::table::TableError> for StoreError {
    fn from(error: rt::table::TableError) -> Self {
        StoreError::Failed(format!("the OSD's metadata table failed: {error}"))
    }
}

/// Result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;
