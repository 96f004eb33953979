//! Inode flags (`chattr`): the two forms in which the kernel asks for them.

use super::door::{Shared, outside};
use crate::config::Creds;
use crate::error::{Code, Error, Result};
use crate::volume::attrs::Changes;

/// `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS` on 64-bit systems, and as 32-bit programs send them.
const GET_FLAGS: [u32; 2] = [0x8008_6601, 0x8004_6601];
const SET_FLAGS: [u32; 2] = [0x4008_6602, 0x4004_6602];
/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`: the kernel asks in this form before it sets in the other.
const GET_XFLAGS: u32 = 0x801c_581f;
const SET_XFLAGS: u32 = 0x401c_5820;
/// Length of `struct fsxattr`; the flags are its first word.
const FSXATTR_BYTES: usize = 28;
/// (`FS_..._FL`, `FS_XFLAG_...`): immutable, append, sync, noatime, nodump.
const PAIRS: [(u32, u32); 5] = [(0x10, 0x08), (0x20, 0x10), (0x08, 0x20), (0x80, 0x40), (0x40, 0x80)];

/// What an ioctl asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Flags,
    Xflags,
    SetFlags(u32),
    SetXflags(u32),
}

impl Asked {
    /// `None` for everything that a file system need not know (`ENOTTY`).
    pub(super) fn parse(command: u32, input: &[u8]) -> Option<Self> {
        let word = input.first_chunk::<4>().map(|word| u32::from_ne_bytes(*word));
        match command {
            GET_XFLAGS => Some(Self::Xflags),
            SET_XFLAGS => word.map(Self::SetXflags),
            _ if GET_FLAGS.contains(&command) => Some(Self::Flags),
            _ if SET_FLAGS.contains(&command) => word.map(Self::SetFlags),
            _ => None,
        }
    }

    /// The bytes that the program gets who asks for flags; `None` for one who sets them.
    pub(super) fn shown(self, flags: u32) -> Option<Vec<u8>> {
        match self {
            Self::Flags => Some(flags.to_ne_bytes().to_vec()),
            Self::Xflags => {
                let mut out = to_xflags(flags).to_ne_bytes().to_vec();
                out.resize(FSXATTR_BYTES, 0);
                Some(out)
            }
            Self::SetFlags(_) | Self::SetXflags(_) => None,
        }
    }
}

fn to_xflags(flags: u32) -> u32 {
    PAIRS.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, xflag)| xflag).sum()
}

fn from_xflags(xflags: u32) -> u32 {
    PAIRS.into_iter().filter(|(_, xflag)| xflags & xflag != 0).map(|(flag, _)| flag).sum()
}

impl Shared {
    /// Answers with the bytes that the program gets.
    pub(super) async fn ioctl(&self, creds: Creds, ino: u64, asked: Asked) -> Result<Vec<u8>> {
        outside(ino)?;
        let set = match asked {
            Asked::Flags | Asked::Xflags => {
                let flags = self.volume.getattr(&creds, ino).await?.flags;
                return Ok(asked.shown(flags).unwrap_or_default());
            }
            Asked::SetFlags(flags) => flags,
            Asked::SetXflags(xflags) => from_xflags(xflags),
        };
        let known: u32 = PAIRS.into_iter().map(|(flag, _)| flag).sum();
        if set & !known != 0 {
            let why = format!("inode flags {:#x} of ino-{ino} are not kept", set & !known);
            return Err(Error::new(Code::NotSupported, why));
        }
        self.volume.setattr(&creds, ino, Changes { flags: Some(set), ..Changes::default() }).await?;
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        for flags in [0, 0x10, 0x20, 0xf8, 0x90] {
            assert_eq!(from_xflags(to_xflags(flags)), flags);
        }
        assert_eq!(Asked::parse(0x4008_6602, &0x10u64.to_ne_bytes()), Some(Asked::SetFlags(0x10)));
        assert_eq!(Asked::parse(0x5401, &[]), None);
    }
}
