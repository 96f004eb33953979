//! From what was seen to passed or failed: a pure function.

use serde::Serialize;

use super::jobs::Told;

/// What a load did.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) name: &'static str,
    pub(super) operations: u64,
    pub(super) errors: u64,
    pub(super) wrong: u64,
    /// What it still waits for, long after the last fault.
    pub(super) hangs: Option<String>,
}

/// All that was seen. An `Err` is a question that got no answer, which passes nothing.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    pub(super) interrupted: bool,
    pub(super) faults: usize,
    /// Faults that could not be done, or not be taken back.
    pub(super) fault_failures: Vec<String>,
    pub(super) dead: Vec<String>,
    pub(super) loads: Vec<Load>,
    /// Names acknowledged and lost, or removed and back.
    pub(super) lost: Result<Vec<String>, String>,
    /// Blocks that hold something else than was acknowledged.
    pub(super) bytes: Result<Vec<String>, String>,
    /// Seconds until all replicas were in sync.
    pub(super) sync: Result<f64, String>,
    /// Damaged blocks that the last of two scrubs still found.
    pub(super) damaged: Result<u64, String>,
    /// How many files are erasure-coded in the end: all that are to be; `None`: there was no such load.
    pub(super) coded: Option<Result<usize, String>>,
    /// What became of the jobs; `None`: there was no such load.
    pub(super) jobs: Option<Result<Told, String>>,
    pub(super) fsck: Result<String, String>,
}

/// One checker's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) passed: bool,
    pub(super) text: String,
}

fn check(name: &'static str, fault: Option<String>, fine: impl Into<String>) -> Check {
    Check { name, passed: fault.is_none(), text: fault.unwrap_or_else(|| fine.into()) }
}

/// Passed only when every checker says so.
pub(super) fn passed(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.passed)
}

pub(super) fn verdict(seen: &Evidence) -> Vec<Check> {
    let sum = |of: fn(&Load) -> u64| seen.loads.iter().map(of).sum::<u64>();
    let (operations, errors, wrong) =
        (sum(|load| load.operations), sum(|load| load.errors), sum(|load| load.wrong));
    let faults = if seen.interrupted {
        Some("interrupted before the end".to_owned())
    } else if !seen.fault_failures.is_empty() {
        Some(seen.fault_failures.join("; "))
    } else {
        (seen.faults == 0).then(|| "no fault happened: give it more time with --duration".to_owned())
    };
    let idle = seen.loads.iter().find(|load| load.operations == 0);
    let hangs = seen.loads.iter().find_map(|load| Some(format!("{}: {}", load.name, load.hangs.as_ref()?)));
    let work = hangs
        .or_else(|| idle.map(|load| format!("the load {} did nothing, which proves nothing", load.name)))
        .or_else(|| (errors > 0).then(|| format!("{errors} of {operations} operations failed")));
    let lost = list(&seen.lost, "names were not looked at");
    let bytes = list(&seen.bytes, "blocks were not looked at")
        .or_else(|| (wrong > 0).then(|| format!("{wrong} answers were not what was acknowledged")));
    let damaged = match &seen.damaged {
        Ok(0) => None,
        Ok(count) => Some(format!("{count} blocks are still damaged after a scrub")),
        Err(why) => Some(why.clone()),
    };
    let mut checks = vec![
        check("faults done and taken back", faults, format!("{} faults", seen.faults)),
        check("no errors", work, format!("{operations} operations, 0 errors")),
        check("nothing acknowledged lost", lost, "every name is as it was acknowledged"),
        check("no wrong byte", bytes, "every block is as it was acknowledged"),
        check(
            "every process runs",
            (!seen.dead.is_empty()).then(|| format!("{} does not run", seen.dead.join(", "))),
            "all of them",
        ),
        check(
            "all objects in sync",
            seen.sync.as_ref().err().cloned(),
            format!("after {:.1} s", seen.sync.as_ref().copied().unwrap_or(0.0)),
        ),
        check("no damage left", damaged, "a second scrub finds nothing"),
        check("fsck clean", seen.fsck.as_ref().err().cloned(), seen.fsck.clone().unwrap_or_default()),
    ];
    checks.extend(seen.coded.as_ref().map(|coded| {
        let fault = match coded {
            Ok(0) => Some("no file was to be coded, which proves nothing".to_owned()),
            Ok(_) => None,
            Err(why) => Some(why.clone()),
        };
        let count = coded.as_ref().copied().unwrap_or(0);
        check("all files coded", fault, format!("{count} of them, and read again"))
    }));
    checks.extend(seen.jobs.as_ref().map(jobs));
    checks
}

