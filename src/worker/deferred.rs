//! Takes up deferred resolutions when they are due. They are leased, so that several workers share
//! them and a crash gives them back.

use super::decode::{Decoded, Decoder};
use super::item::{End, Head, Item, Source};
use super::records::Records;
use super::watchdog::Watchdog;
use crate::bus::Stored;
use crate::clock::Clock;
use crate::model::{DeadReason, Fact};
use crate::resolve::ladder::{Ladder, Later, Place, Resolved};
use crate::resolve::ports::MemoryFault;
use crate::store::{Deferred, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A lease outlasts a request (5 s unless configured) and its queue; after a crash the work waits
/// this long. An attempt that outlives it does no harm: its end is told once.
const LEASE_MS: i64 = 20_000;
/// How long a record that does not open waits for its key to come back.
const UNOPENED_MS: i64 = 10 * 60_000;
/// Resolutions taken from the store at once.
const TAKE: usize = 256;
/// However often the store changes, it is asked no oftener than this.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// And no more seldom: another worker's changes do not wake this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Takes up deferred work in one term.
#[derive(Clone)]
pub struct Deferrals {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Reads records.
    pub decoder: Arc<Decoder>,
    /// Resolves.
    pub ladder: Arc<Ladder>,
    /// Unseals records.
    pub records: Records,
    /// The time.
    pub clock: Clock,
    /// Notices a store that hangs.
    pub watchdog: Arc<Watchdog>,
    /// Where finished items go.
    pub done: mpsc::Sender<Vec<Item>>,
}

impl Deferrals {
    /// Works until told to stop, or nobody takes what it finishes.
    ///
    /// # Errors
    /// The store or the memory failed; the term must end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        let (failed, mut failures) = mpsc::channel::<MemoryFault>(1);
        loop {
            // No more of an app than there is place for: what is taken and not begun would hold up
            // the others, and come back later than it could be begun.
            let mut room = self.ladder.room();
            room.total = room.total.min(TAKE);
            let now = (self.clock)();
            let due = self.store.due(now, LEASE_MS, &room);
            let due = self.watchdog.step("taking deferred work", due).await?;
            let full = due.len() == room.total;
            for deferred in due {
                // Only this loop takes places, so that those there were are there still.
                let Some(place) = self.ladder.place(&deferred.app) else {
                    continue;
                };
                let (this, failed) = (self.clone(), failed.clone());
                tokio::spawn(async move {
                    match this.resume(deferred, place).await {
                        // A closed queue means that the term is over; the lease gives it back.
                        Ok(item) => drop(this.done.send(vec![item]).await),
                        Err(fault) => drop(failed.try_send(fault)),
                    }
                });
            }
            let pause = if full {
                LEAST_PAUSE
            } else {
                self.pause().await?
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.done.closed() => return Ok(()),
                Some(fault) = failures.recv() => return Err(StoreError::Unavailable(fault.0)),
                () = tokio::time::sleep(pause) => {}
                () = self.woken() => {}
            }
        }
    }

    async fn woken(&self) {
        tokio::time::sleep(LEAST_PAUSE).await;
        self.store.changed().await;
    }

    async fn pause(&self) -> Result<Duration, StoreError> {
        let Some(next) = self.store.next_due().await? else {
            return Ok(LONGEST_PAUSE);
        };
        let ms = u64::try_from(next.since((self.clock)())).unwrap_or(0);
        Ok(Duration::from_millis(ms).clamp(LEAST_PAUSE, LONGEST_PAUSE))
    }

    async fn resume(&self, deferred: Deferred, place: Place) -> Result<Item, MemoryFault> {
        let source = Source::Deferred {
            attempts: deferred.attempts + 1,
            lease: deferred.next_at,
        };
        let at = (deferred.partition, deferred.offset);
        let Some(record) = self.records.recover(at, &deferred.record) else {
            return Ok(self.unopened(&deferred, source));
        };
        let (head, end) = match self.decoder.decode(&record) {
            Decoded::Login(login) => {
                let resolved = self
                    .ladder
                    .resolve_again(&login, place, (deferred.attempts, deferred.since))
                    .await?;
                (Some(Head::of(&login)), end_of(resolved))
            }
            Decoded::Operator(head, fact) => (Some(head), End::Facts(fact)),
            Decoded::Dead(head, reason, detail) => (head, End::Dead(reason, detail)),
        };
        Ok(Item {
            record: Arc::new(record),
            source,
            head,
            end: ended(end, deferred.expires_at <= (self.clock)()),
        })
    }
}

impl Deferrals {
    /// Without its key a record cannot be read, not even as a dead letter: it is kept, and looked at
    /// again once somebody may have brought the key back. Others go on.
    fn unopened(&self, deferred: &Deferred, source: Source) -> Item {
        tracing::error!(app = %deferred.app, "a deferred login does not open: is a [[ring]] key missing \
            from the key file? It is kept and tried again later");
        let record = Stored {
            partition: deferred.partition,
            offset: deferred.offset,
            timestamp: 0,
            key: Vec::new(),
            value: None,
            headers: Vec::new(),
        };
        let later = Later {
            interim: None,
            reason: None,
            unasked: true,
            for_key: false,
            next_at: (self.clock)().plus(UNOPENED_MS),
            expires_at: deferred.expires_at,
        };
        Item {
            record: Arc::new(record),
            source,
            head: None,
            end: End::Later(Box::new(later)),
        }
    }
}

/// What a resolution comes to for the batch.
#[must_use]
pub fn end_of(resolved: Resolved) -> End {
    match resolved {
        Resolved::Facts(sighting) => End::Facts(Box::new(Fact::Sighting(*sighting))),
        Resolved::Later(later) => End::Later(later),
        Resolved::Dead(reason, detail) => End::Dead(reason, detail.to_owned()),
    }
}

/// The ladder ends what has expired by itself; if it once did not, waiting would never end.
fn ended(end: End, expired: bool) -> End {
    match end {
        End::Later(later) if expired && !later.for_key && later.interim.is_none() => {
            let detail = "its time ran out before WeChat gave an answer".to_owned();
            drop(later);
            End::Dead(DeadReason::GaveUp, detail)
        }
        other => other,
    }
}
