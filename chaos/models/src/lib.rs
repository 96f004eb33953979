//! What can happen at all: the protocols of replication, leases and sessions for three nodes and two clients, every order of
//! messages and every place of up to two faults looked at, one after the other (`stateright`).
//!
//! The simulator (`chaos/`) draws long runs of large systems from seeds; here nothing is drawn and nothing is left out, at the
//! price of small systems. What each model takes from the product as it is, and what it makes simpler, is said at its top.
//!
//! Reading order: [`check`] the search and its report · [`replication`] columns, epochs, primaries · [`leases`] who may keep
//! what, expelling, fences · [`sessions`] mutations done once · [`staging`] what a mount staged.

pub mod check;
pub mod leases;
pub mod replication;
pub mod sessions;
pub mod staging;
