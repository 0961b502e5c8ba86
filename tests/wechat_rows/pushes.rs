//! Messages that WeChat pushes, to the real intake, and what the worker makes of them (`docs/wechat.md` §11).

use crate::harness::{DEAD, LOGINS, json, topic};
use crate::kit::{MiniProgram, OfficialAccount, Scene, Way};
use crate::pusher::{AES_KEY, Pusher, TOKEN, authorization, encrypt, seconds, xml};
use std::collections::BTreeSet;
use unilink::simulate::Settings;
use unilink::simulate::push::{Channel, Delivery, Message, Mode, Names, News, Sender};

/// The apps of [`company`]: official accounts in each mode, mini programs, and one that pushes nothing.
const PLAIN: usize = 0;
const COMPATIBLE: usize = 1;
const SEALED: usize = 2;
const MINI: usize = 3;
const PLAIN_MINI: usize = 4;
const QUIET: usize = 5;
const MODES: [Mode; 5] = [
    Mode::Plain,
    Mode::Compatible,
    Mode::Encrypted,
    Mode::Encrypted,
    Mode::Plain,
];

async fn company() -> Scene {
    let kinds = [
        OfficialAccount,
        OfficialAccount,
        OfficialAccount,
        MiniProgram,
        MiniProgram,
        MiniProgram,
    ];
    let apps = kinds.map(|kind| (kind, Way::Secret));
    let mut scene = Scene::asleep(&apps, Settings::default()).await;
    let token = format!("push.token = \"{TOKEN}\"\n");
    let sealed = format!("{token}push.encoding_aes_key = \"{AES_KEY}\"\n");
    scene.add_to_app(PLAIN, &token);
    let own = "push.mode = \"compatible\"\npush.erase_on = [\"unsubscribe\"]\n";
    scene.add_to_app(COMPATIBLE, &format!("{sealed}{own}"));
    scene.add_to_app(SEALED, &sealed);
    scene.add_to_app(MINI, &sealed);
    scene.add_to_app(PLAIN_MINI, &token);
    scene.hide(AES_KEY);
    scene.rig.start().await;
    scene
}

fn url(scene: &Scene, n: usize) -> String {
    let path = format!("/wechat/push/{}", scene.id(n));
    scene.rig.intake_url(&path)
}

fn channel(n: usize) -> Channel {
    Channel {
        token: TOKEN.to_owned(),
        aes_key: Some(AES_KEY.to_owned()),
        mode: MODES[n],
        ..Channel::default()
    }
}

async fn deliver(scene: &Scene, n: usize, message: &Message) -> Delivery {
    let sender = Sender::new().unwrap();
    let url = url(scene, n);
    scene.rig.sim.deliver(&sender, &url, message).await
}

/// It happens, and WeChat tells it, which is taken at the first try.
async fn told(scene: &Scene, n: usize, person: u64, news: &News, channel: &Channel) -> Message {
    scene.openid(n, person);
    scene.unionid(n, person);
    let message = scene.rig.sim.push(scene.app(n), person, news, channel);
    let message = message.unwrap();
    taken(&deliver(scene, n, &message).await);
    message
}

fn taken(delivery: &Delivery) {
    let told = (
        delivery.taken,
        delivery.tries.len(),
        delivery.reply.as_str(),
    );
    assert_eq!(told, (true, 1, "success"));
}

