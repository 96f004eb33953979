//! Reads that a majority of replicas answers without the primary: what one replica may say of an object. The argument is in
//! `docs/protocols/replication.md`, "Reads"; who asks compares the words.

use super::Version;
use super::column::Column;

/// A replica's word: it has promised and adopted the epoch, and has this version of the object. A majority of the list that says
/// the same, all asked after a read began, holds what the read may show.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Word {
    /// Promised and adopted.
    pub epoch: u64,
    /// Of the object; the default when there is none.
    pub version: Version,
}

/// Why a replica says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Doubt {
    /// It has promised an epoch that it has not adopted.
    NotOpen,
    /// It may have forgotten what it acknowledged.
    Doubtful,
    /// The lists are being changed, or it is not in them.
    Lists,
    /// The object is being changed here, or is yet to be fetched.
    Changing,
    /// Bytes of it are damaged here.
    Damaged,
}

/// What the store of a replica says, looked up in this order in the same step as the word is given.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The epoch that it adopted last.
    pub adopted: u64,
    /// It may have forgotten what it acknowledged.
    pub doubtful: bool,
    /// The object's version.
    pub local: Version,
    /// Bytes of the object are damaged.
    pub damaged: bool,
}

impl<P: Clone, W> Column<P, W> {
    /// What this replica says of an object, leading or not.
    pub fn word(&self, object: u64, kept: Kept) -> Result<Word, Doubt> {
        let epoch = self.promised();
        let listed = self.role().members.iter().any(|member| member.osd == self.me);
        if !listed || !self.role().previous.is_empty() {
            return Err(Doubt::Lists);
        }
        if kept.doubtful {
            return Err(Doubt::Doubtful);
        }
        if kept.adopted != epoch {
            return Err(Doubt::NotOpen);
        }
        // What is not acknowledged yet may not survive this process.
        if self.is_changing(object) {
            return Err(Doubt::Changing);
        }
        if kept.damaged {
            return Err(Doubt::Damaged);
        }
        Ok(Word { epoch, version: kept.local })
    }

    fn is_changing(&self, object: u64) -> bool {
        let leading = self.primary.as_ref();
        self.is_applying(object)
            || leading.is_some_and(|primary| primary.objects.contains_key(&object) || primary.lacks(object))
    }
}
