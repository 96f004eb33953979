//! Lines of an access log, added up.

use std::collections::BTreeMap;
use std::time::Duration;

/// Inode numbers from here on are of `.xtfs/` itself.
const INSIDE: u64 = 1 << 63;

/// What is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Op,
    Uid,
    Ino,
}

impl Key {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Op => "op",
            Self::Uid => "uid",
            Self::Ino => "ino",
        }
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq)]
struct Call<'a> {
    at: &'a str,
    op: &'a str,
    ino: u64,
    uid: &'a str,
    errno: i32,
    micros: u64,
}

impl<'a> Call<'a> {
    /// `1795827784.323000 lookup ino=5 uid=0 errno=2 us=70`
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (at, op) = (words.next()?, words.next()?);
        at.parse::<f64>().ok().filter(|at| at.is_finite())?;
        let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let (ino, uid) = (value("ino")?, value("uid")?);
        let (errno, micros) = (value("errno")?, value("us")?);
        let (ino, errno, micros) = (ino.parse().ok()?, errno.parse().ok()?, micros.parse().ok()?);
        uid.parse::<u32>().ok()?;
        Some(Self { at, op, ino, uid, errno, micros })
    }
}

/// A row of what was added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) micros: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

impl Row {
    pub(super) fn mean(&self) -> u64 {
        self.micros / self.calls.max(1)
    }
}

#[derive(Default)]
struct Sum {
    errors: u64,
    times: Vec<u64>,
}

/// Calls of a log that is looked at again and again.
pub(super) struct Profile {
    key: Key,
    sums: BTreeMap<String, Sum>,
    /// The last look's lines: the log is a window that moves on.
    last: Vec<String>,
    calls: u64,
    own: u64,
    unreadable: u64,
    first_and_last: Option<(f64, f64)>,
}

impl Profile {
    pub(super) fn new(key: Key) -> Self {
        let (sums, last) = (BTreeMap::new(), Vec::new());
        Self { key, sums, last, calls: 0, own: 0, unreadable: 0, first_and_last: None }
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Everything in this look was there before.
    pub(super) fn skip(&mut self, text: &str) {
        self.last = text.lines().map(str::to_owned).collect();
    }

    /// Adds what is new in this look: what follows the longest end of the last one that this one begins with.
    pub(super) fn add(&mut self, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        let old = (0..=self.last.len().min(lines.len()))
            .rev()
            .find(|count| self.last[self.last.len() - count..].iter().eq(&lines[..*count]))
            .unwrap_or(0);
        for line in &lines[old..] {
            self.count(line);
        }
        self.last = lines.into_iter().map(str::to_owned).collect();
    }

    fn count(&mut self, line: &str) {
        let Some(call) = Call::parse(line) else {
            self.unreadable += 1;
            return;
        };
        if call.ino >= INSIDE {
            self.own += 1;
            return;
        }
        let at = call.at.parse().unwrap_or_default();
        self.first_and_last = Some(self.first_and_last.map_or((at, at), |(first, _)| (first, at)));
        let key = match self.key {
            Key::Op => call.op.to_owned(),
            Key::Uid => call.uid.to_owned(),
            Key::Ino => call.ino.to_string(),
        };
        let sum = self.sums.entry(key).or_default();
        sum.errors += u64::from(call.errno != 0);
        sum.times.push(call.micros);
        self.calls += 1;
    }

    /// Calls that were added.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// Calls on `.xtfs/` itself, which this command makes.
    pub(super) fn own(&self) -> u64 {
        self.own
    }

    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls == 0
    }

    /// From the first call to the last.
    pub(super) fn span(&self) -> Duration {
        let span = self.first_and_last.map_or(0.0, |(first, last)| last - first);
        Duration::try_from_secs_f64(span).unwrap_or_default()
    }

    /// What took longest comes first.
    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |(key, sum): (&String, &Sum)| {
            let mut times = sum.times.clone();
            times.sort_unstable();
            let p99 = times[(times.len() * 99).div_ceil(100).max(1) - 1];
            let (calls, max) = (times.len() as u64, times.last().copied().unwrap_or(0));
            Row { key: key.clone(), calls, errors: sum.errors, micros: times.iter().sum(), p99, max }
        };
        let mut rows: Vec<Row> = self.sums.iter().map(row).collect();
        rows.sort_by(|one, other| other.micros.cmp(&one.micros).then_with(|| one.key.cmp(&other.key)));
        rows
    }
}

/// Calls in `.xtfs/stats`.
pub(super) fn calls(stats: &str) -> u64 {
    let done = |line: &str| line.split_once(" done ")?.1.split(' ').next()?.parse::<u64>().ok();
    stats.lines().filter_map(done).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(at: u64) -> String {
        format!(
            "{at}.000000 {} ino={at} uid=7 errno={} us={}",
            ["read", "lookup"][(at % 2) as usize],
            at % 3,
            at * 10
        )
    }

    #[test]
    fn rows_are_added_up_and_the_slowest_comes_first() {
        let text: Vec<String> = (1..=200).map(line).collect();
        let mut profile = Profile::new(Key::Op);
        profile.add(&format!(
            "{}\n201.0 open ino={} uid=0 errno=0 us=9\nno line\n",
            text.join("\n"),
            1u64 << 63
        ));
        let rows = profile.rows();
        assert_eq!(
            rows.iter().map(|row| (row.key.as_str(), row.calls)).collect::<Vec<_>>(),
            [("read", 100), ("lookup", 100)]
        );
        assert_eq!((rows[0].micros, rows[0].p99, rows[0].max, rows[0].mean()), (101_000, 1980, 2000, 1010));
        assert_eq!(rows[0].errors, (1..=100).filter(|n| n * 2 % 3 != 0).count() as u64);
        assert_eq!((profile.own(), profile.unreadable(), profile.span()), (1, 1, Duration::from_secs(199)));
        assert_eq!(
            calls("read_bytes 5\nread done 7 failed 1 mean_us 3\nopen done 2 failed 0 mean_us 1\n"),
            9
        );
    }

    proptest! {
        #[test]
        fn each_call_of_a_moving_window_counts_once(steps in prop::collection::vec(0u64..40, 1..20)) {
            let mut profile = Profile::new(Key::Uid);
            let mut end = 30u64;
            let window = |end: u64| (end.saturating_sub(50)..end).map(line).collect::<Vec<_>>().join("\n");
            profile.skip(&window(end));
            for step in &steps {
                end += step;
                profile.add(&window(end));
            }
            prop_assert_eq!(profile.calls(), steps.iter().sum::<u64>());
        }

        #[test]
        fn any_text_is_read(text in ".*") {
            let mut profile = Profile::new(Key::Ino);
            profile.add(&text);
            profile.rows();
        }
    }
}
