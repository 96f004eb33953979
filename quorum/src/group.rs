//! The handle of one member of a Raft group and the driver behind it.
//!
//! Whoever has something for the member puts it into the inbox and, if nobody else is at it, takes the replica's
//! lock and does the work on its own thread: a call in a group of one runs to its end without another thread.
//! Syncs and flushes run on the member's own thread (`group/syncer.rs`), messages leave through one task per peer
//! (`group/sender.rs`).

mod admin;
mod driver;
mod room;
mod sender;
mod syncer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use proto::dir::GroupStatus;
use proto::error::{Code, WireError};
use proto::id::{GroupId, MemberId};
use proto::raft::{Deliver, LeaderTransfer, MemberAdd, MemberRemove, Peer};
use proto::rpc::{Empty, Method as _, Origin};
use rt::clock::Clock;
use rt::disk::Disk;
use rt::rpc::{Connector, Request, Response};
use rt::table::Table;
use tokio::sync::oneshot;

use crate::engine::Timing;
use crate::machine::StateMachine;
use crate::replica::{Input, Replica, Setup, Sizes, Wait};
use crate::reserve::Reserve;
use driver::{Again, Driver, Waiter};

pub use crate::error::QuorumError;
pub use crate::replica::Durability;

/// A member at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id, not 0, never reused in the group.
    pub id: MemberId,
    /// RPC address at which its service answers `proto::raft` methods.
    pub addr: String,
}

/// What a member needs to start.
pub struct GroupConfig {
    /// The group.
    pub group: GroupId,
    /// This member.
    pub me: MemberId,
    /// The first members; used only when the log is empty. Later the log knows better. A list without `me`: this
    /// member waits until [`Group::add_member`] is called at the leader.
    pub members: Vec<Member>,
    /// Durability class of acknowledgements.
    pub durability: Durability,
    /// Identifies this boot of the machine (/proc/sys/kernel/random/boot_id); see docs/protocols/raft.md.
    pub boot_id: String,
    /// Base unit of heartbeats and elections (heartbeat 2 ticks, election 10..20 ticks); [`TICK`] is a good one.
    pub tick: Duration,
    /// Where the log lives.
    pub log: Arc<dyn Disk>,
    /// Bytes that are kept there for what must go on when it is full.
    pub reserve_bytes: u64,
    /// Where the state lives.
    pub table: Arc<dyn Table>,
    /// Reaches other members.
    pub connector: Arc<Connector>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A tick with which a dead leader is replaced after 0.5 to 1 s.
pub const TICK: Duration = Duration::from_millis(50);
/// How long shutdown waits for another member to take over.
const HAND_OVER: Duration = Duration::from_millis(600);

/// One member of a Raft group. Cheap to share (`Arc`).
pub struct Group {
    driver: Arc<Driver>,
}

impl Group {
    /// Starts a member: recovers log and table, joins the others. A member that is alone leads when this answers.
    pub async fn start(
        config: GroupConfig,
        machine: Arc<dyn StateMachine>,
    ) -> Result<Arc<Self>, QuorumError> {
        let setup = Setup {
            group: config.group,
            me: config.me,
            members: config.members.iter().map(|member| (member.id.0, member.addr.clone())).collect(),
            durability: config.durability,
            boot_id: config.boot_id,
            timing: Timing::of(config.tick),
            sizes: Sizes::default(),
            seed: rand::random(),
            log: Reserve::open(config.log, config.reserve_bytes),
            table: config.table,
        };
        let now = driver::now(&*config.clock);
        let replica = Replica::start(setup.clone(), machine.clone(), now)?;
        let alone = replica.engine().is_alone();
        let again = Again { setup, machine };
        let driver = Driver::start(replica, again, config.tick, config.connector, config.clock)?;
        let group = Arc::new(Self { driver });
        if alone {
            // The first election of a group of one ends with a sync on the member's thread.
            group.read(Duration::from_secs(30)).await?;
        }
        Ok(group)
    }

    /// Replicates a command and gives its answer. With `origin.session != 0` a repeat of the same (session,
    /// sequence) gets the recorded answer, at any leader. In a group of one the whole call runs on the caller's
    /// thread without waiting.
    pub async fn propose(
        &self,
        origin: Origin,
        command: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, QuorumError> {
        if self.driver.leads() {
            self.driver.admit(&origin, false)?;
        }
        self.ask(deadline, |wait| Input::Propose { origin, command, wait }).await
    }

    /// Like [`Group::propose`] for a change that must go on when the disk is full, for it gives room or holds things
    /// together: it may take of what is kept.
    pub async fn propose_in_need(
        &self,
        origin: Origin,
        command: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, QuorumError> {
        if self.driver.leads() {
            self.driver.admit(&origin, true)?;
        }
        self.ask(deadline, |wait| Input::Propose { origin, command, wait }).await
    }

    /// Runs something until it waits for the first time, and takes all that it proposed until then together: one message to each of the others
    /// and one write, instead of one each.
    pub async fn together<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let first = std::future::poll_fn(|context| {
            let _gathering = Gathering::begin(&self.driver);
            Poll::Ready(work.as_mut().poll(context))
        });
        match first.await {
            Poll::Ready(done) => done,
            Poll::Pending => work.await,
        }
    }

    /// Whether the log's disk has room for more than what must go on when it is full.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.driver.has_room()
    }

    /// Answers when the local table shows everything acknowledged before the call (leader lease, else
    /// read-index). Costs nothing at a leader whose lease holds. Other members answer `NotLeader`.
    pub async fn read(&self, deadline: Duration) -> Result<(), QuorumError> {
        if self.driver.lease_holds() {
            return Ok(());
        }
        self.ask(deadline, Input::Read).await.map(drop)
    }

