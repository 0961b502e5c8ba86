//! Sealing: evidence in topics with HPKE ([`hpke`]), rows at rest with a symmetric key ring
//! ([`ring`]), and the key file of the embedded profile ([`keyfile`]).
//!
//! Keys are wiped when dropped and print nothing of themselves. Errors never carry keys, plaintext
//! or blobs. Where keys come from otherwise (configuration) is not this module's matter: every
//! type can be made from parts.

pub mod hpke;
pub mod keyfile;
pub mod ring;
mod suite;

pub use hpke::{PrivateKeys, PublicKey};
pub use keyfile::{KeyFileError, Keys, NamedKey};
pub use ring::Ring;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use zeroize::Zeroizing;

/// Every key here has 256 bits.
pub type KeyBytes = Zeroizing<[u8; 32]>;

/// Longest name of a key; it travels in front of everything that is sealed.
const MAX_KEY_NAME: usize = 32;

/// Why something was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The public key is not a sound point of the curve (RFC 9180 §7.1.4).
    #[error("the public key cannot be sealed to")]
    Key,
    /// More than the cipher takes at once (64 GiB).
    #[error("too long to be sealed")]
    TooLong,
}

/// Why something sealed was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Sealed with a key that is not held here. It may open once the key is.
    #[error("sealed with a key that is not held here")]
    UnknownKey,
    /// Not in the format that sealing writes.
    #[error("not a sealed blob")]
    Malformed,
    /// Damaged, or sealed for something else (other associated data).
    #[error("does not open: damaged, or sealed for something else")]
    Failed,
}

/// Why keys were refused. Never carries key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text of a key does not decode.
    #[error("a key must be 32 bytes in base64")]
    NotAKey,
    /// A key's name has characters that the formats reserve, or too many.
    #[error("a key's name must have 1 to 32 characters out of a-z, A-Z, 0-9, `-` and `_`")]
    BadName,
    /// Two keys have one name.
    #[error("two keys are named `{0}`")]
    Duplicate(String),
    /// There must be at least one.
    #[error("at least one key is needed")]
    NoKeys,
    /// Not `hpke-x25519:<kid>:<base64url>`.
    #[error("a public key is written `hpke-x25519:<kid>:<base64url>`")]
    NotAPublicKey,
}

/// Reads a key of 32 bytes from base64, of either alphabet, padded or not.
///
/// # Errors
/// [`KeyError::NotAKey`].
pub fn key_from_text(text: &str) -> Result<KeyBytes, KeyError> {
    let text = text.trim();
    let decoded = if text.contains(['-', '_']) {
        URL_SAFE_PAD_INDIFFERENT.decode(text)
    } else {
        STANDARD_PAD_INDIFFERENT.decode(text)
    };
    let bytes = Zeroizing::new(decoded.map_err(|_| KeyError::NotAKey)?);
    let mut key = KeyBytes::default();
    if bytes.len() != key.len() {
        return Err(KeyError::NotAKey);
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > MAX_KEY_NAME || !name.bytes().all(plain) {
        return Err(KeyError::BadName);
    }
    Ok(())
}

/// Checks the names of a list of keys: valid, distinct, at least one.
fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), KeyError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        check_name(name)?;
        if !seen.insert(name) {
            return Err(KeyError::Duplicate(name.to_owned()));
        }
    }
    if seen.is_empty() {
        return Err(KeyError::NoKeys);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_either_alphabet() {
        let standard = "//////////////////////////////////////////8=";
        let url = "__________________________________________8";
        assert_eq!(key_from_text(standard).expect("key").as_slice(), [0xff; 32]);
        assert_eq!(key_from_text(url).expect("key").as_slice(), [0xff; 32]);
        for bad in ["", "AAAA", "not base64!", &format!("{url}AAAA")] {
            assert_eq!(key_from_text(bad), Err(KeyError::NotAKey), "{bad}");
        }
    }
}
