//! One whole check, through changes of the leader, and what a person hears of it meanwhile.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use client::volume::check::CheckAsk;
use client::{Error, Patience};
use proto::error::Code;
use proto::fsck::{Finding, FsckProgress};
use rt::clock::{Clock, SystemClock};

use crate::place::{Opened, creds};

/// One question waits this long for news.
const WAIT: Duration = Duration::from_secs(2);
/// One question is tried this long before something is said.
const PATIENCE: Patience = Patience::For(Duration::from_secs(1));
/// Starts anew when the leader changes, this often.
const STARTS_MAX: u32 = 20;

/// What one pass found.
pub(super) struct Pass {
    pub(super) findings: Vec<Finding>,
    pub(super) rows: u64,
    pub(super) seen: u64,
    pub(super) cut: bool,
}

/// How long somebody waits, and what is said to them.
pub(super) struct Course<'a> {
    clock: Arc<dyn Clock>,
    /// Without any answer for this long it gives up.
    timeout: Duration,
    say: &'a mut dyn FnMut(&Said),
}

/// Something to be said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// How far it is.
    Far(String),
    /// Why it takes longer.
    Note(String),
}

/// One whole check.
pub(super) async fn pass(opened: &Opened, timeout: Duration) -> client::Result<Pass> {
    let mut voice = Voice { shows: std::io::stderr().is_terminal(), line: false };
    let mut say = |said: &Said| voice.say(said);
    let mut course = Course { clock: SystemClock::new(), timeout, say: &mut say };
    let ask = |ask| async move { opened.volume.ask_check(&creds(), ask, PATIENCE).await };
    let done = course.run(ask, || rand::random::<u64>() | 1).await;
    voice.end();
    done
}

