//! Keys of the DIR's table. Numbers are big-endian, so that they sort. 0x00 belongs to `quorum`.
//!
//! ```text
//! 01                    revision: grows with each change of an OSD, a key or the identity
//! 02                    cluster identity                       ClusterRow
//! 10                    epoch of the OSD map
//! 11 <osd u64>          OSD                                    OsdRow
//! 12 <uuid>             number of an OSD
//! 13                    highest OSD number handed out
//! 20 <volume u64>       volume, removed ones too               VolumeEntry
//! 21 <name>             id of a volume that is not removed
//! 22                    highest volume id handed out
//! 30 <key number u64>   capability key                         KeyRow
//! 40 <uuid>             service, last known                    ServiceEntry
//! ```

pub(crate) const REVISION: &[u8] = &[0x01];
pub(crate) const CLUSTER: &[u8] = &[0x02];
pub(crate) const EPOCH: &[u8] = &[0x10];
pub(crate) const OSD: &[u8] = &[0x11];
pub(crate) const OSD_UUID: &[u8] = &[0x12];
pub(crate) const OSD_LAST: &[u8] = &[0x13];
pub(crate) const VOLUME: &[u8] = &[0x20];
pub(crate) const VOLUME_NAME: &[u8] = &[0x21];
pub(crate) const VOLUME_LAST: &[u8] = &[0x22];
pub(crate) const CAPABILITY_KEY: &[u8] = &[0x30];
pub(crate) const SERVICE: &[u8] = &[0x40];

fn numbered(prefix: &[u8], number: u64) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

pub(crate) fn osd(osd: u64) -> Vec<u8> {
    numbered(OSD, osd)
}

pub(crate) fn osd_uuid(uuid: &str) -> Vec<u8> {
    [OSD_UUID, uuid.as_bytes()].concat()
}

pub(crate) fn volume(volume: u64) -> Vec<u8> {
    numbered(VOLUME, volume)
}

pub(crate) fn volume_name(name: &str) -> Vec<u8> {
    [VOLUME_NAME, name.as_bytes()].concat()
}

pub(crate) fn capability_key(number: u32) -> Vec<u8> {
    numbered(CAPABILITY_KEY, u64::from(number))
}

pub(crate) fn service(uuid: &str) -> Vec<u8> {
    [SERVICE, uuid.as_bytes()].concat()
}

/// A stored number.
pub(crate) fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().expect("every number of the table is written with 8 bytes"))
}
