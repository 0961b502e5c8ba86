//! The client against a raw TCP server, so that every byte of the answer is the test's own:
//! what WeChat really sends (`docs/wechat.md` §1), what networks do, and how often a code leaves.

// The exemption of tests in clippy.toml does not reach the helpers of an integration test.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use unilink::model::{AppId, AppKind, Secret, UnionId};
use unilink::resolve::codes::Action;
use unilink::resolve::wechat::{
    CallError, CallFailure, Client, ClientError, Credential, Sent, Session, Timeouts,
};

const APP: &str = "wx4f4bc4dec97d474b";
const SECRET: &str = "s3cr+t/of=the app&x";
const CODE: &str = "0a+b/c=d&e 微#f";
const OPENID: &str = "oGZUI0egBJY1zhBYw2KhdUfwVJJE";
const UNIONID: &str = "ocMvos6NjeKLIBqg5Mr9QjxrP1FA";
const KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";
/// What must stand in no text that the client makes.
const HIDDEN: [&str; 8] = [
    SECRET, CODE, OPENID, UNIONID, KEY, "s3cr", "0a%2Bb", "js_code",
];

/// What the server does with a request it has read.
#[derive(Clone)]
enum Reply {
    /// Writes these bytes and keeps the connection.
    Bytes(Vec<u8>),
    /// Writes these bytes and closes.
    Last(Vec<u8>),
    /// Writes the first bytes at once and the others one at a time, over seconds.
    Drip(Vec<u8>, Vec<u8>),
    /// Says nothing and keeps the connection open.
    Hang,
    /// Resets the connection.
    Reset,
}

/// A server that answers the nth request of a connection as its script says, and remembers all.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { url, seen }
    }

    async fn saying(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    fn client(&self) -> Client {
        Client::new(&self.url, Timeouts::default()).expect("client")
    }

    /// For servers that never finish: ends after a second.
    fn hurried(&self) -> Client {
        let timeouts = Timeouts {
            connect: Duration::from_millis(900),
            total: Duration::from_secs(1),
            idle: Duration::from_secs(4),
        };
        Client::new(&self.url, timeouts).expect("client")
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("lock").clone()
    }

    async fn ask(&self) -> Result<Session, CallError> {
        exchange(&self.client(), CODE).await
    }
}

