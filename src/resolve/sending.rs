//! The right to send a code, and what is in hand of WeChat's answers.
//!
//! Promises: of all attempts, in all processes, that hold a lease of one code, one may send it; nobody
//! sends on a lease that does not outlast the request and some trouble with its answer. An answer in
//! hand is noted again and again until it is noted; who closes waits for that. What is under way is
//! bounded by the resolutions that may be under way, whose slots it keeps.

use super::backoff::backoff_ms;
use super::caller::{Caller, LAG_MS};
use super::exchange::CODE_LIFE_MS;
use super::ports::{Claim, Claimed, Mark, Memory, MemoryFault, Note, Release};
use crate::model::Millis;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

/// For so long after its request an attempt still has the code, in milliseconds: one worker's way to
/// the store may be cut. While it is cut for all, nobody can take the code.
const HOLD_MS: i64 = 30_000;
/// How long a request may wait for its turn before the lease has to be taken anew, in milliseconds.
const TURN_MS: i64 = 5_000;
/// What a code bought is worth noting for so long, in milliseconds: as long as its login may come again.
const KEPT_MS: i64 = CODE_LIFE_MS;
/// Longest pause before something is noted again: less than the notice that a holder has at the end
/// of its lease.
const LONGEST_PAUSE_MS: i64 = 1_000;
/// While the memory is away, a line in the log this often, in milliseconds.
const SAY_EVERY_MS: i64 = 10_000;
/// What the end of a process waits for beyond the requests under way: notes are written in milliseconds.
const LAST_NOTES: Duration = Duration::from_secs(3);

/// Who sends codes here.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    /// How long a call may take.
    pub request_timeout: Duration,
    /// This process's random id.
    pub me: Uuid,
    /// No other process can be at work on this memory: a lease that is held is a dead process's.
    pub alone: bool,
}

/// The leases of this process, and what it has in hand.
pub(super) struct Leases {
    memory: Arc<dyn Memory>,
    caller: Arc<Caller>,
    sender: Sender,
    attempts: AtomicU64,
    duties: TaskTracker,
    closing: CancellationToken,
    said: AtomicI64,
}

/// The right of one attempt to send a code.
#[derive(Debug)]
pub(super) struct Lease {
    mark: Mark,
    holder: Uuid,
    until: Millis,
    /// Nobody claimed the code before: there can be no answer yet.
    pub first: bool,
    /// A request of an earlier attempt may have reached WeChat.
    pub sent: bool,
}

/// What a claim came to.
pub(super) enum Taken {
    Mine(Lease),
    /// Another attempt has it, at the longest until then.
    Elsewhere(Millis),
}

impl Leases {
    pub(super) fn new(memory: Arc<dyn Memory>, caller: Arc<Caller>, sender: Sender) -> Self {
        Self {
            memory,
            caller,
            sender,
            attempts: AtomicU64::new(0),
            duties: TaskTracker::new(),
            closing: CancellationToken::new(),
            said: AtomicI64::new(i64::MIN / 2),
        }
    }

    /// For as long as the answer is held something is in hand; `None`: nothing may be begun any more.
    pub(super) fn begin(&self) -> Option<TaskTrackerToken> {
        let duty = self.duties.token();
        (!self.closing.is_cancelled()).then_some(duty)
    }

    /// Resolves once nothing may be begun any more.
    pub(super) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Begins nothing more, and waits, within bounds, until nothing is in hand; how much still is.
    pub(super) async fn close(&self) -> usize {
        self.closing.cancel();
        self.duties.close();
        let bound = self.sender.request_timeout + LAST_NOTES;
        tokio::time::timeout(bound, self.duties.wait()).await.ok();
        self.duties.len()
    }

    /// How long a lease runs, in milliseconds.
    pub(super) fn length_ms(&self) -> i64 {
        self.cover_ms() + TURN_MS
    }

    /// What has to be left of a lease before a request.
    fn cover_ms(&self) -> i64 {
        let timeout = i64::try_from(self.sender.request_timeout.as_millis());
        timeout.unwrap_or(i64::MAX / 4) + HOLD_MS + LAG_MS
    }

