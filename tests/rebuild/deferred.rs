//! Logins that wait while the topics are lost: they go on at places that no record of the new topic
//! has, and come to their end once.

use crate::fleet::PATIENCE;
use crate::harness::{ago, header, json, tail_of};
use crate::services;
use crate::site::{Kind, Site, behind, links, records};
use crate::{gapless, told_is_stored};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Row};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use unilink::bus::Stored;
use unilink::cli::assemble::Parts;
use unilink::model::EventId;
use unilink::simulate::{Faults, Manner};
use unilink::store::TrackedState;

/// One waits for a session key, two for WeChat: one of those holds a code that somebody else spends.
const WAITING: [&str; 3] = ["keyless", "patient", "robbed"];

/// What waits, and what brings it to its end.
struct Story {
    /// The logins that will have to wait.
    events: Vec<Value>,
    /// Brings the session key.
    key: Value,
    /// The code that is spent elsewhere.
    robbed: String,
}

fn story(site: &Site) -> Story {
    let app = site.sim.world().numbers().next().unwrap();
    let [appid, _] = site.apps();
    let session = |person, unionid| {
        let manner = Manner {
            unionid,
            snapshot: false,
        };
        site.sim.login(app, person, manner).unwrap()
    };
    let (keyless, patient, robbed) = (session(900, false), session(901, true), session(902, true));
    let data = site.sim.encrypted_in(&keyless);
    let openid = site.sim.world().openid_text(900, app);
    let robbed = site.sim.code(&robbed);
    let event = |id: &str, more: Value| {
        let mut event = json!({"id": id, "occurred_at": ago(0), "appid": appid});
        let event_fields = event.as_object_mut().unwrap();
        event_fields.extend(more.as_object().unwrap().clone());
        event
    };
    Story {
        events: vec![
            event(
                "keyless",
                json!({"openid": openid, "encryptedData": data.encrypted_data, "iv": data.iv}),
            ),
            event("patient", json!({"code": site.sim.code(&patient)})),
            event("robbed", json!({"code": &robbed})),
        ],
        key: event(
            "key",
            json!({"openid": openid, "session_key": site.sim.session_key(&keyless)}),
        ),
        robbed,
    }
}

async fn states(parts: &Parts) -> Vec<Option<TrackedState>> {
    let mut states = Vec::new();
    for id in WAITING {
        let found = parts.store.find_event(&EventId::parse(id).unwrap()).await;
        states.push(found.unwrap().map(|tracked| tracked.state));
    }
    states
}

/// The places of unfinished work.
async fn places(site: &Site) -> Vec<(i64, i64)> {
    let sql = "SELECT CAST(partition AS bigint), \"offset\" FROM deferred \
               WHERE done_at IS NULL ORDER BY \"offset\"";
    let place = |partition: i64, offset: i64| (partition, offset);
    match &site.kind {
        Kind::Embedded => {
            let mut file = site.raw().await;
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut file).await;
            let rows = rows.unwrap();
            file.close().await.unwrap();
            rows.iter().map(|r| place(r.get(0), r.get(1))).collect()
        }
        Kind::Production { .. } => {
            let mut server = sqlx::PgConnection::connect(&site.url()).await.unwrap();
            let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut server).await;
            let rows = rows.unwrap();
            rows.iter().map(|r| place(r.get(0), r.get(1))).collect()
        }
    }
}

/// How often each login was told on `linked-logins`, and why each dead letter died.
async fn told(parts: &Parts) -> (BTreeMap<String, Vec<Value>>, Vec<(String, Stored)>) {
    let topics = &parts.config.topics;
    let name = topics.linked_logins.as_ref().unwrap();
    let mut linked: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in records(parts, name).await {
        let value = json(&record);
        let id = value["id"].as_str().unwrap().to_owned();
        linked.entry(id).or_default().push(value);
    }
    let dead = records(parts, &topics.dlq).await.into_iter();
    let dead = dead.map(|r| (header(&r, "dlq_reason").unwrap(), r));
    (linked, dead.collect())
}

async fn what_waits_goes_on_once(mut site: Site) {
    let story = story(&site);
    let busy = Faults {
        busy: 1.0,
        ..Faults::default()
    };
    site.sim.set_faults(busy).unwrap();
    let mut process = site.serve().await;
    site.accepted(&story.events).await;
    let parts = site.parts().await;
    let begun = Instant::now();
    let waiting = vec![Some(TrackedState::Deferred); WAITING.len()];
    while states(&parts).await != waiting || behind(&parts).await {
        let told = || tail_of(&process.logs());
        assert!(begun.elapsed() < PATIENCE, "{}", told());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    process.stopped().await;
    drop(parts);
    let before = places(&site).await;
    assert_eq!(before.len(), WAITING.len());
    assert!(before.iter().all(|(_, offset)| *offset >= 0), "{before:?}");

    site.lose_topics().await;
    let told_by_rebuild = site.rebuilt("store").await;
    let moved = format!("{} deferred resolutions go on", WAITING.len());
    assert!(told_by_rebuild.contains(&moved), "{told_by_rebuild}");
    let after = places(&site).await;
    let offsets: Vec<i64> = after.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(offsets, [-3, -2, -1]);

    site.sim.set_faults(Faults::default()).unwrap();
    site.sim.spend_elsewhere(&story.robbed);
    let process = site.serve().await;
    site.accepted(std::slice::from_ref(&story.key)).await;
    site.settled(process).await;
    check(&site).await;
    assert_eq!(places(&site).await, []);

    // Whoever comes next finds nothing left to tell.
    let process = site.serve().await;
    site.settled(process).await;
    check(&site).await;
}

async fn check(site: &Site) {
    let parts = site.parts().await;
    let (linked, dead) = told(&parts).await;
    let times: Vec<(&str, usize)> = linked.iter().map(|(id, l)| (&**id, l.len())).collect();
    assert_eq!(times, [("key", 1), ("keyless", 1), ("patient", 1)]);
    for id in ["keyless", "patient"] {
        let told = &linked[id][0];
        assert!(told["unionid"].is_string(), "{told}");
        assert!(told["user_id"].is_string(), "{told}");
    }
    let reasons: Vec<&str> = dead.iter().map(|(reason, _)| &**reason).collect();
    // It had been sent before, so nobody can tell who has used it.
    assert_eq!(reasons, ["code_lost"]);
    let place = header(&dead[0].1, "dlq_offset").unwrap();
    assert!(place.starts_with('-'), "no record of the topic: {place}");
    let states = states(&parts).await;
    let [linked, dead] = [TrackedState::Linked, TrackedState::Dead].map(Some);
    assert_eq!(states, [linked, linked, dead]);
    gapless(&links(&parts).await, true);
    drop(parts);
    told_is_stored(site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_in_a_file_goes_on_once() {
    what_waits_goes_on_once(Site::new(None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_in_postgres_goes_on_once() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    what_waits_goes_on_once(Site::new(Some((kafka, postgres))).await).await;
}
