//! Requests as the kernel lays them out, and as it never would.

use proptest::prelude::*;

use super::super::fields::Put;
use super::*;

const EXT: Layout = Layout { setxattr_ext: true };

/// A request's header and arguments, one behind the other.
fn request(opcode: u32, extension_words: u16, arguments: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(40 + u32::try_from(arguments.len()).unwrap());
    out.put_u32(opcode);
    out.put_u64(0x1234);
    out.put_u64(77);
    for word in [1000, 100, 4242] {
        out.put_u32(word);
    }
    out.put_u16(extension_words);
    out.put_u16(0);
    out.extend_from_slice(arguments);
    out
}

/// The same request over both transports.
fn parse(opcode: u32, fixed: &[u8], rest: &[u8], layout: Layout) -> Option<Operation<'static>> {
    let whole = request(opcode, 0, &[fixed, rest].concat()).leak();
    let (header, len) = Header::parse(whole).unwrap();
    assert_eq!((len, header.unique, header.node, header.pid), (whole.len(), 0x1234, 77, 4242));
    let together = Parsed::parse(&header, Arguments::Together(&whole[40..]), layout);
    let mut first = [0; 128];
    first[..fixed.len()].copy_from_slice(fixed);
    let apart = Arguments::Apart { first: Vec::from(first).leak(), rest: rest.to_vec().leak() };
    assert_eq!(together, Parsed::parse(&header, apart, layout), "both transports say the same");
    together.map(|parsed| parsed.operation)
}

/// Numbers of 4 or 8 bytes behind one another.
enum Word {
    W4(u32),
    W8(u64),
}
use Word::{W4, W8};

fn words(words: impl IntoIterator<Item = Word>) -> Vec<u8> {
    let mut out = Vec::new();
    for word in words {
        match word {
            W4(value) => out.put_u32(value),
            W8(value) => out.put_u64(value),
        }
    }
    out
}

#[test]
fn names_and_their_structures_are_read() {
    let is = |opcode, fixed: Vec<u8>, rest: &[u8], wanted| {
        assert_eq!(parse(opcode, &fixed, rest, EXT), Some(wanted));
    };
    is(1, vec![], b"abc\0", Operation::Lookup { name: b"abc" });
    is(6, vec![], b"n\0t/u\0", Operation::Symlink { name: b"n", target: b"t/u" });
    is(
        8,
        words([W4(5), W4(6), W4(7), W4(0)]),
        b"n\0",
        Operation::MkNod { name: b"n", mode: 5, rdev: 6, umask: 7 },
    );
    is(9, words([W4(5), W4(6)]), b"n\0", Operation::MkDir { name: b"n", mode: 5, umask: 6 });
    let moved = |flags| Operation::Rename { name: b"a", new_parent: 8, new_name: b"b", flags };
    is(12, words([W8(8)]), b"a\0b\0", moved(0));
    is(45, words([W8(8), W4(2), W4(0)]), b"a\0b\0", moved(2));
    is(13, words([W8(9)]), b"n\0", Operation::Link { ino: 9, name: b"n" });
    let made = Create { name: b"n", mode: 6, umask: 7, flags: 5, clear_setid: true };
    is(35, words([W4(5), W4(6), W4(7), W4(1)]), b"n\0", Operation::Create(made));
    is(51, words([W4(5), W4(6), W4(7), W4(1)]), b"n\0", Operation::TmpFile(made));
    let page = words([W8(1), W8(2), W4(3), W4(0), W8(0), W4(0), W4(0)]);
    is(28, page.clone(), b"", Operation::ReadDir { handle: 1, offset: 2, size: 3, with_attrs: false });
    is(44, page, b"", Operation::ReadDir { handle: 1, offset: 2, size: 3, with_attrs: true });
    is(29, words([W8(1), W4(0), W4(0), W8(0)]), b"", Operation::ReleaseDir { handle: 1 });
    is(30, words([W8(1), W4(1), W4(0)]), b"", Operation::FsyncDir { datasync: true });
    assert_eq!(parse(1, &[], b"no end", EXT), None);
    assert_eq!(parse(45, &words([W8(8)]), b"", EXT), None);
}

