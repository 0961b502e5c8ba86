//! Stories of `unilink serve`, told with the real binary over HTTP and on its topics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

mod harness;

use harness::{DEAD, LINKED, LINKS, LOGINS, Rig, SAMPLE_APP, Wish, ago, header, json, topic};
use serde_json::{Value, json};

const SAMPLE_KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";
const SAMPLE_IV: &str = "r7BXXKkLb8qrSNn05n0qiA==";
const SAMPLE_OPENID: &str = "oGZUI0egBJY1zhBYw2KhdUfwVJJE";
const SAMPLE_UNIONID: &str = "ocMvos6NjeKLIBqg5Mr9QjxrP1FA";

/// The ciphertext of `docs/wechat.md` §9, read from there.
fn sample_data() -> String {
    let facts = include_str!("../docs/wechat.md");
    let found = facts.lines().find(|l| l.starts_with("CiyLU1Aw2K"));
    found.unwrap().to_owned()
}

fn sample(id: &str) -> Value {
    json!({"id": id, "occurred_at": ago(1), "appid": SAMPLE_APP, "openid": SAMPLE_OPENID,
        "session_key": SAMPLE_KEY, "encryptedData": sample_data(), "iv": SAMPLE_IV})
}

fn with(mut event: Value, field: &str, value: impl Into<Value>) -> Value {
    event[field] = value.into();
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_sample_links_and_its_forgeries_do_not() {
    let mut rig = Rig::serving(Wish::default()).await;
    // Forgeries first, each under an openid of its own: whoever comes later finds no claim to lean on.
    let data = sample_data();
    let byte = with(sample("f-byte"), "openid", "oByteChanged");
    let changed = data.replacen("YzO0IKX", "YzO1IKX", 1);
    assert_ne!(changed, data);
    let other_app = rig.sim.world().sim_apps()[0].id.as_str().to_owned();
    let changed = with(sample("f-data"), "encryptedData", changed);
    let app = with(sample("f-app"), "appid", other_app.clone());
    for event in [&changed, &app, &byte] {
        rig.accept(event).await;
    }
    for (app, openid) in [
        (SAMPLE_APP, SAMPLE_OPENID),
        (&other_app, SAMPLE_OPENID),
        (SAMPLE_APP, "oByteChanged"),
    ] {
        let found = rig.account(app, openid, |_| true).await;
        assert_eq!(found["unionid"], Value::Null, "{found}");
        assert_eq!(found["reason"], "decrypt_failed", "{found}");
        assert_eq!(found["claims_count"], 0, "{found}");
    }

    rig.accept(&sample("genuine")).await;
    let linked = |found: &Value| !found["unionid"].is_null();
    let found = rig.account(SAMPLE_APP, SAMPLE_OPENID, linked).await;
    assert_eq!(found["unionid"], SAMPLE_UNIONID);
    assert_eq!(found["method"], "decrypted");
    assert_eq!(found["reason"], Value::Null);
    let (status, user) = rig
        .get(&format!("/v1/unionids/main/{SAMPLE_UNIONID}"))
        .await;
    assert_eq!((status, &user["user_id"]), (200, &found["user_id"]));
    assert_eq!(user["accounts"].as_array().unwrap().len(), 1, "{user}");

    rig.stopped().await;
    rig.leftovers().await;
    assert!(!rig.logs().contains("panic"), "{}", rig.logs());
    let parts = rig.parts().await;
    assert_eq!(topic(&parts, LOGINS).await.len(), 4);
    assert_eq!(topic(&parts, LINKED).await.len(), 4);
    assert!(topic(&parts, DEAD).await.is_empty());
    let links = topic(&parts, LINKS).await;
    let of =
        |r: &&unilink::bus::Stored| r.key == format!("{SAMPLE_APP}:{SAMPLE_OPENID}").as_bytes();
    let revisions: Vec<Value> = links
        .iter()
        .filter(of)
        .map(|r| json(r)["revision"].clone())
        .collect();
    assert_eq!(revisions, [1, 2]);
    assert!(header(&links[0], "ce_id").is_some());
}
