//! Delivers messages as WeChat does: three tries of five seconds, and the check of a URL before any
//! (`docs/wechat.md` §11).

use super::{Channel, Message, seal};
use crate::model::Millis;
use crate::simulate::Simulator;
use crate::simulate::dice::mix;
use crate::simulate::simulator::lock;
use serde::Serialize;
use std::time::Duration;

const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(5);
/// So much of a reply is read and told.
const REPLY: usize = 512;

/// One try.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Try {
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Otherwise why not: `timeout` or `unreachable`.
    pub error: Option<&'static str>,
}

/// What became of a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Delivery {
    /// Whether a try was answered with a 2xx in time.
    pub taken: bool,
    /// All tries.
    pub tries: Vec<Try>,
    /// The beginning of the last answer's body: should be empty or `success`.
    pub reply: String,
}

/// What became of the check of a URL.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    /// Whether the `echostr` came back.
    pub passed: bool,
    /// The try.
    #[serde(flatten)]
    pub attempt: Try,
}

/// Sends messages.
pub struct Sender {
    http: reqwest::Client,
}

impl Sender {
    /// A sender, for `http://` only; it follows no redirects and uses no proxy.
    ///
    /// # Errors
    /// None in practice: the client has no options that can fail.
    pub fn new() -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()?;
        Ok(Self { http })
    }

    /// Posts a message until it is taken, three times at most.
    pub async fn deliver(&self, url: &str, message: &Message) -> Delivery {
        let mut delivery = Delivery {
            taken: false,
            tries: Vec::new(),
            reply: String::new(),
        };
        while !delivery.taken && delivery.tries.len() < TRIES {
            let request = self
                .http
                .post(url)
                .query(&message.query)
                .header("content-type", message.content_type)
                .body(message.body.clone());
            let (attempt, reply) = attempt(request).await;
            delivery.taken = attempt.status.is_some_and(|s| (200..300).contains(&s));
            delivery.tries.push(attempt);
            delivery.reply = reply;
        }
        delivery
    }

    /// Asks the URL to echo, as WeChat does when a company enters it.
    pub async fn check(&self, url: &str, channel: &Channel, at: Millis, nonce: u64) -> Check {
        let timestamp = at.0.div_euclid(1_000).to_string();
        let nonce_text = (mix(&[nonce, 0x12]) % 10_000_000_000).to_string();
        let echo = mix(&[nonce, 0x13]).to_string();
        let query = [
            (
                "signature",
                seal::signature(&[&channel.token, &timestamp, &nonce_text]),
            ),
            ("timestamp", timestamp),
            ("nonce", nonce_text),
            ("echostr", echo.clone()),
        ];
        let (attempt, reply) = attempt(self.http.get(url).query(&query)).await;
        Check {
            passed: attempt.status == Some(200) && reply == echo,
            attempt,
        }
    }
}

async fn attempt(request: reqwest::RequestBuilder) -> (Try, String) {
    let failed = |error: &reqwest::Error| Try {
        status: None,
        error: Some(if error.is_timeout() {
            "timeout"
        } else {
            "unreachable"
        }),
    };
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return (failed(&error), String::new()),
    };
    let status = Some(answer.status().as_u16());
    match answer.bytes().await {
        Ok(body) => {
            let reply = body.get(..body.len().min(REPLY)).unwrap_or_default();
            let reply = String::from_utf8_lossy(reply).into_owned();
            (
                Try {
                    status,
                    error: None,
                },
                reply,
            )
        }
        Err(error) => (failed(&error), String::new()),
    }
}

impl Simulator {
    /// Delivers a message and counts what became of it.
    pub async fn deliver(&self, sender: &Sender, url: &str, message: &Message) -> Delivery {
        let delivery = sender.deliver(url, message).await;
        let mut counts = lock(&self.counts);
        counts.pushed.tries += delivery.tries.len() as u64;
        if delivery.taken {
            counts.pushed.taken += 1;
        } else {
            counts.pushed.lost += 1;
        }
        delivery
    }
}
