//! Opening `encryptedData`: AES-128-CBC under a session key (`docs/wechat.md` §9). Pure.
//!
//! CBC has no integrity: a wrong iv garbles only the first block, a wrong key passes the padding
//! one time in 256. Promise: data counts only if *everything* holds: base64, lengths, the whole
//! padding, UTF-8, one JSON object, the event's app in its watermark, the event's openid, and the
//! signature over `rawData` where one came. No input panics; no fault repeats a byte of it.
//!
//! What stays possible: whoever knows the session key can make any data. Hence callers rank what
//! a key from the event decrypted below what a key from WeChat did.

use super::wechat::union_id;
use crate::model::{AppId, EncryptedData, Millis, OpenId, RawData, Secret, UnionId};
use aes::Aes128;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use sha1::{Digest, Sha1};
use std::fmt;
use std::marker::PhantomData;
use zeroize::Zeroizing;

/// Longest ciphertext and longest `rawData` taken, in bytes. Real ones have under 1 KiB.
pub const MAX_DATA: usize = 64 * 1024;
/// Longest base64 text taken: that of [`MAX_DATA`], plus as much again for line breaks.
const MAX_TEXT: usize = MAX_DATA * 8 / 3;
/// AES-128's block, and its key.
const BLOCK: usize = 16;

/// Which of the three base64 texts a fault is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Part {
    /// The session key.
    Key,
    /// The iv.
    Iv,
    /// `encryptedData`.
    Data,
}

/// Why encrypted data does not count. For the operator only: callers outside get one answer for
/// all of them, since telling padding from the rest would make us an oracle.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[error("{}", self.word())]
pub enum DecryptFault {
    /// Not base64, or without its `=`.
    BadBase64 {
        /// Which text.
        which: Part,
    },
    /// The session key has not 16 bytes.
    KeyLength,
    /// The iv has not 16 bytes.
    IvLength,
    /// The ciphertext is empty or no multiple of 16 bytes.
    BlockLength,
    /// The ciphertext or `rawData` is longer than [`MAX_DATA`].
    TooLarge,
    /// The padding is wrong: most often a session key that a later login has replaced.
    Padding,
    /// The plaintext is not UTF-8.
    Utf8,
    /// The plaintext is not one JSON object with the fields in their types and none twice.
    Json,
    /// No watermark, or none with an appid.
    WatermarkMissing,
    /// The watermark names another app.
    WatermarkApp,
    /// The data names no openid (`getUserProfile`, phone numbers: `docs/wechat.md` §6).
    OpenIdMissing,
    /// The data names another openid.
    OpenIdMismatch,
    /// The data is sound, but `signature` is not that of `rawData` under this key.
    Signature,
}

impl DecryptFault {
    /// The word for metric labels and messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BadBase64 { which: Part::Key } => "bad_base64_key",
            Self::BadBase64 { which: Part::Iv } => "bad_base64_iv",
            Self::BadBase64 { which: Part::Data } => "bad_base64_data",
            Self::KeyLength => "key_length",
            Self::IvLength => "iv_length",
            Self::BlockLength => "block_length",
            Self::TooLarge => "too_large",
            Self::Padding => "padding",
            Self::Utf8 => "utf8",
            Self::Json => "json",
            Self::WatermarkMissing => "watermark_missing",
            Self::WatermarkApp => "watermark_app",
            Self::OpenIdMissing => "openid_missing",
            Self::OpenIdMismatch => "openid_mismatch",
            Self::Signature => "signature",
        }
    }
}

/// What sound data says about its account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decrypted {
    /// The person in the platform; `Err` when what stands there is no unionid. Absent when the
    /// app is in no platform (`docs/wechat.md` §6).
    pub unionid: Option<Result<UnionId, ()>>,
    /// When WeChat made the data (`watermark.timestamp`).
    pub at: Option<Millis>,
}

