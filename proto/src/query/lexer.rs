//! Words, strings and signs of a query.

use super::{Comparison, QueryError};

/// A piece of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A field, a number, a date: letters, digits and `._-:@+`.
    Word(String),
    /// In quotes.
    Text(String),
    Compare(Comparison),
    And,
    Or,
    Not,
    Open,
    Close,
}

/// A token and the characters before it, from 1.
pub(super) type Placed = (Token, usize);

pub(super) fn fault<T>(at: usize, why: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError { at, why: why.into() })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "._-:@+".contains(c)
}

/// Takes the text apart.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, QueryError> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let place = at + 1;
        let next = chars.get(at + 1).copied();
        let (token, taken) = match (c, next) {
            (c, _) if c.is_whitespace() => {
                at += 1;
                continue;
            }
            ('(', _) => (Token::Open, 1),
            (')', _) => (Token::Close, 1),
            ('&', Some('&')) => (Token::And, 2),
            ('|', Some('|')) => (Token::Or, 2),
            ('=', Some('=')) => (Token::Compare(Comparison::Equal), 2),
            ('=', _) => (Token::Compare(Comparison::Equal), 1),
            ('!', Some('=')) => (Token::Compare(Comparison::NotEqual), 2),
            ('!', _) => (Token::Not, 1),
            ('<', Some('=')) => (Token::Compare(Comparison::LessOrEqual), 2),
            ('<', _) => (Token::Compare(Comparison::Less), 1),
            ('>', Some('=')) => (Token::Compare(Comparison::GreaterOrEqual), 2),
            ('>', _) => (Token::Compare(Comparison::Greater), 1),
            ('"' | '\'', _) => quoted(&chars, at, c)?,
            ('&' | '|', _) => return fault(place, format!("a single {c:?}; write it twice")),
            (c, _) if is_word(c) => {
                let word: String = chars[at..].iter().take_while(|c| is_word(**c)).collect();
                let taken = word.chars().count();
                (Token::Word(word), taken)
            }
            ('*' | '?' | '[', _) => {
                return fault(place, format!("{c:?} outside of quotes; write e.g. name == \"*.rs\""));
            }
            _ => return fault(place, format!("{c:?} means nothing here")),
        };
        out.push((token, place));
        at += taken;
    }
    Ok(out)
}

/// A string; `\` keeps the next character, and before anything but a quote or itself stays (it is a glob's).
fn quoted(chars: &[char], start: usize, quote: char) -> Result<(Token, usize), QueryError> {
    let mut text = String::new();
    let mut at = start + 1;
    loop {
        match chars.get(at) {
            None => return fault(start + 1, "a quote that is not closed"),
            Some(c) if *c == quote => return Ok((Token::Text(text), at + 1 - start)),
            Some('\\') if chars.get(at + 1).is_some_and(|next| *next == quote || *next == '\\') => {
                text.push(chars[at + 1]);
                at += 2;
            }
            Some(c) => {
                text.push(*c);
                at += 1;
            }
        }
    }
}
