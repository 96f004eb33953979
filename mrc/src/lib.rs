//! The MRC: metadata of volumes. A Raft group holds the namespace; its leader also knows who has which file open.
//!
//! A request's way: `server` (method numbers) -> `ops/<verb>` (parse; read the table, or propose a command) ->
//! `machine` (apply) -> `namespace` (pure rules over a table). Beside it, only at the leader and only in memory:
//! `engine` (sessions, open files, leases, waiting locks, placement) behind `leader` and `leasing`. In the background: `agent` (DIR),
//! `keeper` (dead sessions, orphans, dropped volumes), `garbage` (objects at OSDs).
//!
//! Table format: docs/formats/mrc-store.md. What clients may rely on: docs/protocols/metadata.md.

mod agent;
pub mod changes;
mod checks;
pub mod cluster;
pub mod command;
pub mod dump;
mod dumps;
pub mod engine;
pub mod find;
pub mod fsck;
mod garbage;
mod keeper;
pub mod leader;
mod leasing;
pub mod machine;
pub mod namespace;
mod ops;
pub mod quota;
mod server;
pub mod service;
pub mod trash;
pub mod usage;

pub use machine::Machine;
pub use service::{Mrc, MrcConfig};
