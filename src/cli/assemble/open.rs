//! Opening keys, bus and store, each by itself: a role opens what it needs and nothing else.

use super::production::{open_kafka, open_postgres, options};
use crate::bus::embedded::{EmbeddedBus, Settings as BusSettings};
use crate::bus::{Bus, TopicSpec};
use crate::cli::Failure;
use crate::cli::patience::Trouble;
use crate::config::{Config, Profile};
use crate::seal::{Keys, PublicKey};
use crate::sqlite::{File, Options, Trace};
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Birth, Mac, Rebuild, Store, StoreError};
use crate::wire::register::TOMBSTONE;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// The keys. The embedded profile makes the file on first use; in production several processes
/// have to share one, so that it must be there already.
///
/// # Errors
/// The file cannot be read or made, or is missing; the text names the remedy.
pub fn keys(config: &Config) -> Result<Arc<Keys>, Failure> {
    let path = &config.seal.key_file;
    let keys = match &config.profile {
        // A store without its keys: new ones would spend its codes again and open nothing of it.
        Profile::Embedded { path: store } if store.exists() && !path.exists() => {
            return Err(Failure::Failed(format!(
                "the key file {} is gone, and the store {} was made with it: restore it from your \
                 backup, or name it in seal.key_file",
                path.display(),
                store.display()
            )));
        }
        Profile::Embedded { .. } => Keys::load_or_create(path),
        Profile::Production { .. } if path.exists() => Keys::load(path),
        Profile::Production { .. } => {
            return Err(Failure::Failed(format!(
                "there is no key file at {0}: make it once with `unilink keys new {0}` and give every \
                 worker and look-up the same one, or name it in seal.key_file",
                path.display()
            )));
        }
    };
    keys.map(Arc::new).map_err(Failure::failed)
}

/// The public key that the intake seals to: the one configured, else the newest of the key file.
///
/// # Errors
/// What is configured is no key, or none that these keys can open.
pub fn seal_to(config: &Config, keys: Option<&Keys>) -> Result<PublicKey, Failure> {
    let configured = config.seal.seal_to.as_deref().map(PublicKey::parse);
    match (configured, keys) {
        (Some(Err(error)), _) => Err(Failure::Usage(format!(
            "seal.seal_to: {error}; write what `unilink keys show` prints"
        ))),
        (Some(Ok(key)), None) => Ok(key),
        (Some(Ok(key)), Some(keys)) if keys.hpke.public().any(|held| *held == key) => Ok(key),
        (Some(Ok(key)), Some(_)) => Err(Failure::Failed(format!(
            "seal.seal_to names key {}, which the key file {} does not hold: logins sealed to it \
             could not be opened. Correct one of the two",
            key.kid(),
            config.seal.key_file.display()
        ))),
        (None, Some(keys)) => Ok(keys.hpke.current().clone()),
        (None, None) => Err(Failure::Usage(
            "seal.seal_to is not set: write the public key that `unilink keys show` prints".into(),
        )),
    }
}

/// What user ids are made in.
pub(super) fn namespace(config: &Config, keys: &Keys) -> Uuid {
    config.identity.namespace.map_or(keys.namespace, |n| n.0)
}

pub(super) fn birth(config: &Config, keys: &Keys) -> Birth {
    let namespace = namespace(config, keys);
    let hash = Sha256::new()
        .chain_update(namespace.as_bytes())
        .chain_update(keys.ring.mac("store", namespace.as_bytes()));
    Birth {
        partitions: config.topics.logins_partitions,
        group: config.bus.group.clone(),
        secrets_hash: hash.finalize().into(),
    }
}

/// The same purpose as on `registers`, so that tombstones can be taken back from there.
pub(super) fn mac(keys: &Arc<Keys>) -> Mac {
    let keys = Arc::clone(keys);
    Arc::new(move |text: &str| keys.ring.mac(TOMBSTONE, text.as_bytes()))
}

/// Opens the file that holds log and store of the embedded profile.
///
/// # Errors
/// It cannot be opened or migrated.
pub async fn open_file(path: &Path, trace: Option<Arc<dyn Trace>>) -> Result<Arc<File>, Failure> {
    open_as(
        path,
        Options {
            trace,
            ..Options::default()
        },
    )
    .await
}

async fn open_as(path: &Path, options: Options) -> Result<Arc<File>, Failure> {
    File::open(path, options)
        .await
        .map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))
}

