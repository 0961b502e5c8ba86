//! An installation on a real Kafka and a real PostgreSQL is hit again and again while logins of every
//! sort come in: workers are killed, or stand still until others have their partitions; the broker and
//! the database are killed. Afterwards a reader that shares no code with the product looks at
//! all topics and holds them against an oracle that never saw the code either.
//!
//! `UNILINK_CHAOS_EVENTS`, `_KILLS`, `_ZOMBIES`, `_BROKER_KILLS` and `_DATABASE_KILLS` make it longer
//! (300000, 60, 10, 3, 3 before a release), `UNILINK_CHAOS_AWAY` the time in seconds that a service is
//! away (120), `UNILINK_CHAOS_SEED` another story; `UNILINK_CHAOS_SLOW=3` allows three times as long where it is
//! timed, and `UNILINK_CHAOS_LOGS=1` keeps the logs of a run that went well, too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

#[path = "chaos/blows.rs"]
mod blows;
mod fleet;
#[path = "chaos/gateway.rs"]
mod gateway;
mod harness;
mod oracle;
#[path = "chaos/reader.rs"]
mod reader;
mod services;
#[path = "chaos/site.rs"]
mod site;
mod traffic;
mod verdict;

use blows::{Fate, Wanted};
use gateway::{Counts, Posted};
use site::{Site, Worker};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use unilink::cli::assemble::Parts;
use verdict::{Judge, Topics};

/// Until everything is done, after the last blow.
const SETTLED: Duration = Duration::from_secs(300);

fn number(name: &str, otherwise: usize) -> usize {
    let name = format!("UNILINK_CHAOS_{name}");
    std::env::var(name).map_or(otherwise, |n| n.parse().expect("a number"))
}

/// What may take this long takes longer on a machine that is busy with other things.
fn slow(bound: Duration) -> Duration {
    bound * u32::try_from(number("SLOW", 1)).unwrap()
}

/// One at a time: each has a Kafka, a PostgreSQL and six processes of its own, and some are timed.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn seed() -> u64 {
    number("SEED", 11) as u64
}

