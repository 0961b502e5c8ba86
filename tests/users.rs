//! Operators look at users and contested claims and decide about them, with the real binary, on the
//! embedded profile and on a real Kafka and PostgreSQL; a reader of the topics sees what became of it,
//! and a replay from the beginning changes none of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

#[path = "users/erasures.rs"]
mod erasures;
mod fleet;
mod harness;
mod services;
#[path = "rebuild/site.rs"]
mod site;

use fleet::{Process, texts};
use harness::{ago, json};
use serde_json::{Value, json};
use site::{Site, key, links, records};
use std::collections::{BTreeMap, BTreeSet};
use unilink::model::{Account, Millis};
use uuid::Uuid;

/// An installation at work, and an operator beside it.
struct Desk {
    site: Site,
    process: Option<Process>,
    /// The platform of the first five apps.
    platform: String,
}

impl Desk {
    async fn new(services: Option<(&str, &str)>) -> Self {
        let site = Site::new(services).await;
        let platform = site.platform();
        let mut desk = Self {
            site,
            process: None,
            platform,
        };
        desk.serve().await;
        desk
    }

    async fn serve(&mut self) {
        self.process = Some(self.site.serve().await);
    }

    /// Everything is applied and published, and nobody works.
    async fn stop(&mut self) {
        let process = self.process.take().unwrap();
        self.site.settled(process).await;
    }

    /// `appid:openid` in the app of this number.
    fn account(&self, app: usize, openid: &str) -> String {
        format!("{}:{openid}", self.site.sim.world().sim_apps()[app].id)
    }

    /// A login, that many minutes ago. Its id must not hold an openid, but for the short ones of tests.
    fn login(&self, app: usize, openid: &str, unionid: &str, minutes: i64) -> Value {
        let who = &openid[..openid.len().min(12)];
        json!({"id": format!("{app}-{who}-{minutes}"), "occurred_at": ago(minutes),
            "appid": self.site.sim.world().sim_apps()[app].id.as_str(), "openid": openid,
            "unionid": unionid})
    }

    async fn seen(&self, logins: &[Value]) {
        self.site.accepted(logins).await;
        self.site.quiet(self.process.as_ref().unwrap()).await;
    }

    /// A command to its end: its status, and what it said on stdout and on stderr.
    async fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.site.fleet.run(args).await;
        let (out, err) = texts(&output);
        (output.status.code().unwrap(), out, err)
    }

    /// A command that must do it; what it printed.
    async fn done(&self, args: &[&str]) -> String {
        self.site.fleet.done(args).await
    }

    /// The user of each account, as the newest records of `account-links` have it.
    async fn told(&self) -> BTreeMap<String, Value> {
        let process = self.process.as_ref();
        if let Some(process) = process {
            self.site.quiet(process).await;
        }
        let parts = self.site.parts().await;
        let mut newest = BTreeMap::new();
        for record in links(&parts).await {
            match &record.value {
                Some(_) => newest.insert(key(&record), json(&record)),
                None => newest.remove(&key(&record)),
            };
        }
        newest
    }

    /// Accounts that a reader of the topics takes for one user.
    async fn users(&self) -> BTreeSet<BTreeSet<String>> {
        let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (account, told) in self.told().await {
            let user = told["user_id"].as_str().unwrap().to_owned();
            users.entry(user).or_default().insert(account);
        }
        users.into_values().collect()
    }

    async fn one_user(&self, accounts: &[&String]) -> bool {
        let accounts: BTreeSet<String> = accounts.iter().map(|a| (*a).clone()).collect();
        self.users().await.contains(&accounts)
    }

    /// Everything is read once more from the beginning.
    async fn replayed(&mut self) {
        self.site.replayed().await;
        self.serve().await;
        self.site.caught_up(self.process.as_ref().unwrap()).await;
    }

    /// What a replay of everything from the beginning would change.
    async fn replay_changes_nothing(&mut self) {
        self.stop().await;
        let before = (self.site.state().await, self.counted().await);
        self.replayed().await;
        self.stop().await;
        assert_eq!(self.site.state().await, before.0);
        assert_eq!(self.counted().await, before.1, "a replay published again");
        self.serve().await;
    }

    /// Records of each topic but the logins.
    async fn counted(&self) -> Vec<usize> {
        let parts = self.site.parts().await;
        let topics = &parts.config.topics;
        let mut counts = Vec::new();
        for topic in [
            &topics.account_links,
            &topics.user_merges,
            &topics.registers,
            &topics.link_conflicts,
            &topics.dlq,
        ] {
            counts.push(records(&parts, topic).await.len());
        }
        assert_eq!(counts[4], 0, "dead letters");
        counts
    }
}

