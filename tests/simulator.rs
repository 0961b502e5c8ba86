//! The simulated WeChat over HTTP, as stories: it must behave as `docs/wechat.md` says, or every
//! test that leans on it proves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should panic, in its helpers too

use aes::cipher::{BlockCipherDecrypt, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::Duration;
use unilink::model::{AppKind, Millis};
use unilink::simulate::{AppSpec, Faults, Settings, World};
use wechat::{Wechat, errcode};

#[path = "simulator/accounts.rs"]
mod accounts;
#[path = "simulator/grants.rs"]
mod grants;
#[path = "simulator/pushes.rs"]
mod pushes;
#[path = "simulator/rules.rs"]
mod rules;
#[path = "simulator/tokens.rs"]
mod tokens;
#[path = "simulator/wechat.rs"]
mod wechat;

/// Decryption of its own: CBC by hand over single blocks, every padding byte checked.
fn decrypt(data: &str, key: &str, iv: &str) -> Option<Value> {
    let bytes = |text: &str| STANDARD.decode(text).unwrap();
    let key: [u8; 16] = bytes(key).try_into().unwrap();
    let cipher = aes::Aes128::new(&key.into());
    let mut previous: [u8; 16] = bytes(iv).try_into().unwrap();
    let mut plain = Vec::new();
    for chunk in bytes(data).chunks_exact(16) {
        let chunk: [u8; 16] = chunk.try_into().unwrap();
        let mut block = chunk.into();
        cipher.decrypt_block(&mut block);
        plain.extend(block.iter().zip(previous).map(|(a, b)| a ^ b));
        previous = chunk;
    }
    let pad = usize::from(*plain.last()?);
    let text = plain.len().checked_sub(pad)?;
    if pad == 0 || pad > 16 || plain[text..].iter().any(|b| usize::from(*b) != pad) {
        return None;
    }
    serde_json::from_slice(&plain[..text]).ok()
}

/// `docs/wechat.md` §9: the tests' own decryption is right.
#[test]
fn the_official_sample_decrypts() {
    let data = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew==";
    let plain = decrypt(data, "tiihtNczf5v6AKRyjwEUhQ==", "r7BXXKkLb8qrSNn05n0qiA==").unwrap();
    assert_eq!(plain["openId"], "oGZUI0egBJY1zhBYw2KhdUfwVJJE");
    assert_eq!(plain["unionId"], "ocMvos6NjeKLIBqg5Mr9QjxrP1FA");
    assert_eq!(plain["watermark"]["timestamp"], 1_477_314_187);
}

#[test]
fn the_worlds_configuration_says_what_the_world_is() {
    use figment::providers::{Format, Toml};
    let world = World::new(7).unwrap();
    let figment = figment::Figment::from(Toml::string(&world.toml()));
    let config: Value = figment.extract().unwrap();
    assert_eq!(
        config["platforms"],
        json!([{ "id": "main" }, { "id": "second" }])
    );
    let apps = config["apps"].as_array().unwrap();
    assert_eq!(apps.len(), world.apps().len());
    for (text, app) in apps.iter().zip(world.apps()) {
        assert_eq!(text["appid"], app.id.as_str());
        assert_eq!(text["kind"], serde_json::to_value(app.kind).unwrap());
        assert_eq!(text["secret"], app.secret.unwrap().expose());
        let bindings = text["platforms"].as_array().map_or(0, Vec::len);
        assert_eq!(bindings, app.bindings.len());
    }
    assert_eq!(apps[0]["platforms"][0]["since"], "1970-01-01T00:00:00.000Z");
}

#[tokio::test]
async fn a_code_buys_the_same_unionid_in_every_app_of_the_platform_and_only_once() {
    let wechat = Wechat::start(Settings {
        used_as_invalid: 0.0,
        ..Settings::default()
    })
    .await;
    let mut seen = Vec::new();
    for app in [0, 1, 2, 3, 4] {
        let code = wechat.login(app, 42).await;
        let answer = wechat.exchange(app, &code).await;
        assert_eq!(
            answer["openid"],
            wechat.sim.world().openid_text(42, wechat.app(app))
        );
        seen.push(answer["unionid"].as_str().unwrap().to_owned());
        assert_eq!(errcode(&wechat.exchange(app, &code).await), 40163);
    }
    seen.dedup();
    assert_eq!(seen.len(), 1);
    let other = wechat.exchange(6, &wechat.login(6, 42).await).await;
    assert_ne!(other["unionid"], seen[0]);
    let unbound = wechat.exchange(5, &wechat.login(5, 42).await).await;
    assert!(unbound["openid"].is_string() && unbound.get("unionid").is_none());
}

#[tokio::test]
async fn answers_are_plain_text_with_escaped_slashes() {
    let wechat = Wechat::start(Settings::default()).await;
    let mut slashes = 0;
    for person in 0..40 {
        let code = wechat.login(0, person).await;
        let query = wechat.query(0, &code);
        let answer = wechat.get("/sns/jscode2session", &query).await.unwrap();
        assert_eq!(answer.content_type, "text/plain");
        assert!(!answer.text().contains(' '));
        let key = answer.json()["session_key"].as_str().unwrap().to_owned();
        assert_eq!((key.len(), STANDARD.decode(&key).unwrap().len()), (24, 16));
        assert!(answer.text().contains(&key.replace('/', r"\/")));
        slashes += usize::from(key.contains('/'));
    }
    assert!(slashes > 0);
}

#[tokio::test]
async fn wrong_requests_are_refused_in_wechats_order() {
    let wechat = Wechat::start(Settings::default()).await;
    let code = wechat.login(0, 1).await;
    let cases: [(&str, &str, i64); 9] = [
        ("grant_type", "client_credential", 40002),
        ("grant_type", "", 40002),
        ("js_code", "", 41008),
        ("secret", "0123", 40125),
        ("secret", "", 41004),
        ("appid", "wx0", 40013),
        ("appid", "", 41002),
        ("js_code", "garbage", 40029),
        ("js_code", "0e1eKnkl2X5DCe4abcdefghijklmnopqrst", 40029),
    ];
    for (name, value, want) in cases {
        let mut query = wechat.query(0, &code);
        for pair in query.iter_mut().filter(|(n, _)| *n == name) {
            pair.1 = value.to_owned();
        }
        let answer = wechat.get("/sns/jscode2session", &query).await.unwrap();
        assert_eq!(errcode(&answer.json()), want, "{name}={value}");
        let message = answer.json()["errmsg"].as_str().unwrap().to_owned();
        let rid = message.split(", rid: ").nth(1).unwrap();
        assert!(
            rid.len() == 26 && rid.split('-').all(|p| p.len() == 8),
            "{rid}"
        );
    }
    // Earlier checks hide later ones.
    let mut query = wechat.query(0, "garbage");
    query[1].1 = "wrong".to_owned();
    assert_eq!(
        errcode(
            &wechat
                .get("/sns/jscode2session", &query)
                .await
                .unwrap()
                .json()
        ),
        40125
    );
    // None of it has spent the code.
    assert_eq!(errcode(&wechat.exchange(0, &code).await), 0);
}

#[tokio::test]
async fn a_code_is_worth_nothing_in_another_app() {
    let wechat = Wechat::start(Settings::default()).await;
    let code = wechat.login(0, 1).await;
    assert_eq!(errcode(&wechat.exchange(1, &code).await), 40029);
    assert_eq!(errcode(&wechat.exchange(0, &code).await), 0);
    let web = wechat.login(3, 1).await;
    let answer = wechat
        .get("/sns/jscode2session", &wechat.query(3, &web))
        .await
        .unwrap();
    assert_eq!(errcode(&answer.json()), 40013);
}

#[tokio::test]
async fn codes_live_five_minutes_and_ten_on_the_web() {
    let settings = Settings {
        expired_as_invalid: 0.0,
        ..Settings::default()
    };
    let wechat = Wechat::start(settings).await;
    for (app, life) in [(0, 300_000), (2, 300_000), (3, 600_000), (4, 600_000)] {
        let (in_time, late) = (wechat.login(app, 1).await, wechat.login(app, 1).await);
        wechat.pass(life);
        assert_eq!(
            errcode(&wechat.exchange(app, &in_time).await),
            0,
            "app {app}"
        );
        wechat.pass(1);
        assert_eq!(
            errcode(&wechat.exchange(app, &late).await),
            42003,
            "app {app}"
        );
    }
}

#[tokio::test]
async fn used_and_expired_codes_are_sometimes_just_invalid() {
    let settings = Settings {
        used_as_invalid: 0.5,
        expired_as_invalid: 0.5,
        ..Settings::default()
    };
    let wechat = Wechat::start(settings).await;
    let mut used = Vec::new();
    let mut expired = Vec::new();
    for person in 0..40 {
        let (code, old) = (wechat.login(0, person).await, wechat.login(1, person).await);
        wechat.exchange(0, &code).await;
        used.push(errcode(&wechat.exchange(0, &code).await));
        wechat.pass(300_001);
        expired.push(errcode(&wechat.exchange(1, &old).await));
    }
    for (codes, other) in [(used, 40163), (expired, 42003)] {
        assert!(
            codes.iter().all(|c| [40029, other].contains(c)),
            "{codes:?}"
        );
        assert!(
            codes.contains(&40029) && codes.contains(&other),
            "{codes:?}"
        );
    }
}

#[tokio::test]
async fn only_a_get_with_no_chunks_reaches_an_exchange() {
    let wechat = Wechat::start(Settings::default()).await;
    let code = wechat.login(0, 1).await;
    let url = format!("{}/sns/jscode2session", wechat.base);
    let query = wechat.query(0, &code);
    let post = wechat
        .http
        .post(&url)
        .query(&query)
        .body("{}")
        .send()
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&post.bytes().await.unwrap()).unwrap();
    assert_eq!(errcode(&body), 43001);
    let head = wechat.http.head(&url).query(&query).send().await.unwrap();
    assert_eq!(head.status(), 200);
    // A client that sends chunks, by hand.
    let mut tcp = tokio::net::TcpStream::connect(wechat.base.trim_start_matches("http://"))
        .await
        .unwrap();
    let request = "POST /sns/jscode2session HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut tcp, request.as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut tcp, &mut answer)
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 412"), "{answer}");
    assert_eq!(
        errcode(&wechat.exchange(0, &code).await),
        0,
        "the code is still good"
    );
}