fn jobs(told: &Result<Told, String>) -> Check {
    let fault = match told {
        Err(why) => Some(format!("jobs were not looked at: {why}")),
        Ok(told) if told.wrong.is_empty() && told.done == 0 => {
            Some("no job was done, which proves nothing".to_owned())
        }
        Ok(told) => list(&Ok(told.wrong.clone()), ""),
    };
    let fine = told.as_ref().map(|told| {
        format!(
            "{} done, started once each; {} failed and told so, none started twice",
            told.done, told.failed
        )
    });
    check("every job once", fault, fine.unwrap_or_default())
}

fn list(found: &Result<Vec<String>, String>, what: &str) -> Option<String> {
    match found {
        Err(why) => Some(format!("{what}: {why}")),
        Ok(list) => {
            let first = list.first()?;
            Some(if list.len() == 1 { first.clone() } else { format!("{}, first: {first}", list.len()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Evidence {
        let load = |name| Load { name, operations: 10, errors: 0, wrong: 0, hangs: None };
        Evidence {
            interrupted: false,
            faults: 3,
            fault_failures: Vec::new(),
            dead: Vec::new(),
            loads: vec![load("names"), load("data")],
            lost: Ok(Vec::new()),
            bytes: Ok(Vec::new()),
            sync: Ok(1.0),
            damaged: Ok(0),
            coded: Some(Ok(4)),
            jobs: Some(Ok(Told { done: 3, failed: 1, wrong: Vec::new() })),
            fsck: Ok("everything fits".to_owned()),
        }
    }

    /// The names of the checks that fail after a change of the clean evidence.
    fn fails(change: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
        let mut seen = clean();
        change(&mut seen);
        let checks = verdict(&seen);
        assert_eq!(passed(&checks), checks.iter().all(|check| check.passed));
        checks.iter().filter(|check| !check.passed).map(|check| check.name).collect()
    }

    #[test]
    fn a_clean_run_passes() {
        assert!(fails(|_| ()).is_empty());
        assert!(fails(|seen| (seen.coded, seen.jobs) = (None, None)).is_empty());
    }

    #[test]
    fn each_thing_that_must_not_be_fails_its_own_check() {
        let no = || "no answer".to_owned();
        assert_eq!(fails(|seen| seen.faults = 0), ["faults done and taken back"]);
        assert_eq!(fails(|seen| seen.interrupted = true), ["faults done and taken back"]);
        assert_eq!(fails(|seen| seen.fault_failures.push(no())), ["faults done and taken back"]);
        assert_eq!(fails(|seen| seen.loads[0].errors = 1), ["no errors"]);
        assert_eq!(fails(|seen| seen.loads[1].operations = 0), ["no errors"]);
        assert_eq!(fails(|seen| seen.loads[1].hangs = Some(no())), ["no errors"]);
        assert_eq!(fails(|seen| seen.lost = Ok(vec![no()])), ["nothing acknowledged lost"]);
        assert_eq!(fails(|seen| seen.lost = Err(no())), ["nothing acknowledged lost"]);
        assert_eq!(fails(|seen| seen.bytes = Ok(vec![no(), no()])), ["no wrong byte"]);
        assert_eq!(fails(|seen| seen.loads[0].wrong = 1), ["no wrong byte"]);
        assert_eq!(fails(|seen| seen.dead.push(no())), ["every process runs"]);
        assert_eq!(fails(|seen| seen.sync = Err(no())), ["all objects in sync"]);
        assert_eq!(fails(|seen| seen.damaged = Ok(1)), ["no damage left"]);
        assert_eq!(fails(|seen| seen.fsck = Err(no())), ["fsck clean"]);
        assert_eq!(fails(|seen| seen.coded = Some(Err(no()))), ["all files coded"]);
        assert_eq!(fails(|seen| seen.coded = Some(Ok(0))), ["all files coded"]);
        assert_eq!(fails(|seen| seen.jobs = Some(Err(no()))), ["every job once"]);
        assert_eq!(fails(|seen| seen.jobs = Some(Ok(Told::default()))), ["every job once"]);
        let wrong = || Told { done: 3, failed: 0, wrong: vec![no()] };
        assert_eq!(fails(|seen| seen.jobs = Some(Ok(wrong()))), ["every job once"]);
    }
}
