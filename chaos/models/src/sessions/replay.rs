//! What a log does when it is applied, with the product's records of answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::rpc::Origin;
use quorum::replica::sessions::{Seen, Sessions as Records};
use rt::table::Txn;
use rt::table::memory::MemoryTable;

use super::group::Entry;
use super::{Fault, Mutation};

/// See the module.
pub(super) struct Replay {
    records: Records,
    /// Effects, in order: (client, sequence).
    pub(super) effects: Vec<(usize, u64)>,
    /// What the last command of each mutation was answered; `None`: it was forgotten.
    answers: BTreeMap<(usize, u64), Option<u8>>,
}

fn origin(mutation: &Mutation) -> Origin {
    let Mutation { client, sequence, acked_below } = *mutation;
    Origin { session: client as u64 + 1, sequence, acked_below }
}

impl Replay {
    /// As `quorum/src/replica/apply.rs` does it: look up, apply, record.
    pub(super) fn of(log: &[Entry], fault: Option<Fault>) -> Self {
        // Rows of the records are not read back here.
        let table = MemoryTable::new();
        let mut txn = Txn::new(&table);
        let mut replay = Self { records: Records::default(), effects: Vec::new(), answers: BTreeMap::new() };
        let blind = matches!(fault, Some(Fault::NoDedup | Fault::DedupAtDoorOnly));
        for mutation in log.iter().filter_map(|entry| entry.mutation) {
            let key = (mutation.client, mutation.sequence);
            let seen = if blind { Seen::New } else { replay.look_up(&mutation) };
            let answer = match seen {
                Seen::Answered(answer) => answer.first().copied(),
                Seen::Forgotten => None,
                Seen::New => {
                    let effect = u8::try_from(replay.effects.len()).unwrap_or(u8::MAX);
                    replay.effects.push(key);
                    let answer = Bytes::copy_from_slice(&[effect]);
                    replay.records.record(&mut txn, &origin(&mutation), 0, &answer);
                    Some(effect)
                }
            };
            replay.answers.insert(key, answer);
        }
        replay
    }

    pub(super) fn look_up(&self, mutation: &Mutation) -> Seen {
        self.records.look_up(&origin(mutation))
    }

    /// What the state machine's first effect of a mutation was.
    pub(super) fn effect_of(&self, client: usize, sequence: u64) -> Option<u8> {
        let at = self.effects.iter().position(|effect| *effect == (client, sequence))?;
        u8::try_from(at).ok()
    }

    /// What applying a mutation gave, if the log has it.
    pub(super) fn answer_to(&self, client: usize, sequence: u64) -> Option<Option<u8>> {
        self.answers.get(&(client, sequence)).copied()
    }

    pub(super) fn does_twice(&self) -> bool {
        (1..self.effects.len()).any(|at| self.effects[..at].contains(&self.effects[at]))
    }
}
