//! The composition: from a configuration to the parts that run. The only place that knows which
//! adapter stands behind which seam.

use super::Failure;
use crate::bus::embedded::{EmbeddedBus, Settings as BusSettings};
use crate::bus::{Bus, TopicSpec};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::link::Rules;
use crate::model::{Apps, Millis};
use crate::resolve::exchange::Exchange;
use crate::resolve::gate::{Gates, Limits};
use crate::resolve::ladder::Ladder;
use crate::resolve::ports::Memory;
use crate::resolve::wechat::{Client, Timeouts};
use crate::seal::Keys;
use crate::sqlite::{File, Trace};
use crate::store::sqlite::SqliteStore;
use crate::store::{Birth, Prune, Store};
use crate::telemetry;
use crate::wire::{OperatorKeys, Signer, Topics};
use crate::worker::memory::StoreMemory;
use crate::worker::{Decoder, InFlight, Records, Settings, Worker};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// `ce_source` of what we tell, and of logins whose gateway gives no name.
pub const SOURCE: &str = "unilink";
/// Bytes read and not yet published: bounds memory whatever the backlog.
const IN_FLIGHT_BYTES: usize = 24 << 20;
/// How often old records, notes and markers are removed.
const UPKEEP: Duration = Duration::from_secs(60);
/// How often the gauges of waiting work are brought up to date.
const GAUGES: Duration = Duration::from_secs(5);
/// Fates of events are kept for a day (the look-up promises it).
const TRACKED_MS: i64 = 24 * 3_600_000;
/// Session keys of accounts that stay unresolved; WeChat's own die much sooner.
const SESSION_KEYS_MS: i64 = 30 * 24 * 3_600_000;
/// Dead letters can be redriven while they last; the ledger lasts longer than both topics.
const LEDGER_SLACK_MS: i64 = 24 * 3_600_000;

/// The parts that every role shares.
pub struct Parts {
    /// What was configured.
    pub config: Config,
    /// The apps.
    pub apps: Arc<Apps>,
    /// The keys.
    pub keys: Arc<Keys>,
    /// The bus.
    pub bus: Arc<EmbeddedBus>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// The company's secret namespace.
    pub namespace: Uuid,
}

impl Parts {
    /// Opens everything.
    ///
    /// # Errors
    /// Keys, file or store cannot be used; the text names the remedy.
    pub async fn open(config: Config, trace: Option<Arc<dyn Trace>>) -> Result<Self, Failure> {
        let keys = Arc::new(Keys::load_or_create(&config.seal.key_file).map_err(Failure::failed)?);
        let namespace = config.identity.namespace.map_or(keys.namespace, |n| n.0);
        let file = open_file(&config.store.path, trace).await?;
        let bus = open_bus(&config, Arc::clone(&file)).await?;
        let birth = Birth {
            partitions: config.topics.logins_partitions,
            group: config.bus.group.clone(),
            namespace_hash: Sha256::digest(namespace.as_bytes()).into(),
        };
        let ring = Arc::clone(&keys);
        let mac = Arc::new(move |text: &str| ring.ring.mac("account", text.as_bytes()));
        let store = SqliteStore::open(file, birth, namespace, mac)
            .await
            .map_err(Failure::failed)?;
        Ok(Self {
            apps: Arc::new(config.apps()),
            keys,
            bus,
            store: Arc::new(store),
            clock: clock::system(),
            namespace,
            config,
        })
    }

    /// The worker.
    ///
    /// # Errors
    /// The WeChat client cannot be made (a base URL that is none).
    pub fn worker(&self) -> Result<Arc<Worker>, Failure> {
        let config = &self.config;
        let decoder = Decoder {
            apps: Arc::clone(&self.apps),
            keys: Arc::clone(&self.keys),
            operators: self.operators()?,
            require_sealed: config.intake.require_sealed,
        };
        let records = self.records();
        Ok(Arc::new(Worker {
            bus: Arc::clone(&self.bus) as Arc<dyn Bus>,
            store: Arc::clone(&self.store),
            decoder: Arc::new(decoder),
            ladder: Arc::new(self.ladder()?),
            rules: Rules {
                namespace: self.namespace,
                apps: Arc::clone(&self.apps),
            },
            records,
            clock: Arc::clone(&self.clock),
            settings: Settings {
                logins: Arc::clone(&config.topics.logins),
                links: Arc::clone(&config.topics.account_links),
                batch_size: config.worker.batch,
                in_flight: InFlight {
                    records: config.worker.in_flight,
                    bytes: IN_FLIGHT_BYTES,
                },
                deferred_limit: config.worker.deferred_per_app,
                poll: config.worker.poll,
            },
        }))
    }

