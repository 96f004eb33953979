//! A Raft group as its members tell it.

use std::collections::BTreeMap;

use proto::dir::{GroupStatus, ServiceEntry};
use proto::error::WireError;
use serde_json::{Value, json};

use super::Role;
use crate::cluster::Cluster;
use crate::failure::Failure;

/// What a member is to its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It votes.
    Voter,
    /// It catches up and does not vote yet.
    Learner,
    /// It runs, and the group does not count it.
    Outside,
}

/// One member.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) addr: String,
    /// Its number in the group.
    pub(crate) member: u64,
    pub(crate) place: Place,
    /// What it says of itself, or why it does not.
    pub(crate) state: Result<GroupStatus, WireError>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// The group's number; 0: nobody answered.
    pub(crate) group: u64,
    /// What its leader, or whoever is furthest, has committed.
    committed: u64,
    pub(crate) rows: Vec<Row>,
}

type Answers = BTreeMap<String, Result<GroupStatus, WireError>>;

/// Asks everybody who is known to belong to the group of `role`, and whom those name.
pub(crate) async fn look(cluster: &Cluster, role: Role, services: &[ServiceEntry]) -> View {
    let registered = || services.iter().filter(|service| service.role == role.name());
    let start: Vec<String> = match role {
        Role::Dir => cluster.dirs.clone(),
        Role::Mrc => registered().map(|service| service.addr.clone()).collect(),
    };
    let mut answers = Answers::new();
    ask(cluster, start, &mut answers).await;
    let best = |answers: &Answers| {
        let newest = answers.values().flatten();
        newest.max_by_key(|one| (one.term, one.leader == one.member, one.applied)).cloned()
    };
    if let Some(known) = best(&answers) {
        ask(cluster, listed(&known).into_iter().map(|(_, addr, _)| addr).collect(), &mut answers).await;
    }
    let Some(best) = best(&answers) else {
        // Nobody says who is in it: what the DIR remembers has to do.
        let silent = registered().filter_map(|service| {
            let state = answers.remove(&service.addr)?;
            Some(Row {
                name: service.name.clone(),
                addr: service.addr.clone(),
                member: service.member,
                place: Place::Voter,
                state,
            })
        });
        return View { rows: silent.collect(), ..View::default() };
    };
    let name = |member: u64, addr: &str| {
        let known = registered().find(|service| service.addr == addr);
        known.map_or_else(|| format!("{}-{}", role.name(), member.saturating_sub(1)), |one| one.name.clone())
    };
    let mut rows: Vec<Row> = Vec::new();
    for (member, addr, place) in listed(&best) {
        let Some(state) = answers.remove(&addr) else { continue };
        rows.push(Row { name: name(member, &addr), addr, member, place, state });
    }
    // Those left that answer run without belonging to it; those that do not are of the past.
    for (addr, state) in answers {
        if let Ok(status) = &state {
            let member = status.member;
            rows.push(Row { name: name(member, &addr), addr, member, place: Place::Outside, state });
        }
    }
    View { group: best.group, committed: best.committed, rows }
}

async fn ask(cluster: &Cluster, mut addrs: Vec<String>, answers: &mut Answers) {
    addrs.retain(|addr| !answers.contains_key(addr));
    let states = futures::future::join_all(addrs.iter().map(|addr| cluster.group(addr))).await;
    answers.extend(addrs.into_iter().zip(states));
}

/// Members as one of them lists them.
fn listed(status: &GroupStatus) -> Vec<(u64, String, Place)> {
    let parse = |text: &String, place| {
        let (id, addr) = text.split_once('=')?;
        Some((id.parse().ok()?, addr.to_owned(), place))
    };
    let voters = status.voters.iter().filter_map(|text| parse(text, Place::Voter));
    voters.chain(status.learners.iter().filter_map(|text| parse(text, Place::Learner))).collect()
}

impl Row {
    /// Whether it leads.
    pub(crate) fn leads(&self) -> bool {
        let leads = |state: &GroupStatus| state.leader == state.member && state.leader != 0;
        self.place == Place::Voter && self.state.as_ref().is_ok_and(leads)
    }

    /// Entries that it has not applied yet of what is committed.
    pub(crate) fn behind(&self, view: &View) -> Option<u64> {
        let state = self.state.as_ref().ok()?;
        Some(view.committed.saturating_sub(state.applied))
    }

    /// As JSON.
    pub(crate) fn to_json(&self, view: &View) -> Value {
        let state = self.state.as_ref();
        let role = match (self.place, state) {
            (_, Err(_)) => "unreachable",
            (Place::Outside, _) => "outside",
            (_, Ok(state)) => state.role.as_str(),
        };
        json!({
            "name": self.name,
            "addr": self.addr,
            "group": state.ok().map(|state| state.group),
            "member": (self.member != 0).then_some(self.member),
            "role": role,
            "leader": self.leads(),
            "votes": self.place == Place::Voter,
            "catching_up": self.place == Place::Learner,
            "behind": self.behind(view),
            "term": state.ok().map(|state| state.term),
            "committed": state.ok().map(|state| state.committed),
            "applied": state.ok().map(|state| state.applied),
            "voters": state.map(|state| state.voters.clone()).unwrap_or_default(),
            "learners": state.map(|state| state.learners.clone()).unwrap_or_default(),
            "error": state.err().map(|error| &error.text),
        })
    }
}

