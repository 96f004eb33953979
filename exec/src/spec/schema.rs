//! The schema: which keys there are, what they may hold, which of them do not work yet.

use std::collections::BTreeMap;

use super::value::{Data, Entry, Node, Table};
use super::{
    ERRORS_MAX, EarlySignal, JobSpec, PLACEHOLDERS, Program, Resources, SpecError, duration, suggest,
};

/// Keys at the top; the second list is known but does not work yet.
const TOP: [&str; 18] = [
    "version",
    "kind",
    "name",
    "exec",
    "script",
    "args",
    "cwd",
    "env",
    "stdin",
    "stdout",
    "stderr",
    "append_output",
    "resources",
    "after",
    "retry",
    "signal",
    "idempotency_key",
    "strict",
];
const TOP_LATER: [&str; 8] =
    ["input", "array", "reservation", "checkpoint", "notify", "deadline", "vo", "role"];
const RESOURCES: [&str; 3] = ["cpus", "memory", "time"];
const RESOURCES_LATER: [&str; 3] = ["units", "gpus", "where"];

/// Most arguments and environment variables.
const LIST_MAX: usize = 4096;
/// Longest value, bytes.
const TEXT_MAX: usize = 128 * 1024;

/// Turns the tree into a spec, or collects everything that is wrong with it.
pub(super) fn build(text: &str, mut tree: Table, default_name: String) -> Result<JobSpec, Vec<SpecError>> {
    let mut r = Reader { text, errors: Vec::new() };
    let strict = tree.get("strict").and_then(|e| r.boolean(e)).unwrap_or(true);
    let unknown = std::mem::take(&mut tree.unknown_options);
    let mut warnings = Vec::new();
    if strict {
        r.errors.extend(unknown);
    } else {
        warnings = unknown.into_iter().map(|e| format!("line {}: {}; ignored", e.line, e.message)).collect();
    }
    r.known(&tree, "", &TOP, &TOP_LATER);
    let version = tree.get("version").and_then(|e| r.integer(e, 1, 1_000_000));
    if let (Some(version), Some(entry)) = (version, tree.get("version"))
        && version != 1
    {
        r.wrong(
            &entry.value,
            "E0113",
            format!("version {version} is not known here"),
            "supported: version = 1",
        );
    }
    if let Some(entry) = tree.get("kind") {
        r.kind(entry);
    }
    let name = tree.get("name").and_then(|e| r.name(e)).unwrap_or(default_name);
    let program = r.program(&tree);
    let spec = JobSpec {
        version: 1,
        name,
        args: tree.get("args").map(|e| r.args(e)).unwrap_or_default(),
        cwd: tree.get("cwd").and_then(|e| r.path(e)),
        env: tree.get("env").map(|e| r.env(e)).unwrap_or_default(),
        stdin: tree.get("stdin").and_then(|e| r.path(e)),
        stdout: tree.get("stdout").and_then(|e| r.path(e)),
        stderr: tree.get("stderr").and_then(|e| r.path(e)),
        append_output: tree.get("append_output").and_then(|e| r.boolean(e)).unwrap_or(false),
        resources: r.resources(tree.get("resources")),
        begin_unix_ms: tree.get("after").and_then(|e| r.after(e)),
        signal: tree.get("signal").and_then(|e| r.signal(e)),
        retry_max: tree.get("retry").map_or(0, |e| r.retry(e)),
        idempotency_key: tree.get("idempotency_key").and_then(|e| r.text(e)),
        program: program.unwrap_or(Program::Descriptor),
        warnings,
    };
    r.relations(&tree, &spec);
    let mut errors = r.errors;
    if errors.is_empty() {
        return Ok(spec);
    }
    errors.sort_by_key(|e| (e.line, e.col));
    errors.truncate(ERRORS_MAX);
    Err(errors)
}

struct Reader<'a> {
    text: &'a str,
    errors: Vec<SpecError>,
}

