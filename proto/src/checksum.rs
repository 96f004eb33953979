//! CRC-32C of blocks, seeded with where the block belongs, so that a misdirected write is caught too.

use crate::id::ObjectKey;
use crate::limits::BLOCK_BYTES;

/// CRC-32C of some bytes.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    if bytes.len() < 256 {
        crc32c::crc32c(bytes)
    } else {
        // crc-fast is 6-10 times as fast from 256 B on (stack.md section 6); both give the same value.
        crc_fast::crc32_iscsi(bytes)
    }
}

/// The seed of a block's checksum: its object and its number within the object.
#[must_use]
pub fn block_seed(key: ObjectKey, block: u32) -> u32 {
    let mut place = [0u8; 28];
    place[..24].copy_from_slice(&key.to_bytes());
    place[24..].copy_from_slice(&block.to_be_bytes());
    crc32c::crc32c(&place)
}

/// Checksum of one block (at most [`BLOCK_BYTES`]; a short last block is summed as if padded with zeroes).
///
/// `crc(data) XOR seed`: the seed costs nothing per byte and a block found at another place does not match.
#[must_use]
pub fn block_checksum(key: ObjectKey, block: u32, data: &[u8]) -> u32 {
    assert!(data.len() <= BLOCK_BYTES, "a block has at most {BLOCK_BYTES} bytes");
    let sum = if data.len() == BLOCK_BYTES {
        crc32c(data)
    } else {
        crc32c::crc32c_append(crc32c(data), &ZEROES[data.len()..])
    };
    sum ^ block_seed(key, block)
}

static ZEROES: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Checksums of all blocks of `data`, whose first byte lies at the start of block `first_block`.
#[must_use]
pub fn block_checksums(key: ObjectKey, first_block: u32, data: &[u8]) -> Vec<u32> {
    (first_block..)
        .zip(data.chunks(BLOCK_BYTES))
        .map(|(block, chunk)| block_checksum(key, block, chunk))
        .collect()
}
