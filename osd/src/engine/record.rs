//! What the store knows of one object: length, versions, where each block lies and its checksum.
//!
//! Invariants: pieces are ascending and disjoint, none reaches beyond the block of the last byte, neighbours that
//! continue one another are one piece; `sums` has one entry per block up to the length (0 in holes). Bytes of the
//! last block beyond the length are zero on disk.

use proto::checksum::crc32c;
use proto::limits::BLOCK_BYTES;

/// Version of the row's format.
const FORMAT: u8 = 1;

/// Where blocks lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Place {
    /// From this block of the shard's data area on.
    Extent(u64),
    /// From this byte of a journal segment on.
    Journal {
        /// The segment's number.
        segment: u32,
        /// Byte of the segment.
        offset: u32,
    },
}

impl Place {
    /// The place `blocks` further.
    #[must_use]
    pub fn advance(self, blocks: u32) -> Self {
        match self {
            Place::Extent(start) => Place::Extent(start + u64::from(blocks)),
            Place::Journal { segment, offset } => {
                Place::Journal { segment, offset: offset + blocks * BLOCK_BYTES as u32 }
            }
        }
    }
}

/// Consecutive blocks of an object in one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// First block within the object.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Where the first one lies.
    pub place: Place,
}

impl Piece {
    /// One past the last block.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.first + self.count
    }

    /// The part within `from..to`, if any.
    #[must_use]
    pub fn clip(&self, from: u32, to: u32) -> Option<Piece> {
        let (first, end) = (self.first.max(from), self.end().min(to));
        (first < end).then(|| Piece {
            first,
            count: end - first,
            place: self.place.advance(first - self.first),
        })
    }
}

/// New places for some blocks of an object; `None` makes a hole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// First block.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Where they lie from now on.
    pub place: Option<Place>,
    /// Their checksums; empty for a hole.
    pub sums: Vec<u32>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ObjectRecord {
    /// Map epoch of the last write.
    pub epoch: u64,
    /// Layout view of the last write.
    pub view: u64,
    /// Grows with each change of the object's content, over removal too.
    pub version: u64,
    /// Sequence of the last journal entry applied: replay skips older ones.
    pub seq: u64,
    /// End of the last byte ever written and not cut.
    pub length: u32,
    /// Where the data is.
    pub pieces: Vec<Piece>,
    /// Checksum of each block.
    pub sums: Vec<u32>,
}

/// Blocks that `bytes` bytes reach into.
#[must_use]
pub fn blocks_of(bytes: u32) -> u32 {
    bytes.div_ceil(BLOCK_BYTES as u32)
}

impl ObjectRecord {
    /// Where a block lies and its checksum; `None` in a hole.
    #[must_use]
    pub fn block(&self, block: u32) -> Option<(Place, u32)> {
        let at = self.pieces.partition_point(|piece| piece.end() <= block);
        let piece = self.pieces.get(at)?.clip(block, block + 1)?;
        Some((piece.place, self.sums[block as usize]))
    }

