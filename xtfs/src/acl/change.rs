//! What setfacl does to the lists of a file.

use super::text::{Entry, Permissions};
use super::{Acl, Lists, Who};

/// What is done with entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// They are added, or take the place of those of the same user or group (`setfacl -m`).
    Modify,
    /// Nothing else is left of the lists they belong to, but owner, group and others (`setfacl --set`).
    Replace,
    /// They go (`setfacl -x`); without any, all that says more than the mode (`setfacl -b`).
    Remove,
}

/// A change of lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    /// What is done.
    pub(crate) how: How,
    /// With these.
    pub(crate) entries: Vec<Entry>,
    /// The mask is not calculated from the entries.
    pub(crate) keeps_mask: bool,
    /// With [`How::Remove`] and no entries: only the default list goes.
    pub(crate) only_default: bool,
}

impl Change {
    /// Whether it speaks of the default list.
    pub(crate) fn wants_directory(&self) -> bool {
        self.only_default || self.entries.iter().any(|entry| entry.default)
    }

    /// Without what is said of default lists: for files, which have none. `None`: nothing is left to do.
    pub(crate) fn for_files(&self) -> Option<Self> {
        let removes_all = self.entries.is_empty() && !self.only_default;
        let entries: Vec<Entry> = self.entries.iter().filter(|entry| !entry.default).copied().collect();
        (removes_all || !entries.is_empty()).then(|| Self { entries, ..self.clone() })
    }

    /// The lists afterwards.
    pub(crate) fn apply(&self, lists: &Lists, is_dir: bool) -> Result<Lists, String> {
        if self.how == How::Remove && self.entries.is_empty() {
            let access = if self.only_default { lists.access.clone() } else { lists.access.minimal() };
            return Ok(Lists { access, default: None });
        }
        let access = self.changed(&lists.access, false, is_dir)?;
        let mut default = lists.default.clone();
        if self.entries.iter().any(|entry| entry.default) {
            default = match (default, self.how) {
                (None, How::Remove) => None,
                (default, _) => {
                    // A default list that is new begins with what the access list says of owner, group and others.
                    let mut before = default.unwrap_or_default();
                    for (who, bits) in access.entries().filter(|(who, _)| who.is_base()) {
                        before.0.entry(who).or_insert(bits);
                    }
                    Some(self.changed(&before, true, is_dir)?)
                }
            };
        }
        Ok(Lists { access, default })
    }

    fn changed(&self, before: &Acl, default: bool, is_dir: bool) -> Result<Acl, String> {
        let mine = || self.entries.iter().filter(|entry| entry.default == default);
        if mine().next().is_none() {
            return Ok(before.clone());
        }
        let mut after = before.clone();
        if self.how == How::Replace {
            after.0.retain(|who, _| who.is_base());
        }
        for entry in mine() {
            match entry.permissions.filter(|_| self.how != How::Remove) {
                Some(Permissions { bits, execute_if }) => {
                    let executes = execute_if && (is_dir || after.may_execute());
                    after.0.insert(entry.who, bits | u8::from(executes));
                }
                None if entry.who.is_base() => {
                    return Err(format!("{} is in every list and cannot be removed", bare(entry.who)));
                }
                None => {
                    after.0.remove(&entry.who);
                }
            }
        }
        let says_mask = mine().any(|entry| entry.who == Who::Mask);
        after.mend_mask(says_mask || self.keeps_mask);
        if says_mask && after.names_somebody() && self.how == How::Remove {
            return Err(
                "the mask cannot be removed while users or groups are named; remove them with it".to_owned()
            );
        }
        Ok(after)
    }
}

fn bare(who: Who) -> &'static str {
    match who {
        Who::Owner => "user::",
        Who::OwningGroup => "group::",
        _ => "other::",
    }
}

impl Acl {
    /// What the mode can say: others than owner and group get nothing of their own, and the group no more than it had.
    fn minimal(&self) -> Self {
        let base = self.entries().filter(|(who, _)| who.is_base());
        Self(base.map(|(who, bits)| (who, self.effective(who, bits))).collect())
    }

