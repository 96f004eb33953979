//! Makes an OSD slow, for tests: with `XTFS_FAULT_DELAY` in the environment every request waits as many milliseconds as
//! the file `fault-delay-ms` in the OSD's folder says. Without the variable nothing is looked at.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rt::clock::Clock;

/// The file is read again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Longer is not waited.
const MOST_MS: u64 = 10_000;

/// See the module.
pub(super) struct Delay {
    file: Option<PathBuf>,
    /// What the file said, and when. order: a leaf.
    said: Mutex<(Duration, Option<Duration>)>,
}

impl Delay {
    pub(super) fn asked_for(folder: &Path) -> Self {
        let asked = std::env::var_os("XTFS_FAULT_DELAY").is_some();
        Self { file: asked.then(|| folder.join("fault-delay-ms")), said: Mutex::default() }
    }

    /// Waits as long as was asked for.
    pub(super) async fn wait(&self, clock: &dyn Clock) {
        let Some(file) = &self.file else { return };
        let now = clock.monotonic();
        let delay = {
            let mut said = self.said.lock();
            if said.1.is_none_or(|at| now.saturating_sub(at) >= LOOK_AGAIN) {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                *said = (Duration::from_millis(text.trim().parse().unwrap_or(0).min(MOST_MS)), Some(now));
            }
            said.0
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}
