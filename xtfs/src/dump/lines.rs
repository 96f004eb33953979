//! The kinds of lines: what each field is called, and from and to the messages of the MRC.

use proto::backup::{DumpHeader, NameOf, Node, Xattr};
use proto::mrc::{Attr, Time, kind};
use proto::quota::{QuotaKind, QuotaLimits};
use proto::stripe::{Coding, Column, Inline, Layout, Replication, Striping};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes: a string where they are UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Raw(pub(crate) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InHex {
    hex: String,
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    {
        return None;
    }
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => to.serialize_str(text),
            Err(_) => InHex { hex: to_hex(&self.0) }.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        if let serde_json::Value::String(text) = value {
            return Ok(Self(text.into_bytes()));
        }
        let bytes = InHex::deserialize(value).ok().and_then(|raw| from_hex(&raw.hex));
        bytes.map(Self).ok_or_else(|| D::Error::custom("neither a string nor {\"hex\":\"...\"}"))
    }
}

/// Bytes that are never text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hex(Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_hex(&String::deserialize(from)?).map(Self).ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

/// `SECONDS.NANOSECONDS`, nine digits behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct When(Time);

impl Serialize for When {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{}.{:09}", self.0.seconds, self.0.nanos))
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let parse = || {
            let (seconds, nanos) = text.split_once('.')?;
            let digits = nanos.len() == 9 && nanos.bytes().all(|digit| digit.is_ascii_digit());
            Some(Time { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok().filter(|_| digits)? })
        };
        parse().map(When).ok_or_else(|| D::Error::custom(format!("{text:?} is no time")))
    }
}

/// Permission bits, octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode(u32);

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{:04o}", self.0))
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| *bits <= 0o7777);
        bits.map(Mode).ok_or_else(|| D::Error::custom(format!("{text:?} is no mode")))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

