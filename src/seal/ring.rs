//! Sealing at rest: a ring of symmetric keys that rotates, and one index key that does not.
//!
//! A sealed row is `1 | len | key id | nonce (12) | ciphertext and tag`, AES-256-GCM under a key
//! that is derived for its purpose and identity: HMAC-SHA256(ring key, purpose, 0, identity). Few
//! rows share a derived key, so random nonces of 96 bits never near their limit of 2^32 messages
//! (NIST SP 800-38D §8.3), however long a ring key is in use. Purpose and identity are associated
//! data too: a row moved to another place does not open.

use super::{KeyBytes, KeyError, OpenError, SealError, check_names};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use hmac::{Hmac, Mac};
use rand::Rng;
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;

/// The keys that rows are sealed with; the last one is the newest, and seals.
pub struct Ring {
    current: (String, KeyBytes),
    older: Vec<(String, KeyBytes)>,
    index: KeyBytes,
}

impl Ring {
    /// Takes keys in, oldest first, and the index key. The index key must never change: what was
    /// filed under it would not be found again.
    ///
    /// # Errors
    /// [`KeyError`] for no keys at all, bad names, or two of one name.
    pub fn new(mut keys: Vec<(String, KeyBytes)>, index: KeyBytes) -> Result<Self, KeyError> {
        check_names(keys.iter().map(|(id, _)| id.as_str()))?;
        let current = keys.pop().ok_or(KeyError::NoKeys)?;
        Ok(Self {
            current,
            older: keys,
            index,
        })
    }

    /// Seals `plaintext` for one purpose (a constant of the code) and identity (what row it is).
    ///
    /// # Errors
    /// [`SealError::TooLong`] past 64 GiB.
    pub fn seal(
        &self,
        purpose: &'static str,
        id: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let (name, key) = &self.current;
        let name_len = u8::try_from(name.len()).map_err(|_| SealError::Key)?;
        let head = 2 + name.len() + NONCE;
        let mut out = Vec::with_capacity(head + plaintext.len() + TAG);
        out.extend_from_slice(&[VERSION, name_len]);
        out.extend_from_slice(name.as_bytes());
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plaintext);
        let tag = derived(key, purpose, id)
            .encrypt_inout_detached(
                &nonce.into(),
                &context(purpose, id),
                InOutBuf::from(&mut out[head..]),
            )
            .map_err(|_| SealError::TooLong)?;
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Opens what [`Ring::seal`] made for the same purpose and identity.
    ///
    /// # Errors
    /// [`OpenError`] tells an unknown key from bytes that are no blob and one that does not open.
    pub fn open(
        &self,
        purpose: &'static str,
        id: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (name, nonce, body, tag) = split(sealed).ok_or(OpenError::Malformed)?;
        let key = self.keys().find(|(id, _)| id.as_bytes() == name);
        let (_, key) = key.ok_or(OpenError::UnknownKey)?;
        let mut plain = Zeroizing::new(body.to_vec());
        derived(key, purpose, id)
            .decrypt_inout_detached(
                &nonce.into(),
                &context(purpose, id),
                InOutBuf::from(plain.as_mut_slice()),
                &tag.into(),
            )
            .map_err(|_| OpenError::Failed)?;
        Ok(plain)
    }

    fn keys(&self) -> impl Iterator<Item = &(String, KeyBytes)> {
        std::iter::once(&self.current).chain(&self.older)
    }

    /// Under what `data` is filed where it must not stand in plain (ledger, tombstones,
    /// registers): HMAC-SHA256 with the index key.
    #[must_use]
    pub fn mac(&self, purpose: &'static str, data: &[u8]) -> [u8; 32] {
        *hmac(&self.index, purpose, data)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys().map(|(id, _)| id))
            .finish()
    }
}

type Parts<'a> = (&'a [u8], [u8; NONCE], &'a [u8], [u8; TAG]);

fn split(sealed: &[u8]) -> Option<Parts<'_>> {
    let (&[version, name_len], rest) = sealed.split_first_chunk::<2>()?;
    if version != VERSION {
        return None;
    }
    let (name, rest) = rest.split_at_checked(usize::from(name_len))?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
    let (body, tag) = rest.split_last_chunk::<TAG>()?;
    Some((name, *nonce, body, *tag))
}

fn derived(key: &KeyBytes, purpose: &'static str, id: &[u8]) -> Aes256Gcm {
    let derived = hmac(key, purpose, id);
    Aes256Gcm::new((&*derived).into())
}

/// Purpose and identity in one; no purpose contains a zero byte.
fn context(purpose: &'static str, id: &[u8]) -> Vec<u8> {
    [purpose.as_bytes(), &[0], id].concat()
}

fn hmac(key: &KeyBytes, purpose: &'static str, data: &[u8]) -> KeyBytes {
    // HMAC pads a key to the block with zeros, so the padded key is the same key, and making the
    // MAC cannot fail.
    let mut block = Zeroizing::new([0u8; 64]);
    block[..32].copy_from_slice(key.as_slice());
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    mac.update(purpose.as_bytes());
    mac.update(&[0]);
    mac.update(data);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(seeds: &[u8]) -> Ring {
        let keys = seeds
            .iter()
            .map(|s| (format!("k{s}"), Zeroizing::new([*s; 32])));
        Ring::new(keys.collect(), Zeroizing::new([9; 32])).expect("ring")
    }

    #[test]
    fn rows_open_only_in_their_place() {
        let ring = ring(&[1]);
        let sealed = ring.seal("ledger", b"row", b"plain").expect("seals");
        assert_eq!(
            ring.open("ledger", b"row", &sealed)
                .expect("opens")
                .as_slice(),
            b"plain"
        );
        assert_eq!(ring.open("ledger", b"wor", &sealed), Err(OpenError::Failed));
        assert_eq!(ring.open("other", b"row", &sealed), Err(OpenError::Failed));
        for at in 0..sealed.len() {
            let mut broken = sealed.clone();
            broken[at] ^= 1;
            assert!(ring.open("ledger", b"row", &broken).is_err(), "byte {at}");
            assert!(
                ring.open("ledger", b"row", &sealed[..at]).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn keys_rotate() {
        let old = ring(&[1]).seal("p", b"", b"").expect("seals");
        let both = ring(&[1, 2]);
        assert!(both.open("p", b"", &old).is_ok());
        let new = both.seal("p", b"", b"").expect("seals");
        assert_eq!(ring(&[1]).open("p", b"", &new), Err(OpenError::UnknownKey));
    }

    #[test]
    fn the_mac_is_hmac_sha256_and_survives_rotation() {
        // Checked with Python: hmac.new(b"\x09"*32, b"ledger\0data", "sha256").
        let want = "e5e8ce6733c59de6381d51b3e8553d7d99c38ac553c991aed41b87ca592a1954";
        let got = ring(&[1, 2]).mac("ledger", b"data");
        let hex: String = got.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, want);
        assert_eq!(ring(&[3]).mac("ledger", b"data"), got);
        assert_ne!(ring(&[3]).mac("tombstone", b"data"), got);
    }
}
