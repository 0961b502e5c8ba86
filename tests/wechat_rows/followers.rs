//! Followers of official accounts: `cgi-bin/user/info` and its batch (`docs/wechat.md` §7).

use crate::kit::{
    ACCOUNT_GONE, CONFIGURATION, MALFORMED, OF_COMPONENTS, OfficialAccount, PATIENCE, Scene,
    UNKNOWN, Way, each, share,
};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use std::time::{Duration, Instant};
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
    let scene = officials(MALFORMED.len()).await;
    each(MALFORMED.into_iter().enumerate().map(async |(n, errcode)| {
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
        // Read all the same.
        "control_bytes=1",
    ];
    each(faults.iter().enumerate().map(async |(n, fault)| {
        let readable = *fault == "control_bytes=1";
        let flags = [fault, "tries=1"];
        scene.fault(n, Api::Follower, &flags[..2 - usize::from(readable)]);
        let one = scene.follower(n);
        scene.seen(n, one).await;
        scene.linked(n, one, "user_info").await;
        assert!(scene.calls(n, Api::Follower) >= 2 || readable, "{fault}");
        scene.mend(n, Api::Follower);
        // Each batch holds others, so that each try is the first of its kind.
        for api in BOTH {
            scene.fault(n, api, &[fault]);
        }
        let people: Vec<u64> = (0..20).map(|_| scene.follower(n)).collect();
        let openids: Vec<String> = people.iter().map(|p| scene.openid(n, *p)).collect();
        crowd(&scene, n, &openids).await;
        let asked = || scene.calls(n, Api::FollowerBatch) > 0;
        scene.until("no batch", asked).await;
        for api in BOTH {
            scene.mend(n, api);
        }
        for person in people {
            scene.linked(n, person, "user_info").await;
        }
        assert!(scene.alarms(n).is_empty(), "{:?}", scene.alarms(n));
    }))
    .await;
    scene.end().await;
}

pub async fn a_question_with_an_unknown_answer_is_given_up() {
    let scene = officials(UNKNOWN.len()).await;
    each(UNKNOWN.into_iter().enumerate().map(async |(n, errcode)| {
        scene.refuse(n, Api::Follower, errcode);
        let person = scene.follower(n);
        scene.seen(n, person).await;
        scene.unresolved(n, person, "deferred").await;
        scene.unresolved(n, person, "gave_up").await;
        assert_eq!(scene.calls(n, Api::Follower), 5);
        scene.mend(n, Api::Follower);
        scene.seen(n, person).await;
        scene.linked(n, person, "user_info").await;
    }))
    .await;
    scene.end().await;
}

pub async fn a_refusal_parks_the_question_not_the_logins() {
    let refusals = [&CONFIGURATION[..], &OF_COMPONENTS].concat();
    let scene = officials(8).await;
    each((0..8).map(async |n| {
        for (round, errcode) in share(&refusals, n, 8).into_iter().enumerate() {
            scene.refuse(n, Api::Follower, errcode);
            let first = scene.follower(n);
            let id = scene.seen(n, first).await;
            scene.answered(n, Api::Follower, errcode).await;
            scene.fate(&id, "deferred").await;
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
            if errcode != ACCOUNT_GONE {
                let (person, _) = scene.login(n).await;
                scene.linked(n, person, "oauth").await;
            }
            scene.mend(n, Api::Follower);
            for person in [first, second] {
                scene.linked(n, person, "user_info").await;
            }
            assert_eq!(scene.alarms(n).len(), round + 1, "{:?}", scene.alarms(n));
        }
    }))
    .await;
    scene.end().await;
}

/// Requests about followers, one by one and in batches, that were refused so.
fn refused(scene: &Scene, n: usize, errcode: i32) -> u64 {
    let answers = BOTH.map(|api| scene.answers(n, api, errcode));
    answers.iter().sum()
}

pub async fn one_question_tries_whether_a_refusal_is_over() {
    let scene = officials(1).await;
    for api in BOTH {
        scene.fault(0, api, &["errcode=48001", "refused=1", "latency=400"]);
    }
    let first = scene.follower(0);
    scene.seen(0, first).await;
    scene.alarmed(0, 1).await;
    let others: Vec<u64> = (0..20).map(|_| scene.follower(0)).collect();
    let openids: Vec<String> = others.iter().map(|p| scene.openid(0, *p)).collect();
    for id in crowd(&scene, 0, &openids).await {
        scene.fate(&id, "deferred").await;
    }
    assert_eq!(
        refused(&scene, 0, 48001),
        1,
        "nothing is asked while it is parked"
    );
    let again = || refused(&scene, 0, 48001) >= 2;
    scene.until("nothing is asked again", again).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        refused(&scene, 0, 48001),
        2,
        "one at a time, then a longer pause"
    );
    assert_eq!(scene.alarms(0).len(), 1, "the same is not told twice");
    for api in BOTH {
        scene.mend(0, api);
    }
    for person in [&[first], &others[..]].concat() {
        scene.linked(0, person, "user_info").await;
    }
    scene.end().await;
}

/// Open deferred work: for each, how long until it is due, in seconds.
async fn waits(store: &mut SqliteConnection) -> Vec<i64> {
    let sql = "SELECT next_at FROM deferred WHERE done_at IS NULL ORDER BY next_at";
    let rows: Vec<(i64,)> = sqlx::query_as(sql).fetch_all(store).await.unwrap();
    let now = crate::harness::now().0;
    rows.iter().map(|(at,)| (at - now) / 1_000).collect()
}

/// Who has been asked about in vain for long comes back when the pause ends, not when the own wait does;
/// not everybody, but once WeChat answers one of them, all do.
pub async fn questions_of_long_standing_are_asked_when_the_pause_ends() {
    let scene = officials(1).await;
    for api in BOTH {
        scene.refuse(0, api, 48001);
    }
    let people: Vec<u64> = (0..9).map(|_| scene.follower(0)).collect();
    for person in &people {
        let id = scene.seen(0, *person).await;
        scene.fate(&id, "deferred").await;
    }
    let file = scene.rig.dir.path().join("unilink.db");
    let mut store = SqliteConnection::connect(&format!("sqlite:{}", file.display()))
        .await
        .unwrap();
    // As if for hours: their own waits are minutes now.
    let aged = sqlx::query("UPDATE deferred SET attempts = 9")
        .execute(&mut store)
        .await;
    assert_eq!(aged.unwrap().rows_affected(), 9);
    let again = || refused(&scene, 0, 48001) >= 2;
    scene.until("nothing is asked again", again).await;
    let begun = Instant::now();
    loop {
        let waits = waits(&mut store).await;
        let soon = waits.iter().filter(|s| **s <= 60).count();
        if (waits.len() - soon, soon) == (5, 4) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{waits:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for api in BOTH {
        scene.mend(0, api);
    }
    for person in people {
        scene.linked(0, person, "user_info").await;
    }
    assert_eq!(scene.alarms(0).len(), 1, "{:?}", scene.alarms(0));
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
