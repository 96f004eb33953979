//! A scrub that somebody asked for: everything is compared at full speed, what is damaged is mended, and it says what
//! came of it. The scheduled one is the background engine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use proto::error::{Code, WireError};
use proto::osd::{DamagedBlock, ScrubReply, ScrubRequest};

use super::Osd;
use crate::store::DamageCount;

/// Damaged blocks named in one answer.
const NAMED: usize = 64;

#[derive(Default)]
pub(super) struct Scrubbing {
    /// order: a leaf.
    state: Mutex<State>,
    /// Bytes compared in this round.
    bytes: Arc<AtomicU64>,
}

#[derive(Default, Clone)]
struct State {
    running: bool,
    round: u64,
    before: DamageCount,
    after: Option<DamageCount>,
    error: String,
}

impl Osd {
    /// Begins a scrub or tells of the last one.
    pub(super) fn scrub_for(self: &Arc<Self>, request: ScrubRequest) -> Result<ScrubReply, WireError> {
        if request.start {
            self.start_scrub(request.volume)?;
        }
        let state = self.scrubbing.state.lock().clone();
        let now = state.after.unwrap_or_else(|| self.store.damage_count());
        let damage = self.store.damage();
        let name = |(key, block): &(proto::id::ObjectKey, u32)| DamagedBlock {
            volume: key.volume.0,
            ino: key.ino.0,
            object: key.object.0,
            block: *block,
        };
        let of_volume = |key: proto::id::ObjectKey| request.volume == 0 || key.volume.0 == request.volume;
        let left = damage.iter().filter(|(key, _)| of_volume(*key));
        Ok(ScrubReply {
            running: state.running,
            round: state.round,
            bytes: self.scrubbing.bytes.load(Ordering::Relaxed),
            // What was known before is part of what this round deals with.
            found: now.found - state.before.found + state.before.left,
            mended: now.mended - state.before.mended,
            left: left.clone().count() as u64,
            blocks: left.take(NAMED).map(name).collect(),
            error: state.error,
        })
    }

    fn start_scrub(self: &Arc<Self>, volume: u64) -> Result<(), WireError> {
        let mut state = self.scrubbing.state.lock();
        if state.running {
            return Ok(());
        }
        let (osd, bytes) = (self.clone(), self.scrubbing.bytes.clone());
        bytes.store(0, Ordering::Relaxed);
        let begun = State {
            running: true,
            round: state.round + 1,
            before: self.store.damage_count(),
            ..State::default()
        };
        let started = self.replicas.spawn(async move {
            let done = crate::background::scrub_now(&osd.store, volume, &bytes).await;
            osd.replicas.mend_all().await;
            let mut state = osd.scrubbing.state.lock();
            state.running = false;
            state.after = Some(osd.store.damage_count());
            state.error = done.err().map(|error| error.to_string()).unwrap_or_default();
        });
        if !started {
            return Err(WireError::new(Code::Unavailable, "this OSD has not started its heartbeats yet"));
        }
        *state = begun;
        Ok(())
    }
}
