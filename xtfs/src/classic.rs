//! The names of the original tools: a link of that name behaves like the command it stands for.

use std::ffi::OsString;
use std::path::Path;

/// Classic name, and the words that it stands for.
pub(crate) const NAMES: &[(&str, &[&str])] = &[
    ("mkfs.xtreemfs", &["mkfs"]),
    ("rmfs.xtreemfs", &["rmfs"]),
    ("lsfs.xtreemfs", &["ls"]),
    ("mount.xtreemfs", &["mount"]),
    ("umount.xtreemfs", &["umount"]),
    ("xtfsutil", &["info"]),
    ("xtfs_scrub", &["scrub"]),
    ("xtfs_remove_osd", &["osd", "remove"]),
    ("xsub", &["job", "submit"]),
    ("xps", &["job", "ls"]),
    ("xwait", &["job", "wait"]),
    ("xkill", &["job", "cancel"]),
];

/// The arguments as if `xtfs COMMAND` had been called.
pub(crate) fn command_line(args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().and_then(|first| Path::new(first).file_name()).and_then(|name| name.to_str());
    let Some((_, words)) = NAMES.iter().find(|(classic, _)| Some(*classic) == name) else { return args };
    let mut line = vec![OsString::from("xtfs")];
    line.extend(words.iter().map(OsString::from));
    line.extend(args.into_iter().skip(1));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(args: &[&str]) -> Vec<String> {
        let line = command_line(args.iter().map(OsString::from).collect());
        line.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn a_link_is_a_command() {
        assert_eq!(
            words(&["/usr/sbin/mount.xtreemfs", "h/v", "/mnt", "-o", "ro"]),
            ["xtfs", "mount", "h/v", "/mnt", "-o", "ro"]
        );
        assert_eq!(words(&["xtfs_remove_osd", "u"]), ["xtfs", "osd", "remove", "u"]);
        assert_eq!(words(&["./xtfs", "ls"]), ["./xtfs", "ls"]);
        assert_eq!(words(&[]), Vec::<String>::new());
    }
}