    /// The pieces within `from..to`, clipped.
    pub fn pieces_in(&self, from: u32, to: u32) -> impl Iterator<Item = Piece> + '_ {
        let at = self.pieces.partition_point(|piece| piece.end() <= from);
        self.pieces[at..].iter().map_while(move |piece| piece.clip(from, to))
    }

    /// Blocks that hold data.
    #[must_use]
    pub fn allocated(&self) -> u32 {
        self.pieces.iter().map(|piece| piece.count).sum()
    }

    /// Data ranges in bytes, merged, cut at the length: (offset, length).
    #[must_use]
    pub fn data_ranges(&self) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for piece in &self.pieces {
            let from = piece.first * BLOCK_BYTES as u32;
            let to = (piece.end() * BLOCK_BYTES as u32).min(self.length);
            match ranges.last_mut() {
                Some((offset, len)) if *offset + *len == from => *len = to - *offset,
                _ => ranges.push((from, to - from)),
            }
        }
        ranges
    }

    /// Sets the length, drops what lies beyond it, gives the blocks their new places. Answers with the pieces
    /// that are no longer used.
    pub fn apply(&mut self, length: u32, changes: &[Change]) -> Vec<Piece> {
        let mut freed = Vec::new();
        self.length = length;
        self.sums.resize(blocks_of(length) as usize, 0);
        self.replace(blocks_of(length), u32::MAX, None, &mut freed);
        for change in changes {
            let end = change.first + change.count;
            assert!(end <= blocks_of(length), "a change reaches beyond the length that it sets");
            self.replace(change.first, end, change.place, &mut freed);
            let sums = &mut self.sums[change.first as usize..end as usize];
            match change.place {
                Some(_) => sums.copy_from_slice(&change.sums),
                None => sums.fill(0),
            }
        }
        freed
    }

    fn replace(&mut self, from: u32, to: u32, place: Option<Place>, freed: &mut Vec<Piece>) {
        let start = self.pieces.partition_point(|piece| piece.end() <= from);
        let end = self.pieces.partition_point(|piece| piece.first < to);
        let mut middle: Vec<Piece> = Vec::with_capacity(3);
        if start < end {
            let (left, right) = (self.pieces[start], self.pieces[end - 1]);
            freed.extend(self.pieces[start..end].iter().filter_map(|piece| piece.clip(from, to)));
            middle.extend(left.clip(0, from));
            if let Some(place) = place {
                push_merged(&mut middle, Piece { first: from, count: to - from, place });
            }
            if let Some(rest) = right.clip(to, u32::MAX) {
                push_merged(&mut middle, rest);
            }
        } else if let Some(place) = place {
            middle.push(Piece { first: from, count: to - from, place });
        }
        self.pieces.splice(start..end.max(start), middle);
        // The new piece may continue its neighbours outside the replaced range.
        self.merge_at(start + 2);
        self.merge_at(start + 1);
        self.merge_at(start);
    }

    /// Merges piece `at` into the one before when it continues it.
    fn merge_at(&mut self, at: usize) {
        if at == 0 || at >= self.pieces.len() {
            return;
        }
        let (before, piece) = (self.pieces[at - 1], self.pieces[at]);
        if continues(&before, &piece) {
            self.pieces[at - 1].count += piece.count;
            self.pieces.remove(at);
        }
    }

    /// The row's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.pieces.len() * 20 + self.sums.len() * 4);
        out.extend([FORMAT, 0, 0, 0]);
        out.extend(self.length.to_le_bytes());
        for word in [self.epoch, self.view, self.version, self.seq] {
            out.extend(word.to_le_bytes());
        }
        out.extend((self.pieces.len() as u32).to_le_bytes());
        for piece in &self.pieces {
            out.extend(piece.first.to_le_bytes());
            // The top bit of the count says "in the journal".
            let (flag, at) = match piece.place {
                Place::Extent(start) => (0, start),
                Place::Journal { segment, offset } => (1 << 31, u64::from(segment) << 32 | u64::from(offset)),
            };
            out.extend((piece.count | flag).to_le_bytes());
            out.extend(at.to_le_bytes());
            for sum in &self.sums[piece.first as usize..piece.end() as usize] {
                out.extend(sum.to_le_bytes());
            }
        }
        let crc = crc32c(&out);
        out.extend(crc.to_le_bytes());
        out
    }

    /// Reads a row's value; `Err` says what is wrong with it.
    pub fn decode(row: &[u8]) -> Result<Self, String> {
        let Some((body, crc)) = row.split_last_chunk::<4>() else { return Err("too short".to_owned()) };
        if crc32c(body) != u32::from_le_bytes(*crc) {
            return Err("its checksum is wrong".to_owned());
        }
        let mut reader = Reader { rest: body };
        let [format, ..] = reader.take::<4>()?;
        if format != FORMAT {
            return Err(format!("format {format} is not known to this version of xtfs (it knows {FORMAT})"));
        }
        let length = reader.u32()?;
        let mut record = ObjectRecord {
            length,
            epoch: reader.u64()?,
            view: reader.u64()?,
            version: reader.u64()?,
            seq: reader.u64()?,
            pieces: Vec::new(),
            sums: vec![0; blocks_of(length) as usize],
        };
        let mut before = 0;
        for _ in 0..reader.u32()? {
            let (first, count, at) = (reader.u32()?, reader.u32()?, reader.u64()?);
            let place = match count >> 31 {
                0 => Place::Extent(at),
                _ => Place::Journal { segment: (at >> 32) as u32, offset: at as u32 },
            };
            let count = count & !(1 << 31);
            let end = first.checked_add(count).filter(|end| *end <= blocks_of(length) && first >= before);
            before = end.ok_or_else(|| format!("piece {first}+{count} lies outside the object"))?;
            for block in first..before {
                record.sums[block as usize] = reader.u32()?;
            }
            record.pieces.push(Piece { first, count, place });
        }
        Ok(record)
    }
}

