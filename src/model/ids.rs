//! Identifiers. A value of these types has been validated; openids, unionids and external ids
//! redact themselves in `Debug` and have no `Display`, so that none reaches a log by accident.

use super::Millis;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// Longest openid or unionid accepted, in bytes (`docs/wechat.md` §10: real ones have 28).
pub const MAX_ID: usize = 64;
/// Longest event id accepted, in bytes.
pub const MAX_EVENT_ID: usize = 128;
/// Longest `external_id` accepted, in bytes.
pub const MAX_EXTERNAL_ID: usize = 256;

/// Why a text is not the identifier it should be. Never carries the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Empty or only white space.
    #[error("is empty")]
    Empty,
    /// Longer than the limit given, in bytes.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// Contains white space, control or non-ASCII characters.
    #[error("has characters other than visible ASCII")]
    Characters,
    /// An account's key without the colon between appid and openid.
    #[error("has no colon between the two")]
    NoColon,
    /// What programs print when they have no value ("undefined", "null", …).
    #[error("is a placeholder, not an identifier")]
    Placeholder,
}

/// Texts that a missing value turns into on its way through other people's programs.
const PLACEHOLDERS: [&str; 14] = [
    "undefined",
    "null",
    "none",
    "nil",
    "nan",
    "na",
    "n/a",
    "true",
    "false",
    "unknown",
    "unionid",
    "openid",
    "test",
    "(null)",
];

fn visible(text: &str, max: usize) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > max {
        return Err(InvalidId::TooLong(max));
    }
    if !text.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        return Err(InvalidId::Characters);
    }
    Ok(())
}

fn wechat_id(text: &str) -> Result<(), InvalidId> {
    visible(text, MAX_ID)?;
    let lower = text.to_ascii_lowercase();
    let zeros = lower.bytes().all(|b| b == b'0' || b == b'-');
    if zeros || PLACEHOLDERS.contains(&lower.as_str()) {
        return Err(InvalidId::Placeholder);
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:expr, redacted: $redacted:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates `text`.
            ///
            /// # Errors
            /// [`InvalidId`] says what is wrong, without repeating the text.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> Result<(), InvalidId> = $check;
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text itself, for wires and tables; never for logs where the type redacts.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if $redacted {
                    f.write_str(concat!(stringify!($name), "(…)"))
                } else {
                    write!(f, concat!(stringify!($name), "({})"), self.0)
                }
            }
        }
    };
}

text_id!(
    /// A WeChat app's id (`wx…`). Not secret: it may stand in logs and metric labels.
    AppId,
    |t| {
        visible(t, MAX_ID)?;
        if t.contains(':') { return Err(InvalidId::Characters); }
        Ok(())
    },
    redacted: false
);
text_id!(
    /// A person in one app. Case-sensitive, compared bytewise (`docs/wechat.md` §10).
    OpenId, wechat_id, redacted: true
);
text_id!(
    /// A person in one platform. Means nothing outside it (`docs/wechat.md` §10).
    UnionId, wechat_id, redacted: true
);
text_id!(
    /// The company's name for one WeChat Open Platform account. Not secret.
    PlatformId, |t| visible(t, MAX_ID), redacted: false
);
text_id!(
    /// The id a gateway gave to an event. May stand in logs, so gateways must not put an openid in it.
    EventId, |t| visible(t, MAX_EVENT_ID), redacted: false
);
text_id!(
    /// The company's own user id, carried through as it came.
    ExternalId,
    |t| {
        if t.trim().is_empty() { return Err(InvalidId::Empty); }
        if t.len() > MAX_EXTERNAL_ID { return Err(InvalidId::TooLong(MAX_EXTERNAL_ID)); }
        if t.chars().any(char::is_control) { return Err(InvalidId::Characters); }
        Ok(())
    },
    redacted: true
);

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One person in one app: what users are made of. Ordered by (appid, openid), bytewise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Account {
    /// The app.
    pub app: AppId,
    /// The person in it.
    pub openid: OpenId,
}

impl Account {
    /// The account's key on topics and in tables: `appid:openid`.
    #[must_use]
    pub fn key(&self) -> String {
        let (app, openid) = (self.app.as_str(), self.openid.as_str());
        let mut key = String::with_capacity(app.len() + openid.len() + 1);
        key.push_str(app);
        key.push(':');
        key.push_str(openid);
        key
    }

    /// Reads a key that [`Account::key`] wrote (an appid has no colon, an openid may).
    ///
    /// # Errors
    /// [`InvalidId`] when either half is invalid or the colon is missing.
    pub fn from_key(key: &str) -> Result<Self, InvalidId> {
        let (app, openid) = key.split_once(':').ok_or(InvalidId::NoColon)?;
        Ok(Self {
            app: AppId::parse(app)?,
            openid: OpenId::parse(openid)?,
        })
    }

    /// The account's own user id: UUIDv5 of `appid:openid:generation` in the company's secret
    /// namespace. Only an erasure raises the generation (0 before any).
    #[must_use]
    pub fn own_id(&self, namespace: Uuid, generation: Millis) -> UserId {
        let name = format!("{}:{}", self.key(), generation.0);
        UserId(Uuid::new_v5(&namespace, name.as_bytes()))
    }
}

/// A unionid inside its platform. Ordered bytewise by (platform, unionid).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnionKey {
    /// The platform that gives the unionid its meaning.
    pub platform: PlatformId,
    /// The unionid.
    pub unionid: UnionId,
}

/// The id of a user: the own id of the account that names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UserId(pub Uuid);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_malformed_ids_are_refused() {
        for (text, want) in [
            ("", InvalidId::Empty),
            ("undefined", InvalidId::Placeholder),
            ("NULL", InvalidId::Placeholder),
            ("000000", InvalidId::Placeholder),
            ("with space", InvalidId::Characters),
            ("微信", InvalidId::Characters),
        ] {
            assert_eq!(UnionId::parse(text), Err(want), "{text:?}");
        }
        let long = "o".repeat(65);
        assert_eq!(OpenId::parse(&long), Err(InvalidId::TooLong(64)));
        assert!(OpenId::parse("oGZUI0egBJY1zhBYw2KhdUfwVJJE").is_ok());
    }

    #[test]
    fn identifiers_redact_themselves() {
        let account = Account::from_key("wx1:oSecretOpenId").expect("valid");
        let shown = format!("{account:?}");
        assert!(!shown.contains("oSecretOpenId"), "{shown}");
        assert!(shown.contains("wx1"), "{shown}");
    }

    #[test]
    fn keys_round_trip_even_with_a_colon_in_the_openid() {
        let account = Account::from_key("wx1:o:x").expect("valid");
        assert_eq!(account.key(), "wx1:o:x");
        assert!(Account::from_key("nocolon").is_err());
    }
}
