//! Who may depend on whom. A new edge is a decision: it is made here, with the reason in ARCHITECTURE.md.

use std::path::{Path, PathBuf};

use crate::finding::Finding;

/// Of each crate (folder name) the crates of ours that it may use. Tests may use what they like.
const ALLOWED: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("rt", &["proto"]),
    ("quorum", &["proto", "rt"]),
    ("dir", &["proto", "rt", "quorum"]),
    ("mrc", &["proto", "rt", "quorum"]),
    ("osd", &["proto", "rt"]),
    ("client", &["proto", "rt"]),
    ("rms", &["proto", "rt", "client"]),
    ("oss", &["proto", "rt", "client"]),
    ("exec", &["proto", "rt", "client"]),
    ("vo", &["proto", "rt", "client"]),
    ("xtfs", EVERYTHING),
    ("chaos", EVERYTHING),
    ("chaos/models", EVERYTHING),
    ("checker", &[]),
    ("benches", EVERYTHING),
    ("xtask", &[]),
];

const EVERYTHING: &[&str] =
    &["proto", "rt", "quorum", "dir", "mrc", "osd", "client", "rms", "oss", "exec", "vo"];

/// Third-party crates that a crate must not use: `proto` is said, not run; `xtask` builds in seconds.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("proto", &["tokio", "futures", "rustls", "rocksdb", "io-uring", "glommio", "libc", "nix"]),
    ("xtask", &["tokio", "clap"]),
];

/// Every edge in a `Cargo.toml` that the table does not have.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in members(root) {
        let path = PathBuf::from(&folder).join("Cargo.toml");
        match std::fs::read_to_string(root.join(&path)).map(|text| text.parse::<toml::Table>()) {
            Ok(Ok(manifest)) => findings.extend(edges(&folder, &path, &manifest)),
            Ok(Err(error)) => findings.push(Finding::of_file(&path, format!("is not TOML: {error}"))),
            Err(error) => findings.push(Finding::of_file(&path, format!("cannot be read: {error}"))),
        }
    }
    findings
}

fn members(root: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
    let manifest: toml::Table = text.parse().unwrap_or_default();
    let members = manifest.get("workspace").and_then(|table| table.get("members"));
    let list = members.and_then(toml::Value::as_array).cloned().unwrap_or_default();
    list.iter().filter_map(|member| member.as_str().map(str::to_owned)).collect()
}

fn edges(folder: &str, path: &Path, manifest: &toml::Table) -> Vec<Finding> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == folder) else {
        return vec![Finding::of_file(
            path,
            format!("the crate `{folder}` has no line in the table of xtask/src/layers.rs"),
        )];
    };
    let forbidden = FORBIDDEN.iter().find(|(name, _)| *name == folder).map_or(&[][..], |(_, list)| list);
    let ours = |name: &str| ALLOWED.iter().any(|(one, _)| one.rsplit('/').next() == Some(name));
    let mut findings = Vec::new();
    for used in dependencies(manifest) {
        let used = used.strip_prefix("xtfs-").unwrap_or(&used);
        if ours(used) && !allowed.contains(&used) {
            findings.push(Finding::of_file(
                path,
                format!(
                    "`{folder}` must not use `{used}`; it may use {}",
                    if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") }
                ),
            ));
        }
        if forbidden.contains(&used) {
            findings.push(Finding::of_file(path, format!("`{folder}` must not use `{used}`")));
        }
    }
    findings
}

/// Names under `[dependencies]`, `[build-dependencies]` and the same of every target; `package = "..."` wins.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let mut names = Vec::new();
    for table in tables {
        for section in ["dependencies", "build-dependencies"] {
            let Some(list) = table.get(section).and_then(toml::Value::as_table) else { continue };
            for (name, value) in list {
                let package = value.get("package").and_then(toml::Value::as_str);
                names.push(package.unwrap_or(name).to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(folder: &str, manifest: &str) -> Vec<String> {
        let table: toml::Table = manifest.parse().unwrap();
        edges(folder, Path::new("x/Cargo.toml"), &table).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn an_allowed_edge_is_none() {
        assert!(texts("mrc", "[dependencies]\nquorum.workspace = true\nbytes = \"1\"\n").is_empty());
    }

    #[test]
    fn a_service_that_uses_another_is_found() {
        let found = texts("osd", "[dependencies]\nmrc.workspace = true\n");
        assert_eq!(found, ["`osd` must not use `mrc`; it may use proto, rt"]);
    }

    #[test]
    fn nobody_uses_a_crate_in_a_deeper_folder_either() {
        assert_eq!(texts("xtfs", "[dependencies]\nxtfs-models = { path = \"../chaos/models\" }\n").len(), 1);
        assert_eq!(texts("chaos/models", "[dependencies]\nosd.workspace = true\n").len(), 0);
    }

    #[test]
    fn an_edge_hidden_behind_another_name_or_a_target_is_found() {
        assert_eq!(
            texts("proto", "[dependencies]\nx = { package = \"xtfs-rt\", path = \"../rt\" }\n").len(),
            1
        );
        assert_eq!(texts("osd", "[target.'cfg(unix)'.dependencies]\nclient.workspace = true\n").len(), 1);
        assert_eq!(texts("osd", "[build-dependencies]\nclient.workspace = true\n").len(), 1);
    }

    #[test]
    fn tests_may_use_what_they_like() {
        assert!(
            texts("client", "[dev-dependencies]\nmrc.workspace = true\nosd.workspace = true\n").is_empty()
        );
    }

    #[test]
    fn a_runtime_in_proto_is_found() {
        assert_eq!(texts("proto", "[dependencies]\ntokio = \"1\"\n"), ["`proto` must not use `tokio`"]);
    }

    #[test]
    fn a_crate_without_a_line_is_found() {
        assert!(texts("wonder", "[dependencies]\n")[0].contains("no line in the table"));
    }

    #[test]
    fn the_table_has_no_cycle() {
        fn depth(name: &str, seen: usize) -> usize {
            assert!(seen < ALLOWED.len(), "cycle through {name}");
            let uses = ALLOWED.iter().find(|(one, _)| *one == name).unwrap().1;
            uses.iter().map(|used| depth(used, seen + 1)).max().unwrap_or(seen)
        }
        for (name, _) in ALLOWED {
            depth(name, 0);
        }
    }
}
