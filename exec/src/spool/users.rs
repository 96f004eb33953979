//! The host's users.

use std::ffi::CString;

use nix::unistd::{Gid, User, getgrouplist};

use crate::store::Owner;
use crate::supervisor::Identity;

/// A user who has a spool.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

impl Account {
    /// The user of that name, if the host knows one.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        User::from_name(name).ok().flatten().map(Self::of)
    }

    /// The user with that id.
    pub(crate) fn by_uid(uid: u32) -> Option<Self> {
        User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten().map(Self::of)
    }

    fn of(user: User) -> Self {
        let gid = user.gid.as_raw();
        let groups = CString::new(user.name.clone())
            .ok()
            .and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).ok())
            .map_or_else(|| vec![gid], |groups| groups.into_iter().map(Gid::as_raw).collect());
        Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid,
            groups,
            home: user.dir.to_string_lossy().into_owned(),
            shell: user.shell.to_string_lossy().into_owned(),
        }
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner { uid: self.uid, gid: self.gid }
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { uid: self.uid, gid: self.gid, groups: self.groups.clone() }
    }
}

/// Smallest and largest uid of people.
const PEOPLE: std::ops::RangeInclusive<u32> = 1000..=60_000;

/// Names of root and of all people who can log in, by the host's own file (directories of users are not enumerated).
pub(crate) fn login_users() -> Vec<String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut out = vec!["root".to_string()];
    for line in text.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let (Some(name), Some(uid), Some(shell)) = (fields.first(), fields.get(2), fields.get(6)) else {
            continue;
        };
        let person = uid.parse::<u32>().is_ok_and(|uid| PEOPLE.contains(&uid));
        if person && !shell.ends_with("nologin") && !shell.ends_with("/false") {
            out.push((*name).to_string());
        }
    }
    out
}
