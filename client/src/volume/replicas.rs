//! Replica lists of a file: shows them, changes them and drives a change to its end. `docs/protocols/views.md`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::error::{Code, WireError};
use proto::mrc::{
    CompleteReplicas, CompleteReplicasRequest, DemoteReplicas, DemoteReplicasRequest, ListReplicas,
    ListReplicasRequest, ReplicatedFiles, SetReplicas, SetReplicasRequest,
};
use proto::osd::{ColumnOf, ColumnStatus, ColumnStatusReply, ColumnStatusRequest};
use proto::stripe::{Column, Layout};

use super::Volume;
use super::inode::{Inode, Ticket};
use crate::config::Creds;
use crate::error::Result;

/// How soon it is looked again whether the new lists have everything: a small file has it at once, and there may be very many of those. Each look waits
/// twice as long as the one before.
const LOOK_AGAIN: Duration = Duration::from_millis(4);
/// And how often at least.
const LOOK_AT_LEAST: Duration = Duration::from_millis(100);

/// Where the replicas of a file are and how they are.
#[derive(Debug)]
pub struct ReplicaStates {
    /// The layout.
    pub layout: Layout,
    /// Of each column what its primary says, or why it does not.
    pub columns: Vec<Result<ColumnStatusReply>>,
}

impl ReplicaStates {
    /// Whether the lists before are not needed any more.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let complete = |column: &Result<ColumnStatusReply>| {
            column.as_ref().is_ok_and(|status| status.complete && status.view == self.layout.view)
        };
        self.columns.iter().all(complete)
    }

    /// Whether these OSDs have everything of all columns that they are in.
    #[must_use]
    pub fn have_all(&self, osds: &[u64]) -> bool {
        let whole = |status: &ColumnStatusReply| {
            status.members.iter().filter(|member| osds.contains(&member.osd)).all(|member| member.in_sync)
        };
        self.columns.iter().all(|status| status.as_ref().is_ok_and(|status| status.serving && whole(status)))
    }
}

impl Volume {
    /// The number of the data that a file shows: its own, unless it shares some or is in a snapshot.
    pub async fn data_of(&self, creds: &Creds, ino: u64) -> Result<u64> {
        let attr = self.getattr(creds, ino).await?;
        Ok(if attr.layer == 0 { ino } else { attr.layer })
    }

    /// Where the replicas of some data (a file's: [`Volume::data_of`]) are. Opens its columns, so it also begins what a change of the lists asks for.
    pub async fn replica_states(&self, creds: &Creds, ino: u64) -> Result<ReplicaStates> {
        Ok(Inode::of_data(self.arc(), creds, ino).await?.replica_states().await)
    }

    /// Gives a file new lists, if it still is in the view that the caller saw. Of policy `all`, `learners` (and who is new) do not vote in them.
    pub async fn set_replicas(
        &self,
        creds: &Creds,
        ino: u64,
        view: u64,
        columns: Vec<Column>,
        learners: Vec<u64>,
    ) -> Result<Layout> {
        let head = self.head(creds);
        let make = |origin| SetReplicasRequest { head, origin, ino, view, columns, learners };
        Ok(self.session().mutate::<SetReplicas>(make).await?.layout)
    }

    /// Takes the votes of replicas that are down away from a file of policy `all` that still is in this view.
    pub(crate) async fn demote_replicas(&self, ino: u64, view: u64) -> Result<Layout> {
        let head = self.head(&Creds::checked(0, 0));
        let make = |origin| DemoteReplicasRequest { head, origin, ino, view };
        Ok(self.session().mutate::<DemoteReplicas>(make).await?.layout)
    }

