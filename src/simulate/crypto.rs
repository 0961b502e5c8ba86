//! What WeChat computes with secrets: keyed hashes behind every id and session key, and
//! `encryptedData` with `rawData` and `signature` (`docs/wechat.md` §9).

use aes::Aes128;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::fmt::Write as _;

/// HMAC-SHA256 under a key that a seed and a purpose give; the key schedule is computed once.
#[derive(Clone)]
pub(super) struct Keyed(Hmac<Sha256>);

impl Keyed {
    /// The hash for `purpose` (at most 56 bytes count) in the world of `seed`.
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        let mut key = [0u8; 64];
        key[..8].copy_from_slice(&seed.to_be_bytes());
        for (slot, byte) in key[8..].iter_mut().zip(purpose.bytes()) {
            *slot = byte;
        }
        Self(Hmac::new(&key.into()))
    }

    /// The hash of a number in a scope.
    pub(super) fn tag(&self, number: u64, scope: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(&number.to_be_bytes());
        mac.update(scope);
        mac.finalize().into_bytes().into()
    }
}

/// What the front end gets from `wx.getUserInfo` and hands to its back end.
#[derive(Clone, serde::Serialize)]
pub struct Encrypted {
    /// Base64 of the AES-128-CBC ciphertext.
    #[serde(rename = "encryptedData")]
    pub encrypted_data: String,
    /// Base64 of the 16 bytes of iv.
    pub iv: String,
    /// The part without identifiers, as text.
    #[serde(rename = "rawData")]
    pub raw_data: String,
    /// Lower-case hex SHA-1 of `rawData` and session key.
    pub signature: String,
}

/// Who is in the encrypted data.
pub(super) struct Contents<'a> {
    pub(super) openid: &'a str,
    pub(super) unionid: Option<&'a str>,
    pub(super) appid: &'a str,
    /// Seconds since the epoch.
    pub(super) timestamp: i64,
}

/// The profile that new clients give for everybody since 2021 (`docs/wechat.md` §9 e).
const PROFILE: &str = concat!(
    r#""nickName":"微信用户","gender":0,"language":"","city":"","province":"","country":"","#,
    r#""avatarUrl":"https://thirdwx.qlogo.cn/mmopen/vi_32/POgEwh4mIHO4nibH0KlMECNjjGxQUq24ZEaGT4poC6icRiccVGKSyXwibcPq4BWmiaIGuG1icwxaQX6grC9VemZoJ8rg/132""#
);

/// Encrypts the user info under a session key, as `wx.getUserInfo` returns it.
pub(super) fn user_info(who: &Contents<'_>, key: [u8; 16], iv: [u8; 16]) -> Encrypted {
    let mut plain = String::with_capacity(512);
    // Writing to a String cannot fail.
    let _ = write!(plain, r#"{{"openId":"{}",{PROFILE}"#, who.openid);
    if let Some(unionid) = who.unionid {
        let _ = write!(plain, r#","unionId":"{unionid}""#);
    }
    let (timestamp, appid) = (who.timestamp, who.appid);
    let _ = write!(
        plain,
        r#","watermark":{{"timestamp":{timestamp},"appid":"{appid}"}}}}"#
    );
    let raw_data = format!("{{{PROFILE}}}");
    let mut sha = Sha1::new();
    sha.update(raw_data.as_bytes());
    sha.update(STANDARD.encode(key).as_bytes());
    let signature = hex::encode(sha.finalize());
    Encrypted {
        encrypted_data: STANDARD.encode(encrypt(plain.into_bytes(), key, iv)),
        iv: STANDARD.encode(iv),
        raw_data,
        signature,
    }
}

/// AES-128-CBC with PKCS#7 padding.
fn encrypt(mut text: Vec<u8>, key: [u8; 16], iv: [u8; 16]) -> Vec<u8> {
    let missing = 16 - text.len() % 16;
    text.resize(text.len() + missing, u8::try_from(missing).unwrap_or(16));
    let mut cipher = cbc::Encryptor::<Aes128>::new(&key.into(), &iv.into());
    for block in text.as_chunks_mut::<16>().0 {
        cipher.encrypt_block(block.into());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/wechat.md` §9, verified vector; the plain text is what it decrypts to.
    #[test]
    fn encrypts_the_official_sample_to_the_official_bytes() {
        let plain = r#"{"openId":"oGZUI0egBJY1zhBYw2KhdUfwVJJE","nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/aSKcBBPpibyKNicHNTMM0qJVh8Kjgiak2AHWr8MHM4WgMEm7GFhsf8OYrySdbvAMvTsw3mo8ibKicsnfN5pRjl1p8HQ/0","unionId":"ocMvos6NjeKLIBqg5Mr9QjxrP1FA","watermark":{"timestamp":1477314187,"appid":"wx4f4bc4dec97d474b"}}"#;
        let want = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew==";
        let bytes = |text: &str| STANDARD.decode(text).unwrap().try_into().unwrap();
        let key = bytes("tiihtNczf5v6AKRyjwEUhQ==");
        let iv = bytes("r7BXXKkLb8qrSNn05n0qiA==");
        assert_eq!(
            STANDARD.encode(encrypt(plain.as_bytes().to_vec(), key, iv)),
            want
        );
    }

    #[test]
    fn a_full_block_gets_a_block_of_padding() {
        assert_eq!(encrypt(vec![1; 16], [0; 16], [0; 16]).len(), 32);
    }
}
