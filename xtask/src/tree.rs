//! The files of the repository that are ours.

use std::path::{Path, PathBuf};

/// Folders at the root that belong to the repository, ascending: neither hidden nor ignored by git.
pub(crate) fn top_level(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = entries(root)
        .into_iter()
        .filter(|path| path.is_dir())
        .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .filter(|name| !is_foreign(name))
        .collect();
    names.sort();
    names
}

/// Every file below `root` with this extension, relative to it, ascending.
pub(crate) fn files(root: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() {
                if !is_foreign(&name) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|end| end == extension) {
                found.push(path.strip_prefix(root).unwrap_or(&path).to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Hidden folders, build output and the data of `make up`.
fn is_foreign(name: &str) -> bool {
    name.starts_with('.') || name.starts_with("target") || name == "xtfs-data" || name == "corpus"
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    // A folder that vanished while we look is not there.
    std::fs::read_dir(folder)
        .map(|list| list.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect())
        .unwrap_or_default()
}
