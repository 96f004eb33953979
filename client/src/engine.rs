//! The decisions of the client, without I/O, clock or locks: sequence numbers of a session, the size of a file that
//! is being written, read-ahead windows, checksums and assembly of stripes, data and holes.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod ahead;
pub mod backoff;
pub mod coding;
pub mod creates;
pub mod forced;
pub mod hedging;
pub mod kept;
pub mod kernel;
pub mod leases;
pub mod locks;
pub mod readahead;
pub mod replicas;
pub mod room;
pub mod sequence;
pub mod shortage;
pub mod size;
pub mod together;
