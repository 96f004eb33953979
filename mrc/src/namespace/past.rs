//! Rows of the past: kept before they are changed, and read as a snapshot shows them. See docs/protocols/snapshots.md.

use rt::table::{Pair, Reader, Result, Txn, prefix_end};

use super::keys::{self, table};
use super::volume::{self, Volume};
use super::{Outcome, corrupt};

/// Tables whose rows a snapshot shows.
const VERSIONED: [u8; 5] = [table::INODE, table::DENTRY, table::ORDER, table::XATTR, table::LAYOUT];
/// Before the value of a row that was there.
const PRESENT: u8 = 1;
/// All of a row that was not.
const ABSENT: u8 = 0;
/// Rows of the past read at once.
const CHUNK: usize = 1024;
/// Bytes of a table and a volume in front of a key.
const HEAD: usize = 9;
/// Ends an escaped key: greater than nothing, smaller than an escaped zero.
const END: [u8; 2] = [0, 1];

/// Keeps what the command since the last savepoint changed, for the newest snapshot of each volume.
pub fn keep(txn: &mut Txn<'_>) -> Outcome<()> {
    let mut newest: Option<(u64, Option<u64>)> = None;
    let mut rows = Vec::new();
    for key in txn.changed() {
        let Some(volume) = keys::word(key, 0).filter(|_| is_versioned(key)) else { continue };
        let snapshot = match newest {
            Some((of, snapshot)) if of == volume => snapshot,
            _ => {
                let record = volume::find(txn, volume)?;
                let snapshot = record.as_ref().and_then(Volume::newest_snapshot).map(|moment| moment.id);
                newest = Some((volume, snapshot));
                snapshot
            }
        };
        let Some(snapshot) = snapshot else { continue };
        let kept = past(key, snapshot);
        // Also what was kept for a newer one that was removed since shows this one's value.
        if txn.scan(&kept, &prefix_end(&kept[..kept.len() - 8]), 1)?.is_empty() {
            let value = match txn.before(key)? {
                Some(value) => [&[PRESENT][..], &value].concat(),
                None => vec![ABSENT],
            };
            rows.push((kept, value));
        }
    }
    for (key, value) in rows {
        txn.put(key, value);
    }
    Ok(())
}

fn is_versioned(key: &[u8]) -> bool {
    key.first().is_some_and(|table| VERSIONED.contains(table))
}

/// All rows of the past of one key begin with this; in the order of the keys.
fn escaped(key: &[u8]) -> Vec<u8> {
    let (head, tail) = key.split_at(key.len().min(HEAD));
    let mut out = Vec::with_capacity(key.len() + 20);
    out.push(table::PAST);
    out.extend_from_slice(&head[1.min(head.len())..]);
    out.push(head.first().copied().unwrap_or(0));
    for byte in tail {
        out.push(*byte);
        if *byte == 0 {
            out.push(u8::MAX);
        }
    }
    out
}

fn past(key: &[u8], snapshot: u64) -> Vec<u8> {
    let mut out = escaped(key);
    out.extend_from_slice(&END);
    out.extend_from_slice(&snapshot.to_be_bytes());
    out
}

/// The key that a row of the past is of, and the snapshot that it was kept for.
fn parse(kept: &[u8]) -> Option<(Vec<u8>, u64)> {
    let (body, snapshot) = kept.split_last_chunk::<8>()?;
    let (body, end) = body.split_last_chunk::<2>()?;
    let (head, tail) = body.split_at_checked(HEAD + 1)?;
    if *end != END || head[0] != table::PAST {
        return None;
    }
    let mut key = Vec::with_capacity(kept.len());
    key.push(head[9]);
    key.extend_from_slice(&head[1..9]);
    let mut rest = tail.iter();
    while let Some(byte) = rest.next() {
        if *byte == 0 && rest.next() != Some(&u8::MAX) {
            return None;
        }
        key.push(*byte);
    }
    Some((key, u64::from_be_bytes(*snapshot)))
}

/// Whether a row of the past parses.
#[must_use]
pub fn parses(kept: &[u8], value: &[u8]) -> bool {
    parse(kept).is_some() && content(kept, value.to_vec()).is_ok()
}

/// A volume as a snapshot shows it. Tables that are not versioned are those of now.
pub struct Past<'a, R: Reader + ?Sized> {
    now: &'a R,
    snapshot: u64,
}

impl<'a, R: Reader + ?Sized> Past<'a, R> {
    /// The caller knows that the snapshot exists.
    pub fn new(now: &'a R, snapshot: u64) -> Self {
        Self { now, snapshot }
    }

