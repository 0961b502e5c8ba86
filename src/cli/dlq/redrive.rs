//! `unilink dlq redrive`: letters go back to the login topic.

use super::{FilterArgs, failed, place};
use crate::bus::Range;
use crate::cli::Failure;
use crate::cli::confirm::Consent;
use crate::cli::operator::{Operator, OperatorArgs};
use crate::cli::progress::{Progress, grouped, until_signalled};
use crate::cli::shown::say_line;
use crate::dlq::{self, Count, Desk, Done, Place, Plan, Wish};
use crate::store::Audit;
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Options of `dlq redrive`.
#[derive(Debug, Args)]
pub struct RedriveArgs {
    /// Only these letters: PARTITION/OFFSET, as `dlq list` shows them
    #[arg(value_name = "PLACE", value_parser = place)]
    places: Vec<Place>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Say what would go and what would stay, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Letters a second; 0: as fast as the bus takes them
    #[arg(long, value_name = "N", default_value_t = 500)]
    rate: u32,
    /// A letter goes back so often at most, however often it dies
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Send letters again that went before
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Redrives.
///
/// # Errors
/// Bus or store fail, nobody agreed, or it was stopped: the same command goes on then.
pub async fn run(desk: &Desk, args: RedriveArgs) -> Result<(), Failure> {
    let wish = Wish {
        filter: args.filter.filter(&args.places, (desk.clock)()),
        limit: args.limit,
        again: args.again,
        rate: args.rate,
    };
    let progress = Progress::new(false);
    if args.dry_run {
        let (gone, _) = desk.unnoted().await.map_err(failed)?;
        let plan = planned(desk, &wish, &gone, &progress).await?;
        there(&args.places, &plan)?;
        print(&plan, "would go");
        return Ok(());
    }
    let operator = args.operator.operator()?;
    recover(desk).await?;
    let plan = planned(desk, &wish, &BTreeSet::new(), &progress).await?;
    there(&args.places, &plan)?;
    if plan.total() == 0 {
        print(&plan, "go");
        return Ok(());
    }
    args.consent
        .to(&text(&plan, "go back to the login topic"))?;
    let stop = until_signalled()?;
    redrive(desk, &args, &wish, &plan, &operator, &stop).await
}

/// Whoever names places means letters.
fn there(places: &[Place], plan: &Plan) -> Result<(), Failure> {
    let missing = |place: &&Place| {
        let fits = |r: &Range| r.partition == place.0 && (r.from..r.to).contains(&place.1);
        !plan.held.iter().any(fits)
    };
    match places.iter().find(missing) {
        None => Ok(()),
        Some(Place(partition, offset)) => Err(Failure::Usage(format!(
            "PLACE: no letter is at {partition}/{offset}; `unilink dlq list` shows where they are"
        ))),
    }
}

/// What became of earlier redrives that did not end is noted; one that may be under way is waited for.
async fn recover(desk: &Desk) -> Result<(), Failure> {
    loop {
        let (gone, wait) = desk.unnoted().await.map_err(failed)?;
        if wait == 0 {
            let gone: Vec<_> = gone.iter().map(|place| (place.0, place.1)).collect();
            let noted = desk.store.end_redrive(&gone, true).await;
            noted.map_err(Failure::failed)?;
            return desk.forget().await.map_err(failed);
        }
        let seconds = wait.unsigned_abs().div_ceil(1_000);
        eprintln!("another redrive runs, or ended in the middle of a batch: waiting {seconds} s");
        tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())).await;
    }
}

async fn planned(
    desk: &Desk,
    wish: &Wish,
    gone: &BTreeSet<Place>,
    progress: &Progress,
) -> Result<Plan, Failure> {
    let held = desk.held().await.map_err(failed)?;
    let total = held.iter().map(|r| r.to - r.from).sum::<i64>();
    progress.begin("letters looked at", 0, total.unsigned_abs());
    let plan = desk.plan(wish, gone, |read| progress.went(read, &[])).await;
    progress.finish();
    plan.map_err(failed)
}

