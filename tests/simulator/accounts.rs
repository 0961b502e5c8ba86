//! What an official account learns of its followers, and a mini program of those who pay or have a
//! session (`docs/wechat.md` §3.3, §7, §8).

use crate::wechat::{Wechat, errcode};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use unilink::model::{AppKind, Millis};
use unilink::simulate::{AppSpec, Settings, World};

fn plain() -> Settings {
    Settings {
        spaced_unionids: 0.0,
        ..Settings::default()
    }
}

/// People who follow the official account, and people who do not.
fn people(wechat: &Wechat) -> (Vec<u64>, Vec<u64>) {
    let app = wechat.app(2);
    (0..60).partition(|p| wechat.sim.follows(*p, app))
}

#[tokio::test]
async fn followers_show_their_unionid_and_others_do_not() {
    let wechat = Wechat::start(plain()).await;
    let token = wechat.token(2).await;
    let (followers, others) = people(&wechat);
    for person in followers {
        let openid = wechat.openid(2, person);
        let answer = wechat
            .ask("/cgi-bin/user/info", &token, &[("openid", &openid)])
            .await;
        assert_eq!(answer["subscribe"], 1);
        assert_eq!(answer["openid"], openid);
        assert_eq!(answer["unionid"], wechat.unionid(2, person));
        assert!(answer["subscribe_time"].is_i64());
    }
    let mut sparse = BTreeSet::new();
    for person in others {
        let openid = wechat.openid(2, person);
        let answer = wechat
            .ask("/cgi-bin/user/info", &token, &[("openid", &openid)])
            .await;
        assert_eq!(answer["subscribe"], 0);
        assert!(answer.get("unionid").is_none());
        sparse.insert(answer.get("tagid_list").is_none());
    }
    assert_eq!(sparse.len(), 2, "both forms are seen");
}

#[tokio::test]
async fn following_and_leaving_keeps_the_ids() {
    let wechat = Wechat::start(plain()).await;
    let token = wechat.token(2).await;
    let person = people(&wechat).1[0];
    let openid = wechat.openid(2, person);
    let ask = async || {
        let path = "/cgi-bin/user/info";
        wechat.ask(path, &token, &[("openid", &openid)]).await
    };
    for follows in [true, false, true] {
        let body = json!({ "appid": wechat.appid(2), "person": person, "follows": follows });
        wechat.control("follow", body).await;
        let answer = ask().await;
        assert_eq!(answer["subscribe"], i64::from(follows));
        assert_eq!(answer.get("unionid").is_some(), follows);
    }
    assert_eq!(ask().await["unionid"], wechat.unionid(2, person));
}

#[tokio::test]
async fn some_unionids_begin_with_a_space() {
    let wechat = Wechat::start(Settings {
        spaced_unionids: 0.5,
        ..Settings::default()
    })
    .await;
    let token = wechat.token(2).await;
    let mut spaced = BTreeSet::new();
    for person in people(&wechat).0 {
        let openid = wechat.openid(2, person);
        let answer = wechat
            .ask("/cgi-bin/user/info", &token, &[("openid", &openid)])
            .await;
        let unionid = answer["unionid"].as_str().unwrap();
        assert_eq!(unionid.trim(), wechat.unionid(2, person));
        spaced.insert(unionid.starts_with(' '));
    }
    assert_eq!(spaced.len(), 2);
}

#[tokio::test]
async fn an_openid_that_is_none_of_the_apps_is_invalid() {
    let wechat = Wechat::start(plain()).await;
    let token = wechat.token(2).await;
    let (virtual_one, _) = wechat.sim.world().snapshot_text(1, wechat.app(2));
    for (openid, want) in [
        (String::new(), 41009),
        ("oGarbage".to_owned(), 40003),
        (wechat.openid(0, 1), 40003),
        (wechat.unionid(2, 1), 40003),
        (virtual_one, 40003),
    ] {
        let answer = wechat
            .ask("/cgi-bin/user/info", &token, &[("openid", &openid)])
            .await;
        assert_eq!(errcode(&answer), want, "{openid}");
    }
}

