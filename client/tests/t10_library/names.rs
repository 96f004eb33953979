//! Names, attributes, paths.

use std::sync::Arc;

use client::volume::attrs::{Changes, NewTime};
use client::volume::names::Move;
use client::{Code, Creds, Volume};
use proto::mrc::{RENAME_EXCHANGE, Time};

use super::bed::Bed;

async fn names_of(volume: &Arc<Volume>, path: &str) -> Vec<String> {
    let entries = volume.list(&Creds::root(), path).await.unwrap();
    let mut names: Vec<String> =
        entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_made_found_moved_and_removed() {
    let bed = Bed::start(1).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    let dir = volume.mkdir(&root, 1, b"dir", 0o750).await.unwrap();
    assert_eq!(dir.mode, libc::S_IFDIR | 0o750);
    volume.create_exclusive(&root, "/dir/one", b"1", 0o644).await.unwrap();
    let again = volume.create_exclusive(&root, "/dir/one", b"2", 0o644).await.unwrap_err();
    assert_eq!(again.code, Code::Exists);
    assert!(again.text.contains("/dir/one"), "{again}");
    volume.symlink(&root, 1, b"link", b"dir").await.unwrap();
    assert_eq!(&volume.read_file(&root, "/link/one").await.unwrap()[..], b"1");
    let one = volume.stat(&root, "link/one").await.unwrap();
    volume.link(&root, one.ino, 1, b"hard").await.unwrap();
    assert_eq!(volume.getattr(&root, one.ino).await.unwrap().nlink, 2);
    volume.rename_noreplace(&root, "/hard", "/dir/one").await.expect_err("it exists");
    volume.rename_noreplace(&root, "/dir/one", "/dir/two").await.unwrap();
    assert_eq!(names_of(&volume, "/dir").await, ["two"]);
    assert_eq!(names_of(&volume, "/").await, ["dir", "hard", "link"]);
    let exchange = Move {
        parent: 1,
        name: b"hard",
        new_parent: 1,
        new_name: b"link",
        flags: RENAME_EXCHANGE,
        only_if_no_writer: false,
    };
    volume.rename(&root, exchange).await.unwrap();
    assert_eq!(volume.resolve(&root, "/link", false).await.unwrap().ino, one.ino);
    assert_eq!(volume.remove(&root, "/dir").await.unwrap_err().code, Code::NotEmpty);
    for path in ["/dir/two", "/dir", "/hard", "/link"] {
        volume.remove(&root, path).await.unwrap();
    }
    assert!(names_of(&volume, "/").await.is_empty());
    assert_eq!(volume.stat(&root, "/dir/two").await.unwrap_err().code, Code::NotFound);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_and_extended_attributes_are_kept() {
    let bed = Bed::start(1).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    volume.write_file_atomic(&root, "/f", b"hello", 0o600).await.unwrap();
    let ino = volume.stat(&root, "/f").await.unwrap().ino;
    let mtime = Time { seconds: -5, nanos: 7 };
    let changes =
        Changes { mode: Some(0o4711), uid: Some(5), mtime: Some(NewTime::At(mtime)), ..Changes::default() };
    let attr = volume.setattr(&root, ino, changes).await.unwrap();
    assert_eq!((attr.mode & 0o7777, attr.uid, attr.mtime, attr.size), (0o4711, 5, mtime, 5));
    assert_eq!(volume.getattr(&root, ino).await.unwrap(), attr);
    volume.setxattr(&root, ino, b"user.a", Some(b"x\0y"), 0).await.unwrap();
    assert_eq!(volume.getxattr(&root, ino, b"user.a").await.unwrap(), b"x\0y");
    assert_eq!(volume.listxattr(&root, ino).await.unwrap(), [b"user.a"]);
    volume.setxattr(&root, ino, b"user.a", None, 0).await.unwrap();
    assert_eq!(volume.getxattr(&root, ino, b"user.a").await.unwrap_err().code, Code::NoAttribute);
    let stranger = Creds::new(1000, 1000);
    let denied = volume.read_file(&stranger, "/f").await.unwrap_err();
    assert_eq!(denied.code, Code::PermissionDenied, "{denied}");
    assert!(volume.statfs(&root, 1).await.unwrap().total_bytes > 0);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_directory_is_listed_page_by_page_exactly_once() {
    let bed = Bed::start(1).await;
    let (volume, root) = (bed.volume("a").await, Creds::root());
    let dir = volume.mkdir_all(&root, "/deep/down", 0o755).await.unwrap();
    for number in 0..300 {
        volume
            .mknod(&root, dir.ino, format!("file-{number:03}").as_bytes(), libc::S_IFREG | 0o644, 0)
            .await
            .unwrap();
    }
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = volume.readdir(&root, dir.ino, after, 7, true).await.unwrap();
        assert!(page.entries.iter().all(|entry| entry.attr.as_ref().unwrap().ino == entry.ino));
        after = page.entries.last().map_or(after, |entry| entry.cookie);
        let end = page.end;
        seen.extend(page.entries.into_iter().map(|entry| entry.name));
        if end {
            break;
        }
    }
    seen.sort();
    let wanted: Vec<Vec<u8>> = (0..300).map(|number| format!("file-{number:03}").into_bytes()).collect();
    assert_eq!(seen, wanted);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_being_written_is_not_claimed() {
    let bed = Bed::start(1).await;
    let (writer, claimer, root) = (bed.volume("writer").await, bed.volume("claimer").await, Creds::root());
    writer.create_exclusive(&root, "/job", b"half", 0o644).await.unwrap();
    let file = writer.open_path(&root, "/job", true).await.unwrap();
    let claim = || claimer.rename_path(&root, "/job", "/claimed", 0, true);
    assert_eq!(claim().await.unwrap_err().code, Code::WouldBlock);
    file.close().await.unwrap();
    claim().await.unwrap();
    assert_eq!(&claimer.read_file(&root, "/claimed").await.unwrap()[..], b"half");
    bed.stop().await;
}
