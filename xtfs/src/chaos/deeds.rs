//! The deeds: each done, held, and taken back.

use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::Mutex;

use super::dice::Dice;
use super::harm::{Harmed, harm};
use super::loads::Data;
use super::members;
use super::net::{self, Network};
use super::schedule::{Deed, Part, Victim, Way};
use super::target::{Target, say};
use super::track::NoRoom;
use crate::failure::Failure;

/// Where faults happen.
pub(super) struct Field<'a> {
    pub(super) target: &'a Target,
    pub(super) network: Option<&'a Network>,
    pub(super) still: &'a Data,
    pub(super) no_room: &'a NoRoom,
}

/// Does it, holds it, takes it back; what it was, and whether all of it succeeded.
pub(super) fn deed(
    field: &Field<'_>,
    part: &Part,
    names: &[String],
    dice: &mut Dice,
    harmed: &Mutex<Harmed>,
) -> (String, Result<(), Failure>) {
    let target = field.target;
    let hold = Duration::from_millis(part.hold_ms);
    let who = match part.victim {
        Victim::Osds => format!("all {} OSDs", names.len()),
        _ if names.len() == 1 => names[0].clone(),
        _ => format!("all {} processes", names.len()),
    };
    let leads = if matches!(part.victim, Victim::Leader(_)) { " (leader)" } else { "" };
    let seconds = part.hold_ms as f64 / 1000.0;
    let each = |act: &dyn Fn(&str) -> Result<(), Failure>| {
        // Also after a failure: the others must not stay dead.
        names.iter().map(|name| act(name)).fold(Ok(()), Result::and)
    };
    match part.deed {
        Deed::Kill => {
            let killed = each(&|name| target.signal(name, Signal::SIGKILL));
            std::thread::sleep(hold);
            let back = each(&|name| target.revive(name));
            (format!("kill -9 {who}{leads} for {seconds:.1} s"), killed.and(back))
        }
        Deed::Pause => {
            let stopped = each(&|name| target.signal(name, Signal::SIGSTOP));
            std::thread::sleep(hold);
            let back = each(&|name| target.signal(name, Signal::SIGCONT));
            (format!("SIGSTOP {who}{leads} for {seconds:.1} s"), stopped.and(back))
        }
        Deed::Cut(way) => {
            let (what, done) = cut(field, part, way, names, &format!("{who}{leads}"));
            (format!("{what} for {seconds:.1} s"), done)
        }
        Deed::Corrupt => damage(field, &names[0], dice, harmed),
        Deed::Replace => {
            let done = members::replace(target, field.network, &names[0]);
            let new = done.as_deref().unwrap_or("a new one");
            (format!("{who}{leads} makes place for {new}"), done.map(drop))
        }
        Deed::Slow(ms) => {
            let spoiled = each(&|name| target.spoil_disk(name, Some(&format!("delay-ms {ms}\n"))));
            std::thread::sleep(hold);
            let back = each(&|name| target.spoil_disk(name, None));
            (format!("disk of {who} slower by {ms} ms for {seconds:.1} s"), spoiled.and(back))
        }
        Deed::Full => {
            field.no_room.begins();
            let spoiled = each(&|name| target.spoil_disk(name, Some("full\n")));
            std::thread::sleep(hold);
            let back = each(&|name| target.spoil_disk(name, None));
            field.no_room.ends();
            (format!("no room on the disk of {who} for {seconds:.1} s"), spoiled.and(back))
        }
        Deed::Jump(ms) => {
            let (way, by) = (if ms < 0 { "behind" } else { "ahead" }, ms.unsigned_abs() as f64 / 1000.0);
            let done = target.clock(&names[0]).and_then(|clock| {
                let wrong = say(&clock, Some(&ms.to_string()));
                std::thread::sleep(hold);
                wrong.and(say(&clock, None))
            });
            (format!("clock of {who}{leads} {by:.1} s {way} for {seconds:.1} s"), done)
        }
    }
}

/// Cuts a server or a host off from the others.
fn cut(
    field: &Field<'_>,
    part: &Part,
    way: Way,
    names: &[String],
    who: &str,
) -> (String, Result<(), Failure>) {
    let (port, who) = match &part.victim {
        Victim::Host(number) => (net::uplink(*number), names.join(", ")),
        _ => (names[0].clone(), who.to_owned()),
    };
    let what = match way {
        Way::Both => format!("{who} cut off"),
        Way::Out => format!("nothing gets out of {who}"),
        Way::In => format!("nothing gets to {who}"),
    };
    let done = field.network.map_or_else(
        || Err(Failure::new(format!("cutting off {who}"), "the instance has no network of its own")),
        |network| {
            let cut = network.cut(&port, way);
            std::thread::sleep(Duration::from_millis(part.hold_ms));
            cut.and(network.heal(&port, way))
        },
    );
    (what, done)
}

fn damage(
    field: &Field<'_>,
    who: &str,
    dice: &mut Dice,
    harmed: &Mutex<Harmed>,
) -> (String, Result<(), Failure>) {
    match harm(&field.target.folder(who), field.still, dice, &mut harmed.lock()) {
        Ok(Some(what)) => (format!("{who}: {what}"), Ok(())),
        // With four files on three of four OSDs each, this can be.
        Ok(None) => (format!("{who} holds nothing to damage"), Ok(())),
        Err(error) => (format!("{who} not damaged"), Err(Failure::new(format!("damaging {who}"), error))),
    }
}
