//! Stories of the intake over real HTTP, with a bus and a `Prepare` that do as they are told.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop"
)]

mod http;

use async_trait::async_trait;
use http::{SECRET, Server, assert_no_secret, body, client, error, logs, ops};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use unilink::bus::{
    Assigned, Bus, BusError, Member, Progress, Range, Record, Stored, TopicSpec, TopicState,
};
use unilink::config::{Config, Environment};
use unilink::http::{Keys, Listening};
use unilink::intake::{
    Erase, IntakeDeps, Limits, Prepare, Prepared, Pushes, Refusal, RefusalKind, router,
};
use unilink::model::{Erasure, EventId, Millis, Secret};

/// What the bus does with records.
#[derive(Clone, Copy)]
enum Mood {
    Take,
    TakeAfter(Duration),
    Refuse,
    Hang,
}

struct FakeBus {
    mood: Mutex<Mood>,
    taken: Mutex<Vec<Record>>,
}

impl FakeBus {
    fn new(mood: Mood) -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(mood),
            taken: Mutex::default(),
        })
    }

    fn taken(&self) -> usize {
        self.taken.lock().expect("lock").len()
    }
}

#[async_trait]
impl Bus for FakeBus {
    async fn publish(&self, records: Vec<Record>) -> Result<(), BusError> {
        let mood = *self.mood.lock().expect("lock");
        match mood {
            Mood::Take => {}
            Mood::TakeAfter(pause) => tokio::time::sleep(pause).await,
            Mood::Refuse => return Err(BusError::Unavailable("disk full".into())),
            Mood::Hang => std::future::pending().await,
        }
        self.taken.lock().expect("lock").extend(records);
        Ok(())
    }
    async fn join(&self) -> Result<Arc<dyn Member>, BusError> {
        Err(BusError::Refused("not here".into()))
    }
    async fn read(&self, _: &Range, _: usize) -> Result<Vec<Stored>, BusError> {
        Ok(Vec::new())
    }
    async fn topics(&self, _: &[TopicSpec]) -> Result<Vec<TopicState>, BusError> {
        Ok(Vec::new())
    }
    async fn offsets_at(&self, _: &Arc<str>, _: Millis) -> Result<Vec<i64>, BusError> {
        Ok(Vec::new())
    }
    async fn group(&self) -> Result<Vec<Assigned>, BusError> {
        Ok(Vec::new())
    }
    async fn place(&self, _: &[Progress]) -> Result<(), BusError> {
        Err(BusError::Refused("not here".into()))
    }
}

/// Takes objects of `id`, `openid` and `code`; refuses as the real one does.
struct FakePrepare;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FakeEvent {
    id: String,
    openid: Option<String>,
    code: Option<String>,
}

impl Prepare for FakePrepare {
    fn prepare(&self, raw: &[u8], now: Millis) -> Result<Prepared, Refusal> {
        assert_eq!(now, Millis(1_000), "the clock's time is handed on");
        let refuse = |status, field: &str, problem: &str| Refusal {
            status,
            field: field.into(),
            problem: problem.into(),
        };
        let event: FakeEvent = serde_json::from_slice(raw).map_err(|e| {
            let text = e.to_string();
            if e.is_data() && text.starts_with("duplicate field `openid`") {
                refuse(RefusalKind::Invalid, "openid", "stands twice")
            } else if e.is_data() && text.starts_with("invalid type") {
                refuse(RefusalKind::Invalid, "openid", "has the wrong type")
            } else {
                refuse(RefusalKind::Malformed, "", "is not JSON")
            }
        })?;
        if event.code.as_deref() == Some("panic") {
            panic!("told to");
        }
        match event.openid.as_deref() {
            Some("undefined") => Err(refuse(RefusalKind::Invalid, "openid", "is a placeholder")),
            Some("huge") => Err(refuse(RefusalKind::TooLarge, "", "the record is too large")),
            _ => Ok(Prepared {
                id: EventId::parse(&event.id).expect("valid"),
                record: Record {
                    topic: "logins".into(),
                    key: event.id.into_bytes(),
                    value: Some(raw.to_vec()),
                    headers: Vec::new(),
                    partition: None,
                },
            }),
        }
    }
}

