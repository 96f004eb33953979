//! What goes with every request to the OSD of a column.

use proto::capability::Capability;
use proto::error::WireError;
use proto::osd;
use proto::stripe::Layout;

use crate::engine::leases::Key;
use crate::lease::Leasing;

/// What a request to an OSD of a column carries.
pub(crate) struct Ticket<'a> {
    pub(crate) capability: &'a Capability,
    pub(crate) map_epoch: u64,
    pub(super) turn: Option<osd::Turn>,
    pub(super) layout: &'a Layout,
    pub(super) column: usize,
}

impl Ticket<'_> {
    /// The head of a request on one object.
    pub(crate) fn head(&self, object: u64) -> osd::ObjectHead {
        osd::ObjectHead {
            capability: self.capability.clone(),
            object,
            map_epoch: self.map_epoch,
            replicas: self.replicas(),
            turn: self.turn,
        }
    }

    /// The column, when it is replicated.
    pub(crate) fn replicas(&self) -> Option<osd::ColumnOf> {
        if self.capability.layout == 0 {
            return None;
        }
        let column = u32::try_from(self.column).unwrap_or(u32::MAX);
        Some(osd::ColumnOf { layout: self.layout.clone(), column })
    }
}

/// An attempt to change a file under its lease. Dropped before its end is known it may be done at any time later: what this
/// client does next is numbered so that its OSD refuses it then.
pub(super) struct Attempt<'a> {
    leasing: &'a Leasing,
    key: Key,
    in_doubt: bool,
}

impl<'a> Attempt<'a> {
    pub(super) fn begins(leasing: &'a Leasing, key: Key) -> Self {
        Self { leasing, key, in_doubt: true }
    }

    /// It was answered. After some errors nobody knows whether the request is still on its way.
    pub(super) fn answered(mut self, error: Option<&WireError>) {
        self.in_doubt = error.is_some_and(|error| !error.code.has_no_side_effects());
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.in_doubt {
            self.leasing.doubted(self.key);
        }
    }
}
