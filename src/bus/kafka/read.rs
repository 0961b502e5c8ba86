//! Reading a range without taking part in the group: a few consumers that are assigned what is
//! asked. One that stopped in the middle goes on from there if it is asked to.

use super::catalog::{Catalog, blocking};
use super::settings::{KafkaSettings, refused};
use super::talk::Plain;
use super::{codec, fault};
use crate::bus::{BusError, Range, Stored};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Bytes of one read.
const READ_BYTES: usize = 4 << 20;
/// Reads at a time; also the consumers kept.
const READERS: usize = 4;
/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a read may wait for its next record.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Readers {
    settings: KafkaSettings,
    idle: Mutex<Vec<Reader>>,
    turns: Semaphore,
}

/// A consumer, and where it stands: topic, partition, next offset.
struct Reader {
    consumer: BaseConsumer<Plain>,
    at: Option<(Arc<str>, i32, i64)>,
}

/// What is to be read; its partition exists.
struct Wanted {
    topic: Arc<str>,
    partition: i32,
    from: i64,
    to: i64,
    limit: usize,
}

impl Wanted {
    fn holds(&self, message: &BorrowedMessage<'_>) -> bool {
        message.partition() == self.partition
            && message.offset() >= self.from
            && message.topic() == &*self.topic
    }
}

impl Readers {
    pub fn new(settings: &KafkaSettings) -> Self {
        Self {
            settings: settings.clone(),
            idle: Mutex::default(),
            turns: Semaphore::new(READERS),
        }
    }

    pub async fn read(
        self: &Arc<Self>,
        catalog: &Catalog,
        range: &Range,
        limit: usize,
    ) -> Result<Vec<Stored>, BusError> {
        let wanted = Wanted {
            topic: Arc::clone(&range.topic),
            partition: catalog.part(&range.topic, range.partition).await?,
            from: range.from.max(0),
            to: range.to,
            limit: limit.max(1),
        };
        if wanted.from >= wanted.to {
            return Ok(Vec::new());
        }
        let ended = |_| BusError::Unavailable("the bus is closed".to_owned());
        let turn = self.turns.acquire().await.map_err(ended)?;
        let readers = Arc::clone(self);
        let read = blocking(move || readers.read_now(wanted)).await;
        drop(turn);
        read
    }

    fn read_now(&self, wanted: Wanted) -> Result<Vec<Stored>, BusError> {
        let mut reader = self.take(&wanted)?;
        let read = reader.read(wanted);
        // One that failed may hold what belongs to nobody.
        if read.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < READERS {
                idle.push(reader);
            }
        }
        read
    }

    fn take(&self, wanted: &Wanted) -> Result<Reader, BusError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = idle.iter().position(|r| r.stands_at(wanted));
        if let Some(index) = stands {
            return Ok(idle.swap_remove(index));
        }
        // One that goes on somewhere else may be asked to; prefer one that does not.
        if idle.len() >= READERS || idle.iter().any(|r| r.at.is_none()) {
            let free = idle.iter().position(|r| r.at.is_none()).unwrap_or(0);
            return Ok(idle.swap_remove(free));
        }
        drop(idle);
        let made = self.settings.reader().create_with_context(Plain);
        let consumer = made.map_err(refused)?;
        Ok(Reader { consumer, at: None })
    }
}

impl Reader {
    fn stands_at(&self, wanted: &Wanted) -> bool {
        let at = self.at.as_ref();
        at.is_some_and(|(topic, partition, next)| {
            *topic == wanted.topic && *partition == wanted.partition && *next == wanted.from
        })
    }

    fn read(&mut self, mut wanted: Wanted) -> Result<Vec<Stored>, BusError> {
        let what = format!("reading topic {}", wanted.topic);
        let failed = |error: KafkaError| fault::of(&what, &error);
        let (low, high) = self
            .consumer
            .fetch_watermarks(&wanted.topic, wanted.partition, ANSWER)
            .map_err(failed)?;
        let standing = self.stands_at(&wanted);
        wanted.from = wanted.from.max(low);
        // A reader of committed records is told the end of those; what is open lies beyond.
        wanted.to = wanted.to.min(high);
        if wanted.from >= wanted.to {
            return Ok(Vec::new());
        }
        if !standing {
            let mut list = TopicPartitionList::new();
            let start = Offset::Offset(wanted.from);
            list.add_partition_offset(&wanted.topic, wanted.partition, start)
                .map_err(failed)?;
            self.at = None;
            self.consumer.assign(&list).map_err(failed)?;
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut waited = Instant::now();
        // Where this consumer stands afterwards; not known once it has passed an end.
        let mut next = Some(wanted.from);
        while records.len() < wanted.limit && bytes < READ_BYTES {
            match self.consumer.poll(Duration::from_millis(100)) {
                // Left over from what was asked before.
                Some(Ok(message)) if !wanted.holds(&message) => {}
                Some(Ok(message)) if message.offset() >= wanted.to => {
                    next = None;
                    break;
                }
                Some(Ok(message)) => {
                    let record = codec::stored(&message);
                    bytes += record.size();
                    waited = Instant::now();
                    next = Some(record.offset + 1);
                    records.push(record);
                    if next >= Some(wanted.to) {
                        break;
                    }
                }
                // Control records and aborted ones are all that is left.
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    next = None;
                    break;
                }
                Some(Err(error)) if !passing(&error) => return Err(failed(error)),
                Some(Err(_)) | None if waited.elapsed() > PATIENCE => {
                    return Err(BusError::Unavailable(format!(
                        "{what}: no answer for {} s",
                        PATIENCE.as_secs()
                    )));
                }
                Some(Err(_)) | None => {}
            }
        }
        self.at = next.map(|next| (wanted.topic, wanted.partition, next));
        Ok(records)
    }
}

/// Errors that librdkafka goes on after by itself.
fn passing(error: &KafkaError) -> bool {
    let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
    !fatal && !error.rdkafka_error_code().is_some_and(fault::lasting)
}
