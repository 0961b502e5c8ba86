//! Stories of tables: what a company has comes in, and what an installation has goes out and into another.

use crate::fleet::texts;
use crate::harness::{ago, json as value_of};
use crate::services;
use crate::site::{Site, behind, links, records};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use unilink::cli::assemble::Parts;
use unilink::wire::event::types;

/// Rows of a table by account, without what begins anew in another installation.
fn rows(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let mut rows = BTreeMap::new();
    for record in reader.records() {
        let record = record.unwrap();
        let mut row: BTreeMap<String, String> = (header.iter().zip(&record))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for anew in ["method", "reason", "linked_at", "revision", "epoch"] {
            row.remove(anew).unwrap();
        }
        let key = format!("{}:{}", row["appid"], row["openid"]);
        assert!(rows.insert(key, row).is_none(), "an account stands twice");
    }
    rows
}

/// What other installations can see of one: everything that makes users.
async fn lived(site: &mut Site) {
    let process = site.serve().await;
    let mut events = site.logins("w1", 0..60);
    for event in events.iter_mut().step_by(5) {
        event["external_id"] = format!("staff,\"{}\",5", event["id"].as_str().unwrap()).into();
    }
    site.accepted(&events).await;
    site.settled(process).await;
    let process = site.serve().await;
    site.decided("w1", 10).await;
    site.settled(process).await;
    let process = site.serve().await;
    let [one, two] = site.apps();
    let mut more = vec![
        // Back after an erasure: another life, another id.
        json!({"id": "again", "occurred_at": ago(0), "appid": one, "openid": "oa10", "unionid": "u10"}),
        json!({"id": "alone", "occurred_at": ago(2), "appid": two, "openid": "oAlone"}),
    ];
    for n in 0..5 {
        more.push(
            json!({"id": format!("w2-x{n}"), "occurred_at": ago(0), "appid": one,
            "openid": format!("oa{n}"), "unionid": format!("u{}", 200 + n)}),
        );
    }
    site.accepted(&more).await;
    site.accepted(&site.codes("w2", 500..505)).await;
    site.settled(process).await;
    assert!(site.state().await.contested.values().sum::<u64>() >= 5);
}

/// From one installation to another with the same key file: the same users with the same ids.
async fn moves(mut from: Site, mut to: Site, format: &str) {
    lived(&mut from).await;
    let truth = rows(&from.fleet.done(&["export"]).await);
    assert!(truth.len() > 100);
    let users: BTreeSet<&String> = truth.values().map(|row| &row["user_id"]).collect();
    assert!(users.len() < truth.len(), "some are merged");
    let lives = truth.values().filter(|row| row["generation"] != "0");
    assert_eq!(lives.count(), 1);

    let file = to.fleet.dir.path().join(format!("table.{format}"));
    let name = file.to_str().unwrap();
    let said = from.fleet.done(&["export", "--out", name]).await;
    assert!(
        said.contains(&format!("{} accounts", truth.len())),
        "{said}"
    );
    let keys = "unilink.keys";
    let [here, there] = [&from, &to].map(|site| site.fleet.dir.path().join(keys));
    std::fs::copy(here, there).unwrap();
    let process = to.serve().await;
    let said = to.fleet.refused(&["import", name], 2).await;
    assert!(said.contains("--yes"), "{said}");
    let args = ["import", name, "--yes", "--rate", "0", "--json"];
    let output = to.fleet.run(&args).await;
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["imported"], truth.len(), "{told}");
    assert_eq!(told["erasures"], 1);
    to.settled(process).await;
    assert_eq!(rows(&to.fleet.done(&["export"]).await), truth);
    for record in links(&to.parts().await)
        .await
        .iter()
        .filter(|r| r.value.is_some())
    {
        let told = value_of(record);
        let key = String::from_utf8(record.key.clone()).unwrap();
        assert!(truth[&key]["user_id"] == told["user_id"] || told["previous_user_id"].is_null());
        assert!(
            ["imported", "none", "merge"].contains(&told["method"].as_str().unwrap()),
            "{told}"
        );
    }

    // The same again changes nothing.
    let before = links(&to.parts().await).await.len();
    let process = to.serve().await;
    to.fleet.done(&["import", name, "--yes"]).await;
    to.settled(process).await;
    assert_eq!(links(&to.parts().await).await.len(), before);
    assert_eq!(rows(&to.fleet.done(&["export"]).await), truth);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_to_another_file() {
    moves(Site::new(None).await, Site::new(None).await, "ndjson").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_to_kafka_and_postgres() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    let to = Site::new(Some((kafka, postgres))).await;
    moves(Site::new(None).await, to, "csv").await;
}

