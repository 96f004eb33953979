//! Reading erasure-coded data: one object of one OSD while that answers, else the same range of others of its group. See
//! docs/protocols/erasure-coding.md, "Degraded reads".

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use proto::coding::{EncodeDamaged, EncodingBegun, ReportDamaged};
use proto::error::{Code, WireError};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::mrc::{Attr, OpenReply, OpenRequest};
use proto::osd::{Read, ReadRequest};
use proto::stripe::{Coding, Layout, Piece};

use super::super::Volume;
use super::{Inode, TOP, Ticket};
use crate::config::Creds;
use crate::engine::backoff::Backoff;
use crate::engine::coding;
use crate::error::Result;
use crate::file::read::{Told, cut_verified};

/// An OSD that is silent for so long is gone around.
const SILENCE: Duration = Duration::from_secs(2);

/// One object of a group, and a range of it.
#[derive(Clone, Copy)]
struct Part {
    index: usize,
    piece: Piece,
}

/// What of a group a read is about.
#[derive(Clone, Copy)]
struct Group {
    coding: Coding,
    /// The number of its first object.
    first: u64,
    piece: Piece,
    stripe_bytes: u64,
    coded_bytes: u64,
}

impl Group {
    fn of(layout: &Layout, coding: Coding, piece: Piece) -> Self {
        let width = u64::from(coding.width());
        Self {
            coding,
            first: piece.object.0 / width * width,
            piece,
            stripe_bytes: u64::from(layout.stripe_bytes.max(1)),
            coded_bytes: layout.coded_bytes,
        }
    }

    fn index(&self) -> usize {
        usize::try_from(self.piece.object.0 - self.first).expect("less than the width")
    }

    fn part(&self, index: usize) -> Part {
        Part { index, piece: Piece { object: ObjectNo(self.first + index as u64), ..self.piece } }
    }

    /// Bytes of the range that an object has: what lies behind them is zeroes.
    fn coded(&self, index: usize) -> u32 {
        let width = u64::from(self.coding.width());
        // Parity is as long as the first data object.
        let nth = if index < self.coding.data as usize { index as u64 } else { 0 };
        let stripe = self.first / width * u64::from(self.coding.data) + nth;
        let starts = stripe * self.stripe_bytes + u64::from(self.piece.offset);
        let coded = self.coded_bytes.saturating_sub(starts).min(u64::from(self.piece.len));
        u32::try_from(coded).expect("at most the piece")
    }

    fn answer(&self, index: usize, told: &Told, bytes: Bytes) -> Answer {
        let coded = self.coded(index);
        let holes = told.holes(self.piece).into_iter().map(|hole| hole.start..hole.end.min(coded));
        Answer { index, coded, holes: merged(holes.collect()), bytes }
    }

    /// Ranges in which all that answered have a hole: there the whole group is zero. The encoder writes every object of a step or
    /// none.
    fn zero<'a>(&self, answers: impl Iterator<Item = &'a Answer>) -> Vec<Range<u32>> {
        let whole = 0..self.piece.len;
        answers.fold(vec![whole], |zero, answer| {
            let tail = answer.coded..self.piece.len;
            let holes = merged(answer.holes.iter().cloned().chain([tail]).collect());
            let both =
                |one: &Range<u32>, other: &Range<u32>| one.start.max(other.start)..one.end.min(other.end);
            merged(zero.iter().flat_map(|one| holes.iter().map(move |other| both(one, other))).collect())
        })
    }
}

/// What one object of a group has of the range.
struct Answer {
    index: usize,
    coded: u32,
    /// Before `coded`.
    holes: Vec<Range<u32>>,
    bytes: Bytes,
}

impl Answer {
    /// Whether it has holes only where the group is zero; elsewhere the object was lost.
    fn is_whole(&self, zero: &[Range<u32>]) -> bool {
        self.holes.iter().all(|hole| zero.iter().any(|zero| zero.start <= hole.start && hole.end <= zero.end))
    }
}

