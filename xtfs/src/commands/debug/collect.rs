//! What goes into a bundle.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use rt::rpc::Connector;
use serde_json::Value;

use super::redact;
use crate::address;
use crate::args::Global;
use crate::cluster::Cluster;
use crate::commands::{doctor, ps, status};
use crate::failure::Failure;
use crate::instance::{Home, Instance};
use crate::scrape::{Target, get, targets};

/// How long the cluster may take for an answer: who makes a bundle often has one that does not.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest other file, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Files by path, and what could not be had.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) missing: Vec<(String, String)>,
}

impl Bundle {
    fn add(&mut self, path: String, what: &str, got: Result<String, impl Display>) {
        match got {
            Ok(text) => drop(self.files.insert(path, text.into_bytes())),
            Err(why) => self.missing.push((what.to_owned(), why.to_string())),
        }
    }

    fn add_json(&mut self, path: String, mut value: Value) {
        redact::value(&mut value);
        let text = format!("{value:#}\n");
        self.files.insert(path, text.into_bytes());
    }
}

/// Collects from the instance in `data`, if there is one, and from the cluster.
pub(super) async fn all(
    bundle: &mut Bundle,
    global: &Global,
    data: &Path,
    log_bytes: u64,
) -> Result<(), Failure> {
    let home = Home::at(data)?;
    // A cluster that was named on purpose is not that of the directory in which somebody happens to be.
    let instance = if global.dir.is_some() { None } else { home.read()? };
    let dirs = match (&global.dir, &instance) {
        (Some(text), _) => address::dirs_of(text)?,
        (None, Some(instance)) => instance.addrs("dir"),
        (None, None) => {
            return Err(Failure::usage(
                "which cluster?",
                format!("no DIR was named and there is no instance in {}", data.display()),
            )
            .next("add --data DIR, --dir HOST[:PORT], or set XTFS_DIR"));
        }
    };
    let cluster = Cluster::new(Connector::new(), dirs, global.timeout.min(PATIENCE));
    of_cluster(bundle, &cluster).await;
    let known = match (targets(&cluster).await, &instance) {
        (Ok(known), _) => known,
        (Err(_), Some(instance)) => own_targets(instance),
        (Err(failure), None) => {
            bundle.missing.push(("list of services".to_owned(), failure.to_string()));
            Vec::new()
        }
    };
    of_services(bundle, &known).await;
    if let Some(instance) = &instance {
        of_instance(bundle, &home, instance, &cluster, log_bytes).await;
    }
    of_system(bundle);
    Ok(())
}

fn own_targets(instance: &Instance) -> Vec<Target> {
    let services = instance.enabled().map(|service| Target {
        name: service.name.clone(),
        role: service.role.clone(),
        uuid: service.uuid.clone(),
        http: service.http.clone(),
    });
    services.collect()
}

async fn of_cluster(bundle: &mut Bundle, cluster: &Cluster) {
    match status::gather(cluster).await {
        Ok(value) => {
            bundle.add_json("cluster/doctor.json".to_owned(), doctor::to_json(&value));
            bundle.add_json("cluster/status.json".to_owned(), value);
        }
        Err(failure) => bundle.missing.push(("status of the cluster".to_owned(), failure.to_string())),
    }
}

/// What each service tells at its HTTP door; all at once, as one that hangs takes its time.
async fn of_services(bundle: &mut Bundle, targets: &[Target]) {
    let asked = targets.iter().map(|target| async move {
        let (metrics, status) =
            futures::join!(get(&target.http, "/metrics"), get(&target.http, "/api/v1/status"));
        (target, metrics, status)
    });
    for (target, metrics, status) in futures::future::join_all(asked).await {
        let folder = format!("services/{}", plain(&target.name));
        let metrics = metrics.map(|text| redact::text(&text));
        bundle.add(format!("{folder}/metrics.txt"), &format!("metrics of {}", target.name), metrics);
        let status = status.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
        match status {
            Ok(value) => bundle.add_json(format!("{folder}/status.json"), value),
            Err(why) => bundle.missing.push((format!("status of {}", target.name), why)),
        }
    }
}

