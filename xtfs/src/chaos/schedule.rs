//! Which fault happens when: a pure function of the seed, the duration, the chosen nemeses and the services there are.

use clap::ValueEnum;
use serde::Serialize;

use super::dice::{Deck, Dice};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Nemesis {
    /// kill -9 of an OSD, MRC or DIR; started again 0.5 to 2.5 s later
    Kill,
    /// SIGSTOP of one; SIGCONT 0.5 to 3.5 s later
    Pause,
    /// A bit flipped, or a block zeroed, in a data file of an OSD
    Corrupt,
    /// kill -9 of all processes at once, the mount included; all started again
    Restart,
    /// Two at the same time, at two services: of kill, pause and corrupt, and of slow, full and clock where those were chosen too
    Pair,
    /// An OSD, MRC or DIR that no packet leaves or reaches (dropped, not refused); healed 1.5 to 6 s later
    Partition,
    /// The same in one direction only
    OneWay,
    /// All servers of one host cut off from the others, not from each other
    Host,
    /// A member of the DIR or MRC group, or an OSD, makes place for a new one; of an OSD all files move away before it goes
    Members,
    /// Each read, write and sync of an OSD's disk takes 10 to 60 ms longer, for 1.5 to 5 s
    Slow,
    /// No room on the disk of one OSD, or of all, for 1.5 to 4 s: writes may fail with ENOSPC then, and must lose nothing
    Full,
    /// The wall clock of an OSD, MRC or DIR is wrong by 1 s to 1 h, either way, for 1 to 4 s
    Clock,
}

impl Nemesis {
    /// Whether it needs network namespaces.
    pub(crate) fn cuts(self) -> bool {
        matches!(self, Self::Partition | Self::OneWay | Self::Host)
    }

    /// Whether the services must have been started with the hooks that let it happen (`XTFS_FAULT_...`).
    pub(crate) fn hooks(self) -> bool {
        matches!(self, Self::Slow | Self::Full | Self::Clock)
    }
}

/// What is done to one victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Deed {
    Kill,
    Pause,
    Corrupt,
    Cut(Way),
    /// By a new one.
    Replace,
    /// By so many milliseconds.
    Slow(u64),
    Full,
    /// By so many milliseconds.
    Jump(i64),
}

/// Which packets of a victim are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    Both,
    /// Those that it sends.
    Out,
    /// Those that it would get.
    In,
}

/// To whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Victim {
    /// By name.
    Service(String),
    /// Whoever leads this group when the time comes.
    Leader(String),
    /// All processes.
    Everything,
    /// The servers of this number.
    Host(usize),
    /// All OSDs.
    Osds,
}

/// One half of a pair, or the whole of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Part {
    pub(super) deed: Deed,
    pub(super) victim: Victim,
    /// How long the victim stays dead or stopped; for what takes as long as it takes, how long that may be.
    pub(super) hold_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    pub(super) at_ms: u64,
    pub(super) nemesis: Nemesis,
    pub(super) parts: Vec<Part>,
}

/// Names of the services of each role.
#[derive(Debug, Clone, Default)]
pub(super) struct Crew {
    pub(super) dirs: Vec<String>,
    pub(super) mrcs: Vec<String>,
    pub(super) osds: Vec<String>,
}

/// Of an instance that is started for a run.
pub(super) fn crew() -> Crew {
    let names = |role: &str, count| (0..count).map(|n| format!("{role}-{n}")).collect();
    Crew { dirs: names("dir", 3), mrcs: names("mrc", 3), osds: names("osd", 4) }
}

/// The load runs undisturbed first, so that a slow machine is told from a fault.
const CALM_MS: u64 = 1500;
/// How long somebody is cut off.
const CUT_MS: (u64, u64) = (1500, 6000);
/// The last fault ends this long before the end.
const TAIL_MS: u64 = 1000;
/// A member of a group has made place after this, on a machine with something to do; an OSD's files have moved.
const REPLACE_MS: u64 = 3000;
const MOVE_MS: u64 = 10_000;

