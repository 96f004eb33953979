//! Turns: examples, and a register that clients write over a network that keeps requests for as long as it likes.

use proptest::prelude::*;

use super::*;

const FILE: FileKey = (1, 7);

fn turn(since: u64, round: u32) -> Turn {
    Turn { since, round }
}

#[test]
fn what_is_older_is_refused_and_what_is_newer_waits_for_it() {
    let mut turns = Turns::default();
    assert_eq!(turns.enter(FILE, turn(5, 0)), Entry::In);
    assert_eq!(turns.enter(FILE, turn(5, 0)), Entry::In, "the same turn: pieces side by side");
    assert_eq!(turns.enter(FILE, turn(5, 1)), Entry::Waits);
    assert_eq!(turns.enter(FILE, turn(5, 0)), Entry::TooLate(turn(5, 1)));
    turns.leave(FILE, turn(5, 0));
    assert_eq!(turns.may_go(FILE, turn(5, 1)), Entry::Waits);
    turns.leave(FILE, turn(5, 0));
    assert_eq!(turns.may_go(FILE, turn(5, 1)), Entry::In);
    assert_eq!(turns.enter((1, 8), turn(1, 0)), Entry::In, "another file");
}

#[test]
fn who_waits_may_become_too_late() {
    let mut turns = Turns::default();
    assert_eq!(turns.enter(FILE, turn(5, 0)), Entry::In);
    assert_eq!(turns.enter(FILE, turn(6, 0)), Entry::Waits);
    assert_eq!(turns.enter(FILE, turn(7, 0)), Entry::Waits);
    assert_eq!(turns.may_go(FILE, turn(6, 0)), Entry::TooLate(turn(7, 0)));
    assert_eq!(turns.may_go(FILE, turn(7, 0)), Entry::Waits);
    turns.leave(FILE, turn(6, 0));
    turns.leave(FILE, turn(5, 0));
    assert_eq!(turns.may_go(FILE, turn(7, 0)), Entry::In);
}

#[test]
fn files_are_bounded_and_those_being_changed_stay() {
    let mut turns = Turns::default();
    assert_eq!(turns.enter(FILE, turn(9, 0)), Entry::In);
    for file in 0..2 * FILES_MAX as u64 {
        turns.enter((2, file), turn(1, 0));
        turns.leave((2, file), turn(1, 0));
    }
    assert!(turns.files.len() <= FILES_MAX && turns.order.len() == turns.files.len());
    assert_eq!(turns.enter(FILE, turn(8, 0)), Entry::TooLate(turn(9, 0)));
}

/// A request on its way: value, turn, and whether somebody waits for its answer.
#[derive(Debug, Clone)]
struct Request {
    value: u32,
    turn: Turn,
    awaited: bool,
}

#[derive(Debug, Clone)]
enum Step {
    /// The holder writes something new, when its last write was answered or given up for good.
    Write,
    /// It gives up the attempt, and repeats it, or not.
    GiveUp { again: bool },
    /// It gives the right to write back, when nothing is awaited; another one gets it.
    HandOver,
    /// A request arrives: that many were sent after it.
    Arrive(usize),
    /// One that is inside is done: that many came in after it.
    Done(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let index = || 0..8_usize;
    prop_oneof![
        3 => Just(Step::Write),
        2 => any::<bool>().prop_map(|again| Step::GiveUp { again }),
        1 => Just(Step::HandOver),
        4 => index().prop_map(Step::Arrive),
        4 => index().prop_map(Step::Done),
    ]
}

/// One file at one OSD, the client that may write it, and the requests on their way.
#[derive(Default)]
struct World {
    turns: Turns,
    /// The OSD does not look at turns.
    blind: bool,
    network: Vec<Request>,
    inside: Vec<Request>,
    waiting: Vec<Request>,
    content: u32,
    holder: Turn,
    last: u32,
    /// What the holder was told to be there; nothing while it does not know.
    known: Option<u32>,
}

impl World {
    fn send(&mut self, value: u32) {
        self.network.push(Request { value, turn: self.holder, awaited: true });
    }

    fn awaited(&mut self) -> Option<&mut Request> {
        let all = self.network.iter_mut().chain(&mut self.inside).chain(&mut self.waiting);
        all.into_iter().find(|request| request.awaited)
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write if self.awaited().is_none() => {
                self.last += 1;
                self.known = None;
                self.send(self.last);
            }
            Step::GiveUp { again } => {
                let Some(request) = self.awaited() else { return };
                request.awaited = false;
                let value = request.value;
                self.holder.round += 1;
                if *again {
                    self.send(value);
                }
            }
            Step::HandOver if self.awaited().is_none() => {
                self.holder = turn(self.holder.since + 1, 0);
            }
            Step::Arrive(index) if !self.network.is_empty() => {
                let request = take_from_end(&mut self.network, *index);
                let entry = if self.blind { Entry::In } else { self.turns.enter(FILE, request.turn) };
                self.enters(request, entry);
            }
            Step::Done(index) if !self.inside.is_empty() => {
                let request = take_from_end(&mut self.inside, *index);
                self.content = request.value;
                if request.awaited {
                    self.known = Some(request.value);
                }
                self.turns.leave(FILE, request.turn);
                for request in std::mem::take(&mut self.waiting) {
                    let entry = self.turns.may_go(FILE, request.turn);
                    if matches!(entry, Entry::TooLate(_)) {
                        self.turns.leave(FILE, request.turn);
                    }
                    self.enters(request, entry);
                }
            }
            _ => {}
        }
    }

    fn enters(&mut self, request: Request, entry: Entry) {
        match entry {
            Entry::In => self.inside.push(request),
            Entry::Waits => self.waiting.push(request),
            // Its client hears of it and goes beyond.
            Entry::TooLate(seen) if request.awaited => {
                self.holder = self.holder.max(turn(seen.since, seen.round + 1));
                self.send(request.value);
            }
            Entry::TooLate(_) => {}
        }
    }

    /// What was answered is there until the holder writes something else.
    fn is_right(&self) -> bool {
        self.known.is_none_or(|known| known == self.content)
    }
}

fn take_from_end(requests: &mut Vec<Request>, index: usize) -> Request {
    let last = requests.len() - 1;
    requests.remove(last - index % requests.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_was_answered_stays(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::default();
        for step in &steps {
            world.take(step);
            prop_assert!(world.is_right(), "{:?} instead of {:?}", world.content, world.known);
        }
    }
}

#[test]
fn without_turns_a_late_attempt_comes_over_what_was_answered() {
    let mut world = World { blind: true, ..World::default() };
    let steps = [
        Step::Write,
        Step::GiveUp { again: true },
        Step::Arrive(0),
        Step::Done(0),
        Step::HandOver,
        Step::Write,
        Step::Arrive(0),
        Step::Done(0),
        Step::Arrive(0),
    ];
    steps.iter().for_each(|step| world.take(step));
    assert!(world.is_right());
    world.take(&Step::Done(0));
    assert!(!world.is_right());
}
