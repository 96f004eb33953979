//! Lists as text: what getfacl prints and setfacl reads.

use std::fmt::Write;

use super::{Acl, NO_ID, Who};

/// Permissions as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Permissions {
    /// Read 4, write 2, execute 1.
    pub(crate) bits: u8,
    /// `X`: execute for directories, and where somebody may execute already.
    pub(crate) execute_if: bool,
}

/// An entry as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Of the default list.
    pub(crate) default: bool,
    /// Whom it speaks of.
    pub(crate) who: Who,
    /// Missing only in entries that are to be removed.
    pub(crate) permissions: Option<Permissions>,
}

/// Whether entries have to say permissions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wants {
    /// `user:alice:rwx`.
    Permissions,
    /// `user:alice`; permissions may stand there and say nothing.
    Names,
}

/// Whose name it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A user's.
    User,
    /// A group's.
    Group,
}

/// Finds numbers of names.
pub(crate) type Numbers<'a> = &'a dyn Fn(Kind, &str) -> Option<u32>;
/// Finds names of numbers.
pub(crate) type Names<'a> = &'a dyn Fn(Kind, u32) -> Option<String>;

/// Entries of one argument: separated by commas or lines; `#` begins a comment.
pub(crate) fn parse(text: &str, wants: Wants, numbers: Numbers<'_>) -> Result<Vec<Entry>, String> {
    let pieces =
        text.lines().map(|line| line.split('#').next().unwrap_or_default()).flat_map(|line| line.split(','));
    let pieces = pieces.map(str::trim).filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| entry(piece, wants, numbers).map_err(|why| format!("entry {piece:?}: {why}")))
        .collect()
}

fn entry(text: &str, wants: Wants, numbers: Numbers<'_>) -> Result<Entry, String> {
    let mut fields: Vec<&str> = text.split(':').map(str::trim).collect();
    let default = fields.len() > 1 && matches!(fields[0], "default" | "d");
    if default {
        fields.remove(0);
    }
    let named = |kind: Kind| {
        fields.get(1).filter(|name| !name.is_empty()).map(|name| number(kind, name, numbers)).transpose()
    };
    let (who, at) = match fields[0] {
        "user" | "u" => (named(Kind::User)?.map_or(Who::Owner, Who::User), 2),
        "group" | "g" => (named(Kind::Group)?.map_or(Who::OwningGroup, Who::Group), 2),
        // `mask:rx` and `mask::rx` are the same.
        "mask" | "m" => (Who::Mask, single(&fields)),
        "other" | "o" => (Who::Other, single(&fields)),
        word => return Err(format!("{word:?} is none of user, group, mask, other, default")),
    };
    if fields.len() > at + 1 {
        return Err("it has too many colons".to_owned());
    }
    let permissions = match (fields.get(at), wants) {
        (Some(word), Wants::Permissions) => Some(permissions(word)?),
        (None, Wants::Permissions) => {
            return Err("it says no permissions; they follow a colon, as in user:alice:r-x".to_owned());
        }
        (Some(word), Wants::Names) if !word.is_empty() => permissions(word).map(|_| None)?,
        (_, Wants::Names) => None,
    };
    Ok(Entry { default, who, permissions })
}

/// Where the permissions of an entry that names nobody are.
fn single(fields: &[&str]) -> usize {
    if fields.get(1).is_some_and(|field| field.is_empty()) { 2 } else { 1 }
}

fn permissions(word: &str) -> Result<Permissions, String> {
    let mut out = Permissions::default();
    if let [digit @ b'0'..=b'7'] = word.as_bytes() {
        out.bits = digit - b'0';
        return Ok(out);
    }
    if word.is_empty() {
        return Err("it says no permissions; --- takes all away".to_owned());
    }
    for letter in word.chars() {
        let (bit, is_conditional) = match letter {
            'r' => (4, false),
            'w' => (2, false),
            'x' => (1, false),
            'X' => (0, true),
            '-' => continue,
            other => {
                return Err(format!(
                    "{other:?} is none of r, w, x, X, -, nor is {word:?} a digit from 0 to 7"
                ));
            }
        };
        if out.bits & bit != 0 || (is_conditional && out.execute_if) {
            return Err(format!("{letter:?} stands twice in {word:?}"));
        }
        out.bits |= bit;
        out.execute_if |= is_conditional;
    }
    Ok(out)
}

