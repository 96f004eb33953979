//! Every bound of the system in one place, with the relations between them proved at compile time.

/// Unit of checksums and of allocation on an OSD, bytes.
pub const BLOCK_BYTES: usize = 4096;
/// Default stripe size (bytes of an object), bytes.
pub const STRIPE_BYTES_DEFAULT: u32 = 1 << 20;
/// Smallest stripe size, bytes.
pub const STRIPE_BYTES_MIN: u32 = 4096;
/// Largest stripe size, bytes.
pub const STRIPE_BYTES_MAX: u32 = 16 << 20;
/// Widest striping: columns of a file.
pub const STRIPE_WIDTH_MAX: u32 = 64;
/// An OSD with less free than this gets no new file and no new replica. At least a stripe of the largest kind.
pub const ROOM_BYTES_MIN: u64 = STRIPE_BYTES_MAX as u64;
/// Data objects of a group of erasure-coded data at most (K).
pub const CODING_DATA_MAX: u32 = 16;
/// Its parity objects at most (M).
pub const CODING_PARITY_MAX: u32 = 4;
/// Smaller files are not erasure-coded, bytes.
pub const CODING_BYTES_MIN: u64 = 64 << 10;
/// Larger files are not kept at the MRC, bytes: one block.
pub const INLINE_BYTES_MAX: usize = BLOCK_BYTES;
/// Most replicas of a column.
pub const REPLICAS_MAX: u32 = 7;

/// Largest prost message in a frame, bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Largest raw payload in a frame, bytes: one object plus room.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Longest name of a directory entry, bytes (POSIX `NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest symlink target, bytes (`PATH_MAX` - 1).
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// Longest extended attribute name, bytes.
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Largest extended attribute value, bytes.
pub const XATTR_VALUE_BYTES_MAX: usize = 65536;
/// All names of a file's extended attributes together, bytes (`XATTR_LIST_MAX`).
pub const XATTR_LIST_BYTES_MAX: usize = 65536;
/// Most entries of an access control list.
pub const ACL_ENTRIES_MAX: usize = 1024;
/// Most hard links of an inode.
pub const LINKS_MAX: u32 = 1_000_000;
/// Largest file size, bytes (2^63 - 1).
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;
/// Entries returned by one `ReadDir` call at most.
pub const READDIR_ENTRIES_MAX: u32 = 4096;

/// Requests in flight on one connection; more wait at the sender.
pub const INFLIGHT_PER_CONNECTION: usize = 1024;
/// Requests that one server executes at the same time over all connections.
pub const INFLIGHT_PER_SERVER: usize = 16384;
/// Proposals waiting in a Raft group's inbox; more are refused with `Busy`.
pub const PROPOSALS_MAX: usize = 8192;
/// Bytes of Raft entries sent in one append message.
pub const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Append messages in flight to one follower.
pub const APPEND_INFLIGHT: usize = 256;
/// Recorded answers kept for one session.
pub const ANSWERS_PER_SESSION: usize = 4096;

/// A client session without a sign of life for this long is dead, milliseconds.
pub const SESSION_TTL_MS: u64 = 15_000;
/// How often a client renews its session, milliseconds.
pub const SESSION_RENEW_MS: u64 = 3_000;
/// A session's leases are good for this long from its last renewal, milliseconds.
pub const LEASE_TTL_MS: u64 = 6_000;
/// The MRC waits this much longer than the client's lease time before it expels, milliseconds.
pub const LEASE_MARGIN_MS: u64 = 500;
/// How often a client that holds leases renews its session, milliseconds.
pub const LEASE_RENEW_MS: u64 = 2_000;
/// After a change by another session attribute and name leases of an inode are not given for this long, milliseconds.
pub const LEASE_COOL_MS: u64 = 100;
/// Most leases (inodes) of one session.
pub const LEASES_PER_SESSION: usize = 65_536;
/// Most recalls in one answer.
pub const RECALLS_PER_ANSWER: usize = 1024;
/// How long `AwaitRecalls` waits at most, milliseconds.
pub const RECALL_POLL_MS: u32 = 10_000;
/// How often an OSD renews its lease at the DIR, milliseconds.
pub const OSD_HEARTBEAT_MS: u64 = 225;
/// An OSD silent for this long is down, milliseconds.
pub const OSD_LEASE_MS: u64 = 1_125;
/// Most that an OSD may weigh when new files are placed; 100 is ordinary.
pub const OSD_WEIGHT_MAX: u32 = 1000;
/// How long a capability is valid, milliseconds.
pub const CAPABILITY_TTL_MS: u64 = 600_000;
/// Default deadline of a request, milliseconds.
pub const DEADLINE_DEFAULT_MS: u64 = 30_000;

const _: () = assert!((STRIPE_BYTES_MIN as usize).is_multiple_of(BLOCK_BYTES));
const _: () = assert!(STRIPE_BYTES_MAX as usize <= PAYLOAD_BYTES_MAX);
const _: () = assert!(XATTR_VALUE_BYTES_MAX + 4096 < MESSAGE_BYTES_MAX);
const _: () = assert!(ACL_ENTRIES_MAX * 8 + 4 <= XATTR_VALUE_BYTES_MAX);
const _: () = assert!(SESSION_RENEW_MS * 3 < SESSION_TTL_MS);
const _: () = assert!(LEASE_RENEW_MS * 2 < LEASE_TTL_MS);
const _: () = assert!(LEASE_TTL_MS + LEASE_MARGIN_MS < SESSION_TTL_MS);
const _: () = assert!(OSD_HEARTBEAT_MS * 4 < OSD_LEASE_MS);
const _: () = assert!(APPEND_BYTES_MAX as usize <= MESSAGE_BYTES_MAX);
const _: () = assert!(INFLIGHT_PER_CONNECTION <= ANSWERS_PER_SESSION);
