//! Quotas of users, groups and directories. Answered by MRCs; method numbers 0x0260 to 0x0267. See
//! docs/protocols/quota.md.

use crate::mrc::Head;
use crate::rpc::Origin;

/// What a quota is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum QuotaKind {
    /// What a user owns; the id is a uid.
    User = 1,
    /// What belongs to a group; the id is a gid.
    Group = 2,
    /// What lies below a directory; the id is its inode.
    Directory = 3,
}

/// Hard limits; 0: none.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct QuotaLimits {
    /// Allocated bytes of one copy.
    #[prost(uint64, tag = "1")]
    pub bytes: u64,
    /// Inodes.
    #[prost(uint64, tag = "2")]
    pub inodes: u64,
}

/// Sets, changes or (without limits) removes a quota.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetQuota {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Makes a repeat safe.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// [`QuotaKind`].
    #[prost(enumeration = "QuotaKind", tag = "3")]
    pub kind: i32,
    /// User, group or inode.
    #[prost(uint64, tag = "4")]
    pub id: u64,
    /// Absent: the quota is removed.
    #[prost(message, optional, tag = "5")]
    pub limits: Option<QuotaLimits>,
}

/// A quota and what is used of it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Quota {
    /// [`QuotaKind`].
    #[prost(enumeration = "QuotaKind", tag = "1")]
    pub kind: i32,
    /// User, group or inode.
    #[prost(uint64, tag = "2")]
    pub id: u64,
    /// Limits.
    #[prost(message, required, tag = "3")]
    pub limits: QuotaLimits,
    /// Allocated bytes in use.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// Inodes in use.
    #[prost(uint64, tag = "5")]
    pub inodes: u64,
    /// The sums are still being counted: the limits do not bind yet.
    #[prost(bool, tag = "6")]
    pub counting: bool,
    /// Of a directory: its path from the volume's root, without a leading slash.
    #[prost(bytes = "vec", tag = "7")]
    pub path: Vec<u8>,
}

/// Asks for the quotas of a volume, in the order of kinds and ids.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListQuotas {
    /// Head.
    #[prost(message, required, tag = "1")]
    pub head: Head,
    /// Not 0: only those that apply to this inode.
    #[prost(uint64, tag = "2")]
    pub applying_to: u64,
    /// Go on after this kind and id; 0 begins.
    #[prost(uint32, tag = "3")]
    pub after_kind: u32,
    /// See `after_kind`.
    #[prost(uint64, tag = "4")]
    pub after_id: u64,
}

/// A page of quotas.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QuotaList {
    /// Quotas that the asker may see.
    #[prost(message, repeated, tag = "1")]
    pub quotas: Vec<Quota>,
    /// The next [`ListQuotas::after_kind`].
    #[prost(uint32, tag = "2")]
    pub after_kind: u32,
    /// The next [`ListQuotas::after_id`].
    #[prost(uint64, tag = "3")]
    pub after_id: u64,
    /// Nothing follows.
    #[prost(bool, tag = "4")]
    pub end: bool,
}

crate::methods! {
    /// Sets or removes a quota; answers with it and with what is used.
    QuotaSet = 0x0260 mutates (SetQuota) -> Quota,
    /// Quotas of a volume, or those that apply to an inode.
    QuotaLs = 0x0261 reads (ListQuotas) -> QuotaList,
}
