//! POSIX access control lists as people write them (acl(5)): the text of getfacl and setfacl, and what setfacl does to a list.
//!
//! The MRC keeps and checks the lists; what is here only turns the attribute's bytes into text and back. No process, no
//! service and no file is asked, names of users come in as a function.

pub(crate) mod change;
pub(crate) mod text;

use std::collections::BTreeMap;

/// The attribute with the list that decides about the inode itself.
pub(crate) const ACCESS_NAME: &[u8] = b"system.posix_acl_access";
/// The attribute with the list that new entries of a directory begin with.
pub(crate) const DEFAULT_NAME: &[u8] = b"system.posix_acl_default";

/// Of Linux's form of the attribute.
const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
/// The id in entries that name nobody.
const NO_ID: u32 = u32::MAX;

/// Whom an entry speaks of, in the order in which lists are kept and shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Who {
    /// The owner: `user::`.
    Owner,
    /// `user:NAME:`.
    User(u32),
    /// The owning group: `group::`.
    OwningGroup,
    /// `group:NAME:`.
    Group(u32),
    /// The most that anybody but the owner and others gets: `mask::`.
    Mask,
    /// `other::`.
    Other,
}

impl Who {
    /// Whether its permissions are cut by the mask.
    pub(crate) fn is_masked(self) -> bool {
        matches!(self, Who::User(_) | Who::OwningGroup | Who::Group(_))
    }

    /// Whether every list has one.
    pub(crate) fn is_base(self) -> bool {
        matches!(self, Who::Owner | Who::OwningGroup | Who::Other)
    }

    fn tag(self) -> (u16, u32) {
        match self {
            Who::Owner => (0x01, NO_ID),
            Who::User(id) => (0x02, id),
            Who::OwningGroup => (0x04, NO_ID),
            Who::Group(id) => (0x08, id),
            Who::Mask => (0x10, NO_ID),
            Who::Other => (0x20, NO_ID),
        }
    }

    fn of_tag(tag: u16, id: u32) -> Option<Self> {
        Some(match tag {
            0x01 => Who::Owner,
            0x02 => Who::User(id),
            0x04 => Who::OwningGroup,
            0x08 => Who::Group(id),
            0x10 => Who::Mask,
            0x20 => Who::Other,
            _ => return None,
        })
    }
}

/// A list: permissions are three bits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Acl(BTreeMap<Who, u8>);

/// The lists of an inode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lists {
    /// For the inode itself.
    pub(crate) access: Acl,
    /// For what is made in a directory.
    pub(crate) default: Option<Acl>,
}

impl Acl {
    /// The list that says what the mode says.
    pub(crate) fn of_mode(mode: u32) -> Self {
        let class = |shift: u32| (mode >> shift & 7) as u8;
        Self([(Who::Owner, class(6)), (Who::OwningGroup, class(3)), (Who::Other, class(0))].into())
    }

    /// Takes an attribute's value apart; `None`: the empty list.
    pub(crate) fn parse(value: &[u8]) -> Result<Option<Self>, String> {
        let Some((version, entries)) = value.split_first_chunk::<4>() else {
            return if value.is_empty() { Ok(None) } else { Err("shorter than its header".to_owned()) };
        };
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(format!("version {version} of lists is not known"));
        }
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err("its last entry is cut".to_owned());
        }
        let mut list = BTreeMap::new();
        for [t0, t1, p0, p1, id @ ..] in entries {
            let (tag, bits) = (u16::from_le_bytes([*t0, *t1]), u16::from_le_bytes([*p0, *p1]));
            let who = Who::of_tag(tag, u32::from_le_bytes(*id))
                .ok_or_else(|| format!("tag {tag:#x} is not known"))?;
            let bits = u8::try_from(bits).ok().filter(|bits| *bits <= 7);
            let bits = bits.ok_or("permissions other than read, write and execute")?;
            if list.insert(who, bits).is_some() {
                return Err("an entry is there twice".to_owned());
            }
        }
        Ok((!list.is_empty()).then_some(Self(list)))
    }

    /// The attribute's value.
    pub(crate) fn to_value(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for (who, bits) in &self.0 {
            let (tag, id) = who.tag();
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&u16::from(*bits).to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }

    /// Permissions of an entry.
    pub(crate) fn get(&self, who: Who) -> Option<u8> {
        self.0.get(&who).copied()
    }

    /// All entries in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Who, u8)> + '_ {
        self.0.iter().map(|(who, bits)| (*who, *bits))
    }

    /// What an entry gives after the mask.
    pub(crate) fn effective(&self, who: Who, bits: u8) -> u8 {
        if who.is_masked() { bits & self.get(Who::Mask).unwrap_or(7) } else { bits }
    }

    /// Whether somebody is named.
    fn names_somebody(&self) -> bool {
        self.0.keys().any(|who| matches!(who, Who::User(_) | Who::Group(_)))
    }

    fn may_execute(&self) -> bool {
        self.0.values().any(|bits| bits & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Some(list)) = Acl::parse(&bytes) {
                prop_assert_eq!(Acl::parse(&list.to_value()).unwrap().unwrap(), list);
            }
        }

        #[test]
        fn what_the_mrc_keeps_is_read_as_it_is(users in proptest::collection::btree_map(0..9u32, 0..8u8, 0..4), mode in 0..0o1000u32) {
            let mut list = Acl::of_mode(mode);
            list.0.extend(users.iter().map(|(id, bits)| (Who::User(*id), *bits)));
            list.0.insert(Who::Mask, 7);
            let theirs = mrc::namespace::acl::Acl::parse(&list.to_value()).unwrap().unwrap();
            prop_assert_eq!(Acl::parse(&theirs.to_value()).unwrap().unwrap(), list);
        }
    }

    #[test]
    fn unsound_values_are_refused() {
        assert_eq!(Acl::parse(&[]), Ok(None));
        assert_eq!(Acl::parse(&[2, 0, 0, 0]), Ok(None));
        for bad in [
            &[2, 0][..],
            &[3, 0, 0, 0],
            &[2, 0, 0, 0, 1],
            &[2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0, 0],
        ] {
            assert!(Acl::parse(bad).is_err(), "{bad:?}");
        }
    }
}
