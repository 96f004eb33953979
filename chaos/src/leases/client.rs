//! The model client.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::mrc::{LEASE_ATTR, LEASE_READ, LEASE_WRITE};

use super::made::Told;
use super::{Answer, Ask, Broken, Event, Sim};
use crate::invariants::Violation;

const RENEW: Duration = Duration::from_millis(2000);
const POLL: Duration = Duration::from_millis(1500);
/// Between two attempts to open a session: shorter than an answer may take.
const REOPEN: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Debug)]
struct Kept {
    bits: u32,
    /// Recalled, and not returned before the names that were made are told.
    losing: u32,
    /// An answer says that they are being recalled, and the recall was not heard yet.
    lapsing: u32,
    number: u64,
    version: u64,
    /// The data that its capability is for.
    top: u64,
}

#[derive(Default, Debug)]
pub(crate) struct Client {
    /// The leader at which its session is open.
    incarnation: u64,
    epoch: u64,
    /// The session has to be opened: what is held is still good, nothing is added.
    opening: bool,
    /// Number of its last opening.
    number: u64,
    /// The leader for which the next one is meant.
    meant_for: u64,
    /// Answers to what was asked until then bring nothing.
    forgotten: Duration,
    opened: Duration,
    /// End of its leases' time.
    until: Duration,
    kept: BTreeMap<u64, Kept>,
    /// Highest grant of an inode that was recalled or given back.
    overtaken: BTreeMap<u64, u64>,
    /// Changes of its own under way: nothing is kept of those inodes.
    changing: BTreeMap<u64, u32>,
    /// When its last change of an inode ended: answers to what was asked before may be older.
    changed: BTreeMap<u64, Duration>,
    /// Incarnation to which they were sent.
    changing_at: u64,
    /// Names made in an inode, in this epoch, and how many of them the table is known to have.
    made: BTreeMap<u64, u64>,
    told: BTreeMap<u64, u64>,
    /// Directories that were made and are not known to be taken, with those in which they are.
    pub(super) fresh: BTreeMap<u64, u64>,
    /// Recalls that wait for that.
    owed: BTreeMap<u64, (u32, u64)>,
    renewed: Duration,
    polled: Duration,
    pub(crate) hangs_until: Duration,
    /// What its clock takes for a thousand seconds: the margin of the leader's times allows for it.
    rate: u32,
}

impl Client {
    /// One that has not begun.
    pub(crate) fn new<E>(world: &mut crate::world::World<E>) -> Self {
        let rate = if world.percent(50) { 1000 } else { 920 + u32::try_from(world.below(161)).unwrap_or(0) };
        rt::site!("clock.client.slow", rate > 1000);
        rt::site!("clock.client.fast", rate < 1000);
        Self { rate, ..Self::default() }
    }

    /// How long a time lasts in truth that this client measures.
    fn lasts(&self, time: Duration) -> Duration {
        time * self.rate / 1000
    }

    /// Whether it would answer with `bits` of a file at this moment.
    pub(crate) fn keeps(&self, now: Duration, file: u64, bits: u32, broken: Option<Broken>) -> bool {
        let in_time = now < self.until || broken == Some(Broken::Time);
        in_time && self.kept.get(&file).is_some_and(|kept| kept.bits & bits != 0)
    }