fn set(accounts: &[&String]) -> BTreeSet<String> {
    accounts.iter().map(|a| (*a).clone()).collect()
}

async fn decisions_hold(mut desk: Desk) {
    let p = desk.platform.clone();
    let [a, b, c, d, e] = [
        desk.account(0, "oAnnA"),
        desk.account(1, "oAnnB"),
        desk.account(2, "oCarlC"),
        desk.account(3, "oCarlD"),
        desk.account(4, "oCarlE"),
    ];
    desk.seen(&[
        desk.login(0, "oAnnA", "uAnn", 50),
        desk.login(1, "oAnnB", "uAnn", 40),
        desk.login(2, "oCarlC", "uAnn", 30),
        desk.login(3, "oCarlD", "uCarl", 20),
        desk.login(4, "oCarlE", "uCarl", 10),
        desk.login(2, "oCarlC", "uCarl", 5),
        desk.login(6, "oElsewhere", "uAnn", 5),
    ])
    .await;
    assert!(desk.one_user(&[&a, &b, &c]).await);

    looked_at(&desk, [&a, &b, &c]).await;

    // A device was lent: the claim on uAnn is wrong, the other one contested for its sake.
    let split = ["user", "split", &a, "--accounts", &c];
    let with = |more: &[&'static str]| [&split[..], more].concat();
    let told = desk.done(&with(&["--dry-run"])).await;
    assert!(told.contains(&format!("  {c} {p} uAnn\n")), "{told}");
    assert!(told.contains("JOINED: 2 users"), "{told}");
    assert!(desk.one_user(&[&a, &b, &c]).await, "a dry run does nothing");
    let (status, _, err) = desk.run(&with(&["--yes", "--note", "lent"])).await;
    assert_eq!(status, 2, "{err}");
    assert!(err.contains("--allow-links"), "{err}");
    let agreed = with(&["--allow-links", "--note", "lent"]);
    let (status, out, err) = desk.run(&agreed).await;
    assert_eq!(status, 2, "asked nobody: {out}{err}");
    assert!(err.contains("--yes") && !err.contains("oCarlC"), "{err}");
    assert!(desk.one_user(&[&a, &b, &c]).await, "nobody agreed");
    let told = desk.done(&[&agreed[..], &["--yes"]].concat()).await;
    assert!(told.contains("Done."), "{told}");
    assert!(desk.one_user(&[&a, &b]).await);
    assert!(desk.one_user(&[&c, &d, &e]).await);
    let newest = desk.told().await;
    assert_eq!(newest[&c]["unionid"], "uCarl");
    audited(&desk, "user split", &[("rejections", 1), ("shown", 1)]).await;

    // The rejection stands, whatever the next login says, and whatever is read again.
    desk.seen(&[desk.login(2, "oCarlC", "uAnn", 0)]).await;
    assert!(desk.one_user(&[&a, &b]).await);
    never_merged(&desk, [&a, &b]).await;
    verdicts(&desk).await;
    let users = desk.users().await;
    desk.replay_changes_nothing().await;
    assert_eq!(desk.users().await, users);
    for parted in [set(&[&a]), set(&[&b]), set(&[&c, &d, &e])] {
        assert!(users.contains(&parted), "{users:?}");
    }

    // Both are undone by the commands for it; the split named its own.
    let allow = [
        "user",
        "allow-merge",
        &a,
        &b,
        "--yes",
        "--note",
        "one after all",
    ];
    desk.done(&allow).await;
    assert!(told.contains(&format!("--withdraw {c} {p} uAnn")), "{told}");
    let args = ["conflicts", "resolve", "--withdraw", &c, &p, "uAnn"];
    desk.done(&[&args[..], &["--yes", "--note", "back"]].concat())
        .await;
    assert!(desk.one_user(&[&a, &b, &c]).await);
    queued_is_not_done(&mut desk, [&a, &b]).await;
}

/// Show and explain, before anything is decided.
async fn looked_at(desk: &Desk, [a, b, c]: [&String; 3]) {
    let p = &desk.platform;
    let told = desk.told().await;
    let user = told[a]["user_id"].as_str().unwrap();
    let namespace = desk.site.parts().await.namespace;
    let own = Account::from_key(b)
        .unwrap()
        .own_id(namespace, Millis(0))
        .to_string();
    for who in [
        &["user", "show", a][..],
        &["user", "show", user],
        &["user", "show", "--unionid", p, "uAnn"],
    ] {
        let shown = desk.done(who).await;
        for wanted in [
            user,
            a,
            b,
            c,
            "uAnn",
            "0-oAnnA-50",
            "contested: other_unionid",
        ] {
            assert!(shown.contains(wanted), "{wanted} in {shown}");
        }
    }
    let shown = desk.done(&["user", "show", &own]).await;
    assert!(
        shown.contains(&format!("{own} was merged into it")),
        "{shown}"
    );
    let shown = desk.done(&["user", "show", &own, "--json"]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["state"], &shown["user_id"]),
        (&json!("merged"), &json!(user))
    );
    assert_eq!(shown["accounts"].as_array().unwrap().len(), 3);
    let nobody = desk
        .done(&["user", "show", &Uuid::new_v4().to_string()])
        .await;
    assert!(nobody.contains("never published"), "{nobody}");
    let nobody = desk
        .done(&["user", "show", "--unionid", p, "uNobody"])
        .await;
    assert!(nobody.contains("No account ever claimed"), "{nobody}");

    let told = desk.done(&["user", "explain", a, c]).await;
    assert!(
        told.contains(user) && told.contains("(login 2-oCarlC-30)"),
        "{told}"
    );
    assert!(!told.contains("oAnnB"), "the shortest way: {told}");
    let told = desk
        .done(&["user", "explain", a, &desk.account(3, "oCarlD")])
        .await;
    for wanted in [
        "Not one user",
        "contested: other_unionid",
        "(login 2-oCarlC-5)",
    ] {
        assert!(told.contains(wanted), "{wanted} in {told}");
    }
    let told = desk
        .done(&["user", "explain", a, &desk.account(6, "oElsewhere")])
        .await;
    assert!(told.contains("different platforms"), "{told}");
    let told = desk.done(&["user", "explain", a, c, "--json"]).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["one_user"], true);
    assert_eq!(told["path"][0]["cause"], "0-oAnnA-50");

    let listed = desk.done(&["conflicts", "list"]).await;
    assert!(
        listed.contains("1  other_unionid") && listed.contains(c.as_str()),
        "{listed}"
    );
    let listed = desk
        .done(&["conflicts", "list", "--why", "same_app", "--json"])
        .await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed, json!({"by_why": {}, "claims": []}));
    let shown = desk.done(&["conflicts", "show", c]).await;
    assert!(
        shown.contains("the account has another unionid there"),
        "{shown}"
    );
}

