//! `login` v1: what gateways send, on HTTP and on the login topic alike, with WeChat's own names
//! (`docs/wechat.md` §3, §5, §9). Reading it here checks its shape; whether it makes sense is
//! checked by [`LoginWire::check`] and [`LoginWire::into_login`].
//!
//! Secrets are either fields of the event or inside `sealed`, never both.

use super::event::{ce, json, keyed, types};
use super::field::{FieldError, read};
use super::secrets::{Secrets, Taken, escaped, expose, flag, secret, text};
use super::{Time, Topics};
use crate::bus::Record;
use crate::model::{AppId, EventId, Millis, Secret};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use zeroize::Zeroizing;

/// What binds a sealed blob to its event: followed by the id, a zero byte and the appid.
const AAD: &[u8] = b"unilink/login/v1\0";

/// An identifier shorter than this stands in other texts by chance; WeChat's have 28 characters.
const LONG: usize = 12;

/// One login event: who logged in where, with what evidence the gateway holds.
#[derive(Clone, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "login v1",
    extend("anyOf" = [{"required": ["code"]}, {"required": ["openid"]}, {"required": ["sealed"]}]),
    extend("not" = {
        "required": ["code", "openid"],
        "properties": {"code": {"type": "string", "minLength": 1}, "openid": {"type": "string", "minLength": 1}}
    })
)]
pub struct LoginWire {
    /// The gateway's id for this event; repeating it is harmless. It may stand in logs, so no
    /// openid or unionid may be part of it.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!-~]+$"))]
    pub id: String,
    /// When the login happened: RFC 3339 with an offset.
    #[schemars(extend("format" = "date-time"))]
    pub occurred_at: String,
    /// The app it happened in.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[!-9;-~]+$"))]
    pub appid: String,
    /// The login code (`wx.login`, OAuth redirect), not exchanged yet. Secret.
    #[serde(
        default,
        deserialize_with = "secret",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", length(max = 512))]
    pub code: Option<Secret>,
    /// The person in the app, if the gateway has exchanged the code itself.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 64))]
    pub openid: Option<String>,
    /// The unionid that came with the openid.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 64))]
    pub unionid: Option<String>,
    /// The session key that the gateway's exchange brought. Secret.
    #[serde(
        default,
        deserialize_with = "secret",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", length(max = 64))]
    pub session_key: Option<Secret>,
    /// `encryptedData` of `getUserInfo`; needs `iv`. Secret.
    #[serde(
        default,
        rename = "encryptedData",
        deserialize_with = "secret",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", length(max = 65536))]
    pub encrypted_data: Option<Secret>,
    /// The iv of `encryptedData`. Secret.
    #[serde(
        default,
        deserialize_with = "secret",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", length(max = 64))]
    pub iv: Option<Secret>,
    /// `rawData` of `getUserInfo`, byte for byte; needs `signature`. Secret.
    #[serde(
        default,
        rename = "rawData",
        deserialize_with = "secret",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", length(max = 16384))]
    pub raw_data: Option<Secret>,
    /// The signature of `rawData`. Secret.
    #[serde(
        default,
        deserialize_with = "secret",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", length(max = 64))]
    pub signature: Option<Secret>,
    /// The OAuth token that the gateway's exchange brought, to ask `sns/userinfo` with. Secret.
    #[serde(
        default,
        deserialize_with = "secret",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>", length(max = 512))]
    pub access_token: Option<Secret>,
    /// The scope of `access_token`, as WeChat wrote it.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 256))]
    pub scope: Option<String>,
    /// WeChat Pay's number of a payment made in the last five minutes.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 64))]
    pub transaction_id: Option<String>,
    /// The merchant of such a payment; needs `out_trade_no`.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 64))]
    pub mch_id: Option<String>,
    /// The merchant's number of the payment; needs `mch_id`.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 64))]
    pub out_trade_no: Option<String>,
    /// Whether WeChat flagged a snapshot user, whose ids are virtual.
    #[serde(
        default,
        deserialize_with = "flag",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<serde_json::Value>", extend("enum" = [true, false, 1, 0, null]))]
    pub is_snapshotuser: Option<bool>,
    /// The gateway's name for itself.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 128))]
    pub source: Option<String>,
    /// The company's own id for the person.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 256))]
    pub external_id: Option<String>,
    /// Opaque, carried through as it came; at most 16 KiB and 32 levels deep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub attributes: Option<Box<RawValue>>,
    /// The secrets, sealed to the workers' key (`docs/sealing.md`).
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 262144))]
    pub sealed: Option<String>,
}

