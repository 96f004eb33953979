//! How many objects may be copied to other replicas at the same time, so that whoever works hardly notices.
//!
//! While nothing is copied it learns how long requests of clients take. While something is, a request that takes more than twice the p99 of then is
//! *late*: late ones take places away, the others give them back, and at one in a hundred both are in balance. So the copying takes all
//! that it can without the p99 being more than doubled. Less than one place is one that rests between two objects. A part of one stays whatever
//! happens: a file that lacks a replica is in danger.
//!
//! Kinds are judged apart: a sync takes longer than a read, a megabyte longer than a block.

use std::collections::VecDeque;
use std::time::Duration;

/// Objects on their way at the same time at most, over all columns.
pub const AT_ONCE: usize = 64;
/// So much of a place stays always, in parts.
const LEAST: u64 = PARTS / 4;
/// A place rests at most so long, whatever its last object took.
const REST_MOST: Duration = Duration::from_millis(500);
/// When copying begins while somebody works: what it costs them is not known yet. (With four the first seconds, in which many are late, were most of a
/// short repair: p99 of reads 15 ms instead of 8, of synced writes 47 instead of 10 to 27, at the same speed; `t65-rereplication.sh`.)
const FIRST: usize = 1;
/// Places are counted in so many parts.
const PARTS: u64 = 1 << 20;
/// An on-time request makes the limit larger by this part of it: a hundred of them make up for a late one, which takes a quarter.
const GROWTH: u64 = 350;
/// Late ones so close together have one cause.
const ONE_CAUSE: Duration = Duration::from_millis(50);
/// Nobody has worked for so long: nobody notices.
const QUIET: Duration = Duration::from_secs(1);
/// After the last copy it takes a moment until requests take what they usually do.
const SETTLED: Duration = Duration::from_millis(500);
/// Quicker than that is quick enough.
const QUICK: Duration = Duration::from_millis(2);
/// What is late as long as not enough is known of a kind.
const LATE_UNKNOWN: Duration = Duration::from_millis(50);
/// Times remembered of each kind, and how many make an opinion.
const TIMES: usize = 256;
const TIMES_LEAST: usize = 64;
/// The p99 is looked for again after so many.
const LOOK_AGAIN: usize = 32;
/// Requests with more bytes are another kind.
const SMALL_BYTES: usize = 64 << 10;

/// What a request of a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// It reads.
    Read,
    /// It changes.
    Change,
    /// It forces to the medium.
    Sync,
}

/// Requests that take about as long as one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind(usize);

impl Kind {
    const COUNT: usize = 5;

    /// By what it does and how much it carries.
    #[must_use]
    pub fn of(verb: Verb, bytes: usize) -> Self {
        let large = usize::from(bytes > SMALL_BYTES);
        Self(match verb {
            Verb::Read => large,
            Verb::Change => 2 + large,
            Verb::Sync => 4,
        })
    }
}

/// How long requests of one kind take when nothing is copied.
#[derive(Clone, Debug, Default)]
struct Usual {
    times: VecDeque<Duration>,
    since_look: usize,
    p99: Option<Duration>,
}

impl Usual {
    fn took(&mut self, took: Duration) {
        self.times.push_back(took);
        if self.times.len() > TIMES {
            self.times.pop_front();
        }
        self.since_look += 1;
        if self.times.len() >= TIMES_LEAST && (self.p99.is_none() || self.since_look >= LOOK_AGAIN) {
            self.since_look = 0;
            let mut sorted: Vec<Duration> = self.times.iter().copied().collect();
            sorted.sort_unstable();
            self.p99 = sorted.get(sorted.len() * 99 / 100).copied();
        }
    }

