//! `unilink serve`: intake, worker and look-ups in one process.

use super::Failure;
use super::assemble::Parts;
use super::prepare::Gatekeeper;
use crate::api::{self, ApiDeps};
use crate::bus::Bus;
use crate::config::Config;
use crate::http::{self, Keys, Listening, Ops};
use crate::intake::{self, IntakeDeps};
use crate::telemetry::Metrics;
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
    let parts = Arc::new(Parts::open(config, None).await?);
    serve(&parts, intake, api, stop).await
}

/// Serves these parts on these listeners until `stop`.
///
/// # Errors
/// As [`run`].
pub async fn serve(
    parts: &Arc<Parts>,
    intake: TcpListener,
    api: TcpListener,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let metrics = telemetry::start_metrics().map_err(Failure::failed)?;
    let worker = parts.worker()?;
    tracing::info!(intake = %local(&intake), api = %local(&api), apps = parts.apps.iter().count(),
        seal_to = %parts.keys.hpke.current(), "serving");

    let mut roles: JoinSet<Result<(), Failure>> = JoinSet::new();
    let routes = intake::router(intake_deps(parts, &metrics));
    let until = stop.clone();
    roles.spawn(async move {
        http::serve(intake, routes, Listening::default(), until).await;
        Ok(())
    });
    let routes = api::router(api_deps(parts, &metrics, &stop));
    let until = stop.clone();
    roles.spawn(async move {
        http::serve(api, routes, Listening::default(), until).await;
        Ok(())
    });
    // The worker outlives the intake by a moment, so that what was just accepted is linked already.
    let working = stop.clone();
    roles.spawn(async move { worker.run(working).await.map_err(Failure::failed) });
    let (upkeep, until) = (Arc::clone(parts), stop.clone());
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
pub fn intake_deps(parts: &Arc<Parts>, metrics: &Metrics) -> IntakeDeps {
    let config = &parts.config.intake;
    IntakeDeps {
        bus: Arc::clone(&parts.bus) as Arc<dyn Bus>,
        prepare: Arc::new(Gatekeeper::new(parts)),
        clock: Arc::clone(&parts.clock),
        keys: Keys::new(&config.keys),
        limits: config.into(),
        ops: ops(parts, metrics),
    }
}

fn api_deps(parts: &Arc<Parts>, metrics: &Metrics, stop: &CancellationToken) -> ApiDeps {
    let config = &parts.config.api;
    ApiDeps {
        store: Arc::clone(&parts.store),
        apps: Arc::clone(&parts.apps),
        keys: Keys::new(&config.keys),
        max_in_flight: config.max_in_flight,
        stop: stop.clone(),
        ops: ops(parts, metrics),
    }
}

/// Ready is whoever reaches the store: bus and store are one file here.
fn ops(parts: &Arc<Parts>, metrics: &Metrics) -> Ops {
    let store = Arc::clone(&parts.store);
    Ops {
        ready: Arc::new(move || {
            let store = Arc::clone(&store);
            Box::pin(async move {
                let read = store.positions().await;
                read.map(drop)
                    .map_err(|_| "the store does not answer".to_owned())
            })
        }),
        metrics: metrics.clone(),
    }
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
