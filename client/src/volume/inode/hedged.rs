//! Reads of replicated data: of the primary, and when that one takes long of a majority that needs it not. When, decides
//! `engine/hedging.rs`; why it is right, says `docs/protocols/replication.md`, "Reads".

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use proto::error::{Code, WireError};
use proto::id::{Ino, ObjectKey, VolumeId};
use proto::osd::{ReadReplica, ReadRequest, ReplicaReadReply, ReplicaReadRequest};
use proto::stripe::{Layout, Piece};

use super::{Inode, Ticket};
use crate::engine::hedging::{Ballot, Plan, is_large};
use crate::error::Result;
use crate::file::read::{Told, cut_verified};

/// Replicas that have not answered by then are given up.
const ATTEMPT: Duration = Duration::from_millis(500);
/// Times that one read is asked of replicas.
const ATTEMPTS_MAX: usize = 8;
/// Longest pause between two of them.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A replica's word: its epoch and the object's version.
type Word = (u64, u64, u64);

fn word_of(reply: &ReplicaReadReply) -> Word {
    (reply.epoch, reply.version_epoch, reply.version_number)
}

/// The column of an object and its replicas, when there are several.
fn replicas_of(layout: &Layout, piece: Piece) -> Option<(usize, &[u64])> {
    let width = layout.columns.len() as u64;
    let column = usize::try_from(piece.object.0.checked_rem(width)?).ok()?;
    let list = &layout.columns[column].osds;
    // During a change of the lists nobody can vouch alone for one of them.
    (list.len() > 1 && layout.previous.is_empty() && !layout.is_all()).then_some((column, list))
}

impl Inode {
    /// One piece of the data, as its OSDs hold it, checked.
    pub(crate) async fn ask_hedged(self: &Arc<Self>, data: u64, piece: Piece) -> Result<(Told, Bytes)> {
        self.confirmed().await?;
        let Some(primary) = self.leads(data, piece)? else {
            return self.ask_primary(data, piece, false).await;
        };
        let (osds, large) = (self.volume.osds(), is_large(piece.len));
        let Plan { replicas_first, delay } = osds.hedging().begins(primary, large, self.monotonic());
        if replicas_first {
            let replicas = self.ask_replicas(data, piece, primary, 0);
            if let Ok(Ok(answer)) = tokio::time::timeout(delay, replicas).await {
                osds.count_by_replicas();
                return Ok(answer);
            }
        }
        let begun = self.monotonic();
        let mut by_primary = pin!(self.ask_primary(data, piece, false));
        let (mut pause, mut attempt) = (delay, 0);
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut by_primary => break answer,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
            if attempt == ATTEMPTS_MAX {
                break by_primary.await;
            }
            if !osds.hedging().may_hedge(primary) {
                continue;
            }
            osds.count_hedged();
            let replicas = tokio::time::timeout(ATTEMPT, self.ask_replicas(data, piece, primary, attempt));
            attempt += 1;
            tokio::select! {
                biased;
                answer = &mut by_primary => break answer,
                answer = replicas => match answer {
                    Ok(Ok(answer)) => {
                        osds.hedging().overtaken(primary, large, begun, self.monotonic());
                        osds.count_by_replicas();
                        return Ok(answer);
                    }
                    Ok(Err(error)) => tracing::debug!(ino = self.ino, %error, "replicas do not answer a read"),
                    Err(_) => {}
                }
            }
        };
        // Whoever leads now may be the one that answered.
        if answer.is_ok() && self.leads(data, piece)? == Some(primary) {
            let now = self.monotonic();
            osds.hedging().answered(primary, large, now.saturating_sub(begun), now);
        }
        answer
    }

    fn monotonic(&self) -> Duration {
        self.volume.client().config().clock.monotonic()
    }

    /// Who leads the column of an object with several replicas.
    fn leads(&self, data: u64, piece: Piece) -> Result<Option<u64>> {
        let credentials = self.credentials();
        let list = replicas_of(self.right_to(&credentials, data)?.1, piece);
        Ok(list.and_then(|(_, list)| self.volume.osds().map().primary(list)))
    }

    /// Asks the replicas at once: one that does not lead for the data, all others for their word.
    async fn ask_replicas(
        self: &Arc<Self>,
        data: u64,
        piece: Piece,
        primary: u64,
        attempt: usize,
    ) -> Result<(Told, Bytes)> {
        let (osds, credentials) = (self.volume.osds(), self.credentials());
        let (capability, layout) = self.right_to(&credentials, data)?;
        let doubt = |what: &str| {
            WireError::new(Code::Busy, format!("{what} of {} of ino-{}", piece.object, capability.ino))
        };
        let (column, list) = replicas_of(layout, piece).ok_or_else(|| doubt("no replicas"))?;
        let map = osds.map();
        let is_up = |osd: u64| map.osds.get(&osd).is_some_and(|(_, up)| *up);
        let avoid = |osd: u64| !is_up(osd) || map.slow.contains(&osd);
        let mut order = osds.hedging().order(list, primary, attempt, avoid);
        order.retain(|osd| is_up(*osd));
        // It may be slow in giving data only. Who hangs does not answer, and is not needed.
        order.push(primary);
        let ticket = Ticket { capability, map_epoch: map.epoch, turn: None, layout, column };
        let read = ReadRequest {
            head: ticket.head(piece.object.0),
            offset: piece.offset,
            len: piece.len,
            check: false,
        };
        let giver = order[0];
        let (begun, map) = (self.monotonic(), &map);
        let ask = |osd: u64| {
            let request = ReplicaReadRequest { read: read.clone(), word_only: osd != giver };
            async move { (osd, osds.call_once::<ReadReplica>(osd, map, &request, Bytes::new()).await) }
        };
        let mut asked: FuturesUnordered<_> = order.iter().map(|osd| ask(*osd)).collect();
        let (mut ballot, mut given) = (Ballot::new(list.len()), None);
        let key =
            ObjectKey { volume: VolumeId(self.volume.id()), ino: Ino(capability.ino), object: piece.object };
        while let Some((osd, answer)) = asked.next().await {
            match answer {
                Ok((reply, payload)) if osd == giver => {
                    let word = word_of(&reply);
                    let reply = reply.read.ok_or_else(|| doubt("no data came with the word"))?;
                    let bytes = cut_verified(key, piece, &reply, &payload)?;
                    given = Some((Told::of(&reply, &payload), bytes));
                    ballot.gives(word);
                    let now = self.monotonic();
                    osds.hedging().answered(osd, is_large(piece.len), now.saturating_sub(begun), now);
                }
                Ok((reply, _)) => ballot.says(word_of(&reply)),
                Err(error) if osd == giver => return Err(error),
                Err(error) => tracing::debug!(osd, %error, "a replica does not vouch for an object"),
            }
            if ballot.is_decided()
                && let Some(given) = given.take()
            {
                return Ok(given);
            }
            if ballot.is_hopeless(asked.len()) {
                break;
            }
        }
        Err(doubt("no majority says the same"))
    }
}
