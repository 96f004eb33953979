//! exec runs jobs: a descriptor dropped into a user's spool directory becomes a process, and what became of it a file.
//!
//! The directory is the queue; there is no other interface. What it is *not*: a metadata server (it is a user of the
//! file system like any other), nor a batch system with its own database (all state is files; `ls` reads it).
//!
//! Reading order: [`spec`] (descriptors), [`id`], [`engine`] (the job's state machine, pure), [`store`]
//! (what is needed of a file system), `spool` (layout, claim, publish, recovery), `driver` (the loop), [`supervisor`]
//! (the process that runs one job and survives everything else), [`cli`] (the commands, on plain files).

pub mod cli;
mod driver;
pub mod engine;
mod failpoint;
pub mod id;
pub mod spec;
pub mod spool;
pub mod store;
pub mod supervisor;
mod text;

pub use driver::{Exec, ExecConfig, ExecError, ExecStatus};
pub use id::JobId;
