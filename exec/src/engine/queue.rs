//! Who is next: round robin over users, first come first served within one.

use std::collections::{BTreeMap, VecDeque};

use crate::id::JobId;

/// Jobs that want slots.
#[derive(Debug, Default)]
pub(super) struct Queue {
    users: BTreeMap<String, VecDeque<JobId>>,
    /// The user served last; the next one in order comes next.
    last: String,
    length: usize,
}

impl Queue {
    pub(super) fn push(&mut self, user: &str, id: JobId) {
        self.users.entry(user.to_string()).or_default().push_back(id);
        self.length += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The job whose turn it is.
    pub(super) fn head(&self) -> Option<(&str, &JobId)> {
        let after = (std::ops::Bound::Excluded(self.last.as_str()), std::ops::Bound::Unbounded);
        let next = self.users.range::<str, _>(after).next().or_else(|| self.users.iter().next())?;
        Some((next.0.as_str(), next.1.front()?))
    }

    /// Takes the job whose turn it is.
    pub(super) fn pop(&mut self) -> Option<JobId> {
        let user = self.head()?.0.to_string();
        let jobs = self.users.get_mut(&user)?;
        let id = jobs.pop_front()?;
        if jobs.is_empty() {
            self.users.remove(&user);
        }
        self.length -= 1;
        self.last = user;
        Some(id)
    }

    pub(super) fn remove(&mut self, user: &str, id: &JobId) {
        let Some(jobs) = self.users.get_mut(user) else { return };
        if let Some(at) = jobs.iter().position(|j| j == id) {
            jobs.remove(at);
            self.length -= 1;
        }
        if jobs.is_empty() {
            self.users.remove(user);
        }
    }

    pub(super) fn contains(&self, user: &str, id: &JobId) -> bool {
        self.users.get(user).is_some_and(|jobs| jobs.contains(id))
    }

    /// How many of the same user's jobs come before.
    pub(super) fn before(&self, user: &str, id: &JobId) -> usize {
        self.users.get(user).and_then(|jobs| jobs.iter().position(|j| j == id)).unwrap_or(0)
    }
}
