//! Changes of lists: the MRC, the coordinator, and how OSDs hear of a newer view.

use std::time::Duration;

use osd::engine::replication::{Event as Cause, Lists, Range, first_of, role};

use super::wire::Waiter;
use super::{Event, Sim};

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
        if list == lists.list || list.iter().filter(fails).count() > (list.len() - 1) / 2 {
            return None;
        }
        let changed = Lists { view: lists.view + 1, list, previous: lists.list };
        self.world.note(format_args!("column {column}: {changed:?}"));
        self.lists.insert(column, changed);
        self.world.after(Duration::from_millis(1), Event::Touch { column });
        Some("lists")
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
            if complete && same && !lists.previous.is_empty() {
                // What clients forced to the media of the list before has to be on those of the new one.
                let waiter = Waiter::Completes { view: lists.view };
                self.tell(primary, column, Cause::Sync { waiter });
                return self.touch_again(column);
            }
            self.tell(primary, column, Cause::Read { object: 0, range: Range::NONE, waiter: Waiter::Nobody });
        }
        if !lists.previous.is_empty() {
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
        let done = Lists { view: lists.view + 1, list: lists.list.clone(), previous: Vec::new() };
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
