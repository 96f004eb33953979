//! From tokens to a query: `||` binds weakest, then `&&`, then `!`.

use super::lexer::{Placed, Token, fault, tokens};
use super::{
    Comparison, DEPTH_MAX, FIELDS, Field, Query, QueryError, TERMS_MAX, TEXT_BYTES_MAX, TYPES, Value,
};

pub(super) fn parse(text: &str) -> Result<Query, QueryError> {
    if text.len() > TEXT_BYTES_MAX {
        return fault(1, format!("a query of {} bytes; {TEXT_BYTES_MAX} is the limit", text.len()));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, end: text.chars().count() + 1, terms: 0 };
    let query = parser.either(0)?;
    match parser.peek() {
        None => Ok(query),
        Some((token, at)) => fault(*at, format!("{token:?} after the end; join conditions with && or ||")),
    }
}

struct Parser {
    tokens: Vec<Placed>,
    at: usize,
    end: usize,
    terms: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Placed> {
        self.tokens.get(self.at)
    }

    fn next(&mut self, wanted: &str) -> Result<Placed, QueryError> {
        let Some(token) = self.tokens.get(self.at).cloned() else {
            return fault(self.end, format!("the query ends where {wanted} is expected"));
        };
        self.at += 1;
        Ok(token)
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek().is_some_and(|(next, _)| next == token);
        self.at += usize::from(found);
        found
    }

    fn either(&mut self, depth: usize) -> Result<Query, QueryError> {
        let mut query = self.both(depth)?;
        while self.take(&Token::Or) {
            query = Query::Or(Box::new(query), Box::new(self.both(depth)?));
        }
        Ok(query)
    }

    fn both(&mut self, depth: usize) -> Result<Query, QueryError> {
        let mut query = self.term(depth)?;
        while self.take(&Token::And) {
            query = Query::And(Box::new(query), Box::new(self.term(depth)?));
        }
        Ok(query)
    }

    fn term(&mut self, depth: usize) -> Result<Query, QueryError> {
        let (token, at) = self.next("a condition")?;
        self.terms += 1;
        if depth >= DEPTH_MAX || self.terms > TERMS_MAX {
            return fault(at, format!("more than {TERMS_MAX} conditions or {DEPTH_MAX} levels"));
        }
        match token {
            Token::Not => Ok(Query::Not(Box::new(self.term(depth + 1)?))),
            Token::Open => {
                let inner = self.either(depth + 1)?;
                match self.next("`)`")? {
                    (Token::Close, _) => Ok(inner),
                    (_, at) => fault(at, "`)` is expected"),
                }
            }
            Token::Word(field) => self.condition(&field, at),
            _ => fault(at, "a field is expected: name, type, size, owner, mtime, user.x ..."),
        }
    }

    fn condition(&mut self, field: &str, at: usize) -> Result<Query, QueryError> {
        if field.strip_prefix("user.").is_some_and(|name| !name.is_empty()) {
            if !matches!(self.peek(), Some((Token::Compare(_), _))) {
                return Ok(Query::Has(field.to_owned()));
            }
            let same = self.equality(field)?;
            return Ok(Query::Attribute(field.to_owned(), self.text()?.0, same));
        }
        match field {
            "name" => {
                let same = self.equality(field)?;
                Ok(Query::Name(self.text()?.0, same))
            }
            "type" => {
                let same = self.equality(field)?;
                let (text, at) = self.text()?;
                match TYPES.iter().find(|(name, _)| *name == text || text == "dir" && *name == "directory") {
                    Some((_, kind)) => Ok(Query::Type(*kind, same)),
                    None => fault(
                        at,
                        format!("type {text:?}: file, directory, symlink, fifo, socket, block or char"),
                    ),
                }
            }
            _ => {
                let field = match field {
                    "uid" => "owner",
                    "gid" => "group",
                    other => other,
                };
                let Some((_, known)) = FIELDS.iter().find(|(name, _)| *name == field) else {
                    let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
                    return fault(
                        at,
                        format!("no field {field:?}; there are name, type, user.*, {}", names.join(", ")),
                    );
                };
                let (token, place) = self.next("a comparison")?;
                let Token::Compare(comparison) = token else {
                    return fault(place, format!("a comparison is expected after {field}: == != < <= > >="));
                };
                let (text, place) = self.text()?;
                Ok(Query::Number(*known, comparison, value(*known, &text, place)?))
            }
        }
    }

    fn equality(&mut self, field: &str) -> Result<bool, QueryError> {
        match self.next("== or !=")? {
            (Token::Compare(Comparison::Equal), _) => Ok(true),
            (Token::Compare(Comparison::NotEqual), _) => Ok(false),
            (_, at) => fault(at, format!("{field} is compared with == or !=")),
        }
    }

    fn text(&mut self) -> Result<(String, usize), QueryError> {
        match self.next("a value")? {
            (Token::Word(text) | Token::Text(text), at) => Ok((text, at)),
            (_, at) => fault(at, "a value is expected"),
        }
    }
}

fn value(field: Field, text: &str, at: usize) -> Result<Value, QueryError> {
    if field.is_time() {
        return time(text, at);
    }
    if field == Field::Mode {
        return match i64::from_str_radix(text, 8) {
            Ok(bits @ 0..=0o7777) => Ok(Value::Number(bits)),
            _ => fault(at, format!("mode {text:?}: octal digits up to 7777")),
        };
    }
    if let Ok(number) = text.parse::<i64>()
        && number >= 0
    {
        return Ok(Value::Number(number));
    }
    if field.is_id() && !text.is_empty() && !text.starts_with('-') {
        return Ok(Value::Name(text.to_owned()));
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return fault(at, format!("{text:?} is no number; write e.g. 4096, 64K or 1M")),
    };
    match digits.parse::<i64>().ok().and_then(|number| number.checked_mul(1 << shift)) {
        Some(number) if number >= 0 => Ok(Value::Number(number)),
        _ => fault(at, format!("{text:?} is no number or too large")),
    }
}

fn time(text: &str, at: usize) -> Result<Value, QueryError> {
    if text == "now" {
        return Ok(Value::Ago(0));
    }
    if let Some(ago) = text.strip_prefix("now-") {
        let digits = ago.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &ago[digits.len()..] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return fault(at, format!("{text:?}: write e.g. now-30m, now-7d (s, m, h, d, w)")),
        };
        return match digits.parse::<i64>().ok().and_then(|count| count.checked_mul(unit)) {
            Some(seconds) if seconds >= 0 => Ok(Value::Ago(seconds)),
            _ => fault(at, format!("{text:?} is too long ago or no number")),
        };
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return match seconds.parse() {
            Ok(seconds) => Ok(Value::Number(seconds)),
            Err(_) => fault(at, format!("{text:?}: seconds since 1970 are expected after @")),
        };
    }
    match date(text) {
        Some(seconds) => Ok(Value::Number(seconds)),
        None => fault(
            at,
            format!("{text:?} is no time; write now-7d, 2026-11-21, 2026-11-21T10:00:00Z or @SECONDS"),
        ),
    }
}

/// `YYYY-MM-DD`, perhaps `THH:MM:SS` and `Z`; UTC.
fn date(text: &str) -> Option<i64> {
    let (day, clock) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let mut parts = day.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let mut parts = clock.strip_suffix('Z').unwrap_or(clock).splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let sound = (1901..=2446).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !sound {
        return None;
    }
    // Days since 1970 by the civil calendar, years beginning in March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}
