//! What a message means to us: a login, an erasure, or nothing (`docs/wechat.md` §11).

use super::crypto::hex;
use super::message::Fields;
use crate::config::EraseOn;
use crate::model::{Account, AppId, Erasure, EventId, Millis, OpenId, UnionId};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Longest value of a QR code that is passed on, in bytes: WeChat's own limit is 64 characters.
const MAX_EVENT_KEY: usize = 256;
/// Seconds of the year 5138: what is larger counts something else than seconds.
const MAX_SECONDS: i64 = 100_000_000_000;
/// `source` of logins that pushes tell.
pub(super) const SOURCE: &str = "wechat.push";

/// What sort of message it is; the label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Somebody follows the official account.
    Subscribe,
    /// Somebody who follows it scanned a code of it.
    Scan,
    /// An event that erases where the app is set so.
    Erases(EraseOn),
    /// Any other event.
    OtherEvent,
    /// No event.
    Message,
}

impl Sort {
    /// The word for the metric.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Scan => "scan",
            Self::Erases(EraseOn::Cancellation) => "cancellation",
            Self::Erases(EraseOn::Revoke) => "revoke",
            Self::Erases(EraseOn::Unsubscribe) => "unsubscribe",
            Self::OtherEvent => "other_event",
            Self::Message => "message",
        }
    }

    fn of(fields: &Fields) -> Self {
        let is = |text: &Option<String>, word: &str| {
            let text = text.as_deref();
            text.is_some_and(|t| t.eq_ignore_ascii_case(word))
        };
        if !is(&fields.kind, "event") {
            return Self::Message;
        }
        let events = [
            ("subscribe", Self::Subscribe),
            ("scan", Self::Scan),
            (
                "user_authorization_cancellation",
                Self::Erases(EraseOn::Cancellation),
            ),
            ("user_authorization_revoke", Self::Erases(EraseOn::Revoke)),
            ("unsubscribe", Self::Erases(EraseOn::Unsubscribe)),
        ];
        let mut known = events.into_iter();
        let found = known.find(|(word, _)| is(&fields.event, word));
        found.map_or(Self::OtherEvent, |(_, sort)| sort)
    }
}

/// What follows from a message.
pub(super) enum Meaning {
    /// A login event, as JSON.
    Login(Vec<u8>),
    /// An account is to be erased.
    Erasure(Erasure),
    /// Nothing.
    Nothing,
    /// It would erase somebody, and does not say whom.
    Nobody,
}

/// Why a message that matters cannot be heeded. Never repeats any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum EventFault {
    /// The time is missing or no number of seconds.
    #[error("CreateTime is missing, or no number of seconds")]
    Time,
    /// The person is missing or no openid.
    #[error("the openid is missing, or none")]
    OpenId,
    /// It names another app.
    #[error("AppID is another app's")]
    App,
}

/// What sort of message it is, and what it means to `app` at `now`.
///
/// # Errors
/// [`EventFault`]: it matters, and lacks what it needs.
pub(super) fn meaning(
    fields: &Fields,
    app: &AppId,
    erases: impl Fn(EraseOn) -> bool,
    now: Millis,
) -> (Sort, Result<Meaning, EventFault>) {
    let sort = Sort::of(fields);
    let meaning = match sort {
        Sort::Subscribe | Sort::Scan => login(fields, app, sort, now),
        Sort::Erases(on) if erases(on) => erasure(fields, app, on, now),
        _ => Ok(Meaning::Nothing),
    };
    (sort, meaning)
}

fn login(fields: &Fields, app: &AppId, sort: Sort, now: Millis) -> Result<Meaning, EventFault> {
    let (openid, created) = (person(fields.from.as_deref())?, created(fields, app)?);
    let mut attributes = json!({ "event": sort.word() });
    let event_key = fields.event_key.as_deref();
    if let Some(key) = event_key.filter(|key| key.len() <= MAX_EVENT_KEY) {
        attributes["event_key"] = key.into();
    }
    let mut event = json!({
        "id": id(app, &openid, created, sort),
        // Clocks differ by moments; nothing that was pushed to us happened later than now.
        "occurred_at": Millis(created * 1000).min(now).to_string(),
        "appid": app.as_str(),
        "openid": openid.as_str(),
        "source": SOURCE,
        "attributes": attributes,
    });
    // No event of today has one (`docs/wechat.md` §11); what is no unionid is as good as none.
    let unionid = fields.unionid.as_deref();
    let unionid = unionid.filter(|text| *text != openid.as_str());
    if let Some(unionid) = unionid.and_then(|text| UnionId::parse(text).ok()) {
        event["unionid"] = unionid.as_str().into();
    }
    Ok(Meaning::Login(event.to_string().into_bytes()))
}

/// Events about an authorization are sent by WeChat's pusher, so that `OpenID` tells whom they are
/// about; an unsubscription is sent by the person.
fn erasure(fields: &Fields, app: &AppId, on: EraseOn, now: Millis) -> Result<Meaning, EventFault> {
    let named = match on {
        EraseOn::Cancellation | EraseOn::Revoke => fields.openid.as_deref(),
        EraseOn::Unsubscribe => fields.from.as_deref(),
    };
    let Some(named) = named else {
        return Ok(Meaning::Nobody);
    };
    let (openid, created) = (person(Some(named))?, created(fields, app)?);
    // CreateTime counts whole seconds: the erasure reaches to the end of its second, and never into
    // the future, where it would swallow logins to come.
    let cause = id(app, &openid, created, Sort::Erases(on));
    let cause = EventId::parse(&cause).map_err(|_| EventFault::OpenId)?;
    let erased_at = Millis(created * 1000 + 999).min(Millis(now.0 / 1000 * 1000 + 999));
    Ok(Meaning::Erasure(Erasure {
        account: Account {
            app: app.clone(),
            openid,
        },
        erased_at,
        cause,
    }))
}

fn person(text: Option<&str>) -> Result<OpenId, EventFault> {
    let parsed = text.and_then(|text| OpenId::parse(text).ok());
    parsed.ok_or(EventFault::OpenId)
}

/// `CreateTime` in seconds, of a message that names no other app.
fn created(fields: &Fields, app: &AppId) -> Result<i64, EventFault> {
    let named = fields.app.as_deref();
    if named.is_some_and(|named| named != app.as_str()) {
        return Err(EventFault::App);
    }
    let seconds = fields.created.as_deref().and_then(|t| t.parse().ok());
    seconds
        .filter(|s| (0..MAX_SECONDS).contains(s))
        .ok_or(EventFault::Time)
}

/// The same for each delivery of one event, and no way back to the openid, which has 130 random bits
/// (`docs/wechat.md` §10).
fn id(app: &AppId, openid: &OpenId, created: i64, sort: Sort) -> String {
    let created = created.to_string();
    let parts = [app.as_str(), openid.as_str(), &created, sort.word()];
    let hash = Sha256::digest(parts.join("\0"));
    format!("push-{}", hex(&hash))
}
