//! Faults on real processes: an instance, loads on its mount, a schedule of faults from a seed, checkers, a report.
//!
//! It is here and not in the crate `chaos/`, which simulates: the layers let nobody use that crate, it would bring the whole
//! simulator into the binary, and what is killed here are the processes of this crate's instances.
//!
//! Reading order: [`schedule`] (what happens when) -> [`loads`] (who works meanwhile) -> [`deeds`] with [`target`],
//! [`harm`] and [`members`] -> [`verdict`] (what it means) -> [`report`], [`page`]. Pure: `dice`, `schedule`, `ledger`, `blocks`, the stalls of
//! `track`, `verdict`.

mod blocks;
mod coded;
mod deeds;
mod dice;
mod harm;
mod jobs;
mod ledger;
mod loads;
mod members;
mod net;
mod page;
mod programs;
mod report;
mod schedule;
mod target;
mod track;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use parking_lot::Mutex;

use crate::failure::Failure;
use crate::output;
use coded::{Coded, Known};
use deeds::{Field, deed};
use dice::Dice;
use jobs::{Jobs, Told};
use ledger::Ledger;
use loads::{Data, Generations, Names};
use net::Network;
use programs::Program;
use report::{Happened, Report};
pub(crate) use schedule::Nemesis;
use schedule::{Fault, schedule};
use target::{Fresh, Target};
use track::{NoRoom, Recorder};
use verdict::{Evidence, Load, verdict};

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) duration: Duration,
    pub(crate) nemeses: Vec<Nemesis>,
    /// Beside those that always work.
    pub(crate) more: Vec<More>,
    /// Directory of the run: instance, logs, report.
    pub(crate) out: PathBuf,
    /// An instance that runs already, instead of a fresh one.
    pub(crate) data: Option<PathBuf>,
    pub(crate) keep: bool,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) quiet: bool,
    /// How to do the same again.
    pub(crate) repeat: String,
}

/// A load beside `names`, `data` and `still`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum More {
    /// Files that are erasure-coded when they rest, written, cut and read
    Coded,
    /// Descriptors dropped into the spool: each job is started once and has one record
    Jobs,
    /// fsx, again and again
    Fsx,
    /// fio with --verify, again and again
    Fio,
}

impl More {
    fn program(self) -> Option<Program> {
        match self {
            More::Coded | More::Jobs => None,
            More::Fsx => Some(Program::Fsx),
            More::Fio => Some(Program::Fio),
        }
    }

    /// Whether it can work on an instance that was not started for it.
    pub(crate) const fn fits_any(self) -> bool {
        !matches!(self, More::Coded)
    }

    /// Whether this machine has what it needs.
    pub(crate) fn is_here(self) -> bool {
        self.program().is_none_or(|program| program.find().is_some())
    }
}

/// Proof that the checkers can fail: done behind their back before they look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sabotage {
    /// An acknowledged file is removed
    Lose,
    /// An acknowledged block is overwritten
    Overwrite,
}

