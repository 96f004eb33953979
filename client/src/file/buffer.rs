//! Write-behind: writes to a file that follow one another are gathered into pieces, and pieces are written out while the
//! next one is being gathered.
//!
//! ```text
//!   write ---> waiting (one per file) ---full, or not joined---> on its way (a few per file) ---> at the OSDs
//! ```
//!
//! Shared by the handles of a file. Whoever needs the true content (a read, a truncation, a report of the size, a sync)
//! has everything written out first. Pieces that overlap leave one after the other. On a mount a piece is staged too
//! (see [`crate::stage`]), so that it outlives the process. Lock order: `Inode::data`, `waiting`, `flights`.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex as Leaf;
use proto::mrc::{Attr, KeptAttributes};
use tokio::sync::{Mutex, Notify};

use super::held::{Ending, Held};
use super::room::Taken;
use crate::engine::size::Size;
use crate::error::Result;
use crate::parked;
use crate::stage::{Label, SLOT_BYTES, Slot, Stage};
use crate::volume::inode::Inode;

/// At most this many bytes of a file wait.
const BUFFER_BYTES: usize = SLOT_BYTES;
/// Pieces of a file on their way at the same time.
const FLIGHTS_MAX: usize = 8;

/// The buffer of one file.
#[derive(Default)]
pub struct Buffer {
    waiting: Mutex<Option<Waiting>>,
    /// order: a leaf.
    pub(super) flights: Leaf<Flights>,
    pub(super) landed: Notify,
    pub(super) held: Held,
    /// Tells a successor where the file ends, from the landing of a piece to the report of its size. order: before
    /// `Inode::size`.
    mark: Leaf<Option<Slot>>,
    /// Tells a successor which attributes were set, until they are reported. order: a leaf, after
    /// `Inode::size`.
    kept: Leaf<Option<Slot>>,
}

impl Buffer {
    pub(crate) fn flights(&self) -> parking_lot::MutexGuard<'_, Flights> {
        self.flights.lock()
    }

    /// The MRC has heard of the only piece together with the file, and of what was set after it was written.
    pub(crate) fn told_with_the_file(&self, attr: &Attr, kept: Option<KeptAttributes>) {
        if let Some(flight) = self.flights.lock().only() {
            flight.told = Some((attr.clone(), kept));
        }
    }

    /// The piece goes first: a successor that found it without what was set after it would report the time of the take-over. And
    /// nobody finds that nothing is kept before it is crossed out.
    pub(crate) fn cross_out_told(
        &self,
        slot: Option<Slot>,
        size: &Leaf<Size>,
        attr: &Attr,
        kept: Option<KeptAttributes>,
    ) {
        cross_out(slot);
        let mut size = size.lock();
        if size.told(attr, kept) {
            cross_out(self.kept.lock().take());
        }
    }

    /// The end that is marked.
    pub(crate) fn marked_end(&self) -> Option<u64> {
        self.mark.lock().as_ref().map(Slot::end)
    }

    /// The MRC has heard of what was reported, and of what was set (`kept`) with it. The mark goes first: a successor that
    /// found it without what was set after it would report the time of the take-over. And nobody finds that nothing is
    /// kept before it is crossed out: what it does then must not be undone by a successor either.
    pub(crate) fn told(&self, size: &Leaf<Size>, attr: &Attr, kept: bool) {
        let mut mark = self.mark.lock();
        let mut size = size.lock();
        size.reported(attr, kept);
        if mark.as_ref().is_some_and(|mark| !size.is_beyond(mark.end())) {
            cross_out(mark.take());
        }
        if kept {
            cross_out(self.kept.lock().take());
        }
    }
}

/// A piece on its way.
pub(crate) struct Flight {
    number: u64,
    pub(super) range: Range<u64>,
    /// Its bytes, when the OSDs have no room for it.
    pub(super) held: Option<Bytes>,
    /// Nobody wants it any more.
    pub(super) given_up: bool,
    /// Its bytes, when it waits for the MRC to hear of the file.
    pub(crate) early: Option<Bytes>,
    /// The MRC has heard of it together with the file, and has it: the file then, and what was set as it was told.
    pub(super) told: Option<(Attr, Option<KeptAttributes>)>,
}

