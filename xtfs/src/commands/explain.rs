//! `xtfs explain CODE`: what an error code means and what mends it.

use clap::Args;
use proto::error::Code;
use serde_json::json;

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Explain an error code
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Its name or number, as it stands in messages: NotLeader.
    code: String,
}

impl Explain {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let code = find(&self.code).ok_or_else(|| {
            let names: Vec<String> = Code::ALL.iter().map(|code| format!("{code:?}")).collect();
            Failure::usage(format!("code {:?}", self.code), "no such code")
                .next(format!("one of: {}", names.join(" ")))
        })?;
        let (meaning, remedy) = text(code);
        if global.json {
            output::json(&json!({
                "code": format!("{code:?}"), "number": code as u16, "meaning": meaning, "remedy": remedy,
                "retryable": code.is_retryable(), "no_side_effects": code.has_no_side_effects(),
            }));
            return Ok(0);
        }
        output::line(&format!("{code:?} ({})", code as u16));
        output::line(&format!("  meaning  {meaning}"));
        output::line(&format!("  remedy   {remedy}"));
        let again = if code.is_retryable() {
            "clients try again by themselves"
        } else {
            "trying again does not help"
        };
        output::line(&format!("  retry    {again}"));
        Ok(0)
    }
}

/// By name in any spelling (`NotLeader`, `not_leader`, `not-leader`) or number.
fn find(wanted: &str) -> Option<Code> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let number = wanted.parse::<u16>().ok();
    Code::ALL
        .into_iter()
        .find(|code| Some(*code as u16) == number || plain(&format!("{code:?}")) == plain(wanted))
}

/// What it means, and what to do.
fn text(code: Code) -> (&'static str, &'static str) {
    use Code::*;
    match code {
        NotFound | Exists | NotDirectory | IsDirectory | NotEmpty | NameTooLong | Loop => names(code),
        PermissionDenied | NotPermitted | ReadOnly | Unauthenticated | CapabilityExpired
        | CapabilityInvalid => rights(code),
        NoSpace | QuotaExceeded | FileTooLarge | TooManyLinks | AttributeTooLarge => limits(code),
        NotLeader | Unavailable | DeadlineExceeded | OldEpoch | OldView | SessionUnknown | Superseded
        | ReplicaDown | Busy => passing(code),
        InvalidArgument => {
            ("a value in the request is outside of what is possible", "the message names the value")
        }
        CrossVolume => {
            ("source and target lie in different volumes", "copy the data instead of renaming or linking it")
        }
        NoAttribute => ("the file has no extended attribute of that name", "list them with `getfattr -d`"),
        WouldBlock => {
            ("somebody else holds a conflicting lock or has the file open", "wait, or find the holder")
        }
        Deadlock => (
            "waiting for this lock would never end: the holders wait for one another",
            "release a lock and retry",
        ),
        Stale => ("the file was removed while it was in use", "open it again by its name"),
        NotSupported => {
            ("the operation is not built in this version or not possible on this object", "see the changelog")
        }
        Corrupt => (
            "stored data does not match its checksum",
            "find the OSD in the message; restore the file from a replica or a backup; check that disk",
        ),
        Io => (
            "a disk or the kernel reported an input/output error",
            "look at the service's log and at `dmesg`",
        ),
        BadRequest => (
            "the service could not understand the request",
            "client and service versions may not fit together",
        ),
        UnknownMethod => {
            ("the service does not know this request", "upgrade the service, or ask the right one")
        }
        Internal => ("the service found a fault in itself", "please report it with the service's log"),
        Cancelled => ("the caller gave up before the answer came", "nothing; repeat it if you still want it"),
    }
}

fn names(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::NotFound => {
            ("there is no such file, volume or object", "check the name; `xtfs ls` lists volumes")
        }
        Code::Exists => ("the name is taken", "choose another name or remove what is there"),
        Code::NotDirectory => ("a part of the path is not a directory", "check the path"),
        Code::IsDirectory => ("it is a directory, the operation wants a file", "check the path"),
        Code::NotEmpty => ("the directory still has entries", "remove them first"),
        Code::NameTooLong => {
            ("a name is longer than 255 bytes or a link target longer than 4095", "use a shorter one")
        }
        _ => (
            "too many symbolic links on the way",
            "a link probably points to itself: check with `readlink -f`",
        ),
    }
}

fn rights(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::PermissionDenied => {
            ("mode bits or access list do not allow it", "`xtfs whoami`, `ls -ld`, then chmod or chown")
        }
        Code::NotPermitted => ("only the owner or root may do it", "ask the owner, or act as root"),
        Code::ReadOnly => ("the volume or mount is read-only", "mount it without -o ro"),
        Code::Unauthenticated => {
            ("the caller showed no certificate that this service trusts", "give this node a certificate")
        }
        Code::CapabilityExpired => {
            ("the right to use the file ran out", "clients get a new one by themselves; check the clocks")
        }
        _ => (
            "the right to use the file was not made by this cluster",
            "the client talks to OSDs of another cluster",
        ),
    }
}

fn limits(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::NoSpace => (
            "no OSD has room for it, or the disk under the metadata is full",
            "the message says which: remove files or add OSDs (`xtfs osd ls`), or free room on that disk; all goes on by itself",
        ),
        Code::QuotaExceeded => {
            ("a quota of the volume or directory is used up", "remove files or raise the quota")
        }
        Code::FileTooLarge => ("a file has at most 2^63 - 1 bytes", "check the offset that the program uses"),
        Code::TooManyLinks => ("a file has at most a million hard links", "use symbolic links"),
        _ => ("an extended attribute has at most 64 KiB", "keep larger values in a file"),
    }
}

fn passing(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::NotLeader => (
            "another member of the group decides",
            "nothing; if it lasts, `xtfs mrc members` shows who leads",
        ),
        Code::Unavailable => {
            ("the service could not be reached", "`xtfs status` shows who is down, `xtfs ps` on this machine")
        }
        Code::DeadlineExceeded => {
            ("no answer came in time", "`xtfs status`: perhaps a majority of a group is down")
        }
        Code::OldEpoch => ("the caller had an outdated OSD map", "nothing; it gets the newer one"),
        Code::OldView => ("the caller had an outdated list of replicas", "nothing; it gets the newer one"),
        Code::Superseded => (
            "a request arrived after its client had given it up and gone on",
            "nothing; the client tries again under a new number",
        ),
        Code::ReplicaDown => (
            "policy all: a replica that must take every change is down and has not lost its vote yet",
            "nothing; the client has the MRC take its vote away. When that goes on, no other replica that has everything is up: `xtfs replica ls`, \
             `xtfs osd ls`",
        ),
        Code::SessionUnknown => (
            "the service does not know the client's session (it was silent for too long)",
            "nothing; it opens a new one",
        ),
        _ => ("too many requests wait", "nothing, or spread the load over more services"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_name_and_number() {
        for code in Code::ALL {
            assert_eq!(find(&format!("{code:?}")), Some(code));
            assert_eq!(find(&(code as u16).to_string()), Some(code));
            assert!(!text(code).0.is_empty());
        }
        assert_eq!(find("not_leader"), Some(Code::NotLeader));
        assert_eq!(find("nonsense"), None);
    }
}