impl LoginWire {
    /// Reads one event.
    ///
    /// # Errors
    /// [`FieldError`] names the field, never what stands in it.
    pub fn parse(bytes: &[u8]) -> Result<Self, FieldError> {
        let login: Self = read(bytes)?;
        // So that `aad` and logs can rely on them.
        super::event::id("id", EventId::parse(&login.id))?;
        super::event::id("appid", AppId::parse(&login.appid))?;
        let named = [&login.openid, &login.unionid].into_iter().flatten();
        for identifier in named.map(|text| text.trim()) {
            if identifier.len() >= LONG && login.id.contains(identifier) {
                let problem = "contains the openid or unionid: ids stand in logs, so make another";
                return Err(FieldError::invalid("id", problem));
            }
        }
        Ok(login)
    }

    /// The event as compact JSON; contains in plain what has not been taken out.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let sealed = self.sealed.as_ref().map_or(0, String::len);
        let opaque = self.attributes.as_ref().map_or(0, |a| a.get().len());
        json(self, 512 + sealed + opaque)
    }

    /// Its key on the login topic: the account, or the event's id while only a code is known.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        match &self.openid {
            Some(openid) => [self.appid.as_str(), ":", openid.trim()]
                .concat()
                .into_bytes(),
            None => self.id.clone().into_bytes(),
        }
    }

    /// The record for the login topic. Secrets must be out of it before.
    #[must_use]
    pub fn to_record(&self, topics: &Topics, source: &str, now: Millis) -> Record {
        let source = self
            .source
            .as_deref()
            .filter(|s| s.is_ascii())
            .unwrap_or(source);
        let headers = ce(types::LOGIN, &self.id, source, Time(now));
        keyed(&topics.logins, self.key(), self.to_vec(), headers)
    }

    /// The associated data of this event's `sealed` (`docs/sealing.md`).
    #[must_use]
    pub fn aad(&self) -> Vec<u8> {
        [AAD, self.id.as_bytes(), &[0], self.appid.as_bytes()].concat()
    }

    /// Whether secrets stand in plain in the event.
    #[must_use]
    pub fn has_plain_secrets(&self) -> bool {
        let secrets = [
            &self.code,
            &self.session_key,
            &self.encrypted_data,
            &self.iv,
            &self.raw_data,
            &self.signature,
            &self.access_token,
        ];
        secrets.iter().any(|s| s.is_some())
    }

    /// Takes the secrets out, as the compact JSON that is to be sealed; `None` if there are none.
    pub fn take_secrets(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let taken = Taken(self.secrets().map(|(name, slot)| (name, slot.take())));
        let capacity = taken
            .0
            .iter()
            .flat_map(|(_, s)| s)
            .map(escaped)
            .sum::<usize>();
        if capacity == 0 {
            return None;
        }
        // Large enough from the start: a buffer that grows leaves copies behind.
        Some(Zeroizing::new(json(&taken, capacity + 128)))
    }

    /// Puts opened secrets back in the place of `sealed`.
    ///
    /// # Errors
    /// [`FieldError`] if they are not what [`LoginWire::take_secrets`] makes, or one of them stands
    /// in the event in plain too.
    pub fn put_secrets(&mut self, opened: &[u8]) -> Result<(), FieldError> {
        let mut secrets: Secrets = read(opened).map_err(|e| {
            let field = ["sealed", &e.field].join(".");
            FieldError {
                field: field.trim_end_matches('.').to_owned(),
                ..e
            }
        })?;
        for ((name, slot), secret) in self.secrets().into_iter().zip(secrets.list()) {
            if slot.is_some() && secret.is_some() {
                let problem = "stands both in plain and inside `sealed`: send it once, sealed";
                return Err(FieldError::contradictory(name, problem));
            }
            if secret.is_some() {
                *slot = secret;
            }
        }
        self.sealed = None;
        Ok(())
    }

    fn secrets(&mut self) -> [(&'static str, &mut Option<Secret>); 7] {
        [
            ("code", &mut self.code),
            ("session_key", &mut self.session_key),
            ("encryptedData", &mut self.encrypted_data),
            ("iv", &mut self.iv),
            ("rawData", &mut self.raw_data),
            ("signature", &mut self.signature),
            ("access_token", &mut self.access_token),
        ]
    }
}

