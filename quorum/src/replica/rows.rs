//! Rows of the table that belong to `quorum`: keys that start with 0x00. All replicas have the same ones.
//!
//! - `00 'p'`: position = applied index u64, its term u64, newest command time in nanoseconds u64 (big endian)
//! - `00 'm'`: members = for each: kind u8 (1 voter, 2 learner), id u64, length of address u32, address; kind 3, with an
//!   empty address, is the highest id of a member that has gone, if no present one has a higher one
//! - `00 'a' session sequence`: answer = command time u64, acked_below u64, the service's answer

use raft::eraftpb::ConfState;
use rt::table::{Reader, Result, TableError};

use std::collections::BTreeMap;

/// Key of the position row.
pub const POSITION: &[u8] = &[0, b'p'];
/// Key of the members row.
pub const MEMBERS: &[u8] = &[0, b'm'];
/// Prefix of the answer rows.
pub const ANSWERS: &[u8] = &[0, b'a'];

/// How far the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Applied index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Newest time of a command, nanoseconds since 1970.
    pub unix_nanos: u64,
}

impl Position {
    /// The row's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [self.index, self.term, self.unix_nanos].iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// Reads the row; `None` in an empty table.
    pub fn read(table: &(impl Reader + ?Sized)) -> Result<Option<Self>> {
        let Some(value) = table.get(POSITION)? else { return Ok(None) };
        let word = |at: usize| value.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        match (word(0), word(8), word(16)) {
            (Some(index), Some(term), Some(unix_nanos)) => Ok(Some(Self { index, term, unix_nanos })),
            _ => Err(damaged("position")),
        }
    }
}

fn damaged(row: &str) -> TableError {
    TableError { table: "raft state".into(), cause: format!("the row {row} has an impossible value") }
}

/// Who is in the group and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Address by voter.
    pub voters: BTreeMap<u64, String>,
    /// Address by learner.
    pub learners: BTreeMap<u64, String>,
    /// The highest id of a member that has gone; 0: none. Ids are never given again.
    pub gone: u64,
}

impl Members {
    /// As raft-rs wants it.
    #[must_use]
    pub fn conf(&self) -> ConfState {
        let mut conf = ConfState::default();
        conf.set_voters(self.voters.keys().copied().collect());
        conf.set_learners(self.learners.keys().copied().collect());
        conf
    }

    /// The address of a member.
    #[must_use]
    pub fn address(&self, member: u64) -> Option<&String> {
        self.voters.get(&member).or_else(|| self.learners.get(&member))
    }

    /// All addresses by member.
    #[must_use]
    pub fn all(&self) -> BTreeMap<u64, String> {
        self.voters.iter().chain(&self.learners).map(|(id, address)| (*id, address.clone())).collect()
    }

    /// The member at an address.
    #[must_use]
    pub fn at(&self, address: &str) -> Option<u64> {
        self.voters.iter().chain(&self.learners).find(|(_, known)| *known == address).map(|(id, _)| *id)
    }

    fn highest(&self) -> u64 {
        self.voters.keys().chain(self.learners.keys()).copied().max().unwrap_or(0)
    }

