//! Rebuilds: a store from the topics, where the database is empty or was restored from an older copy;
//! topics from the store, where they were lost or resized.
//!
//! - Nothing runs beside it: it refuses while the group has members, and from its first write to its
//!   last nobody else opens the store.
//! - Each rebuild is an epoch of its own. Revisions go on counting; readers compare (epoch, revision).
//! - Whatever kills it, it is run again. Rows are loaded as joins. Before anything is written that
//!   must be published, the bus is told where the outbox goes on, and what waits there is kept.

mod codes;
mod links;
mod positions;
mod registers;
mod retell;
mod review;
mod topics;

pub use retell::from_store;
pub use topics::from_topics;

use crate::bus::{Bus, BusError, Range, Stored, TopicSpec};
use crate::clock::Clock;
use crate::link::Rules;
use crate::resolve::ports::MemoryFault;
use crate::seal::Keys;
use crate::store::{Birth, Origin, Rebuild, StoreError, UnderWay};
use crate::wire::Topics;
use crate::worker::{Decoder, Records, RecoverError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Records read at once.
const CHUNK: usize = 2_000;
/// A question that the bus does not answer is asked again this often, with pauses.
const TRIES: u32 = 20;
/// See [`TRIES`].
const PAUSE: Duration = Duration::from_millis(500);
/// Accounts in one transaction.
const PAGE: usize = 500;

/// Everything a rebuild is made of.
pub struct Site {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The store.
    pub store: Arc<dyn Rebuild>,
    /// The rules of `plan`.
    pub rules: Rules,
    /// Reads logins, for their codes.
    pub decoder: Decoder,
    /// The keys.
    pub keys: Arc<Keys>,
    /// The topics.
    pub topics: Topics,
    /// What the configuration says of the store.
    pub birth: Birth,
    /// Records that a worker may have had in hand beyond the group's position.
    pub read_ahead: usize,
    /// A name for this installation (`ce_source`).
    pub source: String,
    /// The time.
    pub clock: Clock,
    /// Who watches.
    pub watch: Arc<dyn Watch>,
    /// Told to stop: it ends after the page at hand.
    pub stop: CancellationToken,
}

/// Watches a rebuild.
pub trait Watch: Send + Sync {
    /// The next stage begins, with so much to do.
    fn stage(&self, what: &'static str, total: u64);
    /// So much of it is done.
    fn at(&self, done: u64);
}

/// What a rebuild came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// The new epoch.
    pub epoch: u32,
    /// Accounts walked.
    pub accounts: u64,
    /// Records that wait in the outbox for the next worker.
    pub told: u64,
    /// Records that are none of ours and were left aside.
    pub unreadable: u64,
    /// Codes that must not be sent again although their answers are lost.
    pub codes: u64,
    /// Codes that may have been sent, and are sent once more.
    pub unsure: u64,
    /// Deferred resolutions that go on at a new place.
    pub moved: u64,
}

/// Why a rebuild did not end.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The bus failed, or workers run.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger failed.
    #[error(transparent)]
    Memory(#[from] MemoryFault),
    /// It was told to stop.
    #[error("stopped before it was done")]
    Stopped,
    /// It would do harm; the text names what to do instead.
    #[error("{0}")]
    Refused(String),
}

impl From<RecoverError> for RebuildError {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Bus(error) | RecoverError::Overtaken(error) => Self::Bus(error),
            RecoverError::Store(error) => Self::Store(error),
        }
    }
}

impl Site {
    /// Keeps everybody else out. Returns what was under way before.
    async fn enter(&self, origin: Origin) -> Result<Option<UnderWay>, RebuildError> {
        self.bus.place(&[]).await?;
        let before = self.store.under_way().await?;
        if let Some(other) = before.filter(|b| b.origin != origin) {
            return Err(RebuildError::Refused(format!(
                "`unilink rebuild --from {0}` was interrupted: run that one again first",
                other.origin.word()
            )));
        }
        let placed = before.is_some_and(|b| b.placed);
        self.store.begin(UnderWay { origin, placed }).await?;
        // A worker that had opened the store before that is a member by now, or finds at its first
        // assignment that the bus was told of another store.
        self.bus.place(&[]).await?;
        Ok(before)
    }

    /// So much of the stage is done; whether to go on.
    fn at(&self, done: u64) -> Result<(), RebuildError> {
        self.watch.at(done);
        if self.stop.is_cancelled() {
            return Err(RebuildError::Stopped);
        }
        Ok(())
    }

    /// Makes the records of an epoch.
    fn records(&self, epoch: u32) -> Records {
        let (topics, keys) = (self.topics.clone(), Arc::clone(&self.keys));
        let partitions = self.birth.partitions;
        Records::new(topics, partitions, epoch, self.source.clone(), keys)
    }

    /// For each partition of a topic, the first offset held and the next to be written.
    async fn bounds(&self, topic: &Arc<str>) -> Result<Vec<(i64, i64)>, RebuildError> {
        // A topic that was just made anew is not known to all brokers at once.
        let mut tries = 0;
        let states = loop {
            match self.bus.topics(&[TopicSpec::asked(topic)]).await {
                Err(BusError::Unavailable(_)) if tries < TRIES => tries += 1,
                answered => break answered?,
            }
            tokio::time::sleep(PAUSE).await;
        };
        let bounds = states.into_iter().flat_map(|state| state.bounds);
        let bounds: Vec<(i64, i64)> = bounds.collect();
        if bounds.is_empty() {
            let why = format!("there is no topic {topic}: `unilink topics` creates it");
            return Err(RebuildError::Refused(why));
        }
        Ok(bounds)
    }

    /// All of a topic that workers wrote. What they committed may lie behind what a killed one left
    /// open, so that is waited for.
    async fn whole(&self, topic: &Arc<str>) -> Result<Reading<'_>, RebuildError> {
        let bounds = self.bounds(topic).await?;
        self.bus.settled(topic).await?;
        Ok(Reading::new(&*self.bus, topic, &bounds))
    }
}

/// Reads a topic, as it is at the start, partition by partition.
struct Reading<'a> {
    bus: &'a dyn Bus,
    ranges: Vec<Range>,
    read: u64,
}

impl<'a> Reading<'a> {
    fn new(bus: &'a dyn Bus, topic: &Arc<str>, bounds: &[(i64, i64)]) -> Self {
        let ranges = (0u32..).zip(bounds).map(|(partition, (from, to))| Range {
            topic: Arc::clone(topic),
            partition,
            from: *from,
            to: *to,
        });
        Self {
            bus,
            ranges: ranges.collect(),
            read: 0,
        }
    }

    fn total(&self) -> u64 {
        let sizes = self.ranges.iter().map(|range| range.to - range.from);
        u64::try_from(sizes.sum::<i64>()).unwrap_or(0)
    }

    /// The next records; none at the end.
    async fn next(&mut self) -> Result<Vec<Stored>, BusError> {
        while let Some(range) = self.ranges.last_mut() {
            let records = self.bus.read(range, CHUNK).await?;
            let Some(last) = records.last() else {
                self.ranges.pop();
                continue;
            };
            self.read += u64::try_from(last.offset + 1 - range.from).unwrap_or(0);
            range.from = last.offset + 1;
            return Ok(records);
        }
        Ok(Vec::new())
    }
}
