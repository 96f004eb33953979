//! What can be asked, one file per request.

pub(crate) mod heartbeat_osd;
pub(crate) mod heartbeat_service;
pub(crate) mod map;
pub(crate) mod osd_set_state;
pub(crate) mod osd_set_weight;
pub(crate) mod report;
pub(crate) mod services;
pub(crate) mod volume_create;
pub(crate) mod volume_remove;
pub(crate) mod volumes;

use proto::error::{Code, WireError};

/// Longest UUID, address, domain or host name that is stored, bytes.
const TEXT_BYTES_MAX: usize = 255;

/// A text of bounded length, not empty.
fn text<'a>(what: &str, value: &'a str) -> Result<&'a str, WireError> {
    let bad = |why: String| Err(WireError::new(Code::InvalidArgument, format!("{what} {why}")));
    match value.len() {
        0 => bad("is empty".to_owned()),
        1..=TEXT_BYTES_MAX => Ok(value),
        longer => bad(format!("has {longer} bytes, at most {TEXT_BYTES_MAX} are allowed")),
    }
}

/// A text of bounded length, perhaps empty.
fn optional_text<'a>(what: &str, value: &'a str) -> Result<&'a str, WireError> {
    if value.is_empty() { Ok(value) } else { text(what, value) }
}
