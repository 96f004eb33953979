//! Random operations on the namespace against a tree in memory that knows nothing of rows, counters or cookies.

use std::collections::BTreeMap;

use mrc::command::{Body, FoldUsage, Which};
use proptest::prelude::*;
use proto::error::Code;
use proto::mrc::{RENAME_EXCHANGE, RENAME_NOREPLACE, ReportWrite, kind};
use proto::rpc::Origin;

use crate::fsck;
use crate::harness::{Replica, code};

/// A node; directories hold their entries, links are counted by looking.
#[derive(Clone, Debug, PartialEq)]
struct Node {
    kind: u32,
    mode: u32,
    size: u64,
    entries: BTreeMap<String, u64>,
    xattrs: BTreeMap<String, u8>,
    /// Has an access control list (of a fixed kind: somebody named, and a mask).
    listed: bool,
}

pub(crate) struct Tree {
    nodes: BTreeMap<u64, Node>,
}

type Answer = Result<(), Code>;

fn deny(code: Code) -> Answer {
    Err(code)
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { nodes: BTreeMap::from([(1, Tree::node(kind::DIR, 0o755))]) }
    }

    fn node(kind: u32, mode: u32) -> Node {
        Node { kind, mode, size: 0, entries: BTreeMap::new(), xattrs: BTreeMap::new(), listed: false }
    }

    fn dir(&self, ino: u64) -> Result<&Node, Code> {
        match self.nodes.get(&ino) {
            None => Err(Code::NotFound),
            Some(node) if node.kind != kind::DIR => Err(Code::NotDirectory),
            Some(node) => Ok(node),
        }
    }

    fn find(&self, dir: u64, name: &str) -> Result<u64, Code> {
        self.dir(dir)?.entries.get(name).copied().ok_or(Code::NotFound)
    }

    fn links(&self, ino: u64) -> usize {
        self.nodes.values().flat_map(|node| node.entries.values()).filter(|to| **to == ino).count()
    }

    fn add(&mut self, dir: u64, name: &str, ino: u64) {
        self.nodes.get_mut(&dir).unwrap().entries.insert(name.into(), ino);
    }

    fn cut(&mut self, dir: u64, name: &str) {
        self.nodes.get_mut(&dir).unwrap().entries.remove(name);
    }

    fn make(&mut self, dir: u64, name: &str, node: Node, ino: u64) -> Answer {
        if self.dir(dir)?.entries.contains_key(name) {
            return deny(Code::Exists);
        }
        self.nodes.insert(ino, node);
        self.add(dir, name, ino);
        Ok(())
    }

    fn unlink(&mut self, dir: u64, name: &str) -> Answer {
        let ino = self.find(dir, name)?;
        if self.nodes[&ino].kind == kind::DIR {
            return deny(Code::IsDirectory);
        }
        self.cut(dir, name);
        self.drop_if_unlinked(ino);
        Ok(())
    }

    /// The test reaps orphans at once.
    fn drop_if_unlinked(&mut self, ino: u64) {
        if self.links(ino) == 0 {
            self.nodes.remove(&ino);
        }
    }

    fn rmdir(&mut self, dir: u64, name: &str) -> Answer {
        let ino = self.find(dir, name)?;
        if self.nodes[&ino].kind != kind::DIR {
            return deny(Code::NotDirectory);
        }
        if !self.nodes[&ino].entries.is_empty() {
            return deny(Code::NotEmpty);
        }
        self.cut(dir, name);
        self.nodes.remove(&ino);
        Ok(())
    }

    fn link(&mut self, ino: u64, dir: u64, name: &str) -> Answer {
        let kind = self.nodes.get(&ino).ok_or(Code::Stale)?.kind;
        if self.dir(dir)?.entries.contains_key(name) {
            return deny(Code::Exists);
        }
        if kind == kind::DIR {
            return deny(Code::NotPermitted);
        }
        self.add(dir, name, ino);
        Ok(())
    }

    fn below(&self, ino: u64, top: u64) -> bool {
        ino == top || self.nodes[&top].entries.values().any(|child| self.below(ino, *child))
    }

    fn rename(&mut self, from: (u64, &str), to: (u64, &str), flags: u32) -> Answer {
        self.dir(from.0)?;
        self.dir(to.0)?;
        let moved = self.find(from.0, from.1)?;
        let target = self.find(to.0, to.1).ok();
        match target {
            Some(_) if flags == RENAME_NOREPLACE => return deny(Code::Exists),
            None if flags == RENAME_EXCHANGE => return deny(Code::NotFound),
            Some(target) if target == moved => return Ok(()),
            _ => {}
        }
        if self.below(to.0, moved) {
            return deny(Code::InvalidArgument);
        }
        if flags == RENAME_EXCHANGE {
            let target = target.unwrap();
            if self.below(from.0, target) {
                return deny(Code::InvalidArgument);
            }
            self.add(from.0, from.1, target);
            self.add(to.0, to.1, moved);
            return Ok(());
        }
        if let Some(target) = target {
            if self.below(from.0, target) {
                return deny(Code::NotEmpty);
            }
            match (self.nodes[&moved].kind == kind::DIR, self.nodes[&target].kind == kind::DIR) {
                (true, false) => return deny(Code::NotDirectory),
                (false, true) => return deny(Code::IsDirectory),
                (true, true) if !self.nodes[&target].entries.is_empty() => return deny(Code::NotEmpty),
                _ => {}
            }
        }
        self.cut(from.0, from.1);
        self.add(to.0, to.1, moved);
        if let Some(target) = target {
            self.drop_if_unlinked(target);
        }
        Ok(())
    }
}

