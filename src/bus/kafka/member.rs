//! The worker's side: callers hand over what the two threads do, and take what waits for them.

use super::catalog::{Catalog, blocking};
use super::desk::{Job, Office, Outcome, Work, ended_within};
use super::polling::{Command, Polling};
use super::settings::KafkaSettings;
use super::state::Shared;
use super::topics;
use crate::bus::{BusError, Committed, Member, Next, Term, Unit};
use async_trait::async_trait;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// The longest wait taken literally, so that a deadline can be computed from any `wait`.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
/// How long a member that is dropped waits for each of its threads.
const END: Duration = Duration::from_secs(6);

pub struct KafkaMember {
    topic: Arc<str>,
    catalog: Arc<Catalog>,
    shared: Arc<Shared>,
    office: Arc<Office>,
    commands: mpsc::Sender<Command>,
    polling: Mutex<Option<JoinHandle<()>>>,
}

impl KafkaMember {
    pub fn join(settings: &KafkaSettings, catalog: &Arc<Catalog>) -> Result<Self, BusError> {
        // An instance id also for those without a name: a member that was thrown out and knows it
        // not, or has not rejoined yet, then still cannot commit as if it were none.
        let name = settings.name.clone();
        let name = name.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
        let shared = Arc::new(Shared::new());
        let id = format!("{}-{name}", settings.group);
        let office = Arc::new(Office::open(settings, id, &shared)?);
        let (commands, told) = mpsc::channel();
        let polling = Polling::new(settings, &name, &shared, &office, told)?;
        let thread = std::thread::Builder::new()
            .name("kafka-member".to_owned())
            .spawn(move || polling.run())
            .map_err(|e| BusError::Unavailable(format!("no thread for the member: {e}")))?;
        Ok(Self {
            topic: Arc::clone(&settings.input_topic),
            catalog: Arc::clone(catalog),
            shared,
            office,
            commands,
            polling: Mutex::new(Some(thread)),
        })
    }

    /// Refuses to begin where the log does not reach.
    async fn check(&self, at: &[(u32, i64)]) -> Result<(), BusError> {
        let count = self.catalog.need(&self.topic).await?;
        for (partition, _) in at {
            self.catalog.part(&self.topic, *partition).await?;
        }
        let (watcher, topic) = (self.catalog.watcher(), Arc::clone(&self.topic));
        let next = blocking(move || topics::next_offsets(&watcher, count, &topic)).await?;
        for (partition, offset) in at {
            let next = usize::try_from(*partition).ok().and_then(|i| next.get(i));
            if next.is_none_or(|next| offset > next) {
                return Err(BusError::Refused(format!(
                    "{} ends before offset {offset} in partition {partition}: it is not the log \
                     that was read before; restore log and store as they were at one moment",
                    self.topic
                )));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Member for KafkaMember {
    async fn next(&self, wait: Duration, limit: usize) -> Result<Next, BusError> {
        let deadline = Instant::now() + wait.min(LONGEST_WAIT);
        loop {
            if let Some(next) = self.shared.take(limit)? {
                return Ok(next);
            }
            if timeout_at(deadline, self.shared.woken()).await.is_err() {
                // What came at the last moment is not left for the next call.
                return Ok(self.shared.take(limit)?.unwrap_or(Next::Idle));
            }
        }
    }

    async fn start(&self, term: Term, at: &[(u32, i64)]) -> Result<(), BusError> {
        self.check(at).await?;
        let (done, started) = oneshot::channel();
        let at = at.to_vec();
        let ended = || BusError::Unavailable("the member has ended".to_owned());
        self.commands
            .send(Command::Start { term, at, done })
            .map_err(|_| ended())?;
        started.await.map_err(|_| ended())?
    }

    async fn commit(&self, unit: Unit) -> Result<Committed, BusError> {
        let records = self.catalog.place(unit.records).await?;
        for one in &unit.progress {
            self.catalog.part(&self.topic, one.partition).await?;
        }
        if !self.shared.holds(unit.term) {
            return Ok(Committed::Void);
        }
        // A transaction without anything is refused.
        if records.is_empty() && unit.progress.is_empty() {
            return Ok(Committed::Visible);
        }
        let work = Work {
            term: unit.term,
            progress: unit.progress,
            records,
        };
        let (answer, outcome) = oneshot::channel();
        self.office.put(Job::Unit(Box::new(work), answer));
        match outcome.await {
            Ok(Outcome::Visible) => Ok(Committed::Visible),
            Ok(Outcome::Refused(text)) => Err(BusError::Refused(text)),
            // Without an answer the outcome is unknown.
            Ok(Outcome::Void) | Err(_) => Ok(Committed::Void),
        }
    }
}

impl Drop for KafkaMember {
    /// Leaves the group. A unit under way may end, within bounds.
    fn drop(&mut self) {
        self.commands.send(Command::Leave).ok();
        let polling = self.polling.get_mut();
        let polling = polling.unwrap_or_else(PoisonError::into_inner).take();
        if polling.is_some_and(|thread| !ended_within(&thread, END)) {
            tracing::warn!("leaving the member's thread behind");
        }
        self.office.close(END);
    }
}
