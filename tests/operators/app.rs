//! The story of an app that is paused and resumed.

use crate::harness::ago;
use crate::site::Site;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use std::time::{Duration, Instant};
use unilink::model::Account;
use unilink::simulate::Manner;

async fn listed(site: &Site) -> Vec<Value> {
    let told = site.fleet.done(&["app", "list", "--json"]).await;
    told.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn shown(site: &Site, app: &str) -> Value {
    let mut listed = listed(site).await.into_iter();
    listed.find(|row| row["app"] == app).unwrap()
}

/// A login by code of the simulator's app number `nth`; the appid and the event.
fn coded(site: &Site, nth: usize, person: u64) -> (String, String, Value) {
    let world = site.sim.world();
    let app = world.numbers().nth(nth).unwrap();
    let manner = Manner {
        unionid: true,
        snapshot: false,
    };
    let session = site.sim.login(app, person, manner).unwrap();
    let appid = world.app(app).unwrap().id.to_string();
    let event = json!({"id": format!("code-{nth}-{person}"), "occurred_at": ago(0), "appid": appid,
        "code": site.sim.code(&session)});
    (appid, world.openid_text(person, app), event)
}

/// Waits until an account is known, and tells its unionid.
async fn known(site: &Site, app: &str, openid: &str) -> Option<String> {
    let parts = site.parts().await;
    let begun = Instant::now();
    loop {
        let who: Account = crate::harness::account(app, openid);
        if let Some(found) = parts.store.find_accounts(&[who]).await.unwrap().remove(0) {
            let claim = found.claims.first();
            return claim.map(|claim| claim.key.union.unionid.as_str().to_owned());
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{app} {openid}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn metric(site: &Site, app: &str, wanted: &str) {
    let line = format!("unilink_paused{{app=\"{app}\"}} {wanted}");
    let begun = Instant::now();
    loop {
        let (_, page) = site
            .fleet
            .get(&format!("{}/metrics", site.api))
            .await
            .unwrap();
        if page.lines().any(|l| l == line) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{line}: {page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wechat_is_asked_nothing_about_a_paused_app() {
    let mut site = Site::new(None).await;
    let process = site.serve().await;
    let (app, one, event) = coded(&site, 0, 1);
    let said = site
        .fleet
        .refused(&["app", "pause", "wxnobody", "--note", "n", "--yes"], 2)
        .await;
    assert!(said.contains(&app), "the apps that there are: {said}");
    let said = site
        .fleet
        .refused(&["app", "pause", &app, "--yes"], 2)
        .await;
    assert!(said.contains("--note"), "{said}");
    let said = site
        .fleet
        .refused(&["app", "pause", &app, "--note", "n"], 2)
        .await;
    assert!(
        said.contains("five minutes") && said.contains("--yes"),
        "{said}"
    );
    assert_eq!(shown(&site, &app).await["paused"], Value::Null);
    let args = [
        "app",
        "pause",
        &app,
        "--note",
        "the secret is being changed",
        "--yes",
    ];
    let told = site.fleet.done(&args).await;
    assert!(told.contains("is paused"), "{told}");
    assert!(site.fleet.done(&args).await.contains("was paused before"));
    let row = shown(&site, &app).await;
    assert_eq!(row["paused"]["note"], "the secret is being changed");
    assert_eq!(row["paused"]["author"], "tester");
    metric(&site, &app, "1").await;

    site.accepted(&[event]).await;
    let (other, two, event) = coded(&site, 1, 2);
    assert_ne!(app, other);
    let told = json!({"id": "told", "occurred_at": ago(0), "appid": app, "openid": "oTold", "unionid": "uTold"});
    site.accepted(&[event, told]).await;
    assert!(known(&site, &other, &two).await.is_some(), "others go on");
    assert_eq!(known(&site, &app, "oTold").await.as_deref(), Some("uTold"));
    assert_eq!(site.sim.stats().codes.sent, 1, "the other app's");
    process_ends(process).await;

    // A worker that starts asks nothing before it knows.
    let process = site.serve().await;
    let (_, three, event) = coded(&site, 0, 3);
    site.accepted(&[event]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.sim.stats().codes.sent, 1);
    assert_eq!(shown(&site, &app).await["waiting"], 2);

    let told = site.fleet.done(&["app", "resume", &app]).await;
    assert!(told.contains("is resumed"), "{told}");
    assert!(
        known(&site, &app, &one).await.is_some(),
        "{}",
        process.logs()
    );
    assert!(known(&site, &app, &three).await.is_some());
    metric(&site, &app, "0").await;
    site.settled(process).await;
    assert_eq!(site.sim.stats().codes.sent, 3);
    assert!(
        site.fleet
            .done(&["app", "resume", &app])
            .await
            .contains("is not paused")
    );
    let told = site.fleet.done(&["audit"]).await;
    assert!(told.contains(&format!("app pause app={app}")), "{told}");
    assert!(told.contains(&format!("app resume app={app}")), "{told}");
    forgotten(&site).await;
}

async fn process_ends(mut process: crate::fleet::Process) {
    process.stopped().await;
}

/// The pause of an app that is not configured any more is shown, and can be ended.
async fn forgotten(site: &Site) {
    let mut file = site.raw().await;
    file.execute("INSERT INTO pauses VALUES ('wxgone', 1, 'ada', 'long ago')")
        .await
        .unwrap();
    file.close().await.unwrap();
    let row = shown(site, "wxgone").await;
    assert_eq!(
        (&row["configured"], &row["paused"]["note"]),
        (&json!(false), &json!("long ago"))
    );
    let told = site.fleet.done(&["app", "list"]).await;
    assert!(
        told.contains("wxgone (not configured)") && told.contains("PAUSED since"),
        "{told}"
    );
    assert!(
        site.fleet
            .done(&["app", "resume", "wxgone"])
            .await
            .contains("is resumed")
    );
}
