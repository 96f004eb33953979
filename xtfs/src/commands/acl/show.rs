//! Lists as they are shown.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Sum, name};
use crate::acl::text::{Kind, letters, quote, words};
use crate::acl::{Acl, Lists};
use crate::output;
use crate::walk::Found;

/// The lists of a file.
pub(super) struct Shown<'a> {
    pub(super) found: &'a Found,
    pub(super) lists: &'a Lists,
    /// Numbers instead of names.
    pub(super) numeric: bool,
}

impl Shown<'_> {
    fn name(&self, kind: Kind, id: u32) -> Option<String> {
        if self.numeric { None } else { name(kind, id) }
    }

    fn owner(&self, kind: Kind) -> String {
        let id = if kind == Kind::User { self.found.attr.uid } else { self.found.attr.gid };
        self.name(kind, id).unwrap_or_else(|| id.to_string())
    }

    /// As getfacl writes it, with an empty line at the end.
    pub(super) fn text(&self, only_default: bool) -> String {
        let (mode, names) = (self.found.attr.mode, |kind, id| self.name(kind, id));
        let mut text = format!("# file: {}\n", quote(&self.found.path, "\n\r"));
        for (word, kind) in [("owner", Kind::User), ("group", Kind::Group)] {
            let _ = writeln!(text, "# {word}: {}", quote(&self.owner(kind), " \t\n\r"));
        }
        if mode & 0o7000 != 0 {
            let flag = |bit: u32, letter: char| if mode & bit == 0 { '-' } else { letter };
            let _ =
                writeln!(text, "# flags: {}{}{}", flag(0o4000, 's'), flag(0o2000, 's'), flag(0o1000, 't'));
        }
        let mut lines = if only_default { Vec::new() } else { self.lists.access.lines("", &names) };
        if let Some(default) = &self.lists.default {
            lines.extend(default.lines(if only_default { "" } else { "default:" }, &names));
        }
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// One object.
    pub(super) fn to_json(&self) -> Value {
        let attr = &self.found.attr;
        json!({
            "path": self.found.path,
            "owner": self.owner(Kind::User),
            "uid": attr.uid,
            "group": self.owner(Kind::Group),
            "gid": attr.gid,
            "mode": format!("{:04o}", attr.mode & 0o7777),
            "access": self.entries(&self.lists.access),
            "default": self.lists.default.as_ref().map(|list| self.entries(list)),
        })
    }

    fn entries(&self, list: &Acl) -> Vec<Value> {
        let entry = |(who, bits)| {
            let (word, _) = words(who, &|_, _| None);
            let (kind, id) = match who {
                crate::acl::Who::User(id) => (Kind::User, Some(id)),
                crate::acl::Who::Group(id) => (Kind::Group, Some(id)),
                _ => (Kind::User, None),
            };
            json!({
                "tag": word,
                "id": id,
                "name": id.and_then(|id| self.name(kind, id)),
                "permissions": letters(bits),
                "effective": letters(list.effective(who, bits)),
            })
        };
        list.entries().map(entry).collect()
    }

    /// After a change; the mode is the list's by then.
    pub(super) fn changed(&self, changed: bool, dry_run: bool, json: bool) {
        if json {
            let mut value = self.to_json();
            if let Some(fields) = value.as_object_mut() {
                // Of before the change.
                fields.shift_remove("mode");
                fields.insert("changed".to_owned(), json!(changed));
                fields.insert("dry_run".to_owned(), json!(dry_run));
            }
            return output::json(&value);
        }
        let verb = match (changed, dry_run) {
            (false, _) => "is already",
            (true, true) => "would be",
            (true, false) => "is now",
        };
        let names = |kind, id| self.name(kind, id);
        output::line(&format!("{} {verb} {}", self.found.path, self.lists.access.short(&names)));
        if let Some(default) = &self.lists.default {
            output::line(&format!("  what is made in it begins with {}", default.short(&names)));
        }
    }
}

/// After a change of a tree.
pub(super) fn summary(path: &str, sum: &Sum, dry_run: bool, json: bool) {
    if json {
        return output::json(&json!({
            "path": path, "seen": sum.seen, "changed": sum.changed, "failed": sum.failed, "dry_run": dry_run,
        }));
    }
    let verb = if dry_run { "would change" } else { "changed" };
    output::line(&format!("{path}: {verb} lists of {} of {} files and directories", sum.changed, sum.seen));
}
