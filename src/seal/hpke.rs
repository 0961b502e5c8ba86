//! HPKE (RFC 9180) sealing of evidence: base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! AES-256-GCM. Producers hold only the public key, so none can read what another sealed.
//!
//! Two forms of one blob, `docs/sealing.md` has the bytes:
//! text `v1.<kid>.<base64url-nopad(enc || ciphertext)>` for a field of an event, and bytes
//! `v1b.<kid>.` followed by `enc || ciphertext` for a dead letter sealed whole, which then grows by
//! less than 128 bytes.

use super::suite::{POINT, Pair, Point, Suite, TAG};
use super::{KeyBytes, KeyError, OpenError, SealError, check_name, check_names};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::{Arc, LazyLock};
use zeroize::Zeroizing;

/// HPKE's `info`: binds every blob to this use and version.
pub const INFO: &[u8] = b"unilink/evidence/v1";
static SUITE: LazyLock<Suite> = LazyLock::new(|| Suite::new(INFO));
const TEXT: &str = "v1.";
const BYTES: &[u8] = b"v1b.";
const SCHEME: &str = "hpke-x25519";

/// A key to seal to.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kid: Arc<str>,
    raw: Point,
}

impl PublicKey {
    /// Reads what [`fmt::Display`] prints: `hpke-x25519:<kid>:<base64url>`.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.trim().splitn(3, ':');
        let (Some(SCHEME), Some(kid), Some(key)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(KeyError::NotAPublicKey);
        };
        check_name(kid)?;
        let raw = *super::key_from_text(key)?;
        Ok(Self {
            kid: Arc::from(kid),
            raw,
        })
    }

    /// The key's id, which every blob sealed to it carries.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Seals `plaintext` as text. `aad` must be given again to open it.
    ///
    /// # Errors
    /// [`SealError`]; for a sound key only when `plaintext` has more than 64 GiB.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<String, SealError> {
        self.seal_with(&Pair::ephemeral()?, aad, plaintext)
    }

    /// Seals `plaintext` as bytes: no third more for base64.
    ///
    /// # Errors
    /// As [`PublicKey::seal`].
    pub fn seal_bytes(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let head = [BYTES, self.kid.as_bytes(), b"."].concat();
        self.raw_seal(&Pair::ephemeral()?, &head, aad, plaintext)
    }

    fn seal_with(&self, pair: &Pair, aad: &[u8], plaintext: &[u8]) -> Result<String, SealError> {
        let sealed = self.raw_seal(pair, b"", aad, plaintext)?;
        let head = TEXT.len() + self.kid.len() + 1;
        let mut out = String::with_capacity(head + sealed.len().div_ceil(3) * 4);
        out.push_str(TEXT);
        out.push_str(&self.kid);
        out.push('.');
        URL_SAFE_NO_PAD.encode_string(&sealed, &mut out);
        Ok(out)
    }

    /// `head || enc || ciphertext`.
    fn raw_seal(
        &self,
        pair: &Pair,
        head: &[u8],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let start = head.len() + POINT;
        // Room for all of it: growing would leave the plaintext behind.
        let mut out = Vec::with_capacity(start + plaintext.len() + TAG);
        out.extend_from_slice(head);
        out.extend_from_slice(&pair.public);
        out.extend_from_slice(plaintext);
        let tag = SUITE.seal(pair, &self.raw, aad, &mut out[start..])?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = URL_SAFE_NO_PAD.encode(self.raw);
        write!(f, "{SCHEME}:{}:{key}", self.kid)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.kid)
    }
}

struct Named {
    public: PublicKey,
    pair: Pair,
}

/// The keys to open with; the last one is the newest, and current: producers seal to it.
pub struct PrivateKeys {
    keys: Vec<Named>,
    current: PublicKey,
}

