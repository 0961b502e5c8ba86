//! How fast the store on PostgreSQL is by itself, with the real `plan` and outbox records of a
//! usual size. Ignored: it measures. `cargo test --release --test store_contract speed -- --ignored
//! --nocapture`; `UNILINK_SPEED_ACCOUNTS` says how many accounts are stored first.

use crate::contract::Home;
use crate::contract::fixtures::{NAMESPACE, account_in, event, open, record, union};
use crate::store_postgres::{self, PostgresHome};
use sqlx::Row;
use std::sync::Arc;
use std::time::Instant;
use unilink::link::{self, Rules};
use unilink::model::{
    App, AppId, AppKind, Apps, Binding, Fact, Method, Millis, NewClaim, Outcome, Sighting,
    TokenSource, View,
};
use unilink::store::{Batch, Planner, Position, Step, Store, Write};

struct Work {
    facts: Vec<Fact>,
    rules: Rules,
}

impl Planner for Work {
    fn step(&mut self, view: &View) -> Step {
        match link::plan(view, &self.facts, &self.rules, Millis(5)) {
            Outcome::Read(keys) => Step::Read(keys),
            Outcome::Done(changes) => {
                let told = changes.news.iter().map(|_| record(&"x".repeat(600)));
                let outbox = [(0, told.collect())].into();
                Step::Write(Box::new(Write {
                    changes: *changes,
                    outbox,
                    job: None,
                }))
            }
        }
    }
}

fn rules() -> Rules {
    let platform = union(0).platform;
    let apps = (0..4).map(|n| App {
        id: AppId::parse(&format!("wxapp{n}")).expect("valid"),
        kind: AppKind::MiniProgram,
        secret: None,
        token: TokenSource::default(),
        component: None,
        bindings: vec![Binding {
            platform: platform.clone(),
            since: Millis(0),
        }],
    });
    Rules {
        namespace: NAMESPACE,
        apps: Arc::new(Apps::new(apps.collect())),
    }
}

/// Account `n` of person `n / 2`, in one of two apps.
fn seen(n: u32) -> Fact {
    let scrambled = (n / 2).wrapping_mul(2_654_435_761);
    Fact::Sighting(Sighting {
        account: account_in(n % 2, scrambled),
        at: Millis(1_000),
        cause: event(n),
        external_id: None,
        reason: None,
        claims: vec![NewClaim {
            union: union(scrambled),
            at: Millis(1_000),
            method: Method::Code2Session,
        }],
        session_key: None,
    })
}

async fn apply(store: &dyn Store, facts: Vec<Fact>, offset: i64) {
    let batch = Batch {
        keys: link::keys(&facts),
        positions: vec![Position {
            partition: 0,
            offset,
            digest: vec![1; 32],
        }],
        ..Batch::default()
    };
    let mut work = Work {
        facts,
        rules: rules(),
    };
    store.apply(&batch, &mut work).await.expect("applies");
}

/// CPU seconds of this process and of the server's for this database: on a busy machine they tell
/// more than the clock. Needs the server on the same machine.
async fn cpu(home: &PostgresHome) -> (f64, f64) {
    let of = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default().to_owned();
        let ticks = after_name.split_whitespace().skip(11).take(2);
        ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
    };
    let sql = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database()";
    let pids = sqlx::query(sql).fetch_all(&mut home.raw().await).await;
    let pids = pids.expect("reads").into_iter();
    (
        of("self"),
        pids.map(|row| of(&row.get::<String, _>(0))).sum(),
    )
}

async fn measure(
    home: &PostgresHome,
    store: &dyn Store,
    (what, size): (&str, u32),
    all: impl Iterator<Item = u32>,
) {
    let all: Vec<u32> = all.collect();
    let before = cpu(home).await;
    let (begun, mut offset) = (Instant::now(), 0);
    for batch in all.chunks(size as usize) {
        offset += 1;
        apply(store, batch.iter().map(|n| seen(*n)).collect(), offset).await;
        if let Ok(head) = store.outbox_head(0).await {
            store.relayed(0, head, offset).await.expect("notes");
        }
    }
    let n = all.len() as f64;
    let (rate, after) = (n / begun.elapsed().as_secs_f64(), cpu(home).await);
    let (ours, its) = (
        (after.0 - before.0) / n * 1e6,
        (after.1 - before.1) / n * 1e6,
    );
    println!(
        "{what:<28} batches of {size:>5}: {rate:>7.0} accounts/s; CPU µs each: {ours:.0} here, \
         {its:.0} in the server"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures"]
async fn speed() {
    let home = store_postgres::home()
        .await
        .expect("a PostgreSQL to run on");
    let store = open(&home).await;
    let wanted = std::env::var("UNILINK_SPEED_ACCOUNTS").ok();
    let stored: u32 = wanted.map_or(100_000, |n| n.parse().expect("a number"));
    measure(
        &home,
        &*store,
        ("all new, from empty", 5_000),
        (0..stored).map(|n| n * 2),
    )
    .await;
    for size in [1_000, 5_000] {
        let from = stored * 2 + size * 100;
        let new = (from..from + 60_000).step_by(2);
        measure(&home, &*store, ("all new", size), new).await;
        let repeats = (0..60_000).map(|n| (n * 7_919 % stored) * 2);
        measure(&home, &*store, ("repeats", size), repeats).await;
        let few = (0..60_000).map(|n| match n % 50 {
            0 => from + 1_000_000 + n,
            _ => (n * 7_919 % stored) * 2,
        });
        measure(&home, &*store, ("repeats, one in 50 new", size), few).await;
        let joins = (0..20_000).map(|n| (n * 7 + size * 11 % stored) * 2 + 1);
        measure(&home, &*store, ("second accounts of people", size), joins).await;
    }
    home.close().await;
}
