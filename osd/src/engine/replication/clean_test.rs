//! What a replica says to who reads without the primary, and what the primary waits for because of it.

use std::time::Duration;

use super::*;

type Engine = Column<u32, &'static str>;

const NOW: Duration = Duration::from_secs(1);
const OLD: Version = Version { epoch: 7, number: 3 };

fn role(epoch: u64, previous: &[u64]) -> Role {
    let member = |osd: &u64| Standing { osd: *osd, up: true, since: 1, votes: true };
    Role {
        epoch,
        primary: Some(1),
        members: [1, 2, 3].iter().map(member).collect(),
        previous: previous.iter().map(member).collect(),
        all: false,
        heard: None,
    }
}

fn kept(adopted: u64) -> Kept {
    Kept { adopted, doubtful: false, local: OLD, damaged: false }
}

#[test]
fn a_replica_says_what_it_has_or_why_it_does_not() {
    let mut engine = Engine::new(2, role(7, &[]), 0);
    assert_eq!(engine.word(4, kept(7)), Ok(Word { epoch: 7, version: OLD }));
    assert_eq!(engine.word(4, kept(6)), Err(Doubt::NotOpen));
    assert_eq!(engine.word(4, Kept { doubtful: true, ..kept(7) }), Err(Doubt::Doubtful));
    assert_eq!(engine.word(4, Kept { damaged: true, ..kept(7) }), Err(Doubt::Damaged));
    assert_eq!(Engine::new(2, role(7, &[2, 4, 5]), 0).word(4, kept(7)), Err(Doubt::Lists));
    assert_eq!(Engine::new(9, role(7, &[]), 0).word(4, kept(7)), Err(Doubt::Lists));
    // A primary has asked for the promise of an epoch that no map here gives yet.
    engine.handle(Event::Ask { epoch: 9, map: 9, waiter: "ask" }, NOW);
    assert_eq!(engine.word(4, kept(7)), Err(Doubt::NotOpen));
    assert_eq!(engine.word(4, kept(9)), Ok(Word { epoch: 9, version: OLD }));
}

#[test]
fn what_is_being_changed_is_not_vouched_for() {
    let mut engine = Engine::new(2, role(7, &[]), 0);
    engine.handle(Event::Ask { epoch: 7, map: 7, waiter: "ask" }, NOW);
    let apply =
        Event::Apply { epoch: 7, object: 4, base: OLD, number: 4, payload: 5, local: OLD, waiter: "apply" };
    let effects = engine.handle(apply, NOW);
    let work = effects.iter().find_map(|effect| match effect {
        Effect::Work { work, what: Work::Apply { .. } } => Some(*work),
        _ => None,
    });
    assert_eq!(engine.word(4, kept(7)), Err(Doubt::Changing), "it may not survive this process yet");
    assert!(engine.word(5, kept(7)).is_ok(), "another object");
    engine.handle(Event::Worked { work: work.unwrap(), done: Some(Reply::Done) }, NOW);
    assert!(engine.word(4, kept(7)).is_ok());
}
