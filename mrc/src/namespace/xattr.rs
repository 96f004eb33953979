//! Extended attributes. Access control lists go through here to [`super::acl`]; all else of `system.*` is refused: what is
//! stored but not enforced would be a lie.

use proto::error::Code;
use proto::id::Ino;
use proto::limits::{XATTR_LIST_BYTES_MAX, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use proto::mrc::{GetXattrRequest, Head, SetXattrRequest, Time, XATTR_CREATE, XATTR_REPLACE, kind};
use rt::table::{Reader, Txn, prefix_end};

use super::inode::{self, FLAG_APPEND, FLAG_IMMUTABLE, Inode};
use super::record::{Cursor, Writer};
use super::{Outcome, access, acl, corrupt, keys, refuse};

/// The names of both access control lists can always be listed too.
const ACL_NAMES_BYTES: usize = acl::ACCESS_NAME.len() + acl::DEFAULT_NAME.len() + 2;

fn show(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(name))
}

fn parse_name(name: &[u8]) -> Outcome<()> {
    if name.len() > XATTR_NAME_BYTES_MAX {
        return refuse(
            Code::AttributeTooLarge,
            format!("an attribute name of {} bytes; {XATTR_NAME_BYTES_MAX} is the limit", name.len()),
        );
    }
    let known = [&b"user."[..], b"trusted.", b"security."]
        .into_iter()
        .any(|space| name.len() > space.len() && name.starts_with(space));
    if !known || name.contains(&0) {
        return refuse(
            Code::NotSupported,
            format!(
                "attribute {}: only user.*, trusted.*, security.* and system.posix_acl_* are kept",
                show(name)
            ),
        );
    }
    Ok(())
}

fn permitted(inode: &Inode, head: &Head, name: &[u8], mask: u32) -> Outcome<()> {
    if name.starts_with(b"trusted.") || (name.starts_with(b"security.") && mask == access::W) {
        return access::require_root(head, "use attributes outside user.*");
    }
    if name.starts_with(b"user.") {
        if !matches!(inode.kind(), kind::FILE | kind::DIR) {
            return match mask {
                access::W => refuse(Code::NotPermitted, "only files and directories have user.* attributes"),
                _ => refuse(Code::NoAttribute, format!("no attribute {}", show(name))),
            };
        }
        return access::require(inode, head, mask);
    }
    Ok(())
}

/// The value of an attribute, whoever asks.
pub fn value_of(
    reader: &(impl Reader + ?Sized),
    volume: u64,
    ino: u64,
    name: &[u8],
) -> Outcome<Option<Vec<u8>>> {
    let key = keys::xattr(volume, ino, name);
    let Some(value) = reader.get(&key)? else { return Ok(None) };
    Ok(Some(Cursor::new(&value).ok_or_else(|| corrupt("attribute", &key))?.rest().to_vec()))
}

/// The value of an attribute.
pub fn get(reader: &(impl Reader + ?Sized), request: &GetXattrRequest) -> Outcome<Vec<u8>> {
    if acl::Which::of(&request.name).is_none() {
        parse_name(&request.name)?;
    }
    let inode = inode::get(reader, request.head.volume, request.ino)?;
    if let Some(which) = acl::Which::of(&request.name) {
        return match inode.acls.of(which) {
            Some(list) => Ok(list.to_value()),
            None => refuse(Code::NoAttribute, format!("{} has no {}", Ino(request.ino), show(&request.name))),
        };
    }
    permitted(&inode, &request.head, &request.name, access::R)?;
    let found = match inode.xattrs {
        0 => None,
        _ => value_of(reader, request.head.volume, request.ino, &request.name)?,
    };
    match found {
        Some(value) => Ok(value),
        None => refuse(
            Code::NoAttribute,
            format!("{} has no attribute {}", Ino(request.ino), show(&request.name)),
        ),
    }
}

