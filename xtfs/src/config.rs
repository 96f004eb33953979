//! Files of the daemon roles: TOML, everything but identity has a default, unknown keys are errors.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// What every role's file has: who it is and where it listens.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) role: &'static str,
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    pub(crate) listen: String,
    pub(crate) http: String,
    pub(crate) advertise: String,
}

macro_rules! role_file {
    ($(#[$doc:meta])* $name:ident $role:literal $rpc:literal $web:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr),* $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct $name {
            pub(crate) uuid: String,
            pub(crate) name: String,
            pub(crate) data: PathBuf,
            pub(crate) listen: String,
            pub(crate) http: String,
            pub(crate) advertise: String,
            $($(#[$field_doc])* pub(crate) $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    uuid: String::new(),
                    name: String::new(),
                    data: PathBuf::from(concat!("/var/lib/xtfs/", $role)),
                    listen: format!("0.0.0.0:{}", $rpc),
                    http: format!("0.0.0.0:{}", $web),
                    advertise: String::new(),
                    $($field: $default,)*
                }
            }
        }

        impl RoleFile for $name {
            const ROLE: &'static str = $role;

            fn node(&self) -> Node {
                Node {
                    role: $role,
                    uuid: self.uuid.clone(),
                    name: if self.name.is_empty() { $role.to_owned() } else { self.name.clone() },
                    data: self.data.clone(),
                    listen: self.listen.clone(),
                    http: self.http.clone(),
                    advertise: advertised(&self.advertise, &self.listen),
                }
            }
        }
    };
}

/// A role's file.
pub(crate) trait RoleFile: DeserializeOwned + Serialize + Default {
    /// `dir`, `mrc`, `osd`, `exec` or `mount`.
    const ROLE: &'static str;
    /// The part that all have.
    fn node(&self) -> Node;
}

role_file! {
    /// A DIR member.
    DirFile "dir" 32638 30638 {
        members: Vec<String> = Vec::new(),
        join: bool = false,
        mrcs: Vec<String> = Vec::new(),
        durability: String = "quorum".to_owned(),
    }
}
role_file! {
    /// An MRC member.
    MrcFile "mrc" 32636 30636 {
        dir: Vec<String> = Vec::new(),
        group: u64 = 2,
        members: Vec<String> = Vec::new(),
        join: bool = false,
        durability: String = "quorum".to_owned(),
    }
}
role_file! {
    /// An OSD.
    OsdFile "osd" 32640 30640 {
        dir: Vec<String> = Vec::new(),
        domain: String = String::new(),
        capacity: u64 = 0,
        sharers: u32 = 1,
    }
}
role_file! {
    /// A job service.
    ExecFile "exec" 32650 30650 {
        dir: Vec<String> = Vec::new(),
        volume: String = "default".to_owned(),
        mount: PathBuf = PathBuf::new(),
    }
}
role_file! {
    /// A replica management service.
    RmsFile "rms" 32642 30642 {
        dir: Vec<String> = Vec::new(),
        ec_quiet_ms: u64 = 30_000,
    }
}
role_file! {
    /// A mount that is its own service.
    MountFile "mount" 0 0 {
        dir: Vec<String> = Vec::new(),
        volume: String = "default".to_owned(),
        mountpoint: PathBuf = PathBuf::new(),
        options: Vec<String> = Vec::new(),
        launcher: PathBuf = PathBuf::new(),
    }
}

/// The address that others are told: what the file says, else where it listens when that is one address.
fn advertised(advertise: &str, listen: &str) -> String {
    if !advertise.is_empty() {
        return if advertise.contains("://") { advertise.to_owned() } else { format!("tcp://{advertise}") };
    }
    let (host, port) = listen.rsplit_once(':').unwrap_or((listen, "0"));
    if host == "0.0.0.0" || host == "[::]" {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        return format!("tcp://{}:{port}", name.unwrap_or_else(|| "localhost".to_owned()));
    }
    format!("tcp://{listen}")
}

/// Reads and checks a role's file.
pub(crate) fn load<F: RoleFile>(path: &Path) -> Result<F, Failure> {
    let what = || format!("{} configuration {}", F::ROLE, path.display());
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(what(), error).next(format!(
            "`xtfs config {} > {}` writes a default one",
            F::ROLE,
            path.display()
        ))
    })?;
    let file: F = parse(&text).map_err(|why| Failure::usage(what(), why))?;
    if file.node().uuid.is_empty() {
        return Err(Failure::usage(what(), "`uuid` is missing: a service must keep its identity for ever")
            .next(format!("add the line: uuid = \"{}\"", uuid::Uuid::new_v4())));
    }
    Ok(file)
}

/// Parses; an unknown key comes with the nearest known one.
fn parse<F: RoleFile>(text: &str) -> Result<F, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let message = error.to_string();
        match suggestion(error.message()) {
            Some(near) => format!("{}\ndid you mean `{near}`?", message.trim_end()),
            None => message.trim_end().to_owned(),
        }
    })
}

