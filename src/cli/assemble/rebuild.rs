//! A rebuild, from the configuration.

use super::worker::decoder;
use super::{SOURCE, keys, open, open_bus, open_to_rebuild, wire_topics};
use crate::cli::Failure;
use crate::clock;
use crate::config::Config;
use crate::link::Rules;
use crate::rebuild::{Site, Watch};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Opens what a rebuild is made of.
///
/// # Errors
/// Keys, bus or store cannot be used; the text names the remedy.
pub async fn site(config: &Config, watch: Arc<dyn Watch>) -> Result<Site, Failure> {
    let keys = keys(config)?;
    let apps = Arc::new(config.apps());
    Ok(Site {
        bus: open_bus(config).await?,
        store: open_to_rebuild(config, &keys).await?,
        decoder: decoder(config, &apps, &keys)?,
        rules: Rules {
            namespace: open::namespace(config, &keys),
            apps,
        },
        topics: wire_topics(config),
        birth: open::birth(config, &keys),
        read_ahead: config.worker.in_flight,
        source: SOURCE.to_owned(),
        clock: clock::system(),
        keys,
        watch,
        stop: CancellationToken::new(),
    })
}
