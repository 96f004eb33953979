//! What callers of the library see when something fails, and the one place where errno is chosen.

pub use proto::error::Code;
pub use proto::error::WireError as Error;

/// Result of library calls.
pub type Result<T> = std::result::Result<T, Error>;

/// The errno of a code, as a positive number.
#[must_use]
pub fn errno(code: Code) -> i32 {
    match code {
        Code::NotFound => libc::ENOENT,
        Code::Exists => libc::EEXIST,
        Code::NotDirectory => libc::ENOTDIR,
        Code::IsDirectory => libc::EISDIR,
        Code::NotEmpty => libc::ENOTEMPTY,
        Code::PermissionDenied => libc::EACCES,
        Code::NotPermitted => libc::EPERM,
        Code::InvalidArgument => libc::EINVAL,
        Code::NameTooLong => libc::ENAMETOOLONG,
        Code::TooManyLinks => libc::EMLINK,
        Code::CrossVolume => libc::EXDEV,
        Code::NoSpace => libc::ENOSPC,
        Code::QuotaExceeded => libc::EDQUOT,
        Code::FileTooLarge => libc::EFBIG,
        Code::NoAttribute => libc::ENODATA,
        Code::AttributeTooLarge => libc::E2BIG,
        Code::ReadOnly => libc::EROFS,
        Code::WouldBlock => libc::EAGAIN,
        Code::Deadlock => libc::EDEADLK,
        Code::Stale => libc::ESTALE,
        Code::NotSupported => libc::EOPNOTSUPP,
        Code::Busy => libc::EBUSY,
        Code::Loop => libc::ELOOP,
        // Retried until the caller's patience ended: the service could not be reached in time.
        Code::NotLeader
        | Code::Unavailable
        | Code::DeadlineExceeded
        | Code::OldEpoch
        | Code::OldView
        | Code::ReplicaDown
        | Code::Superseded => libc::ETIMEDOUT,
        Code::CapabilityExpired | Code::CapabilityInvalid | Code::SessionUnknown => libc::ESTALE,
        Code::Unauthenticated => libc::EACCES,
        Code::Cancelled => libc::EINTR,
        Code::Corrupt | Code::Io | Code::BadRequest | Code::UnknownMethod | Code::Internal => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_errno_and_the_common_ones_are_distinct() {
        assert!(Code::ALL.into_iter().all(|code| errno(code) > 0));
        let posix: Vec<i32> = Code::ALL.into_iter().filter(|code| (*code as u16) < 40).map(errno).collect();
        let mut once = posix.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), posix.len());
    }
}
