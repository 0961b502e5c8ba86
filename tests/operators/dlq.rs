//! Stories of dead letters: what they tell, and how they go back.

use crate::harness::{ago, header, json as value_of};
use crate::services;
use crate::site::{Site, records};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use std::collections::BTreeMap;
use std::time::Duration;
use unilink::bus::{Record, Stored};
use unilink::cli::assemble::Parts;
use unilink::model::Millis;
use unilink::store::Redrive;
use unilink::wire::{Grave, header as raw_header};

const LATE: &str = "wx0000000000001a7e";
const SECRET: &str = "c2VjcmV0c2VjcmV0c2VjcmV0";

/// Puts values on the login topic as another writer would.
async fn written(parts: &Parts, values: &[(&str, Value)]) {
    let records = values.iter().map(|(key, value)| Record {
        topic: parts.config.topics.logins.clone(),
        key: key.as_bytes().to_vec(),
        value: Some(match value {
            Value::String(text) => text.clone().into_bytes(),
            event => event.to_string().into_bytes(),
        }),
        headers: vec![("traceparent".into(), format!("of {key}").into_bytes())],
        partition: None,
    });
    parts.bus.publish(records.collect()).await.unwrap();
}

/// A login of an app that is not configured yet.
fn late(n: u32) -> Value {
    json!({"id": format!("late-{n}"), "occurred_at": ago(3), "appid": LATE,
        "openid": format!("oLate{n}"), "unionid": format!("uLate{n}")})
}

fn sealed_for(parts: &Parts, id: &str, field: &str) -> Value {
    let aad = format!("unilink/login/v1\0{id}\0{LATE}");
    let inside = json!({field: SECRET}).to_string();
    let public = parts.keys.hpke.current();
    let sealed = public.seal(aad.as_bytes(), inside.as_bytes());
    sealed.unwrap().into()
}

fn key(n: u32) -> String {
    format!("{LATE}:oLate{n}")
}

fn configured(site: &mut Site) {
    let platform = site.platform();
    site.config.push_str(&format!(
        "\n[[apps]]\nappid = \"{LATE}\"\nkind = \"mini_program\"\n[[apps.platforms]]\nid = {platform:?}\n"
    ));
    site.configure();
}

async fn listed(site: &Site, args: &[&str]) -> Value {
    let args = [&["dlq", "list", "--json"], args].concat();
    serde_json::from_str(&site.fleet.done(&args).await).unwrap()
}

async fn dead(parts: &Parts) -> Vec<(Stored, Grave)> {
    let all = records(parts, &parts.config.topics.dlq).await;
    let read = |record: Stored| {
        let grave = Grave::parse(&record).unwrap();
        (record, grave)
    };
    all.into_iter().map(read).collect()
}

/// What stands on the login topic of letters that went back, by key.
async fn back(parts: &Parts) -> BTreeMap<String, Vec<Stored>> {
    let mut back: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
    for record in records(parts, &parts.config.topics.logins).await {
        if header(&record, "dlq_place").is_some() {
            let key = String::from_utf8(record.key.clone()).unwrap();
            back.entry(key).or_default().push(record);
        }
    }
    back
}

