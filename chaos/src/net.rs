//! The network between nodes: every message has its own fate.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::world::World;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Shortest delay, microseconds.
    pub delay_least_us: u64,
    /// Longest delay, microseconds; messages overtake one another within it.
    pub delay_most_us: u64,
    /// Messages lost, percent.
    pub lost_percent: u64,
    /// Messages that arrive twice, percent.
    pub twice_percent: u64,
    /// Messages that take a hundred times as long, percent.
    pub late_percent: u64,
}

impl Weather {
    /// A quiet local network.
    pub const FAIR: Self =
        Self { delay_least_us: 100, delay_most_us: 400, lost_percent: 0, twice_percent: 0, late_percent: 0 };

    /// Some weather.
    pub fn draw<E>(world: &mut World<E>) -> Self {
        Self {
            delay_least_us: 100,
            delay_most_us: 200 + world.below(10) * world.below(2_000),
            lost_percent: world.below(4) * world.below(5),
            twice_percent: world.below(10),
            late_percent: world.below(4),
        }
    }
}

/// See the module. Nodes are numbers.
#[derive(Debug, Clone)]
pub struct Net {
    /// How bad it is now.
    pub weather: Weather,
    /// (from, to) that get nothing through.
    cut: BTreeSet<(u64, u64)>,
}

impl Default for Net {
    fn default() -> Self {
        Self { weather: Weather::FAIR, cut: BTreeSet::new() }
    }
}

impl Net {
    /// When a message sent now arrives: never, once or twice.
    pub fn fate<E>(&self, world: &mut World<E>, from: u64, to: u64) -> Vec<Duration> {
        let weather = self.weather;
        if rt::site!("net.message.cut_off", self.cut.contains(&(from, to)))
            || rt::site!("net.message.lost", world.percent(weather.lost_percent))
        {
            return Vec::new();
        }
        let copies = if rt::site!("net.message.twice", world.percent(weather.twice_percent)) { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let factor = if rt::site!("net.message.very_late", world.percent(weather.late_percent)) {
                    100
                } else {
                    1
                };
                world.micros(weather.delay_least_us, weather.delay_most_us) * factor
            })
            .collect()
    }

    /// Nothing passes between the two sets, in either direction.
    pub fn split(&mut self, one: &[u64], other: &[u64]) {
        rt::site!("net.partition", !one.is_empty() && !other.is_empty());
        for a in one {
            for b in other {
                self.cut.insert((*a, *b));
                self.cut.insert((*b, *a));
            }
        }
    }

    /// Nothing passes from one node to another; the way back works.
    pub fn cut_one_way(&mut self, from: u64, to: u64) {
        rt::site!("net.partition.one_way");
        self.cut.insert((from, to));
    }

    /// Whether nothing passes between two nodes in one direction or the other.
    #[must_use]
    pub fn is_cut(&self, one: u64, other: u64) -> bool {
        self.cut.contains(&(one, other)) || self.cut.contains(&(other, one))
    }

    /// All ways are open.
    pub fn heal(&mut self) {
        rt::site!("net.healed", !self.cut.is_empty());
        self.cut.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_hold_until_healed_and_weather_shows() {
        let mut world: World<()> = World::new(3, false);
        let mut net = Net::default();
        net.split(&[1], &[2, 3]);
        net.cut_one_way(4, 5);
        for (from, to, passes) in [(1, 2, false), (3, 1, false), (2, 3, true), (4, 5, false), (5, 4, true)] {
            assert_eq!(!net.fate(&mut world, from, to).is_empty(), passes, "{from} to {to}");
            assert_eq!(net.is_cut(from, to), matches!((from, to), (1, 2) | (3, 1) | (4, 5) | (5, 4)));
        }
        net.heal();
        assert_eq!(net.fate(&mut world, 1, 2).len(), 1);
        net.weather.lost_percent = 100;
        assert!(net.fate(&mut world, 1, 2).is_empty());
        net.weather = Weather { twice_percent: 100, ..Weather::FAIR };
        assert_eq!(net.fate(&mut world, 1, 2).len(), 2);
    }
}
