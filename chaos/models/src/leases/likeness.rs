//! When two states are alike: grants, recalls, tickets and stamps matter by their order only, moments by how far off they are,
//! and what is longer over than anything lasts is over. Without that no two ways through the protocol would ever meet.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use mrc::engine::leases::Word;

use super::client::{Client, Kept};
use super::leader::{Expelling, Pending};
use super::{Message, START, State, TIMES, UNIT};

/// Names are from here on; what is below has a meaning of its own ("none", "of a former leader's time").
const NAMES: u64 = 1 << 40;

/// What the text says a word is: see [`Word`].
struct Words(Vec<Word>);

impl Words {
    fn plain(&mut self, value: impl Into<u64>) {
        self.0.push(Word::Plain(value.into()));
    }

    fn count(&mut self, count: usize) {
        self.plain(count as u64);
    }

    fn name(&mut self, name: u64) {
        self.0.push(Word::Name(name));
    }

    fn moment(&mut self, moment: Duration) {
        self.0.push(Word::Moment(moment));
    }
}

impl State {
    fn words(&self) -> Vec<Word> {
        // Named one by one, so that a new field cannot be forgotten. Only the order of stamps matters, and all later ones are
        // above those that there are.
        let Self {
            now: _,
            stamp: _,
            engine,
            incarnation,
            pending,
            expelling,
            rows,
            version,
            fences,
            clients,
            net,
            faults,
            refused,
            taken_up,
            broken,
        } = self;
        let mut words = Words(Vec::with_capacity(128));
        engine.words(|word| words.0.push(word));
        words.plain(*incarnation);
        words.count(pending.len());
        for (ticket, of) in pending {
            let Pending { from, asked, op, pass } = of;
            words.name(*ticket);
            words.count(*from);
            words.name(*asked);
            words.plain(*op as u8);
            words.plain(pass.is_some());
        }
        words.count(expelling.len());
        for Expelling { session, number, wrote, raised } in expelling {
            words.count(*session);
            words.name(*number);
            words.plain(*wrote);
            words.plain(raised.unwrap_or(0));
        }
        for epoch in rows.iter().chain(fences) {
            words.plain(*epoch);
        }
        for client in clients {
            self.client_to(client, &mut words);
        }
        let mut net: Vec<&Message> = net.iter().collect();
        net.sort_unstable();
        words.count(net.len());
        for message in net {
            message_to(message, &mut words);
        }
        words.plain(*version);
        words.plain(*faults);
        for flag in [*refused, *taken_up, broken.is_some()] {
            words.plain(flag);
        }
        words.0
    }

    fn client_to(&self, client: &Client, words: &mut Words) {
        let Client {
            incarnation,
            epoch,
            opening,
            number,
            meant_for,
            forgotten,
            until,
            kept,
            overtaken,
            changing,
            changed,
            next,
            waits,
            writing,
            skewed,
            owes,
        } = *client;
        for value in [incarnation, epoch, meant_for] {
            words.plain(value);
        }
        for name in [number, forgotten, overtaken, changed] {
            words.name(name);
        }
        // What is over is over, unless the clock may still lose time.
        let over = skewed || self.faults == 0;
        words.moment(if over { until.max(self.now) } else { until });
        for flag in [opening, changing, waits, writing, skewed, kept.is_some(), owes.is_some()] {
            words.plain(flag);
        }
        words.count(next);
        if let Some(Kept { bits, number, version }) = kept {
            words.plain(bits);
            words.name(number);
            words.plain(version);
        }
        if let Some((bits, number)) = owes {
            words.plain(bits);
            words.name(number);
        }
    }

    pub(super) fn likeness(&self) -> u64 {
        let words = self.words();
        let name = |word: &Word| match word {
            Word::Name(name) if *name >= NAMES => Some(*name),
            _ => None,
        };
        let mut names: Vec<u64> = words.iter().filter_map(name).collect();
        names.sort_unstable();
        names.dedup();
        // The longest that anything lasts after its beginning.
        let lasts = TIMES.ttl + TIMES.margin + UNIT;
        let mut hasher = DefaultHasher::new();
        for word in &words {
            match word {
                Word::Name(name) if *name >= NAMES => (0u8, names.binary_search(name).ok()).hash(&mut hasher),
                Word::Moment(moment) if *moment >= START => {
                    (1u8, (*moment + lasts).saturating_sub(self.now)).hash(&mut hasher);
                }
                other => (2u8, other).hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

fn message_to(message: &Message, words: &mut Words) {
    match message {
        Message::Row { to, asked, incarnation, version, bits, number, changed } => {
            words.plain(0u8);
            words.count(*to);
            words.name(*asked);
            words.plain(*incarnation);
            words.plain(*version);
            words.plain(*bits);
            words.name(*number);
            words.plain(*changed);
        }
        Message::Recalls { to, incarnation, recalls } => {
            words.plain(1u8);
            words.count(*to);
            words.plain(*incarnation);
            words.count(recalls.len());
            for (bits, number) in recalls {
                words.plain(*bits);
                words.name(*number);
            }
        }
        Message::Opened { to, sent, number, ttl, epoch, incarnation } => {
            words.plain(2u8);
            words.count(*to);
            words.moment(*sent);
            words.name(*number);
            words.moment(*ttl);
            words.plain(*epoch);
            words.plain(*incarnation);
        }
        Message::Open { from, sent, number, meant_for, epoch, told } => {
            words.plain(3u8);
            words.count(*from);
            words.moment(*sent);
            words.name(*number);
            words.plain(*meant_for);
            words.plain(*epoch);
            words.plain(*told);
        }
        Message::Return { from, opening, bits, number } => {
            words.plain(4u8);
            words.count(*from);
            words.name(*opening);
            words.plain(*bits);
            words.name(*number);
        }
        Message::Data { from, epoch } => {
            words.plain(5u8);
            words.count(*from);
            words.plain(*epoch);
        }
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.likeness().hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.likeness() == other.likeness()
    }
}
