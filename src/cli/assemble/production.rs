//! The adapters of the production profile: Kafka and PostgreSQL, as they are configured.

use crate::bus::Bus;
use crate::cli::Failure;
use crate::config::{Config, Kafka, Postgres};
use crate::seal::Keys;
use crate::store::{Store, StoreError};
use std::sync::Arc;

pub(super) fn open_kafka(_config: &Config, _kafka: &Kafka) -> Result<Arc<dyn Bus>, Failure> {
    Err(Failure::Failed("Kafka is not in this build".to_owned()))
}

pub(super) async fn open_postgres(
    _config: &Config,
    _keys: &Arc<Keys>,
    _postgres: &Postgres,
) -> Result<Arc<dyn Store>, StoreError> {
    Err(StoreError::Mismatch(
        "PostgreSQL is not in this build".to_owned(),
    ))
}

pub async fn migrate_postgres(_postgres: &Postgres) -> Result<Vec<String>, Failure> {
    Err(Failure::Failed(
        "PostgreSQL is not in this build".to_owned(),
    ))
}
