//! Real processes on a local directory that stands for two mounts: nothing may be reported.

use std::process::Command;

/// Runs the workload and gives what it printed, or panics with it.
fn clean(classes: &str, more: &[&str]) -> String {
    let place = tempfile::tempdir().expect("a temporary directory");
    let mounts = format!("{0},{0}", place.path().display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_posix-checker"));
    command.args(["run", "--mounts", &mounts, "--classes", classes, "--seconds", "30"]).args(more);
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{classes}: {text}{errors}");
    text
}

#[test]
fn a_local_directory_is_never_blamed() {
    let text = clean("names,cells,sizes,grow,append,locks", &["--ops", "6000", "--seed", "3"]);
    assert!(text.contains(" 0 violations"), "{text}");
}

#[test]
fn two_directories_that_are_not_one_file_system_cannot_be_run() {
    let (one, other) = (tempfile::tempdir().expect("a temporary directory"), tempfile::tempdir().unwrap());
    let mounts = format!("{},{}", one.path().display(), other.path().display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_posix-checker"));
    let output =
        command.args(["run", "--mounts", &mounts, "--ops", "100", "--seconds", "5"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("made before by another worker"), "{errors}");
}