/// One operation; inodes are picked from all that ever were.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Make(u64, u8, u32, u32),
    Create(u64, u8, bool),
    Unlink(u64, u8, bool),
    RmDir(u64, u8),
    Link(u64, u64, u8),
    Rename((u64, u8), (u64, u8), u32),
    Chmod(u64, u32),
    Truncate(u64, u64),
    Write(u64, u64),
    Xattr(u64, u8, Option<u8>),
    /// Sets an access control list that shows as these nine bits, with somebody named or without; or removes it.
    Acl(u64, Option<(u32, bool)>),
    /// A file without a name that gets one, unless it is exclusive.
    TmpFile(u64, u8, bool),
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    // Directories come first (low numbers), so small numbers hit them more often.
    let ino = || prop_oneof![3 => 1..5u64, 2 => 1..24u64];
    let name = || 0..4u8;
    let kinds = prop_oneof![
        4 => Just(kind::DIR), 3 => Just(kind::FILE), 1 => Just(kind::SYMLINK), 1 => Just(kind::FIFO),
    ];
    prop_oneof![
        6 => (ino(), name(), kinds, 0..0o7777u32).prop_map(|(a, b, c, d)| Op::Make(a, b, c, d)),
        3 => (ino(), name(), any::<bool>()).prop_map(|(a, b, c)| Op::Create(a, b, c)),
        3 => (ino(), name(), any::<bool>()).prop_map(|(a, b, c)| Op::Unlink(a, b, c)),
        2 => (ino(), name()).prop_map(|(a, b)| Op::RmDir(a, b)),
        2 => (ino(), ino(), name()).prop_map(|(a, b, c)| Op::Link(a, b, c)),
        6 => ((ino(), name()), (ino(), name()), 0..3u32).prop_map(|(a, b, c)| Op::Rename(a, b, c)),
        1 => (ino(), 0..0o7777u32).prop_map(|(a, b)| Op::Chmod(a, b)),
        1 => (ino(), 0..100u64).prop_map(|(a, b)| Op::Truncate(a, b)),
        1 => (ino(), 0..100u64).prop_map(|(a, b)| Op::Write(a, b)),
        1 => (ino(), name(), any::<Option<u8>>()).prop_map(|(a, b, c)| Op::Xattr(a, b, c)),
        2 => (ino(), proptest::option::of((0..0o1000u32, any::<bool>()))).prop_map(|(a, b)| Op::Acl(a, b)),
        2 => (ino(), name(), any::<bool>()).prop_map(|(a, b, c)| Op::TmpFile(a, b, c)),
    ]
}

fn text(name: u8) -> String {
    format!("n{name}")
}

