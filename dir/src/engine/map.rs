//! Transitions of one OSD in the map: what is stored, what others see, when the epoch grows.
//!
//! ```text
//!            RegisterOsd           TakeDown
//!   (none) ------------> alive <------------> dead        what the DIR knows of the process
//!                               RegisterOsd
//!
//!   Up <----> Draining <----> Out <----> Up               what the administrator wants (SetAdmin)
//!
//!   seen by others:        alive      dead
//!             Up           Up         Down
//!             Draining     Draining   Down
//!             Out          Out        Out
//! ```

use proto::dir::{OsdEntry, OsdMap, OsdState};

/// An OSD as the DIR stores it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OsdRow {
    /// As it registered last; `state` is what others see.
    #[prost(message, required, tag = "1")]
    pub entry: OsdEntry,
    /// The administrator's will: `Up`, `Draining` or `Out`.
    #[prost(enumeration = "OsdState", tag = "2")]
    pub admin: i32,
    /// Whether its process lives as far as the DIR knows.
    #[prost(bool, tag = "3")]
    pub alive: bool,
}

/// What others see of an OSD.
fn seen(admin: OsdState, alive: bool) -> OsdState {
    match (admin, alive) {
        (OsdState::Out, _) => OsdState::Out,
        (_, false) => OsdState::Down,
        (OsdState::Draining, true) => OsdState::Draining,
        (OsdState::Up | OsdState::Down, true) => OsdState::Up,
    }
}

impl OsdRow {
    /// An OSD that registers for the first time.
    #[must_use]
    pub fn new(osd: u64, entry: OsdEntry) -> Self {
        let entry = OsdEntry { osd, state: OsdState::Up as i32, weight: None, ..entry };
        Self { entry, admin: OsdState::Up as i32, alive: true }
    }

    /// The row after a heartbeat that says `entry`.
    #[must_use]
    pub fn registered(&self, entry: &OsdEntry) -> Self {
        let mut row = self.clone();
        let OsdEntry { osd, since_epoch, slow_since, weight, .. } = self.entry;
        row.entry = OsdEntry { osd, since_epoch, slow_since, weight, ..entry.clone() };
        row.alive = true;
        row.show()
    }

    /// The row after its death at `addr`; unchanged when it lives elsewhere by now.
    #[must_use]
    pub fn taken_down(&self, addr: &str) -> Self {
        let mut row = self.clone();
        row.alive &= self.entry.addr != addr;
        row.show()
    }

    /// The row after the administrator's word.
    #[must_use]
    pub fn administered(&self, admin: OsdState) -> Self {
        let mut row = self.clone();
        row.admin = admin as i32;
        row.show()
    }

    /// The row with another share of new files.
    #[must_use]
    pub fn weighing(&self, weight: u32) -> Self {
        let mut row = self.clone();
        row.entry.weight = Some(weight);
        row
    }

    /// Whether a heartbeat that says `entry` changes what has to be remembered: only then it goes to the log.
    #[must_use]
    pub fn changes_with(&self, entry: &OsdEntry) -> bool {
        let entry_differs = self.entry.addr != entry.addr || self.entry.domain != entry.domain;
        // Another life at the same address: whoever talked with the one before must know.
        !self.alive || entry_differs || self.entry.life != entry.life || self.entry.slow != entry.slow
    }

    /// Whether others must hear of the change from `self` to `next`: then the epoch grows.
    #[must_use]
    pub fn differs_visibly(&self, next: &OsdRow) -> bool {
        let face = |row: &OsdRow| {
            let OsdEntry { state, addr, domain, life, .. } = &row.entry;
            (*state, addr.clone(), domain.clone(), *life)
        };
        face(self) != face(next)
    }

    /// Whether another one should lead from `self` to `next`, or may again: the epoch grows for that as well, but nobody
    /// who talks with the OSD needs to begin anew.
    #[must_use]
    pub fn differs_in_pace(&self, next: &OsdRow) -> bool {
        self.entry.slow != next.entry.slow
    }

    /// Whether it gets another share of new files from now on: the epoch grows, so that the MRC hears of it, and that is all.
    #[must_use]
    pub fn differs_in_weight(&self, next: &OsdRow) -> bool {
        self.entry.weight() != next.entry.weight()
    }

