//! The processes of a running `--separate` instance.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::Mutex;

use super::fuse::FuseMount;
use super::spawn;
use crate::failure::Failure;
use crate::instance::process::Process;
use crate::instance::{Home, Instance, Service, plan};
use crate::mounts;

/// How long a service may take to stop before it is killed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a killed process may take to vanish.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Supervisor {
    home: Home,
    /// Members may come and go. order: never held while another lock is taken.
    instance: Mutex<Instance>,
    /// Services whose end was asked for: it is no news. order: never held while another lock is taken.
    stopping: Mutex<BTreeSet<String>>,
    /// One start or stop at a time. order: before `stopping` and `fuse`.
    turn: Mutex<()>,
    /// The mount's descriptor. order: never held while another lock is taken.
    fuse: Mutex<Option<FuseMount>>,
}

impl Supervisor {
    pub(crate) fn new(home: Home, instance: Instance) -> Arc<Self> {
        Arc::new(Self {
            home,
            instance: Mutex::new(instance),
            stopping: Mutex::default(),
            turn: Mutex::default(),
            fuse: Mutex::default(),
        })
    }

    /// As it is now.
    pub(crate) fn instance(&self) -> Instance {
        self.instance.lock().clone()
    }

    fn service(&self, name: &str) -> Result<Service, Failure> {
        self.instance.lock().service(name).cloned()
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The mount's descriptor, for the mount process.
    pub(crate) fn fuse(&self) -> &Mutex<Option<FuseMount>> {
        &self.fuse
    }

    /// Starts a service's process and watches for its end.
    pub(crate) fn spawn(self: &Arc<Self>, name: &str) -> Result<(), Failure> {
        let instance = self.instance();
        let service = instance.service(name)?;
        if service.role == "mount" && self.fuse.lock().is_none() {
            *self.fuse.lock() = Some(FuseMount::new(&instance)?);
        }
        self.stopping.lock().remove(name);
        let mut child = spawn::spawn(&self.home, &instance, service, None)?;
        let this = self.clone();
        let name = name.to_owned();
        std::thread::spawn(move || {
            let pid = child.id();
            let status = child.wait();
            if this.stopping.lock().contains(&name) {
                return;
            }
            let how = match status {
                Ok(status) => match (status.signal(), status.code()) {
                    (Some(signal), _) => format!("was killed by signal {signal}"),
                    (None, code) => format!("ended with status {}", code.unwrap_or(-1)),
                },
                Err(error) => format!("was lost: {error}"),
            };
            eprintln!("xtfs: {name} (pid {pid}) {how}; `xtfs start {name}` starts it again");
        });
        Ok(())
    }

    /// Waits until a service answers.
    pub(crate) fn wait_ready(&self, service: &Service) -> Result<Process, Failure> {
        spawn::wait_ready(&self.home, service)
    }

    /// `xtfs start`.
    pub(crate) fn start(self: &Arc<Self>, name: &str) -> Result<Process, Failure> {
        let _turn = self.turn.lock();
        self.start_in_turn(name)
    }

    fn start_in_turn(self: &Arc<Self>, name: &str) -> Result<Process, Failure> {
        let service = self.service(name)?;
        // One that was killed a moment ago may still be on its way out.
        if let Some(process) =
            Process::recorded(&self.home.pid(name)).filter(|process| !process.wait(LAST_BREATH))
        {
            return Err(Failure::new(
                format!("starting {name}"),
                format!("it runs already (pid {})", process.pid),
            ));
        }
        self.spawn(name)?;
        self.wait_ready(&service)
    }

    /// `xtfs stop`.
    pub(crate) fn stop(&self, name: &str) -> Result<(), Failure> {
        let _turn = self.turn.lock();
        let service = self.service(name)?;
        self.stopping.lock().insert(name.to_owned());
        self.let_go(&service)?;
        self.end(name);
        Ok(())
    }

    /// `xtfs restart`: a mount stays mounted, its next process goes on where this one is.
    pub(crate) fn restart(self: &Arc<Self>, name: &str) -> Result<Process, Failure> {
        let _turn = self.turn.lock();
        self.service(name)?;
        self.stopping.lock().insert(name.to_owned());
        self.end(name);
        self.start_in_turn(name)
    }

    fn end(&self, name: &str) {
        if let Some(process) = Process::recorded(&self.home.pid(name)) {
            process.end(name, PATIENCE);
        }
    }

    /// One more member of the DIR or the MRC group, or one more OSD; it is not started yet.
    pub(crate) fn add_member(&self, role: &str) -> Result<Service, Failure> {
        let _turn = self.turn.lock();
        let mut instance = self.instance();
        let service = plan::add_member(&mut instance, role, &self.home)?;
        self.home.write(&instance)?;
        *self.instance.lock() = instance;
        Ok(service)
    }

    /// A member that left its group, or an OSD that was taken out: its process is stopped, and the instance does without it. What
    /// it kept stays.
    pub(crate) fn forget(&self, name: &str) -> Result<(), Failure> {
        let _turn = self.turn.lock();
        let mut instance = self.instance();
        let role = instance.service(name)?.role.clone();
        if !matches!(role.as_str(), "dir" | "mrc" | "osd") || instance.of_role(&role).count() < 2 {
            return Err(Failure::new(
                format!("letting go of {name}"),
                "only members of a DIR or MRC group and OSDs may go, and not the last one",
            ));
        }
        self.stopping.lock().insert(name.to_owned());
        self.end(name);
        instance.services.retain(|service| service.name != name);
        self.home.write(&instance)?;
        *self.instance.lock() = instance;
        Ok(())
    }

    /// Unmounts before the mount process ends: what the kernel still holds is written.
    fn let_go(&self, service: &Service) -> Result<(), Failure> {
        if service.role == "mount" {
            let mount = self.instance.lock().mount.clone();
            mounts::unmount(&mount)?;
            *self.fuse.lock() = None;
        }
        Ok(())
    }

    /// Stops everything in reverse order.
    pub(crate) fn stop_all(&self) {
        let _turn = self.turn.lock();
        let instance = self.instance();
        self.stopping.lock().extend(instance.services.iter().map(|service| service.name.clone()));
        stop_processes(&self.home, &instance);
        *self.fuse.lock() = None;
        let _ = std::fs::remove_file(self.home.launcher());
    }
}

/// Stops what runs of a `--separate` instance: jobs, mount, OSDs, MRCs, DIRs. Also used when the launcher is gone.
pub(crate) fn stop_processes(home: &Home, instance: &Instance) {
    for role in ["exec", "mount", "rms", "osd", "mrc", "dir"] {
        if role == "mount"
            && let Err(failure) = mounts::unmount(&instance.mount)
        {
            eprintln!("xtfs: {failure}");
        }
        let running: Vec<(&Service, Process)> = instance
            .of_role(role)
            .filter_map(|service| Some((service, Process::recorded(&home.pid(&service.name))?)))
            .collect();
        // All of a role at once: the members of a group have nobody to hand over to anyway.
        for (_, process) in &running {
            process.signal(Signal::SIGTERM);
        }
        for (service, process) in running {
            process.end(&service.name, PATIENCE);
            let _ = std::fs::remove_file(home.pid(&service.name));
        }
    }
}

/// Whether any process of the instance still runs.
pub(crate) fn any_alive(home: &Home, instance: &Instance) -> bool {
    instance.services.iter().any(|service| Process::recorded(&home.pid(&service.name)).is_some())
}
