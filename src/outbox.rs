//! The relay: brings committed changes from the outbox to the topics, exactly once and in order.
//!
//! A unit carries, for some partitions, the next rows of the outbox, the records that go out beside
//! input offsets, the input positions and the relay positions. The bus makes it visible whole or not
//! at all, so that nothing is published twice and nothing is left out, whatever crashes in between.

use crate::bus::{BusError, Committed, Member, Progress, Record, RelayPosition, Term, Unit};
use crate::clock::Clock;
use crate::model::Millis;
use crate::store::{Store, StoreError};
use crate::telemetry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Outbox bytes read per partition and unit: a unit is some thousand records at most.
const READ_BYTES: usize = 2 << 20;
/// Inline records per partition and unit.
const INLINE: usize = 4_000;
/// Batches that change nothing share one offsets-only unit in this time.
const OFFSETS_ONLY: Duration = Duration::from_secs(1);
/// Rows may pile up this long before they are pruned.
const PRUNE_EVERY: Duration = Duration::from_millis(500);
/// Positions that do not move are committed again after this time. Kafka forgets what a group without
/// members has committed (`offsets.retention.minutes`, seven days by default), and the relay's group
/// has none; the input's group keeps its own as long as it has members, and is told beside it.
const REFRESH_MS: i64 = 24 * 60 * 60_000;
/// The same at the beginning of a term, which does not know how old its positions are: workers that
/// are started anew every night keep theirs, too.
const FIRST_REFRESH_MS: i64 = 60 * 60_000;
/// The header that tells a record's outbox sequence; after a reset of the group that also lost
/// the relay's position, the largest one in the tail of `account-links` replaces it.
pub const SEQ_HEADER: &str = "seq";

/// What the relay takes from the worker's books.
pub trait Finished: Send + Sync {
    /// The finished prefix of the partition: the next input offset and the records to publish
    /// beside it, at most about `limit`.
    fn take(&self, partition: u32, limit: usize) -> Option<(i64, Vec<Record>)>;
}

/// Why relaying stopped.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The bus failed; the outcome of the last unit is unknown.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The term is over.
    #[error("the partitions were taken away")]
    Void,
}

/// Relays the partitions of one term.
pub struct Relay {
    store: Arc<dyn Store>,
    member: Arc<dyn Member>,
    finished: Arc<dyn Finished>,
    clock: Clock,
    term: Term,
    parts: BTreeMap<u32, Part>,
    last_unit: Instant,
    last_prune: Instant,
}

struct Part {
    /// As it was last committed.
    progress: Progress,
    /// When that was; at first, as if it had been so long ago that an hour is left.
    committed_at: Millis,
    /// Moved since, or to be committed again.
    waiting: bool,
    /// Relayed and not yet reported to the store.
    unpruned: bool,
}

impl Relay {
    /// Starts where the term's recovery says.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        member: Arc<dyn Member>,
        finished: Arc<dyn Finished>,
        clock: Clock,
        term: Term,
        start: &[Progress],
    ) -> Self {
        let committed_at = clock().plus(FIRST_REFRESH_MS - REFRESH_MS);
        let parts = start
            .iter()
            .map(|progress| {
                let part = Part {
                    progress: *progress,
                    committed_at,
                    waiting: false,
                    unpruned: false,
                };
                (progress.partition, part)
            })
            .collect();
        Self {
            store,
            member,
            finished,
            clock,
            term,
            parts,
            last_unit: Instant::now(),
            last_prune: Instant::now(),
        }
    }

    /// Relays what there is now. `flush` commits positions without waiting for company. Returns
    /// whether anything was published.
    ///
    /// # Errors
    /// After any error the term must end: the outcome may be unknown.
    pub async fn turn(&mut self, flush: bool) -> Result<bool, RelayError> {
        let mut records = Vec::new();
        let identity = self.store.identity().store;
        let now = (self.clock)();
        let after = self.parts.iter().map(|(p, at)| (*p, at.progress.relay.seq));
        let after: Vec<(u32, u64)> = after.collect();
        for (partition, row) in self.store.outbox(&after, READ_BYTES).await? {
            let Some(part) = self.parts.get_mut(&partition) else {
                continue;
            };
            part.progress.relay = RelayPosition {
                store: identity,
                seq: row.seq,
                row: row.row,
                inline: part.progress.relay.inline,
            };
            part.waiting = true;
            records.extend(row.records.into_iter().map(|r| stamped(r, row.seq)));
        }
        for (partition, part) in &mut self.parts {
            if let Some((input, inline)) = self.finished.take(*partition, INLINE) {
                part.progress.input = part.progress.input.max(input);
                part.progress.relay.inline = part.progress.relay.inline.max(input - 1);
                part.waiting = true;
                records.extend(inline);
            }
            // Either way: a clock that was far ahead may have been set right.
            part.waiting |= now.since(part.committed_at).abs() >= REFRESH_MS;
        }
        let published = !records.is_empty();
        let due = flush || self.last_unit.elapsed() >= OFFSETS_ONLY;
        if published || (due && self.parts.values().any(|p| p.waiting)) {
            self.commit(records).await?;
        }
        if flush || self.last_prune.elapsed() >= PRUNE_EVERY {
            self.prune().await?;
        }
        Ok(published)
    }

    async fn commit(&mut self, records: Vec<Record>) -> Result<(), RelayError> {
        let begun = Instant::now();
        let count = records.len();
        let unit = Unit {
            term: self.term,
            progress: self
                .parts
                .values()
                .filter(|p| p.waiting)
                .map(|p| p.progress)
                .collect(),
            records,
        };
        if self.member.commit(unit).await? == Committed::Void {
            return Err(RelayError::Void);
        }
        let now = (self.clock)();
        for part in self.parts.values_mut().filter(|p| p.waiting) {
            part.waiting = false;
            part.committed_at = now;
            part.unpruned = true;
        }
        self.last_unit = Instant::now();
        metrics::histogram!(telemetry::RELAY_SECONDS).record(begun.elapsed().as_secs_f64());
        metrics::counter!(telemetry::RECORDS_PUBLISHED).increment(count as u64);
        Ok(())
    }

    async fn prune(&mut self) -> Result<(), RelayError> {
        for (partition, part) in self.parts.iter_mut().filter(|(_, p)| p.unpruned) {
            let relay = part.progress.relay;
            let head = self.store.outbox_head(*partition).await?;
            #[allow(clippy::cast_precision_loss)] // far below 2^52
            let lag = head.saturating_sub(relay.seq) as f64;
            metrics::gauge!(telemetry::OUTBOX_LAG, "partition" => partition.to_string()).set(lag);
            self.store
                .relayed(*partition, relay.seq, relay.inline + 1)
                .await?;
            part.unpruned = false;
        }
        self.last_prune = Instant::now();
        Ok(())
    }
}

fn stamped(mut record: Record, seq: u64) -> Record {
    let header = (SEQ_HEADER.to_owned(), seq.to_string().into_bytes());
    record.headers.push(header);
    record
}
