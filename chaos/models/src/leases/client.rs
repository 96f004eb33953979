//! The model client; see the simulator's (`chaos/src/leases/client.rs`), which it follows.

use std::time::Duration;

use proto::mrc::{LEASE_ATTR, LEASE_READ, LEASE_WRITE};

use super::{Fault, LeaseModel, Message, Op, State, UNIT, broken, id};

/// What is kept of the file: `version` is `UNSURE` while a change of its own may be newer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    pub(crate) bits: u32,
    pub(crate) number: u64,
    pub(crate) version: u64,
}

const UNSURE: u64 = 999;

/// A client.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Client {
    /// The leader at which its session is open.
    pub(crate) incarnation: u64,
    pub(crate) epoch: u64,
    /// The session has to be opened: what is held is still good, nothing is added.
    pub(crate) opening: bool,
    /// Number of its last opening.
    pub(crate) number: u64,
    /// The leader for which the next one is meant.
    pub(crate) meant_for: u64,
    /// Answers to what was asked until then bring nothing.
    pub(crate) forgotten: u64,
    /// End of its leases' time.
    pub(crate) until: Duration,
    pub(crate) kept: Option<Kept>,
    /// Highest grant that was recalled.
    pub(crate) overtaken: u64,
    /// A change of its own is under way: nothing is kept.
    pub(crate) changing: bool,
    /// When its last change ended: answers to what was asked before may be older.
    pub(crate) changed: u64,
    /// Place in the script.
    pub(crate) next: usize,
    /// It waits for the answer.
    pub(crate) waits: bool,
    /// Data is on its way to the OSD.
    pub(crate) writing: bool,
    /// Its clock has lost time.
    pub(crate) skewed: bool,
    /// Recalled, and to be returned when no data is on its way.
    pub(crate) owes: Option<(u32, u64)>,
}

impl Client {
    pub(crate) fn may_ask(&self, script: &[Op]) -> bool {
        !self.waits && !self.opening && !self.writing && self.next < script.len()
    }

    fn in_time(&self, now: Duration, fault: Option<Fault>) -> bool {
        now < self.until || fault == Some(Fault::NoTime)
    }

    /// Whether it would use `bits` at this moment.
    pub(crate) fn keeps(&self, now: Duration, bits: u32, fault: Option<Fault>) -> bool {
        self.in_time(now, fault) && self.kept.is_some_and(|kept| kept.bits & bits != 0)
    }

    pub(crate) fn may_write(&self, now: Duration) -> bool {
        self.keeps(now, LEASE_WRITE, None)
    }

    /// The version that it would answer at this moment without asking.
    pub(crate) fn answers(&self, now: Duration, fault: Option<Fault>) -> Option<u64> {
        let kept = self.kept.filter(|kept| self.keeps(now, LEASE_ATTR, fault) && kept.version != UNSURE)?;
        Some(kept.version)
    }

    /// Its clock may have lost `units` until now, and that makes a difference. When it did so makes none: whatever the client
    /// does before its time is over it does with a good clock as well, and time lost later reaches as far or farther.
    pub(crate) fn may_lose_time(&self, now: Duration, units: u32) -> bool {
        !self.skewed && self.kept.is_some() && self.until <= now && now < self.until + UNIT * units
    }

    pub(crate) fn renewable(&self, now: Duration) -> bool {
        !self.opening && self.until <= now + UNIT
    }

    /// It was expelled.
    fn drop_all(&mut self) {
        (self.kept, self.overtaken, self.owes, self.until) = (None, 0, None, Duration::ZERO);
    }

    /// The request is over, well or not.
    fn over(&mut self) {
        self.waits = false;
        self.next += 1;
    }

    fn change_over(&mut self, stamp: u64) {
        (self.changing, self.changed) = (false, stamp);
    }

    /// The leader does not know the session, or is another one.
    pub(crate) fn unknown(&mut self, incarnation: u64) {
        (self.opening, self.meant_for) = (true, incarnation);
    }
}

impl State {
    pub(super) fn ask(&mut self, model: &LeaseModel, number: usize) {
        let op = model.scripts[number][self.clients[number].next];
        let client = &mut self.clients[number];
        if op == Op::Write {
            client.writing = true;
            self.net.push(Message::Data { from: number, epoch: client.epoch });
            return;
        }
        let known = client.incarnation == self.incarnation
            && self.engine.takes_part(id(number))
            && !self.engine.is_expelled(id(number));
        if !known {
            return client.unknown(self.incarnation);
        }
        client.waits = true;
        if op == Op::Change {
            client.changing = true;
            // What it keeps is not true any more from some moment on; the bits stay its own.
            if let Some(kept) = &mut client.kept {
                kept.version = UNSURE;
            }
        }
        self.request(model, number, op);
    }

