//! How much may still be allocated for a file before its writer has to report: the client's side of byte quotas. See
//! docs/protocols/quota.md.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// Room of one file. Bytes are counted when a write begins (`taken`) and when it is over (`done`), so that an answer of
/// the MRC can be told from what it does not know of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// What is left; `None`: no quota applies.
    left: Option<u64>,
    taken: u64,
    done: u64,
}

impl Room {
    /// As an open said.
    #[must_use]
    pub fn new(room: Option<u64>) -> Self {
        Self { left: room, taken: 0, done: 0 }
    }

    /// Whether a quota applies.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.left.is_some()
    }

    /// A write of `bytes` begins. False: it does not fit, nothing was taken.
    pub fn take(&mut self, bytes: u64) -> bool {
        if let Some(left) = &mut self.left {
            match left.checked_sub(bytes) {
                Some(rest) => *left = rest,
                None => return false,
            }
        }
        self.taken = self.taken.wrapping_add(bytes);
        true
    }

    /// A write of `bytes` is over; the next report tells of it.
    pub fn done(&mut self, bytes: u64) {
        self.done = self.done.wrapping_add(bytes);
    }

    /// Before a report: everything up to here is in it.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.done
    }

    /// The answer to a report that covers everything up to `mark`.
    pub fn granted(&mut self, room: Option<u64>, mark: u64) {
        // What was under way then, and what began since, the MRC does not know.
        let unknown = self.taken.wrapping_sub(mark);
        self.left = room.map(|room| room.saturating_sub(unknown));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_quota_everything_fits() {
        let mut room = Room::new(None);
        assert!(room.take(u64::MAX) && !room.is_limited());
    }

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let mut room = Room::new(Some(10));
        assert!(!room.take(11));
        assert!(room.take(10));
        assert!(!room.take(1));
        assert!(room.take(0));
    }

    /// One file under a quota, any order of beginning and finishing writes and of reports that are answered late: what is
    /// written never passes the limit.
    #[derive(Debug, Clone)]
    enum Step {
        Begin(u64),
        Finish,
        Report,
        Answer,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..40u64).prop_map(Step::Begin), 4 => Just(Step::Finish), 2 => Just(Step::Report), 2 => Just(Step::Answer),
        ]
    }

    proptest! {
        #[test]
        fn one_writer_never_passes_the_limit(steps in proptest::collection::vec(step(), 1..200), limit in 0..200u64) {
            let share = |left: u64| left.min((left / 4).max(16));
            let mut room = Room::new(Some(share(limit)));
            let (mut flying, mut written, mut counted) = (Vec::new(), 0u64, 0u64);
            let mut asked: Option<(u64, u64)> = None;
            for step in steps {
                match step {
                    Step::Begin(bytes) => {
                        if room.take(bytes) {
                            flying.push(bytes);
                            written += bytes;
                        }
                    }
                    Step::Finish => {
                        if let Some(bytes) = flying.pop() {
                            room.done(bytes);
                        }
                    }
                    Step::Report if asked.is_none() => {
                        let finished = written - flying.iter().sum::<u64>();
                        counted = counted.max(finished);
                        asked = Some((room.mark(), share(limit - counted)));
                    }
                    Step::Answer => {
                        if let Some((mark, share)) = asked.take() {
                            room.granted(Some(share), mark);
                        }
                    }
                    Step::Report => {}
                }
                prop_assert!(written <= limit, "{written} bytes under a limit of {limit}");
            }
        }
    }
}