    /// What others see.
    #[must_use]
    pub fn state(&self) -> OsdState {
        seen(self.admin(), self.alive)
    }

    fn show(mut self) -> Self {
        self.entry.state = self.state() as i32;
        self
    }
}

/// The map that `rows` make.
pub fn osd_map<'a>(epoch: u64, rows: impl Iterator<Item = &'a OsdRow>) -> OsdMap {
    OsdMap { epoch, osds: rows.map(|row| row.entry.clone()).collect(), dirs: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(addr: &str) -> OsdEntry {
        OsdEntry { uuid: "u".into(), addr: addr.into(), domain: "rack".into(), ..OsdEntry::default() }
    }

    /// Every pair of the drawing above.
    #[test]
    fn seen_is_the_table() {
        use OsdState::*;
        let table = [
            (Up, true, Up),
            (Up, false, Down),
            (Draining, true, Draining),
            (Draining, false, Down),
            (Out, true, Out),
            (Out, false, Out),
        ];
        for (admin, alive, want) in table {
            assert_eq!(seen(admin, alive), want, "{admin:?} alive={alive}");
        }
    }

    /// Death, heartbeat and the administrator's word in every order end in a state that only depends on the last
    /// word about each of both.
    #[test]
    fn admin_states_survive_death_and_heartbeats() {
        for admin in [OsdState::Up, OsdState::Draining, OsdState::Out] {
            let row = OsdRow::new(1, entry("tcp://a:1")).administered(admin);
            let dead = row.taken_down("tcp://a:1");
            assert!(!dead.alive);
            let back = dead.registered(&entry("tcp://a:1"));
            assert_eq!(back, row, "{admin:?} after death and return");
            assert_eq!(back.state(), admin);
            let undone = dead.administered(OsdState::Up);
            assert_eq!(undone.state(), OsdState::Down);
        }
    }

    /// What an OSD says of its own weight is nothing.
    #[test]
    fn the_weight_survives_everything_but_another_word_about_it() {
        let claims = OsdEntry { weight: Some(900), ..entry("tcp://a:1") };
        assert_eq!(OsdRow::new(1, claims.clone()).entry.weight(), 100);
        let row = OsdRow::new(1, claims.clone()).weighing(30);
        let later = row.taken_down("tcp://a:1").registered(&claims).administered(OsdState::Draining);
        assert_eq!(later.entry.weight(), 30);
        assert!(!row.changes_with(&claims), "a heartbeat is not in the log for its sake");
        assert!(row.differs_in_weight(&row.weighing(0)) && !row.differs_visibly(&row.weighing(0)));
        assert!(!OsdRow::new(1, claims).differs_in_weight(&row.weighing(100)), "told or not: ordinary");
    }

    #[test]
    fn death_at_a_former_address_is_no_death() {
        let row = OsdRow::new(1, entry("tcp://a:1")).registered(&entry("tcp://b:1"));
        assert!(row.taken_down("tcp://a:1").alive);
        assert!(!row.taken_down("tcp://b:1").alive);
    }

    #[test]
    fn only_state_address_and_domain_are_visible_changes() {
        let row = OsdRow::new(1, entry("tcp://a:1"));
        let report = OsdEntry { free_bytes: 9, total_bytes: 9, http: "h".into(), ..entry("tcp://a:1") };
        assert!(!row.changes_with(&report));
        assert!(!row.differs_visibly(&row.registered(&report)));
        assert!(row.changes_with(&entry("tcp://b:1")));
        assert!(row.differs_visibly(&row.registered(&entry("tcp://b:1"))));
        let moved = OsdEntry { domain: "other".into(), ..entry("tcp://a:1") };
        assert!(row.changes_with(&moved) && row.differs_visibly(&row.registered(&moved)));
        let slow = OsdEntry { slow: true, ..entry("tcp://a:1") };
        assert!(row.changes_with(&slow) && !row.differs_visibly(&row.registered(&slow)));
        assert!(row.differs_in_pace(&row.registered(&slow)) && !row.differs_in_pace(&row));
        let out = row.administered(OsdState::Out);
        assert!(row.differs_visibly(&out));
        // The process behind an OSD that is out may come and go: nobody needs to hear of it.
        assert!(!out.differs_visibly(&out.taken_down("tcp://a:1")));
    }
}
