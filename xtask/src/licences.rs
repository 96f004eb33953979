//! Licences of everything that is linked: `cargo deny` where it is installed, else read from `cargo metadata`.

mod expression;

use std::path::Path;
use std::process::{Command, Stdio};

/// What may be linked into a binary that is given away under MIT or Apache-2.0: no copyleft.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Packages allowed in spite of their licence: (name, licence, reason).
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "bitmaps",
    "MPL-2.0+",
    "comes with glommio, which the owner asked for; MPL-2.0 binds changes of its own files, and we change none",
)];

/// Fails when a dependency's licence is not among the allowed ones.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let deny = Command::new("cargo")
        .args(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if deny.is_ok_and(|status| status.success()) {
        let status = Command::new("cargo")
            .args(["deny", "check", "licenses", "bans", "sources"])
            .current_dir(root)
            .status();
        return match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err("licences: cargo deny found something, see above".to_owned()),
        };
    }
    // Without the filter cargo would fetch what only other systems use.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("licences: cargo metadata does not run: {error}"))?;
    if !output.status.success() {
        return Err("licences: cargo metadata failed, see above".to_owned());
    }
    let refused = refused(&output.stdout)?;
    for line in &refused {
        eprintln!("{line}");
    }
    match refused.len() {
        0 => Ok(()),
        count => Err(format!("licences: {count} package(s) refused; the list is in xtask/src/licences.rs")),
    }
}

/// One line for each package of the metadata that must not be used.
fn refused(metadata: &[u8]) -> Result<Vec<String>, String> {
    let metadata: serde_json::Value = serde_json::from_slice(metadata)
        .map_err(|error| format!("licences: cargo metadata is not JSON: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("licences: cargo metadata names no packages")?;
    let mut lines = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or("?");
        let version = package["version"].as_str().unwrap_or("?");
        let licence = package["license"].as_str().filter(|text| !text.is_empty());
        if EXCEPTIONS.iter().any(|(one, its, _)| *one == name && Some(*its) == licence) {
            continue;
        }
        match licence {
            None => lines.push(format!("{name} {version}: states no licence")),
            Some(text) => match expression::permits(text, ALLOWED) {
                Ok(true) => {}
                Ok(false) => lines.push(format!("{name} {version}: `{text}` is not allowed")),
                Err(error) => lines.push(format!("{name} {version}: `{text}`: {error}")),
            },
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copyleft_and_silence_are_refused_and_a_choice_is_taken() {
        let metadata = br#"{"packages": [
            {"name": "a", "version": "1.0.0", "license": "MIT OR Apache-2.0"},
            {"name": "b", "version": "1.0.0", "license": "GPL-3.0-only"},
            {"name": "c", "version": "1.0.0", "license": "GPL-2.0 OR MIT"},
            {"name": "d", "version": "1.0.0", "license": null},
            {"name": "e", "version": "1.0.0", "license": "MIT AND LGPL-2.1"},
            {"name": "bitmaps", "version": "3.2.1", "license": "MPL-2.0+"},
            {"name": "bitmaps", "version": "4.0.0", "license": "AGPL-3.0"}
        ]}"#;
        assert_eq!(
            refused(metadata).unwrap(),
            [
                "b 1.0.0: `GPL-3.0-only` is not allowed",
                "d 1.0.0: states no licence",
                "e 1.0.0: `MIT AND LGPL-2.1` is not allowed",
                "bitmaps 4.0.0: `AGPL-3.0` is not allowed"
            ]
        );
    }
}
