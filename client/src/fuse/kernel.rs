//! The kernel's FUSE interface: what is said over `/dev/fuse`, and nothing about files.

pub(super) mod notify;
