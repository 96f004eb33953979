//! The query language: what it accepts, what it says of what it does not, and that nothing breaks it.
#![allow(clippy::unwrap_used, reason = "tests may fail")]

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;
use proto::mrc::{Attr, Time, kind};
use proto::query::{Comparison, Field, Query, Subject, Value, glob_matches};

struct File {
    attr: Attr,
    name: &'static str,
    xattrs: BTreeMap<&'static str, &'static str>,
}

impl Subject for File {
    type Error = Infallible;

    fn attr(&self) -> &Attr {
        &self.attr
    }

    fn name(&mut self) -> Result<Vec<u8>, Infallible> {
        Ok(self.name.into())
    }

    fn xattr(&mut self, name: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.xattrs.get(name).map(|value| (*value).into()))
    }
}

const NOW: i64 = 1_795_000_000;

fn file() -> File {
    let mtime = Time { seconds: NOW - 3 * 86_400, nanos: 0 };
    File {
        attr: Attr {
            ino: 9,
            mode: kind::FILE << 12 | 0o640,
            nlink: 1,
            uid: 1000,
            gid: 100,
            size: 2 << 20,
            blocks: 8,
            mtime,
            ..Attr::default()
        },
        name: "a report.log",
        xattrs: BTreeMap::from([("user.project", "blue whale")]),
    }
}

fn holds(text: &str) -> bool {
    Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).holds(&mut file(), NOW).unwrap()
}

#[test]
fn conditions_hold_or_do_not() {
    for text in [
        "name == \"*.log\"",
        "name='a report*'",
        "size > 1M && size<=2M",
        "size >= 2097152",
        "allocated < 1M",
        "allocated == 4K",
        "type == file",
        "type != dir",
        "uid == 1000 && gid==100",
        "owner != 0",
        "mode == 640",
        "mtime < now-2d && mtime > now-1w",
        "mtime > 2026-11-01 && mtime < 2026-12-01T00:00:00Z",
        "mtime > @1",
        "user.project",
        "user.project == \"blue*\"",
        "user.project != red",
        "!user.other && !(size < 1K || links > 1)",
        "size < 1 || links == 1 && ino == 9",
    ] {
        assert!(holds(text), "{text}");
    }
    for text in [
        "name != \"*.log\"",
        "size < 1M",
        "user.other",
        "user.other != x",
        "!user.project",
        "mtime > now-1h",
        "(size < 1 || links == 1) && ino == 8",
        "owner == \"nobody-resolved-me\"",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn faults_are_named_with_their_place() {
    for (text, at, part) in [
        ("", 1, "a condition"),
        ("size >", 7, "a value"),
        ("size ~ 3", 6, "means nothing"),
        ("size > big", 8, "64K"),
        ("colour == red", 1, "no field \"colour\""),
        ("name == *.rs", 9, "quotes"),
        ("name < x", 6, "== or !="),
        ("(size > 1", 10, "`)`"),
        ("size > 1 size < 2", 10, "&&"),
        ("size > 1 & links == 1", 10, "twice"),
        ("name == \"x", 9, "not closed"),
        ("mtime > yesterday", 9, "now-7d"),
        ("mode == 9", 9, "octal"),
        ("size > 99999999T", 8, "too large"),
        ("type == door", 9, "symlink"),
    ] {
        let error = Query::parse(text).unwrap_err();
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.why.contains(part), "{text}: {error}");
    }
    assert!(Query::parse(&"!".repeat(1000)).is_err());
    assert!(Query::parse(&"(".repeat(4000)).is_err());
    assert!(Query::parse(&"size>1||".repeat(200)).is_err());
}

#[test]
fn names_become_numbers() {
    let query = Query::parse("owner == alice || !(group != \"staff\")").unwrap();
    let known = |is_group: bool, name: &str| match (is_group, name) {
        (false, "alice") => Ok(7),
        (true, "staff") => Ok(50),
        _ => Err(()),
    };
    assert_eq!(query.resolve(&known).unwrap().to_string(), "(owner == 7 || !(group != 50))");
    assert!(Query::parse("owner == bob").unwrap().resolve(&known).is_err());
}

fn query() -> impl Strategy<Value = Query> {
    let comparison = prop_oneof![
        Just(Comparison::Equal),
        Just(Comparison::NotEqual),
        Just(Comparison::Less),
        Just(Comparison::LessOrEqual),
        Just(Comparison::Greater),
        Just(Comparison::GreaterOrEqual),
    ];
    let number =
        (comparison.clone(), 0..i64::MAX).prop_map(|(c, n)| Query::Number(Field::Size, c, Value::Number(n)));
    let mode =
        (comparison.clone(), 0..0o7777i64).prop_map(|(c, n)| Query::Number(Field::Mode, c, Value::Number(n)));
    let time = (comparison.clone(), any::<i64>())
        .prop_map(|(c, n)| Query::Number(Field::Btime, c, Value::Number(n)));
    let ago = (comparison, 0..i64::MAX).prop_map(|(c, n)| Query::Number(Field::Mtime, c, Value::Ago(n)));
    let leaf = prop_oneof![
        number,
        mode,
        time,
        ago,
        (".{0,12}", any::<bool>()).prop_map(|(glob, same)| Query::Name(glob, same)),
        any::<bool>().prop_map(|same| Query::Type(kind::SYMLINK, same)),
        "[a-z.]{1,8}".prop_map(|name| Query::Has(format!("user.{name}"))),
        ("[a-z]{1,8}", ".{0,12}", any::<bool>()).prop_map(|(name, glob, same)| Query::Attribute(
            format!("user.{name}"),
            glob,
            same
        )),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Query::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Query::Or(Box::new(a), Box::new(b))),
            inner.prop_map(|a| Query::Not(Box::new(a))),
        ]
    })
}

/// The obvious matcher, exponential.
fn slow(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if slow(rest, text) => true,
        (Some((b'*', _)), Some((_, tail))) => slow(pattern, tail),
        (Some((b'?', rest)), Some((_, tail))) => slow(rest, tail),
        (Some((p, rest)), Some((t, tail))) => p == t && slow(rest, tail),
        _ => false,
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in ".{0,80}") {
        if let Ok(query) = Query::parse(&text) {
            let _ = query.holds(&mut file(), NOW);
        }
    }

    #[test]
    fn nearly_sound_text_does_not_either(text in "[a-z0-9.=<>!&|()\" *@-]{0,60}") {
        if let Ok(query) = Query::parse(&text) {
            prop_assert_eq!(Query::parse(&query.to_string()).unwrap(), query);
        }
    }

    #[test]
    fn what_is_printed_parses_to_the_same(query in query()) {
        prop_assert_eq!(Query::parse(&query.to_string()).map_err(|error| format!("{query}: {error}")), Ok(query));
    }

    #[test]
    fn globs_agree_with_the_obvious_matcher(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
        prop_assert_eq!(glob_matches(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
    }
}
