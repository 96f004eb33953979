//! Attributes that were set here under a lease for writing, and that the MRC does not know yet.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use proto::mrc::{ACL_ACCESS, Attr, KeptAttributes, Time, kind};

use crate::volume::attrs::{Changes, NewTime};

/// Bits of a mode that say what a file may do on its own.
const SETID: u32 = 0o6000;
/// A caller's "unchanged" for owner and group, as in chown(2).
const UNCHANGED: u32 = u32::MAX;

/// What `changes` mean for a file or a directory with these attributes, when its writer may answer that alone: rights and times, and an owner that
/// stays. The rest has rules of the MRC's (quotas, setuid, flags). `now`: for times that are to be the present one.
#[must_use]
pub fn keep(attr: &Attr, changes: &Changes, now: Time, epoch: u64) -> Option<KeptAttributes> {
    let stays = |new: Option<u32>, old: u32| new.is_none_or(|new| new == old || new == UNCHANGED);
    let kind = attr.mode >> 12;
    // Of a directory these bits say what is made in it.
    let marked = kind == kind::DIR && changes.mode.is_some_and(|mode| mode & SETID != 0);
    let plain = matches!(kind, kind::FILE | kind::DIR) && !marked;
    let plain = plain && attr.nlink > 0 && attr.flags == 0 && attr.mode & SETID == 0;
    let known = changes.size.is_none() && changes.flags.is_none();
    if !plain || !known || !stays(changes.uid, attr.uid) || !stays(changes.gid, attr.gid) {
        return None;
    }
    let time = |time: Option<NewTime>| match time {
        Some(NewTime::Now) => Some(now),
        Some(NewTime::At(time)) => Some(time),
        None => None,
    };
    let kept = KeptAttributes {
        mode: changes.mode,
        atime: time(changes.atime),
        mtime: time(changes.mtime),
        ctime: now,
        chown: changes.uid.is_some() || changes.gid.is_some(),
        epoch,
        plain_acl: false,
    };
    let valid = |time: &Time| time.nanos < 1_000_000_000;
    [kept.atime, kept.mtime].iter().flatten().all(valid).then_some(kept)
}

/// What the value of an access control list means when it says no more than a mode does: what cp(1) gives to its copy.
#[must_use]
pub fn keep_plain_acl(attr: &Attr, value: &[u8], now: Time, epoch: u64) -> Option<KeptAttributes> {
    const VERSION: [u8; 4] = [2, 0, 0, 0];
    let mut bits = 0;
    let (version, entries) = value.split_first_chunk::<4>()?;
    if *version != VERSION || entries.len() != 24 {
        return None;
    }
    for (entry, (tag, shift)) in entries.chunks_exact(8).zip([(1, 6), (4, 3), (32, 0)]) {
        let permissions = u32::from(entry[2]);
        if entry[..2] != [tag, 0] || permissions > 7 || entry[3] != 0 {
            return None;
        }
        bits |= permissions << shift;
    }
    let changes = Changes { mode: Some(attr.mode & 0o7000 | bits), ..Changes::default() };
    Some(KeptAttributes { plain_acl: true, ..keep(attr, &changes, now, epoch)? })
}

/// Whether writes may come after it before it is told: it changes nothing but the time of the change, which they make a later one. (A program that
/// gives each of its files the owner that it has, as SQLite does for root.)
#[must_use]
pub fn may_be_overtaken(kept: &KeptAttributes) -> bool {
    kept.mode.is_none() && kept.atime.is_none() && kept.mtime.is_none() && !kept.plain_acl
}

/// The one after the other.
#[must_use]
pub fn join(earlier: Option<KeptAttributes>, later: KeptAttributes) -> KeptAttributes {
    let Some(earlier) = earlier.filter(|earlier| earlier.epoch == later.epoch) else { return later };
    KeptAttributes {
        mode: later.mode.or(earlier.mode),
        atime: later.atime.or(earlier.atime),
        mtime: later.mtime.or(earlier.mtime),
        ctime: later.ctime.max(earlier.ctime),
        chown: later.chown || earlier.chown,
        epoch: later.epoch,
        plain_acl: later.plain_acl || earlier.plain_acl,
    }
}

