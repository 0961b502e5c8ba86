//! What a member's two threads and its callers share: which term it is, what it holds, what waits to
//! be taken.
//!
//! A term begins when its positions are known and ends at once, by whoever learns first that it
//! must: a rebalance, a commit with an unknown outcome, a commit of an older term. From then on its
//! units are void without a broker being asked. The group's metadata is captured inside the
//! rebalance callback, the only moment at which membership and what is held are known to agree, and
//! belongs to the term: a member that was thrown out and has rejoined cannot commit with fresh
//! metadata what it was given before.

use super::inbox::Inbox;
use crate::bus::{Assigned, BusError, Next, Stored, Term};
use rdkafka::consumer::ConsumerGroupMetadata;
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Rebalances come in steps: a revocation is followed by another round within this time, and what
/// would be given in between would be void at once.
const SETTLE: Duration = Duration::from_millis(300);
/// After a failure: the pause before the same is tried again, doubling up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where a term stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No term; the next is to be given from this time on.
    Over { from: Instant },
    /// No term; its positions are being asked for, under this number.
    Asking { number: u64 },
    /// The term holds.
    Holds,
}

pub struct Shared {
    state: Mutex<State>,
    /// Wakes `next`.
    wake: Notify,
    /// Told when no transaction is under way any more.
    settled: Condvar,
}

struct State {
    term: u64,
    phase: Phase,
    /// Numbers of questions; an answer to an older one is dropped.
    asked: u64,
    pause: Duration,
    held: BTreeSet<u32>,
    /// Read since the term began.
    started: BTreeSet<u32>,
    metadata: Option<Arc<ConsumerGroupMetadata>>,
    /// A transaction is under way.
    in_flight: bool,
    /// Something was given once: from then on an empty assignment is told too.
    told: bool,
    failure: Option<BusError>,
    taken: Vec<u32>,
    given: Option<(Term, Vec<Assigned>)>,
    inbox: Inbox,
}

/// What the polling thread has to ask for.
pub struct Question {
    pub number: u64,
    pub partitions: Vec<u32>,
}

impl Shared {
    pub fn new() -> Self {
        let state = State {
            term: 0,
            phase: Phase::Over {
                from: Instant::now(),
            },
            asked: 0,
            pause: FIRST_PAUSE,
            held: BTreeSet::new(),
            started: BTreeSet::new(),
            metadata: None,
            in_flight: false,
            told: false,
            failure: None,
            taken: Vec::new(),
            given: None,
            inbox: Inbox::default(),
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            settled: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What callers do.

    /// The next thing, if there is one.
    pub fn take(&self, limit: usize) -> Result<Option<Next>, BusError> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(match failure {
                BusError::Refused(text) => BusError::Refused(text.clone()),
                BusError::Unavailable(text) => BusError::Unavailable(text.clone()),
            });
        }
        if !state.taken.is_empty() {
            return Ok(Some(Next::Taken(std::mem::take(&mut state.taken))));
        }
        if let Some((term, assigned)) = state.given.take() {
            return Ok(Some(Next::Given(term, assigned)));
        }
        let records = state.inbox.take(limit);
        Ok((!records.is_empty()).then_some(Next::Records(Term(state.term), records)))
    }

    /// Resolves when there may be something to take.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether the term holds. A unit of another one ends it: a fresh start follows every void.
    pub fn holds(&self, term: Term) -> bool {
        let mut state = self.state();
        let holds = state.holds(term);
        if !holds {
            state.end(Instant::now());
        }
        holds
    }

    // What the thread of transactions does.

    /// The metadata to commit with, if the term still holds. From here to [`Shared::settle`] a
    /// revocation waits.
    pub fn begin(&self, term: Term) -> Option<Arc<ConsumerGroupMetadata>> {
        let mut state = self.state();
        if !state.holds(term) {
            state.end(Instant::now());
            return None;
        }
        let metadata = state.metadata.clone();
        if metadata.is_some() {
            state.in_flight = true;
        } else {
            // Not to be told is not to be a member.
            state.fail();
        }
        metadata
    }

    /// A transaction has ended. With a void outcome its term has, too.
    pub fn settle(&self, visible: bool) {
        let mut state = self.state();
        state.in_flight = false;
        if visible {
            state.pause = FIRST_PAUSE;
        } else {
            state.fail();
        }
        drop(state);
        self.settled.notify_all();
    }

    /// Whether the question is still the one to be answered.
    pub fn is_asked(&self, number: u64) -> bool {
        self.state().phase == Phase::Asking { number }
    }

