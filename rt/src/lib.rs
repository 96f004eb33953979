//! What everything runs on: clock, disk, network and table seams with their real forms; RPC client and server;
//! TLS; logging; metrics; the HTTP status pages.
//!
//! The seams, each with a contract suite that every implementation runs:
//! - [`clock::Clock`]: the only source of time;
//! - [`disk::Disk`]: files with explicit sync; real, or simulated with lost and torn writes;
//! - [`table::Table`]: an ordered key-value table with atomic batches; RocksDB, or memory for simulation;
//! - [`rpc::Channel`] / [`rpc::Service`]: calls; in process, TCP, TLS 1.3, simulated.
//!
//! [`mod@site`]: what went wrong, counted by name; every layer above marks its fault sites with it.
#![warn(missing_docs)]

pub mod clock;
pub mod disk;
pub mod rpc;
pub mod table;

pub mod held;
pub mod http;
pub mod log;
pub mod metrics;
pub mod site;
pub mod tls;
