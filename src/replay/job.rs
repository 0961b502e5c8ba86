//! Holding a job: one process at a time, for as long as it lives, and noting how far it has got.

use super::ReplayError;
use super::counts::Counts;
use super::spec::{Kept, Progress, Spec, text};
use crate::clock::Clock;
use crate::model::Millis;
use crate::store::{Hold, Job, JobNote, NewJob, Operate, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A job whose process was killed is free after this long.
const LEASE_MS: i64 = 30_000;
/// How often the lease is renewed, whatever else goes on.
const RENEW: Duration = Duration::from_secs(8);

/// A job that this process holds.
pub struct Holding {
    store: Arc<dyn Operate>,
    clock: Clock,
    /// The job.
    pub job: Uuid,
    holder: Uuid,
    /// Cancelled when another process takes the job over.
    pub lost: CancellationToken,
}

impl Holding {
    /// Begins a job.
    ///
    /// # Errors
    /// The store failed, or is being rebuilt.
    pub async fn begin(
        store: &Arc<dyn Operate>,
        clock: &Clock,
        new: &NewJob,
    ) -> Result<Self, StoreError> {
        let holding = Self::of(store, clock, new.id);
        store.begin_job(new, holding.hold()).await?;
        Ok(holding)
    }

    /// Takes a job that somebody has stopped, or, if `over`, that another process holds. `None`: another
    /// process holds it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn take(
        store: &Arc<dyn Operate>,
        clock: &Clock,
        job: &Job,
        over: bool,
    ) -> Result<Option<Self>, StoreError> {
        let holding = Self::of(store, clock, job.new.id);
        let now = match job.held_until {
            Some(until) if over => until.max(clock()),
            _ => clock(),
        };
        let held = store.hold_job(holding.hold(), now).await?;
        Ok(held.then_some(holding))
    }

    fn of(store: &Arc<dyn Operate>, clock: &Clock, job: Uuid) -> Self {
        Self {
            store: Arc::clone(store),
            clock: Arc::clone(clock),
            job,
            holder: Uuid::new_v4(),
            lost: CancellationToken::new(),
        }
    }

    fn hold(&self) -> Hold {
        Hold {
            job: self.job,
            holder: self.holder,
            until: (self.clock)().plus(LEASE_MS),
        }
    }

    /// Renews the lease until the returned guard is dropped.
    #[must_use]
    pub fn renewed(&self) -> impl Send + use<> {
        let (store, clock, lost) = (
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
            self.lost.clone(),
        );
        let (job, holder) = (self.job, self.holder);
        let end = CancellationToken::new();
        let guard = end.clone().drop_guard();
        tokio::spawn(async move {
            while (end.run_until_cancelled(tokio::time::sleep(RENEW)).await).is_some() {
                let now = clock();
                let until = now.plus(LEASE_MS);
                let hold = Hold { job, holder, until };
                // A store that is away now may be back in time.
                if matches!(store.hold_job(hold, now).await, Ok(false)) {
                    return lost.cancel();
                }
            }
        });
        guard
    }

    /// How the job stands at `progress`, but for its numbers.
    #[must_use]
    pub fn note(&self, progress: &Progress, done: bool) -> JobNote {
        JobNote {
            hold: self.hold(),
            at: (self.clock)(),
            progress: text(progress),
            counts: String::new(),
            done,
        }
    }

    /// What is kept with the job.
    ///
    /// # Errors
    /// The store failed.
    pub async fn kept(&self) -> Result<Kept, ReplayError> {
        let gone = || StoreError::Corrupt("a job is gone".to_owned());
        let job = self.store.job(self.job).await?.ok_or_else(gone)?;
        Ok(kept(&job)?)
    }

    /// Lets others go on with it.
    ///
    /// # Errors
    /// The store failed; it is free once the lease ends.
    pub async fn let_go(&self) -> Result<(), StoreError> {
        self.store.let_go(self.job, self.holder).await
    }
}

/// What is kept with a job.
///
/// # Errors
/// Another version wrote it.
pub fn kept(job: &Job) -> Result<Kept, StoreError> {
    Ok(Kept {
        progress: read(&job.progress, "progress")?,
        counts: read::<Counts>(&job.counts, "counts")?,
    })
}

/// What a job is.
///
/// # Errors
/// Another version wrote it.
pub fn spec(job: &Job) -> Result<Spec, StoreError> {
    serde_json::from_str(&job.new.spec).map_err(|_| foreign("spec"))
}

/// A job as it is begun.
#[must_use]
pub fn new_job(kind: &str, spec: &Spec, (author, note): (String, String), at: Millis) -> NewJob {
    NewJob {
        id: Uuid::new_v4(),
        kind: kind.to_owned(),
        spec: text(spec),
        author,
        note,
        at,
    }
}

fn read<T: serde::de::DeserializeOwned + Default>(text: &str, what: &str) -> Result<T, StoreError> {
    if text.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str(text).map_err(|_| foreign(what))
}

fn foreign(what: &str) -> StoreError {
    StoreError::Mismatch(format!(
        "the job's {what} was written by another version: go on with that one, or begin anew"
    ))
}
