//! Errors of writing behind the callers' backs: each handle that was open is told once, by its next write, flush, fsync
//! or close (as Linux does it with errseq_t).

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use proto::error::WireError;

use crate::error::Result;

/// The errors of one file: how many there were, and the last one.
#[derive(Debug, Default)]
pub struct Errors {
    count: AtomicU64,
    /// order: a leaf.
    last: Mutex<Option<WireError>>,
}

impl Errors {
    /// A write-out failed.
    pub fn add(&self, error: WireError) {
        let mut last = self.last.lock();
        *last = Some(error);
        self.count.fetch_add(1, Ordering::AcqRel);
    }
}

/// What one handle has been told of.
#[derive(Debug, Default)]
pub struct Told(AtomicU64);

impl Told {
    /// A new handle hears only of what happens from now on.
    #[must_use]
    pub fn from_now(errors: &Errors) -> Self {
        Self(AtomicU64::new(errors.count.load(Ordering::Acquire)))
    }

    /// The last error that this handle was not told of yet, exactly once.
    pub fn check(&self, errors: &Errors) -> Result<()> {
        let count = errors.count.load(Ordering::Acquire);
        if self.0.swap(count, Ordering::AcqRel) >= count {
            return Ok(());
        }
        errors.last.lock().clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use proto::error::Code;

    use super::*;

    #[test]
    fn each_open_handle_is_told_exactly_once() {
        let errors = Errors::default();
        let (first, second) = (Told::from_now(&errors), Told::from_now(&errors));
        errors.add(WireError::new(Code::NoSpace, "full"));
        assert_eq!(first.check(&errors).unwrap_err().code, Code::NoSpace);
        assert_eq!(first.check(&errors), Ok(()));
        assert_eq!(second.check(&errors).unwrap_err().code, Code::NoSpace);
        assert_eq!(Told::from_now(&errors).check(&errors), Ok(()));
    }
}
