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
    hex(&sha.finalize())
        .as_bytes()
        .ct_eq(given.as_bytes())
        .into()
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n & 15)]);
    bytes
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(*b)])
        .collect()
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
