//! Defaults for new files: those of the nearest directory above that has some, else the volume's.

use proto::error::Code;
use proto::id::Ino;
use proto::layout::{LayoutDefault, SetLayout};
use proto::stripe::Striping;
use rt::table::{Reader, Txn};

use super::record::{unversioned, versioned};
use super::volume::{self, Volume};
use super::{Outcome, access, corrupt, inode, keys, refuse};

/// Directories above one another at most; more is a circle in a damaged table.
const DEPTH_MAX: usize = 65_536;

/// Sets or removes the defaults of a directory.
pub fn set(txn: &mut Txn<'_>, request: &SetLayout) -> Outcome<()> {
    let volume = request.head.volume;
    let mut record = volume::live(txn, volume)?;
    let directory = inode::directory(txn, volume, request.ino)?;
    access::require_owner(&directory, &request.head)?;
    let key = keys::layout(volume, request.ino);
    let Some(striping) = request.striping else {
        txn.delete(key);
        return Ok(());
    };
    match striping.check() {
        Ok(striping) => txn.put(key, versioned(&striping)),
        Err(why) => return refuse(Code::InvalidArgument, format!("directory {}: {why}", Ino(request.ino))),
    }
    let coding = record.coding || striping.coding.is_some();
    if !record.layouts || coding != record.coding {
        (record.layouts, record.coding) = (true, coding);
        volume::put(txn, volume, &record);
    }
    Ok(())
}

fn own(reader: &(impl Reader + ?Sized), volume: u64, directory: u64) -> Outcome<Option<Striping>> {
    let key = keys::layout(volume, directory);
    match reader.get(&key)? {
        Some(value) => Ok(Some(unversioned(&value).ok_or_else(|| corrupt("layout", &key))?)),
        None => Ok(None),
    }
}

/// What new files in `directory` get.
pub fn default_of(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    record: &Volume,
    directory: u64,
) -> Outcome<LayoutDefault> {
    let of_volume = LayoutDefault { striping: record.striping, from: 0 };
    if !record.layouts {
        return Ok(of_volume);
    }
    let mut at = directory;
    for _ in 0..DEPTH_MAX {
        if let Some(striping) = own(reader, volume, at)? {
            return Ok(LayoutDefault { striping, from: at });
        }
        if at == Ino::ROOT.0 {
            return Ok(of_volume);
        }
        // A directory that is gone is refused by the operation itself.
        let Some(inode) = inode::find(reader, volume, at)? else { return Ok(of_volume) };
        at = inode.parent;
    }
    Err(corrupt("circle of directories at", &keys::inode(volume, directory)))
}
