//! The command line: one role per file, composed here and nowhere else. Logs go to stderr, results
//! to stdout. Exit status: 0 done, 1 failed, 2 wrong use.

#![deny(clippy::print_stdout)]

mod api;
mod app;
pub mod assemble;
mod audit;
mod backfill;
mod check;
mod confirm;
mod conflicts;
mod deed;
pub mod demo;
mod dlq;
mod driver;
mod export;
mod import;
mod intake;
mod jobs;
mod keys;
mod mask;
mod migrate;
mod name;
mod office;
mod operator;
mod outcome;
mod patience;
pub mod prepare;
mod progress;
mod reach;
mod rebuild;
mod replay;
mod report;
mod role;
mod serve;
mod shown;
mod simulate;
mod tail;
mod topics;
mod user;
mod when;
mod word;
mod work;
mod work_args;
mod worker;

use crate::config::{Config, Environment};
use crate::telemetry::{self, LogFormat};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// unilink makes one user of one person across a company's WeChat apps.
///
/// Gateways POST login events to the intake; a worker finds the unionid behind each openid, merges
/// the accounts that share it, and publishes who is who. Start with `unilink demo`.
///
/// On one machine, `serve` runs everything on one durable file (the embedded profile). Past that,
/// with Kafka and PostgreSQL: `keys new`, `migrate`, `topics`, `check`, then as many `intake`,
/// `worker` and `api` as you like.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Common {
    /// The configuration file [default: unilink.toml, if it exists]. Each key can be overridden by a
    /// variable `UNILINK_SECTION__KEY`
    #[arg(long, global = true, env = "UNILINK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How logs are written to stderr; UNILINK_LOG says what is logged (info, unilink=debug, …)
    #[arg(long, global = true, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process, with a simulated WeChat and simulated people; ends with a summary
    /// that is checked against the simulator's truth
    Demo(demo::DemoArgs),
    /// Intake, worker and look-ups in one process: on one durable file (the embedded profile), or on
    /// Kafka and PostgreSQL
    Serve,
    /// The front door alone: checks, seals and publishes logins, answers 202 once Kafka has them. Needs
    /// the bus and `seal.seal_to`; no database, no private key
    Intake,
    /// The consumer alone: resolves, links, publishes. Several share the partitions; `/livez`, `/readyz`
    /// and `/metrics` are at `worker.listen`
    Worker,
    /// The look-ups alone. Needs the database; no bus
    Api,
    /// Create the topics that are missing, and show partitions, records and retention of all
    Topics(topics::TopicsArgs),
    /// Bring the database's tables up to this version, and print what was applied
    Migrate,
    /// Look at configuration, keys, database and bus, one line each; exit status 1 if one is not in
    /// order. Changes nothing, but that a database that was never used is pinned to this configuration
    Check(check::CheckArgs),
    /// Make the store anew from the topics (an empty or restored database), or the topics from the store
    /// (lost or resized topics). All workers must be stopped; interrupted, it is run again
    Rebuild(rebuild::RebuildArgs),
    /// Go through a range of the login topic once more, beside the workers: what is known by now (a platform,
    /// a secret, a follower) reaches logins of before. No code is sent again; --dry-run says what would be
    /// linked and asked, and changes nothing. Interrupted, it is gone on with by --resume
    Replay(Box<replay::ReplayArgs>),
    /// Ask WeChat about accounts of an official account that have no unionid, and, with --followers, about
    /// everybody who follows it; of other apps, say how many there are. Dry runs and jobs as of `replay`
    Backfill(Box<backfill::BackfillArgs>),
    /// Bring in a table of accounts (CSV, NDJSON): appid, openid, when first seen, unionid, external id;
    /// also what another installation exported
    Import(import::ImportArgs),
    /// Take out the account → user table (CSV, NDJSON)
    Export(export::ExportArgs),
    /// Look at dead letters, and put those back on the login topic that can end otherwise by now
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Show the apps; pause one, so that WeChat is asked nothing about it, or resume it
    #[command(subcommand)]
    App(app::AppCommand),
    /// Print what operators did: when, who, what, why, and what it came to
    Audit(audit::AuditArgs),
    /// Contested claims: list them, see what stands against each, decide
    #[command(subcommand)]
    Conflicts(conflicts::ConflictsCommand),
    /// A user: show it, explain it, split it, erase it
    #[command(subcommand)]
    User(user::UserCommand),
    /// Make a key file, or show its public keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// The WeChat simulator alone, to try unilink or a gateway against; POST /_sim/login with an
    /// appid and a person (a number) gives a code, GET /_sim/stats counts what was asked
    Simulate(simulate::SimulateArgs),
    /// Print the records of a topic, on either bus; whoever runs is not disturbed
    Tail(tail::TailArgs),
}

