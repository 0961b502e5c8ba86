//! `unilink simulate`: the WeChat stand-in alone.

use super::Failure;
use crate::cli::shown::say_line;
use crate::clock;
use crate::shutdown;
use crate::simulate::{Api, Scope, Settings, Simulator, World, server};
use clap::Args;
use std::fmt::Display;
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
    /// day_limit, refused (after errcode=N), hang, http_500, truncated, control_bytes, empty, html, cut, spent_hang, spent_cut,
    /// string_errcode, token_dies (probabilities), latency, jitter (milliseconds), seed. In front, an
    /// appid, a path or both narrow it, and replace there what holds everywhere:
    /// /cgi-bin/user/info:busy=0.1
    #[arg(long = "fault", value_name = "[PLACE:]NAME=VALUE")]
    faults: Vec<String>,
    /// How long app tokens live, in seconds
    #[arg(long, default_value_t = 7200, value_name = "SECONDS",
        value_parser = clap::value_parser!(i64).range(1..=7200))]
    token_life: i64,
    /// How many people cgi-bin/user/get lists the followers of
    #[arg(long, default_value_t = 10_000, value_name = "N",
        value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    people: u64,
    /// Let apps call as often as they like; otherwise WeChat's documented limits hold
    #[arg(long)]
    no_limits: bool,
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
        say_line!(
            "[wechat]\nbase_url = \"http://{}\"\n\n{}",
            args.listen,
            world.toml()
        );
        return Ok(());
    }
    let settings = Settings {
        token_life_ms: args.token_life * 1_000,
        people: args.people,
        documented_limits: !args.no_limits,
        ..Settings::default()
    };
    let sim = Arc::new(Simulator::new(world, settings, clock::system()));
    set_faults(&sim, &args.faults)?;
    let stop = shutdown::on_signals().map_err(Failure::failed)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|e| Failure::Failed(format!("cannot listen on {}: {e}", args.listen)))?;
    tracing::info!(address = %args.listen, "WeChat simulated; POST /_sim/login gives codes, GET /_sim/stats counts");
    server::serve(listener, sim, async move { stop.cancelled().await })
        .await
        .map_err(Failure::failed)
}

/// Puts the faults of `[appid][/path:]name=value` flags in force.
///
/// # Errors
/// Wrong use: an unknown name, app or API, or a value out of bounds.
pub fn set_faults(sim: &Simulator, flags: &[String]) -> Result<(), Failure> {
    for flag in flags {
        let wrong = |what: &dyn Display| Failure::Usage(format!("--fault {flag}: {what}"));
        let (scope, fault) = match flag.rsplit_once(':') {
            Some((place, fault)) => (scope(sim, place).map_err(|e| wrong(&e))?, fault),
            None => (Scope::default(), flag.as_str()),
        };
        let mut faults = sim.faults_in(scope).unwrap_or_default();
        faults.set(fault).map_err(|e| wrong(&e))?;
        sim.set_faults_in(scope, Some(faults))
            .map_err(|e| wrong(&e))?;
    }
    Ok(())
}

/// Reads an appid, a path, or both in this order.
fn scope(sim: &Simulator, place: &str) -> Result<Scope, String> {
    let (appid, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let mut scope = Scope::default();
    if !appid.is_empty() {
        let app = sim.world().number(appid);
        scope.app = Some(app.ok_or_else(|| format!("this world has no app {appid}"))?);
    }
    if !path.is_empty() {
        let api = Api::at(path);
        scope.api = Some(api.ok_or_else(|| format!("there is no API at {path}"))?);
    }
    Ok(scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_set_where_they_are_meant() {
        let world = World::new(1).unwrap();
        let app = world.numbers().next();
        let appid = world.sim_apps()[0].id.to_string();
        let sim = Simulator::new(world, Settings::default(), clock::system());
        let api = Some(Api::Token);
        let flags = [
            "busy=0.1".to_owned(),
            "/cgi-bin/token:cut=0.2".to_owned(),
            "/cgi-bin/token:hang=0.3".to_owned(),
            format!("{appid}:busy=0.4"),
            format!("{appid}/cgi-bin/token:busy=0.5"),
        ];
        set_faults(&sim, &flags).unwrap();
        let of = |app, api| sim.faults_in(Scope { app, api }).unwrap();
        assert_eq!(sim.faults().busy, 0.1);
        let both = of(None, api);
        assert_eq!((both.cut, both.hang, both.busy), (0.2, 0.3, 0.0));
        assert_eq!((of(app, None).busy, of(app, api).busy), (0.4, 0.5));
        for bad in ["wx0:busy=1", "/cgi-bin:busy=1", ":busy=2", "rain=1"] {
            assert!(set_faults(&sim, &[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