#[tokio::test]
async fn encrypted_data_decrypts_with_its_session_and_goes_stale_with_the_next_login() {
    let wechat = Wechat::start(Settings::default()).await;
    let ask = json!({ "appid": wechat.appid(0), "person": 9 });
    let first = wechat.login(0, 9).await;
    let data = wechat.post("/_sim/encrypted", ask.clone()).await;
    let text = |data: &Value, name: &str| data[name].as_str().unwrap().to_owned();
    let open =
        |data: &Value, key: &str| decrypt(&text(data, "encryptedData"), key, &text(data, "iv"));
    let key1 = text(&wechat.exchange(0, &first).await, "session_key");
    let plain = open(&data, &key1).expect("decrypts");
    let app = wechat.app(0);
    assert_eq!(plain["openId"], wechat.sim.world().openid_text(9, app));
    assert_eq!(
        plain["unionId"].as_str(),
        wechat.sim.world().unionid_text(9, app).as_deref()
    );
    assert_eq!(plain["watermark"]["appid"], wechat.appid(0));
    assert_eq!(plain["watermark"]["timestamp"], 1_700_000_000);

    // Trap 9a: the data was fetched before the login whose key the back end holds.
    let second = wechat.login(0, 9).await;
    let key2 = text(&wechat.exchange(0, &second).await, "session_key");
    assert_ne!(key1, key2);
    assert_eq!(open(&data, &key2), None);
    let fresh = wechat.post("/_sim/encrypted", ask).await;
    assert!(open(&fresh, &key2).is_some());
    assert_eq!(open(&fresh, &key1), None);

    let mut sha = sha1::Sha1::default();
    sha1::Digest::update(&mut sha, text(&fresh, "rawData"));
    sha1::Digest::update(&mut sha, &key2);
    let hex: String = sha1::Digest::finalize(sha)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(text(&fresh, "signature"), hex);
}

