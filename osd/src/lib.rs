//! OSD: keeps objects, answers for them.
//!
//! Module ladder: [`engine`] decides (pure) · [`store`] keeps bytes · [`server`] answers requests · [`agent`] tells
//! the DIR that the OSD is alive · [`background`] folds, checkpoints and scrubs · [`failpoint`] lets tests kill it.

pub mod agent;
pub mod background;
pub mod engine;
pub mod failpoint;
pub mod server;
pub mod store;

pub use server::{Osd, OsdConfig};
pub use store::{ReadOutcome, Stamp, StoreError, Tuning, Usage};
