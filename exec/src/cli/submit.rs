//! `xtfs job submit`.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use super::{CliError, Submit, put};
use crate::spec::DESCRIPTOR_BYTES_MAX;
use crate::spool::{NameClass, classify, split_name};

const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn submit(spool: &Path, what: &Submit, json: bool, out: &mut dyn Write) -> Result<i32, CliError> {
    let deadline = Instant::now() + what.timeout.unwrap_or(TIMEOUT);
    let (name, bytes) = descriptor(what)?;
    let home = own_spool(spool, deadline)?;
    let (dropped, ino) = drop_into(&home, &name, &bytes)?;
    if what.no_wait {
        let path = home.join("new").join(&dropped);
        let text =
            if json { format!("{}\n", json!({ "path": path })) } else { format!("{}\n", path.display()) };
        put(out, &text)?;
        return Ok(0);
    }
    print_id(&home, &dropped, ino, deadline, json, out)
}

/// Submits the descriptor of an ended job again.
pub(super) fn requeue(spool: &Path, id: &str, json: bool, out: &mut dyn Write) -> Result<i32, CliError> {
    let place = super::find::find(spool, id)?;
    let name = place.file(&place.records());
    let ended = ["failed", "done"].iter().map(|d| place.home.join(d).join(format!("{name}~{}", place.id)));
    let Some(from) = ended.into_iter().find(|path| path.symlink_metadata().is_ok()) else {
        return Err(CliError::new(format!("requeue {id}: it has not ended, or its descriptor is gone")));
    };
    let ino = from.symlink_metadata().map_err(|e| CliError::io("looking at", &from, &e))?.ino();
    let dropped = rename_into(&place.home, &from, &name)?;
    let deadline = Instant::now() + TIMEOUT;
    // The result of the first run stays; the descriptor is the new job's.
    print_id(&place.home, &dropped, ino, deadline, json, out)
}

