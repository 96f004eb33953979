//! Applying commands: deterministic, refusals are answers, the caller takes back what a refusal left behind.

use bytes::Bytes;
use prost::Message;
use proto::capability::CapabilityKey;
use proto::dir::{OsdEntry, OsdHeartbeatReply, OsdState, ServiceEntry, VolumeEntry};
use proto::error::{Code, WireError};
use proto::limits::{CAPABILITY_TTL_MS, OSD_WEIGHT_MAX};
use proto::rpc::Empty;
use quorum::Applied;
use rt::table::{Reader, Result, Txn, prefix_end};

use super::{ClusterRow, KeyRow, keys, row};
use crate::command::{Bootstrap, Change, RotateKey, SetAdmin, SetWeight, TakeDown};
use crate::engine::map::OsdRow;

/// OSDs ever registered.
pub(crate) const OSDS_MAX: u64 = 10_000;
/// Volumes ever made.
pub(crate) const VOLUMES_MAX: u64 = 1_000_000;
/// How long after its successor came a key may still be in use: the last capability made with it, clocks that
/// differ, and MRCs that heard late.
const KEY_LINGER_MS: u64 = 2 * CAPABILITY_TTL_MS;

type Decision = Result<std::result::Result<Bytes, WireError>>;

pub(crate) fn apply(txn: &mut Txn<'_>, at: Applied, change: Change) -> Decision {
    match change {
        Change::Bootstrap(bootstrap) => give_identity(txn, at, bootstrap),
        Change::RegisterOsd(entry) => register_osd(txn, &entry),
        Change::TakeDown(death) => take_down(txn, &death),
        Change::SetAdmin(word) => set_admin(txn, word),
        Change::CreateVolume(entry) => create_volume(txn, at, entry),
        Change::RemoveVolume(name) => remove_volume(txn, &name),
        Change::PutService(entry) => put_service(txn, entry),
        Change::ForgetService(uuid) => forget_service(txn, &uuid),
        Change::RotateKey(rotation) => rotate_key(txn, at, rotation),
        Change::SetWeight(word) => set_weight(txn, &word),
    }
}

/// The refusal of a command that this version cannot read.
pub(crate) fn unreadable() -> WireError {
    WireError::new(Code::BadRequest, "the DIR's log holds a command of a newer version; update this member")
}

/// The live volume of that name.
pub(crate) fn volume_of(reader: &(impl Reader + ?Sized), name: &str) -> Result<Option<VolumeEntry>> {
    match reader.get(&keys::volume_name(name))? {
        Some(id) => row(reader, &keys::volume(keys::number(&id))),
        None => Ok(None),
    }
}

fn give_identity(txn: &mut Txn<'_>, at: Applied, bootstrap: Bootstrap) -> Decision {
    if txn.get(keys::CLUSTER)?.is_none() {
        let identity = ClusterRow { cluster: bootstrap.cluster, name: bootstrap.name };
        txn.put(keys::CLUSTER, identity.encode_to_vec());
        put_key(txn, CapabilityKey { number: 1, secret: bootstrap.secret }, at);
        next(txn, keys::REVISION)?;
    }
    done(&Empty {})
}

fn register_osd(txn: &mut Txn<'_>, entry: &OsdEntry) -> Decision {
    let known = txn.get(&keys::osd_uuid(&entry.uuid))?.map(|number| keys::number(&number));
    let osd = match known {
        Some(osd) => {
            change_osd(txn, osd, |row| row.registered(entry))?;
            osd
        }
        None => {
            let osd = next(txn, keys::OSD_LAST)?;
            if osd > OSDS_MAX {
                return refuse(
                    Code::NoSpace,
                    format!("cannot register OSD {}: {OSDS_MAX} are registered", entry.uuid),
                );
            }
            txn.put(keys::osd_uuid(&entry.uuid), osd.to_be_bytes());
            let since_epoch = next(txn, keys::EPOCH)?;
            let row = OsdRow::new(osd, OsdEntry { since_epoch, ..entry.clone() });
            txn.put(keys::osd(osd), row.encode_to_vec());
            next(txn, keys::REVISION)?;
            osd
        }
    };
    done(&OsdHeartbeatReply { osd, ..OsdHeartbeatReply::default() })
}

fn take_down(txn: &mut Txn<'_>, death: &TakeDown) -> Decision {
    change_osd(txn, death.osd, |row| row.taken_down(&death.addr))?;
    done(&Empty {})
}

fn set_admin(txn: &mut Txn<'_>, word: SetAdmin) -> Decision {
    let admin = match OsdState::try_from(word.admin) {
        Ok(admin @ (OsdState::Up | OsdState::Draining | OsdState::Out)) => admin,
        Ok(OsdState::Down) | Err(_) => {
            return refuse(
                Code::InvalidArgument,
                format!("OSD {} can be set up, draining or out, nothing else", word.osd),
            );
        }
    };
    if change_osd(txn, word.osd, |row| row.administered(admin))? { done(&Empty {}) } else { no_osd(word.osd) }
}