/// From serde's "unknown field `x`, expected one of `a`, `b`" the known name nearest to the unknown one.
fn suggestion(message: &str) -> Option<String> {
    let mut quoted = message.strip_prefix("unknown field")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?.to_owned();
    let near = quoted.map(|known| (distance(&unknown, known), known)).min()?;
    (near.0 <= 3).then(|| near.1.to_owned())
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = change.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Writes a role's file for a service of an instance.
pub(crate) fn store<F: RoleFile>(path: &Path, file: &F) -> Result<(), Failure> {
    let what = || format!("writing {}", path.display());
    let text = toml::to_string(file).map_err(|error| Failure::new(what(), error))?;
    std::fs::write(path, text).map_err(|error| Failure::new(what(), error))
}

/// The default file of a role, with comments.
pub(crate) fn default_text(role: &str) -> Option<String> {
    let (rpc, web, own) = match role {
        "dir" => (32638, 30638, DIR_KEYS),
        "mrc" => (32636, 30636, MRC_KEYS),
        "osd" => (32640, 30640, OSD_KEYS),
        "exec" => (32650, 30650, EXEC_KEYS),
        "rms" => (32642, 30642, RMS_KEYS),
        _ => return None,
    };
    Some(format!(
        "# xtfs {role}: run with `xtfs {role} --config THIS_FILE`.\n\
         # Commented lines show the defaults.\n\n\
         # Identity of this service. Never change or reuse it.\n\
         uuid = \"{}\"\n\n\
         # Name for people, as shown by `xtfs service ls`.\n\
         # name = \"{role}\"\n\n\
         # Where its state lives.\n\
         # data = \"/var/lib/xtfs/{role}\"\n\n\
         # RPC and HTTP (status, /metrics, /healthz) listeners.\n\
         # listen = \"0.0.0.0:{rpc}\"\n\
         # http = \"0.0.0.0:{web}\"\n\n\
         # The RPC address that others are told; default: this host's name and the port of `listen`.\n\
         # advertise = \"host.example.org:{rpc}\"\n\n{own}",
        uuid::Uuid::new_v4()
    ))
}

const DIR_KEYS: &str = "\
# Advertised addresses of all DIR members, in the same order on each of them. Empty: this one alone.\n\
# members = [\"tcp://a:32638\", \"tcp://b:32638\", \"tcp://c:32638\"]\n\n\
# true: `members` run already, and this one is to become another: `xtfs dir add ADDRESS` takes it in.\n\
# join = false\n\n\
# Addresses of the metadata services. Empty: learned when they register.\n\
# mrcs = []\n\n\
# When a change counts as acknowledged: \"quorum\" (a majority has it) or \"disk\" (a majority synced it).\n\
# durability = \"quorum\"\n";

const MRC_KEYS: &str = "\
# The DIR services.\n\
dir = [\"tcp://localhost:32638\"]\n\n\
# The metadata group that this member belongs to, and the advertised addresses of all its members in the same\n\
# order on each of them. Empty: this one alone.\n\
# group = 2\n\
# members = [\"tcp://a:32636\", \"tcp://b:32636\", \"tcp://c:32636\"]\n\n\
# true: `members` run already, and this one is to become another: `xtfs mrc add ADDRESS` takes it in.\n\
# join = false\n\n\
# When a change counts as acknowledged: \"quorum\" (a majority has it) or \"disk\" (a majority synced it).\n\
# durability = \"quorum\"\n";

const OSD_KEYS: &str = "\
# The DIR services.\n\
dir = [\"tcp://localhost:32638\"]\n\n\
# Failure domain: replicas go to different ones. Default: the host's name.\n\
# domain = \"\"\n\n\
# Bytes to offer; 0: what the file system of `data` has.\n\
# capacity = 0\n\n\
# OSDs that share that file system, this one included: each offers its part.\n\
# sharers = 1\n";

const RMS_KEYS: &str = "\
# The DIR services.\n\
dir = [\"tcp://localhost:32638\"]\n";

const EXEC_KEYS: &str = "\
# The DIR services.\n\
dir = [\"tcp://localhost:32638\"]\n\n\
# The volume whose spool is served, and where it is mounted on this host: jobs see their files there.\n\
# volume = \"default\"\n\
mount = \"/mnt/xtfs\"\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_files_parse() {
        let parsed = parse::<DirFile>(&default_text("dir").unwrap()).unwrap();
        assert_eq!(parsed.listen, "0.0.0.0:32638");
        assert!(!parsed.uuid.is_empty());
        assert_eq!(parse::<MrcFile>(&default_text("mrc").unwrap()).unwrap().group, 2);
        assert_eq!(parse::<OsdFile>(&default_text("osd").unwrap()).unwrap().http, "0.0.0.0:30640");
        assert_eq!(parse::<ExecFile>(&default_text("exec").unwrap()).unwrap().volume, "default");
        assert!(default_text("vo").is_none());
    }

    #[test]
    fn default_files_parse_with_every_comment_opened() {
        for role in ["dir", "mrc", "osd", "exec"] {
            let text = default_text(role).unwrap();
            let opened: Vec<&str> = text
                .lines()
                .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
                .collect();
            let opened = opened.join("\n");
            match role {
                "dir" => drop(parse::<DirFile>(&opened).unwrap()),
                "mrc" => drop(parse::<MrcFile>(&opened).unwrap()),
                "osd" => drop(parse::<OsdFile>(&opened).unwrap()),
                _ => drop(parse::<ExecFile>(&opened).unwrap()),
            }
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_the_nearest_one() {
        let why = parse::<OsdFile>("uuid = \"x\"\nlisten_on = \"\"\nlisen = \"0:1\"\n").unwrap_err();
        assert!(why.contains("listen"), "{why}");
        let why = parse::<OsdFile>("domian = \"r1\"").unwrap_err();
        assert!(why.contains("did you mean `domain`?"), "{why}");
        let why = parse::<OsdFile>("completely_different = 1").unwrap_err();
        assert!(!why.contains("did you mean"), "{why}");
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn advertised_addresses() {
        assert_eq!(advertised("", "127.0.0.1:5"), "tcp://127.0.0.1:5");
        assert_eq!(advertised("h:5", "0.0.0.0:5"), "tcp://h:5");
        assert!(advertised("", "0.0.0.0:5").ends_with(":5"));
        assert!(!advertised("", "0.0.0.0:5").contains("0.0.0.0"));
    }
}
