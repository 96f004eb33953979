//! Shows everything that happens to the invariants.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use proto::checksum::crc32c;
use quorum::replica::rows::Position;
use rt::table::{Table as _, prefix_end};

use super::node::Node;
use super::state::OPERATION;
use crate::invariants::Violation;
use crate::invariants::election_safety::ElectionSafety;
use crate::invariants::exactly_once::ExactlyOnce;
use crate::invariants::leader_completeness::LeaderCompleteness;
use crate::invariants::linearizable::Linearizable;
use crate::invariants::log_matching::LogMatching;
use crate::invariants::state_machine_safety::StateMachineSafety;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Checks {
    election: ElectionSafety,
    matching: LogMatching,
    completeness: LeaderCompleteness,
    state: StateMachineSafety,
    /// Of operations.
    pub(super) once: ExactlyOnce,
    /// Of operations.
    pub(super) order: Linearizable,
}

impl Checks {
    /// A node has done something.
    pub(super) fn look(&mut self, node: &Node) -> Result<(), Violation> {
        let Some(replica) = &node.replica else { return Ok(()) };
        replica.engine().invariants();
        let seen = std::mem::take(&mut *node.seen.lock().unwrap_or_else(PoisonError::into_inner));
        for one in seen {
            self.state.applied(node.id, one.index, one.hash, one.unix_ms)?;
            self.once.effect(one.op, one.index)?;
            let term = replica.store().term(one.index);
            if let Some(term) = term {
                self.completeness.committed(one.index, term)?;
            }
        }
        let role = replica.role();
        if role.leading {
            self.election.leads(role.term, node.id)?;
            let store = replica.store();
            self.completeness
                .leads(node.id, role.term, store.first_index() - 1, |index| store.term(index))?;
        }
        Ok(())
    }

    /// Reads the newest `count` entries of a node's log.
    pub(super) fn look_at_log(&mut self, node: &Node, count: u64) -> Result<(), Violation> {
        // What one that paused for want of room has in memory may be ahead of its disk.
        let Some(replica) = node.replica.as_ref().filter(|one| one.stopped().is_none()) else {
            return Ok(());
        };
        let store = replica.store();
        let last = store.last_index();
        let first = store.first_index().max((last + 1).saturating_sub(count));
        let entries = store
            .read(first, last + 1, u64::MAX)
            .map_err(|error| Violation::new("log is readable", format!("node {}: {error}", node.id)))?;
        for entry in entries {
            let before = store.term(entry.index - 1).unwrap_or(0);
            self.matching.holds(node.id, entry.index, entry.term, before, crc32c(&entry.data))?;
        }
        Ok(())
    }

    /// All members hold the same state, and the clients' view of it is right.
    pub(super) fn finally(&mut self, nodes: &[&Node]) -> Result<(), Violation> {
        let mut first: Option<(u64, Vec<rt::table::Pair>)> = None;
        for node in nodes {
            self.look_at_log(node, u64::MAX / 2)?;
            let dump = node.machine.table.dump();
            match &first {
                None => first = Some((node.id, dump)),
                Some((id, other)) if *other != dump => {
                    let differ = dump.iter().zip(other).find(|(a, b)| a != b);
                    let what = format!("nodes {id} and {} hold different tables: {differ:?}", node.id);
                    return Err(Violation::new("convergence", what));
                }
                Some(_) => {}
            }
        }
        let Some(node) = nodes.first() else { return Ok(()) };
        let table = &node.machine.table;
        let rows = table.scan(OPERATION, &prefix_end(OPERATION), usize::MAX).unwrap_or_default();
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).unwrap_or(0);
        let held: BTreeMap<u64, u64> =
            rows.iter().map(|(key, value)| (word(&key[OPERATION.len()..]), word(value))).collect();
        self.once.finally(&held)
    }
}

/// How far a node's table is.
pub(super) fn position(node: &Node) -> u64 {
    Position::read(&node.machine.table).ok().flatten().map_or(0, |position| position.index)
}