fn set_weight(txn: &mut Txn<'_>, word: &SetWeight) -> Decision {
    if word.weight > OSD_WEIGHT_MAX {
        return refuse(
            Code::InvalidArgument,
            format!("OSD {} cannot weigh {}: 0 to {OSD_WEIGHT_MAX}, 100 is ordinary", word.osd, word.weight),
        );
    }
    if change_osd(txn, word.osd, |row| row.weighing(word.weight))? {
        done(&Empty {})
    } else {
        no_osd(word.osd)
    }
}

fn no_osd(osd: u64) -> Decision {
    refuse(Code::NotFound, format!("no OSD {osd} is registered; `xtfs osd ls` lists them"))
}

/// Changes an OSD's row; the epoch grows when others must hear of it. False when there is no such OSD.
fn change_osd(txn: &mut Txn<'_>, osd: u64, change: impl FnOnce(&OsdRow) -> OsdRow) -> Result<bool> {
    let key = keys::osd(osd);
    let Some(before) = row::<OsdRow>(txn, &key)? else {
        return Ok(false);
    };
    let mut after = change(&before);
    if after != before {
        if before.differs_visibly(&after) {
            after.entry.since_epoch = next(txn, keys::EPOCH)?;
        } else if before.differs_in_pace(&after) {
            after.entry.slow_since = next(txn, keys::EPOCH)?;
        } else if before.differs_in_weight(&after) {
            next(txn, keys::EPOCH)?;
        }
        txn.put(key, after.encode_to_vec());
        next(txn, keys::REVISION)?;
    }
    Ok(true)
}

fn create_volume(txn: &mut Txn<'_>, at: Applied, entry: VolumeEntry) -> Decision {
    if volume_of(txn, &entry.name)?.is_some() {
        return refuse(
            Code::Exists,
            format!("volume {:?} exists; choose another name or `xtfs rmfs` it", entry.name),
        );
    }
    let volume = next(txn, keys::VOLUME_LAST)?;
    if volume > VOLUMES_MAX {
        return refuse(
            Code::NoSpace,
            format!("cannot make volume {:?}: {VOLUMES_MAX} were made", entry.name),
        );
    }
    let entry = VolumeEntry { volume, created_ms: at.unix_ms, removed: false, ..entry };
    txn.put(keys::volume_name(&entry.name), volume.to_be_bytes());
    txn.put(keys::volume(volume), entry.encode_to_vec());
    done(&entry)
}

fn remove_volume(txn: &mut Txn<'_>, name: &str) -> Decision {
    let Some(entry) = volume_of(txn, name)? else {
        return refuse(Code::NotFound, format!("no volume {name:?}; `xtfs ls` lists them"));
    };
    txn.delete(keys::volume_name(name));
    // The row stays: its id is never given again.
    let entry = VolumeEntry { removed: true, ..entry };
    txn.put(keys::volume(entry.volume), entry.encode_to_vec());
    done(&Empty {})
}

fn put_service(txn: &mut Txn<'_>, entry: ServiceEntry) -> Decision {
    let entry = ServiceEntry { silent_ms: 0, ..entry };
    txn.put(keys::service(&entry.uuid), entry.encode_to_vec());
    done(&Empty {})
}

fn forget_service(txn: &mut Txn<'_>, uuid: &str) -> Decision {
    txn.delete(keys::service(uuid));
    done(&Empty {})
}

fn rotate_key(txn: &mut Txn<'_>, at: Applied, rotation: RotateKey) -> Decision {
    let stored = txn.scan(keys::CAPABILITY_KEY, &prefix_end(keys::CAPABILITY_KEY), usize::MAX)?;
    let mut rows = Vec::new();
    for (key, _) in &stored {
        rows.extend(row::<KeyRow>(txn, key)?);
    }
    let newest = rows.last().map_or(0, |row| row.key.number);
    if newest != rotation.after {
        return refuse(
            Code::Exists,
            format!("key {newest} has come after key {}; nothing to do", rotation.after),
        );
    }
    for pair in rows.windows(2) {
        if pair[1].made_ms.saturating_add(KEY_LINGER_MS) < at.unix_ms {
            txn.delete(keys::capability_key(pair[0].key.number));
        }
    }
    put_key(txn, CapabilityKey { number: newest + 1, secret: rotation.secret }, at);
    next(txn, keys::REVISION)?;
    done(&Empty {})
}

fn put_key(txn: &mut Txn<'_>, key: CapabilityKey, at: Applied) {
    txn.put(keys::capability_key(key.number), KeyRow { key, made_ms: at.unix_ms }.encode_to_vec());
}

/// Counts one up.
fn next(txn: &mut Txn<'_>, key: &[u8]) -> Result<u64> {
    let value = txn.get(key)?.map_or(0, |value| keys::number(&value)) + 1;
    txn.put(key, value.to_be_bytes());
    Ok(value)
}

#[allow(clippy::unnecessary_wraps, reason = "every command ends in done or refuse")]
fn done(reply: &impl Message) -> Decision {
    Ok(Ok(reply.encode_to_vec().into()))
}

#[allow(clippy::unnecessary_wraps, reason = "every command ends in done or refuse")]
fn refuse(code: Code, text: String) -> Decision {
    Ok(Err(WireError::new(code, text)))
}
