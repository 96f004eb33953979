//! The tree that every form of descriptor is read into: values with their place in the text.

use std::ops::Range;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) data: Data,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Text(String),
    Integer(i64),
    Float,
    Boolean(bool),
    /// A TOML date or time, as written.
    Moment(String),
    Null,
    List(Vec<Node>),
    Table(Table),
}

/// Keys in the order of the text.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    /// The text itself is the program (a `#!` script).
    pub(super) is_script: bool,
    /// `#SBATCH` options that nothing here knows: errors, or warnings with `strict = false`.
    pub(super) unknown_options: Vec<super::SpecError>,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

impl Table {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// Adds `path.to.key = value`, making the tables between; gives the entry back when the key is taken.
    pub(super) fn insert(&mut self, path: &[String], span: Range<usize>, value: Node) -> Result<(), Entry> {
        let Some((first, rest)) = path.split_first() else { return Ok(()) };
        let found = self.entries.iter_mut().find(|e| &e.key == first);
        if rest.is_empty() {
            if found.is_some() {
                return Err(Entry { key: first.clone(), key_span: span, value });
            }
            self.entries.push(Entry { key: first.clone(), key_span: span, value });
            return Ok(());
        }
        if let Some(entry) = found {
            return match &mut entry.value.data {
                Data::Table(table) => table.insert(rest, span, value),
                _ => Err(Entry { key: first.clone(), key_span: span, value }),
            };
        }
        let mut table = Table::default();
        table.insert(rest, span.clone(), value)?;
        let node = Node { span: span.clone(), data: Data::Table(table) };
        self.entries.push(Entry { key: first.clone(), key_span: span, value: node });
        Ok(())
    }
}

impl Data {
    /// The kind in words, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Data::Text(_) => "a string",
            Data::Integer(_) => "an integer",
            Data::Float => "a number with a fraction",
            Data::Boolean(_) => "true or false",
            Data::Moment(_) => "a date or time",
            Data::Null => "null",
            Data::List(_) => "a list",
            Data::Table(_) => "a table",
        }
    }
}
