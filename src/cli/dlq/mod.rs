//! `unilink dlq`: dead letters.

mod list;
mod redrive;
mod show;

use super::Failure;
use super::assemble::Operating;
use super::when::When;
use crate::config::Config;
use crate::dlq::{Desk, DlqError, Filter, Place};
use crate::model::{AppId, DeadReason, EventId, Millis};
use clap::{Args, Subcommand};
use std::sync::Arc;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// Count dead letters by reason and app, and show the newest
    List(list::ListArgs),
    /// Show one letter: where it came from, why it died, what to do; secrets are told by their size
    Show(show::ShowArgs),
    /// Put letters back on the login topic, with key, headers and bytes as they were
    ///
    /// Without --reason or a place, only what can end otherwise by now: letters of apps that were not
    /// configured, of keys that were not held, of overload. Codes that are dead or past their life stay.
    /// A letter goes once, however often the command runs (--again sends it again), and at most --limit
    /// times however often it dies. Interrupted, the same command goes on.
    Redrive(redrive::RedriveArgs),
}

/// Which letters are meant.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only letters of this reason (may be repeated)
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Vec<DeadReason>,
    /// Only letters of this app (may be repeated)
    #[arg(long, value_name = "APPID", value_parser = app)]
    app: Vec<AppId>,
    /// Only letters that died then or later: a time, or how long ago (36h)
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    since: Option<When>,
    /// Only letters that died before
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    until: Option<When>,
    /// Only letters of this event
    #[arg(long, value_name = "ID", value_parser = event)]
    event: Option<EventId>,
}

impl FilterArgs {
    fn filter(&self, places: &[Place], now: Millis) -> Filter {
        Filter {
            reasons: self.reason.iter().copied().collect(),
            apps: self.app.iter().cloned().collect(),
            since: self.since.map(|when| when.from(now)),
            until: self.until.map(|when| when.from(now)),
            event: self.event.clone(),
            places: places.iter().copied().collect(),
        }
    }
}

fn reason(text: &str) -> Result<DeadReason, String> {
    DeadReason::from_word(text).ok_or_else(|| {
        let words: Vec<&str> = DeadReason::ALL.iter().map(|r| r.word()).collect();
        format!("is no reason; there are: {}", words.join(", "))
    })
}

fn app(text: &str) -> Result<AppId, String> {
    AppId::parse(text).map_err(|e| e.to_string())
}

fn event(text: &str) -> Result<EventId, String> {
    EventId::parse(text).map_err(|e| e.to_string())
}

fn place(text: &str) -> Result<Place, String> {
    text.parse().map_err(str::to_owned)
}

/// Does it.
///
/// # Errors
/// Bus or store cannot be used, or the letters are not there.
pub async fn run(config: Config, command: DlqCommand) -> Result<(), Failure> {
    let (logins, dlq) = (config.topics.logins.clone(), config.topics.dlq.clone());
    let operating = Operating::open(config).await?;
    let desk = Desk {
        bus: Arc::clone(&operating.parts.bus),
        store: operating.store,
        keys: Arc::clone(&operating.parts.keys),
        logins,
        dlq,
        clock: Arc::clone(&operating.parts.clock),
    };
    match command {
        DlqCommand::List(args) => list::run(&desk, &args).await,
        DlqCommand::Show(args) => show::run(&desk, &args).await,
        DlqCommand::Redrive(args) => redrive::run(&desk, args).await,
    }
}

/// Takes the error as `map_err` hands it over.
#[allow(clippy::needless_pass_by_value)]
fn failed(error: DlqError) -> Failure {
    Failure::failed(error)
}
