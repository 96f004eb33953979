//! `#!` scripts: `#XOS key = value` lines and `#SBATCH` options above the first line that is not a comment.
//!
//! Understood of `#SBATCH`: `-J/--job-name -o/--output -e/--error -i/--input -D/--chdir -c/--cpus-per-task
//! -n/--ntasks -N/--nodes (1 only) --mem -t/--time -b/--begin --export --signal --open-mode --no-requeue --comment
//! -Q/--quiet -v/--verbose --parsable`. Others are errors, or warnings with `strict = false`.

use std::ops::Range;

use super::value::{Data, Entry, Node, Table};
use super::{SpecError, duration, suggest, toml_form};

pub(super) fn read(text: &str) -> Result<Table, Vec<SpecError>> {
    let mut out = Header {
        text,
        table: Table { is_script: true, ..Table::default() },
        errors: Vec::new(),
        unknown: Vec::new(),
    };
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let body = line.trim_end();
        if number > 0 {
            if !body.trim_start().starts_with('#') && !body.trim().is_empty() {
                break;
            }
            if let Some(rest) = body.strip_prefix("#XOS") {
                out.native_line(rest, at + 4);
            } else if let Some(rest) = body.strip_prefix("#SBATCH") {
                out.sbatch_line(rest, at + 7);
            }
        }
        at += line.len();
        if out.errors.len() >= super::ERRORS_MAX {
            break;
        }
    }
    out.table.unknown_options = out.unknown;
    if out.errors.is_empty() { Ok(out.table) } else { Err(out.errors) }
}

struct Header<'a> {
    text: &'a str,
    table: Table,
    errors: Vec<SpecError>,
    unknown: Vec<SpecError>,
}

/// Short options with their long names.
const SHORT: [(&str, &str); 18] = [
    ("-J", "job-name"),
    ("-o", "output"),
    ("-e", "error"),
    ("-i", "input"),
    ("-D", "chdir"),
    ("-c", "cpus-per-task"),
    ("-n", "ntasks"),
    ("-N", "nodes"),
    ("-t", "time"),
    ("-b", "begin"),
    ("-Q", "quiet"),
    ("-v", "verbose"),
    ("-p", "partition"),
    ("-A", "account"),
    ("-a", "array"),
    ("-d", "dependency"),
    ("-H", "hold"),
    ("-w", "nodelist"),
];

/// What is understood; the first part takes a value.
const WITH_VALUE: [&str; 15] = [
    "job-name",
    "output",
    "error",
    "input",
    "chdir",
    "cpus-per-task",
    "ntasks",
    "nodes",
    "mem",
    "time",
    "begin",
    "export",
    "signal",
    "open-mode",
    "comment",
];
const FLAGS: [&str; 4] = ["no-requeue", "quiet", "verbose", "parsable"];