/// Runs an operation on both sides and compares the answers.
pub(crate) fn step(replica: &mut Replica, tree: &mut Tree, op: &Op) {
    let next =
        mrc::namespace::volume::find(&replica.table, crate::harness::VOLUME).unwrap().unwrap().next_ino;
    let (got, want) = match op {
        Op::Make(dir, name, kind, mode) => {
            let target = if *kind == kind::SYMLINK { "to" } else { "" };
            let got = replica.make(*dir, &text(*name), kind << 12 | mode, target).map(drop);
            let mode = match *kind {
                kind::DIR => mode & 0o1777,
                kind::SYMLINK => 0o777,
                _ => *mode,
            };
            let node = Node { size: if *kind == kind::SYMLINK { 2 } else { 0 }, ..Tree::node(*kind, mode) };
            // A setgid directory comes about by chmod only; its children inherit the bit.
            let inherits =
                *kind == kind::DIR && tree.nodes.get(dir).is_some_and(|node| node.mode & 0o2000 != 0);
            let node = Node { mode: node.mode | if inherits { 0o2000 } else { 0 }, ..node };
            (code(got), tree.make(*dir, &text(*name), node, next))
        }
        Op::Create(dir, name, exclusive) => {
            let got = code(replica.create(*dir, &text(*name), *exclusive));
            let want = match tree.find(*dir, &text(*name)) {
                Ok(ino) if !exclusive => match tree.nodes[&ino].kind {
                    kind::FILE => Ok(()),
                    kind::DIR => deny(Code::IsDirectory),
                    kind::SYMLINK => deny(Code::Loop),
                    _ => deny(Code::NotSupported),
                },
                _ => tree.make(*dir, &text(*name), Tree::node(kind::FILE, 0o644), next),
            };
            (got, want)
        }
        Op::Unlink(dir, name, closed) => {
            let victim = tree.find(*dir, &text(*name)).unwrap_or(0);
            let got = replica.unlink(*dir, &text(*name), if *closed { victim } else { 0 });
            (code(got), tree.unlink(*dir, &text(*name)))
        }
        Op::RmDir(dir, name) => (code(replica.rmdir(*dir, &text(*name))), tree.rmdir(*dir, &text(*name))),
        Op::Link(ino, dir, name) => {
            (code(replica.link(*ino, *dir, &text(*name))), tree.link(*ino, *dir, &text(*name)))
        }
        Op::Rename((dir, name), (to_dir, to_name), flags) => {
            let (from, to) = (text(*name), text(*to_name));
            let got = replica.rename((*dir, &from), (*to_dir, &to), *flags, 0);
            (code(got), tree.rename((*dir, &from), (*to_dir, &to), *flags))
        }
        Op::TmpFile(dir, name, exclusive) => {
            let made = crate::tmpfile::tmpfile(replica, *dir, *exclusive);
            let want = match tree.dir(*dir) {
                Err(code) => deny(code),
                Ok(node) if node.entries.contains_key(&text(*name)) => deny(Code::Exists),
                Ok(_) if *exclusive => deny(Code::NotFound),
                Ok(_) => tree.make(*dir, &text(*name), Tree::node(kind::FILE, 0o666), next),
            };
            let got = made.and_then(|made| replica.link(made.attr.ino, *dir, &text(*name)).map(drop));
            (code(got), want)
        }
        other => step_on_inode(replica, tree, other),
    };
    assert_eq!(got, want.err(), "{op:?}");
}

fn step_on_inode(replica: &mut Replica, tree: &mut Tree, op: &Op) -> (Option<Code>, Answer) {
    match op {
        Op::Chmod(ino, mode) => {
            let mut change = replica.change_of(*ino);
            change.mode = Some(*mode);
            let want = tree.nodes.get_mut(ino).map(|node| node.mode = *mode).ok_or(Code::Stale);
            (code(replica.setattr(change)), want)
        }
        Op::Truncate(ino, size) => {
            let mut change = replica.change_of(*ino);
            change.size = Some(*size);
            let want = match tree.nodes.get_mut(ino) {
                None => deny(Code::Stale),
                Some(node) if node.kind == kind::DIR => deny(Code::IsDirectory),
                Some(node) if node.kind != kind::FILE => deny(Code::InvalidArgument),
                Some(node) => {
                    node.size = *size;
                    Ok(())
                }
            };
            (code(replica.setattr(change)), want)
        }
        Op::Write(ino, size) => {
            let epoch = replica.getattr(*ino).map_or(0, |attr| attr.truncate_epoch);
            let report = ReportWrite {
                head: replica.head.clone(),
                ino: *ino,
                size: *size,
                truncate_epoch: epoch,
                origin: Origin::default(),
                ..ReportWrite::default()
            };
            let want = match tree.nodes.get_mut(ino) {
                None => deny(Code::Stale),
                Some(node) if node.kind == kind::DIR => deny(Code::IsDirectory),
                Some(node) if node.kind != kind::FILE => deny(Code::InvalidArgument),
                Some(node) => {
                    node.size = node.size.max(*size);
                    Ok(())
                }
            };
            (code(replica.run(Body::WriteDone(report))), want)
        }
        Op::Acl(ino, list) => {
            let value = list.map(|(bits, named)| crate::acl::showing(bits, named));
            let got = replica.setxattr(*ino, crate::acl::ACCESS, value.as_deref(), 0);
            let want = match tree.nodes.get_mut(ino) {
                None => deny(Code::Stale),
                Some(node) if node.kind == kind::SYMLINK => deny(Code::NotSupported),
                Some(node) => {
                    if let Some((bits, _)) = list {
                        node.mode = node.mode & 0o7000 | bits;
                    }
                    node.listed = list.is_some_and(|(_, named)| named);
                    Ok(())
                }
            };
            (code(got), want)
        }
        Op::Xattr(ino, name, value) => {
            let key = format!("user.{}", text(*name));
            let got = replica.setxattr(*ino, &key, value.as_ref().map(std::slice::from_ref), 0);
            let want = match (tree.nodes.get_mut(ino), value) {
                (None, _) => deny(Code::Stale),
                (Some(node), _) if node.kind != kind::FILE && node.kind != kind::DIR => {
                    deny(Code::NotPermitted)
                }
                (Some(node), Some(value)) => {
                    node.xattrs.insert(key, *value);
                    Ok(())
                }
                (Some(node), None) => node.xattrs.remove(&key).map(drop).ok_or(Code::NoAttribute),
            };
            (code(got), want)
        }
        other => unreachable!("{other:?}"),
    }
}

