//! `unilink serve`: intake, worker and look-ups in one process.

use super::Failure;
use super::assemble::Parts;
use super::prepare::Gatekeeper;
use crate::api::{self, ApiDeps};
use crate::bus::Bus;
use crate::config::Config;
use crate::intake::{self, IntakeDeps};
use crate::{shutdown, telemetry};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Serves until a signal.
///
/// # Errors
/// An address is taken, the store cannot be used, or the worker found what no retry can help.
pub async fn run(config: Config) -> Result<(), Failure> {
    let stop = shutdown::on_signals().map_err(Failure::failed)?;
    let intake = bind(config.intake.listen, "intake.listen").await?;
    let api = bind(config.api.listen, "api.listen").await?;
    serve(config, intake, api, stop).await
}

/// Serves on these listeners until `stop`.
///
/// # Errors
/// As [`run`].
pub async fn serve(
    config: Config,
    intake: TcpListener,
    api: TcpListener,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let metrics = telemetry::start_metrics().map_err(Failure::failed)?;
    let parts = Arc::new(Parts::open(config, None).await?);
    let worker = parts.worker()?;
    tracing::info!(intake = %local(&intake), api = %local(&api), apps = parts.apps.iter().count(),
        "serving");

    let mut roles: JoinSet<Result<(), Failure>> = JoinSet::new();
    let routes = intake::router(intake_deps(&parts, &metrics));
    roles.spawn(http(intake, routes, stop.clone()));
    let routes = api::router(api_deps(&parts, &metrics));
    roles.spawn(http(api, routes, stop.clone()));
    // The worker outlives the intake by a moment, so that what was just accepted is linked already.
    let working = stop.clone();
    roles.spawn(async move { worker.run(working).await.map_err(Failure::failed) });
    let (upkeep, until) = (Arc::clone(&parts), stop.clone());
    roles.spawn(async move {
        upkeep.upkeep(until).await;
        Ok(())
    });
    let mut outcome = Ok(());
    while let Some(ended) = roles.join_next().await {
        let ended = ended.unwrap_or_else(|e| Err(Failure::failed(e)));
        // One role's end is everybody's: a process that half works is worse than none.
        stop.cancel();
        outcome = outcome.and(ended);
    }
    outcome
}

/// What the intake needs.
#[must_use]
pub fn intake_deps(parts: &Arc<Parts>, metrics: &telemetry::Metrics) -> IntakeDeps {
    IntakeDeps {
        config: parts.config.intake.clone(),
        bus: Arc::clone(&parts.bus) as Arc<dyn Bus>,
        prepare: Arc::new(Gatekeeper::new(parts)),
        clock: Arc::clone(&parts.clock),
        metrics: metrics.clone(),
    }
}

fn api_deps(parts: &Arc<Parts>, metrics: &telemetry::Metrics) -> ApiDeps {
    ApiDeps {
        config: parts.config.api.clone(),
        store: Arc::clone(&parts.store),
        apps: Arc::clone(&parts.apps),
        metrics: metrics.clone(),
    }
}

async fn http(
    listener: TcpListener,
    routes: axum::Router,
    stop: CancellationToken,
) -> Result<(), Failure> {
    intake::serve(listener, routes, stop).await.map_err(Failure::failed)
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|e| Failure::Failed(format!("{key}: cannot listen on {address}: {e}")))
}

fn local(listener: &TcpListener) -> String {
    listener
        .local_addr()
        .map_or_else(|_| "?".to_owned(), |a| a.to_string())
}
