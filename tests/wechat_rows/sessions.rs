//! Session keys: data that waits for one, and whether one is superseded, `wxa/checksession`
//! (`docs/wechat.md` §3.3, §9).

use crate::kit::{
    ACCOUNT_GONE, BUSY, CONFIGURATION, MALFORMED, MiniProgram, OF_COMPONENTS, Scene, UNKNOWN, Way,
    each, share,
};
use serde_json::{Value, json};
use std::time::Instant;
use unilink::simulate::{Api, Family, Manner, Settings};

async fn minis(n: usize) -> Scene {
    Scene::of(&vec![(MiniProgram, Way::Secret); n], Settings::default()).await
}

/// Somebody whose code told no unionid, and whose key is held.
async fn known(scene: &Scene, n: usize) -> (u64, unilink::simulate::Session) {
    let person = scene.person();
    let manner = Manner {
        unionid: false,
        snapshot: false,
    };
    let session = scene.begin(n, person, manner);
    let id = scene.exchange(n, &session).await;
    scene.fate(&id, "linked").await;
    (person, session)
}

fn data(scene: &Scene, n: usize, person: u64, from: &unilink::simulate::Session) -> Value {
    let data = scene.rig.sim.encrypted_in(from);
    scene.hide(&data.encrypted_data);
    json!({"openid": scene.openid(n, person), "encryptedData": data.encrypted_data,
        "iv": data.iv})
}

const HIDDEN: Manner = Manner {
    unionid: false,
    snapshot: false,
};

pub async fn data_of_a_newer_session_waits_for_its_key_and_links() {
    let scene = minis(5).await;
    each(
        [87009, 87007, 87008]
            .into_iter()
            .enumerate()
            .map(async |(n, errcode)| {
                let (person, older) = known(&scene, n).await;
                // A newer session, whose code comes later than its data, which the gateway sent with the
                // key before. WeChat says that this is not the newest; what else it may say of such a
                // key is injected.
                let newer = scene.begin(n, person, HIDDEN);
                if errcode != 87009 {
                    scene.refuse(n, Api::CheckSession, errcode);
                }
                let mut event = data(&scene, n, person, &newer);
                event["session_key"] = json!(scene.rig.sim.session_key(&older));
                let id = scene.post(n, event).await;
                scene.fate(&id, "deferred").await;
                scene.answered(n, Api::CheckSession, errcode).await;
                scene.exchange(n, &newer).await;
                scene.linked(n, person, "decrypted").await;
                scene.fate(&id, "linked").await;
                assert!(scene.alarms(n).is_empty(), "{:?}", scene.alarms(n));
            }),
    )
    .await;
    // Data without a key of its own waits for any, and nothing is asked.
    each([3, 4].map(async |n| {
        let (person, _) = known(&scene, n).await;
        let newer = scene.begin(n, person, HIDDEN);
        let id = scene.post(n, data(&scene, n, person, &newer)).await;
        scene.fate(&id, "deferred").await;
        scene.exchange(n, &newer).await;
        scene.linked(n, person, "decrypted").await;
        assert_eq!(scene.calls(n, Api::CheckSession), 0);
    }))
    .await;
    scene.end().await;
}

/// Its data with another byte before the end.
fn corrupted(event: &Value) -> String {
    let text = event["encryptedData"].as_str().unwrap();
    let at = text.len() - 30;
    let wrong = if &text[at..=at] == "A" { "B" } else { "A" };
    format!("{}{wrong}{}", &text[..at], &text[at + 1..])
}

/// Somebody's data is corrupt and comes with the newest key, which WeChat has to say.
pub async fn corrupt(scene: &Scene, n: usize) -> (u64, String) {
    let person = scene.person();
    let session = scene.begin(n, person, HIDDEN);
    let mut event = data(scene, n, person, &session);
    event["session_key"] = json!(scene.rig.sim.session_key(&session));
    event["encryptedData"] = json!(corrupted(&event));
    let id = scene.post(n, event).await;
    (person, id)
}

/// Somebody's data came with the key of the session before. Its own, whose code is still to come.
async fn early(scene: &Scene, n: usize) -> (u64, unilink::simulate::Session, String) {
    let person = scene.person();
    let older = scene.begin(n, person, HIDDEN);
    let newer = scene.begin(n, person, HIDDEN);
    let mut event = data(scene, n, person, &newer);
    event["session_key"] = json!(scene.rig.sim.session_key(&older));
    let id = scene.post(n, event).await;
    (person, newer, id)
}

pub async fn data_that_came_with_an_old_key_waits_and_corrupt_data_does_not() {
    let scene = minis(2).await;
    // The gateway sent the key of the session before.
    let (person, newer, id) = early(&scene, 0).await;
    scene.fate(&id, "deferred").await;
    scene.answered(0, Api::CheckSession, 87009).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let asked = scene.calls(0, Api::CheckSession);
    assert!(
        asked <= 2,
        "asked {asked} times: what waits does not wake itself"
    );
    scene.exchange(0, &newer).await;
    scene.linked(0, person, "decrypted").await;

    // The key is the newest: the data is what is wrong.
    let (person, _) = corrupt(&scene, 1).await;
    scene.unresolved(1, person, "decrypt_failed").await;
    assert!(scene.answers(1, Api::CheckSession, 0) >= 1);
    scene.end().await;
}

