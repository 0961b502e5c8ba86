//! Followers of official accounts: `cgi-bin/user/info` and its batch (`docs/wechat.md` §7).

use crate::kit::{OfficialAccount, Scene, Way, each};
use serde_json::{Value, json};
use unilink::simulate::{Api, Settings, Trouble};

async fn officials(n: usize) -> Scene {
    Scene::of(
        &vec![(OfficialAccount, Way::Secret); n],
        Settings::default(),
    )
    .await
}

/// Both ways to ask; which one is taken depends on how many come at once.
const BOTH: [Api; 2] = [Api::Follower, Api::FollowerBatch];

pub async fn followers_link_and_others_say_why_not() {
    let scene = officials(1).await;
    let (follower, stranger) = (scene.follower(0), scene.person());
    scene.seen(0, follower).await;
    scene.linked(0, follower, "user_info").await;
    scene.seen(0, stranger).await;
    scene.unresolved(0, stranger, "not_following").await;
    // One who begins to follow is found at the next sight.
    let app = scene.app(0);
    scene.rig.sim.set_follows(app, stranger, true).unwrap();
    scene.seen(0, stranger).await;
    scene.linked(0, stranger, "user_info").await;
    // Who is resolved is not asked about again.
    let calls = scene.calls(0, Api::Follower);
    let id = scene.seen(0, follower).await;
    let (after, _) = scene.login(0).await;
    scene.linked(0, after, "oauth").await;
    assert_eq!(scene.calls(0, Api::Follower), calls, "{id}");
    scene.end().await;
}

/// Posts many at once: ids of the events.
async fn crowd(scene: &Scene, n: usize, openids: &[String]) -> Vec<String> {
    let events = openids.iter().enumerate().map(|(i, openid)| {
        json!({"id": format!("crowd-{n}-{i}"), "occurred_at": crate::harness::ago(0),
            "appid": scene.id(n), "openid": openid})
    });
    let events: Vec<Value> = events.collect();
    scene.rig.accept(&json!(events)).await;
    let ids = (0..openids.len()).map(|i| format!("crowd-{n}-{i}"));
    ids.collect()
}

pub async fn one_openid_that_is_none_does_not_spoil_the_batch() {
    let scene = officials(1).await;
    let people: Vec<u64> = (0..90).map(|_| scene.follower(0)).collect();
    let mut openids: Vec<String> = people.iter().map(|p| scene.openid(0, *p)).collect();
    for (at, bad) in [(7, "oNobodyInThisAppHasThisOne01"), (50, "malformed")] {
        scene.hide(bad);
        openids.insert(at, bad.to_owned());
    }
    let ids = crowd(&scene, 0, &openids).await;
    for person in people {
        scene.linked(0, person, "user_info").await;
    }
    for bad in [7, 50] {
        scene.dead(&ids[bad], "refused").await;
    }
    assert!(scene.answers(0, Api::FollowerBatch, 40003) >= 2);
    assert!(
        scene.calls(0, Api::Follower) <= 12,
        "halved, not one by one"
    );
    assert!(scene.alarms(0).is_empty());
    scene.end().await;
}

pub async fn a_malformed_question_is_a_dead_letter() {
    let scene = officials(8).await;
    let codes = [40003, 40032, 40033, 40035, 40097, 41009, 44002, 47001];
    each(codes.into_iter().enumerate().map(async |(n, errcode)| {
        scene.refuse(n, Api::Follower, errcode);
        let person = scene.follower(n);
        let id = scene.seen(n, person).await;
        scene.dead(&id, "refused").await;
        scene.mend(n, Api::Follower);
        assert!(scene.alarms(n).is_empty());
    }))
    .await;
    scene.end().await;
}