    /// Longer than this is late.
    fn bound(&self) -> Duration {
        self.p99.map_or(LATE_UNKNOWN, |p99| 2 * p99.max(QUICK))
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Throttle {
    usual: [Usual; Kind::COUNT],
    /// In parts of a place.
    limit: u64,
    /// The last request of a client.
    worked: Option<Duration>,
    /// The last late one that counted.
    cut: Option<Duration>,
    /// When something was being copied last.
    copied: Option<Duration>,
    /// How long an object takes, about.
    object: Duration,
}

impl Default for Throttle {
    fn default() -> Self {
        let limit = AT_ONCE as u64 * PARTS;
        Self {
            usual: Default::default(),
            limit,
            worked: None,
            cut: None,
            copied: None,
            object: Duration::ZERO,
        }
    }
}

impl Throttle {
    /// A request of a client was answered; `copying`: objects were on their way meanwhile.
    pub fn served(&mut self, kind: Kind, took: Duration, copying: bool, now: Duration) {
        self.rest(now);
        self.worked = Some(now);
        if copying {
            self.copied = Some(now);
        }
        let usual = &mut self.usual[kind.0];
        if !copying {
            if self.copied.is_none_or(|copied| now.saturating_sub(copied) >= SETTLED) {
                usual.took(took);
                self.limit = FIRST as u64 * PARTS;
            }
            return;
        }
        if took <= usual.bound() {
            self.limit = (self.limit + self.limit / GROWTH).min(AT_ONCE as u64 * PARTS);
        } else if self.cut.is_none_or(|cut| now.saturating_sub(cut) >= ONE_CAUSE) {
            self.cut = Some(now);
            self.limit = (self.limit / 4 * 3).max(LEAST);
        }
    }

    /// How many objects may be on their way now.
    pub fn limit(&mut self, now: Duration) -> usize {
        self.rest(now);
        usize::try_from(self.limit / PARTS).unwrap_or(AT_ONCE).max(1)
    }

    /// An object was copied.
    pub fn copied(&mut self, took: Duration) {
        self.object = if self.object.is_zero() { took } else { (3 * self.object + took) / 4 };
    }

    /// How long the only place rests before its next object.
    pub fn pause(&mut self, now: Duration) -> Duration {
        self.rest(now);
        let missing = PARTS.saturating_sub(self.limit);
        let object = u64::try_from(self.object.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(object.saturating_mul(missing) / self.limit.max(LEAST)).min(REST_MOST)
    }

    /// Nobody works: all places are there.
    fn rest(&mut self, now: Duration) {
        if self.worked.is_none_or(|worked| now.saturating_sub(worked) >= QUIET) {
            self.limit = AT_ONCE as u64 * PARTS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    const READ: Kind = Kind(0);
    /// Places that there are when the tests begin to copy.
    const FOUR: usize = 4;

    /// Reads of 1 to 10 ms, a hundred per second, and what it is like after so long.
    fn learned(now: &mut Duration) -> Throttle {
        let mut throttle = Throttle::default();
        for n in 0..300 {
            *now += ms(10);
            throttle.served(READ, if n % 50 == 0 { ms(10) } else { ms(1) }, false, *now);
        }
        assert_eq!(throttle.limit, FIRST as u64 * PARTS);
        throttle.limit = FOUR as u64 * PARTS;
        throttle
    }

    /// So many requests while objects are copied, of which every `late`th is late; the limit after them.
    fn under_way(throttle: &mut Throttle, now: &mut Duration, count: u32, late: u32) -> usize {
        for n in 1..=count {
            *now += ms(100);
            throttle.served(READ, if n % late == 0 { ms(21) } else { ms(20) }, true, *now);
        }
        throttle.limit(*now)
    }

    #[test]
    fn late_is_more_than_twice_the_usual_p99() {
        let mut now = ms(1000);
        let mut throttle = learned(&mut now);
        assert_eq!(throttle.usual[READ.0].bound(), ms(20));
        assert_eq!(throttle.limit(now), FOUR);
        assert_eq!(under_way(&mut throttle, &mut now, 1, 1), FOUR * 3 / 4);
        assert!(under_way(&mut throttle, &mut now, 2000, u32::MAX) == AT_ONCE, "nobody minds");
    }

    #[test]
    fn one_late_request_in_a_hundred_is_the_balance() {
        for (late, grows) in [(50, false), (200, true)] {
            let mut now = ms(1000);
            let mut throttle = learned(&mut now);
            let limit = under_way(&mut throttle, &mut now, 2000, late);
            assert_eq!(limit > FOUR, grows, "one of {late} late: {limit}");
        }
        let mut now = ms(1000);
        let mut throttle = learned(&mut now);
        let limit = under_way(&mut throttle, &mut now, 1000, 100);
        assert!((FOUR / 2..=FOUR * 2).contains(&limit), "one of 100 late: {limit}");
    }

    #[test]
    fn a_part_of_a_place_stays_and_all_are_there_when_nobody_works() {
        let mut now = ms(1000);
        let mut throttle = learned(&mut now);
        throttle.copied(ms(10));
        throttle.copied(ms(10));
        assert_eq!(throttle.pause(now), Duration::ZERO, "one place and more need not rest");
        assert_eq!(under_way(&mut throttle, &mut now, 100, 1), 1);
        assert_eq!(throttle.pause(now), ms(30), "a quarter of the time");
        throttle.copied(ms(10_000));
        assert_eq!(throttle.pause(now), REST_MOST);
        assert_eq!(throttle.limit(now + QUIET - ms(1)), 1);
        assert_eq!((throttle.limit(now + QUIET), throttle.pause(now + QUIET)), (AT_ONCE, Duration::ZERO));
    }

    #[test]
    fn what_is_late_together_has_one_cause() {
        let mut now = ms(1000);
        let mut throttle = learned(&mut now);
        for _ in 0..10 {
            now += ms(1);
            throttle.served(READ, ms(500), true, now);
        }
        assert_eq!(throttle.limit(now), FOUR * 3 / 4);
    }

    #[test]
    fn kinds_are_judged_apart_and_what_is_quick_is_quick_enough() {
        let mut now = ms(1000);
        let mut throttle = learned(&mut now);
        let kinds: Vec<Kind> = [
            (Verb::Read, 4096),
            (Verb::Read, 1 << 20),
            (Verb::Change, 4096),
            (Verb::Change, 1 << 20),
            (Verb::Sync, 0),
        ]
        .map(|(verb, bytes)| Kind::of(verb, bytes))
        .to_vec();
        assert_eq!(
            kinds.iter().map(|kind| kind.0).collect::<Vec<usize>>(),
            (0..Kind::COUNT).collect::<Vec<usize>>()
        );
        for _ in 0..TIMES_LEAST {
            now += ms(10);
            throttle.served(kinds[2], us(100), false, now);
        }
        assert_eq!(throttle.usual[2].bound(), 2 * QUICK);
        assert_eq!(throttle.usual[4].bound(), LATE_UNKNOWN, "nothing is known of it");
        // What is learned while copies still are on the way to the medium is not what is usual.
        throttle.served(kinds[2], ms(900), true, now);
        throttle.served(kinds[2], ms(900), false, now + SETTLED - ms(1));
        assert_eq!(throttle.usual[2].times.back(), Some(&us(100)));
        throttle.served(kinds[2], ms(900), false, now + SETTLED);
        assert_eq!(throttle.usual[2].times.back(), Some(&ms(900)));
    }
}
