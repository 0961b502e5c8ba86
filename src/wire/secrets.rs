//! The secrets of a login inside `sealed`, and how single fields of it are read and written.

use crate::model::Secret;
use serde::de::{Error, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// What stands inside `sealed`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secrets {
    #[serde(default, deserialize_with = "secret")]
    code: Option<Secret>,
    #[serde(default, deserialize_with = "secret")]
    session_key: Option<Secret>,
    #[serde(default, rename = "encryptedData", deserialize_with = "secret")]
    encrypted_data: Option<Secret>,
    #[serde(default, deserialize_with = "secret")]
    iv: Option<Secret>,
    #[serde(default, rename = "rawData", deserialize_with = "secret")]
    raw_data: Option<Secret>,
    #[serde(default, deserialize_with = "secret")]
    signature: Option<Secret>,
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<Secret>,
}

impl Secrets {
    /// In the order of `LoginWire::secrets`.
    pub(super) fn list(&mut self) -> [Option<Secret>; 7] {
        [
            self.code.take(),
            self.session_key.take(),
            self.encrypted_data.take(),
            self.iv.take(),
            self.raw_data.take(),
            self.signature.take(),
            self.access_token.take(),
        ]
    }
}

/// Secrets taken out of an event, written as `sealed` holds them.
pub(super) struct Taken(pub(super) [(&'static str, Option<Secret>); 7]);

impl Serialize for Taken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, secret) in &self.0 {
            if let Some(secret) = secret {
                map.serialize_entry(name, secret.expose())?;
            }
        }
        map.end()
    }
}

/// At most how many bytes a secret takes in JSON, with its name and quotes.
pub(super) fn escaped(secret: &Secret) -> usize {
    let size = |b: u8| match b {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    secret.expose().bytes().map(size).sum::<usize>() + 20
}

/// An optional text; WeChat writes an absent one as an empty one (`docs/wechat.md` §1).
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|t| !t.is_empty()))
}

pub(super) fn secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Secret>, D::Error> {
    Ok(text(deserializer)?.map(Secret::new))
}

pub(super) fn expose<S: Serializer>(
    secret: &Option<Secret>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

/// `true`, `false`, 1 or 0: WeChat writes numbers (`docs/wechat.md` §5), gateways either.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    struct Flag;
    impl Visitor<'_> for Flag {
        type Value = Option<bool>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true, false, 1 or 0")
        }
        fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
            Ok(Some(value))
        }
        fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
            match value {
                0 | 1 => Ok(Some(value == 1)),
                _ => Err(E::custom("must be true, false, 1 or 0")),
            }
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(Flag)
}
