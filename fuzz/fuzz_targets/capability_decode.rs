#![no_main]
//! Any bytes as a capability: none of them opens a file, because none of them was signed.

use libfuzzer_sys::fuzz_target;
use prost::Message;
use proto::capability::{Capability, CapabilityKey, READ};

fuzz_target!(|data: &[u8]| {
    // A secret that the fuzzer cannot see in its corpus.
    let key = CapabilityKey { number: 0, secret: std::process::id().to_le_bytes().repeat(8) };
    if let Ok(capability) = Capability::decode(data) {
        assert!(capability.check(&[key], 0, 0, READ).is_err());
    }
});