    fn drop_all(&mut self) {
        self.kept.clear();
        self.overtaken.clear();
        self.made.clear();
        self.told.clear();
        self.fresh.clear();
        self.owed.clear();
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn made(&self, file: u64) -> u64 {
        self.made.get(&file).copied().unwrap_or(0)
    }

    /// Whether it has made names in an inode, or the inode itself, or a directory in it, and does not know that they were told.
    fn has_untold(&self, file: u64) -> bool {
        self.has_untold_names(file)
            || self.fresh.contains_key(&file)
            || self.fresh.values().any(|parent| *parent == file)
    }

    fn has_untold_names(&self, file: u64) -> bool {
        self.made(file) > self.told.get(&file).copied().unwrap_or(0)
    }

    /// Made by it a moment ago: nobody else knows of it.
    pub(super) fn holds_early(&mut self, file: u64, parent: u64, bits: u32) {
        self.fresh.insert(file, parent);
        self.kept.insert(file, Kept { bits, losing: 0, lapsing: 0, number: 0, version: 0, top: 0 });
    }

    /// What was early is given, unless it was recalled since.
    pub(super) fn confirmed(&mut self, file: u64, bits: u32, number: u64) {
        let late = self.overtaken.get(&file).is_some_and(|recalled| number <= *recalled);
        let Some(kept) = self.kept.get_mut(&file) else { return };
        if !late {
            kept.bits = bits & !kept.losing;
            kept.number = number;
        }
        if kept.bits | kept.losing | kept.lapsing == 0 {
            self.kept.remove(&file);
        }
    }

    /// Whether an answer to what was asked then brings leases.
    pub(super) fn counts(&self, asked: Duration, incarnation: u64) -> bool {
        incarnation == self.incarnation && !self.opening && asked > self.forgotten
    }
}

impl Sim {
    pub(super) fn ask(&mut self, from: u64, ask: Ask) {
        let asked = self.world.now();
        self.send(Event::ToLeader { from, asked, ask });
    }

    /// Wakes up now and then and does something.
    pub(crate) fn act(&mut self, id: u64) -> Result<(), Violation> {
        let now = self.world.now();
        let pause = self.world.micros(200, 60_000);
        self.world.after(pause, Event::Client(id));
        let mut files = self.files.clone();
        files.retain(|file| self.may_know(id, *file));
        files.extend(self.clients[&id].fresh.keys().filter(|file| !self.files.contains(file)));
        let file = self.world.pick(&files).copied().expect("there are files");
        let client = self.clients.get_mut(&id).expect("made at the start");
        if now < client.hangs_until {
            return Ok(());
        }
        if self.world.below(300) == 0 {
            // Its connection broke: it opens its session anew, and what it holds is still good.
            client.opening = true;
        }
        if client.opening || client.incarnation == 0 {
            if now >= client.opened + REOPEN {
                client.opened = now;
                client.number += 1;
                if self.world.percent(70) {
                    // What is gone is forgotten sooner or later.
                    let files = &self.files;
                    let fresh = &client.fresh;
                    client.kept.retain(|file, _| files.contains(file) || fresh.contains_key(file));
                }
                let told: Vec<(u64, u32)> = client
                    .kept
                    .iter()
                    .filter(|(file, _)| !client.fresh.contains_key(file))
                    .map(|(file, kept)| (*file, kept.bits | kept.losing | kept.lapsing))
                    .collect();
                let Client { number, meant_for, epoch, .. } = *client;
                let mut told = told;
                if self.world.percent(8) && !told.iter().any(|(of, _)| *of == file) {
                    // It believes to hold what it does not, as one that was put back to an earlier state would.
                    told.push((file, LEASE_READ));
                }
                if self.world.percent(10) {
                    // A try that is given up after a while, and arrives after all.
                    let asked = now;
                    let ask = Ask::Open { number, meant_for, epoch, told: told.clone() };
                    let late = self.world.micros(100_000, 4_000_000);
                    self.world.after(late, Event::ToLeader { from: id, asked, ask });
                }
                self.ask(id, Ask::Open { number, meant_for, epoch, told });
            }
            return self.read_kept(id, file);
        }
        if now >= client.renewed + RENEW {
            client.renewed = now;
            self.ask(id, Ask::Renew);
        } else if now >= client.polled + POLL {
            client.polled = now;
            self.ask(id, Ask::Await);
        }
        self.tell_directories(id);
        for file in self.files.clone() {
            let client = &self.clients[&id];
            if !client.has_untold_names(file) || client.fresh.contains_key(&file) {
                continue;
            }
            let (epoch, upto) = (self.clients[&id].epoch, self.clients[&id].made(file));
            self.ask(id, Ask::Tell { file, epoch, upto });
        }
        if self.clients[&id].has_untold(file) {
            // Whatever else is asked waits until they are told.
            if self.world.percent(50) {
                return self.read_kept(id, file);
            }
            self.make_some(id, file);
            return Ok(());
        }
        if self.world.percent(20) {
            for file in files {
                self.make_some(id, file);
            }
            return Ok(());
        }
        match self.world.below(40) {
            0 => self.change_own(id, file),
            1 => self.ask(id, Ask::Acquire { file, bits: LEASE_WRITE }),
            2 => self.ask(id, Ask::Acquire { file, bits: LEASE_READ }),
            3..=4 => self.write(id, file)?,
            5 => self.give_back(id, file),
            6..=8 => {
                // Names that were made are told before anything is asked that may show them.
                let told = files.iter().all(|file| !self.clients[&id].has_untold(*file));
                let others = told && self.world.percent(40);
                self.ask(id, Ask::Get { file, others });
            }
            _ => self.read_kept(id, file)?,
        }
        Ok(())
    }