#[tokio::test]
async fn an_unbound_apps_data_holds_no_unionid() {
    let wechat = Wechat::start(Settings::default()).await;
    let answer = wechat.exchange(5, &wechat.login(5, 9).await).await;
    let data = wechat.sim.encrypted_data(wechat.app(5), 9).unwrap();
    let key = answer["session_key"].as_str().unwrap();
    let plain = decrypt(&data.encrypted_data, key, &data.iv).unwrap();
    assert_eq!(plain["openId"], answer["openid"]);
    assert!(plain.get("unionId").is_none());
}

#[tokio::test]
async fn an_app_bound_later_shows_unionids_from_then_on() {
    let bound_since = Millis(1_700_000_060_000);
    let app = AppSpec {
        kind: AppKind::MiniProgram,
        platform: Some(0),
        bound_since,
    };
    let world = World::build(1, &["main"], &[app]).unwrap();
    let wechat = Wechat::of(world, Settings::default()).await;
    let before = wechat.exchange(0, &wechat.login(0, 1).await).await;
    assert!(before.get("unionid").is_none());
    wechat.pass(60_000);
    let after = wechat.exchange(0, &wechat.login(0, 1).await).await;
    assert!(after["unionid"].is_string());
    assert_eq!(before["openid"], after["openid"]);
}

