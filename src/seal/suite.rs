//! The one suite of RFC 9180 that evidence is sealed with: base mode, DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256, AES-256-GCM, a context's first message only (§6.1's single shot).
//!
//! Curve, hash and cipher are aws-lc's; here is only how RFC 9180 strings them together. Doing that
//! here keeps the private key parsed and the parts of the key schedule that never change, and
//! works in place. Secrets derived on the way are wiped.

use super::{KeyBytes, KeyError, OpenError, SealError};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};

/// Bytes of `enc` and of every public key.
pub(super) const POINT: usize = 32;
/// Bytes of AES-GCM's tag.
pub(super) const TAG: usize = 16;
/// Most bytes that AES-GCM encrypts at once (NIST SP 800-38D §5.2.1.1).
const LONGEST: u64 = (1 << 36) - 32;
/// Bytes of AES-GCM's nonce.
const NONCE: u8 = 12;
/// `suite_id` of the KEM: §4.1, with §7.1's number.
const KEM: &[u8] = b"KEM\x00\x20";
/// `suite_id` of the whole: §5.1, with §7's numbers of KEM, KDF and AEAD.
const HPKE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x02";

/// An X25519 public key as it travels.
pub(super) type Point = [u8; POINT];

/// A key pair, parsed once.
pub(super) struct Pair {
    private: PrivateKey,
    pub(super) public: Point,
}

impl Pair {
    /// Takes an X25519 scalar.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`], which no 32 bytes give.
    pub(super) fn new(scalar: &KeyBytes) -> Result<Self, KeyError> {
        let private = PrivateKey::from_private_key(&X25519, scalar.as_slice());
        Self::of(private.map_err(|_| KeyError::NotAKey)?).map_err(|_| KeyError::NotAKey)
    }

    /// A fresh pair, for one sealing.
    pub(super) fn ephemeral() -> Result<Self, SealError> {
        let made = PrivateKey::generate(&X25519).and_then(Self::of);
        made.map_err(|_| SealError::Key)
    }

    fn of(private: PrivateKey) -> Result<Self, Unspecified> {
        let point = private.compute_public_key()?;
        let public = point.as_ref().try_into().map_err(|_| Unspecified)?;
        Ok(Self { private, public })
    }
}

/// The suite for one `info`.
pub(super) struct Suite {
    /// `key_schedule_context` of §5.1.
    context: [u8; 65],
}

impl Suite {
    pub(super) fn new(info: &[u8]) -> Self {
        let mut context = [0; 65];
        context[1..33].copy_from_slice(extract(b"", HPKE, b"psk_id_hash", b"").as_slice());
        context[33..].copy_from_slice(extract(b"", HPKE, b"info_hash", info).as_slice());
        Self { context }
    }

    /// Encrypts `text` in place; the tag belongs behind it. `pair` must be fresh: used twice for
    /// one recipient it gives the same key and nonce.
    ///
    /// # Errors
    /// [`SealError`]; `Key` also when the system gives no memory or randomness.
    pub(super) fn seal(
        &self,
        pair: &Pair,
        recipient: &Point,
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<Tag, SealError> {
        if u64::try_from(text.len()).is_ok_and(|n| n > LONGEST) {
            return Err(SealError::TooLong);
        }
        let peer = UnparsedPublicKey::new(&X25519, recipient);
        agree(&pair.private, peer, Unspecified, |dh| {
            let (key, nonce) = self.schedule(dh, &pair.public, recipient)?;
            key.seal_in_place_separate_tag(nonce, Aad::from(aad), text)
        })
        .map_err(|_| SealError::Key)
    }

    /// Replaces `sealed`, ciphertext and tag, by the plaintext.
    ///
    /// # Errors
    /// [`OpenError::Failed`].
    pub(super) fn open(
        &self,
        pair: &Pair,
        enc: &Point,
        aad: &[u8],
        sealed: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let peer = UnparsedPublicKey::new(&X25519, enc);
        let length = agree(&pair.private, peer, Unspecified, |dh| {
            let (key, nonce) = self.schedule(dh, enc, &pair.public)?;
            key.open_in_place(nonce, Aad::from(aad), sealed)
                .map(|text| text.len())
        })
        .map_err(|_| OpenError::Failed)?;
        sealed.truncate(length);
        Ok(())
    }

    /// §4.1 `ExtractAndExpand` and §5.1 `KeySchedule`; the nonce is that of sequence number 0.
    fn schedule(
        &self,
        dh: &[u8],
        enc: &Point,
        recipient: &Point,
    ) -> Result<(LessSafeKey, Nonce), Unspecified> {
        let prk = extract(b"", KEM, b"eae_prk", dh);
        let mut context = [0; 2 * POINT];
        context[..POINT].copy_from_slice(enc);
        context[POINT..].copy_from_slice(recipient);
        let shared = expand(&prk, KEM, b"shared_secret", &context, 32);
        let secret = extract(shared.as_slice(), HPKE, b"secret", b"");
        let key = expand(&secret, HPKE, b"key", &self.context, 32);
        let nonce = expand(&secret, HPKE, b"base_nonce", &self.context, NONCE);
        let nonce = Nonce::try_assume_unique_for_key(&nonce[..usize::from(NONCE)])?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice())?;
        Ok((LessSafeKey::new(key), nonce))
    }
}

