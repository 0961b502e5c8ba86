//! Signatures and encryption of pushes (`docs/wechat.md` §11). Pure.
//!
//! CBC has no integrity of its own: what is opened here was signed as it came, `msg_signature` over
//! the whole of `Encrypt`. No input panics; no fault repeats a byte of it.

use crate::config::AesKey;
use crate::model::AppId;
use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// AES's block.
const BLOCK: usize = 16;
/// Pushes are padded to blocks of this many bytes, twice AES's.
const PADDED_TO: usize = 32;
/// Random bytes that a plaintext begins with, and the length that follows them.
const RANDOM: usize = 16;
const LENGTH: usize = 4;

/// Why a body does not open. One answer tells of all of them: whoever signs knows the key too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenFault {
    /// Not base64, or no whole number of blocks.
    #[error("Encrypt is not base64 of whole blocks")]
    NoBlocks,
    /// Most often another key than the console's.
    #[error("Encrypt does not open: check encoding_aes_key against the console")]
    Padding,
    /// The length inside reaches too far, or the text is not UTF-8.
    #[error("what Encrypt holds is not in WeChat's form")]
    Form,
    /// The message is another app's.
    #[error("what Encrypt holds is of another app")]
    App,
}

/// Whether `given` is the lower-case hex SHA-1 of the parts, sorted and joined. Takes as long
/// whichever character differs.
pub(super) fn signed<const N: usize>(mut parts: [&str; N], given: &str) -> bool {
    parts.sort_unstable();
    let mut sha = Sha1::new();
    for part in parts {
        sha.update(part);
    }
    hex::encode(sha.finalize())
        .as_bytes()
        .ct_eq(given.as_bytes())
        .into()
}

/// Opens `Encrypt`: random bytes, length, message, appid, padding.
///
/// # Errors
/// [`OpenFault`].
pub(super) fn open(encrypt: &str, key: &AesKey, app: &AppId) -> Result<Vec<u8>, OpenFault> {
    let blocks = STANDARD.decode(encrypt).map_err(|_| OpenFault::NoBlocks)?;
    let mut blocks = Zeroizing::new(blocks);
    if blocks.is_empty() || blocks.len() % BLOCK != 0 {
        return Err(OpenFault::NoBlocks);
    }
    let key = &*key.0;
    let iv = key.first_chunk::<BLOCK>().ok_or(OpenFault::Padding)?;
    let mut cipher = cbc::Decryptor::<Aes256>::new(key.into(), iv.into());
    for block in blocks.as_chunks_mut::<BLOCK>().0 {
        cipher.decrypt_block(block.into());
    }
    let plain = unpadded(&blocks).ok_or(OpenFault::Padding)?;
    let (length, rest) = plain
        .get(RANDOM..)
        .and_then(|rest| rest.split_first_chunk::<LENGTH>())
        .ok_or(OpenFault::Form)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| OpenFault::Form)?;
    let (message, named) = rest.split_at_checked(length).ok_or(OpenFault::Form)?;
    if named != app.as_str().as_bytes() {
        return Err(OpenFault::App);
    }
    Ok(message.to_vec())
}

