//! What goes with every request to the OSD of a column.

use proto::capability::Capability;
use proto::osd;
use proto::stripe::Layout;

/// What a request to an OSD of a column carries.
pub(crate) struct Ticket<'a> {
    pub(crate) capability: &'a Capability,
    pub(crate) map_epoch: u64,
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
