//! Publishing: one idempotent producer that everybody shares, so that what comes together travels
//! together. A caller is answered once the brokers have all of its records.

use super::catalog::Catalog;
use super::settings::{KafkaSettings, refused};
use super::talk::Talk;
use super::{codec, fault};
use crate::bus::{BusError, Record};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{ProducerContext, ThreadedProducer};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Room for records that are on their way.
const ROOM_BYTES: usize = 32 << 20;
/// What a record takes beside its bytes; so the room bounds their number too, below what
/// librdkafka's own queue takes.
const RECORD_OVERHEAD: usize = 512;
/// How long a caller waits for room before it is told to come back.
const ROOM_WAIT: Duration = Duration::from_secs(5);

type Producer = ThreadedProducer<Publishing>;

pub struct Publisher {
    settings: KafkaSettings,
    room: Arc<Semaphore>,
    producer: Mutex<Arc<Producer>>,
}

/// What a caller waits for. Each of its records holds it; the last one gone answers.
pub struct Caller {
    outcome: Mutex<Outcome>,
    _room: OwnedSemaphorePermit,
}

struct Outcome {
    failure: Option<BusError>,
    /// Taken by the answer.
    done: Option<oneshot::Sender<Result<(), BusError>>>,
}

impl Caller {
    fn fail(&self, failure: BusError) {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        // A refusal tells more than the failures that come with it.
        if outcome.failure.is_none() || matches!(failure, BusError::Refused(_)) {
            outcome.failure = Some(failure);
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let outcome = self.outcome.get_mut();
        let outcome = outcome.unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = outcome.done.take() {
            // Its future may have been dropped meanwhile.
            let result = outcome.failure.take().map_or(Ok(()), Err);
            done.send(result).ok();
        }
    }
}

/// The producer's context.
pub struct Publishing {
    talk: Talk,
    catalog: Arc<Catalog>,
}

impl ClientContext for Publishing {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        self.talk.line(level, fac, log_message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.talk.error(&error, reason);
    }
}

impl ProducerContext for Publishing {
    type DeliveryOpaque = Arc<Caller>;

    fn delivery(&self, result: &DeliveryResult<'_>, caller: Arc<Caller>) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code();
            if code.is_some_and(fault::lasting) {
                self.catalog.forget(message.topic());
            }
            caller.fail(fault::of(&publishing(message.topic()), error));
        }
    }
}

fn publishing(topic: &str) -> String {
    format!("publishing to {topic}")
}

impl Publisher {
    pub fn new(settings: &KafkaSettings, catalog: &Arc<Catalog>) -> Result<Self, BusError> {
        Ok(Self {
            producer: Mutex::new(producer(settings, catalog)?),
            settings: settings.clone(),
            room: Arc::new(Semaphore::new(ROOM_BYTES)),
        })
    }

    /// Resolves when all the records are durable.
    pub async fn publish(
        &self,
        catalog: &Arc<Catalog>,
        records: Vec<Record>,
    ) -> Result<(), BusError> {
        let placed = catalog.place(records).await?;
        if placed.is_empty() {
            return Ok(());
        }
        let bytes = placed.iter().map(|p| p.record.size() + RECORD_OVERHEAD);
        let room = self.room(bytes.sum()).await?;
        let (done, answer) = oneshot::channel();
        let caller = Arc::new(Caller {
            outcome: Mutex::new(Outcome {
                failure: None,
                done: Some(done),
            }),
            _room: room,
        });
        let producer = self.producer(catalog)?;
        for one in &placed {
            let record = codec::outgoing(one, Arc::clone(&caller));
            if let Err((error, _)) = producer.send(record) {
                caller.fail(fault::of(&publishing(&one.record.topic), &error));
                break;
            }
        }
        drop((caller, placed));
        let ended = |_| BusError::Unavailable("the producer has ended".to_owned());
        answer.await.map_err(ended)?
    }

    /// A producer that has failed for good is replaced.
    fn producer(&self, catalog: &Arc<Catalog>) -> Result<Arc<Producer>, BusError> {
        use rdkafka::producer::Producer as _;
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((code, _)) = current.client().fatal_error() {
            tracing::warn!(%code, "the producer failed for good; another takes over");
            let fresh = producer(&self.settings, catalog)?;
            let failed = std::mem::replace(&mut *current, fresh);
            // It waits for its thread when dropped.
            std::thread::spawn(move || drop(failed));
        }
        Ok(Arc::clone(&current))
    }

    async fn room(&self, weight: usize) -> Result<OwnedSemaphorePermit, BusError> {
        // What is larger than the room has it to itself.
        let weight = u32::try_from(weight.min(ROOM_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(weight);
        match tokio::time::timeout(ROOM_WAIT, room).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(BusError::Unavailable(format!(
                "the brokers have not taken {ROOM_BYTES} bytes for {} s",
                ROOM_WAIT.as_secs()
            ))),
        }
    }
}

fn producer(settings: &KafkaSettings, catalog: &Arc<Catalog>) -> Result<Arc<Producer>, BusError> {
    let context = Publishing {
        talk: Talk::new("publisher"),
        catalog: Arc::clone(catalog),
    };
    let made = settings.publisher().create_with_context(context);
    Ok(Arc::new(made.map_err(refused)?))
}
