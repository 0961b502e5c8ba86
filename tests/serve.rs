//! Stories of `unilink serve`, told with the real binary over HTTP and on its topics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

mod harness;

use harness::{DEAD, LINKED, LINKS, LOGINS, Rig, SAMPLE_APP, Wish, ago, header, json, topic};
use serde_json::{Value, json};
use unilink::cli::assemble::{self, Parts};
use unilink::config::Profile;

const SAMPLE_KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";
const SAMPLE_IV: &str = "r7BXXKkLb8qrSNn05n0qiA==";
const SAMPLE_OPENID: &str = "oGZUI0egBJY1zhBYw2KhdUfwVJJE";
const SAMPLE_UNIONID: &str = "ocMvos6NjeKLIBqg5Mr9QjxrP1FA";

/// The ciphertext of `docs/wechat.md` §9, read from there.
fn sample_data() -> String {
    let facts = include_str!("../docs/wechat.md");
    let found = facts.lines().find(|l| l.starts_with("CiyLU1Aw2K"));
    found.unwrap().to_owned()
}

fn sample(id: &str) -> Value {
    json!({"id": id, "occurred_at": ago(1), "appid": SAMPLE_APP, "openid": SAMPLE_OPENID,
        "session_key": SAMPLE_KEY, "encryptedData": sample_data(), "iv": SAMPLE_IV})
}

