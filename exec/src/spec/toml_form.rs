//! TOML into the tree.

use std::ops::Range;

use toml_edit::{Document, Item, Value};

use super::SpecError;
use super::value::{Data, Entry, Node, Table};

pub(super) fn read(text: &str) -> Result<Table, Vec<SpecError>> {
    read_at(text, text, 0)
}

/// Reads `part`, which begins at byte `base` of `text`.
pub(super) fn read_at(text: &str, part: &str, base: usize) -> Result<Table, Vec<SpecError>> {
    let document = Document::parse(part).map_err(|e| {
        let span = e.span().unwrap_or(0..0);
        let message = e.message().trim().replace('\n', ", ");
        let fix = hint(part, span.start);
        vec![SpecError::at(text, shift(span, base), "E0101", message, fix)]
    })?;
    Ok(table(document.as_table(), base))
}

/// TOML's most frequent slip gets a remedy.
fn hint(part: &str, at: usize) -> Option<String> {
    let at = at.min(part.len());
    let start = part.get(..at)?.rfind('\n').map_or(0, |n| n + 1);
    let line = part.get(start..)?.lines().next()?;
    let (key, value) = line.split_once('=')?;
    let value = value.trim();
    let bare = value.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '.');
    (bare && !value.contains('"')).then(|| format!("text needs quotes: {} = \"{value}\"", key.trim()))
}

fn shift(span: Range<usize>, base: usize) -> Range<usize> {
    span.start + base..span.end + base
}

fn table(table: &dyn toml_edit::TableLike, base: usize) -> Table {
    let mut entries = Vec::new();
    for (name, item) in table.iter() {
        let Some((key, _)) = table.get_key_value(name) else { continue };
        let key_span = shift(key.span().or_else(|| item.span()).unwrap_or(0..0), base);
        entries.push(Entry { key: name.to_string(), value: node(item, key_span.clone(), base), key_span });
    }
    entries.sort_by_key(|e| e.key_span.start);
    Table { entries, ..Table::default() }
}

fn node(item: &Item, fallback: Range<usize>, base: usize) -> Node {
    let span = item.span().map_or(fallback.clone(), |s| shift(s, base));
    let data = match item {
        Item::None => Data::Null,
        Item::Value(value) => return value_node(value, span, base),
        Item::Table(inner) => Data::Table(table(inner, base)),
        Item::ArrayOfTables(tables) => Data::List(
            tables
                .iter()
                .map(|t| Node {
                    span: t.span().map_or(span.clone(), |s| shift(s, base)),
                    data: Data::Table(table(t, base)),
                })
                .collect(),
        ),
    };
    Node { span, data }
}

fn value_node(value: &Value, fallback: Range<usize>, base: usize) -> Node {
    let span = value.span().map_or(fallback, |s| shift(s, base));
    let data = match value {
        Value::String(s) => Data::Text(s.value().clone()),
        Value::Integer(i) => Data::Integer(*i.value()),
        Value::Float(_) => Data::Float,
        Value::Boolean(b) => Data::Boolean(*b.value()),
        Value::Datetime(d) => Data::Moment(d.value().to_string()),
        Value::Array(list) => Data::List(list.iter().map(|v| value_node(v, span.clone(), base)).collect()),
        Value::InlineTable(inner) => Data::Table(table(inner, base)),
    };
    Node { span, data }
}
