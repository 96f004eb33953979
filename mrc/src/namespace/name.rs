//! Names of entries, parsed once.

use proto::error::Code;
use proto::limits::NAME_BYTES_MAX;

use super::{Outcome, refuse};

/// A name that an entry can have: 1 to 255 bytes without `/` and NUL, not `.` and not `..`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// For an entry that exists (or not).
    pub fn parse(bytes: &'a [u8]) -> Outcome<Self> {
        Self::checked(bytes, Code::InvalidArgument)
    }

    /// For an entry to be made: `.` and `..` exist already.
    pub fn parse_new(bytes: &'a [u8]) -> Outcome<Self> {
        Self::checked(bytes, Code::Exists)
    }

    fn checked(bytes: &'a [u8], dots: Code) -> Outcome<Self> {
        if bytes.len() > NAME_BYTES_MAX {
            return refuse(
                Code::NameTooLong,
                format!("a name of {} bytes; {NAME_BYTES_MAX} is the limit", bytes.len()),
            );
        }
        if bytes.is_empty() || bytes.contains(&b'/') || bytes.contains(&0) {
            return refuse(
                Code::InvalidArgument,
                format!("{:?} is not a file name", String::from_utf8_lossy(bytes)),
            );
        }
        if bytes == b"." || bytes == b".." {
            return refuse(dots, format!("{:?} always exists", String::from_utf8_lossy(bytes)));
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.0))
    }
}
