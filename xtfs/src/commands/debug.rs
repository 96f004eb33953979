//! `xtfs debug bundle`: everything that somebody needs who is asked for help, in one file.

mod collect;
mod redact;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::address;
use crate::args::{DataDir, Global};
use crate::failure::{Failure, Outcome};
use crate::output;
use collect::Bundle;

/// For those who look for a fault
#[derive(Debug, Args)]
pub(crate) struct Debug {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Collect status, metrics, configurations without secrets and logs into one file
    Bundle(BundleArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  xtfs debug bundle                        of the instance in ./xtfs-data
  xtfs --dir HOST debug bundle -o b.tgz    of a cluster; logs of other hosts are not in it

Look into it before you give it away: logs name hosts, users and paths. What does not answer is left out and named.")]
struct BundleArgs {
    /// Where to [default: xtfs-bundle-HOST-TIME.tar.gz].
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// Of each log the last so many bytes.
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = address::size)]
    log_bytes: u64,
    #[command(flatten)]
    data: DataDir,
}

impl Debug {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let What::Bundle(bundle) = self.what;
        bundle.run(global)
    }
}

impl BundleArgs {
    fn run(&self, global: &Global) -> Outcome {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let host = collect::plain(&host.unwrap_or_else(|| "host".to_owned()));
        let name = format!("xtfs-bundle-{host}-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
        let to = self.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
        let what = format!("writing {}", to.display());
        // Before anything is asked: nobody should wait for nothing.
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&to).map_err(|error| {
            let failure = Failure::new(&what, &error);
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                failure.next("choose another name with -o FILE")
            } else {
                failure
            }
        })?;
        let done = self.fill(file, &name, global);
        match done {
            Ok(bundle) => tell(&to, &bundle, global.json).map_err(|error| Failure::new(what, error)),
            Err(failure) => {
                // Half a bundle helps nobody.
                let _ = std::fs::remove_file(&to);
                Err(failure)
            }
        }
    }

    fn fill(&self, file: std::fs::File, name: &str, global: &Global) -> Result<Bundle, Failure> {
        let mut bundle = Bundle::default();
        super::run_async(async {
            collect::all(&mut bundle, global, &self.data.data, self.log_bytes).await?;
            Ok(0)
        })?;
        let failed = |error: std::io::Error| Failure::new("writing the bundle", error);
        pack(file, name, &bundle).map_err(failed)?;
        Ok(bundle)
    }
}

/// Everything as a compressed archive, the manifest first.
fn pack(file: impl Write, name: &str, bundle: &Bundle) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let manifest = json!({
        "made": jiff::Timestamp::now().to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "command": std::env::args().collect::<Vec<String>>(),
        "files": bundle.files.keys().collect::<Vec<_>>(),
        "missing": missing(bundle),
    });
    let manifest = serde_json::to_vec_pretty(&manifest)?;
    let seconds = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let first = std::iter::once(("manifest.json", &manifest));
    for (path, bytes) in first.chain(bundle.files.iter().map(|(path, bytes)| (path.as_str(), bytes))) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        archive.append_data(&mut header, format!("{name}/{path}"), bytes.as_slice())?;
    }
    archive.into_inner()?.finish()?.flush()
}

fn missing(bundle: &Bundle) -> Vec<Value> {
    bundle.missing.iter().map(|(what, why)| json!({"what": what, "why": why})).collect()
}

fn tell(to: &Path, bundle: &Bundle, json: bool) -> std::io::Result<u8> {
    let bytes = std::fs::metadata(to)?.len();
    if json {
        output::json(&json!({
            "file": to, "bytes": bytes, "files": bundle.files.keys().collect::<Vec<_>>(), "missing": missing(bundle),
        }));
        return Ok(0);
    }
    for (what, why) in &bundle.missing {
        output::line(&format!("left out: {what}: {why}"));
    }
    output::line(&format!("{} files, {}: {}", bundle.files.len(), output::bytes(bytes), to.display()));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_packed_can_be_unpacked_by_others() {
        let mut bundle = Bundle::default();
        bundle.files.insert("cluster/status.json".to_owned(), b"{}".to_vec());
        bundle.missing.push(("metrics of mrc-0".to_owned(), "refused".to_owned()));
        let mut packed = Vec::new();
        pack(&mut packed, "b", &bundle).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            seen.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(seen[0].0, "b/manifest.json");
        assert!(seen[0].1.contains("metrics of mrc-0") && seen[0].1.contains("cluster/status.json"));
        assert_eq!(seen[1], ("b/cluster/status.json".to_owned(), "{}".to_owned()));
    }
}