/// As whoever asks here sees it.
pub fn show(kept: &KeptAttributes, attr: &mut Attr) {
    if let Some(mode) = kept.mode {
        attr.mode = attr.mode >> 12 << 12 | mode & 0o7777;
    }
    if kept.plain_acl {
        attr.acl &= !ACL_ACCESS;
    }
    attr.atime = kept.atime.unwrap_or(attr.atime);
    attr.mtime = kept.mtime.unwrap_or(attr.mtime);
    attr.ctime = attr.ctime.max(kept.ctime);
}

/// Words of a label of the stage.
pub const WORDS: usize = 6;
const HAS: u64 = 1;
const MODE: u64 = 2;
const ATIME: u64 = 4;
const MTIME: u64 = 8;
const CHOWN: u64 = 16;
const PLAIN_ACL: u64 = 32;

/// For a label; its epoch is there already.
#[must_use]
pub fn encode(kept: Option<&KeptAttributes>) -> [u64; WORDS] {
    let Some(kept) = kept else { return [0; WORDS] };
    let flag = |is: bool, bit| if is { bit } else { 0 };
    let (atime, mtime) = (kept.atime.unwrap_or_default(), kept.mtime.unwrap_or_default());
    let flags = HAS
        | flag(kept.mode.is_some(), MODE)
        | flag(kept.atime.is_some(), ATIME)
        | flag(kept.mtime.is_some(), MTIME)
        | flag(kept.chown, CHOWN)
        | flag(kept.plain_acl, PLAIN_ACL);
    [
        flags | u64::from(kept.mode.unwrap_or(0)) << 32,
        atime.seconds.cast_unsigned(),
        mtime.seconds.cast_unsigned(),
        u64::from(atime.nanos) | u64::from(mtime.nanos) << 32,
        kept.ctime.seconds.cast_unsigned(),
        u64::from(kept.ctime.nanos),
    ]
}

