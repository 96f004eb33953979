//! Places for objects on their way, whose number changes.

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// See the module. Who waits for one waits in order.
pub(super) struct Slots {
    semaphore: Semaphore,
    /// order: a leaf.
    count: Mutex<Count>,
}

struct Count {
    /// So many there shall be.
    limit: usize,
    /// So many there are: more than the limit as long as some are in use that are to go.
    there: usize,
}

/// A place, until it is dropped.
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    permit: Option<SemaphorePermit<'a>>,
}

impl Slots {
    pub(super) fn new(limit: usize) -> Self {
        let count = Mutex::new(Count { limit, there: limit });
        Self { semaphore: Semaphore::new(limit), count }
    }

    /// Waits for a place.
    pub(super) async fn acquire(&self) -> Option<Slot<'_>> {
        let permit = self.semaphore.acquire().await.ok()?;
        Some(Slot { slots: self, permit: Some(permit) })
    }

    /// From now on there are so many.
    pub(super) fn resize(&self, limit: usize) {
        let mut count = self.count.lock();
        count.limit = limit;
        if limit > count.there {
            self.semaphore.add_permits(limit - count.there);
            count.there = limit;
        } else {
            count.there -= self.semaphore.forget_permits(count.there - limit);
        }
    }

    /// How many there shall be, and whether some are in use.
    pub(super) fn state(&self) -> (usize, bool) {
        let count = self.count.lock();
        (count.limit, self.semaphore.available_permits() < count.there)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut count = self.slots.count.lock();
        if count.there > count.limit {
            count.there -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn fewer_places_are_fewer_when_they_are_given_back() {
        let slots = Slots::new(4);
        let take = || slots.acquire().now_or_never().flatten();
        let mut held: Vec<Slot<'_>> = (0..4).filter_map(|_| take()).collect();
        assert_eq!((held.len(), take().is_none(), slots.state()), (4, true, (4, true)));
        slots.resize(2);
        held.truncate(2);
        assert!(take().is_none(), "two are in use, and more there shall not be");
        held.truncate(1);
        held.extend(take());
        assert_eq!((held.len(), take().is_none()), (2, true));
        slots.resize(3);
        held.extend(take());
        assert_eq!((held.len(), take().is_none()), (3, true));
        held.clear();
        slots.resize(1);
        assert_eq!(slots.state(), (1, false));
        assert!(take().is_some());
    }
}