async fn audited(desk: &Desk, action: &str, counts: &[(&str, u64)]) {
    let audits = desk.site.operating().await.store.audits(1).await.unwrap();
    let audit = &audits[0];
    assert_eq!((&*audit.author, &*audit.action), ("tester", action));
    for (what, n) in counts {
        assert_eq!(audit.counts[*what], *n, "{what}: {audit:?}");
    }
    let text = format!("{audit:?}");
    for name in ["oAnn", "oCarl", "uAnn", "uCarl"] {
        assert!(!text.contains(name), "{text}");
    }
}

async fn never_merged(desk: &Desk, [a, b]: [&String; 2]) {
    let never = ["user", "never-merge", b, a, "--yes", "--note", "two people"];
    let told = desk.done(&never).await;
    assert!(told.contains("PARTED"), "{told}");
    let users = desk.users().await;
    let parted = users.contains(&set(&[a])) && users.contains(&set(&[b]));
    assert!(parted, "{users:?}");
    audited(desk, "user never-merge", &[("decisions", 1), ("shown", 1)]).await;
    let told = desk.done(&never).await;
    assert!(told.contains("stands already"), "{told}");
    let told = desk.done(&["user", "explain", a, b]).await;
    for wanted in ["never to be one user, by tester", "two people"] {
        assert!(told.contains(wanted), "{told}");
    }
    let told = desk.done(&["conflicts", "show", b]).await;
    assert!(told.contains("are never one user"), "{told}");
}

