//! Throughput and peak memory of the embedded profile, beside the rate of the run's own recorded SQL
//! replayed without logic: how much of what SQLite can do on this machine is left of it once events
//! are checked, sealed, opened, decrypted, planned and relayed.
//!
//! `cargo bench --bench embedded -- --events 1000000`
//!
//! Each phase is a process of its own, so that its peak memory is its own: `generate` writes the
//! events as gateways would send them; `run` prepares, publishes, applies and relays them, timed from
//! the first publish until everything is relayed and the worker has stopped; `record` does the same
//! and writes every statement down; `replay` executes those on a fresh file, timed.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a benchmark may stop, and rounds"
)]

mod generate;
mod measure;
mod replay;
mod run;
mod trace;

use clap::{Parser, ValueEnum};
use measure::Measured;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The goal: of the replay's rate, and bytes of memory.
const GOAL_RATIO: f64 = 0.6;
const GOAL_MIB: f64 = 200.0;

#[derive(Parser, Clone)]
struct Options {
    /// How many events
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Only the run, without recording and replaying its statements
    #[arg(long)]
    run_only: bool,
    /// Where the files go (some 6 GB for a million events) [default: the system's temporary directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    #[arg(long, hide = true)]
    phase: Option<Phase>,
    /// `cargo bench` says so.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Phase {
    Generate,
    Run,
    Record,
    Replay,
}

fn main() {
    let options = Options::parse();
    if let (Some(phase), Some(dir)) = (options.phase, &options.dir) {
        let measured = child(phase, dir, options.events);
        println!("{}", serde_json::to_string(&measured).expect("JSON"));
        return;
    }
    let at = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::tempdir_in(at).expect("a directory");
    phase(Phase::Generate, &options, dir.path());
    let run = phase(Phase::Run, &options, dir.path());
    let replay = (!options.run_only).then(|| {
        phase(Phase::Record, &options, dir.path());
        phase(Phase::Replay, &options, dir.path())
    });
    report(&options, &run, replay.as_ref());
}

fn child(phase: Phase, dir: &Path, events: u64) -> Measured {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match phase {
        Phase::Generate => {
            generate::write(dir, events);
            Measured::default()
        }
        Phase::Run => runtime.block_on(run::run(dir, events, false)),
        Phase::Record => runtime.block_on(run::run(dir, events, true)),
        Phase::Replay => runtime.block_on(replay::replay(dir)),
    }
}

/// Runs a phase in a process of its own.
fn phase(phase: Phase, options: &Options, dir: &Path) -> Measured {
    let name = phase.to_possible_value().expect("a name");
    eprintln!("{} …", name.get_name());
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--phase", name.get_name(), "--events"])
        .arg(options.events.to_string())
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "{} failed", name.get_name());
    serde_json::from_slice(&output.stdout).expect("figures")
}

fn report(options: &Options, run: &Measured, replay: Option<&Measured>) {
    let rate = |m: &Measured| options.events as f64 / m.seconds;
    let ratio = replay.map(|replay| rate(run) / rate(replay));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    if options.json {
        let figures = serde_json::json!({
            "events": options.events, "cores": cores, "ratio": ratio, "run": run, "replay": replay,
            "run_events_per_s": rate(run), "replay_events_per_s": replay.map(rate),
        });
        println!("{figures:#}");
        return;
    }
    println!("{} events, {cores} cores", options.events);
    println!("          events/s   seconds   CPU s   peak MiB");
    let line = |name: &str, m: &Measured| {
        println!(
            "{name:<8} {:>9.0} {:>9.1} {:>7.1} {:>10.1}",
            rate(m),
            m.seconds,
            m.cpu_seconds,
            m.peak_mib
        );
    };
    line("run", run);
    if let (Some(replay), Some(ratio)) = (replay, ratio) {
        line("replay", replay);
        println!("ratio {ratio:.2} (goal {GOAL_RATIO})");
    }
    println!(
        "peak memory of the run {:.0} MiB (goal {GOAL_MIB})",
        run.peak_mib
    );
}
