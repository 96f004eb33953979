//! Whether an OSD is slow, as the others see it: `docs/protocols/osd-map.md`, "Slow OSDs".
//!
//! [`Watch`] how long others take to answer this OSD's probes · [`Slowness`] what others say of this OSD, and whether it
//! gives up leading columns.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Others that an OSD watches: those that follow it in the map.
pub const WATCHED: usize = 4;
/// Probes that an opinion is made of: the fastest of them counts.
const PROBES: usize = 4;
/// Faster than this nobody is slow.
const SLOW: Duration = Duration::from_millis(30);
/// So many times as long as the others take is slow.
const TIMES: u32 = 8;
/// The others are taken to need this at least.
const LEAST: Duration = Duration::from_millis(2);
/// An opinion counts for so long.
const FRESH: Duration = Duration::from_secs(2);
/// So many must agree.
const ACCUSERS: usize = 2;
/// Nobody must complain for so long before it leads again; twice as long after each relapse.
const CALM: Duration = Duration::from_secs(10);
/// The longest calm that is asked for.
const CALM_MOST: Duration = Duration::from_secs(160);
/// Calm for so long and the past is forgotten.
const FORGIVEN: Duration = Duration::from_secs(600);

/// How long others take.
#[derive(Debug, Default)]
pub struct Watch {
    took: BTreeMap<u64, VecDeque<Duration>>,
}

impl Watch {
    /// Whom to probe: those that follow `me` among `osds`, ascending. Others are forgotten.
    pub fn choose(&mut self, me: u64, osds: &[u64]) -> Vec<u64> {
        let after = osds.iter().filter(|osd| **osd > me);
        let before = osds.iter().filter(|osd| **osd < me);
        let chosen: Vec<u64> = after.chain(before).copied().take(WATCHED).collect();
        self.took.retain(|osd, _| chosen.contains(osd));
        chosen
    }

    /// A probe was answered; one that was not counts with its patience.
    pub fn answered(&mut self, osd: u64, took: Duration) {
        let times = self.took.entry(osd).or_default();
        times.push_back(took);
        if times.len() > PROBES {
            times.pop_front();
        }
    }

