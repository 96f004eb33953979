//! What always holds between the rows of a volume's table.

use std::collections::{BTreeMap, BTreeSet};

use mrc::namespace::keys::{self, table};
use mrc::namespace::{entry, inode, volume, xattr};
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
    let inodes: BTreeMap<u64, inode::Inode> = rows(of, table::INODE)
        .iter()
        .map(|(key, value)| inode::parse(key, value).unwrap())
        .map(|inode| (inode.attr.ino, inode))
        .collect();
    let mut names: BTreeMap<u64, u32> = BTreeMap::new();
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
        let listed = xattr::list(of, &head(0, 0, true), *ino).unwrap();
        assert_eq!(listed.len(), inode.xattrs as usize);
        assert_eq!(listed.iter().map(|name| name.len() + 1).sum::<usize>(), inode.xattr_list_bytes as usize);
    }
    assert!(orphans.iter().all(|ino| inodes.contains_key(ino)));
    for (key, _) in rows(of, table::XATTR).iter().chain(&rows(of, table::LOCK)) {
        assert!(inodes.contains_key(&keys::word(key, 1).unwrap()), "a row hangs on an inode that is gone");
    }
    for (key, _) in rows(of, table::GARBAGE) {
        assert!(!inodes.contains_key(&keys::word(&key, 1).unwrap()), "garbage is in use");
    }
    let record = volume::find(of, VOLUME).unwrap().unwrap();
    assert_eq!(record.inodes, inodes.len() as u64);
    let files = inodes.values().filter(|inode| inode.kind() == kind::FILE);
    assert_eq!(record.used_bytes, files.map(|inode| inode.attr.size).sum::<u64>());
    assert!(inodes.keys().all(|ino| *ino < record.next_ino));
}