/// §4 `LabeledExtract`.
fn extract(salt: &[u8], suite: &[u8], label: &[u8], ikm: &[u8]) -> KeyBytes {
    hmac(salt, &[b"HPKE-v1", suite, label, ikm])
}

/// §4 `LabeledExpand`. One block of HKDF (RFC 5869 §2.3) is all that this suite needs: `length` is
/// at most 32, and the caller takes as many bytes.
fn expand(prk: &KeyBytes, suite: &[u8], label: &[u8], info: &[u8], length: u8) -> KeyBytes {
    let parts = [&[0, length], &b"HPKE-v1"[..], suite, label, info, &[1]];
    hmac(prk.as_slice(), &parts)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> KeyBytes {
    let mut context = Context::with_key(&Key::new(HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = KeyBytes::default();
    out.copy_from_slice(context.sign().as_ref());
    out
}

#[cfg(test)]
impl Pair {
    /// §7.1.3 `DeriveKeyPair`, so that a sealing can be repeated. Never outside tests.
    pub(super) fn derive(ikm: &[u8]) -> Self {
        let prk = extract(b"", KEM, b"dkp_prk", ikm);
        Self::new(&expand(&prk, KEM, b"sk", b"", 32)).expect("a scalar")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(byte).collect()
    }

    /// The first encryption of the vector for mode 0, KEM 0x0020, KDF 0x0001 and AEAD 0x0002 among
    /// those published with RFC 9180 (its appendix A prints other suites only).
    #[test]
    fn the_vector_published_with_the_rfc_comes_out() {
        let ikm_e = hex("2cd7c601cefb3d42a62b04b7a9041494c06c7843818e0ce28a8f704ae7ab20f9");
        let ikm_r = hex("dac33b0e9db1b59dbbea58d59a14e7b5896e9bdf98fad6891e99d1686492b9ee");
        let (ours, theirs) = (Pair::derive(&ikm_e), Pair::derive(&ikm_r));
        let enc = "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256";
        let public = "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c";
        assert_eq!(ours.public.as_slice(), hex(enc));
        assert_eq!(theirs.public.as_slice(), hex(public));
        let suite = Suite::new(b"Ode on a Grecian Urn");
        let plain = b"Beauty is truth, truth beauty";
        let mut text = plain.to_vec();
        let tag = suite
            .seal(&ours, &theirs.public, b"Count-0", &mut text)
            .expect("seals");
        text.extend_from_slice(tag.as_ref());
        let sealed = hex(concat!(
            "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9",
            "931980a41de125a925cdad859d5b7a"
        ));
        assert_eq!(text, sealed);
        suite
            .open(&theirs, &ours.public, b"Count-0", &mut text)
            .expect("opens");
        assert_eq!(text, plain);
    }
}
