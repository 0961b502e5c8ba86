//! The client for WeChat's identity APIs (`docs/wechat.md` §1, §3 to §8).
//!
//! [`login`] exchanges codes, [`token`] gets the app's own token, [`people`] asks about people.
//!
//! Promises: one call sends one request, never two, because a login code is spent by the first;
//! every call ends within its time; no error tells a secret or an identifier. Nothing here waits,
//! repeats, caches or limits rates: that is the caller's.

mod login;
mod people;
mod token;

pub use login::{Credential, Session};
pub use people::{Follower, FollowerPage, MAX_BATCH, Profile};
pub use token::Issued;

use super::body::{Body, BodyFault, MAX_BODY};
use super::codes::{self, Api};
pub use super::failure::{CallError, CallFailure, Sent};
use crate::model::UnionId;
use reqwest::{Method, Url, header};
use std::error::Error;
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest text told about a connection that was not made, in characters.
const MAX_DETAIL: usize = 200;

/// How long the client waits.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection, name resolution and TLS included. Shorter than `total`, since only then
    /// a request that certainly was not sent is told apart from one whose outcome is unknown.
    pub connect: Duration,
    /// For a whole call, from its start to the last byte of the answer.
    pub total: Duration,
    /// How long an unused connection is kept. Shorter than servers keep theirs: a request that
    /// meets a connection being closed counts as lost, and its code with it.
    pub idle: Duration,
}

impl Default for Timeouts {
    /// 2 s, 5 s, and 4 s: the shortest keep-alive in common use is 5 s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            total: Duration::from_secs(5),
            idle: Duration::from_secs(4),
        }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base URL is not one: what is wrong with it.
    #[error("WeChat's base URL {0}")]
    BaseUrl(&'static str),
    /// A time is zero, or the time to connect is not shorter than that for the whole call.
    #[error("WeChat's timeouts must be above zero, and connect below total")]
    Timeouts,
    /// The HTTP client does not start (no usable root certificates, for one).
    #[error("the HTTP client does not start: {0}")]
    Http(String),
}

/// A client, cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

impl Client {
    /// A client for `base_url` (`https://api.weixin.qq.com`, or a simulator's `http://…`).
    ///
    /// # Errors
    /// [`ClientError`] when the URL or the times make no sense or the HTTP client does not start.
    pub fn new(base_url: &str, timeouts: Timeouts) -> Result<Self, ClientError> {
        let base = base(base_url)?;
        let shortest = timeouts.connect.min(timeouts.idle);
        if shortest.is_zero() || timeouts.connect >= timeouts.total {
            return Err(ClientError::Timeouts);
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("unilink/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.total)
            .pool_idle_timeout(timeouts.idle)
            // No second request of any kind. What hyper still moves to another connection is a
            // request of which it has not written a byte.
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // A proxy from the environment would see nothing useful, or with http:// everything.
            .no_proxy();
        let builder = match base.scheme() {
            "https" => builder.https_only(true),
            // Plain http needs no roots, so it also starts where none are installed.
            _ => builder.tls_certs_only([]),
        };
        let http = builder
            .build()
            .map_err(|e| ClientError::Http(chain(&e.without_url())))?;
        Ok(Self { http, base })
    }

    /// One request, one answer. `body` is JSON, sent with its length (`docs/wechat.md` §1: chunked
    /// requests get 412, escaped non-ASCII gets 40033).
    async fn call(
        &self,
        api: Api,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Body, CallError> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let mut request = self.http.request(method, url).query(query);
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body);
        }
        let response = request.send().await.map_err(|e| not_answered(&e))?;
        let status = response.status();
        if !status.is_success() {
            return Err(CallError::of(CallFailure::Http(status.as_u16())));
        }
        let bytes = read(response).await?;
        let body = Body::parse(&bytes).map_err(CallError::broken)?;
        match body.errcode().map_err(CallError::broken)? {
            None => Ok(body),
            Some(errcode) => Err(CallError {
                errcode: Some(errcode),
                rid: body.rid(),
                detail: refused_address(errcode, &body),
                ..CallError::of(CallFailure::Api(codes::action(api, errcode)))
            }),
        }
    }
}