/// Waits for the claim and prints the job's id.
fn print_id(
    home: &Path,
    dropped: &str,
    ino: u64,
    deadline: Instant,
    json: bool,
    out: &mut dyn Write,
) -> Result<i32, CliError> {
    loop {
        if let Some(id) = claimed(home, dropped, ino) {
            let text = if json { format!("{}\n", json!({ "id": id })) } else { format!("{id}\n") };
            put(out, &text)?;
            return Ok(0);
        }
        if let Some(errors) = rejected(home, dropped, ino) {
            return Err(CliError::new(errors));
        }
        if Instant::now() > deadline {
            let path = home.join("new").join(dropped);
            let text = format!(
                "{} was dropped but not claimed in time: is exec running (xtfs ps)? It is claimed when exec comes back; \
                 remove the file to withdraw it",
                path.display()
            );
            return Err(CliError::late(text));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Name and contents of the descriptor.
fn descriptor(what: &Submit) -> Result<(String, Vec<u8>), CliError> {
    match (&what.file, what.command.as_slice()) {
        (Some(_), [_, ..]) => Err(CliError::new("give either a file or a command, not both")),
        (None, []) => Err(CliError::new("nothing to submit: give a file, or -- and a command")),
        (Some(file), []) => {
            let mut bytes = Vec::new();
            let name = if file.as_os_str() == "-" {
                let read = std::io::stdin().take(DESCRIPTOR_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
                read.map_err(|e| CliError::new(format!("reading standard input: {e}")))?;
                "stdin".to_string()
            } else {
                bytes = std::fs::read(file).map_err(|e| CliError::io("reading", file, &e))?;
                file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
            };
            if what.name.is_some() {
                return Err(CliError::new("--name goes with a command; in a file write name = \"...\""));
            }
            Ok((sound_name(&name), bytes))
        }
        (None, command) => Ok(of_command(command, what.name.as_deref())),
    }
}

/// The descriptor of a command typed at a shell: the caller's directory and search path come along.
fn of_command(command: &[String], name: Option<&str>) -> (String, Vec<u8>) {
    // What was typed is meant as it stands, braces included.
    let plain = |text: &str| text.replace('{', "{{").replace('}', "}}");
    let base = command[0].rsplit('/').next().unwrap_or("job");
    let mut job = json!({
        "exec": plain(&command[0]),
        "args": command[1..].iter().map(|a| plain(a)).collect::<Vec<_>>(),
        "name": name.unwrap_or(base),
    });
    if let Ok(cwd) = std::env::current_dir() {
        job["cwd"] = plain(&cwd.to_string_lossy()).into();
    }
    if let Ok(path) = std::env::var("PATH") {
        job["env"] = json!({ "PATH": path });
    }
    (sound_name(&format!("{}.json", name.unwrap_or(base))), format!("{job:#}\n").into_bytes())
}

/// A name that the spool accepts.
fn sound_name(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '_' };
    let mut out: String = name.chars().map(kept).take(100).collect();
    if !out.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        out.insert(0, 'x');
    }
    if classify(&out) != NameClass::Accepted {
        out.push_str(".job0");
    }
    // A regular file of that name would be taken for a bundle's.
    out.strip_suffix(".job").map(|s| format!("{s}.toml")).unwrap_or(out)
}

/// The caller's spool; made, and then filled by exec, if there is none.
fn own_spool(spool: &Path, deadline: Instant) -> Result<std::path::PathBuf, CliError> {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    let user = user.ok_or_else(|| CliError::new(format!("this host knows no user with uid {uid}")))?;
    let home = spool.join(&user.name);
    if !home.is_dir() {
        use std::os::unix::fs::DirBuilderExt;
        match std::fs::DirBuilder::new().mode(0o700).create(&home) {
            // exec makes it too, perhaps at this moment.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.map_err(|e| CliError::io("making your spool", &home, &e))?,
        }
    }
    while !home.join("new").is_dir() || !home.join("tmp").is_dir() {
        if Instant::now() > deadline {
            let text = format!("{} was not set up in time: is exec running? (xtfs ps)", home.display());
            return Err(CliError::late(text));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(home)
}

/// Writes below `tmp/` and renames into `new/`; gives the name there and the file's inode.
fn drop_into(home: &Path, name: &str, bytes: &[u8]) -> Result<(String, u64), CliError> {
    let temporary = home.join("tmp").join(format!("{name}.{}", std::process::id()));
    let written = std::fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(file.metadata()?.ino())
    });
    let ino = written.map_err(|e| CliError::io("writing", &temporary, &e))?;
    let dropped = rename_into(home, &temporary, name);
    if dropped.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    Ok((dropped?, ino))
}

/// Renames into `new/` under that name, or one like it that is free.
fn rename_into(home: &Path, from: &Path, name: &str) -> Result<String, CliError> {
    let (stem, ending) = match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    };
    for n in 0..10_000 {
        let candidate = if n == 0 { name.to_string() } else { format!("{stem}-{n}{ending}") };
        let target = home.join("new").join(&candidate);
        match renameat2(AT_FDCWD, from, AT_FDCWD, &target, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(CliError::new(format!("moving to {}: {error}", target.display()))),
        }
    }
    Err(CliError::new(format!("too many descriptors named {name} wait in new/")))
}

/// The job that the dropped file became: renames keep its inode. Its directory comes a moment after the claim, and before that no
/// other command finds the job.
fn claimed(home: &Path, name: &str, ino: u64) -> Option<String> {
    for dir in ["run", "hold", "done", "failed"] {
        for entry in std::fs::read_dir(home.join(dir)).ok()?.flatten() {
            let full = entry.file_name().to_string_lossy().into_owned();
            if let Some((file, id)) = split_name(&full)
                && file == name
                && entry.metadata().is_ok_and(|m| m.ino() == ino)
                && home.join("jobs").join(id.as_str()).is_dir()
            {
                return Some(id.to_string());
            }
        }
    }
    None
}

/// The errors, if the dropped file was rejected.
fn rejected(home: &Path, name: &str, ino: u64) -> Option<String> {
    for entry in std::fs::read_dir(home.join("rejected")).ok()?.flatten() {
        let full = entry.file_name().to_string_lossy().into_owned();
        let number = full.strip_prefix(name).and_then(|rest| rest.strip_prefix('~'));
        if number.is_some_and(|n| n.parse::<u64>().is_ok()) && entry.metadata().is_ok_and(|m| m.ino() == ino)
        {
            let errors = std::fs::read_to_string(home.join("rejected").join(format!("{full}.error")));
            return Some(
                errors.unwrap_or_else(|_| format!("rejected: see {}/rejected/{full}.error", home.display())),
            );
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_when_other_commands_find_it() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        for dir in ["run", "hold", "done", "failed", "jobs"] {
            std::fs::create_dir(home.join(dir)).unwrap();
        }
        let id = "j-0001xs1yttgbjb00";
        let file = home.join("run").join(format!("a.json~{id}"));
        std::fs::write(&file, "{}").unwrap();
        let ino = file.metadata().unwrap().ino();
        assert_eq!(claimed(home, "a.json", ino), None, "claimed, and not a job yet");
        std::fs::create_dir(home.join("jobs").join(id)).unwrap();
        assert_eq!(claimed(home, "a.json", ino).as_deref(), Some(id));
        assert_eq!(claimed(home, "a.json", ino + 1), None, "another file of that name");
    }
}
