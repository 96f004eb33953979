//! Reads that a majority of replicas answers without the primary: the client's ballot, and the replica's word and look.

use std::collections::BTreeSet;
use std::time::Duration;

use client::engine::hedging::Ballot;
use osd::engine::replication::{Column, Kept, Lists, Range, Word};

use super::client::Op;
use super::{CLIENT_PATIENCE, Event, Sim};
use crate::invariants::Violation;

/// A condition (of reads, and of votes) that is left out, so that the invariants must notice. What takes more luck is left out of the model
/// (`chaos/models`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// One replica's word is enough.
    OneWord,
    /// Nobody looks whether the object changed while it was read.
    LooksOnce,
    /// The primary looks into its store although it has yet to apply what it has numbered.
    LooksEarly,
    /// A learner votes again at once, whatever it lacks, and without a change of lists.
    VotesAtOnce,
}

/// Replicas are being asked for the read of a client.
#[derive(Debug)]
pub(super) struct Asking {
    ballot: Ballot<Word>,
    giver: u64,
    given: Option<(Word, u64)>,
    /// Who has answered: messages may arrive twice.
    answered: BTreeSet<u64>,
    asked: usize,
    /// The primary was not asked.
    alone: bool,
}

/// A client's question to a replica.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    client: u64,
    attempt: u64,
    pub(super) node: u64,
    sent: Duration,
    lists: Lists,
    /// Data is wanted.
    gives: bool,
}

/// A replica's look into its store.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    client: u64,
    attempt: u64,
    pub(super) node: u64,
    life: u64,
    column: u64,
    object: u64,
    block: u32,
    word: Word,
    /// What was seen at its begin.
    early: u64,
}

impl Sim {
    /// How a read is done: of the primary, of others, or of both.
    pub(super) fn read_somehow(&mut self, id: u64) {
        let attempt = self.clients[usize::try_from(id).expect("few clients")].attempt();
        match self.world.below(100) {
            0..40 => self.ask_primary(id),
            40..70 => self.ask_replicas(id, true),
            _ => {
                self.ask_primary(id);
                let delay = self.world.micros(1, 60_000);
                self.world.after(delay, Event::Hedge { client: id, attempt });
            }
        }
    }

    /// The primary has not answered: others are asked too.
    pub(super) fn hedge(&mut self, id: u64, attempt: u64) {
        if self.op(id, attempt).is_some() {
            *self.faults.entry("hedged").or_default() += 1;
            self.ask_replicas(id, false);
        }
    }

    fn ask_replicas(&mut self, id: u64, alone: bool) {
        let at = usize::try_from(id).expect("few clients");
        let attempt = self.clients[at].attempt();
        let Some(op) = self.op(id, attempt) else { return };
        let lists = self.clients[at].lists[&op.column()].clone();
        let primary = osd::engine::replication::role(&self.clients[at].map, &lists).primary;
        let others: Vec<u64> = lists.list.iter().copied().filter(|osd| Some(*osd) != primary).collect();
        let giver = self.world.pick(&others).copied().filter(|_| lists.previous.is_empty() && !lists.all);
        let Some(giver) = giver else {
            if alone {
                self.ask_primary(id);
            }
            return;
        };
        let replicas = if self.broken == Some(Broken::OneWord) { 1 } else { lists.list.len() };
        let (ballot, asked) = (Ballot::new(replicas), lists.list.len());
        let (given, answered) = (None, BTreeSet::new());
        self.clients[at].asking = Some(Asking { ballot, giver, given, answered, asked, alone });
        let sent = self.world.now();
        for node in lists.list.iter().copied() {
            for delay in self.net.fate(&mut self.world, 2000 + id, node) {
                let (lists, gives) = (lists.clone(), node == giver);
                let question = Question { client: id, attempt, node, sent, lists, gives };
                self.world.after(delay, Event::Question(Box::new(question)));
            }
        }
    }

