//! The embedded bus: a durable, partitioned log in the SQLite file.
//!
//! - What `publish` or `commit` acknowledged survives a kill and a power cut (`synchronous=FULL`).
//! - Offsets run from 0 without gap, are taken inside the write transaction (other processes may
//!   append beside the worker) and never used again. Timestamps never go back in a partition.
//! - One worker at a time: a file lock, and behind it terms, which fence whoever lost the lock.
//! - Nothing the group has not committed is deleted from the input topic.

mod catalog;
mod codec;
mod compact;
mod group;
mod lease;
mod log;
mod member;
mod publish;
mod retention;

pub use retention::Retained;

use super::{
    Assigned, Bus, BusError, Member, Progress, Range, Record, Stored, TopicSpec, TopicState,
};
use crate::model::Millis;
use crate::sqlite::{Fault, File};
use async_trait::async_trait;
use catalog::Catalog;
use lease::Lease;
use member::EmbeddedMember;
use publish::Publisher;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Bytes of one `read`.
const READ_BYTES: usize = 4 << 20;

/// What the embedded bus has to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The topic that the group reads.
    pub input_topic: Arc<str>,
    /// The group's name.
    pub group: String,
    /// The topics, created when missing. [`EmbeddedBus::retain`] looks after these.
    pub topics: Vec<TopicSpec>,
}

/// The log, open. Any number of these, in any number of processes, may be open on one file.
pub struct EmbeddedBus {
    core: Arc<Core>,
    publisher: Publisher,
}

/// What the bus and its member share.
struct Core {
    file: Arc<File>,
    input: Arc<str>,
    group: String,
    catalog: Catalog,
    /// Told after each append of this process.
    appended: watch::Sender<()>,
}

impl EmbeddedBus {
    /// Opens the log and creates the topics that are missing. Needs a tokio runtime, on which one
    /// task writes what is published; it ends when the bus is dropped.
    ///
    /// # Errors
    /// `Refused` if a topic exists with another number of partitions.
    pub async fn open(file: Arc<File>, settings: Settings) -> Result<Arc<Self>, BusError> {
        let core = Arc::new(Core {
            catalog: Catalog::new(Arc::clone(&file)),
            file,
            input: settings.input_topic,
            group: settings.group,
            appended: watch::Sender::new(()),
        });
        core.catalog.create(&settings.topics).await?;
        let publisher = Publisher::start(Arc::clone(&core));
        Ok(Arc::new(Self { core, publisher }))
    }

    /// Resets the group as Kafka's tool does: every partition's committed input becomes `to`, within
    /// what the log holds. The relay's position, which a group of its own keeps, stays.
    ///
    /// # Errors
    /// `Refused` while a worker runs.
    pub async fn reset_group(&self, to: i64) -> Result<(), BusError> {
        let _lease = Lease::take(self.core.file.path())?;
        let mut tx = self.core.file.begin().await?;
        group::next_term(&mut tx, &self.core.group).await?;
        group::reset(&mut tx, &self.core.group, &self.core.input, to).await?;
        Ok(tx.commit().await?)
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn publish(&self, records: Vec<Record>) -> Result<(), BusError> {
        let records = self.core.catalog.place(records).await?;
        self.publisher.publish(records).await
    }

    async fn join(&self) -> Result<Arc<dyn Member>, BusError> {
        Ok(Arc::new(
            EmbeddedMember::join(Arc::clone(&self.core)).await?,
        ))
    }

    async fn read(&self, range: &Range, limit: usize) -> Result<Vec<Stored>, BusError> {
        let topic = self.core.catalog.need(&range.topic).await?;
        let part = topic.part(range.partition)?;
        let stretch = log::Stretch {
            from: range.from,
            to: range.to,
            records: limit.max(1),
            bytes: READ_BYTES,
            typical: log::TYPICAL_BYTES,
        };
        let mut snapshot = self.core.file.snapshot().await?;
        Ok(log::read(&mut snapshot, part, stretch).await?)
    }

    async fn topics(&self, wanted: &[TopicSpec]) -> Result<Vec<TopicState>, BusError> {
        self.core.catalog.create(wanted).await?;
        let names: Vec<Arc<str>> = if wanted.is_empty() {
            log::names(&self.core.file).await?
        } else {
            wanted.iter().map(|spec| Arc::clone(&spec.name)).collect()
        };
        let mut states = Vec::with_capacity(names.len());
        for name in names {
            let bounds = log::bounds(&self.core.file, &name).await?;
            states.push(TopicState { name, bounds });
        }
        Ok(states)
    }

    async fn offsets_at(&self, topic: &Arc<str>, at: Millis) -> Result<Vec<i64>, BusError> {
        let topic = self.core.catalog.need(topic).await?;
        let mut snapshot = self.core.file.snapshot().await?;
        let mut offsets = Vec::new();
        for part in topic.parts() {
            offsets.push(log::offset_at(&mut snapshot, part, at.0).await?);
        }
        Ok(offsets)
    }

    async fn group(&self) -> Result<Vec<Assigned>, BusError> {
        let core = &self.core;
        Ok(group::positions(&core.file, &core.group, &core.input).await?)
    }

    async fn place(&self, progress: &[Progress]) -> Result<(), BusError> {
        let _lease = Lease::take(self.core.file.path())?;
        if progress.is_empty() {
            return Ok(());
        }
        let mut tx = self.core.file.begin().await?;
        group::next_term(&mut tx, &self.core.group).await?;
        group::save(&mut tx, &self.core.group, progress).await?;
        Ok(tx.commit().await?)
    }

    async fn upkeep(&self, now: Millis) -> Result<bool, BusError> {
        Ok(self.retain(now).await?.more)
    }
}

impl From<Fault> for BusError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(text) => Self::Unavailable(text),
            Fault::Corrupt(text) => Self::Refused(text),
        }
    }
}

/// Milliseconds since the epoch, by this machine's clock.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
