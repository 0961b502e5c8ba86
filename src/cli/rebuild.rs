//! `unilink rebuild`: the store from the topics, or the topics from the store.

use super::Failure;
use super::assemble::{needs_store, site};
use super::reach::{asked, present};
use crate::bus::TopicState;
use crate::config::Config;
use crate::rebuild::{Done, RebuildError, Site, Watch, from_store, from_topics};
use crate::store::{Origin, Totals};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{BufRead, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Options of `rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Where the truth is
    #[arg(long, value_name = "ORIGIN")]
    from: From,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
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
    let watch = Arc::new(Progress::default());
    let site = site(&config, Arc::clone(&watch) as Arc<dyn Watch>).await?;
    let wanted = config.topics.specs();
    present(&*site.bus, &wanted).await?;
    site.bus.place(&[]).await.map_err(Failure::failed)?;
    let states = site.bus.topics(&asked(&wanted)).await;
    let states = states.map_err(Failure::failed)?;
    let before = site.store.totals().await.map_err(Failure::failed)?;
    let plan = plan(&site, origin, &states, &before);
    if args.dry_run {
        println!("{plan}");
        return Ok(());
    }
    agreed(&args, &plan)?;
    let done = match origin {
        Origin::Topics => from_topics(&site).await,
        Origin::Store => from_store(&site).await,
    };
    watch.finish();
    let done = done.map_err(failed)?;
    let after = site.store.totals().await.map_err(Failure::failed)?;
    print(origin, &done, &before, &after);
    Ok(())
}

fn failed(error: RebuildError) -> Failure {
    match error {
        RebuildError::Refused(_) => Failure::failed(error),
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
            "{store}\nit would take in {registers} records of {} and {links} of {}, begin the next \
             epoch, and let the next worker replay {logins} records of {}",
            topics.registers, topics.account_links, topics.logins
        ),
        Origin::Store => format!(
            "{store}\nit would write all of them to {} ({links} records now), {} and {} under the next \
             epoch, through the next worker, and go on reading {} with {} partitions",
            topics.account_links,
            topics.user_merges,
            topics.registers,
            topics.logins,
            site.birth.partitions
        ),
    }
}

/// Somebody at the terminal says yes, or `--yes` stands for that.
fn agreed(args: &RebuildArgs, plan: &str) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    let usage = |why: &str| Err(Failure::Usage(format!("{plan}\n{why}")));
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return usage("add --yes to do it");
    }
    eprint!("{plan}\nDo it? [y/N] ");
    std::io::stderr().flush().map_err(Failure::failed)?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(Failure::failed)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    usage("nothing was done")
}

fn print(origin: Origin, done: &Done, before: &Totals, after: &Totals) {
    println!("rebuilt from the {}, epoch {}", origin.word(), done.epoch);
    let contested = |totals: &Totals| totals.contested_by_why.values().sum::<u64>();
    for (what, before, after) in [
        ("accounts", before.accounts, after.accounts),
        ("users", before.users, after.users),
        ("contested claims", contested(before), contested(after)),
        ("tombstones", before.tombstones, after.tombstones),
    ] {
        println!("{what:18} {before:>12} before {after:>12} now");
    }
    println!(
        "{:18} {:>12} for the next worker to publish",
        "records", done.told
    );
    for (what, count) in [
        ("records were none of ours and left aside", done.unreadable),
        (
            "young codes will not be sent again, though their answers are lost",
            done.codes,
        ),
        ("deferred resolutions go on at new places", done.moved),
    ] {
        if count > 0 {
            println!("{count} {what}");
        }
    }
}

/// A bar on a terminal, a line now and then elsewhere.
#[derive(Default)]
struct Progress(Mutex<Option<Stage>>);

struct Stage {
    what: &'static str,
    total: u64,
    bar: ProgressBar,
    last: Instant,
}

impl Progress {
    fn finish(&self) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = stage.take() {
            stage.bar.finish_and_clear();
        }
    }
}

impl Watch for Progress {
    fn stage(&self, what: &'static str, total: u64) {
        self.finish();
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = "{bar:32} {human_pos}/{human_len} {msg}, {per_sec}, {eta} left";
        let style = ProgressStyle::with_template(style);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        if bar.is_hidden() {
            eprintln!("{what}: {total} to go");
        }
        let last = Instant::now();
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *stage = Some(Stage {
            what,
            total,
            bar,
            last,
        });
    }

    fn at(&self, done: u64) {
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stage) = stage.as_mut() else { return };
        stage.bar.set_position(done);
        if stage.bar.is_hidden() && stage.last.elapsed() >= LINE_EVERY {
            stage.last = Instant::now();
            eprintln!("{}: {done} of {}", stage.what, stage.total);
        }
    }
}