    /// A name, or a directory with some.
    fn make_some(&mut self, id: u64, file: u64) {
        // Another part that is left out is to be noticed by its own invariant.
        let directories = matches!(self.broken, None | Some(Broken::MadeRight | Broken::UntoldDirectories));
        if !directories || self.world.percent(80) {
            self.make(id, file);
        } else {
            self.make_directory(id, file);
        }
    }

    /// Makes a name under the right to do so, unheard.
    pub(super) fn make(&mut self, id: u64, file: u64) -> bool {
        let now = self.world.now();
        let client = self.clients.get_mut(&id).expect("made at the start");
        if client.changing.contains_key(&file) || !client.keeps(now, file, LEASE_WRITE, self.broken) {
            return false;
        }
        let Some(kept) =
            client.kept.get_mut(&file).filter(|kept| kept.version != u64::MAX && kept.losing == 0)
        else {
            return false;
        };
        kept.version += 1;
        *client.made.entry(file).or_default() += 1;
        // Answers that are on their way do not tell of it.
        client.changed.insert(file, now);
        self.operations += 1;
        *self.faults.entry("names made").or_default() += 1;
        true
    }

    /// What it had taken on to tell goes out, and may arrive late.
    pub(crate) fn tell_late(&mut self, id: u64) {
        for file in self.files.clone() {
            let client = &self.clients[&id];
            if client.has_untold_names(file) && !client.fresh.contains_key(&file) {
                let ask = Ask::Tell { file, epoch: client.epoch, upto: client.made(file) };
                let (asked, late) = (self.world.now(), self.world.micros(50, 4_000_000));
                self.world.after(late, Event::ToLeader { from: id, asked, ask });
            }
        }
    }

    pub(super) fn names_told(&mut self, id: u64, file: u64, upto: u64) {
        let client = self.clients.get_mut(&id).expect("made at the start");
        let told = client.told.entry(file).or_default();
        *told = (*told).max(upto);
        if client.has_untold(file) {
            return;
        }
        if let Some((bits, number)) = client.owed.remove(&file) {
            self.returns(id, file, bits, number);
        }
    }

    fn change_own(&mut self, id: u64, file: u64) {
        let client = self.clients.get_mut(&id).expect("made at the start");
        *client.changing.entry(file).or_default() += 1;
        let incarnation = client.incarnation;
        // What it keeps is not true any more from some moment on; the bits stay its own.
        if let Some(kept) = client.kept.get_mut(&file) {
            kept.version = u64::MAX;
        }
        let remove = self.world.percent(15);
        self.ask(id, Ask::Change { file, incarnation, remove });
    }

