//! Calls through WeChat cloud run, whose headers say who calls, to the real intake (`docs/wechat.md` §12).

use crate::harness::{LOGINS, ago, topic};
use crate::kit::{MiniProgram, Scene, Way};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use unilink::simulate::Settings;

/// One's own environment, and the apps that share it.
const OWN: usize = 0;
const CALLS: usize = 1;

async fn company(cloud_run: bool) -> Scene {
    let apps = [(MiniProgram, Way::Secret), (MiniProgram, Way::Secret)];
    let mut scene = Scene::asleep(&apps, Settings::default()).await;
    if cloud_run {
        scene.edit(|text| text.replace("[intake]\n", "[intake]\ncloud_run = true\n"));
    }
    scene.rig.start().await;
    scene
}

/// A call as cloud run's gateway hands it on.
async fn call(scene: &Scene, headers: &[(&'static str, &str)], body: &str) -> (u16, Value) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let request = scene.rig.http.post(scene.rig.intake_url("/wechat/cloud"));
    let answer = request.headers(map).body(body.to_owned()).send().await;
    let answer = answer.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap())
}

const VIA: (&str, &str) = ("x-wx-source", "wx_client");

pub async fn cloud_runs_headers_say_who_calls() {
    let scene = company(true).await;
    let [own, calls] = [OWN, CALLS].map(|n| scene.id(n));
    let [eligible, not, shared] = [scene.person(), scene.person(), scene.person()];
    let (openid, unionid) = (scene.openid(OWN, eligible), scene.unionid(OWN, eligible));
    let headers = [
        VIA,
        ("x-wx-openid", &openid),
        ("x-wx-appid", &own),
        ("x-wx-unionid", &unionid),
        ("x-wx-env", "prod-1"),
    ];
    let (status, answer) = call(&scene, &headers, "").await;
    assert_eq!(status, 202, "{answer}");
    scene.linked(OWN, eligible, "provided").await;

    // Without a unionid the account is seen, and no more is known.
    let openid = scene.openid(OWN, not);
    let headers = [VIA, ("x-wx-openid", &openid), ("x-wx-appid", &own)];
    let headers = [&headers[..], &[("x-wx-unionid", "")]].concat();
    assert_eq!(call(&scene, &headers, "").await.0, 202);
    scene.unresolved(OWN, not, "no_unionid").await;

    // The environment is shared: all ids are those of the calling app. The body is the caller's word.
    let (openid, unionid) = (scene.openid(CALLS, shared), scene.unionid(CALLS, shared));
    let headers = [
        ("x-wx-source", "wx_client,wx_http"),
        ("x-wx-appid", &own),
        ("x-wx-unionid", "oUnionOfTheOwner00000000001"),
        ("x-wx-from-openid", &openid),
        ("x-wx-from-appid", &calls),
        ("x-wx-from-unionid", &unionid),
    ];
    let body = json!({"id": "mine", "external_id": "c-7", "attributes": {"a": 1},
        "occurred_at": ago(3)});
    let body = body.to_string();
    for _ in 0..2 {
        let (status, answer) = call(&scene, &headers, &body).await;
        let want = json!({"id": "mine", "ids": ["mine"]});
        assert_eq!((status, answer), (202, want));
    }
    scene.linked(CALLS, shared, "provided").await;
    let found = scene.rig.account(&calls, &openid, |_| true).await;
    assert_eq!(found["external_id"], "c-7");
    assert_eq!(
        found["revision"], 1,
        "what comes twice is one login: {found}"
    );
    scene.end().await;
}

pub async fn headers_that_cloud_run_would_not_send_are_refused() {
    let scene = company(true).await;
    let person = scene.person();
    let (own, openid) = (scene.id(OWN), scene.openid(OWN, person));
    let (who, app) = (
        ("x-wx-openid", openid.as_str()),
        ("x-wx-appid", own.as_str()),
    );
    let from = ("x-wx-from-openid", openid.as_str());
    for (headers, field) in [
        (vec![who, app], "X-WX-SOURCE"),
        (vec![("x-wx-source", ""), who, app], "X-WX-SOURCE"),
        (vec![VIA, app], "X-WX-OPENID"),
        (vec![VIA, who], "X-WX-APPID"),
        (vec![VIA, from, app], "X-WX-FROM-APPID"),
        (vec![VIA, who, app, from], "X-WX-FROM-OPENID"),
        (vec![VIA, who, who, app], "X-WX-OPENID"),
        (vec![VIA, who, ("x-wx-appid", "wxnone")], "X-WX-APPID"),
        (vec![VIA, ("x-wx-openid", "undefined"), app], "X-WX-OPENID"),
        (
            vec![VIA, who, app, ("x-wx-unionid", "null")],
            "X-WX-UNIONID",
        ),
        (
            vec![VIA, from, ("x-wx-from-appid", "wxnone")],
            "X-WX-FROM-APPID",
        ),
        (
            vec![
                VIA,
                from,
                ("x-wx-from-appid", &own),
                ("x-wx-from-unionid", "null"),
            ],
            "X-WX-FROM-UNIONID",
        ),
    ] {
        let (status, answer) = call(&scene, &headers, "").await;
        let named = answer["error"]["field"].as_str();
        assert_eq!((status, named), (422, Some(field)), "{headers:?}: {answer}");
        assert!(!answer.to_string().contains(&openid), "{answer}");
    }
    // What the body may not say: who calls.
    for body in ["[]", "{", "7", r#"{"openid": "oA"}"#, r#"{"code": "c"}"#] {
        let (status, answer) = call(&scene, &[VIA, who, app], body).await;
        assert_eq!(status, 400, "{body}: {answer}");
    }
    let soon = r#"{"occurred_at": "soon"}"#;
    let (status, answer) = call(&scene, &[VIA, who, app], soon).await;
    let named = answer["error"]["field"].as_str();
    assert_eq!((status, named), (422, Some("occurred_at")), "{answer}");
    let parts = scene.rig.parts().await;
    assert!(topic(&parts, LOGINS).await.is_empty());
    scene.end().await;
}

pub async fn cloud_runs_headers_count_only_where_they_are_switched_on() {
    let scene = company(false).await;
    let person = scene.person();
    let (own, openid) = (scene.id(OWN), scene.openid(OWN, person));
    let headers = [VIA, ("x-wx-openid", &openid), ("x-wx-appid", &own)];
    let (status, answer) = call(&scene, &headers, "").await;
    assert_eq!(status, 404, "{answer}");
    scene.gone(OWN, person).await;
    scene.end().await;
}