fn with(mut event: Value, field: &str, value: impl Into<Value>) -> Value {
    event[field] = value.into();
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_sample_links_and_its_forgeries_do_not() {
    let mut rig = Rig::serving(Wish::default()).await;
    // Forgeries first, each under an openid of its own: whoever comes later finds no claim to lean on.
    let data = sample_data();
    let byte = with(sample("f-byte"), "openid", "oByteChanged");
    let changed = data.replacen("YzO0IKX", "YzO1IKX", 1);
    assert_ne!(changed, data);
    let other_app = rig.sim.world().sim_apps()[0].id.as_str().to_owned();
    let changed = with(sample("f-data"), "encryptedData", changed);
    let app = with(sample("f-app"), "appid", other_app.clone());
    for event in [&changed, &app, &byte] {
        rig.accept(event).await;
    }
    for (app, openid) in [
        (SAMPLE_APP, SAMPLE_OPENID),
        (&other_app, SAMPLE_OPENID),
        (SAMPLE_APP, "oByteChanged"),
    ] {
        let found = rig.account(app, openid, |_| true).await;
        assert_eq!(found["unionid"], Value::Null, "{found}");
        // The simulator does not know the sample's app, so it cannot say that the key of garbled data is
        // the newest: those wait for another key.
        let reason = found["reason"].as_str().unwrap();
        assert!(["decrypt_failed", "deferred"].contains(&reason), "{found}");
        assert_eq!(found["claims_count"], 0, "{found}");
    }

    rig.accept(&sample("genuine")).await;
    let linked = |found: &Value| !found["unionid"].is_null();
    let found = rig.account(SAMPLE_APP, SAMPLE_OPENID, linked).await;
    assert_eq!(found["unionid"], SAMPLE_UNIONID);
    assert_eq!(found["method"], "decrypted");
    assert_eq!(found["reason"], Value::Null);
    let (status, user) = rig
        .get(&format!("/v1/unionids/main/{SAMPLE_UNIONID}"))
        .await;
    assert_eq!((status, &user["user_id"]), (200, &found["user_id"]));
    assert_eq!(user["accounts"].as_array().unwrap().len(), 1, "{user}");

    rig.stopped().await;
    rig.leftovers().await;
    assert!(!rig.logs().contains("panic"), "{}", rig.logs());
    let parts = rig.parts().await;
    assert_eq!(topic(&parts, LOGINS).await.len(), 4);
    // The garbled one may still wait.
    let told = topic(&parts, LINKED).await.len();
    assert!((3..=4).contains(&told), "{told}");
    assert!(topic(&parts, DEAD).await.is_empty());
    let links = topic(&parts, LINKS).await;
    let of =
        |r: &&unilink::bus::Stored| r.key == format!("{SAMPLE_APP}:{SAMPLE_OPENID}").as_bytes();
    let revisions: Vec<Value> = links
        .iter()
        .filter(of)
        .map(|r| json(r)["revision"].clone())
        .collect();
    assert_eq!(revisions, [1, 2]);
    assert!(header(&links[0], "ce_id").is_some());
}

/// Refused with this status, naming this field; nothing of it is on the topic.
async fn refused(rig: &Rig, body: String, want: (u16, Option<&str>)) -> Value {
    let (status, answer) = rig
        .post_as("application/json", body.clone().into_bytes())
        .await;
    let field = answer["error"]["field"].as_str();
    assert_eq!((status, field), want, "{body:.200}: {answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_events_are_refused_with_the_field() {
    let mut rig = Rig::serving(Wish::default()).await;
    let good = json!({"id": "g", "occurred_at": ago(1), "appid": SAMPLE_APP, "openid": "oA"});
    let told = |value: Value| value.to_string();
    for (event, field) in [
        (with(good.clone(), "appid", "wxnone"), "appid"),
        (with(good.clone(), "code", "c0de"), "code"),
        (with(good.clone(), "unionid", "undefined"), "unionid"),
        (with(good.clone(), "unionid", "oA"), "unionid"),
        (with(good.clone(), "openid", 7), "openid"),
        (with(good.clone(), "encryptedData", "AA=="), "iv"),
        (
            with(good.clone(), "occurred_at", ago(60 * 24 * 31)),
            "occurred_at",
        ),
        (with(good.clone(), "occurred_at", ago(-6)), "occurred_at"),
        (
            with(good.clone(), "occurred_at", "yesterday"),
            "occurred_at",
        ),
        (with(good.clone(), "mch_id", "1"), "out_trade_no"),
        (with(good.clone(), "iv", "i".repeat(65)), "iv"),
        (with(good.clone(), "nickname", "x"), "nickname"),
    ] {
        refused(&rig, told(event), (422, Some(field))).await;
    }
    let mut none = good.clone();
    none.as_object_mut().unwrap().remove("openid");
    let (status, _) = rig.post(&none).await;
    assert_eq!(status, 422, "no evidence");
    refused(&rig, "{\"id\":".into(), (400, None)).await;
    let twice = told(good.clone()).replacen("\"openid\"", "\"openid\":\"oB\",\"openid\"", 1);
    refused(&rig, twice, (422, Some("openid"))).await;
    let large = told(with(good.clone(), "source", "s".repeat(2 << 20)));
    refused(&rig, large, (413, None)).await;
    let bad = with(good.clone(), "appid", "wxnone");
    let answer = refused(&rig, json!([good, bad]).to_string(), (422, Some("appid"))).await;
    assert_eq!(answer["error"]["index"], 1, "{answer}");
    rig.stopped().await;
    let parts = rig.parts().await;
    assert!(
        topic(&parts, LOGINS).await.is_empty(),
        "taken whole or not at all"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_become_dead_letters_and_the_worker_goes_on() {
    let mut rig = Rig::serving(Wish::default()).await;
    let parts = rig.parts().await;
    let good = json!({"id": "t", "occurred_at": ago(1), "appid": SAMPLE_APP, "openid": "oT"});
    let login = |value: Value| Some(value.to_string().into_bytes());
    let erasure = json!({"id": "e", "erased_at": ago(0), "appid": SAMPLE_APP, "openid": "oT"});
    let unknown_key = "v1.0123456789abcdef.AAAA";
    let kid = parts.keys.hpke.current().kid().to_owned();
    let cases = [
        ("malformed", None, Some(b"{\"id\":".to_vec())),
        ("malformed", None, None),
        (
            "unknown_app",
            None,
            login(with(good.clone(), "appid", "wxnone")),
        ),
        (
            "unknown_type",
            Some("unilink.other.v9"),
            login(good.clone()),
        ),
        (
            "contradictory",
            None,
            login(with(good.clone(), "code", "SECRETCODE")),
        ),
        (
            "unsealable",
            None,
            login(with(good.clone(), "sealed", format!("v1.{kid}.AAAA"))),
        ),
        (
            "unknown_key",
            None,
            login(with(good.clone(), "sealed", unknown_key)),
        ),
        ("bad_signature", Some("unilink.erasure.v1"), login(erasure)),
    ];
    let records = cases
        .iter()
        .map(|(_, ce_type, value)| unilink::bus::Record {
            topic: LOGINS.into(),
            key: b"key".to_vec(),
            value: value.clone(),
            headers: ce_type
                .iter()
                .map(|t| ("ce_type".to_owned(), t.as_bytes().to_vec()))
                .collect(),
            partition: Some(0),
        });
    parts.bus.publish(records.collect()).await.unwrap();
    // Lenient where it is too late to correct: the time is clamped, the placeholder marked.
    let late = with(
        with(good, "occurred_at", ago(60 * 24 * 90)),
        "unionid",
        "null",
    );
    let record = unilink::bus::Record {
        topic: LOGINS.into(),
        key: b"key".to_vec(),
        value: login(late),
        headers: Vec::new(),
        partition: Some(0),
    };
    parts.bus.publish(vec![record]).await.unwrap();
    let found = rig.account(SAMPLE_APP, "oT", |_| true).await;
    assert_eq!(found["reason"], "placeholder_unionid", "{found}");
    rig.stopped().await;
    let dead = topic(&parts, DEAD).await;
    let mut seen = 0;
    for record in &dead {
        let grave = unilink::wire::Grave::parse(record).unwrap();
        let (reason, _, original) = &cases[usize::try_from(grave.origin.offset).unwrap()];
        assert_eq!(
            grave.reason.map(|r| r.word()),
            Some(*reason),
            "{}",
            grave.detail
        );
        let value = record.value.clone().map(|value| match grave.sealed {
            true => parts
                .keys
                .hpke
                .open_bytes(&grave.origin.aad(), &value)
                .unwrap()
                .to_vec(),
            false => value,
        });
        assert_eq!(&value, original, "{reason}");
        seen += 1;
    }
    assert_eq!(seen, cases.len());
    let linked = topic(&parts, LINKED).await;
    assert_eq!(linked.len(), 1);
    assert_eq!(json(&linked[0])["clamped"], true);
}

/// What Kafka's own tool does to a group.
async fn reset_group(parts: &Parts) {
    let Profile::Embedded { path } = &parts.config.profile else {
        panic!("not embedded");
    };
    let file = assemble::open_file(path, None).await.unwrap();
    let bus = assemble::embedded_bus(&parts.config, file).await.unwrap();
    bus.reset_group(0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_for_good_through_a_replay() {
    let mut rig = Rig::serving(Wish::default()).await;
    let event = |id: &str| {
        json!({"id": id, "occurred_at": ago(0), "appid": SAMPLE_APP,
        "openid": "oGone", "unionid": "uGone"})
    };
    rig.accept(&with(event("before"), "occurred_at", ago(10)))
        .await;
    let old = rig.account(SAMPLE_APP, "oGone", |_| true).await["user_id"].clone();
    let parts = rig.parts().await;
    let operator = parts.keys.operators.last().unwrap();
    let signer = unilink::wire::Signer::new(&operator.id, &operator.key);
    let erasure = unilink::model::Erasure {
        account: harness::account(SAMPLE_APP, "oGone"),
        erased_at: harness::now().plus(-60_000),
        cause: unilink::model::EventId::parse("erase-1").unwrap(),
    };
    let record = unilink::wire::ErasureWire::to_record(&erasure, &parts.topics(), "test", &signer);
    parts.bus.publish(vec![record]).await.unwrap();
    let old = old.as_str().unwrap().to_owned();
    let gone = format!("/v1/users/{old}");
    for _ in 0..500 {
        if rig.get(&gone).await.0 == 410 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(rig.get(&gone).await.0, 410);
    rig.stopped().await;
    let told = async |parts| {
        let mut counts = Vec::new();
        for name in harness::ALL {
            counts.push((name, topic(parts, name).await.len()));
        }
        counts
    };
    let before = told(&parts).await;
    let links = topic(&parts, LINKS).await;
    assert!(links[1].value.is_none());
    assert_eq!(header(&links[1], "revision").as_deref(), Some("2"));
    reset_group(&parts).await;
    rig.start().await;
    rig.settled().await;
    rig.stopped().await;
    assert_eq!(
        told(&parts).await,
        before,
        "a replay publishes nothing again"
    );
    rig.start().await;
    assert_eq!(rig.get(&gone).await.0, 410);
    rig.accept(&event("after")).await;
    let new = rig.account(SAMPLE_APP, "oGone", |_| true).await;
    assert_ne!(new["user_id"], old.as_str());
    assert_eq!(new["revision"], 3, "{new}");
    rig.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_waits_for_its_key_codes_are_sent_once_and_nothing_leaks() {
    let mut rig = Rig::serving(Wish::default()).await;
    let app = rig.sim.world().numbers().next().unwrap();
    let appid = rig.sim.world().app(app).unwrap().id.as_str().to_owned();
    let manner = unilink::simulate::Manner {
        unionid: false,
        snapshot: false,
    };
    let session = rig.sim.login(app, 5, manner).unwrap();
    let (code, key) = (rig.sim.code(&session), rig.sim.session_key(&session));
    let data = rig.sim.encrypted_in(&session);
    let openid = rig.sim.world().openid_text(5, app);
    rig.accept(
        &json!({"id": "data", "occurred_at": ago(0), "appid": appid, "openid": openid,
        "encryptedData": data.encrypted_data, "iv": data.iv}),
    )
    .await;
    let found = rig.account(&appid, &openid, |_| true).await;
    assert_eq!(found["reason"], "deferred", "{found}");
    let by_code = |id: &str| json!({"id": id, "occurred_at": ago(0), "appid": appid, "code": code});
    let body = json!([by_code("code-1"), by_code("code-2")]);
    rig.accept(&body).await;
    let found = rig
        .account(&appid, &openid, |f| !f["unionid"].is_null())
        .await;
    assert_eq!(found["method"], "decrypted", "{found}");
    rig.settled().await;
    assert_eq!(rig.sim.stats().codes.sent, 1, "two events, one call");

    let again = rig.run(&["serve"]).await;
    assert_eq!(again.status.code(), Some(1));
    let remedy = String::from_utf8(again.stderr).unwrap();
    assert!(remedy.contains("cannot listen"), "{remedy}");
    let text = std::fs::read_to_string(rig.dir.path().join("unilink.toml")).unwrap();
    let elsewhere = rig.dir.path().join("unilink.db.second.toml");
    let other = text.lines().map(|l| {
        if l.starts_with("listen") {
            "listen = \"127.0.0.1:0\""
        } else {
            l
        }
    });
    std::fs::write(&elsewhere, other.collect::<Vec<_>>().join("\n")).unwrap();
    let again = rig
        .run(&["--config", elsewhere.to_str().unwrap(), "serve"])
        .await;
    assert_eq!(again.status.code(), Some(1));
    let remedy = String::from_utf8(again.stderr).unwrap();
    assert!(remedy.contains("stop that one"), "{remedy}");
    std::fs::remove_file(elsewhere).unwrap();
    let tail = rig.run(&["tail", "--json"]).await;
    assert!(tail.status.success());
    let lines = String::from_utf8(tail.stdout).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["value"]["unionid"], found["unionid"], "{lines}");
    rig.stopped().await;

    let secret = rig.sim.world().app(app).unwrap().secret.clone();
    let secrets = [&code, &key, &secret, &data.encrypted_data];
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    for (file, bytes) in rig.data() {
        for text in secrets {
            assert!(!holds(&bytes, text), "{file} holds a secret in plain");
        }
    }
    let logs = rig.logs();
    let unionid = found["unionid"].as_str().unwrap();
    for text in secrets
        .into_iter()
        .map(String::as_str)
        .chain([openid.as_str(), unionid])
    {
        assert!(
            !logs.contains(text),
            "the logs hold an identifier or a secret"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_nothing_that_was_accepted() {
    let mut rig = Rig::serving(Wish::default()).await;
    let (http, url) = (rig.http.clone(), rig.intake_url("/v1/logins"));
    let poster = tokio::spawn(async move {
        let mut accepted = 0;
        loop {
            let events: Vec<Value> = (0..50)
                .map(|i| {
                    json!({"id": format!("s-{accepted}-{i}"), "occurred_at": ago(1),
                    "appid": SAMPLE_APP, "openid": format!("oS{accepted}x{i}")})
                })
                .collect();
            let body = serde_json::to_vec(&events).unwrap();
            let request = http.post(&url).header("content-type", "application/json");
            match request.body(body).send().await {
                Ok(answer) if answer.status() == 202 => accepted += 50,
                _ => return accepted,
            }
        }
    });
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    rig.stopped().await;
    rig.leftovers().await;
    let accepted: usize = poster.await.unwrap();
    assert!(accepted > 0);
    rig.start().await;
    rig.settled().await;
    rig.stopped().await;
    let parts = rig.parts().await;
    let (logins, linked) = (topic(&parts, LOGINS).await, topic(&parts, LINKED).await);
    // The last request may have been taken without its answer arriving.
    assert!((accepted..=accepted + 50).contains(&logins.len()));
    assert_eq!(linked.len(), logins.len());
}