/// All that we ourselves wrote: the other writer's records stand as it wrote them.
async fn ours(parts: &Parts) -> Vec<u8> {
    let back = back(parts).await.into_values().flatten();
    let mut all: Vec<Stored> = back.collect();
    for spec in parts.config.topics.specs() {
        if spec.name != parts.config.topics.logins {
            all.extend(records(parts, &spec.name).await);
        }
    }
    let bytes = all.into_iter().flat_map(|record| {
        let headers = record.headers.into_iter().map(|(_, value)| value);
        headers.chain(record.value).collect::<Vec<_>>()
    });
    bytes.collect::<Vec<_>>().concat()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

/// An app is configured too late. Its logins died: in plain with a session key, sealed by a gateway, by
/// openid alone. Others died for good.
async fn an_app_that_was_forgotten(mut site: Site) {
    let process = site.serve().await;
    let parts = site.parts().await;
    let mut plain = late(1);
    plain["session_key"] = SECRET.into();
    let mut sealed = late(2);
    sealed["sealed"] = sealed_for(&parts, "late-2", "session_key");
    let [one, _] = site.apps();
    let bad = json!({"id": "bad", "occurred_at": ago(1), "appid": one, "openid": "oBad",
        "code": SECRET});
    let code = json!({"id": "dead", "occurred_at": ago(0), "appid": one, "code": "0nobodysc0de"});
    let mut old = json!({"id": "old", "occurred_at": ago(6), "appid": LATE});
    old["sealed"] = sealed_for(&parts, "old", "code");
    let values = [
        (key(1), plain),
        (key(2), sealed.clone()),
        (key(3), late(3)),
        ("bad".to_owned(), bad),
        (
            "no json".to_owned(),
            json!("{\"session_key\": \"c2VjcmV0c2VjcmV0c2VjcmV0\""),
        ),
        ("dead".to_owned(), code),
        ("old".to_owned(), old),
    ];
    let values: Vec<_> = values
        .iter()
        .map(|(k, v)| (k.as_str(), v.clone()))
        .collect();
    written(&parts, &values).await;
    site.settled(process).await;

    let told = listed(&site, &[]).await;
    assert_eq!(
        (&told["letters"], &told["redriven"]),
        (&json!(7), &json!(0)),
        "{told}"
    );
    let row = |reason: &str, app: Value| {
        let rows = told["by_reason_and_app"].as_array().unwrap();
        let row = rows
            .iter()
            .find(|r| r["reason"] == reason && r["app"] == app);
        row.map(|row| row["letters"].as_u64().unwrap())
    };
    assert_eq!(row("unknown_app", json!(LATE)), Some(4), "{told}");
    assert_eq!(row("contradictory", json!(one)), Some(1));
    assert_eq!(row("malformed", Value::Null), Some(1));
    assert_eq!(row("code_dead", json!(one)), Some(1));
    let told = listed(
        &site,
        &["--reason", "code_dead", "--since", "1h", "-n", "5"],
    )
    .await;
    assert_eq!(
        (&told["letters"], &told["newest"][0]["event"]),
        (&json!(1), &json!("dead"))
    );
    assert_eq!(listed(&site, &["--until", "1h"]).await["letters"], 0);
    let told = listed(&site, &["--event", "late-1", "--app", LATE]).await;
    let place = told["newest"][0]["place"].as_str().unwrap().to_owned();
    shown(&site, &place).await;

    configured(&mut site);
    let before = dead(&parts).await;
    site = goes_back(site, &parts).await;
    let after = back(&parts).await;
    for n in 1..=3 {
        let went = &after[&key(n)];
        let (letter, grave) = before
            .iter()
            .find(|(r, _)| r.key == key(n).as_bytes())
            .unwrap();
        assert_eq!(went.len(), 1);
        assert_eq!(went[0].value, letter.value, "as it stood");
        assert_eq!(
            header(&went[0], "traceparent"),
            Some(format!("of {}", key(n)))
        );
        assert_eq!(header(&went[0], "dlq_redrives").as_deref(), Some("1"));
        let first = header(&went[0], "dlq_timestamp");
        assert_eq!(first, Some(grave.timestamp.0.to_string()));
        let sealed = raw_header(&went[0].headers, "dlq_sealed").is_some();
        assert_eq!(sealed, n == 1, "{n}");
    }
    assert_eq!(value_of(&after[&key(2)][0]), sealed);
    let process = site.serve().await;
    site.settled(process).await;
    assert_eq!(dead(&parts).await.len(), before.len(), "none died again");
    for n in 1..=3 {
        let who = crate::harness::account(LATE, &format!("oLate{n}"));
        let found = parts
            .store
            .find_accounts(&[who])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        let unionid = found.claims[0].key.union.unionid.as_str();
        assert_eq!(unionid, format!("uLate{n}"));
    }
    assert!(
        !holds(&ours(&parts).await, SECRET),
        "a secret stands in plain"
    );
}

async fn shown(site: &Site, place: &str) {
    let told = site.fleet.done(&["dlq", "show", place]).await;
    for part in [
        "the appid is not configured",
        "redrive",
        "(24 bytes)",
        "of wx0000000000001a7e:oLate1",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains(SECRET), "{told}");
    let told = site.fleet.done(&["dlq", "show", place, "--json"]).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["value"]["openid"], "oLate1", "{told}");
    assert_eq!(told["event"], "late-1");
    let said = site.fleet.refused(&["dlq", "show", "0/99999"], 1).await;
    assert!(said.contains("dlq list"), "{said}");
    let said = site.fleet.refused(&["dlq", "show", "12"], 2).await;
    assert!(said.contains("PARTITION/OFFSET"), "{said}");
    let said = site
        .fleet
        .refused(&["dlq", "list", "--reason", "bad_luck"], 2)
        .await;
    assert!(said.contains("code_dead"), "{said}");
}

