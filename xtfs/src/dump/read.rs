//! Reading a dump: every line, their order, the sum, and that the names make a tree. Nothing is believed before all of it
//! was checked.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Read};

use proto::backup::{DumpHeader, NameOf, Node};
use proto::mrc::kind;
use proto::quota::QuotaKind;
use sha2::{Digest, Sha256};

use super::lines::{Line, QuotaLine};
use super::write::sum_text;

/// Longest line, bytes: a node with all attributes that it can have, in hexadecimal.
const LINE_BYTES_MAX: u64 = 64 << 20;
const ROOT: u64 = 1;

/// Something of a dump, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    Node(Box<Node>),
    Name(NameOf),
    Quota(QuotaLine),
}

/// What a dump has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Content {
    pub(crate) header: DumpHeader,
    pub(crate) created: String,
    pub(crate) nodes: u64,
    pub(crate) names: u64,
    pub(crate) quotas: u64,
}

/// Reads a dump to its end and gives its records to `take`. The error says in which line what is wrong.
pub(crate) fn read(
    from: &mut dyn BufRead,
    take: &mut dyn FnMut(Record) -> Result<(), String>,
) -> Result<Content, String> {
    let (mut sum, mut lines) = (Sha256::new(), 0u64);
    let mut content: Option<Content> = None;
    let mut order = Order::default();
    loop {
        let mut text = Vec::new();
        let read = from.take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
        read.map_err(|error| format!("line {}: {error}", lines + 1))?;
        let wrong = |why: &str| format!("line {}: {why}", lines + 1);
        if text.is_empty() {
            return Err(wrong("the dump ends here, without its last line: it was cut"));
        }
        let Some(line) = text.strip_suffix(b"\n") else {
            return Err(wrong("the line is cut, or longer than any line of a dump"));
        };
        let line = std::str::from_utf8(line).map_err(|_| wrong("no UTF-8"))?;
        let line = Line::parse(line).map_err(|why| wrong(&why))?;
        let known = match (&mut content, line) {
            (None, Line::Header(header)) => {
                content = Some(Content {
                    header: header.header(),
                    created: header.created,
                    nodes: 0,
                    names: 0,
                    quotas: 0,
                });
                None
            }
            (None, _) => return Err(wrong("a dump begins with its header")),
            (Some(_), Line::Header(_)) => return Err(wrong("a second header")),
            (Some(content), Line::End(end)) => {
                if end.end != lines || end.sha256 != sum_text(sum) {
                    return Err(wrong(
                        "lines are missing or were changed: number of lines and sum do not match",
                    ));
                }
                if !from.fill_buf().map_err(|error| wrong(&error.to_string()))?.is_empty() {
                    return Err(wrong("something follows behind the end"));
                }
                return Ok(content.clone());
            }
            (Some(content), Line::Node(node)) => {
                content.nodes += 1;
                Some(Record::Node(Box::new(node.node())))
            }
            (Some(content), Line::Name(name)) => {
                content.names += 1;
                Some(Record::Name(name.name()))
            }
            (Some(content), Line::Quota(quota)) => {
                content.quotas += 1;
                Some(Record::Quota(quota))
            }
        };
        if let Some(record) = known {
            order.next(&record).map_err(|why| wrong(&why))?;
            take(record).map_err(|why| wrong(&why))?;
        }
        sum.update(&text);
        lines += 1;
    }
}

/// Nodes, then names, then quotas, each ascending.
#[derive(Default)]
struct Order {
    last: (u8, u64, u64),
}

impl Order {
    fn next(&mut self, record: &Record) -> Result<(), String> {
        let now = match record {
            Record::Node(node) => (1, node.attr.ino, 0),
            Record::Name(name) => (2, name.parent, name.cookie),
            Record::Quota(quota) => (3, quota.kind() as u64, quota.id),
        };
        if now <= self.last {
            return Err("out of order, or there twice".to_owned());
        }
        self.last = now;
        Ok(())
    }
}

/// What is known of a node.
struct Seen {
    kind: u32,
    nlink: u64,
    size: u64,
    names: u64,
    subdirectories: u64,
    /// Of a directory: the one it lies in.
    parent: u64,
}

