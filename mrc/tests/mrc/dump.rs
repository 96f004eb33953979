//! A volume as records, and from records again.

use mrc::command::Body;
use mrc::dump::dump;
use mrc::namespace::{entry, inode, keys, volume};
use proptest::prelude::*;
use proto::backup::{DumpHeader, DumpPage, LoadPage, PAGE_RECORDS};
use proto::error::{Code, WireError};
use proto::mrc::kind;
use proto::rpc::Origin;
use rt::table::{Table, prefix_end};

use crate::fsck;
use crate::harness::{Replica, VOLUME, code, head};
use crate::model::{Op, op, reap};

fn pages(replica: &Replica) -> Vec<DumpPage> {
    let mut pages = Vec::new();
    Table::at_one_moment(&replica.table, &mut |moment| {
        dump(moment, VOLUME, &mut |page| {
            pages.push(page);
            true
        })
        .unwrap();
    });
    pages
}

fn load(replica: &mut Replica, page: DumpPage) -> Result<(), WireError> {
    let DumpPage { header, nodes, names, end, .. } = page;
    let (head, origin) = (head(0, 0, false), Origin::default());
    let page = LoadPage { head, origin, begin: header, nodes, names, end, without_data: false };
    replica.run(Body::Load(page)).map(drop)
}

/// What a dump says, without where its pages end and with a fixed counter.
fn content(pages: &[DumpPage]) -> DumpPage {
    let mut all = DumpPage::default();
    for page in pages {
        if let Some(header) = &page.header {
            all.header = Some(DumpHeader { next_ino: 0, ..header.clone() });
        }
        all.nodes.extend(page.nodes.iter().cloned());
        all.names.extend(page.names.iter().cloned());
        all.end |= page.end;
    }
    all
}

#[test]
fn a_large_directory_takes_several_pages_and_comes_back_whole() {
    let mut replica = Replica::new();
    let dir = replica.mkdir(1, "d", 0o2755).unwrap().ino;
    for n in 0..PAGE_RECORDS + 50 {
        replica.mkfile(dir, &format!("f{n}"), 0o644).unwrap();
    }
    let dumped = pages(&replica);
    assert!(dumped.len() >= 4, "{} pages", dumped.len());
    assert!(dumped[..dumped.len() - 1].iter().all(|page| !page.end && page.nodes.len() <= PAGE_RECORDS));
    let mut again = Replica::new();
    for page in dumped.clone() {
        load(&mut again, page).unwrap();
    }
    assert_eq!(content(&pages(&again)), content(&dumped));
    fsck::check(&again.table);
    // New files get numbers that nobody had.
    let before = volume::find(&replica.table, VOLUME).unwrap().unwrap().next_ino;
    let new = again.mkfile(dir, "new", 0o644).unwrap().ino;
    assert!(new >= before + (1 << 32), "{new}");
}

#[test]
fn only_an_empty_volume_is_loaded_and_nothing_is_made_in_it_meanwhile() {
    let mut source = Replica::new();
    source.mkdir(1, "d", 0o755).unwrap();
    let dumped = pages(&source);
    assert_eq!(code(load(&mut source, dumped[0].clone())), Some(Code::NotEmpty));
    let mut again = Replica::new();
    let later = DumpPage { header: None, ..dumped[0].clone() };
    assert_eq!(code(load(&mut again, later)), Some(Code::InvalidArgument));
    load(&mut again, dumped[0].clone()).unwrap();
    assert_eq!(code(again.mkfile(1, "x", 0o644)), Some(Code::Busy));
    assert_eq!(code(load(&mut again, dumped[0].clone())), Some(Code::NotEmpty), "broken off");
    load(&mut again, dumped[1].clone()).unwrap();
    again.mkfile(1, "x", 0o644).unwrap();
    fsck::check(&again.table);
}

#[test]
fn records_that_do_not_fit_are_refused_and_leave_nothing() {
    let mut source = Replica::new();
    source.mkdir(1, "d", 0o755).unwrap();
    source.mkfile(1, "f", 0o644).unwrap();
    let dumped = pages(&source);
    let (nodes, names) = (dumped[0].clone(), dumped[1].clone());
    let refused = |change: &dyn Fn(&mut DumpPage, &mut DumpPage)| {
        let (mut nodes, mut names, mut replica) = (nodes.clone(), names.clone(), Replica::new());
        change(&mut nodes, &mut names);
        match load(&mut replica, nodes) {
            Ok(()) => code(load(&mut replica, names)),
            Err(error) => Some(error.code),
        }
    };
    let wrong = Some(Code::InvalidArgument);
    assert_eq!(refused(&|_, _| ()), None);
    assert_eq!(refused(&|nodes, _| nodes.nodes[2].attr.ino = 2), wrong, "a number twice");
    assert_eq!(refused(&|nodes, _| nodes.nodes[2].attr.ino = 1 << 60), wrong, "a number never given out");
    assert_eq!(refused(&|nodes, _| nodes.nodes[2].layout = None), wrong, "a file without a layout");
    assert_eq!(refused(&|nodes, _| nodes.nodes[2].attr.mode = 0), wrong, "no type");
    assert_eq!(refused(&|nodes, _| nodes.nodes[0].next_cookie = 0), wrong, "no cookies");
    assert_eq!(refused(&|nodes, _| nodes.nodes[1].acl = vec![7]), wrong, "no list");
    assert_eq!(refused(&|_, names| names.names[1].cookie = 99), wrong, "a cookie never given out");
    assert_eq!(refused(&|_, names| names.names[1].name = b"d".to_vec()), wrong, "a name twice");
    assert_eq!(refused(&|_, names| names.names[1].ino = names.names[0].ino), wrong, "a directory twice");
    assert_eq!(refused(&|_, names| names.names[1].ino = 77), Some(Code::Stale), "a node that is not there");
    assert_eq!(refused(&|_, names| names.names[1].parent = 3), Some(Code::NotDirectory));
    assert_eq!(refused(&|_, names| names.names[1].name = b"a/b".to_vec()), wrong);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_volume_comes_back_as_it_was(ops in proptest::collection::vec(op(), 1..80)) {
        let mut replica = Replica::new();
        for op in &ops {
            crate::quota::blind(&mut replica, op);
            if let Op::Xattr(ino, name, value) = op {
                let value = value.as_ref().map(std::slice::from_ref);
                drop(replica.setxattr(*ino, &format!("user.n{name}"), value, 0));
            }
            if let Op::Acl(ino, Some((bits, named))) = op {
                drop(replica.setxattr(*ino, crate::acl::ACCESS, Some(&crate::acl::showing(*bits, *named)), 0));
            }
        }
        let dumped = pages(&replica);
        let mut again = Replica::new();
        for page in dumped.clone() {
            load(&mut again, page).unwrap();
        }
        fsck::check(&again.table);
        prop_assert_eq!(content(&pages(&again)), content(&dumped));
        // The rows are the same too, once files without a name are gone. (Of several names another may be the home.)
        reap(&mut replica);
        for table in [keys::table::DENTRY, keys::table::ORDER, keys::table::XATTR] {
            let prefix = keys::of_volume(table, VOLUME);
            let rows = |of: &Replica| Table::scan(&of.table, &prefix, &prefix_end(&prefix), usize::MAX).unwrap();
            prop_assert_eq!(rows(&replica), rows(&again), "table {:#04x}", table);
        }
        let root = inode::find(&again.table, VOLUME, 1).unwrap().unwrap();
        prop_assert_eq!(root.attr.mode >> 12, kind::DIR);
        prop_assert_eq!(entry::parent_of(&root), Some(1));
    }
}