fn number(kind: Kind, name: &str, numbers: Numbers<'_>) -> Result<u32, String> {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        let id = name.parse::<u32>().ok().filter(|id| *id != NO_ID);
        return id.ok_or_else(|| format!("{name} is no number of a user or group"));
    }
    let name = unquote(name);
    numbers(kind, &name).ok_or_else(|| match kind {
        Kind::User => format!("no user is called {name:?} here; its number does as well"),
        Kind::Group => format!("no group is called {name:?} here; its number does as well"),
    })
}

/// `r-x`.
pub(crate) fn letters(bits: u8) -> String {
    let letter = |bit: u8, letter: char| if bits & bit == 0 { '-' } else { letter };
    [letter(4, 'r'), letter(2, 'w'), letter(1, 'x')].iter().collect()
}

/// The tag's word, and the quoted name where there is one.
pub(crate) fn words(who: Who, names: Names<'_>) -> (&'static str, String) {
    let named =
        |kind, id: u32| names(kind, id).map_or_else(|| id.to_string(), |name| quote(&name, ":, \t\n\r"));
    match who {
        Who::Owner => ("user", String::new()),
        Who::User(id) => ("user", named(Kind::User, id)),
        Who::OwningGroup => ("group", String::new()),
        Who::Group(id) => ("group", named(Kind::Group, id)),
        Who::Mask => ("mask", String::new()),
        Who::Other => ("other", String::new()),
    }
}

impl Acl {
    /// A line per entry, as getfacl writes it; with what is left of it where the mask takes something away.
    pub(crate) fn lines(&self, prefix: &str, names: Names<'_>) -> Vec<String> {
        let line = |(who, bits): (Who, u8)| {
            let (word, name) = words(who, names);
            let mut line = format!("{prefix}{word}:{name}:{}", letters(bits));
            let effective = self.effective(who, bits);
            if effective != bits {
                let _ = write!(line, "\t#effective:{}", letters(effective));
            }
            line
        };
        self.entries().map(line).collect()
    }

    /// All in one line: `user::rwx,user:alice:r-x,...`.
    pub(crate) fn short(&self, names: Names<'_>) -> String {
        let entry = |(who, bits): (Who, u8)| {
            let (word, name) = words(who, names);
            format!("{word}:{name}:{}", letters(bits))
        };
        self.entries().map(entry).collect::<Vec<_>>().join(",")
    }
}

