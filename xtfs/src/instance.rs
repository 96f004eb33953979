//! An instance that `xtfs up` made: its data directory and the file that says what belongs to it.
//!
//! ```text
//! DATA/instance.json   the truth: services, identities, ports       DATA/lock        held by the running `up`
//! DATA/etc/NAME.toml   files of a --separate instance's processes   DATA/log/NAME.log
//! DATA/run/NAME.pid    pid and start time                           DATA/mnt         the mount point
//! DATA/NAME/           state of a service
//! ```

pub(crate) mod files;
pub(crate) mod lock;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod process;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// A data directory.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// Absolute path.
    pub(crate) data: PathBuf,
}

/// What `instance.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Grows when the meaning of a field changes.
    pub(crate) format: u32,
    /// Every service its own process.
    pub(crate) separate: bool,
    /// The volume that `up` makes and mounts.
    pub(crate) volume: String,
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Whether it is mounted in this run.
    pub(crate) mounted: bool,
    /// Replicas of new files.
    pub(crate) replicas: u32,
    /// Columns of new files.
    pub(crate) stripe_width: u32,
    /// DIRs, MRCs and OSDs live in network namespaces whose names begin with this, see [`network`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<String>,
    /// Services in starting order.
    pub(crate) services: Vec<Service>,
}

/// One service of an instance.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Service {
    /// `osd-2`.
    pub(crate) name: String,
    /// `osd`.
    pub(crate) role: String,
    /// For ever.
    pub(crate) uuid: String,
    /// RPC address (`tcp://127.0.0.1:PORT`), or empty when it has none.
    pub(crate) addr: String,
    /// HTTP `host:port`.
    pub(crate) http: String,
    /// Whether it takes part in this run (`--no-exec`, `--no-mount`).
    pub(crate) enabled: bool,
    /// It came to a DIR or MRC group that ran already.
    #[serde(default)]
    pub(crate) join: bool,
}

impl Service {
    /// `host:port` of the RPC listener.
    pub(crate) fn listen(&self) -> &str {
        self.addr.strip_prefix("tcp://").unwrap_or(&self.addr)
    }
}

impl Instance {
    /// RPC addresses of a role's services.
    pub(crate) fn addrs(&self, role: &str) -> Vec<String> {
        self.of_role(role).map(|service| service.addr.clone()).collect()
    }

    /// Services of a role.
    pub(crate) fn of_role<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Service> {
        self.services.iter().filter(move |service| service.role == role)
    }

    /// Services that take part in this run, in starting order.
    pub(crate) fn enabled(&self) -> impl DoubleEndedIterator<Item = &Service> {
        self.services.iter().filter(|service| service.enabled)
    }

    /// The service of that name, or an error that lists the names there are.
    pub(crate) fn service(&self, name: &str) -> Result<&Service, Failure> {
        self.services.iter().find(|service| service.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.services.iter().map(|service| service.name.as_str()).collect();
            Failure::usage(format!("service {name:?}"), "no such service in this instance")
                .next(format!("one of: {}", names.join(" ")))
        })
    }
}

impl Home {
    /// The directory as an absolute path; it need not exist yet.
    pub(crate) fn at(data: &Path) -> Result<Self, Failure> {
        let absolute = std::path::absolute(data)
            .map_err(|error| Failure::usage(format!("data directory {}", data.display()), error))?;
        // A directory that exists is named by its real path, so that mountinfo can be compared with it.
        Ok(Self { data: absolute.canonicalize().unwrap_or(absolute) })
    }

    /// Makes the directory and its fixed parts.
    pub(crate) fn prepare(&mut self) -> Result<(), Failure> {
        for part in ["run", "log", "etc"] {
            let path = self.data.join(part);
            std::fs::create_dir_all(&path)
                .map_err(|error| Failure::new(format!("creating {}", path.display()), error))?;
        }
        self.data = self
            .data
            .canonicalize()
            .map_err(|error| Failure::new(format!("data directory {}", self.data.display()), error))?;
        Ok(())
    }

    fn file(&self) -> PathBuf {
        self.data.join("instance.json")
    }

    /// What the directory holds; `None` when no `up` was run here.
    pub(crate) fn read(&self) -> Result<Option<Instance>, Failure> {
        let path = self.file();
        let what = || format!("reading {}", path.display());
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::new(what(), error)),
        };
        let instance: Instance =
            serde_json::from_slice(&text).map_err(|error| Failure::new(what(), error))?;
        if instance.format != FORMAT {
            return Err(Failure::new(
                what(),
                format!("format {} is not known to this xtfs", instance.format),
            )
            .next("use the xtfs version that wrote it"));
        }
        Ok(Some(instance))
    }

    /// What the directory holds, or an error that says how to make an instance.
    pub(crate) fn instance(&self) -> Result<Instance, Failure> {
        self.read()?.ok_or_else(|| {
            Failure::new(format!("instance in {}", self.data.display()), "there is none")
                .next("`xtfs up` makes one; --data DIR names another directory")
        })
    }

    /// Writes the file: beside, synced, renamed.
    pub(crate) fn write(&self, instance: &Instance) -> Result<(), Failure> {
        use std::io::Write;
        let path = self.file();
        let beside = path.with_extension("json.tmp");
        let text =
            serde_json::to_vec_pretty(instance).map_err(|error| Failure::new("instance.json", error))?;
        let done = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)?;
            std::fs::File::open(&self.data)?.sync_all()
        };
        done().map_err(|error| Failure::new(format!("writing {}", path.display()), error))
    }

    /// Where a service keeps its state.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// A service's configuration file.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.data.join("etc").join(format!("{name}.toml"))
    }

    /// A service's log file.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.data.join("log").join(format!("{name}.log"))
    }

    /// A service's pid file.
    pub(crate) fn pid(&self, name: &str) -> PathBuf {
        self.data.join("run").join(format!("{name}.pid"))
    }

    /// The socket that the `--separate` launcher answers on.
    pub(crate) fn launcher(&self) -> PathBuf {
        self.data.join("run").join("launcher.sock")
    }
}

/// See [`Instance::format`].
pub(crate) const FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_an_instance_says_how_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path()).unwrap();
        assert!(home.read().unwrap().is_none());
        assert!(home.instance().unwrap_err().to_string().contains("xtfs up"));
    }

    #[test]
    fn a_format_of_the_future_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut home = Home::at(dir.path()).unwrap();
        home.prepare().unwrap();
        let mut instance = plan::plan(None, &plan::Wish::default(), &home).unwrap();
        home.write(&instance).unwrap();
        assert_eq!(home.read().unwrap().as_ref(), Some(&instance));
        instance.format = 99;
        home.write(&instance).unwrap();
        assert!(home.read().unwrap_err().to_string().contains("99"));
    }
}
