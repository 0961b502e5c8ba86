//! Signatures and encryption of messages (`docs/wechat.md` §11).
use aes::Aes256;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use sha1::{Digest, Sha1};

/// Messages are padded to blocks of this, twice the cipher's.
const BLOCK: usize = 32;

/// Hex SHA-1 of the parts, sorted and joined.
pub(super) fn signature(parts: &[&str]) -> String {
    let mut parts = parts.to_vec();
    parts.sort_unstable();
    hex::encode(Sha1::digest(parts.concat().as_bytes()))
}

/// The key of an `EncodingAESKey`. Its last character holds two bits that mean nothing.
pub(super) fn key(encoded: &str) -> Option<[u8; 32]> {
    const LOOSE: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    if encoded.len() != 43 {
        return None;
    }
    LOOSE.decode(format!("{encoded}=")).ok()?.try_into().ok()
}

/// AES-256-CBC of 16 random bytes, the length, the message and the appid; as base64.
pub(super) fn encrypt(key: [u8; 32], salt: [u64; 2], message: &[u8], appid: &str) -> String {
    let mut text = Vec::with_capacity(message.len() + 96);
    text.extend(salt.iter().flat_map(|half| half.to_be_bytes()));
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    text.extend(length.to_be_bytes());
    text.extend(message);
    text.extend(appid.bytes());
    let missing = BLOCK - text.len() % BLOCK;
    text.resize(text.len() + missing, u8::try_from(missing).unwrap_or(32));
    let mut iv = [0u8; 16];
    iv.copy_from_slice(&key[..16]);
    let mut cipher = cbc::Encryptor::<Aes256>::new(&key.into(), &iv.into());
    for block in text.as_chunks_mut::<16>().0 {
        cipher.encrypt_block(block.into());
    }
    STANDARD.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/wechat.md` §11, the official vector.
    #[test]
    fn signs_the_official_sample() {
        assert_eq!(
            signature(&["AAAAA", "1714036504", "1514711492"]),
            "f464b24fc39322e44b38aa78f5edd27bd1441696"
        );
    }

    #[test]
    fn a_key_is_43_characters_whatever_its_last_bits() {
        let a = key("jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C");
        let b = key("jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2D");
        assert!(a.is_some() && a == b);
        assert_eq!(key("short"), None);
        assert_eq!(key(&"!".repeat(43)), None);
    }

    #[test]
    fn a_whole_block_is_added_where_nothing_is_missing() {
        let bytes = |n: usize| {
            STANDARD
                .decode(encrypt([1; 32], [0; 2], &vec![0; n], ""))
                .unwrap()
                .len()
        };
        assert_eq!((bytes(11), bytes(12), bytes(13)), (32, 64, 64));
    }
}
