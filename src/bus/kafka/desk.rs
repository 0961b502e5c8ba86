//! The way to the thread that makes transactions, and the watch over it.
//!
//! All calls of a transaction block, and one was seen not to return for minutes after a broker had
//! died, whatever its timeout. Whoever waits for such a call is told that the outcome is unknown,
//! and another thread with a producer of its own takes over: the first thing that producer does is
//! to fence the old one.

use super::catalog::Placed;
use super::settings::KafkaSettings;
use super::state::{Question, Shared};
use super::transact::Transactor;
use crate::bus::{BusError, Progress, Term};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A single call that takes longer than this is given up; all of them have shorter timeouts.
const STUCK: Duration = Duration::from_secs(30);

/// A unit whose records have their partitions.
pub struct Work {
    pub term: Term,
    pub progress: Vec<Progress>,
    pub records: Vec<Placed>,
}

/// How a unit ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Visible,
    Void,
    /// Nothing of it is visible, and the same unit will fare no better.
    Refused(String),
}

/// What the thread is asked to do.
pub enum Job {
    Unit(Box<Work>, oneshot::Sender<Outcome>),
    Positions(Question),
}

/// What one thread takes its jobs from.
pub struct Desk {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<Job>,
    /// Who waits for the unit under way.
    waiting: Option<oneshot::Sender<Outcome>>,
    /// When the call under way began.
    since: Option<Instant>,
    /// No more jobs are taken.
    closed: bool,
    /// Somebody else has taken over.
    abandoned: bool,
}

/// What the thread does next.
pub enum Turn {
    Unit(Box<Work>),
    Positions(Question),
    Idle,
    Closed,
}

/// Somebody else has taken over.
pub struct Abandoned;

impl Desk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            jobs: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, job: Job) {
        let mut jobs = self.jobs();
        // Who asked before and has gone away wants nothing any more.
        jobs.queue.retain(|job| !job.is_idle());
        if !jobs.closed {
            jobs.queue.push_back(job);
        }
        drop(jobs);
        self.changed.notify_all();
    }

    /// Waits at most `wait` for the next job.
    pub fn next(&self, wait: Duration) -> Turn {
        let nothing = |jobs: &mut Jobs| jobs.queue.is_empty() && !jobs.closed;
        let waited = self
            .changed
            .wait_timeout_while(self.jobs(), wait, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        let mut jobs = waited.0;
        if jobs.closed {
            return Turn::Closed;
        }
        loop {
            match jobs.queue.pop_front() {
                Some(job) if job.is_idle() => {}
                Some(Job::Unit(work, waiting)) => {
                    jobs.waiting = Some(waiting);
                    return Turn::Unit(work);
                }
                Some(Job::Positions(question)) => return Turn::Positions(question),
                None => return Turn::Idle,
            }
        }
    }

    /// Tells whoever waits for the unit under way.
    pub fn answer(&self, outcome: Outcome) {
        if let Some(waiting) = self.jobs().waiting.take() {
            waiting.send(outcome).ok();
        }
    }

    /// Makes a call that may not return in time.
    pub fn call<T>(&self, call: impl FnOnce() -> T) -> Result<T, Abandoned> {
        {
            let mut jobs = self.jobs();
            if jobs.abandoned {
                return Err(Abandoned);
            }
            jobs.since = Some(Instant::now());
        }
        let done = call();
        let mut jobs = self.jobs();
        jobs.since = None;
        if jobs.abandoned {
            return Err(Abandoned);
        }
        Ok(done)
    }

    fn is_stuck(&self) -> bool {
        self.jobs().since.is_some_and(|s| s.elapsed() > STUCK)
    }

    fn close(&self) {
        let mut jobs = self.jobs();
        jobs.closed = true;
        jobs.queue.clear();
        drop(jobs);
        self.changed.notify_all();
    }

    /// Whoever waits learns that the outcome is unknown.
    fn abandon(&self) {
        self.close();
        let mut jobs = self.jobs();
        jobs.abandoned = true;
        jobs.waiting = None;
    }
}

impl Job {
    /// Nobody waits for it.
    fn is_idle(&self) -> bool {
        matches!(self, Self::Unit(_, waiting) if waiting.is_closed())
    }
}

/// The desk that is served now, and its thread.
pub struct Office {
    settings: KafkaSettings,
    /// The transactional id, which fences whoever had it before.
    id: String,
    shared: Arc<Shared>,
    current: Mutex<Option<(Arc<Desk>, JoinHandle<()>)>>,
}

impl Office {
    pub fn open(
        settings: &KafkaSettings,
        id: String,
        shared: &Arc<Shared>,
    ) -> Result<Self, BusError> {
        let office = Self {
            settings: settings.clone(),
            id,
            shared: Arc::clone(shared),
            current: Mutex::new(None),
        };
        *office.current() = Some(office.staff()?);
        Ok(office)
    }

    fn current(&self) -> MutexGuard<'_, Option<(Arc<Desk>, JoinHandle<()>)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staff(&self) -> Result<(Arc<Desk>, JoinHandle<()>), BusError> {
        let desk = Desk::new();
        let transactor = Transactor::new(&self.settings, &self.id, &self.shared, &desk);
        let thread = std::thread::Builder::new()
            .name("kafka-units".to_owned())
            .spawn(move || transactor.run())
            .map_err(|e| BusError::Unavailable(format!("no thread for transactions: {e}")))?;
        Ok((desk, thread))
    }

    /// Hands a job over; without a desk its caller learns that nobody will answer.
    pub fn put(&self, job: Job) {
        if let Some((desk, _)) = &*self.current() {
            desk.put(job);
        }
    }

    /// Replaces a thread that does not come back from a call, or has ended.
    pub fn watch(&self) -> Result<(), BusError> {
        let mut current = self.current();
        let lost = match &*current {
            Some((desk, thread)) => desk.is_stuck() || thread.is_finished(),
            None => false,
        };
        if lost {
            tracing::error!("a transaction does not come back; another producer takes over");
            if let Some((desk, _)) = current.take() {
                desk.abandon();
            }
            self.shared.settle(false);
            *current = Some(self.staff()?);
        }
        Ok(())
    }

    /// Takes no more jobs. A unit under way may end within `patience`; beyond that nobody waits.
    pub fn close(&self, patience: Duration) {
        let Some((desk, thread)) = self.current().take() else {
            return;
        };
        desk.close();
        if !ended_within(&thread, patience) {
            tracing::warn!("leaving a transaction behind that does not end");
            desk.abandon();
        }
    }
}

/// Waits for a thread, without a bound that only the thread decides.
pub fn ended_within(thread: &JoinHandle<()>, patience: Duration) -> bool {
    let begun = Instant::now();
    while !thread.is_finished() {
        if begun.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}
