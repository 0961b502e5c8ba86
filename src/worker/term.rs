//! One term: the tasks that work on the partitions given, from the first record to the last commit.

use super::applier::Applier;
use super::batch::Desk;
use super::deferred::Deferrals;
use super::item::Item;
use super::reader::Reader;
use super::shift::Shift;
use super::{Ended, Worker, WorkerError};
use crate::bus::{Member, Progress, Term};
use crate::outbox::{Finished, Relay};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Chunks that may wait for the applier; the in-flight bound is what limits memory.
const QUEUE: usize = 256;
/// How long a shutdown waits for work under way; the rest is read again at the next start.
const DRAIN: Duration = Duration::from_secs(8);
/// How long the end of a term waits for its tasks to let go of the membership. They end at their
/// next await; one that blocks its thread is left to the watchdog.
const LET_GO: Duration = Duration::from_secs(5);

/// Between two units: a broker that is asked for a transaction while it ends the one before says
/// "later", and the client comes back after 20 ms.
const GAP: Duration = Duration::from_millis(2);

type Tasks = JoinSet<Result<Option<Ended>, WorkerError>>;

impl Worker {
    /// Works from `start` on until the term ends.
    ///
    /// # Errors
    /// Something failed: the term is over, and what it had begun is void.
    pub(super) async fn term(
        self: &Arc<Self>,
        member: &Arc<dyn Member>,
        term: Term,
        start: Vec<Progress>,
        stop: &CancellationToken,
    ) -> Result<Ended, WorkerError> {
        let held: Vec<_> = start
            .iter()
            .map(|p| (p.partition, p.relay.inline))
            .collect();
        let shift = Arc::new(Shift::new(term, self.settings.in_flight, &held));
        let at: Vec<_> = start.iter().map(|p| (p.partition, p.input)).collect();
        let starting = member.start(term, &at);
        self.watchdog.step("starting to read", starting).await?;
        tracing::info!(partitions = at.len(), "working");
        let books = Arc::clone(&shift);
        let gauge = move || (books.open() > 0).then(|| books.finished());
        let _attended = self.watchdog.attend("finishing what was read", gauge);

        let (done, queue) = mpsc::channel(QUEUE);
        let drain = CancellationToken::new();
        let finished: Arc<dyn Finished> = Arc::clone(&shift) as Arc<dyn Finished>;
        let relay = Relay::new(
            Arc::clone(&self.store),
            Arc::clone(member),
            finished,
            Arc::clone(&self.clock),
            term,
            &start,
        );
        let mut tasks = Tasks::new();
        let applier = self.applier(&shift);
        tasks.spawn(async move { Ok(applier.run(queue).await.map(|()| None)?) });
        let deferrals = self.deferrals(done.clone());
        let stop_deferrals = stop.clone();
        tasks.spawn(async move { Ok(deferrals.run(stop_deferrals).await.map(|()| None)?) });
        let relaying = Arc::clone(self).relaying(relay, Arc::clone(&shift), drain.clone());
        tasks.spawn(async move { relaying.await.map(|()| None) });
        let reader = Reader {
            worker: Arc::clone(self),
            member: Arc::clone(member),
            shift: Arc::clone(&shift),
            done,
            stop: stop.clone(),
        };
        tasks.spawn(async move { reader.run().await.map(Some) });
        let ended = self.watch(&mut tasks, &shift, &drain).await;
        // What is left ends here: a term that is over must not commit, and whoever joins again must
        // find that the membership before is gone.
        if tokio::time::timeout(LET_GO, tasks.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("a task of a term that is over still runs; its commits are void");
        }
        ended
    }

    /// Waits for the reader to end, then for the work under way.
    async fn watch(
        &self,
        tasks: &mut Tasks,
        shift: &Shift,
        drain: &CancellationToken,
    ) -> Result<Ended, WorkerError> {
        let ended = loop {
            match tasks.join_next().await {
                Some(done) => {
                    if let Some(ended) = done?? {
                        break ended;
                    }
                }
                None => break Ended::Stopped,
            }
        };
        if matches!(ended, Ended::Stopped) {
            drain.cancel();
            let rest = async {
                while let Some(done) = tasks.join_next().await {
                    done??;
                }
                Ok::<(), WorkerError>(())
            };
            match tokio::time::timeout(DRAIN, rest).await {
                Ok(done) => done?,
                Err(_) => tracing::warn!(
                    records = shift.open(),
                    "stopping with work under way; it is read again at the next start"
                ),
            }
        }
        Ok(ended)
    }

    fn applier(&self, shift: &Arc<Shift>) -> Applier {
        let desk = Desk {
            rules: self.rules.clone(),
            records: self.records.clone(),
            shift: Arc::clone(shift),
        };
        Applier {
            store: Arc::clone(&self.store),
            desk: Arc::new(desk),
            shift: Arc::clone(shift),
            clock: Arc::clone(&self.clock),
            watchdog: Arc::clone(&self.watchdog),
            batch_size: self.settings.batch_size,
            deferred_limit: self.settings.deferred_limit,
        }
    }

    fn deferrals(&self, done: mpsc::Sender<Vec<Item>>) -> Deferrals {
        Deferrals {
            store: Arc::clone(&self.store),
            decoder: Arc::clone(&self.decoder),
            ladder: Arc::clone(&self.ladder),
            records: self.records.clone(),
            clock: Arc::clone(&self.clock),
            watchdog: Arc::clone(&self.watchdog),
            done,
        }
    }

    async fn relaying(
        self: Arc<Self>,
        mut relay: Relay,
        shift: Arc<Shift>,
        drain: CancellationToken,
    ) -> Result<(), WorkerError> {
        loop {
            while self.relayed(&mut relay, false).await? {
                tokio::time::sleep(GAP).await;
            }
            if drain.is_cancelled() && shift.open() == 0 {
                self.relayed(&mut relay, true).await?;
                return Ok(());
            }
            tokio::select! {
                () = shift.applied() => {}
                () = self.store.changed() => {}
                () = tokio::time::sleep(self.settings.poll) => {}
            }
        }
    }

    async fn relayed(&self, relay: &mut Relay, flush: bool) -> Result<bool, WorkerError> {
        let turn = relay.turn(flush);
        Ok(self.watchdog.step("relaying to the topics", turn).await?)
    }
}
