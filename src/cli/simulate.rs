//! `unilink simulate`: the WeChat stand-in alone.

use super::Failure;
use crate::clock;
use crate::shutdown;
use crate::simulate::{Faults, Settings, Simulator, World, server};
use clap::Args;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Options of `simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Chooses the world: apps, openids, unionids, keys
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// A fault and how likely it is, or how slow answers are; repeatable. Names: busy, minute_limit,
    /// hang, http_500, truncated, control_bytes, empty, html, cut, spent_hang, spent_cut,
    /// string_errcode (probabilities), latency, jitter (milliseconds), seed
    #[arg(long = "fault", value_name = "NAME=VALUE")]
    faults: Vec<String>,
    /// Print the `[wechat]`, `[[platforms]]` and `[[apps]]` for unilink.toml, and end
    #[arg(long)]
    print_config: bool,
}

/// Serves until a signal.
///
/// # Errors
/// A fault that does not exist, or an address that is taken.
pub async fn run(args: SimulateArgs) -> Result<(), Failure> {
    let world = World::new(args.seed).map_err(Failure::failed)?;
    if args.print_config {
        println!(
            "[wechat]\nbase_url = \"http://{}\"\n\n{}",
            args.listen,
            world.toml()
        );
        return Ok(());
    }
    let sim = Arc::new(Simulator::new(world, Settings::default(), clock::system()));
    sim.set_faults(faults(&args.faults)?)
        .map_err(|e| Failure::Usage(e.to_string()))?;
    let stop = shutdown::on_signals().map_err(Failure::failed)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|e| Failure::Failed(format!("cannot listen on {}: {e}", args.listen)))?;
    tracing::info!(address = %args.listen, "WeChat simulated; POST /_sim/login gives codes, GET /_sim/stats counts");
    server::serve(listener, sim, async move { stop.cancelled().await })
        .await
        .map_err(Failure::failed)
}

/// Reads `name=value` flags.
///
/// # Errors
/// Wrong use: an unknown name or a value out of bounds.
pub fn faults(flags: &[String]) -> Result<Faults, Failure> {
    let mut faults = Faults::default();
    for flag in flags {
        faults
            .set(flag)
            .map_err(|e| Failure::Usage(format!("--fault {flag}: {e}")))?;
    }
    Ok(faults)
}
