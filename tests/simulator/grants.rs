//! OAuth whole, and the third-party platform (`docs/wechat.md` §3.2, §5, §6).

use crate::wechat::{Wechat, errcode};
use serde_json::{Value, json};
use unilink::simulate::Settings;

fn plain() -> Settings {
    Settings {
        odd_nicknames: 0.0,
        ..Settings::default()
    }
}

/// The exchange of a login that the control surface began with these fields.
async fn exchanged(wechat: &Wechat, app: usize, person: u64, more: Value) -> Value {
    let mut ask = json!({ "appid": wechat.appid(app), "person": person });
    ask.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let code = wechat.control("login", ask).await["code"]
        .as_str()
        .unwrap()
        .to_owned();
    wechat.exchange(app, &code).await
}

async fn info(wechat: &Wechat, grant: &Value) -> Value {
    let text = |name: &str| grant[name].as_str().unwrap().to_owned();
    let (token, openid) = (text("access_token"), text("openid"));
    let more = [("openid", openid.as_str()), ("lang", "zh_CN")];
    wechat.ask("/sns/userinfo", &token, &more).await
}

#[tokio::test]
async fn each_scope_shows_what_it_should() {
    let wechat = Wechat::start(plain()).await;
    for (app, scope, shown) in [
        (2, "snsapi_base", false),
        (2, "snsapi_userinfo", true),
        (3, "snsapi_login", true),
        (4, "snsapi_userinfo", true),
    ] {
        let grant = exchanged(&wechat, app, 1, json!({ "scope": scope })).await;
        assert_eq!(grant["scope"], scope);
        assert_eq!(grant["expires_in"], 7200);
        assert_eq!(grant.get("unionid").is_some(), shown, "{app} {scope}");
        let info = info(&wechat, &grant).await;
        if shown {
            assert_eq!(info["unionid"], wechat.unionid(app, 1));
            assert_eq!(info["openid"], wechat.openid(app, 1));
            assert_eq!((&info["sex"], &info["city"]), (&json!(0), &json!("")));
            assert_eq!(info["privilege"], json!([]));
        } else {
            assert_eq!(errcode(&info), 48001);
        }
    }
    // A website cannot ask for less.
    let ask = json!({ "appid": wechat.appid(3), "person": 1, "scope": "snsapi_base" });
    let request = wechat.http.post(format!("{}/_sim/login", wechat.base));
    let request = request.header("content-type", "application/json");
    let answer = request.body(ask.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 422);
}

#[tokio::test]
async fn an_exchange_may_keep_back_what_the_profile_shows() {
    let wechat = Wechat::start(Settings {
        oauth_without_unionid: 1.0,
        ..plain()
    })
    .await;
    let grant = exchanged(&wechat, 2, 1, json!({})).await;
    assert_eq!(grant["scope"], "snsapi_userinfo");
    assert!(grant.get("unionid").is_none());
    assert_eq!(info(&wechat, &grant).await["unionid"], wechat.unionid(2, 1));
}

#[tokio::test]
async fn only_the_exchange_tells_a_snapshot() {
    let wechat = Wechat::start(plain()).await;
    let (even, odd) = (
        exchanged(&wechat, 2, 8, json!({ "snapshot": true })).await,
        exchanged(&wechat, 2, 9, json!({ "snapshot": true })).await,
    );
    assert_eq!(
        (&even["is_snapshotuser"], &odd["is_snapshotuser"]),
        (&json!(1), &json!(1))
    );
    assert_ne!(even["openid"], odd["openid"]);
    assert_eq!(
        even["unionid"], odd["unionid"],
        "one virtual unionid for two"
    );
    let info = info(&wechat, &even).await;
    assert_eq!(
        (&info["openid"], &info["unionid"]),
        (&even["openid"], &even["unionid"])
    );
    assert!(info.get("is_snapshotuser").is_none());
}

#[tokio::test]
async fn a_user_token_ends_after_two_hours_unless_it_is_renewed() {
    let wechat = Wechat::start(plain()).await;
    let grant = exchanged(&wechat, 2, 1, json!({})).await;
    let refresh = async |token: &Value, appid: String| {
        let query = [
            ("appid", appid),
            ("grant_type", "refresh_token".to_owned()),
            ("refresh_token", token.as_str().unwrap().to_owned()),
        ];
        let path = "/sns/oauth2/refresh_token";
        wechat.get(path, &query).await.unwrap().json()
    };
    wechat.pass(7_000_000);
    let same = refresh(&grant["refresh_token"], wechat.appid(2)).await;
    assert_eq!(same["access_token"], grant["access_token"]);
    assert!(same.get("unionid").is_none());
    wechat.pass(7_199_999);
    assert_eq!(errcode(&info(&wechat, &grant).await), 0);
    wechat.pass(1);
    assert_eq!(errcode(&info(&wechat, &grant).await), 42001);
    let new = refresh(&grant["refresh_token"], wechat.appid(2)).await;
    assert_ne!(new["access_token"], grant["access_token"]);
    assert_eq!(errcode(&info(&wechat, &new).await), 0);
    // Another app's, nobody's, and one that is too old.
    let foreign = refresh(&grant["refresh_token"], wechat.appid(3)).await;
    assert_eq!(errcode(&foreign), 40030);
    assert_eq!(errcode(&refresh(&json!("x"), wechat.appid(2)).await), 40030);
    wechat.pass(30 * 86_400_000);
    let late = refresh(&grant["refresh_token"], wechat.appid(2)).await;
    assert_eq!(errcode(&late), 42002);
}