    pub(super) fn renew(&mut self, model: &LeaseModel, number: usize) {
        let client = &mut self.clients[number];
        let at_home = client.incarnation == self.incarnation;
        let Some(ttl) = at_home.then(|| self.engine.renew(self.now, id(number))).flatten() else {
            return client.unknown(self.incarnation);
        };
        let least = if model.fault == Some(Fault::RenewedInMargin) {
            Duration::from_millis(1)
        } else {
            Duration::ZERO
        };
        if self.engine.epoch(id(number)) != client.epoch {
            // It was expelled and opened anew by an attempt of its own whose answer it has not heard.
            client.drop_all();
            client.epoch = self.engine.epoch(id(number));
        }
        client.until = client.until.max(self.now + ttl.max(least));
    }

    pub(super) fn send_opening(&mut self, number: usize) {
        let stamp = self.stamp;
        let client = &mut self.clients[number];
        // Grows, and is a name like all that only grows.
        client.number = stamp;
        let told = client.kept.map_or(0, |kept| kept.bits) | client.owes.map_or(0, |owes| owes.0);
        let Client { number: opening, meant_for, epoch, .. } = *client;
        let sent = self.now;
        self.net.push(Message::Open { from: number, sent, number: opening, meant_for, epoch, told });
    }

    pub(super) fn opened_arrives(&mut self, message: Message) {
        let Message::Opened { to, sent, number, ttl, epoch, incarnation } = message else { return };
        let stamp = self.stamp;
        let client = &mut self.clients[to];
        // It hears only the answer to its last attempt.
        if number != client.number || !client.opening {
            return;
        }
        if epoch != client.epoch {
            client.drop_all();
        }
        if client.waits && client.incarnation != incarnation {
            // Its request died with the former leader.
            if client.changing {
                client.change_over(stamp);
            }
            client.over();
        }
        (client.epoch, client.incarnation, client.meant_for) = (epoch, incarnation, incarnation);
        (client.opening, client.forgotten) = (false, stamp);
        client.until = client.until.max(sent + ttl);
        self.pay(to, false);
    }

    pub(super) fn row_arrives(&mut self, model: &LeaseModel, message: Message) {
        let Message::Row { to, asked, incarnation, version, bits, number, changed } = message else { return };
        let stamp = self.stamp;
        let client = &mut self.clients[to];
        let unsure = asked <= client.changed || client.changing && !changed;
        let current = incarnation == client.incarnation && !client.opening && asked > client.forgotten;
        let late = number <= client.overtaken && model.fault != Some(Fault::LateGrant);
        let older = client.kept.is_some_and(|kept| number < kept.number);
        if current && bits != 0 && !late && !older {
            let version = if unsure { UNSURE } else { version };
            client.kept = Some(Kept { bits, number, version });
        }
        if client.waits && incarnation == client.incarnation {
            if changed {
                client.change_over(stamp);
            }
            client.over();
        }
    }

    /// The answer to a request was lost: the client gives up. A change may have been made.
    pub(super) fn answer_lost(&mut self, to: usize, changed: bool) {
        let stamp = self.stamp;
        let client = &mut self.clients[to];
        if client.waits {
            if changed {
                client.change_over(stamp);
            }
            client.over();
        }
    }

    pub(super) fn recalls_arrive(
        &mut self,
        model: &LeaseModel,
        to: usize,
        incarnation: u64,
        recalls: &[(u32, u64)],
    ) {
        let client = &mut self.clients[to];
        if incarnation != client.incarnation || client.opening {
            return;
        }
        for (bits, number) in recalls {
            client.overtaken = client.overtaken.max(*number);
            if let Some(kept) = &mut client.kept {
                kept.bits &= !bits;
            }
            client.kept = client.kept.filter(|kept| kept.bits != 0);
            let owed = client.owes.map_or(0, |owes| owes.0);
            client.owes = Some((owed | bits, *number));
        }
        self.pay(to, model.fault == Some(Fault::ReturnWhileWriting));
    }

    /// Returns what was recalled, when nothing uses it any more and the leader knows what is held.
    fn pay(&mut self, number: usize, careless: bool) {
        let client = &mut self.clients[number];
        if client.opening || client.writing && !careless {
            return;
        }
        if let Some((bits, upto)) = client.owes.take() {
            let opening = client.number;
            self.net.push(Message::Return { from: number, opening, bits, number: upto });
        }
    }

    /// Data comes to the OSD, which knows epochs and no leases; then its sender hears of it.
    pub(super) fn data_arrives(&mut self, model: &LeaseModel, from: usize, epoch: u64) {
        if epoch < self.fences[from] {
            self.refused = true;
        } else if self.clients.iter().enumerate().any(|(number, client)| {
            number != from && client.keeps(self.now, LEASE_READ | LEASE_WRITE, model.fault)
        }) {
            self.broken = Some(broken::FENCED);
        }
        let client = &mut self.clients[from];
        if client.writing {
            client.writing = false;
            client.next += 1;
            self.pay(from, false);
        }
    }
}
