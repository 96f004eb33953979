//! Typed stubs for the services: each finds who answers now, repeats what may be repeated, and gives up only when
//! the caller's patience ends.

mod closes;
pub mod group;
pub mod osd;
pub mod session;

pub use group::Group;
pub use osd::{HedgedReads, MapView, Osds};
pub use session::Session;
pub(crate) use session::Telling;
