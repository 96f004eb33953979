//! What a call to an OSD went through, so that who waited for long finds out why.

use std::time::Duration;

use proto::error::WireError;
use proto::rpc::Method;

/// A call to an OSD that takes longer is told of in the log.
const SLOW: Duration = Duration::from_secs(1);

/// What a call to a column went through, for the log when it took long.
pub(super) struct Trail {
    begun: Duration,
    failed: u32,
    last: Option<String>,
}

impl Trail {
    pub(super) fn new(begun: Duration) -> Self {
        Self { begun, failed: 0, last: None }
    }

    pub(super) fn failed(&mut self, osd: u64, error: &WireError) {
        self.failed += 1;
        self.last = Some(format!("osd#{osd}: {error}"));
    }

    pub(super) fn deposed(&mut self, osd: u64) {
        self.failed += 1;
        self.last = Some(format!("osd#{osd} did not answer before another one took over"));
    }

    /// Who waited for long shall find out why.
    pub(super) fn end<M: Method>(self, ino: u64, now: Duration) {
        let took = now.saturating_sub(self.begun);
        if took < SLOW {
            return;
        }
        let last = self.last.as_deref().unwrap_or("the first attempt was answered, late");
        tracing::warn!(
            ino,
            took_ms = took.as_millis(),
            failed = self.failed,
            last,
            "{} at an OSD took long",
            M::NAME
        );
    }
}
