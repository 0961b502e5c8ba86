//! Login codes: `sns/jscode2session`, `sns/oauth2/access_token` and their variants for third-party
//! platforms (`docs/wechat.md` §3.1, §3.2, §5).

use crate::kit::{CHANNELS, MiniProgram, OfficialAccount, Scene, Way, Website, each};
use std::time::Duration;
use unilink::model::AppKind;
use unilink::simulate::{Api, Manner, Settings};

fn method(kind: AppKind) -> &'static str {
    if kind == MiniProgram {
        "code2session"
    } else {
        "oauth"
    }
}

pub async fn codes_of_every_kind_of_app_link() {
    let scene = Scene::channels().await;
    for (n, (kind, _, api)) in CHANNELS.into_iter().enumerate() {
        let (person, id) = scene.login(n).await;
        scene.linked(n, person, method(kind)).await;
        scene.fate(&id, "linked").await;
        assert_eq!(scene.calls(n, api), 1);
        assert_eq!(scene.tokens(n), (0, 0), "no token is asked for in vain");
    }
    scene.end().await;
}

pub async fn snapshot_users_of_a_code_are_no_evidence() {
    let scene = Scene::of(&[(OfficialAccount, Way::Secret)], Settings::default()).await;
    let manner = Manner {
        unionid: true,
        snapshot: true,
    };
    for person in 100..104 {
        let session = scene.begin(0, person, manner);
        let id = scene.exchange(0, &session).await;
        let found = scene.fate(&id, "linked").await;
        assert_eq!(found["reason"], "snapshot_user", "{found}");
        assert!(found["account"]["unionid"].is_null(), "{found}");
    }
    let calls = scene.calls(0, Api::FollowerBatch) + scene.calls(0, Api::Follower);
    assert_eq!(calls, 0, "nobody is asked about whom there is not");
    scene.end().await;
}

pub async fn what_a_code_does_not_tell_is_asked() {
    let settings = Settings {
        oauth_without_unionid: 1.0,
        ..Settings::default()
    };
    let apps = [(Website, Way::Secret), (OfficialAccount, Way::Secret)];
    let scene = Scene::of(&apps, settings).await;
    let (person, _) = scene.login(0).await;
    scene.linked(0, person, "sns_userinfo").await;
    let base = Manner {
        unionid: false,
        snapshot: false,
    };
    for (follows, person) in [(true, scene.follower(1)), (false, scene.person())] {
        let session = scene.begin(1, person, base);
        scene.exchange(1, &session).await;
        if follows {
            scene.linked(1, person, "user_info").await;
        } else {
            // The largest reason is shown: with another scope it would be known.
            scene.unresolved(1, person, "user_token_refused").await;
        }
    }
    assert_eq!(
        scene.calls(1, Api::OauthUser),
        0,
        "snsapi_base tells nothing"
    );
    scene.end().await;
}

pub async fn codes_are_sent_again_when_wechat_is_busy_or_its_answer_is_broken() {
    let scene = Scene::channels().await;
    let faults: [&[&str]; 10] = [
        &["busy=1"],
        &["busy=1", "string_errcode=1"],
        &["http_500=1"],
        &["empty=1"],
        &["html=1"],
        &["truncated=1"],
        &["cut=1"],
        &["hang=1"],
        &["errcode=-1", "refused=1"],
        &["control_bytes=1"],
    ];
    for fault in faults {
        let repaired = fault[0].starts_with("control");
        each(
            CHANNELS
                .into_iter()
                .enumerate()
                .map(async |(n, (kind, _, api))| {
                    let before = scene.calls(n, api);
                    scene.fault(n, api, &[fault, &["tries=1"]].concat());
                    let (person, _) = scene.login(n).await;
                    scene.linked(n, person, method(kind)).await;
                    let calls = scene.calls(n, api) - before;
                    assert_eq!(calls, if repaired { 1 } else { 2 }, "{fault:?}");
                    scene.mend(n, api);
                }),
        )
        .await;
    }
    assert!(scene.alarms(0).is_empty());
    scene.end().await;
}