/// All faults, in order; no two overlap but the halves of a pair.
pub(super) fn schedule(seed: u64, duration_ms: u64, nemeses: &[Nemesis], crew: &Crew) -> Vec<Fault> {
    let mut dice = Dice::new(seed);
    let mut kinds = Deck::new(nemeses.to_vec());
    let mut roles = Deck::new(vec!["osd", "mrc", "dir"]);
    let (mut at_ms, mut faults) = (CALM_MS, Vec::new());
    while let Some(nemesis) = kinds.draw(&mut dice) {
        let parts = parts(nemesis, nemeses, crew, &mut roles, &mut dice);
        let longest = parts.iter().map(|part| part.hold_ms).max().unwrap_or(0);
        if parts.is_empty() || at_ms + longest + TAIL_MS > duration_ms {
            break;
        }
        let rest = if nemesis == Nemesis::Restart { (3000, 5000) } else { (1000, 3000) };
        faults.push(Fault { at_ms, nemesis, parts });
        at_ms += longest + dice.between(rest.0, rest.1);
    }
    faults
}

fn parts(
    nemesis: Nemesis,
    chosen: &[Nemesis],
    crew: &Crew,
    roles: &mut Deck<&'static str>,
    dice: &mut Dice,
) -> Vec<Part> {
    let role = roles.draw(dice).unwrap_or("osd");
    match nemesis {
        Nemesis::Kill => vec![part(Deed::Kill, role, crew, dice)],
        Nemesis::Pause => vec![part(Deed::Pause, role, crew, dice)],
        Nemesis::Corrupt => vec![part(Deed::Corrupt, "osd", crew, dice)],
        Nemesis::Restart => {
            let hold_ms = dice.between(0, 500);
            vec![Part { deed: Deed::Kill, victim: Victim::Everything, hold_ms }]
        }
        Nemesis::Partition => vec![part(Deed::Cut(Way::Both), role, crew, dice)],
        Nemesis::OneWay => {
            let way = [Way::Out, Way::In][dice.below(2)];
            vec![part(Deed::Cut(way), role, crew, dice)]
        }
        Nemesis::Host => {
            let most = crew.dirs.len().max(crew.mrcs.len()).max(crew.osds.len());
            let victim = Victim::Host(dice.below(most));
            vec![Part { deed: Deed::Cut(Way::Both), victim, hold_ms: dice.between(CUT_MS.0, CUT_MS.1) }]
        }
        Nemesis::Members => vec![part(Deed::Replace, role, crew, dice)],
        Nemesis::Slow => vec![part(slow(dice), "osd", crew, dice)],
        Nemesis::Full => {
            let mut full = part(Deed::Full, "osd", crew, dice);
            // With one of them full nearly all goes on; with all of them everybody has to hear of it.
            if dice.below(2) == 0 {
                full.victim = Victim::Osds;
            }
            vec![full]
        }
        Nemesis::Clock => vec![part(jump(dice), role, crew, dice)],
        Nemesis::Pair => pair(chosen, role, crew, dice),
    }
}

/// Of two roles: a leader and a service by name could be one process. What only OSDs can have is for any OSD but the same.
fn pair(chosen: &[Nemesis], role: &str, crew: &Crew, dice: &mut Dice) -> Vec<Part> {
    let other = ["osd", "mrc", "dir"].into_iter().filter(|other| *other != role).nth(dice.below(2));
    let first = part([Deed::Kill, Deed::Pause][dice.below(2)], role, crew, dice);
    let mut kinds = vec![Nemesis::Kill, Nemesis::Pause, Nemesis::Corrupt];
    kinds.extend(chosen.iter().filter(|nemesis| nemesis.hooks()));
    let second = match kinds[dice.below(kinds.len())] {
        Nemesis::Corrupt => part(Deed::Corrupt, "osd", crew, dice),
        Nemesis::Slow => part(slow(dice), "osd", crew, dice),
        Nemesis::Full => part(Deed::Full, "osd", crew, dice),
        Nemesis::Clock => part(jump(dice), other.unwrap_or("osd"), crew, dice),
        Nemesis::Pause => part(Deed::Pause, other.unwrap_or("osd"), crew, dice),
        _ => part(Deed::Kill, other.unwrap_or("osd"), crew, dice),
    };
    if first.victim == second.victim { vec![first] } else { vec![first, second] }
}

fn slow(dice: &mut Dice) -> Deed {
    Deed::Slow(dice.between(10, 60))
}

/// As often seconds as minutes as an hour, forward or back.
fn jump(dice: &mut Dice) -> Deed {
    let ms = [dice.between(1000, 10_000), dice.between(30_000, 600_000), 3_600_000][dice.below(3)];
    let ms = i64::try_from(ms).unwrap_or(0);
    Deed::Jump(if dice.below(2) == 0 { ms } else { -ms })
}

