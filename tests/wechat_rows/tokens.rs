//! The app's own token: `cgi-bin/stable_token`, `cgi-bin/token`, and one from a file
//! (`docs/wechat.md` §4).

use crate::kit::{CONFIGURATION, MALFORMED, OfficialAccount, Scene, UNKNOWN, Way, each, share};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use unilink::simulate::{Api, Family, Settings, Trouble};

/// Four apps of each family.
fn officials() -> Vec<(unilink::model::AppKind, Way)> {
    let way = |n| if n < 4 { Way::Secret } else { Way::Plain };
    (0..8).map(|n| (OfficialAccount, way(n))).collect()
}

fn api(n: usize) -> Api {
    if n < 4 { Api::StableToken } else { Api::Token }
}

pub async fn tokens_of_both_families_are_asked_for_once_and_used() {
    let scene = Scene::of(&officials()[3..5], Settings::default()).await;
    for n in [0, 1] {
        let people: Vec<u64> = (0..30).map(|_| scene.follower(n)).collect();
        each(people.iter().map(async |person| {
            scene.seen(n, *person).await;
        }))
        .await;
        for person in people {
            scene.linked(n, person, "user_info").await;
        }
    }
    assert_eq!([scene.tokens(0), scene.tokens(1)], [(0, 1), (1, 0)]);
    scene.end().await;
}

/// What is wrong, and the codes that WeChat may say it with.
const TROUBLES: [(Trouble, &[i32]); 4] = [
    (Trouble::RefusedAddress, &[40164]),
    (Trouble::UnconfirmedAddress, &[89503]),
    (Trouble::WrongSecret, &[40125, 40001]),
    (Trouble::SecretFrozen, &[40243]),
];

