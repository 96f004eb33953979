//! How far it is: on a terminal only, in one line.

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Totals;
use crate::output;

/// How often it is said.
const EVERY: Duration = Duration::from_millis(200);
/// Characters of the bar.
const WIDTH: u64 = 24;

pub(super) struct Voice {
    shows: bool,
    total: Option<u64>,
    /// When it was said last; none: never. order: a leaf.
    last: Mutex<Option<Instant>>,
}

impl Voice {
    /// `total`: files and directories, where that is known.
    pub(super) fn new(shows: bool, total: Option<u64>) -> Self {
        Self { shows: shows && std::io::stderr().is_terminal(), total, last: Mutex::default() }
    }

    pub(super) fn far(&self, totals: &Totals) {
        let mut last = self.last.lock();
        if !self.shows || last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        *last = Some(Instant::now());
        let count = |total: &std::sync::atomic::AtomicU64| total.load(Ordering::Relaxed);
        let done = count(&totals.files) + count(&totals.directories);
        let bar = self.total.map_or_else(String::new, |total| bar(done, total));
        let (size, removed) = (output::bytes(count(&totals.bytes)), count(&totals.removed));
        eprint!("\r{bar}{done} done, {size}, {removed} removed\x1b[K");
    }

    pub(super) fn note(&self, text: &str) {
        self.end();
        eprintln!("xtfs: {text}");
    }

    pub(super) fn end(&self) {
        if self.last.lock().take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

fn bar(done: u64, total: u64) -> String {
    let full = (done.saturating_mul(WIDTH) / total.max(1)).min(WIDTH);
    let cells = |count: u64, cell: &str| cell.repeat(usize::try_from(count).unwrap_or(0));
    let percent = (done.saturating_mul(100) / total.max(1)).min(100);
    format!("[{}{}] {percent:3} % ", cells(full, "#"), cells(WIDTH - full, "."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_long_whatever_is_done() {
        assert_eq!(bar(0, 10), "[........................]   0 % ");
        assert_eq!(bar(5, 10), "[############............]  50 % ");
        assert_eq!(bar(10, 10), "[########################] 100 % ");
        assert_eq!(bar(11, 10).len(), bar(0, 0).len());
    }
}
