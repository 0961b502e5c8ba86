//! `unilink intake`: the front door alone. It needs the bus and a public key, and no database.

use super::Failure;
use super::assemble;
use super::prepare::Gatekeeper;
use super::reach::{Reach, logins};
use super::role::{Tasks, alone, bind, front, local};
use crate::bus::Bus;
use crate::config::Config;
use crate::http::{Keys, Ops};
use crate::intake::{self, IntakeDeps};
use crate::seal::PublicKey;
use crate::{clock, shutdown, telemetry};
use std::sync::Arc;

/// Takes logins until a signal.
///
/// # Errors
/// The address is taken, or bus or key are not configured as they must be.
pub async fn run(config: Config) -> Result<(), Failure> {
    alone(&config, "intake")?;
    let stop = shutdown::on_signals().map_err(Failure::failed)?;
    // Whoever is told the public key never sees the private one.
    let seal_to = match config.seal.seal_to {
        Some(_) => assemble::seal_to(&config, None)?,
        None => assemble::seal_to(&config, Some(&*assemble::keys(&config)?))?,
    };
    let bus = assemble::open_bus(&config).await?;
    let listener = bind(config.intake.listen, "intake.listen").await?;
    let metrics = telemetry::start_metrics().map_err(Failure::failed)?;
    tracing::info!(intake = %local(&listener), apps = config.apps().iter().count(), %seal_to,
        "taking logins");
    let reach = Reach {
        bus: Some((Arc::clone(&bus), logins(&config.topics))),
        store: None,
    };
    let deps = intake_deps(&config, &bus, seal_to, reach.ops(&metrics, &stop));
    let mut tasks = Tasks::new(&stop);
    tasks.listen(listener, intake::router(deps), front(&config));
    tasks.ended().await
}

/// What the intake is made of.
#[must_use]
pub fn intake_deps(
    config: &Config,
    bus: &Arc<dyn Bus>,
    seal_to: PublicKey,
    ops: Ops,
) -> IntakeDeps {
    IntakeDeps {
        bus: Arc::clone(bus),
        prepare: Arc::new(Gatekeeper::new(config, seal_to)),
        clock: clock::system(),
        keys: Keys::new(&config.intake.keys),
        limits: (&config.intake).into(),
        ops,
    }
}
