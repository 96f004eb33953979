//! Calls and events to text.

use crate::history::{
    Attributes, Call, Cell, Event, FileOp, Happening, Kind, LockKind, LockOp, LogOp, Object, Operation,
    Outcome, RenameMode, TreeOp, Value, errno_name,
};

pub(super) fn call(call: &Call) -> String {
    let returned = call.returned.map_or_else(|| "-".to_owned(), |at| at.to_string());
    format!(
        "call {} {} {} {returned} {} {} = {}",
        call.client,
        call.process,
        call.invoked,
        object(call.object),
        operation(&call.operation),
        outcome(&call.outcome)
    )
}

pub(super) fn event(event: &Event) -> String {
    let what = match event.what {
        Happening::Killed => "killed".to_owned(),
        Happening::PowerLost => "power-lost".to_owned(),
        Happening::Fenced(client) => format!("fenced {client}"),
    };
    format!("event {} {what}", event.at)
}

pub(super) fn object(object: Object) -> String {
    match object {
        Object::Tree(n) => format!("tree:{n}"),
        Object::File(n) => format!("file:{n}"),
        Object::Log(n) => format!("log:{n}"),
        Object::Locks(n) => format!("locks:{n}"),
    }
}

pub(super) fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Tree(op) => tree(op),
        Operation::File(op) => file(op),
        Operation::Log(LogOp::Append { tag }) => format!("log-append t{tag}"),
        Operation::Log(LogOp::Read) => "log-read".into(),
        Operation::Lock(op) => lock(op),
    }
}

fn path(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

fn tree(op: &TreeOp) -> String {
    match op {
        TreeOp::Mkdir { path: at, mode } => format!("mkdir {} {mode:o}", path(at)),
        TreeOp::Rmdir { path: at } => format!("rmdir {}", path(at)),
        TreeOp::Create { path: at, mode, exclusive, handle } => {
            format!("{} {} {mode:o} h{handle}", if *exclusive { "create-new" } else { "create" }, path(at))
        }
        TreeOp::Open { path: at, handle } => format!("open {} h{handle}", path(at)),
        TreeOp::Close { handle } => format!("close h{handle}"),
        TreeOp::Unlink { path: at } => format!("unlink {}", path(at)),
        TreeOp::Link { from, to } => format!("link {} {}", path(from), path(to)),
        TreeOp::Symlink { target, path: at } => format!("symlink {target} {}", path(at)),
        TreeOp::Readlink { path: at } => format!("readlink {}", path(at)),
        TreeOp::Rename { from, to, mode } => {
            let verb = match mode {
                RenameMode::Replace => "rename",
                RenameMode::NoReplace => "rename-noreplace",
                RenameMode::Exchange => "rename-exchange",
            };
            format!("{verb} {} {}", path(from), path(to))
        }
        TreeOp::Stat { path: at } => format!("stat {}", path(at)),
        TreeOp::StatHandle { handle } => format!("fstat h{handle}"),
        TreeOp::List { path: at } => format!("list {}", path(at)),
        TreeOp::Chmod { path: at, mode } => format!("chmod {} {mode:o}", path(at)),
        TreeOp::Put { handle, tag } => format!("put h{handle} t{tag}"),
        TreeOp::Get { handle } => format!("get h{handle}"),
        TreeOp::GetPath { path: at } => format!("get-path {}", path(at)),
        TreeOp::Sync { handle } => format!("sync h{handle}"),
        TreeOp::SyncNames => "sync-names".into(),
    }
}

fn file(op: &FileOp) -> String {
    match op {
        FileOp::Write { at, count, tag } => format!("write {at} {count} t{tag}"),
        FileOp::Read { at, count } => format!("read {at} {count}"),
        FileOp::Append { tag } => format!("append t{tag}"),
        FileOp::Truncate { size } => format!("truncate {size}"),
        FileOp::Allocate { at, count } => format!("allocate {at} {count}"),
        FileOp::Punch { at, count } => format!("punch {at} {count}"),
        FileOp::Size => "size".into(),
        FileOp::SeekData { at } => format!("seek-data {at}"),
        FileOp::SeekHole { at } => format!("seek-hole {at}"),
        FileOp::Sync => "fsync".into(),
    }
}

fn kind_of_lock(kind: LockKind) -> &'static str {
    match kind {
        LockKind::Fcntl => "fcntl",
        LockKind::Flock => "flock",
    }
}

fn lock(op: &LockOp) -> String {
    match op {
        LockOp::Lock { kind, exclusive, at, count, wait } => {
            let (mode, how) =
                (if *exclusive { "exclusive" } else { "shared" }, if *wait { "wait" } else { "try" });
            format!("lock {} {mode} {at} {count} {how}", kind_of_lock(*kind))
        }
        LockOp::Unlock { kind, at, count } => format!("unlock {} {at} {count}", kind_of_lock(*kind)),
    }
}

pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok(Value::Nothing) => "ok".into(),
        Outcome::Ok(value) => format!("ok {}", self::value(value)),
        Outcome::Failed(errno) => format!("!{}", errno_name(*errno)),
        Outcome::Unknown => "?".into(),
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Nothing => "-".into(),
        Value::Inode(ino) => format!("ino:{ino}"),
        Value::Attributes(Attributes { ino, kind, links, mode, size, mtime }) => {
            let kind = match kind {
                Kind::File => "file",
                Kind::Directory => "dir",
                Kind::Symlink => "link",
            };
            format!("attr:{ino},{kind},{links},{mode:o},{size},{mtime}")
        }
        Value::Text(text) => format!("text:{text}"),
        Value::Names(names) => format!("names:{}", names.join(",")),
        Value::Cells(cells) => {
            format!("cells:{}", cells.iter().map(cell).collect::<Vec<_>>().join(","))
        }
        Value::Offset(at) => format!("at:{at}"),
    }
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Zero => "0".into(),
        Cell::Tag(tag) => format!("t{tag}"),
        Cell::Torn(tags) => tags.iter().map(|tag| format!("t{tag}")).collect::<Vec<_>>().join("+"),
        Cell::Garbage => "#".into(),
    }
}