/// Ascending, none empty, none touching another.
fn merged(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    let mut out: Vec<Range<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

impl Inode {
    /// One piece of encoded data, and its holes.
    pub(crate) async fn read_coded(
        self: &Arc<Self>,
        data: u64,
        coding: Coding,
        piece: Piece,
    ) -> Result<(Bytes, Vec<Range<u32>>)> {
        self.renew_in_time().await?;
        let mut backoff = Backoff::new(self.volume.patience());
        loop {
            let credentials = self.credentials();
            let layout = self.right_to(&credentials, data)?.1;
            if layout.coding != Some(coding) {
                // The file shows other data now; who reads notices and reads that.
                return Err(WireError::new(
                    Code::Stale,
                    format!("ino-{} is not erasure-coded any more", self.ino),
                ));
            }
            let group = Group::of(layout, coding, piece);
            let own = group.part(group.index());
            let direct = match self.may_serve(layout, own) {
                true => self.ask_part(data, own, SILENCE).await,
                false => Err(unavailable(self.ino, piece)),
            };
            let (error, found) = match direct {
                Ok((told, bytes)) => {
                    let holes = told.holes(piece);
                    let answer = group.answer(group.index(), &told, bytes.clone());
                    if answer.holes.is_empty() {
                        return Ok((bytes, holes));
                    }
                    let found = self.reconstruct(data, layout, group, Some(answer)).await;
                    if found.own_is_whole {
                        return Ok((bytes, holes));
                    }
                    (lost(self.ino, piece), found)
                }
                Err(error) if !goes_around(error.code) => return Err(error),
                Err(error) => (error, self.reconstruct(data, layout, group, None).await),
            };
            if error.code == Code::Corrupt || found.damaged {
                self.tell_damaged(data);
            }
            match found.result {
                Ok(bytes) => {
                    tracing::debug!(ino = self.ino, object = piece.object.0, %error, "an encoded object was reconstructed");
                    return Ok((bytes, Vec::new()));
                }
                // Damage stays: nothing is won by waiting, unless an OSD that is silent comes back.
                Err(other) if error.code == Code::Corrupt && other.code == Code::Corrupt => {
                    return Err(error);
                }
                Err(other) => {
                    tracing::warn!(ino = self.ino, object = piece.object.0, error = %other, "an encoded object cannot be read yet");
                    match backoff.failed(self.volume.client().config().clock.monotonic()) {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return Err(other),
                    }
                    self.follow_coded(&credentials).await?;
                }
            }
        }
    }

    /// A file that is to be encoded, not shared with its handles.
    pub(crate) async fn unshared(volume: Arc<Volume>, creds: &Creds, ino: u64) -> Result<Arc<Self>> {
        let head = volume.head(creds);
        let request = OpenRequest { head, ino, write: false, renew: true, append: false, exact: false };
        let reply = volume.session().open(&request).await?;
        Ok(Self::with(volume, reply, false, false, None))
    }

    /// Where encoded data is written.
    pub(crate) fn sink(volume: Arc<Volume>, begun: EncodingBegun) -> Arc<Self> {
        let attr = Attr { ino: begun.credentials.capability.ino, size: 0, layer: 0, ..begun.attr };
        let reply = OpenReply { attr, credentials: begun.credentials, ..OpenReply::default() };
        Self::with(volume, reply, true, true, None)
    }

    /// Whether the map says that the OSD of an object serves.
    fn may_serve(&self, layout: &Layout, part: Part) -> bool {
        let map = self.volume.osds().map();
        let column = layout.columns.get(part.index);
        let osd = column.and_then(|column| column.osds.first());
        osd.is_some_and(|osd| map.osds.get(osd).is_none_or(|(_, up)| *up))
    }

    /// One object from others of its group: as many as are missing, and more as some fail.
    /// `own`: what it has itself, when that has holes.
    async fn reconstruct(
        self: &Arc<Self>,
        data: u64,
        layout: &Layout,
        group: Group,
        own: Option<Answer>,
    ) -> Found {
        let (coding, index) = (group.coding, group.index());
        let others = (0..coding.width() as usize).filter(|other| *other != index);
        let (behind, asked): (Vec<usize>, Vec<usize>) = others.partition(|other| group.coded(*other) == 0);
        // Those that serve first.
        let (serving, rest): (Vec<usize>, Vec<usize>) =
            asked.into_iter().partition(|other| self.may_serve(layout, group.part(*other)));
        let mut next = serving.into_iter().chain(rest);
        let needed = (coding.data as usize).saturating_sub(behind.len());
        let mut answers: Vec<Answer> = Vec::new();
        let sure = |answers: &[Answer]| answers.iter().filter(|answer| answer.holes.is_empty()).count();
        let (mut under_way, mut last, mut damaged) = (FuturesUnordered::new(), None, false);
        while sure(&answers) < needed {
            while sure(&answers) + under_way.len() < needed {
                let Some(other) = next.next() else { break };
                let part = group.part(other);
                under_way.push(async move { (other, self.ask_part(data, part, SILENCE).await) });
            }
            match under_way.next().await {
                Some((other, Ok((told, bytes)))) => answers.push(group.answer(other, &told, bytes)),
                Some((_, Err(error))) => {
                    damaged |= error.code == Code::Corrupt;
                    last = Some(error);
                }
                None => break,
            }
        }
        drop(under_way);
        let zero = group.zero(answers.iter().chain(&own));
        let own_is_whole = own.as_ref().is_some_and(|own| own.is_whole(&zero));
        let all = answers.len();
        answers.retain(|answer| answer.is_whole(&zero));
        damaged |= answers.len() < all || own.is_some() && !own_is_whole;
        let known = behind.into_iter().map(|other| (other, Bytes::new()));
        let known: Vec<(usize, Bytes)> =
            known.chain(answers.into_iter().map(|answer| (answer.index, answer.bytes))).collect();
        let result = if known.len() < coding.data as usize {
            Err(too_few(self.ino, coding, known.len(), last.as_ref()))
        } else {
            coding::reconstruct(coding, index, &known, group.piece.len as usize)
                .map_err(|why| WireError::new(Code::Internal, format!("ino-{}: {why}", self.ino)))
        };
        Found { result, damaged, own_is_whole }
    }

    /// Asks one OSD for a range of one object, once, and a second time when what came was damaged: with a check there.
    async fn ask_part(self: &Arc<Self>, data: u64, part: Part, limit: Duration) -> Result<(Told, Bytes)> {
        match self.ask_part_once(data, part, limit, false).await {
            Err(error) if error.code == Code::Corrupt => self.ask_part_once(data, part, limit, true).await,
            Err(error) if matches!(error.code, Code::CapabilityExpired | Code::OldEpoch | Code::Busy) => {
                self.ask_part_once(data, part, limit, false).await
            }
            other => other,
        }
    }

    async fn ask_part_once(
        self: &Arc<Self>,
        data: u64,
        part: Part,
        limit: Duration,
        check: bool,
    ) -> Result<(Told, Bytes)> {
        let (map, credentials) = (self.volume.osds().map(), self.credentials());
        let (capability, layout) = self.right_to(&credentials, data)?;
        if !layout.is_coded() {
            return Err(WireError::new(
                Code::Stale,
                format!("ino-{} is not erasure-coded any more", self.ino),
            ));
        }
        let osd = layout.columns.get(part.index).and_then(|column| column.osds.first());
        let osd = *osd.ok_or_else(|| unavailable(self.ino, part.piece))?;
        let ticket = Ticket { capability, map_epoch: map.epoch, turn: None, layout, column: part.index };
        let piece = part.piece;
        let request =
            ReadRequest { head: ticket.head(piece.object.0), offset: piece.offset, len: piece.len, check };
        let call = self.volume.osds().call_once::<Read>(osd, &map, &request, Bytes::new());
        let answer = tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
            let text = format!("osd#{osd} was silent for {} ms", limit.as_millis());
            Err(WireError::new(Code::DeadlineExceeded, text))
        });
        let (reply, payload) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                match error.code {
                    Code::CapabilityExpired => self.renew(&credentials).await?,
                    Code::Unavailable | Code::DeadlineExceeded | Code::OldEpoch => {
                        self.volume.osds().suspect(osd, &map, &error).await;
                    }
                    _ => {}
                }
                return Err(error);
            }
        };
        let key =
            ObjectKey { volume: VolumeId(self.volume.id()), ino: Ino(capability.ino), object: piece.object };
        let bytes = cut_verified(key, piece, &reply, &payload)?;
        Ok((Told::of(&reply, &payload), bytes))
    }

    /// Before it is tried again: perhaps the file shows other data by now.
    async fn follow_coded(&self, credentials: &Arc<proto::mrc::FileCredentials>) -> Result<()> {
        match self.renew(credentials).await {
            Err(error) if error.code.is_retryable() => Ok(()),
            other => other,
        }
    }

    /// Tells the MRC that this data wants to be encoded anew, behind the reader's back.
    fn tell_damaged(self: &Arc<Self>, data: u64) {
        let number = if data == TOP { self.credentials().capability.ino } else { data };
        let (volume, ino) = (self.volume.clone(), self.ino);
        self.volume.runtime().spawn(async move {
            let head = volume.head(&Creds::checked(0, 0));
            let make = |origin| ReportDamaged { head, origin, data: number };
            if let Err(error) = volume.session().mutate_of_own::<EncodeDamaged>(make).await {
                tracing::warn!(ino, %error, "damage of encoded data could not be told; the next read tells it");
            }
        });
    }
}

