//! What operators' commands work with: a store that is there, and the parts around it.

use super::open::{birth, bus_on, existing_as, mac, namespace, no_store};
use super::production::options;
use super::{Parts, keys, open_bus};
use crate::bus::Bus;
use crate::cli::Failure;
use crate::config::{Config, Profile};
use crate::sqlite::Options;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Operate, Store};
use std::sync::Arc;

/// A store as operators' commands use it, beside whoever runs, and the parts made over it.
pub struct Operating {
    /// The parts.
    pub parts: Parts,
    /// The store of the parts.
    pub store: Arc<dyn Operate>,
}

impl Operating {
    /// Opens bus and store. Nothing is created and nothing brought up to date.
    ///
    /// # Errors
    /// Keys, bus or store are not there, are of another version, or are being rebuilt; the text names
    /// the remedy.
    pub async fn open(config: Config) -> Result<Self, Failure> {
        let file = match &config.profile {
            Profile::Embedded { path } => {
                let as_it_is = Options {
                    as_it_is: true,
                    ..Options::default()
                };
                Some(existing_as(path, as_it_is).await?)
            }
            Profile::Production { .. } => None,
        };
        let keys = keys(&config)?;
        let (space, born, mac) = (namespace(&config, &keys), birth(&config, &keys), mac(&keys));
        let (bus, store) = match (&config.profile, file) {
            (_, Some(file)) => {
                let bus: Arc<dyn Bus> = bus_on(&config, Arc::clone(&file), Vec::new()).await?;
                let store = SqliteStore::open_to_operate(file, born, space, mac).await;
                let store: Arc<dyn Operate> = Arc::new(store.map_err(Failure::failed)?);
                (bus, store)
            }
            (
                Profile::Production {
                    postgres: Some(postgres),
                    ..
                },
                None,
            ) => {
                let bus = open_bus(&config).await?;
                let options = options(postgres);
                let store = PostgresStore::connect_to_operate(options, born, space, mac).await;
                let store: Arc<dyn Operate> = Arc::new(store.map_err(Failure::failed)?);
                (bus, store)
            }
            _ => return Err(no_store()),
        };
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        Ok(Self {
            parts: Parts::new(config, keys, bus, shared),
            store,
        })
    }
}