async fn batch(wechat: &Wechat, token: &str, openids: &[String]) -> Value {
    let users: Vec<_> = openids.iter().map(|o| json!({ "openid": o })).collect();
    let path = format!("/cgi-bin/user/info/batchget?access_token={token}");
    wechat.post(&path, json!({ "user_list": users })).await
}

#[tokio::test]
async fn a_batch_comes_in_another_order_and_one_bad_openid_spoils_it() {
    let wechat = Wechat::start(plain()).await;
    let token = wechat.token(2).await;
    let openids: Vec<_> = (0..100).map(|p| wechat.openid(2, p)).collect();
    let answer = batch(&wechat, &token, &openids).await;
    let list = answer["user_info_list"].as_array().unwrap();
    let got: Vec<_> = list.iter().map(|u| u["openid"].as_str().unwrap()).collect();
    assert_ne!(got, openids, "the order is not promised");
    assert_eq!(
        got.iter().copied().collect::<BTreeSet<_>>(),
        openids.iter().map(String::as_str).collect()
    );
    for (person, openid) in (0..).zip(&openids) {
        let user = list
            .iter()
            .find(|u| u["openid"] == openid.as_str())
            .unwrap();
        let follows = wechat.sim.follows(person, wechat.app(2));
        assert_eq!(user["subscribe"], i64::from(follows));
        assert_eq!(user.get("unionid").is_some(), follows);
    }
    let mut bad = openids.clone();
    bad[50] = wechat.openid(0, 50);
    assert_eq!(errcode(&batch(&wechat, &token, &bad).await), 40003);
    let more = [openids, vec![wechat.openid(2, 100)]].concat();
    assert_eq!(errcode(&batch(&wechat, &token, &more).await), 40032);
    assert_eq!(errcode(&batch(&wechat, &token, &[]).await), 40032);
}

#[tokio::test]
async fn the_list_of_followers_ends_with_a_page_without_data() {
    let people = 30_000;
    let wechat = Wechat::start(Settings { people, ..plain() }).await;
    let token = wechat.token(2).await;
    let app = wechat.app(2);
    let all: Vec<_> = (0..people)
        .filter(|p| wechat.sim.follows(*p, app))
        .map(|p| wechat.openid(2, p))
        .collect();
    assert!(all.len() > 10_000);
    let (mut got, mut next) = (Vec::new(), String::new());
    let mut sizes = Vec::new();
    loop {
        let page = wechat
            .ask("/cgi-bin/user/get", &token, &[("next_openid", &next)])
            .await;
        assert_eq!(page["total"], all.len());
        sizes.push(page["count"].as_u64().unwrap());
        let Some(data) = page.get("data") else {
            assert_eq!(
                (&page["count"], &page["next_openid"]),
                (&json!(0), &json!(""))
            );
            break;
        };
        let openids = data["openid"].as_array().unwrap();
        got.extend(openids.iter().map(|o| o.as_str().unwrap().to_owned()));
        next = page["next_openid"].as_str().unwrap().to_owned();
        assert_eq!(Some(&next), got.last());
    }
    assert_eq!((got, sizes.len()), (all, 3));
    assert_eq!((sizes[0], sizes[2]), (10_000, 0));
}