/// A load may need this long to end after the last fault; after that it hangs.
const LAST_OPERATION: Duration = Duration::from_secs(60);
const IN_SYNC: Duration = Duration::from_secs(120);
/// Until an OSD has moved what was written from its journal to its data files, where damage is done.
const FOLD: Duration = Duration::from_millis(1500);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupted(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Runs it; the exit status.
pub(crate) fn run(plan: &Plan, json: bool) -> Result<u8, Failure> {
    std::fs::create_dir_all(&plan.out)
        .map_err(|error| Failure::new(format!("making {}", plan.out.display()), error))?;
    let action = SigAction::new(SigHandler::Handler(interrupted), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &action) }.map_err(|error| Failure::new("preparing for Ctrl-C", error))?;
    }
    let fresh = plan.out.join("data");
    let network = network(plan)?;
    let target = match &plan.data {
        Some(data) => Target::given(data)?,
        None if fresh.exists() => {
            let text = "an earlier run left its instance here, for you to look at";
            return Err(Failure::usage(fresh.display().to_string(), text).next(format!(
                "xtfs down --data {0}; rm -r {0}   or another directory with --out",
                fresh.display()
            )));
        }
        None => {
            say(plan, "starting 3 DIRs, 3 MRCs, 4 OSDs with 3 replicas");
            let wanted = Fresh {
                network: network.as_ref(),
                hooks: plan.nemeses.iter().any(|nemesis| nemesis.hooks()),
                exec: plan.more.contains(&More::Jobs),
                coded: plan.more.contains(&More::Coded),
            };
            Target::start(&fresh, &wanted).inspect_err(|_| {
                // What came up of it must not stay; what it logged may.
                let _ = std::process::Command::new(crate::launcher::spawn::program())
                    .args(["down", "--data"])
                    .arg(&fresh)
                    .output();
            })?
        }
    };
    let done = attack(plan, &target, network.as_ref());
    let stopped = target.down();
    let mut report = done?;
    stopped?;
    if plan.data.is_none() {
        if report.passed() && !plan.keep {
            std::fs::remove_dir_all(&fresh)
                .map_err(|error| Failure::new(format!("removing {}", fresh.display()), error))?;
        } else {
            report.kept.push(format!("instance {} (stopped; logs in log/)", fresh.display()));
        }
    }
    let (page, data) = (plan.out.join("report.html"), plan.out.join("report.json"));
    report.kept.push(format!("report   {}", page.display()));
    for (path, text) in [(&page, page::page(&report)), (&data, report.to_json().to_string())] {
        std::fs::write(path, text)
            .map_err(|error| Failure::new(format!("writing {}", path.display()), error))?;
    }
    if json {
        output::json(&report.to_json());
    } else {
        output::line(&report.text());
    }
    Ok(u8::from(!report.passed()))
}

fn say(plan: &Plan, text: &str) {
    if !plan.quiet {
        eprintln!("{text}");
    }
}

