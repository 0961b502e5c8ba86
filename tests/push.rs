//! Stories of WeChat's message pushes and of cloud run's headers, over HTTP: with the real router,
//! gatekeeper and embedded log, and at the end with the whole binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

mod harness;
mod http;
mod pusher;

use harness::{DEAD, LINKS, LOGINS, Rig, SAMPLE_APP, Wish, ago, header, json, topic};
use http::{SECRET, Server, assert_no_secret, client, logs, ops};
use pusher::{AES_KEY, Pusher, TOKEN, authorization, encrypt, seconds, xml};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use unilink::bus::Stored;
use unilink::cli::assemble::{self, Parts};
use unilink::cli::prepare::{Eraser, Gatekeeper};
use unilink::clock;
use unilink::config::{Config, Environment};
use unilink::http::Keys;
use unilink::intake::{IntakeDeps, Pushes, router};
use unilink::wire::operator::SIGNATURE;
use unilink::wire::{LoginWire, OperatorKeys, Signer};

const FOLLOWED: &str = "wxfollowed00000001";
const PLAIN: &str = "wxplain00000000001";
const QUIET: &str = "wxquiet00000000001";
const CANCELLED: &str = "user_authorization_cancellation";

/// Three apps: one that encrypts, one that does not, one that pushes nothing.
fn toml(dir: &std::path::Path) -> String {
    let path = dir.join("unilink.db").display().to_string();
    format!(
        "[store]\nurl = {:?}\n[intake]\nkeys = [\"gateways-only\"]\n[[platforms]]\nid = \"main\"\n\
         [[apps]]\nappid = \"{FOLLOWED}\"\nkind = \"official_account\"\nplatforms = [{{ id = \"main\" }}]\n\
         push = {{ token = \"{TOKEN}\", encoding_aes_key = \"{AES_KEY}\", mode = \"compatible\" }}\n\
         [[apps]]\nappid = \"{PLAIN}\"\nkind = \"mini_program\"\nplatforms = [{{ id = \"main\" }}]\n\
         push = {{ token = \"{TOKEN}\", erase_on = [\"unsubscribe\"] }}\n\
         [[apps]]\nappid = \"{QUIET}\"\nkind = \"mini_program\"\nplatforms = [{{ id = \"main\" }}]\n",
        format!("sqlite:{path}")
    )
}

struct Story {
    server: Server,
    parts: Parts,
    _dir: tempfile::TempDir,
}

impl Story {
    async fn new(cloud_run: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = toml(dir.path());
        let config = Config::read(&text, "the story's", &Environment::default()).unwrap();
        let parts = Parts::open(config, None).await.unwrap();
        let config = &parts.config;
        let signer = assemble::signer(config, Some(&parts.keys))
            .unwrap()
            .unwrap();
        let erase = Arc::new(Eraser::new(config, signer));
        let deps = IntakeDeps {
            bus: Arc::clone(&parts.bus),
            prepare: Arc::new(Gatekeeper::new(config, parts.keys.hpke.current().clone())),
            clock: clock::system(),
            keys: Keys::new(&config.intake.keys),
            limits: (&config.intake).into(),
            pushes: Pushes::new(config.pushes.clone(), Some(erase)),
            cloud_run,
            ops: ops(),
        };
        Self {
            server: Server::start(router(deps)).await,
            parts,
            _dir: dir,
        }
    }

    fn pusher(&self, app: &'static str) -> Pusher {
        Pusher::new(&self.server.url(""), app)
    }

    async fn logins(&self) -> Vec<Stored> {
        topic(&self.parts, LOGINS).await
    }

    async fn metrics(&self) -> String {
        let answer = client().get(self.server.url("/metrics")).send().await;
        answer.unwrap().text().await.unwrap()
    }
}

fn success((status, text): (u16, String)) {
    assert_eq!((status, text.as_str()), (200, "success"));
}

/// A refusal in the shape of all others, without anything that was sent.
fn refused((status, text): (u16, String), want: u16) -> String {
    assert_eq!(status, want, "{text}");
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["error"]["status"], want, "{text}");
    assert_no_secret("a refusal", &text);
    answer["error"]["problem"]
        .as_str()
        .expect("text")
        .to_owned()
}

