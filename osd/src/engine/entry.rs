//! Journal entries and segment headers as bytes. The layout is told in `docs/formats/osd-store.md`.

use proto::checksum::{block_checksum, crc32c};
use proto::id::{Ino, ObjectKey, ObjectNo, VolumeId};
use proto::limits::BLOCK_BYTES;

use super::record::{Change, Place, Reader};

/// Version of the journal's format.
pub const FORMAT: u16 = 1;
/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: u32 = 64;
/// Bytes of an entry's header.
pub const HEADER_BYTES: usize = 96;

const SEGMENT_MAGIC: [u8; 8] = *b"XTFSJRNL";
const ENTRY_MAGIC: u32 = u32::from_le_bytes(*b"XTJ1");
const KIND_UPDATE: u8 = 1;
const KIND_REMOVE: u8 = 2;

/// First bytes of a segment file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The shard it belongs to.
    pub shard: u16,
    /// Its number; ascending, never used again.
    pub segment: u32,
    /// Sequence of its first entry.
    pub first_seq: u64,
    /// The store's UUID, hashed: a segment of another store is refused.
    pub store: u64,
}

impl SegmentHeader {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut out = [0; SEGMENT_HEADER_BYTES as usize];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        out[10..12].copy_from_slice(&self.shard.to_le_bytes());
        out[12..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        out[24..32].copy_from_slice(&self.store.to_le_bytes());
        let crc = crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// From bytes; `Err` says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let Some(head) = bytes.first_chunk::<{ SEGMENT_HEADER_BYTES as usize }>() else {
            return Err("the segment header is cut".to_owned());
        };
        if head[..8] != SEGMENT_MAGIC || crc32c(&head[..60]).to_le_bytes() != head[60..] {
            return Err("the segment header is damaged".to_owned());
        }
        let mut reader = Reader { rest: &head[8..] };
        let format = u16::from_le_bytes(reader.take()?);
        if format != FORMAT {
            return Err(format!(
                "journal format {format} is not known to this version of xtfs (it knows {FORMAT})"
            ));
        }
        Ok(Self {
            shard: u16::from_le_bytes(reader.take()?),
            segment: reader.u32()?,
            first_seq: reader.u64()?,
            store: reader.u64()?,
        })
    }
}

/// What every entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryHead {
    /// Counts the shard's entries from 1 without gaps.
    pub seq: u64,
    /// Everything up to here was on the medium when this entry was written.
    pub synced: u64,
    /// The object (for a removal the first one).
    pub key: ObjectKey,
    /// Map epoch.
    pub epoch: u64,
    /// Layout view.
    pub view: u64,
    /// The object's version after it.
    pub version: u64,
    /// The object's length after it.
    pub length: u32,
}

/// One part of an update.
#[derive(Clone, Debug)]
pub enum Part<'a> {
    /// A hole.
    Hole {
        /// First block.
        first: u32,
        /// Blocks.
        count: u32,
    },
    /// Data within the entry; a short end is padded with zeroes to the block.
    Inline {
        /// First block.
        first: u32,
        /// Checksums, one per block.
        sums: Vec<u32>,
        /// The data.
        data: &'a [u8],
    },
    /// Data that lies in the data area already.
    Extent {
        /// First block.
        first: u32,
        /// Checksums, one per block.
        sums: Vec<u32>,
        /// Block of the data area.
        start: u64,
    },
}

impl Part<'_> {
    fn first(&self) -> u32 {
        match self {
            Part::Hole { first, .. } | Part::Inline { first, .. } | Part::Extent { first, .. } => *first,
        }
    }

    fn count(&self) -> u32 {
        match self {
            Part::Hole { count, .. } => *count,
            Part::Inline { sums, .. } | Part::Extent { sums, .. } => sums.len() as u32,
        }
    }

    /// Blocks that it says something of.
    #[must_use]
    pub fn blocks(&self) -> std::ops::Range<u32> {
        self.first()..self.first() + self.count()
    }

    /// Blocks that it puts into the journal.
    #[must_use]
    pub fn inline_blocks(&self) -> u32 {
        if let Part::Inline { sums, .. } = self { sums.len() as u32 } else { 0 }
    }
}

