//! POSIX access control lists, as Linux keeps them: parsed once from the xattr form, checked like the kernel checks them.
//!
//! An inode's lists are in its row, so that a permission check costs no further get. A list that says no more than the
//! mode bits is not kept. The mode's group bits are the mask while an access list is there.

use proto::error::Code;
use proto::id::Ino;
use proto::limits::ACL_ENTRIES_MAX;
use proto::mrc::{Head, SetXattrRequest, Time, kind};
use rt::table::Txn;

use super::inode::{self, FLAG_APPEND, FLAG_IMMUTABLE, Inode};
use super::{Outcome, access, refuse};

/// The list that decides about the inode itself.
pub const ACCESS_NAME: &[u8] = b"system.posix_acl_access";
/// The list that new entries of a directory begin with.
pub const DEFAULT_NAME: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;
/// The id of entries that name nobody.
const NO_ID: u32 = u32::MAX;
const SETGID: u32 = 0o2000;

mod tag {
    pub(super) const USER_OBJ: u16 = 0x01;
    pub(super) const USER: u16 = 0x02;
    pub(super) const GROUP_OBJ: u16 = 0x04;
    pub(super) const GROUP: u16 = 0x08;
    pub(super) const MASK: u16 = 0x10;
    pub(super) const OTHER: u16 = 0x20;
}

/// A sound list: permissions are three bits, whoever is named exists, and named ones come with a mask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl {
    owner: u8,
    users: Vec<(u32, u8)>,
    group: u8,
    groups: Vec<(u32, u8)>,
    mask: Option<u8>,
    other: u8,
}

/// The lists of an inode.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Acls {
    /// For the inode itself.
    pub access: Option<Acl>,
    /// For what is made in a directory.
    pub default: Option<Acl>,
}

/// Which list an attribute's name means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// [`ACCESS_NAME`].
    Access,
    /// [`DEFAULT_NAME`].
    Default,
}

impl Which {
    /// `None` when the name is no list's.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        match name {
            ACCESS_NAME => Some(Self::Access),
            DEFAULT_NAME => Some(Self::Default),
            _ => None,
        }
    }
}

impl Acls {
    /// One of them.
    #[must_use]
    pub fn of(&self, which: Which) -> Option<&Acl> {
        match which {
            Which::Access => self.access.as_ref(),
            Which::Default => self.default.as_ref(),
        }
    }

    /// As [`proto::mrc::Attr::acl`] says it.
    #[must_use]
    pub fn bits(&self) -> u32 {
        let bit = |acl: &Option<Acl>, bit| if acl.is_some() { bit } else { 0 };
        bit(&self.access, proto::mrc::ACL_ACCESS) | bit(&self.default, proto::mrc::ACL_DEFAULT)
    }
}

fn unsound<T>(why: &str) -> Outcome<T> {
    refuse(Code::InvalidArgument, format!("not an access control list: {why}"))
}

impl Acl {
    /// Takes an attribute's value apart (acl(5), version 2 of Linux). `None`: the empty list, which removes one.
    pub fn parse(value: &[u8]) -> Outcome<Option<Self>> {
        let Some((version, entries)) = value.split_first_chunk::<HEADER_BYTES>() else {
            return if value.is_empty() { Ok(None) } else { unsound("shorter than its header") };
        };
        if u32::from_le_bytes(*version) != VERSION {
            return refuse(Code::NotSupported, "an access control list of another version than 2");
        }
        if !entries.len().is_multiple_of(ENTRY_BYTES) {
            return unsound("its last entry is cut");
        }
        if entries.len() / ENTRY_BYTES > ACL_ENTRIES_MAX {
            return refuse(
                Code::NoSpace,
                format!("more than {ACL_ENTRIES_MAX} entries in an access control list"),
            );
        }
        if entries.is_empty() {
            return Ok(None);
        }
        Self::from_entries(entries.chunks_exact(ENTRY_BYTES)).map(Some)
    }

