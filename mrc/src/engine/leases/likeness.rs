//! What there is to know of the leases, for searches through all that can happen (`chaos/models`): two states that say the
//! same, but for the names and the distance of their moments, go on in the same way.

use std::time::Duration;

use super::session::State;
use super::{Effect, Entry, Holder, Leases, Waiting};
use crate::engine::sessions::FileId;

/// A part of what there is to know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Word {
    /// Matters as it is.
    Plain(u64),
    /// A number that only grows: of grants, recalls, tickets, openings. Nothing but its order matters.
    Name(u64),
    /// Nothing but how far off it is matters.
    Moment(Duration),
}

/// Hears the words, in order; each collection begins with its length. Generic, so that searches can have it compiled in their
/// own way: it is most of what they do.
struct Words<F>(F);

impl<F: FnMut(Word)> Words<F> {
    fn plain(&mut self, value: u64) {
        (self.0)(Word::Plain(value));
    }

    fn count(&mut self, count: usize) {
        self.plain(count as u64);
    }

    fn name(&mut self, name: u64) {
        (self.0)(Word::Name(name));
    }

    fn moment(&mut self, moment: Duration) {
        (self.0)(Word::Moment(moment));
    }

    fn file(&mut self, (volume, ino): FileId) {
        self.plain(volume);
        self.plain(ino);
    }

    fn ids<'a>(&mut self, ids: impl ExactSizeIterator<Item = &'a u64>) {
        self.count(ids.len());
        ids.for_each(|id| self.plain(*id));
    }

    fn maybe_name(&mut self, name: Option<u64>) {
        self.plain(u64::from(name.is_some()));
        name.into_iter().for_each(|name| self.name(name));
    }
}

impl Leases {
    /// See the module.
    pub fn words(&self, hears: impl FnMut(Word)) {
        // Named one by one, so that a new field cannot be forgotten. Sums grow for ever, and nothing depends on them.
        let Self {
            times: _,
            leading,
            generation,
            next,
            floor,
            grace_until,
            awaited,
            sessions: _,
            inodes,
            waiting,
            unmarked,
            parts,
            joining,
            owing,
            condemned,
            cooling,
            hushed,
            effects,
            counts: _,
        } = self;
        let mut words = Words(hears);
        words.plain(u64::from(*leading));
        words.plain(*generation);
        words.name(*next);
        words.name(*floor);
        // It is over when nobody is awaited.
        words.moment(if awaited.is_empty() { Duration::ZERO } else { *grace_until });
        words.count(awaited.len());
        for (session, expelling) in awaited {
            words.plain(*session);
            words.maybe_name(*expelling);
        }
        self.sessions_to(&mut words);
        words.count(inodes.len());
        for (file, entry) in inodes {
            words.file(*file);
            entry_to(entry, &mut words);
        }
        words.count(waiting.len());
        for (ticket, waiting) in waiting {
            words.name(*ticket);
            waiting_to(waiting, &mut words);
        }
        words.count(*unmarked);
        words.count(*parts);
        for set in [joining, owing, condemned] {
            words.ids(set.iter());
        }
        words.count(cooling.len());
        for (at, file) in cooling {
            words.moment(*at);
            words.file(*file);
        }
        words.count(hushed.len());
        for (volume, count) in hushed {
            words.plain(*volume);
            words.count(*count);
        }
        words.count(effects.len());
        effects.iter().for_each(|effect| effect_to(effect, &mut words));
    }

    fn sessions_to(&self, words: &mut Words<impl FnMut(Word)>) {
        words.count(self.sessions.len());
        for (id, session) in &self.sessions {
            words.plain(*id);
            words.moment(session.seen);
            words.plain(session.epoch);
            words.name(session.opening);
            match session.state {
                State::Idle => words.plain(0),
                State::Joining => words.plain(1),
                State::Part => words.plain(2),
                State::Condemned => words.plain(3),
                State::Expelling(number) => {
                    words.plain(4);
                    words.name(number);
                }
                State::Expelled => words.plain(5),
            }
            words.count(session.held.len());
            session.held.iter().for_each(|file| words.file(*file));
            words.count(session.gone.in_order().len());
            session.gone.in_order().for_each(|file| words.file(*file));
            words.count(session.recalls.len());
            for (recall, file) in &session.recalls {
                words.name(*recall);
                words.file(*file);
            }
        }
    }
}

fn entry_to(entry: &Entry, words: &mut Words<impl FnMut(Word)>) {
    let Entry { holders, marks, asking, changed } = entry;
    words.count(holders.len());
    for holder in holders {
        let Holder { session, bits, number, recalled, upto, recall, since, tell } = *holder;
        words.plain(session);
        words.plain(u64::from(bits));
        words.name(number);
        words.plain(u64::from(recalled));
        words.plain(u64::from(tell));
        // What a recall that was answered left over means nothing.
        if recalled != 0 {
            words.name(upto);
            words.name(recall);
            words.moment(since);
        }
    }
    words.count(marks.len());
    for mark in marks {
        words.name(mark.ticket);
        words.plain(mark.session);
        claim_to(&mark.claim, words);
    }
    words.count(asking.len());
    for asker in asking {
        words.name(asker.ticket);
        words.plain(asker.session);
        words.plain(u64::from(asker.bits));
    }
    for change in changed {
        words.plain(change.map_or(0, |(session, _)| session));
        words.moment(change.map_or(Duration::ZERO, |(_, at)| at));
    }
}

fn claim_to(claim: &super::Claim, words: &mut Words<impl FnMut(Word)>) {
    let super::Claim { file, recall, block, own, tell, new } = *claim;
    words.file(file);
    for value in [recall, block, u32::from(own), u32::from(tell), u32::from(new)] {
        words.plain(u64::from(value));
    }
}

fn waiting_to(waiting: &Waiting, words: &mut Words<impl FnMut(Word)>) {
    match waiting {
        Waiting::Change { session, claims, ready } => {
            words.plain(0);
            words.plain(*session);
            words.count(claims.iter().count());
            claims.iter().for_each(|claim| claim_to(claim, words));
            words.plain(u64::from(*ready));
        }
        Waiting::Acquire { file, ready } => {
            words.plain(1);
            words.file(*file);
            words.plain(u64::from(ready.is_some()));
            let grant = ready.as_ref().and_then(Option::as_ref);
            words.maybe_name(grant.map(|grant| grant.number));
            words.plain(grant.map_or(0, |grant| u64::from(grant.bits)));
        }
    }
}

fn effect_to(effect: &Effect, words: &mut Words<impl FnMut(Word)>) {
    match *effect {
        Effect::Wake(ticket) => {
            words.plain(0);
            words.name(ticket);
        }
        Effect::Recall(session) => {
            words.plain(1);
            words.plain(session);
        }
        Effect::Expel { session, number, wrote } => {
            words.plain(2);
            words.plain(session);
            words.name(number);
            words.plain(u64::from(wrote));
        }
    }
}
