//! Checksums of blocks: the fast implementation equals the reference, and damage or a wrong place is noticed.

use proptest::prelude::*;
use proto::checksum::{block_checksum, block_checksums, block_seed, crc32c};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::limits::BLOCK_BYTES;

fn key(volume: u64, ino: u64, object: u64) -> ObjectKey {
    ObjectKey { volume: VolumeId(volume), ino: Ino(ino), object: ObjectNo(object) }
}

#[test]
fn the_check_value_of_the_standard_comes_out() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(b""), 0);
}

proptest! {
    #[test]
    fn both_implementations_agree(bytes in prop::collection::vec(any::<u8>(), 0..3 * BLOCK_BYTES)) {
        // The reference, bit by bit.
        let mut slow = u32::MAX;
        for byte in &bytes {
            slow ^= u32::from(*byte);
            for _ in 0..8 {
                slow = (slow >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(slow & 1));
            }
        }
        prop_assert_eq!(crc32c(&bytes), !slow);
        prop_assert_eq!(crc32c::crc32c(&bytes), !slow);
    }

    #[test]
    fn a_short_block_counts_as_padded_with_zeroes(data in prop::collection::vec(any::<u8>(), 0..BLOCK_BYTES)) {
        let mut padded = data.clone();
        padded.resize(BLOCK_BYTES, 0);
        let key = key(1, 2, 3);
        prop_assert_eq!(block_checksum(key, 4, &data), block_checksum(key, 4, &padded));
    }

    #[test]
    fn a_flipped_bit_is_noticed(
        data in prop::collection::vec(any::<u8>(), BLOCK_BYTES), bit in 0..BLOCK_BYTES * 8,
    ) {
        let key = key(1, 2, 3);
        let mut damaged = data.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(block_checksum(key, 0, &data), block_checksum(key, 0, &damaged));
    }

    #[test]
    fn a_block_at_a_neighbouring_place_is_noticed(volume in 1u64..1000, ino in 1u64..100_000, object in 0u64..10_000, block in 0u32..255) {
        let data = [7u8; BLOCK_BYTES];
        let here = block_checksum(key(volume, ino, object), block, &data);
        for (other, number) in [
            (key(volume + 1, ino, object), block),
            (key(volume, ino + 1, object), block),
            (key(volume, ino, object + 1), block),
            (key(volume, ino, object), block + 1),
            // Numbers that are swapped between fields.
            (key(ino, volume, object), block),
            (key(volume, object, ino), block),
        ] {
            if (other, number) != (key(volume, ino, object), block) {
                prop_assert_ne!(here, block_checksum(other, number, &data));
                prop_assert_ne!(block_seed(key(volume, ino, object), block), block_seed(other, number));
            }
        }
    }

    #[test]
    fn many_blocks_are_summed_like_single_ones(data in prop::collection::vec(any::<u8>(), 0..3 * BLOCK_BYTES), first in 0u32..1000) {
        let key = key(1, 2, 3);
        let all = block_checksums(key, first, &data);
        prop_assert_eq!(all.len(), data.len().div_ceil(BLOCK_BYTES));
        for (number, chunk) in data.chunks(BLOCK_BYTES).enumerate() {
            prop_assert_eq!(all[number], block_checksum(key, first + number as u32, chunk));
        }
    }
}

#[test]
#[should_panic(expected = "at most 4096 bytes")]
fn more_than_a_block_is_a_mistake_of_the_caller() {
    let _ = block_checksum(key(1, 2, 3), 0, &[0; BLOCK_BYTES + 1]);
}
