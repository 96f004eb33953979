//! SPDX licence expressions: `AND`, `OR`, `WITH`, parentheses, and the old `MIT/Apache-2.0`.

/// Whether somebody who accepts only `allowed` may use something under this expression.
pub(crate) fn permits(text: &str, allowed: &[&str]) -> Result<bool, String> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let verdict = parser.any()?;
    match parser.words {
        [] => Ok(verdict),
        [word, ..] => Err(format!("unexpected `{word}`")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [&'a str],
}

impl Parser<'_> {
    fn any(&mut self) -> Result<bool, String> {
        let mut verdict = self.all()?;
        while self.take("OR") {
            verdict |= self.all()?;
        }
        Ok(verdict)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut verdict = self.one()?;
        while self.take("AND") {
            verdict &= self.one()?;
        }
        Ok(verdict)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let verdict = self.any()?;
            return if self.take(")") { Ok(verdict) } else { Err("`)` is missing".to_owned()) };
        }
        let [name, rest @ ..] = self.words else { return Err("a licence is missing at the end".to_owned()) };
        self.words = rest;
        if self.take("WITH") {
            let [exception, rest @ ..] = self.words else { return Err("nothing after WITH".to_owned()) };
            self.words = rest;
            let whole = format!("{name} WITH {exception}");
            return Ok(self.allowed.contains(&whole.as_str()));
        }
        Ok(self.allowed.contains(name))
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words {
            [first, rest @ ..] if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &[&str] = &["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"];

    #[test]
    fn expressions_are_read_as_they_bind() {
        for (text, verdict) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("MIT AND (GPL-3.0 OR ISC)", true),
            ("MIT OR GPL-3.0 AND LGPL-3.0", true),
            ("(MIT OR GPL-3.0) AND LGPL-3.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH LLVM-exception", false),
        ] {
            assert_eq!(permits(text, ALLOWED), Ok(verdict), "{text}");
        }
    }

    #[test]
    fn nonsense_is_an_error_not_a_permission() {
        for text in ["", "MIT OR", "(MIT", "MIT MIT", "MIT)", "Apache-2.0 WITH"] {
            assert!(permits(text, ALLOWED).is_err(), "{text}");
        }
    }
}