pub async fn what_waits_for_a_token_goes_on_by_itself_once_the_app_is_put_right() {
    let scene = Scene::of(&officials(), Settings::default()).await;
    each((0..8).map(async |n| {
        let (trouble, codes) = TROUBLES[n % 4];
        scene.trouble(n, trouble, true);
        let people = [scene.follower(n), scene.follower(n), scene.follower(n)];
        for person in people {
            let id = scene.seen(n, person).await;
            scene.fate(&id, "deferred").await;
            scene.unresolved(n, person, "deferred").await;
        }
        let alarms = scene.alarms(n);
        let told = |code: &i32| alarms[0].contains(&format!("errcode={code} "));
        assert!(alarms.len() == 1 && codes.iter().any(told), "{alarms:?}");
        let address = alarms[0].contains("the address is 127.0.0.1");
        assert_eq!(address, trouble == Trouble::RefusedAddress, "{alarms:?}");
        if codes[0] == 40164 || codes[0] == 89503 {
            // Token APIs look at addresses; codes are exchanged meanwhile, and that the app is
            // answered there does not call the operator again.
            for _ in 0..3 {
                let (person, _) = scene.login(n).await;
                scene.linked(n, person, "oauth").await;
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            assert_eq!(scene.alarms(n).len(), 1, "{:?}", scene.alarms(n));
        }
        scene.trouble(n, trouble, false);
        for person in people {
            scene.linked(n, person, "user_info").await;
        }
        assert_eq!(scene.alarms(n).len(), 1, "{:?}", scene.alarms(n));
    }))
    .await;
    scene.end().await;
}

/// The other refusals of a token API: a refused credential is the AppSecret there, and a malformed request
/// is about nobody.
fn refusals() -> Vec<i32> {
    let told = TROUBLES.iter().flat_map(|(_, codes)| codes.iter());
    let told: Vec<i32> = told.copied().collect();
    let all = [&CONFIGURATION[..], &[40001, 40014, 42001], &MALFORMED].concat();
    all.into_iter()
        .filter(|code| !told.contains(code))
        .collect()
}

/// About the token alone, so that codes are exchanged.
const OF_TOKENS: [i32; 11] = [
    48001, 48004, 89002, 40003, 40032, 40033, 40035, 40097, 41009, 44002, 47001,
];

pub async fn refusals_of_the_token_apis_park_what_needs_a_token() {
    let scene = Scene::of(&officials(), Settings::default()).await;
    each((0..8).map(async |n| {
        for (round, errcode) in share(&refusals(), n, 8).into_iter().enumerate() {
            scene
                .rig
                .sim
                .revoke_tokens(scene.app(n), Family::Plain)
                .unwrap();
            scene
                .rig
                .sim
                .revoke_tokens(scene.app(n), Family::Stable)
                .unwrap();
            scene.refuse(n, api(n), errcode);
            let person = scene.follower(n);
            let id = scene.seen(n, person).await;
            scene.answered(n, api(n), errcode).await;
            scene.fate(&id, "deferred").await;
            scene.alarmed(n, round + 1).await;
            let second = scene.follower(n);
            let id = scene.seen(n, second).await;
            scene.fate(&id, "deferred").await;
            assert_eq!(scene.answers(n, api(n), errcode), 1);
            let alarms = scene.alarms(n);
            assert_eq!(alarms.len(), round + 1, "{alarms:?}");
            assert!(
                alarms[round].contains(&format!("errcode={errcode} ")),
                "{alarms:?}"
            );
            if OF_TOKENS.contains(&errcode) {
                let (person, _) = scene.login(n).await;
                scene.linked(n, person, "oauth").await;
            }
            scene.mend(n, api(n));
            for person in [person, second] {
                scene.linked(n, person, "user_info").await;
            }
        }
    }))
    .await;
    scene.end().await;
}

pub async fn token_apis_that_are_busy_or_break_are_asked_again() {
    let scene = Scene::of(&officials(), Settings::default()).await;
    let faults = [
        "busy=1",
        "http_500=1",
        "hang=1",
        "empty=1",
        "spent_cut=1",
        "cut=1",
        "truncated=1",
        "html=1",
    ];
    each(faults.iter().enumerate().map(async |(n, fault)| {
        scene.fault(n, api(n), &[fault, "tries=2"]);
        let person = scene.follower(n);
        scene.seen(n, person).await;
        scene.linked(n, person, "user_info").await;
        assert_eq!(scene.calls(n, api(n)), 3, "{fault}");
        assert!(scene.alarms(n).is_empty(), "{:?}", scene.alarms(n));
    }))
    .await;
    scene.end().await;
}

pub async fn a_token_api_with_an_unknown_answer_is_given_up() {
    let scene = Scene::of(&officials()[2..6], Settings::default()).await;
    each((0..4).map(async |n| {
        let api = if n < 2 { Api::StableToken } else { Api::Token };
        scene.refuse(n, api, UNKNOWN[n % 2]);
        let person = scene.follower(n);
        scene.seen(n, person).await;
        scene.unresolved(n, person, "gave_up").await;
        assert_eq!(scene.calls(n, api), 5);
    }))
    .await;
    scene.end().await;
}

pub async fn a_token_that_dies_early_is_refreshed_once_and_the_request_repeated_once() {
    let scene = Scene::of(&officials()[3..5], Settings::default()).await;
    for (n, family) in [(0, Family::Stable), (1, Family::Plain)] {
        let first = scene.follower(n);
        scene.seen(n, first).await;
        scene.linked(n, first, "user_info").await;
        let (before, calls) = (scene.tokens(n), scene.calls(n, Api::Follower));
        scene.rig.sim.revoke_tokens(scene.app(n), family).unwrap();
        let second = scene.follower(n);
        scene.seen(n, second).await;
        scene.linked(n, second, "user_info").await;
        let after = scene.tokens(n);
        assert_eq!(after.0 + after.1, before.0 + before.1 + 1);
        assert_eq!(
            scene.calls(n, Api::Follower),
            calls + 2,
            "asked, refused, repeated"
        );
        assert_eq!(scene.answers(n, Api::Follower, 40001), 1);
        // Many at once notice it: one of them refreshes.
        scene.rig.sim.revoke_tokens(scene.app(n), family).unwrap();
        let people: Vec<u64> = (0..250).map(|_| scene.follower(n)).collect();
        each(people.iter().map(async |person| {
            scene.seen(n, *person).await;
        }))
        .await;
        for person in people {
            scene.linked(n, person, "user_info").await;
        }
        let last = scene.tokens(n);
        assert_eq!(last.0 + last.1, after.0 + after.1 + 1);
        assert!(scene.alarms(n).is_empty(), "{:?}", scene.alarms(n));
    }
    scene.end().await;
}

pub async fn tokens_are_renewed_as_they_end() {
    let settings = Settings {
        token_life_ms: 3_000,
        token_overlap_ms: 1_000,
        ..Settings::default()
    };
    let scene = Scene::of(&officials()[3..5], settings).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(9) {
        for n in [0, 1] {
            let person = scene.follower(n);
            scene.seen(n, person).await;
            scene.linked(n, person, "user_info").await;
        }
    }
    let most = begun.elapsed().as_secs() / 2 + 2;
    for n in [0, 1] {
        let (plain, stable) = scene.tokens(n);
        // One each two seconds of three, if somebody comes just then.
        assert!((2..=most).contains(&(plain + stable)), "{plain} {stable}");
        for code in [40001, 42001] {
            assert_eq!(scene.answers(n, Api::Follower, code), 0, "renewed in time");
        }
    }
    scene.end().await;
}

pub async fn a_token_that_is_refused_again_and_again_parks_what_needs_it() {
    let scene = Scene::of(&officials()[3..5], Settings::default()).await;
    each([0, 1].map(async |n| {
        for (round, errcode) in [40001, 40014, 42001].into_iter().enumerate() {
            scene.refuse(n, Api::Follower, errcode);
            let begun = Instant::now();
            let person = scene.follower(n);
            let id = scene.seen(n, person).await;
            scene.fate(&id, "deferred").await;
            scene.answered(n, Api::Follower, errcode).await;
            scene.alarmed(n, round + 1).await;
            // One that is stable is not newer when it is asked for; the other is refused once more.
            let asked = scene.answers(n, Api::Follower, errcode);
            assert!(asked == 1 + n as u64 || !Scene::prompt(begun), "{asked}");
            let (other, _) = scene.login(n).await;
            scene.linked(n, other, "oauth").await;
            let alarms = scene.alarms(n);
            assert_eq!(alarms.len(), round + 1, "{alarms:?}");
            scene.mend(n, Api::Follower);
            scene.linked(n, person, "user_info").await;
        }
    }))
    .await;
    scene.end().await;
}

/// A good token, as whoever keeps the file fresh gets it.
async fn issued(scene: &Scene, n: usize) -> String {
    let text = std::fs::read_to_string(scene.rig.dir.path().join("unilink.toml")).unwrap();
    let line = text.lines().find(|l| l.starts_with("base_url")).unwrap();
    let base = line.split('"').nth(1).unwrap();
    let app = &scene.rig.sim.world().sim_apps()[n];
    let body = json!({"grant_type": "client_credential", "appid": app.id.as_str(),
        "secret": app.secret});
    let request = scene.rig.http.post(format!("{base}/cgi-bin/stable_token"));
    let answer = request.body(body.to_string()).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

pub async fn a_token_from_a_file_is_read_again_when_it_is_refused() {
    let app = (OfficialAccount, Way::File("unilink.db.token"));
    let scene = Scene::of(&[app], Settings::default()).await;
    let people = [scene.follower(0), scene.follower(0), scene.follower(0)];
    for person in people {
        let id = scene.seen(0, person).await;
        scene.fate(&id, "deferred").await;
    }
    let alarms = scene.alarms(0);
    assert!(
        alarms.len() == 1 && alarms[0].contains("cannot be read"),
        "{alarms:?}"
    );
    scene.write("unilink.db.token", "61_a-token-that-is-none-of-wechats");
    let refused = || scene.alarms(0).len() == 2;
    scene.until("a bad token is not told", refused).await;
    assert!(scene.alarms(0)[1].contains("refuses the token of the file"));
    let (person, _) = scene.login(0).await;
    scene.linked(0, person, "oauth").await;
    scene.write("unilink.db.token", &issued(&scene, 0).await);
    for person in people {
        scene.linked(0, person, "user_info").await;
    }
    let given = scene.tokens(0);
    // Whoever keeps the file has brought a newer one: it is found without an alarm.
    let family = Family::Stable;
    scene.rig.sim.revoke_tokens(scene.app(0), family).unwrap();
    scene.write("unilink.db.token", &issued(&scene, 0).await);
    let person = scene.follower(0);
    scene.seen(0, person).await;
    scene.linked(0, person, "user_info").await;
    assert_eq!(scene.alarms(0).len(), 2, "{:?}", scene.alarms(0));
    assert_eq!(scene.tokens(0).1, given.1 + 1, "the worker asks for none");
    scene.end().await;
}
