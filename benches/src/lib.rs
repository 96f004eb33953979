//! Benchmarks; nothing here is linked into anything else.
//!
//! `benches/*.rs` are micro benchmarks (criterion) of the parts that every operation passes: frame codec, stripe
//! arithmetic, checksums, the OSD's store, the MRC's namespace. `macro/run` measures the whole system on a mount
//! beside local ext4, GlusterFS and MooseFS (`make bench`). How to read both: README.md.

use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};

/// An object of a file that benchmarks write and read.
#[must_use]
pub fn object(ino: u64, object: u64) -> ObjectKey {
    ObjectKey { volume: VolumeId(1), ino: Ino(ino), object: ObjectNo(object) }
}

/// Bytes that no compression or zero detection makes cheaper (splitmix64).
#[must_use]
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    out.truncate(len);
    out
}
