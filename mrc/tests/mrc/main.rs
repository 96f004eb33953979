//! Tests of the MRC: the namespace against a model and against tables of POSIX rules, replicas against one another, and
//! the service as its clients see it.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; only test functions themselves are exempt by clippy.toml"
)]

mod acl;
mod async_create;
mod changes;
mod check_cost;
mod coding;
mod determinism;
mod dump;
mod find;
mod fsck;
mod harness;
mod layout;
mod leases;
mod limits;
mod locks;
mod members;
mod model;
mod posix;
mod quota;
mod repair;
mod replicas;
mod service;
mod small_files;
mod snapshots;
mod tmpfile;
mod trash;
