#![no_main]
//! Any bytes on a connection: the codec takes frames or refuses, and what it took encodes to the same bytes.

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use proto::frame::{self, HEADER_BYTES};

fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    let mut at = 0;
    while let Ok(Some(frame)) = frame::take(&mut buffer) {
        let sent = [&frame.header.encode(&frame.message)[..], &frame.message, &frame.payload].concat();
        assert!(sent.len() >= HEADER_BYTES);
        assert_eq!(sent, &data[at..at + sent.len()]);
        at += sent.len();
    }
});
