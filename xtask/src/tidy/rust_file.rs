//! Rules on one Rust file.

use std::path::{Component, Path};

use crate::code;
use crate::finding::Finding;

/// Longest file, lines.
const LINES_MAX: usize = 700;

/// Names that say nothing about what is inside.
const DRAWERS: [&str; 9] =
    ["mod.rs", "utils", "util", "helpers", "helper", "common", "misc", "stuff", "shared"];

/// Every broken rule of a file. `path` is relative to the repository.
pub(crate) fn check(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    named(path, &mut findings);
    documented(path, text, &mut findings);
    short(path, text, &mut findings);
    finished(path, text, &mut findings);
    bounded(path, text, &mut findings);
    if is_engine(path) {
        pure(path, text, &mut findings);
    }
    findings
}

fn named(path: &Path, findings: &mut Vec<Finding>) {
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        let name = name.to_string_lossy();
        let stem = name.strip_suffix(".rs").unwrap_or(&name);
        if DRAWERS.contains(&&*name) || DRAWERS.contains(&stem) {
            findings.push(Finding::of_file(
                path,
                format!("`{name}` names a drawer, not a thing; name the file after what it is about"),
            ));
        }
    }
}

fn documented(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    let is_preamble = |line: &str| {
        let plain_comment = line.starts_with("//") && !line.starts_with("//!");
        line.is_empty() || line.starts_with("#!") || plain_comment
    };
    let first = text.lines().find(|line| !is_preamble(line.trim()));
    if !first.is_some_and(|line| line.starts_with("//!") && line.trim().len() > 4) {
        findings.push(Finding::at(path, 1, "no `//!` line: say what the file is about and what it is not"));
    }
}

fn short(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    let lines = text.lines().count();
    // Messages of one service stay together: the list is read as a table.
    let limit = if path.starts_with("proto/src") { 1000 } else { LINES_MAX };
    if lines > limit {
        findings.push(Finding::of_file(path, format!("{lines} lines (limit {limit}); split it by noun")));
    }
}

fn finished(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    let code = code::only(text);
    for word in ["todo!", "unimplemented!", "dbg!"] {
        for line in code::lines_with(&code, word) {
            findings.push(Finding::at(path, line, format!("`{word}`: only finished code is kept")));
        }
    }
}

fn bounded(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    let code = code::without_tests(text);
    let words = ["unbounded_channel", "unbounded", "UnboundedSender", "UnboundedReceiver"];
    let mut lines: Vec<usize> = words.iter().flat_map(|word| code::lines_with(&code, word)).collect();
    if !is_test(path) {
        lines.extend(code::lines_with(&code, "mpsc::channel()"));
    }
    lines.sort_unstable();
    lines.dedup();
    for line in lines {
        findings.push(Finding::at(path, line, "unbounded queue: every queue has a bound in proto::limits"));
    }
}

fn pure(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    // Of what it runs on an engine may name this macro alone: it counts, and gives nothing back that an engine could see.
    let code = code::without_tests(text).replace("rt::site!(", "site!(");
    for (word, why) in [
        ("async", "an engine is called and returns; waiting belongs to the driver"),
        (".await", "an engine is called and returns; waiting belongs to the driver"),
        ("rt::", "an engine knows nothing of what it runs on"),
        ("tokio::", "an engine knows nothing of what it runs on"),
    ] {
        for line in code::lines_with(&code, word) {
            findings.push(Finding::at(path, line, format!("`{word}` in an engine: {why}")));
        }
    }
    let lint = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";
    if path.ends_with("src/engine.rs") && !text.contains(lint) {
        findings.push(Finding::at(path, 1, format!("an engine starts with `{lint}`")));
    }
}

/// `<crate>/src/engine.rs` and everything in `<crate>/src/engine/` but its tests.
fn is_engine(path: &Path) -> bool {
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let inside = parts.get(1).is_some_and(|part| part == "src")
        && parts.get(2).is_some_and(|part| part == "engine.rs" || part == "engine");
    inside && !is_test(path)
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.ends_with("_test.rs")
        || name == "tests.rs"
        || path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str, text: &str) -> Vec<String> {
        check(Path::new(path), text).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_clean_file_has_no_findings() {
        assert_eq!(texts("osd/src/store.rs", "//! Objects.\nfn a() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn drawers_are_found_as_file_and_as_folder() {
        for path in
            ["osd/src/utils.rs", "osd/src/store/mod.rs", "osd/src/common/x.rs", "osd/tests/helpers.rs"]
        {
            assert!(texts(path, "//! Objects.\n").iter().any(|text| text.contains("drawer")), "{path}");
        }
    }

    #[test]
    fn a_file_without_a_word_on_itself_is_found() {
        assert!(texts("a/src/b.rs", "fn a() {}\n//! late\n")[0].contains("no `//!`"));
        assert!(texts("a/src/b.rs", "//!\nfn a() {}\n")[0].contains("no `//!`"));
        assert!(texts("a/src/b.rs", "#![no_main]\n//! Fuzzing.\n").is_empty());
    }

    #[test]
    fn a_long_file_is_found() {
        let text = format!("//! Long.\n{}", "// line\n".repeat(LINES_MAX));
        assert!(texts("a/src/b.rs", &text)[0].contains("701 lines"));
    }

    #[test]
    fn unfinished_code_is_found_and_prose_about_it_is_not() {
        let text = "//! No todo!() here.\nfn a() {\n    todo!()\n}\nfn b() { dbg!(\"unimplemented!()\"); }\n";
        assert_eq!(
            texts("a/src/b.rs", text),
            [
                "a/src/b.rs:3: `todo!`: only finished code is kept",
                "a/src/b.rs:5: `dbg!`: only finished code is kept"
            ]
        );
    }

    #[test]
    fn queues_without_a_bound_are_found() {
        let text = "//! Queue.\nfn a() { tokio::sync::mpsc::unbounded_channel::<u8>(); }\nfn b() { mpsc::channel(); mpsc::channel(9); }\n";
        let found = texts("a/src/b.rs", text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(texts("a/tests/b.rs", "//! T.\nfn b() { mpsc::channel(); }\n").is_empty());
    }

    #[test]
    fn an_engine_that_waits_or_knows_the_runtime_is_found() {
        let lint = "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]";
        let text = format!(
            "//! Decides.\n{lint}\nasync fn a() {{ b().await; rt::clock::now(); }}\n#[cfg(test)]\nmod tests {{ async fn x() {{}} }}\n"
        );
        assert_eq!(texts("osd/src/engine.rs", &text).len(), 3);
        assert_eq!(texts("osd/src/engine/lease.rs", &text).len(), 3);
        assert!(texts("osd/src/driver.rs", &text).is_empty());
        assert!(texts("osd/src/engine/lease_test.rs", &text).is_empty());
    }

    #[test]
    fn an_engine_may_count_where_it_came_by_and_nothing_beside() {
        let found =
            |line: &str| texts("osd/src/engine/lease.rs", &format!("//! Decides.\nfn a() {{ {line} }}\n"));
        assert!(found("rt::site!(\"lease.late\", late);").is_empty());
        assert_eq!(found("rt::site!(\"lease.late\", rt::clock::late());").len(), 1);
        assert_eq!(found("rt::site::all();").len(), 1);
    }

    #[test]
    fn an_engine_without_the_lints_is_found() {
        assert!(texts("osd/src/engine.rs", "//! Decides.\n")[0].contains("disallowed_methods"));
        assert!(texts("osd/src/engine/lease.rs", "//! Leases.\n").is_empty());
    }
}
