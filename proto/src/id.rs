//! Typed identities. A bare `u64` never crosses a crate boundary where one of these is meant.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// A volume; handed out by the DIR, never reused, never 0.
    VolumeId, "vol-"
);
id!(
    /// An inode of a volume; handed out by the MRC, never reused within its volume. The root is 1.
    Ino, "ino-"
);
id!(
    /// An object of a file: file offset divided by the stripe size.
    ObjectNo, "obj-"
);
id!(
    /// An OSD; a small number handed out by the DIR when its UUID registers for the first time.
    OsdId, "osd#"
);
id!(
    /// A client's session with an MRC or DIR group: the scope of its request sequence numbers.
    SessionId, "session-"
);
id!(
    /// A member of a Raft group. Never 0.
    MemberId, "member-"
);
id!(
    /// A Raft group. 1 is the DIR; volumes' metadata groups start at 2.
    GroupId, "group-"
);

impl Ino {
    /// The root directory of every volume.
    pub const ROOT: Ino = Ino(1);
}

/// One object as an OSD knows it: volume, file and object number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey {
    /// The volume that the file belongs to.
    pub volume: VolumeId,
    /// The file.
    pub ino: Ino,
    /// Which stripe of the file.
    pub object: ObjectNo,
}

impl ObjectKey {
    /// Sorts by volume, file and object; 24 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 24] {
        let mut out = [0u8; 24];
        out[..8].copy_from_slice(&self.volume.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.ino.0.to_be_bytes());
        out[16..].copy_from_slice(&self.object.0.to_be_bytes());
        out
    }

    /// The inverse of [`ObjectKey::to_bytes`]; `None` when the length is not 24.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word =
            |at: usize| -> Option<u64> { Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?)) };
        if bytes.len() != 24 {
            return None;
        }
        Some(Self { volume: VolumeId(word(0)?), ino: Ino(word(8)?), object: ObjectNo(word(16)?) })
    }
}
