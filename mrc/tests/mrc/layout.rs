//! Defaults for new files: the nearest directory above decides.

use mrc::command::Body;
use mrc::namespace::{layout, volume};
use proto::error::{Code, WireError};
use proto::layout::SetLayout;
use proto::rpc::Origin;
use proto::stripe::Striping;

use crate::fsck;
use crate::harness::{Replica, VOLUME, code, head};

fn striping(width: u32, replicas: u32) -> Striping {
    Striping { stripe_bytes: 1 << 16, width, replicas, replication: i32::from(replicas > 1), coding: None }
}

fn set(replica: &mut Replica, uid: u32, ino: u64, striping: Option<Striping>) -> Result<(), WireError> {
    let ask = SetLayout { head: head(uid, uid, false), origin: Origin::default(), ino, striping };
    replica.run(Body::SetLayout(ask)).map(drop)
}

fn default_of(replica: &Replica, directory: u64) -> (u32, u32, u64) {
    let record = volume::find(&replica.table, VOLUME).unwrap().unwrap();
    let found = layout::default_of(&replica.table, VOLUME, &record, directory).unwrap();
    (found.striping.width, found.striping.replicas, found.from)
}

#[test]
fn the_nearest_directory_decides_wherever_it_moves() {
    let mut replica = Replica::new();
    let a = replica.mkdir(1, "a", 0o755).unwrap().ino;
    let b = replica.mkdir(a, "b", 0o755).unwrap().ino;
    let c = replica.mkdir(b, "c", 0o755).unwrap().ino;
    assert_eq!(default_of(&replica, c), (1, 1, 0));
    set(&mut replica, 0, a, Some(striping(2, 1))).unwrap();
    set(&mut replica, 0, b, Some(striping(1, 3))).unwrap();
    assert_eq!(default_of(&replica, a), (2, 1, a));
    assert_eq!(default_of(&replica, c), (1, 3, b));
    replica.rename((b, "c"), (1, "c"), 0, 0).unwrap();
    assert_eq!(default_of(&replica, c), (1, 1, 0));
    set(&mut replica, 0, b, None).unwrap();
    assert_eq!(default_of(&replica, b), (2, 1, a));
    fsck::check(&replica.table);
    // With its directory the row goes.
    replica.rmdir(a, "b").unwrap();
    replica.rmdir(1, "a").unwrap();
    let prefix = mrc::namespace::keys::of_volume(mrc::namespace::keys::table::LAYOUT, VOLUME);
    let end = rt::table::prefix_end(&prefix);
    assert_eq!(rt::table::Table::scan(&replica.table, &prefix, &end, 9).unwrap(), []);
}

#[test]
fn only_owners_set_what_can_be() {
    let mut replica = Replica::new();
    replica.head = head(1000, 1000, true);
    let mine = replica.mkdir(1, "mine", 0o755).unwrap().ino;
    let file = replica.mkfile(mine, "f", 0o644).unwrap().ino;
    set(&mut replica, 1000, mine, Some(striping(1, 1))).unwrap();
    assert_eq!(code(set(&mut replica, 1001, mine, None)), Some(Code::NotPermitted));
    assert_eq!(code(set(&mut replica, 0, file, None)), Some(Code::NotDirectory));
    let odd = Striping { stripe_bytes: 5000, ..striping(1, 1) };
    assert_eq!(code(set(&mut replica, 0, mine, Some(odd))), Some(Code::InvalidArgument));
    assert_eq!(code(set(&mut replica, 0, mine, Some(striping(0, 1)))), Some(Code::InvalidArgument));
}