impl Header<'_> {
    /// ` key = value`, with dots in the key and the quotes of text optional.
    fn native_line(&mut self, rest: &str, base: usize) {
        if rest.trim().is_empty() {
            return;
        }
        match toml_form::read_at(self.text, rest, base) {
            Ok(table) => {
                for entry in table.entries {
                    self.merge(Vec::new(), entry);
                }
            }
            Err(errors) => match bare(rest, base) {
                Some((path, key_span, node)) => self.insert(&path, key_span, node),
                None => self.errors.extend(errors),
            },
        }
    }

    /// Puts the leaves of an entry in, so that `resources.cpus` and `resources.time` meet in one table.
    fn merge(&mut self, mut path: Vec<String>, entry: Entry) {
        path.push(entry.key);
        match entry.value.data {
            Data::Table(table) if path.len() < 4 && path[0] != "env" => {
                for inner in table.entries {
                    self.merge(path.clone(), inner);
                }
            }
            data => self.insert(&path, entry.key_span, Node { span: entry.value.span, data }),
        }
    }

    fn insert(&mut self, path: &[String], span: Range<usize>, node: Node) {
        if let Err(entry) = self.table.insert(path, span, node) {
            self.errors.push(SpecError::at(
                self.text,
                entry.key_span,
                "E0114",
                format!("key `{}` stands here a second time", entry.key),
                Some("keep one of the two lines".into()),
            ));
        }
    }

    /// Several options may stand on one line; `--key=value`, `--key value` and `-k value`.
    fn sbatch_line(&mut self, rest: &str, base: usize) {
        let mut words = words(rest, base).into_iter().peekable();
        while let Some((word, span)) = words.next() {
            if word.starts_with('#') {
                break;
            }
            let (name, mut value) = if let Some(long) = word.strip_prefix("--") {
                match long.split_once('=') {
                    Some((name, value)) => (name.to_string(), Some((value.to_string(), span.clone()))),
                    None => (long.to_string(), None),
                }
            } else if let Some((short, long)) = SHORT.iter().find(|(s, _)| word.starts_with(s)) {
                let glued = &word[short.len()..];
                let value = (!glued.is_empty()).then(|| (glued.to_string(), span.clone()));
                ((*long).to_string(), value)
            } else {
                self.unknown_option(&word, span);
                continue;
            };
            let known = WITH_VALUE.contains(&name.as_str());
            if value.is_none() && !FLAGS.contains(&name.as_str()) {
                // An unknown option's value must not be read as the next option.
                value = words.next_if(|(w, _)| known || !w.starts_with('-'));
            }
            match (known, value) {
                (true, Some((value, value_span))) => self.option(&name, &value, value_span),
                (true, None) => self.errors.push(SpecError::at(
                    self.text,
                    span,
                    "E0106",
                    format!("option --{name} needs a value"),
                    None,
                )),
                (false, _) if FLAGS.contains(&name.as_str()) => {}
                (false, _) => self.unknown_option(&name, span),
            }
        }
    }

    fn unknown_option(&mut self, name: &str, span: Range<usize>) {
        let known: Vec<&str> = WITH_VALUE.iter().chain(&FLAGS).copied().collect();
        let fix = match suggest::nearest(name, &known) {
            Some(near) => format!("did you mean `--{near}`? (`#XOS strict = false` ignores such options)"),
            None => "remove it, or write `#XOS strict = false` to have such options ignored".into(),
        };
        let name = if name.starts_with('-') { name.to_string() } else { format!("--{name}") };
        let message = format!("#SBATCH option `{name}` is not supported");
        self.unknown.push(SpecError::at(self.text, span, "E0115", message, Some(fix)));
    }

    fn option(&mut self, name: &str, value: &str, span: Range<usize>) {
        let path: &[&str] = match name {
            "job-name" => &["name"],
            "output" => &["stdout"],
            "error" => &["stderr"],
            "input" => &["stdin"],
            "chdir" => &["cwd"],
            "cpus-per-task" | "ntasks" => &["resources", "cpus"],
            "mem" => &["resources", "memory"],
            "time" => &["resources", "time"],
            "begin" => &["after", "begin"],
            "comment" => return,
            _ => return self.special_option(name, value, span),
        };
        let data = match name {
            "output" | "error" | "input" => match percent(value) {
                Ok(text) => Data::Text(text),
                Err(what) => {
                    return self.wrong(span, "E0111", format!("pattern `{what}` is not supported"));
                }
            },
            "cpus-per-task" | "ntasks" => match value.parse::<i64>() {
                Ok(number) => Data::Integer(number),
                Err(_) => return self.wrong(span, "E0105", format!("--{name}={value}: expected a number")),
            },
            "mem" => {
                let bare = value.bytes().all(|b| b.is_ascii_digit());
                Data::Text(if bare { format!("{value}MiB") } else { value.to_string() })
            }
            "time" => match duration::slurm_ms(value) {
                Some(ms) => Data::Text(format!("{ms}ms")),
                None => {
                    return self.wrong(
                        span,
                        "E0108",
                        format!("--time={value}: expected minutes, MM:SS, HH:MM:SS or D-HH:MM:SS"),
                    );
                }
            },
            _ => Data::Text(value.to_string()),
        };
        let path: Vec<String> = path.iter().map(|s| (*s).to_string()).collect();
        self.insert(&path, span.clone(), Node { span, data });
    }

    fn special_option(&mut self, name: &str, value: &str, span: Range<usize>) {
        match name {
            "nodes" if value == "1" || value == "1-1" => {}
            "nodes" => self.wrong(span, "E0104", "jobs on several nodes are not supported yet".into()),
            "export" => {
                for pair in value.split(',').filter(|p| !matches!(*p, "NONE" | "ALL" | "NIL" | "")) {
                    match pair.split_once('=') {
                        Some((key, text)) => {
                            let node = Node { span: span.clone(), data: Data::Text(text.to_string()) };
                            self.insert(&["env".into(), key.into()], span.clone(), node);
                        }
                        None => self.wrong(
                            span.clone(),
                            "E0116",
                            format!("--export={pair}: the submitter's environment is not known; write {pair}=VALUE"),
                        ),
                    }
                }
            }
            "signal" => {
                let rest = value.split_once(':').map_or(value, |(_, rest)| rest);
                let (signal, seconds) = rest.split_once('@').unwrap_or((rest, "60"));
                for (key, text) in [("name", signal.to_string()), ("before_end", format!("{seconds}s"))] {
                    let node = Node { span: span.clone(), data: Data::Text(text) };
                    self.insert(&["signal".into(), key.into()], span.clone(), node);
                }
            }
            "open-mode" => match value {
                "append" | "truncate" => {
                    let node = Node { span: span.clone(), data: Data::Boolean(value == "append") };
                    self.insert(&["append_output".into()], span, node);
                }
                _ => self.wrong(span, "E0105", format!("--open-mode={value}: expected append or truncate")),
            },
            _ => self.unknown_option(name, span),
        }
    }

    fn wrong(&mut self, span: Range<usize>, code: &'static str, message: String) {
        self.errors.push(SpecError::at(self.text, span, code, message, None));
    }
}

