//! Group commit: one task gathers what concurrent callers publish into one transaction, and answers
//! each once the commit that holds its records is durable. A lone caller waits for no timer.
//!
//! Records were checked before they queue, so that a bad one is its own caller's failure only.

use super::catalog::Placed;
use super::{Core, log, now};
use crate::bus::BusError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Room in the queue: as much as four transactions, so that the next ones gather while one commits.
const QUEUE_BYTES: usize = 16 << 20;
/// What a record weighs in the queue beyond its bytes; so the queue is bounded in records too.
const RECORD_OVERHEAD: usize = 512;
/// How long a caller waits for room before it is told to come back.
const QUEUE_WAIT: Duration = Duration::from_secs(5);
/// One transaction: beyond this, a larger one gains nothing and keeps the store waiting.
const GROUP_RECORDS: usize = 4_000;
const GROUP_BYTES: usize = 4 << 20;

/// The way to the task.
pub struct Publisher {
    room: Arc<Semaphore>,
    queue: mpsc::UnboundedSender<Batch>,
}

/// What one caller publishes.
struct Batch {
    records: Vec<Placed>,
    bytes: usize,
    caller: Caller,
}

/// Who waits, and the room its records take until they are written.
struct Caller {
    done: oneshot::Sender<Result<(), BusError>>,
    _room: OwnedSemaphorePermit,
}

impl Publisher {
    /// Starts the task; it ends when the publisher is dropped.
    pub fn start(core: Arc<Core>) -> Self {
        // Bounded by the room that every batch holds.
        let (queue, batches) = mpsc::unbounded_channel();
        tokio::spawn(write(core, batches));
        Self {
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            queue,
        }
    }

    /// Resolves when all the records are durable. They become visible together.
    pub async fn publish(&self, records: Vec<Placed>) -> Result<(), BusError> {
        if records.is_empty() {
            return Ok(());
        }
        let bytes = records.iter().map(|p| p.record.size()).sum();
        let room = self.room(bytes + records.len() * RECORD_OVERHEAD).await?;
        let (done, answer) = oneshot::channel();
        let batch = Batch {
            records,
            bytes,
            caller: Caller { done, _room: room },
        };
        self.queue.send(batch).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    async fn room(&self, weight: usize) -> Result<OwnedSemaphorePermit, BusError> {
        // What is larger than the queue has it to itself.
        let weight = u32::try_from(weight.min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(weight);
        match tokio::time::timeout(QUEUE_WAIT, room).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(ended()),
            Err(_) => Err(BusError::Unavailable(format!(
                "the log has had no room for {} s; the disk does not keep up",
                QUEUE_WAIT.as_secs()
            ))),
        }
    }
}

async fn write(core: Arc<Core>, mut batches: mpsc::UnboundedReceiver<Batch>) {
    let mut left = None;
    loop {
        let first = match left.take() {
            Some(batch) => batch,
            None => match batches.recv().await {
                Some(batch) => batch,
                None => return,
            },
        };
        left = commit(&core, first, &mut batches).await;
    }
}

/// Commits a group that begins with `first`; returns the batch that did not fit.
async fn commit(
    core: &Core,
    first: Batch,
    batches: &mut mpsc::UnboundedReceiver<Batch>,
) -> Option<Batch> {
    let mut tx = match core.file.begin().await {
        Ok(tx) => tx,
        Err(fault) => {
            // It took the busy timeout to learn this; whoever waits would wait as long again.
            let waiting = std::iter::from_fn(|| batches.try_recv().ok());
            let error = fault.into();
            answer(
                std::iter::once(first).chain(waiting).map(|b| b.caller),
                &Err(error),
            );
            return None;
        }
    };
    // After `begin`: what came while others wrote goes along.
    let (group, left) = gather(first, batches);
    let (records, callers): (Vec<_>, Vec<_>) =
        group.into_iter().map(|b| (b.records, b.caller)).unzip();
    let mut outcome = log::append(&mut tx, records.into_iter().flatten().collect(), now()).await;
    if outcome.is_ok() {
        outcome = tx.commit().await;
    }
    if outcome.is_ok() {
        core.appended.send_replace(());
    }
    answer(callers.into_iter(), &outcome.map_err(Into::into));
    left
}

fn gather(
    first: Batch,
    batches: &mut mpsc::UnboundedReceiver<Batch>,
) -> (Vec<Batch>, Option<Batch>) {
    let (mut records, mut bytes) = (first.records.len(), first.bytes);
    let mut group = vec![first];
    while let Ok(batch) = batches.try_recv() {
        // Whoever has gone away wants nothing any more.
        if batch.caller.done.is_closed() {
            continue;
        }
        records += batch.records.len();
        bytes += batch.bytes;
        if records > GROUP_RECORDS || bytes > GROUP_BYTES {
            return (group, Some(batch));
        }
        group.push(batch);
    }
    (group, None)
}

fn answer(callers: impl Iterator<Item = Caller>, outcome: &Result<(), BusError>) {
    for caller in callers {
        let same = match outcome {
            Ok(()) => Ok(()),
            Err(BusError::Unavailable(text)) => Err(BusError::Unavailable(text.clone())),
            Err(BusError::Refused(text)) => Err(BusError::Refused(text.clone())),
        };
        // Its future may have been dropped meanwhile.
        caller.done.send(same).ok();
    }
}

fn ended() -> BusError {
    BusError::Unavailable("the log's writer has ended".to_owned())
}
