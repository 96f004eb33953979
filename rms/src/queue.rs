//! What is to be done next: the least redundant file first. Pure.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use client::engine::replicas::{replace, spare, voters_again};
use proto::dir::{OsdMap, OsdState};
use proto::stripe::Layout;

/// Files kept in the queue; what is beyond is found by the next look.
const FILES_MAX: usize = 65_536;

/// A file that needs something.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Index of its volume.
    pub volume: usize,
    /// Inode.
    pub ino: u64,
    /// As it was seen.
    pub layout: Layout,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Queue {
    /// By urgency, then by file.
    tasks: BTreeMap<(i64, usize, u64), Task>,
}

/// OSDs that files shall leave: out for good, or draining.
#[must_use]
pub fn leaving(map: &OsdMap) -> BTreeSet<u64> {
    let leaves = |state: i32| matches!(OsdState::try_from(state), Ok(OsdState::Out | OsdState::Draining));
    map.osds.iter().filter(|entry| leaves(entry.state)).map(|entry| entry.osd).collect()
}

impl Queue {
    /// Takes a file if anything can be done for it.
    pub fn push(&mut self, map: &OsdMap, leaving: &BTreeSet<u64>, task: Task) {
        let under_way = !task.layout.previous.is_empty();
        let learned = || !voters_again(map, &task.layout).is_empty();
        if !under_way && replace(map, &task.layout, leaving).is_none() && !learned() {
            return;
        }
        let urgency = (spare(map, &task.layout), task.volume, task.ino);
        self.tasks.insert(urgency, task);
        if self.tasks.len() > FILES_MAX {
            self.tasks.pop_last();
        }
    }

    /// The most urgent one.
    pub fn take_first(&mut self) -> Option<Task> {
        self.tasks.pop_first().map(|(_, task)| task)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proto::dir::OsdEntry;
    use proto::stripe::Column;

    use super::*;

    fn map(states: &[OsdState]) -> OsdMap {
        let entry =
            |(osd, state): (u64, &OsdState)| OsdEntry { osd, state: *state as i32, ..OsdEntry::default() };
        OsdMap { epoch: 1, osds: (1..).zip(states).map(entry).collect(), dirs: Vec::new() }
    }

    fn task(ino: u64, lists: &[&[u64]]) -> Task {
        let columns = lists.iter().map(|osds| Column { osds: osds.to_vec() }).collect();
        Task { volume: 0, ino, layout: Layout { columns, view: 1, ..Layout::default() } }
    }

    #[test]
    fn the_least_redundant_file_comes_first() {
        use OsdState::*;
        let map = map(&[Out, Up, Up, Down, Up, Draining]);
        let leaving = leaving(&map);
        assert_eq!(leaving, [1, 6].into());
        let mut queue = Queue::default();
        queue.push(&map, &leaving, task(10, &[&[6, 2, 3]]));
        queue.push(&map, &leaving, task(11, &[&[1, 2, 3]]));
        queue.push(&map, &leaving, task(12, &[&[2, 3, 5]]));
        queue.push(&map, &leaving, task(13, &[&[1, 4, 2, 3, 6]]));
        let mut changing = task(14, &[&[2, 3, 5]]);
        changing.layout.previous = vec![Column { osds: vec![1, 2, 4] }];
        queue.push(&map, &leaving, changing);
        let order: Vec<u64> = std::iter::from_fn(|| queue.take_first()).map(|task| task.ino).collect();
        assert_eq!(order, [14, 11, 13, 10], "12 needs nothing; 14 has lost the majority of its old list");
    }
}
