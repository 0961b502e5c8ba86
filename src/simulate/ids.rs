//! How WeChat's ids look (`docs/wechat.md` §10). Openids are encrypted numbers, so that whoever
//! holds the key reads them back and nothing is stored.

use super::crypto::Keyed;
use super::dice::mix;
use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The first four bytes as a prefix that all ids of one app or platform share.
pub(super) fn prefix(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |all, b| (all << 8) | u32::from(*b))
}

/// What an openid is the encryption of, after person and app.
const MARK: [u8; 7] = *b"openid1";

/// Who is behind an openid.
pub(super) struct Cloak {
    seed: u64,
    cipher: Aes128,
}

impl Cloak {
    pub(super) fn new(seed: u64) -> Self {
        let key = Keyed::new(seed, "openid").tag(0, b"cloak");
        let mut half = [0u8; 16];
        half.copy_from_slice(&key[..16]);
        Self {
            seed,
            cipher: Aes128::new(&half.into()),
        }
    }

    /// The openid of a person in the app of this number and prefix.
    pub(super) fn openid(&self, person: u64, app: u8, prefix: u32) -> String {
        let mut block = [0u8; 16];
        block[..8].copy_from_slice(&person.to_be_bytes());
        block[8] = app;
        block[9..].copy_from_slice(&MARK);
        let mut block = block.into();
        self.cipher.encrypt_block(&mut block);
        let mut tag = [0u8; 32];
        tag[0] = mix(&[self.seed, person, u64::from(app)]).to_be_bytes()[0];
        tag[1..17].copy_from_slice(&block);
        id(prefix, &tag)
    }

    /// Whose openid in that app the text is.
    pub(super) fn person(&self, openid: &str, app: u8, prefix: u32) -> Option<u64> {
        let bytes: [u8; 21] = URL_SAFE_NO_PAD.decode(openid).ok()?.try_into().ok()?;
        let mut block = [0u8; 16];
        block.copy_from_slice(&bytes[5..]);
        let mut block = block.into();
        self.cipher.decrypt_block(&mut block);
        let person = block[..8]
            .iter()
            .fold(0, |all, b| (all << 8) | u64::from(*b));
        (self.openid(person, app, prefix) == openid).then_some(person)
    }
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
