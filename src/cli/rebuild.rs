//! `unilink rebuild`: the store from the topics, or the topics from the store.

use super::Failure;
use super::assemble::{needs_store, site};
use super::confirm::Consent;
use super::operator::{Operator, OperatorArgs};
use super::progress::{Progress, until_signalled};
use super::reach::{asked, present};
use crate::bus::TopicState;
use crate::cli::shown::say_line;
use crate::config::Config;
use crate::rebuild::{Done, RebuildError, Site, Watch, from_store, from_topics};
use crate::store::{Audit, Job, Origin, Totals};
use clap::{Args, ValueEnum};
use std::sync::Arc;

/// Jobs that are looked at: the newest.
const JOBS: usize = 100;

/// Options of `rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Where the truth is
    #[arg(long, value_name = "ORIGIN")]
    from: From,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Where the truth is.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// The database is empty, or was restored from an older copy
    Topics,
    /// The topics were lost, or made anew with another number of partitions
    Store,
}

impl From {
    fn origin(self) -> Origin {
        match self {
            Self::Topics => Origin::Topics,
            Self::Store => Origin::Store,
        }
    }
}

/// Rebuilds.
///
/// # Errors
/// Workers run, services cannot be reached, or nobody agreed to it.
pub async fn run(config: Config, args: RebuildArgs) -> Result<(), Failure> {
    needs_store(&config)?;
    let origin = args.from.origin();
    let watch = Arc::new(Progress::new(false));
    let mut site = site(&config, Arc::clone(&watch) as Arc<dyn Watch>).await?;
    let wanted = config.topics.specs();
    present(&*site.bus, &wanted).await?;
    site.bus.place(&[]).await.map_err(Failure::failed)?;
    let states = site.bus.topics(&asked(&wanted)).await;
    let states = states.map_err(Failure::failed)?;
    let before = site.store.totals().await.map_err(Failure::failed)?;
    let open = open_jobs(&site).await?;
    let plan = format!("{}{open}", plan(&site, origin, &states, &before));
    if args.dry_run {
        say_line!("{plan}");
        return Ok(());
    }
    let operator = args.operator.operator()?;
    args.consent.to(&plan)?;
    site.stop = until_signalled()?;
    let done = match origin {
        Origin::Topics => from_topics(&site).await,
        Origin::Store => from_store(&site).await,
    };
    watch.finish();
    let done = done.map_err(failed)?;
    let entry = audit(&site, operator, origin, &done);
    site.store.audit(&entry).await.map_err(Failure::failed)?;
    let after = site.store.totals().await.map_err(Failure::failed)?;
    print(origin, &done, &before, &after);
    Ok(())
}

/// Jobs that end with the store's life.
async fn open_jobs(site: &Site) -> Result<String, Failure> {
    let jobs = site.store.jobs(JOBS).await.map_err(Failure::failed)?;
    let now = site.store.identity();
    let open = |job: &&Job| !job.done && job.life == (now.store, now.epoch);
    Ok(match jobs.iter().filter(open).count() {
        0 => String::new(),
        open => format!(
            "\n{open} jobs that were begun and are not done (`unilink replay --list` and `unilink backfill \
             --list` show them) end with it"
        ),
    })
}

/// What is noted of it.
fn audit(site: &Site, operator: Operator, origin: Origin, done: &Done) -> Audit {
    let detail = [("from", origin.word().to_owned())];
    let counts = [
        ("epoch", u64::from(done.epoch)),
        ("accounts", done.accounts),
        ("records", done.told),
    ];
    Audit {
        at: (site.clock)(),
        author: operator.author,
        action: "rebuild".to_owned(),
        note: operator.note,
        detail: detail.map(|(name, word)| (name.to_owned(), word)).into(),
        counts: counts.map(|(name, n)| (name.to_owned(), n)).into(),
    }
}

fn failed(error: RebuildError) -> Failure {
    match error {
        RebuildError::Refused(_) => Failure::failed(error),
        RebuildError::Stopped => Failure::Failed(format!(
            "{error}: nobody else opens the store until the same command has run to its end"
        )),
        _ => Failure::Failed(format!(
            "{error}. Run the same command again once that is mended"
        )),
    }
}

/// What would be done, for whoever has to agree to it.
fn plan(site: &Site, origin: Origin, states: &[TopicState], before: &Totals) -> String {
    let held = |name: &str| {
        let bounds = states
            .iter()
            .filter(|s| *s.name == *name)
            .flat_map(|s| &s.bounds);
        bounds.map(|(first, next)| next - first).sum::<i64>()
    };
    let topics = &site.topics;
    let (links, registers) = (held(&topics.account_links), held(&topics.registers));
    let logins = held(&topics.logins);
    let identity = site.store.identity();
    let store = format!(
        "the store has {} accounts, {} users, {} tombstones, epoch {}",
        before.accounts, before.users, before.tombstones, identity.epoch
    );
    match origin {
        Origin::Topics => format!(
            "{store}\nit would take in at most {registers} records of {} and {links} of {}, begin the next \
             epoch, and let the next worker replay {logins} records of {}",
            topics.registers, topics.account_links, topics.logins
        ),
        Origin::Store => format!(
            "{store}\nit would write all of them to {} ({links} records now, at most), {} and {} under the next \
             epoch, through the next worker, and go on reading {} with {} partitions",
            topics.account_links,
            topics.user_merges,
            topics.registers,
            topics.logins,
            site.birth.partitions
        ),
    }
}

fn print(origin: Origin, done: &Done, before: &Totals, after: &Totals) {
    say_line!("rebuilt from the {}, epoch {}", origin.word(), done.epoch);
    let contested = |totals: &Totals| totals.contested_by_why.values().sum::<u64>();
    for (what, before, after) in [
        ("accounts", before.accounts, after.accounts),
        ("users", before.users, after.users),
        ("contested claims", contested(before), contested(after)),
        ("tombstones", before.tombstones, after.tombstones),
    ] {
        say_line!("{what:18} {before:>12} before {after:>12} now");
    }
    say_line!(
        "{:18} {:>12} for the next worker to publish",
        "records",
        done.told
    );
    for (what, count) in [
        ("records were none of ours and left aside", done.unreadable),
        (
            "young codes will not be sent again, though their answers are lost",
            done.codes,
        ),
        (
            "young codes were under way: they are sent once more, and are code_lost if WeChat had \
             answered them",
            done.unsure,
        ),
        ("deferred resolutions go on at new places", done.moved),
    ] {
        if count > 0 {
            say_line!("{count} {what}");
        }
    }
}