#[derive(Default)]
pub(crate) struct Flights {
    /// By number, in the order in which they left.
    flights: Vec<Flight>,
    next: u64,
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    other.start < one.end && one.start < other.end
}

impl Flights {
    /// Also when others are held: then it is held too, behind them.
    fn may_leave(&self, range: &Range<u64>) -> bool {
        let free = || !self.flights.iter().any(|other| overlap(&other.range, range));
        self.any_held() || self.flights.len() < FLIGHTS_MAX && free()
    }

    fn any_held(&self) -> bool {
        self.flights.iter().any(|flight| flight.held.is_some())
    }

    fn add(&mut self, range: Range<u64>, held: Option<Bytes>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.flights.push(Flight { number, range, held, given_up: false, early: None, told: None });
        number
    }

    /// Everything before `upto` has arrived, or is held.
    fn is_settled(&self, upto: u64) -> bool {
        self.flights.iter().all(|flight| flight.number >= upto || flight.held.is_some())
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Flight> {
        self.flights.iter_mut()
    }

    pub(super) fn none(&self, is_so: impl Fn(&Flight) -> bool) -> bool {
        !self.flights.iter().any(is_so)
    }

    pub(super) fn find(&mut self, number: u64) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.number == number)
    }

    /// The only one, unless it is held or given up.
    pub(crate) fn only(&mut self) -> Option<&mut Flight> {
        match self.flights.as_mut_slice() {
            [one] if one.held.is_none() && !one.given_up => Some(one),
            _ => None,
        }
    }

    pub(super) fn is_given_up(&self, number: u64) -> bool {
        self.flights.iter().any(|flight| flight.number == number && flight.given_up)
    }

    /// Whether nothing that left before overlaps it.
    pub(super) fn is_first(&self, number: u64) -> bool {
        let Some(at) = self.flights.iter().position(|flight| flight.number == number) else { return true };
        !self.flights[..at].iter().any(|other| overlap(&other.range, &self.flights[at].range))
    }
}

/// Bytes that wait: as one write brought them, or gathered from several.
enum Gathered {
    One(Bytes),
    Many(BytesMut),
}

struct Waiting {
    offset: u64,
    data: Gathered,
    clear_setid: bool,
    /// Of the leases under which it was gathered.
    generation: u64,
    /// What it takes of the quotas.
    room: Option<Taken>,
    /// Where it outlives this process.
    slot: Option<Slot>,
}

/// Bytes that leave.
struct Piece {
    offset: u64,
    data: Bytes,
    clear_setid: bool,
    generation: u64,
    room: Option<Taken>,
    slot: Option<Slot>,
}

impl Waiting {
    fn len(&self) -> usize {
        match &self.data {
            Gathered::One(data) => data.len(),
            Gathered::Many(data) => data.len(),
        }
    }

    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len() as u64
    }

    /// Adds bytes at the end. False: they cannot be staged, nothing was added.
    fn add(&mut self, more: Bytes) -> bool {
        if let Some(slot) = &mut self.slot
            && let Err(error) = slot.append(&more)
        {
            if error.kind() != std::io::ErrorKind::WouldBlock {
                tracing::warn!(%error, "a write cannot be staged; it goes to the OSDs at once");
            }
            return false;
        }
        self.data = match std::mem::replace(&mut self.data, Gathered::One(Bytes::new())) {
            Gathered::One(data) if data.is_empty() => Gathered::One(more),
            Gathered::One(data) => {
                let mut many = BytesMut::with_capacity(BUFFER_BYTES);
                many.extend_from_slice(&data);
                many.extend_from_slice(&more);
                Gathered::Many(many)
            }
            Gathered::Many(mut many) => {
                many.extend_from_slice(&more);
                Gathered::Many(many)
            }
        };
        true
    }
}

