//! The adapters of the production profile: Kafka and PostgreSQL, as they are configured.

use super::open::{birth, mac, namespace};
use crate::bus::Bus;
use crate::bus::kafka::{KafkaBus, KafkaSettings};
use crate::cli::Failure;
use crate::config::{Config, Kafka, Postgres};
use crate::seal::Keys;
use crate::store::postgres::{PostgresOptions, PostgresStore, migrate};
use crate::store::{Store, StoreError};
use std::sync::Arc;

/// The bus on Kafka; no broker is asked anything yet.
pub(super) fn open_kafka(config: &Config, kafka: &Kafka) -> Result<Arc<dyn Bus>, Failure> {
    let client = kafka.client.iter();
    let bus = KafkaBus::open(KafkaSettings {
        brokers: kafka.brokers.clone(),
        group: config.bus.group.clone(),
        input_topic: Arc::clone(&config.topics.logins),
        client: client
            .map(|(name, value)| (name.clone(), value.expose().to_owned()))
            .collect(),
        name: config.worker.name.clone(),
        replication: kafka.replication,
    });
    Ok(bus.map_err(Failure::failed)?)
}

/// The store on PostgreSQL, which has to be there, with its tables.
pub(super) async fn open_postgres(
    config: &Config,
    keys: &Arc<Keys>,
    postgres: &Postgres,
) -> Result<Arc<dyn Store>, StoreError> {
    let namespace = namespace(config, keys);
    let birth = birth(config, keys);
    let store = PostgresStore::connect(options(postgres), birth, namespace, mac(keys)).await?;
    Ok(Arc::new(store))
}

/// Brings the tables up to date; the names of the migrations that were applied.
///
/// # Errors
/// The database cannot be reached, or is of a newer version.
pub async fn migrate_postgres(postgres: &Postgres) -> Result<Vec<String>, Failure> {
    migrate(&options(postgres)).await.map_err(Failure::failed)
}

pub(super) fn options(postgres: &Postgres) -> PostgresOptions {
    PostgresOptions::new(postgres.url.expose().to_owned(), postgres.connections)
}