/// Checks that names and nodes make one tree.
#[derive(Default)]
pub(crate) struct Tree {
    nodes: HashMap<u64, Seen>,
    entries: HashMap<u64, u64>,
    /// Names of the directory that is being read.
    names: (u64, HashSet<Vec<u8>>),
}

impl Tree {
    /// Takes a record.
    pub(crate) fn add(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Node(node) => {
                let attr = &node.attr;
                let seen = Seen {
                    kind: attr.mode >> 12,
                    nlink: attr.nlink.into(),
                    size: attr.size,
                    names: 0,
                    subdirectories: 0,
                    parent: 0,
                };
                self.nodes.insert(attr.ino, seen);
                Ok(())
            }
            Record::Name(name) => self.name(name),
            Record::Quota(quota) => {
                let directory = self.nodes.get(&quota.id).is_some_and(|seen| seen.kind == kind::DIR);
                if quota.kind() == QuotaKind::Directory && !directory {
                    return Err(format!("a quota of directory {}, which is not there", quota.id));
                }
                Ok(())
            }
        }
    }

    fn name(&mut self, name: &NameOf) -> Result<(), String> {
        let shown = String::from_utf8_lossy(&name.name).into_owned();
        if self.names.0 != name.parent {
            self.names = (name.parent, HashSet::new());
        }
        if !self.names.1.insert(name.name.clone()) {
            return Err(format!("{shown:?} is there twice"));
        }
        let is_dir = {
            let Some(seen) = self.nodes.get_mut(&name.ino) else {
                return Err(format!("{shown:?} leads to node {}, which is not there", name.ino));
            };
            seen.names += 1;
            if seen.kind == kind::DIR {
                seen.parent = name.parent;
            }
            seen.kind == kind::DIR
        };
        let Some(directory) = self.nodes.get_mut(&name.parent).filter(|seen| seen.kind == kind::DIR) else {
            return Err(format!("{shown:?} lies in {}, which is no directory", name.parent));
        };
        directory.subdirectories += u64::from(is_dir);
        *self.entries.entry(name.parent).or_default() += 1;
        Ok(())
    }

    /// At the end: numbers of names and entries, and that everything hangs on the root.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.nodes.get(&ROOT).is_none_or(|root| root.kind != kind::DIR) {
            return Err("there is no root directory".to_owned());
        }
        let mut rooted = HashSet::from([ROOT]);
        for (ino, seen) in &self.nodes {
            let names = if seen.kind == kind::DIR { u64::from(*ino != ROOT) } else { seen.nlink };
            if seen.names != names {
                return Err(format!("node {ino} has {} names, and should have {names}", seen.names));
            }
            if seen.kind != kind::DIR {
                continue;
            }
            let entries = self.entries.get(ino).copied().unwrap_or(0);
            if seen.size != entries || seen.nlink != 2 + seen.subdirectories {
                return Err(format!("directory {ino} has {entries} entries, and says {}", seen.size));
            }
            let (mut at, mut passed) = (*ino, Vec::new());
            while !rooted.contains(&at) {
                passed.push(at);
                at = self.nodes.get(&at).map_or(0, |seen| seen.parent);
                if at == 0 || passed.len() > self.nodes.len() {
                    return Err(format!("directory {ino} does not hang on the root"));
                }
            }
            rooted.extend(passed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::mrc::{Attr, Time};
    use proto::quota::{Quota, QuotaLimits};
    use proto::stripe::{Column, Layout, Striping};

    use super::super::write::Writer;
    use super::*;

    fn node(ino: u64, mode: u32, nlink: u32, size: u64) -> Node {
        let time = Time { seconds: -5, nanos: 7 };
        let attr = Attr {
            ino,
            mode,
            nlink,
            size,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            ..Attr::default()
        };
        let next_cookie = if mode >> 12 == kind::DIR { 9 } else { 0 };
        Node { attr, next_cookie, ..Node::default() }
    }

    fn nodes() -> Vec<Node> {
        let layout = Layout {
            stripe_bytes: 1 << 20,
            columns: vec![Column { osds: vec![1, 2, 3] }, Column { osds: vec![2] }],
            replication: 1,
            view: 4,
            previous: vec![Column { osds: vec![1, 2, 4] }, Column { osds: vec![2] }],
            learners: vec![3],
            previous_learners: vec![4],
            ..Layout::default()
        };
        let xattr =
            |name: &[u8], value: &[u8]| proto::backup::Xattr { name: name.to_vec(), value: value.to_vec() };
        vec![
            node(1, 0o40755, 3, 2),
            Node { default_acl: vec![2, 0, 0, 255], ..node(5, 0o41777, 2, 2) },
            Node {
                layout: Some(layout),
                acl: vec![1, 2],
                xattrs: vec![xattr(b"user.a", b"text"), xattr(b"user.\xff", b"\0\xff")],
                ..node(6, 0o104755, 2, 1 << 40)
            },
            Node { target: b"../\xfe".to_vec(), ..node(7, 0o120777, 1, 4) },
        ]
    }

    fn names() -> Vec<NameOf> {
        let name = |parent, name: &[u8], ino, cookie| NameOf { parent, name: name.to_vec(), ino, cookie };
        vec![
            name(1, "d\u{e4}".as_bytes(), 5, 3),
            name(1, b"f\xff\n", 6, 4),
            name(5, b"again", 6, 3),
            name(5, b"link", 7, 5),
        ]
    }

    fn written(nodes: &[Node], names: &[NameOf]) -> Vec<u8> {
        let striping =
            Striping { stripe_bytes: 1 << 20, width: 2, replicas: 3, replication: 1, coding: None };
        let header = DumpHeader { volume: 7, name: "home".into(), next_ino: 12, striping };
        let mut writer = Writer::begin(Vec::new(), &header, "2026-11-26T23:00:00Z".into()).unwrap();
        for node in nodes {
            writer.node(node).unwrap();
        }
        for name in names {
            writer.name(name).unwrap();
        }
        let limits = QuotaLimits { bytes: 5, inodes: 0 };
        writer.quota(&Quota { kind: 3, id: 5, limits, ..Quota::default() }).unwrap();
        writer.end().unwrap()
    }

    fn read_all(bytes: &[u8]) -> Result<(Content, Vec<Record>), String> {
        let (mut records, mut tree) = (Vec::new(), Tree::default());
        let content = read(&mut &bytes[..], &mut |record| {
            tree.add(&record)?;
            records.push(record);
            Ok(())
        })?;
        tree.check()?;
        Ok((content, records))
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = written(&nodes(), &names());
        let (content, records) = read_all(&bytes).unwrap();
        assert_eq!((content.nodes, content.names, content.quotas), (4, 4, 1));
        assert_eq!((content.header.volume, content.header.next_ino), (7, 12));
        assert_eq!(content.header.striping.replicas, 3);
        let read: Vec<Node> = records
            .iter()
            .filter_map(|record| match record {
                Record::Node(node) => Some((**node).clone()),
                _ => None,
            })
            .collect();
        assert_eq!(read, nodes());
        let read: Vec<NameOf> = records
            .into_iter()
            .filter_map(|record| match record {
                Record::Name(name) => Some(name),
                _ => None,
            })
            .collect();
        assert_eq!(read, names());
        // The golden first lines: a change of these makes old dumps unreadable.
        let text = String::from_utf8(bytes).unwrap();
        let mut lines = text.lines();
        assert_eq!(
            lines.next().unwrap(),
            "{\"xtfs_dump\":1,\"volume\":\"home\",\"volume_id\":7,\"created\":\"2026-11-26T23:00:00Z\",\"next_ino\":12,\
             \"stripe_bytes\":1048576,\"width\":2,\"replicas\":3,\"replication\":\"quorum\"}"
        );
        assert_eq!(
            lines.next().unwrap(),
            "{\"node\":1,\"type\":\"directory\",\"mode\":\"0755\",\"uid\":0,\"gid\":0,\"nlink\":3,\"size\":2,\"blocks\":0,\
             \"atime\":\"-5.000000007\",\"mtime\":\"-5.000000007\",\"ctime\":\"-5.000000007\",\"btime\":\"-5.000000007\",\
             \"change\":0,\"truncate_epoch\":0,\"next_cookie\":9}"
        );
        assert!(text.contains("{\"name\":{\"hex\":\"66ff0a\"},\"in\":1,\"to\":6,\"cookie\":4}"));
    }

    /// Every single byte changed, dropped or doubled, and every cut, is noticed.
    #[test]
    fn no_damage_goes_unnoticed() {
        let bytes = written(&nodes(), &names());
        for at in 0..bytes.len() {
            assert!(read_all(&bytes[..at]).is_err(), "cut at {at}");
            for bit in [1, 4, 32, 128] {
                let mut damaged = bytes.clone();
                damaged[at] ^= bit;
                let read = read_all(&damaged);
                assert!(read.is_err(), "bit {bit} of byte {at}: {read:?}");
                assert!(read.unwrap_err().starts_with("line "), "byte {at}");
            }
            let mut shorter = bytes.clone();
            shorter.remove(at);
            // Between equal bytes it does not matter which one is missing, but one is.
            assert!(read_all(&shorter).is_err(), "without byte {at}");
            let mut longer = bytes.clone();
            longer.insert(at, bytes[at]);
            assert!(read_all(&longer).is_err(), "byte {at} twice");
        }
        assert!(read_all(&[&bytes[..], b"{}\n"].concat()).is_err());
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        for missing in 0..lines.len() {
            let rest: Vec<&[u8]> =
                lines.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, line)| *line).collect();
            assert!(read_all(&rest.concat()).is_err(), "without line {missing}");
        }
    }

    #[test]
    fn noise_is_refused_without_a_panic() {
        let mut seed = 1u64;
        for length in 0..2000usize {
            let noise: Vec<u8> = (0..length % 97)
                .map(|_| {
                    seed =
                        seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // Mostly what JSON is made of, so that it comes further than the first byte.
                    b"{}[]\":,0123456789abcdefx\n\\ \xff"[usize::try_from(seed >> 33).unwrap() % 28]
                })
                .collect();
            assert!(read_all(&noise).is_err());
            assert!(Line::parse(&String::from_utf8_lossy(&noise)).is_err());
        }
    }

    #[test]
    fn sound_lines_that_make_no_tree_are_refused() {
        let refused = |change: &dyn Fn(&mut Vec<Node>, &mut Vec<NameOf>)| {
            let (mut nodes, mut names) = (nodes(), names());
            change(&mut nodes, &mut names);
            read_all(&written(&nodes, &names)).unwrap_err()
        };
        let why = refused(&|nodes, _| drop(nodes.remove(3)));
        assert!(why.contains("leads to node 7"), "{why}");
        let why = refused(&|_, names| drop(names.remove(2)));
        // Both the directory and the node miss it; which is said depends on what is counted first.
        assert!(why.contains("node 6 has 1 names") || why.contains("directory 5 has 1 entries"), "{why}");
        let why = refused(&|nodes, _| nodes[1].attr.size = 3);
        assert!(why.contains("directory 5 has 2 entries"), "{why}");
        let why = refused(&|_, names| names[3].name = b"again".to_vec());
        assert!(why.contains("\"again\" is there twice"), "{why}");
        let why = refused(&|_, names| names[1].cookie = 3);
        assert!(why.contains("out of order"), "{why}");
        let why = refused(&|nodes, _| nodes.swap(1, 2));
        assert!(why.contains("out of order"), "{why}");
        let why = refused(&|nodes, names| {
            // 5 lies in itself.
            (nodes[0].attr.size, nodes[0].attr.nlink) = (1, 2);
            (nodes[1].attr.size, nodes[1].attr.nlink) = (3, 3);
            let moved = names.remove(0);
            names.push(NameOf { parent: 5, cookie: 8, ..moved });
        });
        assert!(why.contains("does not hang on the root"), "{why}");
    }
}