#[tokio::test]
async fn following_is_a_login_and_a_second_delivery_is_the_same_one() {
    let story = Story::new(false).await;
    let wechat = story.pusher(FOLLOWED);
    let message = xml("subscribe", SECRET, seconds() - 3);
    success(wechat.sealed(&message).await);
    success(wechat.sealed(&message).await);
    success(wechat.sealed(&xml("SCAN", SECRET, seconds() - 2)).await);
    success(
        story
            .pusher(PLAIN)
            .plain(&xml("subscribe", SECRET, seconds()))
            .await,
    );

    let logins = story.logins().await;
    assert_eq!(logins.len(), 4);
    let of = |app: &str| {
        let key = format!("{app}:{SECRET}").into_bytes();
        let own = logins.iter().filter(move |r| r.key == key);
        own.cloned().collect::<Vec<_>>()
    };
    let (followed, plain) = (of(FOLLOWED), of(PLAIN));
    assert_eq!((followed.len(), plain.len()), (3, 1));
    let first = json(&followed[0]);
    assert_eq!(first["openid"], SECRET);
    assert_eq!(first["source"], "wechat.push");
    assert_eq!(first["unionid"], Value::Null);
    assert_eq!(
        first["attributes"],
        json!({"event": "subscribe", "event_key": "qrscene_42"})
    );
    assert_eq!(
        header(&followed[0], "ce_source").as_deref(),
        Some("wechat.push")
    );
    assert_eq!(json(&followed[1])["id"], first["id"]);
    assert_ne!(json(&followed[2])["id"], first["id"]);
    assert_ne!(json(&plain[0])["id"], first["id"]);
    let value = followed[0].value.as_deref().unwrap();
    let event = LoginWire::parse(value).expect("as gateways send it");
    assert_no_secret("an event's id", &event.id);
    assert_no_secret("the log", &logs());
}

#[tokio::test]
async fn the_console_may_check_the_url() {
    let story = Story::new(false).await;
    for app in [FOLLOWED, PLAIN] {
        let mut wechat = story.pusher(app);
        assert_eq!(
            wechat.check("5927782489442352469").await,
            (200, "5927782489442352469".into())
        );
        wechat.token = "another";
        refused(wechat.check("5927782489442352469").await, 403);
    }
    refused(story.pusher(QUIET).check("1").await, 404);
}

#[tokio::test]
async fn only_what_wechat_signed_is_heeded() {
    let story = Story::new(false).await;
    let followed = xml("subscribe", SECRET, seconds());
    let wechat = story.pusher(FOLLOWED);
    // Plain bodies where there is a key, however well their query is signed.
    let plain = refused(wechat.plain(&followed).await, 403);
    let stranger = Pusher {
        token: "another",
        ..story.pusher(FOLLOWED)
    };
    assert_eq!(
        refused(stranger.sealed(&followed).await, 403),
        plain,
        "one answer for all"
    );
    // A body changed on its way; another body under the same signature.
    let sealed = encrypt(&followed, FOLLOWED);
    let other = encrypt(&xml("subscribe", "oOther", seconds()), FOLLOWED);
    let body = |encrypt: &str| format!("<xml><Encrypt>{encrypt}</Encrypt></xml>");
    assert_eq!(
        refused(wechat.send(&sealed, body(&other), seconds()).await, 403),
        plain
    );
    // Old, or of a clock that is wrong.
    for skew in [-301, 301] {
        let told = refused(wechat.sealed_at(&followed, seconds() + skew).await, 403);
        assert!(told.contains("clock"), "{told}");
    }
    // Sound signatures of what cannot be read.
    let elsewhere = encrypt(&followed, "wxother");
    let told = refused(
        wechat.send(&elsewhere, body(&elsewhere), seconds()).await,
        400,
    );
    assert!(told.contains("another app"), "{told}");
    refused(wechat.send("AAAA", body("AAAA"), seconds()).await, 400);
    refused(wechat.sealed(&format!("<xml>{SECRET}")).await, 400);
    refused(wechat.sealed("<!DOCTYPE xml><xml></xml>").await, 400);
    refused(
        wechat
            .sealed(&xml("subscribe", SECRET, seconds() - 40 * 86_400))
            .await,
        422,
    );
    let none = followed.replace(SECRET, "undefined");
    refused(wechat.sealed(&none).await, 400);
    // Apps that push nothing, and none at all.
    for app in [QUIET, "wxnone"] {
        refused(story.pusher(app).sealed(&followed).await, 404);
        refused(story.pusher(app).plain(&followed).await, 404);
    }
    let large = format!("<xml>{}</xml>", " ".repeat(150 << 10));
    refused(wechat.plain(&large).await, 403);
    refused(wechat.send("AAAA", large, seconds()).await, 413);
    assert!(story.logins().await.is_empty());
    assert_no_secret("the log", &logs());
}

