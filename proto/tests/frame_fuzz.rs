//! Whatever arrives, the frame codec neither panics nor allocates beyond the limits, and what was sent comes out.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message;
use proto::capability::Capability;
use proto::frame::{self, Frame, FrameError, HEADER_BYTES, Header, Kind};
use proto::limits::{MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX};
use proto::{dir, error::ErrorMessage, mrc, osd, raft};

/// What a buffer may grow to for one frame.
const FRAME_BYTES_MAX: usize = HEADER_BYTES + MESSAGE_BYTES_MAX + PAYLOAD_BYTES_MAX;

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Request),
        Just(Kind::Reply),
        Just(Kind::Error),
        Just(Kind::Cancel),
        Just(Kind::Notice)
    ]
}

prop_compose! {
    fn frames()(
        kind in kinds(),
        method: u16,
        request: u64,
        trace: u64,
        deadline_ms: u32,
        message in prop::collection::vec(any::<u8>(), 0..300),
        payload in prop::collection::vec(any::<u8>(), 0..5000),
    ) -> Frame {
        let message_bytes = u32::try_from(message.len()).unwrap();
        let payload_bytes = u32::try_from(payload.len()).unwrap();
        let header = Header { kind, method, request, trace, deadline_ms, message_bytes, payload_bytes };
        Frame { header, message: Bytes::from(message), payload: Bytes::from(payload) }
    }
}

fn bytes_of(frame: &Frame) -> Vec<u8> {
    [&frame.header.encode(&frame.message)[..], &frame.message, &frame.payload].concat()
}

/// Takes frames until an error or the end; panics when the buffer grew beyond the largest frame.
fn drain(bytes: &[u8]) -> (Vec<Frame>, Option<FrameError>) {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = Vec::new();
    loop {
        match frame::take(&mut buffer) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => {
                assert!(buffer.capacity() <= 2 * (FRAME_BYTES_MAX + bytes.len()), "{}", buffer.capacity());
                return (frames, None);
            }
            Err(error) => return (frames, Some(error)),
        }
    }
}

/// No message type may panic on bytes of somebody else.
fn parse_as_everything(bytes: &[u8]) {
    let _ = ErrorMessage::decode(bytes);
    let _ = Capability::decode(bytes);
    let _ = raft::RaftMessages::decode(bytes);
    let _ = dir::OsdHeartbeatReply::decode(bytes);
    let _ = dir::VolumeEntry::decode(bytes);
    let _ = mrc::OpenSession::decode(bytes);
    let _ = mrc::CreateRequest::decode(bytes);
    let _ = mrc::ReadDirReply::decode(bytes);
    let _ = mrc::SetAttrRequest::decode(bytes);
    let _ = osd::WriteRequest::decode(bytes);
    let _ = osd::StatObjectsReply::decode(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let (frames, _) = drain(&bytes);
        prop_assert!(frames.is_empty(), "random bytes passed a 32-bit magic and a 32-bit checksum");
        parse_as_everything(&bytes);
    }

    #[test]
    fn random_bytes_behind_a_magic_never_panic(bytes in prop::collection::vec(any::<u8>(), 44..400), kind in 1u8..=4) {
        let mut whole = b"XTF1\x01".to_vec();
        whole.push(kind);
        whole.extend(bytes);
        let (frames, _) = drain(&whole);
        prop_assert!(frames.is_empty());
    }

    #[test]
    fn frames_come_out_as_they_went_in(sent in prop::collection::vec(frames(), 0..5)) {
        let bytes: Vec<u8> = sent.iter().flat_map(bytes_of).collect();
        let (received, error) = drain(&bytes);
        prop_assert_eq!(error, None);
        prop_assert_eq!(received, sent);
    }

    #[test]
    fn a_frame_in_parts_waits_for_its_end(sent in frames(), cut in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&sent);
        let cut = cut.index(bytes.len());
        let mut buffer = BytesMut::from(&bytes[..cut]);
        prop_assert_eq!(frame::take(&mut buffer), Ok(None));
        buffer.extend_from_slice(&bytes[cut..]);
        prop_assert_eq!(frame::take(&mut buffer), Ok(Some(sent)));
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn one_changed_byte_of_header_or_message_is_noticed(
        sent in frames(), at in any::<prop::sample::Index>(), flip in 1u8..=255,
    ) {
        let mut bytes = bytes_of(&sent);
        let covered = HEADER_BYTES + sent.message.len();
        let at = at.index(covered);
        bytes[at] ^= flip;
        // A length that grew makes the frame wait for more; whatever follows, it is never taken for whole.
        bytes.resize(bytes.len() + 64, 0);
        let (received, _) = drain(&bytes);
        prop_assert!(received.is_empty(), "byte {} changed by {:#x} went unnoticed", at, flip);
    }

    #[test]
    fn mutated_frames_never_panic(
        sent in frames(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = bytes_of(&sent);
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        drain(&bytes);
        parse_as_everything(&bytes[HEADER_BYTES..]);
    }
}

#[test]
fn lengths_beyond_the_limits_are_refused_before_anything_is_reserved() {
    let header = Header {
        kind: Kind::Request,
        method: 1,
        request: 1,
        trace: 0,
        deadline_ms: 0,
        message_bytes: 0,
        payload_bytes: 0,
    };
    for (at, limit) in [(36, MESSAGE_BYTES_MAX), (40, PAYLOAD_BYTES_MAX)] {
        let mut bytes = header.encode(b"");
        for over in [limit as u32 + 1, u32::MAX] {
            bytes[at..at + 4].copy_from_slice(&over.to_le_bytes());
            let mut buffer = BytesMut::from(&bytes[..]);
            assert!(matches!(frame::take(&mut buffer), Err(FrameError::TooLarge { .. })));
            assert!(buffer.capacity() <= 1024, "reserved {} bytes for a refused frame", buffer.capacity());
        }
        bytes[at..at + 4].copy_from_slice(&(limit as u32).to_le_bytes());
        assert_eq!(frame::take(&mut BytesMut::from(&bytes[..])), Ok(None), "the limit itself is allowed");
    }
}

#[test]
fn each_wrong_field_is_named() {
    let header = Header {
        kind: Kind::Reply,
        method: 1,
        request: 1,
        trace: 0,
        deadline_ms: 0,
        message_bytes: 0,
        payload_bytes: 0,
    };
    let broken = |at: usize, value: u8| {
        let mut bytes = header.encode(b"");
        bytes[at] = value;
        frame::take(&mut BytesMut::from(&bytes[..])).unwrap_err()
    };
    assert_eq!(broken(0, b'H'), FrameError::Magic(*b"HTF1"));
    assert_eq!(broken(4, 9), FrameError::Version(9));
    assert_eq!(broken(5, 0), FrameError::Kind(0));
    assert_eq!(broken(16, 1), FrameError::Flags(1));
    assert_eq!(broken(44, !header.encode(b"")[44]), FrameError::Checksum);
}
