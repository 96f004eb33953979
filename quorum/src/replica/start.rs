//! Starting a member: what log and table say together, and what is repaired.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proto::id::{GroupId, MemberId};
use raft::eraftpb::EntryType;
use rt::table::{Batch, Table};

use super::apply::Applier;
use super::input::Now;
use super::rejoin::Rejoin;
use super::rows::{MEMBERS, Members, Position};
use super::waits::Waits;
use super::{Durability, Replica, Sizes};
use crate::engine::{Engine, Recovered, Timing};
use crate::error::QuorumError;
use crate::machine::StateMachine;
use crate::reserve::Reserve;
use crate::store::{Store, StoreError};

/// Entries before the applied one that are read at start for followers that lag a little.
const WARM_ENTRIES: u64 = 1024;

/// What a member is made of.
#[derive(Clone)]
pub struct Setup {
    /// The group.
    pub group: GroupId,
    /// This member.
    pub me: MemberId,
    /// The first members with their addresses; used when the log is empty. Without `me` the member waits to be
    /// added.
    pub members: BTreeMap<u64, String>,
    /// When commands count as acknowledged.
    pub durability: Durability,
    /// Identifies this boot of the machine.
    pub boot_id: String,
    /// Lengths of time.
    pub timing: Timing,
    /// When log and table are cut.
    pub sizes: Sizes,
    /// Decides election timeouts.
    pub seed: u64,
    /// Where the log lives, and room that is kept there.
    pub log: Arc<Reserve>,
    /// Where the state lives.
    pub table: Arc<dyn Table>,
}

impl<W> Replica<W> {
    /// Recovers a member, or begins it.
    pub fn start(setup: Setup, machine: Arc<dyn StateMachine>, now: Now) -> Result<Self, QuorumError> {
        let group = setup.group;
        let stopped = |cause: String| QuorumError::Stopped { group, cause };
        let me = setup.me.0;
        let (mut store, _) = Store::open(setup.log.disk(), group.0, me, setup.sizes.segment_bytes)
            .map_err(|error| stopped(error.to_string()))?;
        let (applier, hollow) = recover_table(&setup, &mut store, machine).map_err(stopped)?;
        let fresh = store.state().term == 0 && store.last_index() == 0 || store.state().incarnation == 0;
        let mut recovered = gather(&store, &applier, hollow).map_err(|error| stopped(error.to_string()))?;
        recovered.fresh = fresh;
        // A change of members that is not applied yet may have brought others.
        let changes = recovered.tail.iter().any(|entry| entry.get_entry_type() != EntryType::EntryNormal);
        let others = changes || applier.members.voters.keys().any(|voter| *voter != me);
        recovered.incarnation = store.state().incarnation + 1;
        let doubtful =
            sign_in(&setup, &mut store, others && !fresh).map_err(|error| stopped(error.to_string()))?;
        let engine = Engine::new(me, setup.timing, setup.seed, recovered, now.monotonic)
            .map_err(|error| stopped(format!("raft: {error}")))?;
        let mut replica = Self {
            group,
            me,
            durability: setup.durability,
            sizes: setup.sizes,
            timing: setup.timing,
            seed: setup.seed,
            boot_id: setup.boot_id,
            first: setup.members,
            engine,
            store,
            applier,
            pending: VecDeque::new(),
            waits: Waits::default(),
            rejoin: doubtful.then(Rejoin::default),
            transfer: None,
            transfers: 0,
            install: None,
            hollow,
            announced: None,
            members_epoch: 1,
            ticks: 0,
            leading_ticks: 0,
            syncing: false,
            flushing: false,
            tidy: false,
            starting: true,
            reserve: setup.log,
            stopped: None,
            full: false,
            flush_after: 0,
        };
        if doubtful {
            replica.engine.mute();
        }
        replica.engine.set_hollow(hollow);
        Ok(replica)
    }
}

