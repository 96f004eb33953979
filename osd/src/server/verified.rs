//! Capabilities whose signature was checked before: a client shows the same one with every request of an open file,
//! and an HMAC costs more than the rest of the admission.

use std::collections::HashMap;

use parking_lot::RwLock;
use proto::capability::Capability;

/// Capabilities remembered at most; then all are forgotten.
const REMEMBERED_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Verified {
    /// By signature. order: innermost.
    seen: RwLock<HashMap<Vec<u8>, Capability>>,
}

impl Verified {
    /// Whether exactly this capability was found good.
    pub(super) fn contains(&self, capability: &Capability) -> bool {
        self.seen.read().get(&capability.signature).is_some_and(|seen| seen == capability)
    }

    /// It was found good.
    pub(super) fn insert(&self, capability: &Capability) {
        let mut seen = self.seen.write();
        if seen.len() >= REMEMBERED_MAX {
            seen.clear();
        }
        seen.insert(capability.signature.clone(), capability.clone());
    }

    /// The keys changed.
    pub(super) fn clear(&self) {
        self.seen.write().clear();
    }
}
