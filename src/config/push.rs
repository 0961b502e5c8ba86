//! Message pushes of WeChat (`[apps.push]`), and the key that the intake signs erasures with
//! (`[intake.signer]`).

use super::check::Checker;
use super::{Operator, raw};
use crate::model::{AppId, Secret};
use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{NO_PAD, STANDARD};
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::SigningKey;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;
use zeroize::Zeroizing;

/// Characters of an `EncodingAESKey` (`docs/wechat.md` §11).
const AES_KEY_CHARS: usize = 43;
/// 43 characters of base64 are 258 bits: WeChat draws all of them, and the last two mean nothing.
const LENIENT: GeneralPurposeConfig = NO_PAD.with_decode_allow_trailing_bits(true);

/// The pushes that one app sends.
#[derive(Debug, Clone)]
pub struct Push {
    /// The app.
    pub app: AppId,
    /// The token that stands in the console, which signatures are made of.
    pub token: Secret,
    /// How bodies come.
    pub body: PushBody,
    /// Which events erase the account.
    pub erase_on: BTreeSet<EraseOn>,
}

/// How the bodies of pushes come; what the console calls the mode.
#[derive(Debug, Clone)]
pub enum PushBody {
    /// As they are. WeChat signs the time and a nonce then, not the body.
    Plain,
    /// Encrypted, with the same in plain beside it. Only the encrypted part counts.
    Compatible(AesKey),
    /// Encrypted.
    Encrypted(AesKey),
}

/// An `EncodingAESKey`, decoded.
#[derive(Clone)]
pub struct AesKey(pub Zeroizing<[u8; 32]>);

impl fmt::Debug for AesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AesKey(…)")
    }
}

/// What makes WeChat's event an erasure (`docs/wechat.md` §11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EraseOn {
    /// `user_authorization_cancellation`: the person gave up the account of the app.
    Cancellation,
    /// `user_authorization_revoke`: the person took back what the app may know.
    Revoke,
    /// `unsubscribe`: the person no longer follows the official account.
    Unsubscribe,
}

/// What the issue of erasures asks for, and nothing that a mere unfollowing would set off.
const ERASE_ON: [EraseOn; 2] = [EraseOn::Cancellation, EraseOn::Revoke];

/// An operator's key in the intake, which signs the erasures that pushes ask for.
#[derive(Clone)]
pub struct SignerKey {
    /// The operator's id.
    pub id: String,
    /// The seed of the Ed25519 key.
    pub seed: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerKey({})", self.id)
    }
}

/// The word for the mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    Plain,
    Compatible,
    Encrypted,
}

pub(super) fn pushes(c: &mut Checker<'_>, apps: &[raw::App]) -> Vec<Push> {
    let mut found = Vec::new();
    for (i, app) in apps.iter().enumerate() {
        // An appid that is none is told with the app itself.
        let (Some(raw), Ok(id)) = (&app.push, AppId::parse(&app.appid)) else {
            continue;
        };
        let name = format!("apps[{i}] ({id}).push");
        if let Some(push) = push(c, &name, raw, id) {
            found.push(push);
        }
    }
    found
}

fn push(c: &mut Checker<'_>, name: &str, raw: &raw::Push, app: AppId) -> Option<Push> {
    let token = c.secret(&format!("{name}.token"), &raw.token);
    let key_name = format!("{name}.encoding_aes_key");
    let given = raw.encoding_aes_key.as_deref();
    let key = given.and_then(|written| aes_key(c, &key_name, written));
    let mode = raw.mode.unwrap_or(match given {
        Some(_) => Mode::Encrypted,
        None => Mode::Plain,
    });
    let body = match (mode, given, key) {
        (Mode::Plain, None, _) => Some(PushBody::Plain),
        (Mode::Plain, Some(_), _) => {
            let problem = "is not used with mode = \"plain\"; remove it, or choose the mode that the \
                           console shows";
            c.problems.add(key_name, problem);
            None
        }
        (_, None, _) => {
            let problem = "is missing: this mode needs the EncodingAESKey that the console shows";
            c.problems.add(key_name, problem);
            None
        }
        (Mode::Compatible, _, key) => key.map(PushBody::Compatible),
        (Mode::Encrypted, _, key) => key.map(PushBody::Encrypted),
    };
    let erase_on = raw.erase_on.as_deref().unwrap_or(&ERASE_ON);
    Some(Push {
        app,
        token: token?,
        body: body?,
        erase_on: erase_on.iter().copied().collect(),
    })
}

fn aes_key(c: &mut Checker<'_>, name: &str, written: &str) -> Option<AesKey> {
    let secret = c.secret(name, written)?;
    let text = secret.expose();
    let mut key = Zeroizing::new([0; 32]);
    let decoder = GeneralPurpose::new(&ALPHABET, LENIENT);
    let decoded = decoder.decode_slice(text, &mut *key);
    if text.len() != AES_KEY_CHARS || decoded != Ok(key.len()) {
        let problem = "must be the EncodingAESKey that the console shows: 43 letters and digits";
        c.problems.add(name, problem);
        return None;
    }
    Some(AesKey(key))
}

/// The signer, if one is configured: its id and key must be those of an operator, where this file
/// knows any.
pub(super) fn signer(
    c: &mut Checker<'_>,
    raw: &raw::Signer,
    operators: &[Operator],
) -> Option<SignerKey> {
    let id = raw.id.trim();
    if id.is_empty() && raw.key.is_empty() {
        return None;
    }
    if id.is_empty() {
        let problem = "is missing: write the id of the [[operators]] that has the key";
        c.problems.add("intake.signer.id", problem);
    }
    let name = "intake.signer.key";
    let secret = c.secret(name, &raw.key)?;
    let mut seed = Zeroizing::new([0; 32]);
    // One more byte than is wanted shows what is too long.
    let mut decoded = Zeroizing::new([0; 33]);
    if STANDARD.decode_slice(secret.expose(), &mut *decoded) != Ok(seed.len()) {
        let problem = "must be the seed of an ed25519 key, 32 bytes in base64: \
                       `unilink keys operator ID` makes one";
        c.problems.add(name, problem);
        return None;
    }
    seed.copy_from_slice(&decoded[..32]);
    let public = SigningKey::from_bytes(&seed).verifying_key();
    let known = |o: &Operator| o.id == id && o.key == public;
    if !operators.is_empty() && !operators.iter().any(known) {
        let problem = "is not the key of an operator of that id: add its public key to [[operators]], \
                       or workers will not obey it";
        c.problems.add(name, problem);
    }
    Some(SignerKey {
        id: id.to_owned(),
        seed,
    })
}
