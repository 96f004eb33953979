//! `xtfs bench DIR`: how fast a directory is, of xtfs or of any other file system.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anstream::adapter::strip_str;
use clap::Args;
use clap::builder::styling::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use super::gc::duration;
use crate::address;
use crate::args::Global;
use crate::bench::{self, Plan, Row};
use crate::failure::{Failure, Outcome};
use crate::{mounts, output};

/// Exit status after SIGINT, as shells have it.
const INTERRUPTED: u8 = 130;

/// Measure how fast a directory is: a large file, and many small ones (20 s)
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  xtfs bench xtfs-data/mnt
  xtfs bench /tmp                     the same on a local disk, to compare
  xtfs bench DIR --size 2G --time 60 --json

It writes a file (1 MiB at a time, then fsync) and reads it, reads and writes 4 KiB at random places (fsync at the end), then \
creates, looks at, renames and removes files of 4 KiB, with one thread and with several. What was read lately may come from \
memory: a --size larger than the memory of all machines rules that out. Everything it made is removed.")]
pub(crate) struct Bench {
    /// A directory, on whatever file system.
    #[arg(value_name = "DIR")]
    at: PathBuf,
    /// Size of the large file; less is written when time is short.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = address::size)]
    size: u64,
    /// Time for everything: 20, 2m.
    #[arg(long, value_name = "TIME", default_value = "20", value_parser = duration)]
    time: Duration,
    /// Threads of the second round of small files.
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

impl Bench {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let what = format!("benchmark in {}", self.at.display());
        if self.time.is_zero() || self.size == 0 {
            return Err(Failure::usage(what, "without time or size nothing can be measured"));
        }
        let dir = self.at.canonicalize().map_err(|error| Failure::new(&what, error))?;
        let space = statvfs(&dir).map_err(|error| Failure::new(&what, error))?;
        let free = space.blocks_available() as u64 * space.fragment_size() as u64;
        if free < self.size.saturating_add(self.size / 8) {
            return Err(Failure::new(
                what,
                format!("{} are free, {} are to be written", output::bytes(free), output::bytes(self.size)),
            )
            .next("choose a smaller --size"));
        }
        let folder = tempfile::Builder::new().prefix(".xtfs-bench.").tempdir_in(&dir);
        let folder = folder.map_err(|error| Failure::new(&what, error))?;
        let stop = Arc::new(AtomicBool::new(false));
        let plan = Plan {
            dir: folder.path().to_owned(),
            size: self.size,
            time: self.time,
            threads: usize::from(self.threads),
            stop: stop.clone(),
        };
        let done = measure(plan, &stop);
        let removed = folder.close();
        let rows =
            done.map_err(|(path, error)| Failure::new(&what, format!("{}: {error}", path.display())))?;
        removed.map_err(|error| Failure::new(&what, format!("removing what was made: {error}")))?;
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::new(what, "interrupted; what was made is removed").status(INTERRUPTED));
        }
        self.show(&dir, &rows, global.json);
        Ok(0)
    }

    fn show(&self, dir: &std::path::Path, rows: &[Row], json: bool) {
        let mounted = mounts::holding(dir);
        let (fstype, source) =
            mounted.map_or_else(Default::default, |mounted| (mounted.fstype, mounted.source));
        if json {
            return output::json(&json!({
                "dir": dir, "fstype": fstype, "source": source, "size": self.size, "time": self.time.as_secs_f64(),
                "results": rows.iter().map(to_json).collect::<Vec<Value>>(),
            }));
        }
        output::line(&format!("{} ({fstype}, {source})", dir.display()));
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        for line in table(rows) {
            output::line(&if coloured { line } else { strip_str(&line).to_string() });
        }
    }
}

