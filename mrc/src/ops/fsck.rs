//! Checks a volume's metadata, and mends what was found.

use std::time::Duration;

use prost::Message;
use proto::error::{Code, WireError};
use proto::fsck::{Fault, Finding, FsckMend, FsckRun, MEND_MAX, MendFindings, Mended};
use proto::rpc::Origin;
use rt::rpc::{Request, Response, parse};

use crate::command::Body;
use crate::engine::leases::{Claim, Claims};
use crate::leasing::claims;
use crate::namespace::{access, volume};
use crate::service::Mrc;

/// A caller waits this long at most.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn run(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<FsckRun>(&request)?;
    access::require_root(&ask.head, "check volumes")?;
    mrc.lead(request.deadline).await?;
    let number = if ask.begin || ask.check == 0 {
        let inodes = volume::live(mrc.table(), ask.head.volume)?.inodes;
        mrc.checks().start(mrc.shared_table(), (ask.head.volume, inodes), ask.check)?
    } else {
        ask.check
    };
    let wait = Duration::from_millis(ask.wait_ms).min(WAIT_MAX);
    Ok(Response::of(&mrc.checks().ask(number, ask.after, wait).await?))
}

pub(crate) async fn mend(mrc: &Mrc, request: Request) -> Result<Response, WireError> {
    let ask = parse::<FsckMend>(&request)?;
    access::require_root(&ask.head, "repair volumes")?;
    if ask.findings.len() > MEND_MAX {
        let text = format!("more than {MEND_MAX} findings to be mended at once");
        return Err(WireError::new(Code::InvalidArgument, text));
    }
    let (mut seen, mut mended) = (ask.seen, 0);
    let mut left = ask.findings.as_slice();
    while !left.is_empty() {
        let (claims, count) = claims_of(ask.head.volume, left);
        let (now, later) = left.split_at(count);
        left = later;
        let body = Body::Mend(MendFindings {
            head: ask.head.clone(),
            // A repeat is refused by `seen`.
            origin: Origin::default(),
            seen,
            findings: now.to_vec(),
        });
        let answer = mrc.propose_leased(0, Origin::default(), claims, body, request.deadline).await?;
        let done = Mended::decode(answer)
            .map_err(|error| WireError::new(Code::Internal, format!("unreadable answer to Mend: {error}")))?;
        (seen, mended) = (done.seen, mended + done.mended);
    }
    Ok(Response::of(&Mended { seen, mended }))
}

/// What clients may not keep of the first findings, and how many these are: as many as one request's claims hold.
fn claims_of(volume: u64, findings: &[Finding]) -> (Claims, usize) {
    let mut claims = Claims::default();
    let mut touched = Vec::new();
    for (at, finding) in findings.iter().enumerate() {
        let mut inodes: Vec<u64> = match Fault::try_from(finding.fault) {
            Ok(Fault::QuotaSum | Fault::VolumeCounts | Fault::Usage | Fault::BadRow | Fault::Hanging) => {
                Vec::new()
            }
            Ok(Fault::LockIndex) | Err(_) => vec![finding.ino],
            Ok(_) => vec![finding.parent, finding.ino],
        };
        inodes.retain(|ino| *ino != 0 && !touched.contains(ino));
        inodes.dedup();
        if touched.len() + inodes.len() > Claims::MAX {
            return (claims, at.max(1));
        }
        for ino in inodes {
            claims = claims.with(Claim::change((volume, ino), claims::DIRECTORY | claims::ATTRIBUTES));
            touched.push(ino);
        }
    }
    (claims, findings.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(fault: Fault, parent: u64, ino: u64) -> Finding {
        Finding { fault: fault as i32, parent, ino, ..Finding::default() }
    }

    #[test]
    fn findings_are_cut_where_their_claims_end_and_all_get_their_turn() {
        let findings: Vec<Finding> = (0..100)
            .map(|n| match n % 3 {
                0 => finding(Fault::EntryLost, 1, 10 + n),
                1 => finding(Fault::QuotaSum, 1, 1000),
                _ => finding(Fault::Links, 0, 10 + n),
            })
            .collect();
        let (mut left, mut turns) = (findings.as_slice(), 0);
        while !left.is_empty() {
            let (claims, count) = claims_of(9, left);
            assert!(count > 0 && claims.iter().count() <= Claims::MAX);
            left = &left[count..];
            turns += 1;
        }
        assert!(turns < 40, "{turns}");
    }
}
