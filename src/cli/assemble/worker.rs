//! The worker and its ladder, from the parts.

use super::{Parts, SOURCE};
use crate::cli::Failure;
use crate::config::{Config, Profile};
use crate::link::Rules;
use crate::model::Apps;
use crate::resolve::asking::Asking;
use crate::resolve::caller::Caller;
use crate::resolve::exchange::{Exchange, Sender};
use crate::resolve::gate::{Gates, Limits};
use crate::resolve::ladder::{self, Ladder};
use crate::resolve::ports::{Memory, Shelf};
use crate::resolve::tokens::Tokens;
use crate::resolve::wechat::{Client, Timeouts};
use crate::seal::Keys;
use crate::wire::event::types;
use crate::wire::operator::SIGNATURE;
use crate::wire::{OperatorKeys, Signer};
use crate::worker::memory::StoreMemory;
use crate::worker::{Decoder, InFlight, Records, Settings, Watchdog, Worker};
use std::sync::Arc;
use uuid::Uuid;

/// Bytes read and not yet published: bounds memory whatever the backlog.
const IN_FLIGHT_BYTES: usize = 24 << 20;

impl Parts {
    /// The worker.
    ///
    /// # Errors
    /// The WeChat client cannot be made (a base URL that is none).
    pub fn worker(&self) -> Result<Arc<Worker>, Failure> {
        let config = &self.config;
        let decoder = decoder(config, &self.apps, &self.keys)?;
        let records = self.records();
        Ok(Arc::new(Worker {
            bus: Arc::clone(&self.bus),
            store: Arc::clone(&self.store),
            decoder: Arc::new(decoder),
            ladder: Arc::new(self.ladder()?),
            rules: Rules {
                namespace: self.namespace,
                apps: Arc::clone(&self.apps),
            },
            records,
            clock: Arc::clone(&self.clock),
            watchdog: Watchdog::new(config.worker.stuck_after),
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
        let memory = Arc::new(StoreMemory::new(&self.store, &self.clock));
        let gates = Arc::new(Gates::new(Limits {
            per_app: worker.http_per_app,
            total: worker.http_total,
            per_minute: wechat.per_minute.clone(),
        }));
        let shelf: Arc<dyn Shelf> = Arc::clone(&memory) as Arc<dyn Shelf>;
        let memory: Arc<dyn Memory> = memory;
        let caller = Caller::new(client, gates, shelf, Arc::clone(&self.clock));
        let caller = Arc::new(caller);
        let tokens = Tokens::new(Arc::clone(&caller), Arc::clone(&self.keys), wechat.timeout);
        let exchange = Exchange::new(
            Arc::clone(&caller),
            Arc::clone(&memory),
            Arc::clone(&self.keys),
            Sender {
                request_timeout: wechat.timeout,
                me: Uuid::new_v4(),
                // One worker at a time has the embedded file.
                alone: matches!(self.config.profile, Profile::Embedded { .. }),
            },
        );
        let parts = ladder::Parts {
            apps: Arc::clone(&self.apps),
            keys: Arc::clone(&self.keys),
            exchange: Arc::new(exchange),
            asking: Arc::new(Asking::new(caller, Arc::new(tokens))),
            memory,
            clock: Arc::clone(&self.clock),
        };
        let http = (worker.http_per_app, worker.http_total);
        Ok(Ladder::new(parts, worker.inline_budget, http))
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
}

/// Reads records as they are configured.
pub(super) fn decoder(
    config: &Config,
    apps: &Arc<Apps>,
    keys: &Arc<Keys>,
) -> Result<Decoder, Failure> {
    Ok(Decoder {
        apps: Arc::clone(apps),
        keys: Arc::clone(keys),
        operators: operators(config, keys)?,
        require_sealed: config.intake.require_sealed,
    })
}

/// What the intake signs erasures with: the configured key, else the newest operator's of the key
/// file.
///
/// # Errors
/// `keys` are those that the workers have, and with them they would not obey the configured key.
pub fn signer(config: &Config, keys: Option<&Keys>) -> Result<Option<Signer>, Failure> {
    let Some(configured) = &config.intake.signer else {
        let own = keys.and_then(|keys| keys.operators.last());
        return Ok(own.map(|key| Signer::new(&key.id, &key.key)));
    };
    let signer = Signer::new(&configured.id, &configured.seed);
    if let Some(keys) = keys {
        let signature = signer.sign(types::ERASURE, b"").into_bytes();
        let headers = [(SIGNATURE.to_owned(), signature)];
        let obeyed = operators(config, keys)?;
        if obeyed.verify(types::ERASURE, b"", &headers).is_err() {
            return Err(Failure::Usage(
                "intake.signer.key: no worker would obey it: add its public key to [[operators]] \
                 (`unilink keys operator ID` prints both)"
                    .into(),
            ));
        }
    }
    Ok(Some(signer))
}

/// Whose decisions are obeyed: the configured operators, and whoever holds the key file.
fn operators(config: &Config, keys: &Keys) -> Result<OperatorKeys, Failure> {
    let own = keys.operators.iter();
    let own: Vec<String> = own.map(|k| Signer::new(&k.id, &k.key).public()).collect();
    let mut known = OperatorKeys::parse(own.iter().map(String::as_str)).map_err(Failure::failed)?;
    for operator in &config.operators {
        known.add(&operator.id, operator.key);
    }
    Ok(known)
}
