//! WeChat's side of message pushes, written from `docs/wechat.md` §11 alone: signs, encrypts, sends.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests; each uses a part of it"
)]

use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use sha1::{Digest, Sha1};
use unilink::clock;

/// An `EncodingAESKey` whose last letter has bits that mean nothing, as the console's have.
pub const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
pub const TOKEN: &str = "pushtoken";

/// The pushes of one app.
pub struct Pusher {
    pub base: String,
    pub app: &'static str,
    pub token: &'static str,
    pub http: reqwest::Client,
}

fn signature(parts: &[&str]) -> String {
    let mut parts = parts.to_vec();
    parts.sort_unstable();
    let digest = Sha1::digest(parts.concat());
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// `Encrypt` of a message.
pub fn encrypt(message: &str, app: &str) -> String {
    // The official way is lenient about the last bits of the 43rd character.
    let letters = format!("{}E=", &AES_KEY[..42]);
    let key: [u8; 32] = STANDARD.decode(letters).unwrap().try_into().unwrap();
    let iv: [u8; 16] = key[..16].try_into().unwrap();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let mut plain = [
        b"\x01random-bytes-16",
        &length[..],
        message.as_bytes(),
        app.as_bytes(),
    ]
    .concat();
    let pad = 32 - plain.len() % 32;
    plain.resize(plain.len() + pad, u8::try_from(pad).unwrap());
    let mut cipher = cbc::Encryptor::<Aes256>::new(&key.into(), &iv.into());
    for block in plain.as_chunks_mut::<16>().0 {
        cipher.encrypt_block(block.into());
    }
    STANDARD.encode(plain)
}

/// An event as an official account's console has it.
pub fn xml(event: &str, openid: &str, seconds: i64) -> String {
    format!(
        "<xml><ToUserName><![CDATA[gh_0123456789ab]]></ToUserName>\n\
         <FromUserName><![CDATA[{openid}]]></FromUserName>\n<CreateTime>{seconds}</CreateTime>\n\
         <MsgType><![CDATA[event]]></MsgType>\n<Event><![CDATA[{event}]]></Event>\n\
         <EventKey><![CDATA[qrscene_42]]></EventKey></xml>"
    )
}

/// An event about somebody's authorization, sent by WeChat's pusher.
pub fn authorization(event: &str, app: &str, openid: &str, seconds: i64) -> String {
    format!(
        r#"{{"ToUserName": "gh_0123456789ab", "FromUserName": "oPusherOfWeChat0000000000000", "CreateTime": {seconds},
        "MsgType": "event", "Event": "{event}", "OpenID": "{openid}", "AppID": "{app}", "RevokeInfo": "1"}}"#
    )
}

/// Now, in seconds.
pub fn seconds() -> i64 {
    clock::now().0 / 1000
}

impl Pusher {
    pub fn new(base: &str, app: &'static str) -> Self {
        Self {
            base: base.to_owned(),
            app,
            token: TOKEN,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    fn url(&self, query: &str) -> String {
        format!("{}/wechat/push/{}?{query}", self.base, self.app)
    }

    /// The check of the URL.
    pub async fn check(&self, echo: &str) -> (u16, String) {
        let time = seconds().to_string();
        let signature = signature(&[self.token, &time, "77"]);
        let query = format!("signature={signature}&timestamp={time}&nonce=77&echostr={echo}");
        answer(self.http.get(self.url(&query))).await
    }

    /// A message in the encrypted mode.
    pub async fn sealed(&self, message: &str) -> (u16, String) {
        self.sealed_at(message, seconds()).await
    }

    /// The same, signed for another time.
    pub async fn sealed_at(&self, message: &str, time: i64) -> (u16, String) {
        let encrypt = encrypt(message, self.app);
        let body = format!(
            "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"
        );
        self.send(&encrypt, body, time).await
    }

    /// A body whose `Encrypt` this is.
    pub async fn send(&self, encrypt: &str, body: String, time: i64) -> (u16, String) {
        let time = time.to_string();
        let plain = signature(&[self.token, &time, "815"]);
        let sealed = signature(&[self.token, &time, "815", encrypt]);
        let query = format!(
            "signature={plain}&timestamp={time}&nonce=815&openid=oInTheQuery&encrypt_type=aes&msg_signature={sealed}"
        );
        answer(self.http.post(self.url(&query)).body(body)).await
    }

    /// A message in the plain mode.
    pub async fn plain(&self, message: &str) -> (u16, String) {
        let time = seconds().to_string();
        let signature = signature(&[self.token, &time, "4711"]);
        let query = format!("signature={signature}&timestamp={time}&nonce=4711");
        answer(self.http.post(self.url(&query)).body(message.to_owned())).await
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("answered");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}