/// The loads and what they hand over when they end.
struct Loads {
    stop: Arc<AtomicBool>,
    seen: Vec<(&'static str, Recorder)>,
    names: JoinHandle<Ledger>,
    data: JoinHandle<Generations>,
    still: JoinHandle<()>,
    coded: Option<JoinHandle<Known>>,
    jobs: Option<JoinHandle<Told>>,
    programs: Vec<JoinHandle<()>>,
}

impl Loads {
    fn ended(&self) -> bool {
        let base = self.names.is_finished() && self.data.is_finished() && self.still.is_finished();
        base && self.jobs.as_ref().is_none_or(JoinHandle::is_finished)
            && self.coded.as_ref().is_none_or(JoinHandle::is_finished)
            && self.programs.iter().all(JoinHandle::is_finished)
    }
}

/// Where in the mount they work.
struct Places {
    names: PathBuf,
    data: Data,
    still: Data,
    coded: Option<Coded>,
    jobs: Option<Jobs>,
    /// A folder each.
    programs: Vec<(Program, PathBuf)>,
}

/// Makes the places, and what is read there.
fn prepare(plan: &Plan, target: &Target) -> Result<Places, Failure> {
    let run = format!("chaos-{}-{}", plan.seed, std::process::id());
    let root = target.mount().join(&run);
    let data = |name: &str| Data { root: root.join(name), seed: plan.seed };
    let programs = plan.more.iter().filter_map(|more| more.program());
    let make = || -> std::io::Result<Places> {
        let places = Places {
            names: root.join("names"),
            data: data("data"),
            still: data("still"),
            coded: plan.more.contains(&More::Coded).then(|| Coded(data("coded"))),
            jobs: if plan.more.contains(&More::Jobs) {
                Some(Jobs::new(&target.mount(), &plan.out, run.clone())?)
            } else {
                None
            },
            programs: programs.map(|program| (program, root.join(program.name()))).collect(),
        };
        places.data.make(false)?;
        places.still.make(true)?;
        places.coded.iter().try_for_each(|coded| std::fs::create_dir_all(coded.folder()))?;
        places.programs.iter().try_for_each(|(_, folder)| std::fs::create_dir_all(folder))?;
        Ok(places)
    };
    let places = make().map_err(|error| Failure::new(format!("preparing {}", root.display()), error))?;
    places.coded.iter().try_for_each(|coded| target.code(coded.folder(), coded::EC))?;
    Ok(places)
}

fn attack(plan: &Plan, target: &Target, network: Option<&Network>) -> Result<Report, Failure> {
    let mut places = prepare(plan, target)?;
    let names = Names::new(places.names.clone(), plan.seed, plan.out.join("acked.log"))
        .map_err(|error| Failure::new(format!("preparing {}", places.names.display()), error))?;
    target.in_sync(IN_SYNC).map_err(|why| Failure::new("waiting for a healthy start", why))?;
    std::thread::sleep(FOLD);

    let duration_ms = u64::try_from(plan.duration.as_millis()).unwrap_or(u64::MAX);
    let faults = schedule(plan.seed, duration_ms, &plan.nemeses, &target.crew());
    say(plan, &format!("seed {}: {} faults in {} s", plan.seed, faults.len(), plan.duration.as_secs()));
    let started = jiff::Timestamp::now().to_string();
    let began = Instant::now();
    let no_room = NoRoom::default();
    let loads = spawn(plan, began, &no_room, names, &mut places);
    let field = Field { target, network, still: &places.still, no_room: &no_room };
    let happened = inflict(plan, &field, &faults, began);
    while began.elapsed() < plan.duration && !INTERRUPTED.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    loads.stop.store(true, Ordering::Relaxed);
    let limit = Instant::now() + LAST_OPERATION;
    while !loads.ended() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(20));
    }
    let end_ms = loads.seen[0].1.now_ms();
    say(plan, "loads ended; checking");
    let seen: Vec<_> = loads.seen.iter().map(|(name, seen)| (*name, seen.track())).collect();
    let evidence = evidence(plan, target, &places, &happened, loads);
    Ok(Report {
        seed: plan.seed,
        repeat: plan.repeat.clone(),
        started,
        end_ms,
        faults: happened,
        loads: seen,
        checks: verdict(&evidence),
        kept: vec![format!("log      {}", plan.out.join("acked.log").display())],
    })
}

fn spawn(plan: &Plan, began: Instant, no_room: &NoRoom, names: Names, places: &mut Places) -> Loads {
    let stop = Arc::new(AtomicBool::new(false));
    let mut seen = Vec::new();
    let mut watch = |name| {
        let recorder = Recorder::new(began, no_room.clone());
        seen.push((name, recorder.clone()));
        (recorder, stop.clone())
    };
    let (data, still) = (places.data.clone(), places.still.clone());
    let [names_seen, data_seen, still_seen] = ["names", "data", "still"].map(&mut watch);
    let coded = places.coded.as_ref().map(|coded| {
        let ((seen, stop), coded) = (watch("coded"), Coded(coded.0.clone()));
        std::thread::spawn(move || coded.run(&stop, &seen))
    });
    let jobs = places.jobs.take().map(|jobs| {
        let (seen, stop) = watch("jobs");
        std::thread::spawn(move || jobs.run(&stop, &seen))
    });
    let programs = places.programs.iter().cloned().map(|(program, folder)| {
        let ((seen, stop), out, seed) = (watch(program.name()), plan.out.join(program.name()), plan.seed);
        std::thread::spawn(move || program.run(&folder, &out, seed, &stop, &seen))
    });
    let programs = programs.collect();
    Loads {
        names: std::thread::spawn(move || names.run(&names_seen.1, &names_seen.0)),
        data: std::thread::spawn(move || data.write(&data_seen.1, &data_seen.0)),
        still: std::thread::spawn(move || still.read(&still_seen.1, &still_seen.0)),
        coded,
        jobs,
        programs,
        stop,
        seen,
    }
}

