//! One manager at a time: a lease file, epochs that only grow, and single-winner epoch files.
//!
//! A holder that is known to be dead (same boot, process gone) is followed at once; any other only when its lease
//! was not renewed for a whole term by *our* clock, so no two hosts' clocks are ever compared.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Hands, OWN};
use crate::store::{Put, StoreError};
use crate::supervisor::{Manifest, boot_id, is_alive, process_start};

/// Largest lease file, bytes.
const LEASE_BYTES_MAX: usize = 64 * 1024;

/// What this process knows of its lease.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    epoch: AtomicU64,
    /// Monotonic time before the last renewal that went well; order: leaf.
    renewed: Mutex<Option<Duration>>,
}

/// `lease.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LeaseFile {
    epoch: u64,
    node: String,
    boot_id: String,
    pid: u32,
    start_ticks: u64,
    /// Changes with each renewal.
    beat: u64,
    released: bool,
}

/// Somebody else is the manager now.
#[derive(Debug, thiserror::Error)]
#[error("another exec took over the spool (epoch {0}); this one stops")]
pub(crate) struct Fenced(pub(crate) u64);

impl Lease {
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }
}

impl Hands {
    fn own_lease(&self, epoch: u64, beat: u64, released: bool) -> LeaseFile {
        let pid = std::process::id();
        LeaseFile {
            epoch,
            node: self.set.node.clone(),
            boot_id: boot_id(),
            pid,
            start_ticks: process_start(pid).unwrap_or(0),
            beat,
            released,
        }
    }

    async fn read_lease(&self) -> Result<Option<LeaseFile>, StoreError> {
        match self.store.read(&format!("{OWN}/lease.json"), LEASE_BYTES_MAX).await {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write_lease(&self, lease: &LeaseFile, sync: bool) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(lease).expect("leases are plain data");
        let put = Put { sync, ..Put::DERIVED };
        self.store.replace(&format!("{OWN}/lease.json"), &bytes, put).await
    }

    /// Waits until the spool has no other manager, and takes the next epoch.
    pub(crate) async fn acquire_lease(&self) -> Result<u64, StoreError> {
        let mut seen: Option<(LeaseFile, Duration)> = None;
        let mut said = false;
        loop {
            let current = self.read_lease().await?;
            if let Some(lease) = &current
                && !self.is_over(lease)
            {
                let now = self.clock.monotonic();
                match &seen {
                    Some((same, since)) if same == lease => {
                        if now < *since + self.set.lease_ttl {
                            tokio::time::sleep(Duration::from_millis(200)).await;
                            continue;
                        }
                    }
                    _ => {
                        if !std::mem::replace(&mut said, true) {
                            tracing::info!(
                                node = lease.node,
                                pid = lease.pid,
                                "another exec serves this spool; standing by"
                            );
                        }
                        seen = Some((lease.clone(), now));
                        continue;
                    }
                }
            }
            let epoch = self.next_epoch(current.as_ref().map_or(0, |l| l.epoch)).await?;
            let own = self.own_lease(epoch, 0, false);
            let bytes = serde_json::to_vec(&own).expect("leases are plain data");
            if !self.store.create_once(&format!("{OWN}/epoch-{epoch}"), &bytes, Put::DURABLE).await? {
                // Somebody was faster; the lease will name them.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
            let before = self.clock.monotonic();
            self.write_lease(&own, true).await?;
            self.lease.epoch.store(epoch, Ordering::SeqCst);
            *self.lease.renewed.lock() = Some(before);
            self.forget_epochs(epoch).await;
            return Ok(epoch);
        }
    }

    /// The epoch after all that were taken by somebody who may still be writing the lease.
    async fn next_epoch(&self, leased: u64) -> Result<u64, StoreError> {
        let mut epoch = leased + 1;
        loop {
            match self.store.read(&format!("{OWN}/epoch-{epoch}"), LEASE_BYTES_MAX).await {
                Err(error) if error.is_missing() => return Ok(epoch),
                Err(error) => return Err(error),
                Ok(bytes) => match serde_json::from_slice::<LeaseFile>(&bytes) {
                    // Died between taking the epoch and writing the lease.
                    Ok(taker) if !self.is_over(&taker) => return Ok(epoch),
                    _ => epoch += 1,
                },
            }
        }
    }

    /// The holder gave it up, or is known to be dead.
    fn is_over(&self, lease: &LeaseFile) -> bool {
        let probe = Manifest {
            schema: 1,
            job: String::new(),
            unit: 0,
            attempt: 0,
            epoch: lease.epoch,
            node: lease.node.clone(),
            boot_id: lease.boot_id.clone(),
            pid: lease.pid,
            start_ticks: lease.start_ticks,
            cgroup: String::new(),
            at_ms: 0,
            revoked: None,
        };
        // A dead process of this boot is certain; another boot of the same node is as well.
        let here = lease.boot_id == boot_id();
        lease.released || (here && !is_alive(&probe)) || (!here && lease.node == self.set.node)
    }

    async fn forget_epochs(&self, current: u64) {
        for old in (current.saturating_sub(8)..current).rev() {
            if self.store.remove(&format!("{OWN}/epoch-{old}")).await.is_err() {
                break;
            }
        }
    }

    /// Renews the lease.
    pub(crate) async fn renew_lease(&self) -> Result<(), RenewError> {
        let epoch = self.lease.epoch();
        let before = self.clock.monotonic();
        let current = self.read_lease().await?;
        let newer = format!("{OWN}/epoch-{}", epoch + 1);
        if self.store.stat(&newer).await.is_ok() {
            return Err(Fenced(epoch + 1).into());
        }
        let beat = match current {
            Some(lease) if lease.epoch == epoch => lease.beat + 1,
            Some(lease) => return Err(Fenced(lease.epoch).into()),
            None => 0,
        };
        self.write_lease(&self.own_lease(epoch, beat, false), false).await?;
        *self.lease.renewed.lock() = Some(before);
        Ok(())
    }

    /// To be called before anything that another manager must not see from us: renews when the last renewal is not
    /// fresh (this process may have been stopped for long).
    pub(crate) async fn assert_lease(&self) -> Result<(), RenewError> {
        let fresh = self
            .lease
            .renewed
            .lock()
            .is_some_and(|at| self.clock.monotonic() < at + self.set.lease_ttl.mul_f64(0.6));
        if fresh { Ok(()) } else { self.renew_lease().await }
    }

    /// Gives the lease up, so that the next manager need not wait.
    pub(crate) async fn release_lease(&self) {
        let epoch = self.lease.epoch();
        if let Ok(Some(lease)) = self.read_lease().await
            && lease.epoch == epoch
        {
            let _ = self.write_lease(&self.own_lease(epoch, lease.beat + 1, true), true).await;
        }
    }
}

/// Why a lease could not be renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    /// There is a newer manager.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The file system did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