fn continues(before: &Piece, piece: &Piece) -> bool {
    before.end() == piece.first && before.place.advance(before.count) == piece.place
}

fn push_merged(pieces: &mut Vec<Piece>, piece: Piece) {
    match pieces.last_mut() {
        Some(last) if continues(last, &piece) => last.count += piece.count,
        _ => pieces.push(piece),
    }
}

/// Reads fixed-width little-endian fields.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl Reader<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| "too short".to_owned())?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.take()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The model: per block its place and checksum.
    type Model = Vec<Option<(Place, u32)>>;

    fn apply_to_model(model: &mut Model, length: u32, changes: &[Change]) -> Vec<Place> {
        let mut freed = Vec::new();
        for gone in model.drain((blocks_of(length) as usize).min(model.len())..).flatten() {
            freed.push(gone.0);
        }
        model.resize(blocks_of(length) as usize, None);
        for change in changes {
            for block in 0..change.count {
                let slot = &mut model[(change.first + block) as usize];
                let new = change.place.map(|place| (place.advance(block), change.sums[block as usize]));
                freed.extend(std::mem::replace(slot, new).map(|(place, _)| place));
            }
        }
        freed
    }

    prop_compose! {
        fn change()(first in 0u32..20, count in 1u32..8, kind in 0u8..3, at in 0u64..40, sum: u32) -> Change {
            let place = match kind {
                0 => None,
                1 => Some(Place::Extent(at)),
                _ => Some(Place::Journal { segment: 3, offset: at as u32 * 4096 }),
            };
            let sums = if place.is_some() { (0..count).map(|block| sum.wrapping_add(block)).collect() } else { Vec::new() };
            Change { first, count, place, sums }
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_vector_of_blocks(
            steps in proptest::collection::vec((0u32..28 * 4096, proptest::collection::vec(change(), 0..3)), 1..30)
        ) {
            let mut record = ObjectRecord { epoch: 7, view: 8, version: 9, seq: 10, ..ObjectRecord::default() };
            let mut model = Model::new();
            for (length, changes) in steps {
                let changes: Vec<Change> = changes
                    .into_iter()
                    .filter(|change| change.first + change.count <= blocks_of(length))
                    .collect();
                let mut freed: Vec<Place> = record
                    .apply(length, &changes)
                    .into_iter()
                    .flat_map(|piece| (0..piece.count).map(move |block| piece.place.advance(block)))
                    .collect();
                let mut want = apply_to_model(&mut model, length, &changes);
                freed.sort();
                want.sort();
                prop_assert_eq!(freed, want);
                for (block, slot) in model.iter().enumerate() {
                    prop_assert_eq!(record.block(block as u32), *slot);
                }
                for pair in record.pieces.windows(2) {
                    prop_assert!(pair[0].end() <= pair[1].first && !continues(&pair[0], &pair[1]));
                }
                prop_assert_eq!(record.allocated() as usize, model.iter().flatten().count());
                let mut data = vec![false; length as usize];
                for (offset, len) in record.data_ranges() {
                    data[offset as usize..(offset + len) as usize].fill(true);
                }
                for (byte, data) in data.into_iter().enumerate() {
                    prop_assert_eq!(data, model[byte / 4096].is_some());
                }
            }
            let row = record.encode();
            prop_assert_eq!(ObjectRecord::decode(&row).unwrap(), record);
            let mut bad = row.clone();
            let at = bad.len() / 2;
            bad[at] ^= 1;
            prop_assert!(ObjectRecord::decode(&bad).is_err());
            prop_assert!(ObjectRecord::decode(&row[..row.len() - 1]).is_err());
        }
    }
}