#[tokio::test]
async fn blocked_people_are_refused_and_snapshots_are_virtual() {
    let mut world = World::new(7).unwrap();
    world.blocked_share = 0.5;
    let blocked = (0..).find(|p| world.blocked(*p)).unwrap();
    let free = (0..).find(|p| !world.blocked(*p) && *p % 2 == 0).unwrap();
    let wechat = Wechat::of(world, Settings::default()).await;
    let code = wechat.login(0, blocked).await;
    assert_eq!(errcode(&wechat.exchange(0, &code).await), 40226);

    let snapshot = json!({ "appid": wechat.appid(2), "person": free, "snapshot": true });
    let code = wechat.post("/_sim/login", snapshot).await["code"]
        .as_str()
        .unwrap()
        .to_owned();
    let virtual_one = wechat.exchange(2, &code).await;
    let real = wechat.exchange(2, &wechat.login(2, free).await).await;
    assert_eq!(virtual_one["is_snapshotuser"], 1);
    assert!(real.get("is_snapshotuser").is_none());
    assert_ne!(virtual_one["openid"], real["openid"]);
    assert_ne!(virtual_one["unionid"], real["unionid"]);
    assert_eq!(real["expires_in"], 7200);
    assert_eq!(real["scope"], "snsapi_userinfo");

    let base = json!({ "appid": wechat.appid(2), "person": free, "unionid": false });
    let code = wechat.post("/_sim/login", base).await["code"]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = wechat.exchange(2, &code).await;
    assert_eq!(answer["scope"], "snsapi_base");
    assert!(answer.get("unionid").is_none());
}

