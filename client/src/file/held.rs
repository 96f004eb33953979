//! Pieces that were acknowledged and found no room at the OSDs: they are held, in memory and in the stage, and tried again
//! until there is room, the file is cut or gone, or somebody else wants it. See `docs/protocols/write-behind.md`, "No room".

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto::error::{Code, WireError};
use proto::mrc::{Attr, KeptAttributes};

use super::buffer::Flight;
use crate::config::Creds;
use crate::error::Result;
use crate::volume::inode::Inode;

/// How long who else wants the file waits until what has no room is given up.
const OTHERS_WAIT: Duration = Duration::from_secs(2);

/// How long one attempt keeps others from being made.
const TURN: Duration = Duration::from_secs(5);

/// How many pieces of a file are held.
#[derive(Debug, Default)]
pub(super) struct Held(AtomicUsize);

impl Held {
    fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

/// What became of a piece.
pub(super) enum Ending {
    Landed,
    /// The MRC has it, and what was set after it.
    Told(Box<Attr>, Option<KeptAttributes>),
    /// Nobody wants it any more.
    GivenUp,
    Failed(WireError),
}

impl Inode {
    /// Whether some of what was acknowledged waits for room.
    pub(crate) fn is_short(&self) -> bool {
        self.buffer.held.any()
    }

    /// Refuses when some of what was acknowledged waits for room: what comes on top of it would be worse off.
    pub(crate) fn check_room(&self) -> Result<()> {
        if !self.is_short() {
            return Ok(());
        }
        Err(WireError::new(
            Code::NoSpace,
            format!(
                "the OSDs of ino-{} are full: what was written last is kept by the mount and tried again; delete files or add \
                 an OSD (`xtfs osd ls`)",
                self.ino()
            ),
        ))
    }

    /// Writes a piece out, for as long as it takes when there is no room for it. `waits`: others of the file do already.
    pub(super) async fn place(
        self: &Arc<Self>,
        number: u64,
        offset: u64,
        data: &Bytes,
        generation: u64,
        (may_wait, waits): (bool, bool),
    ) -> Ending {
        if !waits {
            // It may go to the MRC together with the file.
            let lost = self.confirmed().await.err();
            if let Some(error) = lost {
                return Ending::Failed(error);
            }
            let told = self.buffer.flights.lock().find(number).and_then(|flight| flight.told.take());
            if let Some((attr, kept)) = told {
                return Ending::Told(Box::new(attr), kept);
            }
            match self.write_out(offset, data, generation).await {
                Ok(()) => return Ending::Landed,
                Err(error) if error.code == Code::NoSpace && may_wait => {
                    tracing::warn!(ino = self.ino(), %error, "acknowledged writes wait for room");
                    self.refused();
                    self.hold(number, data);
                }
                Err(error) => return Ending::Failed(error),
            }
        }
        // An attempt under way is not cut off: it could take effect after what it must not come after.
        let ending = self.retry(number, offset, data, generation).await;
        self.buffer.held.0.fetch_sub(1, Ordering::AcqRel);
        self.volume().shortage.lock().is_done();
        ending
    }

    /// An OSD had no room for something of the file.
    pub(super) fn refused(&self) {
        let now = self.volume().client().config().clock.monotonic();
        self.volume().shortage.lock().refused(now);
    }

    fn hold(&self, number: u64, data: &Bytes) {
        self.counts_as_held();
        if let Some(flight) = self.buffer.flights.lock().find(number) {
            flight.held = Some(data.clone());
        }
        self.buffer.landed.notify_waiters();
    }

    /// A piece is held from now on; [`Inode::place`] takes it back.
    pub(super) fn counts_as_held(&self) {
        self.piece_is_held();
        self.buffer.held.0.fetch_add(1, Ordering::AcqRel);
        self.volume().shortage.lock().waits();
    }

    async fn write_out(self: &Arc<Self>, offset: u64, data: &Bytes, generation: u64) -> Result<()> {
        self.must_be_of(generation)?;
        self.write_objects(offset, data.clone(), false).await
    }

    async fn retry(self: &Arc<Self>, number: u64, offset: u64, data: &Bytes, generation: u64) -> Ending {
        let given_up = |flights: &super::buffer::Flights| flights.is_given_up(number);
        loop {
            // What it overlaps and was acknowledged before it goes first.
            self.until(|flights| given_up(flights) || flights.is_first(number)).await;
            let turn = tokio::select! {
                turn = self.volume().turn.acquire() => turn,
                () = self.until(given_up) => return Ending::GivenUp,
            };
            let Ok(turn) = turn else { return Ending::GivenUp };
            let now = self.volume().client().config().clock.monotonic();
            let pause = self.volume().shortage.lock().pause(now);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.until(given_up) => return Ending::GivenUp,
            }
            let unwanted = given_up(&self.buffer.flights.lock());
            if unwanted || self.is_gone().await {
                return Ending::GivenUp;
            }
            let attempt = self.write_out(offset, data, generation);
            match within_turn(turn, TURN, attempt).await {
                Ok(()) => {
                    self.volume().shortage.lock().found_room();
                    tracing::info!(ino = self.ino(), offset, "what waited for room is at the OSDs");
                    return Ending::Landed;
                }
                Err(error) if error.code == Code::NoSpace => self.refused(),
                Err(error) => return Ending::Failed(error),
            }
        }
    }

