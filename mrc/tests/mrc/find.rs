//! Finding files by attributes: pages, subtrees, several names, what others may see.

use mrc::find::find;
use proto::error::{Code, WireError};
use proto::find::FindRequest;

use crate::harness::{Replica, head};

fn ask(replica: &Replica, request: &FindRequest) -> Vec<String> {
    let (mut paths, mut request) = (Vec::new(), request.clone());
    loop {
        let page = find(&replica.table, &request, 1_700_000_100).unwrap();
        paths.extend(page.found.iter().map(|found| String::from_utf8(found.path.clone()).unwrap()));
        if page.end {
            paths.sort();
            return paths;
        }
        assert!(page.after > request.after, "a page goes on");
        request.after = page.after;
    }
}

fn request(subtree: u64, query: &str) -> FindRequest {
    FindRequest { head: head(0, 0, true), subtree, query: query.into(), after: 0, limit: 1 }
}

fn world() -> (Replica, u64, u64) {
    let mut replica = Replica::new();
    let open = replica.mkdir(1, "open", 0o755).unwrap().ino;
    let closed = replica.mkdir(1, "closed", 0o700).unwrap().ino;
    let inner = replica.mkdir(closed, "inner", 0o755).unwrap().ino;
    let big = replica.mkfile(open, "big.log", 0o644).unwrap().ino;
    let change = proto::mrc::SetAttrRequest { size: Some(5000), ..replica.change_of(big) };
    replica.setattr(change).unwrap();
    replica.link(big, inner, "same.txt").unwrap();
    replica.mkfile(inner, "small.log", 0o600).unwrap();
    replica.setxattr(big, "user.project", Some(b"blue"), 0).unwrap();
    (replica, open, closed)
}

#[test]
fn names_sizes_and_attributes_are_found_in_a_subtree() {
    let (replica, open, closed) = world();
    let of = |root, query| ask(&replica, &request(root, query));
    assert_eq!(of(1, "name == \"*.log\""), ["closed/inner/small.log", "open/big.log"]);
    assert_eq!(of(open, "name == \"*.log\""), ["open/big.log"]);
    assert_eq!(of(1, "size > 4K && type == file"), ["open/big.log"]);
    assert_eq!(of(1, "type == directory"), ["closed", "closed/inner", "open"]);
    assert_eq!(of(1, "user.project == \"bl*\" && links == 2"), ["open/big.log"]);
    // Another name of the same file, where only that one lies inside or matches.
    assert_eq!(of(closed, "user.project"), ["closed/inner/same.txt"]);
    assert_eq!(of(1, "name == \"same*\""), ["closed/inner/same.txt"]);
    assert_eq!(of(1, "mtime > now"), Vec::<String>::new());
}

#[test]
fn others_find_only_what_they_can_reach() {
    let (replica, _, closed) = world();
    let as_other = |root, query| FindRequest { head: head(1000, 1000, false), ..request(root, query) };
    // `closed/inner` may be listed by all, but not be reached.
    assert_eq!(ask(&replica, &as_other(1, "name == \"*.log\"")), ["open/big.log"]);
    let refused = find(&replica.table, &as_other(closed, "size > 0"), 0).unwrap_err();
    assert_eq!(WireError::from(refused).code, Code::PermissionDenied);
    let wrong = find(&replica.table, &request(1, "size >"), 0).unwrap_err();
    assert_eq!(WireError::from(wrong).code, Code::InvalidArgument);
}
