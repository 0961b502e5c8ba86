//! What WeChat tells a company of its own accord (`docs/wechat.md` §11): the messages, built as bytes
//! for tests, and a sender that delivers them as WeChat does.

mod seal;
mod send;
mod text;

pub use send::{Check, Delivery, Sender, Try};

use super::dice::mix;
use super::simulator::{LoginError, Simulator};
use super::world::{AppNo, World};
use crate::model::{AppKind, Millis};
use serde::{Deserialize, Serialize};

/// What happened to a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum News {
    /// Follows the official account, perhaps by a QR code.
    Subscribe {
        /// The code's parameter.
        #[serde(default)]
        scene: Option<String>,
    },
    /// Follows already, and scans a QR code.
    Scan {
        /// The code's parameter.
        scene: String,
    },
    /// Follows no more: the data must be deleted.
    Unsubscribe,
    /// Wants no account any more: the user must be deleted.
    UserAuthorizationCancellation,
    /// Takes some permissions back.
    UserAuthorizationRevoke {
        /// Which, by WeChat's numbers.
        #[serde(default = "profile")]
        info: String,
    },
    /// Changed something.
    UserInfoModified {
        /// What, by WeChat's numbers.
        #[serde(default = "profile")]
        info: String,
    },
}

/// A mini program's nickname and avatar.
fn profile() -> String {
    "6".to_owned()
}

/// How much of a message is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing.
    #[default]
    Plain,
    /// It comes plain and encrypted.
    Compatible,
    /// All of it.
    Encrypted,
}

/// How a message is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As to every official account, and to mini programs that want it.
    Xml,
    /// Mini programs only.
    Json,
}

/// How the fields with a person's ids are called; all of these are seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Names {
    /// `OpenID`, `AppID`.
    #[default]
    Documented,
    /// `openid`, `appid`.
    Lower,
    /// `" OpenID"`, `" AppID"`: JSON only, as in the documentation's own sample.
    Spaced,
    /// No openid at all.
    NoOpenid,
}

/// What a company set for its URL, and WeChat's moods.
#[derive(Clone, Default)]
pub struct Channel {
    /// The token that signs.
    pub token: String,
    /// `EncodingAESKey`: 43 characters; needed unless the mode is plain.
    pub aes_key: Option<String>,
    /// How much is encrypted.
    pub mode: Mode,
    /// How it is written; official accounts always get XML, and mini programs JSON unless told.
    pub format: Option<Format>,
    /// What the ids are called.
    pub names: Names,
    /// Whether authorization events name the unionid: documented, and missing from the examples.
    pub unionid: bool,
}

/// A message as it is posted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// What is added to the URL's query.
    pub query: Vec<(&'static str, String)>,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no such message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// App or person are not of this world.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Encryption needs a key.
    #[error("aes_key must be the 43 characters of an EncodingAESKey")]
    Key,
    /// Only an official account has followers.
    #[error("only an official account is followed")]
    NotFollowed,
}

/// Builds a message. `nonce` makes two of the same second differ.
///
/// # Errors
/// [`PushError`].
pub fn message(
    world: &World,
    (app, person): (AppNo, u64),
    news: &News,
    channel: &Channel,
    (at, nonce): (Millis, u64),
) -> Result<Message, PushError> {
    let sim_app = world.app(app).ok_or(LoginError::UnknownApp)?;
    let official = sim_app.kind == AppKind::OfficialAccount;
    if news.follows().is_some() && !official {
        return Err(PushError::NotFollowed);
    }
    let wanted = channel.format.unwrap_or(Format::Json);
    let format = if official { Format::Xml } else { wanted };
    let fields = text::fields(world, (app, person), news, channel, at);
    let plain = text::write(format, &fields);
    let timestamp = at.0.div_euclid(1_000).to_string();
    let nonce = mix(&[nonce, 0x11]) % 10_000_000_000;
    let nonce_text = nonce.to_string();
    let signature = seal::signature(&[&channel.token, &timestamp, &nonce_text]);
    let mut query = vec![("signature", signature)];
    let mut body = plain;
    if channel.mode != Mode::Plain {
        let key = channel.aes_key.as_deref().and_then(seal::key);
        let key = key.ok_or(PushError::Key)?;
        let salt = [mix(&[nonce, 1]), mix(&[nonce, 2])];
        let sealed = seal::encrypt(key, salt, &body, sim_app.id.as_str());
        let signed = [&channel.token, &timestamp, &nonce_text, &sealed].map(String::as_str);
        query.push(("msg_signature", seal::signature(&signed)));
        query.push(("encrypt_type", "aes".to_owned()));
        let mut whole = match channel.mode {
            Mode::Compatible => fields,
            _ => fields.into_iter().take(1).collect(),
        };
        whole.push(text::Field::text("Encrypt", sealed));
        body = text::write(format, &whole);
    }
    query.push(("timestamp", timestamp));
    query.push(("nonce", nonce_text));
    let content_type = match format {
        Format::Xml => "text/xml",
        Format::Json => "application/json",
    };
    Ok(Message {
        query,
        content_type,
        body,
    })
}

impl News {
    /// Whether the person follows the official account after it; `None` if it is not about that.
    fn follows(&self) -> Option<bool> {
        match self {
            Self::Subscribe { .. } | Self::Scan { .. } => Some(true),
            Self::Unsubscribe => Some(false),
            _ => None,
        }
    }
}

impl Simulator {
    /// It happens (who subscribes follows, who unsubscribes does not), and the message about it is
    /// built.
    ///
    /// # Errors
    /// [`PushError`]; then nothing has happened.
    pub fn push(
        &self,
        app: AppNo,
        person: u64,
        news: &News,
        channel: &Channel,
    ) -> Result<Message, PushError> {
        self.known(app, person)?;
        let nonce = u64::from(self.next_nonce());
        let whom = (app, person);
        let message = message(&self.world, whom, news, channel, (self.now(), nonce))?;
        if let Some(on) = news.follows() {
            self.set_follows(app, person, on)?;
        }
        Ok(message)
    }
}
