//! `unilink worker`: the consumer alone. HTTP is for probes and metrics only.

use super::Failure;
use super::role::{Tasks, alone, bind, local};
use super::serve::{Site, WAITING, ops};
use crate::config::Config;
use crate::http::{Listening, Service, lobby, service};
use crate::{shutdown, telemetry};

/// Works until a signal.
///
/// # Errors
/// The address is taken, bus or store are not the ones configured, or the worker found what no retry
/// can help.
pub async fn run(config: Config) -> Result<(), Failure> {
    alone(&config, "worker")?;
    let stop = shutdown::on_signals().map_err(Failure::failed)?;
    let site = Site::new(&config).await?;
    let listener = bind(config.worker.listen, "worker.listen").await?;
    let metrics = telemetry::start_metrics().map_err(Failure::failed)?;
    tracing::info!(probes = %local(&listener), name = config.worker.name.as_deref(), "starting to work");
    let (waiting, door) = lobby(WAITING);
    let mut tasks = Tasks::new(&stop);
    tasks.listen(listener, waiting, Listening::default());
    let until = stop.clone();
    tasks.spawn(async move {
        let Some(parts) = site.open(config, &until).await? else {
            return Ok(());
        };
        let mut working = Tasks::new(&until);
        working.work(&parts)?;
        let probes = Service {
            routes: Vec::new(),
            state: (),
            count: |_, _| {},
        };
        door.open(service(probes, ops(&parts, &metrics, &until)));
        working.ended().await
    });
    tasks.ended().await
}
