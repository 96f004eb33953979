//! Erasure coding of a closed file: reads it, writes data and parity objects, has the file show them. See
//! docs/protocols/erasure-coding.md.

use std::sync::Arc;

use bytes::Bytes;
use proto::coding::{
    BeginEncoding, EncodableFiles, EncodeBegin, EncodeCommit, EncodeDrop, EncodeList, EncodingBegun,
    EndEncoding, ListEncodable,
};
use proto::error::{Code, WireError};
use proto::id::ObjectNo;
use proto::mrc::Attr;
use proto::stripe::{Coding, Piece};

use super::Volume;
use super::inode::Inode;
use crate::config::Creds;
use crate::engine::coding;
use crate::error::Result;

/// Bytes of each object of a group that are encoded in one step.
const STEP: u32 = 1 << 20;

impl Volume {
    /// Files that are to be encoded, a page of them: last changed `quiet_ms` ago; on OSDs of `leaving` they are encoded anew.
    pub async fn list_encodable(
        &self,
        creds: &Creds,
        after: u64,
        leaving: Vec<u64>,
        quiet_ms: u64,
    ) -> Result<EncodableFiles> {
        let request = ListEncodable { head: self.head(creds), after, leaving, quiet_ms };
        self.session().call::<EncodeList>(&request).await
    }

    /// Encodes a file. Refused with `Stale` when somebody got the right to write it meanwhile, with `WouldBlock` while
    /// somebody without leases has it open; then it is as it was.
    pub async fn encode(&self, creds: &Creds, ino: u64, coding: Coding) -> Result<Attr> {
        let begun = self.begin_encoding(creds, ino, coding).await?;
        let data = begun.credentials.capability.ino;
        let written = self.write_encoded(creds, ino, begun).await;
        let done = match written {
            Ok(()) => self.commit_encoding(creds, ino, data).await,
            Err(error) => Err(error),
        };
        if done.is_err() {
            // If this is lost, too, it is given up when this session ends or the file is encoded again.
            let head = self.head(creds);
            let make = |origin| EndEncoding { head, origin, ino, data };
            if let Err(error) = self.session().mutate::<EncodeDrop>(make).await {
                tracing::debug!(ino, %error, "an encoding could not be given up yet");
            }
        }
        done
    }

    /// The first step: where the encoded data goes.
    pub async fn begin_encoding(&self, creds: &Creds, ino: u64, coding: Coding) -> Result<EncodingBegun> {
        let head = self.head(creds);
        let make = |origin| BeginEncoding { head, origin, ino, coding };
        self.session().mutate::<EncodeBegin>(make).await
    }

    /// The last step: the file shows it.
    pub async fn commit_encoding(&self, creds: &Creds, ino: u64, data: u64) -> Result<Attr> {
        let head = self.head(creds);
        let make = |origin| EndEncoding { head, origin, ino, data };
        Ok(self.session().mutate::<EncodeCommit>(make).await?.attr)
    }

    /// Between the two: reads the file and writes data and parity; when this answers, all of it is on disk.
    pub async fn write_encoded(&self, creds: &Creds, ino: u64, begun: EncodingBegun) -> Result<()> {
        let size = begun.attr.size;
        let source = Inode::unshared(self.arc(), creds, ino).await?;
        let sink = Inode::sink(self.arc(), begun);
        let layout = sink.credentials().layout.clone();
        let Some(coding) = layout.coding else {
            return Err(WireError::new(
                Code::Internal,
                format!("ino-{ino} is to be encoded, and nothing says how"),
            ));
        };
        let group_bytes = u64::from(layout.stripe_bytes) * u64::from(coding.data);
        for group in 0..size.div_ceil(group_bytes) {
            let mut offset = 0;
            while offset < layout.stripe_bytes && group * group_bytes + u64::from(offset) < size {
                let len = STEP.min(layout.stripe_bytes - offset);
                encode_step(&source, &sink, (coding, layout.stripe_bytes, size), (group, offset, len))
                    .await?;
                offset += len;
            }
        }
        sink.sync_osds().await
    }
}

/// The same range of all objects of a group.
async fn encode_step(
    source: &Arc<Inode>,
    sink: &Arc<Inode>,
    (coding, stripe_bytes, size): (Coding, u32, u64),
    (group, offset, len): (u64, u32, u32),
) -> Result<()> {
    let start_of = |index: u32| {
        (group * u64::from(coding.data) + u64::from(index)) * u64::from(stripe_bytes) + u64::from(offset)
    };
    let reads = (0..coding.data).map(|index| {
        let start = start_of(index);
        let bytes = u64::from(len).min(size.saturating_sub(start));
        async move { if bytes == 0 { Ok(Bytes::new()) } else { source.read_range(start, bytes).await } }
    });
    let data = futures::future::try_join_all(reads).await?;
    let parity_len = data.first().map_or(0, Bytes::len);
    let parts = data.clone();
    let parity = tokio::task::spawn_blocking(move || coding::parity(coding, &parts, parity_len));
    let parity =
        parity.await.map_err(|error| WireError::new(Code::Internal, format!("encoding: {error}")))?;
    let parity = parity.map_err(|why| WireError::new(Code::Internal, why))?;
    let first = group * u64::from(coding.width());
    // All or nothing: a hole beside objects that have bytes is one that was lost.
    if data.iter().all(|part| part.iter().all(|byte| *byte == 0)) {
        return Ok(());
    }
    let writes = (first..).zip(data.into_iter().chain(parity)).filter(|(_, part)| !part.is_empty());
    let writes = writes.map(|(object, part)| {
        let len = u32::try_from(part.len()).expect("at most a step");
        sink.write_piece(Piece { object: ObjectNo(object), offset, len, at: 0 }, part, false)
    });
    futures::future::try_join_all(writes).await.map(drop)
}
