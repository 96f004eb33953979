//! Leases for reads and writes: taken for as long as one operation runs, so that a large one is atomic for others.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::limits::{LEASE_MARGIN_MS, LEASE_TTL_MS};
use proto::mrc::{AcquireLease, AcquireLeaseRequest};

use super::{Asked, Leasing};
use crate::config::Creds;
use crate::engine::leases::{Key, Permit, Use};
use crate::error::Result;
use crate::volume::inode::Inode;

/// Longer than the MRC waits for anybody's return.
const ACQUIRE: Duration = Duration::from_millis(LEASE_TTL_MS + 2 * LEASE_MARGIN_MS);

/// Ranges that the kernel has locked for requests which wait for a lease.
#[derive(Debug, Default)]
pub(crate) struct Locked(Mutex<Vec<(u64, u64)>>);

impl Locked {
    /// What of the file is not locked: offset and length, 0 meaning to the end.
    pub(crate) fn gaps(&self) -> Vec<(u64, u64)> {
        const PAGE: u64 = 4096;
        let mut locked: Vec<(u64, u64)> = self.0.lock().clone();
        locked.sort_unstable();
        let (mut gaps, mut at) = (Vec::new(), 0);
        for (offset, len) in locked {
            let from = offset - offset % PAGE;
            let to = offset.saturating_add(len).div_ceil(PAGE).saturating_mul(PAGE);
            if from > at {
                gaps.push((at, from - at));
            }
            at = at.max(to);
        }
        gaps.push((at, 0));
        gaps
    }
}

/// Holds a lease for an operation.
pub struct Using {
    leasing: Option<(Arc<Leasing>, Key, Use)>,
    /// Of a snapshot nothing changes.
    past: bool,
}

impl Using {
    /// Without leases there is nothing to hold.
    pub(crate) fn nothing() -> Self {
        Self { leasing: None, past: false }
    }

    fn of_the_past() -> Self {
        Self { leasing: None, past: true }
    }

    /// Whether others cannot change data or size meanwhile.
    pub(crate) fn is_held(&self) -> bool {
        self.past || self.leasing.is_some()
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        if let Some((leasing, key, what)) = self.leasing.take()
            && leasing.engine.lock().release(key, what)
        {
            leasing.released.notify_waiters();
        }
    }
}

/// A lease is being asked for.
struct Asking<'a> {
    asked: Asked<'a>,
    inode: &'a Inode,
    key: Key,
    what: Use,
    span: (u64, u64),
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut spans = self.inode.locked.0.lock();
        if let Some(at) = spans.iter().position(|span| *span == self.span) {
            spans.swap_remove(at);
        }
        drop(spans);
        if self.asked.leasing.engine.lock().ask_end(self.key, self.what) {
            self.asked.leasing.released.notify_waiters();
        }
    }
}

impl Inode {
    /// Takes the lease that an operation on `[offset, offset + len)` needs, asking for it when it is not held.
    pub(crate) async fn take_lease(self: &Arc<Self>, what: Use, offset: u64, len: u64) -> Result<Using> {
        if self.volume().is_past() {
            return Ok(Using::of_the_past());
        }
        if what != Use::Read && self.keeps_what_comes_last() {
            self.settle().await?;
        }
        let using = self.take_bits(what, offset, len).await?;
        // Under the lease: the right must be for the data that the file shows now.
        self.follow_top(what).await?;
        Ok(using)
    }

    async fn take_bits(self: &Arc<Self>, what: Use, offset: u64, len: u64) -> Result<Using> {
        let session = self.volume().session();
        let leasing = session.leasing();
        let key = (self.volume().id(), self.ino());
        let using = || Using { leasing: Some((leasing.clone(), key, what)), past: false };
        loop {
            match leasing.engine.lock().try_use(key, what, leasing.now()) {
                Permit::Granted => return Ok(using()),
                Permit::Off => return Ok(Using::nothing()),
                Permit::Ask => {}
            }
            let asking = self.asking(leasing, key, what, (offset, len));
            let head = self.volume().head(&Creds::checked(0, 0));
            let request = AcquireLeaseRequest { head, ino: self.ino(), bits: what.bit() };
            let reply = session.call_for::<AcquireLease>(&request, ACQUIRE).await?;
            let grant = reply.leases.iter().find(|grant| grant.ino == self.ino());
            // Before others may use the lease: who holds it does not ask for the size.
            self.learn(&reply.attr);
            let mut engine = leasing.engine.lock();
            let ticket = asking.asked.ticket();
            let granted = engine.ask_granted(key, grant, what, ticket);
            let off = grant.is_none();
            if let Some(grant) = grant {
                engine.keep_attr(key.0, &reply.attr, grant, ticket);
            }
            drop(engine);
            leasing.released.notify_waiters();
            if granted {
                return Ok(using());
            }
            if off {
                // This leader gives no leases to us (yet): as without leases.
                return Ok(Using::nothing());
            }
        }
    }

    /// Likewise, without asking.
    pub(crate) fn take_held(&self, what: Use) -> Option<Using> {
        let leasing = self.volume().leasing();
        let permit = leasing.engine.lock().try_use(self.key(), what, leasing.now());
        matches!(permit, Permit::Granted)
            .then(|| Using { leasing: Some((leasing.clone(), self.key(), what)), past: false })
    }

    fn asking<'a>(&'a self, leasing: &'a Leasing, key: Key, what: Use, span: (u64, u64)) -> Asking<'a> {
        self.locked.0.lock().push(span);
        leasing.engine.lock().ask_begin(key, what);
        Asking { asked: leasing.ask(), inode: self, key, what, span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_has_locked_is_left_out() {
        let locked = Locked::default();
        assert_eq!(locked.gaps(), [(0, 0)]);
        locked.0.lock().extend([(10_000, 100), (0, 10), (12_000, 8192)]);
        assert_eq!(locked.gaps(), [(4096, 4096), (20_480, 0)]);
    }
}
