//! Services other than OSDs, as the leader heard of them last. Memory of the leader only; what has to outlive
//! it (where a service was last) goes to the log when it changes.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::dir::ServiceEntry;

/// Services that the leader keeps in memory, and rows that it stores.
pub(crate) const SERVICES_MAX: usize = 10_000;
/// A mount silent for this long is gone: mounts come and go and leave nothing behind.
const MOUNT_FORGET: Duration = Duration::from_secs(600);
/// A member that was removed from its group, once it is silent.
const REMOVED_FORGET: Duration = Duration::from_secs(10);
/// Any other service silent for this long is forgotten.
const SERVICE_FORGET: Duration = Duration::from_secs(24 * 3600);

/// See the module.
#[derive(Default)]
pub(crate) struct Services {
    seen: BTreeMap<String, Seen>,
}

struct Seen {
    entry: ServiceEntry,
    at: Duration,
}

/// What a heartbeat asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// Nothing.
    Known,
    /// The log must learn it.
    Store,
    /// There are too many.
    Full,
}

impl Services {
    /// A new leader counts everybody as heard of just now.
    pub(crate) fn restart(&mut self, stored: impl IntoIterator<Item = ServiceEntry>, now: Duration) {
        self.seen = stored.into_iter().map(|entry| (entry.uuid.clone(), Seen { entry, at: now })).collect();
    }

    /// A service says that it lives. `Store` is repeated until [`Services::stored`] confirms.
    pub(crate) fn heartbeat(&mut self, entry: &ServiceEntry, now: Duration) -> Noted {
        let entry = ServiceEntry { silent_ms: 0, ..entry.clone() };
        let full = self.seen.len() >= SERVICES_MAX;
        match self.seen.get_mut(&entry.uuid) {
            Some(seen) if seen.entry == entry => {
                seen.at = now;
                Noted::Known
            }
            None if full => Noted::Full,
            _ if entry.role == "mount" => {
                self.stored(entry, now);
                Noted::Known
            }
            _ => Noted::Store,
        }
    }

    /// The log has it.
    pub(crate) fn stored(&mut self, entry: ServiceEntry, now: Duration) {
        let entry = ServiceEntry { silent_ms: 0, ..entry };
        self.seen.insert(entry.uuid.clone(), Seen { entry, at: now });
    }

    /// All, by name, with how long each has been silent.
    pub(crate) fn list(&self, now: Duration) -> Vec<ServiceEntry> {
        let silent = |seen: &Seen| u64::try_from(now.saturating_sub(seen.at).as_millis()).unwrap_or(u64::MAX);
        let mut list: Vec<ServiceEntry> = self
            .seen
            .values()
            .map(|seen| ServiceEntry { silent_ms: silent(seen), ..seen.entry.clone() })
            .collect();
        list.sort_by(|a, b| (&a.name, &a.uuid).cmp(&(&b.name, &b.uuid)));
        list
    }

    /// What the leader of a metadata group said of its members, the latest leader's word.
    fn told_members(&self, group: u64) -> Option<&[String]> {
        self.seen
            .values()
            .filter(|seen| {
                seen.entry.role == "mrc" && seen.entry.group == group && !seen.entry.members.is_empty()
            })
            .max_by_key(|seen| (seen.entry.term, seen.at))
            .map(|seen| seen.entry.members.as_slice())
    }

    /// Addresses of a metadata group's members, by member.
    pub(crate) fn group_addrs(&self, group: u64) -> Vec<String> {
        if let Some(told) = self.told_members(group) {
            return told.to_vec();
        }
        let mut members: Vec<(u64, Duration, &str)> = self
            .seen
            .values()
            .filter(|seen| {
                seen.entry.role == "mrc" && seen.entry.group == group && !seen.entry.addr.is_empty()
            })
            .map(|seen| (seen.entry.member, seen.at, seen.entry.addr.as_str()))
            .collect();
        // Two of one member (a replaced disk has a new UUID): the one heard of last.
        members.sort_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        members.dedup_by_key(|(member, _, _)| *member);
        members.into_iter().map(|(_, _, addr)| addr.to_owned()).collect()
    }

    /// Whether a service says that it is a member of a group whose leader does not count it, or of the DIR (`dirs`).
    fn is_removed(&self, entry: &ServiceEntry, dirs: &[String]) -> bool {
        match entry.role.as_str() {
            "mrc" => self.told_members(entry.group).is_some_and(|told| !told.contains(&entry.addr)),
            "dir" => !dirs.is_empty() && !dirs.contains(&entry.addr),
            _ => false,
        }
    }