    /// Nobody has the file open for writing, and it was removed: its objects must not be made anew.
    async fn is_gone(&self) -> bool {
        let volume = self.volume();
        if volume.session().writers(volume.id(), self.ino()) > 0 {
            return false;
        }
        let found = volume.getattr(&Creds::checked(0, 0), self.ino()).await;
        matches!(found, Err(error) if matches!(error.code, Code::NotFound | Code::Stale))
    }

    /// The file is cut there: what is held behind it is not wanted any more. For callers that hold `data` alone, with
    /// nothing else on its way.
    pub(crate) async fn give_up_behind(&self, size: u64) -> Result<()> {
        if !self.is_short() {
            return Ok(());
        }
        let behind = |flight: &Flight| flight.range.start >= size;
        {
            let mut flights = self.buffer.flights.lock();
            if flights.all().any(|flight| !behind(flight) && flight.range.end > size) {
                drop(flights);
                return self.check_room();
            }
            flights.all().filter(|flight| behind(flight)).for_each(|flight| flight.given_up = true);
        }
        self.buffer.landed.notify_waiters();
        self.until(|flights| flights.none(|flight| flight.given_up)).await;
        Ok(())
    }

    /// Somebody else wants the file. What finds no room in a short while is lost: after the lease is gone it could come over
    /// what others have written.
    pub(crate) async fn give_up_for_others(&self) {
        if !self.is_short() {
            return;
        }
        let placed = self.until(|flights| flights.none(|flight| flight.held.is_some()));
        if tokio::time::timeout(OTHERS_WAIT, placed).await.is_ok() {
            return;
        }
        let error = WireError::new(
            Code::NoSpace,
            format!(
                "what was last written to ino-{} found no room at the OSDs until another client wanted the file",
                self.ino()
            ),
        );
        tracing::error!(ino = self.ino(), %error, "acknowledged writes were lost");
        self.errors.add(error);
        self.buffer.flights.lock().all().for_each(|flight| flight.given_up = true);
        self.buffer.landed.notify_waiters();
        self.until(|flights| flights.none(|flight| flight.given_up)).await;
    }

    /// What is held, for a read that begins now: [`overlay`] puts it over what the OSDs say.
    pub(super) fn held(&self) -> Vec<(Range<u64>, Bytes)> {
        if !self.is_short() {
            return Vec::new();
        }
        let mut flights = self.buffer.flights.lock();
        flights.all().filter_map(|flight| Some((flight.range.clone(), flight.held.clone()?))).collect()
    }
}

/// Carries an attempt out. One that hangs does not hold up the others, whose OSDs may have room.
async fn within_turn<T>(turn: impl Sized, limit: Duration, attempt: impl Future<Output = T>) -> T {
    let mut attempt = std::pin::pin!(attempt);
    tokio::select! {
        done = &mut attempt => return done,
        () = tokio::time::sleep(limit) => drop(turn),
    }
    attempt.await
}

/// `data`, which begins at `offset`, with pieces put over it in their order.
pub(super) fn overlay(offset: u64, data: Bytes, pieces: Vec<(Range<u64>, Bytes)>) -> Bytes {
    let end = offset + data.len() as u64;
    let over = pieces.into_iter().filter(|(range, _)| range.start < end && offset < range.end);
    let mut out: Option<BytesMut> = None;
    for (range, piece) in over {
        let (from, to) = (range.start.max(offset), range.end.min(end));
        let within = |base: u64, at: u64| usize::try_from(at - base).expect("within a read or a piece");
        out.get_or_insert_with(|| BytesMut::from(&data[..]))[within(offset, from)..within(offset, to)]
            .copy_from_slice(&piece[within(range.start, from)..within(range.start, to)]);
    }
    out.map_or(data, BytesMut::freeze)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attempt_that_hangs_gives_its_turn_back_and_goes_on() {
        let turns = Arc::new(tokio::sync::Semaphore::new(1));
        let (end, ended) = tokio::sync::oneshot::channel::<u8>();
        let turn = turns.clone().acquire_owned().await.unwrap();
        let attempt = tokio::spawn(within_turn(turn, Duration::ZERO, ended));
        let _others = turns.acquire().await.unwrap();
        assert!(!attempt.is_finished());
        end.send(7).unwrap();
        assert_eq!(attempt.await.unwrap(), Ok(7));
    }

    #[test]
    fn what_is_held_lies_over_what_was_read_the_later_on_top() {
        let read = Bytes::from(vec![0; 10]);
        let piece =
            |start: u64, byte: u8, len: usize| (start..start + len as u64, Bytes::from(vec![byte; len]));
        let pieces = [piece(95, 1, 7), piece(101, 2, 2), piece(108, 3, 9), piece(200, 4, 1)];
        let seen = overlay(100, read.clone(), pieces.to_vec());
        assert_eq!(seen[..], [1, 2, 2, 0, 0, 0, 0, 0, 3, 3]);
        assert_eq!(overlay(100, read.clone(), vec![piece(110, 1, 4), piece(90, 1, 10)]), read);
    }
}
