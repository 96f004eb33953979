//! Adding, removing, replacing members; moving leadership.

use std::io::IsTerminal;
use std::time::Duration;

use proto::error::{Code, WireError};
use proto::raft::{AddMember, LeaderTransfer, MemberAdd, MemberRemove, RemoveMember, TransferLeader};
use serde_json::{Value, json};

use super::view::{Place, Row, View};
use super::{Add, Bed, Remove, Replace, Transfer, address};
use crate::failure::Failure;
use crate::instance::Home;
use crate::launcher::control::Request;
use crate::output;

/// How often it is looked how far a learner is.
const LOOK: Duration = Duration::from_millis(100);

/// `xtfs mrc add`, `xtfs dir add`.
pub(super) async fn add(bed: &Bed, add: &Add) -> Result<(), Failure> {
    let view = bed.look().await?;
    let wanted = newcomer(bed, &view, add.addr.as_deref())?;
    if add.dry_run {
        let addr = wanted.as_deref().unwrap_or("a new process");
        return done(bed, &format!("{addr} would be taken in"), json!({"addr": wanted, "dry_run": true}));
    }
    let (member, addr) = take_in(bed, &view, wanted, !add.no_wait).await?;
    let said = if add.no_wait { "is a learner and catches up" } else { "votes" };
    let value = json!({"member": member, "addr": addr, "votes": !add.no_wait, "dry_run": false});
    done(bed, &format!("member {member} ({addr}) {said}"), value)
}

/// `xtfs mrc remove`, `xtfs dir remove`.
pub(super) async fn remove(bed: &Bed, remove: &Remove) -> Result<(), Failure> {
    let view = bed.look().await?;
    let row = view.find(bed.role, &remove.member)?.clone();
    may_go(bed, &view, &row)?;
    if remove.dry_run {
        return done(bed, &format!("{} would be let go", told(&row)), removed(&row, true));
    }
    output::confirm(&format!("let go of {}?", told(&row)), remove.yes)?;
    let note = let_go(bed, &view, &row).await?;
    done(bed, &format!("{} is not in the group any more{note}", told(&row)), removed(&row, false))
}

/// `xtfs mrc replace`, `xtfs dir replace`.
pub(super) async fn replace(bed: &Bed, replace: &Replace) -> Result<(), Failure> {
    let view = bed.look().await?;
    let row = view.find(bed.role, &replace.member)?.clone();
    let wanted = newcomer(bed, &view, replace.addr.as_deref())?;
    let new = wanted.as_deref().unwrap_or("a new process").to_owned();
    if replace.dry_run {
        let value = json!({"removed": removed(&row, true), "addr": wanted, "dry_run": true});
        return done(bed, &format!("{} would make place for {new}", told(&row)), value);
    }
    output::confirm(&format!("put {new} in the place of {}?", told(&row)), replace.yes)?;
    let (member, addr) = take_in(bed, &view, wanted, true).await?;
    let note = let_go(bed, &bed.look().await?, &row).await?;
    let value = json!({"removed": removed(&row, false), "member": member, "addr": addr, "votes": true, "dry_run": false});
    done(bed, &format!("member {member} ({addr}) votes in the place of {}{note}", told(&row)), value)
}

/// `xtfs mrc transfer`, `xtfs dir transfer`.
pub(super) async fn transfer(bed: &Bed, transfer: &Transfer) -> Result<(), Failure> {
    let view = bed.look().await?;
    let what = format!("handing over leadership of the {} group", bed.role.title());
    view.require_majority(bed.role, &what)?;
    let to = match &transfer.member {
        None => 0,
        Some(wanted) => {
            let row = view.find(bed.role, wanted)?;
            if row.place != Place::Voter {
                return Err(Failure::new(what, format!("{} does not vote yet: it cannot lead", told(row)))
                    .next(format!("xtfs {} members", bed.role.name())));
            }
            row.member
        }
    };
    let before = view.rows.iter().find(|row| row.leads()).map(|row| row.member);
    if !transfer.dry_run {
        let ask = TransferLeader { group: view.group, to };
        let asked = bed.cluster.call::<LeaderTransfer>(&view.addrs(), &ask).await;
        asked.map_err(|error| explain(bed, &view, &what, &error))?;
    }
    let after = if transfer.dry_run { None } else { led(bed, to, before).await? };
    let name = after.as_ref().map_or("another member", |row| row.name.as_str());
    let verb = if transfer.dry_run { "would lead" } else { "leads" };
    let value = json!({
        "was": before, "leader": after.as_ref().map(|row| row.member), "dry_run": transfer.dry_run,
    });
    done(bed, &format!("{name} {verb}"), value)
}

