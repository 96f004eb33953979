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
    /// Two of kill, pause and corrupt at the same time, at two services
    Pair,
    /// An OSD, MRC or DIR that no packet leaves or reaches (dropped, not refused); healed 1.5 to 6 s later
    Partition,
    /// The same in one direction only
    OneWay,
    /// All servers of one host cut off from the others, not from each other
    Host,
}

impl Nemesis {
    /// Whether it needs network namespaces.
    pub(crate) fn cuts(self) -> bool {
        matches!(self, Self::Partition | Self::OneWay | Self::Host)
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
}

/// One half of a pair, or the whole of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Part {
    pub(super) deed: Deed,
    pub(super) victim: Victim,
    /// How long the victim stays dead or stopped.
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

/// All faults, in order; no two overlap but the halves of a pair.
pub(super) fn schedule(seed: u64, duration_ms: u64, nemeses: &[Nemesis], crew: &Crew) -> Vec<Fault> {
    let mut dice = Dice::new(seed);
    let mut kinds = Deck::new(nemeses.to_vec());
    let mut roles = Deck::new(vec!["osd", "mrc", "dir"]);
    let (mut at_ms, mut faults) = (CALM_MS, Vec::new());
    while let Some(nemesis) = kinds.draw(&mut dice) {
        let parts = parts(nemesis, crew, &mut roles, &mut dice);
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

fn parts(nemesis: Nemesis, crew: &Crew, roles: &mut Deck<&'static str>, dice: &mut Dice) -> Vec<Part> {
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
        Nemesis::Pair => {
            let deeds = [Deed::Kill, Deed::Pause, Deed::Corrupt];
            // Of two roles: a leader and a service by name could be one process. Damage is for any OSD but the same.
            let other = ["osd", "mrc", "dir"].into_iter().filter(|other| *other != role).nth(dice.below(2));
            let first = part(deeds[dice.below(2)], role, crew, dice);
            let second = match deeds[dice.below(3)] {
                Deed::Corrupt => part(Deed::Corrupt, "osd", crew, dice),
                deed => part(deed, other.unwrap_or("osd"), crew, dice),
            };
            if first.victim == second.victim { vec![first] } else { vec![first, second] }
        }
    }
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