    /// Takes the lease of a code, for an attempt of its own.
    ///
    /// # Errors
    /// The memory is not available.
    pub(super) async fn claim(&self, mark: Mark) -> Result<Taken, MemoryFault> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let holder = self.sender.me.as_u128().wrapping_add(u128::from(attempt));
        let holder = Uuid::from_u128(holder);
        let mut claimed = self.ask(mark, holder).await?;
        if let (
            Claimed::Held {
                holder: Some(dead), ..
            },
            true,
        ) = (claimed.1, self.sender.alone)
        {
            let over = Release {
                mark,
                holder: dead,
                sent: true,
            };
            self.memory.release(over).await?;
            claimed = self.ask(mark, holder).await?;
        }
        Ok(match claimed {
            (until, Claimed::Mine { first, sent }) => Taken::Mine(Lease {
                mark,
                holder,
                until,
                first,
                sent,
            }),
            (_, Claimed::Held { until, .. }) => Taken::Elsewhere(until),
        })
    }

    /// Claims; a claim of which nobody knows what came of it is taken back.
    async fn ask(&self, mark: Mark, holder: Uuid) -> Result<(Millis, Claimed), MemoryFault> {
        let until = self.caller.now().plus(self.length_ms());
        let claim = Claim {
            mark,
            holder,
            until,
        };
        match self.memory.claim(claim).await {
            Ok(claimed) => Ok((until, claimed)),
            Err(fault) => {
                self.take_back(mark, holder, false, until).await;
                Err(fault)
            }
        }
    }

    /// Whether a request may begin now: the lease outlasts it and trouble with its answer.
    pub(super) fn covers(&self, lease: &Lease) -> bool {
        self.caller.now().plus(self.cover_ms()) <= lease.until
    }

    /// Takes the lease anew, for one that waited long, or stood still. `Some`: another has the code.
    ///
    /// # Errors
    /// The memory is not available.
    pub(super) async fn renew(&self, lease: &mut Lease) -> Result<Option<Millis>, MemoryFault> {
        Ok(match self.ask(lease.mark, lease.holder).await? {
            (until, Claimed::Mine { first, sent }) => {
                *lease = Lease {
                    until,
                    first,
                    sent,
                    ..*lease
                };
                None
            }
            (_, Claimed::Held { until, .. }) => Some(until),
        })
    }

    /// The attempt is over, and brought nothing that lasts; `sent`: its request may have reached WeChat.
    /// What cannot be given back runs out.
    pub(super) async fn give_back(&self, lease: Lease, sent: bool) {
        self.take_back(lease.mark, lease.holder, sent, lease.until)
            .await;
    }

    async fn take_back(&self, mark: Mark, holder: Uuid, sent: bool, until: Millis) {
        let release = Release { mark, holder, sent };
        let given_back = self.insist(until, || self.memory.release(release)).await;
        given_back.ok();
    }

    /// Notes what WeChat said, however long the memory is away: it says it once.
    ///
    /// # Errors
    /// It was away for as long as the answer is worth anything.
    pub(super) async fn keep(&self, note: Note) -> Result<(), MemoryFault> {
        let until = self.caller.now().plus(KEPT_MS);
        let kept = self.insist(until, || self.memory.remember(note.clone()));
        let kept = kept.await;
        if let Err(error) = &kept {
            tracing::error!(%error, "WeChat's answer to a code could not be noted for minutes; it is lost");
        }
        kept
    }

    async fn insist<F>(&self, until: Millis, act: impl Fn() -> F) -> Result<(), MemoryFault>
    where
        F: Future<Output = Result<(), MemoryFault>>,
    {
        for attempt in 0.. {
            match act().await {
                Err(fault) if self.caller.now() < until => self.say(&fault),
                done => return done,
            }
            let pause = u64::try_from(backoff_ms(attempt, LONGEST_PAUSE_MS)).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    fn say(&self, error: &MemoryFault) {
        let now = self.caller.now().0;
        let said = self.said.load(Ordering::Relaxed);
        let due = now - said >= SAY_EVERY_MS;
        let swap = |to| {
            let swapped =
                self.said
                    .compare_exchange(said, to, Ordering::Relaxed, Ordering::Relaxed);
            swapped.is_ok()
        };
        if due && swap(now) {
            let in_hand = self.duties.len();
            tracing::warn!(%error, in_hand, "what became of codes cannot be noted; trying until it can");
        }
    }
}
