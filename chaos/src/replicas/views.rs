//! Changes of lists: the MRC, the coordinator, and how OSDs hear of a newer view.

use std::time::Duration;

use osd::engine::replication::{Event as Cause, Lists, Range, first_of, role};

use super::wire::Waiter;
use super::{Broken, Event, Sim};

impl Sim {
    /// The MRC gives a column another list; the old one stays beside it until the new one has everything.
    pub(super) fn change_lists(&mut self) -> Option<&'static str> {
        let column = self.world.below(self.lists.len() as u64);
        let lists = self.lists[&column].clone();
        if !lists.previous.is_empty() {
            return None;
        }
        let mut list = lists.list.clone();
        let others: Vec<u64> = self.nodes.keys().copied().filter(|id| !list.contains(id)).collect();
        let new = self.world.pick(&others).copied();
        let gone = usize::try_from(self.world.below(list.len() as u64)).unwrap_or(0);
        match self.world.below(6) {
            0 if list.len() > 2 => drop(list.remove(gone)),
            1 => list.extend(new),
            2 => list.rotate_left(1),
            _ => {
                let new = new?;
                list.remove(gone);
                let at = usize::try_from(self.world.below(list.len() as u64 + 1)).unwrap_or(0);
                list.insert(at, new);
            }
        }
        // As coordinators do: not on a list that has no majority of sound replicas.
        let fails = |osd: &&u64| {
            let node = &self.nodes[osd];
            node.is_doubtful(column) || node.has_damage(column)
        };
        if list == lists.list || !lists.all && list.iter().filter(fails).count() > (list.len() - 1) / 2 {
            return None;
        }
        // Policy `all`: who is new learns first; somebody who votes stays.
        let learns = |osd: &u64| lists.learners.contains(osd) || !lists.list.contains(osd);
        let learners: Vec<u64> = list.iter().copied().filter(|osd| lists.all && learns(osd)).collect();
        if lists.all && list.iter().filter(|osd| !learners.contains(osd)).all(|osd| fails(&osd)) {
            return None;
        }
        self.begin_change(column, list, learners);
        Some("lists")
    }

    fn begin_change(&mut self, column: u64, list: Vec<u64>, learners: Vec<u64>) {
        let before = self.lists[&column].clone();
        let (view, previous, previous_learners) = (before.view + 1, before.list, before.learners);
        let changed = Lists { view, list, previous, all: before.all, learners, previous_learners };
        self.world.note(format_args!("column {column}: {changed:?}"));
        self.lists.insert(column, changed);
        self.world.after(Duration::from_millis(1), Event::Touch { column });
    }

    /// A client has heard that a voter is down: the MRC makes learners of those that its map calls down. One in eight times it is
    /// mistaken about another one, which must do no harm.
    pub(super) fn demote(&mut self, column: u64, view: u64) {
        let lists = self.lists[&column].clone();
        if lists.view != view || !lists.previous.is_empty() {
            return;
        }
        let members = role(&self.dir.map, &lists).members;
        let mut learners = lists.learners.clone();
        learners.extend(members.iter().filter(|member| member.votes && !member.up).map(|member| member.osd));
        if self.world.below(8) == 0 {
            let voters: Vec<u64> = lists.list.iter().copied().filter(|osd| !learners.contains(osd)).collect();
            learners.extend(self.world.pick(&voters));
        }
        if learners.len() == lists.learners.len() || learners.len() >= lists.list.len() {
            return;
        }
        *self.faults.entry("demoted").or_default() += 1;
        self.begin_change(column, lists.list, learners);
    }

    /// The replica manager makes voters of learners that are up and have everything.
    fn promote(&mut self, column: u64, primary: u64) {
        let lists = self.lists[&column].clone();
        if self.broken == Some(Broken::VotesAtOnce) {
            let changed = Lists { view: lists.view + 1, learners: Vec::new(), ..lists };
            return drop(self.lists.insert(column, changed));
        }
        let Some(here) = self.nodes[&primary].columns.get(&column).filter(|here| here.is_serving()) else {
            return;
        };
        let up = role(&self.dir.map, &lists).members.iter().all(|member| member.up);
        if up && here.lag() == (0, 0) {
            *self.faults.entry("promoted").or_default() += 1;
            self.begin_change(column, lists.list, Vec::new());
        }
    }

    /// The coordinator opens the column in its new view, and completes the change when it is.
    pub(super) fn touch(&mut self, column: u64) {
        let lists = self.lists[&column].clone();
        let Some(primary) = role(&self.dir.map, &lists).primary else { return self.touch_again(column) };
        let reached = !self.net.fate(&mut self.world, 2000, primary).is_empty();
        let node = &self.nodes[&primary];
        if reached && node.runs && !node.paused && node.map.epoch > 0 && self.shape(primary, column, &lists) {
            let here = &self.nodes[&primary];
            let complete =
                here.columns.get(&column).is_some_and(osd::engine::replication::Column::is_complete);
            let same = here.lists.get(&column) == Some(&lists);
            if same && lists.previous.is_empty() && !lists.learners.is_empty() {
                self.promote(column, primary);
            }
            // Without new voters nothing has to get to anybody's medium first.
            let voted = |osd: &u64| lists.previous.contains(osd) && !lists.previous_learners.contains(osd);
            if complete
                && same
                && lists.all
                && lists.list.iter().all(|osd| lists.learners.contains(osd) || voted(osd))
            {
                return self.completes(column, lists.view);
            }
            if complete && same && !lists.previous.is_empty() {
                // What clients forced to the media of the list before has to be on those of the new one.
                let waiter = Waiter::Completes { view: lists.view };
                self.tell(primary, column, Cause::Sync { waiter });
                return self.touch_again(column);
            }
            self.tell(primary, column, Cause::Read { object: 0, range: Range::NONE, waiter: Waiter::Nobody });
        }
        if !lists.previous.is_empty() || !lists.learners.is_empty() {
            self.touch_again(column);
        }
    }

    fn touch_again(&mut self, column: u64) {
        let delay = self.world.micros(50_000, 400_000);
        self.world.after(delay, Event::Touch { column });
    }

    pub(super) fn completes(&mut self, column: u64, view: u64) {
        let lists = self.lists[&column].clone();
        if lists.view == view && !lists.previous.is_empty() {
            self.complete(column, &lists);
        }
    }

    fn complete(&mut self, column: u64, lists: &Lists) {
        let (previous, previous_learners) = (Vec::new(), Vec::new());
        let done = Lists { view: lists.view + 1, previous, previous_learners, ..lists.clone() };
        self.world.note(format_args!("column {column}: {done:?}"));
        for gone in lists.previous.iter().filter(|osd| !done.list.contains(osd)) {
            let delay = self.world.micros(1_000, 900_000);
            self.world.after(delay, Event::Clear { node: *gone, column, view: done.view });
        }
        self.lists.insert(column, done);
        self.world.after(Duration::from_millis(2), Event::Touch { column });
    }

    /// An OSD that was dropped removes what it has, unless it has come back into the list.
    pub(super) fn clear(&mut self, id: u64, column: u64, view: u64) {
        let node = &self.nodes[&id];
        if !node.runs || node.paused {
            let delay = self.world.micros(100_000, 900_000);
            return self.world.after(delay, Event::Clear { node: id, column, view });
        }
        if node.promised.get(&column).copied().unwrap_or(1) > view {
            return;
        }
        // The MRC refuses to give it a replica again as long as this is pending; here the race is allowed, and the view decides.
        if self.lists[&column].names(id) {
            return;
        }
        self.world.note(format_args!("clear column {column} at {id}"));
        self.node(id).clear(column);
    }

    /// A request came in a view. False: it is older than what this OSD promised.
    pub(super) fn shape(&mut self, id: u64, column: u64, lists: &Lists) -> bool {
        let node = self.node(id);
        let promised = node.promised.entry(column).or_insert(1);
        let known = node.lists.get(&column).map_or(0, |known| known.view);
        if lists.view < *promised || lists.view < known {
            return false;
        }
        *promised = lists.view;
        if lists.view > known {
            node.lists.insert(column, lists.clone());
            if node.columns.contains_key(&column) {
                let role = self.role(id, column);
                self.tell(id, column, Cause::Map(role));
            }
        }
        true
    }

    /// What is promised is at least this, for OSDs that come with an older view.
    pub(super) fn floor(&self, id: u64, column: u64) -> u64 {
        let node = &self.nodes[&id];
        let promised = node.columns.get(&column).map_or(0, osd::engine::replication::Column::promised);
        promised.max(first_of(node.promised.get(&column).copied().unwrap_or(1)))
    }
}
