//! Faults while clients work.

use std::time::Duration;

use proto::id::MemberId;
use quorum::Durability;
use quorum::replica::{Input, Wait};

use super::node::Node;
use super::{Event, OpRef, Sim};
use crate::invariants::Violation;
use crate::net::Weather;

/// Most nodes that a run ever has.
const NODES_MAX: u64 = 7;

/// What can go wrong, or is done by operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Kill(u64),
    PowerLoss(u64),
    Stop(u64),
    Split,
    Isolate(u64),
    OneWay(u64, u64),
    Heal,
    Weather,
    ClockRate(u64),
    WallClock(u64),
    Full(u64),
    DiskDies(u64),
    TableLost(u64),
    Sync(u64),
    HandOver,
    AddMember,
    RemoveMember(u64),
}

impl Fault {
    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Fault::Kill(_) => "kill",
            Fault::PowerLoss(_) => "power loss",
            Fault::Stop(_) => "stop",
            Fault::Split => "split",
            Fault::Isolate(_) => "isolate",
            Fault::OneWay(..) => "one-way cut",
            Fault::Heal => "heal",
            Fault::Weather => "weather",
            Fault::ClockRate(_) => "clock rate",
            Fault::WallClock(_) => "wall clock",
            Fault::Full(_) => "disk full",
            Fault::DiskDies(_) => "disk dies",
            Fault::TableLost(_) => "table lost",
            Fault::Sync(_) => "sync",
            Fault::HandOver => "hand over",
            Fault::AddMember => "add member",
            Fault::RemoveMember(_) => "remove member",
        }
    }
}

impl Sim {
    /// One fault.
    pub(super) fn fault(&mut self) -> Result<(), Violation> {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        let mut one = self.world.pick(&ids).copied().unwrap_or(1);
        let other = self.world.pick(&ids).copied().unwrap_or(1);
        if let Some((leader, _)) = self.leader().filter(|_| self.world.percent(40)) {
            one = leader;
        }
        let fault = match self.world.below(23) {
            0..=2 => Fault::Kill(one),
            3 | 4 => Fault::PowerLoss(one),
            5 => Fault::Stop(one),
            6 => Fault::Split,
            7 => Fault::Isolate(one),
            8 => Fault::OneWay(one, other),
            9 | 10 => Fault::Heal,
            11 => Fault::Weather,
            12 => Fault::ClockRate(one),
            13 => Fault::WallClock(one),
            14 => Fault::HandOver,
            15 => Fault::AddMember,
            16 => Fault::Full(one),
            17 => Fault::DiskDies(one),
            18 | 19 => Fault::Sync(one),
            20 => Fault::TableLost(one),
            _ => Fault::RemoveMember(one),
        };
        if self.may(&fault) {
            self.count(&fault);
            self.world.note(format_args!("fault {fault:?}"));
            self.inflict(fault)?;
        }
        Ok(())
    }

    /// Only what must be survived.
    fn may(&self, fault: &Fault) -> bool {
        match *fault {
            Fault::DiskDies(one) if self.nodes[&one].replica.is_none() || self.nodes[&one].full => false,
            Fault::PowerLoss(one) | Fault::DiskDies(one) => {
                // Class `quorum` survives the loss of power of a minority; who has not rejoined counts.
                let unsound = self.nodes.values().filter(|node| node.unsound && node.id != one).count();
                self.durability == Durability::Disk || (!self.changes && unsound < (self.nodes.len() - 1) / 2)
            }
            // It is got from others, who must be a majority of those that have theirs.
            Fault::TableLost(one) => {
                let unsound = self.nodes.values().filter(|node| node.unsound && node.id != one).count();
                !self.changes && unsound < (self.nodes.len() - 1) / 2
            }
            Fault::Full(one) => self.nodes[&one].replica.is_some() && !self.nodes[&one].dying,
            Fault::Stop(one) | Fault::Kill(one) => self.nodes[&one].replica.is_some(),
            Fault::RemoveMember(_) => self.changes,
            Fault::AddMember => {
                self.changes && self.nodes.keys().next_back().is_some_and(|last| *last < NODES_MAX)
            }
            _ => true,
        }
    }

