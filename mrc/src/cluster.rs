//! What this member knows of the cluster: capability keys and the OSD map, as the DIR told them.

use std::sync::Arc;

use parking_lot::RwLock;
use proto::capability::CapabilityKey;
use proto::dir::{OsdMap, digest_of_full};
use proto::error::{Code, WireError};
use rt::clock::Witness;

#[derive(Default)]
struct State {
    keys: Vec<CapabilityKey>,
    map: Option<Arc<OsdMap>>,
    /// Why the DIR was not heard of, for messages.
    trouble: String,
}

/// See the module.
#[derive(Default)]
pub struct Cluster {
    /// order: never held while another lock is taken.
    state: RwLock<State>,
    /// The DIR's wall clock.
    pub(crate) witness: Witness,
}

impl Cluster {
    /// The newest key.
    pub fn key(&self) -> Result<CapabilityKey, WireError> {
        let state = self.state.read();
        state.keys.first().cloned().ok_or_else(|| not_yet("capability key", &state.trouble))
    }

    /// The OSD map.
    pub fn map(&self) -> Result<Arc<OsdMap>, WireError> {
        let state = self.state.read();
        state.map.clone().ok_or_else(|| not_yet("OSD map", &state.trouble))
    }

    /// Takes keys, newest first; an empty list changes nothing.
    pub fn set_keys(&self, keys: Vec<CapabilityKey>) {
        if !keys.is_empty() {
            self.state.write().keys = keys;
        }
    }

    /// Takes a map unless it is older than the known one. Of the same epoch it may have newer free space.
    pub fn set_map(&self, map: OsdMap) {
        let mut state = self.state.write();
        if state.map.as_ref().is_none_or(|known| known.epoch <= map.epoch) {
            state.map = Some(Arc::new(map));
        }
    }

    /// The epoch known, 0 for none.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.state.read().map.as_ref().map_or(0, |map| map.epoch)
    }

    /// [`digest_of_full`] of the map known, 0 for none.
    #[must_use]
    pub(crate) fn full(&self) -> u64 {
        self.state.read().map.as_ref().map_or(0, |map| digest_of_full(&map.osds))
    }

    pub(crate) fn set_trouble(&self, trouble: String) {
        self.state.write().trouble = trouble;
    }
}

fn not_yet(what: &str, trouble: &str) -> WireError {
    let why = if trouble.is_empty() { "it has not answered yet" } else { trouble };
    WireError::new(Code::Unavailable, format!("this MRC has no {what} from the DIR: {why}"))
}
