//! `xtfs whoami`: whom services see when you call.

use clap::Args;
use nix::unistd::{Group, User, getegid, geteuid, getgroups};
use serde_json::json;

use crate::args::Global;
use crate::failure::Outcome;
use crate::output;

/// Show who you are to the file system
#[derive(Debug, Args)]
pub(crate) struct Whoami {}

impl Whoami {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let (uid, gid) = (geteuid(), getegid());
        let user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let name =
            |gid| Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name);
        let groups: Vec<String> = getgroups().unwrap_or_default().into_iter().map(name).collect();
        if global.json {
            output::json(&json!({
                "user": user, "uid": uid.as_raw(), "group": name(gid), "gid": gid.as_raw(), "groups": groups,
                "vo": null,
            }));
        } else {
            output::line(&format!(
                "{user} ({}), group {} ({}), no virtual organisation",
                uid,
                name(gid),
                gid
            ));
        }
        Ok(0)
    }
}