    /// Drives a change of lists to its end. Repeatable, by anybody. `patience` ends the waiting, not the change.
    pub async fn finish_replicas(&self, creds: &Creds, ino: u64, patience: Duration) -> Result<Layout> {
        let begun = self.client().config().clock.monotonic();
        let mut pause = LOOK_AGAIN;
        let inode = Inode::of_data(self.arc(), creds, ino).await?;
        loop {
            let states = inode.replica_states().await;
            if states.layout.previous.is_empty() {
                return Ok(states.layout);
            }
            let view = states.layout.view;
            if states.is_complete()
                && (crate::engine::replicas::adds_no_voter(&states.layout) || inode.is_on_media().await)
            {
                let head = self.head(creds);
                let make = |origin| CompleteReplicasRequest { head, origin, ino, view };
                match self.session().mutate::<CompleteReplicas>(make).await {
                    // Somebody else was faster.
                    Err(error) if error.code == Code::OldView => {
                        inode.renew_now().await?;
                        continue;
                    }
                    other => {
                        let layout = other?.layout;
                        inode.open_view().await;
                        return Ok(layout);
                    }
                }
            }
            if self.client().config().clock.monotonic().saturating_sub(begun) > patience {
                return Err(unfinished(ino, &states));
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LOOK_AT_LEAST);
        }
    }

    /// Replicated files that name one of these OSDs, or whose lists are being changed; a page of them.
    pub async fn list_replicas(&self, creds: &Creds, after: u64, osds: Vec<u64>) -> Result<ReplicatedFiles> {
        let request = ListReplicasRequest { head: self.head(creds), after, osds };
        self.session().call::<ListReplicas>(&request).await
    }
}

fn unfinished(ino: u64, states: &ReplicaStates) -> WireError {
    let why = states.columns.iter().enumerate().find_map(|(column, status)| match status {
        Err(error) => Some(format!("column {column}: {}", error.text)),
        Ok(status) if !status.serving => Some(format!("column {column} does not serve yet")),
        Ok(status) => {
            let behind: u64 = status.members.iter().map(|member| member.behind).sum();
            (!status.complete).then(|| format!("column {column} has {behind} objects to copy"))
        }
    });
    WireError::new(
        Code::DeadlineExceeded,
        format!(
            "ino-{ino} has its new replica lists, and they are still being filled ({}); it goes on by itself, \
             `xtfs replica ls` shows how far it is",
            why.unwrap_or_else(|| "the OSDs open the new view".to_owned())
        ),
    )
}

impl Inode {
    /// Of the newest view that this client has heard of now.
    async fn replica_states(self: &Arc<Self>) -> ReplicaStates {
        let width = self.credentials().layout.columns.len();
        let columns = futures::future::join_all((0..width).map(|column| self.column_status(column))).await;
        // Whoever was asked in an older view refused, and what is here now is what the answers are of.
        ReplicaStates { layout: self.credentials().layout.clone(), columns }
    }

    /// What was forced to the media of the lists before has to be on those of the new ones before they go: all may lose power.
    async fn is_on_media(self: &Arc<Self>) -> bool {
        let forced = self.sync_osds().await;
        if let Err(error) = &forced {
            tracing::debug!(ino = self.ino(), %error, "the data under new replica lists cannot be forced to media; trying again");
        }
        forced.is_ok()
    }

    /// Has the columns opened in the view that was just made: otherwise whoever comes first waits for that, and until then nobody can say whether all is
    /// in sync.
    async fn open_view(self: &Arc<Self>) {
        if let Err(error) = self.renew_now().await {
            tracing::debug!(ino = self.ino(), %error, "the columns of a new view are opened by whoever comes first");
            return;
        }
        self.replica_states().await;
    }

    async fn column_status(self: &Arc<Self>, column: usize) -> Result<ColumnStatusReply> {
        let make = |ticket: &Ticket<'_>| ColumnStatusRequest {
            capability: ticket.capability.clone(),
            of: ticket.replicas().unwrap_or_else(|| ColumnOf { layout: Layout::default(), column: 0 }),
            map_epoch: ticket.map_epoch,
        };
        Ok(self.call_column::<ColumnStatus>(column, make, Bytes::new()).await?.0)
    }
}
