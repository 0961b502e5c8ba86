//! Commands and roles as their operators meet them, without any service at hand: what they refuse and
//! with which remedy, and how they wait.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

mod fleet;
mod harness;

use fleet::{Fleet, texts};
use harness::free_port;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use unilink::seal::Keys;

const APP: &str = "[[platforms]]\nid = \"main\"\n[[apps]]\nappid = \"wx0123456789abcdef\"\n\
                   kind = \"mini_program\"\n[[apps.platforms]]\nid = \"main\"\n";

/// Production on ports where nobody listens.
fn nobody_there() -> String {
    let (kafka, postgres) = (free_port(), free_port());
    format!(
        "[store]\nurl = \"postgres://u:hunter2@127.0.0.1:{postgres}/d\"\n\
         [bus]\nurl = \"kafka://127.0.0.1:{kafka}\"\n{APP}"
    )
}

fn login(n: u32) -> Value {
    json!({"id": format!("e{n}"), "occurred_at": harness::ago(0), "appid": "wx0123456789abcdef",
        "openid": format!("o{n}"), "unionid": format!("u{n}")})
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_do_not_run_alone_on_the_embedded_profile() {
    let fleet = Fleet::new(APP);
    for role in ["intake", "worker", "api"] {
        let said = fleet.refused(&[role], 2).await;
        assert!(said.contains("use `unilink serve`"), "{said}");
    }
    let files = std::fs::read_dir(fleet.dir.path()).unwrap().count();
    assert_eq!(files, 1, "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_profile_is_prepared_and_checked_like_the_other() {
    let fleet = Fleet::new(APP);
    // Whoever only looks makes nothing.
    let said = fleet.done(&["check"]).await;
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(said.lines().all(|l| l.starts_with("ok  ")), "{said}");
    for args in [&["tail"][..], &["topics", "--check"]] {
        let said = fleet.refused(args, 1).await;
        assert!(said.contains("there is no store at unilink.db"), "{said}");
    }
    assert!(!fleet.dir.path().join("unilink.db").exists());

    let said = fleet.done(&["migrate"]).await;
    assert!(said.contains("up to date"), "{said}");
    let said = fleet.refused(&["topics", "--check"], 1).await;
    let remedy = "there is no topic wechat.logins: `unilink topics` creates it";
    assert!(said.contains(remedy), "{said}");
    let table = fleet.done(&["topics"]).await;
    assert_eq!(table.lines().count(), 7, "{table}");
    assert!(table.lines().nth(1).unwrap().starts_with("wechat.logins "));
    let rows: Value =
        serde_json::from_str(&fleet.done(&["topics", "--check", "--json"]).await).unwrap();
    assert_eq!(
        rows[0],
        json!({"topic": "wechat.logins", "partitions": 4, "kept": "14 days", "records": 0})
    );

    let more = [("UNILINK_TOPICS__LOGINS_PARTITIONS", "5")];
    let output = fleet.run_with(&["topics", "--json"], &more).await;
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("has 4 partitions"), "{err}");
    let rows: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(rows[0]["partitions"], 4);
    assert!(rows[0]["problem"].is_string(), "{out}");

    // What a store holds is recognised by the keys.
    let said = fleet.refused(&["check"], 1).await;
    assert!(said.contains("not in order: store"), "{said}");
    fleet.done(&["keys", "new", "unilink.keys"]).await;
    let said = fleet.done(&["check", "--json"]).await;
    let found: Value = serde_json::from_str(&said).unwrap();
    assert!(found.as_array().unwrap().iter().all(|f| f["ok"] == true));
    let (out, err) = texts(&fleet.run_with(&["check"], &more).await);
    assert!(err.contains("not in order: store, bus"), "{out}{err}");
}

/// Whoever stops reading (`| head`, `| grep -q`) gets no failure for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_is_no_failure() {
    let fleet = Fleet::new(APP);
    fleet.done(&["keys", "new", "unilink.keys"]).await;
    fleet.done(&["topics"]).await;
    for args in [
        &["check"][..],
        &["topics", "--json"],
        &["keys", "show", "unilink.keys"],
        &["simulate", "--print-config"],
        &["dlq", "list"],
        &["app", "list"],
    ] {
        let output = fleet.unread(args).await;
        let said = texts(&output).1;
        assert!(output.status.success(), "{args:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_once_and_only_their_public_halves_are_shown() {
    let fleet = Fleet::new("");
    let made = fleet.done(&["keys", "new", "deep/unilink.keys"]).await;
    let path = fleet.dir.path().join("deep/unilink.keys");
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&path).unwrap();
    let said = fleet
        .refused(&["keys", "new", "deep/unilink.keys"], 1)
        .await;
    assert!(said.contains("is there already"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(
        fleet.done(&["keys", "show", "deep/unilink.keys"]).await,
        made
    );

    let text = String::from_utf8(before).unwrap();
    let secrets = text.lines().filter_map(|l| {
        let (name, value) = l.split_once(" = ")?;
        let secret = ["namespace", "index", "private", "key"].contains(&name);
        secret.then(|| value.trim_matches('"').to_owned())
    });
    let secrets: Vec<String> = secrets.collect();
    assert_eq!(secrets.len(), 5);
    assert!(secrets.iter().all(|s| !made.contains(s)), "{made}");

    // What is shown is what the configuration takes.
    let keys = Keys::load(&path).unwrap();
    assert!(made.contains(&format!("seal_to = \"{}\"", keys.hpke.current())));
    let name = "shown";
    let env = unilink::config::Environment::default();
    let config = unilink::config::Config::read(&made, name, &env).unwrap();
    assert_eq!(config.seal.seal_to, Some(keys.hpke.current().to_string()));
    assert_eq!(config.operators[0].id, "local");
    let said = fleet.refused(&["keys", "show", "none"], 1).await;
    assert!(said.contains("none"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn production_does_not_start_without_keys() {
    let fleet = Fleet::new(&nobody_there());
    for role in ["serve", "worker", "api", "intake"] {
        let said = fleet.refused(&[role], 1).await;
        let remedy = "`unilink keys new unilink.keys`";
        assert!(said.contains(remedy), "{role}: {said}");
    }
    assert!(!fleet.dir.path().join("unilink.keys").exists());
    let output = fleet
        .run_with(&["intake"], &[("UNILINK_SEAL__SEAL_TO", "x")])
        .await;
    assert_eq!(output.status.code(), Some(2));
    assert!(texts(&output).1.contains("keys show"));
    // A front door that seals to what nobody opens would lose logins.
    fleet.done(&["keys", "new", "unilink.keys"]).await;
    fleet.done(&["keys", "new", "others.keys"]).await;
    let others = Keys::load(&fleet.dir.path().join("others.keys")).unwrap();
    let seal_to = others.hpke.current().to_string();
    let vars = [("UNILINK_SEAL__SEAL_TO", seal_to.as_str())];
    let output = fleet.run_with(&["serve"], &vars).await;
    let said = texts(&output).1;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("seal.seal_to names key"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_needs_and_is_not_told_is_named() {
    let fleet = Fleet::new("[bus]\nurl = \"kafka://127.0.0.1:1\"\n");
    fleet.done(&["keys", "new", "unilink.keys"]).await;
    for role in ["worker", "api", "serve", "migrate"] {
        let said = fleet.refused(&[role], 2).await;
        assert!(said.contains("store.url is not set"), "{role}: {said}");
    }
    let fleet = Fleet::new("[store]\nurl = \"postgres://127.0.0.1:1/d\"\n");
    fleet.done(&["keys", "new", "unilink.keys"]).await;
    for role in ["worker", "intake", "serve", "topics", "tail"] {
        let said = fleet.refused(&[role], 2).await;
        assert!(said.contains("bus.url is not set"), "{role}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intake_without_its_bus_says_so_in_time_and_stops_in_order() {
    let fleet = Fleet::new(&nobody_there());
    let keys = Keys::create(&fleet.dir.path().join("elsewhere.keys")).unwrap();
    let seal_to = keys.hpke.current().to_string();
    let listen = format!("127.0.0.1:{}", free_port());
    let vars = [
        ("UNILINK_SEAL__SEAL_TO", seal_to.as_str()),
        ("UNILINK_INTAKE__LISTEN", listen.as_str()),
    ];
    let mut intake = fleet.start("intake", &["intake"], &vars);
    let base = format!("http://{listen}");
    fleet.until(&format!("{base}/livez"), 200, &intake).await;
    let why = fleet.until(&format!("{base}/readyz"), 503, &intake).await;
    assert!(why.contains("the bus does not answer"), "{why}");
    let begun = Instant::now();
    let posts = (0..8).map(|n| {
        let events = [login(n)];
        let (fleet, base) = (&fleet, &base);
        async move { fleet.post(base, &events).await.expect("answered") }
    });
    for (status, retry, answer) in futures::future::join_all(posts).await {
        assert_eq!((status, retry.as_deref()), (503, Some("5")), "{answer}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );
    intake.signal("TERM");
    let why = fleet.until(&format!("{base}/readyz"), 503, &intake).await;
    let begun = Instant::now();
    let status = intake.ended().await;
    assert!(status.success(), "{status}: {}", intake.logs());
    assert!(begun.elapsed() > Duration::from_secs(2), "a grace: {why}");
    assert!(!fleet.dir.path().join("unilink.keys").exists());
    let logs = intake.logs();
    assert!(
        !logs.contains("hunter2") && !logs.contains("o1\""),
        "{logs}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_wait_for_their_services_live_and_say_what_for() {
    let fleet = Fleet::new(&nobody_there());
    fleet.done(&["keys", "new", "unilink.keys"]).await;
    let ports: Vec<String> = (0..4)
        .map(|_| format!("127.0.0.1:{}", free_port()))
        .collect();
    let vars = [
        ("UNILINK_INTAKE__LISTEN", ports[0].as_str()),
        ("UNILINK_API__LISTEN", ports[1].as_str()),
        ("UNILINK_WORKER__LISTEN", ports[2].as_str()),
    ];
    for (role, port) in [("worker", 2), ("api", 1), ("serve", 0)] {
        let mut process = fleet.start(role, &[role], &vars);
        let base = format!("http://{}", ports[port]);
        fleet.until(&format!("{base}/livez"), 200, &process).await;
        let why = fleet.until(&format!("{base}/readyz"), 503, &process).await;
        assert!(why.contains("waiting for"), "{why}");
        let begun = Instant::now();
        while !process.logs().contains("waiting for the store") {
            assert!(begun.elapsed() < fleet::PATIENCE, "{}", process.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        process.stopped().await;
        let logs = process.logs();
        assert!(!logs.contains("hunter2"), "{logs}");
    }
    let begun = Instant::now();
    let output = fleet.run(&["check"]).await;
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(begun.elapsed() < Duration::from_secs(45));
    assert!(err.contains("not in order: store, bus"), "{err}");
    assert!(!format!("{out}{err}").contains("hunter2"), "{out}");
    for args in [&["topics"][..], &["migrate"], &["tail"]] {
        let said = fleet.refused(args, 1).await;
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_breaks_a_promise_is_refused_by_name() {
    let text = nobody_there() + "[bus.kafka]\nenable.idempotence = false\n";
    let fleet = Fleet::new(&text);
    fleet.done(&["keys", "new", "unilink.keys"]).await;
    for role in ["worker", "intake", "serve", "topics"] {
        let said = fleet.refused(&[role], 1).await;
        assert!(said.contains("enable.idempotence"), "{role}: {said}");
    }
}
