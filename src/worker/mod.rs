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
mod opening;
mod pace;
mod reader;
mod records;
mod recover;
mod shift;
mod term;
mod tracker;
mod watchdog;

pub use decode::{Decoded, Decoder};
pub use records::Records;
pub use recover::{RecoverError, check_topic, lost_relay, recover};
pub use shift::InFlight;
pub use watchdog::{Stuck, Watchdog};

use crate::bus::{Assigned, Bus, BusError, Next, Term};
use crate::clock::Clock;
use crate::link::Rules;
use crate::outbox::RelayError;
use crate::resolve::ladder::Ladder;
use crate::resolve::ports::MemoryFault;
use crate::store::{Store, StoreError};
use opening::Opening;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

/// Records read at once.
const READ: usize = 512;
/// Records decoded by one task: a few milliseconds, then others get their turn.
const CHUNK: usize = 128;
/// What the watchdog calls a wait for the bus.
const NEWS: &str = "asking the bus for news";
/// How long the reader waits for records before it looks up.
const WAIT: Duration = Duration::from_millis(200);
/// Pause before a term is tried again after a failure; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

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
    /// Notices when nothing goes on any more: [`Watchdog::bites`].
    pub watchdog: Arc<Watchdog>,
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

impl From<RecoverError> for WorkerError {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Bus(error) | RecoverError::Overtaken(error) => Self::Bus(error),
            RecoverError::Store(error) => Self::Store(error),
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
    /// Works until `stop`, then finishes what it has begun. However it ends, what WeChat said of codes
    /// is noted first: it says it once.
    ///
    /// # Errors
    /// What no retry can help: topics and store that do not belong together, a second worker on an
    /// embedded file, or of the same name, a damaged file.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), WorkerError> {
        let ended = self.work(stop).await;
        let codes = self.ladder.close().await;
        if codes > 0 {
            tracing::error!(
                codes,
                "ending although it is not noted what became of codes; they may be lost"
            );
        }
        ended
    }

    async fn work(self: &Arc<Self>, stop: CancellationToken) -> Result<(), WorkerError> {
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

    /// Joins, and works term after term. The membership is kept as long as the bus keeps it: leaving
    /// and joining make everybody else's partitions move.
    async fn serve(
        self: &Arc<Self>,
        stop: &CancellationToken,
        pause: &mut Duration,
    ) -> Result<(), WorkerError> {
        let member = self.watchdog.step("joining", self.bus.join()).await?;
        let mut given: Option<Given> = None;
        let mut delay = Duration::ZERO;
        while !stop.is_cancelled() {
            let Some((term, assigned)) = given.take() else {
                let news = member.next(WAIT, READ);
                if let Next::Given(term, assigned) = self.watchdog.step(NEWS, news).await? {
                    given = Some((term, assigned));
                }
                continue;
            };
            let start = match self.open(&member, &assigned, delay, stop).await? {
                Opening::At(start) => start,
                Opening::Given(newer) => {
                    given = Some(newer);
                    continue;
                }
                Opening::Stopped => return Ok(()),
            };
            let begun = Instant::now();
            match self.term(&member, term, start, stop).await {
                Ok(Ended::Stopped) => return Ok(()),
                Ok(Ended::Given(next)) => {
                    given = Some(next);
                    (delay, *pause) = (Duration::ZERO, FIRST_PAUSE);
                }
                // The membership goes on, and a fresh assignment is on its way.
                Err(error @ WorkerError::Relay(RelayError::Void)) => {
                    tracing::info!(%error, "a term ended; beginning again");
                    let lasted = begun.elapsed() >= LONGEST_PAUSE;
                    delay = if lasted { FIRST_PAUSE } else { delay * 2 };
                    delay = delay.clamp(FIRST_PAUSE, LONGEST_PAUSE);
                }
                Err(error) => {
                    if begun.elapsed() >= LONGEST_PAUSE {
                        *pause = FIRST_PAUSE;
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
