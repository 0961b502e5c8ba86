//! A person is erased: no table and no waiting work holds them any more, the topics say so, and neither
//! old events nor a replay bring them back. Strangers are left alone.

use crate::harness::{ago, header, now};
use crate::services;
use crate::site::{Kind, key, links, tables};
use crate::{Desk, audited};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Row};
use std::collections::BTreeSet;
use unilink::model::{Account, Keys, Millis};
use unilink::simulate::Manner;

/// Everything in the tables of the store, but for the log, as text.
async fn stored(desk: &Desk) -> String {
    let mut all = String::new();
    match &desk.site.kind {
        Kind::Embedded => {
            let mut file = desk.site.raw().await;
            for table in tables(&mut file, "NOT LIKE 'log_%'").await {
                let columns = format!(
                    "SELECT group_concat('quote(' || name || ')', '||'' ''||') \
                    FROM pragma_table_info('{table}')"
                );
                let row = sqlx::query(AssertSqlSafe(columns))
                    .fetch_one(&mut file)
                    .await;
                let columns: String = row.unwrap().get(0);
                let columns = columns.replace("quote(offset)", "quote(\"offset\")");
                let rows = format!("SELECT {columns} FROM {table}");
                let rows = sqlx::query(AssertSqlSafe(rows)).fetch_all(&mut file).await;
                for row in rows.unwrap() {
                    all += &format!("{table} {}\n", row.get::<String, _>(0));
                }
            }
            file.close().await.unwrap();
        }
        Kind::Production { .. } => {
            let mut server = sqlx::PgConnection::connect(&desk.site.url()).await.unwrap();
            let names = "SELECT table_name FROM information_schema.tables \
                         WHERE table_schema = 'public' AND table_name NOT LIKE '_sqlx%'";
            let names = sqlx::query(names).fetch_all(&mut server).await.unwrap();
            for name in names {
                let table: String = name.get(0);
                let rows = format!("SELECT t::text FROM \"{table}\" t");
                let rows = sqlx::query(AssertSqlSafe(rows))
                    .fetch_all(&mut server)
                    .await;
                for row in rows.unwrap() {
                    all += &format!("{table} {}\n", row.get::<String, _>(0));
                }
            }
        }
    }
    all
}

/// Lines of tables that hold a text, in plain or as hex. The outbox keeps its newest rows.
fn holding<'s>(stored: &'s str, text: &str) -> Vec<&'s str> {
    let hex: String = text.bytes().map(|b| format!("{b:02x}")).collect();
    let lines = stored.lines().filter(|line| !line.starts_with("outbox "));
    lines
        .filter(|line| line.contains(text) || line.to_lowercase().contains(&hex))
        .collect()
}

/// Work that waits: how many rows, and how many bytes of sealed records.
async fn waiting(desk: &Desk) -> (i64, i64) {
    let sql = "SELECT CAST(count(CASE WHEN done_at IS NULL THEN 1 END) AS bigint), \
               CAST(coalesce(sum(length(record)), 0) AS bigint) FROM deferred";
    match &desk.site.kind {
        Kind::Embedded => {
            let mut file = desk.site.raw().await;
            let row = sqlx::query(sql).fetch_one(&mut file).await.unwrap();
            file.close().await.unwrap();
            (row.get(0), row.get(1))
        }
        Kind::Production { .. } => {
            let mut server = sqlx::PgConnection::connect(&desk.site.url()).await.unwrap();
            let row = sqlx::query(sql).fetch_one(&mut server).await.unwrap();
            (row.get(0), row.get(1))
        }
    }
}

/// Gone: a login with a code, one that waits for a session key, and what they say of a unionid; beside
/// them a sibling in another app, and a stranger whose claim is contested for their sake.
struct People {
    /// The account in the first app, and its openid.
    gone: String,
    openid: String,
    unionid: String,
    sibling: String,
    stranger: String,
    friend: String,
}