/// How many pushes of the app were counted as this.
async fn counted(scene: &Scene, n: usize, kind: &str) -> u64 {
    let answer = scene.rig.http.get(scene.rig.intake_url("/metrics")).send();
    let text = answer.await.unwrap().text().await.unwrap();
    let name = format!(
        "unilink_intake_pushes_total{{app=\"{}\",kind=\"{kind}\"}} ",
        scene.id(n)
    );
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Ids of the events that the worker was given, of this source.
async fn events(scene: &Scene) -> Vec<String> {
    let parts = scene.rig.parts().await;
    let records = topic(&parts, LOGINS).await;
    let id = |record| json(record)["id"].as_str().unwrap().to_owned();
    let ids = records.iter().map(id);
    ids.filter(|id| id.starts_with("push-")).collect()
}

pub async fn the_console_may_check_the_url_of_an_app_that_pushes() {
    let scene = company().await;
    let sender = Sender::new().unwrap();
    let now = crate::harness::now();
    for n in [PLAIN, COMPATIBLE, SEALED, MINI] {
        let check = sender.check(&url(&scene, n), &channel(n), now, 5).await;
        assert!(check.passed, "{check:?}");
        let other = Channel {
            token: "another".to_owned(),
            ..channel(n)
        };
        for (channel, at) in [(&other, now), (&channel(n), now.plus(-360_000))] {
            let check = sender.check(&url(&scene, n), channel, at, 5).await;
            assert_eq!((check.passed, check.attempt.status), (false, Some(403)));
        }
        assert_eq!(counted(&scene, n, "url_check").await, 1);
        assert_eq!(counted(&scene, n, "refused").await, 2);
    }
    let check = sender
        .check(&url(&scene, QUIET), &channel(PLAIN), now, 5)
        .await;
    assert_eq!((check.passed, check.attempt.status), (false, Some(404)));
    scene.end().await;
}

pub async fn following_and_scanning_are_logins_and_are_asked_about() {
    let scene = company().await;
    for n in [PLAIN, COMPATIBLE, SEALED] {
        let [new, old] = [scene.person(), scene.follower(n)];
        let code = Some("42".to_owned());
        let subscribe = News::Subscribe { scene: code };
        let message = told(&scene, n, new, &subscribe, &channel(n)).await;
        // WeChat tells nothing of a unionid; the worker asks about the follower.
        scene.linked(n, new, "user_info").await;
        let scan = News::Scan {
            scene: "7".to_owned(),
        };
        told(&scene, n, old, &scan, &channel(n)).await;
        scene.linked(n, old, "user_info").await;
        // Delivered once more, since the answer was lost on its way.
        taken(&deliver(&scene, n, &message).await);
        let all = events(&scene).await;
        let different: BTreeSet<&String> = all.iter().collect();
        assert_eq!((all.len(), different.len()), (3 * (n + 1), 2 * (n + 1)));
        assert_eq!(counted(&scene, n, "subscribe").await, 2);
        assert_eq!(counted(&scene, n, "scan").await, 1);
    }
    scene.end().await;
}

/// Somebody who is linked: a follower, or a user of the mini program.
async fn linked(scene: &Scene, n: usize) -> u64 {
    if n < MINI {
        let person = scene.follower(n);
        scene.seen(n, person).await;
        scene.linked(n, person, "user_info").await;
        return person;
    }
    let (person, _) = scene.login(n).await;
    scene.linked(n, person, "code2session").await;
    person
}

/// The end of this second, up to which an erasure reaches.
async fn next_second() {
    let left = 1_000 - crate::harness::now().0.rem_euclid(1_000);
    let left = std::time::Duration::from_millis(left.unsigned_abs() + 20);
    tokio::time::sleep(left).await;
}

pub async fn who_gives_an_account_up_is_erased_where_the_app_says_so() {
    let scene = company().await;
    let cancelled = News::UserAuthorizationCancellation;
    let revoked = News::UserAuthorizationRevoke {
        info: "205".to_owned(),
    };
    let named = |names, n| Channel {
        names,
        unionid: names != Names::Documented,
        ..channel(n)
    };
    // Whatever the fields are called; JSON alone may have spaces in names.
    for (n, names, news) in [
        (PLAIN, Names::Documented, &cancelled),
        (SEALED, Names::Lower, &revoked),
        (MINI, Names::Spaced, &cancelled),
        (MINI, Names::Documented, &revoked),
        (PLAIN_MINI, Names::Lower, &cancelled),
    ] {
        let person = linked(&scene, n).await;
        next_second().await;
        told(&scene, n, person, news, &named(names, n)).await;
        scene.gone(n, person).await;
    }
    // Whoever comes back later begins anew.
    let (person, _) = scene.login(MINI).await;
    scene.linked(MINI, person, "code2session").await;
    next_second().await;
    told(&scene, MINI, person, &cancelled, &channel(MINI)).await;
    scene.gone(MINI, person).await;
    next_second().await;
    scene.exchange(MINI, &scene.session(MINI, person)).await;
    scene.linked(MINI, person, "code2session").await;

    // One account erases on unsubscribing, and on that alone; the others not on that.
    let unsubscribed = News::Unsubscribe;
    let leaves = linked(&scene, COMPATIBLE).await;
    next_second().await;
    told(
        &scene,
        COMPATIBLE,
        leaves,
        &unsubscribed,
        &channel(COMPATIBLE),
    )
    .await;
    scene.gone(COMPATIBLE, leaves).await;
    let mut stay = Vec::new();
    for (n, news) in [
        (COMPATIBLE, &cancelled),
        (COMPATIBLE, &revoked),
        (PLAIN, &unsubscribed),
        (SEALED, &unsubscribed),
    ] {
        let person = linked(&scene, n).await;
        told(&scene, n, person, news, &channel(n)).await;
        stay.push((n, person));
    }
    // WeChat may not say whom it means: then nobody is erased, and somebody should know.
    let person = linked(&scene, SEALED).await;
    for news in [&cancelled, &revoked] {
        told(
            &scene,
            SEALED,
            person,
            news,
            &named(Names::NoOpenid, SEALED),
        )
        .await;
    }
    stay.push((SEALED, person));
    let lines = scene.lines(" WARN ", SEALED);
    let silent = lines.iter().filter(|l| l.contains("names no OpenID"));
    assert_eq!(silent.count(), 2, "{lines:?}");
    assert_eq!(counted(&scene, SEALED, "without_openid").await, 2);
    assert_eq!(counted(&scene, SEALED, "revoke").await, 1);
    assert_eq!(counted(&scene, MINI, "cancellation").await, 2);
    assert_eq!(counted(&scene, COMPATIBLE, "unsubscribe").await, 1);
    scene.rig.settled().await;
    for (n, person) in stay {
        let path = format!("/v1/accounts/{}/{}", scene.id(n), scene.openid(n, person));
        assert_eq!(scene.rig.get(&path).await.0, 200, "app {n}");
    }
    scene.end().await;
}

fn pusher(scene: &Scene, n: usize) -> Pusher {
    let id: &'static str = Box::leak(scene.id(n).into_boxed_str());
    Pusher::new(&scene.rig.intake_url(""), id)
}

pub async fn other_messages_are_answered_and_change_nothing() {
    let scene = company().await;
    let person = linked(&scene, SEALED).await;
    let openid = scene.openid(SEALED, person);
    let modified = News::UserInfoModified {
        info: "205".to_owned(),
    };
    told(&scene, SEALED, person, &modified, &channel(SEALED)).await;
    let wechat = pusher(&scene, SEALED);
    let text = format!(
        "<xml><FromUserName>{openid}</FromUserName><MsgType>text</MsgType><Content>hello</Content></xml>"
    );
    for message in [xml("CLICK", &openid, seconds()), text] {
        let answer = wechat.sealed(&message).await;
        assert_eq!(answer, (200, "success".to_owned()));
    }
    assert_eq!(counted(&scene, SEALED, "other_event").await, 2);
    assert_eq!(counted(&scene, SEALED, "message").await, 1);
    assert!(events(&scene).await.is_empty());
    scene.linked(SEALED, person, "user_info").await;
    scene.end().await;
}

pub async fn pushes_that_wechat_did_not_send_so_are_refused() {
    let scene = company().await;
    let person = scene.person();
    let openid = scene.openid(SEALED, person);
    let followed_at = seconds();
    let followed = xml("subscribe", &openid, followed_at);
    let wechat = pusher(&scene, SEALED);
    let body = |sealed: &str| format!("<xml><Encrypt>{sealed}</Encrypt></xml>");
    let own = encrypt(&followed, wechat.app);
    let elsewhere = encrypt(&followed, "wxother");
    let with = |from: &str, to: &str| followed.replace(from, to);
    let mut answers = Vec::new();

    // Another token; a body other than the one that was signed; a plain one where there is a key.
    let forger = Pusher {
        token: "another",
        ..pusher(&scene, SEALED)
    };
    answers.push((403, forger.sealed(&followed).await));
    answers.push((403, wechat.send(&elsewhere, body(&own), seconds()).await));
    answers.push((403, wechat.plain(&followed).await));
    let forger = Pusher {
        token: "another",
        ..pusher(&scene, PLAIN)
    };
    answers.push((403, forger.plain(&followed).await));
    // Recorded, or of a clock that is wrong: by more than five minutes still when it is looked at.
    for skew in [-301, 360] {
        let at = seconds() + skew;
        answers.push((403, wechat.sealed_at(&followed, at).await));
    }
    // Of another app, inside the seal or by name.
    let at = seconds();
    answers.push((400, wechat.send(&elsewhere, body(&elsewhere), at).await));
    let other = authorization("user_authorization_cancellation", "wxother", &openid, at);
    answers.push((400, wechat.sealed(&other).await));
    // In another mode than the app's.
    let sealed = pusher(&scene, PLAIN).plain(&body(&own)).await;
    answers.push((400, sealed));
    let both = format!("{}<Encrypt>{own}</Encrypt></xml>", with("</xml>", ""));
    answers.push((400, wechat.send(&own, both, at).await));
    // Signed, and not to be read.
    answers.push((400, wechat.send("AAAA", body("AAAA"), at).await));
    answers.push((400, wechat.sealed("<xml><MsgType>event").await));
    answers.push((400, wechat.sealed("<!DOCTYPE xml><xml></xml>").await));
    // An event that matters, and lacks its time or its person.
    let time = with(&format!("<CreateTime>{followed_at}"), "<CreateTime>soon");
    assert_ne!(time, followed);
    answers.push((400, wechat.sealed(&time).await));
    answers.push((400, wechat.sealed(&with(&openid, "undefined")).await));
    answers.push((
        422,
        wechat
            .sealed(&xml("subscribe", &openid, at - 40 * 86_400))
            .await,
    ));
    let large = format!("<xml>{}</xml>", " ".repeat(150 << 10));
    answers.push((413, wechat.send("AAAA", large, at).await));
    let refused = answers.len() as u64;
    // Apps that push nothing, and one that nobody knows.
    answers.push((404, pusher(&scene, QUIET).sealed(&followed).await));
    let nobody = Pusher::new(&scene.rig.intake_url(""), "wxnone");
    answers.push((404, nobody.plain(&followed).await));

    for (n, (want, (status, text))) in answers.into_iter().enumerate() {
        assert_eq!(status, want, "answer {n}: {text}");
        assert!(!text.contains(&openid), "answer {n}: {text}");
    }
    let all = counted(&scene, SEALED, "refused").await + counted(&scene, PLAIN, "refused").await;
    assert_eq!(all, refused);
    let parts = scene.rig.parts().await;
    assert!(topic(&parts, LOGINS).await.is_empty());
    assert!(topic(&parts, DEAD).await.is_empty());
    scene.gone(SEALED, person).await;
    scene.end().await;
}