    /// Answers a question: a term begins, or the question is asked again later.
    pub fn answer(&self, number: u64, positions: Result<Vec<Assigned>, BusError>) {
        let mut state = self.state();
        if state.phase != (Phase::Asking { number }) {
            return;
        }
        match positions {
            Ok(assigned) => state.give(assigned),
            Err(BusError::Unavailable(text)) => {
                tracing::warn!(error = text, "positions are not known yet");
                state.fail();
            }
            Err(refused) => state.failure = Some(refused),
        }
        drop(state);
        self.wake.notify_one();
    }

    // What the polling thread does.

    /// The member is of no use any more.
    pub fn fail(&self, failure: BusError) {
        self.state().failure = Some(failure);
        self.wake.notify_one();
    }

    /// What is to be asked now, if a term is to begin.
    pub fn question(&self) -> Option<Question> {
        let mut state = self.state();
        let Phase::Over { from } = state.phase else {
            return None;
        };
        if Instant::now() < from {
            return None;
        }
        if state.held.is_empty() {
            // Before anything was held there is nothing to tell.
            if state.told {
                state.give(Vec::new());
                drop(state);
                self.wake.notify_one();
            }
            return None;
        }
        state.asked += 1;
        let number = state.asked;
        state.phase = Phase::Asking { number };
        let partitions = state.held.iter().copied().collect();
        Some(Question { number, partitions })
    }

    /// Partitions were added. Without any, what is held stays what it was and only the group's
    /// generation is new: the term goes on with the new metadata.
    pub fn assigned(&self, partitions: &[u32], metadata: Option<ConsumerGroupMetadata>) {
        let mut state = self.state();
        state.metadata = metadata.map(Arc::new);
        if !partitions.is_empty() || state.metadata.is_none() {
            state.held.extend(partitions);
            state.end(Instant::now());
        }
    }

    /// Partitions are taken: the term is over. Waits at most `patience` for a transaction under way,
    /// so that whoever holds them next finds a settled position.
    pub fn revoked(
        &self,
        partitions: &[u32],
        metadata: Option<ConsumerGroupMetadata>,
        patience: Duration,
    ) {
        let mut state = self.state();
        state.end(Instant::now() + SETTLE);
        state.metadata = metadata.map(Arc::new);
        for partition in partitions {
            state.held.remove(partition);
            state.taken.push(*partition);
        }
        let under_way = |state: &mut State| state.in_flight;
        let waited = self.settled.wait_timeout_while(state, patience, under_way);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if waited.timed_out() {
            tracing::warn!("partitions are handed over with a transaction under way");
        }
        self.wake.notify_one();
    }

    /// Whether a term holds or waits for its positions; if not, nothing needs to be read.
    pub fn is_over(&self) -> bool {
        matches!(self.state().phase, Phase::Over { .. })
    }

    /// Whether this term holds this partition.
    pub fn may_start(&self, term: Term, partition: u32) -> bool {
        let state = self.state();
        state.holds(term) && state.held.contains(&partition)
    }

    /// What was read of it before is forgotten; until `started` nothing of it is taken.
    pub fn starting(&self, partition: u32) {
        let mut state = self.state();
        state.started.remove(&partition);
        state.inbox.forget(partition);
    }

    /// Records of it are taken from now on.
    pub fn started(&self, term: Term, partition: u32) {
        let mut state = self.state();
        if state.holds(term) {
            state.started.insert(partition);
        }
    }

    /// Takes what was read; leaves out what no term has started.
    pub fn push(&self, records: Vec<Stored>) {
        let mut state = self.state();
        for record in records {
            if state.phase == Phase::Holds && state.started.contains(&record.partition) {
                state.inbox.push(record);
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Whether more should be read, and whether reading should go on after it was stopped.
    pub fn room(&self) -> (bool, bool) {
        let state = self.state();
        (state.inbox.has_room(), state.inbox.is_low())
    }

    /// The partitions that are read.
    pub fn reading(&self) -> Vec<u32> {
        self.state().started.iter().copied().collect()
    }
}

impl State {
    fn holds(&self, term: Term) -> bool {
        self.phase == Phase::Holds && self.term == term.0
    }

    /// Ends the term, if there is one; the next begins at `from` at the earliest.
    fn end(&mut self, from: Instant) {
        let from = match self.phase {
            Phase::Over { from: later } => from.max(later),
            _ => from,
        };
        self.phase = Phase::Over { from };
        self.given = None;
        self.started.clear();
        self.inbox.clear();
    }

    fn fail(&mut self) {
        self.end(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn give(&mut self, assigned: Vec<Assigned>) {
        self.term += 1;
        self.phase = Phase::Holds;
        self.told = true;
        self.given = Some((Term(self.term), assigned));
    }
}
