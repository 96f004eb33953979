//! Changes of replica lists: one at a time, by view; who votes under policy `all`.

use mrc::command::Body;
use mrc::namespace::replicas::{layout_of, page};
use prost::Message;
use proto::error::{Code, WireError};
use proto::mrc::{CompleteReplicasRequest, ListReplicasRequest, ReplicasReply, SetReplicasRequest};
use proto::rpc::Origin;
use proto::stripe::{Column, Layout, Replication};

use crate::harness::{Replica, VOLUME, code, head, layout};

fn columns(lists: &[&[u64]]) -> Vec<Column> {
    lists.iter().map(|osds| Column { osds: osds.to_vec() }).collect()
}

fn file(replica: &mut Replica, policy: Replication, lists: &[&[u64]]) -> u64 {
    let layout = Layout { columns: columns(lists), replication: policy as i32, ..layout() };
    replica.create_placed(1, "f", true, layout).unwrap().attr.ino
}

fn set(
    replica: &mut Replica,
    ino: u64,
    view: u64,
    lists: &[&[u64]],
    learners: &[u64],
) -> Result<Layout, WireError> {
    let (head, columns, learners) = (replica.head.clone(), columns(lists), learners.to_vec());
    let ask = SetReplicasRequest { head, origin: Origin::default(), ino, view, columns, learners };
    replica.run(Body::SetReplicas(ask)).map(|bytes| ReplicasReply::decode(bytes).unwrap().layout)
}

fn complete(replica: &mut Replica, ino: u64, view: u64) -> Result<Layout, WireError> {
    let ask = CompleteReplicasRequest { head: replica.head.clone(), origin: Origin::default(), ino, view };
    replica.run(Body::CompleteReplicas(ask)).map(|bytes| ReplicasReply::decode(bytes).unwrap().layout)
}

#[test]
fn one_change_at_a_time_by_who_saw_the_present_view() {
    let mut replica = Replica::new();
    let ino = file(&mut replica, Replication::Quorum, &[&[1, 2, 3]]);
    assert_eq!(code(set(&mut replica, ino, 2, &[&[1, 2, 4]], &[])), Some(Code::OldView));
    let begun = set(&mut replica, ino, 1, &[&[1, 2, 4]], &[9]).unwrap();
    assert_eq!((begun.view, begun.previous.clone()), (2, columns(&[&[1, 2, 3]])));
    assert!(begun.learners.is_empty(), "everybody votes by majority");
    assert_eq!(code(set(&mut replica, ino, 2, &[&[1, 2, 5]], &[])), Some(Code::Busy));
    assert_eq!(code(complete(&mut replica, ino, 1)), Some(Code::OldView));
    let done = complete(&mut replica, ino, 2).unwrap();
    assert_eq!((done.view, done.previous.len(), done.columns), (3, 0, columns(&[&[1, 2, 4]])));
    // OSD 3 is still to be cleared.
    assert_eq!(code(set(&mut replica, ino, 3, &[&[1, 2, 3]], &[])), Some(Code::Busy));
    for bad in [&[&[1u64, 2][..], &[1, 2]][..], &[&[1]], &[&[1, 1]], &[&[0, 1]]] {
        assert_eq!(code(set(&mut replica, ino, 3, bad, &[])), Some(Code::InvalidArgument), "{bad:?}");
    }
    replica.head = head(77, 77, true);
    assert_eq!(code(set(&mut replica, ino, 3, &[&[1, 2, 5]], &[])), Some(Code::NotPermitted));
}

#[test]
fn of_policy_all_somebody_who_has_everything_stays_and_who_is_new_learns() {
    let mut replica = Replica::new();
    let ino = file(&mut replica, Replication::All, &[&[1, 2], &[2, 3]]);
    // OSD 2 loses its vote.
    let lost = set(&mut replica, ino, 1, &[&[1, 2], &[2, 3]], &[2]).unwrap();
    assert_eq!((lost.replication, lost.learners, lost.previous_learners), (2, vec![2], vec![]));
    let done = complete(&mut replica, ino, 2).unwrap();
    assert_eq!((done.learners, done.previous_learners), (vec![2], vec![]));
    // OSD 4 takes its place and learns; OSD 1 may not go, nor lose its vote: nobody else has everything.
    for (lists, learners) in [([&[2u64, 4][..], &[2, 3]], vec![2]), ([&[1, 2], &[2, 3]], vec![1])] {
        let refused = set(&mut replica, ino, 3, &lists, &learners).unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument);
        assert!(refused.text.contains("nobody in column 0"), "{refused}");
    }
    let moved = set(&mut replica, ino, 3, &[&[1, 4], &[4, 3]], &[2]).unwrap();
    assert_eq!((moved.learners, moved.previous_learners), (vec![4], vec![2]));
    complete(&mut replica, ino, 4).unwrap();
    let all = set(&mut replica, ino, 5, &[&[1, 4], &[4, 3]], &[]).unwrap();
    assert_eq!((all.learners, all.previous_learners), (vec![], vec![4]), "it votes when it has everything");
    assert_eq!(layout_of(&replica.table, VOLUME, ino).unwrap().view, 6);
}

#[test]
fn files_with_learners_are_listed_for_whoever_looks_after_them() {
    let mut replica = Replica::new();
    let ino = file(&mut replica, Replication::All, &[&[1, 2]]);
    let ask = ListReplicasRequest { head: replica.head.clone(), after: 0, osds: vec![7] };
    let listed = |replica: &Replica| {
        page(&replica.table, &ask).unwrap().files.iter().map(|f| f.ino).collect::<Vec<_>>()
    };
    assert_eq!(listed(&replica), Vec::<u64>::new());
    set(&mut replica, ino, 1, &[&[1, 2]], &[2]).unwrap();
    complete(&mut replica, ino, 2).unwrap();
    assert_eq!(listed(&replica), [ino]);
}
