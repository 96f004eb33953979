//! Faults while clients work.

use std::time::Duration;

use super::{EVIDENCE_MOST_US, Event, Sim};
use crate::invariants::Violation;
use crate::net::Weather;

impl Sim {
    /// One fault.
    pub(super) fn fault(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        let mut one = self.world.pick(&ids).copied().unwrap_or(1);
        let other = self.world.pick(&ids).copied().unwrap_or(1);
        let leaders: Vec<u64> = ids
            .iter()
            .copied()
            .filter(|id| self.nodes[id].columns.values().any(osd::engine::replication::Column::is_serving))
            .collect();
        if self.world.percent(40)
            && let Some(leader) = self.world.pick(&leaders).copied()
        {
            one = leader;
        }
        let name = match self.world.below(20) {
            0..=3 => self.kill(one),
            4 | 5 => self.lose_power(one),
            6 | 7 => self.stop(one),
            8 => self.split(&ids),
            9 => self.isolate(one, &ids),
            10 => {
                self.net.cut_one_way(one, other);
                self.heal_later();
                Some("one-way cut")
            }
            11 => {
                // The DIR does not hear it, everybody else does.
                self.net.cut_one_way(one, super::DIR);
                self.heal_later();
                Some("cut from the DIR")
            }
            12 => {
                let node = self.node(one);
                node.full = !node.full;
                Some("disk full or not")
            }
            14 => self.damage(one),
            18 => {
                self.node(one).misdirects = true;
                Some("write goes elsewhere")
            }
            19 => {
                self.node(one).sync_fails = true;
                Some("sync fails")
            }
            15 => self.change_lists(),
            16 => self.dir_changes_pace(one).then_some("slow or not"),
            13 => {
                self.world.after(Duration::ZERO, Event::Heal);
                Some("heal")
            }
            _ => {
                self.net.weather = Weather::draw(&mut self.world);
                Some("weather")
            }
        };
        if let Some(name) = name {
            self.world.note(format_args!("fault {name} {one}"));
            *self.faults.entry(name).or_default() += 1;
        }
    }