/// Decrypts `data` and checks that it is about `openid` in `app`.
///
/// # Errors
/// [`DecryptFault`] says which check failed first. None of them passes on a retry with the same
/// key (`docs/wechat.md` §9 a).
pub fn decrypt(
    app: &AppId,
    openid: &OpenId,
    session_key: &Secret,
    data: &EncryptedData,
) -> Result<Decrypted, DecryptFault> {
    let key_text = tidy(session_key.expose())?;
    let key = decode(&key_text, Part::Key)?;
    let iv = decode(&tidy(data.iv.expose())?, Part::Iv)?;
    let mut buffer = decode(&tidy(data.data.expose())?, Part::Data)?;
    let plain = read_plain(open(&key, &iv, &mut buffer)?)?;
    let decrypted = check(plain, app, openid)?;
    match &data.raw {
        Some(raw) => signed(raw, &key_text).map(|()| decrypted),
        None => Ok(decrypted),
    }
}

/// Undoes what forms and mails do to base64: `+` turned into a space, line breaks
/// (`docs/wechat.md` §9 b).
fn tidy(text: &str) -> Result<Zeroizing<String>, DecryptFault> {
    if text.len() > MAX_TEXT {
        return Err(DecryptFault::TooLarge);
    }
    let mut tidy = Zeroizing::new(String::with_capacity(text.len()));
    for c in text.chars() {
        match c {
            ' ' => tidy.push('+'),
            c if c.is_whitespace() => {}
            c => tidy.push(c),
        }
    }
    Ok(tidy)
}

fn decode(text: &str, which: Part) -> Result<Zeroizing<Vec<u8>>, DecryptFault> {
    let bytes = STANDARD.decode(text);
    bytes
        .map(Zeroizing::new)
        .map_err(|_| DecryptFault::BadBase64 { which })
}

/// Decrypts in place and strips the padding, of which every byte is checked.
fn open<'b>(key: &[u8], iv: &[u8], buffer: &'b mut [u8]) -> Result<&'b [u8], DecryptFault> {
    let key: &[u8; BLOCK] = key.try_into().map_err(|_| DecryptFault::KeyLength)?;
    let iv: &[u8; BLOCK] = iv.try_into().map_err(|_| DecryptFault::IvLength)?;
    if buffer.len() > MAX_DATA {
        return Err(DecryptFault::TooLarge);
    }
    if buffer.is_empty() || !buffer.len().is_multiple_of(BLOCK) {
        return Err(DecryptFault::BlockLength);
    }
    cbc::Decryptor::<Aes128>::new(key.into(), iv.into())
        .decrypt_padded::<Pkcs7>(buffer)
        .map_err(|_| DecryptFault::Padding)
}

/// The plaintext's fields that matter; serde refuses any of them that stands twice.
#[derive(serde::Deserialize)]
struct Plain {
    #[serde(rename = "openId")]
    openid: Option<String>,
    #[serde(rename = "unionId")]
    unionid: Option<String>,
    watermark: Option<Object<Watermark>>,
}

#[derive(serde::Deserialize)]
struct Watermark {
    appid: Option<String>,
    timestamp: Option<i64>,
}

/// A JSON object: alone, serde's derive would also take an array as a struct.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyMap<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(OnlyMap(PhantomData))
    }
}

fn read_plain(bytes: &[u8]) -> Result<Plain, DecryptFault> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecryptFault::Utf8)?;
    let plain: Object<Plain> = serde_json::from_str(text).map_err(|_| DecryptFault::Json)?;
    Ok(plain.0)
}

fn check(plain: Plain, app: &AppId, openid: &OpenId) -> Result<Decrypted, DecryptFault> {
    let Object(mark) = plain.watermark.ok_or(DecryptFault::WatermarkMissing)?;
    let mark_app = mark.appid.ok_or(DecryptFault::WatermarkMissing)?;
    if mark_app != app.as_str() {
        return Err(DecryptFault::WatermarkApp);
    }
    let named = plain.openid.filter(|id| !id.is_empty());
    // A client that chooses the iv can forge the first bytes of the openid (§9 d): this is what
    // refuses it.
    if named.ok_or(DecryptFault::OpenIdMissing)? != openid.as_str() {
        return Err(DecryptFault::OpenIdMismatch);
    }
    let unionid = plain.unionid.as_deref().map(str::trim);
    let unionid = unionid.filter(|text| !text.is_empty());
    Ok(Decrypted {
        unionid: unionid.map(|text| union_id(text, openid.as_str())),
        at: mark.timestamp.and_then(|s| s.checked_mul(1000)).map(Millis),
    })
}

