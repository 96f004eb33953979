//! What is said: ids, units, limits, messages, frame codec, capabilities and wire errors.
//!
//! Nothing here runs: no I/O, no clock, no randomness, no runtime. Every service and every client depends on
//! this crate and on nothing of one another.
//!
//! Reading order: [`id`] and [`limits`], [`frame`] (bytes on a connection), [`error`], [`rpc`] (what a call
//! is), then one module per service.
//!
//! Wire rule: prost tags are never reused; a new field takes the highest tag + 1; a message whose meaning
//! changes gets a new method number. `frame::VERSION` grows only when old peers could not parse the frame.
#![warn(missing_docs)]

pub mod id;
pub mod limits;

pub mod error;
pub mod frame;
pub mod rpc;

pub mod capability;
pub mod checksum;
pub mod stripe;

pub mod backup;
pub mod changes;
pub mod coding;
pub mod dir;
pub mod find;
pub mod fsck;
pub mod layout;
pub mod locks;
pub mod mrc;
pub mod osd;
pub mod query;
pub mod quota;
pub mod raft;
pub mod snapshot;
pub mod trash;
pub mod usage;
