//! Queries on attributes, as `xtfs find` and an MRC understand them: one text form, parsed by both.
//!
//! ```text
//! name == "*.log" && (size > 1M || user.project) && mtime < now-7d && owner != 0
//! ```
//! Fields: `name` (glob), `type`, `size`, `allocated`, `links`, `mode`, `owner`, `group`, `ino`, `atime`, `mtime`, `ctime`, `btime`,
//! `user.NAME` (an extended attribute: glob; alone: it exists). Operators: `== != < <= > >= && || !` and parentheses.
//! Sizes take K, M, G, T (powers of 1024). Times: `now`, `now-7d` (s, m, h, d, w), `@SECONDS`, `2026-11-21`,
//! `2026-11-21T10:00:00Z`. Numbers of users; names are the tool's business ([`Query::resolve`]).

mod glob;
mod lexer;
mod parser;

use std::fmt;

pub use glob::matches as glob_matches;

use crate::mrc::{Attr, kind};

/// Longest text of a query, bytes.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Comparisons in one query.
pub const TERMS_MAX: usize = 64;
/// Deepest nesting.
pub const DEPTH_MAX: usize = 32;

/// What is wrong with a query, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {why}")]
pub struct QueryError {
    /// Characters before the fault, from 1.
    pub at: usize,
    /// What is wrong and what would be right.
    pub why: String,
}

/// A number that an inode has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Size, bytes.
    Size,
    /// Allocated, bytes.
    Allocated,
    /// Hard links.
    Links,
    /// Permission bits; written in octal.
    Mode,
    /// Owner.
    Owner,
    /// Group.
    Group,
    /// Inode number.
    Ino,
    /// Last access.
    Atime,
    /// Last change of content.
    Mtime,
    /// Last change of attributes.
    Ctime,
    /// Birth.
    Btime,
}

const FIELDS: [(&str, Field); 11] = [
    ("size", Field::Size),
    ("allocated", Field::Allocated),
    ("links", Field::Links),
    ("mode", Field::Mode),
    ("owner", Field::Owner),
    ("group", Field::Group),
    ("ino", Field::Ino),
    ("atime", Field::Atime),
    ("mtime", Field::Mtime),
    ("ctime", Field::Ctime),
    ("btime", Field::Btime),
];

const TYPES: [(&str, u32); 7] = [
    ("file", kind::FILE),
    ("directory", kind::DIR),
    ("symlink", kind::SYMLINK),
    ("fifo", kind::FIFO),
    ("socket", kind::SOCKET),
    ("block", kind::BLOCK),
    ("char", kind::CHAR),
];

impl Field {
    fn is_time(self) -> bool {
        matches!(self, Self::Atime | Self::Mtime | Self::Ctime | Self::Btime)
    }

    fn is_id(self) -> bool {
        matches!(self, Self::Owner | Self::Group)
    }

    fn of(self, attr: &Attr) -> i64 {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        match self {
            Self::Size => number(attr.size),
            Self::Allocated => number(attr.blocks.saturating_mul(512)),
            Self::Links => attr.nlink.into(),
            Self::Mode => (attr.mode & 0o7777).into(),
            Self::Owner => attr.uid.into(),
            Self::Group => attr.gid.into(),
            Self::Ino => number(attr.ino),
            Self::Atime => attr.atime.seconds,
            Self::Mtime => attr.mtime.seconds,
            Self::Ctime => attr.ctime.seconds,
            Self::Btime => attr.btime.seconds,
        }
    }
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the usual six")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, left: i64, right: i64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// What a number is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number, or seconds since 1970.
    Number(i64),
    /// Seconds before the moment of asking.
    Ago(i64),
    /// A user's or group's name, to be resolved.
    Name(String),
}

/// A query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// A number.
    Number(Field, Comparison, Value),
    /// The name matches (or not) a glob.
    Name(String, bool),
    /// The type is (or is not).
    Type(u32, bool),
    /// An attribute of that full name exists.
    Has(String),
    /// An attribute's value matches (or not) a glob; an attribute that is not there does neither.
    Attribute(String, String, bool),
    /// Both.
    And(Box<Query>, Box<Query>),
    /// Either.
    Or(Box<Query>, Box<Query>),
    /// Not.
    Not(Box<Query>),
}