/// Every byte of the padding is checked.
fn unpadded(plain: &[u8]) -> Option<&[u8]> {
    let pad = *plain.last()?;
    let padded = usize::from(pad);
    if !(1..=PADDED_TO).contains(&padded) {
        return None;
    }
    let (kept, padding) = plain.split_at_checked(plain.len().checked_sub(padded)?)?;
    padding.iter().all(|b| *b == pad).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{self as made, APP, app, enciphered, framed, key};
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    /// The documentation's own, and one of real traffic (`docs/wechat.md` §11).
    #[test]
    fn known_signatures_hold_and_no_other_does() {
        let parts = ["AAAAA", "1714036504", "1514711492"];
        let right = "f464b24fc39322e44b38aa78f5edd27bd1441696";
        assert!(signed(parts, right));
        let [token, time, nonce] = parts;
        assert!(signed([nonce, token, time], right), "order is no matter");
        for wrong in ["", &right[1..], "f464b24fc39322e44b38aa78f5edd27bd1441697"] {
            assert!(!signed(parts, wrong));
        }
        for other in ["AAAAB", "1714036505", "1514711493"] {
            assert!(!signed([other, time, nonce], right));
        }
        for i in 0..right.len() {
            let mut wrong = right.as_bytes().to_vec();
            wrong[i] ^= 1;
            assert!(!signed(parts, std::str::from_utf8(&wrong).expect("ASCII")));
        }
    }

    /// Made by others: wechatpy's `tests/test_crypto.py`, as `docs/wechat.md` §11 cites.
    #[test]
    fn a_body_that_others_encrypted_opens() {
        let text = "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR";
        let bytes = STANDARD
            .decode(format!("{}Q=", &text[..42]))
            .expect("43 letters");
        let key = AesKey(Zeroizing::new(bytes.try_into().expect("32 bytes")));
        let encrypt = "4ByGGj+sVCYcvGeQYhaKIk1o0pQRNbRjxybjTGblXrBaXlTXeOo1+bXFXDQQb1o6co6Yh9Bv41n7hOchLF6p+Q==";
        let given = "dd6b9c95b495b3f7e2901bfbc76c664930ffdb96";
        assert!(signed(
            ["123456", "1411443780", "437374425", encrypt],
            given
        ));
        assert!(!signed(
            ["123456", "1411443780", "437374424", encrypt],
            given
        ));
        let opened = open(encrypt, &key, &app(APP)).expect("opens");
        assert_eq!(opened, b"5927782489442352469");
    }

    #[test]
    fn what_was_sealed_opens_whatever_its_length() {
        for length in 0..100 {
            let message: Vec<u8> = (0..length).collect();
            let encrypt = enciphered(framed(&message, APP), &key(7));
            assert_eq!(open(&encrypt, &key(7), &app(APP)), Ok(message));
        }
    }

    #[test]
    fn each_thing_that_is_wrong_is_refused() {
        let (key, app) = (key(7), app(APP));
        let framed = framed(b"<xml></xml>", APP);
        let open = |plain: Vec<u8>| super::open(&enciphered(plain, &key), &key, &app);
        assert!(open(framed.clone()).is_ok());
        // The padding: each of its bytes, none, and more than there may be.
        let pad = usize::from(framed[framed.len() - 1]);
        for i in framed.len() - pad..framed.len() {
            let mut plain = framed.clone();
            plain[i] ^= 0x40;
            assert_eq!(open(plain), Err(OpenFault::Padding), "{i}");
        }
        for bad in [0, 33, 255] {
            let mut plain = framed.clone();
            let last = plain.len() - 1;
            plain[last] = bad;
            assert_eq!(open(plain), Err(OpenFault::Padding), "{bad}");
        }
        // The length: past the end, and into the appid or short of it.
        for (byte, bad, fault) in [
            (16, 0xff, OpenFault::Form),
            (19, 200, OpenFault::Form),
            (19, 12, OpenFault::App),
            (19, 10, OpenFault::App),
        ] {
            let mut plain = framed.clone();
            plain[byte] = bad;
            assert_eq!(open(plain), Err(fault), "{byte} {bad}");
        }
        // The app: another, one more letter, none.
        for other in ["wx49f0ab532d5d035b", "wx49f0ab532d5d035a ", ""] {
            assert_eq!(open(made::framed(b"<x/>", other)), Err(OpenFault::App));
        }
        // Too short for the frame; no blocks; no base64; another key.
        assert_eq!(open(vec![16; 16]), Err(OpenFault::Form));
        assert_eq!(open(vec![12; 32]), Err(OpenFault::Form));
        assert_eq!(open(vec![14; 32]), Err(OpenFault::Form));
        for bad in ["", "AAAA", "not base64", "AAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(
                super::open(bad, &key, &app),
                Err(OpenFault::NoBlocks),
                "{bad}"
            );
        }
        let encrypt = enciphered(framed, &key);
        assert!(super::open(&encrypt, &made::key(8), &app).is_err());
    }

    /// Flipping a bit of what is sealed is caught by the signature, not here; but nothing panics, and
    /// what still opens is of this app.
    #[test]
    fn flipped_bits_never_panic() {
        let (key, app) = (key(7), app(APP));
        let encrypt = enciphered(framed(&[b'm'; 100], APP), &key);
        let sealed = STANDARD.decode(&encrypt).expect("base64");
        let mut rng = StdRng::seed_from_u64(11);
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut bytes = sealed.clone();
            for _ in 0..rng.random_range(1..4) {
                let i = rng.random_range(0..bytes.len());
                bytes[i] ^= 1 << rng.random_range(0..8);
            }
            bytes.truncate(rng.random_range(0..9) * 16 + bytes.len().min(48));
            refused += u32::from(open(&STANDARD.encode(&bytes), &key, &app).is_err());
        }
        assert!(refused > 10_000, "{refused}");
    }
}
