//! Tags as bytes: a cell is one word, repeated, that tells its tag and that it is one.

use crate::history::Cell;

/// Bytes of a word.
pub(super) const WORD: usize = 8;

fn word(tag: u32) -> [u8; WORD] {
    (u64::from(tag) << 32 | u64::from(!tag)).to_le_bytes()
}

/// `len` bytes of a tag.
pub(super) fn filled(tag: u32, len: usize) -> Vec<u8> {
    word(tag).iter().copied().cycle().take(len).collect()
}

/// What a cell's bytes mean.
pub(super) fn meaning(bytes: &[u8]) -> Cell {
    let mut tags: Vec<u32> = Vec::new();
    for chunk in bytes.chunks(WORD) {
        let mut whole = [0; WORD];
        whole[..chunk.len()].copy_from_slice(chunk);
        let value = u64::from_le_bytes(whole);
        let tag = (value >> 32) as u32;
        let is_word = chunk.len() == WORD && value as u32 == !tag;
        if value != 0 && !is_word {
            return Cell::Garbage;
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    match tags.as_slice() {
        [] | [0] => Cell::Zero,
        [tag] => Cell::Tag(*tag),
        _ => Cell::Torn(tags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_mean_what_was_written() {
        assert_eq!(meaning(&filled(7, 512)), Cell::Tag(7));
        assert_eq!(meaning(&[0; 512]), Cell::Zero);
        assert_eq!(meaning(&[1; 512]), Cell::Garbage);
        let mixed = [filled(7, 256), filled(9, 256)].concat();
        assert_eq!(meaning(&mixed), Cell::Torn(vec![7, 9]));
        let half = [filled(7, 256), vec![0; 256]].concat();
        assert_eq!(meaning(&half), Cell::Torn(vec![7, 0]));
    }
}
