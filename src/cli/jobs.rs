//! Jobs on the command line: finding one by its id, showing them, and what is worth knowing while one is at
//! work.

use super::Failure;
use super::assemble::Operating;
use super::progress::{Progress as Bar, grouped};
use super::work_args::WorkArgs;
use crate::bus::BusError;
use crate::model::Millis;
use crate::replay::counts::Counts;
use crate::replay::spec::{Progress, Spec, What};
use crate::replay::{Watch, job};
use crate::store::Job;
use serde_json::json;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Jobs that a list shows, and that a beginning of an id is looked for in.
const LISTED: usize = 100;

/// Shows how far it is, and what it came to so far.
pub struct Watching {
    bar: Bar,
    unit: &'static str,
    what: What,
    /// As it was shown last.
    total: AtomicU64,
}

impl Watching {
    /// On stderr.
    #[must_use]
    pub fn new(json: bool, unit: &'static str, what: &What) -> Self {
        Self {
            bar: Bar::new(json),
            unit,
            what: what.clone(),
            total: AtomicU64::new(0),
        }
    }

    /// What follows is a result.
    pub fn finish(&self) {
        self.bar.finish();
    }
}

impl Watch for Watching {
    fn begin(&self, progress: &Progress) {
        let total = self.what.total(progress);
        self.total.store(total, Ordering::Relaxed);
        self.bar.begin(self.unit, progress.done, total);
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
        self.bar.went(progress.done, &live);
    }
}

/// Finds the job that is to be gone on with, and what it is to do.
///
/// # Errors
/// Wrong use: there is none, it is done, or it is another command's.
pub async fn job_named(
    operating: &Operating,
    kind: &str,
    id: &str,
) -> Result<(Job, Spec), Failure> {
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
    let spec = job::spec(&job).map_err(Failure::failed)?;
    Ok((job, spec))
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
            let store = operating.store.identity();
            let alive = job.life == (store.store, store.epoch);
            print_job(&job, (now, alive), json)?;
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

/// One job of a list.
///
/// # Errors
/// Another version wrote it.
fn print_job(job: &Job, (now, alive): (Millis, bool), json: bool) -> Result<(), Failure> {
    let kept = job::kept(job).map_err(Failure::failed)?;
    let state = match (job.done, job.held_until) {
        (true, _) => "done",
        _ if !alive => "over",
        (false, Some(until)) if until > now => "at work",
        (false, _) => "stopped",
    };
    let total = kept.counts.total();
    let line = if json {
        json!({
            "job": job.new.id, "state": state, "begun": job.new.at.to_string(),
            "noted": job.noted_at.to_string(), "author": job.new.author, "note": job.new.note,
            "done": kept.progress.done, "newly_linked": total.newly_linked,
        })
        .to_string()
    } else {
        format!(
            "{} {state:8} begun {} by {}, {} gone through, newly linked {}",
            job.new.id,
            job.new.at,
            job.new.author,
            grouped(kept.progress.done),
            grouped(total.newly_linked)
        )
    };
    writeln!(std::io::stdout().lock(), "{line}").ok();
    Ok(())
}