fn part(deed: Deed, role: &str, crew: &Crew, dice: &mut Dice) -> Part {
    let names = match role {
        "dir" => &crew.dirs,
        "mrc" => &crew.mrcs,
        _ => &crew.osds,
    };
    let named = names.get(dice.below(names.len())).cloned();
    // A leader's loss is what a group notices: half of the time it is the one.
    let leads = role != "osd" && dice.below(2) == 0;
    let victim = named.filter(|_| !leads).map_or_else(|| Victim::Leader(role.to_owned()), Victim::Service);
    let hold_ms = match deed {
        Deed::Kill => dice.between(500, 2500),
        Deed::Pause => dice.between(500, 3500),
        Deed::Corrupt => 0,
        Deed::Cut(_) => dice.between(CUT_MS.0, CUT_MS.1),
        Deed::Replace if role == "osd" => MOVE_MS,
        Deed::Replace => REPLACE_MS,
        Deed::Slow(_) => dice.between(1500, 5000),
        Deed::Full => dice.between(1500, 4000),
        Deed::Jump(_) => dice.between(1000, 4000),
    };
    Part { deed, victim, hold_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Nemesis; 5] =
        [Nemesis::Kill, Nemesis::Pause, Nemesis::Corrupt, Nemesis::Restart, Nemesis::Pair];

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(schedule(3, 60_000, &ALL, &crew()), schedule(3, 60_000, &ALL, &crew()));
        assert_ne!(schedule(3, 60_000, &ALL, &crew()), schedule(4, 60_000, &ALL, &crew()));
    }

    #[test]
    fn faults_are_in_order_do_not_overlap_and_end_before_the_end() {
        for seed in 0..200 {
            let faults = schedule(seed, 60_000, &ALL, &crew());
            let mut free = CALM_MS;
            for fault in &faults {
                assert!(fault.at_ms >= free, "seed {seed}: {fault:?}");
                free = fault.at_ms + fault.parts.iter().map(|part| part.hold_ms).max().unwrap();
            }
            assert!(free + TAIL_MS <= 60_000, "seed {seed}");
        }
    }

    #[test]
    fn a_minute_meets_every_nemesis_that_was_chosen_and_no_other() {
        for seed in 0..200 {
            let mut met: Vec<Nemesis> =
                schedule(seed, 60_000, &ALL, &crew()).iter().map(|fault| fault.nemesis).collect();
            met.sort();
            met.dedup();
            assert_eq!(met, ALL, "seed {seed}");
            let pauses = schedule(seed, 60_000, &[Nemesis::Pause], &crew());
            assert!(pauses.iter().all(|fault| fault.parts.iter().all(|part| part.deed == Deed::Pause)));
        }
    }

    #[test]
    fn fifteen_seconds_are_enough_for_a_kill_and_a_pause() {
        for seed in 0..200 {
            let faults = schedule(seed, 15_000, &[Nemesis::Kill, Nemesis::Pause], &crew());
            assert!(faults.len() >= 2, "seed {seed}: {faults:?}");
        }
    }

    #[test]
    fn cuts_hit_every_role_leaders_hosts_and_both_single_directions() {
        let kinds = [Nemesis::Partition, Nemesis::OneWay, Nemesis::Host];
        let faults: Vec<Fault> = (0..50).flat_map(|seed| schedule(seed, 60_000, &kinds, &crew())).collect();
        let met = |victim: &Victim, way| {
            let is = |part: &Part| part.victim == *victim && part.deed == Deed::Cut(way);
            faults.iter().any(|fault| fault.parts.iter().any(is))
        };
        let named = |name: &str| Victim::Service(name.to_owned());
        for victim in
            [named("osd-3"), named("mrc-1"), Victim::Leader("mrc".into()), Victim::Leader("dir".into())]
        {
            assert!([Way::Both, Way::Out, Way::In].into_iter().all(|way| met(&victim, way)), "{victim:?}");
        }
        assert!((0..4).all(|host| met(&Victim::Host(host), Way::Both)));
    }

    const NEW: [Nemesis; 4] = [Nemesis::Members, Nemesis::Slow, Nemesis::Full, Nemesis::Clock];

    /// All parts of the faults of many seeds.
    fn many(kinds: &[Nemesis]) -> Vec<Part> {
        let of = |seed| schedule(seed, 60_000, kinds, &crew());
        (0..100).flat_map(of).flat_map(|fault| fault.parts).collect()
    }

    #[test]
    fn members_of_every_role_make_place_and_leaders_too() {
        let parts = many(&[Nemesis::Members]);
        let named = |name: &str| Victim::Service(name.to_owned());
        for victim in [
            named("osd-2"),
            named("mrc-0"),
            named("dir-1"),
            Victim::Leader("mrc".into()),
            Victim::Leader("dir".into()),
        ] {
            assert!(parts.iter().any(|part| part.victim == victim), "{victim:?}");
        }
        assert!(parts.iter().all(|part| part.deed == Deed::Replace && part.hold_ms >= REPLACE_MS));
    }

    #[test]
    fn disks_are_slow_and_full_at_osds_one_or_all() {
        let parts = many(&[Nemesis::Slow, Nemesis::Full]);
        assert!(parts.iter().all(|part| match &part.victim {
            Victim::Service(name) => name.starts_with("osd-"),
            Victim::Osds => part.deed == Deed::Full,
            _ => false,
        }));
        let full = |one: bool| {
            let is = |part: &&Part| part.deed == Deed::Full && (part.victim != Victim::Osds) == one;
            parts.iter().filter(is).count()
        };
        assert!(full(true) > 50 && full(false) > 50);
        let delays = || {
            parts.iter().filter_map(|part| match part.deed {
                Deed::Slow(ms) => Some(ms),
                _ => None,
            })
        };
        assert!(
            delays().all(|ms| (10..60).contains(&ms))
                && delays().any(|ms| ms < 20)
                && delays().any(|ms| ms > 50)
        );
    }

    #[test]
    fn clocks_jump_forward_and_back_by_seconds_and_by_an_hour() {
        let jumps: Vec<i64> = many(&[Nemesis::Clock])
            .iter()
            .filter_map(|part| match part.deed {
                Deed::Jump(ms) => Some(ms),
                _ => None,
            })
            .collect();
        for range in
            [1000..10_000, 30_000..600_000, 3_600_000..3_600_001, -9_999..-999, -3_600_000..-3_599_999]
        {
            assert!(jumps.iter().any(|ms| range.contains(ms)), "{range:?}");
        }
        assert!(jumps.iter().all(|ms| (1000..=3_600_000).contains(&ms.abs())));
    }

    #[test]
    fn a_minute_and_a_half_meets_all_that_are_new() {
        for seed in 0..200 {
            let faults = schedule(seed, 90_000, &NEW, &crew());
            assert!(NEW.iter().all(|new| faults.iter().any(|fault| fault.nemesis == *new)), "seed {seed}");
            assert_eq!(faults, schedule(seed, 90_000, &NEW, &crew()));
        }
    }

    #[test]
    fn pairs_have_what_was_chosen_beside_them() {
        let hooked = |part: &Part| matches!(part.deed, Deed::Slow(_) | Deed::Full | Deed::Jump(_));
        assert!(!many(&[Nemesis::Pair]).iter().any(hooked));
        let pairs = |kinds: &[Nemesis]| -> Vec<Part> {
            let of = |seed| schedule(seed, 60_000, kinds, &crew());
            let faults = (0..100).flat_map(of).filter(|fault| fault.nemesis == Nemesis::Pair);
            faults.flat_map(|fault| fault.parts).collect()
        };
        let parts = pairs(&[Nemesis::Pair, Nemesis::Slow, Nemesis::Full, Nemesis::Clock]);
        let met = |is: fn(&Deed) -> bool| parts.iter().any(|part| is(&part.deed));
        assert!(met(|deed| matches!(deed, Deed::Slow(_))) && met(|deed| *deed == Deed::Full));
        assert!(met(|deed| matches!(deed, Deed::Jump(_))) && met(|deed| *deed == Deed::Corrupt));
    }

    #[test]
    fn halves_of_a_pair_have_two_victims_and_damage_is_for_osds() {
        for seed in 0..200 {
            for fault in schedule(seed, 60_000, &[Nemesis::Pair], &crew()) {
                if let [first, second] = fault.parts.as_slice() {
                    assert_ne!(first.victim, second.victim);
                }
                for part in fault.parts.iter().filter(|part| part.deed == Deed::Corrupt) {
                    assert!(matches!(&part.victim, Victim::Service(name) if name.starts_with("osd")));
                }
            }
        }
    }
}
