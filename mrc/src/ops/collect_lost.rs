//! Finds objects at an OSD whose files do not exist, and has them removed. See docs/protocols/fsck.md.

use std::time::Duration;

use bytes::Bytes;
use proto::capability::REMOVE;
use proto::error::{Code, WireError};
use proto::fsck::{CollectLost, CollectedLost, LostCollect, LostFile};
use proto::id::OsdId;
use proto::osd::{ListFiles, ListFilesRequest, Remove, RemoveRequest, StatObjects, StatObjectsRequest};
use proto::rpc::Method;
use proto::stripe::Layout;
use rt::rpc::{CallOptions, Request, Response, call_with, parse};

use crate::namespace::{access, collect, inode, volume};
use crate::service::Mrc;

/// Files of one page.
const FILES_PER_PAGE: u32 = 512;
/// Objects of a lost file asked for at once.
const OBJECTS_AT_ONCE: u32 = 1024;
/// Questions per lost file; a larger one is told of with what was counted until then.
const QUESTIONS_MAX: usize = 64;
const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) async fn serve(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<LostCollect>(&request)?;
    access::require_root(&ask.head, "collect lost objects")?;
    mrc.lead(request.deadline).await?;
    volume::live(mrc.table(), ask.head.volume)?;
    let osd = Asked::new(mrc, &ask)?;
    let list = ListFilesRequest { capability: osd.capability(0)?, after: ask.after, limit: FILES_PER_PAGE };
    let page = osd.call::<ListFiles>(&list).await?;
    // What existed when the OSD listed it is in the table after this; a deposed leader ends here.
    mrc.lead(request.deadline).await?;
    let mut answer = CollectedLost {
        files: page.inos.len() as u64,
        after: page.inos.last().copied().unwrap_or(ask.after),
        end: page.end,
        lost: Vec::new(),
    };
    let older_than = Duration::from_millis(ask.older_than_ms);
    for ino in page.inos {
        let Some(verdict) = verdict(mrc, ask.head.volume, ino)? else { continue };
        let mut lost = LostFile { ino, unknown: verdict == Verdict::Unknown, ..LostFile::default() };
        lost.young = !mrc.leader().was_freed_before((ask.head.volume, ino), older_than);
        (lost.objects, lost.bytes) = osd.stat(ino).await?;
        if !lost.young && !lost.unknown && !ask.dry_run {
            osd.call::<Remove>(&RemoveRequest { capability: osd.capability(ino)?, keep_records: false })
                .await?;
        }
        answer.lost.push(lost);
    }
    Ok(Response::of(&answer))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Lost,
    /// Its number was never given out here.
    Unknown,
}

/// What objects of a number are; `None`: a file's, or garbage that the collector has in hand.
fn verdict(mrc: &Mrc, volume: u64, ino: u64) -> Result<Option<Verdict>, WireError> {
    // The counter is read first: a number below it has its row, or had it.
    let record = volume::live(mrc.table(), volume)?;
    if ino >= record.next_ino {
        return Ok(Some(Verdict::Unknown));
    }
    if inode::find_any(mrc.table(), volume, ino)?.is_some() || collect::is_garbage(mrc.table(), volume, ino)?
    {
        return Ok(None);
    }
    Ok(Some(Verdict::Lost))
}

/// The OSD that is asked about.
struct Asked<'a> {
    mrc: &'a Mrc,
    volume: u64,
    addr: String,
}

impl<'a> Asked<'a> {
    fn new(mrc: &'a Mrc, ask: &CollectLost) -> Result<Self, WireError> {
        let map = mrc.cluster().map()?;
        let entry = map.osds.iter().find(|entry| entry.osd == ask.osd);
        let entry = entry.ok_or_else(|| {
            WireError::new(
                Code::NotFound,
                format!("{} is not in the map; `xtfs osd ls` shows which are", OsdId(ask.osd)),
            )
        })?;
        Ok(Self { mrc, volume: ask.head.volume, addr: entry.addr.clone() })
    }

    fn capability(&self, ino: u64) -> Result<proto::capability::Capability, WireError> {
        Ok(self.mrc.signer(0)?.with_rights((self.volume, ino), 0, REMOVE, &Layout::default()))
    }

    async fn call<M: Method>(&self, request: &M::Request) -> Result<M::Reply, WireError> {
        let channel = self.mrc.connector().channel(&self.addr)?;
        let options = CallOptions { deadline: DEADLINE, trace: 0 };
        Ok(call_with::<M>(&*channel, request, Bytes::new(), &options).await?.0)
    }

    /// Objects and bytes of a file.
    async fn stat(&self, ino: u64) -> Result<(u64, u64), WireError> {
        let (mut objects, mut bytes, mut from_object) = (0, 0, 0);
        for _ in 0..QUESTIONS_MAX {
            let request = StatObjectsRequest {
                capability: self.capability(ino)?,
                from_object,
                limit: OBJECTS_AT_ONCE,
                replicas: None,
                map_epoch: 0,
            };
            let reply = self.call::<StatObjects>(&request).await?;
            objects += reply.objects.len() as u64;
            bytes += reply.objects.iter().map(|object| u64::from(object.allocated)).sum::<u64>();
            match reply.objects.last() {
                Some(last) if reply.more => from_object = last.object + 1,
                _ => break,
            }
        }
        Ok((objects, bytes))
    }
}
