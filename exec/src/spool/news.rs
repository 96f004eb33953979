//! What a change below `spool/` is about.

use super::SPOOL;
use crate::store::News;

/// Parts of the spool that are to be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    /// `new/` of some user, or the users.
    pub(crate) new: bool,
    /// `run/` or `hold/`.
    pub(crate) live: bool,
    /// `control/` of some job.
    pub(crate) control: bool,
}

impl Hint {
    /// Look at everything.
    pub(crate) const ALL: Hint = Hint { new: true, live: true, control: true };

    /// Whether there is anything to look at.
    pub(crate) fn any(self) -> bool {
        self.new || self.live || self.control
    }

    /// What the news are about. Output and records of jobs are no news.
    pub(crate) fn of(news: &News) -> Self {
        let mut hint = Self::default();
        for directory in news {
            let Some(directory) = directory else { return Self::ALL };
            let mut names = directory.split('/');
            if names.next() != Some(SPOOL) {
                return Self::ALL;
            }
            let rest: Vec<&str> = names.collect();
            match rest[..] {
                // A user came, or a bundle is being changed.
                [] | [_] | [_, "new", ..] => hint.new = true,
                [_, "run" | "hold", ..] => hint.live = true,
                [_, "jobs", _, "control"] => hint.control = true,
                _ => {}
            }
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_sorted_by_what_they_are_about() {
        let of = |path: &str| Hint::of(&vec![Some(path.to_owned())]);
        assert_eq!(of("spool/u/new"), Hint { new: true, ..Hint::default() });
        assert_eq!(of("spool/u/new/x.job"), Hint { new: true, ..Hint::default() });
        assert_eq!(of("spool"), Hint { new: true, ..Hint::default() });
        assert_eq!(of("spool/u/hold"), Hint { live: true, ..Hint::default() });
        assert_eq!(of("spool/u/jobs/j-1/control"), Hint { control: true, ..Hint::default() });
        assert!(!of("spool/u/jobs/j-1").any() && !of("spool/u/jobs/j-1/control/.done").any());
        assert!(!of("spool/.exec/active").any());
        assert_eq!(Hint::of(&vec![None]), Hint::ALL);
        assert_eq!(of("elsewhere"), Hint::ALL);
    }
}