    fn inflict(&mut self, fault: Fault) -> Result<(), Violation> {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        match fault {
            Fault::Kill(one) => {
                let node = self.nodes.get_mut(&one).expect("listed");
                node.replica = None;
                node.machine.kill(&mut self.world);
                self.restart_later(one);
            }
            Fault::PowerLoss(one) => {
                let node = self.nodes.get_mut(&one).expect("listed");
                node.replica = None;
                node.machine.lose_power(&mut self.world);
                (node.unsound, node.dying) = (true, false);
                self.restart_later(one);
            }
            Fault::Stop(one) => {
                self.nodes.get_mut(&one).expect("listed").back_up();
                let node = self.nodes.get_mut(&one).expect("listed");
                if let Some(mut replica) = node.replica.take() {
                    match replica.close(&mut Vec::new()) {
                        Err(_) if node.dying => return self.lose_disk(one),
                        Err(_) if node.full => rt::site!("member.closed.full"),
                        Err(error) => {
                            return Err(Violation::new("a stop succeeds", format!("node {one}: {error}")));
                        }
                        Ok(()) => {}
                    }
                }
                node.machine.life += 1;
                self.restart_later(one);
            }
            Fault::Split => {
                let (mut left, mut right) = (Vec::new(), Vec::new());
                for id in ids {
                    if self.world.percent(50) { left.push(id) } else { right.push(id) }
                }
                self.net.split(&left, &right);
                self.heal_later();
            }
            Fault::Isolate(one) => {
                let rest: Vec<u64> = ids.into_iter().filter(|id| *id != one).collect();
                self.net.split(&[one], &rest);
                self.heal_later();
            }
            Fault::OneWay(from, to) => {
                self.net.cut_one_way(from, to);
                self.heal_later();
            }
            Fault::Heal => self.net.heal(),
            Fault::Weather => self.net.weather = Weather::draw(&mut self.world),
            Fault::ClockRate(one) => {
                let (now, rate) = (self.world.now(), 900 + self.world.below(201));
                self.nodes.get_mut(&one).expect("listed").machine.set_rate(now, rate);
            }
            Fault::WallClock(one) => {
                // Now and then by much: somebody set it by hand.
                let most = if self.world.percent(20) { 1_200_000 } else { 4000 };
                let ahead = Duration::from_millis(self.world.below(most));
                let machine = &mut self.nodes.get_mut(&one).expect("listed").machine;
                rt::site!("clock.wall.jumps_back", ahead < machine.ahead);
                rt::site!("clock.wall.jumps_ahead", ahead > machine.ahead + Duration::from_secs(60));
                machine.ahead = ahead;
            }
            Fault::Full(one) => {
                let spare = self.world.below(2000);
                let node = self.nodes.get_mut(&one).expect("listed");
                node.set_full(Some(spare));
                let life = node.machine.life;
                let delay = self.world.micros(100_000, 4_000_000);
                self.world.after(delay, Event::Room { node: one, life });
            }
            Fault::DiskDies(one) => {
                let changes = self.world.below(8);
                let node = self.nodes.get_mut(&one).expect("listed");
                (node.unsound, node.dying) = (true, true);
                node.machine.disk.fail_after(changes);
            }
            Fault::TableLost(one) => {
                let node = self.nodes.get_mut(&one).expect("listed");
                node.replica = None;
                node.machine.kill(&mut self.world);
                node.unsound = true;
                node.lose_table(self.world.percent(50));
                self.restart_later(one);
            }
            Fault::Sync(one) => {
                let wait = self.nobody(one);
                return self.tell(one, Input::Sync(wait));
            }
            Fault::HandOver => return self.hand_over(),
            Fault::AddMember => return self.add_member(),
            Fault::RemoveMember(one) => return self.remove_member(one),
        }
        Ok(())
    }

    /// The disk failed under its member, and what was not synced is gone.
    pub(super) fn lose_disk(&mut self, one: u64) -> Result<(), Violation> {
        rt::site!("disk.dead.replaced");
        let node = self.nodes.get_mut(&one).expect("listed");
        node.replica = None;
        node.machine.lose_power(&mut self.world);
        (node.unsound, node.dying) = (true, false);
        if self.quiet {
            return self.start(one);
        }
        self.restart_later(one);
        Ok(())
    }

    /// There is room again: who paused for want of it starts anew, from what is on its disk.
    pub(super) fn room(&mut self, one: u64, life: u64) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&one) else { return Ok(()) };
        if node.machine.life != life {
            return Ok(());
        }
        node.set_full(None);
        let Some(replica) = &node.replica else { return Ok(()) };
        if replica.stopped().is_none() {
            rt::site!("member.full.nothing_written");
            return Ok(());
        }
        if !replica.may_start_anew() {
            self.world.after(Duration::from_millis(20), Event::Room { node: one, life });
            return Ok(());
        }
        rt::site!("member.full.starts_anew");
        node.replica = None;
        node.machine.life += 1;
        self.start(one)
    }

    fn restart_later(&mut self, node: u64) {
        let delay = self.world.micros(1_000, 1_500_000);
        self.world.after(delay, Event::Start { node });
    }

    fn heal_later(&mut self) {
        let delay = self.world.micros(100_000, 3_000_000);
        self.world.after(delay, Event::Heal);
    }

    fn hand_over(&mut self) -> Result<(), Violation> {
        let Some((mut leader, members)) = self.leader() else { return Ok(()) };
        if self.world.percent(20) {
            leader = self.anybody(leader);
        }
        let to = self.world.pick(&members).copied().map(MemberId).filter(|_| self.world.percent(70));
        self.tell(leader, Input::Transfer(to))
    }

    fn anybody(&mut self, or: u64) -> u64 {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        self.world.pick(&ids).copied().unwrap_or(or)
    }

    pub(super) fn nobody(&mut self, node: u64) -> Wait<OpRef> {
        let since = self.nodes[&node].now(&self.world).monotonic;
        let most = if self.world.percent(30) { 50_000 } else { 5_000_000 };
        let deadline = since + self.world.micros(5_000, most);
        Wait { waiter: OpRef::Nobody, since, deadline }
    }

    fn add_member(&mut self) -> Result<(), Violation> {
        let Some((leader, members)) = self.leader() else { return Ok(()) };
        if self.world.percent(20) {
            // One that is a member is added again.
            let member = self.world.pick(&members).copied().unwrap_or(leader);
            let wait = self.nobody(leader);
            return self.tell(leader, Input::Add { member, address: format!("sim://{member}"), wait });
        }
        if members.len() >= 5 {
            return Ok(());
        }
        let id = self.nodes.keys().next_back().map_or(1, |last| last + 1);
        let node = Node::new(&mut self.world, id, members);
        self.nodes.insert(id, node);
        self.start(id)?;
        let wait = self.nobody(leader);
        self.tell(leader, Input::Add { member: id, address: format!("sim://{id}"), wait })
    }

    fn remove_member(&mut self, member: u64) -> Result<(), Violation> {
        let Some((mut asked, members)) = self.leader() else { return Ok(()) };
        if members.len() <= 2 {
            return Ok(());
        }
        // An operator may ask anybody, and more than once.
        if self.world.percent(20) {
            asked = self.anybody(asked);
        }
        let wait = self.nobody(asked);
        self.tell(asked, Input::Remove { member, wait })
    }
}