    /// What was kept of the rows from `from` up to `to`, as far as `CHUNK` rows reach: key and value; and where that ends,
    /// `None` when it is `to`.
    #[allow(clippy::type_complexity, reason = "one caller")]
    fn kept(&self, from: &[u8], to: &[u8]) -> Result<(Vec<(Vec<u8>, Option<Vec<u8>>)>, Option<Vec<u8>>)> {
        // A bound beyond the volume's part of the table is that part's end.
        let same = to.len() >= HEAD && from.len() >= HEAD && to[..HEAD] == from[..HEAD];
        let end = if same { escaped(to) } else { prefix_end(&escaped(from)[..=HEAD]) };
        let rows = self.now.scan(&escaped(from), &end, CHUNK)?;
        let full = rows.len() == CHUNK;
        let mut found: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        let mut last = None;
        for (kept, value) in rows {
            let (key, snapshot) = parse(&kept).ok_or_else(|| broken(&kept))?;
            last = Some(key.clone());
            let is_first = found.last().is_none_or(|(before, _)| *before != key);
            if snapshot >= self.snapshot && is_first {
                found.push((key, content(&kept, value)?));
            }
        }
        // The rows of the last key may go on.
        let Some(last) = last.filter(|_| full) else { return Ok((found, None)) };
        found.retain(|(key, _)| *key != last);
        Ok((found, Some(last)))
    }
}

fn broken(kept: &[u8]) -> rt::table::TableError {
    rt::table::TableError { table: "metadata".into(), cause: format!("past row {kept:02x?} does not parse") }
}

fn content(kept: &[u8], mut value: Vec<u8>) -> Result<Option<Vec<u8>>> {
    match value.first() {
        Some(&PRESENT) => {
            value.remove(0);
            Ok(Some(value))
        }
        Some(&ABSENT) if value.len() == 1 => Ok(None),
        _ => Err(broken(kept)),
    }
}

impl<R: Reader + ?Sized> Reader for Past<'_, R> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        // In this order: what is changed in between is kept.
        let now = self.now.get(key)?;
        if !is_versioned(key) {
            return Ok(now);
        }
        let from = past(key, self.snapshot);
        let to = prefix_end(&from[..from.len() - 8]);
        match self.now.scan(&from, &to, 1)?.into_iter().next() {
            Some((kept, value)) => content(&kept, value),
            None => Ok(now),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>> {
        if !is_versioned(from) {
            return self.now.scan(from, to, limit);
        }
        let mut out: Vec<Pair> = Vec::new();
        let mut from = from.to_vec();
        loop {
            let wanted = limit.saturating_sub(out.len()).min(CHUNK);
            if wanted == 0 {
                return Ok(out);
            }
            let now = self.now.scan(&from, to, wanted)?;
            let reach = match now.last() {
                Some((last, _)) if now.len() == wanted => Some(keys::after(last)),
                _ => None,
            };
            let (kept, kept_to) = self.kept(&from, reach.as_deref().unwrap_or(to))?;
            let next = kept_to.or(reach);
            let mut merged: std::collections::BTreeMap<Vec<u8>, Vec<u8>> =
                now.into_iter().filter(|(key, _)| next.as_ref().is_none_or(|next| key < next)).collect();
            for (key, value) in kept {
                match value {
                    Some(value) => merged.insert(key, value),
                    None => merged.remove(&key),
                };
            }
            out.extend(merged.into_iter().take(limit - out.len()));
            match next {
                Some(next) => from = next,
                None => return Ok(out),
            }
        }
    }
}

/// Removes up to `limit` rows of the past that no snapshot needs, from `after` on. Gives where to go on; `None`: at the end.
pub fn sweep(
    txn: &mut Txn<'_>,
    volume: u64,
    record: &Volume,
    after: &[u8],
    limit: usize,
) -> Outcome<Option<Vec<u8>>> {
    let prefix = keys::of_volume(table::PAST, volume);
    let from = if after.starts_with(&prefix) { keys::after(after) } else { prefix.clone() };
    let rows = txn.scan(&from, &prefix_end(&prefix), limit)?;
    let full = rows.len() == limit;
    let mut before = parse(after);
    for (kept, _) in &rows {
        let (key, snapshot) = parse(kept).ok_or_else(|| corrupt("past", kept))?;
        let since = before.take().filter(|(same, _)| *same == key).map_or(0, |(_, snapshot)| snapshot);
        if !record.snapshots.iter().any(|moment| since < moment.id && moment.id <= snapshot) {
            txn.delete(kept.clone());
        }
        before = Some((key, snapshot));
    }
    Ok(rows.last().filter(|_| full).map(|(kept, _)| kept.clone()))
}

#[cfg(test)]
#[path = "past_test.rs"]
mod past_test;
