//! From results to `fuser`'s replies.

use fuser::Errno;

use crate::error::{Code, Error, errno};

/// A failed operation: what the kernel is told.
pub(super) fn to_errno(error: &Error) -> Errno {
    Errno::from_i32(errno(error.code))
}

/// Whether a person should find this in the log; ENOENT and the like are everyday answers.
pub(super) fn is_trouble(code: Code) -> bool {
    matches!(
        code,
        Code::Corrupt
            | Code::Io
            | Code::Internal
            | Code::BadRequest
            | Code::UnknownMethod
            | Code::Unauthenticated
            | Code::CapabilityInvalid
            | Code::Unavailable
            | Code::DeadlineExceeded
    )
}

/// Every kind of reply can carry an error.
pub(super) trait Fail {
    fn fail(self, errno: Errno);
}

macro_rules! fail {
    ($($reply:ident),+ $(,)?) => {
        $(impl Fail for fuser::$reply {
            fn fail(self, errno: Errno) {
                self.error(errno);
            }
        })+
    };
}

fail!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyIoctl,
    ReplyLock,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite,
    ReplyXattr,
);
