//! `xtfs fsck`: compares a volume's metadata with itself, and mends it.

mod pass;

use std::time::Duration;

use clap::Args;
use client::Error;
use proto::error::Code;
use proto::fsck::{Fault, Finding, MEND_MAX};
use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{Opened, creds, place, run_with_tasks};
use pass::{Pass, pass};

/// Passes of check and repair before giving up.
const PASSES_MAX: usize = 10;

/// Check a volume's metadata while it is in use, and repair it
#[derive(Debug, Args)]
pub(crate) struct Fsck {
    /// A mounted volume, or xtfs://HOST/VOLUME.
    url: String,
    /// Mend what is found, until nothing is.
    #[arg(long)]
    repair: bool,
    /// With --repair: say what would be mended, and mend nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Fsck {
    pub(crate) fn run(self, global: &Global) -> Outcome {
        let what = format!("checking {}", self.url);
        let place = place(&self.url)?;
        run_with_tasks(async {
            let opened = place.open(global, &what).await?;
            let done = self.check(&opened, &what, global).await;
            opened.close().await;
            done
        })
    }

    async fn check(&self, opened: &Opened, what: &str, global: &Global) -> Outcome {
        let (json, timeout) = (global.json, global.timeout);
        let failed = |error: &Error| Failure::wire(what, error);
        let (mut found, mut mended, mut passes) = (0, 0, 0);
        let left = loop {
            passes += 1;
            let pass = pass(opened, timeout).await.map_err(|error| failed(&error))?;
            if passes == 1 {
                found = pass.findings.len();
            }
            for finding in &pass.findings {
                show(finding, json);
            }
            let chosen = chosen(&pass.findings);
            if !self.repair || self.dry_run || chosen.is_empty() || passes == PASSES_MAX {
                summary(
                    &Summary { pass: &pass, found, mended, passes, repaired: self.repair && !self.dry_run },
                    json,
                );
                break pass.findings.len();
            }
            match mend(opened, timeout, (pass.seen, &chosen)).await {
                Ok(count) => mended += count,
                // Somebody else repairs too: see what that left.
                Err(error) if error.code == Code::Stale => {}
                Err(error) => return Err(failed(&error)),
            }
        };
        if left == 0 {
            return Ok(0);
        }
        let why = format!("{left} finding(s) are not mended");
        let failure = Failure::new(what, why);
        Err(if self.repair && !self.dry_run {
            failure.next("`xtfs explain` knows no more; keep a dump (`xtfs dump`) and look at the MRC's log")
        } else {
            failure.next("`xtfs fsck --repair` mends them")
        })
    }
}

/// After a load: everything has to fit together.
pub(super) async fn must_be_clean(opened: &Opened, what: &str, timeout: Duration) -> Result<(), Failure> {
    let pass = pass(opened, timeout).await.map_err(|error| Failure::wire(what, &error))?;
    match pass.findings.first() {
        None => Ok(()),
        Some(finding) => Err(Failure::new(
            what,
            format!(
                "loaded, and {} things do not fit together, first: {}",
                pass.findings.len(),
                finding.text
            ),
        )
        .next("`xtfs fsck --repair` mends them")),
    }
}

/// Rows first; sums only when nothing else is left.
fn chosen(findings: &[Finding]) -> Vec<Finding> {
    let hopeful = || findings.iter().filter(|finding| !finding.hopeless);
    let rows: Vec<Finding> = hopeful().filter(|finding| finding.fault < Fault::FIRST_SUM).cloned().collect();
    if rows.is_empty() { hopeful().cloned().collect() } else { rows }
}

/// Mends in batches; a batch that meets a damaged row is tried finding by finding.
async fn mend(
    opened: &Opened,
    timeout: Duration,
    (mut seen, findings): (u64, &[Finding]),
) -> client::Result<u64> {
    let mut mended = 0;
    for batch in findings.chunks(MEND_MAX) {
        match opened.volume.mend(&creds(), seen, batch.to_vec()).await {
            Ok(done) => (seen, mended) = (done.seen, mended + done.mended),
            Err(error) if error.code == Code::Corrupt && batch.len() > 1 => {
                // How far the batch came is not known: a new pass tells.
                return one_by_one(opened, timeout, batch).await.map(|more| mended + more);
            }
            Err(error) if error.code == Code::Corrupt => {}
            Err(error) => return Err(error),
        }
    }
    Ok(mended)
}

async fn one_by_one(opened: &Opened, timeout: Duration, findings: &[Finding]) -> client::Result<u64> {
    let mut seen = pass(opened, timeout).await?.seen;
    let mut mended = 0;
    for finding in findings {
        // Sums were taken before the rows around them changed: those wait for the next pass.
        if finding.fault >= Fault::FIRST_SUM {
            continue;
        }
        match opened.volume.mend(&creds(), seen, vec![finding.clone()]).await {
            Ok(done) => (seen, mended) = (done.seen, mended + done.mended),
            Err(error) if error.code == Code::Corrupt => {}
            Err(error) => return Err(error),
        }
    }
    Ok(mended)
}

fn fault_name(finding: &Finding) -> String {
    Fault::try_from(finding.fault).map_or_else(|_| finding.fault.to_string(), |fault| format!("{fault:?}"))
}

fn show(finding: &Finding, json: bool) {
    if json {
        return output::json(&json!({
            "fault": fault_name(finding),
            "text": finding.text,
            "ino": finding.ino,
            "can_be_mended": !finding.hopeless,
        }));
    }
    let hopeless = if finding.hopeless { " (cannot be mended)" } else { "" };
    output::line(&format!("{}{hopeless}", finding.text));
}

struct Summary<'a> {
    pass: &'a Pass,
    found: usize,
    mended: u64,
    passes: usize,
    repaired: bool,
}

fn summary(of: &Summary<'_>, json: bool) {
    let (rows, left) = (of.pass.rows, of.pass.findings.len());
    if json {
        let value: Value = json!({
            "rows": rows, "found": of.found, "mended": of.mended, "left": left, "passes": of.passes, "cut": of.pass.cut,
        });
        return output::json(&value);
    }
    let more = if of.pass.cut { " or more" } else { "" };
    output::line(&match (of.found, of.repaired) {
        (0, _) => format!("{rows} rows, everything fits"),
        (found, false) => format!("{rows} rows, {found}{more} finding(s)"),
        (found, true) => format!(
            "{rows} rows, {found} finding(s) at first, {} mended in {} passes, {left}{more} left",
            of.mended, of.passes
        ),
    });
}