/// From a label of `epoch`.
#[must_use]
pub fn decode(words: [u64; WORDS], epoch: u64) -> Option<KeptAttributes> {
    let [flags, atime, mtime, nanos, ctime, ctime_nanos] = words;
    let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).expect("half a word");
    let time = |seconds: u64, nanos: u32| Time { seconds: seconds.cast_signed(), nanos };
    (flags & HAS != 0).then(|| KeptAttributes {
        mode: (flags & MODE != 0).then(|| half(flags >> 32)),
        atime: (flags & ATIME != 0).then(|| time(atime, half(nanos))),
        mtime: (flags & MTIME != 0).then(|| time(mtime, half(nanos >> 32))),
        ctime: time(ctime, half(ctime_nanos)),
        chown: flags & CHOWN != 0,
        plain_acl: flags & PLAIN_ACL != 0,
        epoch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time { seconds, nanos: 7 }
    }

    fn file() -> Attr {
        Attr {
            mode: kind::FILE << 12 | 0o600,
            nlink: 1,
            uid: 5,
            gid: 6,
            mtime: at(9),
            ctime: at(9),
            ..Attr::default()
        }
    }

    #[test]
    fn what_only_the_mrc_may_decide_is_not_kept() {
        let chmod = Changes { mode: Some(0o644), ..Changes::default() };
        let keeps = |attr: &Attr, changes: &Changes| keep(attr, changes, at(10), 3).is_some();
        assert!(keeps(&file(), &chmod));
        assert!(keeps(&file(), &Changes { uid: Some(5), gid: Some(UNCHANGED), ..chmod }));
        for changes in [
            Changes { uid: Some(6), ..chmod },
            Changes { gid: Some(7), ..chmod },
            Changes { size: Some(0), ..chmod },
            Changes { flags: Some(16), ..chmod },
            Changes { mtime: Some(NewTime::At(Time { seconds: 1, nanos: 1_000_000_000 })), ..chmod },
        ] {
            assert!(!keeps(&file(), &changes), "{changes:?}");
        }
        for attr in [
            Attr { mode: kind::FILE << 12 | 0o4755, ..file() },
            Attr { mode: kind::SYMLINK << 12 | 0o777, ..file() },
            Attr { mode: kind::DIR << 12 | 0o2755, ..file() },
            Attr { flags: 16, ..file() },
            Attr { nlink: 0, ..file() },
        ] {
            assert!(!keeps(&attr, &chmod), "{attr:?}");
        }
        let directory = Attr { mode: kind::DIR << 12 | 0o1755, ..file() };
        assert!(keeps(&directory, &chmod));
        assert!(
            !keeps(&directory, &Changes { mode: Some(0o2755), ..chmod }),
            "what is made in it gets its group"
        );
    }

    #[test]
    fn an_owner_that_stays_may_be_overtaken_by_writes() {
        let chown = Changes { uid: Some(5), gid: Some(6), ..Changes::default() };
        let overtaken = |changes: &Changes| may_be_overtaken(&keep(&file(), changes, at(10), 3).unwrap());
        assert!(overtaken(&chown));
        assert!(!overtaken(&Changes { mode: Some(0o644), ..chown }));
        assert!(!overtaken(&Changes { mtime: Some(NewTime::Now), ..chown }));
        assert!(!overtaken(&Changes { atime: Some(NewTime::Now), ..chown }));
    }

    #[test]
    fn a_list_that_says_no_more_than_a_mode_is_one() {
        let list = |entries: &[[u8; 8]]| [&[2, 0, 0, 0][..], &entries.concat()].concat();
        let entry = |tag, permissions| [tag, 0, permissions, 0, 255, 255, 255, 255];
        let plain = list(&[entry(1, 6), entry(4, 4), entry(32, 0)]);
        let kept = keep_plain_acl(&file(), &plain, at(10), 3).unwrap();
        assert_eq!((kept.mode, kept.plain_acl), (Some(0o640), true));
        let mut attr = Attr { acl: ACL_ACCESS, ..file() };
        show(&kept, &mut attr);
        assert_eq!((attr.acl, attr.mode & 0o7777), (0, 0o640));
        for other in [
            list(&[entry(1, 6), entry(2, 4), entry(4, 4), entry(16, 6), entry(32, 0)]),
            list(&[entry(1, 6), entry(4, 8), entry(32, 0)]),
            list(&[entry(4, 6), entry(1, 4), entry(32, 0)]),
            list(&[entry(1, 6), entry(4, 4)]),
            plain[1..].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(keep_plain_acl(&file(), &other, at(10), 3), None, "{other:?}");
        }
    }

    #[test]
    fn later_ones_count_and_the_rest_stays() {
        let times =
            Changes { atime: Some(NewTime::Now), mtime: Some(NewTime::At(at(1))), ..Changes::default() };
        let first = keep(&file(), &times, at(10), 3).unwrap();
        let second = keep(&file(), &Changes { mode: Some(0o751), ..Changes::default() }, at(11), 3).unwrap();
        let both = join(Some(first), second);
        let mut attr = file();
        show(&both, &mut attr);
        assert_eq!((attr.mode & 0o7777, attr.mode >> 12), (0o751, kind::FILE));
        assert_eq!((attr.atime, attr.mtime, attr.ctime), (at(10), at(1), at(11)));
        // What was kept in a session that ended is nobody's.
        let other = KeptAttributes { epoch: 4, ..second };
        assert_eq!(join(Some(first), other), other);
    }

    #[test]
    fn labels_say_it_again() {
        let all = KeptAttributes {
            mode: Some(0o751),
            atime: Some(Time { seconds: -5, nanos: 999_999_999 }),
            mtime: Some(Time { seconds: i64::MAX, nanos: 1 }),
            ctime: at(3),
            chown: true,
            epoch: 8,
            plain_acl: true,
        };
        let few = KeptAttributes { mode: None, atime: None, chown: false, ..all };
        for kept in [Some(all), Some(few), None] {
            assert_eq!(decode(encode(kept.as_ref()), 8), kept);
        }
    }
}