async fn redrive(
    desk: &Desk,
    args: &RedriveArgs,
    wish: &Wish,
    plan: &Plan,
    operator: &Operator,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut entry = audit(desk, args, operator, "dlq redrive begun", &plan.goes);
    let store = &desk.store;
    // Whoever cannot be named does nothing.
    store.audit(&entry).await.map_err(|error| {
        Failure::Failed(format!(
            "{error}. Nothing was redriven: what cannot be noted is not done"
        ))
    })?;
    let progress = Progress::new(false);
    progress.begin("letters", 0, plan.total());
    let done = dlq::run(desk, wish, plan, stop, |went| progress.went(went, &[])).await;
    progress.finish();
    let (error, done) = match done {
        Ok(done) => (None, done),
        Err((error, done)) => (Some(error), done),
    };
    let word = match (&error, done.stopped) {
        (Some(_), _) => "dlq redrive failed",
        (None, true) => "dlq redrive stopped",
        (None, false) => "dlq redrive",
    };
    entry = Audit {
        at: (desk.clock)(),
        action: word.to_owned(),
        counts: counts(&done.went),
        ..entry
    };
    let noted = store.audit(&entry).await;
    let went = format!(
        "{} of {} letters went back",
        grouped(done.total()),
        grouped(plan.total())
    );
    let on = "run the same command again: it goes on with those that did not go";
    if let Some(error) = error {
        return Err(Failure::Failed(format!(
            "{error}. {went}; once that is mended, {on}"
        )));
    }
    noted.map_err(|error| Failure::Failed(format!("{went}; that was not noted: {error}")))?;
    report(&done);
    match done.stopped {
        true => Err(Failure::Failed(format!("stopped: {went}; {on}"))),
        false => Ok(()),
    }
}

fn report(done: &Done) {
    let plan = Plan {
        goes: done.went.clone(),
        ..done.plan.clone()
    };
    print(&plan, "went back to the login topic");
}

fn print(plan: &Plan, goes: &str) {
    say_line!("{}", text(plan, goes));
}

fn text(plan: &Plan, goes: &str) -> String {
    let mut lines = vec![line(&plan.goes, goes)];
    for (why, count) in &plan.left {
        lines.push(line(count, &format!("stay: {}", why.words())));
    }
    if plan.strange > 0 {
        lines.push(format!(
            "{} records are no dead letters of ours",
            plan.strange
        ));
    }
    lines.join("\n")
}

fn line(count: &Count, what: &str) -> String {
    let total = grouped(count.values().sum());
    let parts = count
        .iter()
        .map(|(word, n)| format!("{word} {}", grouped(*n)));
    let parts: Vec<String> = parts.collect();
    match parts.is_empty() {
        true => format!("{total} letters {what}"),
        false => format!("{total} letters {what} ({})", parts.join(", ")),
    }
}

fn audit(
    desk: &Desk,
    args: &RedriveArgs,
    operator: &Operator,
    action: &str,
    count: &Count,
) -> Audit {
    let filter = &args.filter;
    let list = |words: Vec<String>| words.join(" ");
    let detail = [
        (
            "reasons",
            list(filter.reason.iter().map(ToString::to_string).collect()),
        ),
        (
            "apps",
            list(filter.app.iter().map(ToString::to_string).collect()),
        ),
        (
            "places",
            list(
                args.places
                    .iter()
                    .take(20)
                    .map(ToString::to_string)
                    .collect(),
            ),
        ),
        (
            "event",
            filter
                .event
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        ("again", if args.again { "yes" } else { "" }.to_owned()),
    ];
    let given = detail.into_iter().filter(|(_, word)| !word.is_empty());
    Audit {
        at: (desk.clock)(),
        author: operator.author.clone(),
        action: action.to_owned(),
        note: operator.note.clone(),
        detail: given.map(|(name, word)| (name.to_owned(), word)).collect(),
        counts: counts(count),
    }
}

fn counts(count: &Count) -> BTreeMap<String, u64> {
    count
        .iter()
        .map(|(word, n)| ((*word).to_owned(), *n))
        .collect()
}
