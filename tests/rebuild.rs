//! Rebuilds, with the real binary: a database that is empty or was restored from an older copy, and
//! topics that were lost or resized, on the embedded profile and on a real Kafka and PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

#[path = "rebuild/deferred.rs"]
mod deferred;
mod fleet;
mod harness;
mod services;
#[path = "rebuild/site.rs"]
mod site;

use harness::{ago, header, json};
use serde_json::{Value, json};
use site::{Site, State, key, links, records};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use unilink::bus::Stored;
use unilink::cli::assemble::{self, Parts};
use unilink::config::{Config, Environment};
use unilink::model::Account;

/// Revisions of each account go 1, 2, 3, …, under epochs that never go back; the highest epoch.
fn gapless(records: &[Stored], fresh: bool) -> u64 {
    let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for record in records {
        let (epoch, revision) = match &record.value {
            Some(_) => {
                let value = json(record);
                (
                    value["epoch"].as_u64().unwrap(),
                    value["revision"].as_u64().unwrap(),
                )
            }
            None => {
                let number = |name| header(record, name).unwrap().parse().unwrap();
                (number("epoch"), number("revision"))
            }
        };
        let key = key(record);
        if let Some((before, at)) = last.get(&key) {
            assert!(epoch >= *before, "{key}: epoch {epoch} after {before}");
            assert_eq!(revision, at + 1, "{key}: revision after {at}");
        } else if !fresh {
            assert_eq!(revision, 1, "{key} begins with {revision}");
        }
        last.insert(key, (epoch, revision));
    }
    last.values().map(|(epoch, _)| *epoch).max().unwrap_or(0)
}

/// The newest record of each account says what the store says.
async fn told_is_stored(site: &Site) {
    let parts = site.parts().await;
    let mut newest = BTreeMap::new();
    for record in links(&parts).await {
        newest.insert(key(&record), record);
    }
    for (key, record) in &newest {
        let who = Account::from_key(key).unwrap();
        let found = parts.store.find_accounts(&[who]).await.unwrap().remove(0);
        match (&record.value, found) {
            (None, None) => {}
            (Some(_), Some(found)) => {
                let told = json(record);
                assert_eq!(told["user_id"], found.row.user.to_string(), "{told}");
                assert_eq!(told["revision"], found.row.revision, "{told}");
                assert_eq!(told["claims_total"], found.claims.len(), "{told}");
            }
            (told, found) => panic!("{key}: {} {}", told.is_some(), found.is_some()),
        }
    }
    let living = parts.store.totals().await.unwrap().accounts;
    let told = newest.values().filter(|r| r.value.is_some()).count();
    assert_eq!(living, told as u64);
}

/// People, an operator, and codes; what they came to.
async fn lived(site: &mut Site) -> State {
    let process = site.serve().await;
    site.accepted(&site.logins("w1", 0..120)).await;
    site.accepted(&site.codes("w1", 500..505)).await;
    site.settled(process).await;
    let process = site.serve().await;
    site.decided("w1", 10).await;
    site.settled(process).await;
    site.dump("old").await;

    let process = site.serve().await;
    let mut more = site.logins("w2", 100..160);
    let [one, two] = site.apps();
    for n in 0..20 {
        // Known people turn up with another unionid, or in the other app.
        let unionid = format!("u{}", 200 + n);
        more.push(
            json!({"id": format!("w2-x{n}"), "occurred_at": ago(0), "appid": one,
            "openid": format!("oa{n}"), "unionid": unionid}),
        );
        more.push(
            json!({"id": format!("w2-y{n}"), "occurred_at": ago(0), "appid": two,
            "openid": format!("oy{n}"), "unionid": format!("u{}", 3 * n)}),
        );
        more.push(
            json!({"id": format!("w2-z{n}"), "occurred_at": ago(0), "appid": two,
            "openid": format!("oz{n}")}),
        );
    }
    site.accepted(&more).await;
    site.accepted(&site.codes("w2", 505..512)).await;
    site.settled(process).await;
    let process = site.serve().await;
    site.decided("w2", 30).await;
    site.decided("w2", 110).await;
    site.settled(process).await;
    let state = site.state().await;
    assert!(state.contested.values().sum::<u64>() > 20, "{state:?}");
    assert_eq!(state.tombstones, 3);
    told_is_stored(site).await;
    state
}

