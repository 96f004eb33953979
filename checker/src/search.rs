//! Is there an order? The search behind every verdict.
//!
//! Calls begin and end in the order of the clock. The search keeps the set of all worlds that are still possible: a state
//! of the model and, of every call that has begun and not returned, how far it has come (Lowe's just-in-time
//! linearisation of Wing and Gong's search). When a call returns, each world is continued with pending calls in every
//! order until that call is done as it was seen; worlds in which it cannot be are given up. None left: no order
//! explains the history, and the call that just returned is the first that cannot be explained.
//!
//! Two things keep the set small: equal worlds are one, and a call that can no longer change anything is done as soon
//! as its outcome fits, for a world in which it is done can do all that one in which it is not can.

use std::collections::HashSet;
use std::hash::Hash;
use std::rc::Rc;

/// When a call may have taken effect.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// It was invoked at this time.
    pub from: u64,
    /// It had taken effect when this time came; `u64::MAX` if nobody knows.
    pub to: u64,
    /// It need not have taken effect at all, and has not after `to`.
    pub optional: bool,
}

/// What calls do, one at a time.
pub trait Model {
    /// What there is.
    type State: Clone + Eq + Hash;
    /// How far a call has come that takes effect in several steps.
    type Stage: Clone + Eq + Hash + Default;

    /// The state before the first call.
    fn start(&self) -> Self::State;

    /// Every next step of a call that agrees with what the caller saw; none if it cannot go on in this state.
    fn steps(
        &self,
        state: &Self::State,
        call: usize,
        stage: &Self::Stage,
        out: &mut Vec<Step<Self::State, Self::Stage>>,
    );

    /// The state without what no pending call can reach, if there is such a thing in it.
    fn forget(&self, state: &Self::State, pending: &[&Self::Stage]) -> Option<Self::State> {
        let _ = (state, pending);
        None
    }
}

/// One step of a call.
#[derive(Debug, Clone)]
pub enum Step<State, Stage> {
    /// It is over and never could change anything: it may as well be over now.
    Seen,
    /// It is over, and this is the state after it.
    Changed(State),
    /// It goes on from here later.
    Then(Stage),
    /// It has taken effect, and goes on from here later. Only of calls that are known to have ended.
    Midway(State, Stage),
    /// It has come closer to its end, and that can do no harm: no choice was made.
    Closer(Stage),
    /// It is over, with this state, and nobody but its caller could tell when.
    Unnoticed(State),
}

/// How much a search may cost.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Worlds looked at for the return of one call.
    pub worlds: usize,
    /// Worlds kept from one return to the next.
    pub kept: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { worlds: 60_000, kept: 6_000 }
    }
}

