//! Layout of a file and the arithmetic from file ranges to object ranges (RAID-0 over columns).

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::checksum::crc32c;
use crate::id::{ObjectNo, OsdId};
use crate::limits::{
    BLOCK_BYTES, CODING_DATA_MAX, CODING_PARITY_MAX, REPLICAS_MAX, STRIPE_BYTES_MAX, STRIPE_BYTES_MIN,
    STRIPE_WIDTH_MAX,
};

/// How replicas of a column agree; see design.md section 7.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Replication {
    /// One copy.
    None = 0,
    /// Acknowledged by a majority of the list.
    Quorum = 1,
    /// Acknowledged by every replica of the list.
    All = 2,
}

/// The OSDs of one column, in order of preference: the first one that is up is the primary.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Column {
    /// OSD numbers.
    #[prost(uint64, repeated, tag = "1")]
    pub osds: Vec<u64>,
}

/// Erasure coding: each group of `data` stripes has `parity` more objects, any `parity` of the group may be lost. See
/// docs/protocols/erasure-coding.md.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Coding {
    /// K.
    #[prost(uint32, tag = "1")]
    pub data: u32,
    /// M.
    #[prost(uint32, tag = "2")]
    pub parity: u32,
}

impl Coding {
    /// Refuses what is not supported; the text names the limit.
    pub fn check(self) -> Result<Self, String> {
        if self.data == 0 || self.data > CODING_DATA_MAX {
            return Err(format!("erasure coding {self}: K is from 1 to {CODING_DATA_MAX}"));
        }
        if self.parity == 0 || self.parity > CODING_PARITY_MAX {
            return Err(format!("erasure coding {self}: M is from 1 to {CODING_PARITY_MAX}"));
        }
        Ok(self)
    }

    /// OSDs that it needs: one for each object of a group.
    #[must_use]
    pub fn width(self) -> u32 {
        self.data + self.parity
    }

    /// Bytes of an object for a file of `size`, whole blocks, at most `max`: so few that the last group is as full as
    /// the others.
    #[must_use]
    pub fn stripe_bytes(self, size: u64, max: u32) -> u32 {
        let data = u64::from(self.data.max(1));
        let groups = size.div_ceil(data * u64::from(max.max(STRIPE_BYTES_MIN))).max(1);
        let share = size.div_ceil(groups * data).next_multiple_of(BLOCK_BYTES as u64);
        u32::try_from(share).unwrap_or(u32::MAX).clamp(STRIPE_BYTES_MIN, max.max(STRIPE_BYTES_MIN))
    }
}

impl std::fmt::Display for Coding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}+{}", self.data, self.parity)
    }
}

impl std::str::FromStr for Coding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (data, parity) = text.split_once('+')?;
            Some(Self { data: data.trim().parse().ok()?, parity: parity.trim().parse().ok()? })
        };
        parse().ok_or_else(|| format!("{text:?} is not K+M, such as 4+2"))?.check()
    }
}

/// Where the bytes of a file are.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Layout {
    /// Bytes of an object.
    #[prost(uint32, tag = "1")]
    pub stripe_bytes: u32,
    /// One entry per column; object `n` lies in column `n % columns.len()`.
    #[prost(message, repeated, tag = "2")]
    pub columns: Vec<Column>,
    /// How replicas agree.
    #[prost(enumeration = "Replication", tag = "3")]
    pub replication: i32,
    /// Grows with each change of the replica lists; OSDs refuse older views.
    #[prost(uint64, tag = "4")]
    pub view: u64,
    /// While the lists are being changed: those of the view before, one per column.
    #[prost(message, repeated, tag = "5")]
    pub previous: Vec<Column>,
    /// The objects are erasure-coded: one column per object of a group, one OSD each. Such data never changes.
    #[prost(message, optional, tag = "6")]
    pub coding: Option<Coding>,
    /// With `coding`: bytes that were coded. What lies behind them counts as zeroes.
    #[prost(uint64, tag = "7")]
    pub coded_bytes: u64,
    /// Policy `all`: OSDs of the lists that get everything and that nobody waits for.
    #[prost(uint64, repeated, tag = "8")]
    pub learners: Vec<u64>,
    /// While the lists are being changed: those of the view before.
    #[prost(uint64, repeated, tag = "9")]
    pub previous_learners: Vec<u64>,
    /// The bytes are at the MRC, and no objects exist. Such data never changes. See docs/protocols/small-files.md.
    #[prost(message, optional, tag = "10")]
    pub inline: Option<Inline>,
}

