//! The bus on Kafka, through librdkafka.
//!
//! - What `publish` acknowledged is on all in-sync replicas; what `commit` made visible is one Kafka
//!   transaction: records, the group's offsets, and the relay's position as the offset (with
//!   metadata) of a second group, which survives a reset of the first.
//! - A term is one stretch of holding partitions. What was read under it is committed with the
//!   group's metadata of that time, so that a member that lost its partitions, knowingly or not,
//!   commits nothing.
//! - Whoever is given partitions reads positions only after every transaction that may move them has
//!   ended. A worker that comes back under its name ends its own at once; others wait for a dead
//!   one's until it times out (`session.timeout.ms` plus `transaction.timeout.ms`, and the
//!   brokers look for those every 10 s).
//! - Nothing here needs a broker to be opened. Whatever has to wait for one says so within seconds.

mod catalog;
mod codec;
mod desk;
mod fault;
mod inbox;
mod member;
mod offsets;
mod polling;
mod publish;
mod read;
mod settings;
mod state;
mod talk;
mod times;
mod topics;
mod transact;

pub use settings::KafkaSettings;

use super::{
    Assigned, Bus, BusError, Member, Progress, Range, Record, Stored, TopicSpec, TopicState,
};
use crate::model::Millis;
use async_trait::async_trait;
use catalog::Catalog;
use member::KafkaMember;
use offsets::Onlookers;
use publish::Publisher;
use read::Readers;
use std::sync::Arc;

/// A Kafka cluster.
pub struct KafkaBus {
    settings: KafkaSettings,
    catalog: Arc<Catalog>,
    publisher: Publisher,
    readers: Arc<Readers>,
}

impl KafkaBus {
    /// Opens the bus; no broker is needed for that.
    ///
    /// # Errors
    /// `Refused` for a setting that librdkafka does not take or that would break a promise; the
    /// text names it.
    pub fn open(settings: KafkaSettings) -> Result<Arc<Self>, BusError> {
        settings.check()?;
        let catalog = Arc::new(Catalog::new(&settings)?);
        Ok(Arc::new(Self {
            publisher: Publisher::new(&settings, &catalog)?,
            readers: Arc::new(Readers::new(&settings)),
            catalog,
            settings,
        }))
    }
}

#[async_trait]
impl Bus for KafkaBus {
    async fn publish(&self, records: Vec<Record>) -> Result<(), BusError> {
        self.publisher.publish(&self.catalog, records).await
    }

    /// Joins at once; what is held is told by `next`, once the group has agreed on it.
    async fn join(&self) -> Result<Arc<dyn Member>, BusError> {
        Ok(Arc::new(KafkaMember::join(&self.settings, &self.catalog)?))
    }

    async fn read(&self, range: &Range, limit: usize) -> Result<Vec<Stored>, BusError> {
        self.readers.read(&self.catalog, range, limit).await
    }

    async fn settled(&self, topic: &Arc<str>) -> Result<(), BusError> {
        let asked = (self.catalog.need(topic).await?, Arc::clone(topic));
        let (settings, watcher) = (self.settings.clone(), self.catalog.watcher());
        catalog::blocking(move || topics::settled(&settings, &watcher, asked)).await
    }

    async fn topics(&self, wanted: &[TopicSpec]) -> Result<Vec<TopicState>, BusError> {
        topics::topics(&self.settings, &self.catalog.watcher(), wanted).await
    }

    async fn offsets_at(&self, topic: &Arc<str>, at: Millis) -> Result<Vec<i64>, BusError> {
        let partitions = self.catalog.need(topic).await?;
        times::offsets_at(self.catalog.watcher(), Arc::clone(topic), partitions, at).await
    }

    async fn group(&self) -> Result<Vec<Assigned>, BusError> {
        let partitions = self.catalog.need(&self.settings.input_topic).await?;
        let settings = self.settings.clone();
        let asked: Vec<u32> = (0..partitions).collect();
        catalog::blocking(move || Onlookers::open(&settings)?.standing(&asked)).await
    }

    async fn place(&self, progress: &[Progress]) -> Result<(), BusError> {
        let (settings, progress) = (self.settings.clone(), progress.to_vec());
        catalog::blocking(move || Onlookers::open(&settings)?.place(&settings.group, &progress))
            .await
    }
}
