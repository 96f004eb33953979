//! What always holds between the rows of a volume's table.

use std::collections::{BTreeMap, BTreeSet};

use mrc::namespace::keys::{self, table};
use mrc::namespace::{entry, home, inode, volume, xattr};
use mrc::quota::{self, Taken};
use mrc::usage::{self, Amount};
use proto::mrc::kind;
use rt::table::memory::MemoryTable;
use rt::table::{Table, prefix_end};

use crate::harness::{VOLUME, head};

fn rows(of: &MemoryTable, which: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let prefix = keys::of_volume(which, VOLUME);
    Table::scan(of, &prefix, &prefix_end(&prefix), usize::MAX).unwrap()
}

/// Panics when the rows contradict one another.
pub(crate) fn check(of: &MemoryTable) {
    let mut inodes: BTreeMap<u64, inode::Inode> = rows(of, table::INODE)
        .iter()
        .map(|(key, value)| inode::parse(key, value).unwrap())
        .map(|inode| (inode.attr.ino, inode))
        .collect();
    check_shares(of, &inodes);
    // What only others need is no file.
    inodes.retain(|_, inode| !inode.is_hidden());
    let mut names: BTreeMap<u64, u32> = BTreeMap::new();
    let mut links: BTreeMap<u64, BTreeSet<(u64, u64)>> = BTreeMap::new();
    let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
    let mut subdirectories: BTreeMap<u64, u32> = BTreeMap::new();
    let order = rows(of, table::ORDER);
    assert_eq!(order.len(), rows(of, table::DENTRY).len());
    for (key, value) in &order {
        let parent = keys::word(key, 1).unwrap();
        let (found, name) = entry::parse_order(key, value).unwrap();
        let by_name = mrc::namespace::name::Name::parse(&name).unwrap();
        assert_eq!(entry::find(of, VOLUME, parent, by_name).unwrap(), Some(found));
        assert!(found.cookie > 2 && found.cookie < 1 << 63);
        let inode = &inodes[&found.ino];
        assert_eq!(inode.kind(), found.kind);
        *names.entry(found.ino).or_default() += 1;
        links.entry(found.ino).or_default().insert((parent, found.cookie));
        *sizes.entry(parent).or_default() += 1;
        if inode.is_dir() {
            *subdirectories.entry(parent).or_default() += 1;
            assert_eq!(entry::parent_of(inode), Some(parent));
        }
        assert!(inodes[&parent].is_dir());
    }
    let orphans: BTreeSet<u64> =
        rows(of, table::ORPHAN).iter().map(|(key, _)| keys::word(key, 1).unwrap()).collect();
    for (ino, inode) in &inodes {
        if inode.is_dir() {
            assert_eq!(inode.attr.nlink, 2 + subdirectories.get(ino).copied().unwrap_or(0));
            assert_eq!(inode.attr.size, sizes.get(ino).copied().unwrap_or(0));
            assert_eq!(names.get(ino).copied().unwrap_or(0), u32::from(*ino != 1));
        } else {
            assert_eq!(inode.attr.nlink, names.get(ino).copied().unwrap_or(0), "links of {ino}");
            assert_eq!(orphans.contains(ino), inode.attr.nlink == 0);
        }
        let mut known: BTreeSet<(u64, u64)> =
            home::others(of, VOLUME, *ino, usize::MAX).unwrap().into_iter().collect();
        if *ino != 1 && inode.parent != 0 {
            assert!(known.insert((inode.parent, inode.cookie)), "the home of {ino} is among its other links");
        }
        assert_eq!(known, links.remove(ino).unwrap_or_default(), "links of {ino}");
        let listed = xattr::list(of, &head(0, 0, true), *ino).unwrap();
        let listed: Vec<_> = listed.into_iter().filter(|name| !name.starts_with(b"system.")).collect();
        assert_eq!(inode.attr.acl, inode.acls.bits());
        assert!(inode.acls.default.is_none() || inode.is_dir());
        if let Some(list) = &inode.acls.access {
            assert!(!list.is_minimal() && list.mode_bits() == inode.attr.mode & 0o777, "{inode:?}");
        }
        assert_eq!(listed.len(), inode.xattrs as usize);
        assert_eq!(listed.iter().map(|name| name.len() + 1).sum::<usize>(), inode.xattr_list_bytes as usize);
    }
    assert!(orphans.iter().all(|ino| inodes.contains_key(ino)));
    for (key, _) in rows(of, table::XATTR).iter().chain(&rows(of, table::LOCK)).chain(&rows(of, table::LINK))
    {
        assert!(inodes.contains_key(&keys::word(key, 1).unwrap()), "a row hangs on an inode that is gone");
    }
    for (key, _) in rows(of, table::GARBAGE) {
        let file = inodes.get(&keys::word(&key, 1).unwrap());
        assert!(file.is_none_or(|file| file.shares().gone), "garbage is in use");
    }
    check_usage(of, &inodes);
    check_quotas(of, &inodes);
    let record = volume::find(of, VOLUME).unwrap().unwrap();
    assert_eq!(record.inodes, inodes.len() as u64);
    let files = inodes.values().filter(|inode| inode.kind() == kind::FILE);
    assert_eq!(record.used_bytes, files.map(|inode| inode.attr.size).sum::<u64>());
    assert!(inodes.keys().all(|ino| *ino < record.next_ino));
}

