//! The worker: the sentence that joins the steps. It reads the login topic, decodes, resolves, has
//! the store apply what `plan` decides, and relays what the outbox holds.
//!
//! One term of membership is one set of tasks: a reader, resolutions, an applier, a relay, and the
//! deferred loop. Any failure or revocation ends the term; the next one begins at recovery, which is
//! also how the very first begins. Nothing a term leaves behind has to be undone.

mod applier;
mod batch;
mod decode;
mod deferred;
mod item;
pub mod memory;
mod reader;
mod records;
mod recover;
mod shift;
mod tracker;

pub use decode::Decoder;
pub use records::Records;
pub use shift::InFlight;

use crate::bus::{Assigned, Bus, BusError, Member, Next, Term};
use crate::clock::Clock;
use crate::link::Rules;
use crate::outbox::{Finished, Relay, RelayError};
use crate::resolve::ladder::Ladder;
use crate::resolve::ports::MemoryFault;
use crate::store::{Store, StoreError};
use applier::Applier;
use batch::Desk;
use deferred::Deferrals;
use item::Item;
use reader::Reader;
use shift::Shift;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Records read at once.
const READ: usize = 512;
/// Records decoded by one task: a few milliseconds, then others get their turn.
const CHUNK: usize = 128;
/// Chunks that may wait for the applier; the in-flight bound is what limits memory.
const QUEUE: usize = 256;
/// How long the reader waits for records before it looks up.
const WAIT: Duration = Duration::from_millis(200);
/// Pause before a term is tried again after a failure; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a shutdown waits for work under way; the rest is read again at the next start.
const DRAIN: Duration = Duration::from_secs(8);

/// Sizes and topics.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The topic read.
    pub logins: Arc<str>,
    /// The topic whose tail tells the relay's position if all else is lost.
    pub links: Arc<str>,
    /// Records in one transaction.
    pub batch_size: usize,
    /// Bounds of what is read and not yet published.
    pub in_flight: InFlight,
    /// Waiting resolutions an app may have.
    pub deferred_limit: u64,
    /// How often the outbox is looked at when nothing wakes the relay.
    pub poll: Duration,
}

/// Everything a worker is made of.
pub struct Worker {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Reads records.
    pub decoder: Arc<Decoder>,
    /// Resolves logins.
    pub ladder: Arc<Ladder>,
    /// The rules of `plan`.
    pub rules: Rules,
    /// Makes records.
    pub records: Records,
    /// The time.
    pub clock: Clock,
    /// Sizes and topics.
    pub settings: Settings,
}

/// Why a worker stopped, or a term ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Relaying failed.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// Resolution lost its memory.
    #[error(transparent)]
    Memory(#[from] MemoryFault),
    /// A task of the term ended unexpectedly.
    #[error("a task of the worker ended: {0}")]
    Task(#[from] JoinError),
}

impl WorkerError {
    /// Whether no retry can help.
    fn fatal(&self) -> bool {
        matches!(
            self,
            Self::Bus(BusError::Refused(_))
                | Self::Store(StoreError::Mismatch(_) | StoreError::Corrupt(_))
                | Self::Relay(RelayError::Bus(BusError::Refused(_)))
        )
    }
}

impl From<recover::RecoverError> for WorkerError {
    fn from(error: recover::RecoverError) -> Self {
        match error {
            recover::RecoverError::Bus(error) => Self::Bus(error),
            recover::RecoverError::Store(error) => Self::Store(error),
        }
    }
}

type Given = (Term, Vec<Assigned>);

/// How a term ended without a failure.
enum Ended {
    Stopped,
    Given(Given),
}

impl Worker {
    /// Works until `stop`, then finishes what it has begun.
    ///
    /// # Errors
    /// What no retry can help: topics and store that do not belong together, a second worker on an
    /// embedded file, a damaged file.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), WorkerError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.serve(&stop, &mut pause).await {
                Ok(()) => return Ok(()),
                Err(error) if error.fatal() => return Err(error),
                Err(error) => tracing::warn!(%error, ?pause, "a term ended; beginning again"),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Joins, and works term after term.
    async fn serve(
        self: &Arc<Self>,
        stop: &CancellationToken,
        pause: &mut Duration,
    ) -> Result<(), WorkerError> {
        let member = self.bus.join().await?;
        let mut given = None;
        loop {
            let (term, assigned) = match given.take() {
                Some(given) => given,
                None if stop.is_cancelled() => return Ok(()),
                None => {
                    if let Next::Given(term, assigned) = member.next(WAIT, READ).await? {
                        given = Some((term, assigned));
                    }
                    continue;
                }
            };
            match self.term(&member, term, &assigned, stop).await? {
                Ended::Stopped => return Ok(()),
                Ended::Given(next) => given = Some(next),
            }
            *pause = FIRST_PAUSE;
        }
    }

    async fn term(
        self: &Arc<Self>,
        member: &Arc<dyn Member>,
        term: Term,
        assigned: &[Assigned],
        stop: &CancellationToken,
    ) -> Result<Ended, WorkerError> {
        let (logins, links) = (&self.settings.logins, &self.settings.links);
        let start = recover::recover(&self.bus, &self.store, logins, links, assigned).await?;
        let held: Vec<_> = start
            .iter()
            .map(|p| (p.partition, p.relay.inline))
            .collect();
        let shift = Arc::new(Shift::new(term, self.settings.in_flight, &held));
        let at: Vec<_> = start.iter().map(|p| (p.partition, p.input)).collect();
        member.start(term, &at).await?;
        tracing::info!(partitions = at.len(), "working");

        let (done, queue) = mpsc::channel(QUEUE);
        let drain = CancellationToken::new();
        let finished: Arc<dyn Finished> = Arc::clone(&shift) as Arc<dyn Finished>;
        let relay = Relay::new(
            Arc::clone(&self.store),
            Arc::clone(member),
            finished,
            term,
            &start,
        );
        let mut tasks: JoinSet<Result<Option<Ended>, WorkerError>> = JoinSet::new();
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
        self.watch(tasks, &shift, &drain).await
    }

    /// Waits for the reader to end, then for the work under way.
    async fn watch(
        &self,
        mut tasks: JoinSet<Result<Option<Ended>, WorkerError>>,
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
        // Dropping the set ends what is left: a term that is over must not commit.
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
            while relay.turn(false).await? {}
            if drain.is_cancelled() && shift.open() == 0 {
                relay.turn(true).await?;
                return Ok(());
            }
            tokio::select! {
                () = shift.applied() => {}
                () = self.store.changed() => {}
                () = tokio::time::sleep(self.settings.poll) => {}
            }
        }
    }
}