async fn lived(desk: &Desk) -> People {
    let site = &desk.site;
    let app = site.sim.world().numbers().next().unwrap();
    let appid = site.sim.world().sim_apps()[0].id.to_string();
    let manner = |unionid| Manner {
        unionid,
        snapshot: false,
    };
    let session = site.sim.login(app, 77, manner(true)).unwrap();
    let openid = site.sim.world().openid_text(77, app);
    let code = site.sim.code(&session);
    desk.seen(&[json!({"id": "code", "occurred_at": ago(0), "appid": appid, "code": code})])
        .await;
    let gone = format!("{appid}:{openid}");
    let unionid = desk.told().await[&gone]["unionid"]
        .as_str()
        .unwrap()
        .to_owned();
    // One of another app, with data that no key opens yet: it waits, sealed.
    let second = site.sim.world().numbers().nth(1).unwrap();
    let other = site.sim.world().sim_apps()[1].id.to_string();
    let keyless = site.sim.login(second, 77, manner(false)).unwrap();
    let data = site.sim.encrypted_in(&keyless);
    let sibling = site.sim.world().openid_text(77, second);
    desk.seen(&[
        desk.login(1, &sibling, &unionid, 30),
        json!({"id": "waits", "occurred_at": ago(0), "appid": other, "openid": "oWaits",
            "encryptedData": data.encrypted_data, "iv": data.iv}),
        // The same app and unionid as the one who goes, and a friend of that stranger.
        desk.login(0, "oStranger", &unionid, 5),
        desk.login(0, "oStranger", "uFriend", 4),
        desk.login(2, "oFriend", "uFriend", 3),
    ])
    .await;
    People {
        sibling: format!("{other}:{sibling}"),
        stranger: desk.account(0, "oStranger"),
        friend: desk.account(2, "oFriend"),
        gone,
        openid,
        unionid,
    }
}

/// What is mistyped is refused, and nobody is named by that.
async fn slips(desk: &Desk, account: &str) {
    let (app, openid) = account.split_once(':').unwrap();
    let surplus = format!("{account}x");
    let not_there = format!("wxtypo:{openid}");
    let filter = format!("--app={account}");
    for args in [
        &["user", "erase", account, &surplus, "--yes"][..],
        &["user", "erase", &not_there, "--yes", "--note", "slip"],
        &["user", "erase", &not_there, "--account-only", "--yes"],
        &["user", "show", account, &surplus],
        &["dlq", "show", account],
        &["replay", &filter],
        &["export", &filter],
        &["app", "resume", account],
        &["conflicts", "list", "--app", "wxtypo"],
        &["conflicts", "list", "--platform", "typo"],
        &["dlq", "redrive", "--limit", "0"],
        &["dlq", "redrive", "0/99", "--dry-run"],
        &["dlq", "redrive", "0/99", "--yes"],
        &["import", "none.csv", "--from-line", "0"],
        &["replay", "--list", "--dry-run"],
        &["backfill", "--list", "--rate", "5"],
    ] {
        let said = desk.site.fleet.refused(args, 2).await;
        assert!(!said.contains(openid), "{args:?}: {said}");
    }
    let said = desk
        .site
        .fleet
        .refused(&["app", "resume", "wxtypo"], 2)
        .await;
    assert!(
        said.contains("wxtypo is not configured; there are ") && said.contains(app),
        "{said}"
    );
}

async fn erased_for_good(mut desk: Desk) {
    let people = lived(&desk).await;
    let People { gone, sibling, .. } = &people;
    assert!(desk.one_user(&[gone, sibling]).await);
    let before = stored(&desk).await;
    for table in ["accounts ", "ledger ", "tracked "] {
        let lines = holding(&before, &people.openid);
        assert!(
            lines.iter().any(|line| line.starts_with(table)),
            "{table}: {before}"
        );
    }
    let mine = desk.account(1, "oWaits");
    assert_eq!(waiting(&desk).await.0, 1, "{before}");

    slips(&desk, gone).await;
    let told = desk.done(&["user", "erase", gone, "--dry-run"]).await;
    assert!(told.contains(gone) && told.contains(sibling), "{told}");
    let begun = now();
    let told = desk
        .done(&["user", "erase", gone, "--yes", "--note", "ticket 7"])
        .await;
    let ended = now();
    assert!(told.contains("Done: 2 accounts are erased"), "{told}");
    audited(&desk, "user erase", &[("accounts", 2), ("erased", 2)]).await;
    consented(&desk, [gone, sibling], begun..=ended).await;
    desk.site.quiet(desk.process.as_ref().unwrap()).await;
    nothing_is_left(&desk, &people).await;

    // Whoever was contested for their sake has moved up, and was not followed.
    let newest = desk.told().await;
    assert!(newest.contains_key(&people.stranger) && newest.contains_key(&people.friend));
    let again = desk.done(&["user", "show", gone]).await;
    assert!(again.contains("Erased"), "{again}");

    // An account whose only trace is work that waits: it goes at once, with what is sealed in it.
    let told = desk
        .done(&["user", "erase", &mine, "--account-only", "--yes"])
        .await;
    assert!(told.contains("Done: 1 accounts"), "{told}");
    assert_eq!(waiting(&desk).await, (0, 0));

    erased_by_post(&desk, &people.friend).await;
    desk.replay_changes_nothing().await;
    nothing_is_left(&desk, &people).await;
    assert_eq!(
        waiting(&desk).await,
        (0, 0),
        "a replay keeps what is sealed"
    );
    comes_back(&mut desk, &people).await;
}

