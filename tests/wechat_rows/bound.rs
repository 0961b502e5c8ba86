//! Apps that are bound to a platform, or to another one, while logins wait (`docs/wechat.md` §6, §10).

use crate::harness::now;
use crate::kit::{MiniProgram, OfficialAccount, Scene, Way};
use std::time::Duration;
use unilink::model::Millis;
use unilink::simulate::{Api, Limits, Scope, Settings};

/// How long quotas are still those of today: until midnight in Beijing.
fn left_of_today() -> i64 {
    const DAY_MS: i64 = 24 * 3_600_000;
    DAY_MS - (now().0 + 8 * 3_600_000).rem_euclid(DAY_MS)
}

/// An app that moves to another platform, and one that was forgotten in the configuration. What waits is
/// tried at once after the restart, long before its time, and belongs to the platform of the answer.
pub async fn what_waits_goes_on_at_once_when_its_app_is_bound_anew() {
    while left_of_today() < 240_000 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let apps = [(OfficialAccount, Way::Secret), (MiniProgram, Way::Secret)];
    let mut scene = Scene::asleep(&apps, Settings::default()).await;
    scene.bind(1, &[]);
    scene.rig.start().await;
    let spent = |scene: &Scene, day| {
        for (n, api) in [(0, Api::Follower), (1, Api::Code2Session)] {
            let scope = Scope {
                app: Some(scene.app(n)),
                api: Some(api),
            };
            let limits = Limits { minute: None, day };
            scene.rig.sim.set_limits_in(scope, Some(limits));
        }
    };
    spent(&scene, Some(0));
    let follower = scene.follower(0);
    let seen = scene.seen(0, follower).await;
    let (person, code) = scene.login(1).await;
    for id in [seen, code] {
        scene.fate(&id, "deferred").await;
    }
    let parts = scene.rig.parts().await;
    let next = parts.store.next_due().await.unwrap().unwrap();
    assert!(next.since(now()) > 100_000, "due at {next}");
    drop(parts);
    scene.rig.stopped().await;
    spent(&scene, None);

    let moved = now();
    scene.bind(0, &[("main", Millis(0)), ("second", moved)]);
    scene.bind(1, &[("main", Millis(0))]);
    scene.rig.start().await;
    scene.linked(0, follower, "user_info").await;
    scene.linked(1, person, "code2session").await;
    assert!(
        now() < next,
        "by themselves they would have waited until {next}"
    );
    for (n, person, platform) in [(0, follower, "second"), (1, person, "main")] {
        let (app, openid) = (scene.id(n), scene.openid(n, person));
        let found = scene.rig.account(&app, &openid, |_| true).await;
        assert_eq!(found["platform"], platform, "{found}");
        let since = if n == 0 { moved } else { Millis(0) };
        let claimed = found["claims"][0]["at"].as_str().unwrap();
        assert!(claimed >= since.to_string().as_str(), "{found}");
    }
    scene.end().await;
}