impl Inode {
    /// Gathers a write. An error of writing out goes to [`Inode::errors`].
    pub(crate) async fn write_gathered(
        self: &Arc<Self>,
        offset: u64,
        data: Bytes,
        clear_setid: bool,
    ) -> Result<()> {
        super::write::bounded(offset, data.len())?;
        let room = self.take_room(offset, data.len() as u64).await?;
        let _shared = self.data.read().await;
        let slot = |_: &Self| Some(None);
        let gathered = self.gather(offset, &data, clear_setid, room, slot).await;
        debug_assert!(gathered.is_ok(), "nothing can refuse what is not staged");
        Ok(())
    }

    /// Gathers a write so that it outlives this process. For callers that hold the lease for writing. False: there is no
    /// place for it, nothing was done.
    pub(crate) async fn write_staged(
        self: &Arc<Self>,
        stage: &Arc<Stage>,
        offset: u64,
        data: Bytes,
    ) -> Result<bool> {
        super::write::bounded(offset, data.len())?;
        if data.len() > BUFFER_BYTES || data.is_empty() || self.volume().is_short() {
            return Ok(false);
        }
        let room = self.take_room(offset, data.len() as u64).await?;
        let _shared = self.data.read().await;
        let slot = |inode: &Self| stage.take(inode.label(offset), data.len()).map(Some);
        Ok(self.gather(offset, &data, false, room, slot).await.is_ok())
    }

    /// `slot`: a place for a new piece; `None`: there is none. Err: the write was not taken.
    async fn gather(
        self: &Arc<Self>,
        offset: u64,
        data: &Bytes,
        clear_setid: bool,
        room: Taken,
        slot: impl Fn(&Self) -> Option<Option<Slot>>,
    ) -> std::result::Result<(), ()> {
        let generation = self.volume().leasing().generation();
        let mut waiting = self.buffer.waiting.lock().await;
        let joins = waiting.as_ref().is_some_and(|piece| {
            piece.range().end == offset
                && piece.len() + data.len() <= BUFFER_BYTES
                && piece.clear_setid == clear_setid
                && piece.generation == generation
        });
        if !joins {
            self.send_off(&mut waiting).await;
            let slot = slot(self).ok_or(())?;
            let data = Gathered::One(Bytes::new());
            *waiting = Some(Waiting { offset, data, clear_setid, generation, room: None, slot });
            self.piece_begins();
        }
        let Some(piece) = waiting.as_mut() else { return Err(()) };
        if !piece.add(data.clone()) {
            self.send_off(&mut waiting).await;
            return Err(());
        }
        match &mut piece.room {
            Some(taken) => taken.join(room),
            none => *none = Some(room),
        }
        self.gathered(offset, offset + data.len() as u64);
        if piece.len() >= BUFFER_BYTES {
            self.send_off(&mut waiting).await;
        }
        Ok(())
    }

    /// Writes out what was gathered, for somebody who waits; an error goes to [`Inode::errors`].
    pub(crate) async fn flush_buffer(self: &Arc<Self>) {
        if self.is_gathering() {
            let _shared = self.data.read().await;
            self.flush_buffer_alone().await;
        }
    }

    /// Like [`Inode::flush_buffer`] for callers that hold `data`.
    pub(crate) async fn flush_buffer_alone(self: &Arc<Self>) {
        if !self.is_gathering() {
            return;
        }
        self.hurry().await;
        self.send_off(&mut *self.buffer.waiting.lock().await).await;
        let upto = self.buffer.flights.lock().next;
        self.until(|flights| flights.is_settled(upto)).await;
    }

    /// Sends off what was gathered without waiting for it.
    pub(crate) async fn send_off_buffer(self: &Arc<Self>) {
        if self.is_gathering() {
            let _shared = self.data.read().await;
            self.send_off(&mut *self.buffer.waiting.lock().await).await;
        }
    }

    pub(super) async fn until(&self, is_so: impl Fn(&Flights) -> bool) {
        loop {
            let landed = self.buffer.landed.notified();
            tokio::pin!(landed);
            landed.as_mut().enable();
            if is_so(&self.buffer.flights.lock()) {
                return;
            }
            landed.await;
        }
    }

