//! `xtfs warmup PATH`: reads data so that it is in memory where it lies.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;
use client::{Code, File, Volume};
use futures::{StreamExt, TryStreamExt};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use proto::mrc::kind;
use serde_json::json;

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{Opened, creds, place, run_with_tasks};
use crate::walk::{self, Found, Lost, is_kind};

/// What is read at once, bytes.
const PIECE: u64 = 1 << 20;
/// Pieces of one file that are read at a time.
const PIECES_AT_ONCE: usize = 4;
/// Failures that are said in words; all are counted.
const TOLD_MAX: u64 = 20;

/// Read files or whole trees, so that the next reader finds them in the memory of the OSDs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  xtfs warmup /mnt/vol/dataset
  xtfs warmup xtfs://HOST/VOLUME/models/big.bin --jobs 16

Data is read where its readers will read it (of a file with several replicas at the one that leads) and thrown away: nothing of \
it stays on this machine. Holes are skipped, symbolic links are not followed.")]
pub(crate) struct Warmup {
    /// A path on a mounted volume, or xtfs://HOST/VOLUME/PATH.
    path: String,
    /// Files that are read at a time.
    #[arg(long, short = 'j', value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
}

/// What was done so far; shared by those who read.
#[derive(Default)]
struct Sum {
    files: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
}

impl Sum {
    fn read(&self, bytes: u64, bar: &ProgressBar) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        bar.inc(bytes);
    }

    /// What is gone was removed meanwhile, which is no failure.
    fn fail(&self, (path, error): &Lost, bar: &ProgressBar) {
        if error.code == Code::NotFound {
            return;
        }
        if self.failed.fetch_add(1, Ordering::Relaxed) < TOLD_MAX {
            let failure = Failure::wire(format!("reading {path}"), error);
            bar.suspend(|| eprintln!("xtfs: {failure}"));
        }
    }
}

impl Warmup {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let what = format!("warming up {}", self.path);
        let place = place(&self.path)?;
        run_with_tasks(async {
            let opened = place.open(global, &what).await?;
            let done = self.warm(&opened, &what, global.json).await;
            opened.close().await;
            done
        })
    }

    async fn warm(&self, opened: &Opened, what: &str, json: bool) -> Outcome {
        let failed = |error: client::Error| Failure::wire(what, &error);
        let attr = opened.volume.getattr(&creds(), opened.ino).await.map_err(failed)?;
        let first = Found { path: self.path.clone(), attr };
        if !is_kind(&first.attr, kind::FILE) && !is_kind(&first.attr, kind::DIR) {
            return Err(Failure::new(what, "it is neither a file nor a directory: there is nothing to read"));
        }
        let usage = opened.volume.usage(&creds(), opened.ino).await.map_err(failed)?;
        let bar = bar(usage.bytes);
        let (sum, start) = (Sum::default(), Instant::now());
        let below = is_kind(&first.attr, kind::DIR)
            .then(|| walk::below(opened.volume.clone(), first.attr.ino, &first.path));
        let all = futures::stream::iter([Ok(first)]).chain(futures::stream::iter(below).flatten());
        let (volume, sum_of, bar_of) = (&opened.volume, &sum, &bar);
        all.for_each_concurrent(usize::from(self.jobs), |found| async move {
            let done = match found {
                Ok(found) if is_kind(&found.attr, kind::FILE) => {
                    let done = read(volume, &found, sum_of, bar_of).await;
                    done.map_err(|error| (found.path, error))
                }
                Ok(_) => Ok(()),
                Err(lost) => Err(lost),
            };
            done.unwrap_or_else(|lost| sum_of.fail(&lost, bar_of));
        })
        .await;
        bar.finish_and_clear();
        self.tell(&sum, start.elapsed().as_secs_f64(), json);
        match sum.failed.into_inner() {
            0 => Ok(0),
            failed => Err(Failure::new(what, format!("{failed} file(s) or directories could not be read"))),
        }
    }

    fn tell(&self, sum: &Sum, seconds: f64, json: bool) {
        let [files, bytes, failed] =
            [&sum.files, &sum.bytes, &sum.failed].map(|count| count.load(Ordering::Relaxed));
        let rate = bytes as f64 / seconds.max(1e-9);
        if json {
            return output::json(&json!({
                "path": self.path, "files": files, "bytes": bytes, "failed": failed,
                "seconds": seconds, "bytes_per_second": rate,
            }));
        }
        let errors = if failed == 0 { String::new() } else { format!(", {failed} failed") };
        output::line(&format!(
            "{files} file(s), {} read in {seconds:.1} s, {}/s{errors}",
            output::bytes(bytes),
            output::bytes(rate as u64)
        ));
    }
}

/// On a terminal only; what lies below is known without a walk.
fn bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {percent:>3}% {msg} {bytes_per_sec} {eta} left");
    let bar = ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(format!("of {}", HumanBytes(bytes)));
    bar
}

/// Reads one file's data.
async fn read(volume: &Arc<Volume>, found: &Found, sum: &Sum, bar: &ProgressBar) -> client::Result<()> {
    let file = volume.open(&creds(), found.attr.ino, false).await?;
    // Pieces are asked for out of order: looking ahead would read them twice.
    file.set_readahead(0);
    let done = read_pieces(&file, found, sum, bar).await;
    let closed = file.close().await;
    done?;
    closed?;
    sum.files.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn read_pieces(file: &File, found: &Found, sum: &Sum, bar: &ProgressBar) -> client::Result<()> {
    let size = file.size();
    let is_sparse = found.attr.blocks.saturating_mul(512) < size;
    let mut at = 0;
    while at < size {
        let data = if is_sparse { next_data(file, at).await? } else { Some(0..size) };
        let Some(data) = data else {
            bar.inc(size - at);
            break;
        };
        bar.inc(data.start - at);
        futures::stream::iter(pieces(data.clone()))
            .map(|piece| async move {
                let len = usize::try_from(piece.end - piece.start).unwrap_or(usize::MAX);
                file.read_at(piece.start, len).await
            })
            .buffer_unordered(PIECES_AT_ONCE)
            .try_for_each(|bytes| {
                sum.read(bytes.len() as u64, bar);
                std::future::ready(Ok(()))
            })
            .await?;
        at = data.end;
    }
    Ok(())
}

/// The next stretch of a file that is no hole.
async fn next_data(file: &File, at: u64) -> client::Result<Option<Range<u64>>> {
    let Some(start) = file.seek_data(at).await? else { return Ok(None) };
    // Cut meanwhile: nothing is behind it.
    Ok(file.seek_hole(start).await?.filter(|end| *end > start).map(|end| start..end))
}

/// Cuts a range where pieces begin, so that none of them lies in two objects.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let end = (at - at % PIECE).saturating_add(PIECE).min(range.end);
        let piece = (at < range.end).then_some(at..end);
        at = end;
        piece
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_range_once() {
        for range in [0..0, 0..1, 5..PIECE, 5..3 * PIECE + 1, PIECE..2 * PIECE, u64::MAX - 3..u64::MAX] {
            let mut at = range.start;
            for piece in pieces(range.clone()) {
                assert_eq!(piece.start, at);
                assert!(piece.end > piece.start && piece.end - piece.start <= PIECE, "{piece:?}");
                assert!(piece.start / PIECE == (piece.end - 1) / PIECE, "{piece:?} lies in two");
                at = piece.end;
            }
            assert_eq!(at, range.end);
        }
    }
}