    fn changed(&mut self, id: u64, file: u64) {
        let now = self.world.now();
        let client = self.clients.get_mut(&id).expect("made at the start");
        client.changed.insert(file, now);
        if let Some(count) = client.changing.get_mut(&file) {
            *count -= 1;
            if *count == 0 {
                client.changing.remove(&file);
            }
        }
    }

    /// From its lease when it may; what it says must be the truth of this moment.
    fn read_kept(&mut self, id: u64, file: u64) -> Result<(), Violation> {
        let now = self.world.now();
        let client = &self.clients[&id];
        let unsure = client.changing.contains_key(&file)
            || client.kept.get(&file).is_some_and(|kept| kept.version == u64::MAX);
        if unsure || !client.keeps(now, file, LEASE_ATTR, self.broken) {
            if client.has_untold(file) {
                return Ok(());
            }
            self.ask(id, Ask::Get { file, others: false });
            return Ok(());
        }
        let (kept, truth) = (client.kept[&file].version, self.truth(file));
        self.operations += 1;
        self.cached += 1;
        if kept < truth {
            let what = format!("client {id} answers version {kept} of file {file}, it is {truth}");
            return Err(Violation::new("leases: coherence", what));
        }
        Ok(())
    }

    /// Data under `W`. An OSD sees capabilities, not leases: a client that lost its own without knowing still sends.
    pub(crate) fn write(&mut self, id: u64, file: u64) -> Result<(), Violation> {
        let now = self.world.now();
        let client = &self.clients[&id];
        let holds = client.kept.get(&file).is_some_and(|kept| kept.bits & LEASE_WRITE != 0);
        // Writes that it had taken on in its time go out also after it, as from a client that hung half-way.
        if !holds || self.durable.fences.get(&id).is_some_and(|fence| client.epoch < *fence) {
            return Ok(());
        }
        let top = client.kept[&file].top;
        self.durable.snapshots.written(id, (file, top))?;
        self.operations += 1;
        let client = id;
        for (other, theirs) in self.clients.iter().filter(|(other, _)| **other != id) {
            if theirs.keeps(now, file, LEASE_READ | LEASE_WRITE, None) {
                let what = format!("client {client} writes file {file} while client {other} holds it");
                return Err(Violation::new("leases: fenced data", what));
            }
        }
        Ok(())
    }

    fn give_back(&mut self, id: u64, file: u64) {
        let client = self.clients.get_mut(&id).expect("made at the start");
        if client.has_untold(file) || client.owed.contains_key(&file) {
            return;
        }
        if let Some(kept) = client.kept.remove(&file) {
            let (Kept { bits, number, .. }, opening) = (kept, client.number);
            // An answer from before that is still under way must not bring the lease back.
            let highest = client.overtaken.entry(file).or_default();
            *highest = (*highest).max(number);
            self.ask(id, Ask::Return { opening, file, bits, number });
        }
    }

