//! The composition: from a configuration to the parts that run. The only place that knows which
//! adapter stands behind which seam.

mod open;
mod operate;
mod pauses;
mod production;
mod rebuild;
mod tools;
mod upkeep;
mod worker;

pub use worker::signer;

pub use open::{
    embedded_bus, keys, needs_store, open_bus, open_file, open_store, open_to_rebuild, seal_to,
};
pub use operate::Operating;
pub use production::migrate_postgres;
pub use rebuild::site;
pub use tools::{Tools, Wish};

use super::Failure;
use crate::bus::Bus;
use crate::clock::{self, Clock};
use crate::config::{Config, Profile};
use crate::model::Apps;
use crate::resolve::pauses::Paused;
use crate::seal::Keys;
use crate::sqlite::Trace;
use crate::store::Store;
use crate::wire::Topics;
use std::sync::Arc;
use uuid::Uuid;

/// `ce_source` of what we tell, and of logins whose gateway gives no name.
pub const SOURCE: &str = "unilink";

/// The parts that worker, upkeep and look-ups share.
pub struct Parts {
    /// What was configured.
    pub config: Config,
    /// The apps.
    pub apps: Arc<Apps>,
    /// The keys.
    pub keys: Arc<Keys>,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// The apps that operators have paused.
    pub paused: Arc<Paused>,
    /// The company's secret namespace.
    pub namespace: Uuid,
}

impl Parts {
    /// Opens everything, or fails at once. `trace` sees the statements of the embedded profile.
    ///
    /// # Errors
    /// Keys, bus or store cannot be used; the text names the remedy.
    pub async fn open(config: Config, trace: Option<Arc<dyn Trace>>) -> Result<Self, Failure> {
        let keys = keys(&config)?;
        let (bus, store) = match &config.profile {
            Profile::Embedded { path } => {
                let file = open_file(path, trace).await?;
                let bus = embedded_bus(&config, Arc::clone(&file)).await?;
                let store = open::embedded_store(&config, &keys, file).await;
                (bus as Arc<dyn Bus>, store.map_err(Failure::failed)?)
            }
            Profile::Production { .. } => {
                let bus = open_bus(&config).await?;
                (bus, open_store(&config, &keys).await?)
            }
        };
        Ok(Self::new(config, keys, bus, store))
    }

    /// Puts together what is open already.
    #[must_use]
    pub fn new(config: Config, keys: Arc<Keys>, bus: Arc<dyn Bus>, store: Arc<dyn Store>) -> Self {
        Self {
            apps: Arc::new(config.apps()),
            namespace: open::namespace(&config, &keys),
            clock: clock::system(),
            paused: Arc::default(),
            keys,
            bus,
            store,
            config,
        }
    }

    /// The topics' names, as wire formats want them.
    #[must_use]
    pub fn topics(&self) -> Topics {
        wire_topics(&self.config)
    }
}

/// The topics' names, as wire formats want them.
#[must_use]
pub fn wire_topics(config: &Config) -> Topics {
    let topics = &config.topics;
    Topics {
        logins: Arc::clone(&topics.logins),
        account_links: Arc::clone(&topics.account_links),
        user_merges: Arc::clone(&topics.user_merges),
        registers: Arc::clone(&topics.registers),
        link_conflicts: Arc::clone(&topics.link_conflicts),
        linked_logins: topics.linked_logins.clone(),
        dlq: Arc::clone(&topics.dlq),
    }
}