#[tokio::test]
async fn user_tokens_are_checked_against_their_openid() {
    let wechat = Wechat::start(plain()).await;
    let grant = exchanged(&wechat, 2, 1, json!({})).await;
    let token = grant["access_token"].as_str().unwrap();
    let app_token = wechat.token(2).await;
    let (own, other) = (wechat.openid(2, 1), wechat.openid(2, 2));
    for (token, openid, want) in [
        (token, own.as_str(), [0, 0]),
        (token, other.as_str(), [40003, 40003]),
        (token, "", [41009, 41009]),
        ("", own.as_str(), [41001, 41001]),
        ("garbage", own.as_str(), [40001, 40014]),
        (app_token.as_str(), own.as_str(), [48001, 48001]),
    ] {
        for path in ["/sns/userinfo", "/sns/auth"] {
            let answer = wechat.ask(path, token, &[("openid", openid)]).await;
            assert!(want.contains(&errcode(&answer)), "{path} {openid} {answer}");
        }
    }
}

#[tokio::test]
async fn some_nicknames_are_no_json() {
    let wechat = Wechat::start(Settings {
        odd_nicknames: 1.0,
        ..Settings::default()
    })
    .await;
    let mut not_utf8 = 0;
    for person in 0..30 {
        let grant = exchanged(&wechat, 2, person, json!({})).await;
        if errcode(&grant) == 40226 {
            continue;
        }
        let text = |name: &str| grant[name].as_str().unwrap().to_owned();
        let query = [
            ("access_token", text("access_token")),
            ("openid", text("openid")),
        ];
        let answer = wechat.get("/sns/userinfo", &query).await.unwrap();
        assert_eq!(answer.content_type, "text/plain");
        assert!(serde_json::from_slice::<Value>(&answer.body).is_err());
        not_utf8 += usize::from(std::str::from_utf8(&answer.body).is_err());
        // What wechatpy does: ignore bad bytes, allow control bytes.
        let repaired = String::from_utf8_lossy(&answer.body);
        let repaired: String = repaired.chars().filter(|c| !c.is_control()).collect();
        let repaired: Value = serde_json::from_str(&repaired).unwrap();
        assert_eq!(repaired["unionid"], wechat.unionid(2, person));
    }
    assert!(not_utf8 > 0);
}

#[tokio::test]
async fn a_third_party_platform_exchanges_codes_for_apps_that_authorised_it() {
    let wechat = Wechat::start(Settings {
        used_as_invalid: 0.0,
        ..plain()
    })
    .await;
    let ask = async |app: usize, component: &str, token: &str| {
        let (path, name) = match app {
            0 | 1 => ("/sns/component/jscode2session", "js_code"),
            _ => ("/sns/oauth2/component/access_token", "code"),
        };
        let query = [
            ("appid", wechat.appid(app)),
            (name, wechat.login(app, 3).await),
            ("grant_type", "authorization_code".to_owned()),
            ("component_appid", component.to_owned()),
            ("component_access_token", token.to_owned()),
        ];
        wechat.get(path, &query).await.unwrap().json()
    };
    assert_eq!(errcode(&ask(0, "wxc", "t").await), 40013, "none is set");
    let component = json!({
        "component_appid": "wxc", "component_access_token": "t", "expires_in": 7200,
        "appids": [wechat.appid(0), wechat.appid(2)],
    });
    wechat.control("component", component).await;
    let session = ask(0, "wxc", "t").await;
    assert_eq!(session["unionid"], wechat.unionid(0, 3));
    assert_eq!(session["session_key"].as_str().map(str::len), Some(24));
    let grant = ask(2, "wxc", "t").await;
    assert_eq!(grant["unionid"], wechat.unionid(2, 3));
    assert_eq!(errcode(&info(&wechat, &grant).await), 0);
    for (app, component, token, want) in [
        (1, "wxc", "t", 61003),
        (0, "", "t", 41018),
        (0, "wxc", "", 41021),
        (0, "wxc", "other", 40001),
        (3, "wxc", "t", 40013),
    ] {
        assert_eq!(errcode(&ask(app, component, token).await), want);
    }
    wechat.pass(7_200_000);
    assert_eq!(errcode(&ask(0, "wxc", "t").await), 42006);
}