#[test]
fn files_are_read() {
    let is = |opcode, fixed: Vec<u8>, rest: &[u8], wanted| {
        assert_eq!(parse(opcode, &fixed, rest, EXT), Some(wanted));
    };
    is(14, words([W4(5), W4(1)]), b"", Operation::Open { flags: 5, clear_setid: true });
    let io = |size, flags| words([W8(1), W8(2), W4(size), W4(flags), W8(9), W4(7), W4(0)]);
    is(15, io(3, 0), b"", Operation::Read { handle: 1, offset: 2, size: 3, flags: 7 });
    let data = b"xyz";
    let how = Writing { clear_setid: true, from_cache: false, resent: false };
    is(16, io(3, 4), data, Operation::Write { handle: 1, offset: 2, flags: 7, how, data });
    let how = Writing { clear_setid: false, from_cache: true, resent: false };
    is(16, io(3, 1), data, Operation::Write { handle: 1, offset: 2, flags: 7, how, data });
    assert_eq!(parse(16, &io(4, 0), b"xyz", EXT), None, "less data than announced");
    is(18, words([W8(1), W4(2), W4(3), W8(4)]), b"", Operation::Release { handle: 1, flock: Some(4) });
    is(18, words([W8(1), W4(2), W4(1), W8(4)]), b"", Operation::Release { handle: 1, flock: None });
    is(20, words([W8(1), W4(1), W4(0)]), b"", Operation::Fsync { handle: 1, datasync: true });
    is(25, words([W8(1), W4(0), W4(0), W8(4)]), b"", Operation::Flush { handle: 1, owner: 4 });
    let lock = Lock { handle: 1, owner: 2, start: 3, end: 4, kind: 1, pid: 6, flock: true };
    let asked = words([W8(1), W8(2), W8(3), W8(4), W4(1), W4(6), W4(1), W4(0)]);
    is(31, asked.clone(), b"", Operation::GetLock(lock));
    is(32, asked.clone(), b"", Operation::SetLock { lock, wait: false });
    is(33, asked, b"", Operation::SetLock { lock, wait: true });
    let ioctl = words([W8(1), W4(0), W4(0x6601), W8(9), W4(4), W4(8)]);
    is(39, ioctl, b"abcd", Operation::Ioctl { command: 0x6601, input: b"abcd", out_size: 8 });
    is(40, words([W8(1), W8(2), W4(3), W4(4)]), b"", Operation::Poll { events: 4 });
    let space = Operation::Fallocate { handle: 1, offset: 2, length: 3, mode: 4 };
    is(43, words([W8(1), W8(2), W8(3), W4(4), W4(0)]), b"", space);
    let seek = Operation::Lseek { handle: 1, offset: -1, whence: 3 };
    is(46, words([W8(1), W8(u64::MAX), W4(3), W4(0)]), b"", seek);
    let copy = |wide| Operation::CopyFileRange {
        from: Place { ino: 77, handle: 1, offset: 2 },
        to: Place { ino: 3, handle: 4, offset: 5 },
        length: 6,
        wide,
    };
    let asked = words([W8(1), W8(2), W8(3), W8(4), W8(5), W8(6), W8(0)]);
    is(47, asked.clone(), b"", copy(false));
    is(53, asked, b"", copy(true));
}

#[test]
fn attributes_and_control_are_read() {
    let is = |opcode, fixed: Vec<u8>, rest: &[u8], wanted| {
        assert_eq!(parse(opcode, &fixed, rest, EXT), Some(wanted));
    };
    is(3, words([W4(1), W4(0), W8(9)]), b"", Operation::GetAttr { handle: Some(9) });
    is(3, words([W4(0), W4(0), W8(9)]), b"", Operation::GetAttr { handle: None });
    is(52, words([W4(1), W4(0), W8(9), W4(0), W4(0)]), b"", Operation::Statx { handle: Some(9) });
    let valid = fattr::MODE | fattr::ATIME | fattr::MTIME | fattr::MTIME_NOW | fattr::KILL_SUIDGID;
    let times = [W8(u64::MAX), W8(2), W8(3), W4(4), W4(5), W4(6)];
    let front = [W4(valid), W4(0), W8(9), W8(10), W8(11)];
    let back = [W4(0o644), W4(0), W4(1), W4(2), W4(0)];
    let wanted = SetAttr {
        mode: Some(0o644),
        atime: Some(SetTime::At(-1, 4)),
        mtime: Some(SetTime::Now),
        clear_setid: true,
        ..SetAttr::default()
    };
    is(4, words(front.into_iter().chain(times).chain(back)), b"", Operation::SetAttr(wanted));
    let set = Operation::SetXattr { name: b"user.a", value: b"vw", flags: 1, clear_setgid: false };
    is(21, words([W4(2), W4(1), W4(0), W4(0)]), b"user.a\0vw", set);
    let kills = Operation::SetXattr { name: b"user.a", value: b"vw", flags: 1, clear_setgid: true };
    is(21, words([W4(2), W4(1), W4(1), W4(0)]), b"user.a\0vw", kills);
    let old = Layout { setxattr_ext: false };
    assert_eq!(parse(21, &words([W4(2), W4(1)]), b"user.a\0vw", old), Some(set));
    is(22, words([W4(2), W4(0)]), b"user.a\0", Operation::GetXattr { name: b"user.a", size: 2 });
    is(50, words([W8(0)]), b"", Operation::SyncFs);
    is(36, words([W8(6)]), b"", Operation::Interrupt { unique: 6 });
    is(38, vec![], b"", Operation::Destroy);
    is(48, vec![1], b"", Operation::Unknown);
    is(4096, vec![], b"", Operation::Unknown);
    let flags = abi::init::INIT_EXT | abi::init::ALLOW_IDMAP;
    let init = |flags| Operation::Init(InitIn { major: 7, minor: 45, max_readahead: 9, flags });
    let front = words([W4(7), W4(45), W4(9), W4((flags & 0xffff_ffff) as u32)]);
    is(26, front, &words([W4((flags >> 32) as u32)]), init(flags));
    is(26, words([W4(7), W4(45), W4(9), W4(1)]), b"", init(1));
}