const LIMITS: Limits = Limits {
    max_body: 4_096,
    max_events: 20,
    max_in_flight: 64,
    rate: None,
    publish_wait: Duration::from_millis(200),
    body_wait: Duration::from_millis(300),
};

fn deps(bus: &Arc<FakeBus>, limits: Limits, keys: &[&str]) -> IntakeDeps {
    let keys: Vec<Secret> = keys.iter().map(|k| Secret::new((*k).into())).collect();
    IntakeDeps {
        bus: Arc::clone(bus) as Arc<dyn Bus>,
        prepare: Arc::new(FakePrepare),
        clock: Arc::new(|| Millis(1_000)),
        keys: Keys::new(&keys),
        limits,
        pushes: Pushes::default(),
        cloud_run: false,
        ops: ops(),
    }
}

struct Story {
    server: Server,
    bus: Arc<FakeBus>,
    client: Client,
}

impl Story {
    async fn new(mood: Mood, limits: Limits, keys: &[&str]) -> Self {
        let bus = FakeBus::new(mood);
        let server = Server::start(router(deps(&bus, limits, keys))).await;
        Self {
            server,
            bus,
            client: client(),
        }
    }

    async fn plain() -> Self {
        Self::new(Mood::Take, LIMITS, &[]).await
    }

    fn post(&self, kind: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let url = self.server.url("/v1/logins");
        self.client
            .post(url)
            .header("content-type", kind)
            .body(body)
    }

    async fn json(&self, body: impl Into<reqwest::Body>) -> Response {
        self.post("application/json", body)
            .send()
            .await
            .expect("answered")
    }

    async fn ndjson(&self, body: impl Into<reqwest::Body>) -> Response {
        self.post("application/x-ndjson", body)
            .send()
            .await
            .expect("answered")
    }
}