const KINDS: [(Kind, u32); 7] = [
    (Kind::File, kind::FILE),
    (Kind::Directory, kind::DIR),
    (Kind::Symlink, kind::SYMLINK),
    (Kind::Fifo, kind::FIFO),
    (Kind::Socket, kind::SOCKET),
    (Kind::CharDevice, kind::CHAR),
    (Kind::BlockDevice, kind::BLOCK),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Policy {
    None,
    Quorum,
    All,
}

const POLICIES: [(Policy, Replication); 3] = [
    (Policy::None, Replication::None),
    (Policy::Quorum, Replication::Quorum),
    (Policy::All, Replication::All),
];

fn policy(replication: i32) -> Policy {
    let found = POLICIES.iter().find(|(_, number)| *number as i32 == replication);
    found.map_or(Policy::None, |(policy, _)| *policy)
}

fn replication(policy: Policy) -> i32 {
    POLICIES.iter().find(|(named, _)| *named == policy).map_or(0, |(_, number)| *number as i32)
}

/// "K+M"; what is none counts as not there: the sum of the dump says that it was not changed.
fn coding(text: Option<&str>) -> Option<Coding> {
    text.and_then(|text| text.parse().ok())
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderLine {
    pub(crate) xtfs_dump: u32,
    pub(crate) volume: String,
    pub(crate) volume_id: u64,
    pub(crate) created: String,
    pub(crate) next_ino: u64,
    stripe_bytes: u32,
    width: u32,
    replicas: u32,
    replication: Policy,
    /// Erasure coding of closed files: "K+M".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ec: Option<String>,
}

impl HeaderLine {
    pub(crate) fn of(header: &DumpHeader, created: String) -> Self {
        let striping = header.striping;
        Self {
            xtfs_dump: super::VERSION,
            volume: header.name.clone(),
            volume_id: header.volume,
            created,
            next_ino: header.next_ino,
            stripe_bytes: striping.stripe_bytes,
            width: striping.width,
            replicas: striping.replicas,
            replication: policy(striping.replication),
            ec: striping.coding.map(|coding| coding.to_string()),
        }
    }

    pub(crate) fn header(&self) -> DumpHeader {
        DumpHeader {
            volume: self.volume_id,
            name: self.volume.clone(),
            next_ino: self.next_ino,
            striping: Striping {
                stripe_bytes: self.stripe_bytes,
                width: self.width,
                replicas: self.replicas,
                replication: replication(self.replication),
                coding: coding(self.ec.as_deref()),
            },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayoutField {
    stripe_bytes: u32,
    replication: Policy,
    view: u64,
    columns: Vec<Vec<u64>>,
    /// While the lists are being changed: those before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    previous: Vec<Vec<u64>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    previous_learners: Vec<u64>,
    /// Erasure-coded data: "K+M".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ec: Option<String>,
    /// Bytes that were coded.
    #[serde(default, skip_serializing_if = "is_default")]
    ec_bytes: u64,
    /// CRC-32C of a content that is in the dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_crc: Option<u32>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeLine {
    node: u64,
    #[serde(rename = "type")]
    kind: Kind,
    mode: Mode,
    uid: u32,
    gid: u32,
    nlink: u32,
    size: u64,
    blocks: u64,
    atime: When,
    mtime: When,
    ctime: When,
    btime: When,
    change: u64,
    truncate_epoch: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    flags: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    rdev: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<Raw>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layout: Option<LayoutField>,
    #[serde(default, skip_serializing_if = "is_default")]
    next_cookie: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    acl: Hex,
    #[serde(default, skip_serializing_if = "is_default")]
    default_acl: Hex,
    #[serde(default, skip_serializing_if = "is_default")]
    shares: Hex,
    /// The bytes of a small file that the MRC has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Raw>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<(Raw, Raw)>,
}

impl NodeLine {
    pub(crate) fn of(node: &Node) -> Self {
        let attr = &node.attr;
        let kind =
            KINDS.iter().find(|(_, number)| *number == attr.mode >> 12).map_or(Kind::File, |(kind, _)| *kind);
        let layout = node.layout.as_ref().map(|layout| LayoutField {
            stripe_bytes: layout.stripe_bytes,
            replication: policy(layout.replication),
            view: layout.view,
            columns: layout.columns.iter().map(|column| column.osds.clone()).collect(),
            previous: layout.previous.iter().map(|column| column.osds.clone()).collect(),
            learners: layout.learners.clone(),
            previous_learners: layout.previous_learners.clone(),
            ec: layout.coding.map(|coding| coding.to_string()),
            ec_bytes: layout.coded_bytes,
            content_crc: layout.inline.map(|inline| inline.crc),
        });
        Self {
            node: attr.ino,
            kind,
            mode: Mode(attr.mode & 0o7777),
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            size: attr.size,
            blocks: attr.blocks,
            atime: When(attr.atime),
            mtime: When(attr.mtime),
            ctime: When(attr.ctime),
            btime: When(attr.btime),
            change: attr.change,
            truncate_epoch: attr.truncate_epoch,
            flags: attr.flags,
            rdev: attr.rdev,
            target: (kind == Kind::Symlink).then(|| Raw(node.target.clone())),
            layout,
            next_cookie: node.next_cookie,
            acl: Hex(node.acl.clone()),
            default_acl: Hex(node.default_acl.clone()),
            shares: Hex(node.shares.clone()),
            content: (!node.content.is_empty()).then(|| Raw(node.content.to_vec())),
            xattrs: node
                .xattrs
                .iter()
                .map(|xattr| (Raw(xattr.name.clone()), Raw(xattr.value.clone())))
                .collect(),
        }
    }

    pub(crate) fn node(self) -> Node {
        let kind = KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or(0, |(_, number)| *number);
        let attr = Attr {
            ino: self.node,
            mode: kind << 12 | self.mode.0,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            size: self.size,
            blocks: self.blocks,
            atime: self.atime.0,
            mtime: self.mtime.0,
            ctime: self.ctime.0,
            btime: self.btime.0,
            flags: self.flags,
            truncate_epoch: self.truncate_epoch,
            change: self.change,
            acl: 0,
            bare: false,
            layer: 0,
        };
        let content = bytes::Bytes::from(self.content.unwrap_or_default().0);
        let inline = |crc| Inline { bytes: u32::try_from(content.len()).unwrap_or(u32::MAX), crc };
        let layout = self.layout.map(|layout| Layout {
            inline: layout.content_crc.map(inline),
            stripe_bytes: layout.stripe_bytes,
            columns: layout.columns.into_iter().map(|osds| Column { osds }).collect(),
            previous: layout.previous.into_iter().map(|osds| Column { osds }).collect(),
            replication: replication(layout.replication),
            view: layout.view,
            coding: coding(layout.ec.as_deref()),
            coded_bytes: layout.ec_bytes,
            learners: layout.learners,
            previous_learners: layout.previous_learners,
        });
        let xattrs = self.xattrs.into_iter().map(|(name, value)| Xattr { name: name.0, value: value.0 });
        Node {
            attr,
            layout,
            target: self.target.unwrap_or_default().0,
            next_cookie: self.next_cookie,
            acl: self.acl.0,
            default_acl: self.default_acl.0,
            shares: self.shares.0,
            xattrs: xattrs.collect(),
            content,
        }
    }
}

/// A name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameLine {
    name: Raw,
    r#in: u64,
    to: u64,
    cookie: u64,
}

impl NameLine {
    pub(crate) fn of(name: &NameOf) -> Self {
        Self { name: Raw(name.name.clone()), r#in: name.parent, to: name.ino, cookie: name.cookie }
    }

    pub(crate) fn name(self) -> NameOf {
        NameOf { parent: self.r#in, name: self.name.0, ino: self.to, cookie: self.cookie }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Whose {
    User,
    Group,
    Directory,
}

/// A quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotaLine {
    quota: Whose,
    pub(crate) id: u64,
    bytes: u64,
    inodes: u64,
}

impl QuotaLine {
    pub(crate) fn of(kind: QuotaKind, id: u64, limits: QuotaLimits) -> Self {
        let quota = match kind {
            QuotaKind::User => Whose::User,
            QuotaKind::Group => Whose::Group,
            QuotaKind::Directory => Whose::Directory,
        };
        Self { quota, id, bytes: limits.bytes, inodes: limits.inodes }
    }

    pub(crate) fn kind(self) -> QuotaKind {
        match self.quota {
            Whose::User => QuotaKind::User,
            Whose::Group => QuotaKind::Group,
            Whose::Directory => QuotaKind::Directory,
        }
    }

    pub(crate) fn limits(self) -> QuotaLimits {
        QuotaLimits { bytes: self.bytes, inodes: self.inodes }
    }
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndLine {
    pub(crate) end: u64,
    pub(crate) sha256: String,
}

/// A line as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Header(HeaderLine),
    Node(Box<NodeLine>),
    Name(NameLine),
    Quota(QuotaLine),
    End(EndLine),
}

impl Line {
    /// Parses a line without its line feed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        let has = |key: &str| value.get(key).is_some();
        let parsed = if has("xtfs_dump") {
            if value.get("xtfs_dump").and_then(serde_json::Value::as_u64) != Some(super::VERSION.into()) {
                return Err(format!("another version of the format; this binary knows {}", super::VERSION));
            }
            HeaderLine::deserialize(value).map(Line::Header)
        } else if has("node") {
            NodeLine::deserialize(value).map(|line| Line::Node(Box::new(line)))
        } else if has("name") {
            NameLine::deserialize(value).map(Line::Name)
        } else if has("quota") {
            QuotaLine::deserialize(value).map(Line::Quota)
        } else if has("end") {
            EndLine::deserialize(value).map(Line::End)
        } else {
            return Err("none of the lines that a dump has".to_owned());
        };
        parsed.map_err(|error| error.to_string())
    }
}