    fn from_entries<'a>(entries: impl Iterator<Item = &'a [u8]>) -> Outcome<Self> {
        let (mut owner, mut group, mut mask, mut other) = (None, None, None, None);
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        let mut last_tag = 0;
        for entry in entries {
            let word = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
            let (tag, permissions) = (word(0), word(2));
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            if tag < last_tag {
                return unsound("its entries are not in order");
            }
            last_tag = tag;
            let Some(permissions) = u8::try_from(permissions).ok().filter(|bits| *bits <= 7) else {
                return unsound("permissions other than read, write and execute");
            };
            let (single, named) = match tag {
                tag::USER_OBJ => (Some(&mut owner), None),
                tag::USER => (None, Some(&mut users)),
                tag::GROUP_OBJ => (Some(&mut group), None),
                tag::GROUP => (None, Some(&mut groups)),
                tag::MASK => (Some(&mut mask), None),
                tag::OTHER => (Some(&mut other), None),
                _ => return unsound("a tag that does not exist"),
            };
            if let Some(single) = single
                && single.replace(permissions).is_some()
            {
                return unsound("an entry is there twice");
            }
            if let Some(named) = named {
                if id == NO_ID {
                    return unsound("an entry names nobody");
                }
                named.push((id, permissions));
            }
        }
        let (Some(owner), Some(group), Some(other)) = (owner, group, other) else {
            return unsound("owner, group or others are missing");
        };
        if mask.is_none() && !(users.is_empty() && groups.is_empty()) {
            return unsound("it names somebody and has no mask");
        }
        Ok(Self { owner, users, group, groups, mask, other })
    }

    /// The attribute's value.
    #[must_use]
    pub fn to_value(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        let mut push = |tag: u16, permissions: u8, id: u32| {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&u16::from(permissions).to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        };
        push(tag::USER_OBJ, self.owner, NO_ID);
        for (id, permissions) in &self.users {
            push(tag::USER, *permissions, *id);
        }
        push(tag::GROUP_OBJ, self.group, NO_ID);
        for (id, permissions) in &self.groups {
            push(tag::GROUP, *permissions, *id);
        }
        if let Some(mask) = self.mask {
            push(tag::MASK, mask, NO_ID);
        }
        push(tag::OTHER, self.other, NO_ID);
        out
    }

    /// The nine permission bits that show it: the group's are the mask's when there is one.
    #[must_use]
    pub fn mode_bits(&self) -> u32 {
        u32::from(self.owner) << 6 | u32::from(self.mask.unwrap_or(self.group)) << 3 | u32::from(self.other)
    }

    /// Whether the mode bits say all of it.
    #[must_use]
    pub fn is_minimal(&self) -> bool {
        self.mask.is_none() && self.users.is_empty() && self.groups.is_empty()
    }

    /// chmod(2) of an inode with this access list.
    pub fn chmod(&mut self, mode: u32) {
        let class = |shift: u32| u8::try_from(mode >> shift & 7).expect("three bits");
        self.owner = class(6);
        self.other = class(0);
        match &mut self.mask {
            Some(mask) => *mask = class(3),
            None => self.group = class(3),
        }
    }

    /// What a new inode made with `mode` gets from this default list: at most what both allow.
    #[must_use]
    pub fn inherited(&self, mode: u32) -> Self {
        let class = |shift: u32| u8::try_from(mode >> shift & 7).expect("three bits");
        let mut out = self.clone();
        out.owner &= class(6);
        out.other &= class(0);
        match &mut out.mask {
            Some(mask) => *mask &= class(3),
            None => out.group &= class(3),
        }
        out
    }

    /// Whether the acting user, who is not root, may do all of `wanted` to an inode of this owner and group.
    #[must_use]
    pub fn allows(&self, head: &Head, owner: (u32, u32), wanted: u32) -> bool {
        let has = |permissions: u8| u32::from(permissions) & wanted == wanted;
        let mask = self.mask.unwrap_or(7);
        if head.uid == owner.0 {
            return has(self.owner);
        }
        if let Some((_, permissions)) = self.users.iter().find(|(id, _)| *id == head.uid) {
            return has(permissions & mask);
        }
        let mut is_member = false;
        for (gid, permissions) in [(owner.1, self.group)].iter().chain(&self.groups) {
            if access::in_group(head, *gid) {
                is_member = true;
                if has(*permissions) {
                    return has(permissions & mask);
                }
            }
        }
        !is_member && has(self.other)
    }
}

/// Sets or removes a list by its attribute.
pub fn set(txn: &mut Txn<'_>, now: Time, request: &SetXattrRequest, which: Which) -> Outcome<Inode> {
    let volume = request.head.volume;
    let acl = Acl::parse(request.value.as_deref().unwrap_or_default())?;
    let mut inode = inode::get(txn, volume, request.ino)?;
    if inode.has_flag(FLAG_IMMUTABLE | FLAG_APPEND) {
        return refuse(Code::NotPermitted, format!("{} is immutable or append-only", Ino(request.ino)));
    }
    if inode.kind() == kind::SYMLINK {
        return refuse(Code::NotSupported, "symbolic links have no access control lists");
    }
    access::require_owner(&inode, &request.head)?;
    match which {
        Which::Access => set_access(&mut inode, request, acl),
        Which::Default if inode.is_dir() => inode.acls.default = acl,
        Which::Default if acl.is_none() => return Ok(inode),
        Which::Default => {
            return refuse(
                Code::PermissionDenied,
                format!("{} is no directory: nothing is made in it", Ino(request.ino)),
            );
        }
    }
    inode.tell_lists();
    inode.touch(now);
    inode::put(txn, volume, &inode);
    Ok(inode)
}