impl PrivateKeys {
    /// Takes private keys (X25519 scalars) in, oldest first. A key without a name gets the first 8
    /// bytes of its public key's SHA-256, in hex.
    ///
    /// # Errors
    /// [`KeyError`] for no keys at all, bad names, or two of one name.
    pub fn new(keys: Vec<(Option<String>, KeyBytes)>) -> Result<Self, KeyError> {
        let named = |(kid, bytes): (Option<String>, KeyBytes)| {
            let pair = Pair::new(&bytes)?;
            let raw = pair.public;
            let kid = Arc::from(kid.unwrap_or_else(|| default_kid(&raw)));
            let public = PublicKey { kid, raw };
            Ok(Named { public, pair })
        };
        let keys = keys.into_iter().map(named).collect::<Result<Vec<_>, _>>()?;
        check_names(keys.iter().map(|k| k.public.kid()))?;
        let current = keys.last().ok_or(KeyError::NoKeys)?.public.clone();
        Ok(Self { keys, current })
    }

    /// The public key that producers should seal to now.
    #[must_use]
    pub fn current(&self) -> &PublicKey {
        &self.current
    }

    /// Every public key, oldest first.
    pub fn public(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter().map(|k| &k.public)
    }

    /// Opens what [`PublicKey::seal`] made.
    ///
    /// # Errors
    /// [`OpenError`] tells an unknown key from a blob that is none and one that does not open.
    pub fn open(&self, aad: &[u8], blob: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (kid, body) = split_text(blob).ok_or(OpenError::Malformed)?;
        let key = self.find(kid.as_bytes())?;
        let body = URL_SAFE_NO_PAD
            .decode(body)
            .map_err(|_| OpenError::Malformed)?;
        key.open(aad, &body)
    }

    /// Opens what [`PublicKey::seal_bytes`] made.
    ///
    /// # Errors
    /// As [`PrivateKeys::open`].
    pub fn open_bytes(&self, aad: &[u8], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let rest = blob.strip_prefix(BYTES).ok_or(OpenError::Malformed)?;
        let dot = rest
            .iter()
            .take(super::MAX_KEY_NAME + 1)
            .position(|b| *b == b'.');
        let dot = dot.ok_or(OpenError::Malformed)?;
        let (kid, body) = (&rest[..dot], &rest[dot + 1..]);
        self.find(kid)?.open(aad, body)
    }

    fn find(&self, kid: &[u8]) -> Result<&Named, OpenError> {
        let found = self.keys.iter().find(|k| k.public.kid.as_bytes() == kid);
        found.ok_or(OpenError::UnknownKey)
    }
}

impl Named {
    fn open(&self, aad: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (enc, sealed) = body.split_first_chunk().ok_or(OpenError::Malformed)?;
        if sealed.len() < TAG {
            return Err(OpenError::Malformed);
        }
        let mut text = Zeroizing::new(sealed.to_vec());
        SUITE.open(&self.pair, enc, aad, &mut text)?;
        Ok(text)
    }
}

impl fmt::Debug for PrivateKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids = self.keys.iter().map(|k| k.public.kid());
        f.debug_list().entries(kids).finish()
    }
}

fn default_kid(public: &Point) -> String {
    let digest = Sha256::digest(public);
    digest[..8].iter().fold(String::new(), |mut hex, byte| {
        hex.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        hex.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        hex
    })
}

/// Whether a text has the form of a sealed field; whose key it is sealed to is not asked.
#[must_use]
pub fn is_sealed_text(blob: &str) -> bool {
    // The encapsulated key and the cipher's tag.
    const LEAST: usize = 32 + 16;
    split_text(blob)
        .and_then(|(_, body)| URL_SAFE_NO_PAD.decode(body).ok())
        .is_some_and(|bytes| bytes.len() > LEAST)
}