#[tokio::test]
async fn a_payment_shows_the_unionid_for_five_minutes() {
    let wechat = Wechat::start(plain()).await;
    let token = wechat.token(0).await;
    let ask = json!({ "appid": wechat.appid(0), "person": 5 });
    let paid = wechat.control("pay", ask).await;
    let text = |name: &str| paid[name].as_str().unwrap().to_owned();
    let (transaction, merchant, order) =
        (text("transaction_id"), text("mch_id"), text("out_trade_no"));
    let (own, others) = (wechat.openid(0, 5), wechat.openid(0, 6));
    let by_id = async |openid: &str, id: &str| {
        let more = [("openid", openid), ("transaction_id", id)];
        wechat.ask("/wxa/getpaidunionid", &token, &more).await
    };
    let by_order = async |merchant: &str, order: &str| {
        let more = [
            ("openid", own.as_str()),
            ("mch_id", merchant),
            ("out_trade_no", order),
        ];
        wechat.ask("/wxa/getpaidunionid", &token, &more).await
    };
    let answer = by_id(&own, &transaction).await;
    assert_eq!(answer["unionid"], wechat.unionid(0, 5));
    assert_eq!(
        (&answer["errcode"], &answer["errmsg"]),
        (&json!(0), &json!("ok"))
    );
    assert_eq!(
        by_order(&merchant, &order).await["unionid"],
        answer["unionid"]
    );
    assert_eq!(errcode(&by_order("1900000000", &order).await), 89300);
    assert_eq!(errcode(&by_order("", "").await), 89300);
    assert_eq!(errcode(&by_id(&others, &transaction).await), 89300);
    assert_eq!(errcode(&by_id("oGarbage", &transaction).await), 40003);
    assert_eq!(
        errcode(&by_id(&own, "4200000000000000000000000001").await),
        89300
    );
    wechat.pass(300_000);
    assert_eq!(errcode(&by_id(&own, &transaction).await), 0);
    wechat.pass(1_000);
    assert_eq!(errcode(&by_id(&own, &transaction).await), 89300);
    // An app on no platform.
    let unbound = wechat.token(5).await;
    let ask = json!({ "appid": wechat.appid(5), "person": 5 });
    let paid = wechat.control("pay", ask).await;
    let openid = wechat.openid(5, 5);
    let more = [
        ("openid", openid.as_str()),
        ("transaction_id", paid["transaction_id"].as_str().unwrap()),
    ];
    let answer = wechat.ask("/wxa/getpaidunionid", &unbound, &more).await;
    assert_eq!(errcode(&answer), 89002);
}

fn signature(key: &str) -> String {
    let mut padded = [0u8; 64];
    padded[..key.len()].copy_from_slice(key.as_bytes());
    let mac = Hmac::<sha2::Sha256>::new(&padded.into());
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn a_session_key_is_good_until_the_next_login_or_reset() {
    let wechat = Wechat::start(plain()).await;
    let token = wechat.token(0).await;
    let openid = wechat.openid(0, 9);
    let ask = async |path: &str, key: &str, method: &str| {
        let signature = signature(key);
        let more = [
            ("openid", openid.as_str()),
            ("signature", &signature),
            ("sig_method", method),
        ];
        wechat.ask(path, &token, &more).await
    };
    let check = async |key: &str| errcode(&ask("/wxa/checksession", key, "hmac_sha256").await);
    assert_eq!(check("none").await, 87007);
    let mut keys = Vec::new();
    for _ in 0..2 {
        let answer = wechat.exchange(0, &wechat.login(0, 9).await).await;
        keys.push(answer["session_key"].as_str().unwrap().to_owned());
        assert_eq!(check(&keys[keys.len() - 1]).await, 0);
    }
    assert_eq!(check(&keys[0]).await, 87009);
    let wrong = ask("/wxa/checksession", &keys[1], "md5").await;
    assert_eq!(errcode(&wrong), 87008);
    let reset = ask("/wxa/resetusersessionkey", &keys[1], "hmac_sha256").await;
    assert_eq!((errcode(&reset), &reset["openid"]), (0, &json!(openid)));
    assert_eq!(check(&keys[1]).await, 87009);
    assert_eq!(check(reset["session_key"].as_str().unwrap()).await, 0);
    let again = ask("/wxa/resetusersessionkey", &keys[1], "hmac_sha256").await;
    assert_eq!(errcode(&again), 87009);
}

#[tokio::test]
async fn an_unbound_official_account_sees_followers_without_unionids() {
    let spec = AppSpec {
        kind: AppKind::OfficialAccount,
        platform: None,
        bound_since: Millis(0),
    };
    let world = World::build(1, &[], &[spec]).unwrap();
    let wechat = Wechat::of(world, plain()).await;
    let person = (0..)
        .find(|p| wechat.sim.follows(*p, wechat.app(0)))
        .unwrap();
    let token = wechat.token(0).await;
    let openid = wechat.openid(0, person);
    let answer = wechat
        .ask("/cgi-bin/user/info", &token, &[("openid", &openid)])
        .await;
    assert_eq!(answer["subscribe"], 1);
    assert!(answer.get("unionid").is_none());
}
