//! Rules on the documents: the map names what is there, and what it names is there.

use std::path::{Path, PathBuf};

use crate::finding::Finding;
use crate::tree;

const MAP: &str = "ARCHITECTURE.md";
/// Longest map, lines: it is read in one go.
const MAP_LINES_MAX: usize = 400;

/// Findings on `ARCHITECTURE.md`, `docs/protocols/` and `docs/formats/`.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    let path = Path::new(MAP);
    let text = match std::fs::read_to_string(root.join(path)) {
        Ok(text) => text,
        Err(error) => return vec![Finding::of_file(path, format!("cannot be read: {error}"))],
    };
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > MAP_LINES_MAX {
        findings.push(Finding::of_file(
            path,
            format!("{lines} lines (limit {MAP_LINES_MAX}); move detail to docs/"),
        ));
    }
    for folder in tree::top_level(root) {
        if !text.contains(&format!("`{folder}/")) {
            findings.push(Finding::of_file(path, format!("does not name the folder `{folder}/`")));
        }
    }
    for (line, named) in paths_in(&text) {
        if !root.join(&named).exists() {
            findings.push(Finding::at(
                path,
                line,
                format!("names `{}`, which is not there", named.display()),
            ));
        }
    }
    for folder in ["docs/protocols", "docs/formats"] {
        for page in tree::files(&root.join(folder), "md") {
            let page = Path::new(folder).join(page);
            if !text.contains(&*page.to_string_lossy()) {
                findings.push(Finding::of_file(&page, format!("no reader finds it: name it in {MAP}")));
            }
        }
    }
    findings.extend(reasons(root, &text));
    findings.extend(formats(root));
    findings
}

/// Every crate of others in `[workspace.dependencies]` has a row in the map's table that says what for.
fn reasons(root: &Path, map: &str) -> Vec<Finding> {
    let path = Path::new("Cargo.toml");
    let manifest = std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let manifest: toml::Table = match manifest.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::of_file(path, format!("is not TOML: {error}"))],
    };
    let list = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let Some(list) = list.and_then(toml::Value::as_table) else { return Vec::new() };
    list.iter()
        .filter(|(_, value)| value.get("path").is_none())
        .filter(|(name, _)| !map.lines().any(|line| line.starts_with(&format!("| `{name}` | "))))
        .map(|(name, _)| Finding::of_file(path, format!("`{name}` has no reason in {MAP}, \"Dependencies\"")))
        .collect()
}

/// Every module that owns bytes on a disk (`format.rs`) names the page that describes them.
fn formats(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in tree::files(root, "rs").into_iter().filter(|path| path.ends_with("format.rs")) {
        let text = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
        let page = text.split_whitespace().find_map(|word| {
            let at = word.find("docs/formats/")?;
            let end = word[at..].find(".md")? + 3;
            Some(PathBuf::from(&word[at..at + end]))
        });
        match page {
            None => findings.push(Finding::of_file(
                &path,
                "bytes on a disk: name the page in docs/formats/ that lays them out",
            )),
            Some(page) if !root.join(&page).exists() => {
                findings
                    .push(Finding::of_file(&path, format!("names {}, which is not there", page.display())));
            }
            Some(_) => {}
        }
    }
    findings
}

/// What stands in backticks and reads like a path of the repository: a slash inside, no blank, no scheme, not
/// absolute. `a/{b,c}.rs` means `a/b.rs` and `a/c.rs`.
fn paths_in(text: &str) -> Vec<(usize, PathBuf)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        if in_block {
            continue;
        }
        for word in line.split('`').skip(1).step_by(2) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-/{},".contains(c);
            if word.contains('/') && !word.starts_with('/') && word.chars().all(plain) {
                found.extend(braces(word).into_iter().map(|path| (number + 1, PathBuf::from(path))));
            }
        }
    }
    found
}

fn braces(word: &str) -> Vec<String> {
    let Some((head, rest)) = word.split_once('{') else { return vec![word.to_owned()] };
    let Some((list, tail)) = rest.split_once('}') else { return vec![word.to_owned()] };
    list.split(',').flat_map(|one| braces(&format!("{head}{one}{tail}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(map: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["osd/src/store", "docs/protocols", "docs/formats", "target-ci", ".git"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("osd/src/lib.rs"), "//! Objects.\n").unwrap();
        std::fs::write(root.path().join(MAP), map).unwrap();
        root
    }

    fn texts(root: &tempfile::TempDir) -> Vec<String> {
        check(root.path()).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_map_that_fits_has_no_findings() {
        let root =
            sample("`osd/` and `docs/` are here, see `osd/src/{lib,lib}.rs`; `/dev/fuse` is not ours.\n");
        assert_eq!(texts(&root), Vec::<String>::new());
    }

    #[test]
    fn a_folder_that_the_map_forgot_is_found() {
        let root = sample("`docs/`\n");
        assert_eq!(texts(&root), ["ARCHITECTURE.md: does not name the folder `osd/`"]);
    }

    #[test]
    fn a_path_that_is_not_there_is_found_with_its_line() {
        let root = sample("`osd/` `docs/`\n\n`osd/src/{lib,gone}.rs`\n");
        assert_eq!(texts(&root), ["ARCHITECTURE.md:3: names `osd/src/gone.rs`, which is not there"]);
    }

    #[test]
    fn a_page_that_nobody_names_is_found() {
        let root = sample("`osd/` `docs/`\n");
        std::fs::write(root.path().join("docs/protocols/lease.md"), "# Lease\n").unwrap();
        assert!(texts(&root)[0].contains("no reader finds it"));
    }

    #[test]
    fn bytes_on_a_disk_without_their_page_are_found() {
        let root = sample("`osd/` `docs/` `docs/formats/osd.md`\n");
        std::fs::write(root.path().join("docs/formats/osd.md"), "# Bytes\n").unwrap();
        let format = root.path().join("osd/src/store/format.rs");
        std::fs::write(&format, "//! Bytes.\n").unwrap();
        assert!(texts(&root)[0].contains("name the page"));
        std::fs::write(&format, "//! Bytes: docs/formats/none.md.\n").unwrap();
        assert!(texts(&root)[0].contains("not there"));
        std::fs::write(&format, "//! Bytes: `docs/formats/osd.md`.\n").unwrap();
        assert_eq!(texts(&root), Vec::<String>::new());
    }

    #[test]
    fn a_crate_without_a_reason_is_found() {
        let root = sample("`osd/` `docs/`\n| `bytes` | data without copies |\nand `serde`\n");
        let manifest = "[workspace.dependencies]\nbytes = \"1\"\nserde = { version = \"1\" }\nosd = { path = \"osd\" }\n";
        std::fs::write(root.path().join("Cargo.toml"), manifest).unwrap();
        assert_eq!(texts(&root), ["Cargo.toml: `serde` has no reason in ARCHITECTURE.md, \"Dependencies\""]);
    }

    #[test]
    fn a_map_nobody_reads_in_one_go_is_found() {
        let root = sample(&format!("`osd/` `docs/`\n{}", "line\n".repeat(MAP_LINES_MAX)));
        assert!(texts(&root)[0].contains("401 lines"));
    }

    #[test]
    fn no_map_is_found() {
        let root = tempfile::tempdir().unwrap();
        assert!(texts(&root)[0].contains("cannot be read"));
    }
}
