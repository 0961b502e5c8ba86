//! The command line: one role per file, composed here and nowhere else. Logs go to stderr, results
//! to stdout. Exit status: 0 done, 1 failed, 2 wrong use.

pub mod assemble;
pub mod demo;
mod driver;
pub mod prepare;
mod report;
mod serve;
mod simulate;
mod tail;

use crate::config::{Config, Environment};
use crate::telemetry::{self, LogFormat};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// unilink makes one user of one person across a company's WeChat apps.
///
/// Gateways POST login events to the intake; a worker finds the unionid behind each openid, merges
/// the accounts that share it, and publishes who is who. Start with `unilink demo`.
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
    /// The configuration file of `serve` and `tail` [default: unilink.toml, if it exists]. Each key
    /// can be overridden by a variable `UNILINK_SECTION__KEY`
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
    /// Intake, worker and look-ups in one process, on one durable file (the embedded profile)
    Serve,
    /// The WeChat simulator alone, to try unilink or a gateway against; POST /_sim/login with an
    /// appid and a person (a number) gives a code, GET /_sim/stats counts what was asked
    Simulate(simulate::SimulateArgs),
    /// Print the records of a topic, from the store that the configuration names; a running `serve`
    /// is not disturbed
    Tail(tail::TailArgs),
}

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

/// Runs the command; logs are started first.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("unilink: {failure}");
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
    let common = cli.common;
    runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => demo::run(args).await,
            Command::Serve => serve::run(config(&common)?).await,
            Command::Simulate(args) => simulate::run(args).await,
            Command::Tail(args) => tail::run(config(&common)?, args).await,
        }
    })
}

/// Loads and checks the configuration; whatever is wrong with it is wrong use.
fn config(common: &Common) -> Result<Config, Failure> {
    Config::load(common.config.as_deref(), &Environment::of_process())
        .map_err(|e| Failure::Usage(e.to_string()))
}