    fn ladder(&self) -> Result<Ladder, Failure> {
        let (wechat, worker) = (&self.config.wechat, &self.config.worker);
        let timeouts = Timeouts {
            total: wechat.timeout,
            connect: wechat.connect_timeout,
            ..Timeouts::default()
        };
        let client = Client::new(&wechat.base_url, timeouts).map_err(Failure::failed)?;
        let memory: Arc<dyn Memory> = Arc::new(StoreMemory::new(&self.store));
        let gates = Arc::new(Gates::new(Limits {
            per_app: worker.http_per_app,
            total: worker.http_total,
        }));
        let exchange = Exchange::new(
            client,
            Arc::clone(&memory),
            Arc::clone(&self.keys),
            gates,
            Arc::clone(&self.clock),
            wechat.timeout,
        );
        Ok(Ladder::new(
            Arc::clone(&self.apps),
            Arc::clone(&self.keys),
            Arc::new(exchange),
            memory,
            Arc::clone(&self.clock),
            worker.inline_budget,
        ))
    }

    fn records(&self) -> Records {
        Records::new(
            self.topics(),
            self.config.topics.logins_partitions,
            self.store.identity().epoch,
            SOURCE.to_owned(),
            Arc::clone(&self.keys),
        )
    }

    /// The topics' names, as wire formats want them.
    #[must_use]
    pub fn topics(&self) -> Topics {
        let topics = &self.config.topics;
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

    /// Whose decisions are obeyed: the configured operators, and whoever holds the key file.
    fn operators(&self) -> Result<OperatorKeys, Failure> {
        let own = self.keys.operators.iter();
        let own: Vec<String> = own.map(|k| Signer::new(&k.id, &k.key).public()).collect();
        let mut keys =
            OperatorKeys::parse(own.iter().map(String::as_str)).map_err(Failure::failed)?;
        for operator in &self.config.operators {
            keys.add(&operator.id, operator.key);
        }
        Ok(keys)
    }

    /// Removes what is old, and keeps the gauges, until `stop`.
    pub async fn upkeep(&self, stop: CancellationToken) {
        let mut last = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(GAUGES) => {}
            }
            self.gauges().await;
            if last.elapsed() >= UPKEEP {
                last = tokio::time::Instant::now();
                self.prune().await;
            }
        }
    }

    async fn gauges(&self) {
        match self.store.deferred_by_app().await {
            Ok(waiting) => {
                for app in self.apps.iter() {
                    #[allow(clippy::cast_precision_loss)] // far below 2^52
                    let count = waiting.get(&app.id).copied().unwrap_or(0) as f64;
                    metrics::gauge!(telemetry::DEFERRED, "app" => app.id.to_string()).set(count);
                }
            }
            Err(error) => tracing::warn!(%error, "the gauges of waiting work are stale"),
        }
    }

    async fn prune(&self) {
        let now = (self.clock)();
        let topics = &self.config.topics;
        let longest = topics.logins_kept.max(topics.dlq_kept).as_millis();
        let ledger_ms = i64::try_from(longest).unwrap_or(i64::MAX / 2) + LEDGER_SLACK_MS;
        let what = Prune {
            tracked_before: Millis(now.0 - TRACKED_MS),
            ledger_before: Millis(now.0 - ledger_ms),
            session_keys_before: Millis(now.0 - SESSION_KEYS_MS),
        };
        if let Err(error) = self.store.prune(what).await {
            tracing::warn!(%error, "old rows stay for now");
        }
        if let Err(error) = self.bus.retain(now).await {
            tracing::warn!(%error, "old records stay for now");
        }
    }
}

/// Opens the file that holds log and store.
///
/// # Errors
/// It cannot be opened or migrated.
pub async fn open_file(path: &Path, trace: Option<Arc<dyn Trace>>) -> Result<Arc<File>, Failure> {
    let options = crate::sqlite::Options { trace };
    File::open(path, options)
        .await
        .map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))
}

/// Opens the bus on the file; topics that are missing are made.
///
/// # Errors
/// A topic exists with other settings.
pub async fn open_bus(config: &Config, file: Arc<File>) -> Result<Arc<EmbeddedBus>, Failure> {
    let topics: Vec<TopicSpec> = config.topics.specs();
    let settings = BusSettings {
        input_topic: Arc::clone(&config.topics.logins),
        group: config.bus.group.clone(),
        topics,
    };
    EmbeddedBus::open(file, settings)
        .await
        .map_err(Failure::failed)
}
