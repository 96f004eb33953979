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

impl StoreError {
    /// What an error of the file system means while the store is being opened.
    pub(crate) fn opening(what: &str, error: &std::io::Error) -> Self {
        let text = format!("{what}: {error}");
        if rt::disk::is_full(error) { Self::NoSpace(text) } else { Self::Failed(text) }
    }
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
        if error.is_full() {
            return StoreError::NoSpace(format!(
                "no room for the OSD's metadata table: {error}; free some room under it, it goes on by itself"
            ));
        }
        StoreError::Failed(format!("the OSD's metadata table failed: {error}"))
    }
}

/// Result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;
