//! The replicated state: applying commands to the table, and the view of it that requests are answered from.

pub(crate) mod apply;
pub(crate) mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use proto::capability::CapabilityKey;
use proto::dir::{ServiceEntry, VolumeEntry};
use quorum::{Applied, StateMachine};
use rt::table::{Reader, Result, Table, TableError, Txn, prefix_end};
use tokio::sync::watch;

use crate::command::{Answer, Command};
use crate::engine::map::OsdRow;

/// A capability key and when it came into being.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyRow {
    #[prost(message, required, tag = "1")]
    pub(crate) key: CapabilityKey,
    /// The proposer's clock, Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub(crate) made_ms: u64,
}

/// Identity of the cluster.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClusterRow {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

/// What every request needs of the replicated state, as of one revision. Volumes and services stay in the table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// Grows with each change of what is in here.
    pub(crate) revision: u64,
    /// Epoch of the OSD map.
    pub epoch: u64,
    /// By number.
    pub osds: BTreeMap<u64, OsdRow>,
    /// Newest first.
    pub(crate) keys: Vec<KeyRow>,
    /// The cluster's identity; empty until the first leader gave it one.
    pub cluster: String,
    /// The cluster's name for people.
    pub name: String,
    /// The term in which this member leads, if it does.
    pub(crate) leads: Option<u64>,
}

/// The DIR's state machine.
pub(crate) struct DirState {
    table: Arc<dyn Table>,
    published: watch::Sender<Arc<View>>,
}

impl DirState {
    /// Over this table, which the Raft group writes.
    pub(crate) fn new(table: Arc<dyn Table>) -> Result<Arc<Self>> {
        let view = load(&*table)?;
        Ok(Arc::new(Self { table, published: watch::Sender::new(Arc::new(view)) }))
    }

    /// The newest view.
    pub(crate) fn view(&self) -> Arc<View> {
        self.published.borrow().clone()
    }

    /// Hears of newer ones.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.published.subscribe()
    }

    /// Live volumes by name; of that name if it is not empty.
    pub(crate) fn volumes(&self, name: &str) -> Result<Vec<VolumeEntry>> {
        if !name.is_empty() {
            return Ok(apply::volume_of(&*self.table, name)?.into_iter().collect());
        }
        let names = Table::scan(&*self.table, keys::VOLUME_NAME, &prefix_end(keys::VOLUME_NAME), usize::MAX)?;
        let mut volumes = Vec::new();
        for (_, id) in names {
            volumes.extend(row::<VolumeEntry>(&*self.table, &keys::volume(keys::number(&id)))?);
        }
        Ok(volumes)
    }

    /// Services as they were stored.
    pub(crate) fn services(&self) -> Result<Vec<ServiceEntry>> {
        rows(&*self.table, keys::SERVICE)
    }
}

impl StateMachine for DirState {
    fn apply(&self, txn: &mut Txn<'_>, at: Applied, command: &[u8]) -> Result<Bytes> {
        let result = match Command::decode(command) {
            Ok(Command { change: Some(change) }) => apply::apply(txn, at, change)?,
            // A newer member's command: every member of this version refuses it in the same way.
            Ok(Command { change: None }) | Err(_) => Err(apply::unreadable()),
        };
        if result.is_err() {
            txn.rollback();
        }
        Ok(Answer::encode_result(result))
    }

    fn applied(&self, _index: u64) {
        let before = self.view();
        let stored = revision(&*self.table);
        if stored.as_ref().is_ok_and(|revision| *revision == before.revision) {
            return;
        }
        match stored.and_then(|_| load(&*self.table)) {
            Ok(view) => self.published.send_modify(|now| *now = Arc::new(View { leads: now.leads, ..view })),
            Err(error) => {
                tracing::error!(%error, "reading the DIR's state failed; serving the state before it")
            }
        }
    }

    fn leadership(&self, leading: bool, term: u64) {
        let leads = leading.then_some(term);
        self.published.send_modify(|now| *now = Arc::new(View { leads, ..View::clone(now) }));
    }
}

/// A row of the table.
pub(crate) fn row<M: Message + Default>(reader: &(impl Reader + ?Sized), key: &[u8]) -> Result<Option<M>> {
    reader.get(key)?.map(|value| decode(key, &value)).transpose()
}

fn rows<M: Message + Default>(table: &dyn Table, prefix: &[u8]) -> Result<Vec<M>> {
    let pairs = table.scan(prefix, &prefix_end(prefix), usize::MAX)?;
    pairs.iter().map(|(key, value)| decode(key, value)).collect()
}

fn decode<M: Message + Default>(key: &[u8], value: &[u8]) -> Result<M> {
    M::decode(value).map_err(|error| TableError {
        table: "dir".to_owned(),
        cause: format!("row {key:x?} is unreadable: {error}"),
    })
}

fn revision(table: &dyn Table) -> Result<u64> {
    Ok(table.get(keys::REVISION)?.map_or(0, |value| keys::number(&value)))
}

fn load(table: &dyn Table) -> Result<View> {
    let osds = rows::<OsdRow>(table, keys::OSD)?;
    let mut secrets = rows::<KeyRow>(table, keys::CAPABILITY_KEY)?;
    secrets.reverse();
    let cluster = row::<ClusterRow>(table, keys::CLUSTER)?.unwrap_or_default();
    Ok(View {
        revision: revision(table)?,
        epoch: table.get(keys::EPOCH)?.map_or(0, |value| keys::number(&value)),
        osds: osds.into_iter().map(|row| (row.entry.osd, row)).collect(),
        keys: secrets,
        cluster: cluster.cluster,
        name: cluster.name,
        leads: None,
    })
}

#[cfg(test)]
#[path = "state/apply_test.rs"]
mod apply_test;
