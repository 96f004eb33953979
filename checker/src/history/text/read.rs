//! Calls and events from text. The text is not trusted.

use std::str::SplitAsciiWhitespace;

use crate::history::{
    Attributes, Call, Cell, Event, FileOp, Happening, Kind, LockKind, LockOp, LogOp, Object, Operation,
    Outcome, RenameMode, TreeOp, Value, errno_number,
};

/// The largest offset, length or size in cells: models keep a file's cells in memory.
const CELLS_MAX: u32 = 1 << 16;

type Read<T> = Result<T, String>;

struct Fields<'a>(SplitAsciiWhitespace<'a>);

impl<'a> Fields<'a> {
    fn word(&mut self, what: &str) -> Read<&'a str> {
        self.0.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Read<T> {
        let word = self.word(what)?;
        word.parse().map_err(|_| format!("{what}: `{word}` is not a number in range"))
    }

    fn cells(&mut self, what: &str) -> Read<u32> {
        let number = self.number(what)?;
        if number > CELLS_MAX { Err(format!("{what}: more than {CELLS_MAX} cells")) } else { Ok(number) }
    }

    fn octal(&mut self) -> Read<u32> {
        let word = self.word("mode")?;
        u32::from_str_radix(word, 8).map_err(|_| format!("mode: `{word}` is not octal"))
    }

    fn path(&mut self) -> Read<String> {
        let word = self.word("path")?;
        if word == "." {
            return Ok(String::new());
        }
        if word.split('/').any(str::is_empty) {
            return Err(format!("path: `{word}` has an empty component"));
        }
        Ok(word.to_owned())
    }

    fn lettered<T: std::str::FromStr>(&mut self, letter: char, what: &str) -> Read<T> {
        let word = self.word(what)?;
        let digits = word.strip_prefix(letter).ok_or_else(|| format!("{what}: `{word}` lacks `{letter}`"))?;
        digits.parse().map_err(|_| format!("{what}: `{word}` has no number in range"))
    }

    fn handle(&mut self) -> Read<u16> {
        self.lettered('h', "handle")
    }

    fn tag(&mut self) -> Read<u32> {
        match self.lettered('t', "tag")? {
            0 => Err("tag: 0 stands for zeroes and cannot be written".into()),
            tag => Ok(tag),
        }
    }

    fn end(&mut self) -> Read<()> {
        self.0.next().map_or(Ok(()), |word| Err(format!("`{word}` is too much")))
    }
}

pub(super) fn call(line: &str) -> Read<Call> {
    let (asked, outcome) = line.split_once(" = ").ok_or("no ` = OUTCOME`")?;
    let mut fields = Fields(asked.split_ascii_whitespace());
    let (client, process) = (fields.number("client")?, fields.number("process")?);
    let invoked = fields.number("time of the call")?;
    let returned = match fields.word("time of the return")? {
        "-" => None,
        word => Some(word.parse::<u64>().map_err(|_| format!("time of the return: `{word}`"))?),
    };
    if returned.is_some_and(|at| at < invoked) {
        return Err("it returned before it was called".into());
    }
    let object = object(fields.word("object")?)?;
    let operation = operation(object, &mut fields)?;
    fields.end()?;
    let outcome = self::outcome(outcome.trim())?;
    if returned.is_none() && outcome != Outcome::Unknown {
        return Err("its outcome is known, but not when it returned".into());
    }
    Ok(Call { client, process, invoked, returned, object, operation, outcome })
}

pub(super) fn event(line: &str) -> Read<Event> {
    let mut fields = Fields(line.split_ascii_whitespace());
    let at = fields.number("time")?;
    let what = match fields.word("event")? {
        "killed" => Happening::Killed,
        "power-lost" => Happening::PowerLost,
        "fenced" => Happening::Fenced(fields.number("client")?),
        word => return Err(format!("event: `{word}`")),
    };
    fields.end()?;
    Ok(Event { at, what })
}

fn object(word: &str) -> Read<Object> {
    let wrong = || format!("object: `{word}`");
    let (kind, number) = word.split_once(':').ok_or_else(wrong)?;
    let number = number.parse().map_err(|_| wrong())?;
    match kind {
        "tree" => Ok(Object::Tree(number)),
        "file" => Ok(Object::File(number)),
        "log" => Ok(Object::Log(number)),
        "locks" => Ok(Object::Locks(number)),
        _ => Err(wrong()),
    }
}

fn operation(object: Object, fields: &mut Fields<'_>) -> Read<Operation> {
    let verb = fields.word("operation")?;
    match object {
        Object::Tree(_) => tree(verb, fields).map(Operation::Tree),
        Object::File(_) => file(verb, fields).map(Operation::File),
        Object::Log(_) => match verb {
            "log-append" => Ok(Operation::Log(LogOp::Append { tag: fields.tag()? })),
            "log-read" => Ok(Operation::Log(LogOp::Read)),
            _ => Err(format!("`{verb}` is nothing to do with a log")),
        },
        Object::Locks(_) => lock(verb, fields).map(Operation::Lock),
    }
}

