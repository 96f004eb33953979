//! What a check of a volume reads: 100,000 entries have to be looked at in seconds, with everything else going on.

use std::cell::Cell;

use mrc::fsck::{Told, check};
use proto::fsck::Finding;
use rt::table::memory::MemoryTable;
use rt::table::{Pair, Reader, Result, Table};

use crate::harness::{Replica, VOLUME};

/// Counts.
struct Counting<'a> {
    table: &'a MemoryTable,
    gets: Cell<usize>,
    scans: Cell<usize>,
}

impl Reader for Counting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.gets.set(self.gets.get() + 1);
        Table::get(self.table, key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>> {
        self.scans.set(self.scans.get() + 1);
        Table::scan(self.table, from, to, limit)
    }
}

#[derive(Default)]
struct Heard {
    findings: Vec<Finding>,
    phases: Vec<&'static str>,
    rows: u64,
}

impl Told for Heard {
    fn found(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn looked_at(&mut self, rows: u64) -> bool {
        self.rows += rows;
        true
    }

    fn phase(&mut self, phase: &'static str) {
        self.phases.push(phase);
    }
}

#[test]
fn a_check_reads_three_rows_by_key_per_entry_and_everything_else_in_order() {
    const FILES: usize = 3000;
    let mut replica = Replica::new();
    let directories: Vec<u64> =
        (0..3).map(|n| replica.mkdir(1, &format!("d{n}"), 0o755).unwrap().ino).collect();
    for n in 0..FILES {
        replica.mkfile(directories[n * 3 / FILES], &format!("file-{n}"), 0o644).unwrap();
    }
    let reader = Counting { table: &replica.table, gets: Cell::new(0), scans: Cell::new(0) };
    let mut heard = Heard::default();
    let ended = check(&reader, VOLUME, &mut heard).unwrap();
    assert_eq!((heard.findings, ended.cut, ended.stopped), (Vec::new(), false, false));
    assert!(heard.phases.starts_with(&["entries", "names", "inodes"]), "{:?}", heard.phases);
    // Entries, names, inodes; each change of a name is an event.
    assert!(heard.rows >= 4 * FILES as u64, "{}", heard.rows);
    let (gets, scans) = (reader.gets.get(), reader.scans.get());
    assert!(gets <= 3 * FILES + 100, "{gets} point reads for {FILES} files");
    assert!(scans <= 100, "{scans} scans for {FILES} files");
}
