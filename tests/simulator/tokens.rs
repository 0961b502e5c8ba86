//! App tokens (`docs/wechat.md` §4).

use crate::wechat::{Wechat, errcode};
use serde_json::{Value, json};
use unilink::simulate::{Family, Settings, Trouble};

const PATH: &str = "/cgi-bin/user/info";

fn text(answer: &Value) -> String {
    answer["access_token"].as_str().expect("a token").to_owned()
}

/// The errcode of a use of the token in the official account.
async fn used(wechat: &Wechat, token: &str) -> i64 {
    let openid = wechat.openid(2, 1);
    errcode(&wechat.ask(PATH, token, &[("openid", &openid)]).await)
}

#[tokio::test]
async fn a_plain_token_lives_five_minutes_beyond_its_successors_birth() {
    let wechat = Wechat::start(Settings::default()).await;
    let first = wechat.token_answer(2, false, false).await;
    assert_eq!(first["expires_in"], 7200);
    wechat.pass(1_000);
    let second = text(&wechat.token_answer(2, false, false).await);
    let first = text(&first);
    assert_ne!(first, second);
    wechat.pass(299_999);
    assert_eq!(used(&wechat, &first).await, 0);
    wechat.pass(1);
    assert_eq!(used(&wechat, &first).await, 40001);
    assert_eq!(used(&wechat, &second).await, 0);
    wechat.pass(7_200_000);
    assert_eq!(used(&wechat, &second).await, 42001);
}

#[tokio::test]
async fn a_stable_token_is_the_same_until_its_last_five_minutes() {
    let wechat = Wechat::start(Settings::default()).await;
    let first = wechat.token_answer(2, true, false).await;
    wechat.pass(6_899_000);
    let same = wechat.token_answer(2, true, false).await;
    assert_eq!(first["access_token"], same["access_token"]);
    assert_eq!(same["expires_in"], 301);
    wechat.pass(1_000);
    let next = wechat.token_answer(2, true, false).await;
    assert_ne!(first["access_token"], next["access_token"]);
    assert_eq!(next["expires_in"], 7200);
    // Both work until the first ends by itself.
    assert_eq!(used(&wechat, &text(&first)).await, 0);
    wechat.pass(300_000);
    assert_eq!(used(&wechat, &text(&first)).await, 42001);
    assert_eq!(used(&wechat, &text(&next)).await, 0);
}

#[tokio::test]
async fn the_families_leave_each_other_alone_and_issues_are_counted() {
    let wechat = Wechat::start(Settings::default()).await;
    let stable = wechat.token(2).await;
    for _ in 0..3 {
        wechat.token_answer(2, false, false).await;
        assert_eq!(wechat.token(2).await, stable);
    }
    wechat.pass(400_000);
    assert_eq!(used(&wechat, &stable).await, 0);
    let counted = wechat.sim.stats().tokens[&wechat.appid(2)];
    assert_eq!((counted.plain, counted.stable, counted.forced), (3, 1, 0));
}

#[tokio::test]
async fn a_forced_refresh_voids_at_once_and_comes_seldom() {
    let wechat = Wechat::start(Settings::default()).await;
    let first = wechat.token(2).await;
    let second = text(&wechat.token_answer(2, true, true).await);
    assert_ne!(first, second);
    assert_eq!(used(&wechat, &first).await, 40001);
    wechat.pass(29_999);
    let soon = text(&wechat.token_answer(2, true, true).await);
    assert_eq!(soon, second, "no refresh within 30 s");
    for n in 1..20 {
        wechat.pass(30_000);
        let answer = wechat.token_answer(2, true, true).await;
        assert_eq!(errcode(&answer), 0, "refresh {n}");
    }
    wechat.pass(30_000);
    assert_eq!(errcode(&wechat.token_answer(2, true, true).await), 45009);
    wechat.pass(86_400_000);
    assert_eq!(errcode(&wechat.token_answer(2, true, true).await), 0);
    assert_eq!(wechat.sim.stats().tokens[&wechat.appid(2)].forced, 21);

    let gentle = Wechat::start(Settings {
        forced_voids_at_once: false,
        ..Settings::default()
    })
    .await;
    let first = gentle.token(2).await;
    gentle.token_answer(2, true, true).await;
    assert_eq!(used(&gentle, &first).await, 0);
}

#[tokio::test]
async fn tokens_can_be_short_lived_or_die_early() {
    let wechat = Wechat::start(Settings {
        token_life_ms: 10_000,
        ..Settings::default()
    })
    .await;
    let first = wechat.token_answer(2, true, false).await;
    assert_eq!(first["expires_in"], 10);
    wechat.pass(4_000);
    assert_eq!(wechat.token(2).await, text(&first));
    let ask = json!({ "appid": wechat.appid(2), "family": "stable" });
    wechat.control("revoke", ask).await;
    assert_eq!(used(&wechat, &text(&first)).await, 40001);
    let second = wechat.token(2).await;
    assert_eq!(used(&wechat, &second).await, 0);
    wechat.faults(&["token_dies=1"]).await;
    assert_eq!(used(&wechat, &second).await, 40001);
    wechat.faults(&[]).await;
    assert_eq!(used(&wechat, &second).await, 40001);
    assert_ne!(wechat.token(2).await, second);
    assert_eq!(wechat.sim.stats().tokens[&wechat.appid(2)].revoked, 2);
    // A family without tokens: nothing to kill.
    let app = wechat.app(2);
    wechat.sim.revoke_tokens(app, Family::Plain).unwrap();
    assert_eq!(wechat.sim.stats().tokens[&wechat.appid(2)].revoked, 2);
}