/// Waits until somebody leads: `to`, or with 0 anybody but `before`.
async fn led(bed: &Bed, to: u64, before: Option<u64>) -> Result<Option<Row>, Failure> {
    let end = tokio::time::Instant::now() + bed.timeout;
    loop {
        let view = bed.look().await?;
        let leader = view.rows.into_iter().find(Row::leads);
        match leader {
            Some(row) if row.member == to || to == 0 && Some(row.member) != before => return Ok(Some(row)),
            Some(row) if tokio::time::Instant::now() >= end => {
                return Err(Failure::new(
                    "handing over leadership",
                    format!("{} leads: whoever was to lead did not take over in time", told(&row)),
                )
                .next(format!("xtfs {} members", bed.role.name())));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// The new member's address; `None`: a process that this instance has still to make.
fn newcomer(bed: &Bed, view: &View, addr: Option<&str>) -> Result<Option<String>, Failure> {
    let name = bed.role.name();
    let what = format!("another {} member", bed.role.title());
    let Some(addr) = addr else {
        return match &bed.local {
            Some((_, instance)) if instance.separate => {
                view.require_majority(bed.role, &what)?;
                Ok(None)
            }
            Some(_) => Err(Failure::usage(what, "this instance runs in one process")
                .next("`xtfs down`, then `xtfs up --separate`, makes it separate processes")),
            None => Err(Failure::usage(what, "no address, and no `up --separate` here that could start one")
                .next(format!("xtfs {name} add HOST:PORT"))),
        };
    };
    let addr = address(addr)?;
    if let Some(row) = view.at(&addr) {
        let (why, next) = match row.place {
            Place::Learner => ("it is in the group already, and still catches up", "shows how far it is"),
            _ => ("it is in the group already", "lists all"),
        };
        return Err(Failure::new(format!("{what} at {addr}"), format!("{why} ({})", told(row)))
            .next(format!("`xtfs {name} members` {next}")));
    }
    view.require_majority(bed.role, &what)?;
    Ok(Some(addr))
}

/// Takes a member in, starts it where that is our business, and waits until it votes.
async fn take_in(bed: &Bed, view: &View, addr: Option<String>, wait: bool) -> Result<(u64, String), Failure> {
    let mut made = None;
    let addr = match (addr, &bed.local) {
        (Some(addr), _) => addr,
        (None, Some((home, _))) => {
            let answer = launcher(home, &Request::AddMember { role: bed.role.name().to_owned() })?;
            let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
            made = Some((home, text("name")));
            text("addr")
        }
        (None, None) => return Err(Failure::new("another member", "no address")),
    };
    let what = format!("taking {addr} into the {} group", bed.role.title());
    let ask = AddMember { group: view.group, addr: addr.clone() };
    let added = bed.cluster.call::<MemberAdd>(&view.addrs(), &ask).await;
    let member = match added {
        Ok(added) => added.member,
        Err(error) => {
            if let Some((home, name)) = made {
                // It was never started; without this it would be a member of the instance only.
                let _ = launcher(home, &Request::Forget { name });
            }
            return Err(explain(bed, view, &what, &error));
        }
    };
    if let Some((home, name)) = made {
        launcher(home, &Request::Start { name })?;
    }
    if wait {
        wait_for_vote(bed, member, &what).await?;
    }
    Ok((member, addr))
}

async fn wait_for_vote(bed: &Bed, member: u64, what: &str) -> Result<(), Failure> {
    let end = tokio::time::Instant::now() + bed.timeout;
    let shows = std::io::stderr().is_terminal() && !bed.json;
    loop {
        let view = bed.look().await?;
        let row = view.rows.iter().find(|row| row.member == member && row.place != Place::Outside);
        let lacks = row.and_then(|row| row.behind(&view));
        if row.is_some_and(|row| row.place == Place::Voter) {
            if shows {
                eprintln!("\rmember {member} votes{:40}", "");
            }
            return Ok(());
        }
        let far =
            lacks.map_or("it does not answer yet".to_owned(), |lacks| format!("it lacks {lacks} entries"));
        if shows {
            eprint!("\rmember {member} catches up: {far}{:20}", "");
        }
        if tokio::time::Instant::now() >= end {
            let why =
                format!("member {member} is a learner after {} s: {far}; it goes on", bed.timeout.as_secs());
            return Err(Failure::unreachable(what, why)
                .next(format!("`xtfs {} members` shows how far it is", bed.role.name())));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What can be said before asking: that nobody would be left.
fn may_go(bed: &Bed, view: &View, row: &Row) -> Result<(), Failure> {
    let what = format!("letting go of {}", told(row));
    let voters = view.rows.iter().filter(|row| row.place == Place::Voter).count();
    if row.place == Place::Voter && voters == 1 {
        let why = format!(
            "it is the only {} member that votes: without it nothing would be left",
            bed.role.title()
        );
        return Err(Failure::new(what, why).next(format!("xtfs {} replace {}", bed.role.name(), row.name)));
    }
    view.require_majority(bed.role, &what)
}

/// Lets go of a member and stops its process where that is our business. The text says what is left to do.
async fn let_go(bed: &Bed, view: &View, row: &Row) -> Result<String, Failure> {
    let what = format!("letting go of {}", told(row));
    let ask = RemoveMember { group: view.group, member: row.member };
    let others: Vec<String> = view.addrs();
    let removed = bed.cluster.call::<MemberRemove>(&others, &ask).await;
    removed.map_err(|error| explain(bed, view, &what, &error))?;
    let services = bed.local.as_ref().filter(|(_, instance)| instance.separate);
    let ours = services.and_then(|(home, instance)| {
        let service = instance.of_role(bed.role.name()).find(|service| service.addr == row.addr)?;
        Some((home, service.name.clone()))
    });
    let Some((home, name)) = ours else { return Ok(format!("; stop its process at {}", row.addr)) };
    launcher(home, &Request::Forget { name: name.clone() })?;
    Ok(format!(" and is stopped; its state stays in {}", home.state(&name).display()))
}

fn launcher(home: &Home, request: &Request) -> Result<Value, Failure> {
    match crate::launcher::control::ask(&home.launcher(), request) {
        Some(answer) => answer.map(|(value, _)| value),
        None => Err(Failure::unreachable(
            "the launcher of this instance",
            format!("no `xtfs up --separate` runs in {}", home.data.display()),
        )
        .next(format!("xtfs up --detach --data {}", home.data.display()))),
    }
}

fn explain(bed: &Bed, view: &View, what: &str, error: &WireError) -> Failure {
    if error.code == Code::InvalidArgument {
        return Failure::new(what, &error.text).next(format!("xtfs {} members", bed.role.name()));
    }
    match view.require_majority(bed.role, what) {
        Err(failure) => failure,
        Ok(()) => Failure::wire(what, error),
    }
}

fn told(row: &Row) -> String {
    format!("member {} ({}, {})", row.member, row.name, row.addr)
}

fn removed(row: &Row, dry_run: bool) -> Value {
    json!({"member": row.member, "name": row.name, "addr": row.addr, "dry_run": dry_run})
}

fn done(bed: &Bed, text: &str, value: Value) -> Result<(), Failure> {
    if bed.json {
        output::json(&value);
    } else {
        output::line(text);
    }
    Ok(())
}
