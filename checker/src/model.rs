//! What POSIX says that calls do, one model for each kind of object.
//!
//! A model is built from the calls of one object ([`Part`]) and then asked by [`crate::search`]. A call that local file
//! systems do not do at once is taken apart: walks go component by component, listings name by name, and data cell by
//! cell unless [`Atomicity::Call`] is asked for.

pub mod file;
pub mod locks;
pub mod tree;

use crate::history::{Call, Operation};
use crate::search::Span;

/// How much of a data call takes effect at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Atomicity {
    /// Nothing: a reader may see parts of several writes in one cell. What Linux's page cache gives.
    #[default]
    Byte,
    /// Each cell.
    Cell,
    /// The whole call.
    Call,
}

/// A call, or a part of one, as a model takes it.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// Index in the history; `None` for an event.
    pub source: Option<usize>,
    /// The call; `None`: power was lost.
    pub call: Option<&'a Call>,
    /// When it may have taken effect.
    pub span: Span,
}

impl Part<'_> {
    /// The operation, if it is not an event.
    #[must_use]
    pub fn operation(&self) -> Option<&Operation> {
        self.call.map(|call| &call.operation)
    }
}