#[tokio::test]
async fn every_fault_that_spares_the_code_lets_it_succeed_later() {
    let wechat = Wechat::start(Settings::default()).await;
    for (person, fault) in (0..).zip([
        "busy",
        "minute_limit",
        "hang",
        "http_500",
        "truncated",
        "empty",
        "html",
        "cut",
    ]) {
        let code = wechat.login(0, person).await;
        wechat.faults(&[&format!("{fault}=1")]).await;
        let got = wechat
            .get("/sns/jscode2session", &wechat.query(0, &code))
            .await;
        match (fault, got) {
            ("busy", Ok(a)) => assert_eq!(errcode(&a.json()), -1),
            ("minute_limit", Ok(a)) => assert_eq!(errcode(&a.json()), 45011),
            ("hang", Err(e)) => assert!(e.is_timeout(), "{e:?}"),
            ("http_500", Ok(a)) => assert_eq!(a.status, 500),
            ("truncated", Ok(a)) => {
                assert!(a.text().starts_with(r#"{"session_key":""#));
                assert!(serde_json::from_slice::<Value>(&a.body).is_err());
            }
            ("empty", Ok(a)) => assert_eq!((a.status, a.body.len()), (200, 0)),
            ("html", Ok(a)) => assert!(a.status == 200 && a.text().starts_with("<html>")),
            ("cut", Err(e)) => assert!(!e.is_timeout(), "{e:?}"),
            (fault, got) => panic!("{fault}: {:?}", got.map(|a| a.body)),
        }
        wechat.faults(&[]).await;
        assert_eq!(errcode(&wechat.exchange(0, &code).await), 0, "{fault}");
    }
    let stats = wechat.sim.stats();
    assert_eq!((stats.codes.sent, stats.codes.resent_after_fault), (16, 8));
    assert_eq!((stats.codes.spent, stats.codes.answered_ok), (8, 8));
    assert!(stats.faults.values().all(|n| *n == 1) && stats.faults.len() == 8);
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_code_was_spent() {
    let wechat = Wechat::start(Settings {
        used_as_invalid: 0.0,
        ..Settings::default()
    })
    .await;
    for (person, fault) in (0..).zip(["spent_hang", "spent_cut"]) {
        let code = wechat.login(0, person).await;
        wechat.faults(&[&format!("{fault}=1")]).await;
        assert!(
            wechat
                .get("/sns/jscode2session", &wechat.query(0, &code))
                .await
                .is_err()
        );
        wechat.faults(&[]).await;
        assert_eq!(errcode(&wechat.exchange(0, &code).await), 40163, "{fault}");
    }
    let codes = wechat.sim.stats().codes;
    assert_eq!(
        (codes.spent, codes.answered_ok, codes.resent_after_fault),
        (2, 0, 2)
    );
}

#[tokio::test]
async fn control_bytes_and_string_errcodes_need_a_tolerant_reader() {
    let wechat = Wechat::start(Settings::default()).await;
    let code = wechat.login(0, 1).await;
    wechat.faults(&["control_bytes=1"]).await;
    let answer = wechat
        .get("/sns/jscode2session", &wechat.query(0, &code))
        .await
        .unwrap();
    assert!(serde_json::from_slice::<Value>(&answer.body).is_err());
    let repaired = answer.text().replace('\u{7}', "");
    let repaired: Value = serde_json::from_str(&repaired).unwrap();
    assert!(repaired["unionid"].is_string());
    assert_eq!(wechat.sim.stats().codes.answered_ok, 1);
    wechat.faults(&["string-errcode=1"]).await;
    let refused = wechat.exchange(0, "garbage").await;
    assert_eq!(refused["errcode"], "40029");
}

#[tokio::test]
async fn latency_delays_and_a_client_that_leaves_in_between_loses_the_answer() {
    let wechat = Wechat::start(Settings {
        used_as_invalid: 0.0,
        ..Settings::default()
    })
    .await;
    wechat.faults(&["latency=100", "jitter=50"]).await;
    let code = wechat.login(0, 1).await;
    let begun = std::time::Instant::now();
    assert_eq!(errcode(&wechat.exchange(0, &code).await), 0);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    // 600 ms, of which the client waits 400: spent after 300, answer never written.
    wechat.faults(&["latency=600"]).await;
    let code = wechat.login(0, 2).await;
    let lost = wechat
        .get("/sns/jscode2session", &wechat.query(0, &code))
        .await;
    assert!(lost.is_err_and(|e| e.is_timeout()));
    wechat.faults(&[]).await;
    assert_eq!(errcode(&wechat.exchange(0, &code).await), 40163);
    let codes = wechat.sim.stats().codes;
    assert_eq!(
        (codes.spent, codes.answered_ok, codes.resent_unanswered),
        (2, 1, 1)
    );
    assert_eq!(codes.resent_after_answer, 0);
}

#[tokio::test]
async fn counters_are_exact_and_tell_resends_apart() {
    let wechat = Wechat::start(Settings {
        used_as_invalid: 0.0,
        ..Settings::default()
    })
    .await;
    let good = wechat.login(0, 1).await;
    for _ in 0..3 {
        wechat.exchange(0, &good).await;
    }
    let killed = wechat.login(1, 1).await;
    wechat.exchange(1, &killed).await;
    wechat.pass(500);
    wechat.sim.note_kill();
    wechat.exchange(1, &killed).await;
    for _ in 0..2 {
        wechat.exchange(0, "garbage").await;
    }
    let mut nobody = wechat.query(0, "x");
    nobody[0].1 = "wx0".to_owned();
    wechat.get("/sns/jscode2session", &nobody).await.unwrap();

    let url = format!("{}/_sim/stats", wechat.base);
    let stats = wechat
        .http
        .get(url)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let stats: Value = serde_json::from_slice(&stats).unwrap();
    let of = |appid: &str| stats["apps"][appid]["/sns/jscode2session"].clone();
    let first = of(&wechat.appid(0));
    assert_eq!(
        first,
        json!({
            "calls": 5,
            "answers": { "0": 1, "40163": 2, "40029": 2 },
            "unanswered": 0,
            "in_flight": 0,
            "most_in_flight": 1,
            "used_this_minute": 5,
            "used_today": 5,
        })
    );
    assert_eq!(of(&wechat.appid(1))["calls"], 2);
    assert_eq!(of("unknown")["answers"], json!({ "40013": 1 }));
    let codes = &stats["codes"];
    for (name, want) in [
        ("sent", 8),
        ("spent", 2),
        ("answered_ok", 2),
        ("resent_after_answer", 2),
        ("resent_after_kill", 1),
        ("resent_after_refusal", 1),
        ("resent_after_fault", 0),
        ("resent_unanswered", 0),
        ("remembered", 4),
    ] {
        assert_eq!(codes[name], want, "{name}");
    }
    assert_eq!(codes["resends"].as_array().unwrap().len(), 3);
    assert_eq!(stats["logins"], 2);
}

#[tokio::test]
async fn codes_are_forgotten_after_their_life_unless_asked_otherwise() {
    for (remember_codes, want) in [(false, 1), (true, 51)] {
        let settings = Settings {
            remember_codes,
            expired_as_invalid: 0.0,
            ..Settings::default()
        };
        let wechat = Wechat::start(settings).await;
        let mut old = String::new();
        for person in 0..50 {
            old = wechat.login(0, person).await;
            wechat.exchange(0, &old).await;
        }
        assert_eq!(wechat.sim.stats().codes.remembered, 50);
        wechat.pass(1_300_000);
        wechat.exchange(0, &wechat.login(0, 1).await).await;
        assert_eq!(wechat.sim.stats().codes.remembered, want);
        // Forgotten or not, it stays dead.
        assert_ne!(errcode(&wechat.exchange(0, &old).await), 0);
    }
}

#[tokio::test]
async fn faults_hit_the_same_people_in_every_run() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let wechat = Wechat::start(Settings::default()).await;
        wechat.faults(&["busy=0.5", "seed=3"]).await;
        let mut hit = Vec::new();
        for person in 0..40 {
            let code = wechat.login(0, person).await;
            hit.push(errcode(&wechat.exchange(0, &code).await));
        }
        runs.push(hit);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&0) && runs[0].contains(&-1));
}

