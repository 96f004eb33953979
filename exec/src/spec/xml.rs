//! As much of XML as job descriptions use: elements, attributes, text, comments, CDATA, the five entities. Prefixes are
//! dropped; document types are refused (that is where entity bombs live).

use std::ops::Range;

use super::SpecError;

/// Nesting at most.
const DEPTH_MAX: usize = 32;
/// Elements at most.
const ELEMENTS_MAX: usize = 20_000;

/// An element.
#[derive(Debug)]
pub(super) struct Element {
    /// Its name without prefix.
    pub(super) name: String,
    /// Where its start tag is.
    pub(super) span: Range<usize>,
    /// Where its content is.
    pub(super) inner: Range<usize>,
    pub(super) attributes: Vec<(String, String)>,
    /// All its text, trimmed.
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

type Read<T> = Result<T, Box<SpecError>>;

pub(super) fn read(text: &str) -> Result<Element, Vec<SpecError>> {
    let mut reader = Reader { text, at: 0, elements: 0 };
    let root = reader.between().and_then(|()| reader.element(0));
    let root = root.and_then(|root| {
        reader.between()?;
        if reader.at < text.len() {
            Err(reader.wrong("more text after the end of the document"))
        } else {
            Ok(root)
        }
    });
    root.map_err(|e| vec![*e])
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    elements: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn wrong(&self, message: &str) -> Box<SpecError> {
        Box::new(SpecError::at(self.text, self.at..self.at + 1, "E0101", message.to_string(), None))
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Everything up to and with `end`.
    fn upto(&mut self, end: &str, what: &str) -> Read<&'a str> {
        let rest = self.rest();
        match rest.find(end) {
            Some(n) => {
                self.at += n + end.len();
                Ok(&rest[..n])
            }
            None => Err(self.wrong(&format!("unexpected end of the text: {what} is not closed"))),
        }
    }

    /// White space, comments and processing instructions.
    fn between(&mut self) -> Read<()> {
        loop {
            self.space();
            let rest = self.rest();
            if rest.starts_with("<?") {
                self.upto("?>", "a processing instruction")?;
            } else if rest.starts_with("<!--") {
                self.upto("-->", "a comment")?;
            } else if rest.starts_with("<!DOCTYPE") {
                return Err(self.wrong("document types are not accepted"));
            } else {
                return Ok(());
            }
        }
    }

    fn name(&mut self) -> Read<String> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_-.:".contains(c))).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.wrong("expected a name"));
        }
        self.at += end;
        Ok(rest[..end].rsplit(':').next().unwrap_or("").to_string())
    }

    fn element(&mut self, depth: usize) -> Read<Element> {
        self.elements += 1;
        if depth > DEPTH_MAX || self.elements > ELEMENTS_MAX {
            return Err(self.wrong("too many elements, or nested too deeply"));
        }
        let start = self.at;
        if !self.rest().starts_with('<') {
            return Err(self.wrong("expected an element"));
        }
        self.at += 1;
        let name = self.name()?;
        let mut attributes = Vec::new();
        loop {
            self.space();
            let rest = self.rest();
            if rest.starts_with("/>") {
                self.at += 2;
                let (span, inner) = (start..self.at, self.at..self.at);
                return Ok(Element {
                    name,
                    span,
                    inner,
                    attributes,
                    text: String::new(),
                    children: Vec::new(),
                });
            }
            if rest.starts_with('>') {
                self.at += 1;
                break;
            }
            attributes.push(self.attribute()?);
        }
        let (span, content) = (start..self.at, self.at);
        let (text, children) = self.content(&name, depth)?;
        let inner = content..self.text[..self.at].rfind("</").unwrap_or(self.at);
        Ok(Element { name, span, inner, attributes, text, children })
    }

    fn attribute(&mut self) -> Read<(String, String)> {
        let name = self.name()?;
        self.space();
        if !self.rest().starts_with('=') {
            return Err(self.wrong("expected `=` after the attribute's name"));
        }
        self.at += 1;
        self.space();
        let quote = self.rest().chars().next().filter(|c| matches!(c, '"' | '\''));
        let Some(quote) = quote else { return Err(self.wrong("expected a quoted value")) };
        self.at += 1;
        let value = self.upto(&quote.to_string(), "the attribute's value")?;
        Ok((name, self.entities(value)?))
    }

    fn content(&mut self, name: &str, depth: usize) -> Read<(String, Vec<Element>)> {
        let (mut text, mut children) = (String::new(), Vec::new());
        loop {
            let rest = self.rest();
            let Some(next) = rest.find('<') else {
                return Err(self.wrong(&format!("unexpected end of the text: <{name}> is not closed")));
            };
            text.push_str(&self.entities(&rest[..next])?);
            self.at += next;
            let rest = self.rest();
            if rest.starts_with("</") {
                self.at += 2;
                let closing = self.name()?;
                if closing != name {
                    return Err(self.wrong(&format!("expected </{name}>")));
                }
                self.space();
                if !self.rest().starts_with('>') {
                    return Err(self.wrong("expected `>`"));
                }
                self.at += 1;
                return Ok((text.trim().to_string(), children));
            }
            if rest.starts_with("<![CDATA[") {
                self.at += 9;
                text.push_str(self.upto("]]>", "a CDATA section")?);
            } else if rest.starts_with("<!--") {
                self.upto("-->", "a comment")?;
            } else if rest.starts_with("<?") {
                self.upto("?>", "a processing instruction")?;
            } else {
                children.push(self.element(depth + 1)?);
            }
        }
    }

    fn entities(&self, raw: &str) -> Read<String> {
        let mut out = String::new();
        let mut rest = raw;
        while let Some(at) = rest.find('&') {
            out.push_str(&rest[..at]);
            let tail = &rest[at + 1..];
            let end = tail.find(';').ok_or_else(|| self.wrong("`&` without `;`; write &amp;"))?;
            let word = &tail[..end];
            let number = match word.strip_prefix("#x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => word.strip_prefix('#').and_then(|d| d.parse().ok()),
            };
            out.push(match word {
                "lt" => '<',
                "gt" => '>',
                "amp" => '&',
                "quot" => '"',
                "apos" => '\'',
                _ => match number.and_then(char::from_u32) {
                    Some(c) => c,
                    None => {
                        let shown: String = word.chars().take(20).collect();
                        return Err(self.wrong(&format!("unknown entity &{shown};")));
                    }
                },
            });
            rest = &tail[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }
}