/// Appends an update to `out`, whose start lies at `offset` of segment `segment`; answers with the changes that
/// it makes to the object's record.
pub fn encode_update(
    head: &EntryHead,
    parts: &[Part<'_>],
    segment: u32,
    offset: u32,
    out: &mut Vec<u8>,
) -> Vec<Change> {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    let mut meta = Vec::with_capacity(parts.len() * 32);
    for part in parts {
        let (kind, at, sums): (u32, u64, &[u32]) = match part {
            Part::Hole { .. } => (0, 0, &[]),
            Part::Inline { sums, .. } => (1, 0, sums),
            Part::Extent { sums, start, .. } => (2, *start, sums),
        };
        meta.extend(part.first().to_le_bytes());
        meta.extend(part.count().to_le_bytes());
        meta.extend(kind.to_le_bytes());
        meta.extend(0u32.to_le_bytes());
        meta.extend(at.to_le_bytes());
        meta.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    }
    out.extend_from_slice(&meta);
    let data_start = out.len();
    let mut changes = Vec::with_capacity(parts.len());
    for part in parts {
        let (place, sums) = match part {
            Part::Hole { .. } => (None, Vec::new()),
            Part::Extent { sums, start, .. } => (Some(Place::Extent(*start)), sums.clone()),
            Part::Inline { sums, data, .. } => {
                let end = out.len() + sums.len() * BLOCK_BYTES;
                assert!(data.len() <= sums.len() * BLOCK_BYTES, "more data than checksums");
                let place = Place::Journal { segment, offset: offset + (out.len() - start) as u32 };
                out.extend_from_slice(data);
                out.resize(end, 0);
                (Some(place), sums.clone())
            }
        };
        changes.push(Change { first: part.first(), count: part.count(), place, sums });
    }
    let data_bytes = out.len() - data_start;
    write_head(&mut out[start..start + HEADER_BYTES], KIND_UPDATE, head, parts.len(), &meta, data_bytes);
    changes
}

/// Appends the removal of all objects from `head.key` to `last` (same file) to `out`.
pub fn encode_remove(head: &EntryHead, last: ObjectNo, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    let meta = last.0.to_le_bytes();
    out.extend_from_slice(&meta);
    write_head(&mut out[start..start + HEADER_BYTES], KIND_REMOVE, head, 0, &meta, 0);
}

fn write_head(out: &mut [u8], kind: u8, head: &EntryHead, parts: usize, meta: &[u8], data_bytes: usize) {
    out[..4].copy_from_slice(&ENTRY_MAGIC.to_le_bytes());
    out[4..6].copy_from_slice(&FORMAT.to_le_bytes());
    out[6] = kind;
    out[8..16].copy_from_slice(&head.seq.to_le_bytes());
    out[16..24].copy_from_slice(&head.synced.to_le_bytes());
    out[24..48].copy_from_slice(&head.key.to_bytes());
    out[48..56].copy_from_slice(&head.epoch.to_le_bytes());
    out[56..64].copy_from_slice(&head.view.to_le_bytes());
    out[64..72].copy_from_slice(&head.version.to_le_bytes());
    out[72..76].copy_from_slice(&head.length.to_le_bytes());
    out[76..80].copy_from_slice(&(parts as u32).to_le_bytes());
    out[80..84].copy_from_slice(&(meta.len() as u32).to_le_bytes());
    out[84..88].copy_from_slice(&(data_bytes as u32).to_le_bytes());
    out[88..92].copy_from_slice(&crc32c(meta).to_le_bytes());
    let crc = crc32c(&out[..92]);
    out[92..96].copy_from_slice(&crc.to_le_bytes());
}

/// What an entry asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Changes of one object.
    Update(Vec<Change>),
    /// All objects of the file from the head's to this one go.
    Remove(ObjectNo),
}

/// A parsed entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its head.
    pub head: EntryHead,
    /// What it asks for.
    pub body: Body,
    /// Bytes in the segment.
    pub bytes: u32,
    /// Whether all inline data matches its checksums.
    pub data_intact: bool,
}

/// Parses the entry at `offset` of a segment's content; `Err` says why there is none.
pub fn decode(content: &[u8], segment: u32, offset: u32) -> Result<Entry, String> {
    let bytes = content.get(offset as usize..).unwrap_or_default();
    let Some(fixed) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err("the entry's header is cut".to_owned());
    };
    let mut reader = Reader { rest: &fixed[..] };
    if reader.u32()? != ENTRY_MAGIC || crc32c(&fixed[..92]).to_le_bytes() != fixed[92..] {
        return Err("the entry's header is damaged".to_owned());
    }
    let [format_low, format_high, kind, _] = reader.take::<4>()?;
    let format = u16::from_le_bytes([format_low, format_high]);
    if format != FORMAT {
        return Err(format!(
            "journal format {format} is not known to this version of xtfs (it knows {FORMAT})"
        ));
    }
    let (seq, synced) = (reader.u64()?, reader.u64()?);
    let mut word = || -> Result<u64, String> { Ok(u64::from_be_bytes(reader.take()?)) };
    let key = ObjectKey { volume: VolumeId(word()?), ino: Ino(word()?), object: ObjectNo(word()?) };
    let (epoch, view, version) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let head = EntryHead { seq, synced, key, epoch, view, version, length: reader.u32()? };
    let (parts, meta_bytes, data_bytes) = (reader.u32()?, reader.u32()? as usize, reader.u32()? as usize);
    let total = HEADER_BYTES + meta_bytes + data_bytes;
    let Some(rest) = bytes.get(HEADER_BYTES..total) else { return Err("the entry is cut".to_owned()) };
    let (meta, data) = rest.split_at(meta_bytes);
    if crc32c(meta) != reader.u32()? {
        return Err("the entry's description is damaged".to_owned());
    }
    let (body, data_intact) = match kind {
        KIND_UPDATE => {
            let at = offset + (HEADER_BYTES + meta_bytes) as u32;
            let (changes, intact) = decode_parts(key, parts, meta, data, segment, at)?;
            (Body::Update(changes), intact)
        }
        KIND_REMOVE => (Body::Remove(ObjectNo(Reader { rest: meta }.u64()?)), true),
        other => return Err(format!("entry kind {other} is not known to this version of xtfs")),
    };
    Ok(Entry { head, body, bytes: total as u32, data_intact })
}