/// Opens the embedded bus on the file; topics that are missing are made.
///
/// # Errors
/// A topic exists with other settings.
pub async fn embedded_bus(config: &Config, file: Arc<File>) -> Result<Arc<EmbeddedBus>, Failure> {
    bus_on(config, file, config.topics.specs()).await
}

pub(super) async fn bus_on(
    config: &Config,
    file: Arc<File>,
    topics: Vec<TopicSpec>,
) -> Result<Arc<EmbeddedBus>, Failure> {
    let settings = BusSettings {
        input_topic: Arc::clone(&config.topics.logins),
        group: config.bus.group.clone(),
        topics,
    };
    EmbeddedBus::open(file, settings)
        .await
        .map_err(Failure::failed)
}

pub(super) async fn embedded_store(
    config: &Config,
    keys: &Arc<Keys>,
    file: Arc<File>,
) -> Result<Arc<dyn Store>, StoreError> {
    let namespace = namespace(config, keys);
    let store = SqliteStore::open(file, birth(config, keys), namespace, mac(keys)).await?;
    Ok(Arc::new(store))
}

/// Opens the bus alone, and creates nothing. Kafka need not be there yet.
///
/// # Errors
/// It is not configured, or its settings are wrong.
pub async fn open_bus(config: &Config) -> Result<Arc<dyn Bus>, Failure> {
    match &config.profile {
        Profile::Embedded { path } => Ok(bus_on(config, existing(path).await?, Vec::new()).await?),
        Profile::Production {
            kafka: Some(kafka), ..
        } => open_kafka(config, kafka),
        Profile::Production { kafka: None, .. } => Err(Failure::Usage(
            "bus.url is not set: this command needs the bus; write kafka://HOST:PORT,…".into(),
        )),
    }
}

/// Opens the store alone.
///
/// # Errors
/// [`Trouble::Later`] if it is not there now; anything else names the remedy.
pub async fn open_store(config: &Config, keys: &Arc<Keys>) -> Result<Arc<dyn Store>, Trouble> {
    match &config.profile {
        Profile::Embedded { path } => {
            let file = existing(path).await?;
            Ok(embedded_store(config, keys, file).await?)
        }
        Profile::Production {
            postgres: Some(postgres),
            ..
        } => Ok(open_postgres(config, keys, postgres).await?),
        Profile::Production { postgres: None, .. } => Err(no_store().into()),
    }
}

/// Opens the store for a rebuild, which changes what roles hold it against.
///
/// # Errors
/// As [`open_store`].
pub async fn open_to_rebuild(
    config: &Config,
    keys: &Arc<Keys>,
) -> Result<Arc<dyn Rebuild>, Trouble> {
    let (birth, namespace, mac) = (birth(config, keys), namespace(config, keys), mac(keys));
    match &config.profile {
        Profile::Embedded { path } => {
            let file = existing(path).await?;
            let store = SqliteStore::open_to_rebuild(file, birth, namespace, mac).await?;
            Ok(Arc::new(store))
        }
        Profile::Production {
            postgres: Some(postgres),
            ..
        } => {
            let options = options(postgres);
            let store = PostgresStore::connect_to_rebuild(options, birth, namespace, mac).await?;
            Ok(Arc::new(store))
        }
        Profile::Production { postgres: None, .. } => Err(no_store().into()),
    }
}

/// Whether the store is configured at all.
///
/// # Errors
/// It is not.
pub fn needs_store(config: &Config) -> Result<(), Failure> {
    match &config.profile {
        Profile::Production { postgres: None, .. } => Err(no_store()),
        _ => Ok(()),
    }
}

pub(super) fn no_store() -> Failure {
    Failure::Usage(
        "store.url is not set: this command needs the store; write \
         postgres://USER:PASSWORD@HOST/DATABASE"
            .into(),
    )
}

/// The embedded file, which has to be there: whoever only looks makes none.
async fn existing(path: &Path) -> Result<Arc<File>, Failure> {
    existing_as(path, Options::default()).await
}

/// The same, opened in a way of its own.
pub(super) async fn existing_as(path: &Path, options: Options) -> Result<Arc<File>, Failure> {
    if path.exists() {
        return open_as(path, options).await;
    }
    Err(Failure::Failed(format!(
        "there is no store at {}: set store.url, or start `unilink serve` first",
        path.display()
    )))
}