/// How long the end of the process waits for threads that still block.
const LINGER: Duration = Duration::from_secs(2);

/// Why a command did not do it; the text is for the person who typed it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Exit status 1.
    #[error("{0}")]
    Failed(String),
    /// Exit status 2.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// Wraps any error as a failure.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs the command that was typed; logs are started first.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(wrong) if wrong.use_stderr() => {
            eprint!("{}", mask::masked(&wrong.render().to_string()));
            return ExitCode::from(2);
        }
        // Help, or the version.
        Err(asked) => asked.exit(),
    };
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("unilink: {}", mask::masked(&failure.to_string()));
            match failure {
                Failure::Failed(_) => ExitCode::from(1),
                Failure::Usage(_) => ExitCode::from(2),
            }
        }
    }
}

fn start(cli: Cli) -> Result<(), Failure> {
    // The demo shows progress and a summary; the logs of its deliberate mishaps would bury them.
    let quiet = matches!(cli.command, Command::Demo(_)).then_some("error");
    let filter = std::env::var(telemetry::LOG_VARIABLE).ok();
    telemetry::start_logs(cli.common.log_format, filter.as_deref().or(quiet))
        .map_err(|e| Failure::Usage(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let outcome = runtime.block_on(run_command(cli));
    // What still blocks a thread (a call to a broker that is away) has nothing left to tell.
    runtime.shutdown_timeout(LINGER);
    outcome
}

async fn run_command(cli: Cli) -> Result<(), Failure> {
    let common = cli.common;
    match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Serve => serve::run(config(&common)?).await,
        Command::Intake => intake::run(config(&common)?).await,
        Command::Worker => worker::run(config(&common)?).await,
        Command::Api => api::run(config(&common)?).await,
        Command::Topics(args) => topics::run(config(&common)?, args).await,
        Command::Migrate => migrate::run(config(&common)?).await,
        Command::Check(args) => check::run(config(&common)?, args).await,
        Command::Rebuild(args) => rebuild::run(config(&common)?, args).await,
        Command::Replay(args) => replay::run(config(&common)?, *args).await,
        Command::Backfill(args) => backfill::run(config(&common)?, *args).await,
        Command::Import(args) => import::run(config(&common)?, args).await,
        Command::Export(args) => export::run(config(&common)?, args).await,
        Command::Dlq(command) => dlq::run(config(&common)?, command).await,
        Command::App(command) => app::run(config(&common)?, command).await,
        Command::Audit(args) => audit::run(config(&common)?, args).await,
        Command::Conflicts(command) => conflicts::run(config(&common)?, command).await,
        Command::User(command) => user::run(config(&common)?, command).await,
        Command::Keys(command) => keys::run(&command),
        Command::Simulate(args) => simulate::run(args).await,
        Command::Tail(args) => tail::run(config(&common)?, args).await,
    }
}

/// Loads and checks the configuration; whatever is wrong with it is wrong use.
fn config(common: &Common) -> Result<Config, Failure> {
    Config::load(common.config.as_deref(), &Environment::of_process())
        .map_err(|e| Failure::Usage(e.to_string()))
}
