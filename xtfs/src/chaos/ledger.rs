//! What the namespace load was told is done, and the judgement of what is found at the end. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What must be at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Must {
    /// A file with this content.
    Be(String),
    /// Nothing.
    NotBe,
    /// An operation on it failed: it may have been done or not.
    Unknown,
}

/// Of every path that was ever used what must be there.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(BTreeMap<String, Must>);

impl Ledger {
    pub(super) fn set(&mut self, path: &str, must: Must) {
        self.0.insert(path.to_owned(), must);
    }

    pub(super) fn get(&self, path: &str) -> &Must {
        self.0.get(path).unwrap_or(&Must::NotBe)
    }

    /// A rename that was acknowledged.
    pub(super) fn renamed(&mut self, from: &str, to: &str) {
        let moved = self.get(from).clone();
        self.set(to, moved);
        self.set(from, Must::NotBe);
    }

    /// Paths that must be there, with their content.
    pub(super) fn there(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(path, must)| match must {
            Must::Be(content) => Some((path.as_str(), content.as_str())),
            Must::NotBe | Must::Unknown => None,
        })
    }

    /// What is found and must not be, and what must be and is not.
    pub(super) fn judge(&self, found: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
        let mut lost = Vec::new();
        for (path, content) in self.there() {
            match found.get(path) {
                None => lost.push(format!("lost: {path} was acknowledged and is not there")),
                Some(bytes) if bytes != content.as_bytes() => {
                    let mut text = format!("lost: {path} must hold {content:?} and holds ");
                    let _ = write!(text, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)]));
                    lost.push(text);
                }
                Some(_) => {}
            }
        }
        for path in found.keys().filter(|path| *self.get(path) == Must::NotBe) {
            lost.push(format!("back: {path} was removed or never made, and is there"));
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        files.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect()
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.set("a", Must::Be("one".to_owned()));
        ledger.set("b", Must::Be("two".to_owned()));
        ledger.renamed("a", "c");
        ledger.set("x", Must::Unknown);
        ledger
    }

    #[test]
    fn what_was_acknowledged_passes_and_what_failed_may_be_either() {
        assert!(ledger().judge(&found(&[("b", "two"), ("c", "one")])).is_empty());
        assert!(ledger().judge(&found(&[("b", "two"), ("c", "one"), ("x", "?")])).is_empty());
    }

    #[test]
    fn a_loss_is_noticed() {
        assert!(ledger().judge(&found(&[("b", "two")]))[0].starts_with("lost: c "));
        assert!(ledger().judge(&found(&[("b", "tw"), ("c", "one")]))[0].contains("\"tw\""));
    }

    #[test]
    fn what_comes_back_is_noticed() {
        let back = ledger().judge(&found(&[("a", "one"), ("b", "two"), ("c", "one")]));
        assert!(back[0].starts_with("back: a "), "{back:?}");
        let stranger = ledger().judge(&found(&[("b", "two"), ("c", "one"), ("n", "")]));
        assert!(stranger[0].starts_with("back: n "));
    }
}
