//! Places where tests kill the process: `XTFS_FAILPOINT=name` ends it there as by `kill -9`, once if
//! `XTFS_FAILPOINT_ONCE` names a file (it is made, and a process that finds it goes on).

/// Ends the process if this is the place.
pub(crate) fn reach(name: &str) {
    let Some(wanted) = std::env::var_os("XTFS_FAILPOINT") else { return };
    if wanted != name {
        return;
    }
    if let Some(once) = std::env::var_os("XTFS_FAILPOINT_ONCE")
        && std::fs::OpenOptions::new().write(true).create_new(true).open(once).is_err()
    {
        return;
    }
    // SAFETY: sends a signal to this very process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}
