//! From bytes on the login topic to an event: kind, JSON, seals, checks. What cannot be read is a
//! dead letter with its reason; nothing stops the partition. A redriven record that is sealed whole is
//! opened first, and then read as it was before.

use super::item::Head;
use crate::bus::Stored;
use crate::model::{AppId, Apps, DeadReason, EventId, Fact, Login, Millis};
use crate::seal::{Keys, OpenError};
use crate::wire::event::types;
use crate::wire::{
    self, DecisionWire, ErasureWire, FieldError, ImportWire, Kind, LoginWire, Mode, OperatorKeys,
    Whole,
};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Everything reading a record takes.
pub struct Decoder {
    /// The configured apps.
    pub apps: Arc<Apps>,
    /// Opens what is sealed.
    pub keys: Arc<Keys>,
    /// Whose decisions are obeyed.
    pub operators: OperatorKeys,
    /// Whether secrets in plain are refused.
    pub require_sealed: bool,
}

/// What a record turned out to be.
#[derive(Debug)]
pub enum Decoded {
    /// A login.
    Login(Box<Login>),
    /// An operator's event: already a fact.
    Operator(Head, Box<Fact>),
    /// Nothing that can be used. The head is there if the event could be told by its id.
    Dead(Option<Head>, DeadReason, String),
}

type Faulty = (DeadReason, String);

impl Decoder {
    /// Reads one record.
    #[must_use]
    pub fn decode(&self, record: &Stored) -> Decoded {
        let Some(value) = &record.value else {
            let detail = "a null on the login topic says nothing".to_owned();
            return Decoded::Dead(None, DeadReason::Malformed, detail);
        };
        match self.unwrapped(record, value) {
            None => self.read(record, value, false),
            Some(Ok(opened)) => self.read(record, &opened, true),
            Some(Err((reason, detail))) => Decoded::Dead(None, reason, detail),
        }
    }

    /// What stands in a value that is sealed whole.
    fn unwrapped(
        &self,
        record: &Stored,
        value: &[u8],
    ) -> Option<Result<Zeroizing<Vec<u8>>, Faulty>> {
        let place = Whole::of(&record.headers)?;
        let hpke = &self.keys.hpke;
        Some(place.map_err(field).and_then(|place| {
            let opened = hpke.open_bytes(&place.aad(), value);
            opened.map_err(|e| unopened(&e))
        }))
    }

    /// `sealed`: nothing of it stands in plain on the topic.
    fn read(&self, record: &Stored, value: &[u8], sealed: bool) -> Decoded {
        match wire::kind(&record.headers) {
            Some(Kind::Login) => self.login(record, value, sealed),
            Some(kind) => self.operator(kind, record, value),
            None => {
                let detail = "ce_type is none of ours".to_owned();
                Decoded::Dead(None, DeadReason::UnknownType, detail)
            }
        }
    }

    fn login(&self, record: &Stored, value: &[u8], sealed: bool) -> Decoded {
        let event = match LoginWire::parse(value) {
            Ok(event) => event,
            Err(error) => return dead(None, &error),
        };
        let head = head_of(&event, record);
        match self.open(event, record, sealed) {
            Ok(login) => Decoded::Login(Box::new(login)),
            Err((reason, detail)) => Decoded::Dead(head, reason, detail),
        }
    }

    fn open(&self, mut event: LoginWire, record: &Stored, sealed: bool) -> Result<Login, Faulty> {
        if self.require_sealed && !sealed && event.has_plain_secrets() {
            let detail = "secrets came in plain, and intake.require_sealed is on".to_owned();
            return Err((DeadReason::NotSealed, detail));
        }
        if let Some(sealed) = event.sealed.take() {
            let aad = event.aad();
            let opened = self
                .keys
                .hpke
                .open(&aad, &sealed)
                .map_err(|e| unopened(&e))?;
            event.put_secrets(&opened).map_err(field)?;
        }
        let login = event
            .into_login(wire::recorded_at(record), Mode::Lenient)
            .map_err(field)?;
        if self.apps.get(&login.app).is_none() {
            return Err(unknown_app());
        }
        Ok(login)
    }

    fn operator(&self, kind: Kind, record: &Stored, value: &[u8]) -> Decoded {
        let ce_type = match kind {
            Kind::Erasure => types::ERASURE,
            Kind::Import => types::IMPORT,
            Kind::Login | Kind::Decision => types::DECISION,
        };
        if let Err(error) = self.operators.verify(ce_type, value, &record.headers) {
            return Decoded::Dead(None, DeadReason::BadSignature, error.to_string());
        }
        let at = wire::recorded_at(record);
        let fact = match kind {
            Kind::Erasure => ErasureWire::parse(value, at)
                .map(Fact::Erasure)
                .map_err(field),
            Kind::Import => self.import(value, at),
            Kind::Login | Kind::Decision => DecisionWire::parse(value, at)
                .map(Fact::Decision)
                .map_err(field),
        };
        match fact {
            Ok(fact) => {
                let id = match &fact {
                    Fact::Sighting(s) => &s.cause,
                    Fact::Decision(d) => &d.cause,
                    Fact::Erasure(e) => &e.cause,
                    Fact::Review(r) => &r.cause,
                };
                Decoded::Operator(operator_head(id, record), Box::new(fact))
            }
            Err((reason, detail)) => Decoded::Dead(None, reason, detail),
        }
    }

    fn import(&self, value: &[u8], at: Millis) -> Result<Fact, Faulty> {
        let import = ImportWire::parse(value, at).map_err(field)?;
        if self.apps.get(&import.account.app).is_none() {
            return Err(unknown_app());
        }
        if let Some(stray) = import.stray(&self.apps) {
            let platform = stray.platform.as_str();
            let detail = format!(
                "`claims.platform` {platform} is none of the app's; add it to [[apps.platforms]] \
                 and redrive"
            );
            return Err((DeadReason::InvalidField, detail));
        }
        Ok(Fact::Sighting(import.sighting(&self.apps)))
    }
}

/// Takes the error as `map_err` hands it over.
#[allow(clippy::needless_pass_by_value)]
fn field(error: FieldError) -> Faulty {
    (error.dead_reason(), error.to_string())
}

fn dead(head: Option<Head>, error: &FieldError) -> Decoded {
    Decoded::Dead(head, error.dead_reason(), error.to_string())
}

fn unknown_app() -> Faulty {
    let detail = "the appid is not configured; add it to [[apps]] and redrive";
    (DeadReason::UnknownApp, detail.to_owned())
}

fn unopened(error: &OpenError) -> Faulty {
    let reason = match error {
        OpenError::UnknownKey => DeadReason::UnknownKey,
        _ => DeadReason::Unsealable,
    };
    (reason, error.to_string())
}

/// What can be said of an event before it is opened and checked.
fn head_of(event: &LoginWire, record: &Stored) -> Option<Head> {
    Some(Head {
        id: EventId::parse(&event.id).ok()?,
        app: AppId::parse(&event.appid).ok(),
        occurred_at: wire::recorded_at(record),
        clamped: false,
        had_code: false,
        attributes: None,
        login: true,
    })
}

fn operator_head(id: &EventId, record: &Stored) -> Head {
    Head {
        id: id.clone(),
        app: None,
        occurred_at: wire::recorded_at(record),
        clamped: false,
        had_code: false,
        attributes: None,
        login: false,
    }
}
