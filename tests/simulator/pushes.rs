//! Messages that WeChat pushes (`docs/wechat.md` §11).

use crate::wechat::Wechat;
use aes::cipher::{BlockCipherDecrypt, KeyInit};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use unilink::simulate::Settings;
use unilink::simulate::push::{Channel, Format, Message, Mode, Names, News, PushError};

/// 32 bytes of 7, without the `=`.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

fn channel() -> Channel {
    Channel {
        token: "AAAAA".to_owned(),
        aes_key: Some(KEY.to_owned()),
        ..Channel::default()
    }
}

fn sorted_sha1(mut parts: Vec<&str>) -> String {
    parts.sort_unstable();
    let sum = Sha1::digest(parts.concat());
    sum.iter().map(|b| format!("{b:02x}")).collect()
}

fn query<'a>(message: &'a Message, name: &str) -> &'a str {
    let found = message.query.iter().find(|(n, _)| *n == name);
    &found.unwrap_or_else(|| panic!("no {name}")).1
}

fn text(message: &Message) -> String {
    String::from_utf8(message.body.clone()).unwrap()
}

/// The text of an element of a message in XML.
fn element(xml: &str, name: &str) -> Option<String> {
    let begin = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let end = xml.find(&format!("</{name}>"))?;
    let inner = &xml[begin..end];
    let text = inner
        .strip_prefix("<![CDATA[")
        .and_then(|t| t.strip_suffix("]]>"));
    Some(text.unwrap_or(inner).to_owned())
}

/// Opens `Encrypt` by hand: CBC over single blocks, every byte of padding checked.
fn open(sealed: &str, appid: &str) -> String {
    let cipher = aes::Aes256::new(&[7u8; 32].into());
    let mut previous = [7u8; 16];
    let mut plain = Vec::new();
    let bytes = STANDARD.decode(sealed).unwrap();
    assert_eq!(bytes.len() % 32, 0);
    for chunk in bytes.chunks_exact(16) {
        let chunk: [u8; 16] = chunk.try_into().unwrap();
        let mut block = chunk.into();
        cipher.decrypt_block(&mut block);
        plain.extend(block.iter().zip(previous).map(|(a, b)| a ^ b));
        previous = chunk;
    }
    let pad = usize::from(*plain.last().unwrap());
    assert!((1..=32).contains(&pad));
    let body = &plain[..plain.len() - pad];
    assert!(plain[body.len()..].iter().all(|b| usize::from(*b) == pad));
    let length = u32::from_be_bytes(body[16..20].try_into().unwrap()) as usize;
    assert_eq!(&body[20 + length..], appid.as_bytes());
    String::from_utf8(body[20..20 + length].to_vec()).unwrap()
}

#[tokio::test]
async fn followers_come_and_go_in_xml() {
    let wechat = Wechat::start(Settings::default()).await;
    let app = wechat.app(2);
    let scene = Some("7]]>".to_owned());
    for (news, event, key, follows) in [
        (News::Subscribe { scene: None }, "subscribe", "", true),
        (News::Unsubscribe, "unsubscribe", "", false),
        (
            News::Subscribe { scene },
            "subscribe",
            "qrscene_7]]]]><![CDATA[>",
            true,
        ),
        (
            News::Scan {
                scene: "8".to_owned(),
            },
            "SCAN",
            "8",
            true,
        ),
    ] {
        let message = wechat.sim.push(app, 5, &news, &channel()).unwrap();
        let xml = text(&message);
        assert_eq!(message.content_type, "text/xml");
        assert_eq!(element(&xml, "Event").as_deref(), Some(event));
        assert_eq!(element(&xml, "EventKey").as_deref(), Some(key));
        assert_eq!(element(&xml, "Ticket").is_some(), !key.is_empty());
        assert_eq!(element(&xml, "FromUserName"), Some(wechat.openid(2, 5)));
        assert!(element(&xml, "ToUserName").unwrap().starts_with("gh_"));
        assert_eq!(element(&xml, "CreateTime").as_deref(), Some("1700000000"));
        assert!(!xml.contains(&wechat.unionid(2, 5)), "never with a unionid");
        assert_eq!(wechat.sim.follows(5, app), follows);
        let want = sorted_sha1(vec![
            "AAAAA",
            query(&message, "timestamp"),
            query(&message, "nonce"),
        ]);
        assert_eq!(query(&message, "signature"), want);
        assert!(message.query.iter().all(|(n, _)| *n != "encrypt_type"));
    }
    let mini = wechat
        .sim
        .push(wechat.app(0), 5, &News::Unsubscribe, &channel());
    assert_eq!(mini, Err(PushError::NotFollowed));
}

#[tokio::test]
async fn authorization_events_name_the_user_in_several_ways() {
    let wechat = Wechat::start(Settings::default()).await;
    let news = News::UserAuthorizationRevoke {
        info: "6".to_owned(),
    };
    let sent = |app: usize, names, unionid, format| {
        let channel = Channel {
            names,
            unionid,
            format,
            ..channel()
        };
        let message = wechat.sim.push(wechat.app(app), 5, &news, &channel);
        text(&message.unwrap())
    };
    let json =
        |names, unionid| -> Value { serde_json::from_str(&sent(0, names, unionid, None)).unwrap() };
    let (openid, unionid) = (wechat.openid(0, 5), wechat.unionid(0, 5));
    let event = json(Names::Documented, true);
    assert_eq!(
        (&event["OpenID"], &event["UnionID"]),
        (&json!(openid), &json!(unionid))
    );
    assert_eq!(
        (&event["AppID"], &event["RevokeInfo"]),
        (&json!(wechat.appid(0)), &json!("6"))
    );
    assert_eq!(event["Event"], "user_authorization_revoke");
    assert_ne!(event["FromUserName"], openid, "the pusher, not the user");
    assert!(event.get("OpenPID").is_some() && event["CreateTime"].is_i64());
    assert!(json(Names::Documented, false).get("UnionID").is_none());
    assert_eq!(json(Names::Lower, false)["openid"], openid);
    assert_eq!(json(Names::Spaced, false)[" OpenID"], openid);
    assert!(!json(Names::NoOpenid, false).to_string().contains(&openid));
    let xml = sent(0, Names::Lower, true, Some(Format::Xml));
    assert_eq!(element(&xml, "openid"), Some(openid));
    assert_eq!(element(&xml, "unionid"), Some(unionid));
    // An official account gets XML whatever was asked, and no fields of mini programs.
    let xml = sent(2, Names::Spaced, false, Some(Format::Json));
    assert_eq!(element(&xml, "OpenID"), Some(wechat.openid(2, 5)));
    assert_eq!(element(&xml, "OpenPID"), None);
}

