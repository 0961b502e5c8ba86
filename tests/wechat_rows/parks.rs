//! Refusals that concern an app, not a login: it is parked, an operator is called once, others go on,
//! and what waited goes on by itself once WeChat takes the app again (`docs/wechat.md` §2).

use crate::kit::{
    COMPONENT_TOKEN, CONFIGURATION, MiniProgram, MobileApp, OF_COMPONENTS, OfficialAccount, Scene,
    Way, Website, each, share,
};
use std::time::Duration;
use unilink::model::AppKind;
use unilink::simulate::{Api, Settings};

const OWN: [(AppKind, Way, Api); 7] = [
    (MiniProgram, Way::Secret, Api::Code2Session),
    (MiniProgram, Way::Secret, Api::Code2Session),
    (MiniProgram, Way::Secret, Api::Code2Session),
    (OfficialAccount, Way::Secret, Api::Oauth),
    (OfficialAccount, Way::Secret, Api::Oauth),
    (Website, Way::Secret, Api::Oauth),
    (MobileApp, Way::Secret, Api::Oauth),
];
fn method(kind: AppKind) -> &'static str {
    if kind == MiniProgram {
        "code2session"
    } else {
        "oauth"
    }
}

/// The app is refused with each of the codes in turn, and mended.
async fn refused_in_turn(scene: &Scene, n: usize, kind: AppKind, api: Api, codes: &[i32]) {
    for (round, errcode) in codes.iter().enumerate() {
        scene.refuse(n, api, *errcode);
        let (first, id) = scene.login(n).await;
        scene.answered(n, api, *errcode).await;
        scene.fate(&id, "deferred").await;
        scene.alarmed(n, round + 1).await;
        let (second, id) = scene.login(n).await;
        scene.fate(&id, "deferred").await;
        let calls = scene.answers(n, api, *errcode);
        assert_eq!(calls, 1, "{errcode}: nothing is sent while it is parked");
        let alarms = scene.alarms(n);
        assert_eq!(alarms.len(), round + 1, "{alarms:?}");
        let told = format!("errcode={errcode} ");
        assert!(alarms[round].contains(&told), "{}", alarms[round]);
        let address = alarms[round].contains("the address is 127.0.0.1");
        assert_eq!(address, *errcode == 40164, "{}", alarms[round]);
        scene.mend(n, api);
        for person in [first, second] {
            scene.linked(n, person, method(kind)).await;
        }
        assert_eq!(scene.alarms(n).len(), round + 1);
    }
}

pub async fn an_app_that_is_refused_is_parked_told_once_and_goes_on_by_itself() {
    let mut apps = OWN.map(|(kind, way, _)| (kind, way)).to_vec();
    apps.push((MiniProgram, Way::Secret));
    let scene = Scene::of(&apps, Settings::default()).await;
    // A refused credential is the AppSecret here.
    let codes = [&CONFIGURATION[..], &[40001, 40014, 42001]].concat();
    let share = codes.len().div_ceil(OWN.len());
    let refused = OWN.into_iter().zip(codes.chunks(share)).enumerate();
    let refused = refused.map(async |(n, ((kind, _, api), codes))| {
        refused_in_turn(&scene, n, kind, api, codes).await;
    });
    let others = async {
        for n in 0..20 {
            let (person, _) = scene.login(7).await;
            scene.linked(7, person, "code2session").await;
            let calls = scene.calls(7, Api::Code2Session);
            assert_eq!(calls, n + 1, "at the first try");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::join!(each(refused), others);
    assert!(scene.alarms(7).is_empty());
    scene.end().await;
}

pub async fn a_refused_component_is_parked_told_once_and_goes_on_by_itself() {
    let codes = [&CONFIGURATION[..], &OF_COMPONENTS, &[40001, 40014, 42001]].concat();
    let apps = [MiniProgram, OfficialAccount].repeat(4);
    let apps: Vec<_> = apps.into_iter().map(|k| (k, Way::Component)).collect();
    let scene = Scene::of(&apps, Settings::default()).await;
    let refused = apps.iter().enumerate().map(async |(n, (kind, _))| {
        let api = if *kind == MiniProgram {
            Api::ComponentCode2Session
        } else {
            Api::ComponentOauth
        };
        refused_in_turn(&scene, n, *kind, api, &share(&codes, n, apps.len())).await;
    });
    each(refused).await;
    scene.end().await;
}

pub async fn a_components_token_is_read_from_its_file_again() {
    let apps = [
        (MiniProgram, Way::Component),
        (OfficialAccount, Way::Component),
    ];
    let scene = Scene::of(&apps, Settings::default()).await;
    std::fs::remove_file(scene.rig.dir.path().join(crate::kit::COMPONENT_FILE)).unwrap();
    let (mini, one) = scene.login(0).await;
    let (official, two) = scene.login(1).await;
    for (n, id) in [one, two].iter().enumerate() {
        scene.fate(id, "deferred").await;
        let alarms = scene.alarms(n);
        assert!(
            alarms.len() == 1 && alarms[0].contains("cannot be read"),
            "{alarms:?}"
        );
    }
    scene.component("61_an-old-token-of-the-component");
    scene.answered(0, Api::ComponentCode2Session, 40001).await;
    scene.answered(1, Api::ComponentOauth, 40001).await;
    scene.component(COMPONENT_TOKEN);
    scene.linked(0, mini, "code2session").await;
    scene.linked(1, official, "oauth").await;
    scene.end().await;
}

pub async fn one_request_tries_whether_a_refusal_is_over() {
    let scene = Scene::of(&[(MiniProgram, Way::Secret)], Settings::default()).await;
    let api = Api::Code2Session;
    scene.fault(0, api, &["errcode=40125", "refused=1", "latency=400"]);
    let mut people = vec![scene.login(0).await.0];
    scene.alarmed(0, 1).await;
    assert_eq!(scene.calls(0, api), 1);
    for _ in 0..12 {
        let (person, id) = scene.login(0).await;
        scene.fate(&id, "deferred").await;
        people.push(person);
    }
    let again = || scene.answers(0, api, 40125) >= 2;
    scene.until("nothing is tried again", again).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(scene.calls(0, api), 2, "one at a time, then a longer pause");
    assert_eq!(scene.alarms(0).len(), 1, "the same is not told twice");
    scene.mend(0, api);
    for person in people {
        scene.linked(0, person, "code2session").await;
    }
    scene.end().await;
}