/// Names of the attributes, ascending; `trusted.*` only for root.
pub fn list(reader: &(impl Reader + ?Sized), head: &Head, ino: u64) -> Outcome<Vec<Vec<u8>>> {
    let inode = inode::get(reader, head.volume, ino)?;
    let mut names = Vec::new();
    if inode.xattrs > 0 {
        let prefix = keys::xattr(head.volume, ino, &[]);
        let rows = reader.scan(&prefix, &prefix_end(&prefix), XATTR_LIST_BYTES_MAX)?;
        let all = rows.into_iter().map(|(key, _)| key[prefix.len()..].to_vec());
        names.extend(all.filter(|name| head.uid == 0 || !name.starts_with(b"trusted.")));
    }
    for (list, name) in [(&inode.acls.access, acl::ACCESS_NAME), (&inode.acls.default, acl::DEFAULT_NAME)] {
        if list.is_some() {
            let at = names.partition_point(|other| other.as_slice() < name);
            names.insert(at, name.to_vec());
        }
    }
    Ok(names)
}

/// Sets or removes an attribute; gives the inode.
pub fn set(txn: &mut Txn<'_>, now: Time, request: &SetXattrRequest) -> Outcome<Inode> {
    if let Some(which) = acl::Which::of(&request.name) {
        return acl::set(txn, now, request, which);
    }
    parse_name(&request.name)?;
    let volume = request.head.volume;
    let mut inode = inode::get(txn, volume, request.ino)?;
    if inode.has_flag(FLAG_IMMUTABLE | FLAG_APPEND) {
        return refuse(Code::NotPermitted, format!("{} is immutable or append-only", Ino(request.ino)));
    }
    permitted(&inode, &request.head, &request.name, access::W)?;
    let exists = inode.xattrs > 0 && value_of(txn, volume, request.ino, &request.name)?.is_some();
    let listed = u32::try_from(request.name.len() + 1).expect("bounded by parse_name");
    let key = keys::xattr(volume, request.ino, &request.name);
    match &request.value {
        Some(value) => {
            fits(&inode, request, value, exists)?;
            txn.put(key, Writer::new(1 + value.len()).tail(value));
            if !exists {
                inode.xattrs += 1;
                inode.xattr_list_bytes += listed;
            }
        }
        None if exists => {
            txn.delete(key);
            inode.xattrs -= 1;
            inode.xattr_list_bytes -= listed;
        }
        None => {
            return refuse(
                Code::NoAttribute,
                format!("{} has no attribute {}", Ino(request.ino), show(&request.name)),
            );
        }
    }
    inode.tell_lists();
    inode.touch(now);
    inode::put(txn, volume, &inode);
    Ok(inode)
}

/// The capabilities of a program go when its content or owner changes. True when there were some.
pub(super) fn drop_capability(txn: &mut Txn<'_>, volume: u64, inode: &mut Inode) -> Outcome<bool> {
    const NAME: &[u8] = b"security.capability";
    if inode.xattrs == 0 || value_of(txn, volume, inode.attr.ino, NAME)?.is_none() {
        return Ok(false);
    }
    txn.delete(keys::xattr(volume, inode.attr.ino, NAME));
    inode.xattrs -= 1;
    inode.xattr_list_bytes -= u32::try_from(NAME.len() + 1).expect("a short name");
    inode.tell_lists();
    Ok(true)
}

fn fits(inode: &Inode, request: &SetXattrRequest, value: &[u8], exists: bool) -> Outcome<()> {
    let name = show(&request.name);
    if request.flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 {
        return refuse(Code::InvalidArgument, format!("setxattr flags {:#x}", request.flags));
    }
    if exists && request.flags & XATTR_CREATE != 0 {
        return refuse(Code::Exists, format!("{} has attribute {name} already", Ino(request.ino)));
    }
    if !exists && request.flags & XATTR_REPLACE != 0 {
        return refuse(Code::NoAttribute, format!("{} has no attribute {name} to replace", Ino(request.ino)));
    }
    if value.len() > XATTR_VALUE_BYTES_MAX {
        return refuse(
            Code::AttributeTooLarge,
            format!("a value of {} bytes for {name}; {XATTR_VALUE_BYTES_MAX} is the limit", value.len()),
        );
    }
    let list = inode.xattr_list_bytes as usize + ACL_NAMES_BYTES + request.name.len() + 1;
    if !exists && list > XATTR_LIST_BYTES_MAX {
        return refuse(
            Code::NoSpace,
            format!(
                "names of attributes of {} would take {list} bytes; {XATTR_LIST_BYTES_MAX} is the limit",
                Ino(request.ino)
            ),
        );
    }
    Ok(())
}
