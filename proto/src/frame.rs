//! Bytes on a connection: a fixed header, a prost message, then raw payload.
//!
//! ```text
//!  0 magic      4  "XTF1"           24 trace id       8
//!  4 version    1                   32 deadline ms    4   left when sent; 0 in replies
//!  5 kind       1                   36 message bytes  4
//!  6 method     2                   40 payload bytes  4
//!  8 request id 8                   44 crc32c         4   of bytes 0..44 and the message
//! 16 flags      8  (reserved, 0)
//! ```
//! All integers little-endian. The payload is not covered by this checksum: file data carries its own, made
//! by the client and checked end to end.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits::{MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// Length of the header, bytes.
pub const HEADER_BYTES: usize = 48;
/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"XTF1";
/// Version of the header layout.
pub const VERSION: u8 = 1;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A request; the receiver answers with `Reply` or `Error` and the same request id.
    Request = 1,
    /// The answer.
    Reply = 2,
    /// The refusal; the message is an `ErrorMessage`.
    Error = 3,
    /// The sender no longer waits for the answer to this request id.
    Cancel = 4,
    /// A request that nobody waits for: it is not answered.
    Notice = 5,
}

/// The decoded header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Method number (`rpc::Method::NUMBER`).
    pub method: u16,
    /// Pairs answers with requests on one connection.
    pub request: u64,
    /// Follows a user's operation through all services.
    pub trace: u64,
    /// Time left for the request when it was sent, milliseconds.
    pub deadline_ms: u32,
    /// Length of the message, bytes.
    pub message_bytes: u32,
    /// Length of the payload, bytes.
    pub payload_bytes: u32,
}

/// Why bytes are not a frame. Any of these ends the connection: what follows cannot be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Not our protocol.
    #[error("the peer does not speak this protocol (wrong magic {0:02x?}); check the address and port")]
    Magic([u8; 4]),
    /// A newer or older header layout.
    #[error("the peer speaks frame version {0}, this binary speaks {VERSION}; update the older of the two")]
    Version(u8),
    /// Unknown kind.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// Reserved bits set.
    #[error("reserved flags are set: {0:#x}")]
    Flags(u64),
    /// A length beyond the limits.
    #[error(
        "frame too large: message {message} B (limit {MESSAGE_BYTES_MAX}), payload {payload} B (limit {PAYLOAD_BYTES_MAX})"
    )]
    TooLarge {
        /// Message length claimed.
        message: u32,
        /// Payload length claimed.
        payload: u32,
    },
    /// Header or message damaged on the way.
    #[error("checksum mismatch: the frame was damaged on the way")]
    Checksum,
}

impl Header {
    /// Header bytes for this header and message.
    #[must_use]
    pub fn encode(&self, message: &[u8]) -> [u8; HEADER_BYTES] {
        assert_eq!(message.len(), self.message_bytes as usize, "the header states the message's length");
        assert!(message.len() <= MESSAGE_BYTES_MAX, "messages are bounded where they are made");
        assert!(self.payload_bytes as usize <= PAYLOAD_BYTES_MAX, "payloads are bounded where they are made");
        let mut out = [0u8; HEADER_BYTES];
        let mut at = &mut out[..];
        at.put_slice(&MAGIC);
        at.put_u8(VERSION);
        at.put_u8(self.kind as u8);
        at.put_u16_le(self.method);
        at.put_u64_le(self.request);
        at.put_u64_le(0);
        at.put_u64_le(self.trace);
        at.put_u32_le(self.deadline_ms);
        at.put_u32_le(self.message_bytes);
        at.put_u32_le(self.payload_bytes);
        let sum = sum(&out[..HEADER_BYTES - 4], message);
        out[HEADER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Parses a header; lengths are checked against the limits before anything is allocated. The checksum can
    /// only be verified with the message at hand: [`verify`].
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
        let mut at = &bytes[..];
        let mut magic = [0u8; 4];
        at.copy_to_slice(&mut magic);
        if magic != MAGIC {
            return Err(FrameError::Magic(magic));
        }
        let version = at.get_u8();
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = match at.get_u8() {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Error,
            4 => Kind::Cancel,
            5 => Kind::Notice,
            other => return Err(FrameError::Kind(other)),
        };
        let method = at.get_u16_le();
        let request = at.get_u64_le();
        let flags = at.get_u64_le();
        if flags != 0 {
            return Err(FrameError::Flags(flags));
        }
        let trace = at.get_u64_le();
        let deadline_ms = at.get_u32_le();
        let message_bytes = at.get_u32_le();
        let payload_bytes = at.get_u32_le();
        if message_bytes as usize > MESSAGE_BYTES_MAX || payload_bytes as usize > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLarge { message: message_bytes, payload: payload_bytes });
        }
        Ok(Header { kind, method, request, trace, deadline_ms, message_bytes, payload_bytes })
    }
}

/// Whether header and message are what the sender sent.
pub fn verify(header: &[u8; HEADER_BYTES], message: &[u8]) -> Result<(), FrameError> {
    let mut stated = [0u8; 4];
    stated.copy_from_slice(&header[HEADER_BYTES - 4..]);
    if sum(&header[..HEADER_BYTES - 4], message) == u32::from_le_bytes(stated) {
        Ok(())
    } else {
        Err(FrameError::Checksum)
    }
}

fn sum(header: &[u8], message: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), message)
}

/// A whole frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The header.
    pub header: Header,
    /// The prost message's bytes.
    pub message: Bytes,
    /// Raw bytes beside the message.
    pub payload: Bytes,
}

/// Takes one whole frame from the front of `buffer`, or says that more bytes are needed (`Ok(None)`).
pub fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(head) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let head = *head;
    let header = Header::decode(&head)?;
    let message_bytes = header.message_bytes as usize;
    let whole = HEADER_BYTES + message_bytes + header.payload_bytes as usize;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    let mut frame = buffer.split_to(whole).freeze();
    frame.advance(HEADER_BYTES);
    let message = frame.split_to(message_bytes);
    verify(&head, &message)?;
    Ok(Some(Frame { header, message, payload: frame }))
}
