//! What commands share that go through many logins or accounts: how they ask and how fast, jobs that are
//! stopped and gone on with, and dry runs.

use super::Failure;
use super::assemble::{Operating, Tools, Wish};
use super::operator::OperatorArgs;
use super::outcome::{Outcome, counted_words};
use super::progress::{Progress as Bar, until_signalled};
use crate::bus::BusError;
use crate::model::Millis;
use crate::replay::counts::Counts;
use crate::replay::engine::Engine;
use crate::replay::job::{self, Holding};
use crate::replay::pace::Pace;
use crate::replay::spec::{Kept, Progress, Spec, What};
use crate::replay::{ReplayError, Source, Watch};
use crate::resolve::book::Manner;
use crate::store::{Audit, Job};
use clap::Args;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Jobs that a list shows, and that a beginning of an id is looked for in.
const LISTED: usize = 100;
/// When a service is away: so often it is tried again without getting any further.
const TRIES: u32 = 10;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How the work is done, on the command line.
#[derive(Debug, Clone, Args)]
pub struct WorkArgs {
    /// Change nothing, and say what would become of it and what WeChat would be asked, at most
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: do ask WeChat, and remember its answers for a day
    #[arg(long, requires = "dry_run")]
    pub ask: bool,
    /// Ask WeChat nothing
    #[arg(long, conflicts_with = "ask")]
    pub no_ask: bool,
    /// Ask also what WeChat answered to a dry run or a job within the last day
    #[arg(long, conflicts_with = "no_ask")]
    pub again: bool,
    /// Go through at most N records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Make at most N calls a minute of each API for each app, beside those of the workers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub calls: Option<u32>,
    /// Do not rest between batches for the sake of live logins
    #[arg(long)]
    pub full_speed: bool,
    /// Progress on stderr and the result on stdout as JSON
    #[arg(long)]
    pub json: bool,
    /// Go on with a job that was stopped or killed; its id, or the beginning of it
    #[arg(long, value_name = "ID")]
    pub resume: Option<String>,
    /// With --resume: go on at once, although another process holds the job (for half a minute after it
    /// was killed); if it lives, it ends
    #[arg(long, requires = "resume")]
    pub take_over: bool,
    /// Show the jobs there are
    #[arg(long)]
    pub list: bool,
    #[command(flatten)]
    pub operator: OperatorArgs,
}

impl WorkArgs {
    /// How WeChat is asked, as it was given.
    ///
    /// # Errors
    /// Wrong use: what is asked for excludes each other.
    pub fn asking(&self) -> Result<(bool, bool), Failure> {
        if self.again && self.dry_run && !self.ask {
            let why = "--again asks WeChat: add --ask, or leave it away";
            return Err(Failure::Usage(why.to_owned()));
        }
        Ok((!self.no_ask, self.again))
    }

    /// Whether something is given that a job that has begun cannot change.
    pub fn fresh(&self) -> bool {
        self.dry_run || self.no_ask || self.again
    }

