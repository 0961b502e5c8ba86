//! Which topics there are, and in which partition a record belongs. A topic's number of partitions
//! is asked once: topics that change it would send keys elsewhere, and are refused where it matters.

use super::fault;
use super::settings::{KafkaSettings, refused};
use super::talk::Plain;
use crate::bus::{BusError, Record, partition_of};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Callers that come within this time after a failure share it, instead of each waiting as long.
const SHARED_FAILURE: Duration = Duration::from_millis(500);

/// A client that only asks.
pub type Watcher = BaseConsumer<Plain>;

/// A record whose partition exists.
pub struct Placed {
    pub partition: i32,
    pub record: Record,
}

pub struct Catalog {
    watcher: Arc<Watcher>,
    counts: RwLock<HashMap<Arc<str>, u32>>,
    /// One asks at a time; the last failure.
    asking: Mutex<Option<(Instant, String)>>,
}

impl Catalog {
    pub fn new(settings: &KafkaSettings) -> Result<Self, BusError> {
        let config = settings.watcher();
        let watcher = config.create_with_context(Plain);
        Ok(Self {
            watcher: Arc::new(watcher.map_err(refused)?),
            counts: RwLock::default(),
            asking: Mutex::default(),
        })
    }

    /// The client that asks.
    pub fn watcher(&self) -> Arc<Watcher> {
        Arc::clone(&self.watcher)
    }

    /// The number of partitions of a topic, which has to exist.
    pub async fn need(&self, topic: &Arc<str>) -> Result<u32, BusError> {
        if let Some(count) = self.known(topic) {
            return Ok(count);
        }
        let mut failure = self.asking.lock().await;
        if let Some(count) = self.known(topic) {
            return Ok(count);
        }
        if let Some((at, text)) = failure.as_ref()
            && at.elapsed() < SHARED_FAILURE
        {
            return Err(BusError::Unavailable(text.clone()));
        }
        let (watcher, name) = (self.watcher(), Arc::clone(topic));
        let asked = blocking(move || ask(&watcher, &name)).await;
        *failure = match &asked {
            Err(BusError::Unavailable(text)) => Some((Instant::now(), text.clone())),
            _ => None,
        };
        let count = asked?;
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        counts.insert(Arc::clone(topic), count);
        Ok(count)
    }

    /// Refuses a partition that the topic does not have.
    pub async fn part(&self, topic: &Arc<str>, partition: u32) -> Result<i32, BusError> {
        part(topic, self.need(topic).await?, partition)
    }

    /// Forgets a topic, which may have been deleted.
    pub fn forget(&self, topic: &str) {
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        counts.remove(topic);
    }

    fn known(&self, topic: &str) -> Option<u32> {
        let counts = self.counts.read().unwrap_or_else(PoisonError::into_inner);
        counts.get(topic).copied()
    }

    /// Finds each record's partition. All of them are good, or none is taken.
    pub async fn place(&self, records: Vec<Record>) -> Result<Vec<Placed>, BusError> {
        let mut placed = Vec::with_capacity(records.len());
        let mut last: Option<(Arc<str>, u32)> = None;
        for record in records {
            let (topic, count) = match last.take() {
                Some(known) if known.0 == record.topic => known,
                _ => (Arc::clone(&record.topic), self.need(&record.topic).await?),
            };
            let hashed = || partition_of(&record.key, count);
            let partition = part(&topic, count, record.partition.unwrap_or_else(hashed))?;
            if record.headers.iter().any(|(name, _)| name.contains('\0')) {
                let text = "a header's name holds a zero byte, which Kafka's clients cannot write";
                return Err(BusError::Refused(text.to_owned()));
            }
            placed.push(Placed { partition, record });
            last = Some((topic, count));
        }
        Ok(placed)
    }
}

fn part(topic: &str, count: u32, partition: u32) -> Result<i32, BusError> {
    match i32::try_from(partition) {
        Ok(number) if partition < count => Ok(number),
        _ => Err(BusError::Refused(format!(
            "topic {topic} has {count} partitions; there is no partition {partition}"
        ))),
    }
}

fn ask(watcher: &Watcher, topic: &str) -> Result<u32, BusError> {
    let what = || format!("asking about topic {topic}");
    let missing = || BusError::Refused(format!("there is no topic {topic}; `topics` creates it"));
    if topic.contains('\0') {
        return Err(missing());
    }
    let metadata = watcher
        .fetch_metadata(Some(topic), ANSWER)
        .map_err(|e| fault::of(&what(), &e))?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return Err(missing());
    };
    let code = found.error().map(RDKafkaErrorCode::from);
    match code {
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
            Err(missing())
        }
        Some(code) if found.partitions().is_empty() => Err(fault::of_code(&what(), code)),
        _ if found.partitions().is_empty() => Err(missing()),
        _ => Ok(u32::try_from(found.partitions().len()).unwrap_or(u32::MAX)),
    }
}

/// Runs what waits for a broker where it holds nobody up.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BusError> + Send + 'static,
) -> Result<T, BusError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(BusError::Unavailable("a call to Kafka ended early".into())),
    }
}