    /// A replica's word as the driver asks the engine for it.
    fn word(&self, id: u64, column: u64, object: u64) -> Option<Word> {
        let node = &self.nodes[&id];
        // It may have left the list since it was asked.
        node.lists.get(&column)?;
        let kept = Kept {
            adopted: node.adopted(column),
            doubtful: node.is_doubtful(column),
            local: node.version(column, object),
            damaged: node.damaged.contains(&(column, object)),
        };
        let role = self.role(id, column);
        let fresh = || Column::new(id, role, node.numbers);
        let engine = node.columns.get(&column).cloned().unwrap_or_else(fresh);
        engine.word(object, kept).ok()
    }

    /// A question reached a replica.
    pub(super) fn question(&mut self, question: Question) {
        let Question { client, attempt, node: id, sent, lists, gives } = question;
        let node = &self.nodes[&id];
        if !node.runs || node.map.epoch == 0 || self.world.now() > sent + CLIENT_PATIENCE {
            return;
        }
        let Some(Op::Read { column, object, block }) = self.op(client, attempt) else { return };
        let word = if self.shape(id, column, &lists) { self.word(id, column, object) } else { None };
        let (true, Some(word)) = (gives, word) else {
            return self.say(id, client, attempt, word.map(|word| (word, 0)));
        };
        let node = &self.nodes[&id];
        let early = node.content(column, object).map_or(0, |content| content.value(block));
        let life = node.life;
        let look = Look { client, attempt, node: id, life, column, object, block, word, early };
        let most = if self.world.percent(20) { 100_000 } else { 3_000 };
        let delay = self.world.micros(1, most);
        self.world.after(delay, Event::Look(Box::new(look)));
    }

    /// A replica has read; the object must be what it was before.
    pub(super) fn looked(&mut self, look: Look) {
        let Look { client, attempt, node, life, column, object, block, word, early } = look;
        if !self.lives(node, life) {
            return;
        }
        let same = self.word(node, column, object) == Some(word);
        let late = self.nodes[&node].content(column, object).map_or(0, |content| content.value(block));
        let value = if self.world.percent(50) { early } else { late };
        let sound = same || self.broken == Some(Broken::LooksOnce);
        self.say(node, client, attempt, sound.then_some((word, value)));
    }

    fn say(&mut self, node: u64, client: u64, attempt: u64, said: Option<(Word, u64)>) {
        for delay in self.net.fate(&mut self.world, node, 2000 + client) {
            self.world.after(delay, Event::Said { client, attempt, node, said });
        }
    }

    /// A replica's word reached the client.
    pub(super) fn said(
        &mut self,
        id: u64,
        attempt: u64,
        node: u64,
        said: Option<(Word, u64)>,
    ) -> Result<(), Violation> {
        if self.op(id, attempt).is_none() {
            return Ok(());
        }
        let client = &mut self.clients[usize::try_from(id).expect("few clients")];
        let Some(asking) = &mut client.asking else { return Ok(()) };
        if !asking.answered.insert(node) {
            return Ok(());
        }
        match said {
            Some((word, value)) if node == asking.giver => {
                asking.given = Some((word, value));
                asking.ballot.gives(word);
            }
            Some((word, _)) => asking.ballot.says(word),
            None => {}
        }
        let open = asking.asked - asking.answered.len();
        let refused = said.is_none() && node == asking.giver;
        if asking.ballot.is_decided()
            && let Some((Word { version, .. }, value)) = asking.given
        {
            if let Some(Op::Read { column, object, block }) = self.op(id, attempt) {
                let version = (version.epoch, version.number);
                self.checks.bytes.shows((column, object), version, block, value)?;
            }
            *self.faults.entry("read by replicas").or_default() += 1;
            return self.client_answer(id, attempt, Ok(value));
        }
        if refused || asking.ballot.is_hopeless(open) {
            let alone = client.asking.take().is_some_and(|asking| asking.alone);
            if alone {
                self.ask_primary(id);
            }
        }
        Ok(())
    }

    /// What a primary waits for before it looks into its store.
    pub(super) fn looks_after(&self, block: u32) -> Range {
        if self.broken == Some(Broken::LooksEarly) {
            return Range::NONE;
        }
        Range { from: block, to: block + 1 }
    }
}