pub async fn followers_are_asked_about_again_when_wechat_is_busy_or_breaks() {
    let scene = officials(8).await;
    let faults = [
        "busy=1",
        "http_500=1",
        "hang=1",
        "empty=1",
        "html=1",
        "cut=1",
        "truncated=1",
        "control_bytes=1",
    ];
    each(faults.iter().enumerate().map(async |(n, fault)| {
        for api in BOTH {
            scene.fault(n, api, &[fault, "tries=1"]);
        }
        let one = scene.follower(n);
        scene.seen(n, one).await;
        scene.linked(n, one, "user_info").await;
        let people: Vec<u64> = (0..20).map(|_| scene.follower(n)).collect();
        let openids: Vec<String> = people.iter().map(|p| scene.openid(n, *p)).collect();
        crowd(&scene, n, &openids).await;
        for person in people {
            scene.linked(n, person, "user_info").await;
        }
        assert!(scene.alarms(n).is_empty(), "{:?}", scene.alarms(n));
    }))
    .await;
    scene.end().await;
}

pub async fn a_question_with_an_unknown_answer_is_given_up() {
    let scene = officials(1).await;
    scene.refuse(0, Api::Follower, 99_999);
    let person = scene.follower(0);
    scene.seen(0, person).await;
    scene.unresolved(0, person, "deferred").await;
    scene.unresolved(0, person, "gave_up").await;
    assert_eq!(scene.calls(0, Api::Follower), 5);
    scene.mend(0, Api::Follower);
    scene.seen(0, person).await;
    scene.linked(0, person, "user_info").await;
    scene.end().await;
}

/// About this API, and about the app.
const REFUSALS: [i32; 16] = [
    48001, 48004, 89002, 40164, 89503, 40013, 40125, 40002, 41001, 41002, 41004, 40243, 43001,
    43002, 43003, 50002,
];

pub async fn a_refusal_parks_the_question_not_the_logins() {
    let scene = officials(8).await;
    each((0..8).map(async |n| {
        let errcodes: Vec<i32> = REFUSALS.iter().skip(n).step_by(8).copied().collect();
        for (round, errcode) in errcodes.into_iter().enumerate() {
            scene.refuse(n, Api::Follower, errcode);
            let first = scene.follower(n);
            let id = scene.seen(n, first).await;
            scene.answered(n, Api::Follower, errcode).await;
            if errcode == 89002 {
                scene.unresolved(n, first, "app_not_bound").await;
            } else {
                scene.fate(&id, "deferred").await;
            }
            scene.alarmed(n, round + 1).await;
            let second = scene.follower(n);
            let id = scene.seen(n, second).await;
            scene.fate(&id, "deferred").await;
            assert_eq!(scene.answers(n, Api::Follower, errcode), 1);
            let alarms = scene.alarms(n);
            assert_eq!(alarms.len(), round + 1, "{alarms:?}");
            assert!(
                alarms[round].contains(&format!("errcode={errcode} ")),
                "{alarms:?}"
            );
            // An account that is gone is gone for codes too.
            if errcode != 50002 {
                let (person, _) = scene.login(n).await;
                scene.linked(n, person, "oauth").await;
            }
            scene.mend(n, Api::Follower);
            if errcode == 89002 {
                scene.seen(n, first).await;
            }
            for person in [first, second] {
                scene.linked(n, person, "user_info").await;
            }
            assert_eq!(scene.alarms(n).len(), round + 1, "{:?}", scene.alarms(n));
        }
    }))
    .await;
    scene.end().await;
}

pub async fn accounts_without_permission_go_on_once_they_have_it() {
    let scene = officials(3).await;
    let troubles = [Trouble::NoPermission, Trouble::Banned, Trouble::Frozen];
    each(troubles.into_iter().enumerate().map(async |(n, trouble)| {
        scene.trouble(n, trouble, true);
        let person = scene.follower(n);
        let id = scene.seen(n, person).await;
        scene.fate(&id, "deferred").await;
        assert_eq!(scene.alarms(n).len(), 1, "{:?}", scene.alarms(n));
        scene.trouble(n, trouble, false);
        scene.linked(n, person, "user_info").await;
    }))
    .await;
    scene.end().await;
}