/// Brings table and log together. The flag says that the table must come from a snapshot.
fn recover_table(
    setup: &Setup,
    store: &mut Store,
    machine: Arc<dyn StateMachine>,
) -> Result<(Applier, bool), String> {
    let text = |error: rt::table::TableError| error.to_string();
    let log = |error: StoreError| error.to_string();
    let members = Members { voters: setup.members.clone(), ..Members::default() };
    let position = Position::read(&*setup.table).map_err(text)?;
    let behind = position.is_some_and(|position| position.index < store.state().base_index);
    let lost = position.is_none() && store.state().base_index > 0;
    if store.state().installing || behind || lost {
        rt::site!("snapshot.install.interrupted", store.state().installing);
        rt::site!("table.behind_log", behind);
        rt::site!("table.lost", lost);
        // Others can give the table again, unless there are none.
        let alone = setup.members.len() == 1 && setup.members.contains_key(&setup.me.0);
        if !store.state().installing && alone {
            return Err(format!(
                "the table is older than the raft log, which begins at entry {}; restore both from one backup",
                store.first_index()
            ));
        }
        store.change_state(|state| state.installing = true).and_then(|()| store.sync_now()).map_err(log)?;
        let kept = Members::read(&*setup.table).map_err(text)?;
        setup.table.clear(b"", b"").map_err(text)?;
        let kept = if kept == Members::default() { members } else { kept };
        let mut batch = Batch::default();
        batch.put(MEMBERS, kept.encode());
        setup.table.write(batch).map_err(text)?;
        return Ok((Applier::load(setup.table.clone(), machine).map_err(text)?, true));
    }
    let mut applier = Applier::load(setup.table.clone(), machine).map_err(text)?;
    let bootstraps = setup.members.contains_key(&setup.me.0);
    if store.last_index() == 0 && bootstraps && position.is_none() {
        // All first members begin with the same entry 1, which no log holds: who is added later needs a snapshot.
        applier.begin(Position { index: 1, term: 1, unix_nanos: 0 }, members).map_err(text)?;
    }
    let position = applier.position;
    if store.term(position.index) != Some(position.term) {
        rt::site!("log.lost_more_than_table", store.term(position.index).is_none());
        // Power loss took more of the log than of the table: the entry is missing, or one that it had replaced has
        // come back. All that is in the table is committed, and nothing behind a wrong entry is right.
        store.reset(position.index, position.term, |_| {}).and_then(|()| store.sync_now()).map_err(log)?;
    }
    Ok((applier, false))
}

/// Notes the start. Gives whether the member may have forgotten what it acknowledged.
fn sign_in(setup: &Setup, store: &mut Store, has_others: bool) -> Result<bool, StoreError> {
    let state = store.state();
    let doubtful = has_others && state.relaxed && !state.clean && state.boot_id != setup.boot_id;
    rt::site!("rejoin.begun", doubtful);
    rt::site!("member.start.clean", state.clean);
    rt::site!("member.start.page_cache_kept", has_others && state.relaxed && !state.clean && !doubtful);
    store.change_state(|state| {
        state.incarnation += 1;
        state.clean = false;
        if !doubtful {
            state.boot_id.clone_from(&setup.boot_id);
            state.relaxed = setup.durability == Durability::Quorum;
        }
    })?;
    store.sync_now()?;
    Ok(doubtful)
}

/// What the engine starts from; makes sure that raft-rs finds nothing impossible.
fn gather(store: &Store, applier: &Applier, hollow: bool) -> Result<Recovered, StoreError> {
    let state = store.state();
    let (base, last) = (state.base_index, store.last_index());
    let mut terms = Vec::new();
    let mut newest_term = state.base_term;
    for index in base + 1..=last {
        let term = store.term(index).unwrap_or(0);
        if term < newest_term {
            let what = format!("entry {index} has term {term}, the one before {newest_term}");
            return Err(StoreError::Corrupt { what });
        }
        newest_term = term;
        terms.push(term);
    }
    let term = state.term.max(newest_term);
    let vote = if term == state.term { state.vote } else { 0 };
    let applied = if hollow { state.commit.clamp(base, last) } else { applier.position.index };
    let commit = state.commit.max(applied).min(last);
    let from = (base + 1).max((applied + 1).saturating_sub(WARM_ENTRIES));
    let tail = store.read(from, last + 1, u64::MAX)?;
    Ok(Recovered {
        term,
        vote,
        commit,
        applied,
        conf: applier.members.conf(),
        base_index: base,
        base_term: state.base_term,
        terms,
        tail,
        incarnation: 0,
        fresh: false,
    })
}