fn tree(verb: &str, fields: &mut Fields<'_>) -> Read<TreeOp> {
    Ok(match verb {
        "mkdir" => TreeOp::Mkdir { path: fields.path()?, mode: fields.octal()? },
        "rmdir" => TreeOp::Rmdir { path: fields.path()? },
        "create" | "create-new" => TreeOp::Create {
            path: fields.path()?,
            mode: fields.octal()?,
            exclusive: verb == "create-new",
            handle: fields.handle()?,
        },
        "open" => TreeOp::Open { path: fields.path()?, handle: fields.handle()? },
        "close" => TreeOp::Close { handle: fields.handle()? },
        "unlink" => TreeOp::Unlink { path: fields.path()? },
        "link" => TreeOp::Link { from: fields.path()?, to: fields.path()? },
        "symlink" => TreeOp::Symlink { target: fields.word("target")?.to_owned(), path: fields.path()? },
        "readlink" => TreeOp::Readlink { path: fields.path()? },
        "rename" | "rename-noreplace" | "rename-exchange" => {
            let mode = match verb {
                "rename" => RenameMode::Replace,
                "rename-noreplace" => RenameMode::NoReplace,
                _ => RenameMode::Exchange,
            };
            TreeOp::Rename { from: fields.path()?, to: fields.path()?, mode }
        }
        "stat" => TreeOp::Stat { path: fields.path()? },
        "fstat" => TreeOp::StatHandle { handle: fields.handle()? },
        "list" => TreeOp::List { path: fields.path()? },
        "chmod" => TreeOp::Chmod { path: fields.path()?, mode: fields.octal()? },
        "put" => TreeOp::Put { handle: fields.handle()?, tag: fields.tag()? },
        "get" => TreeOp::Get { handle: fields.handle()? },
        "get-path" => TreeOp::GetPath { path: fields.path()? },
        "sync" => TreeOp::Sync { handle: fields.handle()? },
        "sync-names" => TreeOp::SyncNames,
        _ => return Err(format!("`{verb}` is nothing to do with a tree")),
    })
}

fn file(verb: &str, fields: &mut Fields<'_>) -> Read<FileOp> {
    Ok(match verb {
        "write" => {
            FileOp::Write { at: fields.cells("offset")?, count: fields.cells("count")?, tag: fields.tag()? }
        }
        "read" => FileOp::Read { at: fields.cells("offset")?, count: fields.cells("count")? },
        "append" => FileOp::Append { tag: fields.tag()? },
        "truncate" => FileOp::Truncate { size: fields.cells("size")? },
        "allocate" => FileOp::Allocate { at: fields.cells("offset")?, count: fields.cells("count")? },
        "punch" => FileOp::Punch { at: fields.cells("offset")?, count: fields.cells("count")? },
        "size" => FileOp::Size,
        "seek-data" => FileOp::SeekData { at: fields.cells("offset")? },
        "seek-hole" => FileOp::SeekHole { at: fields.cells("offset")? },
        "fsync" => FileOp::Sync,
        _ => return Err(format!("`{verb}` is nothing to do with a file")),
    })
}

fn lock(verb: &str, fields: &mut Fields<'_>) -> Read<LockOp> {
    let kind = match fields.word("kind of lock")? {
        "fcntl" => LockKind::Fcntl,
        "flock" => LockKind::Flock,
        word => return Err(format!("kind of lock: `{word}`")),
    };
    match verb {
        "lock" => {
            let exclusive = match fields.word("mode")? {
                "exclusive" => true,
                "shared" => false,
                word => return Err(format!("mode of the lock: `{word}`")),
            };
            let (at, count) = (fields.cells("offset")?, fields.cells("count")?);
            let wait = match fields.word("try or wait")? {
                "wait" => true,
                "try" => false,
                word => return Err(format!("try or wait: `{word}`")),
            };
            Ok(LockOp::Lock { kind, exclusive, at, count, wait })
        }
        "unlock" => Ok(LockOp::Unlock { kind, at: fields.cells("offset")?, count: fields.cells("count")? }),
        _ => Err(format!("`{verb}` is nothing to do with locks")),
    }
}

fn outcome(text: &str) -> Read<Outcome> {
    if text == "?" {
        return Ok(Outcome::Unknown);
    }
    if let Some(name) = text.strip_prefix('!') {
        return errno_number(name).map(Outcome::Failed).ok_or_else(|| format!("errno: `{name}`"));
    }
    match text.strip_prefix("ok") {
        Some("") => Ok(Outcome::Ok(Value::Nothing)),
        Some(value) => self::value(value.trim()).map(Outcome::Ok),
        None => Err(format!("outcome: `{text}`")),
    }
}

fn value(text: &str) -> Read<Value> {
    let wrong = || format!("value: `{text}`");
    let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
    let list = || rest.split(',').filter(|part| !part.is_empty());
    Ok(match kind {
        "ino" => Value::Inode(rest.parse().map_err(|_| wrong())?),
        "attr" => Value::Attributes(attributes(rest).ok_or_else(wrong)?),
        "text" => Value::Text(rest.to_owned()),
        "names" => Value::Names(list().map(str::to_owned).collect()),
        "cells" => Value::Cells(list().map(cell).collect::<Option<_>>().ok_or_else(wrong)?),
        "at" => Value::Offset(rest.parse().map_err(|_| wrong())?),
        _ => return Err(wrong()),
    })
}

fn attributes(text: &str) -> Option<Attributes> {
    let mut parts = text.split(',');
    let ino = parts.next()?.parse().ok()?;
    let kind = match parts.next()? {
        "file" => Kind::File,
        "dir" => Kind::Directory,
        "link" => Kind::Symlink,
        _ => return None,
    };
    let links = parts.next()?.parse().ok()?;
    let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
    let (size, mtime) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(Attributes { ino, kind, links, mode, size, mtime })
}

fn cell(text: &str) -> Option<Cell> {
    match text {
        "0" => Some(Cell::Zero),
        "#" => Some(Cell::Garbage),
        _ => {
            let tags: Option<Vec<u32>> =
                text.split('+').map(|part| part.strip_prefix('t')?.parse().ok()).collect();
            match tags?.as_slice() {
                [0] => None,
                [tag] => Some(Cell::Tag(*tag)),
                tags => Some(Cell::Torn(tags.to_vec())),
            }
        }
    }
}