/// Lower-case hex SHA-1 of `rawData`, byte for byte, and the key's text.
fn signed(raw: &RawData, key_text: &str) -> Result<(), DecryptFault> {
    let bytes = raw.data.expose().as_bytes();
    if bytes.len() > MAX_DATA {
        return Err(DecryptFault::TooLarge);
    }
    let digest = Sha1::new()
        .chain_update(bytes)
        .chain_update(key_text.as_bytes())
        .finalize();
    if hex::encode(digest) == raw.signature.expose() {
        Ok(())
    } else {
        Err(DecryptFault::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::cipher::{BlockCipherDecrypt, KeyInit};
    use cbc::cipher::{BlockModeEncrypt, block_padding::NoPadding};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    // The verified vector of docs/wechat.md §9.
    const APP: &str = "wx4f4bc4dec97d474b";
    const KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";
    const IV: &str = "r7BXXKkLb8qrSNn05n0qiA==";
    const DATA: &str = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew==";
    const OPENID: &str = "oGZUI0egBJY1zhBYw2KhdUfwVJJE";
    const UNIONID: &str = "ocMvos6NjeKLIBqg5Mr9QjxrP1FA";
    /// The official signature sample (§9).
    const RAW: &str = r#"{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1xlgZxx3w7bQxKARol6503Iuswjjn6nIGBiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0"}"#;
    const RAW_KEY: &str = "HyVFkGl5F5OQWJZZaNzBBg==";
    const RAW_SIGNATURE: &str = "75e81ceda165f4ffa64f4068af58c64b8f54b88c";

    /// One triple, as texts, with what it is claimed to be about.
    #[derive(Clone)]
    struct Case {
        app: String,
        openid: String,
        key: String,
        iv: String,
        data: String,
        raw: Option<(String, String)>,
    }

    fn vector() -> Case {
        Case {
            app: APP.to_owned(),
            openid: OPENID.to_owned(),
            key: KEY.to_owned(),
            iv: IV.to_owned(),
            data: DATA.to_owned(),
            raw: None,
        }
    }

    impl Case {
        fn run(&self) -> Result<Decrypted, DecryptFault> {
            let secret = |text: &str| Secret::new(text.to_owned());
            let data = EncryptedData {
                data: secret(&self.data),
                iv: secret(&self.iv),
                raw: self.raw.as_ref().map(|(data, signature)| RawData {
                    data: secret(data),
                    signature: secret(signature),
                }),
            };
            let app = AppId::parse(&self.app).expect("appid");
            let openid = OpenId::parse(&self.openid).expect("openid");
            decrypt(&app, &openid, &secret(&self.key), &data)
        }

        /// The vector with another plaintext, correctly padded and encrypted.
        fn holding(plain: &[u8]) -> Self {
            let pad = BLOCK - plain.len() % BLOCK;
            let mut padded = plain.to_vec();
            padded.resize(plain.len() + pad, u8::try_from(pad).expect("at most 16"));
            Self::encrypting(&padded)
        }

        fn encrypting(padded: &[u8]) -> Self {
            let (key, iv) = (bytes(KEY), bytes(IV));
            let mut buffer = padded.to_vec();
            cbc::Encryptor::<Aes128>::new_from_slices(&key, &iv)
                .expect("16 bytes each")
                .encrypt_padded::<NoPadding>(&mut buffer, padded.len())
                .expect("whole blocks");
            Self {
                data: STANDARD.encode(&buffer),
                ..vector()
            }
        }
    }

    fn bytes(base64: &str) -> Vec<u8> {
        STANDARD.decode(base64).expect("base64")
    }

    fn plain() -> Value {
        json!({
            "openId": OPENID, "nickName": "Band", "gender": 1, "language": "zh_CN", "city": "Guangzhou",
            "avatarUrl": "http://wx.qlogo.cn/0", "unionId": UNIONID,
            "watermark": {"timestamp": 1_477_314_187, "appid": APP},
        })
    }

    fn sound() -> Decrypted {
        Decrypted {
            unionid: Some(UnionId::parse(UNIONID).map_err(|_| ())),
            at: Some(Millis(1_477_314_187_000)),
        }
    }

    #[test]
    fn the_documented_vector_opens() {
        assert_eq!(vector().run(), Ok(sound()));
        let (key, iv, mut buffer) = (bytes(KEY), bytes(IV), bytes(DATA));
        let text = open(&key, &iv, &mut buffer).expect("opens");
        let whole: Value = serde_json::from_slice(text).expect("JSON");
        assert_eq!(whole["nickName"], "Band");
        assert_eq!(whole["gender"], 1);
        assert_eq!(text.len(), 400 - 7);
        assert!(text.starts_with(br#"{"openId":"oGZUI"#));
    }

    #[test]
    fn the_documented_signature_holds_byte_for_byte() {
        let check = |data: &str, key: &str, signature: &str| {
            let raw = RawData {
                data: Secret::new(data.to_owned()),
                signature: Secret::new(signature.to_owned()),
            };
            signed(&raw, key)
        };
        assert_eq!(check(RAW, RAW_KEY, RAW_SIGNATURE), Ok(()));
        let refused = Err(DecryptFault::Signature);
        assert_eq!(
            check(&RAW.replace("\":", "\": "), RAW_KEY, RAW_SIGNATURE),
            refused
        );
        assert_eq!(check(RAW, KEY, RAW_SIGNATURE), refused);
        assert_eq!(check(RAW, RAW_KEY, &RAW_SIGNATURE.to_uppercase()), refused);
        assert_eq!(check(RAW, RAW_KEY, ""), refused);
        let long = "x".repeat(MAX_DATA + 1);
        assert_eq!(check(&long, RAW_KEY, ""), Err(DecryptFault::TooLarge));
    }

    #[test]
    fn sound_data_with_a_wrong_signature_does_not_count() {
        let mut case = vector();
        case.raw = Some((RAW.to_owned(), RAW_SIGNATURE.to_owned()));
        assert_eq!(case.run(), Err(DecryptFault::Signature));
        let digest = Sha1::digest(format!("{RAW}{KEY}"));
        let hex = digest.iter().map(|b| format!("{b:02x}")).collect();
        case.raw = Some((RAW.to_owned(), hex));
        assert_eq!(case.run(), Ok(sound()));
    }

    #[test]
    fn base64_mangled_on_its_way_is_understood() {
        let mut case = vector();
        case.data = DATA.replace('+', " ");
        case.data.insert_str(76, "\r\n");
        case.key.push('\n');
        case.iv.insert(3, '\t');
        assert!(case.data.contains(' '));
        assert_eq!(case.run(), Ok(sound()));
    }

    #[test]
    fn every_cause_has_its_own_fault() {
        let edit = |change: &dyn Fn(&mut Case)| {
            let mut case = vector();
            change(&mut case);
            case.run().expect_err("must be refused")
        };
        let bad = |which| DecryptFault::BadBase64 { which };
        assert_eq!(edit(&|c| c.key.push('!')), bad(Part::Key));
        assert_eq!(edit(&|c| c.iv = IV.replace('=', "")), bad(Part::Iv));
        assert_eq!(edit(&|c| c.data.insert(9, '-')), bad(Part::Data));
        assert_eq!(edit(&|c| c.data.insert(9, '微')), bad(Part::Data));
        assert_eq!(
            edit(&|c| c.key = STANDARD.encode([7; 15])),
            DecryptFault::KeyLength
        );
        assert_eq!(
            edit(&|c| c.key = STANDARD.encode([7; 32])),
            DecryptFault::KeyLength
        );
        assert_eq!(edit(&|c| c.key = String::new()), DecryptFault::KeyLength);
        assert_eq!(
            edit(&|c| c.iv = STANDARD.encode([7; 17])),
            DecryptFault::IvLength
        );
        assert_eq!(edit(&|c| c.data = String::new()), DecryptFault::BlockLength);
        assert_eq!(
            edit(&|c| c.data = STANDARD.encode([7; 31])),
            DecryptFault::BlockLength
        );
        let big = vec![7; MAX_DATA + BLOCK];
        assert_eq!(
            edit(&|c| c.data = STANDARD.encode(&big)),
            DecryptFault::TooLarge
        );
        assert_eq!(
            edit(&|c| c.data = "A".repeat(MAX_TEXT + 1)),
            DecryptFault::TooLarge
        );
        assert_eq!(
            edit(&|c| c.app = "wx0".to_owned()),
            DecryptFault::WatermarkApp
        );
        assert_eq!(
            edit(&|c| c.openid = "oOther".to_owned()),
            DecryptFault::OpenIdMismatch
        );
        let case = edit(&|c| c.openid = OPENID.to_lowercase());
        assert_eq!(case, DecryptFault::OpenIdMismatch);
    }

    #[test]
    fn the_largest_data_still_opens() {
        let mut whole = plain();
        let base = whole.to_string().len();
        whole["nickName"] = "n".repeat(MAX_DATA - 1 - base + "Band".len()).into();
        let case = Case::holding(whole.to_string().as_bytes());
        assert_eq!(bytes(&case.data).len(), MAX_DATA);
        assert_eq!(case.run(), Ok(sound()));
    }

    #[test]
    fn every_byte_of_the_padding_is_checked() {
        let text = plain().to_string();
        let pad = BLOCK - text.len() % BLOCK;
        assert!(pad > 1, "the sample must have room for a wrong byte");
        for at in 0..pad {
            let mut padded = text.clone().into_bytes();
            padded.resize(text.len() + pad, u8::try_from(pad).expect("small"));
            padded[text.len() + at] ^= 0x40;
            let got = Case::encrypting(&padded).run();
            assert_eq!(got, Err(DecryptFault::Padding), "pad byte {at}");
        }
        for last in [0, 17, 32, 255] {
            let mut padded = text.clone().into_bytes();
            padded.resize(text.len() + pad, last);
            assert_eq!(Case::encrypting(&padded).run(), Err(DecryptFault::Padding));
        }
        // A whole block of padding, and nothing but padding.
        let mut aligned = text.into_bytes();
        aligned.resize(aligned.len() + pad, b' ');
        assert_eq!(Case::holding(&aligned).run(), Ok(sound()));
        assert_eq!(Case::holding(b"").run(), Err(DecryptFault::Json));
    }

    #[test]
    fn the_plaintext_is_one_object_about_this_account() {
        let run = |change: &dyn Fn(&mut Value)| {
            let mut whole = plain();
            change(&mut whole);
            Case::holding(whole.to_string().as_bytes()).run()
        };
        let mark = |v: Value| move |w: &mut Value| w["watermark"] = v.clone();
        let missing = Err(DecryptFault::WatermarkMissing);
        assert_eq!(run(&mark(Value::Null)), missing);
        assert_eq!(run(&mark(json!({"timestamp": 1}))), missing);
        assert_eq!(
            run(&mark(json!({"appid": "wx0"}))),
            Err(DecryptFault::WatermarkApp)
        );
        assert_eq!(run(&mark(json!({"appid": 1}))), Err(DecryptFault::Json));
        assert_eq!(run(&mark(json!([APP, 1]))), Err(DecryptFault::Json));
        let id = |v: Value| move |w: &mut Value| w["openId"] = v.clone();
        assert_eq!(run(&id(Value::Null)), Err(DecryptFault::OpenIdMissing));
        assert_eq!(run(&id("".into())), Err(DecryptFault::OpenIdMissing));
        assert_eq!(run(&id(7.into())), Err(DecryptFault::Json));
        let no_time = run(&mark(json!({"appid": APP}))).expect("sound");
        assert_eq!(no_time.at, None);
        let far = run(&mark(json!({"appid": APP, "timestamp": i64::MAX}))).expect("sound");
        assert_eq!(far.at, None);
    }

    #[test]
    fn a_unionid_is_absent_sound_or_a_placeholder() {
        let run = |unionid: Value| {
            let mut whole = plain();
            whole["unionId"] = unionid;
            let decrypted = Case::holding(whole.to_string().as_bytes()).run();
            decrypted.expect("sound").unionid
        };
        assert_eq!(run(Value::Null), None);
        assert_eq!(run("".into()), None);
        assert_eq!(run(format!(" {UNIONID} ").into()), sound().unionid);
        assert_eq!(run("undefined".into()), Some(Err(())));
        assert_eq!(run(OPENID.into()), Some(Err(())));
    }

    #[test]
    fn other_plaintexts_are_refused() {
        let twice = plain().to_string().replacen('{', r#"{"openId":"oX","#, 1);
        let array = json!([OPENID, UNIONID, {"appid": APP, "timestamp": 1}]).to_string();
        for (text, fault) in [
            (twice.as_bytes(), DecryptFault::Json),
            (array.as_bytes(), DecryptFault::Json),
            (b"{}{}", DecryptFault::Json),
            (b"null", DecryptFault::Json),
            (b"{\"openId\":\"\xff\"}", DecryptFault::Utf8),
            (b"{}", DecryptFault::WatermarkMissing),
        ] {
            assert_eq!(Case::holding(text).run(), Err(fault));
        }
        let deep = "[".repeat(40_000);
        assert_eq!(
            Case::holding(deep.as_bytes()).run(),
            Err(DecryptFault::Json)
        );
    }

    #[test]
    fn an_openid_forged_through_the_iv_is_refused() {
        // §9 d: the first block ends in the first five characters of the openid.
        let mut iv = bytes(IV);
        for (at, (is, want)) in b"oGZUI".iter().zip(b"oVICT").enumerate() {
            iv[11 + at] ^= is ^ want;
        }
        let mut case = vector();
        case.iv = STANDARD.encode(&iv);
        assert_eq!(case.run(), Err(DecryptFault::OpenIdMismatch));
        // All else is valid: only the openid that the caller knows stands in between.
        case.openid = OPENID.replace("oGZUI", "oVICT");
        assert!(case.run().is_ok());
    }

    #[test]
    fn no_single_bit_can_change() {
        let flip = |text: &str, bit: usize| {
            let mut bytes = bytes(text);
            bytes[bit / 8] ^= 1 << (bit % 8);
            STANDARD.encode(&bytes)
        };
        for bit in 0..bytes(DATA).len() * 8 {
            let mut case = vector();
            case.data = flip(DATA, bit);
            assert!(case.run().is_err(), "bit {bit} of the data");
        }
        for bit in 0..BLOCK * 8 {
            let mut case = vector();
            case.iv = flip(IV, bit);
            assert!(case.run().is_err(), "bit {bit} of the iv");
            let mut case = vector();
            case.key = flip(KEY, bit);
            assert!(case.run().is_err(), "bit {bit} of the key");
        }
    }

    type Fields<'t> = std::collections::HashMap<String, &'t RawValue>;

    /// Whether a case must be accepted at most, judged by other code: AES block by block, the
    /// padding by hand, the JSON as a value.
    fn plausible(case: &Case) -> Option<()> {
        let [key, iv, data] =
            [&case.key, &case.iv, &case.data].map(|t| STANDARD.decode(respaced(t)));
        let (key, mut before, data) = (key.ok()?, iv.ok()?, data.ok()?);
        let lengths = key.len() == BLOCK && before.len() == BLOCK;
        let aes = Aes128::new_from_slice(&key).ok()?;
        let mut text = Vec::new();
        for block in data.chunks(BLOCK) {
            let mut state: [u8; BLOCK] = block.try_into().ok()?;
            aes.decrypt_block((&mut state).into());
            text.extend(state.iter().zip(&before).map(|(a, b)| a ^ b));
            before = block.to_vec();
        }
        let pad = *text.last()?;
        let length = text.len().checked_sub(usize::from(pad))?;
        let whole = (1..=16).contains(&pad) && text[length..].iter().all(|b| *b == pad);
        let whole_text = std::str::from_utf8(text.get(..length)?).ok()?;
        // What no rule asks for may be any JSON: half of a surrogate pair, a number beyond all bounds.
        let fields: Fields<'_> = serde_json::from_str(whole_text).ok()?;
        let mark: Fields<'_> = serde_json::from_str(fields.get("watermark")?.get()).ok()?;
        let is = |raw: Option<&&RawValue>, text: &str| {
            raw.is_some_and(|raw| {
                serde_json::from_str::<String>(raw.get()).is_ok_and(|t| t == text)
            })
        };
        let about = is(fields.get("openId"), &case.openid) && is(mark.get("appid"), &case.app);
        (whole && lengths && about).then_some(())
    }

    fn respaced(text: &str) -> String {
        text.replace(' ', "+").split_whitespace().collect()
    }

    fn random(rng: &mut StdRng, max: usize) -> Vec<u8> {
        let length = rng.random_range(0..=max);
        (0..length).map(|_| rng.random()).collect()
    }

    fn spoil(rng: &mut StdRng, bytes: &mut Vec<u8>) {
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..=bytes.len());
            match rng.random_range(0..4) {
                0 => bytes.insert(at, rng.random()),
                1 => bytes.truncate(at),
                _ if at == bytes.len() => {}
                2 => bytes[at] ^= 1 << rng.random_range(0..8),
                _ => drop(bytes.remove(at)),
            }
        }
    }

    fn spoil_text(rng: &mut StdRng, text: &mut String) {
        let mut bytes = std::mem::take(text).into_bytes();
        spoil(rng, &mut bytes);
        *text = String::from_utf8_lossy(&bytes).into_owned();
    }

    /// Something wrong at one of the layers, or nothing.
    fn arbitrary(rng: &mut StdRng) -> Case {
        let mut case = vector();
        match rng.random_range(0..9) {
            0 => spoil_text(rng, &mut case.data),
            1 => spoil_text(rng, &mut case.key),
            2 => spoil_text(rng, &mut case.iv),
            3 => case.key = STANDARD.encode(random(rng, 20)),
            4 => case.iv = STANDARD.encode(random(rng, 20)),
            5 => case.data = STANDARD.encode(random(rng, 600)),
            6 => {
                let mut data = bytes(DATA);
                spoil(rng, &mut data);
                case.data = STANDARD.encode(data);
            }
            7 => {
                let mut text = plain().to_string().into_bytes();
                spoil(rng, &mut text);
                case = Case::holding(&text);
            }
            _ => {
                let mut padded = plain().to_string().into_bytes();
                let pad = rng.random_range(0..20);
                padded.resize(padded.len().next_multiple_of(BLOCK), pad);
                case = Case::encrypting(&padded);
            }
        }
        case
    }

    #[test]
    fn nothing_panics_and_nothing_false_is_accepted() {
        // 200,000 in the ordinary test; UNILINK_FUZZ asks for more.
        let asked = std::env::var("UNILINK_FUZZ").ok();
        let cases = asked.and_then(|n| n.parse().ok()).unwrap_or(200_000);
        let mut rng = StdRng::seed_from_u64(9);
        let (mut accepted, mut faults) = (0, std::collections::HashMap::new());
        for _ in 0..cases {
            let case = arbitrary(&mut rng);
            match case.run() {
                Ok(_) => {
                    accepted += 1;
                    let shown = || format!("{} {} {}", case.key, case.iv, case.data);
                    assert!(plausible(&case).is_some(), "false acceptance: {}", shown());
                }
                Err(fault) => *faults.entry(fault.word()).or_insert(0) += 1,
            }
        }
        // The loop reaches every layer, acceptance too (changes that JSON does not mind).
        assert!(accepted > cases / 1_000, "{accepted}");
        for fault in [
            "padding",
            "utf8",
            "json",
            "openid_mismatch",
            "watermark_app",
            "key_length",
        ] {
            assert!(faults.contains_key(fault), "{fault} never seen: {faults:?}");
        }
    }
}
