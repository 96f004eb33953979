//! Names of the errors that file system calls give.

const NAMES: &[(i32, &str)] = &[
    (libc::EPERM, "EPERM"),
    (libc::ENOENT, "ENOENT"),
    (libc::EINTR, "EINTR"),
    (libc::EIO, "EIO"),
    (libc::ENXIO, "ENXIO"),
    (libc::EBADF, "EBADF"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::EACCES, "EACCES"),
    (libc::EBUSY, "EBUSY"),
    (libc::EEXIST, "EEXIST"),
    (libc::EXDEV, "EXDEV"),
    (libc::ENOTDIR, "ENOTDIR"),
    (libc::EISDIR, "EISDIR"),
    (libc::EINVAL, "EINVAL"),
    (libc::EFBIG, "EFBIG"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::EMLINK, "EMLINK"),
    (libc::EDEADLK, "EDEADLK"),
    (libc::ENOLCK, "ENOLCK"),
    (libc::ENOSYS, "ENOSYS"),
    (libc::ENOTEMPTY, "ENOTEMPTY"),
    (libc::ELOOP, "ELOOP"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::ENOTCONN, "ENOTCONN"),
    (libc::ETIMEDOUT, "ETIMEDOUT"),
    (libc::ESTALE, "ESTALE"),
    (libc::EDQUOT, "EDQUOT"),
];

/// `ENOENT` for 2; the number itself where there is no name here.
#[must_use]
pub fn errno_name(number: i32) -> String {
    let found = NAMES.iter().find(|(one, _)| *one == number);
    found.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

/// The inverse of [`errno_name`].
#[must_use]
pub fn errno_number(name: &str) -> Option<i32> {
    let found = NAMES.iter().find(|(_, one)| *one == name);
    found.map(|(number, _)| *number).or_else(|| name.parse().ok())
}