/// Characters that would end a name, and backslashes, as `\ooo`.
pub(crate) fn quote(text: &str, special: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            letter if special.contains(letter) => {
                let _ = write!(out, "\\{:03o}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out
}

fn unquote(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| digits.iter().all(|digit| matches!(digit, b'0'..=b'7')));
        let octal = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        (rest, _) = match (first, octal, tail.first()) {
            (b'\\', Some(byte), _) => (&tail[3..], out.push(byte)),
            (b'\\', None, Some(b'\\')) => (&tail[1..], out.push(b'\\')),
            _ => (tail, out.push(*first)),
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(kind: Kind, name: &str) -> Option<u32> {
        match (kind, name) {
            (Kind::User, "alice") => Some(1000),
            (Kind::User, "a:b\\c") => Some(1002),
            (Kind::Group, "dev") => Some(2000),
            _ => None,
        }
    }

    fn names(kind: Kind, id: u32) -> Option<String> {
        let known = [(Kind::User, 1000, "alice"), (Kind::User, 1002, "a:b\\c"), (Kind::Group, 2000, "dev")];
        known.iter().find(|(k, i, _)| (*k, *i) == (kind, id)).map(|(.., name)| (*name).to_owned())
    }

    fn parsed(text: &str) -> Vec<(bool, Who, u8)> {
        let entries = parse(text, Wants::Permissions, &numbers).unwrap();
        entries.iter().map(|entry| (entry.default, entry.who, entry.permissions.unwrap().bits)).collect()
    }

    #[test]
    fn entries_are_understood_as_setfacl_does() {
        assert_eq!(parsed("user:alice:rwx"), [(false, Who::User(1000), 7)]);
        assert_eq!(parsed("u:7:6, g:dev:r-x"), [(false, Who::User(7), 6), (false, Who::Group(2000), 5)]);
        assert_eq!(
            parsed("u::rw,g::r,o::-"),
            [(false, Who::Owner, 6), (false, Who::OwningGroup, 4), (false, Who::Other, 0)]
        );
        assert_eq!(
            parsed("m:rx,mask::r,o:---"),
            [(false, Who::Mask, 5), (false, Who::Mask, 4), (false, Who::Other, 0)]
        );
        assert_eq!(
            parsed("d:u:alice:x,default:other::r"),
            [(true, Who::User(1000), 1), (true, Who::Other, 4)]
        );
        assert_eq!(
            parsed("# file: x\n# owner: root\nuser::rwx\nuser:7:rwx\t#effective:r--\n\n"),
            [(false, Who::Owner, 7), (false, Who::User(7), 7)]
        );
        assert_eq!(parsed(r"u:a\072b\\c:r"), [(false, Who::User(1002), 4)]);
        assert_eq!(parsed(""), []);
        let conditional = parse("u:7:rX", Wants::Permissions, &numbers).unwrap();
        assert_eq!(conditional[0].permissions, Some(Permissions { bits: 4, execute_if: true }));
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (text, why) in [
            ("alice:rwx", "none of user"),
            ("user:alise:rwx", "no user is called \"alise\""),
            ("g:alice:r", "no group is called \"alice\""),
            ("user:alice:rwz", "'z' is none of"),
            ("user:alice:rr", "stands twice"),
            ("user:alice:8", "'8' is none of"),
            ("user:alice", "no permissions"),
            ("user:alice:", "no permissions"),
            ("user", "no permissions"),
            ("mask::", "no permissions"),
            ("user:alice:r:w", "too many colons"),
            ("other:::r", "too many colons"),
            ("default", "none of user"),
            ("u:4294967295:r", "is no number"),
            ("u:99999999999:r", "is no number"),
        ] {
            let told = parse(text, Wants::Permissions, &numbers).unwrap_err();
            assert!(told.contains(why) && told.contains(&format!("entry {text:?}")), "{text}: {told}");
        }
    }

    #[test]
    fn entries_to_remove_need_no_permissions() {
        for text in ["user:alice", "u:alice:", "u:alice:rwx"] {
            let entries = parse(text, Wants::Names, &numbers).unwrap();
            assert_eq!(
                entries,
                [Entry { default: false, who: Who::User(1000), permissions: None }],
                "{text}"
            );
        }
        assert_eq!(parse("mask", Wants::Names, &numbers).unwrap()[0].who, Who::Mask);
        assert!(parse("u:alice:q", Wants::Names, &numbers).is_err());
    }

    #[test]
    fn shown_as_getfacl_shows_it() {
        let mut list = Acl::of_mode(0o751);
        list.0.extend([(Who::User(1000), 7), (Who::Group(5), 1), (Who::Mask, 5)]);
        assert_eq!(
            list.lines("default:", &names),
            [
                "default:user::rwx",
                "default:user:alice:rwx\t#effective:r-x",
                "default:group::r-x",
                "default:group:5:--x",
                "default:mask::r-x",
                "default:other::--x"
            ]
        );
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "[dugmo:, #\n\\rwxX0-9-]{0,40}", other in any::<String>()) {
            for wants in [Wants::Permissions, Wants::Names] {
                let _ = parse(&text, wants, &numbers);
                let _ = parse(&other, wants, &numbers);
            }
        }

        #[test]
        fn what_is_shown_is_understood(mode in 0..0o1000u32, ids in proptest::collection::vec((990..1010u32, 0..8u8), 0..5), mask in 0..8u8) {
            let mut list = Acl::of_mode(mode);
            list.0.extend(ids.iter().map(|(id, bits)| (Who::User(*id), *bits)));
            list.0.insert(Who::Mask, mask);
            let back = parsed(&list.lines("", &names).join("\n"));
            let back: Vec<(Who, u8)> = back.into_iter().map(|(_, who, bits)| (who, bits)).collect();
            prop_assert_eq!(back, list.entries().collect::<Vec<_>>());
            prop_assert_eq!(parsed(&list.short(&names)).len(), list.0.len());
        }

        #[test]
        fn quoting_is_undone(name in "[a-z:, \t\\\\0-9]{0,12}") {
            prop_assert_eq!(unquote(&quote(&name, ":, \t\n\r")), name);
        }
    }
}