#[tokio::test]
async fn sealed_messages_open_to_the_plain_ones() {
    let wechat = Wechat::start(Settings::default()).await;
    let news = News::UserAuthorizationCancellation;
    for app in [0, 2] {
        let number = wechat.app(app);
        let plain = wechat.sim.push(number, 5, &news, &channel()).unwrap();
        for mode in [Mode::Compatible, Mode::Encrypted] {
            let channel = Channel { mode, ..channel() };
            let message = wechat.sim.push(number, 5, &news, &channel).unwrap();
            let body = text(&message);
            let field = |name: &str| match app {
                0 => {
                    let json: Value = serde_json::from_str(&body).unwrap();
                    json[name].as_str().map(str::to_owned)
                }
                _ => element(&body, name),
            };
            let sealed = field("Encrypt").unwrap();
            assert_eq!(open(&sealed, &wechat.appid(app)), text(&plain));
            assert_eq!(field("OpenID").is_some(), mode == Mode::Compatible);
            assert!(field("ToUserName").is_some());
            assert_eq!(query(&message, "encrypt_type"), "aes");
            let (at, nonce) = (query(&message, "timestamp"), query(&message, "nonce"));
            let want = sorted_sha1(vec!["AAAAA", at, nonce, &sealed]);
            assert_eq!(query(&message, "msg_signature"), want);
        }
    }
    let keyless = Channel {
        mode: Mode::Encrypted,
        aes_key: Some("short".to_owned()),
        ..channel()
    };
    let refused = wechat
        .sim
        .push(wechat.app(2), 6, &News::Unsubscribe, &keyless);
    assert_eq!(refused, Err(PushError::Key));
}

type Seen = Arc<Mutex<Vec<(HashMap<String, String>, String)>>>;

/// A company's URL that fails twice before it takes a message, and echoes.
async fn company() -> (String, Seen) {
    let seen = Seen::default();
    let take = async |State(seen): State<Seen>,
                      Query(query): Query<HashMap<String, String>>,
                      body: String| {
        let mut seen = seen.lock().unwrap();
        seen.push((query, body));
        if seen.len() < 3 {
            (StatusCode::INTERNAL_SERVER_ERROR, "no")
        } else {
            (StatusCode::OK, "success")
        }
    };
    let echo = async |Query(query): Query<HashMap<String, String>>| query["echostr"].clone();
    let app = axum::Router::new()
        .route("/wechat", get(echo).post(take))
        .with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/wechat?for=us", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, seen)
}

#[tokio::test]
async fn a_message_is_delivered_in_three_tries_or_lost() {
    let wechat = Wechat::start(Settings::default()).await;
    let (url, seen) = company().await;
    let mut ask = json!({
        "url": url, "appid": wechat.appid(2), "person": 5, "token": "AAAAA",
        "news": { "event": "subscribe" },
    });
    let delivery = wechat.control("push", ask.clone()).await;
    assert_eq!(delivery["taken"], true);
    assert_eq!(delivery["reply"], "success");
    let statuses: Vec<_> = delivery["tries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["status"])
        .collect();
    assert_eq!(statuses, [500, 500, 200]);
    {
        let seen = seen.lock().unwrap();
        assert!(
            seen.iter().all(|try_| *try_ == seen[0]),
            "the same message each time"
        );
        let (query, body) = &seen[0];
        assert_eq!(query["for"], "us");
        let want = sorted_sha1(vec!["AAAAA", &query["timestamp"], &query["nonce"]]);
        assert_eq!(query["signature"], want);
        assert_eq!(element(body, "FromUserName"), Some(wechat.openid(2, 5)));
    }
    assert!(wechat.sim.follows(5, wechat.app(2)));
    ask["url"] = json!("http://127.0.0.1:1/");
    let lost = wechat.control("push", ask.clone()).await;
    assert_eq!(
        (&lost["taken"], lost["tries"].as_array().map(Vec::len)),
        (&json!(false), Some(3))
    );
    assert_eq!(lost["tries"][2]["error"], "unreachable");
    let pushed = wechat.sim.stats().pushed;
    assert_eq!((pushed.taken, pushed.lost, pushed.tries), (1, 1, 6));
}

#[tokio::test]
async fn a_url_is_checked_by_its_echo() {
    let wechat = Wechat::start(Settings::default()).await;
    let (url, _) = company().await;
    let check = wechat
        .control("push/check", json!({ "url": url, "token": "AAAAA" }))
        .await;
    assert_eq!(
        check,
        json!({ "passed": true, "status": 200, "error": null })
    );
    let nowhere = json!({ "url": "http://127.0.0.1:1/", "token": "AAAAA" });
    let check = wechat.control("push/check", nowhere).await;
    assert_eq!(check["passed"], false);
}