fn base(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text).map_err(|_| ClientError::BaseUrl("is no URL"))?;
    let wrong = if !matches!(url.scheme(), "http" | "https") {
        "is neither http nor https"
    } else if !url.username().is_empty() || url.password().is_some() {
        "must not carry a user or password"
    } else if url.query().is_some() || url.fragment().is_some() {
        "must not carry a query or fragment"
    } else {
        return Ok(url);
    };
    Err(ClientError::BaseUrl(wrong))
}

/// The address that WeChat does not know (40164), for the operator who has to enter it. Only what
/// is an address comes through.
fn refused_address(errcode: i64, body: &Body) -> Option<String> {
    let address = (errcode == codes::ADDRESS_REFUSED).then(|| body.address())??;
    Some(format!("the address is {address}"))
}

/// Reads the body up to its limit, into memory that is wiped afterwards.
async fn read(mut response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, CallError> {
    let too_large = || CallError::broken(BodyFault::TooLarge);
    let announced = usize::try_from(response.content_length().unwrap_or(0));
    let announced = announced.ok().filter(|n| *n <= MAX_BODY);
    // Room ahead of need: a vector that grows leaves unwiped copies behind.
    let room = announced.ok_or_else(too_large)?.max(4096);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > MAX_BODY => return Err(too_large()),
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes),
            Err(e) if e.is_timeout() => return Err(CallError::of(CallFailure::Timeout)),
            Err(_) => return Err(CallError::broken(BodyFault::Cut)),
        }
    }
}

/// Sorts an error of the HTTP client from before the answer's head. Connecting comes first, since
/// a connection that timed out is both, and certainly carried nothing.
fn not_answered(error: &reqwest::Error) -> CallError {
    if error.is_connect() || error.is_builder() {
        let detail = error.source().map(chain);
        return CallError {
            detail,
            ..CallError::of(CallFailure::Connect)
        };
    }
    CallError::of(if error.is_timeout() {
        CallFailure::Timeout
    } else {
        CallFailure::Lost
    })
}

/// The innermost causes of an error, which know of hosts and certificates but of no query.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    causes.join(": ").chars().take(MAX_DETAIL).collect()
}

/// A unionid as an answer or decrypted data gave it; `Err` for a placeholder, an invalid text, or
/// the openid itself, which careless programs put there.
pub(in crate::resolve) fn union_id(text: &str, openid: &str) -> Result<UnionId, ()> {
    if text == openid {
        return Err(());
    }
    UnionId::parse(text).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers one request with `{}` and gives back all that was received.
    async fn received(listener: TcpListener, until: &'static str) -> String {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut text = Vec::new();
        while !text.ends_with(until.as_bytes()) {
            text.push(stream.read_u8().await.expect("a byte"));
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        stream.write_all(answer).await.expect("write");
        String::from_utf8(text).expect("UTF-8")
    }

    #[tokio::test]
    async fn a_posted_body_has_its_length_and_is_not_chunked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let server = tokio::spawn(received(listener, "信\"}"));
        let client = Client::new(&url, Timeouts::default()).expect("client");
        let json = "{\"secret\":\"微信\"}";
        let path = "/cgi-bin/stable_token";
        let body = Some(json.as_bytes().to_vec());
        let answer = client.call(Api::AppToken, Method::POST, path, &[], body);
        answer.await.expect("an answer");
        let text = server.await.expect("server");
        let (head, sent) = text.split_once("\r\n\r\n").expect("a head");
        let head = head.to_lowercase();
        assert_eq!(sent, json);
        assert!(
            head.starts_with("post /cgi-bin/stable_token http/1.1"),
            "{head}"
        );
        assert!(
            head.contains(&format!("content-length: {}", json.len())),
            "{head}"
        );
        assert!(head.contains("content-type: application/json"), "{head}");
        assert!(!head.contains("transfer-encoding"), "{head}");
    }

    #[test]
    fn long_causes_are_cut_and_repeated_ones_told_once() {
        let inner = std::io::Error::other("x".repeat(900));
        let outer = std::io::Error::other(inner);
        assert_eq!(chain(&outer).len(), MAX_DETAIL);
    }
}
