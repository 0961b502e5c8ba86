//! What a user's own token, a payment and a session key tell: `sns/userinfo`, `wxa/getpaidunionid`,
//! `wxa/checksession` (`docs/wechat.md` §3.3, §5, §8).

use crate::kit::{MiniProgram, MobileApp, OfficialAccount, Scene, Way, Website, each};
use serde_json::{Value, json};
use unilink::simulate::{Api, Grant, Manner, Settings};

const BUSY: [&str; 7] = [
    "busy=1",
    "http_500=1",
    "hang=1",
    "empty=1",
    "cut=1",
    "truncated=1",
    "html=1",
];

fn granted(scene: &Scene, grant: &Grant) -> Value {
    scene.hide(&grant.access_token);
    json!({"openid": grant.openid, "access_token": grant.access_token,
        "scope": grant.scope.word()})
}

/// The company's own back end has exchanged the code and passes the user's token on.
async fn with_token(scene: &Scene, n: usize) -> (u64, String) {
    let person = scene.person();
    let grant = scene.rig.sim.grant(&scene.session(n, person));
    let id = scene.post(n, granted(scene, &grant)).await;
    (person, id)
}

async fn pages() -> Scene {
    let apps = [Website, MobileApp, OfficialAccount].map(|kind| (kind, Way::Secret));
    Scene::of(&apps, Settings::default()).await
}

pub async fn users_tokens_tell_their_unionid() {
    let scene = pages().await;
    for n in 0..3 {
        let (person, _) = with_token(&scene, n).await;
        scene.linked(n, person, "sns_userinfo").await;
    }
    // Somebody else's token tells about somebody else.
    let person = scene.person();
    let mut other = granted(
        &scene,
        &scene.rig.sim.grant(&scene.session(0, scene.person())),
    );
    other["openid"] = json!(scene.openid(0, person));
    scene.post(0, other).await;
    scene.unresolved(0, person, "user_token_refused").await;
    // A snapshot's ids are virtual, whatever the token says.
    let manner = Manner {
        unionid: true,
        snapshot: true,
    };
    let grant = scene.rig.sim.grant(&scene.begin(2, person, manner));
    let mut event = granted(&scene, &grant);
    event["is_snapshotuser"] = json!(1);
    scene.hide(&grant.openid);
    scene.post(2, event).await;
    let found = scene
        .rig
        .account(&scene.id(2), &grant.openid, |_| true)
        .await;
    assert_eq!(found["reason"], "snapshot_user", "{found}");
    scene.end().await;
}

pub async fn a_users_token_that_is_refused_leaves_a_reason() {
    let scene = pages().await;
    let codes = [
        40001, 40014, 42001, 40030, 42002, 42007, 50001, 48001, 40003, 40035, 41009, 47001,
    ];
    each((0..2).map(async |n| {
        for errcode in codes {
            scene.refuse(n, Api::OauthUser, errcode);
            let calls = scene.calls(n, Api::OauthUser);
            let (person, _) = with_token(&scene, n).await;
            scene.unresolved(n, person, "user_token_refused").await;
            assert_eq!(scene.calls(n, Api::OauthUser), calls + 1, "{errcode}");
        }
        scene.mend(n, Api::OauthUser);
        let (person, _) = with_token(&scene, n).await;
        scene.linked(n, person, "sns_userinfo").await;
        assert!(scene.alarms(n).is_empty(), "{:?}", scene.alarms(n));
    }))
    .await;
    scene.end().await;
}

pub async fn profiles_are_asked_for_again_when_wechat_is_busy_or_breaks() {
    let scene = pages().await;
    for fault in BUSY {
        scene.fault(0, Api::OauthUser, &[fault, "tries=1"]);
        let (person, _) = with_token(&scene, 0).await;
        scene.linked(0, person, "sns_userinfo").await;
    }
    scene.refuse(0, Api::OauthUser, 99_999);
    let before = scene.calls(0, Api::OauthUser);
    let (person, _) = with_token(&scene, 0).await;
    scene.unresolved(0, person, "gave_up").await;
    assert_eq!(scene.calls(0, Api::OauthUser), before + 5);
    // A refusal that is not the user's parks the API, not the app.
    scene.refuse(1, Api::OauthUser, 48004);
    let (person, id) = with_token(&scene, 1).await;
    scene.fate(&id, "deferred").await;
    let (other, _) = scene.login(1).await;
    scene.linked(1, other, "oauth").await;
    scene.mend(1, Api::OauthUser);
    scene.linked(1, person, "sns_userinfo").await;
    assert_eq!(scene.alarms(1).len(), 1, "{:?}", scene.alarms(1));
    scene.end().await;
}

async fn minis(n: usize) -> Scene {
    Scene::of(&vec![(MiniProgram, Way::Secret); n], Settings::default()).await
}

