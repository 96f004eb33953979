//! The library against real services in one process: DIR, MRC and four OSDs with their logs, tables and stores.
#![allow(clippy::unwrap_used, reason = "tests")]

mod admin;
mod bed;
mod coding;
mod data;
mod door;
mod failures;
mod full;
mod late;
mod leases;
mod model;
mod mount;
mod names;
mod posix;
mod reference;
mod snapshots;
mod takeover;