/// After a rebuild from the topics: nothing is told that is not new, and nothing is lost.
async fn goes_on(site: &mut Site, truth: &State, wave: &str) {
    let parts = site.parts().await;
    let before = links(&parts).await.len();
    assert_eq!(&site.state().await, truth);
    let process = site.serve().await;
    site.settled(process).await;
    assert_eq!(&site.state().await, truth, "after the replay");
    let codes = site.sim.stats().codes;
    assert_eq!((codes.sent, codes.spent), (12, 12), "{codes:?}");
    assert_eq!(links(&parts).await.len(), before, "told again");
    let dead = records(&parts, &parts.config.topics.dlq).await;
    assert!(dead.is_empty(), "{} dead letters", dead.len());

    let process = site.serve().await;
    let [one, _] = site.apps();
    let event = json!({"id": format!("{wave}-new"), "occurred_at": ago(0), "appid": one,
        "openid": "oa50", "unionid": "u50", "external_id": wave});
    site.accepted(&[event]).await;
    site.settled(process).await;
    let told = links(&parts).await;
    assert_eq!(told.len(), before + 1);
    gapless(&told, false);
    told_is_stored(site).await;
}

async fn a_lost_database_comes_back(mut site: Site) {
    let truth = lived(&mut site).await;
    site.restore("old").await;
    let said = site.refuses().await;
    assert!(said.contains("`unilink rebuild --from topics`"), "{said}");
    assert_ne!(site.state().await, truth);
    site.rebuilt("topics").await;
    goes_on(&mut site, &truth, "w3").await;

    let truth = site.state().await;
    site.emptied().await;
    let said = site.refuses().await;
    assert!(said.contains("`unilink rebuild --from topics`"), "{said}");
    interrupted(&mut site, "topics").await;
    site.rebuilt("topics").await;
    goes_on(&mut site, &truth, "w4").await;
    let epoch = gapless(&links(&site.parts().await).await, false);
    assert!(epoch >= 3, "each rebuild is an epoch: {epoch}");
}

/// Kills rebuilds at several moments. Until one ends, nobody else opens the store.
async fn interrupted(site: &mut Site, from: &str) {
    let mut begun = false;
    for pause in [40, 80, 120, 160, 240, 320] {
        let args = ["rebuild", "--from", from, "--yes"];
        let rebuild = site.fleet.start("killed", &args, &[]);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        // Too late for this one: the store is whole again.
        drop(rebuild);
        let config = Config::read(&site.text(), "the test's", &Environment::default()).unwrap();
        let keys = assemble::keys(&config).unwrap();
        let opened = assemble::open_store(&config, &keys).await;
        let refused = opened.err().map(|e| e.to_string());
        begun |=
            refused.is_some_and(|said| said.contains(&format!("rebuild --from {from}` again")));
    }
    eprintln!("a rebuild was caught in the middle: {begun}");
}

async fn lost_topics_are_written_again(mut site: Site) {
    let truth = lived(&mut site).await;
    let parts = site.parts().await;
    let merges = newest(&parts, &parts.config.topics.user_merges).await;
    let registers = newest(&parts, &parts.config.topics.registers).await;
    drop(parts);
    site.lose_topics().await;
    let said = site.refuses().await;
    assert!(said.contains("`unilink rebuild --from store`"), "{said}");
    let said = site
        .fleet
        .refused(&["rebuild", "--from", "topics", "--yes"], 1)
        .await;
    assert!(said.contains("--from store"), "{said}");
    interrupted(&mut site, "store").await;
    let told = site.rebuilt("store").await;
    let waits = told.contains("deferred resolutions go on");
    assert!(!waits, "nothing waits here: {told}");
    let process = site.serve().await;
    site.settled(process).await;

    let parts = site.parts().await;
    let told = links(&parts).await;
    gapless(&told, true);
    assert_eq!(parts.store.identity().birth.partitions, 8);
    let partitions = told.iter().map(|r| r.partition).max();
    assert_eq!(partitions, Some(7));
    assert_eq!(
        newest(&parts, &parts.config.topics.user_merges).await,
        merges
    );
    assert_eq!(
        newest(&parts, &parts.config.topics.registers).await,
        registers
    );
    drop(parts);
    told_is_stored(&site).await;
    // Erased accounts stand on no topic any more.
    let mut living = truth;
    living.accounts.retain(|_, told| !told.starts_with("none"));
    assert_eq!(site.state().await, living);

    let process = site.serve().await;
    let [one, _] = site.apps();
    let event = json!({"id": "w3-new", "occurred_at": ago(0), "appid": one,
        "openid": "oa50", "unionid": "u50", "external_id": "new"});
    site.accepted(&[event]).await;
    site.settled(process).await;
    gapless(&links(&site.parts().await).await, true);
    told_is_stored(&site).await;
}

