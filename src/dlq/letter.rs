//! A dead letter as operators look at it: what its headers say, and what can be told of its event.

use super::Place;
use crate::bus::Stored;
use crate::model::{AppId, DeadReason, EventId, Millis};
use crate::seal::{Keys, OpenError};
use crate::store::Redriven;
use crate::wire::{self, FieldError, Grave, Kind};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

/// Fields of logins and operators' events that hold no secret. All others are told by their size, also
/// those that nobody knows: a misspelt secret is one too.
const SHOWN: [&str; 21] = [
    "id",
    "occurred_at",
    "appid",
    "openid",
    "unionid",
    "scope",
    "is_snapshotuser",
    "source",
    "external_id",
    "transaction_id",
    "mch_id",
    "out_trade_no",
    "erased_at",
    "decided_at",
    "author",
    "note",
    "ruling",
    "platform",
    "other_appid",
    "other_openid",
    "first_seen_at",
];

/// A letter with its place.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Where it stands.
    pub place: Place,
    /// When it died.
    pub at: Millis,
    /// What its headers say.
    pub grave: Grave,
    /// Its event, if that could be told.
    pub event: Option<EventId>,
    /// The app, if that could be told.
    pub app: Option<AppId>,
    /// Whether only a code names its person.
    pub by_code: bool,
    /// When the login was, as it says itself; not after its first record.
    pub happened_at: Millis,
    /// What is known of its redrives.
    pub redriven: Option<Redriven>,
    /// The record.
    pub record: Stored,
}

/// The bytes that the original held, as far as they can be had.
pub enum Opened {
    /// These.
    Bytes(Zeroizing<Vec<u8>>),
    /// It was a null.
    Null,
    /// It is sealed whole and does not open.
    Shut(OpenError),
}

/// What little is read of an event, however wrong the rest is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Peek {
    id: Value,
    appid: Value,
    openid: Value,
    occurred_at: Value,
}

impl Letter {
    /// Reads a record of the dead letter topic.
    ///
    /// # Errors
    /// It is no dead letter: [`FieldError`] names the header.
    pub fn read(record: Stored, keys: &Keys) -> Result<Self, FieldError> {
        let grave = Grave::parse(&record)?;
        let peek = match opened(&record, &grave, keys) {
            Opened::Bytes(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Opened::Null | Opened::Shut(_) => Peek::default(),
        };
        let text = |value: &Value| value.as_str().map(str::to_owned).filter(|t| !t.is_empty());
        let said = text(&peek.occurred_at).and_then(|at| Millis::parse_rfc3339(&at));
        Ok(Self {
            happened_at: said.map_or(grave.timestamp, |said| said.min(grave.timestamp)),
            place: Place(record.partition, record.offset),
            at: Millis(record.timestamp),
            event: text(&peek.id).and_then(|id| EventId::parse(&id).ok()),
            app: text(&peek.appid).and_then(|id| AppId::parse(&id).ok()),
            by_code: wire::kind(&grave.headers) == Some(Kind::Login)
                && text(&peek.openid).is_none(),
            redriven: None,
            grave,
            record,
        })
    }

    /// The reason's word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.grave.reason.map_or("unknown", DeadReason::word)
    }

    /// How often it went back to the login topic, before it died this time and after.
    #[must_use]
    pub fn redrives(&self) -> u32 {
        let times = self.redriven.as_ref().map_or(0, |one| one.times);
        self.grave.redrives.saturating_add(times)
    }

    /// What the original held.
    #[must_use]
    pub fn opened(&self, keys: &Keys) -> Opened {
        opened(&self.record, &self.grave, keys)
    }
}

fn opened(record: &Stored, grave: &Grave, keys: &Keys) -> Opened {
    let Some(value) = &record.value else {
        return Opened::Null;
    };
    if !grave.sealed {
        return Opened::Bytes(Zeroizing::new(value.clone()));
    }
    match keys.hpke.open_bytes(&grave.origin.aad(), value) {
        Ok(bytes) => Opened::Bytes(bytes),
        Err(error) => Opened::Shut(error),
    }
}

/// The value for people's eyes: secrets, and whatever is none of the known fields, are replaced by
/// their size. `None`: it is no JSON object, and nothing of it can be told apart.
#[must_use]
pub fn redacted(bytes: &[u8]) -> Option<Value> {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(bytes) else {
        return None;
    };
    for (name, value) in &mut fields {
        if name == "sealed" {
            *value = Value::String(sealed(value));
        } else if !SHOWN.contains(&name.as_str()) || value.is_object() || value.is_array() {
            *value = Value::String(size(value));
        }
    }
    Some(Value::Object(fields))
}

/// Sealed evidence by the key that it is sealed to, and its size.
fn sealed(value: &Value) -> String {
    let mut parts = value.as_str().unwrap_or_default().split('.');
    let plain = |kid: &&str| kid.len() <= 32 && kid.bytes().all(|b| b.is_ascii_graphic());
    match (parts.next(), parts.next().filter(plain)) {
        (Some("v1"), Some(kid)) => format!("(sealed to key {kid}, {} bytes)", length(value)),
        _ => size(value),
    }
}

fn size(value: &Value) -> String {
    format!("({} bytes)", length(value))
}

fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_what_nobody_knows_are_told_by_their_size() {
        let told = redacted(
            br#"{"id":"e","openid":"oA","session_key":"SECRET","sessionKey":"SECRET","code":{"a":"SECRET"},
                "unionid":["SECRET"],
                "sealed":"v1.k1.AAAA","iv":"SECRET"}"#,
        );
        let told = told.expect("an object");
        assert!(!told.to_string().contains("SECRET"), "{told}");
        assert_eq!(told["session_key"], "(6 bytes)");
        assert_eq!(told["openid"], "oA");
        assert_eq!(told["sealed"], "(sealed to key k1, 10 bytes)");
        assert_eq!(redacted(b"code=SECRET"), None);
        let odd = redacted(br#"{"sealed":"SECRET"}"#).expect("an object");
        assert!(!odd.to_string().contains("SECRET"));
    }
}