impl View {
    /// As JSON, one object for each member.
    pub(crate) fn to_json(&self) -> Vec<Value> {
        self.rows.iter().map(|row| row.to_json(self)).collect()
    }

    /// Addresses of those that the group counts.
    pub(crate) fn addrs(&self) -> Vec<String> {
        let inside = self.rows.iter().filter(|row| row.place != Place::Outside);
        inside.map(|row| row.addr.clone()).collect()
    }

    /// The member at an address.
    pub(crate) fn at(&self, addr: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.addr == addr && row.place != Place::Outside)
    }

    /// The member that somebody names: by number, name or address.
    pub(crate) fn find(&self, role: Role, wanted: &str) -> Result<&Row, Failure> {
        let number = wanted.parse::<u64>().ok();
        let addr = super::address(wanted).unwrap_or_default();
        let mut inside = self.rows.iter().filter(|row| row.place != Place::Outside);
        inside.find(|row| row.name == wanted || Some(row.member) == number || row.addr == addr).ok_or_else(
            || {
                let names: Vec<String> = self
                    .rows
                    .iter()
                    .map(|row| format!("{} ({}, {})", row.member, row.name, row.addr))
                    .collect();
                Failure::new(
                    format!("{} member {wanted:?}", role.title()),
                    format!("there is none of that number, name or address; there are {}", names.join(", ")),
                )
                .next(format!("xtfs {} members", role.name()))
            },
        )
    }

    /// Without a majority nothing can be changed: said at once instead of after a long wait.
    pub(crate) fn require_majority(&self, role: Role, what: &str) -> Result<(), Failure> {
        let voters: Vec<&Row> = self.rows.iter().filter(|row| row.place == Place::Voter).collect();
        let silent: Vec<&str> =
            voters.iter().filter(|row| row.state.is_err()).map(|row| row.name.as_str()).collect();
        if self.group != 0 && (voters.len() - silent.len()) * 2 > voters.len() {
            return Ok(());
        }
        let why = format!(
            "no majority: of {} members that vote {} answer{}",
            voters.len(),
            voters.len() - silent.len(),
            if silent.is_empty() { String::new() } else { format!(" ({} do not)", silent.join(", ")) }
        );
        let next = match silent.first() {
            Some(name) => {
                format!("start one of them again (of an `up`: xtfs start {name}), then repeat this")
            }
            None => format!("xtfs {} members", role.name()),
        };
        Err(Failure::unreachable(what, why).next(next))
    }
}

#[cfg(test)]
mod tests {
    use proto::error::Code;

    use super::*;

    fn row(member: u64, place: Place, answers: bool) -> Row {
        let status =
            GroupStatus { group: 2, member, leader: 1, applied: 10 * member, ..GroupStatus::default() };
        let silent = WireError::new(Code::Unavailable, "refused");
        Row {
            name: format!("mrc-{}", member - 1),
            addr: format!("tcp://h:{member}"),
            member,
            place,
            state: if answers { Ok(status) } else { Err(silent) },
        }
    }

    fn view(rows: Vec<Row>) -> View {
        View { group: 2, committed: 35, rows }
    }

    #[test]
    fn a_member_is_found_by_number_name_or_address() {
        let view = view(vec![
            row(1, Place::Voter, true),
            row(4, Place::Learner, true),
            row(9, Place::Outside, true),
        ]);
        for wanted in ["4", "mrc-3", "tcp://h:4", "h:4"] {
            assert_eq!(view.find(Role::Mrc, wanted).unwrap().member, 4, "{wanted}");
        }
        let why = view.find(Role::Mrc, "9").unwrap_err().to_string();
        assert!(why.contains("\"9\"") && why.contains("mrc-3"), "{why}");
    }

    #[test]
    fn a_learner_is_shown_as_one_with_what_it_lacks() {
        let view =
            view(vec![row(1, Place::Voter, true), row(3, Place::Learner, true), row(2, Place::Voter, false)]);
        let shown = view.to_json();
        assert_eq!((shown[0]["leader"].clone(), shown[0]["votes"].clone()), (json!(true), json!(true)));
        assert_eq!((shown[1]["catching_up"].clone(), shown[1]["behind"].clone()), (json!(true), json!(5)));
        assert_eq!(
            (shown[2]["role"].clone(), shown[2]["behind"].clone()),
            (json!("unreachable"), Value::Null)
        );
    }

    #[test]
    fn no_majority_is_said_with_names() {
        let two = |answers| {
            view(vec![row(1, Place::Voter, true), row(2, Place::Voter, answers), row(3, Place::Voter, false)])
        };
        assert!(two(true).require_majority(Role::Mrc, "adding").is_ok());
        let why = two(false).require_majority(Role::Mrc, "adding").unwrap_err();
        assert_eq!(why.status, 3);
        assert!(why.to_string().contains("mrc-1, mrc-2"), "{why}");
        // Learners do not count.
        let learners = view(vec![row(1, Place::Voter, false), row(2, Place::Learner, true)]);
        assert!(learners.require_majority(Role::Mrc, "adding").is_err());
    }
}