    fn kill(&mut self, one: u64) -> Option<&'static str> {
        self.nodes[&one].runs.then(|| {
            self.end_process(one, false);
            self.restart_later(one);
            "kill"
        })
    }

    /// Only what must be survived: the power of a minority of each list.
    fn lose_power(&mut self, one: u64) -> Option<&'static str> {
        let survivable = self.lists.keys().all(|column| self.may_fail(one, *column));
        survivable.then(|| {
            self.end_process(one, true);
            self.restart_later(one);
            "power loss"
        })
    }

    /// Whether one more replica of a column may have forgotten or damaged something.
    fn may_fail(&self, one: u64, column: u64) -> bool {
        let lists = &self.lists[&column];
        let fails = |osd: &&u64| {
            let node = &self.nodes[osd];
            **osd == one || node.is_doubtful(column) || node.has_damage(column)
        };
        // Of policy `all` one sound voter is enough.
        let survives = |list: &[u64], learners: &[u64]| {
            let voters = list.iter().filter(|osd| !learners.contains(osd));
            let spare = list.len() - learners.len().min(list.len());
            let spare = spare.saturating_sub(1) / if lists.all { 1 } else { 2 };
            list.is_empty() || voters.filter(fails).count() <= spare
        };
        survives(&lists.list, &lists.learners) && survives(&lists.previous, &lists.previous_learners)
    }

    /// The disk damages an object of a minority of its replicas.
    fn damage(&mut self, one: u64) -> Option<&'static str> {
        let columns: Vec<u64> = self
            .lists
            .iter()
            .filter(|(column, lists)| lists.names(one) && self.may_fail(one, **column))
            .map(|(column, _)| *column)
            .collect();
        let column = self.world.pick(&columns).copied()?;
        let objects: Vec<u64> =
            self.nodes[&one].versions(column).into_iter().map(|(object, _)| object).collect();
        let object = self.world.pick(&objects).copied()?;
        self.node(one).damaged.insert((column, object));
        self.world.after(Duration::from_millis(50), Event::Mend { node: one });
        Some("damage")
    }

    /// A write went to another place of the disk: the object has its old bytes where it should be new, and what lay there is
    /// gone. Both are noticed by checksums, which say where bytes belong. Only what must be survived.
    pub(super) fn misdirected(&mut self, one: u64, column: u64, object: u64) {
        if !std::mem::take(&mut self.node(one).misdirects) || !self.may_fail(one, column) {
            return;
        }
        rt::site!("disk.write.misdirected");
        let victim = self.nodes[&one]
            .versions(column)
            .into_iter()
            .map(|(other, _)| other)
            .find(|other| *other != object);
        let hit = [Some(object), victim];
        self.node(one).damaged.extend(hit.into_iter().flatten().map(|object| (column, object)));
        self.world.after(Duration::from_millis(50), Event::Mend { node: one });
    }

    /// Another OSD that has the same version gives its bytes, if it can be reached.
    pub(super) fn mend(&mut self, one: u64) -> Result<(), Violation> {
        let runs = |node: &super::node::Node| node.runs && !node.paused;
        let damaged: Vec<(u64, u64)> = self.nodes[&one].damaged.iter().copied().collect();
        for (column, object) in damaged {
            let Some(mine) = self.nodes[&one].content(column, object).cloned() else {
                self.node(one).damaged.remove(&(column, object));
                continue;
            };
            let lists = self.lists[&column].clone();
            for other in lists.list.into_iter().chain(lists.previous) {
                let node = &self.nodes[&other];
                let whole = !node.damaged.contains(&(column, object)) && runs(node);
                let same = node.content(column, object).filter(|content| content.version == mine.version);
                let (true, true, Some(theirs)) = (runs(&self.nodes[&one]), whole, same.cloned()) else {
                    continue;
                };
                let there = !self.net.fate(&mut self.world, one, other).is_empty();
                if there && !self.net.fate(&mut self.world, other, one).is_empty() {
                    if theirs.hash() != mine.hash() {
                        let what = format!(
                            "object {object} of column {column}: {one} and {other} differ in {mine:?}"
                        );
                        return Err(Violation::new("mended with other bytes", what));
                    }
                    self.node(one).damaged.remove(&(column, object));
                    break;
                }
            }
        }
        if !self.nodes[&one].damaged.is_empty() {
            let delay = self.world.micros(50_000, 500_000);
            self.world.after(delay, Event::Mend { node: one });
        }
        Ok(())
    }

    fn stop(&mut self, one: u64) -> Option<&'static str> {
        if !self.nodes[&one].runs || self.nodes[&one].paused {
            return None;
        }
        self.node(one).paused = true;
        let delay = self.world.micros(50_000, 4_000_000);
        self.world.after(delay, Event::Resume { node: one });
        Some("pause")
    }

    pub(super) fn resume(&mut self, one: u64) {
        self.node(one).paused = false;
        for event in std::mem::take(&mut self.node(one).waiting) {
            let delay = self.world.micros(1, 2_000);
            self.world.after(delay, event);
        }
    }

    fn split(&mut self, ids: &[u64]) -> Option<&'static str> {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for id in ids.iter().copied().chain([super::DIR, 2000, 2001, 2002]) {
            if self.world.percent(50) { left.push(id) } else { right.push(id) }
        }
        self.net.split(&left, &right);
        self.heal_later();
        Some("split")
    }

    fn isolate(&mut self, one: u64, ids: &[u64]) -> Option<&'static str> {
        let mut rest: Vec<u64> = ids.iter().copied().filter(|id| *id != one).collect();
        // Clients still reach it: what a cut-off primary tells them must not be stale.
        if self.world.percent(70) {
            rest.push(super::DIR);
        }
        self.net.split(&[one], &rest);
        // Longer than a lease, and some clients go on with the map that they have.
        let (now, length) = (self.world.now(), self.world.micros(500_000, 4_500_000));
        self.cut_until = now + length;
        self.world.after(length, Event::Heal);
        for client in 0..self.clients.len() {
            if self.world.percent(50) {
                self.clients[client].deaf_until = now + length;
            }
        }
        Some("isolate")
    }

    pub(super) fn end_process(&mut self, one: u64, power: bool) {
        let life = self.nodes[&one].life;
        self.node(one).end();
        if power {
            let node = self.nodes.get_mut(&one).expect("nodes are never removed");
            node.lose_power(&mut self.world);
        }
        if self.world.percent(70) {
            let delay = self.world.micros(1_000, EVIDENCE_MOST_US);
            self.world.after(delay, Event::Evidence { node: one, life });
        }
    }

    fn restart_later(&mut self, node: u64) {
        let delay = self.world.micros(1_000, 2_500_000);
        self.world.after(delay, Event::Start { node });
    }

    fn heal_later(&mut self) {
        let delay = self.world.micros(100_000, 3_000_000);
        self.world.after(delay, Event::Heal);
    }
}
