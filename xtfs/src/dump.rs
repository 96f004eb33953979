//! Dumps of metadata as files: docs/formats/dump.md. Lines in [`lines`], writing in [`write`], reading and checking in
//! [`read`].

pub(crate) mod lines;
pub(crate) mod read;
pub(crate) mod write;

/// The version of the format.
pub(crate) const VERSION: u32 = 1;
