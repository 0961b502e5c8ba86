//! What the tasks of one term share: its books, its end, and how they wake each other.

use super::tracker::Tracker;
use crate::bus::{Record, Stored, Term};
use crate::outbox::Finished;
use crate::store::Position;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bounds of what may be read and not yet published.
#[derive(Debug, Clone, Copy)]
pub struct InFlight {
    /// Records.
    pub records: usize,
    /// Bytes.
    pub bytes: usize,
}

/// One term's shared state.
#[derive(Debug)]
pub struct Shift {
    /// The term.
    pub term: Term,
    tracker: Mutex<Tracker>,
    limit: InFlight,
    /// Counts what was applied and what was published.
    finished: AtomicU64,
    /// Something was applied: the relay may have work.
    applied: Notify,
    /// Something was published: the reader may have room.
    room: Notify,
}

impl Shift {
    /// A new term, holding the partitions given with the offsets up to which inline records are out.
    #[must_use]
    pub fn new(term: Term, limit: InFlight, held: &[(u32, i64)]) -> Self {
        let mut tracker = Tracker::default();
        for (partition, inline_out) in held {
            tracker.begin(*partition, *inline_out);
        }
        Self {
            term,
            tracker: Mutex::new(tracker),
            limit,
            finished: AtomicU64::new(0),
            applied: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Notes records as read; those of partitions not held are left out.
    pub fn read(&self, records: Vec<Stored>) -> Vec<Arc<Stored>> {
        let mut tracker = self.books();
        let records = records.into_iter().map(Arc::new);
        records.filter(|r| tracker.read(r)).collect()
    }

    /// Whether a record's inline records are out already.
    #[must_use]
    pub fn silent(&self, partition: u32, offset: i64) -> bool {
        self.books().silent(partition, offset)
    }

    /// See [`Tracker::stage`].
    pub fn stage(&self, places: impl Iterator<Item = (u32, i64)>) -> Vec<Position> {
        self.books().stage(places)
    }

    /// Notes records as applied, with their inline records.
    pub fn done(&self, finished: impl Iterator<Item = ((u32, i64), Option<Record>)>) {
        let mut tracker = self.books();
        for ((partition, offset), inline) in finished {
            tracker.done(partition, offset, inline);
        }
        drop(tracker);
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.applied.notify_one();
    }

    /// Records read and not yet published.
    #[must_use]
    pub fn open(&self) -> usize {
        self.books().open()
    }

    /// A number that moves as long as records get applied or published.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Waits until there is room to read more.
    pub async fn room(&self) {
        loop {
            let freed = self.room.notified();
            {
                let tracker = self.books();
                if tracker.open() < self.limit.records && tracker.bytes() < self.limit.bytes {
                    return;
                }
            }
            freed.await;
        }
    }

    /// Waits until something is applied.
    pub async fn applied(&self) {
        self.applied.notified().await;
    }

    fn books(&self) -> MutexGuard<'_, Tracker> {
        // A panic while it was held would have ended the term; the counts in it are still sound.
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Finished for Shift {
    fn take(&self, partition: u32, limit: usize) -> Option<(i64, Vec<Record>)> {
        let prefix = self.books().take(partition, limit)?;
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.room.notify_one();
        Some((prefix.input, prefix.records))
    }
}
