//! Applies finished items in batches. A batch is whatever has gathered while the one before it was
//! written: small and quick when little happens, large and cheap per record when much does.

use super::batch::{Desk, Work, result_word};
use super::item::{End, Item};
use super::pace::Pace;
use super::shift::Shift;
use super::watchdog::Watchdog;
use crate::clock::Clock;
use crate::model::{AppId, DeadReason, Fact};
use crate::store::{Store, StoreError};
use crate::telemetry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between the beginnings of two batches: half the time that a small one takes.
const APART: Duration = Duration::from_millis(4);

/// The applier of one term.
pub struct Applier {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What planning needs.
    pub desk: Arc<Desk>,
    /// The term's books.
    pub shift: Arc<Shift>,
    /// The time.
    pub clock: Clock,
    /// Notices a store that hangs.
    pub watchdog: Arc<Watchdog>,
    /// Records in one transaction, at most (one chunk of the reader more).
    pub batch_size: usize,
    /// Waiting resolutions an app may have.
    pub deferred_limit: u64,
}

impl Applier {
    /// Applies until the senders are gone.
    ///
    /// # Errors
    /// The store failed; the term must end, and its work is read again.
    pub async fn run(self, mut queue: mpsc::Receiver<Vec<Item>>) -> Result<(), StoreError> {
        let mut waiting = self.store.deferred_by_app().await?;
        let mut pace = Pace::new(APART);
        while let Some(mut items) = queue.recv().await {
            pace.turn().await;
            while items.len() < self.batch_size {
                match queue.try_recv() {
                    Ok(more) => items.extend(more),
                    Err(_) => break,
                }
            }
            self.hold_back(&mut items, &mut waiting);
            self.apply(items).await?;
        }
        Ok(())
    }

    async fn apply(&self, items: Vec<Item>) -> Result<(), StoreError> {
        let begun = Instant::now();
        let mut work = Work::new(&self.desk, &items, (self.clock)());
        let mut batch = work.batch();
        batch.positions = self
            .shift
            .stage(items.iter().filter(|i| i.live()).map(Item::place));
        let applying = self.store.apply(&batch, &mut work);
        self.watchdog.step("writing a batch", applying).await?;
        let finished = items.iter().enumerate().filter(|(_, item)| item.live());
        self.shift
            .done(finished.map(|(index, item)| (item.place(), work.inline(index))));
        metrics::histogram!(telemetry::APPLY_SECONDS).record(begun.elapsed().as_secs_f64());
        count(&items);
        for (why, n) in work.contested() {
            metrics::counter!(telemetry::CONTESTED, "why" => why.word()).increment(*n);
        }
        Ok(())
    }

    /// An app whose waiting work is at its limit gets no more: the rest are dead letters.
    fn hold_back(&self, items: &mut [Item], waiting: &mut BTreeMap<AppId, u64>) {
        for item in items {
            let Some(app) = item.head.as_ref().and_then(|h| h.app.clone()) else {
                continue;
            };
            let count = waiting.entry(app.clone()).or_default();
            match (&item.end, item.live()) {
                (End::Later(_), true) if *count >= self.deferred_limit => {
                    tracing::error!(%app, limit = self.deferred_limit,
                        "too many resolutions wait for this app; an event became a dead letter");
                    let detail = "too many resolutions wait for this app already".to_owned();
                    item.end = End::Dead(DeadReason::Overload, detail);
                }
                (End::Later(_), true) => *count += 1,
                (End::Facts(_) | End::Dead(..), false) => *count = count.saturating_sub(1),
                _ => {}
            }
        }
    }
}

fn count(items: &[Item]) {
    #[allow(clippy::cast_precision_loss)] // a batch has some thousand records
    metrics::histogram!(telemetry::BATCH_SIZE).record(items.len() as f64);
    let mut results: BTreeMap<_, u64> = BTreeMap::new();
    let mut methods: BTreeMap<&'static str, u64> = BTreeMap::new();
    for item in items {
        *results.entry(result_word(item)).or_default() += 1;
        if let End::Facts(fact) = &item.end
            && let Fact::Sighting(sighting) = fact.as_ref()
        {
            for claim in &sighting.claims {
                *methods.entry(claim.method.word()).or_default() += 1;
            }
        }
        if item.head.as_ref().is_some_and(|h| h.clamped) && item.live() {
            metrics::counter!(telemetry::CLAMPED).increment(1);
        }
    }
    for ((result, reason, dead), n) in results {
        metrics::counter!(telemetry::EVENTS, "result" => result).increment(n);
        if let Some(reason) = reason {
            metrics::counter!(telemetry::UNRESOLVED, "reason" => reason.word()).increment(n);
        }
        if let Some(dead) = dead {
            metrics::counter!(telemetry::DEAD_LETTERS, "reason" => dead.word()).increment(n);
        }
    }
    for (method, n) in methods {
        metrics::counter!(telemetry::LINKS, "method" => method).increment(n);
    }
}
