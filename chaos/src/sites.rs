//! Which fault sites the runs of this process came by: `rt::site` has what a site is.

use std::fmt;

/// The sites that are linked, and how many of them were hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Name and hits, by name.
    pub sites: Vec<(&'static str, u32)>,
}

impl Census {
    /// As of now.
    #[must_use]
    pub fn take() -> Self {
        Self { sites: rt::site::all().into_iter().map(|site| (site.name(), site.hits())).collect() }
    }

    /// Those that no run came by.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        self.sites.iter().filter(|(_, hits)| *hits == 0).map(|(name, _)| *name).collect()
    }

    /// One line each.
    #[must_use]
    pub fn list(&self) -> String {
        self.sites.iter().map(|(name, hits)| format!("{hits:>8} {name}\n")).collect()
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, missed) = (self.sites.len(), self.missed());
        write!(f, "fault sites: {} of {all} hit", all - missed.len())?;
        if missed.is_empty() { Ok(()) } else { write!(f, "; never: {}", missed.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_enough_of_them_each_with_a_name_of_its_own() {
        let census = Census::take();
        let names: BTreeSet<&str> = census.sites.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), census.sites.len(), "two sites have the same name");
        assert!(names.len() >= 200, "only {} fault sites", names.len());
        for name in names {
            let words: Vec<&str> = name.split('.').collect();
            let plain = |word: &&str| {
                !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
            };
            assert!(words.len() >= 2 && words.iter().all(plain), "{name} is not part.thing.event");
        }
    }

    #[test]
    fn those_that_were_missed_are_named() {
        let census = Census { sites: vec![("disk.full", 3), ("disk.dead", 0), ("net.healed", 0)] };
        assert_eq!(census.missed(), ["disk.dead", "net.healed"]);
        assert_eq!(census.to_string(), "fault sites: 1 of 3 hit; never: disk.dead, net.healed");
        assert_eq!(census.list().lines().next(), Some("       3 disk.full"));
        let all = Census { sites: vec![("disk.full", 3)] };
        assert_eq!(all.to_string(), "fault sites: 1 of 1 hit");
    }
}
