//! What the HTTP stories share: a server on a port of its own, a client, and the captured logs.
#![allow(dead_code, reason = "each story file uses a part")]

use axum::Router;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use unilink::http::{Listening, Ops, serve};
use unilink::telemetry::{LogFormat, start_metrics, subscriber};

/// A router behind a real listener.
pub struct Server {
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub ended: JoinHandle<()>,
}

impl Server {
    pub async fn start(router: Router) -> Self {
        Self::with(router, Listening::default(), CancellationToken::new()).await
    }

    pub async fn with(router: Router, limits: Listening, stop: CancellationToken) -> Self {
        capture_logs();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let ended = tokio::spawn(serve(listener, router, limits, stop.clone()));
        Self {
            address,
            stop,
            ended,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends bytes as they are and reads until the server closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connect");
        stream.write_all(bytes).await.expect("write");
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(10), read)
            .await
            .expect("the server closes")
            .ok();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("client")
}

pub fn ops() -> Ops {
    Ops {
        ready: Arc::new(|| Box::pin(async { Ok(()) })),
        metrics: start_metrics().expect("metrics"),
    }
}

/// The body of an answer.
pub async fn body(answer: reqwest::Response) -> serde_json::Value {
    serde_json::from_slice(&answer.bytes().await.expect("body")).expect("JSON")
}

/// The status and the `error` object of an answer, after checking the shape that all errors have.
pub async fn error(answer: reqwest::Response) -> (u16, serde_json::Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("text");
    let body: serde_json::Value = serde_json::from_str(&text).expect("errors are JSON");
    let error = &body["error"];
    assert_eq!(error["status"], status, "{text}");
    assert!(
        error["problem"].as_str().is_some_and(|p| !p.is_empty()),
        "{text}"
    );
    assert_no_secret("an error", &text);
    (status, error.clone())
}

/// What the stories put where secrets and identifiers stand.
pub const SECRET: &str = "oSECRETsecretSECRETsecret123";

pub fn assert_no_secret(place: &str, text: &str) {
    let shown = text
        .to_ascii_lowercase()
        .contains(&SECRET.to_ascii_lowercase());
    assert!(!shown, "{place} shows a secret: {text}");
}

static LOGS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Logs;

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGS.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything logged by this program so far, at the finest level, as production would format it.
pub fn logs() -> String {
    let logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&logs).into_owned()
}

fn capture_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let all = subscriber(LogFormat::Text, Some("trace"), false, || Logs).expect("filter");
        tracing::subscriber::set_global_default(all).expect("the first");
    });
}
