//! A login event: "this account logged in", with whatever evidence the gateway holds.

use super::{AppId, EventId, ExternalId, Millis, OpenId, UnionId};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A secret text (code, session key, token, encrypted data): wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text in.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Each call is a place where a secret could leak.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// One login, decoded, opened and checked for contradictions inside itself.
#[derive(Debug, Clone)]
pub struct Login {
    /// The event's id.
    pub id: EventId,
    /// When the login happened, already clamped to its bounds.
    pub occurred_at: Millis,
    /// Whether `occurred_at` had to be clamped.
    pub clamped: bool,
    /// The app it happened in.
    pub app: AppId,
    /// What could tell who it was.
    pub evidence: Evidence,
    /// The gateway's name for itself.
    pub source: Option<String>,
    /// The company's own user id.
    pub external_id: Option<ExternalId>,
    /// Opaque JSON, carried through.
    pub attributes: Option<Arc<str>>,
}

/// What an event brings: a code, or an openid with more.
#[derive(Debug, Clone)]
pub enum Evidence {
    /// A single-use login code, perhaps with data that its session key decrypts.
    Code {
        /// The code.
        code: Secret,
        /// Data to decrypt with the key that the exchange brings.
        data: Option<EncryptedData>,
    },
    /// An openid, already exchanged by the gateway.
    OpenId {
        /// The person in the app.
        openid: OpenId,
        /// A unionid given in plain; `Err` when it was a placeholder.
        unionid: Option<Result<UnionId, ()>>,
        /// The session key that the gateway's exchange brought.
        session_key: Option<Secret>,
        /// Data to decrypt.
        data: Option<EncryptedData>,
        /// A token of the user's, to ask `sns/userinfo` with.
        token: Option<UserToken>,
        /// A payment just made, to ask `wxa/getpaidunionid` with.
        payment: Option<Payment>,
        /// Whether WeChat flagged a snapshot user (`docs/wechat.md` §5).
        snapshot: bool,
    },
}

/// What the user's OAuth login brought (`docs/wechat.md` §5). Not the app's own token.
#[derive(Debug, Clone)]
pub struct UserToken {
    /// The token; lives two hours.
    pub access_token: Secret,
    /// What it is good for, separated by commas; `None`: not told.
    pub scope: Option<String>,
}

impl UserToken {
    /// Whether `sns/userinfo` answers to it: not after `snsapi_base` alone (48001).
    #[must_use]
    pub fn reads_profile(&self) -> bool {
        let reads = |s: &str| matches!(s.trim(), "snsapi_userinfo" | "snsapi_login");
        self.scope
            .as_deref()
            .is_none_or(|s| s.split(',').any(reads))
    }
}

/// Which payment `wxa/getpaidunionid` is asked about (`docs/wechat.md` §8). Redacted when printed.
#[derive(Debug, Clone)]
pub enum Payment {
    /// By WeChat Pay's number.
    Transaction(Secret),
    /// By the merchant's number.
    Order {
        /// `mch_id`.
        mch_id: Secret,
        /// `out_trade_no`.
        out_trade_no: Secret,
    },
}

impl Payment {
    /// The number that names it among those of its payer. Each call is a place where it could leak.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Transaction(number) => number.expose(),
            Self::Order { out_trade_no, .. } => out_trade_no.expose(),
        }
    }
}

/// `encryptedData` and `iv` as WeChat handed them to the front end (`docs/wechat.md` §9).
#[derive(Debug, Clone)]
pub struct EncryptedData {
    /// Base64 of the AES-128-CBC ciphertext.
    pub data: Secret,
    /// Base64 of the 16 bytes of iv.
    pub iv: Secret,
    /// `rawData` with its `signature`, where both were given.
    pub raw: Option<RawData>,
}

/// `rawData` and the SHA-1 signature over it (`docs/wechat.md` §9).
#[derive(Debug, Clone)]
pub struct RawData {
    /// The bytes as they came, never re-serialised.
    pub data: Secret,
    /// Lower-case hex SHA-1 of `rawData` and session key.
    pub signature: Secret,
}
