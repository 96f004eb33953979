//! The erasure code: systematic Reed-Solomon over GF(2^8), each byte position for itself, so that a range of an object is
//! got from the same range of others. See docs/protocols/erasure-coding.md.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use bytes::{Bytes, BytesMut};
use proto::stripe::Coding;
use reed_solomon_erasure::galois_8::ReedSolomon;

/// The code of `coding`, which was checked when it was set.
fn code(coding: Coding) -> Result<ReedSolomon, String> {
    let coding = coding.check()?;
    ReedSolomon::new(coding.data as usize, coding.parity as usize)
        .map_err(|error| format!("erasure coding {coding}: {error}"))
}

/// Made to this length by zeroes.
fn padded(part: &[u8], len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&part[..part.len().min(len)]);
    out.resize(len, 0);
    out
}

/// The parity of the same range of all data objects of a group. Short ones end in zeroes; the parity is `len` long.
pub fn parity(coding: Coding, data: &[Bytes], len: usize) -> Result<Vec<Bytes>, String> {
    let code = code(coding)?;
    if data.len() != coding.data as usize {
        return Err(format!("erasure coding {coding}: a group of {} data objects", data.len()));
    }
    if len == 0 {
        return Ok(vec![Bytes::new(); coding.parity as usize]);
    }
    let data: Vec<Vec<u8>> = data.iter().map(|part| padded(part, len)).collect();
    let mut parity = vec![vec![0; len]; coding.parity as usize];
    code.encode_sep(&data, &mut parity).map_err(|error| format!("erasure coding {coding}: {error}"))?;
    Ok(parity.into_iter().map(Bytes::from).collect())
}

/// A range of data object `index` of a group from the same range of any K others: `(index, bytes)`, parity after data. Short
/// ones end in zeroes; the result is `len` long.
pub fn reconstruct(
    coding: Coding,
    index: usize,
    known: &[(usize, Bytes)],
    len: usize,
) -> Result<Bytes, String> {
    let (code, width) = (code(coding)?, coding.width() as usize);
    if index >= coding.data as usize || len == 0 {
        return Ok(BytesMut::zeroed(len).freeze());
    }
    let mut group: Vec<Option<Vec<u8>>> = vec![None; width];
    for (at, part) in known.iter().filter(|(at, _)| *at < width) {
        group[*at] = Some(padded(part, len));
    }
    code.reconstruct_data(&mut group).map_err(|error| format!("erasure coding {coding}: {error}"))?;
    group
        .swap_remove(index)
        .map(Bytes::from)
        .ok_or_else(|| format!("erasure coding {coding}: nothing came out"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(coding: Coding, len: usize, seed: u8) -> Vec<Bytes> {
        let byte = |object: usize, at: usize| {
            (at.wrapping_mul(31) ^ object.wrapping_mul(97) ^ at >> 5) as u8 ^ seed.rotate_left(object as u32)
        };
        let data: Vec<Bytes> = (0..coding.data as usize)
            .map(|object| {
                // The later ones are shorter, the last one empty if there is more than one.
                let len = len.saturating_sub(object * len / (coding.data as usize - 1).max(1));
                (0..len).map(|at| byte(object, at)).collect()
            })
            .collect();
        let parity = parity(coding, &data, len).unwrap();
        data.into_iter().chain(parity).collect()
    }

    /// Everything that is `lost` comes back, from a range too.
    fn survives(coding: Coding, group: &[Bytes], lost: &[usize], len: usize) {
        let cut = |part: &Bytes, range: std::ops::Range<usize>| {
            part.slice(range.start.min(part.len())..range.end.min(part.len()))
        };
        for range in [0..len, len / 3..len / 3 * 2] {
            let known: Vec<(usize, Bytes)> = (0..group.len())
                .filter(|index| !lost.contains(index))
                .take(coding.data as usize)
                .map(|index| (index, cut(&group[index], range.clone())))
                .collect();
            for index in lost.iter().filter(|index| **index < coding.data as usize) {
                let want = padded(&cut(&group[*index], range.clone()), range.len());
                assert_eq!(
                    reconstruct(coding, *index, &known, range.len()).unwrap(),
                    want,
                    "{coding} {lost:?}"
                );
            }
        }
    }

    #[test]
    fn every_loss_of_up_to_m_objects_is_survived() {
        for (data, parity) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (4, 2), (5, 3), (6, 4), (10, 4)] {
            let coding = Coding { data, parity };
            let group = group(coding, 97, 3);
            for lost in 1u32..1 << coding.width() {
                if lost.count_ones() <= parity {
                    let lost: Vec<usize> =
                        (0..coding.width() as usize).filter(|index| lost >> index & 1 == 1).collect();
                    survives(coding, &group, &lost, 97);
                }
            }
        }
    }

    #[test]
    fn too_few_objects_give_no_bytes() {
        let coding = Coding { data: 3, parity: 2 };
        let group = group(coding, 64, 1);
        let known: Vec<(usize, Bytes)> = vec![(1, group[1].clone()), (4, group[4].clone())];
        assert!(reconstruct(coding, 0, &known, 64).is_err());
        assert!(parity(coding, &group[..2], 64).is_err());
        assert!(parity(Coding { data: 0, parity: 1 }, &[], 64).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_code_survives_any_loss(
            data in 1u32..=16, parity in 1u32..=4, len in 1usize..5000, seed in any::<u8>(), dice in any::<u64>(),
        ) {
            let coding = Coding { data, parity };
            let group = group(coding, len, seed);
            let mut all: Vec<usize> = (0..coding.width() as usize).collect();
            let mut dice = dice;
            let lost: Vec<usize> = (0..parity).map(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                all.swap_remove((dice >> 33) as usize % all.len())
            }).collect();
            survives(coding, &group, &lost, len);
        }
    }
}
