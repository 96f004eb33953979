//! When a read of a replicated file is also, or only, asked of replicas that do not lead; and whether what they say answers it.
//! `docs/protocols/replication.md`, "Reads".
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::time::Duration;

/// Bounds of the time after which the primary has taken long.
pub const DELAY_MIN: Duration = Duration::from_millis(4);
/// See [`DELAY_MIN`].
pub const DELAY_MAX: Duration = Duration::from_millis(40);
/// The same while too little is known of an OSD.
pub const DELAY_AT_FIRST: Duration = Duration::from_millis(20);
/// A silent OSD is tried so often.
pub const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Times of an OSD that are remembered, of each kind.
const TIMES: usize = 64;
/// So many must be known.
const TIMES_MIN: usize = 8;
/// So many reads bring one token.
const READS_PER_TOKEN: u32 = 32;
/// Most tokens that are saved.
const TOKENS_MAX: u32 = 32;
/// Longer reads take longer: their times are kept apart.
const LARGE: u32 = 64 << 10;
/// OSDs whose times are kept; of more, those of the lowest numbers go.
const OSDS_MAX: usize = 4096;

/// A read that begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The primary is silent: replicas are asked first.
    pub replicas_first: bool,
    /// After this the other ones are asked too.
    pub delay: Duration,
}

/// What is known of an OSD's pace.
#[derive(Debug, Default)]
struct Pace {
    /// Of small and large reads, microseconds; a ring.
    times: [Vec<u32>; 2],
    next: [usize; 2],
    /// When it answered last.
    answered: Option<Duration>,
    /// It has not answered since replicas overtook it; it is tried at this time.
    silent: Option<Duration>,
}

impl Pace {
    fn note(&mut self, large: bool, took: Duration) {
        let kind = usize::from(large);
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if self.times[kind].len() < TIMES {
            self.times[kind].push(micros);
        } else {
            let at = self.next[kind];
            self.times[kind][at] = micros;
            self.next[kind] = (at + 1) % TIMES;
        }
    }

    fn delay(&self, large: bool) -> Duration {
        let times = &self.times[usize::from(large)];
        if times.len() < TIMES_MIN {
            return DELAY_AT_FIRST;
        }
        let mut sorted = times.clone();
        let at = (times.len() * 95 / 100).min(times.len() - 1);
        let (_, p95, _) = sorted.select_nth_unstable(at);
        Duration::from_micros(u64::from(*p95)).clamp(DELAY_MIN, DELAY_MAX)
    }

