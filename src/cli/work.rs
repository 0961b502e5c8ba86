//! What commands share that go through many logins or accounts: how they ask and how fast, jobs that are
//! stopped and gone on with, and dry runs.

use super::Failure;
use super::assemble::{Operating, Tools, Wish};
use super::jobs::Watching;
use super::operator::Operator;
use super::outcome::{Outcome, counted_words};
use super::progress::until_signalled;
use super::work_args::WorkArgs;
use crate::model::Millis;
use crate::replay::counts::Counts;
use crate::replay::engine::Engine;
use crate::replay::job::{self, Holding};
use crate::replay::pace::Pace;
use crate::replay::spec::{Kept, Progress, Spec, What};
use crate::replay::{ReplayError, Source, Watch};
use crate::resolve::book::Manner;
use crate::store::{Audit, Job};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// When a service is away: so often it is tried again without getting any further.
const TRIES: u32 = 10;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Makes what is gone through, from where it has got to.
pub type MakeSource<'a> = dyn Fn(&Tools, Made) -> Result<Box<dyn Source>, Failure> + Sync + 'a;

/// Where it goes on from, and for which job (a dry run has none).
pub struct Made {
    /// How far it has got.
    pub progress: Progress,
    /// The job.
    pub job: Option<Uuid>,
    /// Ends waiting.
    pub stop: CancellationToken,
}

/// Some work, prepared.
pub struct Work<'a> {
    /// The command's word.
    pub kind: &'static str,
    /// What is counted, in words.
    pub unit: &'static str,
    /// Services.
    pub operating: &'a Operating,
    /// How.
    pub args: &'a WorkArgs,
    /// What.
    pub spec: Spec,
    /// The job to go on with.
    pub job: Option<Job>,
    /// Makes what is gone through.
    pub source: &'a MakeSource<'a>,
}