impl Reader<'_> {
    fn wrong(&mut self, node: &Node, code: &'static str, message: String, fix: &str) {
        let fix = (!fix.is_empty()).then(|| fix.to_string());
        self.errors.push(SpecError::at(self.text, node.span.clone(), code, message, fix));
    }

    fn wrong_kind(&mut self, entry: &Entry, expected: &str) {
        let message = format!("`{}` is {}; expected {expected}", entry.key, entry.value.data.kind());
        self.wrong(&entry.value, "E0105", message, "");
    }

    /// Every key must be known; known keys that do nothing yet are refused, never ignored.
    fn known(&mut self, table: &Table, within: &str, now: &[&'static str], later: &[&'static str]) {
        for entry in &table.entries {
            let key = entry.key.as_str();
            if now.contains(&key) {
                continue;
            }
            let full = if within.is_empty() { key.to_string() } else { format!("{within}.{key}") };
            let (code, message, fix) = if later.contains(&key) {
                (
                    "E0104",
                    format!("`{full}` is not supported yet"),
                    "remove it; nothing here would act on it".into(),
                )
            } else if let Some(near) = suggest::nearest(key, now) {
                ("E0103", format!("unknown key `{full}`"), format!("did you mean `{near}`?"))
            } else if within.is_empty()
                && let Some(near) = suggest::nearest(key, &RESOURCES)
            {
                ("E0103", format!("unknown key `{full}`"), format!("did you mean `resources.{near}`?"))
            } else {
                ("E0103", format!("unknown key `{full}`"), format!("known keys: {}", now.join(", ")))
            };
            self.errors.push(SpecError::at(self.text, entry.key_span.clone(), code, message, Some(fix)));
        }
    }

    fn text(&mut self, entry: &Entry) -> Option<String> {
        match &entry.value.data {
            Data::Text(text) if text.is_empty() => {
                self.wrong(
                    &entry.value,
                    "E0109",
                    format!("`{}` is empty", entry.key),
                    "remove it or fill it in",
                );
                None
            }
            Data::Text(text) if text.len() > TEXT_MAX || text.contains('\0') => {
                let message = format!("`{}` is longer than {TEXT_MAX} bytes or contains a NUL", entry.key);
                self.wrong(&entry.value, "E0109", message, "");
                None
            }
            Data::Text(text) => Some(text.clone()),
            _ => {
                self.wrong_kind(entry, "a string");
                None
            }
        }
    }

    /// Text with placeholders.
    fn path(&mut self, entry: &Entry) -> Option<String> {
        let text = self.text(entry)?;
        self.placeholders(&entry.value, &text);
        Some(text)
    }

    fn placeholders(&mut self, node: &Node, text: &str) {
        let mut rest = text.replace("{{", "").replace("}}", "");
        while let Some(open) = rest.find('{') {
            let Some(close) = rest[open..].find('}') else { break };
            let word = rest[open + 1..open + close].to_string();
            rest = rest.split_off(open + close + 1);
            // `{1..3}` or JSON in an argument is not a placeholder; only a bare word is taken for one.
            let bare = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if bare && !PLACEHOLDERS.contains(&word.as_str()) {
                let fix = match suggest::nearest(&word, &PLACEHOLDERS) {
                    Some(near) => format!("did you mean `{{{near}}}`?"),
                    None => format!(
                        "known: {{{}}}; write {{{{{word}}}}} for the text itself",
                        PLACEHOLDERS.join("} {")
                    ),
                };
                self.wrong(node, "E0111", format!("unknown placeholder `{{{word}}}`"), &fix);
            }
        }
    }

    fn integer(&mut self, entry: &Entry, min: i64, max: i64) -> Option<i64> {
        match entry.value.data {
            Data::Integer(number) if (min..=max).contains(&number) => Some(number),
            Data::Integer(number) => {
                let message = format!("`{}` = {number}: expected {min} to {max}", entry.key);
                self.wrong(&entry.value, "E0109", message, "");
                None
            }
            _ => {
                self.wrong_kind(entry, "an integer");
                None
            }
        }
    }

    fn boolean(&mut self, entry: &Entry) -> Option<bool> {
        if let Data::Boolean(value) = entry.value.data {
            return Some(value);
        }
        self.wrong_kind(entry, "true or false");
        None
    }

    fn duration(&mut self, entry: &Entry) -> Option<u64> {
        let ms = match &entry.value.data {
            Data::Integer(seconds) => {
                let ms = u64::try_from(*seconds).ok().and_then(|s| s.checked_mul(1000));
                ms.filter(|ms| *ms <= duration::DURATION_MS_MAX)
            }
            Data::Text(text) => duration::duration_ms(text),
            _ => {
                self.wrong_kind(entry, "a duration such as \"1h30m\"");
                return None;
            }
        };
        if ms.is_none_or(|ms| ms == 0) {
            let message = format!("{} = {}: not a duration", entry.key, self.source(&entry.value));
            self.wrong(
                &entry.value,
                "E0108",
                message,
                "expected a duration such as \"90s\", \"1h30m\" or \"01:30:00\"",
            );
            return None;
        }
        ms
    }

    fn source(&self, node: &Node) -> String {
        self.text.get(node.span.clone()).unwrap_or_default().chars().take(60).collect()
    }

    fn table<'n>(&mut self, entry: &'n Entry) -> Option<&'n Table> {
        if let Data::Table(table) = &entry.value.data {
            return Some(table);
        }
        self.wrong_kind(entry, "a table");
        None
    }

    fn kind(&mut self, entry: &Entry) {
        let Some(kind) = self.text(entry) else { return };
        match kind.as_str() {
            "job" => {}
            "array" | "service" | "reservation" | "vm" | "bundle" => {
                self.wrong(
                    &entry.value,
                    "E0104",
                    format!("kind = \"{kind}\" is not supported yet"),
                    "supported: kind = \"job\"",
                );
            }
            _ => self.wrong(
                &entry.value,
                "E0109",
                format!("kind = \"{kind}\" is not known"),
                "supported: kind = \"job\"",
            ),
        }
    }

    fn name(&mut self, entry: &Entry) -> Option<String> {
        let name = self.text(entry)?;
        if name.chars().count() > 128 || name.contains('/') || name.chars().any(char::is_control) {
            let message = "`name` is longer than 128 characters or holds a slash or control character";
            self.wrong(&entry.value, "E0109", message.into(), "choose a plain name");
            return None;
        }
        Some(name)
    }

    fn program(&mut self, tree: &Table) -> Option<Program> {
        let (exec, script) = (tree.get("exec"), tree.get("script"));
        if tree.is_script {
            for entry in [exec, script].into_iter().flatten() {
                let message = format!("`{}` in a #! script, which is itself the program", entry.key);
                self.wrong(&entry.value, "E0110", message, "remove the line");
            }
            return Some(Program::Descriptor);
        }
        match (exec, script) {
            (Some(exec), None) => self.text(exec).map(Program::Exec),
            (None, Some(script)) => self.text(script).map(Program::Script),
            (Some(_), Some(script)) => {
                let message = "both `exec` and `script` are given".into();
                self.wrong(&script.value, "E0110", message, "keep one of them");
                None
            }
            (None, None) => {
                let fix = "add a line such as: exec = \"/bin/echo\"";
                self.errors.push(SpecError::whole(
                    "E0106",
                    "neither `exec` nor `script` is given".into(),
                    fix,
                ));
                None
            }
        }
    }

    fn args(&mut self, entry: &Entry) -> Vec<String> {
        let Data::List(items) = &entry.value.data else {
            self.wrong_kind(entry, "a list of strings, [\"a\", \"b\"]");
            return Vec::new();
        };
        if items.len() > LIST_MAX {
            self.wrong(&entry.value, "E0109", format!("more than {LIST_MAX} arguments"), "");
            return Vec::new();
        }
        let mut out = Vec::new();
        for item in items {
            match &item.data {
                Data::Text(text) if text.contains('\0') => {
                    self.wrong(item, "E0109", "an argument cannot contain a NUL".into(), "");
                }
                Data::Text(text) => {
                    self.placeholders(item, text);
                    out.push(text.clone());
                }
                Data::Integer(number) => out.push(number.to_string()),
                other => {
                    let message = format!("an argument is {}; expected a string", other.kind());
                    self.wrong(item, "E0105", message, "put it in quotes");
                }
            }
        }
        out
    }

    fn env(&mut self, entry: &Entry) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        let Some(table) = self.table(entry) else { return out };
        for entry in table.entries.iter().take(LIST_MAX) {
            let value = match &entry.value.data {
                Data::Text(text) if !text.contains('\0') => text.clone(),
                Data::Integer(number) => number.to_string(),
                _ => {
                    self.wrong_kind(entry, "a string");
                    continue;
                }
            };
            let bad = entry.key.is_empty() || entry.key.contains(['=', '\0']);
            if bad {
                let message = format!("`{}` cannot be the name of an environment variable", entry.key);
                self.errors.push(SpecError::at(self.text, entry.key_span.clone(), "E0116", message, None));
            } else {
                out.insert(entry.key.clone(), value);
            }
        }
        out
    }

    fn resources(&mut self, entry: Option<&Entry>) -> Resources {
        let mut out = Resources { cpus: 1, memory: None, time_ms: None };
        let Some(table) = entry.and_then(|e| self.table(e)) else { return out };
        self.known(table, "resources", &RESOURCES, &RESOURCES_LATER);
        if let Some(cpus) = table.get("cpus").and_then(|e| self.integer(e, 1, 65_536)) {
            out.cpus = u32::try_from(cpus).expect("the range was just checked");
        }
        out.memory = table.get("memory").and_then(|e| self.memory(e));
        out.time_ms = table.get("time").and_then(|e| self.duration(e));
        out
    }

    fn memory(&mut self, entry: &Entry) -> Option<u64> {
        let bytes = match &entry.value.data {
            Data::Integer(bytes) => u64::try_from(*bytes).ok().filter(|b| *b > 0),
            Data::Text(text) => duration::size_bytes(text),
            _ => {
                self.wrong_kind(entry, "a size such as \"2GiB\"");
                return None;
            }
        };
        match bytes {
            None => {
                let message = format!("{} = {}", entry.key, self.source(&entry.value));
                self.wrong(&entry.value, "E0107", message, "expected a size such as \"2GiB\"");
            }
            Some(bytes) if bytes < 1 << 20 => {
                let message = format!("memory = {bytes} bytes is too little for any program");
                self.wrong(&entry.value, "E0109", message, "did you forget the unit, as in \"512MiB\"?");
            }
            Some(_) => {}
        }
        bytes
    }

    fn after(&mut self, entry: &Entry) -> Option<u64> {
        let table = self.table(entry)?;
        self.known(table, "after", &["begin"], &["ok", "any", "not_ok"]);
        let begin = table.get("begin")?;
        let text = match &begin.value.data {
            Data::Text(text) | Data::Moment(text) => text,
            _ => {
                self.wrong_kind(begin, "a time such as \"2026-01-01T22:00:00Z\"");
                return None;
            }
        };
        let at = duration::moment_unix_ms(text);
        if at.is_none() {
            let message = format!("begin = {}: not a time", self.source(&begin.value));
            self.wrong(&begin.value, "E0117", message, "expected a time such as \"2026-01-01T22:00:00Z\"");
        }
        at
    }

    fn signal(&mut self, entry: &Entry) -> Option<EarlySignal> {
        let table = self.table(entry)?;
        self.known(table, "signal", &["name", "before_end"], &[]);
        let number = match table.get("name") {
            None => Some(libc::SIGTERM),
            Some(name) => {
                let word = match &name.value.data {
                    Data::Integer(number) => number.to_string(),
                    _ => self.text(name)?,
                };
                let number = duration::signal_number(&word);
                if number.is_none() {
                    let message = format!("`{word}` is not a signal");
                    self.wrong(&name.value, "E0112", message, "expected a name such as \"USR1\"");
                }
                number
            }
        };
        let before_end_ms = match table.get("before_end") {
            Some(entry) => self.duration(entry)?,
            None => 60_000,
        };
        Some(EarlySignal { number: number?, before_end_ms })
    }

    fn retry(&mut self, entry: &Entry) -> u32 {
        let Some(table) = self.table(entry) else { return 0 };
        self.known(table, "retry", &["max", "on"], &[]);
        if let Some(on) = table.get("on") {
            let words = self.args(on);
            for word in words.iter().filter(|w| *w != "node_fail_before_start") {
                let (code, message) = match word.as_str() {
                    "node_fail" | "failed" => ("E0104", format!("retry on `{word}` is not supported yet")),
                    _ => ("E0109", format!("`{word}` is not a reason for a retry")),
                };
                self.wrong(&on.value, code, message, "supported: [\"node_fail_before_start\"]");
            }
        }
        let max = table.get("max").and_then(|e| self.integer(e, 0, 100)).unwrap_or(0);
        u32::try_from(max).expect("the range was just checked")
    }

    /// What two keys say about one another.
    fn relations(&mut self, tree: &Table, spec: &JobSpec) {
        if let (Some(signal), Some(entry)) = (&spec.signal, tree.get("signal")) {
            match spec.resources.time_ms {
                None => {
                    let message = "`signal` without a time limit has no end to come before".into();
                    self.wrong(&entry.value, "E0110", message, "add time = \"1h\" under [resources]");
                }
                Some(limit) if signal.before_end_ms >= limit => {
                    let message = "`signal.before_end` is not shorter than `resources.time`".into();
                    self.wrong(&entry.value, "E0110", message, "choose a shorter one");
                }
                Some(_) => {}
            }
        }
    }
}