/// Shows id and app only.
impl fmt::Debug for LoginWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginWire")
            .field("id", &self.id)
            .field("appid", &self.appid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"id":"evt-1","occurred_at":"2026-01-31T08:00:00Z","appid":"wx1",
        "openid":"oA","unionid":"","session_key":"SK==","encryptedData":"ED","iv":"IV","rawData":"{\"a\":\"\\n\"}",
        "signature":"SG","access_token":null,"is_snapshotuser":0,"attributes":{"x": [1, 2]}}"#;

    #[test]
    fn secrets_leave_and_come_back() {
        let mut login = LoginWire::parse(FULL.as_bytes()).expect("valid");
        assert!(login.has_plain_secrets());
        let taken = login.take_secrets().expect("secrets");
        let want = r#"{"session_key":"SK==","encryptedData":"ED","iv":"IV","rawData":"{\"a\":\"\\n\"}","signature":"SG"}"#;
        assert_eq!(String::from_utf8_lossy(&taken), want);
        assert!(taken.capacity() >= taken.len());
        assert!(!login.has_plain_secrets() && login.take_secrets().is_none());
        let bare = String::from_utf8(login.to_vec()).expect("text");
        for secret in ["SK", "ED", "IV", "SG"] {
            assert!(!bare.contains(secret), "{bare}");
        }
        assert!(bare.contains(r#""attributes":{"x": [1, 2]}"#), "{bare}");
        login.sealed = Some("v1.k.AA".into());
        login.put_secrets(&taken).expect("puts");
        assert_eq!(login.raw_data.expect("raw").expose(), r#"{"a":"\n"}"#);
        assert!(login.sealed.is_none());
    }

    #[test]
    fn a_secret_inside_and_outside_is_contradictory() {
        let mut login = LoginWire::parse(FULL.as_bytes()).expect("valid");
        let error = login.put_secrets(br#"{"iv":"other"}"#).expect_err("twice");
        assert_eq!(
            (error.field.as_str(), error.kind),
            ("iv", super::super::FieldKind::Contradictory)
        );
        let error = login.put_secrets(br#"{"iv":5}"#).expect_err("type");
        assert_eq!(error.field, "sealed.iv");
        let error = login.put_secrets(b"secret").expect_err("no JSON");
        assert_eq!(error.field, "sealed");
    }

    #[test]
    fn keys_aad_and_debug() {
        let login = LoginWire::parse(FULL.as_bytes()).expect("valid");
        assert_eq!(login.key(), b"wx1:oA");
        assert_eq!(login.aad(), b"unilink/login/v1\0evt-1\0wx1");
        assert_eq!(login.is_snapshotuser, Some(false));
        assert!(login.unionid.is_none());
        let shown = format!("{login:?}");
        assert!(!shown.contains("oA") && !shown.contains("SK"), "{shown}");
        let code = br#"{"id":"e","occurred_at":"x","appid":"wx1","code":"c"}"#;
        assert_eq!(LoginWire::parse(code).expect("shape").key(), b"e");
    }

    #[test]
    fn shapes_that_are_wrong_name_the_field() {
        for (from, to, field) in [
            (r#""iv":"IV""#, r#""iv":7"#, "iv"),
            (
                r#""is_snapshotuser":0"#,
                r#""is_snapshotuser":2"#,
                "is_snapshotuser",
            ),
            (
                r#""is_snapshotuser":0"#,
                r#""is_snapshotuser":"yes""#,
                "is_snapshotuser",
            ),
            (r#""id":"evt-1""#, r#""id":"""#, "id"),
            (r#""id":"evt-1""#, r#""id":null"#, "id"),
            (r#""appid":"wx1""#, r#""appid":"wx1:x""#, "appid"),
            (r#""appid":"wx1","#, "", "appid"),
            (r#""iv":"IV""#, r#""iv":"IV","iv":"IV""#, "iv"),
            (r#""iv":"IV""#, r#""sessionKey":"IV""#, "sessionKey"),
        ] {
            let json = FULL.replacen(from, to, 1);
            let error = LoginWire::parse(json.as_bytes()).expect_err(to);
            assert_eq!(error.field, field, "{error}");
        }
    }
}