    /// Whether an OSD is slow: even its fastest answer, beside the median of the others' fastest. `None`: too little is
    /// known.
    #[must_use]
    pub fn finds_slow(&self, osd: u64) -> Option<bool> {
        let fastest =
            |times: &VecDeque<Duration>| times.iter().min().copied().filter(|_| times.len() >= PROBES);
        let own = self.took.get(&osd).and_then(fastest)?;
        let others = self.took.iter().filter(|(other, _)| **other != osd);
        let mut others: Vec<Duration> = others.filter_map(|(_, times)| fastest(times)).collect();
        others.sort_unstable();
        // Whoever sees nobody else does not know whether it is slow itself.
        let median = *others.get(others.len().checked_sub(1)? / 2)?;
        Some(own >= SLOW && own >= median.max(LEAST) * TIMES)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Slowness {
    slow: bool,
    /// Who says what, and since when.
    said: BTreeMap<u64, (bool, Duration)>,
    /// The last complaint that counted.
    complained: Duration,
    calm: Duration,
}

impl Default for Slowness {
    fn default() -> Self {
        Self { slow: false, said: BTreeMap::new(), complained: Duration::ZERO, calm: CALM }
    }
}

impl Slowness {
    /// Another OSD tells how it finds this one.
    pub fn told(&mut self, by: u64, slow: bool, now: Duration) {
        self.said.retain(|_, (_, at)| now.saturating_sub(*at) <= FRESH);
        // Who is watched by more than watch it is in a map that changes: the rest is slack.
        if self.said.len() < 4 * WATCHED || self.said.contains_key(&by) {
            self.said.insert(by, (slow, now));
        }
    }

    /// Whether this OSD shall not lead.
    pub fn is_slow(&mut self, now: Duration) -> bool {
        let complains = |(slow, at): &&(bool, Duration)| *slow && now.saturating_sub(*at) <= FRESH;
        let accused = self.said.values().filter(complains).count() >= ACCUSERS;
        if accused && !self.slow {
            let relapse = self.complained > Duration::ZERO && now.saturating_sub(self.complained) < FORGIVEN;
            self.calm = if relapse { (self.calm * 2).min(CALM_MOST) } else { CALM };
        }
        if accused {
            (self.slow, self.complained) = (true, now);
        } else if now.saturating_sub(self.complained) >= self.calm {
            self.slow = false;
        }
        self.slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn watch(times: &[(u64, [u64; 4])]) -> Watch {
        let mut watch = Watch::default();
        for (osd, times) in times {
            times.iter().for_each(|took| watch.answered(*osd, ms(*took)));
        }
        watch
    }

    #[test]
    fn those_that_follow_are_watched() {
        let mut watch = watch(&[(1, [1; 4]), (4, [1; 4])]);
        assert_eq!(watch.choose(5, &[1, 2, 3, 4, 5, 7, 9]), [7, 9, 1, 2]);
        assert_eq!((watch.finds_slow(4), watch.took.len()), (None, 1), "it is not watched any more");
        assert_eq!(watch.choose(2, &[1, 2]), [1]);
    }

    #[test]
    fn slow_is_who_is_always_slower_than_the_others() {
        let slow = |times| watch(times).finds_slow(1);
        assert_eq!(slow(&[(1, [101, 130, 100, 140]), (2, [1; 4]), (3, [3; 4])]), Some(true));
        assert_eq!(
            slow(&[(1, [101, 130, 3, 140]), (2, [1; 4]), (3, [3; 4])]),
            Some(false),
            "one quick answer"
        );
        assert_eq!(slow(&[(1, [100; 4]), (2, [40; 4]), (3, [50; 4])]), Some(false), "all are slow from here");
        assert_eq!(slow(&[(1, [100; 4]), (2, [900; 4]), (3, [1; 4]), (4, [1; 4])]), Some(true));
        assert_eq!(slow(&[(1, [25; 4]), (2, [1; 4])]), Some(false), "nobody waits for that");
        assert_eq!(slow(&[(1, [100; 4])]), None, "there is nobody to compare with");
        let mut early = watch(&[(2, [1; 4])]);
        (0..3).for_each(|_| early.answered(1, ms(100)));
        assert_eq!(early.finds_slow(1), None);
    }

    #[test]
    fn two_must_say_so_and_both_freshly() {
        let mut slowness = Slowness::default();
        slowness.told(1, true, ms(1000));
        slowness.told(1, true, ms(1300));
        assert!(!slowness.is_slow(ms(1300)));
        slowness.told(2, false, ms(1300));
        assert!(!slowness.is_slow(ms(1300)));
        slowness.told(2, true, ms(3400));
        assert!(!slowness.is_slow(ms(3400)), "the first complaint is old");
        slowness.told(1, true, ms(3500));
        assert!(slowness.is_slow(ms(3500)));
    }

    #[test]
    fn it_leads_again_after_a_calm_that_grows_with_each_relapse() {
        let mut slowness = Slowness::default();
        let mut now = ms(1000);
        for calm in [10, 20, 40, 80, 160, 160] {
            (1..=2).for_each(|by| slowness.told(by, true, now));
            assert!(slowness.is_slow(now));
            now += ms(300);
            (1..=2).for_each(|by| slowness.told(by, false, now));
            assert!(slowness.is_slow(now), "not at the first good word");
            now += ms(calm * 1000 - 301);
            assert!(slowness.is_slow(now));
            now += ms(1);
            assert!(!slowness.is_slow(now));
        }
        now += FORGIVEN;
        (1..=2).for_each(|by| slowness.told(by, true, now));
        assert!(slowness.is_slow(now));
        now += CALM;
        assert!(!slowness.is_slow(now));
    }
}