/// The network that the faults need, entered by this thread and so by all that it starts.
fn network(plan: &Plan) -> Result<Option<Network>, Failure> {
    let given = |why: &str| {
        plan.data.as_ref().map_or(Ok(()), |data| {
            Err(Failure::usage(format!("--data {}", data.display()), why)
                .next("leave --data out, or name other faults with --nemesis"))
        })
    };
    if plan.nemeses.iter().any(|nemesis| nemesis.hooks()) {
        given(
            "slow and full disks and clocks that jump need services that are started with the hooks for them",
        )?;
    }
    if !plan.nemeses.iter().any(|nemesis| nemesis.cuts()) {
        return Ok(None);
    }
    given("partitions need a network that is made before the instance starts")?;
    Network::enter(&schedule::crew()).map(Some)
}

/// After a fault that took longer than it was to, the next one waits so long, and all others are later too.
const BREATH_MS: u64 = 1000;

/// Lets the faults happen at their times; a part of a pair has a thread of its own.
fn inflict(plan: &Plan, field: &Field<'_>, faults: &[Fault], began: Instant) -> Vec<Happened> {
    let target = field.target;
    let mut late_ms = 0;
    // order: never held while another lock is taken.
    let harmed = Mutex::new(harm::Harmed::new());
    let mut happened = Vec::new();
    let now_ms = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    for (number, fault) in faults.iter().enumerate() {
        let due_ms = happened.last().map_or(0, |last: &Happened| last.until_ms + BREATH_MS);
        late_ms = due_ms.saturating_sub(fault.at_ms).max(late_ms);
        while now_ms() < fault.at_ms + late_ms && !INTERRUPTED.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            break;
        }
        // Who leads is asked before, so that halves of a pair happen together.
        let named: Vec<_> = fault.parts.iter().map(|part| (part, target.names(&part.victim))).collect();
        let together = Barrier::new(named.len());
        let at_ms = now_ms();
        let done: Vec<(String, Result<(), Failure>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = named
                .into_iter()
                .enumerate()
                .map(|(half, (part, names))| {
                    let (together, harmed) = (&together, &harmed);
                    let mut dice = Dice::new(plan.seed ^ ((number as u64) << 8) ^ half as u64);
                    scope.spawn(move || {
                        together.wait();
                        match names {
                            Ok(names) => deed(field, part, &names, &mut dice, harmed),
                            Err(failure) => ("nobody found to hit".to_owned(), Err(failure)),
                        }
                    })
                })
                .collect();
            let panicked = || ("a deed".to_owned(), Err(Failure::new("a deed", "its thread panicked")));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        let failures =
            done.iter().filter_map(|(_, done)| done.as_ref().err().map(Failure::to_string)).collect();
        let what: Vec<String> = done.into_iter().map(|(what, _)| what).collect();
        say(plan, &format!("{:6.1} s  {}", at_ms as f64 / 1000.0, what.join(" + ")));
        happened.push(Happened { at_ms, until_ms: now_ms(), nemesis: fault.nemesis, what, failures });
    }
    happened
}

