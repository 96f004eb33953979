//! How a service survives: raft-rs behind one driver, log store, snapshots, sessions, membership.
//!
//! A service gives a [`StateMachine`] and gets a [`Group`]: `propose` a command and get its answer once a majority
//! holds it and it is applied here; `read` before reading the table to be sure nothing newer was acknowledged.
//!
//! Module ladder: `error`, `machine` (what a service provides) <- `engine` (the protocol, pure: events in, effects
//! out), `store` (the log on `rt::disk`) and `reserve` (room for it on a full disk) <- `replica` (one member without its environment; what the simulator
//! drives) <- `group` (the driver and the handle).

pub mod engine;
pub mod error;
pub mod group;
pub mod machine;
pub mod replica;
pub mod reserve;
pub mod store;

pub use error::QuorumError;
pub use group::{Group, GroupConfig, Member};
pub use machine::{Applied, StateMachine};
pub use replica::Durability;
