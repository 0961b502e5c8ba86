//! `unilink serve`: intake, worker and look-ups in one process, on either profile.

use super::Failure;
use super::api::api_deps;
use super::assemble::{self, Parts};
use super::intake::{intake_deps, pushes};
use super::patience::patiently;
use super::reach::{Reach, logins, present};
use super::role::{Tasks, bind, front, local};
use crate::bus::Bus;
use crate::config::{Config, Profile};
use crate::http::{Door, Ops, lobby};
use crate::seal::Keys;
use crate::telemetry::Metrics;
use crate::{api, intake, shutdown, telemetry};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What probes are told before bus and store are there.
pub(super) const WAITING: &str = "waiting for bus and store";

/// Serves until a signal.
///
/// # Errors
/// An address is taken, the store cannot be used, or the worker found what no retry can help.
pub async fn run(config: Config) -> Result<(), Failure> {
    let stop = shutdown::on_signals().map_err(Failure::failed)?;
    let site = match config.profile {
        Profile::Embedded { .. } => None,
        Profile::Production { .. } => Some(Site::new(&config).await?),
    };
    let intake = bind(config.intake.listen, "intake.listen").await?;
    let api = bind(config.api.listen, "api.listen").await?;
    let Some(site) = site else {
        let parts = Arc::new(Parts::open(config, None).await?);
        return serve(&parts, intake, api, stop).await;
    };
    let limits = front(&config);
    let (intake_lobby, intake_door) = lobby(WAITING);
    let (api_lobby, api_door) = lobby(WAITING);
    let mut tasks = Tasks::new(&stop);
    tasks.listen(intake, intake_lobby, limits);
    tasks.listen(api, api_lobby, limits);
    let (doors, until) = ((intake_door, api_door), stop.clone());
    tasks.spawn(async move {
        match site.open(config, &until).await? {
            Some(parts) => all(&parts, doors, &until).await,
            None => Ok(()),
        }
    });
    tasks.ended().await
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
    tracing::info!(intake = %local(&intake), api = %local(&api), "listening");
    let limits = front(&parts.config);
    let (intake_lobby, intake_door) = lobby("starting");
    let (api_lobby, api_door) = lobby("starting");
    let mut tasks = Tasks::new(&stop);
    tasks.listen(intake, intake_lobby, limits);
    tasks.listen(api, api_lobby, limits);
    let (parts, until) = (Arc::clone(parts), stop.clone());
    tasks.spawn(async move { all(&parts, (intake_door, api_door), &until).await });
    tasks.ended().await
}

/// What production has before any service answers.
pub(super) struct Site {
    keys: Arc<Keys>,
    bus: Arc<dyn Bus>,
}

impl Site {
    /// Looks at everything that can be wrong without asking anybody.
    ///
    /// # Errors
    /// Keys, bus or store are not configured as they must be.
    pub(super) async fn new(config: &Config) -> Result<Self, Failure> {
        let keys = assemble::keys(config)?;
        assemble::seal_to(config, Some(&keys))?;
        assemble::signer(config, Some(&keys))?;
        assemble::needs_store(config)?;
        let bus = assemble::open_bus(config).await?;
        Ok(Self { keys, bus })
    }

    /// Opens the rest as soon as the services are there; `None` if `stop` came first.
    ///
    /// # Errors
    /// What no waiting can help; the text names the remedy.
    pub(super) async fn open(
        self,
        config: Config,
        stop: &CancellationToken,
    ) -> Result<Option<Arc<Parts>>, Failure> {
        let Self { keys, bus } = self;
        let connecting = patiently("the store", stop, || assemble::open_store(&config, &keys));
        let Some(store) = connecting.await? else {
            return Ok(None);
        };
        let wanted = config.topics.specs();
        let asking = patiently("the bus", stop, || present(&*bus, &wanted));
        if asking.await?.is_none() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Parts::new(config, keys, bus, store))))
    }
}

/// Lets requests in and works, until `stop`.
async fn all(
    parts: &Arc<Parts>,
    doors: (Door, Door),
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let metrics = telemetry::start_metrics().map_err(Failure::failed)?;
    let seal_to = assemble::seal_to(&parts.config, Some(&parts.keys))?;
    tracing::info!(apps = parts.apps.iter().count(), %seal_to, "serving");
    let mut tasks = Tasks::new(stop);
    // The worker outlives the intake by a moment, so that what was just accepted is linked already.
    tasks.work(parts)?;
    let (config, bus, ops) = (&parts.config, &parts.bus, ops(parts, &metrics, stop));
    let pushes = pushes(config, Some(&parts.keys))?;
    let deps = intake_deps(config, bus, (seal_to, pushes), ops.clone());
    doors.0.open(intake::router(deps));
    doors
        .1
        .open(api::router(api_deps(config, &parts.store, ops, stop)));
    tasks.ended().await
}

/// Ready is whoever reaches bus and store.
pub(super) fn ops(parts: &Parts, metrics: &Metrics, stop: &CancellationToken) -> Ops {
    let reach = Reach {
        bus: Some((Arc::clone(&parts.bus), logins(&parts.config.topics))),
        store: Some(Arc::clone(&parts.store)),
    };
    reach.ops(metrics, stop)
}