/// Asks the checkers, after the loads have ended.
fn evidence(plan: &Plan, target: &Target, places: &Places, happened: &[Happened], loads: Loads) -> Evidence {
    let load = |(name, seen): &(&'static str, Recorder)| {
        let track = seen.track();
        let hangs = track.pending.map(|(since, what)| {
            format!("a {what} that began at {:.1} s does not end", since as f64 / 1000.0)
        });
        let (operations, errors, wrong) = (track.count, track.errors.count, track.wrong.count);
        Load { name, operations, errors, wrong, hangs }
    };
    let told: Vec<Load> = loads.seen.iter().map(load).collect();
    let mut seen = Evidence {
        interrupted: INTERRUPTED.load(Ordering::Relaxed),
        faults: happened.len(),
        fault_failures: happened.iter().flat_map(|fault| fault.failures.clone()).collect(),
        dead: target.dead(),
        loads: told,
        lost: Err("a load hangs".to_owned()),
        bytes: Err("a load hangs".to_owned()),
        sync: Err("a load hangs".to_owned()),
        damaged: Err("a load hangs".to_owned()),
        coded: loads.coded.as_ref().map(|_| Err("a load hangs".to_owned())),
        jobs: loads.jobs.as_ref().map(|_| Err("a load hangs".to_owned())),
        fsck: Err("a load hangs".to_owned()),
    };
    // Looking at a mount that hangs would hang as well.
    if seen.loads.iter().any(|load| load.hangs.is_some()) {
        return seen;
    }
    seen.sync = target.in_sync(IN_SYNC);
    let (Ok(ledger), Ok(generations), Ok(())) = (loads.names.join(), loads.data.join(), loads.still.join())
    else {
        seen.lost = Err("a load panicked; this is a bug of `xtfs chaos`".to_owned());
        return seen;
    };
    seen.jobs = loads.jobs.map(|jobs| jobs.join().map_err(|_| "the load panicked".to_owned()));
    if let Some(sabotage) = plan.sabotage
        && let Err(error) = spoil(sabotage, places, &ledger)
    {
        seen.fault_failures.push(format!("sabotage: {error}"));
    }
    seen.lost =
        loads::found(&places.names).map(|found| ledger.judge(&found)).map_err(|error| error.to_string());
    let still = vec![vec![loads::Held::only(1); loads::BLOCKS]; loads::FILES];
    let mut bytes = places.data.judge(&generations).and_then(|mut wrong| {
        wrong.extend(places.still.judge(&still)?);
        Ok(wrong)
    });
    if let (Some(coded), Some(load)) = (&places.coded, loads.coded) {
        match load.join() {
            // Read as it is just after the faults, and once more when everything is coded.
            Ok(known) => {
                let files = coded.long(&known);
                let look = |bytes: std::io::Result<Vec<String>>| {
                    bytes.and_then(|mut wrong| {
                        wrong.extend(coded.judge(&known)?);
                        Ok(wrong)
                    })
                };
                bytes = look(bytes);
                seen.coded = Some(target.all_coded(&files, IN_SYNC).map(|()| files.len()));
                bytes = look(bytes);
            }
            Err(_) => seen.coded = Some(Err("the load panicked".to_owned())),
        }
    }
    seen.bytes = bytes.map_err(|error| error.to_string());
    let text = |failure: Failure| failure.to_string();
    seen.damaged =
        target.scrub().and_then(|_| target.scrub()).map(|(damaged, left)| damaged + left).map_err(text);
    seen.fsck = target.fsck().map(|said| said.trim().to_owned()).map_err(text);
    seen
}

fn spoil(sabotage: Sabotage, places: &Places, ledger: &Ledger) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    match sabotage {
        Sabotage::Lose => match ledger.there().next() {
            Some((path, _)) => std::fs::remove_file(places.names.join(path)),
            None => Err(std::io::Error::other("the load left no file to remove; give it more time")),
        },
        Sabotage::Overwrite => {
            let file = std::fs::OpenOptions::new().write(true).open(places.still.path(0))?;
            file.write_all_at(b"sabotage", 3000)?;
            file.sync_all()
        }
    }
}

/// A seed that nobody chose.
pub(crate) fn any_seed() -> u64 {
    // Short enough to be typed.
    u64::from(rand::random::<u32>() % 1_000_000)
}

/// The default directory of a run.
pub(crate) fn default_out() -> &'static Path {
    Path::new("xtfs-chaos")
}