fn decode_parts(
    key: ObjectKey,
    parts: u32,
    meta: &[u8],
    data: &[u8],
    segment: u32,
    data_at: u32,
) -> Result<(Vec<Change>, bool), String> {
    let mut reader = Reader { rest: meta };
    let (mut used, mut intact) = (0usize, true);
    let mut changes = Vec::new();
    for _ in 0..parts {
        let (first, count, kind, _) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        let at = reader.u64()?;
        let mut sums = Vec::new();
        for _ in 0..if kind == 0 { 0 } else { count } {
            sums.push(reader.u32()?);
        }
        let place = match kind {
            0 => None,
            1 => {
                let end = used + count as usize * BLOCK_BYTES;
                let blocks = data.get(used..end).ok_or_else(|| "the entry's data is cut".to_owned())?;
                intact &= (first..)
                    .zip(blocks.chunks(BLOCK_BYTES))
                    .zip(&sums)
                    .all(|((block, chunk), sum)| block_checksum(key, block, chunk) == *sum);
                let place = Place::Journal { segment, offset: data_at + used as u32 };
                used = end;
                Some(place)
            }
            2 => Some(Place::Extent(at)),
            other => return Err(format!("part kind {other} is not known to this version of xtfs")),
        };
        changes.push(Change { first, count, place, sums });
    }
    Ok((changes, intact))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::checksum::block_checksums;

    use super::*;

    fn head(seq: u64) -> EntryHead {
        let key = ObjectKey { volume: VolumeId(1), ino: Ino(2), object: ObjectNo(3) };
        EntryHead { seq, synced: 4, key, epoch: 5, view: 6, version: 7, length: 8 * 4096 }
    }

    #[test]
    fn segment_header_round_trip() {
        let header = SegmentHeader { shard: 1, segment: 2, first_seq: 3, store: 4 };
        let mut bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        bytes[20] ^= 1;
        assert!(SegmentHeader::decode(&bytes).is_err());
        assert!(SegmentHeader::decode(&bytes[..63]).is_err());
    }

    proptest! {
        #[test]
        fn entries_round_trip_and_damage_is_seen(len in 1usize..9000, flip in any::<prop::sample::Index>(), fill: u8) {
            let data = vec![fill; len];
            let sums = block_checksums(head(1).key, 2, &data);
            let parts = [
                Part::Hole { first: 0, count: 2 },
                Part::Inline { first: 2, sums: sums.clone(), data: &data },
                Part::Extent { first: 6, sums: vec![9], start: 77 },
            ];
            let mut out = vec![0xAA; 100];
            let changes = encode_update(&head(1), &parts, 5, 100, &mut out);
            let end = out.len() as u32;
            encode_remove(&head(2), ObjectNo(u64::MAX), &mut out);
            let entry = decode(&out, 5, 100).unwrap();
            prop_assert_eq!(entry.head, head(1));
            prop_assert!(entry.data_intact);
            prop_assert_eq!(entry.bytes, end - 100);
            let Place::Journal { segment: 5, offset } = changes[1].place.unwrap() else { panic!() };
            prop_assert_eq!(&out[offset as usize..offset as usize + len], &data[..]);
            prop_assert_eq!(entry.body, Body::Update(changes));
            let removal = decode(&out, 5, end).unwrap();
            prop_assert_eq!(removal.body, Body::Remove(ObjectNo(u64::MAX)));
            prop_assert_eq!(end + removal.bytes, out.len() as u32);
            prop_assert!(decode(&out[..out.len() - 1], 5, end).is_err());

            let at = 100 + flip.index(end as usize - 100);
            out[at] ^= 0x10;
            prop_assert!(decode(&out, 5, 100).map_or(true, |entry| !entry.data_intact));
        }
    }
}