impl Work<'_> {
    /// Does it to its end, and tells what it came to.
    ///
    /// # Errors
    /// Services are away for long, another process holds the job, or it was told to stop.
    pub async fn run(self) -> Result<(), Failure> {
        let operator = self.args.operator.operator()?;
        let watch = Arc::new(Watching::new(self.args.json, self.unit, &self.spec.what));
        let signalled = until_signalled()?;
        if self.args.dry_run {
            self.dry(&operator, &watch, &signalled).await
        } else {
            self.for_good(&operator, &watch, &signalled).await
        }
    }

    async fn dry(
        &self,
        operator: &Operator,
        watch: &Arc<Watching>,
        signalled: &CancellationToken,
    ) -> Result<(), Failure> {
        let (begun, at) = (Instant::now(), self.now());
        let stop = signalled.child_token();
        let counts = self.once(None, Kept::default(), at, watch, &stop).await;
        watch.finish();
        let counts = counts.map_err(|error| match error {
            Trouble::Work(ReplayError::Stopped) => Failure::Failed(
                "stopped before it was done. Nothing was changed; what WeChat answered is remembered \
                 for a day"
                    .to_owned(),
            ),
            other => other.into(),
        })?;
        if self.args.ask {
            self.audit(operator, None, &counts).await?;
        }
        self.outcome(None, &counts, begun).print(self.args.json);
        Ok(())
    }

    async fn for_good(
        &self,
        operator: &Operator,
        watch: &Arc<Watching>,
        signalled: &CancellationToken,
    ) -> Result<(), Failure> {
        let (begun, at) = (Instant::now(), self.now());
        let (holding, since) = match &self.job {
            Some(job) => (self.taken(job).await?, job.new.at),
            None => {
                let author = (operator.author.clone(), operator.note.clone());
                let new = job::new_job(self.kind, &self.spec, author, at);
                let (store, clock) = (&self.operating.store, &self.operating.parts.clock);
                let begun = Holding::begin(store, clock, &new).await;
                (begun.map_err(Failure::failed)?, new.at)
            }
        };
        let counts = self.to_the_end(&holding, since, watch, signalled).await;
        watch.finish();
        if counts.is_err() {
            // Held by a lease that ends by itself if the store is away.
            holding.let_go().await.ok();
        }
        let counts = counts?;
        self.audit(operator, Some(&holding), &counts).await?;
        self.outcome(Some(&holding), &counts, begun)
            .print(self.args.json);
        Ok(())
    }

    fn now(&self) -> Millis {
        (self.operating.parts.clock)()
    }

    async fn taken(&self, job: &Job) -> Result<Holding, Failure> {
        let now = self.operating.store.identity();
        if job.life != (now.store, now.epoch) {
            return Err(Failure::Failed(format!(
                "the store was rebuilt since job {} was begun: begin anew",
                job.new.id
            )));
        }
        let (store, clock) = (&self.operating.store, &self.operating.parts.clock);
        let taken = Holding::take(store, clock, job, self.args.take_over).await;
        taken.map_err(Failure::failed)?.ok_or_else(|| {
            Failure::Failed(format!(
                "job {} is held by another process: it is at work, or was killed less than half a \
                 minute ago. Wait, or add --take-over if you know that it is dead",
                job.new.id
            ))
        })
    }

    /// Through services that are away for a while.
    async fn to_the_end(
        &self,
        holding: &Holding,
        since: Millis,
        watch: &Arc<Watching>,
        signalled: &CancellationToken,
    ) -> Result<Counts, Failure> {
        let (job, pace) = (holding.job, self.args.pace());
        let again = format!("`unilink {} --resume {job}{pace}`", self.kind);
        let (mut tries, mut reached) = (0, 0);
        loop {
            let stop = signalled.child_token();
            let (lost, ended) = (holding.lost.clone(), stop.clone());
            let losing = tokio::spawn(async move {
                lost.cancelled().await;
                ended.cancel();
            });
            let done = match holding.kept().await {
                Ok(kept) => {
                    if kept.progress.done > reached {
                        (tries, reached) = (0, kept.progress.done);
                    }
                    self.once(Some(holding), kept, since, watch, &stop).await
                }
                Err(error) => Err(Trouble::Work(error)),
            };
            losing.abort();
            let error = match done {
                Ok(counts) => return Ok(counts),
                Err(Trouble::Failure(failure)) => return Err(failure),
                Err(Trouble::Work(error)) => error,
            };
            if holding.lost.is_cancelled() {
                let why = "another process has taken this job over";
                return Err(Failure::Failed(why.to_owned()));
            }
            if matches!(error, ReplayError::Stopped) {
                return Err(Failure::Failed(format!("{error}; go on with {again}")));
            }
            tries += 1;
            if !error.passes() || tries > TRIES {
                return Err(Failure::Failed(format!("{error}. Go on with {again}")));
            }
            tracing::warn!(%error, "a service is away; going on from where it is noted");
            let pause = (Duration::from_secs(1) * tries).min(LONGEST_PAUSE);
            signalled
                .run_until_cancelled(tokio::time::sleep(pause))
                .await;
        }
    }

    async fn once(
        &self,
        holding: Option<&Holding>,
        kept: Kept,
        since: Millis,
        watch: &Arc<Watching>,
        stop: &CancellationToken,
    ) -> Result<Counts, Trouble> {
        let args = self.args;
        let wish = Wish {
            manner: args.manner(&self.spec),
            since,
            calls: args.calls,
            dry: args.dry_run,
            only_unresolved: match &self.spec.what {
                What::Logins(logins) => logins.only_unresolved,
                What::Accounts(_) => false,
            },
        };
        let tools = self.operating.tools(&wish, stop).await?;
        let made = Made {
            progress: kept.clone().gone_back().progress,
            job: holding.map(|holding| holding.job),
            stop: stop.clone(),
        };
        let source = (self.source)(&tools, made)?;
        let engine = Engine {
            resolver: &tools.resolver,
            ground: Arc::clone(&tools.ground),
            desk: &tools.desk,
            holding,
            pace: Pace::new(!args.full_speed, args.rate),
            watch: Arc::clone(watch) as Arc<dyn Watch>,
            clock: Arc::clone(&self.operating.parts.clock),
            stop: stop.clone(),
        };
        engine.run(source, kept).await.map_err(Trouble::Work)
    }

    fn outcome<'a>(
        &'a self,
        holding: Option<&Holding>,
        counts: &'a Counts,
        begun: Instant,
    ) -> Outcome<'a> {
        Outcome {
            kind: self.kind,
            unit: self.unit,
            job: holding.map(|holding| holding.job),
            dry: self.args.dry_run,
            asked: self.args.manner(&self.spec) != Manner::Counted,
            counts,
            seconds: begun.elapsed().as_secs_f64(),
        }
    }

    async fn audit(
        &self,
        operator: &Operator,
        holding: Option<&Holding>,
        counts: &Counts,
    ) -> Result<(), Failure> {
        let detail = match holding {
            Some(holding) => ("job".to_owned(), holding.job.to_string()),
            None => ("dry_run".to_owned(), "ask".to_owned()),
        };
        let entry = Audit {
            at: self.now(),
            author: operator.author.clone(),
            action: self.kind.to_owned(),
            note: operator.note.clone(),
            detail: [detail].into(),
            counts: counted_words(counts),
        };
        let noted = self.operating.store.audit(&entry).await;
        noted.map_err(Failure::failed)
    }
}

/// Why one run did not end.
enum Trouble {
    Failure(Failure),
    Work(ReplayError),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Failure(failure) => failure,
            Trouble::Work(error) => Self::failed(error),
        }
    }
}
