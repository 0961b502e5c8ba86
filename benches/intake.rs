//! The rate of the intake over loopback with a bus that takes everything at once and a `Prepare`
//! that only reads an id: what HTTP, keys, limits and splitting cost. Clients share the machine.
//!
//! `cargo bench --bench intake`
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark may stop"
)]

use async_trait::async_trait;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use unilink::bus::{Bus, BusError, Member, Range, Record, Stored, TopicSpec, TopicState};
use unilink::config::{Config, Environment};
use unilink::http::{Keys, Listening, Ops, serve};
use unilink::intake::{IntakeDeps, Prepare, Prepared, Pushes, Refusal, RefusalKind, router};
use unilink::model::{EventId, Millis, Secret};

const CONNECTIONS: usize = 64;
const RUN: Duration = Duration::from_secs(5);

struct NoBus;

#[async_trait]
impl Bus for NoBus {
    async fn offsets_at(&self, _: &Arc<str>, _: Millis) -> Result<Vec<i64>, BusError> {
        Ok(Vec::new())
    }

    async fn group(&self) -> Result<Vec<unilink::bus::Assigned>, BusError> {
        Ok(Vec::new())
    }

    async fn place(&self, _: &[unilink::bus::Progress]) -> Result<(), BusError> {
        Ok(())
    }

    async fn publish(&self, _: Vec<Record>) -> Result<(), BusError> {
        Ok(())
    }
    async fn join(&self) -> Result<Arc<dyn Member>, BusError> {
        Err(BusError::Refused("none".into()))
    }
    async fn read(&self, _: &Range, _: usize) -> Result<Vec<Stored>, BusError> {
        Ok(Vec::new())
    }
    async fn topics(&self, _: &[TopicSpec]) -> Result<Vec<TopicState>, BusError> {
        Ok(Vec::new())
    }
}

struct ReadId;

#[derive(serde::Deserialize)]
struct Id<'a> {
    id: &'a str,
}

impl Prepare for ReadId {
    fn prepare(&self, raw: &[u8], _: Millis) -> Result<Prepared, Refusal> {
        let malformed = || Refusal {
            status: RefusalKind::Malformed,
            field: "id".into(),
            problem: "is missing".into(),
        };
        let event: Id<'_> = serde_json::from_slice(raw).map_err(|_| malformed())?;
        let id = EventId::parse(event.id).map_err(|_| malformed())?;
        let record = Record {
            topic: "wechat.logins".into(),
            key: raw[..16].to_vec(),
            value: Some(raw.to_vec()),
            headers: Vec::new(),
            partition: None,
        };
        Ok(Prepared { id, record })
    }
}

/// A request of `events` events, with about the size that real ones have.
fn request(events: usize) -> Vec<u8> {
    let data = "A".repeat(480);
    let event = |i| {
        format!(
            r#"{{"id":"01890a5d-ac96-774b-bcce-{i:012}","occurred_at":"2026-01-31T08:00:00Z","appid":"wx0123456789abcdef","openid":"oGZUI0egBJY1zhBYw2KhdUfwVJJE","encryptedData":"{data}","iv":"r7BXXKkLb8qrSNn05n0qiA=="}}"#
        )
    };
    let list: Vec<String> = (0..events).map(event).collect();
    let body = if events == 1 {
        list[0].clone()
    } else {
        format!("[{}]", list.join(","))
    };
    format!(
        "POST /v1/logins HTTP/1.1\r\nhost: h\r\nauthorization: Bearer key\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends until the time is over; tells how many requests were taken, and how long each took.
async fn client(address: SocketAddr, request: Arc<Vec<u8>>, until: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    let mut buffer = vec![0; 64 * 1024];
    let mut times = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        stream.write_all(&request).await.expect("write");
        let mut read = 0;
        while !answered(&buffer[..read]) {
            read += stream.read(&mut buffer[read..]).await.expect("read");
        }
        assert!(buffer.starts_with(b"HTTP/1.1 202"), "not taken");
        times.push(began.elapsed());
    }
    times
}

fn answered(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "));
    body.len() >= length.and_then(|l| l.parse().ok()).unwrap_or(usize::MAX)
}

async fn run(address: SocketAddr, events: usize) {
    let request = Arc::new(request(events));
    let until = Instant::now() + RUN;
    let began = Instant::now();
    let clients =
        (0..CONNECTIONS).map(|_| tokio::spawn(client(address, Arc::clone(&request), until)));
    let mut times: Vec<Duration> = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.expect("joined"));
    }
    times.sort_unstable();
    let seconds = began.elapsed().as_secs_f64();
    let rate = times.len() as f64 / seconds;
    println!(
        "{events:>4} events a request, {CONNECTIONS} connections: {:>9.0} events/s, {rate:>7.0} requests/s, \
         p50 {:.2?}, p99 {:.2?}, {:.1} MB/s in",
        rate * events as f64,
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        rate * request.len() as f64 / 1e6,
    );
}

#[tokio::main]
async fn main() {
    let config = Config::read("", "defaults", &Environment::default()).expect("defaults");
    let app = router(IntakeDeps {
        bus: Arc::new(NoBus),
        prepare: Arc::new(ReadId),
        clock: unilink::clock::system(),
        keys: Keys::new(&[Secret::new("key".into())]),
        limits: (&config.intake).into(),
        pushes: Pushes::default(),
        cloud_run: false,
        ops: Ops {
            ready: Arc::new(|| Box::pin(async { Ok(()) })),
            metrics: unilink::telemetry::start_metrics().expect("metrics"),
        },
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, app, Listening::default(), stop.clone()));
    for events in [1, 100] {
        run(address, events).await;
    }
    stop.cancel();
    server.await.expect("ended");
}
