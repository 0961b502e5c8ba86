//! Which topics there are, and in which partition a record belongs. Topics are never deleted and
//! never change their number of partitions, so what was read once stays true.

use super::log::{self, Part};
use crate::bus::{BusError, Keep, Record, TopicSpec, partition_of};
use crate::sqlite::{Fault, File, Insert};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// A larger record would fill the publishing queue alone; Kafka's own limit is 1 MiB by default.
const RECORD_BYTES: usize = 8 << 20;

const NEW_PARTITION: Insert = Insert {
    head: "INSERT INTO log_partitions (topic, partition) VALUES",
    columns: 2,
    tail: "",
};

/// A topic that exists.
pub struct Topic {
    name: Arc<str>,
    logs: Vec<i64>,
}

/// A record whose partition exists.
pub struct Placed {
    pub log: i64,
    pub record: Record,
}

pub struct Catalog {
    file: Arc<File>,
    topics: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
    keeps: RwLock<HashMap<Arc<str>, Keep>>,
}

impl Topic {
    /// The partition `number`.
    pub fn part(&self, number: u32) -> Result<Part, BusError> {
        match usize::try_from(number).ok().and_then(|i| self.logs.get(i)) {
            Some(&log) => Ok(Part { log, number }),
            None => Err(BusError::Refused(format!(
                "topic {} has {} partitions; there is no partition {number}",
                self.name,
                self.logs.len()
            ))),
        }
    }

    /// All partitions, in order.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        (0..)
            .zip(&self.logs)
            .map(|(number, &log)| Part { log, number })
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.logs.len()).unwrap_or(u32::MAX)
    }
}

impl Catalog {
    pub fn new(file: Arc<File>) -> Self {
        Self {
            file,
            topics: RwLock::default(),
            keeps: RwLock::default(),
        }
    }

    /// The topic, if it exists.
    pub async fn topic(&self, name: &str) -> Result<Option<Arc<Topic>>, Fault> {
        if let Some(topic) = self.known(name) {
            return Ok(Some(topic));
        }
        let logs = log::logs(&self.file, name).await?;
        if logs.is_empty() {
            return Ok(None);
        }
        let name: Arc<str> = name.into();
        let topic = Arc::new(Topic {
            name: Arc::clone(&name),
            logs,
        });
        let mut known = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name, Arc::clone(&topic));
        Ok(Some(topic))
    }

    fn known(&self, name: &str) -> Option<Arc<Topic>> {
        let known = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(Arc::clone)
    }

    /// The topic, which has to exist.
    pub async fn need(&self, name: &str) -> Result<Arc<Topic>, BusError> {
        self.topic(name).await?.ok_or_else(|| {
            BusError::Refused(format!("there is no topic {name}; `topics` creates it"))
        })
    }

    /// Creates the topics that are missing and remembers what each keeps. A topic wanted with 0
    /// partitions is not created.
    pub async fn create(&self, wanted: &[TopicSpec]) -> Result<(), BusError> {
        for spec in wanted.iter().filter(|s| s.partitions > 0) {
            let topic = match self.topic(&spec.name).await? {
                Some(topic) => topic,
                None => {
                    self.create_one(spec).await?;
                    self.need(&spec.name).await?
                }
            };
            if topic.partitions() != spec.partitions {
                return Err(BusError::Refused(format!(
                    "topic {} has {} partitions and the configuration wants {}; the number is \
                     fixed when a topic is created: set it back, or begin with an empty data directory",
                    spec.name,
                    topic.partitions(),
                    spec.partitions
                )));
            }
            let mut keeps = self.keeps.write().unwrap_or_else(PoisonError::into_inner);
            keeps.insert(Arc::clone(&spec.name), spec.keep);
        }
        Ok(())
    }

    async fn create_one(&self, spec: &TopicSpec) -> Result<(), Fault> {
        let mut tx = self.file.begin().await?;
        // Another process may have been faster.
        if log::logs_in(&mut tx, &spec.name).await?.is_empty() {
            let rows = (0..spec.partitions).flat_map(|p| [spec.name.as_ref().into(), p.into()]);
            tx.insert(&NEW_PARTITION, rows.collect()).await?;
        }
        tx.commit().await
    }

    /// Finds each record's partition. All of them are good, or none is taken.
    pub async fn place(&self, records: Vec<Record>) -> Result<Vec<Placed>, BusError> {
        let mut placed = Vec::with_capacity(records.len());
        let mut last: Option<Arc<Topic>> = None;
        for record in records {
            let topic = match last.take() {
                Some(topic) if topic.name == record.topic => topic,
                _ => self.need(&record.topic).await?,
            };
            let hashed = || partition_of(&record.key, topic.partitions());
            let log = topic.part(record.partition.unwrap_or_else(hashed))?.log;
            let one = Placed { log, record };
            if one.record.size() > RECORD_BYTES {
                return Err(BusError::Refused(format!(
                    "a record of {} bytes is larger than {RECORD_BYTES}",
                    one.record.size()
                )));
            }
            placed.push(one);
            last = Some(topic);
        }
        Ok(placed)
    }

    /// The topics that retention looks after.
    pub fn kept(&self) -> Vec<(Arc<str>, Keep)> {
        let keeps = self.keeps.read().unwrap_or_else(PoisonError::into_inner);
        keeps.iter().map(|(n, k)| (Arc::clone(n), *k)).collect()
    }
}
