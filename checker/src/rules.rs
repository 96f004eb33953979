//! Rules that need no search.

pub mod listing;
pub mod log;
pub mod times;
