//! What holds for every API: limits, quotas, faults by scope, how much is asked at once.

use crate::wechat::{Wechat, errcode};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;
use unilink::simulate::{Action, Api, Fault, Faults, Limits, Request, Scope, Settings, Verb};

const INFO: &str = "/cgi-bin/user/info";

async fn follower(wechat: &Wechat, token: &str, person: u64) -> Value {
    let openid = wechat.openid(2, person);
    wechat.ask(INFO, token, &[("openid", &openid)]).await
}

#[tokio::test]
async fn limits_end_a_minute_and_a_day_and_are_counted_per_app_and_api() {
    let wechat = Wechat::start(Settings::default()).await;
    let token = wechat.token(2).await;
    let path = format!("limits?api={INFO}&appid={}", wechat.appid(2));
    let set = wechat
        .control(&path, json!({ "minute": 2, "day": 3 }))
        .await;
    assert_eq!(set, json!({ "minute": 2, "day": 3 }));
    for want in [0, 0, 45011] {
        assert_eq!(errcode(&follower(&wechat, &token, 1).await), want);
    }
    // Bad credentials use nothing up.
    let bad = wechat.ask(INFO, "garbage", &[]).await;
    assert_ne!(errcode(&bad), 45011);
    let of = |name: &str| {
        let stats = serde_json::to_value(wechat.sim.stats()).unwrap();
        stats["apps"][wechat.appid(2)][INFO][name].clone()
    };
    assert_eq!(
        (of("used_this_minute"), of("used_today")),
        (json!(2), json!(2))
    );
    wechat.pass(60_000);
    for want in [0, 45009] {
        assert_eq!(errcode(&follower(&wechat, &token, 1).await), want);
    }
    assert_eq!(
        (of("used_this_minute"), of("used_today")),
        (json!(1), json!(3))
    );
    // Taken back, what is documented holds again.
    let url = format!("{}/_sim/{path}", wechat.base);
    let gone = wechat.http.delete(url).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(errcode(&follower(&wechat, &token, 1).await), 0);
}

#[tokio::test]
async fn the_documented_limits_hold_unless_they_are_switched_off() {
    for (documented_limits, want) in [(true, 45009), (false, 0)] {
        let wechat = Wechat::start(Settings {
            documented_limits,
            people: 0,
            ..Settings::default()
        })
        .await;
        let token = wechat.token(2).await;
        let ask = || {
            let request = Request::new(Api::FollowerList, [("access_token", token.as_str())]);
            match wechat.sim.call(request).action {
                Action::Respond { body, .. } => errcode(&serde_json::from_slice(&body).unwrap()),
                other => panic!("{other:?}"),
            }
        };
        for n in 0..500 {
            assert_eq!(ask(), 0, "call {n}");
        }
        assert_eq!(ask(), want);
    }
}

#[tokio::test]
async fn faults_hold_in_the_narrowest_scope() {
    let wechat = Wechat::start(Settings::default()).await;
    let token = wechat.token(2).await;
    wechat.faults(&["busy=1"]).await;
    assert_eq!(errcode(&follower(&wechat, &token, 1).await), -1);
    let of_api = format!("faults?api={INFO}");
    wechat
        .control(&of_api, json!({ "minute_limit": 1.0 }))
        .await;
    assert_eq!(errcode(&follower(&wechat, &token, 1).await), 45011);
    let of_app = format!("faults?appid={}", wechat.appid(2));
    wechat.control(&of_app, json!({ "day_limit": 1.0 })).await;
    assert_eq!(errcode(&follower(&wechat, &token, 1).await), 45009);
    wechat
        .control(&format!("{of_app}&api={INFO}"), json!({}))
        .await;
    assert_eq!(errcode(&follower(&wechat, &token, 1).await), 0);
    // Elsewhere the app's and the common ones go on.
    assert_eq!(errcode(&wechat.token_answer(2, true, false).await), 45009);
    assert_eq!(errcode(&wechat.token_answer(0, true, false).await), -1);
    for path in [
        of_app.as_str(),
        "faults?api=/cgi-bin/user",
        "faults?appid=wx0",
    ] {
        let url = format!("{}/_sim/{path}", wechat.base);
        let answer = wechat.http.get(url).send().await.unwrap();
        assert_eq!(answer.status() == 200, path == of_app, "{path}");
    }
}

