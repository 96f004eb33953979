//! What the MRC has told of own changes, for answers that left it before: they were on their way while the change was
//! done, and nobody else may remember it by the time they arrive.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, VecDeque};

use proto::mrc::Attr;

use super::{KEEPS_ATTR, Key, Leases, Ticket};

/// Inodes remembered at most, the latest: calls that hang for long do not fill the memory.
const TOLD_MAX: usize = 65_536;

/// Attributes after own changes, for as long as older calls are under way.
#[derive(Debug, Default)]
pub(super) struct Told {
    attrs: BTreeMap<Key, (Ticket, Attr)>,
    order: VecDeque<(Ticket, Key)>,
}

impl Told {
    /// All calls under way began after this one's answer, or are it.
    pub(super) fn forget_before(&mut self, oldest: Ticket) {
        while self.order.front().is_some_and(|(at, _)| *at < oldest) || self.order.len() > TOLD_MAX {
            let Some((at, key)) = self.order.pop_front() else { return };
            if self.attrs.get(&key).is_some_and(|(last, _)| *last == at) {
                self.attrs.remove(&key);
            }
        }
    }
}

impl Leases {
    /// The answer to an own change brought these attributes.
    pub fn changed(&mut self, volume: u64, attr: &Attr) {
        // The call itself is one of them.
        if self.in_flight.len() < 2 {
            return;
        }
        let (key, at) = ((volume, attr.ino), self.next);
        let told = self.told.attrs.entry(key).or_insert_with(|| (at, attr.clone()));
        told.0 = at;
        if told.1.change < attr.change {
            told.1 = attr.clone();
        }
        self.told.order.push_back((at, key));
    }

    #[cfg(test)]
    pub(super) fn told_is_empty(&self) -> bool {
        self.told.attrs.is_empty() && self.told.order.is_empty()
    }

    /// Attributes in an answer: newer ones, if an own change was told while it was on its way.
    pub fn newest(&self, key: Key, attr: &mut Attr) {
        if let Some((_, told)) = self.told.attrs.get(&key)
            && told.change > attr.change
        {
            *attr = told.clone();
            self.show_names(key, attr);
        }
    }

    /// Attributes that the MRC has sent know less of names than what is kept, when those were changed here since: the number of a change is the MRC's,
    /// and grows when it hears of it.
    pub fn show_names(&self, key: Key, attr: &mut Attr) {
        let kept = self.entries.get(&key).filter(|entry| entry.bits & KEEPS_ATTR != 0);
        if let Some(kept) = kept.and_then(|entry| entry.attr.as_ref()) {
            attr.nlink = kept.nlink;
            attr.ctime = attr.ctime.max(kept.ctime);
        }
    }
}