    /// The piece that waits is sent on its way, as soon as none that it overlaps is on its way.
    async fn send_off(self: &Arc<Self>, waiting: &mut Option<Waiting>) {
        let Some(range) = waiting.as_ref().map(Waiting::range) else { return };
        self.until(|flights| flights.may_leave(&range)).await;
        // Nothing waits from here on: a caller that leaves does not take the piece along.
        let Some(piece) = waiting.take() else { return };
        let Waiting { offset, data, clear_setid, generation, room, slot } = piece;
        let data = match data {
            Gathered::One(data) => data,
            Gathered::Many(data) => data.freeze(),
        };
        let piece = Piece { offset, data, clear_setid, generation, room, slot };
        let (number, waits) = {
            let mut flights = self.buffer.flights.lock();
            let waits = flights.any_held();
            let number = flights.add(range, waits.then(|| piece.data.clone()));
            if let Some(flight) = flights.find(number).filter(|_| !self.is_confirmed()) {
                flight.early = Some(piece.data.clone());
            }
            (number, waits)
        };
        if waits {
            self.counts_as_held();
        }
        let inode = self.clone();
        parked::begin(self.volume().runtime(), async move { inode.fly(number, piece, waits).await });
    }

    /// A piece that a killed process left and that found no room.
    pub(crate) fn hold_left(self: &Arc<Self>, offset: u64, data: Bytes, slot: Slot) {
        let end = offset + data.len() as u64;
        let generation = self.volume().leasing().generation();
        let number = self.buffer.flights.lock().add(offset..end, Some(data.clone()));
        self.piece_begins();
        self.gathered(offset, end);
        self.counts_as_held();
        let piece = Piece { offset, data, clear_setid: false, generation, room: None, slot: Some(slot) };
        let inode = self.clone();
        self.volume().runtime().spawn(async move { inode.fly(number, piece, true).await });
    }

    /// `waits`: it is held already, behind others.
    async fn fly(self: Arc<Self>, number: u64, piece: Piece, waits: bool) {
        let Piece { offset, data, clear_setid, generation, room, slot } = piece;
        if !data.is_empty() || waits {
            let end = offset + data.len() as u64;
            let may_wait = slot.is_some();
            match self.place(number, offset, &data, generation, (may_wait, waits)).await {
                Ending::Told(attr, kept) => self.content_is_out(slot, &attr, kept),
                Ending::Landed => {
                    self.wrote(offset, end, true, clear_setid);
                    if let Some(slot) = slot {
                        self.mark(slot);
                    }
                }
                Ending::GivenUp => {
                    tracing::info!(ino = self.ino(), offset, "what waited for room is not wanted any more");
                    cross_out(slot);
                }
                Ending::Failed(error) => {
                    tracing::error!(ino = self.ino(), %error, "gathered writes were lost");
                    self.errors.add(error);
                    cross_out(slot);
                }
            }
        } else {
            cross_out(slot);
        }
        // Over when this is: then a report tells of it.
        drop(room);
        let held = {
            let mut flights = self.buffer.flights.lock();
            let held = flights.find(number).is_some_and(|flight| flight.held.is_some());
            flights.flights.retain(|flight| flight.number != number);
            held
        };
        self.piece_is_out(held);
        self.buffer.landed.notify_waiters();
    }

    /// A piece is at its OSDs: it is crossed out before one that overlaps it may leave. When it made the file longer than the MRC
    /// knows, a mark stays in its place.
    pub(crate) fn mark(&self, mut slot: Slot) {
        let mut mark = self.buffer.mark.lock();
        if !self.needs_mark(&mark, slot.end()) {
            return slot.cross_out();
        }
        match slot.landed() {
            Ok(()) => cross_out(mark.replace(slot)),
            Err(error) => {
                tracing::warn!(%error, "a file's end cannot be marked; kill -9 of everything may shorten it");
                slot.cross_out();
            }
        }
    }

