//! A worker whose bus or store is away goes on by itself when they are back, and keeps its membership
//! meanwhile; one whose bus or store hangs is told by the watchdog, and only then.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

mod doubles;

use doubles::{Gate, GatedBus, GatedStore, Mood};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use unilink::bus::Bus;
use unilink::cli::assemble::Parts;
use unilink::cli::prepare::Gatekeeper;
use unilink::config::{Config, Environment};
use unilink::intake::Prepare;
use unilink::store::Store;
use unilink::worker::{Stuck, Watchdog, Worker, WorkerError};

const APP: &str = "wx0123456789abcdef";
/// What the watchdog of these tests puts up with.
const LIMIT: Duration = Duration::from_millis(1_500);
/// A slow machine may take this long for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker on a real embedded file, behind two gates.
struct Site {
    _dir: tempfile::TempDir,
    /// Straight to the file.
    parts: Parts,
    store: Arc<Gate>,
    bus: Arc<Gate>,
    joined: Arc<AtomicU64>,
    behindhand: Arc<AtomicBool>,
    worker: Arc<Worker>,
    stop: CancellationToken,
    running: Option<JoinHandle<Result<(), WorkerError>>>,
}

impl Site {
    async fn working() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[store]\nurl = {:?}\n[[platforms]]\nid = \"main\"\n[[apps]]\nappid = \"{APP}\"\n\
             kind = \"mini_program\"\n[[apps.platforms]]\nid = \"main\"\n",
            format!("sqlite:{}", dir.path().join("unilink.db").display())
        );
        let config = Config::read(&text, "the test's", &Environment::default()).unwrap();
        let parts = Parts::open(config.clone(), None).await.unwrap();
        let (store, bus, joined) = (Gate::new(), Gate::new(), Arc::new(AtomicU64::new(0)));
        let behindhand = Arc::new(AtomicBool::new(false));
        let gated_bus: Arc<dyn Bus> = Arc::new(GatedBus {
            behindhand: Arc::clone(&behindhand),
            gate: Arc::clone(&bus),
            behind: Arc::clone(&parts.bus),
            joined: Arc::clone(&joined),
        });
        let gated_store: Arc<dyn Store> = Arc::new(GatedStore {
            gate: Arc::clone(&store),
            behind: Arc::clone(&parts.store),
        });
        let gated = Parts::new(config, Arc::clone(&parts.keys), gated_bus, gated_store);
        let mut worker = Arc::into_inner(gated.worker().unwrap()).unwrap();
        worker.watchdog = Watchdog::new(LIMIT);
        let worker = Arc::new(worker);
        let stop = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&worker).run(stop.clone()));
        Self {
            _dir: dir,
            parts,
            store,
            bus,
            joined,
            behindhand,
            worker,
            stop,
            running: Some(running),
        }
    }

    /// Publishes one login for each of these people, past the gates.
    async fn log_in(&self, people: std::ops::Range<u32>) {
        let seal_to = self.parts.keys.hpke.current().clone();
        let gatekeeper = Gatekeeper::new(&self.parts.config, seal_to);
        let now = (self.parts.clock)();
        let record = |n: u32| {
            let event = format!(
                "{{\"id\":\"e{n}\",\"occurred_at\":\"{now}\",\"appid\":\"{APP}\",\"openid\":\"o{n}\",\
                 \"unionid\":\"u{n}\"}}"
            );
            gatekeeper.prepare(event.as_bytes(), now).unwrap().record
        };
        self.parts
            .bus
            .publish(people.map(record).collect())
            .await
            .unwrap();
    }

    /// Records on `account-links`.
    async fn told(&self) -> i64 {
        let name = &self.parts.config.topics.account_links;
        let topics = self.parts.bus.topics(&[]).await.unwrap();
        let links = topics.iter().find(|t| t.name == *name).unwrap();
        links.bounds.iter().map(|(_, next)| next).sum()
    }

    async fn until_told(&self, count: i64) {
        let begun = Instant::now();
        while self.told().await < count {
            assert!(
                begun.elapsed() < PATIENCE,
                "only {} told",
                self.told().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.told().await, count);
    }

    /// What the watchdog says within `wait`.
    async fn bites(&self, wait: Duration) -> Option<Stuck> {
        tokio::time::timeout(wait, self.worker.watchdog.bites())
            .await
            .ok()
    }

    async fn stopped(&mut self) {
        self.stop.cancel();
        let running = self.running.take().unwrap();
        running.await.unwrap().expect("ends well");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_waited_for_within_one_membership() {
    let mut site = Site::working().await;
    site.log_in(0..20).await;
    site.until_told(20).await;
    assert_eq!(site.joined.load(Ordering::Relaxed), 1);
    site.store.set(Mood::Away);
    site.log_in(20..40).await;
    // Failing is not hanging: this is longer than the watchdog's limit.
    assert_eq!(site.bites(LIMIT * 3).await, None);
    assert_eq!(site.told().await, 20);
    let joined = site.joined.load(Ordering::Relaxed);
    assert!(
        joined <= 2,
        "joined {joined} times while the store was away"
    );
    site.store.set(Mood::Well);
    site.until_told(40).await;
    assert_eq!(site.joined.load(Ordering::Relaxed), joined);
    site.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_away_is_waited_for() {
    let mut site = Site::working().await;
    site.log_in(0..5).await;
    site.until_told(5).await;
    site.bus.set(Mood::Away);
    site.log_in(5..10).await;
    assert_eq!(site.bites(LIMIT * 2).await, None);
    site.bus.set(Mood::Well);
    site.until_told(10).await;
    site.stopped().await;
}

/// Nobody tells such a worker anything newer, since the bus believes that it knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_told_an_old_position_joins_anew() {
    let mut site = Site::working().await;
    for n in [0, 20] {
        site.log_in(n..n + 20).await;
        site.until_told(i64::from(n) + 20).await;
    }
    site.behindhand.store(true, Ordering::Relaxed);
    let joined = site.joined.load(Ordering::Relaxed);
    site.bus.set(Mood::Away);
    tokio::time::sleep(Duration::from_millis(300)).await;
    site.bus.set(Mood::Well);
    let begun = Instant::now();
    site.log_in(40..60).await;
    site.until_told(60).await;
    assert!(!site.behindhand.load(Ordering::Relaxed), "it was told");
    // First it waits for a newer assignment.
    assert!(
        begun.elapsed() > Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(site.joined.load(Ordering::Relaxed), joined + 2);
    site.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_nothing_to_do_is_not_stuck() {
    let mut site = Site::working().await;
    assert_eq!(site.bites(LIMIT * 2).await, None);
    site.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_is_noticed() {
    let site = Site::working().await;
    site.log_in(0..5).await;
    site.until_told(5).await;
    site.store.set(Mood::Hangs);
    site.log_in(5..10).await;
    let begun = Instant::now();
    let stuck = site.bites(PATIENCE).await.expect("noticed");
    assert!(begun.elapsed() >= LIMIT / 2, "{:?}", begun.elapsed());
    let steps = BTreeSet::from([
        "writing a batch",
        "taking deferred work",
        "relaying to the topics",
        "finishing what was read",
    ]);
    assert!(steps.contains(stuck.what), "{}", stuck.what);
    // What hung goes on where it was: nothing was lost.
    site.store.set(Mood::Well);
    site.until_told(10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_hangs_is_noticed() {
    let site = Site::working().await;
    site.log_in(0..5).await;
    site.until_told(5).await;
    site.bus.set(Mood::Hangs);
    let stuck = site.bites(PATIENCE).await.expect("noticed");
    let steps = BTreeSet::from(["asking the bus for news", "relaying to the topics"]);
    assert!(steps.contains(stuck.what), "{}", stuck.what);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_hangs_is_noticed() {
    let site = Site::working().await;
    site.store.set(Mood::Away);
    tokio::time::sleep(LIMIT).await;
    site.store.set(Mood::Hangs);
    let stuck = site.bites(PATIENCE).await.expect("noticed");
    assert_eq!(stuck.what, "finding where to begin");
}