/// `key = value` without quotes.
fn bare(rest: &str, base: usize) -> Option<(Vec<String>, Range<usize>, Node)> {
    let (key, value) = rest.split_once('=')?;
    let name = key.trim();
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let value_text = value.trim();
    let special = value_text.is_empty() || value_text.starts_with(['"', '\'', '[', '{']);
    if name.is_empty() || special || !name.chars().all(sound) {
        return None;
    }
    let key_start = base + key.find(name)?;
    let value_start = base + key.len() + 1 + value.find(value_text)?;
    let node =
        Node { span: value_start..value_start + value_text.len(), data: Data::Text(value_text.to_string()) };
    Some((name.split('.').map(str::to_string).collect(), key_start..key_start + name.len(), node))
}

/// Splits at spaces outside quotes; each word with its place.
fn words(text: &str, base: usize) -> Vec<(String, Range<usize>)> {
    let mut out: Vec<(String, Range<usize>)> = Vec::new();
    let mut word = String::new();
    let mut start = None;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                start = start.or(Some(at));
            }
            (None, c) if c.is_whitespace() => {
                if let Some(from) = start.take() {
                    out.push((std::mem::take(&mut word), base + from..base + at));
                }
            }
            (_, c) => {
                start = start.or(Some(at));
                word.push(c);
            }
        }
    }
    if let Some(from) = start {
        out.push((word, base + from..base + text.len()));
    }
    out
}

/// Slurm's `%j` and its like as our placeholders.
fn percent(value: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next() {
                Some('j' | 'A' | 'J') => out.push_str("{id}"),
                Some('x') => out.push_str("{name}"),
                Some('u') => out.push_str("{user}"),
                Some('t' | 'n') => out.push_str("{unit}"),
                Some('%') => out.push('%'),
                other => return Err(format!("%{}", other.map(String::from).unwrap_or_default())),
            },
            '{' => out.push_str("{{"),
            '}' => out.push_str("}}"),
            c => out.push(c),
        }
    }
    Ok(out)
}
