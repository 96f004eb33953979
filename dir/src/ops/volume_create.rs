//! Makes a volume: a name, an id that never comes back, a metadata group.

use prost::Message;
use proto::dir::{CreateVolume, MrcGroup, VolumeCreate, VolumeEntry};
use proto::error::{Code, WireError};
use rt::rpc::{Request, Response, parse};

use crate::command::Change;
use crate::server::{Dir, FIRST_METADATA_GROUP};

/// Labels of a volume.
const LABELS_MAX: usize = 64;
const ACCESS: [&str; 3] = ["posix", "volume", "null"];

pub(crate) async fn run(dir: &Dir, request: &Request) -> Result<Response, WireError> {
    let CreateVolume { origin, entry } = parse::<VolumeCreate>(request)?;
    let entry = valid(entry)?;
    dir.lead()?;
    if dir.located(entry.clone()).mrc.addrs.is_empty() {
        let text = format!(
            "cannot make volume {:?}: no metadata service has registered with the DIR; start one with `xtfs mrc`",
            entry.name
        );
        return Err(WireError::new(Code::Unavailable, text));
    }
    let reply = dir.propose(origin, Change::CreateVolume(entry), request.deadline).await?;
    let made = VolumeEntry::decode(reply).map_err(|error| {
        WireError::new(Code::Internal, format!("unreadable volume in the DIR's log: {error}"))
    })?;
    Ok(Response::of(&dir.located(made)))
}

/// The entry as it is stored; id, group and time are not the caller's to choose.
fn valid(entry: VolumeEntry) -> Result<VolumeEntry, WireError> {
    let bad =
        |why: String| Err(WireError::new(Code::InvalidArgument, format!("volume {:?}: {why}", entry.name)));
    super::text("a volume's name", &entry.name)?;
    if entry.name == "." || entry.name == ".." || entry.name.contains(['/', '\0', '\n']) {
        return bad("a name has no '/', no line end, and is not '.' or '..'".to_owned());
    }
    if let Err(why) = entry.striping.check() {
        return bad(why);
    }
    if entry.mode & !0o7777 != 0 {
        return bad(format!("mode {:o} has more than permission bits", entry.mode));
    }
    let access = if entry.access.is_empty() { ACCESS[0].to_owned() } else { entry.access.clone() };
    if !ACCESS.contains(&access.as_str()) {
        return bad(format!("access policy {access:?}; known are {}", ACCESS.join(", ")));
    }
    if entry.labels.len() > LABELS_MAX {
        return bad(format!("{} labels, at most {LABELS_MAX} are allowed", entry.labels.len()));
    }
    for label in &entry.labels {
        super::text("a volume's label", label)?;
        if !label.contains('=') {
            return bad(format!("label {label:?} is not KEY=VALUE"));
        }
    }
    let mrc = MrcGroup { group: FIRST_METADATA_GROUP, addrs: Vec::new() };
    Ok(VolumeEntry { volume: 0, removed: false, created_ms: 0, access, mrc, ..entry })
}

#[cfg(test)]
mod tests {
    use proto::stripe::Striping;

    use super::*;

    fn entry(name: &str) -> VolumeEntry {
        let striping =
            Striping { stripe_bytes: 1 << 20, width: 1, replicas: 1, replication: 0, coding: None };
        VolumeEntry { name: name.into(), volume: 9, mode: 0o755, striping, ..VolumeEntry::default() }
    }

    #[test]
    fn what_the_caller_may_not_choose_is_set() {
        let made = valid(entry("v")).unwrap();
        assert_eq!((made.volume, made.mrc.group, made.access.as_str()), (0, 2, "posix"));
    }

    #[test]
    fn bad_entries_are_refused_by_name() {
        let long = "x".repeat(256);
        for name in ["", ".", "..", "a/b", "a\0", long.as_str()] {
            assert_eq!(valid(entry(name)).unwrap_err().code, Code::InvalidArgument, "{name:?}");
        }
        let refused = |change: fn(&mut VolumeEntry)| {
            let mut bad = entry("v");
            change(&mut bad);
            valid(bad).unwrap_err().text
        };
        assert!(refused(|v| v.striping.width = 0).contains("stripe width 0"));
        assert!(refused(|v| v.mode = 0o100_644).contains("100644"));
        assert!(refused(|v| v.access = "nfs".into()).contains("nfs"));
        assert!(refused(|v| v.labels = vec!["x".into()]).contains("KEY=VALUE"));
    }
}