/// What the search found.
#[derive(Debug, Clone)]
pub enum Verdict<State> {
    /// There is an order.
    Explained,
    /// There is none.
    Violated {
        /// The first call that has no place.
        call: usize,
        /// States that were possible when it returned.
        states: Vec<State>,
        /// Calls that were pending when it returned, itself included.
        pending: Vec<usize>,
    },
    /// The budget was used up at the return of this call.
    Undecided {
        /// The call.
        call: usize,
    },
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct World<State, Stage> {
    state: Rc<State>,
    /// Calls that have begun and not returned, in the order in which they began.
    pending: Vec<(usize, Progress<Stage>)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Progress<Stage> {
    Waits(Stage),
    Done,
}

enum Moment {
    Begin(usize),
    Return(usize),
    /// An optional call can take effect no more.
    Gone(usize),
}

/// Searches for an order of the calls, each of which has a span.
pub fn search<M: Model>(model: &M, spans: &[Span], budget: Budget) -> Verdict<M::State> {
    let mut worlds = vec![World { state: Rc::new(model.start()), pending: Vec::new() }];
    for moment in moments(spans) {
        match moment {
            Moment::Begin(call) => {
                for world in &mut worlds {
                    world.pending.push((call, Progress::Waits(M::Stage::default())));
                    settle(model, spans, world);
                    forget(model, world);
                }
            }
            Moment::Gone(call) => {
                let Some(mut next) = returned(model, spans, &worlds, call, budget) else {
                    return Verdict::Undecided { call };
                };
                // Or it never took effect.
                for world in &mut worlds {
                    world.pending.retain(|(one, _)| *one != call);
                }
                next.append(&mut worlds);
                worlds = next.into_iter().collect::<HashSet<_>>().into_iter().collect();
            }
            Moment::Return(call) => match returned(model, spans, &worlds, call, budget) {
                None => return Verdict::Undecided { call },
                Some(next) if next.is_empty() => return violated(&worlds, call),
                Some(next) => worlds = next,
            },
        }
    }
    Verdict::Explained
}

fn moments(spans: &[Span]) -> Vec<Moment> {
    let mut moments = Vec::with_capacity(spans.len() * 2);
    for (call, span) in spans.iter().enumerate() {
        moments.push((span.from, 0, Moment::Begin(call)));
        // Two calls that touch in one instant overlap.
        match (span.optional, span.to) {
            (true, u64::MAX) => {}
            (true, to) => moments.push((to.max(span.from), 1, Moment::Gone(call))),
            (false, to) => moments.push((to.max(span.from), 1, Moment::Return(call))),
        }
    }
    moments.sort_by_key(|(at, kind, _)| (*at, *kind));
    moments.into_iter().map(|(_, _, moment)| moment).collect()
}

fn violated<State: Clone + Eq, Stage>(worlds: &[World<State, Stage>], call: usize) -> Verdict<State> {
    let mut states: Vec<State> = Vec::new();
    for world in worlds {
        if states.len() < 4 && !states.iter().any(|state| *state == *world.state) {
            states.push((*world.state).clone());
        }
    }
    let pending = worlds.first().map(|world| world.pending.iter().map(|(call, _)| *call).collect());
    Verdict::Violated { call, states, pending: pending.unwrap_or_default() }
}

/// Worlds in which a call is done; `None` if there are too many.
fn returned<M: Model>(
    model: &M,
    spans: &[Span],
    worlds: &[World<M::State, M::Stage>],
    call: usize,
    budget: Budget,
) -> Option<Vec<World<M::State, M::Stage>>> {
    let mut after = HashSet::new();
    let mut known = HashSet::new();
    let mut open: Vec<World<M::State, M::Stage>> = worlds.to_vec();
    let mut steps = Vec::new();
    while let Some(world) = open.pop() {
        let place = world.pending.iter().position(|(one, _)| *one == call);
        // An optional call that took effect is pending no more.
        if place.is_none_or(|place| world.pending[place].1 == Progress::Done) {
            let mut world = world;
            if let Some(place) = place {
                world.pending.remove(place);
            }
            forget(model, &mut world);
            after.insert(world);
            if after.len() > budget.kept {
                return None;
            }
            continue;
        }
        for (place, (pending, progress)) in world.pending.iter().enumerate() {
            let Progress::Waits(stage) = progress else { continue };
            steps.clear();
            model.steps(&world.state, *pending, stage, &mut steps);
            for step in steps.drain(..) {
                let Some(next) = advance(&world, place, step, spans[*pending].optional) else { continue };
                let mut next = next;
                settle(model, spans, &mut next);
                forget(model, &mut next);
                if known.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        if known.len() > budget.worlds {
            return None;
        }
    }
    Some(after.into_iter().collect())
}

/// The world after a step of the pending call at `place`; `None` if it is not worth a look.
fn advance<State: Clone, Stage: Clone>(
    world: &World<State, Stage>,
    place: usize,
    step: Step<State, Stage>,
    optional: bool,
) -> Option<World<State, Stage>> {
    let mut next = world.clone();
    match step {
        // Optional: as if it had never been. Otherwise `settle` has done it already.
        Step::Seen | Step::Closer(_) if optional => return None,
        Step::Seen => next.pending[place].1 = Progress::Done,
        Step::Then(stage) => next.pending[place].1 = Progress::Waits(stage),
        Step::Midway(_, _) if optional => return None,
        Step::Midway(state, stage) => {
            next.state = Rc::new(state);
            next.pending[place].1 = Progress::Waits(stage);
        }
        Step::Closer(stage) => next.pending[place].1 = Progress::Waits(stage),
        Step::Changed(state) | Step::Unnoticed(state) => {
            next.state = Rc::new(state);
            if optional {
                next.pending.remove(place);
            } else {
                next.pending[place].1 = Progress::Done;
            }
        }
    }
    Some(next)
}

/// Does what can no longer change anything and fits, and what nobody notices.
fn settle<M: Model>(model: &M, spans: &[Span], world: &mut World<M::State, M::Stage>) {
    let mut place = 0;
    while place < world.pending.len() {
        let (call, Progress::Waits(stage)) = &world.pending[place] else {
            place += 1;
            continue;
        };
        if spans[*call].optional {
            place += 1;
            continue;
        }
        match settled(model, &world.state, *call, stage, STEPS_MAX) {
            Some(Step::Closer(stage)) => world.pending[place].1 = Progress::Waits(stage),
            Some(Step::Unnoticed(state)) => {
                world.state = Rc::new(state);
                world.pending[place].1 = Progress::Done;
                // Others may fit now.
                place = 0;
                continue;
            }
            Some(_) => world.pending[place].1 = Progress::Done,
            None => {}
        }
        place += 1;
    }
}

/// Steps that a call that only looks may take within one state.
const STEPS_MAX: usize = 4;

/// How a call may as well go on at once.
fn settled<M: Model>(
    model: &M,
    state: &M::State,
    call: usize,
    stage: &M::Stage,
    steps_max: usize,
) -> Option<Step<M::State, M::Stage>> {
    let mut steps = Vec::new();
    model.steps(state, call, stage, &mut steps);
    let at_once = |step: &Step<_, _>| matches!(step, Step::Seen | Step::Closer(_) | Step::Unnoticed(_));
    if let Some(place) = steps.iter().position(at_once) {
        return Some(steps.swap_remove(place));
    }
    // All of its steps within this state, if they end with nothing changed.
    steps.iter().find_map(|step| match step {
        Step::Then(stage) if steps_max > 0 => {
            settled(model, state, call, stage, steps_max - 1).filter(|end| matches!(end, Step::Seen))
        }
        _ => None,
    })
}

fn forget<M: Model>(model: &M, world: &mut World<M::State, M::Stage>) {
    let stages: Vec<&M::Stage> = world
        .pending
        .iter()
        .filter_map(|(_, progress)| match progress {
            Progress::Waits(stage) => Some(stage),
            Progress::Done => None,
        })
        .collect();
    if let Some(state) = model.forget(&world.state, &stages) {
        world.state = Rc::new(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register that begins at 0.
    struct Register(Vec<Ask>);

    enum Ask {
        Write(u32),
        Read(u32),
    }

    impl Model for Register {
        type State = u32;
        type Stage = ();

        fn start(&self) -> u32 {
            0
        }

        fn steps(&self, state: &u32, call: usize, (): &(), out: &mut Vec<Step<u32, ()>>) {
            match self.0[call] {
                Ask::Write(value) => out.push(Step::Changed(value)),
                Ask::Read(value) if value == *state => out.push(Step::Seen),
                Ask::Read(_) => {}
            }
        }
    }

    fn verdict(calls: Vec<(u64, u64, Ask)>) -> Verdict<u32> {
        let spans: Vec<Span> = calls
            .iter()
            .map(|(from, to, _)| Span { from: *from, to: *to, optional: *to == u64::MAX })
            .collect();
        search(&Register(calls.into_iter().map(|(_, _, ask)| ask).collect()), &spans, Budget::default())
    }

    #[test]
    fn overlapping_calls_have_any_order() {
        let calls = vec![
            (0, 10, Ask::Write(1)),
            (0, 10, Ask::Write(2)),
            (1, 9, Ask::Read(0)),
            (11, 12, Ask::Read(1)),
        ];
        assert!(matches!(verdict(calls), Verdict::Explained));
    }

    #[test]
    fn a_value_overwritten_before_the_read_began_is_a_violation() {
        let calls = vec![(0, 1, Ask::Write(1)), (2, 3, Ask::Write(2)), (4, 5, Ask::Read(1))];
        assert!(matches!(verdict(calls), Verdict::Violated { call: 2, .. }));
    }

    #[test]
    fn two_readers_cannot_see_two_orders() {
        let calls = vec![
            (0, 20, Ask::Write(1)),
            (0, 20, Ask::Write(2)),
            (1, 2, Ask::Read(1)),
            (3, 4, Ask::Read(2)),
            (5, 6, Ask::Read(1)),
        ];
        assert!(matches!(verdict(calls), Verdict::Violated { call: 4, .. }));
    }

    #[test]
    fn an_unknown_write_may_be_seen_late_or_never() {
        let late = vec![(0, u64::MAX, Ask::Write(1)), (5, 6, Ask::Read(0)), (7, 8, Ask::Read(1))];
        assert!(matches!(verdict(late), Verdict::Explained));
        let never = vec![(0, u64::MAX, Ask::Write(1)), (5, 6, Ask::Read(0))];
        assert!(matches!(verdict(never), Verdict::Explained));
        let undone = vec![(0, u64::MAX, Ask::Write(1)), (5, 6, Ask::Read(1)), (7, 8, Ask::Read(0))];
        assert!(matches!(verdict(undone), Verdict::Violated { call: 2, .. }));
    }

    #[test]
    fn a_call_shut_out_has_no_effect_afterwards() {
        let spans = [
            Span { from: 0, to: 5, optional: true },
            Span { from: 6, to: 7, optional: false },
            Span { from: 8, to: 9, optional: false },
        ];
        let model = Register(vec![Ask::Write(1), Ask::Read(0), Ask::Read(1)]);
        assert!(matches!(search(&model, &spans, Budget::default()), Verdict::Violated { call: 2, .. }));
    }
}