/// Processes, configurations and logs of this machine.
async fn of_instance(
    bundle: &mut Bundle,
    home: &Home,
    instance: &Instance,
    cluster: &Cluster,
    log_bytes: u64,
) {
    match serde_json::to_value(instance) {
        Ok(value) => bundle.add_json("instance/instance.json".to_owned(), value),
        Err(error) => bundle.missing.push(("instance.json".to_owned(), error.to_string())),
    }
    let rows = instance.enabled().map(|service| ps::row(home, instance, service, cluster));
    bundle.add_json("instance/ps.json".to_owned(), Value::Array(futures::future::join_all(rows).await));
    for file in files(&home.data.join("etc"), "toml") {
        let what = format!("configuration {}", file.display());
        let config = tail(&file, FILE_BYTES_MAX).map_err(|error| error.to_string());
        bundle.add(
            format!("instance/etc/{}", base(&file)),
            &what,
            config.and_then(|text| redact::toml(&text)),
        );
    }
    for file in files(&home.data.join("log"), "log") {
        let what = format!("log {}", file.display());
        let log = tail(&file, log_bytes).map(|text| redact::text(&text));
        bundle.add(format!("instance/log/{}", base(&file)), &what, log);
    }
}

fn of_system(bundle: &mut Bundle) {
    let names = [
        "loadavg",
        "meminfo",
        "uptime",
        "version",
        "self/mountinfo",
        "self/limits",
        "pressure/io",
        "pressure/cpu",
    ];
    for name in names {
        let path = Path::new("/proc").join(name);
        let text = tail(&path, FILE_BYTES_MAX);
        bundle.add(format!("system/{}", plain(name)), &path.display().to_string(), text);
    }
}

/// Files of a directory with this ending, by name; none when there is no directory.
fn files(dir: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    files
}

fn base(path: &Path) -> String {
    plain(&path.file_name().unwrap_or_default().to_string_lossy())
}

/// The last bytes of a file, from the beginning of a line.
fn tail(path: &Path, bytes: u64) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let len = file.metadata()?.len();
    let skipped = len.saturating_sub(bytes);
    file.seek(SeekFrom::Start(skipped))?;
    let mut got = Vec::new();
    // What is written meanwhile is not waited for. Files of /proc say that they are empty.
    file.take(bytes).read_to_end(&mut got)?;
    let text = String::from_utf8_lossy(&got);
    if skipped == 0 {
        return Ok(text.into_owned());
    }
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    Ok(format!("... {skipped} bytes before are left out\n{rest}"))
}

/// A name from elsewhere as a file name: nothing that leads out of the folder.
pub(super) fn plain(name: &str) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '-' };
    let plain: String = name.chars().map(letter).collect();
    if plain.trim_matches('.').is_empty() { "-".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere() {
        assert_eq!(
            ["osd#1", "../../etc", "..", "", "a/b", "mrc-0"].map(plain),
            ["osd-1", "..-..-etc", "-", "-", "a-b", "mrc-0"]
        );
    }

    #[test]
    fn of_a_long_log_the_end_from_a_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, "first\nsecond\nthird\n").unwrap();
        assert_eq!(tail(&path, 100).unwrap(), "first\nsecond\nthird\n");
        assert_eq!(tail(&path, 9).unwrap(), "... 10 bytes before are left out\nthird\n");
        assert!(tail(Path::new("/proc/loadavg"), 100).unwrap().contains('/'));
        std::fs::write(dir.path().join("y.toml"), "").unwrap();
        assert_eq!(files(dir.path(), "log"), [path]);
        assert!(files(&dir.path().join("none"), "log").is_empty());
    }
}
