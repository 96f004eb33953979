//! Deterministic simulation: the real engines and stores, driven by one random seed.
//!
//! A run has two phases: faults while clients work (*safety*: no invariant breaks), then none (*liveness*: all
//! members converge and every request is answered). The same seed gives the same run, byte for byte; a failure
//! prints the command that repeats it.
//!
//! - [`world`]: time, randomness, the queue of what happens next, the log of the run;
//! - [`net`]: delays, losses, duplicates, partitions, one-way cuts;
//! - [`machine`]: a computer with a disk and a table that can lose its process or its power;
//! - [`raft`]: the scenario of a Raft group; further services add theirs beside it;
//! - [`leases`]: the scenario of client leases;
//! - [`replicas`]: the scenario of replicated columns at OSDs;
//! - [`sites`]: which fault sites the runs came by;
//! - [`invariants`]: what must never be seen, one file each.

pub mod invariants;
pub mod leases;
pub mod machine;
pub mod net;
pub mod raft;
pub mod replicas;
pub mod sites;
pub mod world;
