//! The right to use a file's objects: made by the MRC at open, shown to OSDs with every request.
//!
//! HMAC-SHA256 under a cluster key that the DIR hands to MRCs and OSDs (never to clients). Rotation: keys have
//! numbers; OSDs keep the old one until every capability made with it has run out.

use hmac::{Hmac, Mac};
use prost::Message;
use sha2::Sha256;

use crate::error::{Code, WireError};

/// May read objects.
pub const READ: u32 = 1;
/// May write, punch and truncate objects.
pub const WRITE: u32 = 2;
/// May remove objects (garbage collection, replica moves).
pub const REMOVE: u32 = 4;
/// Is an OSD that keeps replicas: only holders of a cluster key can make it, clients never get it.
pub const REPLICATE: u32 = 8;

/// The signed right.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Capability {
    /// Volume.
    #[prost(uint64, tag = "1")]
    pub volume: u64,
    /// File.
    #[prost(uint64, tag = "2")]
    pub ino: u64,
    /// [`READ`] | [`WRITE`] | [`REMOVE`].
    #[prost(uint32, tag = "3")]
    pub rights: u32,
    /// The client session it was made for.
    #[prost(fixed64, tag = "4")]
    pub session: u64,
    /// Fencing epoch of that session; OSDs refuse epochs below what they were told.
    #[prost(uint64, tag = "5")]
    pub session_epoch: u64,
    /// End of validity, Unix milliseconds of the MRC's clock.
    #[prost(uint64, tag = "6")]
    pub expires_ms: u64,
    /// View of the layout it was made for.
    #[prost(uint64, tag = "7")]
    pub view: u64,
    /// Which key signed it.
    #[prost(uint32, tag = "8")]
    pub key: u32,
    /// [`crate::stripe::Layout::digest`] of a replicated file's layout; 0 for a file with one copy.
    #[prost(fixed64, tag = "9")]
    pub layout: u64,
    /// HMAC-SHA256 of all of the above.
    #[prost(bytes = "vec", tag = "15")]
    pub signature: Vec<u8>,
}

/// A cluster key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CapabilityKey {
    /// Its number.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// 32 random bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub secret: Vec<u8>,
}

impl Capability {
    /// Signs with `key`.
    #[must_use]
    pub fn sign(mut self, key: &CapabilityKey) -> Self {
        self.key = key.number;
        self.signature = self.mac(key).finalize().into_bytes().to_vec();
        self
    }

    /// Checks signature, time, file and rights. `now_ms` is the verifier's clock; `skew_ms` is what clocks may
    /// differ by.
    pub fn check(
        &self,
        keys: &[CapabilityKey],
        now_ms: u64,
        skew_ms: u64,
        need: u32,
    ) -> Result<(), WireError> {
        self.check_signature(keys)?;
        self.check_terms(now_ms, skew_ms, need)
    }

    /// Checks the signature only: stays true for the same capability and keys.
    pub fn check_signature(&self, keys: &[CapabilityKey]) -> Result<(), WireError> {
        let Some(key) = keys.iter().find(|key| key.number == self.key) else {
            return Err(WireError::new(
                Code::CapabilityExpired,
                format!("capability key {} is no longer known; reopen the file", self.key),
            ));
        };
        if self.mac(key).verify_slice(&self.signature).is_err() {
            return Err(WireError::new(Code::CapabilityInvalid, "the capability's signature is wrong"));
        }
        Ok(())
    }

    /// Checks time and rights of a capability whose signature was checked.
    pub fn check_terms(&self, now_ms: u64, skew_ms: u64, need: u32) -> Result<(), WireError> {
        if now_ms > self.expires_ms.saturating_add(skew_ms) {
            return Err(WireError::new(
                Code::CapabilityExpired,
                format!("the capability for ino-{} ran out {} ms ago", self.ino, now_ms - self.expires_ms),
            ));
        }
        if self.rights & need != need {
            return Err(WireError::new(
                Code::PermissionDenied,
                format!(
                    "the capability for ino-{} has rights {:#x}, needed {need:#x}",
                    self.ino, self.rights
                ),
            ));
        }
        Ok(())
    }

    fn mac(&self, key: &CapabilityKey) -> Hmac<Sha256> {
        let mut unsigned = self.clone();
        unsigned.signature = Vec::new();
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key.secret).expect("HMAC takes any key length");
        mac.update(&unsigned.encode_to_vec());
        mac
    }
}
