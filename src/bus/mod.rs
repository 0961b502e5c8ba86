//! The bus: bytes in, bytes out, in partitions of topics. A trait, its adapters beside it.
//!
//! Publishing resolves once the bus holds the records durably. A [`Member`] reads the partitions it
//! was given and commits, in one unit that becomes visible whole or not at all, the records it
//! makes, the input positions it has finished, and the relay positions. This module knows nothing
//! of logins.

pub mod embedded;
pub mod kafka;
mod murmur2;

pub use murmur2::partition_of;

use crate::model::Millis;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A record to publish.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The key; with no `partition` its murmur2 hash chooses one.
    pub key: Vec<u8>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The partition, where the key's hash does not decide.
    pub partition: Option<u32>,
}

/// A record as the bus holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its partition.
    pub partition: u32,
    /// Its offset in the partition, from 0.
    pub offset: i64,
    /// When the bus took it, milliseconds since the epoch.
    pub timestamp: i64,
    /// The key; empty if it had none.
    pub key: Vec<u8>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// Bytes of key, value and headers.
    fn size(&self) -> usize {
        weight(&self.key, self.value.as_ref(), &self.headers)
    }
}

impl Stored {
    /// Bytes of key, value and headers: what reading ahead is bounded by.
    fn size(&self) -> usize {
        weight(&self.key, self.value.as_ref(), &self.headers)
    }
}

fn weight(key: &[u8], value: Option<&Vec<u8>>, headers: &[(String, Vec<u8>)]) -> usize {
    let headers: usize = headers.iter().map(|(n, v)| n.len() + v.len()).sum();
    key.len() + value.map_or(0, Vec::len) + headers
}

/// Stands for one assignment; what was read under it can only be committed under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// How far the outbox of a partition has been relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RelayPosition {
    /// The store the outbox belongs to.
    pub store: Uuid,
    /// The last sequence relayed; 0 before any.
    pub seq: u64,
    /// The random id of the row at `seq`: it tells a restored database from the one that was read.
    pub row: Uuid,
    /// The highest input offset whose inline records are out; -1 before any.
    pub inline: i64,
}

/// A partition that a member was given, with what the bus remembers of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The partition of the input topic.
    pub partition: u32,
    /// The group's committed offset (the next to read), if it has one.
    pub input: Option<i64>,
    /// The relay's position, if it has one.
    pub relay: Option<RelayPosition>,
}

/// What a member learns next.
#[derive(Debug)]
pub enum Next {
    /// Everything the member holds from now on; all open work is void. The only way in: start,
    /// rebalance and unknown outcome share it. Nothing is read until [`Member::start`].
    Given(Term, Vec<Assigned>),
    /// Records of the input topic, in order per partition.
    Records(Term, Vec<Stored>),
    /// These partitions are no longer held.
    Taken(Vec<u32>),
    /// Nothing within the wait.
    Idle,
}

/// How far one partition got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The partition of the input topic.
    pub partition: u32,
    /// The next input offset to read.
    pub input: i64,
    /// The relay's position.
    pub relay: RelayPosition,
}

/// What becomes visible together.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The term the work was done under.
    pub term: Term,
    /// Positions.
    pub progress: Vec<Progress>,
    /// Records.
    pub records: Vec<Record>,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// All of it is, or is just becoming, visible: [`Bus::settled`] waits for it.
    Visible,
    /// The term is over, or the outcome is unknown: a fresh [`Next::Given`] follows.
    Void,
}

/// A topic as the product wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions it has; 0 only asks, nothing is created.
    pub partitions: u32,
    /// What it keeps.
    pub keep: Keep,
}

impl TopicSpec {
    /// To ask about a topic; nothing is created.
    #[must_use]
    pub fn asked(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            partitions: 0,
            keep: Keep::For(Duration::ZERO),
        }
    }
}

/// What a topic keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Records younger than this.
    For(Duration),
    /// The newest record of each key; tombstones for this long.
    Newest(Duration),
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// Its name.
    pub name: Arc<str>,
    /// For each partition, in order: the first offset held and the next to be written. Empty if the
    /// topic does not exist.
    pub bounds: Vec<(i64, i64)>,
}

/// Which records to read without a group.
#[derive(Debug, Clone)]
pub struct Range {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The first offset wanted; earlier ones that are gone are skipped.
    pub from: i64,
    /// The first offset not wanted.
    pub to: i64,
}

/// Why the bus did not do it.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// It may work later.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// It will not work until somebody changes something.
    #[error("{0}")]
    Refused(String),
}

/// A partitioned log.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Publishes; all records are durable when it returns.
    async fn publish(&self, records: Vec<Record>) -> Result<(), BusError>;
    /// Joins the group that reads the input topic.
    async fn join(&self) -> Result<Arc<dyn Member>, BusError>;
    /// Reads up to `limit` records (and about 4 MiB), without a group. Fewer than there are is
    /// possible; none means that the range is empty as of now.
    async fn read(&self, range: &Range, limit: usize) -> Result<Vec<Stored>, BusError>;
    /// Waits until each unit that had written to the topic before is either visible there or void. What
    /// a dead worker left open may hide for a while what others committed after it, and a reader would
    /// take that for the end.
    async fn settled(&self, _topic: &Arc<str>) -> Result<(), BusError> {
        Ok(())
    }
    /// Creates what is missing and tells how the topics are, in the order asked. `Refused` if one has
    /// another number of partitions.
    async fn topics(&self, wanted: &[TopicSpec]) -> Result<Vec<TopicState>, BusError>;
    /// For each partition of a topic, the first offset of a record that the bus took at `at` or later;
    /// the next to be written if there is none.
    async fn offsets_at(&self, topic: &Arc<str>, at: Millis) -> Result<Vec<i64>, BusError>;
    /// What the group remembers of each partition of the input topic, without joining it.
    async fn group(&self) -> Result<Vec<Assigned>, BusError>;
    /// Sets what the group remembers, as an operator does. `Refused` while it has members, even
    /// for nothing to set.
    async fn place(&self, progress: &[Progress]) -> Result<(), BusError>;
    /// Forgets what the topics need not keep any longer at `now`, a bounded piece of it, and tells
    /// whether there is more. A bus that does this by itself has nothing to do.
    async fn upkeep(&self, _now: Millis) -> Result<bool, BusError> {
        Ok(false)
    }
}

/// A member of the group that reads the input topic. One task calls `next`; another may call
/// `commit` meanwhile.
#[async_trait]
pub trait Member: Send + Sync {
    /// Waits at most `wait` for the next thing. At most `limit` records come at once.
    async fn next(&self, wait: Duration, limit: usize) -> Result<Next, BusError>;
    /// Begins reading the partitions given under `term` at these offsets (partition, next offset).
    async fn start(&self, term: Term, at: &[(u32, i64)]) -> Result<(), BusError>;
    /// All or nothing.
    async fn commit(&self, unit: Unit) -> Result<Committed, BusError>;
}