    pub(crate) fn hear(&mut self, id: u64, answer: Answer) {
        let now = self.world.now();
        let broken = self.broken;
        let client = self.clients.get_mut(&id).expect("made at the start");
        if now < client.hangs_until {
            // It lies in the socket until the client goes on.
            let rest = client.hangs_until - now + Duration::from_micros(1);
            self.world.after(rest, Event::ToClient { to: id, answer });
            return;
        }
        match answer {
            Answer::Opened { asked, number, ttl, epoch, incarnation } => {
                // A real client hears only the answer to its last attempt.
                if number != client.number || !client.opening && client.incarnation != 0 {
                    return;
                }
                if epoch != client.epoch {
                    client.drop_all();
                }
                if incarnation != client.incarnation && incarnation != client.changing_at {
                    client.changing.clear();
                    client.changing_at = incarnation;
                }
                if incarnation != client.incarnation {
                    // It was told, and has recalled nothing yet.
                    client.kept.values_mut().for_each(|kept| kept.bits |= std::mem::take(&mut kept.lapsing));
                }
                client.epoch = epoch;
                client.opening = false;
                client.forgotten = now;
                client.incarnation = incarnation;
                client.meant_for = incarnation;
                client.until = asked + client.lasts(ttl);
                client.polled = Duration::ZERO;
            }
            // What was asked before the last opening says less than that, and its epoch may be an older one.
            Answer::Renewed { asked, ttl, epoch, incarnation }
                if incarnation == client.incarnation && asked > client.forgotten =>
            {
                if epoch != client.epoch {
                    // It was expelled and opened anew by an attempt of its own whose answer it has not heard.
                    client.drop_all();
                    client.epoch = epoch;
                }
                client.until = client.until.max(asked + client.lasts(ttl));
            }
            Answer::Unknown { incarnation } if incarnation >= client.incarnation => {
                client.opening = true;
                client.meant_for = incarnation;
            }
            Answer::Told { epoch, file, upto } if epoch == client.epoch => self.names_told(id, file, upto),
            Answer::Made { asked, incarnation, epoch, file, upto, bits, number } => {
                let of = Told { incarnation, epoch, file, upto, bits, number };
                self.directory_told(id, asked, of);
            }
            Answer::Refused { incarnation, file } if incarnation == client.changing_at => {
                self.changed(id, file)
            }
            Answer::Row { asked, incarnation, file, version, bits, number, changed, top } => {
                let older = client.changed.get(&file).is_some_and(|ended| asked <= *ended);
                let unsure = older || client.changing.contains_key(&file);
                let version = if unsure { u64::MAX } else { version };
                let current =
                    incarnation == client.incarnation && !client.opening && asked > client.forgotten;
                let late = client.overtaken.get(&file).is_some_and(|recalled| number <= *recalled);
                let older = client.kept.get(&file).is_some_and(|kept| number < kept.number);
                if current && bits != 0 && (!late || broken == Some(Broken::LateAnswer)) && !older {
                    let before = client.kept.get(&file);
                    let losing = before.map_or(0, |kept| kept.losing);
                    let lapsing = before.map_or(0, |kept| kept.lapsing | kept.bits) & !bits & !losing;
                    let lapsing = if broken == Some(Broken::Lapse) { 0 } else { lapsing };
                    client
                        .kept
                        .insert(file, Kept { bits: bits & !losing, losing, lapsing, number, version, top });
                }
                if changed && incarnation == client.changing_at {
                    self.changed(id, file);
                }
            }
            // While it tells what it holds it gives nothing up: it hears of it again.
            Answer::Recalls { incarnation, recalls }
                if incarnation == client.incarnation && !client.opening =>
            {
                client.polled = Duration::ZERO;
                for (_, file, bits, number) in recalls {
                    self.recalled(id, file, bits, number);
                }
            }
            _ => {}
        }
    }

    fn recalled(&mut self, id: u64, file: u64, bits: u32, number: u64) {
        let broken = self.broken == Some(Broken::UntoldNames);
        let client = self.clients.get_mut(&id).expect("made at the start");
        let highest = client.overtaken.entry(file).or_default();
        *highest = (*highest).max(number);
        let early = self.broken == Some(Broken::UntoldDirectories);
        let untold = match early {
            true => client.has_untold_names(file),
            false => client.has_untold(file) && !broken,
        };
        if let Some(kept) = client.kept.get_mut(&file) {
            kept.bits &= !bits;
            kept.lapsing &= !bits;
            kept.losing |= bits;
        }
        if untold && bits & LEASE_WRITE != 0 {
            client.owed.insert(file, (bits, number));
            return;
        }
        self.returns(id, file, bits, number);
    }

    fn returns(&mut self, id: u64, file: u64, bits: u32, number: u64) {
        let client = self.clients.get_mut(&id).expect("made at the start");
        let opening = client.number;
        if let Some(kept) = client.kept.get_mut(&file) {
            kept.losing &= !bits;
            if kept.bits | kept.losing | kept.lapsing == 0 {
                client.kept.remove(&file);
            }
        }
        self.ask(id, Ask::Return { opening, file, bits, number });
    }
}