#[tokio::test]
async fn token_apis_refuse_in_their_own_ways() {
    let wechat = Wechat::start(Settings {
        wrong_secret_as_credential: 0.0,
        ..Settings::default()
    })
    .await;
    let of = |app: usize| wechat.sim.world().sim_apps()[app].secret.clone();
    for (name, value, want) in [
        ("grant_type", "authorization_code", 40002),
        ("appid", "", 41002),
        ("appid", "wx0", 40013),
        ("secret", "", 41004),
        ("secret", "wrong", 40125),
    ] {
        let mut query = vec![
            ("grant_type", "client_credential".to_owned()),
            ("appid", wechat.appid(0)),
            ("secret", of(0)),
        ];
        for pair in query.iter_mut().filter(|(n, _)| *n == name) {
            pair.1 = value.to_owned();
        }
        let answer = wechat.get("/cgi-bin/token", &query).await.unwrap();
        assert_eq!(errcode(&answer.json()), want, "{name}={value}");
        assert_eq!(answer.content_type, "application/json; encoding=utf-8");
        let fields = query.into_iter().map(|(k, v)| (k, Value::String(v)));
        let body = Value::Object(fields.map(|(k, v)| (k.to_owned(), v)).collect());
        let answer = wechat.post("/cgi-bin/stable_token", body).await;
        assert_eq!(errcode(&answer), want, "stable: {name}={value}");
    }
    // A website has no app token.
    assert_eq!(errcode(&wechat.token_answer(3, true, false).await), 40013);
    // 43002: a GET where a POST belongs.
    let answer = wechat.get("/cgi-bin/stable_token", &[]).await.unwrap();
    assert_eq!(errcode(&answer.json()), 43002);

    let always = Wechat::start(Settings {
        wrong_secret_as_credential: 1.0,
        ..Settings::default()
    })
    .await;
    let app = always.app(0);
    always
        .sim
        .set_trouble(app, None, Trouble::WrongSecret, true)
        .unwrap();
    assert_eq!(errcode(&always.token_answer(0, true, false).await), 40001);
}

#[tokio::test]
async fn posted_bodies_are_judged_before_anything_else() {
    let wechat = Wechat::start(Settings::default()).await;
    for (body, want) in [
        ("", 44002),
        ("grant_type=client_credential", 47001),
        ("{\"appid\":\"\\u0077x\"}", 40033),
        ("{}", 41002),
    ] {
        let url = format!("{}/cgi-bin/stable_token", wechat.base);
        let answer = wechat.http.post(url).body(body).send().await.unwrap();
        let answer = answer.bytes().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(errcode(&answer), want, "{body}");
    }
}

#[tokio::test]
async fn troubles_of_an_app_are_told_where_they_belong_until_put_right() {
    let wechat = Wechat::start(Settings::default()).await;
    let token = wechat.token(2).await;
    let cases = [
        ("secret_frozen", 40243, 0),
        ("refused_address", 40164, 0),
        ("unconfirmed_address", 89503, 0),
        ("frozen", 50002, 50002),
        ("banned", 0, 48004),
        ("no_permission", 0, 48001),
    ];
    for (trouble, of_token, of_use) in cases {
        let mut ask = json!({ "appid": wechat.appid(2), "trouble": trouble });
        wechat.control("trouble", ask.clone()).await;
        let answer = wechat.token_answer(2, true, false).await;
        assert_eq!(errcode(&answer), of_token, "{trouble}");
        if trouble == "refused_address" {
            let errmsg = answer["errmsg"].as_str().unwrap();
            let want = "invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist rid: ";
            assert!(errmsg.starts_with(want), "{errmsg}");
        }
        assert_eq!(used(&wechat, &token).await, of_use, "{trouble}");
        // Other apps are not concerned.
        assert_eq!(errcode(&wechat.token_answer(0, true, false).await), 0);
        ask["on"] = json!(false);
        wechat.control("trouble", ask).await;
        assert_eq!(errcode(&wechat.token_answer(2, true, false).await), 0);
    }
    let one = json!({ "appid": wechat.appid(2), "api": "/cgi-bin/user/get", "trouble": "banned" });
    wechat.control("trouble", one).await;
    assert_eq!(used(&wechat, &token).await, 0);
    let list = wechat.ask("/cgi-bin/user/get", &token, &[]).await;
    assert_eq!(errcode(&list), 48004);
}

#[tokio::test]
async fn a_token_of_another_sort_or_none_is_refused() {
    let wechat = Wechat::start(Settings::default()).await;
    assert_eq!(used(&wechat, "").await, 41001);
    let mut seen = std::collections::BTreeSet::new();
    for person in 0..40 {
        let openid = wechat.openid(2, person);
        let answer = wechat.ask(PATH, "garbage", &[("openid", &openid)]).await;
        seen.insert(errcode(&answer));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [40001, 40014]);
    // A mini program's token, and a user's.
    let mini = wechat.token(0).await;
    assert_eq!(used(&wechat, &mini).await, 48001);
    let ask = json!({ "appid": wechat.appid(2), "person": 1 });
    let grant = wechat.control("grant", ask).await;
    assert_eq!(used(&wechat, &text(&grant)).await, 48001);
}
