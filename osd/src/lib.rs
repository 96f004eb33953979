//! OSD: keeps objects, answers for them.
//!
//! Module ladder: [`engine`] decides (pure) · [`store`] keeps bytes · [`server`] answers requests · [`agent`] tells
//! the DIR that the OSD is alive · [`replication`] keeps replicas equal · [`background`] folds, checkpoints and scrubs · [`failpoint`] lets tests kill it.

pub mod agent;
pub mod background;
pub mod engine;
pub mod failpoint;
pub mod replication;
pub mod server;
pub mod store;

pub use server::{Load, Osd, OsdConfig};
pub use store::{ReadOutcome, Stamp, StoreError, Tuning, Usage};