fn split_text(blob: &str) -> Option<(&str, &str)> {
    let (kid, body) = blob.strip_prefix(TEXT)?.split_once('.')?;
    check_name(kid).ok()?;
    Some((kid, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> PrivateKeys {
        PrivateKeys::new(vec![(None, Zeroizing::new([seed; 32]))]).expect("keys")
    }

    const AAD: &[u8] = b"unilink/login/v1\0evt-1\0wx4f4bc4dec97d474b";
    const PLAIN: &[u8] = br#"{"code":"0a1b2c3d"}"#;
    /// The vector of `docs/sealing.md`.
    const VECTOR: &str = "v1.7e37bdf90daf1c8b.X9R2M7XkP8p7rRv75CT-rLF12dTUow8Wbb0wY28LRGuPk9E77hXPnEW5ogwg-F9GrA6LM8qSuNkP4j2y96FMqopmXw";

    #[test]
    fn the_documented_vector_is_what_sealing_makes() {
        let keys = keys(0x2a);
        let key = keys.current();
        let blob = key.seal_with(&Pair::derive(&[7; 32]), AAD, PLAIN);
        let doc = include_str!("../../docs/sealing.md");
        assert_eq!(blob.as_deref(), Ok(VECTOR));
        assert!(doc.contains(VECTOR), "docs/sealing.md has another vector");
        assert!(doc.contains(&key.to_string()), "{key}");
        assert_eq!(keys.open(AAD, VECTOR).expect("opens").as_slice(), PLAIN);
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let keys = keys(1);
        let key = keys.current();
        let text = key.seal(AAD, PLAIN).expect("seals");
        assert_ne!(text, key.seal(AAD, PLAIN).expect("seals"));
        assert_eq!(keys.open(AAD, &text).expect("opens").as_slice(), PLAIN);
        assert_eq!(keys.open(b"other", &text), Err(OpenError::Failed));
        let bytes = key.seal_bytes(AAD, PLAIN).expect("seals");
        assert!(bytes.len() < PLAIN.len() + 128);
        assert_eq!(
            keys.open_bytes(AAD, &bytes).expect("opens").as_slice(),
            PLAIN
        );
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(keys.open_bytes(AAD, &broken).is_err(), "byte {at}");
        }
    }

    #[test]
    fn failures_are_told_apart() {
        let (ours, theirs) = (keys(1), keys(2));
        let blob = theirs.current().seal(AAD, PLAIN).expect("seals");
        assert_eq!(ours.open(AAD, &blob), Err(OpenError::UnknownKey));
        let kid = ours.current().kid().to_owned();
        let short = format!("v1.{kid}.AAAA");
        let alien = format!("v1.{kid}.a b");
        for bad in [
            "",
            "v1",
            "v1.",
            "v1..",
            "v2.k.AA",
            short.as_str(),
            alien.as_str(),
        ] {
            assert_eq!(ours.open(AAD, bad), Err(OpenError::Malformed), "{bad}");
        }
        // The point of order 1: RFC 9180 demands a refusal.
        let zero = format!("v1.{kid}.{}", URL_SAFE_NO_PAD.encode([0u8; 64]));
        assert_eq!(ours.open(AAD, &zero), Err(OpenError::Failed));
        let low = PublicKey::parse(&format!("{SCHEME}:k:{}", URL_SAFE_NO_PAD.encode([0u8; 32])));
        assert_eq!(low.expect("32 bytes").seal(AAD, PLAIN), Err(SealError::Key));
    }

    #[test]
    fn the_newest_key_is_current_and_old_ones_still_open() {
        let old = keys(1);
        let blob = old.current().seal(AAD, PLAIN).expect("seals");
        let both = PrivateKeys::new(vec![
            (None, Zeroizing::new([1; 32])),
            (Some("newer".into()), Zeroizing::new([2; 32])),
        ])
        .expect("keys");
        assert_eq!(both.current().kid(), "newer");
        assert!(both.open(AAD, &blob).is_ok());
        let twice = vec![
            (None, Zeroizing::new([1; 32])),
            (None, Zeroizing::new([1; 32])),
        ];
        assert!(matches!(
            PrivateKeys::new(twice),
            Err(KeyError::Duplicate(_))
        ));
        assert_eq!(PrivateKeys::new(vec![]).err(), Some(KeyError::NoKeys));
    }

    #[test]
    fn public_keys_print_and_parse() {
        let keys = keys(3);
        let key = keys.current();
        assert_eq!(PublicKey::parse(&key.to_string()).as_ref(), Ok(key));
        for bad in [
            "",
            "hpke-x25519:k",
            "hpke-p256:k:AAAA",
            "hpke-x25519:a.b:AAAA",
        ] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
        assert!(!format!("{keys:?}").contains("3, 3"));
    }
}
