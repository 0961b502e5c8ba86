//! What a message means to us: a login, an erasure, or nothing (`docs/wechat.md` §11).
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
    format!("push-{}", hex::encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const NOW: Millis = Millis(1_700_000_100_500);
    const ALL: fn(EraseOn) -> bool = |_| true;

    fn app() -> AppId {
        AppId::parse("wx1").expect("valid")
    }

    /// A message, with the fields given over those of a sound one; `""` takes one away.
    fn message(event: &str, over: &[(&str, &str)]) -> Fields {
        let mut all = vec![
            ("FromUserName", "oFrom"),
            ("CreateTime", "1700000000"),
            ("MsgType", "event"),
            ("Event", event),
        ];
        all.retain(|(name, _)| !over.iter().any(|(n, _)| n == name));
        all.extend(over);
        let object: serde_json::Map<String, Value> = all
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).into()))
            .collect();
        Fields::read(Value::Object(object).to_string().as_bytes()).expect("reads")
    }

    fn told(event: &str, over: &[(&str, &str)]) -> (Sort, Result<Meaning, EventFault>) {
        meaning(&message(event, over), &app(), ALL, NOW)
    }

    fn login_of(event: &str, over: &[(&str, &str)]) -> Value {
        match told(event, over).1 {
            Ok(Meaning::Login(bytes)) => serde_json::from_slice(&bytes).expect("JSON"),
            _ => panic!("{event} is no login"),
        }
    }

    fn erasure_of(event: &str, over: &[(&str, &str)]) -> Erasure {
        match told(event, over).1 {
            Ok(Meaning::Erasure(erasure)) => erasure,
            _ => panic!("{event} erases nobody"),
        }
    }

    #[test]
    fn following_and_scanning_are_logins() {
        let login = login_of("subscribe", &[("EventKey", "qrscene_7"), ("Ticket", "T")]);
        let id = login["id"].as_str().expect("text").to_owned();
        let want = json!({
            "id": id, "occurred_at": "2023-11-14T22:13:20.000Z", "appid": "wx1", "openid": "oFrom",
            "source": "wechat.push", "attributes": {"event": "subscribe", "event_key": "qrscene_7"},
        });
        assert_eq!(login, want);
        assert!(!id.contains("oFrom") && id.len() == 5 + 64, "{id}");
        let scan = login_of("SCAN", &[]);
        assert_eq!(scan["attributes"], json!({"event": "scan"}));
        assert_ne!(scan["id"], login["id"]);
        let long = "k".repeat(MAX_EVENT_KEY + 1);
        let login = login_of("SCAN", &[("EventKey", long.as_str())]);
        assert_eq!(login["attributes"], json!({"event": "scan"}));
    }

    #[test]
    fn a_delivery_that_comes_again_has_the_same_id() {
        let id = |event, over: &[(&str, &str)]| login_of(event, over)["id"].clone();
        let first = id("subscribe", &[]);
        assert_eq!(id("subscribe", &[("EventKey", "x")]), first);
        assert_ne!(id("subscribe", &[("CreateTime", "1700000001")]), first);
        assert_ne!(id("subscribe", &[("FromUserName", "oOther")]), first);
        // WeChat's pusher is the same for all: two persons in one second are two erasures.
        let cause = |openid| {
            let over = [("OpenID", openid)];
            erasure_of("user_authorization_cancellation", &over).cause
        };
        assert_eq!(cause("oA"), cause("oA"));
        assert_ne!(cause("oA"), cause("oB"));
    }

    #[test]
    fn a_time_to_come_is_now() {
        let login = login_of("subscribe", &[("CreateTime", "1700009999")]);
        assert_eq!(login["occurred_at"], NOW.to_string());
        let over = [("CreateTime", "1700009999"), ("OpenID", "oA")];
        let erasure = erasure_of("user_authorization_cancellation", &over);
        assert_eq!(erasure.erased_at, Millis(1_700_000_100_999));
    }

    #[test]
    fn a_unionid_counts_where_it_is_one() {
        assert_eq!(login_of("subscribe", &[("UnionID", "uA")])["unionid"], "uA");
        for none in ["null", "oFrom", "u A", ""] {
            let login = login_of("subscribe", &[("UnionID", none)]);
            assert!(login.get("unionid").is_none(), "{none}");
        }
    }

    #[test]
    fn giving_up_an_account_erases_whom_openid_names() {
        for (event, sort) in [
            ("user_authorization_cancellation", EraseOn::Cancellation),
            ("user_authorization_revoke", EraseOn::Revoke),
        ] {
            let over = [("OpenID", "oA"), ("AppID", "wx1"), ("RevokeInfo", "1")];
            let erasure = erasure_of(event, &over);
            assert_eq!(erasure.account, Account::from_key("wx1:oA").expect("key"));
            // To the end of the second.
            assert_eq!(erasure.erased_at, Millis(1_700_000_000_999));
            assert_eq!(told(event, &over).0, Sort::Erases(sort));
            assert!(matches!(told(event, &[]).1, Ok(Meaning::Nobody)), "{event}");
        }
        // Whoever unfollows is the sender.
        let erasure = erasure_of("unsubscribe", &[("OpenID", "oA")]);
        assert_eq!(
            erasure.account,
            Account::from_key("wx1:oFrom").expect("key")
        );
    }

    #[test]
    fn what_the_app_is_not_set_to_erase_on_erases_nobody() {
        let only = |on| move |asked: EraseOn| asked == on;
        for (event, on) in [
            ("user_authorization_cancellation", EraseOn::Cancellation),
            ("user_authorization_revoke", EraseOn::Revoke),
            ("unsubscribe", EraseOn::Unsubscribe),
        ] {
            let fields = message(event, &[("OpenID", "oA")]);
            for set in [EraseOn::Cancellation, EraseOn::Revoke, EraseOn::Unsubscribe] {
                let (sort, meaning) = meaning(&fields, &app(), only(set), NOW);
                assert_eq!(sort, Sort::Erases(on));
                let erases = matches!(meaning, Ok(Meaning::Erasure(_)));
                assert_eq!(erases, set == on, "{event} {set:?}");
                assert!(erases || matches!(meaning, Ok(Meaning::Nothing)));
            }
        }
    }

    #[test]
    fn everything_else_means_nothing() {
        for (event, over, sort) in [
            (
                "user_info_modified",
                vec![("OpenID", "oA")],
                Sort::OtherEvent,
            ),
            ("CLICK", vec![], Sort::OtherEvent),
            ("", vec![], Sort::OtherEvent),
            ("subscribe", vec![("MsgType", "text")], Sort::Message),
            ("subscribe", vec![("MsgType", "")], Sort::Message),
        ] {
            let (got, meaning) = told(event, &over);
            assert_eq!(got, sort, "{event}");
            assert!(matches!(meaning, Ok(Meaning::Nothing)), "{event}");
        }
    }

    #[test]
    fn what_matters_and_lacks_something_is_refused() {
        let cancelled = "user_authorization_cancellation";
        for (event, over, fault) in [
            ("subscribe", vec![("CreateTime", "")], EventFault::Time),
            ("subscribe", vec![("CreateTime", "soon")], EventFault::Time),
            ("subscribe", vec![("CreateTime", "-1")], EventFault::Time),
            (
                "subscribe",
                vec![("CreateTime", "1700000000000")],
                EventFault::Time,
            ),
            ("subscribe", vec![("FromUserName", "")], EventFault::OpenId),
            (
                "subscribe",
                vec![("FromUserName", "undefined")],
                EventFault::OpenId,
            ),
            ("subscribe", vec![("AppID", "wx2")], EventFault::App),
            (cancelled, vec![("OpenID", "o A")], EventFault::OpenId),
            (
                cancelled,
                vec![("OpenID", "oA"), ("AppID", "wx2")],
                EventFault::App,
            ),
            (
                cancelled,
                vec![("OpenID", "oA"), ("CreateTime", "x")],
                EventFault::Time,
            ),
        ] {
            let (_, meaning) = told(event, &over);
            assert_eq!(meaning.err(), Some(fault), "{event} {over:?}");
        }
    }
}
