//! Writing a dump.

use std::io::{self, Write};

use proto::backup::{DumpHeader, NameOf, Node};
use proto::quota::Quota;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::lines::{EndLine, HeaderLine, NameLine, NodeLine, QuotaLine};

/// Lines so far.
pub(crate) struct Writer<W> {
    out: W,
    sum: Sha256,
    lines: u64,
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    pub(crate) fn begin(out: W, header: &DumpHeader, created: String) -> io::Result<Self> {
        let mut writer = Self { out, sum: Sha256::new(), lines: 0 };
        writer.line(&HeaderLine::of(header, created))?;
        Ok(writer)
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.sum.update(&text);
        self.lines += 1;
        self.out.write_all(&text)
    }

    pub(crate) fn node(&mut self, node: &Node) -> io::Result<()> {
        self.line(&NodeLine::of(node))
    }

    pub(crate) fn name(&mut self, name: &NameOf) -> io::Result<()> {
        self.line(&NameLine::of(name))
    }

    pub(crate) fn quota(&mut self, quota: &Quota) -> io::Result<()> {
        self.line(&QuotaLine::of(quota.kind(), quota.id, quota.limits))
    }

    /// Writes the end; gives what was written to.
    pub(crate) fn end(mut self) -> io::Result<W> {
        let end = EndLine { end: self.lines, sha256: sum_text(self.sum) };
        serde_json::to_writer(&mut self.out, &end)?;
        self.out.write_all(b"\n")?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A sum as it is written.
pub(super) fn sum_text(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
