//! What is PostgreSQL's own: the schema's remedies, connections that are lost, values that must not
//! be told. Left out where the environment names no server.

use crate::contract::Home;
use crate::contract::fixtures::*;
use crate::store_postgres::{self, PostgresHome};
use sqlx::{AssertSqlSafe, Executor};
use std::sync::Arc;
use std::time::{Duration, Instant};
use unilink::model::{Changes, Millis};
use unilink::store::postgres::{PostgresOptions, PostgresStore, migrate};
use unilink::store::{Batch, Deferred, Settled, Spent, StoreError, WaitsFor};

async fn home() -> Option<PostgresHome> {
    let home = store_postgres::home().await;
    if home.is_none() {
        eprintln!("left out: no PostgreSQL to run on");
    }
    home
}

async fn refused(home: &PostgresHome) -> String {
    let store = PostgresStore::connect(home.options(), birth(), NAMESPACE, Arc::new(mac)).await;
    match store.err() {
        Some(StoreError::Mismatch(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_ours_is_refused_with_the_remedy() {
    let Some(home) = home().await else { return };
    assert!(
        migrate(&home.options()).await.expect("migrates").is_empty(),
        "nothing is left to do"
    );
    let mut raw = home.raw().await;
    let mut run = async |sql: &'static str| raw.execute(sql).await.expect("runs");
    let again = "INSERT INTO _sqlx_migrations SELECT 99, description, installed_on, success, \
                 checksum, execution_time FROM _sqlx_migrations WHERE version = 1";
    run(again).await;
    assert!(refused(&home).await.contains("newer than this program"));
    let newer = migrate(&home.options()).await.expect_err("refused");
    assert!(newer.to_string().contains("newer"), "{newer}");
    run("DELETE FROM _sqlx_migrations WHERE version = 99").await;
    run("UPDATE _sqlx_migrations SET checksum = ''").await;
    assert!(refused(&home).await.contains("another build"));
    run("DELETE FROM _sqlx_migrations").await;
    assert!(refused(&home).await.contains("run `unilink migrate`"));
    run("DROP TABLE _sqlx_migrations").await;
    assert!(refused(&home).await.contains("run `unilink migrate`"));
    home.close().await;
}

/// As the files are called: number and name.
fn names_of_migrations() -> Vec<String> {
    let files = std::fs::read_dir("migrations/postgres").expect("is there");
    let name = |file: std::io::Result<std::fs::DirEntry>| {
        let name = file.expect("is readable").file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".sql"));
        name.expect("is a migration").replace('_', " ")
    };
    let mut names: Vec<String> = files.map(name).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_run_once_however_many_begin() {
    let Some(home) = home().await else { return };
    let mut raw = home.raw().await;
    raw.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        .await
        .expect("runs");
    let all = [home.options(), home.options(), home.options()];
    let all = all.map(|o| tokio::spawn(async move { migrate(&o).await.expect("migrates") }));
    let mut done = Vec::new();
    for one in all {
        done.extend(one.await.expect("runs"));
    }
    assert_eq!(done, names_of_migrations());
    open(&home).await;
    home.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_unavailable_and_comes_back() {
    let Some(home) = home().await else { return };
    let store = open(&home).await;
    put(&*store, vec![row(&account(1))], vec![]).await;
    let mut raw = home.raw().await;
    for _ in 0..3 {
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
        // Several connections lie idle when it happens; one loss must do.
        let idle = (0..4).map(|_| store.positions());
        futures::future::join_all(idle).await;
        raw.execute(kill).await.expect("kills");
        tokio::time::sleep(Duration::from_millis(100)).await;
        match store.positions().await {
            Err(StoreError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
        let view = store.view(&accounts(&[account(1)])).await.expect("is back");
        assert_eq!(view.accounts.len(), 1);
    }
    home.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_told_without_its_password() {
    let url = "postgres://someone:hushhush@127.0.0.1:1/nothing".to_owned();
    let options = PostgresOptions::new(url, 2);
    assert!(!format!("{options:?}").contains("hushhush"));
    let begun = Instant::now();
    let store = PostgresStore::connect(options, birth(), NAMESPACE, Arc::new(mac)).await;
    let error = store.err().expect("refused");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(!error.to_string().contains("hushhush"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(15));
    let options = PostgresOptions::new("hushhush//".into(), 2);
    let error = migrate(&options).await.expect_err("refused");
    assert!(!error.to_string().contains("hushhush"), "{error}");
}

/// A batch may settle deferred rows in another order than hastening takes them.
#[tokio::test(flavor = "multi_thread")]
async fn hastening_gets_over_a_deadlock() {
    let Some(home) = home().await else { return };
    let store = open(&home).await;
    let later = |offset| Deferred {
        next_at: Millis(500_000),
        ..deferred(offset)
    };
    defer(&*store, vec![later(1), later(2)]).await;
    let (mut batch, mut watch) = (home.raw().await, home.raw().await);
    let waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
                 AND wait_event_type = 'Lock'";
    for _ in 0..20 {
        batch
            .execute("BEGIN; UPDATE deferred SET attempts = 1 WHERE \"offset\" = 2")
            .await
            .expect("runs");
        let other = Arc::clone(&store);
        let hastening = tokio::spawn(async move { other.hasten(&app(1), Millis(1_000)).await });
        while watch.fetch_all(waits).await.expect("reads").is_empty() {
            assert!(!hastening.is_finished(), "it waits for the second row");
        }
        let crossed = batch
            .execute("UPDATE deferred SET attempts = 1 WHERE \"offset\" = 1; COMMIT")
            .await;
        let hastened = hastening.await.expect("runs").expect("hastens");
        assert_eq!(hastened, 2);
        // Who waits first looks first, and lets go. That is hastening, unless the other came more
        // than its second later; then nothing was shown, and it is done again.
        match crossed {
            Ok(_) => {
                assert_eq!(due(&*store, 1_000).await, [1, 2]);
                return home.close().await;
            }
            Err(error) => assert!(error.to_string().contains("deadlock"), "{error}"),
        }
        batch
            .execute("ROLLBACK; UPDATE deferred SET next_at = 500000")
            .await
            .expect("runs");
    }
    panic!("the batch fell every time");
}

/// Whoever brings a key looks for what waits, and is seen only once it commits. What begins to wait between
/// the two must come after it, or it is neither woken nor finds the key.
#[tokio::test(flavor = "multi_thread")]
async fn what_begins_to_wait_comes_after_who_brings_the_key() {
    let Some(home) = home().await else { return };
    let store = open(&home).await;
    put(&*store, vec![row(&account(1))], vec![]).await;
    let first = Deferred {
        account: Some(account(1)),
        ..deferred(1)
    };
    defer(&*store, vec![first]).await;
    assert_eq!(due(&*store, 600_000).await, [1]);
    let (mut bringer, mut watch) = (home.raw().await, home.raw().await);
    bringer
        .execute("BEGIN; SELECT * FROM accounts FOR NO KEY UPDATE")
        .await
        .expect("locks");
    let again = Settled::Again {
        partition: 0,
        offset: 1,
        lease: Millis(601_000),
        account: Some(account(1)),
        waits_for: WaitsFor::SessionKey,
        next_at: Millis(900_000),
        attempts: 1,
    };
    let batch = Batch {
        settle: vec![again],
        ..Batch::default()
    };
    let other = Arc::clone(&store);
    let waits = tokio::spawn(async move { apply(&*other, &batch, Changes::default()).await });
    let held = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() \
                AND wait_event_type = 'Lock'";
    while watch.fetch_all(held).await.expect("reads").is_empty() {
        assert!(!waits.is_finished(), "it does not wait for the account");
    }
    bringer.execute("COMMIT").await.expect("commits");
    waits.await.expect("applies");
    assert_eq!(due(&*store, 600_100).await, [1], "it looks for the key");
    home.close().await;
}

/// A worker that was stopped in the middle of a transaction must not stop the others for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_loses_its_locks() {
    let Some(home) = home().await else { return };
    let store = open(&home).await;
    put(&*store, vec![row(&account(1))], vec![]).await;
    let mut raw = home.raw().await;
    raw.execute("SET idle_in_transaction_session_timeout = '10s'")
        .await
        .expect("runs");
    let begun = Instant::now();
    raw.execute("BEGIN; SELECT * FROM accounts FOR NO KEY UPDATE")
        .await
        .expect("locks");
    put(&*store, vec![row(&account(1))], vec![]).await;
    assert!(begun.elapsed() > Duration::from_secs(8), "it had to wait");
    home.close().await;
}

/// An erasure and what is written by name beside it: whichever is first, the name is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_leaves_no_name_behind_that_was_on_its_way() {
    let Some(home) = home().await else { return };
    let stores = [open(&home).await, open(&home).await, open(&home).await];
    for n in 0..60_u8 {
        let who = account(u32::from(n));
        put(&*stores[0], vec![row(&who)], vec![]).await;
        let erase = async {
            let changes = Changes {
                erased: vec![who.clone()],
                tombstones: vec![tombstone(&who, 100)],
                ..Changes::default()
            };
            apply(&*stores[0], &Batch::default(), changes).await;
        };
        let note = async {
            let batch = Batch {
                keys: accounts(std::slice::from_ref(&who)),
                defer: vec![unilink::store::Deferred {
                    account: Some(who.clone()),
                    ..deferred(i64::from(n))
                }],
                ..Batch::default()
            };
            apply(&*stores[1], &batch, Changes::default()).await;
        };
        let spend = async {
            let spent = Spent {
                code: unilink::store::CodeKey([n; 32]),
                account: Some(who.clone()),
                at: Millis(50),
                answer: Some(vec![1]),
            };
            stores[2].spend(&[spent]).await.expect("records");
        };
        tokio::join!(erase, note, spend);
    }
    let bytes = home.raw_bytes().await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("event-1"), "it can be looked for");
    assert!(
        !text.contains("oPerson"),
        "an erased openid is still at rest"
    );
    home.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_hold_no_values() {
    let Some(home) = home().await else { return };
    let store = open(&home).await;
    put(&*store, vec![row(&account(1))], vec![]).await;
    let mut raw = home.raw().await;
    // A constraint whose violation would tell the key in its detail.
    let sql = "ALTER TABLE accounts ADD CONSTRAINT small CHECK (key NOT LIKE '%000002')";
    raw.execute(AssertSqlSafe(sql)).await.expect("runs");
    let changes = Changes {
        accounts: vec![row(&account(2))],
        ..Changes::default()
    };
    let mut plan = Plan(|_: &unilink::model::View| write(changes.clone()));
    let error = store.apply(&Batch::default(), &mut plan).await;
    let error = error.expect_err("refused").to_string();
    assert!(
        error.contains("small") && !error.contains("Person"),
        "{error}"
    );
    home.close().await;
}
