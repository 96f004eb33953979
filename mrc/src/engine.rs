//! What the leader decides from memory: who has what open, who waits for a lock, where new files go. Pure: time comes
//! in as an argument; nothing here is replicated, a new leader learns it again from its clients.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod fences;
pub mod leases;
pub mod placement;
pub mod sessions;
pub mod voters;
pub mod waiting;
