//! `unilink intake`: the front door alone. It needs the bus and a public key, and no database.

use super::Failure;
use super::assemble;
use super::prepare::{Eraser, Gatekeeper};
use super::reach::{Reach, logins};
use super::role::{Tasks, alone, bind, front, local};
use crate::bus::Bus;
use crate::config::{Config, Push, PushBody};
use crate::http::{self, Ops};
use crate::intake::{self, Erase, IntakeDeps, Pushes};
use crate::seal::{Keys, PublicKey};
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
    let keys = match config.seal.seal_to {
        Some(_) => None,
        None => Some(assemble::keys(&config)?),
    };
    let seal_to = assemble::seal_to(&config, keys.as_deref())?;
    let pushes = pushes(&config, keys.as_deref())?;
    let bus = assemble::open_bus(&config).await?;
    let listener = bind(config.intake.listen, "intake.listen").await?;
    let metrics = telemetry::start_metrics().map_err(Failure::failed)?;
    tracing::info!(intake = %local(&listener), apps = config.apps().iter().count(), %seal_to,
        "taking logins");
    let reach = Reach {
        bus: Some((Arc::clone(&bus), logins(&config.topics))),
        store: None,
    };
    let deps = intake_deps(&config, &bus, (seal_to, pushes), reach.ops(&metrics, &stop));
    let mut tasks = Tasks::new(&stop);
    tasks.listen(listener, intake::router(deps), front(&config));
    tasks.ended().await
}

/// The apps whose pushes are taken, with what signs their erasures and those that are posted: the
/// configured signer, else the newest operator of the key file.
///
/// # Errors
/// Some push erases, and nobody is there to sign for it, or no worker would obey who is.
pub fn pushes(config: &Config, keys: Option<&Keys>) -> Result<Pushes, Failure> {
    let apps = config.pushes.clone();
    for push in apps.iter().filter(|p| unsigned_bodies(p)) {
        tracing::warn!(app = %push.app, "WeChat does not sign the bodies of pushes in plain mode: \
            whoever sees one request can make others for 5 minutes, erasures too. Choose the encrypted \
            mode in the console and set encoding_aes_key");
    }
    let erases = apps.iter().find(|push| !push.erase_on.is_empty());
    match (assemble::signer(config, keys)?, erases) {
        (Some(signer), _) => {
            let eraser: Arc<dyn Erase> = Arc::new(Eraser::new(config, signer));
            Ok(Pushes::new(apps, Some(eraser)))
        }
        (None, None) => Ok(Pushes::new(apps, None)),
        (None, Some(push)) => Err(Failure::Usage(format!(
            "apps ({}).push: its events erase accounts, and there is no key to sign erasures with: \
             `unilink keys operator ID` prints an [intake.signer]; or set erase_on = []",
            push.app
        ))),
    }
}

fn unsigned_bodies(push: &Push) -> bool {
    matches!(push.body, PushBody::Plain) && !push.erase_on.is_empty()
}

/// What the intake is made of.
#[must_use]
pub fn intake_deps(
    config: &Config,
    bus: &Arc<dyn Bus>,
    (seal_to, pushes): (PublicKey, Pushes),
    ops: Ops,
) -> IntakeDeps {
    IntakeDeps {
        bus: Arc::clone(bus),
        prepare: Arc::new(Gatekeeper::new(config, seal_to)),
        clock: clock::system(),
        keys: http::Keys::new(&config.intake.keys),
        limits: (&config.intake).into(),
        pushes,
        cloud_run: config.intake.cloud_run,
        ops,
    }
}
