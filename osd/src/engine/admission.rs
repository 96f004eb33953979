//! Who may do what: capability, session fence, map epoch.

use std::collections::BTreeMap;

use proto::capability::{Capability, CapabilityKey};
use proto::error::{Code, WireError};
use proto::limits::CAPABILITY_TTL_MS;

/// What clocks of MRC and OSD may differ by, milliseconds.
const SKEW_MS: u64 = 5_000;
/// Most fences kept.
const FENCES_MAX: usize = 65_536;

/// A session's fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fence {
    /// Capabilities with a lower epoch are refused.
    pub(crate) epoch: u64,
    /// When it was set, Unix milliseconds.
    pub(crate) set_ms: u64,
}

/// The state that admission rests on.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub(crate) keys: Vec<CapabilityKey>,
    pub(crate) map_epoch: u64,
    pub(crate) fences: BTreeMap<u64, Fence>,
}

impl Admission {
    /// Checks a capability's signature.
    pub(crate) fn check_signature(&self, capability: &Capability) -> Result<(), WireError> {
        if self.keys.is_empty() {
            return Err(WireError::new(
                Code::Unavailable,
                "this OSD has not heard from a DIR yet and knows no capability keys; try again shortly",
            ));
        }
        capability.check_signature(&self.keys)
    }

    /// Checks what a capability with a good signature allows now: an operation that needs the rights `need`.
    pub(crate) fn check(&self, capability: &Capability, need: u32, now_ms: u64) -> Result<(), WireError> {
        capability.check_terms(now_ms, SKEW_MS, need)?;
        match self.fences.get(&capability.session) {
            Some(fence) if capability.session_epoch < fence.epoch => Err(WireError::new(
                Code::CapabilityExpired,
                format!(
                    "session {:x} was fenced at epoch {}, the capability for ino-{} has epoch {}; reopen the file",
                    capability.session, fence.epoch, capability.ino, capability.session_epoch
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses callers with an older map.
    pub(crate) fn check_epoch(&self, theirs: u64) -> Result<(), WireError> {
        if theirs < self.map_epoch {
            return Err(WireError::new(
                Code::OldEpoch,
                format!("the caller knows OSD map {theirs}, the current one is {}; fetch it", self.map_epoch),
            )
            .with_hint(self.map_epoch.to_string()));
        }
        Ok(())
    }

    /// Sets a fence; `true` when it was news. Fences that no living capability can meet are dropped.
    pub(crate) fn fence(&mut self, session: u64, epoch: u64, now_ms: u64) -> bool {
        if self.fences.get(&session).is_some_and(|fence| fence.epoch >= epoch) {
            return false;
        }
        self.fences.retain(|_, fence| now_ms < fence.set_ms.saturating_add(2 * CAPABILITY_TTL_MS));
        while self.fences.len() >= FENCES_MAX {
            let oldest =
                self.fences.iter().min_by_key(|(_, fence)| fence.set_ms).map(|(session, _)| *session);
            oldest.and_then(|session| self.fences.remove(&session));
        }
        self.fences.insert(session, Fence { epoch, set_ms: now_ms });
        true
    }

    /// The fences as the content of their file.
    pub(crate) fn encode_fences(&self) -> Vec<u8> {
        let mut out = b"XTFSFNC1".to_vec();
        for (session, fence) in &self.fences {
            for word in [*session, fence.epoch, fence.set_ms] {
                out.extend(word.to_le_bytes());
            }
        }
        let crc = proto::checksum::crc32c(&out);
        out.extend(crc.to_le_bytes());
        out
    }

    /// Reads the file back.
    pub(crate) fn decode_fences(content: &[u8]) -> Result<BTreeMap<u64, Fence>, String> {
        let bad = || "it is damaged".to_owned();
        let (body, crc) = content.split_last_chunk::<4>().ok_or_else(bad)?;
        let rows = body.strip_prefix(b"XTFSFNC1").ok_or_else(bad)?;
        if proto::checksum::crc32c(body) != u32::from_le_bytes(*crc) || rows.len() % 24 != 0 {
            return Err(bad());
        }
        let mut fences = BTreeMap::new();
        for row in rows.chunks_exact(24) {
            let mut reader = super::record::Reader { rest: row };
            let session = reader.u64()?;
            fences.insert(session, Fence { epoch: reader.u64()?, set_ms: reader.u64()? });
        }
        Ok(fences)
    }
}

#[cfg(test)]
mod tests {
    use proto::capability::{READ, WRITE};

    use super::*;

    fn key(number: u32) -> CapabilityKey {
        CapabilityKey { number, secret: vec![number as u8; 32] }
    }

    fn capability(epoch: u64) -> Capability {
        Capability {
            volume: 1,
            ino: 2,
            rights: READ,
            session: 3,
            session_epoch: epoch,
            expires_ms: 10_000,
            ..Capability::default()
        }
        .sign(&key(1))
    }

    fn check(admission: &Admission, capability: &Capability, need: u32, now: u64) -> Option<Code> {
        let both =
            admission.check_signature(capability).and_then(|()| admission.check(capability, need, now));
        both.err().map(|error| error.code)
    }

    #[test]
    fn refuses_in_order() {
        let mut admission = Admission::default();
        let code = |admission: &Admission, need, now| check(admission, &capability(4), need, now);
        assert_eq!(code(&admission, READ, 0), Some(Code::Unavailable));
        admission.keys = vec![key(2)];
        assert_eq!(code(&admission, READ, 0), Some(Code::CapabilityExpired));
        admission.keys.push(key(1));
        assert_eq!(code(&admission, READ, 0), None);
        assert_eq!(code(&admission, WRITE, 0), Some(Code::PermissionDenied));
        assert_eq!(code(&admission, READ, 10_000 + SKEW_MS + 1), Some(Code::CapabilityExpired));
        let mut forged = capability(4);
        forged.ino = 9;
        assert_eq!(check(&admission, &forged, READ, 0), Some(Code::CapabilityInvalid));
        assert!(admission.fence(3, 5, 0));
        assert!(!admission.fence(3, 5, 0));
        assert_eq!(code(&admission, READ, 0), Some(Code::CapabilityExpired));
        assert_eq!(Admission::decode_fences(&admission.encode_fences()).unwrap(), admission.fences);
        // Beyond twice the life of a capability the fence has nothing left to stop.
        assert!(admission.fence(8, 1, 3 * CAPABILITY_TTL_MS));
        assert_eq!(admission.fences.len(), 1);
        admission.map_epoch = 7;
        assert_eq!(admission.check_epoch(6).err().map(|error| error.hint), Some("7".to_owned()));
        assert_eq!(admission.check_epoch(8), Ok(()));
    }
}