/// The whole tree as the replica shows it, against the model.
fn compare(replica: &Replica, tree: &Tree) {
    fsck::check(&replica.table);
    let mut seen = BTreeMap::from([(1u64, 1u64)]);
    let mut open = vec![1u64];
    while let Some(dir) = open.pop() {
        let listed = replica.list(dir, 2).unwrap();
        let names: BTreeMap<String, u64> =
            listed.iter().map(|entry| (String::from_utf8(entry.name.clone()).unwrap(), entry.ino)).collect();
        assert_eq!(names.len(), listed.len(), "a name is listed twice");
        assert_eq!(names, tree.nodes[&dir].entries, "entries of {dir}");
        for entry in listed {
            assert_eq!(entry.attr.as_ref(), Some(&replica.getattr(entry.ino).unwrap()));
            if seen.insert(entry.ino, dir).is_none() && entry.kind == kind::DIR {
                assert_eq!(replica.lookup(entry.ino, "..").unwrap().ino, dir);
                open.push(entry.ino);
            }
        }
    }
    assert_eq!(seen.len(), tree.nodes.len());
    for ino in seen.keys() {
        let (attr, node) = (replica.getattr(*ino).unwrap(), &tree.nodes[ino]);
        assert_eq!((attr.mode >> 12, attr.mode & 0o7777), (node.kind, node.mode), "mode of {ino}");
        if node.kind == kind::DIR {
            let subdirectories =
                node.entries.values().filter(|child| tree.nodes[child].kind == kind::DIR).count();
            assert_eq!(attr.nlink as usize, 2 + subdirectories);
        } else {
            assert_eq!((attr.nlink as usize, attr.size), (tree.links(*ino), node.size));
        }
        let names = mrc::namespace::xattr::list(&replica.table, &replica.head, *ino).unwrap();
        let names: Vec<Vec<u8>> =
            names.into_iter().filter(|name| name != crate::acl::ACCESS.as_bytes()).collect();
        assert_eq!(attr.acl & proto::mrc::ACL_ACCESS != 0, node.listed, "the list of {ino}");
        let wanted: Vec<Vec<u8>> = node.xattrs.keys().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(names, wanted);
    }
}

pub(crate) fn reap(replica: &mut Replica) {
    for (volume, ino) in mrc::namespace::collect::orphans(&replica.table, (0, 0), usize::MAX).unwrap() {
        replica.run(Body::Reap(Which { volume, ino })).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_operations_agree_with_the_model(ops in proptest::collection::vec(op(), 1..120)) {
        let (mut replica, mut tree) = (Replica::new(), Tree::new());
        for (at, op) in ops.iter().enumerate() {
            step(&mut replica, &mut tree, op);
            fsck::check(&replica.table);
            if at % 3 == 0 {
                let fold = FoldUsage { volume: crate::harness::VOLUME, limit: 2 };
                replica.run(Body::FoldUsage(fold)).unwrap();
            }
            reap(&mut replica);
            compare(&replica, &tree);
        }
    }
}