    fn manner(&self, spec: &Spec) -> Manner {
        match (spec.asks, self.dry_run && !self.ask) {
            (false, _) => Manner::Left,
            (true, true) => Manner::Counted,
            (true, false) => Manner::Asked { again: spec.again },
        }
    }
}

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
        let store = &self.operating.store;
        let clock = &self.operating.parts.clock;
        let signalled = until_signalled()?;
        let begun = (Instant::now(), clock());
        let watch = Arc::new(Watching {
            progress: Bar::new(self.args.json),
            unit: self.unit,
            what: self.spec.what.clone(),
            total: AtomicU64::new(0),
        });
        if self.args.dry_run {
            let stop = signalled.child_token();
            let from = Kept::default();
            let counts = self.once(None, from, begun.1, &watch, &stop).await;
            watch.progress.finish();
            let counts = counts.map_err(|error| match error {
                Trouble::Work(ReplayError::Stopped) => Failure::Failed(
                    "stopped before it was done. Nothing was changed; what WeChat answered is \
                     remembered for a day"
                        .to_owned(),
                ),
                other => other.into(),
            })?;
            if self.args.ask {
                let entry = self.audit(&operator, None, &counts, clock());
                store.audit(&entry).await.map_err(Failure::failed)?;
            }
            return self.outcome(None, &counts, begun.0).print(self.args.json);
        }
        let (holding, since) = match &self.job {
            Some(job) => (self.taken(job).await?, job.new.at),
            None => {
                let author = (operator.author.clone(), operator.note.clone());
                let new = job::new_job(self.kind, &self.spec, author, begun.1);
                let begun = Holding::begin(store, clock, &new).await;
                (begun.map_err(Failure::failed)?, new.at)
            }
        };
        let counts = self.to_the_end(&holding, since, &watch, &signalled).await;
        watch.progress.finish();
        let counts = match counts {
            Ok(counts) => counts,
            Err(failure) => {
                // Held by a lease that ends by itself if the store is away.
                holding.let_go().await.ok();
                return Err(failure);
            }
        };
        let entry = self.audit(&operator, Some(&holding), &counts, clock());
        store.audit(&entry).await.map_err(Failure::failed)?;
        self.outcome(Some(&holding), &counts, begun.0)
            .print(self.args.json)
    }

    async fn taken(&self, job: &Job) -> Result<Holding, Failure> {
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
        let again = format!("`unilink {} --resume {}`", self.kind, holding.job);
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

    fn audit(
        &self,
        operator: &super::operator::Operator,
        holding: Option<&Holding>,
        counts: &Counts,
        at: Millis,
    ) -> Audit {
        let job = holding.map(|h| h.job.to_string());
        let detail = match job {
            Some(job) => [("job".to_owned(), job)],
            None => [("dry_run".to_owned(), "ask".to_owned())],
        };
        Audit {
            at,
            author: operator.author.clone(),
            action: self.kind.to_owned(),
            note: operator.note.clone(),
            detail: detail.into(),
            counts: counted_words(counts),
        }
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

/// Shows how far it is, and what it came to so far.
struct Watching {
    progress: Bar,
    unit: &'static str,
    what: What,
    /// As it was shown last.
    total: AtomicU64,
}

impl Watch for Watching {
    fn begin(&self, progress: &Progress) {
        let total = self.what.total(progress);
        self.total.store(total, Ordering::Relaxed);
        self.progress.begin(self.unit, progress.done, total);
    }

    fn went(&self, progress: &Progress, counts: &Counts) {
        if self.what.total(progress) != self.total.load(Ordering::Relaxed) {
            self.begin(progress);
        }
        let total = counts.total();
        let live = [
            ("newly linked", total.newly_linked),
            ("merged", total.merged),
        ];
        self.progress.went(progress.done, &live);
    }
}

/// Finds the job that is to be gone on with.
///
/// # Errors
/// Wrong use: there is none, it is done, or it is another command's.
pub async fn job_named(operating: &Operating, kind: &str, id: &str) -> Result<Job, Failure> {
    let jobs = operating.store.jobs(LISTED).await;
    let jobs = jobs.map_err(Failure::failed)?;
    let mut found = jobs
        .into_iter()
        .filter(|job| !id.is_empty() && job.new.id.to_string().starts_with(id));
    let list = format!("`unilink {kind} --list` shows them");
    let (Some(job), None) = (found.next(), found.next()) else {
        return Err(Failure::Usage(format!(
            "--resume: there is no job, or more than one, whose id begins with {id}; {list}"
        )));
    };
    if job.new.kind != kind {
        return Err(Failure::Usage(format!(
            "--resume: that job is a {0}: `unilink {0} --resume`",
            job.new.kind
        )));
    }
    if job.done {
        return Err(Failure::Usage(format!(
            "--resume: that job is done; {list}"
        )));
    }
    Ok(job)
}

/// Shows the jobs of a command.
///
/// # Errors
/// The store cannot be read.
pub async fn list(operating: &Operating, kind: &str, json: bool) -> Result<(), Failure> {
    let jobs = operating.store.jobs(LISTED).await;
    let now = (operating.parts.clock)();
    for job in jobs.map_err(Failure::failed)? {
        if job.new.kind == kind {
            super::outcome::print_job(&job, now, json)?;
        }
    }
    Ok(())
}

/// Who publishes what changes.
pub async fn relay(operating: &Operating, work: &WorkArgs) -> &'static str {
    if work.dry_run {
        return "";
    }
    match operating.parts.bus.place(&[]).await {
        Err(BusError::Refused(_)) => "",
        _ => "no worker runs: what is changed is published once one does",
    }
}

/// What is worth knowing beforehand, on stderr.
pub fn say(work: &WorkArgs, what: &str) {
    match (what.is_empty(), work.json) {
        (true, _) => {}
        (false, true) => eprintln!("{}", json!({ "note": what })),
        (false, false) => eprintln!("{what}"),
    }
}
