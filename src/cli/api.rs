//! `unilink api`: the look-ups alone. They need the store, and no bus.

use super::Failure;
use super::assemble;
use super::patience::patiently;
use super::reach::Reach;
use super::role::{Tasks, alone, bind, front, local};
use crate::api::{self, ApiDeps};
use crate::config::Config;
use crate::http::{Keys, Ops, lobby};
use crate::store::{Store, StoreError};
use crate::{shutdown, telemetry};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the store is looked at, whether it is still the same.
const LOOK: Duration = Duration::from_secs(2);

/// Answers look-ups until a signal.
///
/// # Errors
/// The address is taken, or the store is not the one that is configured.
pub async fn run(config: Config) -> Result<(), Failure> {
    alone(&config, "api")?;
    let stop = shutdown::on_signals().map_err(Failure::failed)?;
    let keys = assemble::keys(&config)?;
    assemble::needs_store(&config)?;
    let listener = bind(config.api.listen, "api.listen").await?;
    let metrics = telemetry::start_metrics().map_err(Failure::failed)?;
    tracing::info!(api = %local(&listener), "answering look-ups");
    let (waiting, door) = lobby("waiting for the store");
    let mut tasks = Tasks::new(&stop);
    tasks.listen(listener, waiting, front(&config));
    let until = stop.clone();
    tasks.spawn(async move {
        let connecting = patiently("the store", &until, || assemble::open_store(&config, &keys));
        if let Some(store) = connecting.await? {
            let reach = Reach {
                bus: None,
                store: Some(Arc::clone(&store)),
            };
            let ops = reach.ops(&metrics, &until);
            door.open(api::router(api_deps(&config, &store, ops, &until)));
            return same(&*store, &until).await;
        }
        Ok(())
    });
    tasks.ended().await
}

/// Watches, until `stop`, that the store is the one that was opened: its epoch is in every answer.
///
/// # Errors
/// It is being rebuilt, or was, or is another. Whatever runs the look-ups starts them anew.
async fn same(store: &dyn Store, stop: &CancellationToken) -> Result<(), Failure> {
    while !stop.is_cancelled() {
        match store.same().await {
            Ok(()) | Err(StoreError::Unavailable(_)) => {}
            Err(StoreError::Mismatch(why) | StoreError::Corrupt(why)) => {
                let why =
                    format!("the look-ups end: {why}. Start them again once the store is in order");
                return Err(Failure::Failed(why));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// What the look-ups are made of.
#[must_use]
pub fn api_deps(
    config: &Config,
    store: &Arc<dyn Store>,
    ops: Ops,
    stop: &CancellationToken,
) -> ApiDeps {
    ApiDeps {
        store: Arc::clone(store),
        apps: Arc::new(config.apps()),
        keys: Keys::new(&config.api.keys),
        max_in_flight: config.api.max_in_flight,
        stop: stop.clone(),
        ops,
    }
}