/// Runs it beside a runtime that hears signals.
fn measure(plan: Plan, stop: &AtomicBool) -> Result<Vec<Row>, bench::Failed> {
    let bar = ProgressBar::no_length().with_style(ProgressStyle::default_spinner());
    bar.enable_steady_tick(Duration::from_millis(100));
    let shown = bar.clone();
    let failed = |error| (plan.dir.clone(), error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let rows = runtime.block_on(async {
        let mut term =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(failed)?;
        let own = plan.clone();
        let mut work =
            tokio::task::spawn_blocking(move || bench::run(&own, &|test| shown.set_message(test.to_owned())));
        let done = tokio::select! {
            done = &mut work => done,
            _ = tokio::signal::ctrl_c() => { stop.store(true, Ordering::Relaxed); work.await }
            _ = term.recv() => { stop.store(true, Ordering::Relaxed); work.await }
        };
        done.map_err(std::io::Error::other).map_err(failed)?
    });
    bar.finish_and_clear();
    rows
}

fn to_json(row: &Row) -> Value {
    json!({
        "test": row.test.replace(' ', "_"),
        "threads": row.threads,
        "ops": row.ops,
        "bytes": row.bytes,
        "seconds": row.elapsed.as_secs_f64(),
        "ops_per_second": row.ops_per_second(),
        "bytes_per_second": row.bytes_per_second(),
        "p50": row.p50.as_secs_f64(),
        "p99": row.p99.as_secs_f64(),
        "max": row.max.as_secs_f64(),
    })
}

/// Lines with colours: names of tests, then the figures that count, then how long single operations took.
fn table(rows: &[Row]) -> Vec<String> {
    let (head, name) = (Style::new().bold(), AnsiColor::Cyan.on_default());
    let (rate, quiet) = (AnsiColor::Green.on_default().bold(), Style::new().dimmed());
    let mut lines = vec![format!(
        "{head}{:<17} {:>7} {:>12} {:>13} {:>10} {:>10} {:>10}{head:#}",
        "TEST", "THREADS", "RATE", "OPS/S", "P50", "P99", "LONGEST"
    )];
    lines.extend(rows.iter().map(|row| {
        let moved = row.bytes_per_second().map_or_else(String::new, |rate| format!("{}/s", output::bytes(rate as u64)));
        format!(
            "{name}{:<17}{name:#} {:>7} {rate}{moved:>12}{rate:#} {rate}{:>13}{rate:#} {quiet}{:>10} {:>10} {:>10}{quiet:#}",
            row.test,
            row.threads,
            grouped(row.ops_per_second()),
            short(row.p50),
            short(row.p99),
            short(row.max)
        )
    }));
    lines
}

/// `12,345`; below ten with a digit behind the point.
fn grouped(number: f64) -> String {
    if number < 10.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `12 us`, `3.4 ms`, `1.2 s`.
fn short(time: Duration) -> String {
    let micros = time.as_nanos() as f64 / 1e3;
    match micros {
        micros if micros < 10.0 => format!("{micros:.1} us"),
        micros if micros < 1e3 => format!("{micros:.0} us"),
        micros if micros < 1e6 => format!("{:.1} ms", micros / 1e3),
        micros => format!("{:.1} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(test: &'static str, bytes: Option<u64>) -> Row {
        let (p50, p99, max) =
            (Duration::from_nanos(2500), Duration::from_micros(480), Duration::from_millis(1234));
        Row { test, threads: 8, ops: 24_690, bytes, elapsed: Duration::from_secs(2), p50, p99, max }
    }

    #[test]
    fn the_table_lines_up_without_its_colours() {
        let plain: Vec<String> = table(&[row("random read", Some(3 << 20)), row("stat", None)])
            .iter()
            .map(|line| strip_str(line).to_string())
            .collect();
        assert_eq!(
            plain,
            [
                "TEST              THREADS         RATE         OPS/S        P50        P99    LONGEST",
                "random read             8    1.5 MiB/s        12,345     2.5 us     480 us      1.2 s",
                "stat                    8                     12,345     2.5 us     480 us      1.2 s",
            ]
        );
        assert!(table(&[row("stat", None)])[0].contains('\x1b'));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [grouped(0.25), grouped(9.96), grouped(123.4), grouped(1_234_567.0)],
            ["0.2", "10.0", "123", "1,234,567"]
        );
        assert_eq!(short(Duration::from_micros(1500)), "1.5 ms");
    }

    #[test]
    fn json_is_in_bytes_and_seconds() {
        let value = to_json(&row("sequential write", Some(4)));
        assert_eq!(
            (&value["test"], &value["bytes_per_second"], &value["p99"]),
            (&json!("sequential_write"), &json!(2.0), &json!(0.00048))
        );
        assert_eq!(to_json(&row("stat", None))["bytes"], Value::Null);
    }
}