#[tokio::test]
async fn erasures_are_signed_and_only_where_the_app_is_set_so() {
    let story = Story::new(false).await;
    let wechat = story.pusher(FOLLOWED);
    let at = seconds() - 5;
    success(
        wechat
            .sealed(&authorization(CANCELLED, FOLLOWED, SECRET, at))
            .await,
    );
    success(
        wechat
            .sealed(&authorization(CANCELLED, FOLLOWED, SECRET, at))
            .await,
    );
    let revoked = authorization("user_authorization_revoke", FOLLOWED, "oRevoked", at);
    success(wechat.sealed(&revoked).await);
    success(wechat.sealed(&xml("unsubscribe", SECRET, at)).await);
    // The other app erases on nothing but that.
    let plain = story.pusher(PLAIN);
    success(plain.plain(&xml("unsubscribe", SECRET, at)).await);
    success(
        plain
            .plain(&authorization(CANCELLED, PLAIN, SECRET, at))
            .await,
    );
    // Nobody is named: said, not erased.
    let nobody = authorization(CANCELLED, FOLLOWED, "", at);
    success(wechat.sealed(&nobody).await);
    assert!(logs().contains("names no OpenID"));
    refused(
        wechat
            .sealed(&authorization(CANCELLED, "wxother", SECRET, at))
            .await,
        400,
    );

    let keys = story.parts.keys.operators.iter();
    let public: Vec<String> = keys.map(|k| Signer::new(&k.id, &k.key).public()).collect();
    let keys = OperatorKeys::parse(public.iter().map(String::as_str)).unwrap();
    let mut erased = Vec::new();
    for record in story.logins().await {
        assert_eq!(
            header(&record, "ce_type").as_deref(),
            Some("unilink.erasure.v1")
        );
        let value = record.value.as_deref().unwrap();
        assert_eq!(
            keys.verify("unilink.erasure.v1", value, &record.headers),
            Ok("local")
        );
        assert!(header(&record, SIGNATURE).is_some());
        let event = json(&record);
        let end = unilink::model::Millis(at * 1000 + 999).to_string();
        assert_eq!(event["erased_at"], end);
        assert_no_secret("an event's id", event["id"].as_str().unwrap());
        erased.push((
            event["appid"].clone(),
            event["openid"].clone(),
            event["id"].clone(),
        ));
    }
    erased.sort_by_key(|e| format!("{e:?}"));
    let who: Vec<_> = erased
        .iter()
        .map(|(app, openid, _)| (app.as_str().unwrap(), openid.as_str().unwrap()))
        .collect();
    let want = [
        (FOLLOWED, "oRevoked"),
        (FOLLOWED, SECRET),
        (FOLLOWED, SECRET),
        (PLAIN, SECRET),
    ];
    assert_eq!(who, want);
    assert_eq!(
        erased[1].2, erased[2].2,
        "a second delivery is the same event"
    );
    assert_no_secret("the log", &logs());
}