async fn all_topics(site: &Site) -> Topics {
    let cluster = Arc::clone(&site.cluster);
    let read = tokio::task::spawn_blocking(move || reader::all(cluster.kafka()));
    read.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn blows_lose_nothing_and_repeat_nothing() {
    let _alone = ALONE.lock().await;
    let begun = Instant::now();
    let Some(site) = Site::new(seed()).await else {
        return;
    };
    let _intake = site.role("intake", &site.intake).await;
    let wanted = Wanted {
        kills: number("KILLS", 6),
        zombies: number("ZOMBIES", 1),
        brokers: number("BROKER_KILLS", 1),
        databases: number("DATABASE_KILLS", 1),
    };
    let events = number("EVENTS", 4_000);
    let mut fate = Fate::new(&site, seed()).await;
    let counts = Arc::new(Counts::default());
    let (posted, ()) = tokio::join!(
        gateway::post(&site, &counts, seed()),
        fate.strike(&counts, &wanted, events)
    );
    let struck = begun.elapsed();
    let parts = site.parts().await;
    site.settle(&parts, &fate.workers, SETTLED).await;
    let settled = begun.elapsed();
    look_up(&site, &parts).await;
    stopped(&mut fate.workers).await;
    let judge = judged(&site, &parts, &posted).await;
    println!(
        "{} events ({} ids), {} kills, {} zombies, {} broker kills, {} database kills: posted after {struck:.1?}, \
         settled after {settled:.1?}, judged after {:.1?}; {}; {} requests refused, the slowest in {} ms\n{}",
        posted.planned.len(),
        posted.accepted.len(),
        fate.kills,
        wanted.zombies,
        wanted.brokers,
        wanted.databases,
        begun.elapsed(),
        judge.summary(),
        counts.refused.load(Ordering::Relaxed),
        counts.slowest_refusal.load(Ordering::Relaxed),
        fate.summary(),
    );
    fate.quick_enough();
}

/// What the independent reader says.
async fn judged(site: &Site, parts: &Parts, posted: &Posted) -> Judge {
    let topics = all_topics(site).await;
    let codes = site.sim.stats().codes;
    println!("codes: {codes:?}");
    let judge = Judge::new(topics, parts, &posted.planned, &posted.accepted, false).await;
    println!("{}", judge.summary());
    judge.judge(parts).await;
    assert_eq!(codes.resent_after_answer, 0, "{:?}", codes.resends);
    assert!(judge.linked > 0 && judge.deferred > 0 && judge.dead > 0);
    for (name, log) in site.logs() {
        assert!(
            !log.contains("panicked"),
            "{name}: {}",
            harness::tail_of(&log)
        );
    }
    judge
}

/// Over HTTP: some of the users ever told, each with the user it stands for now.
async fn look_up(site: &Site, parts: &Parts) {
    let _api = site.role("api", &site.api).await;
    let topics = all_topics(site).await;
    verdict::users_resolve(&topics, parts, |user| {
        let url = format!("http://{}/v1/users/{user}", site.api);
        async move { site.fleet.get(&url).await.expect("answered") }
    })
    .await;
}

/// Tables that are a function of the facts, and what tells how often anything was published.
const STATE: [&str; 10] = [
    "accounts",
    "claims",
    "own_ids",
    "unionids",
    "tombstones",
    "rulings",
    "pairs",
    "ledger",
    "sends",
    "heads",
];

/// A digest of each table.
async fn state(site: &Site) -> Vec<String> {
    let mut db = site.database().await;
    let mut digests = Vec::new();
    for table in STATE {
        let sql = format!(
            "SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM {table} t"
        );
        let digest: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut db)
            .await
            .unwrap();
        digests.push(format!("{table} {digest}"));
    }
    digests
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_the_group_publishes_nothing_again() {
    let _alone = ALONE.lock().await;
    let Some(site) = Site::new(seed() + 1).await else {
        return;
    };
    let _intake = site.role("intake", &site.intake).await;
    let events = number("RESET_EVENTS", 1_500);
    let mut workers = site.workers().await;
    let counts = Arc::new(Counts::default());
    let enough = async {
        counts.wanted.store(events, Ordering::Relaxed);
        while counts.posted.load(Ordering::Relaxed) < events {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        counts.enough.store(true, Ordering::Relaxed);
    };
    let (posted, ()) = tokio::join!(gateway::post(&site, &counts, seed() + 1), enough);
    let parts = site.parts().await;
    site.settle(&parts, &workers, SETTLED).await;
    stopped(&mut workers).await;
    let (topics, before) = (all_topics(&site).await, state(&site).await);
    let sent = site.sim.stats().codes.sent;

    site.reset().await;
    let lag = site.lag().await;
    assert_eq!(
        usize::try_from(lag).unwrap(),
        topics.logins.len(),
        "all of it is to be read again"
    );
    let mut workers = site.workers().await;
    let took = site.caught_up(&workers).await;
    site.settle(&parts, &workers, SETTLED).await;
    stopped(&mut workers).await;
    let again = all_topics(&site).await;
    assert_eq!(again.sizes(), topics.sizes(), "published again");
    assert!(again == topics, "the topics are not what they were");
    assert_eq!(state(&site).await, before);
    assert_eq!(site.sim.stats().codes.sent, sent, "a code was sent again");
    let judge = judged(&site, &parts, &posted).await;
    println!("read again in {took:.1?}: {}", judge.summary());
}

async fn stopped(workers: &mut [Option<Worker>]) {
    for worker in workers.iter_mut().flatten() {
        worker.process.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_away_are_waited_for() {
    /// Services are back, and so is everything that waited for them.
    const CAUGHT_UP: Duration = Duration::from_secs(60);
    let _alone = ALONE.lock().await;
    let away = Duration::from_secs(number("AWAY", 8) as u64);
    let Some(site) = Site::new(seed() + 2).await else {
        return;
    };
    let mut intake = site.role("intake", &site.intake).await;
    let mut workers = site.workers().await;
    let counts = Arc::new(Counts::default());
    let story = async {
        let posted = || counts.posted.load(Ordering::Relaxed);
        let refused = || counts.refused.load(Ordering::Relaxed);
        while posted() < 300 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        site.act(|cluster| cluster.kill_broker()).await;
        tokio::time::sleep(away).await;
        // A request that was under way may have been taken at the last moment.
        let (taken, told) = (posted(), refused());
        assert!(told > 0, "nobody was told that Kafka is away");
        site.act(|cluster| cluster.start_broker()).await;
        let took = site.caught_up(&workers).await;
        println!(
            "Kafka was away for {away:?}: {told} requests refused, the slowest in {} ms, caught up {took:.1?} after",
            counts.slowest_refusal.load(Ordering::Relaxed)
        );
        assert!(took < slow(CAUGHT_UP), "caught up after {took:?}");
        while posted() < taken + 300 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        let told = refused();
        site.act(|cluster| cluster.kill_database()).await;
        let taken = posted();
        tokio::time::sleep(away).await;
        let meanwhile = posted() - taken;
        assert_eq!(refused(), told, "the intake needs no database");
        assert!(meanwhile > 100, "only {meanwhile} were taken meanwhile");
        site.act(|cluster| cluster.start_database()).await;
        let took = site.caught_up(&workers).await;
        println!(
            "PostgreSQL was away for {away:?}: {meanwhile} events taken meanwhile, caught up {took:.1?} after"
        );
        assert!(took < slow(CAUGHT_UP), "caught up after {took:?}");
        counts.enough.store(true, Ordering::Relaxed);
    };
    let (posted, ()) = tokio::join!(gateway::post(&site, &counts, seed() + 2), story);
    // The same processes that were there at the beginning.
    assert!(intake.has_ended().is_none());
    let parts = site.parts().await;
    site.settle(&parts, &workers, SETTLED).await;
    stopped(&mut workers).await;
    let judge = judged(&site, &parts, &posted).await;
    println!("{}", judge.summary());
}