/// What came of reading others of a group.
struct Found {
    result: Result<Bytes>,
    /// Some of them are damaged, or were lost without a word.
    damaged: bool,
    /// What the object has itself is all that there ever was.
    own_is_whole: bool,
}

/// Errors of one OSD that others can make good.
fn goes_around(code: Code) -> bool {
    !matches!(code, Code::CapabilityInvalid | Code::PermissionDenied | Code::Stale | Code::InvalidArgument)
}

fn lost(ino: u64, piece: Piece) -> WireError {
    WireError::new(Code::Corrupt, format!("object {} of ino-{ino} was lost at its OSD", piece.object.0))
}

fn unavailable(ino: u64, piece: Piece) -> WireError {
    WireError::new(Code::Unavailable, format!("the OSD of object {} of ino-{ino} is down", piece.object.0))
}

fn too_few(ino: u64, coding: Coding, known: usize, last: Option<&WireError>) -> WireError {
    let code = last.map_or(Code::Unavailable, |error| error.code);
    let last = last.map_or_else(String::new, |error| format!("; the last failed by: {}", error.text));
    WireError::new(
        code,
        format!(
            "ino-{ino} is erasure-coded {coding}, and only {known} of the {} objects are there that a lost one is made from{last}; \
             see `xtfs osd ls`",
            coding.data
        ),
    )
}