    /// A list that names somebody has a mask: all that those get whom it cuts, unless it is the user's to say.
    fn mend_mask(&mut self, is_said: bool) {
        let has_mask = self.0.contains_key(&Who::Mask);
        if !is_said && (has_mask || self.names_somebody()) {
            let union =
                self.entries().filter(|(who, _)| who.is_masked()).fold(0, |union, (_, bits)| union | bits);
            self.0.insert(Who::Mask, union);
        } else if !has_mask && self.names_somebody() {
            let group = self.get(Who::OwningGroup).unwrap_or(0);
            self.0.insert(Who::Mask, group);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::text::{Kind, Wants, parse};
    use super::*;

    fn nobody(_: Kind, _: u32) -> Option<String> {
        None
    }

    fn change(how: How, text: &str) -> Change {
        let wants = if how == How::Remove { Wants::Names } else { Wants::Permissions };
        let entries = parse(text, wants, &|_, _| None).unwrap();
        Change { how, entries, keeps_mask: false, only_default: false }
    }

    /// Applies changes one after the other to what a mode says; shows both lists.
    fn after(mode: u32, is_dir: bool, changes: &[Change]) -> Result<String, String> {
        let mut lists = Lists { access: Acl::of_mode(mode), default: None };
        for change in changes {
            lists = change.apply(&lists, is_dir)?;
        }
        let default = lists.default.map(|list| format!(" {}", list.short(&nobody)));
        Ok(lists
            .access
            .short(&nobody)
            .replace("user", "u")
            .replace("group", "g")
            .replace("mask", "m")
            .replace("other", "o")
            + &default
                .unwrap_or_default()
                .replace("user", "u")
                .replace("group", "g")
                .replace("mask", "m")
                .replace("other", "o"))
    }

    use How::{Modify, Remove, Replace};

    // What setfacl 2.3.2 does on tmpfs, case by case.
    #[test]
    fn the_mask_is_calculated_as_setfacl_does() {
        let run = |mode, changes: &[Change]| after(mode, false, changes).unwrap();
        assert_eq!(run(0o644, &[change(Modify, "u:1000:rw")]), "u::rw-,u:1000:rw-,g::r--,m::rw-,o::r--");
        assert_eq!(
            run(0o644, &[change(Modify, "u:1000:rw"), change(Remove, "u:1000")]),
            "u::rw-,g::r--,m::r--,o::r--"
        );
        assert_eq!(
            run(0o644, &[change(Modify, "u:9:rX,m::r"), change(Modify, "u:8:x")]),
            "u::rw-,u:8:--x,u:9:r--,g::r--,m::r-x,o::r--"
        );
        assert_eq!(run(0o644, &[change(Modify, "m::r,u:8:rwx")]), "u::rw-,u:8:rwx,g::r--,m::r--,o::r--");
        assert_eq!(run(0o640, &[change(Modify, "u:5:7"), change(Remove, "m:,u:5")]), "u::rw-,g::r--,o::---");
        assert_eq!(run(0o640, &[change(Remove, "u:5")]), "u::rw-,g::r--,o::---");
        let keeping = Change { keeps_mask: true, ..change(Modify, "u:5:7") };
        assert_eq!(run(0o640, &[keeping]), "u::rw-,u:5:rwx,g::r--,m::r--,o::---");
        assert_eq!(run(0o770, &[change(Modify, "u:5:rwx,m::r"), change(Remove, "")]), "u::rwx,g::r--,o::---");
        assert_eq!(
            run(0o600, &[change(Replace, "u::rw,g::r,o::-,u:1:rwx")]),
            "u::rw-,u:1:rwx,g::r--,m::rwx,o::---"
        );
        assert_eq!(
            run(0o640, &[change(Modify, "u:5:7,g:6:7"), change(Replace, "u:7:r")]),
            "u::rw-,u:7:r--,g::r--,m::r--,o::---"
        );
    }

    #[test]
    fn default_lists_begin_with_the_access_list() {
        let run = |changes: &[Change]| after(0o751, true, changes).unwrap();
        let access = "u::rwx,g::r-x,o::--x";
        assert_eq!(
            run(&[change(Modify, "d:u:5:rwx")]),
            format!("{access} u::rwx,u:5:rwx,g::r-x,m::rwx,o::--x")
        );
        assert_eq!(
            run(&[change(Modify, "d:u:5:rwx"), change(Remove, "d:u:5")]),
            format!("{access} u::rwx,g::r-x,m::r-x,o::--x")
        );
        assert_eq!(run(&[change(Modify, "d:m::r")]), format!("{access} u::rwx,g::r-x,m::r--,o::--x"));
        assert_eq!(
            run(&[change(Modify, "d:u:7:rX,u:9:rX")]),
            "u::rwx,u:9:r-x,g::r-x,m::r-x,o::--x u::rwx,u:7:r-x,g::r-x,m::r-x,o::--x"
        );
        assert_eq!(run(&[change(Remove, "d:u:77")]), access);
        let only = Change { only_default: true, ..change(Remove, "") };
        assert_eq!(run(&[change(Modify, "d:u:5:r,u:6:r"), only]), "u::rwx,u:6:r--,g::r-x,m::r-x,o::--x");
        assert_eq!(
            run(&[change(Modify, "d:u:5:r"), change(Replace, "d:u::rwx,d:g:9:x")]),
            format!("{access} u::rwx,g::r-x,g:9:--x,m::r-x,o::--x")
        );
    }

    #[test]
    fn what_a_list_must_have_stays() {
        for text in ["u::", "g:", "o"] {
            let why = after(0o644, false, &[change(Remove, text)]).unwrap_err();
            assert!(why.contains("cannot be removed"), "{text}: {why}");
        }
        assert!(after(0o644, false, &[change(Modify, "u:5:r"), change(Remove, "m")]).is_err());
    }

    #[test]
    fn files_get_what_is_not_for_directories() {
        assert_eq!(change(Modify, "d:u:5:r,u:6:r").for_files(), Some(change(Modify, "u:6:r")));
        assert_eq!(change(Modify, "d:u:5:r").for_files(), None);
        assert_eq!(change(Remove, "").for_files(), Some(change(Remove, "")));
        assert_eq!(Change { only_default: true, ..change(Remove, "") }.for_files(), None);
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let who = prop_oneof![
            Just(Who::Owner),
            Just(Who::OwningGroup),
            Just(Who::Other),
            Just(Who::Mask),
            (0..3u32).prop_map(Who::User),
            (0..3u32).prop_map(Who::Group)
        ];
        let permissions =
            (0..8u8, any::<bool>()).prop_map(|(bits, execute_if)| Some(Permissions { bits, execute_if }));
        proptest::collection::vec(
            (any::<bool>(), who, permissions).prop_map(|(default, who, permissions)| Entry {
                default,
                who,
                permissions,
            }),
            0..6,
        )
    }

    proptest! {
        /// Whatever was typed: the MRC takes the lists that come out.
        #[test]
        fn lists_stay_sound(all in proptest::collection::vec((0..3usize, entries(), any::<bool>()), 1..5), mode in 0..0o1000u32) {
            let mut lists = Lists { access: Acl::of_mode(mode), default: None };
            for (how, entries, keeps_mask) in all {
                let how = [Modify, Replace, Remove][how];
                let Ok(next) = (Change { how, entries, keeps_mask, only_default: false }).apply(&lists, true) else { continue };
                lists = next;
                for list in [Some(&lists.access), lists.default.as_ref()].into_iter().flatten() {
                    prop_assert!(mrc::namespace::acl::Acl::parse(&list.to_value()).is_ok_and(|list| list.is_some()), "{list:?}");
                }
            }
        }
    }
}
