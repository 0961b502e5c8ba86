//! How WeChat's ids look (`docs/wechat.md` §10).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The first four bytes as a prefix that all ids of one app or platform share.
pub(super) fn prefix(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |all, b| (all << 8) | u32::from(*b))
}

/// 'o' (6 bits), 32 bits of prefix, 130 bits of hash, as 28 URL-safe base64 characters.
pub(super) fn id(prefix: u32, tag: &[u8; 32]) -> String {
    const O: u64 = 40; // place of 'o' in the alphabet
    let head = (((O << 32) | u64::from(prefix)) << 2) | u64::from(tag[0] >> 6);
    let mut bytes = [0u8; 21];
    bytes[..5].copy_from_slice(&head.to_be_bytes()[3..]);
    bytes[5..].copy_from_slice(&tag[1..17]);
    URL_SAFE_NO_PAD.encode(bytes)
}