async fn converse(
    mut stream: TcpStream,
    script: Arc<impl Fn(usize) -> Reply>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    for nth in 0.. {
        let Some(head) = request(&mut stream).await else {
            return;
        };
        seen.lock().expect("lock").push(head);
        match script(nth) {
            Reply::Bytes(bytes) => {
                // A client that has read enough closes early.
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Last(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Drip(start, bytes) => {
                stream.write_all(&start).await.expect("write");
                for byte in bytes {
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Reply::Hang => std::future::pending().await,
            Reply::Reset => {
                stream.set_zero_linger().expect("linger");
                return;
            }
        }
    }
}

/// The head of the next request, or nothing when the client has closed.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("ASCII"))
}

async fn exchange(client: &Client, code: &str) -> Result<Session, CallError> {
    let app = AppId::parse(APP).expect("appid");
    let secret = |text: &str| Secret::new(text.to_owned());
    let credential = Credential::Secret(secret(SECRET));
    client
        .exchange(&app, AppKind::MiniProgram, &credential, &secret(code))
        .await
}

/// A 200 as `/sns/*` sends it: plain text, with a length.
fn answer(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn success() -> String {
    format!(r#"{{"session_key":"{KEY}","openid":"{OPENID}","unionid":"{UNIONID}"}}"#)
}

/// The error that a body (or whole answer) leads to; checked for leaks.
async fn error(reply: Reply) -> CallError {
    let server = Server::saying(reply).await;
    let error = server.ask().await.expect_err("an error");
    assert_eq!(server.seen().len(), 1, "one call is one request: {error}");
    sealed(&format!("{error} {error:?}"));
    error
}

async fn body_error(body: &[u8]) -> CallError {
    error(Reply::Bytes(answer(body))).await
}

fn sealed(text: &str) {
    for hidden in HIDDEN {
        assert!(!text.contains(hidden), "{hidden} leaks into: {text}");
    }
}

fn whole(session: &Session) {
    assert_eq!(session.openid.as_str(), OPENID);
    let unionid = UnionId::parse(UNIONID).map_err(|_| ());
    assert_eq!(session.unionid, Some(unionid));
    let key = session.session_key.as_ref().map(Secret::expose);
    assert_eq!(key, Some(KEY));
    sealed(&format!("{session:?}"));
}

#[tokio::test]
async fn a_session_is_read_and_the_query_is_percent_encoded() {
    let server = Server::saying(Reply::Bytes(answer(success().as_bytes()))).await;
    whole(&server.ask().await.expect("a session"));
    let head = server.seen().remove(0);
    let target = head.split(' ').nth(1).expect("a request line");
    assert_eq!(
        target,
        "/sns/jscode2session?appid=wx4f4bc4dec97d474b&secret=s3cr%2Bt%2Fof%3Dthe+app%26x\
         &js_code=0a%2Bb%2Fc%3Dd%26e+%E5%BE%AE%23f&grant_type=authorization_code"
    );
    let lower = head.to_lowercase();
    assert!(head.starts_with("GET "), "{head}");
    assert!(!lower.contains("transfer-encoding") && !lower.contains("accept-encoding"));
    assert!(!lower.contains("referer") && !lower.contains("cookie"));
}

#[tokio::test]
async fn a_base_url_may_have_a_path_and_trailing_slashes() {
    let server = Server::saying(Reply::Bytes(answer(success().as_bytes()))).await;
    for (suffix, path) in [
        ("/", "/sns/"),
        ("/egress/", "/egress/sns/"),
        ("/e", "/e/sns/"),
    ] {
        let client = Client::new(&format!("{}{suffix}", server.url), Timeouts::default());
        whole(
            &exchange(&client.expect("client"), CODE)
                .await
                .expect("session"),
        );
        let head = server.seen().pop().expect("a request");
        assert!(
            head.starts_with(&format!("GET {path}jscode2session?")),
            "{head}"
        );
    }
}

#[tokio::test]
async fn success_comes_in_many_dresses() {
    let chunked = success();
    let (a, b) = chunked.split_at(30);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; encoding=utf-8\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    );
    let until_close = format!("HTTP/1.1 200 OK\r\n\r\n{}", success());
    let ok = success().replace('{', r#"{"errcode":0,"errmsg":"ok","expires_in":7200,"#);
    let string_ok = success().replace('{', r#"{"errcode":"0","#);
    let spaced = success().replace(UNIONID, &format!(" {UNIONID}"));
    let unknown = success().replace('{', r#"{"url":"http:\/\/wx.qlogo.cn\/0","new":[{}],"#);
    let raw = success().replace('{', "{\"nickname\":\"\x07\x14\",");
    let mut broken = b"{\"city\":\"\xe5\xb9\xff\",".to_vec();
    broken.extend_from_slice(&success().as_bytes()[1..]);
    for reply in [
        Reply::Bytes(chunked.into_bytes()),
        Reply::Last(until_close.into_bytes()),
        Reply::Bytes(answer(ok.as_bytes())),
        Reply::Bytes(answer(string_ok.as_bytes())),
        Reply::Bytes(answer(spaced.as_bytes())),
        Reply::Bytes(answer(unknown.as_bytes())),
        Reply::Bytes(answer(raw.as_bytes())),
        Reply::Bytes(answer(&broken)),
    ] {
        let server = Server::saying(reply).await;
        whole(&server.ask().await.expect("a session"));
    }
}

#[tokio::test]
async fn slashes_may_be_escaped_inside_a_session_key() {
    let body = format!(r#"{{"openid":"{OPENID}","session_key":"ab\/cd+ef\/=="}}"#);
    let server = Server::saying(Reply::Bytes(answer(body.as_bytes()))).await;
    let session = server.ask().await.expect("a session");
    assert_eq!(session.session_key.expect("key").expose(), "ab/cd+ef/==");
}

#[tokio::test]
async fn a_unionid_is_absent_or_a_placeholder_without_harm_to_the_rest() {
    for (unionid, want) in [
        (r#""""#.to_owned(), None),
        ("null".to_owned(), None),
        (r#""undefined""#.to_owned(), Some(Err(()))),
        (format!(r#""{OPENID}""#), Some(Err(()))),
        ("7".to_owned(), Some(Err(()))),
    ] {
        let body = format!(r#"{{"openid":"{OPENID}","unionid":{unionid},"session_key":""}}"#);
        let server = Server::saying(Reply::Bytes(answer(body.as_bytes()))).await;
        let session = server.ask().await.expect("a session");
        assert_eq!(session.unionid, want, "{unionid}");
        assert!(session.session_key.is_none());
    }
}

#[tokio::test]
async fn error_codes_arrive_with_their_action_and_rid() {
    let body = format!(
        r#"{{"errcode":40029,"errmsg":"invalid code {CODE} {OPENID}, rid: 60b6d8c5-2a2b3c4d-0f1e2d3c"}}"#
    );
    let dead = body_error(body.as_bytes()).await;
    assert_eq!(dead.kind, CallFailure::Api(Action::CodeDead));
    assert_eq!(dead.errcode, Some(40029));
    assert_eq!(dead.rid.as_deref(), Some("60b6d8c5-2a2b3c4d-0f1e2d3c"));
    assert_eq!(dead.sent(), Sent::Answered);
    for (body, action) in [
        (
            r#"{"errcode":"40163","errmsg":"code been used"}"#,
            Action::CodeDead,
        ),
        (
            r#"{"errcode":-1,"errmsg":"system error"}"#,
            Action::Transient,
        ),
        (r#"{"errcode":45011}"#, Action::MinuteLimit),
        (r#"{"errcode":40226}"#, Action::UserBlocked),
        (r#"{"errcode":40125}"#, Action::Configuration),
        (r#"{"errcode":40001}"#, Action::Configuration),
        (r#"{"errcode":12345}"#, Action::Unknown),
    ] {
        assert_eq!(
            body_error(body.as_bytes()).await.kind,
            CallFailure::Api(action),
            "{body}"
        );
    }
}

#[tokio::test]
async fn unreadable_answers_are_broken_and_may_have_spent_the_code() {
    let cut = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{}",
        success()
    );
    let huge_chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11000\r\n{}\r\n0\r\n\r\n",
        " ".repeat(0x11000)
    );
    let announced = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n{}".to_vec();
    let gbk =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=gbk\r\nContent-Length: 0\r\n\r\n";
    let invalid_openid = format!(r#"{{"openid":"{OPENID} x","session_key":"{KEY}"}}"#);
    for reply in [
        Reply::Bytes(gbk.to_vec()),
        Reply::Bytes(answer(b" \r\n")),
        Reply::Bytes(answer(b"<html>busy</html>")),
        Reply::Bytes(answer(b"[]")),
        Reply::Bytes(answer(b"{}")),
        Reply::Bytes(answer(br#"{"openid":7}"#)),
        Reply::Bytes(answer(br#"{"openid":"undefined"}"#)),
        Reply::Bytes(answer(invalid_openid.as_bytes())),
        Reply::Bytes(answer(br#"{"errcode":true,"openid":"oX"}"#)),
        Reply::Bytes(answer(&vec![b' '; 64 * 1024 + 1])),
        Reply::Bytes(huge_chunked.into_bytes()),
        Reply::Bytes(announced),
        Reply::Last(cut.into_bytes()),
    ] {
        let got = error(reply).await;
        assert_eq!(
            (got.kind, got.sent()),
            (CallFailure::Broken, Sent::Maybe),
            "{got}"
        );
        assert_eq!(got.action(), Action::Transient);
        assert!(got.detail.is_some());
    }
}

#[tokio::test]
async fn statuses_are_told_and_redirections_not_followed() {
    for (status, sent) in [
        (500, Sent::Maybe),
        (502, Sent::Maybe),
        (301, Sent::Answered),
        (307, Sent::Answered),
        (412, Sent::Answered),
    ] {
        let answer = format!(
            "HTTP/1.1 {status} X\r\nLocation: /elsewhere?secret={SECRET}\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let got = error(Reply::Bytes(answer.into_bytes())).await;
        assert_eq!((got.kind, got.sent()), (CallFailure::Http(status), sent));
    }
}

#[tokio::test]
async fn silence_and_slow_drips_end_in_time() {
    let begun = Instant::now();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n";
    let replies = [
        Reply::Hang,
        Reply::Bytes(head.to_vec()),
        Reply::Drip(Vec::new(), answer(success().as_bytes())),
        Reply::Drip(head.to_vec(), vec![b' '; 900]),
    ];
    let calls = replies.map(|reply| async {
        let server = Server::saying(reply).await;
        let got = exchange(&server.hurried(), CODE).await;
        let got = got.expect_err("an error");
        assert_eq!((got.kind, got.sent()), (CallFailure::Timeout, Sent::Maybe));
        assert_eq!(server.seen().len(), 1);
        sealed(&format!("{got} {got:?}"));
    });
    futures::future::join_all(calls).await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "a second each, at once"
    );
}

#[tokio::test]
async fn an_endless_body_is_given_up_at_its_limit() {
    // Endless in effect: twice the limit, then silence. Only the limit ends it at once.
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400000\r\n";
    let bytes = [&head[..], &vec![b' '; 2 << 20]].concat();
    let server = Server::saying(Reply::Bytes(bytes)).await;
    let got = exchange(&server.hurried(), CODE).await;
    let got = got.expect_err("an error");
    assert_eq!(got.kind, CallFailure::Broken, "{got}");
    assert_eq!(got.detail.as_deref(), Some("longer than 1048576 bytes"));
}

#[tokio::test]
async fn a_dead_connection_is_lost_and_a_missing_one_was_never_used() {
    for reply in [
        Reply::Reset,
        Reply::Last(Vec::new()),
        Reply::Last(b"HTTP/1.1 200 OK\r\nConte".to_vec()),
        Reply::Last(b"\x16\x03\x01 not HTTP".to_vec()),
    ] {
        let got = error(reply).await;
        assert_eq!(
            (got.kind, got.sent()),
            (CallFailure::Lost, Sent::Maybe),
            "{got}"
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    for url in [format!("http://{address}"), format!("https://{address}")] {
        let client = Client::new(&url, Timeouts::default()).expect("client");
        let got = exchange(&client, CODE).await.expect_err("an error");
        assert_eq!(
            (got.kind, got.sent()),
            (CallFailure::Connect, Sent::Never),
            "{got}"
        );
        assert!(got.detail.is_some(), "the operator learns why");
        sealed(&format!("{got} {got:?}"));
    }
}

#[tokio::test]
async fn tls_that_fails_never_carried_the_code() {
    // A server that does not speak TLS: the handshake fails before anything of ours is sent.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("https://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let client = Client::new(&url, Timeouts::default()).expect("client");
    let got = exchange(&client, CODE).await.expect_err("an error");
    assert_eq!(
        (got.kind, got.sent()),
        (CallFailure::Connect, Sent::Never),
        "{got}"
    );
}

#[tokio::test]
async fn useless_settings_are_refused_at_once() {
    for url in [
        "",
        "api.weixin.qq.com",
        "ftp://x",
        "https://a:b@x",
        "https://x?y",
        "https://x#y",
    ] {
        let got = Client::new(url, Timeouts::default());
        assert!(matches!(got, Err(ClientError::BaseUrl(_))), "{url}");
    }
    let second = Duration::from_secs(1);
    for (connect, total, idle) in [
        (second, second, second),
        (Duration::ZERO, second, second),
        (second, second * 2, Duration::ZERO),
    ] {
        let timeouts = Timeouts {
            connect,
            total,
            idle,
        };
        let got = Client::new("http://x", timeouts);
        assert!(matches!(got, Err(ClientError::Timeouts)), "{timeouts:?}");
    }
}

/// Codes by how often the server has seen them.
fn counted(server: &Server) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for head in server.seen() {
        let (_, rest) = head.split_once("js_code=").expect("a code");
        let (code, _) = rest.split_once('&').expect("an end");
        *counts.entry(code.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Eight callers share a client and send fresh codes. No code may arrive twice, and what the
/// client says of each call must be what the server saw. Gives (answered, lost, never sent).
async fn hammer(server: &Server, rounds: usize) -> (usize, usize, usize) {
    let client = server.client();
    let mut callers = Vec::new();
    for caller in 0..8 {
        let client = client.clone();
        callers.push(tokio::spawn(async move {
            let mut told = Vec::new();
            for round in 0..rounds {
                let code = format!("c{caller}x{round}");
                let sent = match exchange(&client, &code).await {
                    Ok(_) => Sent::Answered,
                    Err(e) => e.sent(),
                };
                told.push((code, sent));
                if round % 3 == 0 {
                    // Lets the server's close arrive first, now and then.
                    tokio::time::sleep(Duration::from_micros(300)).await;
                }
            }
            told
        }));
    }
    let mut told = Vec::new();
    for caller in callers {
        told.extend(caller.await.expect("caller"));
    }
    let counts = counted(server);
    let (mut answered, mut lost, mut never) = (0, 0, 0);
    for (code, sent) in told {
        let times = counts.get(&code).copied().unwrap_or(0);
        match (sent, times) {
            (Sent::Answered, 1) => answered += 1,
            (Sent::Maybe, 0 | 1) => lost += 1,
            (Sent::Never, 0) => never += 1,
            _ => panic!("{code} arrived {times} times, the client says {sent:?}"),
        }
    }
    (answered, lost, never)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_code_is_sent_twice_when_kept_connections_die() {
    let ok = answer(success().as_bytes());
    let with = |death: Reply, ok: Vec<u8>| {
        Server::start(move |nth| match nth {
            0 | 1 => Reply::Bytes(ok.clone()),
            _ => death.clone(),
        })
    };
    // The reused connection dies with the request read and unanswered.
    for death in [Reply::Reset, Reply::Last(Vec::new())] {
        let server = with(death, ok.clone()).await;
        let (answered, lost, _) = hammer(&server, 60).await;
        assert!(answered > 100 && lost > 100, "{answered} {lost}");
    }
    // It closes right after an answer that promised to keep it: requests race with the close.
    let server = with(Reply::Last(ok.clone()), ok.clone()).await;
    let (answered, lost, never) = hammer(&server, 60).await;
    assert!(answered > 300, "{answered} {lost} {never}");
    // Half an answer.
    let half = ok[..ok.len() / 2].to_vec();
    let server = with(Reply::Last(half), ok).await;
    let (answered, lost, _) = hammer(&server, 60).await;
    assert!(answered > 100 && lost > 100, "{answered} {lost}");
}

#[tokio::test]
async fn connections_are_kept_and_reused() {
    let ok = answer(success().as_bytes());
    let first = Arc::new(Mutex::new(0));
    let count = Arc::clone(&first);
    let server = Server::start(move |nth| {
        *count.lock().expect("lock") += usize::from(nth == 0);
        Reply::Bytes(ok.clone())
    })
    .await;
    let client = server.client();
    for _ in 0..20 {
        whole(&exchange(&client, CODE).await.expect("session"));
    }
    assert_eq!(*first.lock().expect("lock"), 1, "20 calls, one connection");
}

/// Where a test's tracing output goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_secret_is_traced_on_any_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    for reply in [
        Reply::Bytes(answer(success().as_bytes())),
        Reply::Bytes(answer(br#"{"errcode":40029}"#)),
        Reply::Hang,
        Reply::Reset,
    ] {
        let server = Server::saying(reply).await;
        let _ = exchange(&server.hurried(), CODE).await;
    }
    tracing::trace!("the end");
    drop(guard);
    let text = String::from_utf8(log.0.lock().expect("lock").clone()).expect("UTF-8");
    assert!(text.contains("the end"), "tracing is captured");
    sealed(&text);
}
