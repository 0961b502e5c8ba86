//! `unilink demo`: everything in one process, on a fresh store.

use super::Failure;
use super::assemble::Parts;
use super::driver::Driver;
use super::report::Report;
use super::serve::serve;
use super::simulate::set_faults;
use crate::cli::shown::{say_line, say_text};
use crate::clock;
use crate::config::{Config, Environment};
use crate::shutdown;
use crate::simulate::{Population, Settings, Simulator, World, server};
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many people log in
    #[arg(long, default_value_t = 10_000, value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    people: u64,
    /// Chooses people, their logins and their ids
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// A fault of the simulated WeChat, as `unilink simulate --help` names them; repeatable
    #[arg(long = "fault", value_name = "[PLACE:]NAME=VALUE")]
    faults: Vec<String>,
    /// Keep the store in this directory, to look at with `unilink tail`; it must not hold one yet
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the demo.
///
/// # Errors
/// Something could not be started, or the result is not as it should be.
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    let stop = shutdown::on_signals().map_err(Failure::failed)?;
    let scratch = match &args.keep {
        Some(dir) => Scratch::Kept(kept(dir)?),
        None => Scratch::Temporary(tempfile::tempdir().map_err(Failure::failed)?),
    };
    let world = World::new(args.seed).map_err(Failure::failed)?;
    let sim = Arc::new(Simulator::new(world, Settings::default(), clock::system()));
    set_faults(&sim, &args.faults)?;
    let wechat = listen().await?;
    let text = configuration(scratch.path(), &address(&wechat)?, &sim);
    let file = scratch.path().join("unilink.toml");
    std::fs::write(&file, &text).map_err(Failure::failed)?;
    let config = Config::read(&text, "the demo's configuration", &Environment::default())
        .map_err(Failure::failed)?;

    let begun = Instant::now();
    let end = CancellationToken::new();
    let simulated = tokio::spawn(server::serve(
        wechat,
        Arc::clone(&sim),
        end.clone().cancelled_owned(),
    ));
    let (intake, api) = (listen().await?, listen().await?);
    let base = address(&intake)?;
    let parts = Arc::new(Parts::open(config, None).await?);
    let (shared, until) = (Arc::clone(&parts), end.clone());
    let served = tokio::spawn(async move { serve(&shared, intake, api, until).await });

    let population = Population::new(args.people, args.seed).in_every_way();
    let driver = Driver {
        sim: Arc::clone(&sim),
        population,
        intake: base,
        parts: Arc::clone(&parts),
    };
    let posted = drive(&driver, &stop).await;
    end.cancel();
    served.await.map_err(Failure::failed)??;
    simulated
        .await
        .map_err(Failure::failed)?
        .map_err(Failure::failed)?;
    let report = Report::make(&parts, &sim, population, posted?, begun.elapsed()).await?;
    print(&report, &args, &file)?;
    if report.perfect() {
        Ok(())
    } else {
        Err(Failure::Failed(
            "the result is not what the simulator knows to be true".to_owned(),
        ))
    }
}

async fn drive(
    driver: &Driver,
    stop: &CancellationToken,
) -> Result<super::driver::Posted, Failure> {
    let posted = driver.run(stop).await?;
    driver.settle(stop).await?;
    Ok(posted)
}

enum Scratch {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Scratch {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

fn kept(dir: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(dir)
        .map_err(|e| Failure::Usage(format!("--keep {}: {e}", dir.display())))?;
    if dir.join(STORE).exists() {
        return Err(Failure::Usage(format!(
            "--keep {}: holds a store already; the demo wants a fresh one",
            dir.display()
        )));
    }
    Ok(dir.to_owned())
}

/// The store's file in the demo's directory.
const STORE: &str = "unilink.db";

async fn listen() -> Result<TcpListener, Failure> {
    TcpListener::bind(("127.0.0.1", 0))
        .await
        .map_err(Failure::failed)
}

fn address(listener: &TcpListener) -> Result<String, Failure> {
    let address = listener.local_addr().map_err(Failure::failed)?;
    Ok(format!("http://{address}"))
}

/// The configuration that somebody would write to serve this world.
fn configuration(dir: &Path, wechat: &str, sim: &Simulator) -> String {
    let quoted = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    format!(
        "[store]\nurl = {:?}\n\n[seal]\nkey_file = {}\n\n[wechat]\nbase_url = \"{wechat}\"\n\n{}",
        format!("sqlite:{}", dir.join(STORE).display()),
        quoted("unilink.keys"),
        sim.world().toml()
    )
}

fn print(report: &Report, args: &DemoArgs, file: &Path) -> Result<(), Failure> {
    if args.json {
        say_line!(
            "{}",
            serde_json::to_string_pretty(report).map_err(Failure::failed)?
        );
        return Ok(());
    }
    say_text!("{}", report.text());
    if args.keep.is_some() {
        say_line!(
            "\nLook at the result: unilink --config {} tail",
            file.display()
        );
    }
    Ok(())
}
