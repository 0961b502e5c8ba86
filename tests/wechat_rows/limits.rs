//! WeChat's limits: by the minute and by the day (`docs/wechat.md` §2).

use crate::kit::{CHANNELS, OfficialAccount, Scene, Way, each};
use crate::{people, sessions};
use serde_json::{Value, json};
use unilink::simulate::{Api, Limits, Scope, Settings};

/// The minute that the simulator counts in.
fn minute() -> i64 {
    crate::harness::now().0.div_euclid(60_000)
}

/// Every exchange, and two accounts more with a token of each family.
async fn company() -> Scene {
    let mut apps = CHANNELS.map(|(kind, way, _)| (kind, way)).to_vec();
    apps.push((OfficialAccount, Way::Secret));
    apps.push((OfficialAccount, Way::Plain));
    Scene::of(&apps, Settings::default()).await
}

pub async fn what_is_too_much_for_a_minute_is_done_in_the_next() {
    let scene = company().await;
    // Not across the end of a minute, and not so long before it that patience ends sooner.
    while !(15_000..48_000).contains(&crate::harness::now().0.rem_euclid(60_000)) {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let begun = minute();
    let refuse = |n, api| scene.fault(n, api, &["minute_limit=1"]);
    let mut waiting = Vec::new();
    for (n, (_, _, api)) in CHANNELS.into_iter().enumerate() {
        refuse(n, api);
        let (person, id) = scene.login(n).await;
        waiting.push((n, person, id, vec![api]));
    }
    // The other APIs: followers, the app's token of both kinds, profiles, payments, session keys.
    refuse(2, Api::Follower);
    let person = scene.follower(2);
    let id = scene.seen(2, person).await;
    waiting.push((2, person, id, vec![Api::Follower]));
    for (n, api) in [(6, Api::StableToken), (7, Api::Token)] {
        refuse(n, api);
        let person = scene.follower(n);
        let id = scene.seen(n, person).await;
        waiting.push((n, person, id, vec![api]));
    }
    refuse(4, Api::OauthUser);
    let (person, id) = people::with_token(&scene, 4).await;
    waiting.push((4, person, id, vec![Api::OauthUser]));
    refuse(0, Api::PaidUnionid);
    let (person, id) = people::paid(&scene, 0, false).await;
    waiting.push((0, person, id, vec![Api::PaidUnionid]));
    refuse(0, Api::CheckSession);
    let (garbled, id) = sessions::corrupt(&scene, 0).await;
    waiting.push((0, garbled, id, vec![Api::CheckSession]));

    for (n, _, id, apis) in &waiting {
        scene.fate(id, "deferred").await;
        for api in apis {
            scene.answered(*n, *api, 45011).await;
        }
    }
    assert_eq!(minute(), begun, "too slow a machine");
    for (n, _, _, apis) in &waiting {
        for api in apis {
            let calls = scene.calls(*n, *api);
            // A key that is held wakes what waits for one, be it the event's own: that asks once more.
            let most = if *api == Api::CheckSession { 2 } else { 1 };
            assert!(calls <= most, "once in this minute: {api:?} {calls}");
            scene.mend(*n, *api);
        }
    }
    each(waiting.iter().map(async |(n, person, _, _)| {
        let (app, openid) = (scene.id(*n), scene.openid(*n, *person));
        // WeChat's word on the key is that the data is corrupt.
        let told = |f: &Value| !f["unionid"].is_null() || f["reason"] == "decrypt_failed";
        let found = scene.rig.account(&app, &openid, told).await;
        assert_eq!(found["unionid"].is_null(), *person == garbled, "{found}");
        assert!(
            minute() > begun || *person == garbled,
            "before the next minute"
        );
    }))
    .await;
    for n in 0..8 {
        assert!(scene.alarms(n).is_empty(), "{:?}", scene.alarms(n));
    }
    scene.end().await;
}

pub async fn a_days_quota_stops_one_api_of_one_app_and_tells_the_operator() {
    let scene = company().await;
    let day = |n, api, day| {
        let scope = Scope {
            app: Some(scene.app(n)),
            api: Some(api),
        };
        let limits = Limits { minute: None, day };
        scene.rig.sim.set_limits_in(scope, Some(limits));
    };
    // Followers of the official account are no longer told; its codes are.
    day(2, Api::Follower, Some(1));
    day(2, Api::FollowerBatch, Some(0));
    let first = scene.follower(2);
    scene.seen(2, first).await;
    scene.linked(2, first, "user_info").await;
    let second = scene.seen(2, scene.follower(2)).await;
    scene.fate(&second, "deferred").await;
    scene.answered(2, Api::Follower, 45009).await;
    let third = scene.seen(2, scene.follower(2)).await;
    scene.fate(&third, "deferred").await;
    assert_eq!(scene.calls(2, Api::Follower), 2, "nothing more is sent");
    let (person, _) = scene.login(2).await;
    scene.linked(2, person, "oauth").await;
    let alarms = scene.alarms(2);
    assert!(
        alarms.len() == 1 && alarms[0].contains("quota is spent"),
        "{alarms:?}"
    );
    // Until midnight in Beijing.
    assert!(alarms[0].contains("T16:00:00"), "{alarms:?}");

    // So it is with every other question, and with tokens.
    let questions = [
        (0, Api::PaidUnionid),
        (0, Api::CheckSession),
        (4, Api::OauthUser),
        (6, Api::StableToken),
        (7, Api::Token),
    ];
    for (n, api) in questions {
        let before = scene.alarms(n).len();
        day(n, api, Some(0));
        for _ in 0..2 {
            let (_, id) = match api {
                Api::PaidUnionid => people::paid(&scene, n, false).await,
                Api::CheckSession => sessions::corrupt(&scene, n).await,
                Api::OauthUser => people::with_token(&scene, n).await,
                _ => (0, scene.seen(n, scene.follower(n)).await),
            };
            scene.fate(&id, "deferred").await;
            scene.answered(n, api, 45009).await;
        }
        assert_eq!(scene.calls(n, api), 1, "nothing more is sent: {api:?}");
        let alarms = scene.alarms(n);
        assert!(
            alarms.len() == before + 1 && alarms[before].contains("quota is spent"),
            "{alarms:?}"
        );
    }

    // Codes do not live as long as a day: they are told dead when they are.
    each(
        CHANNELS
            .into_iter()
            .enumerate()
            .map(async |(n, (_, _, api))| {
                let before = scene.alarms(n).len();
                day(n, api, Some(0));
                let session = scene.session(n, scene.person());
                let code = scene.rig.sim.code(&session);
                scene.hide(&code);
                let at = crate::harness::now().plus(-297_000).to_string();
                let old = json!({"code": code, "occurred_at": at});
                let id = scene.post(n, old).await;
                scene.answered(n, api, 45009).await;
                scene.dead(&id, "code_lost").await;
                let (_, id) = scene.login(n).await;
                scene.fate(&id, "deferred").await;
                assert_eq!(scene.answers(n, api, 45009), 1);
                assert_eq!(scene.alarms(n).len(), before + 1);
            }),
    )
    .await;
    scene.end().await;
}