#[tokio::test]
async fn everything_else_is_answered_and_counted() {
    let story = Story::new(false).await;
    let wechat = story.pusher(FOLLOWED);
    success(
        wechat
            .sealed(&authorization(
                "user_info_modified",
                FOLLOWED,
                SECRET,
                seconds(),
            ))
            .await,
    );
    success(wechat.sealed(&xml("CLICK", SECRET, seconds())).await);
    let text = format!(
        "<xml><FromUserName>{SECRET}</FromUserName><MsgType>text</MsgType><Content>{SECRET}</Content></xml>"
    );
    success(wechat.sealed(&text).await);
    refused(story.pusher(FOLLOWED).plain(&text).await, 403);
    assert!(story.logins().await.is_empty());
    let metrics = story.metrics().await;
    for kind in ["other_event", "message", "refused"] {
        let line = format!("unilink_intake_pushes_total{{app=\"{FOLLOWED}\",kind=\"{kind}\"}}");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    assert_no_secret("metrics", &metrics);
    assert_no_secret("the log", &logs());
}

/// A call as cloud run's gateway hands it on.
async fn call(story: &Story, headers: &[(&'static str, &str)], body: &str) -> (u16, Value) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let request = client()
        .post(story.server.url("/wechat/cloud"))
        .headers(map);
    let answer = request
        .body(body.to_owned())
        .send()
        .await
        .expect("answered");
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("text");
    assert_no_secret("an answer", &text);
    (status, serde_json::from_str(&text).expect("JSON"))
}

const VIA: (&str, &str) = ("x-wx-source", "wx_client");
const OPENID: (&str, &str) = ("x-wx-openid", SECRET);
const APPID: (&str, &str) = ("x-wx-appid", QUIET);
const UNIONID: &str = "oUnionOfCloudRun00000000001";

#[tokio::test]
async fn cloud_runs_headers_are_logins() {
    let story = Story::new(true).await;
    let own = [VIA, OPENID, APPID, ("x-wx-unionid", UNIONID)];
    let (status, answer) = call(&story, &own, "").await;
    assert_eq!(status, 202, "{answer}");
    let made = answer["id"].as_str().expect("an id").to_owned();
    // The environment's owner shares it: the ids are the calling app's, all of them.
    let shared = [
        VIA,
        ("x-wx-appid", FOLLOWED),
        ("x-wx-unionid", "oUnionOfTheOwner00000000001"),
        ("x-wx-from-openid", SECRET),
        ("x-wx-from-appid", PLAIN),
        ("x-wx-from-unionid", ""),
    ];
    let body =
        json!({"id": "mine", "external_id": "c-7", "attributes": {"a": 1}, "occurred_at": ago(3)});
    let (status, answer) = call(&story, &shared, &body.to_string()).await;
    assert_eq!(
        (status, &answer),
        (202, &json!({"id": "mine", "ids": ["mine"]}))
    );

    let logins = story.logins().await;
    assert_eq!(logins.len(), 2);
    let find = |id: &str| {
        let found = logins.iter().map(json).find(|event| event["id"] == id);
        found.expect("published")
    };
    let (own, shared) = (find(&made), find("mine"));
    assert_eq!(
        (&own["appid"], &own["unionid"]),
        (&json!(QUIET), &json!(UNIONID))
    );
    assert_eq!(
        (&own["openid"], &own["source"]),
        (&json!(SECRET), &json!("wechat.cloud"))
    );
    assert_eq!(
        (&shared["appid"], &shared["unionid"]),
        (&json!(PLAIN), &Value::Null)
    );
    assert_eq!(
        (&shared["external_id"], &shared["attributes"]),
        (&json!("c-7"), &json!({"a": 1}))
    );
    assert_no_secret("the log", &logs());
}

#[tokio::test]
async fn what_cloud_run_would_not_send_is_refused_by_the_headers_name() {
    let story = Story::new(true).await;
    let from = ("x-wx-from-openid", SECRET);
    for (headers, status, field) in [
        (vec![OPENID, APPID], 422, "X-WX-SOURCE"),
        (vec![("x-wx-source", ""), OPENID, APPID], 422, "X-WX-SOURCE"),
        (vec![VIA, APPID], 422, "X-WX-OPENID"),
        (vec![VIA, OPENID], 422, "X-WX-APPID"),
        (vec![VIA, from, APPID], 422, "X-WX-FROM-APPID"),
        (vec![VIA, OPENID, APPID, from], 422, "X-WX-FROM-OPENID"),
        (vec![VIA, OPENID, OPENID, APPID], 422, "X-WX-OPENID"),
        (
            vec![VIA, OPENID, ("x-wx-appid", "wxnone")],
            422,
            "X-WX-APPID",
        ),
        (
            vec![VIA, ("x-wx-openid", "undefined"), APPID],
            422,
            "X-WX-OPENID",
        ),
        (
            vec![VIA, OPENID, APPID, ("x-wx-unionid", "null")],
            422,
            "X-WX-UNIONID",
        ),
        (
            vec![VIA, from, ("x-wx-from-appid", "wxnone")],
            422,
            "X-WX-FROM-APPID",
        ),
    ] {
        let (got, answer) = call(&story, &headers, "").await;
        let named = answer["error"]["field"].as_str();
        assert_eq!((got, named), (status, Some(field)), "{headers:?}: {answer}");
    }
    let good = [VIA, OPENID, APPID];
    for body in ["[]", "{", "7", r#"{"openid": "oA"}"#, r#"{"code": "c"}"#] {
        assert_eq!(call(&story, &good, body).await.0, 400, "{body}");
    }
    let (status, answer) = call(&story, &good, r#"{"occurred_at": "soon"}"#).await;
    assert_eq!(
        (status, &answer["error"]["field"]),
        (422, &json!("occurred_at"))
    );
    assert!(story.logins().await.is_empty());
}

#[tokio::test]
async fn cloud_runs_headers_are_worth_nothing_unless_they_are_switched_on() {
    let story = Story::new(false).await;
    let (status, answer) = call(&story, &[VIA, OPENID, APPID], "").await;
    assert_eq!(status, 404, "{answer}");
    assert!(story.logins().await.is_empty());
}

/// The end of the way: the worker obeys what the intake signs with a key of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_ends_the_account() {
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_unilink"))
        .args(["keys", "operator", "pushes"])
        .output()
        .unwrap();
    assert!(made.status.success());
    let signer = String::from_utf8(made.stdout).unwrap();
    let app = format!(
        "{signer}\n[[apps]]\nappid = \"{FOLLOWED}\"\nkind = \"official_account\"\n\
         platforms = [{{ id = \"main\" }}]\n\
         push = {{ token = \"{TOKEN}\", encoding_aes_key = \"{AES_KEY}\" }}\n"
    );
    let wish = Wish {
        more: app,
        ..Wish::default()
    };
    let mut rig = Rig::serving(wish).await;
    let base = rig.intake_url("");
    let wechat = Pusher::new(&base, FOLLOWED);
    let openid = "oFollower000000000000000001";
    let twin = "oInTheMiniProgram0000000001";
    let at = seconds() - 60;

    success(wechat.sealed(&xml("subscribe", openid, at)).await);
    let found = rig.account(FOLLOWED, openid, |_| true).await;
    let unionid = "oUnionOfTheFollower00000001";
    for (id, app, openid) in [("l-1", FOLLOWED, openid), ("l-2", SAMPLE_APP, twin)] {
        rig.accept(&json!({"id": id, "occurred_at": ago(1), "appid": app, "openid": openid, "unionid": unionid})).await;
    }
    let linked = |a: &Value| a["unionid"] == unionid;
    let (one, other) = (
        rig.account(FOLLOWED, openid, linked).await,
        rig.account(SAMPLE_APP, twin, linked).await,
    );
    assert_eq!(one["user_id"], other["user_id"]);
    assert_eq!(
        one["first_seen_at"], found["first_seen_at"],
        "the subscription was first"
    );

    // A push that somebody else made has no effect, and neither has an unsubscription by default.
    let forger = Pusher {
        token: "another",
        ..Pusher::new(&base, FOLLOWED)
    };
    refused(
        forger
            .sealed(&authorization(CANCELLED, FOLLOWED, openid, seconds()))
            .await,
        403,
    );
    success(wechat.sealed(&xml("unsubscribe", openid, seconds())).await);
    success(
        wechat
            .sealed(&authorization(CANCELLED, FOLLOWED, openid, seconds()))
            .await,
    );
    let path = format!("/v1/accounts/{FOLLOWED}/{openid}");
    let begun = Instant::now();
    while rig.get(&path).await.0 != 404 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", rig.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The account in the other app is nobody else's affair.
    assert_eq!(
        rig.account(SAMPLE_APP, twin, linked).await["claims_count"],
        1
    );
    rig.settled().await;
    rig.stopped().await;
    assert!(!rig.logs().contains(openid), "{}", rig.logs());
    let parts = rig.parts().await;
    assert!(topic(&parts, DEAD).await.is_empty());
    let key = format!("{FOLLOWED}:{openid}").into_bytes();
    let links = topic(&parts, LINKS).await;
    let last = links.iter().rfind(|r| r.key == key).expect("told");
    assert_eq!(last.value, None, "the last word is a null");
    let logins = topic(&parts, LOGINS).await;
    let erasures = logins
        .iter()
        .filter(|r| header(r, "ce_type").as_deref() == Some("unilink.erasure.v1"));
    assert_eq!(erasures.count(), 1);
}

/// Whoever starts an intake that could not sign is told so at once, with the remedy.
#[tokio::test(flavor = "multi_thread")]
async fn an_intake_that_cannot_sign_does_not_start() {
    let app = |erase_on: &str| {
        format!(
            "[[platforms]]\nid = \"main\"\n[[apps]]\nappid = \"wx1\"\nkind = \"official_account\"\n\
             platforms = [{{ id = \"main\" }}]\npush = {{ token = \"t\"{erase_on} }}\n"
        )
    };
    let production =
        "[store]\nurl = \"postgres://u:p@127.0.0.1:1/d\"\n[bus]\nurl = \"kafka://127.0.0.1:1\"\n";
    let public =
        unilink::seal::Keys::create(&tempfile::tempdir().unwrap().path().join("k")).unwrap();
    let seal = format!("[seal]\nseal_to = \"{}\"\n", public.hpke.current());
    let told = run(&format!("{production}{seal}{}", app(""))).await;
    assert!(
        told.contains("wx1") && told.contains("unilink keys operator"),
        "{told}"
    );
    // A key that no worker would obey.
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_unilink"))
        .args(["keys", "operator", "pushes"])
        .output()
        .unwrap();
    let both = String::from_utf8(made.stdout).unwrap();
    let (signer, _) = both.split_once("# Public").unwrap();
    let told = run(&format!(
        "[intake]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = \"127.0.0.1:0\"\n{signer}{}",
        app("")
    ))
    .await;
    assert!(
        told.contains("intake.signer.key") && told.contains("[[operators]]"),
        "{told}"
    );
}

#[test]
fn an_operators_key_is_made_anew_each_time_and_its_id_is_plain() {
    let make = |id: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_unilink"));
        command.args(["keys", "operator", id]).output().unwrap()
    };
    let text = |id: &str| String::from_utf8(make(id).stdout).unwrap();
    let made = text("in-take.1");
    let config = Config::read(&made, "made", &Environment::default()).expect("as it stands");
    assert_eq!(config.intake.signer.expect("a signer").id, "in-take.1");
    assert_eq!(config.operators.len(), 1);
    assert_ne!(made, text("in-take.1"));
    for bad in ["", "a b", "a\"b", &"a".repeat(65)] {
        assert_eq!(make(bad).status.code(), Some(2), "{bad:?}");
    }
}

/// What a command that must fail with status 2 says.
async fn run(toml: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("unilink.toml");
    std::fs::write(&config, toml).unwrap();
    let role = if toml.contains("kafka://") {
        "intake"
    } else {
        "serve"
    };
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_unilink"));
    command.arg(role).arg("--config").arg(&config);
    command.env_clear().current_dir(dir.path());
    command.stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    told
}
