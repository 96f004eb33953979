//! How results are shown: JSON for programs, tables for people.

use std::io::Write;

use crate::failure::Failure;

/// Prints one JSON document and a line feed.
pub(crate) fn json(value: &serde_json::Value) {
    line(&value.to_string());
}

/// Prints a line; a reader that went away ends the command quietly.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints columns as wide as their content; an empty table prints `empty` instead.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>], empty: &str) {
    if rows.is_empty() {
        return line(empty);
    }
    for text in table_lines(header, rows) {
        line(&text);
    }
}

/// The lines of a table.
pub(crate) fn table_lines(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let show = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![show(header.to_vec())];
    lines.extend(rows.iter().map(|row| show(row.iter().map(String::as_str).collect())));
    lines
}

/// Bytes for people: `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut value = count as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Unix milliseconds as RFC 3339 UTC.
pub(crate) fn time_ms(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| unix_ms.to_string(), |time| time.to_string())
}

/// Asks before something is destroyed. Without a terminal the answer has to be `--yes`.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    use std::io::IsTerminal;
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(question, "not confirmed, and there is no terminal to ask on")
            .next("say --yes if you mean it"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Failure::new("reading your answer", error))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(question, "you said no; nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "long".into()], vec!["bcd".into(), "x".into()]];
        assert_eq!(table_lines(&["N", "V"], &rows), ["N    V", "a    long", "bcd  x"]);
    }
}
