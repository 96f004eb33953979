//! The right to use a file's objects: what the MRC signed passes, anything else does not, and says why.

use proptest::prelude::*;
use prost::Message;
use proto::capability::{Capability, CapabilityKey, READ, REMOVE, WRITE};
use proto::error::Code;

const NOW: u64 = 1_790_000_000_000;
const SKEW: u64 = 500;

fn key(number: u32) -> CapabilityKey {
    CapabilityKey { number, secret: vec![number as u8; 32] }
}

fn unsigned() -> Capability {
    Capability {
        volume: 2,
        ino: 77,
        rights: READ | WRITE,
        session: 9,
        session_epoch: 5,
        expires_ms: NOW + 1000,
        view: 1,
        ..Capability::default()
    }
}

fn refusal(capability: &Capability, keys: &[CapabilityKey], now: u64, need: u32) -> Code {
    capability.check(keys, now, SKEW, need).expect_err("a refusal").code
}

#[test]
fn a_signed_right_passes_for_what_it_says() {
    let signed = unsigned().sign(&key(3));
    let keys = [key(4), key(3)];
    assert_eq!(signed.key, 3);
    for need in [READ, WRITE, READ | WRITE] {
        assert_eq!(signed.check(&keys, NOW, SKEW, need), Ok(()));
    }
    for need in [REMOVE, READ | REMOVE] {
        assert_eq!(refusal(&signed, &keys, NOW, need), Code::PermissionDenied);
    }
}

#[test]
fn time_runs_out_after_the_skew() {
    let signed = unsigned().sign(&key(3));
    let end = signed.expires_ms + SKEW;
    assert_eq!(signed.check(&[key(3)], end, SKEW, READ), Ok(()));
    assert_eq!(refusal(&signed, &[key(3)], end + 1, READ), Code::CapabilityExpired);
    // A capability "for ever" does not wrap round.
    let endless = Capability { expires_ms: u64::MAX, ..unsigned() }.sign(&key(3));
    assert_eq!(endless.check(&[key(3)], u64::MAX, SKEW, READ), Ok(()));
}

#[test]
fn a_key_that_was_rotated_away_asks_for_a_new_right_and_a_forged_one_does_not() {
    let signed = unsigned().sign(&key(3));
    assert_eq!(refusal(&signed, &[key(4)], NOW, READ), Code::CapabilityExpired);
    assert_eq!(refusal(&signed, &[], NOW, READ), Code::CapabilityExpired);
    let same_number = CapabilityKey { number: 3, secret: vec![0xee; 32] };
    assert_eq!(refusal(&signed, &[same_number], NOW, READ), Code::CapabilityInvalid);
}

#[test]
fn every_field_is_under_the_signature() {
    let signed = unsigned().sign(&key(3));
    let keys = [key(3), key(4)];
    for tampered in [
        Capability { volume: 3, ..signed.clone() },
        Capability { ino: 78, ..signed.clone() },
        Capability { rights: READ | WRITE | REMOVE, ..signed.clone() },
        Capability { session: 10, ..signed.clone() },
        Capability { session_epoch: 6, ..signed.clone() },
        Capability { expires_ms: NOW + 2000, ..signed.clone() },
        Capability { view: 2, ..signed.clone() },
        Capability { key: 4, ..signed.clone() },
        Capability { layout: 1, ..signed.clone() },
        Capability { signature: Vec::new(), ..signed.clone() },
        Capability { signature: signed.signature[..31].to_vec(), ..signed.clone() },
    ] {
        assert_eq!(refusal(&tampered, &keys, NOW, READ), Code::CapabilityInvalid, "{tampered:?}");
    }
}

proptest! {
    #[test]
    fn changed_bytes_never_give_a_right(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
        let signed = unsigned().sign(&key(3));
        let mut bytes = signed.encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(read) = Capability::decode(&bytes[..]) {
            prop_assert!(read == signed || read.check(&[key(3)], NOW, SKEW, READ).is_err(), "{:?}", read);
        }
    }

    #[test]
    fn a_right_survives_the_wire(volume: u64, ino: u64, session: u64, expires_ms in NOW..u64::MAX) {
        let signed = Capability { volume, ino, session, expires_ms, ..unsigned() }.sign(&key(3));
        let read = Capability::decode(&signed.encode_to_vec()[..]).unwrap();
        prop_assert_eq!(&read, &signed);
        prop_assert!(read.check(&[key(3)], NOW, SKEW, READ).is_ok());
    }
}
