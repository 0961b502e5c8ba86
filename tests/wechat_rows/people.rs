//! What a user's own token and a payment tell: `sns/userinfo`, `wxa/getpaidunionid` (`docs/wechat.md`
//! §5, §8).

use crate::kit::{
    ACCOUNT_GONE, BUSY, CONFIGURATION, MALFORMED, MiniProgram, MobileApp, OF_COMPONENTS,
    OfficialAccount, Scene, UNKNOWN, Way, Website, each, share,
};
use serde_json::{Value, json};
use unilink::simulate::{Api, Grant, Manner, Settings};

fn granted(scene: &Scene, grant: &Grant) -> Value {
    scene.hide(&grant.access_token);
    json!({"openid": grant.openid, "access_token": grant.access_token,
        "scope": grant.scope.word()})
}

/// The company's own back end has exchanged the code and passes the user's token on.
pub async fn with_token(scene: &Scene, n: usize) -> (u64, String) {
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
    let own = [40001, 40014, 42001, 40030, 42002, 42007, 50001, 48001];
    let codes = [&own[..], &MALFORMED].concat();
    each((0..2).map(async |n| {
        for errcode in codes.iter().copied() {
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
    let scene = Scene::of(&[(Website, Way::Secret); 8], Settings::default()).await;
    let busy = BUSY.iter().enumerate().map(async |(n, fault)| {
        scene.fault(n, Api::OauthUser, &[fault, "tries=1"]);
        let (person, _) = with_token(&scene, n).await;
        scene.linked(n, person, "sns_userinfo").await;
        assert_eq!(scene.calls(n, Api::OauthUser), 2, "{fault}");
    });
    let unknown = async {
        for (round, errcode) in (1..).zip(UNKNOWN) {
            scene.refuse(7, Api::OauthUser, errcode);
            let (person, _) = with_token(&scene, 7).await;
            scene.unresolved(7, person, "gave_up").await;
            assert_eq!(scene.calls(7, Api::OauthUser), 5 * round);
        }
    };
    tokio::join!(each(busy), unknown);
    scene.end().await;
}

/// What is refused waits, with one alarm, while codes are exchanged, and goes on.
pub async fn profiles_that_the_app_is_refused_wait_until_it_is_not() {
    let codes = CONFIGURATION.into_iter().filter(|code| *code != 48001);
    let codes: Vec<i32> = codes.collect();
    let scene = Scene::of(&[(Website, Way::Secret); 8], Settings::default()).await;
    each((0..8).map(async |n| {
        for (round, errcode) in share(&codes, n, 8).into_iter().enumerate() {
            scene.refuse(n, Api::OauthUser, errcode);
            let (person, id) = with_token(&scene, n).await;
            scene.fate(&id, "deferred").await;
            scene.alarmed(n, round + 1).await;
            if errcode != ACCOUNT_GONE {
                let (other, _) = scene.login(n).await;
                scene.linked(n, other, "oauth").await;
            }
            scene.mend(n, Api::OauthUser);
            scene.linked(n, person, "sns_userinfo").await;
            assert_eq!(scene.alarms(n).len(), round + 1, "{:?}", scene.alarms(n));
        }
    }))
    .await;
    scene.end().await;
}

async fn minis(n: usize) -> Scene {
    Scene::of(&vec![(MiniProgram, Way::Secret); n], Settings::default()).await
}

/// The person pays; by the transaction, or by the merchant's order.
pub async fn paid(scene: &Scene, n: usize, by_order: bool) -> (u64, String) {
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
    let scene = minis(5).await;
    let unresolved = [
        (0, 89300, "payment_gone", 1),
        (1, UNKNOWN[0], "gave_up", 5),
        (2, UNKNOWN[1], "gave_up", 5),
    ];
    let reasons = unresolved.map(async |(n, errcode, reason, calls)| {
        scene.refuse(n, Api::PaidUnionid, errcode);
        let (person, _) = paid(&scene, n, false).await;
        scene.unresolved(n, person, reason).await;
        assert_eq!(scene.calls(n, Api::PaidUnionid), calls);
    });
    let poison = async {
        for errcode in MALFORMED {
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
    tokio::join!(each(reasons), poison, busy);
    for n in 0..5 {
        assert!(scene.alarms(n).is_empty(), "{:?}", scene.alarms(n));
    }
    scene.end().await;
}

/// As with profiles.
pub async fn payments_that_the_app_is_refused_wait_until_it_is_not() {
    let codes = [&CONFIGURATION[..], &OF_COMPONENTS].concat();
    let scene = minis(8).await;
    each((0..8).map(async |n| {
        for (round, errcode) in share(&codes, n, 8).into_iter().enumerate() {
            scene.refuse(n, Api::PaidUnionid, errcode);
            let (person, id) = paid(&scene, n, false).await;
            scene.fate(&id, "deferred").await;
            scene.alarmed(n, round + 1).await;
            if errcode != ACCOUNT_GONE {
                let (other, _) = scene.login(n).await;
                scene.linked(n, other, "code2session").await;
            }
            scene.mend(n, Api::PaidUnionid);
            scene.linked(n, person, "paid").await;
            assert_eq!(scene.alarms(n).len(), round + 1, "{:?}", scene.alarms(n));
        }
    }))
    .await;
    scene.end().await;
}
