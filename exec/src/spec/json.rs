//! JSON into the tree. Written here because the usual readers do not keep the places of keys and values.

use std::ops::Range;

use super::SpecError;
use super::value::{Data, Entry, Node, Table};

/// Nesting of lists and tables at most.
const DEPTH_MAX: usize = 32;

pub(super) fn read(text: &str) -> Result<Table, Vec<SpecError>> {
    let mut reader = Reader { text, at: 0 };
    let node = reader.value(0).and_then(|node| {
        reader.space();
        if reader.at < text.len() {
            Err(reader.wrong("more text after the end of the object"))
        } else {
            Ok(node)
        }
    });
    match node {
        Ok(Node { data: Data::Table(table), .. }) => Ok(table),
        Ok(node) => Err(vec![SpecError::at(
            text,
            node.span,
            "E0105",
            "a descriptor is a JSON object".into(),
            Some("write { \"exec\": \"/bin/echo\" }".into()),
        )]),
        Err(error) => Err(vec![*error]),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

type Read<T> = Result<T, Box<SpecError>>;

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn wrong(&self, message: &str) -> Box<SpecError> {
        self.wrong_at(self.at..self.at + 1, message)
    }

    fn wrong_at(&self, span: Range<usize>, message: &str) -> Box<SpecError> {
        Box::new(SpecError::at(self.text, span, "E0101", message.to_string(), None))
    }

    fn value(&mut self, depth: usize) -> Read<Node> {
        self.space();
        let start = self.at;
        if depth > DEPTH_MAX {
            return Err(self.wrong("nested too deeply"));
        }
        let data = match self.peek() {
            None => return Err(self.wrong("unexpected end of the text: a value is missing")),
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Data::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => self.word()?,
        };
        Ok(Node { span: start..self.at, data })
    }

    fn word(&mut self) -> Read<Data> {
        let rest = &self.text[self.at..];
        for (word, data) in
            [("true", Data::Boolean(true)), ("false", Data::Boolean(false)), ("null", Data::Null)]
        {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(data);
            }
        }
        Err(self.wrong("expected a value: a string in double quotes, a number, true, false, [ or {"))
    }

    fn object(&mut self, depth: usize) -> Read<Data> {
        self.at += 1;
        let mut entries: Vec<Entry> = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Data::Table(Table::default()));
        }
        loop {
            self.space();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.wrong("expected a key in double quotes"));
            }
            let key = self.string()?;
            let key_span = start..self.at;
            if entries.iter().any(|e| e.key == key) {
                let mut error = self.wrong_at(key_span, &format!("key `{key}` stands here twice"));
                error.code = "E0114";
                return Err(error);
            }
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.wrong("expected `:` after the key"));
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            entries.push(Entry { key, key_span, value });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Data::Table(Table { entries, ..Table::default() }));
                }
                None => return Err(self.wrong("unexpected end of the text: `}` is missing")),
                Some(_) => return Err(self.wrong("expected `,` or `}`")),
            }
        }
    }

    fn list(&mut self, depth: usize) -> Read<Data> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Data::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Data::List(items));
                }
                None => return Err(self.wrong("unexpected end of the text: `]` is missing")),
                Some(_) => return Err(self.wrong("expected `,` or `]`")),
            }
        }
    }

    fn number(&mut self) -> Read<Data> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        // serde_json decides what a number is; the place is ours.
        match serde_json::from_str::<serde_json::Number>(word) {
            Ok(number) => match number.as_i64() {
                Some(integer) => Ok(Data::Integer(integer)),
                None => Ok(Data::Float),
            },
            Err(_) => Err(self.wrong_at(start..self.at, "not a number")),
        }
    }

    fn string(&mut self) -> Read<String> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None | Some(b'\n') => {
                    return Err(self.wrong_at(start..self.at, "the string is not closed"));
                }
                Some(b'\\') => self.at += 2,
                Some(b'"') => {
                    self.at += 1;
                    break;
                }
                Some(_) => self.at += 1,
            }
        }
        let word = self.text.get(start..self.at);
        word.and_then(|w| serde_json::from_str::<String>(w).ok())
            .ok_or_else(|| self.wrong_at(start..self.at, "not a valid JSON string (check its escapes)"))
    }
}