/// Bytes of a small file that are at the MRC.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Inline {
    /// How many.
    #[prost(uint32, tag = "1")]
    pub bytes: u32,
    /// Their CRC-32C, as their writer made it.
    #[prost(fixed32, tag = "2")]
    pub crc: u32,
}

impl Inline {
    /// What describes these bytes.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self { bytes: u32::try_from(content.len()).unwrap_or(u32::MAX), crc: crc32c(content) }
    }

    /// Whether these are the bytes.
    #[must_use]
    pub fn is_of(self, content: &[u8]) -> bool {
        self == Self::of(content)
    }
}

/// Defaults for new files of a volume or directory.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Striping {
    /// Bytes of an object.
    #[prost(uint32, tag = "1")]
    pub stripe_bytes: u32,
    /// Columns.
    #[prost(uint32, tag = "2")]
    pub width: u32,
    /// Replicas of each column.
    #[prost(uint32, tag = "3")]
    pub replicas: u32,
    /// How replicas agree.
    #[prost(enumeration = "Replication", tag = "4")]
    pub replication: i32,
    /// Closed files become erasure-coded.
    #[prost(message, optional, tag = "5")]
    pub coding: Option<Coding>,
}

impl Striping {
    /// Refuses what no layout can be made from; the text names the limit.
    pub fn check(self) -> Result<Self, String> {
        if self.stripe_bytes < STRIPE_BYTES_MIN
            || self.stripe_bytes > STRIPE_BYTES_MAX
            || !self.stripe_bytes.is_power_of_two()
        {
            return Err(format!(
                "stripe size {} is not a power of two from {STRIPE_BYTES_MIN} to {STRIPE_BYTES_MAX}",
                self.stripe_bytes
            ));
        }
        if self.width == 0 || self.width > STRIPE_WIDTH_MAX {
            return Err(format!("stripe width {} is not from 1 to {STRIPE_WIDTH_MAX}", self.width));
        }
        if self.replicas == 0 || self.replicas > REPLICAS_MAX {
            return Err(format!("{} replicas: from 1 to {REPLICAS_MAX} are possible", self.replicas));
        }
        self.coding.map(Coding::check).transpose()?;
        let none = self.replication == Replication::None as i32;
        match self.replicas {
            1 => Ok(Self { replication: Replication::None as i32, ..self }),
            // One of two that dies must not stop everything.
            2 if none => Ok(Self { replication: Replication::All as i32, ..self }),
            _ if self.replication == Replication::All as i32 => Ok(self),
            _ => Ok(Self { replication: Replication::Quorum as i32, ..self }),
        }
    }
}

/// The part of a file range that lies in one object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Which object.
    pub object: ObjectNo,
    /// First byte within the object.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
    /// First byte within the caller's range.
    pub at: u64,
}

/// Which object of some data a stripe of the file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    stripe_bytes: u32,
    coding: Option<Coding>,
}

impl Shape {
    /// Bytes of a stripe.
    #[must_use]
    pub fn stripe_bytes(self) -> u32 {
        self.stripe_bytes
    }

    /// How the data is erasure-coded, if it is.
    #[must_use]
    pub fn coding(self) -> Option<Coding> {
        self.coding
    }

    /// The object that holds a stripe of the file.
    #[must_use]
    pub fn object_of(self, stripe: u64) -> ObjectNo {
        match self.coding {
            None => ObjectNo(stripe),
            Some(coding) => {
                let (data, width) = (u64::from(coding.data), u64::from(coding.width()));
                ObjectNo(stripe / data * width + stripe % data)
            }
        }
    }