/// Every API under every fault: the answer is spoilt, and the same request succeeds or is refused
/// afterwards as if nothing had been.
#[tokio::test]
async fn every_fault_hits_every_api() {
    let wechat = Wechat::start(Settings::default()).await;
    for api in Api::ALL {
        for (name, want) in [
            ("busy", Some(-1)),
            ("minute_limit", Some(45011)),
            ("day_limit", Some(45009)),
            ("http_500", None),
            ("html", None),
            ("empty", None),
            ("truncated", None),
            ("hang", None),
            ("cut", None),
            ("spent_hang", None),
            ("spent_cut", None),
        ] {
            let mut faults = Faults::default();
            faults.set(&format!("{name}=1")).unwrap();
            let scope = Scope {
                app: None,
                api: Some(api),
            };
            wechat.sim.set_faults_in(scope, Some(faults)).unwrap();
            let request = Request::new(api, [("appid", "wx0")]).with_body("{}");
            match wechat.sim.call(request).action {
                Action::Respond { body, .. } if want.is_some() => {
                    let body: Value = serde_json::from_slice(&body).unwrap();
                    assert_eq!(Some(errcode(&body)), want, "{name} {}", api.path());
                }
                Action::Respond { body, .. } => {
                    assert!(serde_json::from_slice::<Value>(&body).is_err(), "{name}");
                }
                Action::Silence => assert!(name.ends_with("hang")),
                Action::Cut => assert!(name.ends_with("cut")),
            }
            wechat.sim.set_faults_in(scope, None).unwrap();
        }
    }
    let faults = wechat.sim.stats().faults;
    assert_eq!(faults[Fault::Busy.name()], Api::ALL.len() as u64);
}

#[tokio::test]
async fn a_token_whose_answer_is_lost_was_given_out_all_the_same() {
    let wechat = Wechat::start(Settings::default()).await;
    let first = wechat.token_answer(2, false, false).await;
    let scope = Scope {
        app: None,
        api: Some(Api::Token),
    };
    for (fault, want) in [("cut=1", 1), ("truncated=1", 1), ("spent_cut=1", 2)] {
        let mut faults = Faults::default();
        faults.set(fault).unwrap();
        wechat.sim.set_faults_in(scope, Some(faults)).unwrap();
        let of = &wechat.sim.world().sim_apps()[2];
        let query = [
            ("grant_type", "client_credential".to_owned()),
            ("appid", of.id.to_string()),
            ("secret", of.secret.clone()),
        ];
        let answer = wechat.get("/cgi-bin/token", &query).await;
        assert_eq!(answer.is_ok(), fault == "truncated=1");
        assert_eq!(
            wechat.sim.stats().tokens[&wechat.appid(2)].plain,
            want,
            "{fault}"
        );
    }
    wechat.pass(300_000);
    let first = first["access_token"].as_str().unwrap();
    assert_eq!(errcode(&follower(&wechat, first, 1).await), 40001);
}

#[tokio::test]
async fn every_api_refuses_the_other_method_and_chunks() {
    let wechat = Wechat::start(Settings::default()).await;
    for api in Api::ALL {
        let url = format!("{}{}", wechat.base, api.path());
        let (request, want) = match api.verb() {
            Verb::Get => (wechat.http.post(&url).body("{}"), 43001),
            _ => (wechat.http.get(&url), 43002),
        };
        let body = request.send().await.unwrap().bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(errcode(&body), want, "{}", api.path());
        let chunked = wechat
            .http
            .post(&url)
            .header("transfer-encoding", "chunked");
        let answer = chunked.body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 412, "{}", api.path());
    }
}

#[tokio::test]
async fn the_most_requests_at_once_are_known() {
    let wechat = Wechat::start(Settings::default()).await;
    let token = wechat.token(2).await;
    wechat.faults(&["hang=1"]).await;
    let openid = wechat.openid(2, 1);
    let url = format!("{}{INFO}", wechat.base);
    let query = [("access_token", token), ("openid", openid)];
    let hanging: Vec<_> = (0..5)
        .map(|_| tokio::spawn(wechat.http.get(&url).query(&query).send()))
        .collect();
    let of = || wechat.sim.stats().apps[&wechat.appid(2)][INFO].clone();
    let reaches = async |want: u64| {
        for _ in 0..600 {
            if wechat.sim.stats().apps[&wechat.appid(2)].contains_key(INFO)
                && of().in_flight == want
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    };
    assert!(reaches(5).await);
    let before = wechat.sim.stats().in_flight_ms;
    wechat.now.fetch_add(1_000, Ordering::Relaxed);
    assert_eq!(wechat.sim.stats().in_flight_ms, before + 5_000);
    // A client that leaves takes its request with it.
    hanging.into_iter().for_each(|task| task.abort());
    assert!(reaches(0).await, "{:?}", of());
    assert_eq!(of().most_in_flight, 5);
    let all = wechat.sim.stats();
    assert_eq!((all.in_flight, all.most_in_flight), (0, 5));
}

#[test]
fn limits_can_be_read_back() {
    let limits: Limits = serde_json::from_value(json!({ "day": 7 })).unwrap();
    assert_eq!((limits.minute, limits.day), (None, Some(7)));
    assert!(serde_json::from_value::<Limits>(json!({ "week": 7 })).is_err());
}