/// The openids of the imports on the login topic.
async fn imported(parts: &Parts) -> Vec<String> {
    let mut openids = Vec::new();
    for record in records(parts, &parts.config.topics.logins).await {
        if crate::harness::header(&record, "ce_type").as_deref() == Some(types::IMPORT) {
            openids.push(value_of(&record)["openid"].as_str().unwrap().to_owned());
        }
    }
    openids.sort();
    openids
}

/// A table with bad lines is not taken; without them it is, and whoever interrupts it is told how to go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_bad_lines_comes_in_without_them() {
    let mut site = Site::new(None).await;
    let process = site.serve().await;
    site.settled(process).await;
    let parts = site.parts().await;
    let [one, _] = site.apps();
    let mut text = "openid,appid,first_seen_at,external_id,unionid\n".to_owned();
    for n in 0..60 {
        let line = match n % 10 {
            3 => format!("undefined,{one},2020-01-31T08:00:00Z,,u{n}\n"),
            4 => "\n".to_owned(),
            5 => format!("oT{n},{one},soon,,u{n}\n"),
            _ => format!("oT{n},{one},2020-01-31T08:00:{n:02}Z,\"staff,{n}\",u{n}\n"),
        };
        text.push_str(&line);
    }
    let file = site.fleet.dir.path().join("table.csv");
    std::fs::write(&file, &text).unwrap();
    let said = site
        .fleet
        .refused(&["import", "table.csv", "--yes"], 1)
        .await;
    assert!(said.contains("line 5: openid is a placeholder"), "{said}");
    assert!(
        said.contains("line 7: first_seen_at must be a time"),
        "{said}"
    );
    assert!(
        said.contains("12 lines are bad, and nothing was imported"),
        "{said}"
    );
    assert!(
        said.contains("--skip-bad") && !said.contains("soon"),
        "{said}"
    );
    assert!(imported(&parts).await.is_empty());
    std::fs::write(
        site.fleet.dir.path().join("other.csv"),
        "appid,openid,first_seen_at,nickname\n",
    )
    .unwrap();
    let said = site
        .fleet
        .refused(&["import", "other.csv", "--yes"], 1)
        .await;
    assert!(said.contains("nickname"), "{said}");
    let told = site
        .fleet
        .done(&["import", "table.csv", "--skip-bad", "--dry-run"])
        .await;
    assert!(told.contains("would import 42 accounts"), "{told}");
    assert!(
        told.contains("42 with a unionid; 12 bad lines left out"),
        "{told}"
    );

    let args = ["import", "table.csv", "--yes", "--skip-bad", "--rate", "9"];
    let mut slow = site.fleet.start("slow", &args, &[]);
    let begun = Instant::now();
    while imported(&parts).await.len() < 18 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", slow.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    slow.signal("INT");
    assert_eq!(slow.ended().await.code(), Some(1));
    let said = slow.logs();
    let some = imported(&parts).await;
    assert!(some.len() < 42, "it was interrupted");
    let (_, on) = said.split_once("go on with: unilink ").expect(&said);
    let mut on: Vec<&str> = on.trim().split(' ').collect();
    assert!(
        on.contains(&"--skip-bad") && on.contains(&"--from-line"),
        "{on:?}"
    );
    on.extend(["--yes", "--rate", "0"]);
    let at = on.iter().position(|word| *word == "--rate").unwrap();
    on.drain(at..at + 2);
    site.fleet.done(&on).await;
    let all = imported(&parts).await;
    let good = (0..60).filter(|n| ![3, 4, 5].contains(&(n % 10)));
    let mut good: Vec<String> = good.map(|n| format!("oT{n}")).collect();
    good.sort();
    assert_eq!(all, good, "each once");

    let row = format!("oPiped,{one},1580457600000,,uPiped\n");
    piped(
        &site,
        &format!("{}{row}", text.lines().next().unwrap().to_owned() + "\n"),
    );
    let process = site.serve().await;
    site.settled(process).await;
    let who = crate::harness::account(&one, "oT1");
    let found = parts
        .store
        .find_accounts(&[who])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!(
        found.row.first_seen_at.to_string(),
        "2020-01-31T08:00:01.000Z"
    );
    assert_eq!(found.row.external.unwrap().1.as_str(), "staff,1");
    assert!(!behind(&parts).await);
    assert_eq!(imported(&parts).await.len(), 43);
    let told = site.fleet.done(&["audit"]).await;
    assert!(
        told.contains("import begun file=table.csv: accounts 42"),
        "{told}"
    );
    assert!(told.contains("import stopped"), "{told}");
}

fn piped(site: &Site, table: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_unilink"))
        .env_clear()
        .env("USER", "tester")
        .current_dir(site.fleet.dir.path())
        .args(["import", "-", "--yes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(table.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let (out, _) = texts(&output);
    assert!(out.contains("imported 1 accounts"), "{out}");
}