/// The newest record of each key that is not null: what outlives compaction. Rulings that an erasure
/// voids, and when it was told, are left out.
async fn newest(parts: &Parts, topic: &Arc<str>) -> BTreeMap<String, Value> {
    let mut newest = BTreeMap::new();
    for record in records(parts, topic).await {
        match &record.value {
            None => newest.remove(&key(&record)),
            Some(_) => {
                let mut value = json(&record);
                for field in ["merged_at", "cause", "epoch"] {
                    value.as_object_mut().unwrap().remove(field);
                }
                newest.insert(key(&record), value)
            }
        };
    }
    newest
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_database_comes_back() {
    a_lost_database_comes_back(Site::new(None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_topics_are_written_again() {
    lost_topics_are_written_again(Site::new(None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_database_comes_back() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    a_lost_database_comes_back(Site::new(Some((kafka, postgres))).await).await;
}

/// A worker was killed in the middle of a unit: what others have committed since lies behind that, and
/// comes back too.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_behind_a_dead_workers_unit_comes_back() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    let mut site = Site::new(Some((kafka, postgres))).await;
    let process = site.serve().await;
    site.accepted(&site.logins("w1", 0..20)).await;
    site.settled(process).await;
    let process = site.serve().await;
    let parts = site.parts().await;
    let dead = site.left_open(&parts.config.topics.account_links).await;
    site.accepted(&site.logins("w2", 20..60)).await;
    site.settled(process).await;
    let truth = parts.store.totals().await.unwrap();
    site.emptied().await;
    site.rebuilt("topics").await;
    let rebuilt = site.parts().await.store.totals().await.unwrap();
    assert_eq!(
        (rebuilt.accounts, rebuilt.users),
        (truth.accounts, truth.users)
    );
    told_is_stored(&site).await;
    drop(dead);
}

/// Codes that were under way when everything was lost may have been sent: they are sent once more, and
/// what WeChat had answered is called lost. Whoever looks, looks at the store that there is.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_is_sent_once_more() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    let mut site = Site::new(Some((kafka, postgres))).await;
    let process = site.serve().await;
    site.accepted(&site.logins("w1", 0..20)).await;
    site.accepted(&site.codes("w1", 500..502)).await;
    site.settled(process).await;
    assert!(site.fleet.done(&["check"]).await.contains("ok    together"));

    let intake = site.fleet.start("intake", &["intake"], &[]);
    let ready = format!("{}/readyz", site.intake);
    site.fleet.until(&ready, 200, &intake).await;
    let events = site.codes("w2", 700..706);
    site.accepted(&events).await;
    drop(intake);
    // What a worker had done whose notes are lost.
    for event in &events[..3] {
        site.spend(event["code"].as_str().unwrap()).await;
    }
    site.emptied().await;
    let told = site.fleet.run(&["check"]).await;
    let (told, _) = fleet::texts(&told);
    assert!(
        told.contains("FAIL  together") && told.contains("rebuild --from topics"),
        "{told}"
    );
    let told = site.rebuilt("topics").await;
    for wanted in [
        "2 young codes will not be sent",
        "6 young codes were under way",
    ] {
        assert!(told.contains(wanted), "{told}");
    }
    assert!(site.fleet.done(&["check"]).await.contains("ok    together"));
    let process = site.serve().await;
    site.settled(process).await;
    let parts = site.parts().await;
    let dead = records(&parts, &parts.config.topics.dlq).await;
    let reasons: Vec<_> = dead
        .iter()
        .map(|r| header(r, "dlq_reason").unwrap())
        .collect();
    assert_eq!(reasons, ["code_lost"; 3]);
    let codes = site.sim.stats().codes;
    assert_eq!(
        (codes.sent, codes.resent_after_answer),
        (11, 3),
        "{codes:?}"
    );

    let ready = format!("{}/readyz", site.api);
    let mut api = site.fleet.start("api", &["api"], &[]);
    site.fleet.until(&ready, 200, &api).await;
    site.rebuilt("store").await;
    look_ups_end(&mut api).await;

    let mut api = site.fleet.start("api-2", &["api"], &[]);
    site.fleet.until(&ready, 200, &api).await;
    let url = site.url();
    let (_, database) = url.rsplit_once('/').unwrap();
    site.sql(&format!("DROP DATABASE {database} WITH (FORCE)"))
        .await;
    site.sql(&format!("CREATE DATABASE {database}")).await;
    site.fleet.done(&["migrate"]).await;
    look_ups_end(&mut api).await;
}

async fn look_ups_end(api: &mut fleet::Process) {
    let status = api.ended().await;
    assert_eq!(status.code(), Some(1), "{}", api.logs());
    let said = api.logs();
    assert!(said.contains("the look-ups end: the store"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_topics_are_written_again() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    lost_topics_are_written_again(Site::new(Some((kafka, postgres))).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rebuilt_while_a_worker_runs() {
    let mut site = Site::new(None).await;
    let process = site.serve().await;
    for from in ["topics", "store"] {
        let args = ["rebuild", "--from", from, "--yes"];
        let said = site.fleet.refused(&args, 1).await;
        assert!(said.contains("worker"), "{said}");
    }
    site.settled(process).await;
}