/// The person pays; by the transaction, or by the merchant's order.
async fn paid(scene: &Scene, n: usize, by_order: bool) -> (u64, String) {
    let person = scene.person();
    let payment = scene.rig.sim.pay(scene.app(n), person).unwrap();
    let openid = scene.openid(n, person);
    scene.unionid(n, person);
    let event = if by_order {
        json!({"openid": openid, "mch_id": payment.mch_id, "out_trade_no": payment.out_trade_no})
    } else {
        json!({"openid": openid, "transaction_id": payment.transaction_id})
    };
    let id = scene.post(n, event).await;
    (person, id)
}

pub async fn payments_tell_a_unionid_for_five_minutes() {
    let scene = minis(1).await;
    for by_order in [false, true] {
        let (person, _) = paid(&scene, 0, by_order).await;
        scene.linked(0, person, "paid").await;
    }
    // Somebody else's payment, and one that is too old.
    let [person, other, late] = [scene.person(), scene.person(), scene.person()];
    let payment = scene.rig.sim.pay(scene.app(0), other).unwrap();
    let event =
        json!({"openid": scene.openid(0, person), "transaction_id": payment.transaction_id});
    scene.post(0, event).await;
    scene.unresolved(0, person, "payment_gone").await;
    let calls = scene.calls(0, Api::PaidUnionid);
    let at = crate::harness::now().plus(-360_000);
    let payment = scene.rig.sim.paid_at(scene.app(0), late, at).unwrap();
    let event = json!({"openid": scene.openid(0, late), "transaction_id": payment.transaction_id,
        "occurred_at": crate::harness::ago(6)});
    scene.post(0, event).await;
    scene.unresolved(0, late, "payment_gone").await;
    assert_eq!(
        scene.calls(0, Api::PaidUnionid),
        calls,
        "not asked for in vain"
    );
    scene.end().await;
}

pub async fn payments_that_wechat_does_not_tell_of_leave_a_reason() {
    let scene = minis(8).await;
    let unresolved = [
        (89300, "payment_gone", 0),
        (89002, "app_not_bound", 1),
        (99_999, "gave_up", 0),
    ];
    let all = unresolved.into_iter().enumerate();
    let reasons = all.map(async |(n, (errcode, reason, alarms))| {
        scene.refuse(n, Api::PaidUnionid, errcode);
        let (person, _) = paid(&scene, n, false).await;
        scene.unresolved(n, person, reason).await;
        assert_eq!(scene.alarms(n).len(), alarms, "{:?}", scene.alarms(n));
    });
    let poison = async {
        for errcode in [40003, 40032, 40035, 40097, 41009, 47001] {
            scene.refuse(3, Api::PaidUnionid, errcode);
            let (_, id) = paid(&scene, 3, false).await;
            scene.dead(&id, "refused").await;
        }
    };
    let busy = async {
        for fault in BUSY {
            scene.fault(4, Api::PaidUnionid, &[fault, "tries=1"]);
            let (person, _) = paid(&scene, 4, true).await;
            scene.linked(4, person, "paid").await;
        }
    };
    let parked = [(5, 48001), (6, 48004), (7, 40013)];
    let parked = parked.map(async |(n, errcode)| {
        scene.refuse(n, Api::PaidUnionid, errcode);
        let (person, id) = paid(&scene, n, false).await;
        scene.fate(&id, "deferred").await;
        let (other, _) = scene.login(n).await;
        scene.linked(n, other, "code2session").await;
        scene.mend(n, Api::PaidUnionid);
        scene.linked(n, person, "paid").await;
        assert_eq!(scene.alarms(n).len(), 1, "{:?}", scene.alarms(n));
    });
    tokio::join!(each(reasons), poison, busy, each(parked));
    scene.end().await;
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

pub async fn data_that_came_with_an_old_key_waits_and_corrupt_data_does_not() {
    let scene = minis(3).await;
    // The gateway sent the key of the session before.
    let person = scene.person();
    let older = scene.begin(0, person, HIDDEN);
    let newer = scene.begin(0, person, HIDDEN);
    let mut event = data(&scene, 0, person, &newer);
    event["session_key"] = json!(scene.rig.sim.session_key(&older));
    let id = scene.post(0, event).await;
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
    let person = scene.person();
    let session = scene.begin(1, person, HIDDEN);
    let mut event = data(&scene, 1, person, &session);
    event["session_key"] = json!(scene.rig.sim.session_key(&session));
    event["encryptedData"] = json!(corrupted(&event));
    scene.post(1, event).await;
    scene.unresolved(1, person, "decrypt_failed").await;
    assert!(scene.answers(1, Api::CheckSession, 0) >= 1);

    // While WeChat does not say which of both it is, it is asked again.
    let person = scene.person();
    scene.fault(2, Api::CheckSession, &["http_500=1", "tries=2"]);
    let session = scene.begin(2, person, HIDDEN);
    let mut event = data(&scene, 2, person, &session);
    event["session_key"] = json!(scene.rig.sim.session_key(&session));
    event["encryptedData"] = json!(corrupted(&event));
    scene.post(2, event).await;
    scene.unresolved(2, person, "deferred").await;
    scene.unresolved(2, person, "decrypt_failed").await;
    assert!(scene.answers(2, Api::CheckSession, 0) >= 1);
    scene.end().await;
}
