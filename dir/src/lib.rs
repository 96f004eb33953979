//! The DIR: who is there. Registry of OSDs and services, the OSD map with its epochs, volumes, cluster keys.
//!
//! What it is: a replicated state machine (Raft group 1) whose leader also keeps, in memory only, who was heard
//! of when. What it is not: on any data or metadata path. A mount that works goes on working without it.
//!
//! Module ladder: `command` (what is in the log) <- `state` (applying it to the table, the view of it) ;
//! `engine` (pure: leases, evidence, transitions of the map) <- `server` (the door) and `ops` (one file per
//! request) <- `driver` (the only loop). Protocol: docs/protocols/osd-map.md.

mod command;
mod engine;
mod state;

mod driver;
mod ops;
mod server;

pub use engine::map::{OsdRow, osd_map};
pub use server::{Dir, DirConfig};
pub use state::View;
