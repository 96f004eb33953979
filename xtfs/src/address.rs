//! Where things are: `xtfs://HOST[:PORT][,HOST[:PORT]...]/VOLUME`, and what stands for it.

use crate::failure::Failure;

/// The DIR's RPC port.
pub(crate) const DIR_PORT: u16 = 32638;

/// DIR services and, where one was named, a volume and a path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeUrl {
    /// RPC addresses (`tcp://host:port`); empty when only a volume was named.
    pub(crate) dirs: Vec<String>,
    /// Volume name, or empty.
    pub(crate) volume: String,
    /// Path below the volume's root, without leading slash.
    pub(crate) path: String,
}

impl VolumeUrl {
    /// Parses `xtfs://`, `pbrpc://`, `tcp://` and bare `HOST/VOLUME`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |why: &str| {
            Failure::usage(format!("address {text:?}"), why)
                .next("write xtfs://HOST[:PORT][,HOST[:PORT]...]/VOLUME")
        };
        let rest = match text.split_once("://") {
            None => text,
            Some(("xtfs" | "pbrpc" | "tcp", rest)) => rest,
            Some((scheme, _)) => return Err(bad(&format!("unknown scheme {scheme:?}"))),
        };
        let (hosts, place) = rest.split_once('/').unwrap_or((rest, ""));
        let (volume, path) = place.split_once('/').unwrap_or((place, ""));
        if hosts.is_empty() && volume.is_empty() {
            return Err(bad("it names neither a host nor a volume"));
        }
        let dirs = hosts
            .split(',')
            .filter(|host| !host.is_empty())
            .map(|host| host_port(host).map_err(|why| bad(&why)));
        Ok(Self {
            dirs: dirs.collect::<Result<_, _>>()?,
            volume: volume.to_owned(),
            path: path.trim_matches('/').to_owned(),
        })
    }

    /// As people write it.
    pub(crate) fn show(dirs: &[String], volume: &str) -> String {
        format!("xtfs://{}/{volume}", hosts(dirs))
    }
}

/// DIR addresses as the host part of a URL: `HOST:PORT,HOST:PORT`.
pub(crate) fn hosts(dirs: &[String]) -> String {
    let hosts: Vec<&str> =
        dirs.iter().map(|dir| dir.split_once("://").map_or(dir.as_str(), |(_, rest)| rest)).collect();
    hosts.join(",")
}

/// `HOST` or `HOST:PORT` as an RPC address.
fn host_port(host: &str) -> Result<String, String> {
    // A bare IPv6 address has colons of its own; it needs its brackets.
    let after_name = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match after_name.rsplit_once(':') {
        None => Ok(format!("tcp://{host}:{DIR_PORT}")),
        Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port != 0) => Ok(format!("tcp://{host}")),
        Some((_, port)) => Err(format!("{port:?} is no port")),
    }
}

/// Addresses of a comma-separated list of hosts, as in `XTFS_DIR`.
pub(crate) fn dirs_of(text: &str) -> Result<Vec<String>, Failure> {
    let url = VolumeUrl::parse(text)?;
    if url.dirs.is_empty() {
        return Err(
            Failure::usage(format!("DIR address {text:?}"), "no host in it").next("write HOST[:PORT][,...]")
        );
    }
    Ok(url.dirs)
}

/// Parses sizes: `4096`, `64K`, `1M`, `1MiB`, `2G`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        other => return Err(format!("unknown unit {other:?}; use K, M, G or T")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no size; write e.g. 64K or 1M"))?;
    number
        .checked_shl(shift)
        .filter(|size| size >> shift == number)
        .ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_mean_the_same() {
        let want = VolumeUrl { dirs: vec!["tcp://h:32638".into()], volume: "v".into(), path: String::new() };
        for text in ["xtfs://h/v", "pbrpc://h/v", "h/v", "h:32638/v/", "tcp://h/v"] {
            assert_eq!(VolumeUrl::parse(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn several_hosts_ports_and_a_path() {
        let url = VolumeUrl::parse("xtfs://a,b:77,[::1]:5/vol/dir/file").unwrap();
        assert_eq!(url.dirs, ["tcp://a:32638", "tcp://b:77", "tcp://[::1]:5"]);
        assert_eq!((url.volume.as_str(), url.path.as_str()), ("vol", "dir/file"));
        assert_eq!(VolumeUrl::show(&url.dirs, "vol"), "xtfs://a:32638,b:77,[::1]:5/vol");
    }

    #[test]
    fn a_volume_alone_leaves_the_host_open() {
        let url = VolumeUrl::parse("xtfs:///vol").unwrap();
        assert!(url.dirs.is_empty());
        assert_eq!(url.volume, "vol");
    }

    #[test]
    fn nonsense_is_wrong_usage() {
        for text in ["http://h/v", "xtfs://", "h:0/v", "h:x/v", ""] {
            assert_eq!(VolumeUrl::parse(text).unwrap_err().status, 2, "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64K"), Ok(65536));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert!(size("1X").is_err() && size("K").is_err() && size("99999999T").is_err());
    }
}
