//! Reading rows under leases: who writes a file reports first, and the reader's leases are registered before the row
//! is read.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::error::WireError;
use proto::mrc::{Attr, Head, LEASE_ATTR, LEASE_NAMES, LEASE_WRITE, LeaseGrant, kind};

use crate::engine::leases::{Claim, Claims};
use crate::engine::sessions::FileId;
use crate::service::Mrc;

/// Rounds until what was read stays where it is.
const ROUNDS: usize = 8;

/// What a reader is given of an inode by the way.
pub(crate) fn by_the_way(attr: &Attr) -> u32 {
    if attr.mode >> 12 == kind::DIR { LEASE_ATTR | LEASE_NAMES } else { LEASE_ATTR }
}

/// What the maker of a name is given of its directory, if the names of that may be made unheard.
pub(crate) const OF_MAKER: u32 = OF_DIRECTORY | LEASE_WRITE;

/// What a reader is given of a directory whose names it reads.
pub(crate) const OF_DIRECTORY: u32 = LEASE_ATTR | LEASE_NAMES;

/// One reader.
pub(crate) struct Reading<'a> {
    pub(crate) head: &'a Head,
    /// The directory whose names are read.
    pub(crate) directory: Option<u64>,
    pub(crate) deadline: Duration,
}

impl Mrc {
    /// Reads with `read` until everything that it tells of (`attrs` shows it) was leased before and is not being
    /// written elsewhere; `bits` chooses what to give.
    pub(crate) async fn read_leased<T>(
        &self,
        reading: Reading<'_>,
        read: impl Fn() -> Result<T, WireError>,
        attrs: impl Fn(&T, &mut dyn FnMut(&Attr)),
        bits: impl Fn(&Attr) -> u32,
    ) -> Result<(T, Vec<LeaseGrant>), WireError> {
        self.lead(reading.deadline).await?;
        let leasing = self.leader().leasing();
        let (session, volume) = (reading.head.session, reading.head.volume);
        let (alone, part) = leasing.with(|engine, _| (engine.is_alone(session), engine.takes_part(session)));
        if alone && !part {
            return Ok((read()?, Vec::new()));
        }
        let mut given: BTreeMap<u64, Option<LeaseGrant>> = BTreeMap::new();
        let names = reading.directory.map(|ino| (volume, ino));
        let mut quiet = Vec::new();
        for _ in 0..ROUNDS {
            // Before reading: a name that was made and not told is not there yet.
            if let Some(names) = names {
                let is_written = |file| leasing.with(|engine, _| engine.is_written_by_others(session, file));
                if is_written(names) {
                    let mut written = vec![names];
                    // Whoever writes what is there already is asked at the same time.
                    if let Ok(value) = read() {
                        attrs(&value, &mut |attr| {
                            let file = (volume, attr.ino);
                            if is_written(file) && !written.contains(&file) {
                                written.push(file);
                            }
                        });
                    }
                    quiet.extend(self.silence(session, &written, reading.deadline).await?);
                }
                if part && given.get(&names.1).is_none_or(Option::is_none) {
                    let grant = leasing.with(|engine, now| engine.grant(now, session, names, OF_DIRECTORY));
                    given.insert(names.1, grant);
                }
            }
            let value = read()?;
            let mut written: Vec<FileId> = Vec::new();
            let mut news = false;
            leasing.with(|engine, now| {
                attrs(&value, &mut |attr| {
                    let file = (volume, attr.ino);
                    if engine.is_written_by_others(session, file) {
                        written.push(file);
                    } else if part && !given.contains_key(&attr.ino) {
                        let grant = engine.grant(now, session, file, bits(attr));
                        news |= grant.is_some();
                        given.insert(attr.ino, grant);
                    }
                });
            });
            if !written.is_empty() {
                // Held until the rows are read: a writer that asks again at once must not come in between.
                quiet.extend(self.silence(session, &written, reading.deadline).await?);
                continue;
            }
            if !news {
                drop(quiet);
                let leases = told(&given, &value, &attrs, reading.directory);
                return Ok((value, leases));
            }
        }
        // Names move faster than we read: the answer is right, only nothing may be kept of it.
        let value = read()?;
        drop(quiet);
        Ok((value, Vec::new()))
    }

    /// Recalls the right to write from others; nobody gets it while the guards live.
    pub(crate) async fn silence(
        &self,
        session: u64,
        files: &[FileId],
        deadline: Duration,
    ) -> Result<Vec<super::Change>, WireError> {
        let mut guards = Vec::with_capacity(files.len() / Claims::MAX + 1);
        for some in files.chunks(Claims::MAX) {
            let claims = some.iter().fold(Claims::default(), |claims, file| {
                claims.with(Claim {
                    file: *file,
                    recall: LEASE_WRITE,
                    block: LEASE_WRITE,
                    ..Claim::default()
                })
            });
            guards.push(self.leader().leasing().begin(session, claims)?);
        }
        let mut quiet = Vec::with_capacity(guards.len());
        for (guard, waits) in guards {
            if waits {
                guard.wait(deadline).await?;
            }
            quiet.push(guard);
        }
        Ok(quiet)
    }

    /// After a change: leases on what it made or changed, and the row as it is under them.
    pub(crate) fn grant_after(
        &self,
        session: u64,
        file: FileId,
        bits: u32,
    ) -> Result<Option<(Attr, LeaseGrant)>, WireError> {
        let leasing = self.leader().leasing();
        let Some(grant) = leasing.with(|engine, now| engine.grant(now, session, file, bits)) else {
            return Ok(None);
        };
        Ok(Some((crate::namespace::read::getattr(self.table(), file.0, file.1)?, grant)))
    }
}

/// The grants on what the answer tells of.
fn told<T>(
    given: &BTreeMap<u64, Option<LeaseGrant>>,
    value: &T,
    attrs: &impl Fn(&T, &mut dyn FnMut(&Attr)),
    directory: Option<u64>,
) -> Vec<LeaseGrant> {
    let mut out: Vec<LeaseGrant> =
        directory.and_then(|ino| given.get(&ino).copied().flatten()).into_iter().collect();
    attrs(value, &mut |attr| {
        if let Some(Some(grant)) = given.get(&attr.ino)
            && !out.contains(grant)
        {
            out.push(*grant);
        }
    });
    out
}
