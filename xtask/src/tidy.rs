//! Rules that no compiler knows: on Rust files ([`rust_file`]) and on the map of the project ([`map`]).

mod map;
mod rust_file;

use std::path::Path;

use crate::finding::Finding;
use crate::tree;

/// Every finding in the repository.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in tree::files(root, "rs") {
        match std::fs::read_to_string(root.join(&path)) {
            Ok(text) => findings.extend(rust_file::check(&path, &text)),
            Err(error) => findings.push(Finding::of_file(&path, format!("cannot be read: {error}"))),
        }
    }
    findings.extend(map::check(root));
    findings
}
