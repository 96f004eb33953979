//! POSIX permission rules, applied when the sender has not checked them, and inode flags, applied always.

use proto::error::Code;
use proto::id::Ino;
use proto::mrc::Head;

use super::inode::{FLAG_APPEND, FLAG_IMMUTABLE, Inode};
use super::{Outcome, refuse};

/// Execute or search.
pub const X: u32 = 1;
/// Write.
pub const W: u32 = 2;
/// Read.
pub const R: u32 = 4;

const STICKY: u32 = 0o1000;

/// Whether the acting user is in a group.
#[must_use]
pub fn in_group(head: &Head, gid: u32) -> bool {
    head.gid == gid || head.groups.contains(&gid)
}

/// Whether the access control list or the mode bits allow `mask` to the acting user.
#[must_use]
pub fn allows(inode: &Inode, head: &Head, mask: u32) -> bool {
    let attr = &inode.attr;
    if head.uid == 0 {
        // Root may execute what anyone may execute, and do everything else.
        return mask & X == 0 || inode.is_dir() || attr.mode & 0o111 != 0;
    }
    // Without group bits the mask is empty; Linux then looks at the mode bits only.
    if let Some(acl) = &inode.acls.access
        && attr.mode & 0o070 != 0
    {
        return acl.allows(head, (attr.uid, attr.gid), mask);
    }
    let class = if head.uid == attr.uid {
        attr.mode >> 6
    } else if in_group(head, attr.gid) {
        attr.mode >> 3
    } else {
        attr.mode
    };
    class & mask == mask
}

/// Refuses with `PermissionDenied` unless allowed or already checked by the sender.
pub fn require(inode: &Inode, head: &Head, mask: u32) -> Outcome<()> {
    if head.permission_checked || allows(inode, head, mask) {
        return Ok(());
    }
    refuse(
        Code::PermissionDenied,
        format!(
            "mode {:04o} of {} does not allow it to uid {}",
            inode.attr.mode & 0o7777,
            Ino(inode.attr.ino),
            head.uid
        ),
    )
}

/// Refuses with `NotPermitted` unless the acting user owns the inode.
pub fn require_owner(inode: &Inode, head: &Head) -> Outcome<()> {
    if head.permission_checked || head.uid == 0 || head.uid == inode.attr.uid {
        return Ok(());
    }
    refuse(Code::NotPermitted, format!("uid {} does not own {}", head.uid, Ino(inode.attr.ino)))
}

/// Refuses with `NotPermitted` unless the acting user is root.
pub fn require_root(head: &Head, what: &str) -> Outcome<()> {
    if head.permission_checked || head.uid == 0 {
        return Ok(());
    }
    refuse(Code::NotPermitted, format!("only root may {what}"))
}

/// May entries be added to this directory?
pub fn may_add(directory: &Inode, head: &Head) -> Outcome<()> {
    if directory.has_flag(FLAG_IMMUTABLE) {
        return refuse(Code::NotPermitted, format!("directory {} is immutable", Ino(directory.attr.ino)));
    }
    require(directory, head, W | X)
}

/// May this inode's entry be taken out of the directory?
pub fn may_remove(directory: &Inode, victim: &Inode, head: &Head) -> Outcome<()> {
    require(directory, head, W | X)?;
    if !head.permission_checked
        && directory.attr.mode & STICKY != 0
        && head.uid != 0
        && head.uid != victim.attr.uid
        && head.uid != directory.attr.uid
    {
        return refuse(
            Code::NotPermitted,
            format!(
                "{} is sticky and uid {} owns neither it nor the entry",
                Ino(directory.attr.ino),
                head.uid
            ),
        );
    }
    for inode in [directory, victim] {
        if inode.has_flag(FLAG_IMMUTABLE | FLAG_APPEND) {
            return refuse(
                Code::NotPermitted,
                format!("{} is immutable or append-only", Ino(inode.attr.ino)),
            );
        }
    }
    Ok(())
}