    /// Drops those silent for too long; gives the UUIDs that the log must forget as well.
    pub(crate) fn expire(&mut self, now: Duration, dirs: &[String]) -> Vec<String> {
        let gone: Vec<(String, bool)> = self
            .seen
            .iter()
            .filter_map(|(uuid, seen)| {
                let mount = seen.entry.role == "mount";
                let limit = match () {
                    () if mount => MOUNT_FORGET,
                    () if self.is_removed(&seen.entry, dirs) => REMOVED_FORGET,
                    () => SERVICE_FORGET,
                };
                (now.saturating_sub(seen.at) > limit).then(|| (uuid.clone(), !mount))
            })
            .collect();
        for (uuid, _) in &gone {
            self.seen.remove(uuid);
        }
        gone.into_iter().filter_map(|(uuid, stored)| stored.then_some(uuid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(uuid: &str, role: &str, addr: &str, member: u64) -> ServiceEntry {
        ServiceEntry {
            uuid: uuid.into(),
            role: role.into(),
            name: format!("{role}-{member}"),
            addr: addr.into(),
            group: 2,
            member,
            ..ServiceEntry::default()
        }
    }

    const fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_heartbeat_is_stored_once_and_again_when_the_address_changes() {
        let mut services = Services::default();
        let first = service("a", "mrc", "tcp://h:1", 1);
        assert_eq!(services.heartbeat(&first, at(0)), Noted::Store);
        assert_eq!(services.heartbeat(&first, at(1)), Noted::Store, "until the log has it");
        services.stored(first.clone(), at(1));
        assert_eq!(services.heartbeat(&first, at(2)), Noted::Known);
        assert_eq!(services.heartbeat(&service("a", "mrc", "tcp://h:2", 1), at(3)), Noted::Store);
        assert_eq!(services.list(at(5))[0].silent_ms, 3000);
    }

    #[test]
    fn mounts_never_reach_the_log_and_are_forgotten() {
        let mut services = Services::default();
        assert_eq!(services.heartbeat(&service("m", "mount", "", 0), at(0)), Noted::Known);
        assert_eq!(services.list(at(0)).len(), 1);
        assert!(services.expire(at(601), &[]).is_empty());
        assert!(services.list(at(601)).is_empty());
    }

    #[test]
    fn a_long_silent_service_is_forgotten_by_the_log_too() {
        let mut services = Services::default();
        services.restart([service("a", "exec", "tcp://h:1", 0)], at(0));
        assert!(services.expire(at(24 * 3600), &[]).is_empty());
        assert_eq!(services.expire(at(24 * 3600 + 1), &[]), ["a"]);
    }

    #[test]
    fn the_group_is_its_members_in_order_each_once() {
        let mut services = Services::default();
        services.stored(service("c", "mrc", "tcp://c:1", 3), at(0));
        services.stored(service("old", "mrc", "tcp://old:1", 1), at(0));
        services.stored(service("new", "mrc", "tcp://new:1", 1), at(9));
        services.stored(service("x", "exec", "tcp://x:1", 2), at(9));
        assert_eq!(services.group_addrs(2), ["tcp://new:1", "tcp://c:1"]);
        assert!(services.group_addrs(3).is_empty());
    }

    #[test]
    fn the_latest_leader_says_who_is_in_its_group() {
        let leads = |uuid: &str, addr: &str, member: u64, term: u64, members: &[&str]| ServiceEntry {
            members: members.iter().map(|addr| (*addr).to_owned()).collect(),
            term,
            ..service(uuid, "mrc", addr, member)
        };
        let mut services = Services::default();
        services.stored(service("a", "mrc", "tcp://a:1", 1), at(0));
        services.stored(leads("b", "tcp://b:1", 2, 7, &["tcp://b:1", "tcp://d:1"]), at(0));
        // It led before, says nothing new, and was heard of later.
        services.stored(leads("c", "tcp://c:1", 3, 6, &["tcp://a:1", "tcp://b:1", "tcp://c:1"]), at(5));
        assert_eq!(services.group_addrs(2), ["tcp://b:1", "tcp://d:1"]);
        // Those removed are forgotten soon after they fell silent, members are not.
        assert!(services.expire(at(10), &[]).is_empty());
        assert_eq!(services.expire(at(11), &[]), ["a"]);
        services.stored(service("x", "dir", "tcp://x:1", 0), at(11));
        assert!(services.expire(at(60), &["tcp://x:1".to_owned()]).iter().all(|uuid| uuid != "x"));
        assert_eq!(services.expire(at(60), &["tcp://y:1".to_owned()]), ["x"]);
    }
}
