//! The launcher's socket: one JSON line asked, one answered, a descriptor beside the answer where there is one.

use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::supervisor::Supervisor;
use crate::failure::Failure;

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Start a service.
    Start { name: String },
    /// Stop a service.
    Stop { name: String },
    /// Stop a service and start it again.
    Restart { name: String },
    /// Make another DIR or MRC member, or OSD, without starting it.
    AddMember { role: String },
    /// Stop a DIR or MRC member that left its group, or an OSD that is out, and forget it.
    Forget { name: String },
    /// The mount's FUSE descriptor and what the last mount process told of it.
    Fuse,
    /// The mount process has negotiated with the kernel; a successor needs this text.
    FuseState { state: String },
}

/// Longest answer.
const ANSWER_BYTES: usize = 64 << 10;
/// A start waits for the service, a stop for at most its patience.
const ANSWER_TIME: Duration = Duration::from_secs(40);

/// A socket path of at most 107 bytes for any path: through a descriptor of its directory.
struct Short {
    _dir: std::fs::File,
    path: PathBuf,
}

fn short(path: &Path) -> std::io::Result<Short> {
    let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    let dir = std::fs::File::open(parent)?;
    let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok(Short { _dir: dir, path })
}

/// Answers until the process ends.
pub(crate) fn listen(supervisor: &Arc<Supervisor>) -> Result<(), Failure> {
    let path = supervisor.home().launcher();
    let bind = || -> std::io::Result<UnixListener> {
        // Whoever bound it before is gone: this process holds the instance's lock.
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(short(&path)?.path)
    };
    let listener = bind().map_err(|error| Failure::new(format!("listening on {}", path.display()), error))?;
    let supervisor = supervisor.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let supervisor = supervisor.clone();
            std::thread::spawn(move || {
                if let Err(error) = answer(&supervisor, stream) {
                    tracing::debug!(%error, "a control connection broke");
                }
            });
        }
    });
    Ok(())
}

fn answer(supervisor: &Arc<Supervisor>, mut stream: UnixStream) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let (reply, descriptor) = match serde_json::from_str(&line) {
        Ok(request) => handle(supervisor, request).unwrap_or_else(|failure| (failure.to_json(), None)),
        Err(error) => (Failure::new("a control request", error).to_json(), None),
    };
    let text = format!("{reply}\n");
    let Some(descriptor) = descriptor else { return stream.write_all(text.as_bytes()) };
    let descriptors: [RawFd; 1] = [descriptor.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let bytes = [IoSlice::new(text.as_bytes())];
    sendmsg::<()>(stream.as_raw_fd(), &bytes, &control, MsgFlags::empty(), None)?;
    Ok(())
}

fn handle(supervisor: &Arc<Supervisor>, request: Request) -> Result<(Value, Option<OwnedFd>), Failure> {
    match request {
        Request::Start { name } => {
            let process = supervisor.start(&name)?;
            Ok((json!({"name": name, "pid": process.pid}), None))
        }
        Request::Stop { name } => {
            supervisor.stop(&name)?;
            Ok((json!({"name": name, "pid": null}), None))
        }
        Request::Restart { name } => {
            let process = supervisor.restart(&name)?;
            Ok((json!({"name": name, "pid": process.pid}), None))
        }
        Request::AddMember { role } => {
            let service = supervisor.add_member(&role)?;
            Ok((json!({"name": service.name, "addr": service.addr}), None))
        }
        Request::Forget { name } => {
            supervisor.forget(&name)?;
            Ok((json!({"name": name}), None))
        }
        Request::Fuse => {
            let fuse = supervisor.fuse().lock();
            let mount =
                fuse.as_ref().ok_or_else(|| Failure::new("the mount's descriptor", "nothing is mounted"))?;
            let descriptor = mount.descriptor.as_fd().try_clone_to_owned();
            let descriptor = descriptor.map_err(|error| Failure::new("the mount's descriptor", error))?;
            Ok((json!({"state": mount.state}), Some(descriptor)))
        }
        Request::FuseState { state } => {
            if let Some(mount) = supervisor.fuse().lock().as_mut() {
                mount.state = Some(state);
            }
            Ok((json!({}), None))
        }
    }
}

/// Asks the launcher. `None` when there is none.
pub(crate) fn ask(socket: &Path, request: &Request) -> Option<Result<(Value, Option<OwnedFd>), Failure>> {
    let stream = short(socket).and_then(|short| UnixStream::connect(short.path)).ok()?;
    let asked = exchange(stream, request);
    Some(match asked {
        Err(error) => Err(Failure::unreachable("asking the launcher", error).next("xtfs ps")),
        Ok((value, descriptor)) => match Failure::from_json(&value) {
            Some(failure) => Err(failure),
            None => Ok((value, descriptor)),
        },
    })
}

fn exchange(mut stream: UnixStream, request: &Request) -> std::io::Result<(Value, Option<OwnedFd>)> {
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    let mut buffer = vec![0; ANSWER_BYTES];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut descriptor = None;
    let mut text = Vec::new();
    loop {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                // SAFETY: the kernel has just given these descriptors to this process; nobody else owns them.
                descriptor = descriptors.first().map(|raw| unsafe { OwnedFd::from_raw_fd(*raw) });
            }
        }
        let bytes = message.bytes;
        text.extend_from_slice(&buffer[..bytes]);
        if bytes == 0 || text.ends_with(b"\n") {
            return Ok((serde_json::from_slice(&text)?, descriptor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{Home, plan};

    #[test]
    fn a_launcher_answers_at_any_path_length_and_a_missing_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        let mut home = Home::at(&deep).unwrap();
        home.prepare().unwrap();
        assert!(ask(&home.launcher(), &Request::Fuse).is_none());
        let instance = plan::plan(None, &plan::Wish::default(), &home).unwrap();
        let supervisor = Supervisor::new(home.clone(), instance);
        listen(&supervisor).unwrap();
        let why = ask(&home.launcher(), &Request::Fuse).unwrap().unwrap_err().to_string();
        assert!(why.contains("nothing is mounted"), "{why}");
        let why = ask(&home.launcher(), &Request::Start { name: "osd-9".into() }).unwrap().unwrap_err();
        assert_eq!(why.status, 2);
        *supervisor.fuse().lock() =
            Some(super::super::fuse::FuseMount { descriptor: dir_fd(&deep), state: Some("s".into()) });
        let (value, descriptor) = ask(&home.launcher(), &Request::Fuse).unwrap().unwrap();
        assert_eq!(value, json!({"state": "s"}));
        assert!(descriptor.is_some());
        ask(&home.launcher(), &Request::FuseState { state: "t".into() }).unwrap().unwrap();
        assert_eq!(ask(&home.launcher(), &Request::Fuse).unwrap().unwrap().0, json!({"state": "t"}));
    }

    fn dir_fd(path: &Path) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }
}
