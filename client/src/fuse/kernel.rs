//! The kernel's FUSE interface: what is said over `/dev/fuse`, and nothing about files.
//!
//! `abi` and `fields` are the numbers and their bytes, `operation` parses requests, `answer` builds answers, `init` is
//! the handshake, `interrupts` knows which waiting requests were interrupted, `notify` tells the kernel unasked. These
//! are pure or nearly so. `device`, `ring` and `session` do the I/O.

pub(super) mod abi;
pub(super) mod answer;
pub(super) mod buffers;
pub(super) mod device;
pub(super) mod fields;
pub(super) mod init;
pub(super) mod interrupts;
pub(super) mod notify;
pub(super) mod operation;
pub(super) mod responder;
pub(super) mod ring;
pub(super) mod session;
