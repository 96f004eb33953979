//! A rename that fails may have found its names one after the other, and nothing else.

use posix_checker::check::{Options, check};
use posix_checker::history::text;

/// Violations when a file and a directory change places between 300 and 400, and `rename n0 n0` fails so at this time.
fn violations(refusal: &str, from: u64, to: u64) -> usize {
    let history = format!(
        "posix-history 1\n\
         call 0 0 10 20 tree:0 create-new n0 644 h0 = ok ino:7\n\
         call 0 0 30 40 tree:0 mkdir d0 755 = ok\n\
         call 0 0 300 400 tree:0 rename-exchange n0 d0 = ok\n\
         call 1 1 {from} {to} tree:0 rename n0 n0 = {refusal}\n"
    );
    let history = text::load(&mut history.as_bytes()).expect("a history");
    check(&history, &Options::default()).violations.len()
}

#[test]
fn a_directory_that_takes_the_place_of_a_file_meanwhile_explains_a_refusal() {
    assert_eq!(violations("!EISDIR", 200, 500), 0);
    assert_eq!(violations("ok", 200, 500), 0);
}

#[test]
fn what_was_so_before_or_is_so_after_the_call_does_not() {
    assert_eq!(violations("!EISDIR", 200, 250), 1);
    assert_eq!(violations("!EISDIR", 450, 500), 1);
    assert_eq!(violations("!ENOTDIR", 200, 500), 1, "never a directory first and then a file");
    assert_eq!(violations("!ENOENT", 200, 500), 1);
}

/// Violations when client 0 removes a name between 300 and 400, `observer` sees that it is done from 320 to 340, and
/// `late` finds the name once more from 350 to 360.
fn late_finds(observer: u16, late: u16, from: u64, to: u64) -> usize {
    let history = format!(
        "posix-history 1\n\
         call 0 0 10 20 tree:0 create-new n0 644 h0 = ok ino:7\n\
         call 0 0 300 400 tree:0 unlink n0 = ok\n\
         call {observer} 1 320 340 tree:0 stat n0 = ok attr:7,file,0,644,0,1\n\
         call {late} 2 {from} {to} tree:0 stat n0 = ok attr:7,file,0,644,0,1\n"
    );
    let history = text::load(&mut history.as_bytes()).expect("a history");
    check(&history, &Options::default()).violations.len()
}

#[test]
fn a_name_that_is_being_removed_is_found_on_its_own_mount_until_the_call_returns() {
    assert_eq!(late_finds(0, 0, 350, 360), 0);
    assert_eq!(late_finds(1, 0, 350, 360), 0);
    assert_eq!(late_finds(0, 1, 350, 360), 1, "another mount asks the file system");
    assert_eq!(late_finds(0, 0, 410, 420), 1, "it has returned");
}
