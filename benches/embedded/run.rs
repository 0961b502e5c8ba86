//! The embedded profile at work: gateways' events are prepared and published, while the worker
//! applies and relays them.

use crate::generate::{Events, world};
use crate::measure::{Measured, Watch};
use crate::trace::Recorder;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use unilink::bus::Next;
use unilink::cli::assemble::Parts;
use unilink::cli::prepare::Gatekeeper;
use unilink::config::{Config, Environment};
use unilink::intake::Prepare;
use unilink::simulate::Bench;
use unilink::sqlite::Trace;
use unilink::telemetry;

/// Requests at once, and the events of each.
const REQUESTS: usize = 8;
const REQUEST: usize = 200;
/// Events published and not yet applied: a gateway's users wait for their links.
const LEAD: i64 = 20_000;
/// How often it is looked whether all is applied.
const LOOK: Duration = Duration::from_millis(20);

/// Runs it on a fresh store in `dir`; with `record`, statements are written down.
pub async fn run(dir: &Path, events: u64, record: bool) -> Measured {
    let home = tempfile::tempdir_in(dir).expect("a directory");
    let config = configuration(home.path());
    let recorder = record.then(|| Arc::new(Recorder::create(dir)));
    let trace = recorder.clone().map(|r| r as Arc<dyn Trace>);
    let parts = Arc::new(Parts::open(config, trace).await.expect("opened"));
    let _metrics = telemetry::start_metrics().expect("metrics");
    let stop = CancellationToken::new();
    let worker = parts.worker().expect("a worker");
    let working = tokio::spawn(worker.run(stop.clone()));
    let (upkeep, until) = (Arc::clone(&parts), stop.clone());
    let upkeep = tokio::spawn(async move { upkeep.upkeep(until).await });

    let watch = Watch::start();
    let mut applied = looking(&parts);
    post(&parts, &Arc::new(Events::open(dir)), &applied).await;
    let total = i64::try_from(events).expect("a number");
    applied
        .wait_for(|count| *count >= total)
        .await
        .expect("looked at");
    drop(applied);
    stop.cancel();
    working.await.expect("ended").expect("worked");
    let measured = watch.stop();

    upkeep.await.expect("ended");
    if let Some(recorder) = recorder {
        recorder.finish();
    }
    check(&parts, events).await;
    measured
}

fn configuration(dir: &Path) -> Config {
    let quoted = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    let text = format!(
        "[store]\nurl = {:?}\n\n[seal]\nkey_file = {}\n\n{}",
        format!("sqlite:{}", dir.join("unilink.db").display()),
        quoted("unilink.keys"),
        world().toml()
    );
    Config::read(&text, "the benchmark", &Environment::default()).expect("a configuration")
}

/// How many events are applied, looked at now and then: the look is not the product's work either.
fn looking(parts: &Arc<Parts>) -> watch::Receiver<i64> {
    let (tell, told) = watch::channel(0);
    let parts = Arc::clone(parts);
    tokio::spawn(async move {
        while !tell.is_closed() {
            let positions = parts.store.positions().await.expect("positions");
            tell.send_replace(positions.iter().map(|p| p.offset).sum());
            tokio::time::sleep(LOOK).await;
        }
    });
    told
}

async fn post(parts: &Arc<Parts>, events: &Arc<Events>, applied: &watch::Receiver<i64>) {
    let gatekeeper = Arc::new(Gatekeeper::new(
        &parts.config,
        parts.keys.hpke.current().clone(),
    ));
    let posted = Arc::new(AtomicI64::new(0));
    let mut gateways = JoinSet::new();
    for _ in 0..REQUESTS {
        let (parts, events) = (Arc::clone(parts), Arc::clone(events));
        let (gatekeeper, posted) = (Arc::clone(&gatekeeper), Arc::clone(&posted));
        let mut applied = applied.clone();
        gateways.spawn(async move {
            loop {
                let lines = events.next(REQUEST);
                if lines.is_empty() {
                    return;
                }
                let due = posted.load(Relaxed) - LEAD;
                applied
                    .wait_for(|count| *count >= due)
                    .await
                    .expect("looked at");
                let now = (parts.clock)();
                let events = lines.split(|b| *b == b'\n').filter(|l| !l.is_empty());
                let prepared = events.map(|e| gatekeeper.prepare(e, now).expect("taken").record);
                let prepared: Vec<_> = prepared.collect();
                posted.fetch_add(i64::try_from(prepared.len()).expect("few"), Relaxed);
                parts.bus.publish(prepared).await.expect("published");
            }
        });
    }
    while let Some(ended) = gateways.join_next().await {
        ended.expect("ended");
    }
}

async fn ends(parts: &Parts, topic: &str) -> Vec<i64> {
    let topics = parts.bus.topics(&[]).await.expect("topics");
    let topic = topics.iter().find(|t| *t.name == *topic).expect("a topic");
    topic.bounds.iter().map(|(_, next)| *next).collect()
}

/// Everybody is who they should be, and everything is told.
async fn check(parts: &Parts, events: u64) {
    let accounts = Bench::accounts(events);
    // 100,000 accounts are of 25,000 people, each of whom is there after the first 25,000 of them.
    let people = accounts / 100_000 * 25_000 + (accounts % 100_000).min(25_000);
    let totals = parts.store.totals().await.expect("totals");
    assert_eq!((totals.accounts, totals.users), (accounts, people));
    let links = ends(parts, &parts.config.topics.account_links).await;
    let links = links.iter().sum::<i64>().unsigned_abs();
    assert!(
        links >= accounts,
        "{links} links told of {accounts} accounts"
    );

    let logins = ends(parts, &parts.config.topics.logins).await;
    let member = parts.bus.join().await.expect("joined");
    let Next::Given(_, given) = member.next(LOOK, 1).await.expect("given") else {
        panic!("nothing was given");
    };
    for (partition, end) in (0u32..).zip(logins) {
        let one = given.iter().find(|g| g.partition == partition).expect("it");
        assert_eq!(one.input, Some(end), "the group's position");
        let head = parts.store.outbox_head(partition).await.expect("a head");
        assert_eq!(one.relay.map_or(0, |r| r.seq), head, "the relay's position");
    }
    eprintln!("  {accounts} accounts, {people} users, {links} links told");
}