/// A shared unionid: two strangers must not come together because a third is taken out.
async fn verdicts(desk: &Desk) {
    let p = desk.platform.clone();
    let s: Vec<String> = (0..3).map(|n| desk.account(0, &format!("oS{n}"))).collect();
    let t = desk.account(1, "oT");
    let logins: Vec<Value> = (0..3)
        .map(|n| desk.login(0, &format!("oS{n}"), "uShared", 9 - n))
        .collect();
    desk.seen(&logins).await;
    desk.seen(&[desk.login(1, "oT", "uShared", 1)]).await;
    assert!(desk.one_user(&[&t]).await);
    let reject = |account: &str| {
        [
            "conflicts",
            "resolve",
            "--reject",
            account,
            &p,
            "uShared",
            "--yes",
            "--note",
            "a test device",
        ]
        .map(str::to_owned)
    };
    let args = reject(&s[0]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (status, out, err) = desk.run(&args).await;
    assert_eq!(status, 2, "{out}{err}");
    assert!(
        out.contains("JOINED") && err.contains("--allow-links"),
        "{out}{err}"
    );
    assert!(desk.one_user(&[&t]).await, "strangers were joined");
    let told = desk.done(&[&args[..], &["--dry-run"]].concat()).await;
    assert!(
        told.contains("Without --dry-run this is refused: "),
        "{told}"
    );
    let told = desk.done(&["conflicts", "show", &s[0]]).await;
    assert!(told.contains("3 openids of"), "{told}");
    // The other way round nobody is joined on the way.
    for account in [&t, &s[0]] {
        let args = reject(account);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let told = desk.done(&args).await;
        assert!(told.contains("contested: rejected"), "{told}");
    }
    assert!(desk.one_user(&[&t]).await);
    // Accepting overrules no contradiction, and says so.
    let accept = [
        "conflicts",
        "resolve",
        "--accept",
        &s[2],
        &p,
        "uShared",
        "--yes",
        "--note",
        "seen",
    ];
    let told = desk.done(&accept).await;
    assert!(told.contains("accepted by an operator"), "{told}");
    let accept = [
        "conflicts",
        "resolve",
        "--accept",
        &s[1],
        &p,
        "uShared",
        "--yes",
        "--note",
        "seen",
    ];
    let told = desk.done(&accept).await;
    let told = told + &desk.done(&["conflicts", "show", &s[2]]).await;
    assert!(told.contains("two openids of one app"), "{told}");
    let (status, _, err) = desk
        .run(&[
            "conflicts",
            "resolve",
            "--accept",
            &t,
            &p,
            "uNobody",
            "--yes",
            "--note",
            "x",
        ])
        .await;
    assert_eq!(status, 1, "{err}");
    assert!(
        err.contains("no such claim") && !err.contains("uNobody"),
        "{err}"
    );
}

/// Nobody works: what only stands on the topic is never called done.
async fn queued_is_not_done(desk: &mut Desk, [a, b]: [&String; 2]) {
    desk.stop().await;
    let args = [
        "user",
        "split",
        a,
        "--accounts",
        b,
        "--yes",
        "--note",
        "x",
        "--wait",
        "300ms",
    ];
    let (status, out, err) = desk.run(&args).await;
    assert_eq!(status, 1, "{out}{err}");
    assert!(
        err.contains("queued, not done") && !out.contains("Done"),
        "{out}{err}"
    );
    audited(desk, "user split", &[("rejections", 1), ("shown", 0)]).await;
    desk.serve().await;
    assert!(
        !desk
            .users()
            .await
            .iter()
            .any(|user| user.contains(a) && user.contains(b))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_hold_in_a_file() {
    decisions_hold(Desk::new(None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_hold_on_kafka_and_postgres() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    decisions_hold(Desk::new(Some((kafka, postgres))).await).await;
}

/// Claims on a unionid that is no person's: rejecting some of them would join strangers.
async fn many_are_decided_at_once(desk: Desk) {
    let shared: Vec<Value> = (0..4)
        .map(|n| desk.login(0, &format!("oM{n}"), "uMany", 9 - n))
        .collect();
    desk.seen(&shared).await;
    desk.seen(&[
        desk.login(1, "oMx", "uMany", 3),
        desk.login(2, "oMy", "uMany", 2),
    ])
    .await;
    let (x, y) = (desk.account(1, "oMx"), desk.account(2, "oMy"));
    let app = desk.site.sim.world().sim_apps()[0].id.to_string();
    let reject = [
        "conflicts",
        "resolve",
        "--reject",
        "--why",
        "shared_unionid",
        "--note",
        "a test device",
    ];
    let with = |more: &[&'static str]| [&reject[..], more].concat();

    let some = [&reject[..], &["--app", &app, "--yes"]].concat();
    let before = desk.site.parts().await;
    let before = records(&before, &before.config.topics.logins).await.len();
    let (status, out, err) = desk.run(&some).await;
    assert_eq!(status, 2, "{out}{err}");
    assert!(
        out.contains("JOINED: 2 users") && err.contains("--allow-links"),
        "{out}{err}"
    );
    assert!(out.contains(&x) && out.contains(&y), "it names whom: {out}");
    let told = desk.done(&with(&["--dry-run"])).await;
    assert!(
        told.contains("claims 6 in 1 groups") && !told.contains("JOINED"),
        "{told}"
    );
    let (status, _, err) = desk.run(&reject).await;
    assert_eq!(status, 2, "{err}");
    assert!(err.contains("--yes") && !err.contains("oM"), "{err}");
    let parts = desk.site.parts().await;
    let now = records(&parts, &parts.config.topics.logins).await.len();
    assert_eq!(now, before, "nothing was decided");

    // Without the third app all of the first could go, but one by one the last of them is linked on the way.
    let alone = [
        "conflicts",
        "resolve",
        "--reject",
        &x,
        &desk.platform,
        "uMany",
    ];
    let alone = [&alone[..], &["--yes", "--note", "a test device"]].concat();
    desk.done(&alone).await;
    let told = desk
        .done(&[&reject[..], &["--app", &app, "--dry-run"]].concat())
        .await;
    for more in [&["--yes"][..], &["--yes", "--allow-links"]] {
        let (status, out, err) = desk
            .run(&[&reject[..], &["--app", &app], more].concat())
            .await;
        assert_eq!(status, 2, "{out}{err}");
        assert!(
            err.contains("joined for a while") && !out.contains("JOINED"),
            "{out}{err}"
        );
    }
    assert!(
        told.contains("Without --dry-run this is refused: 1 groups"),
        "{told}"
    );
    audited(
        &desk,
        "conflicts resolve",
        &[("decisions", 1), ("shown", 1)],
    )
    .await;
    let back = [
        "conflicts",
        "resolve",
        "--withdraw",
        &x,
        &desk.platform,
        "uMany",
    ];
    desk.done(&[&back[..], &["--yes", "--note", "not that one"]].concat())
        .await;

    let told = desk.done(&with(&["--yes"])).await;
    assert!(told.contains("Done: 6 of 6 claims"), "{told}");
    audited(&desk, "conflicts resolve", &[("claims", 6), ("shown", 6)]).await;
    let listed = desk.done(&["conflicts", "list"]).await;
    assert!(listed.contains("6  rejected"), "{listed}");
    // Nobody was joined on the way, not for a moment.
    desk.told().await;
    let all = links(&parts).await;
    for account in [&x, &y] {
        let own = Account::from_key(account)
            .unwrap()
            .own_id(parts.namespace, Millis(0));
        let users: BTreeSet<String> = (all.iter().filter(|r| key(r) == **account))
            .map(|r| json(r)["user_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            users,
            [own.to_string()].into(),
            "{account} was joined with a stranger"
        );
    }
    let told = desk.done(&with(&["--yes"])).await;
    assert!(
        told.contains("claims 0"),
        "what stands is passed over: {told}"
    );
    let back = [
        "conflicts",
        "resolve",
        "--withdraw",
        "--why",
        "rejected",
        "--rate",
        "1000",
        "--yes",
    ];
    let told = desk
        .done(&[&back[..], &["--note", "real after all"]].concat())
        .await;
    assert!(told.contains("Done: 6 of 6 claims"), "{told}");
    let listed = desk.done(&["conflicts", "list"]).await;
    assert!(listed.contains("6  shared_unionid"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_decided_at_once_in_a_file() {
    many_are_decided_at_once(Desk::new(None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_decided_at_once_on_kafka_and_postgres() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    many_are_decided_at_once(Desk::new(Some((kafka, postgres))).await).await;
}

/// The binding was entered late: what was filed wrongly is rejected, and a replay files it anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_moved_to_its_new_platform() {
    let mut desk = Desk::new(None).await;
    let p = desk.platform.clone();
    let (fresh, six) = (desk.account(1, "oFresh"), desk.account(6, "oSix"));
    let old = desk.account(1, "oOld");
    desk.seen(&[
        desk.login(1, "oOld", "uOld", 120),
        desk.login(0, "oOldToo", "uOld", 110),
        desk.login(1, "oOld", "uNew", 30),
        desk.login(1, "oFresh", "uFresh", 20),
        desk.login(6, "oSix", "uFresh", 10),
    ])
    .await;
    let app = desk.site.sim.world().sim_apps()[1].id.to_string();
    let since = ago(60);
    let run = [
        "conflicts",
        "move",
        "--app",
        &app,
        "--from-platform",
        &p,
        "--since",
        &since,
    ];
    let (status, _, err) = desk.run(&[&run[..], &["--dry-run"]].concat()).await;
    assert_eq!(status, 2, "{err}");
    assert!(
        err.contains("[[apps.platforms]]") && err.contains(&since),
        "{err}"
    );
    desk.stop().await;
    let block = format!("appid = \"{app}\"");
    let (before, after) = desk.site.config.split_once(&block).unwrap();
    let bound = "[[apps.platforms]]\nid = \"main\"\nsince = \"1970-01-01T00:00:00.000Z\"\n";
    let newly = format!("{bound}[[apps.platforms]]\nid = \"second\"\nsince = \"{since}\"\n");
    desk.site.config = format!("{before}{block}{}", after.replacen(bound, &newly, 1));
    desk.site.configure();
    desk.serve().await;
    let told = desk.done(&[&run[..], &["--dry-run"]].concat()).await;
    assert!(told.contains("claims 2 in 2 groups"), "{told}");
    let told = desk
        .done(&[&run[..], &["--yes", "--note", "moved"]].concat())
        .await;
    assert!(told.contains("Done: 2 of 2 claims"), "{told}");
    audited(&desk, "conflicts move", &[("claims", 2)]).await;
    desk.stop().await;
    desk.replayed().await;
    assert!(
        desk.one_user(&[&fresh, &six]).await,
        "filed under the new platform"
    );
    assert!(desk.one_user(&[&old, &desk.account(0, "oOldToo")]).await);
    let newest = desk.told().await;
    assert_eq!(newest[&old]["unionid"], "uNew");
    desk.stop().await;
}

/// Every wrong use ends with 2, says what would be right, and repeats no identifier.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_is_refused_with_the_remedy() {
    let mut desk = Desk::new(None).await;
    desk.seen(&[desk.login(0, "oA", "uA", 9), desk.login(1, "oB", "uA", 8)])
        .await;
    let (a, b) = (desk.account(0, "oA"), desk.account(1, "oB"));
    let (a, b) = (a.as_str(), b.as_str());
    let (app, since) = (a.split_once(':').unwrap().0, "2026-01-31T08:00:00Z");
    let cases: &[(&[&str], &str)] = &[
        (&["user", "show"], "--unionid PLATFORM UNIONID"),
        (&["user", "show", "oSecret"], "neither a user id nor"),
        (&["user", "show", a, "--unionid", "p", "u"], "say whom"),
        (
            &["user", "show", "--unionid", "p", "undefined"],
            "placeholder",
        ),
        (&["user", "explain", a, a], "name two"),
        (&["user", "explain", a, "oSecret"], "APPID:OPENID"),
        (&["user", "split", a, "--accounts", b], "--note"),
        (&["user", "split", a], "--accounts"),
        (
            &["user", "split", a, "--accounts", "oSecret", "--note", "x"],
            "APPID:OPENID",
        ),
        (
            &[
                "user",
                "split",
                a,
                "--accounts",
                "wx1:oSecret",
                "--note",
                "x",
            ],
            "no accounts of that user",
        ),
        (
            &[
                "user",
                "split",
                a,
                "--accounts",
                &format!("{a},{b}"),
                "--note",
                "x",
            ],
            "leave out",
        ),
        (
            &["user", "split", a, "--accounts", b, "--note", "x"],
            "--yes",
        ),
        (
            &[
                "user",
                "split",
                a,
                "--accounts",
                b,
                "--note",
                "x",
                "--wait",
                "soon",
            ],
            "--wait",
        ),
        (
            &["user", "never-merge", a, a, "--note", "x"],
            "a pair has two",
        ),
        (&["user", "never-merge", a, b], "--note"),
        (&["user", "never-merge", a, b, "--note", "x"], "--yes"),
        (&["user", "erase", "oSecret"], "neither a user id nor"),
        (
            &[
                "user",
                "erase",
                &Uuid::new_v4().to_string(),
                "--account-only",
            ],
            "APPID:OPENID",
        ),
        (&["user", "erase", a], "--yes"),
        (&["user", "erase", a, "--wait", "5"], "--wait"),
        (
            &["conflicts", "list", "--why", "because"],
            "other_unionid, same_app",
        ),
        (
            &["conflicts", "list", "--since", "yesterday"],
            "2026-01-31T08:00:00Z",
        ),
        (&["conflicts", "list", "--app", "a b"], "--app"),
        (&["conflicts", "show", "oSecret"], "APPID:OPENID"),
        (
            &["conflicts", "resolve", a, "p", "u", "--note", "x"],
            "--accept",
        ),
        (
            &["conflicts", "resolve", "--accept", "--reject", a, "p", "u"],
            "cannot be used with",
        ),
        (
            &["conflicts", "resolve", "--accept", a, "p"],
            "ACCOUNT PLATFORM UNIONID",
        ),
        (
            &["conflicts", "resolve", "--accept", "--note", "x"],
            "say which",
        ),
        (
            &[
                "conflicts",
                "resolve",
                "--accept",
                a,
                "p",
                "u",
                "--app",
                "wx1",
                "--note",
                "x",
            ],
            "say which",
        ),
        (
            &[
                "conflicts",
                "resolve",
                "--reject",
                "--why",
                "x",
                "--note",
                "x",
            ],
            "other_unionid, same_app",
        ),
        (
            &["conflicts", "resolve", "--reject", "--why", "same_app"],
            "--note",
        ),
        (
            &[
                "conflicts",
                "resolve",
                "--reject",
                "--why",
                "same_app",
                "--rate",
                "0",
                "--note",
                "x",
            ],
            "--rate",
        ),
        (&["conflicts", "move", "--app", "wx1"], "--from-platform"),
        (
            &[
                "conflicts",
                "move",
                "--app",
                "wx1",
                "--from-platform",
                "main",
                "--since",
                since,
                "--note",
                "x",
            ],
            "no app of the configuration",
        ),
        (
            &[
                "conflicts",
                "move",
                "--app",
                app,
                "--from-platform",
                "x",
                "--since",
                since,
                "--note",
                "x",
            ],
            "no binding to it",
        ),
        (
            &[
                "conflicts",
                "move",
                "--app",
                app,
                "--from-platform",
                "main",
                "--since",
                "now",
                "--note",
                "x",
            ],
            "2026-01-31T08:00:00Z",
        ),
        (
            &[
                "conflicts",
                "resolve",
                "--accept",
                a,
                "p",
                "null",
                "--note",
                "x",
            ],
            "placeholder",
        ),
        (
            &["conflicts", "resolve", "--reject", a, &desk.platform, "uA"],
            "--note",
        ),
        (
            &[
                "conflicts",
                "resolve",
                "--reject",
                a,
                &desk.platform,
                "uA",
                "--note",
                "x",
            ],
            "--yes",
        ),
    ];
    for (args, remedy) in cases {
        let (status, out, err) = desk.run(args).await;
        assert_eq!(status, 2, "{args:?}: {out}{err}");
        assert!(
            err.contains(remedy),
            "{args:?} says nothing of {remedy}: {err}"
        );
        assert!(!err.contains("oSecret"), "{args:?}: {err}");
    }
    let nobody = [("LOGNAME", "")];
    let args = ["user", "erase", a, "--yes"];
    let output = desk.site.fleet.run_with(&args, &nobody).await;
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "by nobody: {err}");
    assert!(err.contains("--author"), "{err}");
    assert!(
        desk.one_user(&[&a.to_owned(), &b.to_owned()]).await,
        "nothing was done"
    );
    desk.stop().await;
    let parts = desk.site.parts().await;
    let logins = records(&parts, &parts.config.topics.logins).await;
    assert_eq!(logins.len(), 2, "something was queued");
}