/// Three letters of seven can end otherwise: asked about, told of, gone, noted, and gone but once.
async fn goes_back(site: Site, parts: &Parts) -> Site {
    let redrive = ["dlq", "redrive"];
    let said = site.fleet.refused(&redrive, 2).await;
    assert!(
        said.contains("--yes") && said.contains("3 letters go back"),
        "{said}"
    );
    let args = ["dlq", "redrive", "--dry-run"];
    let told = site.fleet.done(&args).await;
    assert!(
        told.contains("3 letters would go (unknown_app 3)"),
        "{told}"
    );
    assert!(
        told.contains("dead codes: only a new login helps (code_dead 1)"),
        "{told}"
    );
    assert!(told.contains("past their 5 minutes"), "{told}");
    assert!(told.contains("(contradictory 1, malformed 1)"), "{told}");
    assert!(back(parts).await.is_empty(), "nothing was done yet");
    let args = ["dlq", "redrive", "--yes", "--note", "the app is there now"];
    let told = site.fleet.done(&args).await;
    assert!(told.contains("3 letters went back"), "{told}");
    let told = site.fleet.done(&args).await;
    assert!(told.contains("0 letters go"), "{told}");
    assert!(
        told.contains("redriven before (--again) (unknown_app 3)"),
        "{told}"
    );
    assert_eq!(listed(&site, &[]).await["redriven"], 3);
    let told = site.fleet.done(&["audit", "--json"]).await;
    let told: Vec<Value> = told
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let told: Vec<_> = told
        .iter()
        .map(|e| (&e["action"], &e["counts"], &e["note"]))
        .collect();
    let (three, note) = (json!({"unknown_app": 3}), json!("the app is there now"));
    let (begun, ended) = (json!("dlq redrive begun"), json!("dlq redrive"));
    assert_eq!(told, [(&begun, &three, &note), (&ended, &three, &note)]);
    let told = site.fleet.done(&["audit", "-n", "1"]).await;
    assert!(
        told.contains(" tester: dlq redrive: unknown_app 3 (the app is there now)"),
        "{told}"
    );
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_was_forgotten_embedded() {
    an_app_that_was_forgotten(Site::new(None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_was_forgotten_on_kafka_and_postgres() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    an_app_that_was_forgotten(Site::new(Some((kafka, postgres))).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_dies_again_goes_back_so_often_only() {
    let mut site = Site::new(None).await;
    let process = site.serve().await;
    let parts = site.parts().await;
    let mut plain = late(1);
    plain["session_key"] = SECRET.into();
    written(&parts, &[(&key(1), plain.clone())]).await;
    for died in 1..=4 {
        let begun = std::time::Instant::now();
        while dead(&parts).await.len() < died {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{died}: {}",
                process.logs()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let told = site
            .fleet
            .done(&["dlq", "redrive", "--yes", "--limit", "3"])
            .await;
        let goes = told.contains("1 letters went back");
        assert_eq!(goes, died < 4, "{died}: {told}");
    }
    site.settled(process).await;
    let letters = dead(&parts).await;
    let counts: Vec<u32> = letters.iter().map(|(_, grave)| grave.redrives).collect();
    assert_eq!(counts, [0, 1, 2, 3]);
    let first = letters[0].1.timestamp;
    for (letter, grave) in &letters {
        assert_eq!(grave.timestamp, first, "judged by its first time");
        let hpke = &parts.keys.hpke;
        let value = hpke.open_bytes(&grave.origin.aad(), letter.value.as_ref().unwrap());
        assert_eq!(value.unwrap().to_vec(), plain.to_string().into_bytes());
        assert_eq!(
            header(letter, "traceparent"),
            Some(format!("of {}", key(1)))
        );
    }
    let told = site.fleet.done(&["dlq", "redrive", "--yes"]).await;
    assert!(
        told.contains("redriven as often as --limit allows"),
        "{told}"
    );
    assert!(!holds(&ours(&parts).await, SECRET));
    let place = format!("{}/{}", letters[0].0.partition, letters[0].0.offset);
    let args = ["dlq", "redrive", "--yes", &place, "--again"];
    let told = site.fleet.done(&args).await;
    assert!(told.contains("1 letters went back"), "{told}");
    let went = &back(&parts).await[&key(1)];
    assert_eq!(
        header(&went[3], "dlq_redrives").as_deref(),
        Some("2"),
        "twice from here"
    );
}

/// Killed in the middle of a batch, interrupted, without the right to note it: no letter goes twice,
/// and none is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_ends_early_goes_on_where_it_was() {
    let mut site = Site::new(None).await;
    let process = site.serve().await;
    let parts = site.parts().await;
    let values: Vec<_> = (0..30).map(|n| (key(n), late(n))).collect();
    let values: Vec<_> = values
        .iter()
        .map(|(k, v)| (k.as_str(), v.clone()))
        .collect();
    written(&parts, &values).await;
    site.settled(process).await;
    let letters = dead(&parts).await;
    assert_eq!(letters.len(), 30);

    let mut file = site.raw().await;
    let refuse = "CREATE TRIGGER no_audit BEFORE INSERT ON audits \
        BEGIN SELECT RAISE(ABORT, 'not allowed'); END";
    file.execute(refuse).await.unwrap();
    let said = site.fleet.refused(&["dlq", "redrive", "--yes"], 1).await;
    assert!(said.contains("Nothing was redriven"), "{said}");
    assert!(back(&parts).await.is_empty());
    file.execute("DROP TRIGGER no_audit").await.unwrap();
    file.close().await.unwrap();

    // Two batches that somebody was killed in: of one letter each stands on the login topic.
    let store = site.operating().await.store;
    let now = (parts.clock)();
    let about = |(record, _): &(Stored, Grave)| Redrive {
        place: (record.partition, record.offset),
        stamp: Millis(record.timestamp),
        to: (unilink::bus::partition_of(&record.key, 4), 0),
    };
    let begun: Vec<Redrive> = letters[..4].iter().map(about).collect();
    let old = now.plus(-60_000);
    let mine = store
        .begin_redrive(&begun, old, Millis(0), false)
        .await
        .unwrap();
    assert_eq!(mine.len(), 4);
    for (record, grave) in [&letters[0], &letters[3]] {
        let again = Record {
            topic: parts.config.topics.logins.clone(),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: grave.redriven((record.partition, record.offset), 0),
            partition: None,
        };
        parts.bus.publish(vec![again]).await.unwrap();
    }
    assert_eq!(listed(&site, &[]).await["under_way"], 4);
    let told = site.fleet.done(&["dlq", "redrive", "--dry-run"]).await;
    assert!(told.contains("28 letters would go"), "{told}");

    let args = ["dlq", "redrive", "--yes", "--rate", "5"];
    let mut slow = site.fleet.start("slow", &args, &[]);
    let first = std::time::Instant::now();
    while back(&parts).await.len() < 6 {
        assert!(first.elapsed() < Duration::from_secs(60), "{}", slow.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    slow.signal("INT");
    let status = slow.ended().await;
    assert_eq!(status.code(), Some(1), "{}", slow.logs());
    let said = slow.logs();
    assert!(
        said.contains("stopped") && said.contains("run the same command again"),
        "{said}"
    );
    let some = back(&parts).await.len();
    assert!(some < 30, "it was stopped: {some}");
    let told = site.fleet.done(&["dlq", "redrive", "--yes"]).await;
    assert!(
        told.contains(&format!("{} letters went back", 30 - some)),
        "{told}"
    );
    let all = back(&parts).await;
    assert_eq!(all.len(), 30);
    assert!(all.values().all(|went| went.len() == 1), "one went twice");
}