/// What a query looks at; asked only for what it needs.
pub trait Subject {
    /// Why it could not be read.
    type Error;
    /// Attributes.
    fn attr(&self) -> &Attr;
    /// The name.
    fn name(&mut self) -> Result<Vec<u8>, Self::Error>;
    /// An extended attribute.
    fn xattr(&mut self, name: &str) -> Result<Option<Vec<u8>>, Self::Error>;
}

impl Query {
    /// Parses a query.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parser::parse(text)
    }

    /// Whether it holds. `now_s`: seconds since 1970.
    pub fn holds<S: Subject>(&self, subject: &mut S, now_s: i64) -> Result<bool, S::Error> {
        Ok(match self {
            Self::Number(field, comparison, value) => {
                let right = match value {
                    Value::Number(number) => *number,
                    Value::Ago(seconds) => now_s.saturating_sub(*seconds),
                    // No number has an unresolved name.
                    Value::Name(_) => return Ok(*comparison == Comparison::NotEqual),
                };
                comparison.holds(field.of(subject.attr()), right)
            }
            Self::Name(glob, wanted) => glob::matches(glob.as_bytes(), &subject.name()?) == *wanted,
            Self::Type(wanted, same) => (subject.attr().mode >> 12 == *wanted) == *same,
            Self::Has(name) => subject.xattr(name)?.is_some(),
            Self::Attribute(name, glob, wanted) => match subject.xattr(name)? {
                Some(value) => glob::matches(glob.as_bytes(), &value) == *wanted,
                None => false,
            },
            Self::And(left, right) => left.holds(subject, now_s)? && right.holds(subject, now_s)?,
            Self::Or(left, right) => left.holds(subject, now_s)? || right.holds(subject, now_s)?,
            Self::Not(inner) => !inner.holds(subject, now_s)?,
        })
    }

    /// Replaces names of users and groups by their numbers. `number(is_group, name)`.
    pub fn resolve<E>(self, number: &impl Fn(bool, &str) -> Result<u32, E>) -> Result<Self, E> {
        Ok(match self {
            Self::Number(field, comparison, Value::Name(name)) => {
                let id = number(field == Field::Group, &name)?;
                Self::Number(field, comparison, Value::Number(id.into()))
            }
            Self::And(left, right) => {
                Self::And(Box::new(left.resolve(number)?), Box::new(right.resolve(number)?))
            }
            Self::Or(left, right) => {
                Self::Or(Box::new(left.resolve(number)?), Box::new(right.resolve(number)?))
            }
            Self::Not(inner) => Self::Not(Box::new(inner.resolve(number)?)),
            other => other,
        })
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn equal(same: bool) -> &'static str {
    if same { "==" } else { "!=" }
}

/// The text form; parses to the same query.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(field, comparison, value) => {
                let name = FIELDS.iter().find(|(_, known)| known == field).map_or("", |(name, _)| name);
                write!(f, "{name} {} ", comparison.sign())?;
                match value {
                    Value::Number(number) if *field == Field::Mode => write!(f, "{number:o}"),
                    Value::Number(number) if field.is_time() => write!(f, "@{number}"),
                    Value::Number(number) => write!(f, "{number}"),
                    Value::Ago(seconds) => write!(f, "now-{seconds}s"),
                    Value::Name(name) => f.write_str(&quoted(name)),
                }
            }
            Self::Name(glob, same) => write!(f, "name {} {}", equal(*same), quoted(glob)),
            Self::Type(wanted, same) => {
                let name = TYPES.iter().find(|(_, known)| known == wanted).map_or("", |(name, _)| name);
                write!(f, "type {} {name}", equal(*same))
            }
            Self::Has(name) => f.write_str(name),
            Self::Attribute(name, glob, same) => write!(f, "{name} {} {}", equal(*same), quoted(glob)),
            Self::And(left, right) => write!(f, "({left} && {right})"),
            Self::Or(left, right) => write!(f, "({left} || {right})"),
            Self::Not(inner) => write!(f, "!({inner})"),
        }
    }
}
