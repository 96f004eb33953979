//! What a primary asks of its members so that all hold the same: to adopt the epoch, to take what they lack, to give what it lacks.

use std::time::Duration;

use super::Phase;
use crate::engine::replication::column::{After, Called, Column};
use crate::engine::replication::effect::{Request, Work};
use crate::engine::replication::member::Member;

impl<P: Clone, W> Column<P, W> {
    pub(super) fn ask_to_adopt(&mut self, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        let epoch = primary.epoch;
        // Not before a majority has all of it: otherwise the only holder of an object could be lost after the state
        // of the epoch was fixed.
        let agreeing = primary.voters().filter(|(_, member)| member.agrees()).count();
        if rt::site!("column.adopt.no_majority_agrees", !primary.fixed && agreeing < primary.needed()) {
            return;
        }
        let ready = |member: &Member| {
            let has_room = member.full_until <= now;
            member.listed && member.agrees() && !member.adopted && !member.adopting && member.up && has_room
        };
        let due: Vec<(u64, u64)> = primary
            .members
            .iter_mut()
            .filter(|(_, member)| ready(member))
            .map(|(osd, member)| {
                member.adopting = true;
                (*osd, member.talk)
            })
            .collect();
        primary.fixed |= !due.is_empty();
        for (osd, talk) in due {
            if osd == self.me {
                self.work(Work::Adopt { epoch }, After::Adopt { epoch });
            } else {
                self.call(osd, epoch, talk, Request::Adopt, Called::Adopt);
            }
        }
    }

    pub(super) fn repair(&mut self, now: Duration) {
        let Some(primary) = &mut self.primary else { return };
        let (me, epoch) = (self.me, primary.epoch);
        let mut calls = Vec::new();
        let objects = &primary.objects;
        let heads = &primary.heads;
        for (osd, member) in &mut primary.members {
            if *osd == me || !member.listed {
                continue;
            }
            // What is pushed must hold every change that was numbered before: later ones are sent one by one.
            let still = |object: &&u64| !heads.contains_key(object) && !objects.contains_key(object);
            // Somebody waits for the commit of these.
            let urgent = |member: &Member| {
                let changed = primary.changes.keys().map(|(object, _)| object);
                changed.filter(|object| member.dirty.contains(object)).find(still).copied()
            };
            loop {
                let first = member.may_hurry(now).then(|| urgent(member)).flatten();
                let next =
                    || member.may_move(now).then(|| member.dirty.iter().find(still).copied()).flatten();
                rt::site!("column.repair.somebody_waits", first.is_some());
                let Some(object) = first.or_else(next) else { break };
                member.dirty.remove(&object);
                member.moving.insert(object);
                calls.push((*osd, member.talk, object, member.has.remove(&object)));
            }
        }
        for (osd, talk, object, has) in calls {
            rt::site!("column.repair.unknown_version", has.is_none());
            self.call(osd, epoch, talk, Request::Push { object, has }, Called::Push { object });
        }
        while let Some(object) = self.fetchable(now) {
            self.fetch(object, false);
        }
    }

    /// The object that this OSD lacks and somebody has that comes next.
    fn fetchable(&self, now: Duration) -> Option<u64> {
        let primary = self.primary.as_ref()?;
        let own = primary.members.get(&self.me).filter(|own| own.may_hurry(now))?;
        let held = |object: &&u64| own.dirty.contains(object) && self.holder(**object).is_some();
        if primary.phase == Phase::Settling {
            // What others lack as well goes first: they get it from here, and a majority that agrees is waited for.
            let others = primary.listed().filter(|(osd, _)| **osd != self.me).map(|(_, member)| member);
            let mut others: Vec<&Member> = others.filter(|member| member.is_known()).collect();
            others.sort_by_key(|member| member.dirty.len());
            let first = others.iter().flat_map(|member| &member.dirty).find(held);
            if let Some(object) = first {
                return Some(*object);
            }
        }
        own.may_move(now).then(|| own.dirty.iter().find(held).copied()).flatten()
    }

    pub(super) fn holder(&self, object: u64) -> Option<u64> {
        let primary = self.primary.as_ref()?;
        let has = |(osd, member): &(&u64, &Member)| {
            **osd != self.me
                && member.up
                && member.is_known()
                && !member.dirty.contains(&object)
                && !member.moving.contains(&object)
        };
        primary.members.iter().find(has).map(|(osd, _)| *osd)
    }

    /// Gets an object that this OSD lacks, or removes it when it shall not exist.
    pub(in crate::engine::replication) fn fetch(&mut self, object: u64, urgent: bool) {
        let holder = self.holder(object);
        let Some(primary) = &mut self.primary else { return };
        rt::site!("column.fetch.nobody_has_it", holder.is_none());
        let (Some(holder), epoch) = (holder, primary.epoch) else { return };
        let own = primary.own();
        if !own.dirty.remove(&object) {
            return;
        }
        own.moving.insert(object);
        let talk = primary.members[&holder].talk;
        let whole = rt::site!("column.fetch.whole", primary.whole.contains(&object));
        let what = Request::Fetch { object, whole, urgent };
        self.call(holder, epoch, talk, what, Called::Fetch { object });
    }
}