    /// Cuts `[offset, offset + len)` of a file into pieces, in file order.
    ///
    /// # Panics
    /// When the range passes the end of `u64`.
    pub fn pieces(self, offset: u64, len: u64) -> impl Iterator<Item = Piece> {
        pieces(self.stripe_bytes, offset, len)
            .map(move |piece| Piece { object: self.object_of(piece.object.0), ..piece })
    }
}

/// Cuts `[offset, offset + len)` of a file into pieces, in file order.
///
/// # Panics
/// When `stripe_bytes` is 0 or the range passes the end of `u64`.
pub fn pieces(stripe_bytes: u32, offset: u64, len: u64) -> impl Iterator<Item = Piece> {
    assert!(stripe_bytes > 0, "a layout has a stripe size");
    let end = offset.checked_add(len).expect("the caller bounds ranges by FILE_BYTES_MAX");
    let stripe = u64::from(stripe_bytes);
    let mut next = offset;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let object = next / stripe;
        let within = next % stripe;
        let len = (stripe - within).min(end - next);
        let piece = Piece {
            object: ObjectNo(object),
            offset: u32::try_from(within).expect("less than stripe_bytes"),
            len: u32::try_from(len).expect("at most stripe_bytes"),
            at: next - offset,
        };
        next += len;
        Some(piece)
    })
}

impl Layout {
    /// Whether the objects are erasure-coded.
    #[must_use]
    pub fn is_coded(&self) -> bool {
        self.coding.is_some()
    }

    /// Whether the bytes are at the MRC.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        self.inline.is_some()
    }

    /// For who reads the data. A client that does not know what `inline` means finds no OSD to ask, and not one that has nothing.
    #[must_use]
    pub fn for_readers(self) -> Self {
        if self.is_inline() { Self { columns: vec![Column::default()], ..self } } else { self }
    }

    /// Whether the data is never written: who writes the file gets other data first.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.is_coded() || self.is_inline()
    }

    /// Whether every voter of a list must have a change before it is answered.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.replication == Replication::All as i32
    }

    /// How stripes of the file are objects.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape { stripe_bytes: self.stripe_bytes.max(1), coding: self.coding }
    }

    /// Whether any column has more than one copy.
    #[must_use]
    pub fn is_replicated(&self) -> bool {
        self.columns.iter().any(|column| column.osds.len() > 1)
    }

    /// What a capability says of the layout: the first 8 bytes of its SHA-256, not 0; 0 when nothing is replicated.
    #[must_use]
    pub fn digest(&self) -> u64 {
        if !self.is_replicated() {
            return 0;
        }
        let hash = Sha256::digest(self.encode_to_vec());
        let head = hash.first_chunk::<8>().expect("a SHA-256 has 32 bytes");
        u64::from_le_bytes(*head).max(1)
    }

    /// The OSDs that hold an object, preferred first. Empty when the layout has no columns (nothing placed yet).
    #[must_use]
    pub fn osds_of(&self, object: ObjectNo) -> Vec<OsdId> {
        if self.columns.is_empty() {
            return Vec::new();
        }
        let column = usize::try_from(object.0 % self.columns.len() as u64).expect("less than a length");
        self.columns[column].osds.iter().map(|osd| OsdId(*osd)).collect()
    }

    /// Every OSD that holds part of the file, each once, ascending.
    #[must_use]
    pub fn all_osds(&self) -> Vec<OsdId> {
        let columns = self.columns.iter().chain(&self.previous);
        let mut all: Vec<OsdId> =
            columns.flat_map(|column| column.osds.iter().map(|osd| OsdId(*osd))).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The first object that holds nothing of a file of `size` bytes.
    #[must_use]
    pub fn objects_of(&self, size: u64) -> u64 {
        let stripes = size.div_ceil(u64::from(self.stripe_bytes.max(1)));
        match self.coding {
            None => stripes,
            Some(coding) => stripes.div_ceil(u64::from(coding.data.max(1))) * u64::from(coding.width()),
        }
    }
}