#[test]
fn supplementary_groups_are_found_behind_other_extensions() {
    let label = words([W4(16), W4(1), W8(0)]); // a security label
    let groups = words([W4(20), W4(abi::EXT_GROUPS), W4(2), W4(27), W4(28), W4(0)]);
    let extensions = [label, groups].concat();
    let arguments = [&words([W4(5), W4(6)])[..], b"name\0", &extensions].concat();
    let bytes = request(9, u16::try_from(extensions.len() / 8).unwrap(), &arguments);
    let (header, _) = Header::parse(&bytes).unwrap();
    let parsed = Parsed::parse(&header, Arguments::Together(&bytes[40..]), EXT).unwrap();
    assert_eq!(parsed.operation, Operation::MkDir { name: b"name", mode: 5, umask: 6 });
    assert_eq!(parsed.groups, [27, 28]);
    let cut = request(9, 100, &arguments);
    let (header, _) = Header::parse(&cut).unwrap();
    assert_eq!(Parsed::parse(&header, Arguments::Together(&cut[40..]), EXT), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        opcode in prop_oneof![0u32..60, any::<u32>()],
        words in prop_oneof![Just(0u16), 0u16..12, any::<u16>()],
        ext in any::<bool>(),
    ) {
        let _ = Header::parse(&bytes);
        let layout = Layout { setxattr_ext: ext };
        let whole = request(opcode, words, &bytes);
        let (header, _) = Header::parse(&whole).unwrap();
        let _ = Parsed::parse(&header, Arguments::Together(&bytes), layout);
        let cut = bytes.len().min(128);
        let _ = Parsed::parse(&header, Arguments::Apart { first: &bytes[..cut], rest: &bytes[cut..] }, layout);
    }

    #[test]
    fn writes_come_back_as_they_were(
        data in prop::collection::vec(any::<u8>(), 0..5000),
        handle in any::<u64>(), offset in any::<u64>(), flags in any::<i32>(), clear_setid in any::<bool>(),
    ) {
        let how = if clear_setid { abi::WRITE_KILL_SUIDGID } else { 0 };
        let size = u32::try_from(data.len()).unwrap();
        let fixed = super::tests::words([
            W8(handle), W8(offset), W4(size), W4(how), W8(3), W4(flags.cast_unsigned()), W4(0),
        ]);
        let how = Writing { clear_setid, from_cache: false, resent: false };
        let wanted = Operation::Write { handle, offset, flags, how, data: &data };
        prop_assert_eq!(parse(opcode::WRITE, &fixed, &data, EXT), Some(wanted));
    }

    #[test]
    fn names_come_back_as_they_were(name in "[^\0]{0,255}", new_name in "[^\0]{0,255}", parent in any::<u64>()) {
        let rest = [name.as_bytes(), b"\0", new_name.as_bytes(), b"\0"].concat();
        let fixed = super::tests::words([W8(parent), W4(1), W4(0)]);
        let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
        let wanted = Operation::Rename { name, new_parent: parent, new_name, flags: 1 };
        prop_assert_eq!(parse(opcode::RENAME2, &fixed, &rest, EXT), Some(wanted));
    }
}
