//! What the store decides, without doing anything: no clock, no I/O, no locks.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub(crate) mod admission;
pub mod allocator;
pub mod entry;
pub mod plan;
pub mod record;
pub mod replication;
pub(crate) mod room;
pub mod slowness;
pub mod throttle;
pub mod trail;
pub(crate) mod turns;