/// Who needs which data, against counting.
fn check_shares(of: &MemoryTable, inodes: &BTreeMap<u64, inode::Inode>) {
    let record = volume::find(of, VOLUME).unwrap().unwrap();
    let frozen: BTreeSet<u64> =
        rows(of, table::FROZEN).iter().map(|(key, _)| keys::word(key, 1).unwrap()).collect();
    let mut refs: BTreeMap<u64, u32> = BTreeMap::new();
    for (ino, inode) in inodes {
        let shares = inode.shares();
        assert_eq!(inode.attr.layer, shares.top);
        for needed in [shares.top, shares.base, shares.encoding].into_iter().filter(|needed| *needed != 0) {
            assert!(needed != *ino && !inodes[&needed].shares().gone, "{ino} needs {needed}");
            *refs.entry(needed).or_default() += 1;
        }
        if shares.hidden {
            assert_eq!((inode.attr.nlink, inode.attr.size, inode.parent, shares.top), (0, 0, 0, 0), "{ino}");
        }
    }
    for (ino, inode) in inodes {
        let shares = inode.shares();
        assert_eq!(shares.refs, refs.get(ino).copied().unwrap_or(0), "those who need {ino}");
        let own = !shares.hidden && shares.top == 0;
        let in_snapshot =
            record.snapshots.iter().any(|moment| *ino < moment.next_ino && moment.id <= shares.died);
        let needed = own || shares.refs > 0 || in_snapshot;
        assert!(needed != shares.gone || record.sweeping, "{ino}: {shares:?}");
        // New tops need no look before somebody gives them up.
        let given_up = shares.refs > 0 && shares.died > 0 || !own && (shares.died > 0 || !shares.hidden);
        assert!(!given_up || shares.gone || frozen.contains(ino), "{ino} would never be looked at");
    }
    assert!(frozen.iter().all(|ino| inodes.contains_key(ino) || record.sweeping), "{frozen:?}");
}

/// What each directory says of what is below it, against adding it up.
fn check_usage(of: &MemoryTable, inodes: &BTreeMap<u64, inode::Inode>) {
    let mut sums: BTreeMap<u64, Amount> = BTreeMap::new();
    for inode in inodes.values().filter(|inode| inode.attr.ino != 1 && inode.parent != 0) {
        let mut at = inode.parent;
        loop {
            let sum = sums.entry(at).or_default();
            *sum = *sum + Amount::of(&inode.attr);
            if at == 1 {
                break;
            }
            at = inodes[&at].parent;
        }
    }
    for inode in inodes.values().filter(|inode| inode.is_dir()) {
        let ino = inode.attr.ino;
        let said = usage::below(of, VOLUME, ino).unwrap().unwrap();
        assert_eq!(said, sums.get(&ino).copied().unwrap_or_default(), "usage below {ino}");
    }
    for (key, _) in rows(of, table::TOTAL).iter().chain(&rows(of, table::PENDING)) {
        let directory = keys::word(key, 1).unwrap();
        assert!(inodes.get(&directory).is_some_and(inode::Inode::is_dir), "usage of {directory}");
    }
}

/// The sums of quotas against adding them up.
fn check_quotas(of: &MemoryTable, inodes: &BTreeMap<u64, inode::Inode>) {
    let record = volume::find(of, VOLUME).unwrap().unwrap();
    let mut want: BTreeMap<(u64, u64), Taken> = BTreeMap::new();
    let mut add = |subject, taken| {
        let sum: &mut Taken = want.entry(subject).or_default();
        *sum = *sum + taken;
    };
    if record.owner_quotas > 0 && !record.clearing {
        for inode in inodes.values().filter(|inode| inode.attr.ino <= record.counted) {
            add((1, inode.attr.uid.into()), Taken::of(&inode.attr));
            add((2, inode.attr.gid.into()), Taken::of(&inode.attr));
        }
    }
    let (mut directories, mut owners) = (0, 0);
    for (key, _) in rows(of, table::QUOTA) {
        let (kind, id) = (keys::word(&key, 1).unwrap(), keys::word(&key, 2).unwrap());
        if kind == 3 {
            directories += 1;
            assert!(inodes[&id].is_dir());
            add((3, id), usage::below(of, VOLUME, id).unwrap().unwrap().into());
        } else {
            owners += 1;
        }
    }
    assert_eq!((record.directory_quotas, record.owner_quotas), (directories, owners));
    want.retain(|_, sum| *sum != Taken::default());
    let got: BTreeMap<(u64, u64), Taken> = rows(of, table::OWNED)
        .iter()
        .map(|(key, _)| (keys::word(key, 1).unwrap(), keys::word(key, 2).unwrap()))
        // Sums of an earlier count wait to be removed.
        .filter(|(kind, _)| *kind == 3 || record.owner_quotas > 0 && !record.clearing)
        .map(|(kind, id)| {
            let subject = (proto::quota::QuotaKind::try_from(i32::try_from(kind).unwrap()).unwrap(), id);
            ((kind, id), quota::owned(of, VOLUME, subject).unwrap())
        })
        .collect();
    assert_eq!(got, want);
}
