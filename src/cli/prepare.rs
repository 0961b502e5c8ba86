//! The gatekeeper: what stands between an HTTP body and the login topic. It checks an event as
//! strictly as can be, while somebody is there to correct it, and seals its secrets.

use super::assemble::{SOURCE, wire_topics};
use crate::bus::Record;
use crate::config::Config;
use crate::intake::{Erase, Prepare, Prepared, Refusal, RefusalKind};
use crate::model::{AppId, Apps, Erasure, EventId, Millis};
use crate::seal::PublicKey;
use crate::seal::hpke::is_sealed_text;
use crate::wire::{
    ErasureRequest, ErasureWire, FieldError, FieldKind, LoginWire, Mode, Signer, Topics,
};
use std::sync::Arc;
use uuid::Uuid;

/// Largest record that the intake publishes, in bytes: the fields' own limits add up to less, so
/// only what is sealed elsewhere can exceed it.
const MAX_RECORD: usize = 256 * 1024;

/// Checks and seals.
pub struct Gatekeeper {
    apps: Arc<Apps>,
    seal_to: PublicKey,
    topics: Topics,
    require_sealed: bool,
}

impl Gatekeeper {
    /// For what is configured; what comes in plain is sealed to this key.
    #[must_use]
    pub fn new(config: &Config, seal_to: PublicKey) -> Self {
        Self {
            apps: Arc::new(config.apps()),
            seal_to,
            topics: wire_topics(config),
            require_sealed: config.intake.require_sealed,
        }
    }

    fn check_app(&self, event: &LoginWire) -> Result<(), Refusal> {
        let app = AppId::parse(&event.appid)
            .ok()
            .and_then(|id| self.apps.get(&id));
        let Some(app) = app else {
            let problem = "is no app of the configuration: add it to [[apps]], or correct it";
            return Err(invalid("appid", problem));
        };
        if event.code.is_some() && !app.exchanges_codes() {
            let problem = "cannot be exchanged: the app has neither secret nor component in the \
                           configuration";
            return Err(invalid("code", problem));
        }
        Ok(())
    }
}

impl Prepare for Gatekeeper {
    fn prepare(&self, raw: &[u8], now: Millis) -> Result<Prepared, Refusal> {
        let mut event = LoginWire::parse(raw).map_err(refusal)?;
        event.check(now, Mode::Strict).map_err(refusal)?;
        self.check_app(&event)?;
        if self.require_sealed && event.has_plain_secrets() {
            let problem = "is missing: this intake takes secrets sealed only (docs/sealing.md)";
            return Err(invalid("sealed", problem));
        }
        let sealed = event.sealed.as_deref();
        if sealed.is_some_and(|blob| !is_sealed_text(blob)) {
            let problem = "is not in the form v1.<kid>.<base64url> of docs/sealing.md";
            return Err(invalid("sealed", problem));
        }
        let aad = event.aad();
        if let Some(secrets) = event.take_secrets() {
            if event.sealed.is_some() {
                let problem = "stands beside secrets in plain: seal all of them, or none";
                return Err(invalid("sealed", problem));
            }
            let sealed = self.seal_to.seal(&aad, &secrets);
            event.sealed = Some(sealed.map_err(|_| invalid("", "cannot be sealed"))?);
        }
        let id = EventId::parse(&event.id).map_err(|e| invalid("id", &e.to_string()))?;
        let record = event.to_record(&self.topics, SOURCE, now);
        let size = record.value.as_ref().map_or(0, Vec::len);
        if size > MAX_RECORD {
            return Err(Refusal {
                status: RefusalKind::TooLarge,
                field: String::new(),
                problem: format!("is larger than {MAX_RECORD} bytes"),
            });
        }
        Ok(Prepared { id, record })
    }
}

/// Signs erasures. Workers obey them as far as its key is an operator's.
pub struct Eraser {
    signer: Signer,
    topics: Topics,
    apps: Arc<Apps>,
}

impl Eraser {
    /// Erases by this operator's word, on the login topic that is configured.
    #[must_use]
    pub fn new(config: &Config, signer: Signer) -> Self {
        Self {
            signer,
            topics: wire_topics(config),
            apps: Arc::new(config.apps()),
        }
    }
}

impl Prepare for Eraser {
    fn prepare(&self, raw: &[u8], now: Millis) -> Result<Prepared, Refusal> {
        let made = format!("erasure-{}", Uuid::now_v7());
        let erasure = ErasureRequest::parse(raw, now, &made).map_err(refusal)?;
        if self.apps.get(&erasure.account.app).is_none() {
            let problem = "is no app of the configuration: correct it, or use `unilink user erase` for \
                           an app that was taken out";
            return Err(invalid("appid", problem));
        }
        let record = self.erase(&erasure, SOURCE);
        Ok(Prepared {
            id: erasure.cause,
            record,
        })
    }
}

impl Erase for Eraser {
    fn erase(&self, erasure: &Erasure, source: &str) -> Record {
        ErasureWire::to_record(erasure, &self.topics, source, &self.signer)
    }
}

fn invalid(field: &str, problem: &str) -> Refusal {
    Refusal {
        status: RefusalKind::Invalid,
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}

fn refusal(error: FieldError) -> Refusal {
    let status = match error.kind {
        FieldKind::Malformed => RefusalKind::Malformed,
        FieldKind::Invalid | FieldKind::Contradictory => RefusalKind::Invalid,
    };
    Refusal {
        status,
        field: error.field,
        problem: error.problem,
    }
}