fn set_access(inode: &mut Inode, request: &SetXattrRequest, acl: Option<Acl>) {
    if let Some(acl) = &acl {
        let head = &request.head;
        inode.attr.mode = inode.attr.mode & !0o777 | acl.mode_bits();
        let outsider = !head.permission_checked && head.uid != 0 && !access::in_group(head, inode.attr.gid);
        if request.clear_setgid || outsider {
            inode.attr.mode &= !SETGID;
        }
    }
    inode.acls.access = acl.filter(|acl| !acl.is_minimal());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&permissions.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        Acl::parse(&value(entries)).unwrap().unwrap()
    }

    /// u::rw-,u:7:rwx,g::r--,g:8:rw-,m::rw-,o::---
    fn full() -> Acl {
        acl(&[(1, 6, NO_ID), (2, 7, 7), (4, 4, NO_ID), (8, 6, 8), (16, 6, NO_ID), (32, 0, NO_ID)])
    }

    #[test]
    fn unsound_lists_are_refused() {
        let bad: &[&[(u16, u16, u32)]] = &[
            &[(1, 6, 0)],
            &[(1, 6, 0), (4, 6, 0)],
            &[(4, 6, 0), (1, 6, 0), (32, 0, 0)],
            &[(1, 6, 0), (1, 6, 0), (4, 6, 0), (32, 0, 0)],
            &[(1, 8, 0), (4, 6, 0), (32, 0, 0)],
            &[(1, 0x106, 0), (4, 6, 0), (32, 0, 0)],
            &[(1, 6, 0), (2, 6, 7), (4, 6, 0), (32, 0, 0)],
            &[(1, 6, 0), (2, 6, NO_ID), (4, 6, 0), (16, 7, 0), (32, 0, 0)],
            &[(1, 6, 0), (4, 6, 0), (32, 0, 0), (64, 0, 0)],
            &[(0, 6, 0), (1, 6, 0), (4, 6, 0), (32, 0, 0)],
        ];
        for entries in bad {
            assert!(Acl::parse(&value(entries)).is_err(), "{entries:?}");
        }
        assert!(Acl::parse(&[2, 0, 0]).is_err() && Acl::parse(&[3, 0, 0, 0]).is_err());
        assert!(Acl::parse(&[2, 0, 0, 0, 1]).is_err());
        let many: Vec<_> = (0..2000).map(|id| (2, 7, id)).collect();
        assert!(Acl::parse(&value(&many)).is_err());
        assert_eq!(Acl::parse(&[]).unwrap(), None);
        assert_eq!(Acl::parse(&[2, 0, 0, 0]).unwrap(), None);
    }

    #[test]
    fn the_mask_is_the_group_class_of_the_mode() {
        let mut list = full();
        assert_eq!(list.mode_bits(), 0o660);
        list.chmod(0o4751);
        assert_eq!((list.mode_bits(), list.group, list.mask), (0o751, 4, Some(5)));
        let mut minimal = acl(&[(1, 6, 0), (4, 4, 0), (32, 4, 0)]);
        assert!(minimal.is_minimal() && !list.is_minimal());
        minimal.chmod(0o070);
        assert_eq!((minimal.mode_bits(), minimal.group), (0o070, 7));
    }

    #[test]
    fn the_first_class_that_matches_decides_and_groups_add_up() {
        let list = full();
        let may = |uid: u32, gid: u32, groups: Vec<u32>, wanted: u32| {
            let head = Head { uid, gid, groups, ..Head::default() };
            list.allows(&head, (1, 2), wanted)
        };
        assert!(may(1, 9, vec![], 6) && !may(1, 8, vec![], 1), "the owner, whatever groups say");
        assert!(may(7, 9, vec![], 6) && !may(7, 9, vec![], 1), "the mask takes execute away");
        assert!(may(5, 2, vec![], 4) && !may(5, 2, vec![], 2), "the owning group");
        assert!(may(5, 8, vec![], 6) && may(5, 2, vec![8], 6), "one of the groups is enough");
        assert!(!may(5, 9, vec![], 4), "others");
        let open = acl(&[(1, 7, 0), (4, 0, 0), (8, 0, 8), (16, 7, 0), (32, 7, 0)]);
        let head = Head { uid: 5, gid: 8, ..Head::default() };
        assert!(!open.allows(&head, (1, 2), 4), "a member of a group is not one of the others");
    }

    #[test]
    fn what_is_inherited_is_never_more_than_asked_for() {
        let list = full().inherited(0o640);
        assert_eq!((list.mode_bits(), list.mask, list.group), (0o640, Some(4), 4));
        assert_eq!(list.users, [(7, 7)]);
    }

    fn entries() -> impl Strategy<Value = Vec<(u16, u16, u32)>> {
        let tag = prop_oneof![Just(1u16), Just(2), Just(4), Just(8), Just(16), Just(32), any::<u16>()];
        proptest::collection::vec((tag, 0..9u16, prop_oneof![0..4u32, Just(NO_ID)]), 0..8).prop_map(
            |mut all| {
                all.sort_by_key(|(tag, ..)| *tag);
                all
            },
        )
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Acl::parse(&bytes);
        }

        #[test]
        fn what_parses_comes_back(entries in entries()) {
            if let Ok(Some(list)) = Acl::parse(&value(&entries)) {
                prop_assert_eq!(Acl::parse(&list.to_value()).unwrap().unwrap(), list.clone());
                let mut twice = list.clone();
                twice.chmod(list.mode_bits());
                prop_assert_eq!(&twice, &list);
                prop_assert_eq!(list.inherited(0o777), list);
            }
        }
    }
}
