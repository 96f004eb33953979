//! Between replicas, clients and the network.

use quorum::QuorumError;
use quorum::replica::{Input, Output, Wait};

use super::{Answer, CLIENT_PATIENCE, Event, OpRef, Sim, Task, check};
use crate::invariants::Violation;

impl Sim {
    /// Gives an input to a running replica and lets its outputs happen.
    pub(super) fn tell(&mut self, id: u64, input: Input<OpRef>) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let now = node.now(&self.world);
        let Some(replica) = &mut node.replica else { return Ok(()) };
        let mut out = Vec::new();
        replica.handle(input, now, &mut out);
        replica.settle(now, &mut out);
        node.paused |= node.full && replica.stopped().is_some();
        if let Some(cause) = replica.stopped().filter(|_| !node.paused) {
            if node.dying {
                self.world.note(format_args!("the disk of node {id} failed: {cause}"));
                return self.lose_disk(id);
            }
            return Err(Violation::new("no member stops by itself", format!("node {id}: {cause}")));
        }
        if !replica.is_rejoining() && node.unsound && !node.dying {
            node.unsound = false;
            self.world.note(format_args!("node {id} is sound"));
        }
        let incarnation = replica.incarnation();
        let (role, engine) = (replica.role(), replica.engine());
        let (last, committed, applied) = (engine.last_index(), engine.committed(), replica.applied());
        self.world.note(format_args!(
            "node {id} term {} leader {} leads {} last {last} committed {committed} applied {applied} out {}",
            role.term,
            role.leader,
            role.leading,
            out.len()
        ));
        self.checks.look(&self.nodes[&id])?;
        if self.world.percent(3) {
            self.checks.look_at_log(&self.nodes[&id], 40)?;
        }
        for output in out {
            self.perform(id, incarnation, output);
        }
        Ok(())
    }

    fn perform(&mut self, id: u64, incarnation: u64, output: Output<OpRef>) {
        let life = self.nodes[&id].machine.life;
        match output {
            Output::Send { to, message } => {
                for delay in self.net.fate(&mut self.world, id, to) {
                    let message = message.clone();
                    self.world.after(delay, Event::Deliver { to, from: id, incarnation, message });
                }
            }
            Output::Answer(OpRef::Client { client, attempt }, result) => {
                self.reply(id, client, attempt, result)
            }
            Output::Answer(OpRef::Nobody, _) | Output::Members(_) => {}
            Output::Sync(job) => {
                let delay = self.world.micros(100, 8_000);
                self.world.after(delay, Event::Synced { node: id, life, job });
            }
            Output::Flush(index) => {
                let delay = self.world.micros(1_000, 80_000);
                self.world.after(delay, Event::Flushed { node: id, life, index });
            }
        }
    }

    /// Sends a replica's answer to a client. A read looks at the table now, as a service does.
    fn reply(&mut self, node: u64, client: u64, attempt: u64, result: Result<bytes::Bytes, QuorumError>) {
        let Some(asker) = self.clients.iter().find(|one| one.id == client) else { return };
        let result = result.map(|bytes| match asker.op {
            Some((_, Task::Read)) => Answer::Read(check::position(&self.nodes[&node])),
            _ => Answer::Written(String::from_utf8_lossy(&bytes).into_owned()),
        });
        let delay = self.world.micros(100, 3_000);
        if !self.world.percent(if self.quiet { 0 } else { 2 }) {
            self.world.after(delay, Event::Answer { client, attempt, result });
        }
    }

    pub(super) fn begin(&mut self, client: u64) {
        let op = self.next_op;
        self.next_op += 1;
        let reads_percent = self.client(client).map_or(0, |asker| asker.reads_percent);
        let reads = self.world.percent(reads_percent);
        let (key, by) = (self.world.below(3), self.world.below(100));
        let Some(asker) = self.client(client) else { return };
        if reads {
            asker.read(op);
        } else {
            asker.write(op, u8::try_from(key).unwrap_or(0), by);
        }
        let task = asker.op;
        self.checks.order.begin(op);
        self.world.note(format_args!("client {client} begins {op} {task:?}"));
        self.send(client);
    }

    fn send(&mut self, client: u64) {
        let Some(asker) = self.client(client) else { return };
        asker.attempt += 1;
        let (attempt, node, origin) = (asker.attempt, asker.target, asker.origin());
        let write = asker.op.and_then(|(_, task)| task.command());
        if let Some(command) = write.filter(|_| !self.quiet && self.world.percent(4)) {
            let late = self.world.micros(50_000, 2_500_000);
            self.world.after(late, Event::Late { node, origin, command });
        }
        let delay = self.world.micros(100, 3_000);
        if !self.world.percent(if self.quiet { 0 } else { 2 }) {
            self.world.after(delay, Event::Request { client, attempt, node });
        }
        self.world.after(CLIENT_PATIENCE, Event::Retry { client, attempt });
    }

    pub(super) fn request(&mut self, client: u64, attempt: u64, node: u64) -> Result<(), Violation> {
        let Some(asker) = self.clients.iter().find(|one| one.id == client) else { return Ok(()) };
        let Some((_, task)) = asker.op.filter(|_| asker.attempt == attempt) else { return Ok(()) };
        let origin = asker.origin();
        let Some(server) = self.nodes.get(&node) else { return Ok(()) };
        let Some(replica) = &server.replica else { return Ok(()) };
        let since = server.now(&self.world).monotonic;
        let waiter = OpRef::Client { client, attempt };
        let wait = Wait { waiter, since, deadline: since + self.world.micros(100_000, 2_000_000) };
        match task {
            Task::Write(add) => self.tell(node, Input::Propose { origin, command: add.encode(), wait }),
            Task::Read => {
                // The driver's fast path: nobody is asked while the lease holds.
                let fast = self.world.percent(80);
                if fast && replica.lease_until().is_some_and(|until| since < until) {
                    self.reply(node, client, attempt, Ok(bytes::Bytes::new()));
                    return Ok(());
                }
                self.tell(node, Input::Read(wait))
            }
        }
    }

    pub(super) fn answer(
        &mut self,
        client: u64,
        attempt: u64,
        result: Result<Answer, QuorumError>,
    ) -> Result<(), Violation> {
        let Some(asker) = self.client(client) else { return Ok(()) };
        let Some((op, task)) = asker.op.filter(|_| asker.attempt == attempt) else { return Ok(()) };
        self.world.note(format_args!("client {client} gets {op} {result:?}"));
        match (task, result) {
            (Task::Read, Ok(Answer::Read(index))) => self.checks.order.read(op, index)?,
            (Task::Write(_), Ok(Answer::Written(text))) => {
                let index = text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
                self.checks.once.acknowledged(op, index, &text)?;
                self.checks.order.write(op, index)?;
            }
            (_, Ok(_)) => {
                return Err(Violation::new("answers fit", format!("client {client} got another's answer")));
            }
            (_, Err(QuorumError::NotLeader { leader: Some(hint), .. })) => {
                if let Some(asker) = self.client(client) {
                    asker.target = hint.trim_start_matches("sim://").parse().unwrap_or(1);
                }
                self.again(client, attempt);
                return Ok(());
            }
            (_, Err(QuorumError::Forgotten { sequence })) => {
                let what = format!(
                    "client {client} is told that it acknowledged sequence {sequence}, which it did not"
                );
                return Err(Violation::new("exactly once", what));
            }
            (_, Err(_)) => {
                self.elsewhere(client);
                self.again(client, attempt);
                return Ok(());
            }
        }
        if let Some(asker) = self.client(client) {
            asker.op = None;
            asker.done += 1;
        }
        if !self.quiet {
            let pause = self.world.micros(0, 60_000);
            self.world.after(pause, Event::Begin { client });
        }
        Ok(())
    }

    /// Sends again a little later.
    fn again(&mut self, client: u64, attempt: u64) {
        let delay = self.world.micros(5_000, 60_000);
        self.world.after(delay, Event::Retry { client, attempt });
    }

    pub(super) fn retry(&mut self, client: u64, attempt: u64) {
        if self.client(client).is_some_and(|asker| asker.attempt == attempt && asker.op.is_some()) {
            if self.world.percent(50) {
                self.elsewhere(client);
            }
            self.send(client);
        }
    }

    /// The client tries any member next.
    fn elsewhere(&mut self, client: u64) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        let target = self.world.pick(&ids).copied().unwrap_or(1);
        if let Some(asker) = self.client(client) {
            asker.target = target;
        }
    }
}
