//! `linked-login` v1: one record per login that is not a dead letter, with the user it belongs to.

use super::Time;
use super::event::{Context, ce, json, keyed, types};
use crate::bus::Record;
use crate::model::{Account, EventId, Millis, Reason, SightingResult};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use uuid::Uuid;

/// A login with its user.
#[derive(Debug, Clone, Copy)]
pub struct LinkedLogin<'a> {
    /// The login's event.
    pub id: &'a EventId,
    /// When the login happened.
    pub occurred_at: Millis,
    /// Whether that had to be clamped.
    pub clamped: bool,
    /// Who logged in.
    pub account: &'a Account,
    /// Opaque JSON, as it came.
    pub attributes: Option<&'a str>,
    /// Where the account stands.
    pub result: &'a SightingResult,
    /// Why there is no unionid.
    pub reason: Option<Reason>,
}

/// The value of a record on `linked-logins`.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "linked-login v1")]
pub(super) struct LinkedLoginWire<'a> {
    /// The login's event.
    #[serde(borrow)]
    id: Cow<'a, str>,
    /// When the login happened.
    occurred_at: Time,
    /// Whether that had to be clamped to what the record's own time allows.
    clamped: bool,
    /// The app.
    #[serde(borrow)]
    appid: Cow<'a, str>,
    /// The person in it.
    #[serde(borrow)]
    openid: Cow<'a, str>,
    /// As the gateway sent it.
    #[serde(borrow)]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    attributes: Option<&'a RawValue>,
    /// The user; null if the login lies before an erasure of the account.
    #[schemars(with = "Option<String>")]
    user_id: Option<Uuid>,
    /// The unionid, if it is known.
    unionid: Option<Cow<'a, str>>,
    /// Why it is not.
    #[schemars(extend("enum" = super::schema::reasons()))]
    reason: Option<Cow<'a, str>>,
}

impl LinkedLogin<'_> {
    /// The record; `None` while the topic is off.
    #[must_use]
    pub fn to_record(&self, cx: &Context<'_>) -> Option<Record> {
        let topic = cx.topics.linked_logins.as_ref()?;
        let unionid = self.result.unionid.as_ref();
        let reason = self.reason.filter(|_| unionid.is_none());
        let wire = LinkedLoginWire {
            id: self.id.as_str().into(),
            occurred_at: Time(self.occurred_at),
            clamped: self.clamped,
            appid: self.account.app.as_str().into(),
            openid: self.account.openid.as_str().into(),
            // Was JSON when the login was read.
            attributes: self
                .attributes
                .and_then(|text| serde_json::from_str(text).ok()),
            user_id: self.result.user.map(|user| user.0),
            unionid: unionid.map(|unionid| unionid.as_str().into()),
            reason: reason.map(|reason| reason.word().into()),
        };
        let value = json(&wire, 320 + self.attributes.map_or(0, str::len));
        let headers = ce(
            types::LINKED_LOGIN,
            self.id.as_str(),
            cx.source,
            wire.occurred_at,
        );
        Some(keyed(
            topic,
            self.account.key().into_bytes(),
            value,
            headers,
        ))
    }
}
