//! A command as it stands in a log entry: when it was proposed, by whom, and the service's bytes.
//!
//! Layout (little endian): version u8 = 1, unix_ms u64, sub_ms_nanos u32, session u64, sequence u64,
//! acked_below u64, command. An empty entry is the one with which a leader begins its term.

use std::time::Duration;

use bytes::Bytes;
use proto::rpc::Origin;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 8 + 4 + 8 * 3;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The proposer's wall clock, milliseconds since 1970.
    pub unix_ms: u64,
    /// Nanoseconds within the millisecond.
    pub sub_ms_nanos: u32,
    /// Who may repeat it.
    pub origin: Origin,
    /// The service's bytes.
    pub body: Bytes,
}

impl Command {
    /// The bytes of an entry.
    #[must_use]
    pub fn encode(at: Duration, origin: &Origin, body: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&u64::try_from(at.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend_from_slice(&(at.subsec_nanos() % 1_000_000).to_le_bytes());
        for word in [origin.session, origin.sequence, origin.acked_below] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(body);
        bytes.into()
    }

    /// The inverse; `None` for bytes that no version of this program wrote.
    #[must_use]
    pub fn parse(data: &Bytes) -> Option<Self> {
        let word =
            |at: usize| -> Option<u64> { Some(u64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?)) };
        if *data.first()? != VERSION || data.len() < HEAD_BYTES {
            return None;
        }
        Some(Self {
            unix_ms: word(1)?,
            sub_ms_nanos: u32::from_le_bytes(data.get(9..13)?.try_into().ok()?),
            origin: Origin { session: word(13)?, sequence: word(21)?, acked_below: word(29)? },
            body: data.slice(HEAD_BYTES..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_back() {
        let origin = Origin { session: 1, sequence: 2, acked_below: 3 };
        let data = Command::encode(Duration::new(5, 7_000_123), &origin, b"body");
        let want = Command { unix_ms: 5007, sub_ms_nanos: 123, origin, body: Bytes::from_static(b"body") };
        assert_eq!(Command::parse(&data), Some(want));
        assert_eq!(Command::parse(&data.slice(..HEAD_BYTES - 1)), None);
        assert_eq!(Command::parse(&Bytes::from_static(b"\x02")), None);
    }
}