    fn typical(&self) -> Duration {
        let mut times = self.times[0].clone();
        if times.is_empty() {
            return Duration::ZERO;
        }
        let at = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(at);
        Duration::from_micros(u64::from(*median))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Hedging {
    paces: BTreeMap<u64, Pace>,
    /// In parts of a token.
    parts: u32,
}

impl Default for Hedging {
    fn default() -> Self {
        Self { paces: BTreeMap::new(), parts: TOKENS_MAX * READS_PER_TOKEN }
    }
}

/// Whether a read of so many bytes counts as large.
#[must_use]
pub fn is_large(len: u32) -> bool {
    len > LARGE
}

impl Hedging {
    fn pace(&mut self, osd: u64) -> &mut Pace {
        if self.paces.len() >= OSDS_MAX && !self.paces.contains_key(&osd) {
            self.paces.pop_first();
        }
        self.paces.entry(osd).or_default()
    }

    /// A read that `osd` leads begins.
    pub fn begins(&mut self, osd: u64, large: bool, now: Duration) -> Plan {
        self.parts = (self.parts + 1).min(TOKENS_MAX * READS_PER_TOKEN);
        let pace = self.pace(osd);
        let delay = pace.delay(large);
        let replicas_first = match &mut pace.silent {
            None => false,
            Some(due) if *due <= now => {
                *due = now + TRY_AGAIN;
                false
            }
            Some(_) => true,
        };
        Plan { replicas_first, delay }
    }

    /// An OSD answered something that was asked `took` ago.
    pub fn answered(&mut self, osd: u64, large: bool, took: Duration, now: Duration) {
        let pace = self.pace(osd);
        pace.note(large, took);
        (pace.answered, pace.silent) = (Some(now), None);
    }

    /// The delay is over without an answer of `osd`: whether replicas may be asked too.
    pub fn may_hedge(&mut self, osd: u64) -> bool {
        if self.paces.get(&osd).is_some_and(|pace| pace.silent.is_some()) {
            return true;
        }
        let paid = self.parts.checked_sub(READS_PER_TOKEN);
        self.parts = paid.unwrap_or(self.parts);
        paid.is_some()
    }

    /// Replicas answered before `osd`, which was asked at `begun`.
    pub fn overtaken(&mut self, osd: u64, large: bool, begun: Duration, now: Duration) {
        let pace = self.pace(osd);
        // At least so long: a pace that only gets slower must be seen too.
        pace.note(large, now.saturating_sub(begun));
        if pace.answered.is_none_or(|at| at < begun) && pace.silent.is_none() {
            pace.silent = Some(now + TRY_AGAIN);
        }
    }

    /// The replicas of a list beside the primary, the one to give data first: at the `attempt`th time another one. `avoid`: those
    /// come last.
    #[must_use]
    pub fn order(&self, list: &[u64], primary: u64, attempt: usize, avoid: impl Fn(u64) -> bool) -> Vec<u64> {
        let pace = |osd: &u64| self.paces.get(osd);
        let mut others: Vec<u64> = list.iter().copied().filter(|osd| *osd != primary).collect();
        others.sort_by_key(|osd| {
            let silent = pace(osd).is_some_and(|pace| pace.silent.is_some());
            (avoid(*osd) || silent, pace(osd).map(Pace::typical).unwrap_or_default())
        });
        let usable = others.iter().filter(|osd| !avoid(**osd)).count();
        if let Some(turn) = attempt.checked_rem(usable) {
            others[..usable].rotate_left(turn);
        }
        others
    }
}

/// What replicas said of one object, until a majority says the same as the one with the data. `W` is a replica's word.
#[derive(Clone, Debug)]
pub struct Ballot<W> {
    majority: usize,
    /// Who has the data, and what it says.
    giver: Option<W>,
    /// The words of others.
    words: Vec<W>,
}

impl<W: PartialEq> Ballot<W> {
    /// Of a list of so many replicas.
    #[must_use]
    pub fn new(replicas: usize) -> Self {
        Self { majority: replicas / 2 + 1, giver: None, words: Vec::new() }
    }

    /// The replica that gives the data said this of the object, before and after it read.
    pub fn gives(&mut self, word: W) {
        self.giver = Some(word);
    }

    /// Another replica says this. Each is asked once.
    pub fn says(&mut self, word: W) {
        self.words.push(word);
    }

    /// Whether the data may be shown.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        let Some(giver) = &self.giver else { return false };
        1 + self.words.iter().filter(|word| *word == giver).count() >= self.majority
    }

    /// Whether it still can be, when so many have not answered.
    #[must_use]
    pub fn is_hopeless(&self, open: usize) -> bool {
        let Some(giver) = &self.giver else { return false };
        1 + open + self.words.iter().filter(|word| *word == giver).count() < self.majority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_delay_is_the_p95_within_bounds() {
        let mut hedging = Hedging::default();
        assert_eq!(hedging.begins(1, false, ms(0)), Plan { replicas_first: false, delay: DELAY_AT_FIRST });
        (0..60).for_each(|_| hedging.answered(1, false, ms(1), ms(1)));
        assert_eq!(hedging.begins(1, false, ms(0)).delay, DELAY_MIN);
        (0..12).for_each(|_| hedging.answered(1, false, ms(9), ms(1)));
        assert_eq!(hedging.begins(1, false, ms(0)).delay, ms(9), "more than a twentieth");
        (0..64).for_each(|_| hedging.answered(1, false, ms(900), ms(1)));
        assert_eq!(hedging.begins(1, false, ms(0)).delay, DELAY_MAX);
        assert_eq!(hedging.begins(1, true, ms(0)).delay, DELAY_AT_FIRST, "large ones are apart");
    }

    #[test]
    fn few_reads_are_sent_twice() {
        let mut hedging = Hedging::default();
        let (mut reads, mut twice) = (0, 0);
        for _ in 0..10_000 {
            hedging.begins(1, false, ms(0));
            reads += 1;
            twice += u32::from(hedging.may_hedge(1));
        }
        assert!(twice <= reads / READS_PER_TOKEN + TOKENS_MAX, "{twice} of {reads}");
        assert!(twice >= reads / READS_PER_TOKEN);
    }

    #[test]
    fn a_silent_osd_is_gone_around_and_tried_now_and_then() {
        let mut hedging = Hedging::default();
        hedging.answered(1, false, ms(1), ms(10));
        hedging.overtaken(1, false, ms(5), ms(15));
        assert!(!hedging.begins(1, false, ms(16)).replicas_first, "it has answered since the read began");
        hedging.overtaken(1, false, ms(20), ms(30));
        assert!(hedging.begins(1, false, ms(31)).replicas_first);
        hedging.parts = 0;
        assert!(hedging.may_hedge(1), "no token is needed");
        assert!(!hedging.begins(1, false, ms(30) + TRY_AGAIN).replicas_first, "tried");
        assert!(hedging.begins(1, false, ms(31) + TRY_AGAIN).replicas_first, "once");
        hedging.answered(1, false, ms(700), ms(99));
        assert!(!hedging.begins(1, false, ms(100)).replicas_first);
        assert!(!hedging.may_hedge(1));
    }

    #[test]
    fn the_quickest_gives_data_and_then_another_one() {
        let mut hedging = Hedging::default();
        hedging.answered(3, false, ms(1), ms(0));
        hedging.answered(2, false, ms(5), ms(0));
        hedging.answered(4, false, ms(0), ms(0));
        assert_eq!(hedging.order(&[1, 2, 3, 4], 1, 0, |osd| osd == 4), [3, 2, 4]);
        assert_eq!(hedging.order(&[1, 2, 3, 4], 1, 1, |osd| osd == 4), [2, 3, 4]);
        assert_eq!(hedging.order(&[1, 2], 1, 3, |_| true), [2]);
    }

    #[test]
    fn a_majority_with_the_data_decides() {
        let mut ballot = Ballot::new(3);
        ballot.says(7);
        assert!(!ballot.is_decided(), "nobody gave data");
        ballot.gives(7);
        assert!(ballot.is_decided());
        let mut ballot = Ballot::new(5);
        ballot.gives(7);
        ballot.says(8);
        ballot.says(7);
        assert!(!ballot.is_decided() && !ballot.is_hopeless(1) && ballot.is_hopeless(0));
        ballot.says(7);
        assert!(ballot.is_decided());
    }
}