fn event(id: &str) -> String {
    format!(r#"{{"id":"{id}","openid":"{SECRET}"}}"#)
}

fn array(n: usize) -> String {
    let events: Vec<String> = (0..n).map(|i| event(&format!("e{i}"))).collect();
    format!("[{}]", events.join(","))
}

async fn accepted(answer: Response) -> Value {
    assert_eq!(answer.status(), 202);
    body(answer).await
}

#[tokio::test]
async fn one_event_is_on_the_bus_as_it_came_when_the_202_comes() {
    let story = Story::plain().await;
    let body = format!("{{ \"openid\" : \"{SECRET}\",\n \"id\":\"e1\" }}");
    let answer = accepted(story.json(body.clone()).await).await;
    assert_eq!(answer, json!({"id": "e1", "ids": ["e1"]}));
    let taken = story.bus.taken.lock().expect("lock");
    assert_eq!(taken[0].value.as_deref(), Some(body.as_bytes()));
}

#[tokio::test]
async fn arrays_and_lines_are_taken_in_order() {
    let story = Story::plain().await;
    let answer = accepted(story.json(array(20)).await).await;
    let ids: Vec<String> = (0..20).map(|i| format!("e{i}")).collect();
    assert_eq!(answer, json!({ "ids": ids }));
    let lines = format!("{}\r\n\n{}\n", event("a"), event("b"));
    assert_eq!(
        accepted(story.ndjson(lines).await).await,
        json!({"ids": ["a", "b"]})
    );
    // A list of one is a list still.
    assert_eq!(
        accepted(story.json(array(1)).await).await,
        json!({"ids": ["e0"]})
    );
    assert_eq!(
        accepted(story.ndjson(event("x")).await).await,
        json!({"ids": ["x"]})
    );
    assert_eq!(story.bus.taken(), 24);
}

#[tokio::test]
async fn a_list_is_refused_whole_and_tells_which_event() {
    let story = Story::plain().await;
    let bad = r#"{"id":"x","openid":"undefined"}"#;
    let huge = r#"{"id":"x","openid":"huge"}"#;
    let of = |e: &str, list: bool| {
        let (a, b) = (event("a"), event("b"));
        if list {
            format!("[{a},{b},{e}]")
        } else {
            format!("{a}\n\n{b}\n{e}")
        }
    };
    let (status, why) = error(story.json(of(bad, true)).await).await;
    assert_eq!(
        (status, &why["index"], &why["field"]),
        (422, &json!(2), &json!("openid"))
    );
    let (status, why) = error(story.ndjson(of(bad, false)).await).await;
    assert_eq!(
        (status, &why["line"], &why["field"]),
        (422, &json!(4), &json!("openid"))
    );
    let (status, why) = error(story.json(of(huge, true)).await).await;
    assert_eq!(
        (status, &why["index"], why.get("field")),
        (413, &json!(2), None)
    );
    let (status, why) = error(story.ndjson(of("{not json", false)).await).await;
    assert_eq!((status, &why["line"]), (400, &json!(4)));
    // The same from the thread that long lists are prepared on.
    let long = format!("[{},{bad}]", vec![event("a"); 15].join(","));
    let (status, why) = error(story.json(long).await).await;
    assert_eq!((status, &why["index"]), (422, &json!(15)));
    assert_eq!(
        story.bus.taken(),
        0,
        "nothing of a refused list is published"
    );
}

#[tokio::test]
async fn every_bad_body_has_its_status_and_names_its_field() {
    let story = Story::plain().await;
    let twice = format!(r#"{{"id":"x","openid":"{SECRET}","openid":"{SECRET}"}}"#);
    let half = format!(r#"{{"id":"x","openid":"{SECRET}"#);
    let two = format!("{}{}", event("a"), event("b"));
    let broken = format!("[{},]", event("a"));
    for (body, status, field) in [
        ("", 400, None),
        (" \n ", 400, None),
        ("[]", 400, None),
        ("nonsense", 400, None),
        ("\u{feff}{}", 400, None),
        (half.as_str(), 400, None),
        (two.as_str(), 400, None),
        (broken.as_str(), 400, None),
        ("null", 422, Some("openid")),
        (twice.as_str(), 422, Some("openid")),
        (r#"{"id":"x","openid":7}"#, 422, Some("openid")),
        (r#"{"id":"x","openid":"undefined"}"#, 422, Some("openid")),
        (r#"{"id":"x","openid":"huge"}"#, 413, None),
    ] {
        let (got, why) = error(story.json(body.to_owned()).await).await;
        assert_eq!((got, why["field"].as_str()), (status, field), "{body}");
        assert!(why.get("index").is_none(), "{body}");
    }
    let not_utf8: &[u8] = b"[{\"id\":\"\xff\"}]";
    assert_eq!(error(story.json(not_utf8).await).await.0, 400);
    assert_eq!(story.bus.taken(), 0);
}

#[tokio::test]
async fn other_content_types_are_415_and_none_is_json() {
    let story = Story::plain().await;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=gbk",
        "multipart/form-data",
    ] {
        let answer = story.post(kind, event("a")).send().await.expect("answered");
        let (status, why) = error(answer).await;
        assert_eq!(status, 415, "{kind}");
        assert!(
            why["problem"]
                .as_str()
                .is_some_and(|p| p.contains("application/json"))
        );
    }
    let url = story.server.url("/v1/logins");
    let untyped = story
        .client
        .post(url)
        .body(event("a"))
        .send()
        .await
        .expect("answered");
    accepted(untyped).await;
}

#[tokio::test]
async fn only_who_shows_a_key_is_let_in() {
    let story = Story::new(Mood::Take, LIMITS, &["first-key", "second-key"]).await;
    let post = || story.post("application/json", event("a"));
    for key in ["first-key", "second-key"] {
        accepted(post().bearer_auth(key).send().await.expect("answered")).await;
    }
    let taken = story.bus.taken();
    for header in [
        None,
        Some("Bearer "),
        Some("Bearer first-kez"),
        Some("Bearer first-key2"),
        Some("Basic first-key"),
    ] {
        let request = match header {
            Some(value) => post().header("authorization", value),
            None => post(),
        };
        let answer = request.send().await.expect("answered");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        let (status, why) = error(answer).await;
        assert_eq!(status, 401, "{header:?}");
        assert!(!why.to_string().contains("first-ke"), "{why}");
    }
    // A stranger learns nothing more by sending nonsense.
    assert_eq!(
        error(
            story
                .post("text/plain", "x")
                .send()
                .await
                .expect("answered")
        )
        .await
        .0,
        401
    );
    assert_eq!(story.bus.taken(), taken);
}

#[tokio::test]
async fn what_is_too_large_is_413_with_or_without_a_length() {
    let story = Story::plain().await;
    let large = format!("[{}", " ".repeat(LIMITS.max_body));
    let (status, why) = error(story.json(large.clone()).await).await;
    assert_eq!(status, 413);
    assert!(
        why["problem"].as_str().is_some_and(|p| p.contains("4096")),
        "{why}"
    );
    // Far too large: the client is heard out long enough to hear the answer.
    let larger = "x".repeat(LIMITS.max_body * 3);
    assert_eq!(error(story.json(larger).await).await.0, 413);
    let chunks = futures::stream::iter(
        large
            .into_bytes()
            .chunks(1_000)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>(),
    );
    let mut raw = b"POST /v1/logins HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunks: Vec<Vec<u8>> = futures::StreamExt::collect(chunks).await;
    for chunk in chunks {
        raw.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        raw.extend(chunk);
        raw.extend(b"\r\n");
    }
    raw.extend(b"0\r\n\r\n");
    let answer = story.server.raw(&raw).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let (status, why) = error(story.json(array(21)).await).await;
    assert_eq!(status, 413);
    assert!(
        why["problem"]
            .as_str()
            .is_some_and(|p| p.contains("20 events")),
        "{why}"
    );
    assert_eq!(error(story.ndjson("1\n".repeat(21)).await).await.0, 413);
    assert_eq!(story.bus.taken(), 0);
}

/// 400 or 422: which of them is for the real `Prepare` to say.
async fn refused(answer: Response) {
    let status = error(answer).await.0;
    assert!(status == 400 || status == 422, "{status}");
}

#[tokio::test]
async fn nesting_is_never_too_deep_for_the_stack() {
    let limits = Limits {
        max_body: 1 << 20,
        ..LIMITS
    };
    let story = Story::new(Mood::Take, limits, &[]).await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = (1 << 20) / (open.len() + close.len()) - 1;
        let deep = format!("{}{}", open.repeat(depth), close.repeat(depth));
        refused(story.json(deep.clone()).await).await;
        refused(story.ndjson(deep).await).await;
        refused(story.json(open.repeat(depth)).await).await;
    }
}

#[tokio::test]
async fn too_many_events_a_second_are_429_for_that_key_alone() {
    let limits = Limits {
        rate: NonZeroU32::new(10),
        ..LIMITS
    };
    let story = Story::new(Mood::Take, limits, &["greedy", "modest"]).await;
    let post =
        |key: &str, body: String| story.post("application/json", body).bearer_auth(key).send();
    // A burst holds one full request, however low the rate.
    accepted(post("greedy", array(20)).await.expect("answered")).await;
    let answer = post("greedy", array(20)).await.expect("answered");
    let wait: u64 = answer.headers()["retry-after"]
        .to_str()
        .expect("text")
        .parse()
        .expect("seconds");
    assert!((1..=3).contains(&wait), "{wait}");
    assert_eq!(error(answer).await.0, 429);
    accepted(post("modest", event("a")).await.expect("answered")).await;
    assert_eq!(story.bus.taken(), 21);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    accepted(post("greedy", array(20)).await.expect("answered")).await;
}

#[tokio::test]
async fn a_bus_that_refuses_or_hangs_is_503_and_later_202() {
    let story = Story::new(Mood::Refuse, LIMITS, &[]).await;
    for (mood, least) in [
        (Mood::Refuse, Duration::ZERO),
        (Mood::Hang, LIMITS.publish_wait),
    ] {
        *story.bus.mood.lock().expect("lock") = mood;
        let began = Instant::now();
        let answer = story.json(event("a")).await;
        assert_eq!(answer.headers()["retry-after"], "5");
        assert_eq!(error(answer).await.0, 503);
        assert!(began.elapsed() >= least && began.elapsed() < Duration::from_secs(5));
    }
    *story.bus.mood.lock().expect("lock") = Mood::Take;
    accepted(story.json(event("a")).await).await;
    assert!(logs().contains("disk full"), "why stands in the logs");
}

#[tokio::test]
async fn more_requests_at_once_than_allowed_are_503() {
    let limits = Limits {
        max_in_flight: 2,
        publish_wait: Duration::from_secs(10),
        ..LIMITS
    };
    let story = Story::new(Mood::TakeAfter(Duration::from_millis(500)), limits, &[]).await;
    let answers =
        futures::future::join_all((0..6).map(|i| story.json(event(&format!("e{i}"))))).await;
    let (mut taken, mut full) = (0, 0);
    for answer in answers {
        if answer.status() == 202 {
            taken += 1;
        } else {
            assert_eq!(answer.headers()["retry-after"], "1");
            assert_eq!(error(answer).await.0, 503);
            full += 1;
        }
    }
    assert_eq!((taken, full), (2, 4));
    accepted(story.json(event("later")).await).await;
}

#[tokio::test]
async fn whoever_dawdles_is_cut() {
    let bus = FakeBus::new(Mood::Take);
    let limits = Listening {
        head_wait: Duration::from_millis(200),
        ..Listening::default()
    };
    let app = router(deps(&bus, LIMITS, &[]));
    let server = Server::with(app, limits, CancellationToken::new()).await;
    let began = Instant::now();
    let answer = server.raw(b"POST /v1/logins HTTP/1.1\r\nhost:").await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
    let head = b"POST /v1/logins HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n[";
    let answer = server.raw(head).await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("\"status\":408"),
        "{answer}"
    );
    let broken = server.raw(b"GARBAGE\r\n\r\n").await;
    assert!(broken.starts_with("HTTP/1.1 400"), "{broken}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let story = Story::plain().await;
    let mut head = b"POST /v1/logins HTTP/1.1\r\n".to_vec();
    head.extend(format!("x: {}", "y".repeat(200_000)).into_bytes());
    let mut stream = TcpStream::connect(story.server.address)
        .await
        .expect("connect");
    stream.write_all(&head).await.ok();
    let mut answer = [0; 12];
    let read = stream.read(&mut answer).await.unwrap_or(0);
    assert!(
        read == 0 || answer.starts_with(b"HTTP/1.1 431"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let bus = FakeBus::new(Mood::Take);
    let limits = Listening {
        connections: 1,
        ..Listening::default()
    };
    let app = router(deps(&bus, LIMITS, &[]));
    let server = Server::with(app, limits, CancellationToken::new()).await;
    let idle = TcpStream::connect(server.address).await.expect("connect");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let waiting = client()
        .get(server.url("/livez"))
        .timeout(Duration::from_millis(200))
        .send();
    assert!(waiting.await.is_err(), "the only place is taken");
    drop(idle);
    let served = client()
        .get(server.url("/livez"))
        .timeout(Duration::from_secs(5))
        .send();
    assert_eq!(served.await.expect("a place is free").status(), 200);
}

#[tokio::test]
async fn at_the_stop_all_that_was_begun_is_answered() {
    let limits = Limits {
        publish_wait: Duration::from_secs(10),
        ..LIMITS
    };
    let story = Story::new(Mood::TakeAfter(Duration::from_secs(1)), limits, &[]).await;
    let mut idle = TcpStream::connect(story.server.address)
        .await
        .expect("connect");
    let url = story.server.url("/v1/logins");
    let posts: Vec<_> = (0..20)
        .map(|i| tokio::spawn(story.client.post(&url).body(event(&format!("e{i}"))).send()))
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Connected and not yet accepted, or accepted and not yet read, when the stop comes.
    let late: Vec<_> = (0..5)
        .map(|i| tokio::spawn(client().post(&url).body(event(&format!("l{i}"))).send()))
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    story.server.stop.cancel();
    for post in posts.into_iter().chain(late) {
        let answer = post.await.expect("joined").expect("answered");
        assert_eq!(answer.status(), 202);
    }
    story.server.ended.await.expect("ended");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "an idle connection holds nobody up"
    );
    assert_eq!(story.bus.taken(), 25);
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap_or(0), 0, "closed");
    assert!(
        TcpStream::connect(story.server.address).await.is_err(),
        "nobody listens"
    );
}

#[tokio::test]
async fn a_drain_ends_even_if_a_request_does_not() {
    let bus = FakeBus::new(Mood::Hang);
    let limits = Limits {
        publish_wait: Duration::from_secs(60),
        ..LIMITS
    };
    let listening = Listening {
        drain: Duration::from_millis(200),
        ..Listening::default()
    };
    let app = router(deps(&bus, limits, &[]));
    let server = Server::with(app, listening, CancellationToken::new()).await;
    let post = tokio::spawn(
        client()
            .post(server.url("/v1/logins"))
            .body(event("a"))
            .send(),
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), server.ended).await;
    ended.expect("in time").expect("ended");
    let answer = tokio::time::timeout(Duration::from_secs(5), post).await;
    assert!(
        answer.expect("cut").expect("joined").is_err(),
        "no 202 for what is not durable"
    );
}

#[tokio::test]
async fn whatever_else_is_asked_has_the_same_shape() {
    let story = Story::plain().await;
    let get = |path: &str| story.client.get(story.server.url(path)).send();
    assert_eq!(
        error(get(&format!("/v1/{SECRET}")).await.expect("answered"))
            .await
            .0,
        404
    );
    assert_eq!(
        error(get("/v1/logins").await.expect("answered")).await.0,
        405
    );
    let panic = story.json(r#"{"id":"x","code":"panic"}"#).await;
    assert_eq!(error(panic).await.0, 500);
    let long = format!(
        "[{},{}]",
        vec![event("a"); 15].join(","),
        r#"{"id":"x","code":"panic"}"#
    );
    assert_eq!(error(story.json(long).await).await.0, 500);
    assert_eq!(story.bus.taken(), 0);
    accepted(story.json(event("a")).await).await;
}

#[tokio::test]
async fn it_tells_how_it_is() {
    let bus = FakeBus::new(Mood::Take);
    let mut with = deps(&bus, LIMITS, &["key"]);
    with.ops.ready = Arc::new(|| Box::pin(async { Err("the bus is starting".to_owned()) }));
    let server = Server::start(router(with)).await;
    let get = async |path: &str| {
        client()
            .get(server.url(path))
            .send()
            .await
            .expect("answered")
    };
    assert_eq!(get("/livez").await.status(), 200);
    let (status, why) = error(get("/readyz").await).await;
    assert_eq!(
        (status, &why["problem"]),
        (503, &json!("the bus is starting"))
    );
    let post = client()
        .post(server.url("/v1/logins"))
        .bearer_auth("key")
        .body(event("a"));
    accepted(post.send().await.expect("answered")).await;
    let metrics = get("/metrics").await.text().await.expect("text");
    for line in [
        "unilink_intake_requests_total{status=\"202\"}",
        "# HELP unilink_intake_events_total",
        "unilink_intake_publish_seconds_bucket",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(
        !metrics.contains("status=\"200\""),
        "scrapes and probes are not counted"
    );
    assert_no_secret("metrics", &metrics);
    let openapi: Value = body(get("/openapi.json").await).await;
    assert_eq!(openapi["info"]["title"], "unilink");
}

struct FakeErase;

impl Prepare for FakeErase {
    fn prepare(&self, raw: &[u8], now: Millis) -> Result<Prepared, Refusal> {
        let mut prepared = FakePrepare.prepare(raw, now)?;
        prepared.record.topic = "erasures".into();
        Ok(prepared)
    }
}

impl Erase for FakeErase {
    fn erase(&self, erasure: &Erasure, _: &str) -> Record {
        Record {
            topic: "logins".into(),
            key: erasure.account.key().into_bytes(),
            value: None,
            headers: Vec::new(),
            partition: None,
        }
    }
}

/// Erasures come in by the same door as logins, where there is a key to sign them with.
#[tokio::test]
async fn erasures_are_taken_as_logins_are() {
    let bus = FakeBus::new(Mood::Take);
    let signing = IntakeDeps {
        pushes: Pushes::new(Vec::new(), Some(Arc::new(FakeErase))),
        ..deps(&bus, LIMITS, &["key"])
    };
    let server = Server::start(router(signing)).await;
    let url = server.url("/v1/erasures");
    let post = |text: String| client().post(&url).bearer_auth("key").body(text);
    let taken = post(event("a")).send().await.expect("answered");
    assert_eq!(taken.status(), 202);
    assert_eq!(body(taken).await["id"], "a");
    let list = format!("[{},{}]", event("b"), event("c"));
    let taken = post(list).send().await.expect("answered");
    assert_eq!(body(taken).await["ids"], json!(["b", "c"]));
    let erasures = bus.taken.lock().expect("lock").clone();
    assert_eq!(erasures.len(), 3);
    assert!(erasures.iter().all(|r| &*r.topic == "erasures"));
    let refused = post(r#"{"id":"x","openid":"undefined"}"#.to_owned());
    assert_eq!(error(refused.send().await.expect("answered")).await.0, 422);
    let stranger = client().post(&url).body(event("d")).send().await;
    assert_eq!(error(stranger.expect("answered")).await.0, 401);
    assert_eq!(bus.taken(), 3);

    let unsigned = Server::start(router(deps(&bus, LIMITS, &["key"]))).await;
    let url = unsigned.url("/v1/erasures");
    let stranger = client().post(&url).body(event("d")).send().await;
    assert_eq!(error(stranger.expect("answered")).await.0, 401);
    let known = client().post(&url).bearer_auth("key").body(event("d"));
    assert_eq!(error(known.send().await.expect("answered")).await.0, 501);
    assert_eq!(bus.taken(), 3);
}

/// WeChat hangs up after 5 seconds, and tries again unless it got its answer by then.
#[tokio::test]
async fn a_push_is_answered_before_wechat_gives_up() {
    let text = "[[apps]]\nappid = \"wx1\"\nkind = \"website\"\npush = { token = \"AAAAA\" }";
    let config = Config::read(text, "t", &Environment::default()).expect("valid");
    let bus = FakeBus::new(Mood::Hang);
    let patient = Limits {
        publish_wait: Duration::from_secs(60),
        body_wait: Duration::from_secs(60),
        ..LIMITS
    };
    let deps = IntakeDeps {
        pushes: Pushes::new(config.pushes, Some(Arc::new(FakeErase))),
        clock: Arc::new(|| Millis(1_714_036_504_000)),
        ..deps(&bus, patient, &["key"])
    };
    let server = Server::start(router(deps)).await;
    // The documentation's own signature (`docs/wechat.md` §11).
    let query =
        "signature=f464b24fc39322e44b38aa78f5edd27bd1441696&timestamp=1714036504&nonce=1514711492";
    let url = server.url(&format!("/wechat/push/wx1?{query}"));
    let message = json!({"MsgType": "event", "Event": "user_authorization_cancellation",
        "OpenID": SECRET, "CreateTime": 1_714_036_500});
    let push = || client().post(&url).body(message.to_string()).send();
    let begun = Instant::now();
    let (status, _) = error(push().await.expect("answered")).await;
    let took = begun.elapsed();
    assert_eq!(status, 503);
    let in_time = Duration::from_secs(3)..Duration::from_millis(4_900);
    assert!(in_time.contains(&took), "{took:?}");
    *bus.mood.lock().expect("lock") = Mood::Refuse;
    assert_eq!(error(push().await.expect("answered")).await.0, 503);
    *bus.mood.lock().expect("lock") = Mood::Take;
    let taken = push().await.expect("answered");
    assert_eq!(taken.status(), 200);
    assert_eq!(taken.text().await.expect("text"), "success");
    assert_eq!(bus.taken(), 1);
    // A body that dawdles takes no longer.
    let begun = Instant::now();
    let head = format!(
        "POST /wechat/push/wx1?{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-length: 9\r\n\r\n{{"
    );
    let answer = server.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(begun.elapsed() < in_time.end);
}

#[tokio::test]
async fn nothing_that_was_sent_is_logged() {
    let story = Story::new(Mood::Refuse, LIMITS, &["key"]).await;
    for body in [
        event("a"),
        format!("[{}", event("a")),
        format!(r#"{{"id":"x","{SECRET}":1}}"#),
    ] {
        for key in ["key", SECRET] {
            let path = story.server.url(&format!("/v1/logins?openid={SECRET}"));
            let post = story.client.post(path).bearer_auth(key).body(body.clone());
            assert!(error(post.send().await.expect("answered")).await.0 >= 400);
        }
    }
    let logs = logs();
    assert!(
        logs.contains("the bus did not take events"),
        "logs are captured"
    );
    assert_no_secret("the log", &logs);
}