    fn needs_mark(&self, mark: &Option<Slot>, end: u64) -> bool {
        mark.as_ref().is_none_or(|mark| mark.end() < end) && self.is_beyond(end)
    }

    /// A write up to `end` went to the OSDs without being staged: a mark, or if there is no place for one a report, keeps
    /// the file's end.
    pub(crate) async fn keep_end(&self, stage: &Arc<Stage>, end: u64) -> Result<()> {
        {
            let mut mark = self.buffer.mark.lock();
            if !self.needs_mark(&mark, end) {
                return Ok(());
            }
            let label = self.label(end);
            if let Some(mut slot) = mark.take().or_else(|| stage.take(label, 0)) {
                if slot.marks(label).is_ok() {
                    *mark = Some(slot);
                    return Ok(());
                }
                slot.cross_out();
            }
        }
        self.report_written().await
    }

    /// Attributes were set: a successor of this process finds them. False: it would not.
    pub(crate) fn keep_for_successors(&self, stage: &Arc<Stage>, attributes: KeptAttributes) -> bool {
        let mut kept = self.buffer.kept.lock();
        let label = Label { kept: Some(attributes), epoch: attributes.epoch, ..self.label(0) };
        let Some(mut slot) = kept.take().or_else(|| stage.take(label, 0)) else { return false };
        let is_kept = slot.marks(label).is_ok();
        *kept = Some(slot);
        is_kept
    }

    fn label(&self, offset: u64) -> Label {
        let (session, (volume, ino)) = (self.volume().session(), self.key());
        Label { session: session.id(), epoch: session.epoch(), volume, ino, offset, kept: None }
    }

    /// Attributes that an earlier process set are in a slot already.
    pub(crate) fn keep_slot(&self, slot: Slot) {
        cross_out(self.buffer.kept.lock().replace(slot));
    }

    /// The MRC has heard of the attributes that were set, or never will.
    pub(crate) fn unkeep(&self) {
        cross_out(self.buffer.kept.lock().take());
    }

    /// The file is gone.
    pub(crate) fn forget_mark(&self) {
        cross_out(self.buffer.mark.lock().take());
        self.unkeep();
    }
}

fn cross_out(slot: Option<Slot>) {
    if let Some(slot) = slot {
        slot.cross_out();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_stays_in_the_stage_until_the_piece_is_out() {
        for set_anew in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let stage = Stage::open(&place.path().join("stage")).unwrap();
            let label = Label { session: 1, epoch: 3, volume: 1, ino: 5, offset: 0, kept: None };
            let kept = KeptAttributes { mode: Some(0o600), epoch: 3, ..KeptAttributes::default() };
            let mut piece = stage.take(label, 5).unwrap();
            piece.append(b"hello").unwrap();
            let mut slot = stage.take(label, 0).unwrap();
            slot.marks(Label { kept: Some(kept), ..label }).unwrap();
            let (buffer, size) = (Buffer::default(), Leaf::new(Size::new(&Attr::default())));
            *buffer.kept.lock() = Some(slot);
            buffer.flights.lock().add(0..5, None);
            size.lock().piece_begins();
            size.lock().gathered(0, 5, kept.ctime);
            size.lock().keep(kept);
            assert_eq!(size.lock().is_one_piece(5), Some((kept.ctime, Some(kept))));
            assert_eq!(size.lock().is_one_piece(6), None);

            let attr = Attr { size: 5, change: 2, ..Attr::default() };
            buffer.told_with_the_file(&attr, Some(kept));
            assert_eq!(stage.left().unwrap().len(), 2, "a successor needs both or none");
            assert_eq!(size.lock().kept(), Some(kept), "and whoever changes them waits");
            if set_anew {
                size.lock().keep(KeptAttributes { mode: Some(0o640), ..kept });
            }
            buffer.cross_out_told(Some(piece), &size, &attr, Some(kept));
            assert_eq!(stage.left().unwrap().len(), usize::from(set_anew), "what was set since is not told");
            let size = size.lock();
            assert_eq!((size.kept().is_some(), size.size()), (set_anew, 5));
        }
    }
}