    /// Everything applied so far is on disk at a majority when this answers (`fsync` of metadata).
    pub async fn sync(&self, deadline: Duration) -> Result<(), QuorumError> {
        self.ask(deadline, Input::Sync).await.map(drop)
    }

    /// Serves what `proto::raft` lists for this group.
    pub async fn serve(&self, request: Request) -> Result<Response, WireError> {
        match request.method {
            Deliver::NUMBER => {
                let delivery = rt::rpc::parse::<Deliver>(&request)?;
                if delivery.group != self.driver.group().0 {
                    let text =
                        format!("messages for group-{} arrived at {}", delivery.group, self.driver.group());
                    return Err(WireError::new(Code::BadRequest, text));
                }
                let (from, incarnation) = (delivery.from, delivery.incarnation);
                self.driver.push(Input::Deliver { from, incarnation, messages: delivery.messages });
                self.driver.drive();
                Ok(Response::of(&Empty {}))
            }
            Peer::NUMBER => {
                Err(WireError::new(Code::NotSupported, "quorum members of this version use Deliver only"))
            }
            MemberAdd::NUMBER => admin::add(self, &request).await,
            MemberRemove::NUMBER => admin::remove(self, &request).await,
            LeaderTransfer::NUMBER => admin::transfer(self, &request).await,
            other => Err(rt::rpc::unknown_method("raft", other)),
        }
    }

    /// Whether this member leads and may serve reads now.
    pub fn is_leader(&self) -> bool {
        self.driver.lease_holds()
    }

    /// State for people and programs.
    pub fn status(&self) -> GroupStatus {
        self.driver.status()
    }

    /// Adds a member: first as a learner, as a voter once it has caught up. Answers when it votes.
    pub async fn add_member(&self, member: Member, deadline: Duration) -> Result<(), QuorumError> {
        let Member { id, addr: address } = member;
        self.ask(deadline, |wait| Input::Add { member: id.0, address, wait }).await.map(drop)
    }

    /// Makes whoever is at an address a learner, under a number that nobody had; it becomes a voter when it has caught
    /// up. One that is in the group keeps its number, which is the answer.
    pub async fn admit(&self, address: String, deadline: Duration) -> Result<MemberId, QuorumError> {
        let answer = self.ask(deadline, |wait| Input::Admit { address, wait }).await?;
        let stopped = || QuorumError::Stopped {
            group: self.driver.group(),
            cause: "an answer without a number".into(),
        };
        let number = answer.as_ref().try_into().map_err(|_| stopped())?;
        Ok(MemberId(u64::from_be_bytes(number)))
    }

    /// Removes a member. A leader that shall go hands over first and answers `Busy`: repeat it at the next leader.
    pub async fn remove_member(&self, member: MemberId, deadline: Duration) -> Result<(), QuorumError> {
        self.ask(deadline, |wait| Input::Remove { member: member.0, wait }).await.map(drop)
    }

    /// Hands leadership to `to`, or to the most advanced member.
    pub async fn transfer_leadership(&self, to: Option<MemberId>) -> Result<(), QuorumError> {
        self.driver.push(Input::Transfer(to));
        self.driver.drive();
        let patience = tokio::time::Instant::now() + HAND_OVER;
        while self.driver.leads() {
            if tokio::time::Instant::now() > patience {
                let group = self.driver.group();
                return Err(QuorumError::Timeout { group, after_ms: HAND_OVER.as_millis() as u64 });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It votes for its successor before it hears of the election's end. Who asks here from now on is sent to whom it knows.
        while self.status().leader == 0 && tokio::time::Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Lets another voter lead, if this member leads and there is another one.
    pub async fn hand_over(&self) -> Result<(), QuorumError> {
        if self.driver.leads() && self.status().voters.len() > 1 {
            return self.transfer_leadership(None).await;
        }
        Ok(())
    }

    /// Hands over leadership, flushes, writes the clean mark, stops.
    pub async fn shutdown(&self) -> Result<(), QuorumError> {
        // Nobody may be there to take over; then the others elect without help later.
        let _ = self.hand_over().await;
        let driver = self.driver.clone();
        let closed = tokio::task::spawn_blocking(move || driver.close()).await;
        closed.unwrap_or_else(|error| {
            Err(QuorumError::Stopped {
                group: self.driver.group(),
                cause: format!("shutdown failed: {error}"),
            })
        })
    }

    async fn ask(
        &self,
        deadline: Duration,
        input: impl FnOnce(Wait<Waiter>) -> Input<Waiter>,
    ) -> Result<Bytes, QuorumError> {
        let (waiter, mut answer) = oneshot::channel();
        let since = self.driver.monotonic();
        if !self.driver.push(input(Wait { waiter, since, deadline: since + deadline })) {
            return Err(QuorumError::Busy { group: self.driver.group() });
        }
        self.driver.drive();
        if let Ok(result) = answer.try_recv() {
            return result;
        }
        let gone = || QuorumError::Stopped { group: self.driver.group(), cause: "shut down".into() };
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Addresses of those that vote: any of them leads or knows who does.
    pub fn voter_addrs(&self) -> Vec<String> {
        self.driver
            .status()
            .voters
            .iter()
            .filter_map(|voter| Some(voter.split_once('=')?.1.to_owned()))
            .collect()
    }

    /// Addresses by member, as the log knows them.
    pub fn members(&self) -> BTreeMap<u64, String> {
        self.driver.members()
    }
}

/// While it lives the inbox is not looked into. Not to be held while waiting for anything.
struct Gathering<'a>(&'a Driver);

impl<'a> Gathering<'a> {
    fn begin(driver: &'a Driver) -> Self {
        driver.gather();
        Self(driver)
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.0.gathered();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.driver.halted.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