/// All of them are erased up to one moment, that of the consent.
async fn consented(desk: &Desk, accounts: [&String; 2], when: std::ops::RangeInclusive<Millis>) {
    let accounts: BTreeSet<Account> = accounts
        .iter()
        .map(|a| Account::from_key(a).unwrap())
        .collect();
    let keys = Keys {
        accounts: accounts.clone(),
        ..Keys::default()
    };
    let view = desk.site.operating().await.store.view(&keys).await.unwrap();
    let moments: BTreeSet<Millis> = view.tombstones.values().map(|t| t.erased_at).collect();
    assert_eq!(
        (view.tombstones.len(), moments.len()),
        (2, 1),
        "{moments:?}"
    );
    assert!(
        moments.iter().all(|at| when.contains(at)),
        "{moments:?} not in {when:?}"
    );
}

async fn nothing_is_left(desk: &Desk, people: &People) {
    let now = stored(desk).await;
    let sibling = people.sibling.split_once(':').unwrap().1;
    for openid in [people.openid.as_str(), sibling] {
        assert_eq!(holding(&now, openid), Vec::<&str>::new());
    }
    let ledger = now.lines().filter(|line| line.starts_with("ledger "));
    assert!(ledger.count() > 0, "the code stays spent");
    let parts = desk.site.parts().await;
    let all = links(&parts).await;
    for account in [&people.gone, &people.sibling] {
        let last = all.iter().rev().find(|r| key(r) == **account).unwrap();
        assert!(last.value.is_none(), "no null for {account}");
        assert!(header(last, "revision").is_some());
    }
    let codes = desk.site.sim.stats().codes;
    assert_eq!((codes.sent, codes.spent), (1, 1), "{codes:?}");
}

/// Posted to the intake by a program.
async fn erased_by_post(desk: &Desk, account: &str) {
    let (appid, openid) = account.split_once(':').unwrap();
    let url = format!("{}/v1/erasures", desk.site.intake);
    let post = async |body: Value| {
        let request = desk.site.fleet.http.post(&url);
        let request = request.header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) =
        post(json!({"appid": appid, "openid": openid, "erased_at": ago(-1)})).await;
    assert_eq!(status, 422, "{text}");
    assert!(
        text.contains("erased_at") && !text.contains(openid),
        "{text}"
    );
    let (status, text) = post(json!({"appid": appid, "openid": openid, "user_id": "x"})).await;
    assert_eq!(status, 422, "{text}");
    assert!(text.contains("unilink user erase"), "{text}");
    let (status, text) = post(json!({"appid": "wxStrange", "openid": openid})).await;
    assert_eq!(status, 422, "{text}");
    let (status, text) = post(json!([{"id": "e1", "appid": appid, "openid": openid}])).await;
    assert_eq!((status, &*text), (202, r#"{"ids":["e1"]}"#));
    assert!(
        !desk.told().await.contains_key(account),
        "it was not obeyed"
    );
}

/// A later login starts a new user; an older one does nothing.
async fn comes_back(desk: &mut Desk, people: &People) {
    let old: Value = desk.login(0, &people.openid, &people.unionid, 20);
    desk.seen(&[old]).await;
    assert!(
        !desk.told().await.contains_key(&people.gone),
        "an old event brought them back"
    );
    let new = desk.login(0, &people.openid, "uNew", 0);
    desk.seen(&[new]).await;
    let told = desk.told().await;
    assert!(
        told[&people.gone]["generation"].as_i64().unwrap() > 0,
        "{}",
        told[&people.gone]
    );
    assert_eq!(told[&people.gone]["claims"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_erased_are_gone_from_a_file() {
    erased_for_good(Desk::new(None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_erased_are_gone_from_kafka_and_postgres() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    erased_for_good(Desk::new(Some((kafka, postgres))).await).await;
}
