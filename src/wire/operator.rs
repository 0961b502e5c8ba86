//! Operators' signatures. A topic's ACL cannot keep a gateway from writing a decision or an erasure
//! among its logins; without a signature of an operator's key they have no effect.
//!
//! Ed25519 over `ce_type`, one zero byte, and the value's bytes; in header `unilink_signature` as
//! `<key id>:<base64>`. A signature says nothing of order: repeating a signed event is harmless,
//! since decisions and erasures carry their own time and are joins.

use super::event::header;
use super::field::FieldError;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use std::fmt;

/// The header that carries the signature.
pub const SIGNATURE: &str = "unilink_signature";
const SCHEME: &str = "ed25519";
/// Longest author, in bytes: a name or an address.
const MAX_AUTHOR: usize = 128;
/// Longest note, in bytes.
const MAX_NOTE: usize = 1024;

/// Why a decision or an erasure is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no signature.
    #[error("has no `unilink_signature`: only operators' keys may decide and erase")]
    Missing,
    /// It is not `<key id>:<base64>`.
    #[error("`unilink_signature` is not `<key id>:<base64 of 64 bytes>`")]
    Malformed,
    /// The key is none of the operators'.
    #[error("`unilink_signature` is of a key that is not an operator's here")]
    UnknownKey,
    /// It is not of this type and value.
    #[error("`unilink_signature` does not fit the event")]
    Wrong,
}

/// An operator's key is not in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an operator's public key is written `ed25519:<id>:<base64url>`")]
pub struct NotAnOperatorKey;

/// Signs decisions and erasures.
pub struct Signer {
    id: String,
    key: SigningKey,
}

impl Signer {
    /// Takes the seed of an Ed25519 key (`crate::seal::NamedKey`).
    #[must_use]
    pub fn new(id: &str, seed: &[u8; 32]) -> Self {
        Self {
            id: id.to_owned(),
            key: SigningKey::from_bytes(seed),
        }
    }

    /// The value of [`SIGNATURE`].
    #[must_use]
    pub fn sign(&self, ce_type: &str, value: &[u8]) -> String {
        let signature = self.key.sign(&message(ce_type, value));
        format!("{}:{}", self.id, STANDARD.encode(signature.to_bytes()))
    }

    /// The public key, as [`OperatorKeys::parse`] reads it.
    #[must_use]
    pub fn public(&self) -> String {
        let key = URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes());
        format!("{SCHEME}:{}:{key}", self.id)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.id)
    }
}

/// The operators' public keys.
#[derive(Debug, Clone, Default)]
pub struct OperatorKeys {
    keys: Vec<(String, VerifyingKey)>,
}

impl OperatorKeys {
    /// Reads keys as [`Signer::public`] writes them. With none, nothing is believed.
    ///
    /// # Errors
    /// [`NotAnOperatorKey`].
    pub fn parse<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, NotAnOperatorKey> {
        let keys: Option<Vec<_>> = keys.into_iter().map(parse_key).collect();
        Ok(Self {
            keys: keys.ok_or(NotAnOperatorKey)?,
        })
    }

    /// Believes another key too.
    pub fn add(&mut self, id: &str, key: VerifyingKey) {
        self.keys.push((id.to_owned(), key));
    }

    /// The id of the operator's key that signed this type and value.
    ///
    /// # Errors
    /// [`SignatureError`]; each makes a dead letter `bad_signature`.
    pub fn verify(
        &self,
        ce_type: &str,
        value: &[u8],
        headers: &[(String, Vec<u8>)],
    ) -> Result<&str, SignatureError> {
        let text = header(headers, SIGNATURE).ok_or(SignatureError::Missing)?;
        let text = std::str::from_utf8(text).map_err(|_| SignatureError::Malformed)?;
        let (id, signature) = text.rsplit_once(':').ok_or(SignatureError::Malformed)?;
        let signature = STANDARD.decode(signature).ok();
        let signature = signature.and_then(|s| Signature::from_slice(&s).ok());
        let signature = signature.ok_or(SignatureError::Malformed)?;
        let message = message(ce_type, value);
        let mut known = self.keys.iter().filter(|(k, _)| k == id).peekable();
        known.peek().ok_or(SignatureError::UnknownKey)?;
        known
            .find(|(_, key)| key.verify_strict(&message, &signature).is_ok())
            .map(|(id, _)| id.as_str())
            .ok_or(SignatureError::Wrong)
    }
}

fn parse_key(text: &str) -> Option<(String, VerifyingKey)> {
    let mut parts = text.trim().splitn(3, ':');
    let (Some(SCHEME), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let bytes = URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')).ok()?;
    let key = VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok()?;
    (!id.is_empty()).then(|| (id.to_owned(), key))
}

fn message(ce_type: &str, value: &[u8]) -> Vec<u8> {
    [ce_type.as_bytes(), &[0], value].concat()
}

/// Whether these can stand behind an operator's deed: who, and why.
///
/// # Errors
/// [`FieldError`] names `author` or `note`.
pub fn check_words(author: &str, note: &str) -> Result<(), FieldError> {
    for (field, text, max) in [("author", author, MAX_AUTHOR), ("note", note, MAX_NOTE)] {
        if text.len() > max {
            return Err(FieldError::invalid(
                field,
                format!("is longer than {max} bytes"),
            ));
        }
    }
    if author.trim().is_empty() || author.chars().any(char::is_control) {
        return Err(FieldError::invalid(
            "author",
            "must say who decides, in one line",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::event::pair;
    use super::*;

    #[test]
    fn only_the_signed_type_and_value_are_believed() {
        let signer = Signer::new("ops", &[1; 32]);
        let public = signer.public();
        let keys = OperatorKeys::parse([public.as_str()]).expect("keys");
        let headers = [pair(SIGNATURE, &signer.sign("t", b"value"))];
        assert_eq!(keys.verify("t", b"value", &headers), Ok("ops"));
        assert_eq!(
            keys.verify("u", b"value", &headers),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            keys.verify("t", b"valuf", &headers),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            keys.verify("t", b"value", &[]),
            Err(SignatureError::Missing)
        );
        let other = Signer::new("ops", &[2; 32]);
        let forged = [pair(SIGNATURE, &other.sign("t", b"value"))];
        assert_eq!(
            keys.verify("t", b"value", &forged),
            Err(SignatureError::Wrong)
        );
        let stranger = Signer::new("stranger", &[1; 32]);
        let unknown = [pair(SIGNATURE, &stranger.sign("t", b"value"))];
        assert_eq!(
            keys.verify("t", b"value", &unknown),
            Err(SignatureError::UnknownKey)
        );
        for bad in ["", "ops", "ops:AAAA", "ops:!"] {
            let headers = [pair(SIGNATURE, bad)];
            assert_eq!(
                keys.verify("t", b"value", &headers),
                Err(SignatureError::Malformed)
            );
        }
        let none = OperatorKeys::default();
        assert_eq!(
            none.verify("t", b"value", &headers),
            Err(SignatureError::UnknownKey)
        );
    }

    #[test]
    fn keys_parse_or_are_refused() {
        let public = Signer::new("ops", &[1; 32]).public();
        assert!(OperatorKeys::parse([public.as_str()]).is_ok());
        for bad in ["", "ed25519:ops:AAAA", "ed25519::", "rsa:ops:AAAA"] {
            assert!(OperatorKeys::parse([bad]).is_err(), "{bad}");
        }
        assert!(!format!("{:?}", Signer::new("ops", &[1; 32])).contains("1, 1"));
    }
}
