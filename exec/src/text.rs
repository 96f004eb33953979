//! How times are written for people and programs.

/// RFC 3339 in UTC with milliseconds, of milliseconds since 1970.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let stamp = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| "?".into(), |s| format!("{s:.3}"))
}