#[tokio::test]
async fn control_requests_that_make_no_sense_are_refused() {
    let wechat = Wechat::start(Settings::default()).await;
    for (path, body) in [
        ("/_sim/login", json!({ "appid": "wx0", "person": 1 })),
        (
            "/_sim/login",
            json!({ "appid": wechat.appid(0), "person": u64::MAX }),
        ),
        (
            "/_sim/encrypted",
            json!({ "appid": wechat.appid(0), "person": 1, "more": 1 }),
        ),
        ("/_sim/faults", json!({ "busy": 1.5 })),
        ("/_sim/faults", json!({ "rain": 0.5 })),
    ] {
        let request = wechat.http.post(format!("{}{path}", wechat.base));
        let request = request.header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 422, "{path} {body}");
    }
    assert_eq!(wechat.sim.faults(), Faults::default());
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_a_hang() {
    let mut wechat = Wechat::start(Settings::default()).await;
    wechat.faults(&["hang=1"]).await;
    let code = wechat.login(0, 1).await;
    let url = format!("{}/sns/jscode2session", wechat.base);
    let hanging = tokio::spawn(wechat.http.get(url).query(&wechat.query(0, &code)).send());
    while wechat.sim.stats().faults.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    wechat.stop.take().unwrap().send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), wechat.served).await;
    assert!(ended.expect("in time").unwrap().is_ok());
    assert!(hanging.await.unwrap().is_err());
}