    /// An id that nobody has or had.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.highest().max(self.gone) + 1
    }

    /// The members after a change: `conf` says who, `address` is that of a member not known yet.
    #[must_use]
    pub fn after(&self, conf: &ConfState, address: &str) -> Self {
        let find = |ids: &[u64]| -> BTreeMap<u64, String> {
            ids.iter()
                .map(|id| (*id, self.address(*id).cloned().unwrap_or_else(|| address.to_owned())))
                .collect()
        };
        let stays = |id: &u64| conf.get_voters().contains(id) || conf.get_learners().contains(id);
        let left = self.all().into_keys().filter(|id| !stays(id)).max().unwrap_or(0);
        let (voters, learners) = (find(conf.get_voters()), find(conf.get_learners()));
        let after = Self { voters, learners, gone: self.gone.max(left) };
        // Kept only where it says something, so that equal groups have equal rows.
        let gone = if after.gone > after.highest() { after.gone } else { 0 };
        Self { gone, ..after }
    }

    /// The row's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let voters = self.voters.iter().map(|member| (1, member));
        let nowhere = String::new();
        let gone = (self.gone > 0).then_some((3, (&self.gone, &nowhere)));
        let learners = self.learners.iter().map(|member| (2, member));
        for (kind, (id, address)) in voters.chain(learners).chain(gone) {
            out.push(kind);
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&u32::try_from(address.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(address.as_bytes());
        }
        out
    }

    /// Reads the row.
    pub fn read(table: &(impl Reader + ?Sized)) -> Result<Self> {
        let value = table.get(MEMBERS)?.unwrap_or_default();
        Self::parse(&value).ok_or_else(|| damaged("members"))
    }

    /// The inverse of [`Members::encode`].
    #[must_use]
    pub fn parse(mut value: &[u8]) -> Option<Self> {
        let mut members = Self::default();
        while !value.is_empty() {
            let id = u64::from_be_bytes(value.get(1..9)?.try_into().ok()?);
            let length = u32::from_be_bytes(value.get(9..13)?.try_into().ok()?) as usize;
            let address = String::from_utf8(value.get(13..13 + length)?.to_vec()).ok()?;
            match value[0] {
                1 => drop(members.voters.insert(id, address)),
                2 => drop(members.learners.insert(id, address)),
                3 => members.gone = id,
                _ => return None,
            }
            value = &value[13 + length..];
        }
        Some(members)
    }
}

/// Key of an answer row.
#[must_use]
pub fn answer_key(session: u64, sequence: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(ANSWERS);
    key.extend_from_slice(&session.to_be_bytes());
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// Session and sequence of an answer row's key.
#[must_use]
pub fn parse_answer_key(key: &[u8]) -> Option<(u64, u64)> {
    let rest = key.strip_prefix(ANSWERS)?;
    Some((
        u64::from_be_bytes(rest.get(..8)?.try_into().ok()?),
        u64::from_be_bytes(rest.get(8..16)?.try_into().ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::table::memory::MemoryTable;
    use rt::table::{Batch, Table};

    #[test]
    fn an_id_is_never_given_again() {
        let conf = |voters: &[u64], learners: &[u64]| {
            let mut conf = ConfState::default();
            conf.set_voters(voters.to_vec());
            conf.set_learners(learners.to_vec());
            conf
        };
        let first = Members::default().after(&conf(&[1, 2, 3], &[]), "tcp://a:1");
        assert_eq!((first.next_id(), first.at("tcp://b:1")), (4, None));
        let added = first.after(&conf(&[1, 2, 3], &[4]), "tcp://b:1");
        assert_eq!((added.next_id(), added.at("tcp://b:1")), (5, Some(4)));
        let removed = added.after(&conf(&[2, 3], &[]), "");
        assert_eq!(removed.next_id(), 5, "4 was somebody");
        let read = Members::parse(&removed.encode()).unwrap();
        assert_eq!((&read, read.next_id()), (&removed, 5));
        // While whoever has the highest id is there, the row is as versions without the mark write it.
        let lowest_left = added.after(&conf(&[2, 3, 4], &[]), "");
        assert_eq!((lowest_left.gone, lowest_left.next_id()), (0, 5));
        assert_eq!(Members::parse(&lowest_left.encode()).unwrap(), lowest_left);
    }

    #[test]
    fn rows_are_read_back_and_damage_is_noticed() {
        let table = MemoryTable::new();
        assert_eq!(Position::read(&table).unwrap(), None);
        let position = Position { index: 1, term: 2, unix_nanos: 3 };
        let mut members = Members::default();
        members.voters.insert(1, "tcp://a:1".into());
        members.voters.insert(2, String::new());
        members.learners.insert(3, "tcp://c:1".into());
        let mut batch = Batch::default();
        batch.put(POSITION, position.encode());
        batch.put(MEMBERS, members.encode());
        table.write(batch).unwrap();
        assert_eq!(Position::read(&table).unwrap(), Some(position));
        assert_eq!(Members::read(&table).unwrap(), members);
        let mut batch = Batch::default();
        batch.put(POSITION, "short");
        batch.put(MEMBERS, "short");
        table.write(batch).unwrap();
        assert!(Position::read(&table).is_err());
        assert!(Members::read(&table).is_err());
        assert_eq!(parse_answer_key(&answer_key(4, 5)), Some((4, 5)));
    }
}
