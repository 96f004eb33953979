//! Layout of a file and the arithmetic from file ranges to object ranges (RAID-0 over columns).

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::id::{ObjectNo, OsdId};
use crate::limits::{REPLICAS_MAX, STRIPE_BYTES_MAX, STRIPE_BYTES_MIN, STRIPE_WIDTH_MAX};

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
        let none = self.replication == Replication::None as i32;
        match self.replicas {
            1 => Ok(Self { replication: Replication::None as i32, ..self }),
            // One of two that dies must not stop everything: that is what `all` with views is for.
            2 if none => Err(ALL_MISSING.to_owned()),
            _ if self.replication == Replication::All as i32 => Err(ALL_MISSING.to_owned()),
            _ => Ok(Self { replication: Replication::Quorum as i32, ..self }),
        }
    }
}

/// Why two replicas, or the policy `all`, are refused.
const ALL_MISSING: &str = "policy all (the default for 2 replicas) needs the MRC to take dead OSDs out of a file's list, which \
    this version cannot do yet; use 3 replicas with policy quorum (or --replication quorum with 2: then both must be up)";

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
        size.div_ceil(u64::from(self.stripe_bytes.max(1)))
    }
}