pub async fn codes_whose_answer_is_lost_are_dead_and_say_so() {
    let scene = Scene::channels().await;
    for fault in ["spent_cut=1", "spent_hang=1"] {
        each(
            CHANNELS
                .into_iter()
                .enumerate()
                .map(async |(n, (_, _, api))| {
                    scene.fault(n, api, &[fault, "tries=1"]);
                    let (_, id) = scene.login(n).await;
                    scene.dead(&id, "code_lost").await;
                    scene.mend(n, api);
                }),
        )
        .await;
    }
    scene.end().await;
}

/// The code, and the word of the dead letter.
const DEAD: [(i32, &str); 17] = [
    (40029, "code_dead"),
    (40163, "code_dead"),
    (42003, "code_dead"),
    (41008, "code_dead"),
    (40030, "code_dead"),
    (42002, "code_dead"),
    (42007, "code_dead"),
    (50001, "code_dead"),
    (40226, "user_blocked"),
    (40003, "refused"),
    (40032, "refused"),
    (40033, "refused"),
    (40035, "refused"),
    (40097, "refused"),
    (41009, "refused"),
    (44002, "refused"),
    (47001, "refused"),
];

pub async fn codes_that_wechat_refuses_are_dead_and_never_sent_again() {
    let scene = Scene::channels().await;
    each(
        CHANNELS
            .into_iter()
            .enumerate()
            .map(async |(n, (kind, _, api))| {
                let mut ids = Vec::new();
                for (errcode, word) in DEAD {
                    scene.refuse(n, api, errcode);
                    let (_, id) = scene.login(n).await;
                    scene.answered(n, api, errcode).await;
                    ids.push((id, word));
                }
                scene.mend(n, api);
                for (id, word) in ids {
                    scene.dead(&id, word).await;
                }
                assert_eq!(scene.calls(n, api), DEAD.len() as u64, "each once");
                let (person, _) = scene.login(n).await;
                scene.linked(n, person, method(kind)).await;
                assert!(scene.alarms(n).is_empty(), "{:?}", scene.alarms(n));
            }),
    )
    .await;
    scene.end().await;
}

pub async fn used_and_foreign_codes_are_dead() {
    let scene = Scene::channels().await;
    let person = scene.person();
    let code = scene.rig.sim.code(&scene.session(0, person));
    scene.rig.sim.spend_elsewhere(&code);
    let used = scene.post(0, serde_json::json!({ "code": code })).await;
    let code = scene.rig.sim.code(&scene.session(4, person));
    let foreign = scene.post(2, serde_json::json!({ "code": code })).await;
    scene.dead(&used, "code_dead").await;
    scene.dead(&foreign, "code_dead").await;
    scene.end().await;
}

pub async fn codes_with_an_unknown_answer_are_tried_again_while_they_live() {
    let scene = Scene::channels().await;
    each(
        CHANNELS
            .into_iter()
            .enumerate()
            .map(async |(n, (kind, _, api))| {
                scene.refuse(n, api, 99_999);
                let (person, id) = scene.login(n).await;
                scene.fate(&id, "deferred").await;
                let again = || scene.answers(n, api, 99_999) >= 2;
                scene.until("not tried again", again).await;
                scene.mend(n, api);
                scene.linked(n, person, method(kind)).await;
                let told = scene.lines(" WARN ", n);
                assert!(told.iter().all(|l| l.contains("errcode=99999")), "{told:?}");
                assert!(!told.is_empty() && scene.alarms(n).is_empty());
            }),
    )
    .await;
    scene.end().await;
}

pub async fn old_codes_are_dead_unsent() {
    let scene = Scene::channels().await;
    let session = scene.session(0, scene.person());
    let code = scene.rig.sim.code(&session);
    scene.hide(&code);
    let body = serde_json::json!({ "code": code, "occurred_at": crate::harness::ago(6) });
    let id = scene.post(0, body).await;
    scene.dead(&id, "code_expired").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scene.calls(0, Api::Code2Session), 0);
    scene.end().await;
}