impl Course<'_> {
    /// Checks until the end. A leader that knows nothing of the check is new: then from the start.
    async fn run<A: Future<Output = client::Result<FsckProgress>>>(
        &mut self,
        ask: impl Fn(CheckAsk) -> A,
        mut number: impl FnMut() -> u64,
    ) -> client::Result<Pass> {
        let mut last = None;
        for start in 1..=STARTS_MAX {
            match self.whole(&ask, number()).await {
                Err(error) if error.code == Code::Stale => {
                    let text = format!("starting anew (start {} of {STARTS_MAX}): {}", start + 1, error.text);
                    (self.say)(&Said::Note(text));
                    last = Some(error);
                }
                other => return other,
            }
        }
        Err(last.expect("the loop ran"))
    }

    async fn whole<A: Future<Output = client::Result<FsckProgress>>>(
        &mut self,
        ask: &impl Fn(CheckAsk) -> A,
        check: u64,
    ) -> client::Result<Pass> {
        let mut findings: Vec<Finding> = Vec::new();
        let began = self.clock.monotonic();
        let (mut begin, mut answered, mut why) = (true, began, String::new());
        loop {
            let asked = ask(CheckAsk { check, after: findings.len() as u64, wait: WAIT, begin }).await;
            let now = self.clock.monotonic();
            let FsckProgress { findings: new, rows, done, cut, seen, phase, inodes, .. } = match asked {
                Ok(progress) => progress,
                Err(error) if passes(&error) && now.saturating_sub(answered) < self.timeout => {
                    if why != error.text {
                        why.clone_from(&error.text);
                        (self.say)(&Said::Note(format!("waiting: {why}")));
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            // Whether it has begun is known from the first answer on.
            (begin, answered, why) = (false, now, String::new());
            findings.extend(new);
            if done {
                return Ok(Pass { findings, rows, seen, cut });
            }
            let seconds = now.saturating_sub(began).as_secs();
            (self.say)(&Said::Far(format!(
                "looking at {phase}: {rows} rows of a volume with {inodes} inodes, {} finding(s), {seconds} s",
                findings.len()
            )));
        }
    }
}

/// Whether it may work a moment later.
fn passes(error: &Error) -> bool {
    matches!(error.code, Code::Busy | Code::Unavailable | Code::DeadlineExceeded | Code::NotLeader)
}

/// Says it on stderr: how far it is on a terminal only, in one line; why it takes longer always.
struct Voice {
    shows: bool,
    line: bool,
}

impl Voice {
    fn say(&mut self, said: &Said) {
        match said {
            Said::Far(text) if self.shows => {
                eprint!("\r{text}\x1b[K");
                self.line = true;
            }
            Said::Far(_) => {}
            Said::Note(text) => {
                self.end();
                eprintln!("{text}");
            }
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.line) {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use rt::clock::ManualClock;

    use super::*;

    fn error(code: Code, text: &str) -> client::Result<FsckProgress> {
        Err(Error::new(code, text))
    }

    fn progress(found: usize, done: bool) -> client::Result<FsckProgress> {
        let findings = vec![Finding::default(); found];
        Ok(FsckProgress {
            findings,
            rows: 7,
            done,
            seen: 3,
            phase: "names".into(),
            ..FsckProgress::default()
        })
    }

    /// What was asked: the check, behind which finding, whether to begin.
    type Asked = Vec<(u64, u64, bool)>;

    /// What was asked, what was said, how it ended; each answer takes a second.
    fn run(answers: Vec<client::Result<FsckProgress>>) -> (Asked, Vec<Said>, client::Result<usize>) {
        let clock = ManualClock::new();
        let (asked, said) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let answers = RefCell::new(VecDeque::from(answers));
        let mut say = |one: &Said| {
            said.borrow_mut().push(match one {
                Said::Far(text) => Said::Far(text.clone()),
                Said::Note(text) => Said::Note(text.clone()),
            });
        };
        let mut course = Course { clock: clock.clone(), timeout: Duration::from_secs(4), say: &mut say };
        let ask = |ask: CheckAsk| {
            clock.advance(Duration::from_secs(1));
            asked.borrow_mut().push((ask.check, ask.after, ask.begin));
            let answer = answers.borrow_mut().pop_front().expect("not asked beyond the end");
            std::future::ready(answer)
        };
        let mut numbers = 0;
        let number = || {
            numbers += 1;
            numbers
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let done = runtime.block_on(course.run(ask, number));
        (asked.into_inner(), said.into_inner(), done.map(|pass| pass.findings.len()))
    }

    #[test]
    fn a_new_leader_gets_the_whole_check_and_a_person_hears_of_it() {
        let (asked, said, done) = run(vec![
            progress(2, false),
            error(Code::Unavailable, "it does not answer"),
            error(Code::Stale, "the leader changed"),
            progress(1, false),
            progress(1, true),
        ]);
        assert_eq!(asked, [(1, 0, true), (1, 2, false), (1, 2, false), (2, 0, true), (2, 1, false)]);
        assert_eq!(done.unwrap(), 2, "what the former leader had found is not counted twice");
        let notes: Vec<&str> = said
            .iter()
            .filter_map(|said| if let Said::Note(text) = said { Some(text.as_str()) } else { None })
            .collect();
        assert_eq!(
            notes,
            ["waiting: it does not answer", "starting anew (start 2 of 20): the leader changed"]
        );
        assert!(matches!(&said[0], Said::Far(text) if text.contains("looking at names: 7 rows")));
    }

    #[test]
    fn a_start_is_repeated_with_its_number_and_patience_ends() {
        let busy = || error(Code::Busy, "another check runs");
        let (asked, said, done) = run(vec![busy(), busy(), progress(0, true)]);
        assert_eq!(asked, [(1, 0, true); 3]);
        assert_eq!(said, [Said::Note("waiting: another check runs".into())], "once");
        assert_eq!(done.unwrap(), 0);
        let (asked, _, done) = run(vec![busy(), busy(), busy(), busy()]);
        assert_eq!((asked.len(), done.unwrap_err().code), (4, Code::Busy));
        let (asked, _, done) = run(vec![error(Code::NotPermitted, "no")]);
        assert_eq!((asked.len(), done.unwrap_err().code), (1, Code::NotPermitted));
    }

    #[test]
    fn leaders_that_change_for_ever_end_it() {
        let (asked, _, done) = run((0..STARTS_MAX).map(|_| error(Code::Stale, "changed")).collect());
        assert_eq!((asked.len(), done.unwrap_err().code), (STARTS_MAX as usize, Code::Stale));
    }
}