/// While WeChat does not say which of both it is, it is asked again.
pub async fn a_key_is_asked_about_again_when_wechat_is_busy_or_breaks() {
    let scene = minis(BUSY.len()).await;
    each(BUSY.iter().enumerate().map(async |(n, fault)| {
        scene.fault(n, Api::CheckSession, &[fault, "tries=2"]);
        let (person, _) = corrupt(&scene, n).await;
        scene.unresolved(n, person, "deferred").await;
        scene.unresolved(n, person, "decrypt_failed").await;
        assert_eq!(scene.calls(n, Api::CheckSession), 3, "{fault}");
        assert!(scene.alarms(n).is_empty(), "{:?}", scene.alarms(n));
    }))
    .await;
    scene.end().await;
}

/// The question waits, with one alarm, and holds nothing else up.
pub async fn keys_that_the_app_may_not_ask_about_wait_until_it_may() {
    let codes = [&CONFIGURATION[..], &OF_COMPONENTS].concat();
    let scene = minis(8).await;
    each((0..8).map(async |n| {
        for (round, errcode) in share(&codes, n, 8).into_iter().enumerate() {
            scene.refuse(n, Api::CheckSession, errcode);
            let begun = Instant::now();
            let (person, id) = corrupt(&scene, n).await;
            scene.fate(&id, "deferred").await;
            scene.alarmed(n, round + 1).await;
            let (late, newer, id) = early(&scene, n).await;
            scene.fate(&id, "deferred").await;
            let asked = scene.answers(n, Api::CheckSession, errcode);
            assert!(asked == 1 || !Scene::prompt(begun), "{asked}");
            if errcode != ACCOUNT_GONE {
                // What needs no word of WeChat's on a key goes on, and so does data whose key comes.
                let (other, _) = scene.login(n).await;
                scene.linked(n, other, "code2session").await;
                scene.exchange(n, &newer).await;
                scene.linked(n, late, "decrypted").await;
            }
            scene.mend(n, Api::CheckSession);
            scene.unresolved(n, person, "decrypt_failed").await;
            assert!(scene.answers(n, Api::CheckSession, 0) > 0);
            assert_eq!(scene.alarms(n).len(), round + 1, "{:?}", scene.alarms(n));
        }
    }))
    .await;
    scene.end().await;
}

/// The app's token is refused as with any other API that wants it.
pub async fn keys_are_asked_about_with_a_token_that_is_refreshed_once() {
    let scene = minis(3).await;
    let (person, _) = corrupt(&scene, 0).await;
    scene.unresolved(0, person, "decrypt_failed").await;
    let (calls, tokens) = (scene.calls(0, Api::CheckSession), scene.tokens(0));
    let family = Family::Stable;
    scene.rig.sim.revoke_tokens(scene.app(0), family).unwrap();
    let (person, _) = corrupt(&scene, 0).await;
    scene.unresolved(0, person, "decrypt_failed").await;
    assert_eq!(scene.tokens(0).1, tokens.1 + 1);
    assert!(scene.calls(0, Api::CheckSession) >= calls + 2, "repeated");
    each(
        [(0, 40001), (1, 40014), (2, 42001)].map(async |(n, errcode)| {
            scene.refuse(n, Api::CheckSession, errcode);
            let (person, id) = corrupt(&scene, n).await;
            scene.fate(&id, "deferred").await;
            scene.alarmed(n, 1).await;
            assert!(
                scene.alarms(n)[0].contains("token"),
                "{:?}",
                scene.alarms(n)
            );
            let (other, _) = scene.login(n).await;
            scene.linked(n, other, "code2session").await;
            scene.mend(n, Api::CheckSession);
            scene.unresolved(n, person, "decrypt_failed").await;
        }),
    )
    .await;
    scene.end().await;
}

pub async fn keys_of_which_wechat_does_not_tell_wait_for_another() {
    let apps = [Way::Secret, Way::Secret, Way::Component];
    let scene = Scene::of(&apps.map(|way| (MiniProgram, way)), Settings::default()).await;
    // An answer that nobody has documented is asked for five times; without a token nothing is asked.
    let [one, two] = UNKNOWN;
    each(
        [(0, Some(one)), (1, Some(two)), (2, None)].map(async |(n, errcode)| {
            if let Some(errcode) = errcode {
                scene.refuse(n, Api::CheckSession, errcode);
            }
            let (person, newer, id) = early(&scene, n).await;
            scene.fate(&id, "deferred").await;
            let asked = if errcode.is_some() { 5 } else { 0 };
            scene
                .until("not asked", || scene.calls(n, Api::CheckSession) == asked)
                .await;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            scene.exchange(n, &newer).await;
            scene.linked(n, person, "decrypted").await;
            assert_eq!(scene.calls(n, Api::CheckSession), asked);
        }),
    )
    .await;
    scene.end().await;
}

pub async fn a_malformed_question_about_a_key_is_a_dead_letter() {
    let scene = minis(MALFORMED.len()).await;
    each(MALFORMED.into_iter().enumerate().map(async |(n, errcode)| {
        scene.refuse(n, Api::CheckSession, errcode);
        let (_, id) = corrupt(&scene, n).await;
        scene.dead(&id, "refused").await;
        assert!(scene.alarms(n).is_empty());
    }))
    .await;
    scene.end().await;
}
