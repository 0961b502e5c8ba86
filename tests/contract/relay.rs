//! The relay on both buses, with a clock that is told what time it is: positions that do not move are
//! committed again every day, since Kafka forgets those of a group without members after
//! `offsets.retention.minutes` (seven days by default), and the relay's group has none.

use super::bus::{Backend, PARTITIONS};
use super::embedded::Embedded;
use super::kafka::Kafka;
use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use sqlx::{Connection, Executor};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use unilink::bus::{
    Assigned, Bus, BusError, Committed, Member, Next, Progress, Record, RelayPosition, Term, Unit,
};
use unilink::clock::Clock;
use unilink::model::Millis;
use unilink::outbox::{Finished, Relay};
use unilink::sqlite::{File, Options};
use unilink::store::sqlite::SqliteStore;
use unilink::store::{Birth, Store, StoreError};
use unilink::worker::{RecoverError, recover};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A bus that forgets what the relay's group has committed, as Kafka does after a week.
#[async_trait]
trait Forgets: Backend {
    async fn forget(&self);
}

#[async_trait]
impl Forgets for Embedded {
    async fn forget(&self) {
        let url = format!("sqlite:{}", self.dir.path().join("unilink.db").display());
        let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let forget = "UPDATE log_positions SET relay = NULL";
        file.execute(forget).await.unwrap();
        file.close().await.unwrap();
    }
}

#[async_trait]
impl Forgets for Kafka {
    async fn forget(&self) {
        let settings = self.settings(None);
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", settings.brokers)
            .create()
            .unwrap();
        let relay = format!("{}.relay", settings.group);
        let deleted = admin.delete_groups(&[&relay], &AdminOptions::new()).await;
        assert!(deleted.unwrap().iter().all(Result::is_ok));
    }
}

/// Notes the partitions of each unit.
struct Noting {
    behind: Arc<dyn Member>,
    units: Mutex<Vec<Vec<u32>>>,
}

#[async_trait]
impl Member for Noting {
    async fn next(&self, wait: Duration, limit: usize) -> Result<Next, BusError> {
        self.behind.next(wait, limit).await
    }
    async fn start(&self, term: Term, at: &[(u32, i64)]) -> Result<(), BusError> {
        self.behind.start(term, at).await
    }
    async fn commit(&self, unit: Unit) -> Result<Committed, BusError> {
        let partitions = unit.progress.iter().map(|p| p.partition).collect();
        self.units.lock().unwrap().push(partitions);
        self.behind.commit(unit).await
    }
}

/// What the worker has finished: nothing, unless a test puts it here.
#[derive(Default)]
struct Books(Mutex<BTreeMap<u32, i64>>);

impl Finished for Books {
    fn take(&self, partition: u32, _: usize) -> Option<(i64, Vec<Record>)> {
        let next = self.0.lock().unwrap().remove(&partition)?;
        Some((next, Vec::new()))
    }
}

struct Site {
    _dir: tempfile::TempDir,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    member: Arc<Noting>,
    books: Arc<Books>,
    now: Arc<AtomicI64>,
    relay: Relay,
    start: Vec<Progress>,
}

impl Site {
    /// A term of a worker that is the group's only one, with positions as they are after some work.
    async fn new(backend: &impl Backend) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let file = File::open(&path, Options::default()).await.unwrap();
        let birth = Birth {
            partitions: PARTITIONS,
            group: "g".into(),
            secrets_hash: [7; 32],
        };
        let mac = |_: &str| [0; 32];
        let store = SqliteStore::open(file, birth, Uuid::new_v4(), Arc::new(mac)).await;
        let store: Arc<dyn Store> = Arc::new(store.unwrap());
        let bus = backend.client().await;
        let member = bus.join().await.unwrap();
        let (term, given) = given(&*member).await;
        assert_eq!(given.len(), usize::try_from(PARTITIONS).unwrap());
        let start = (0..PARTITIONS).map(|partition| Progress {
            partition,
            input: 0,
            relay: RelayPosition {
                store: store.identity().store,
                seq: 7 + u64::from(partition),
                row: Uuid::from_u128(u128::from(partition)),
                inline: 3,
            },
        });
        let start: Vec<Progress> = start.collect();
        let at: Vec<(u32, i64)> = start.iter().map(|p| (p.partition, p.input)).collect();
        member.start(term, &at).await.unwrap();
        let unit = Unit {
            term,
            progress: start.clone(),
            records: vec![],
        };
        assert_eq!(member.commit(unit).await.unwrap(), Committed::Visible);
        let units = Mutex::default();
        let member = Arc::new(Noting {
            behind: member,
            units,
        });
        let (books, now) = (Arc::new(Books::default()), Arc::new(AtomicI64::new(HOUR)));
        let told = Arc::clone(&now);
        let clock: Clock = Arc::new(move || Millis(told.load(Ordering::SeqCst)));
        let relay = Relay::new(
            Arc::clone(&store),
            Arc::clone(&member) as Arc<dyn Member>,
            Arc::clone(&books) as Arc<dyn Finished>,
            clock,
            term,
            &start,
        );
        Self {
            _dir: dir,
            bus,
            store,
            member,
            books,
            now,
            relay,
            start,
        }
    }

    /// Time passes; the partitions that are committed then.
    async fn after(&mut self, time: i64) -> Vec<u32> {
        self.now.fetch_add(time, Ordering::SeqCst);
        // The second turn finds nothing left to do.
        for _ in 0..2 {
            self.relay.turn(true).await.unwrap();
        }
        let mut units = std::mem::take(&mut *self.member.units.lock().unwrap());
        assert!(units.len() <= 1, "{units:?}");
        units.pop().unwrap_or_default()
    }

    async fn remembered(&self) -> Vec<Assigned> {
        self.bus.group().await.unwrap()
    }

    fn relays(&self) -> Vec<Option<RelayPosition>> {
        self.start.iter().map(|p| Some(p.relay)).collect()
    }
}

async fn given(member: &dyn Member) -> (Term, Vec<Assigned>) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Next::Given(term, assigned) = member.next(PATIENCE, 100).await.unwrap() {
            return (term, assigned);
        }
    }
    panic!("nothing was given");
}

async fn idle_positions_are_committed_daily(backend: impl Forgets) {
    let mut site = Site::new(&backend).await;
    let all: Vec<u32> = (0..PARTITIONS).collect();
    assert_eq!(site.after(0).await, [0; 0], "a term begins without it");
    backend.forget().await;
    let relays = |group: Vec<Assigned>| group.into_iter().map(|a| a.relay).collect::<Vec<_>>();
    assert!(
        relays(site.remembered().await).iter().all(Option::is_none),
        "forgotten"
    );
    // Nobody knows how old they were when the term began.
    assert_eq!(site.after(59 * MINUTE).await, [0; 0]);
    assert_eq!(site.after(MINUTE).await, all);
    assert_eq!(relays(site.remembered().await), site.relays());

    backend.forget().await;
    site.books.0.lock().unwrap().insert(2, 0);
    assert_eq!(site.after(12 * HOUR).await, [2], "only what moved");
    assert_eq!(site.after(11 * HOUR + 59 * MINUTE).await, [0; 0]);
    assert_eq!(site.after(MINUTE).await, [0, 1, 3]);
    assert_eq!(relays(site.remembered().await), site.relays());
    assert_eq!(site.after(12 * HOUR).await, [2]);
    // A clock that was years ahead is set right.
    site.now.store(0, Ordering::SeqCst);
    assert_eq!(site.after(0).await, all);
    let inputs = site.remembered().await.into_iter().map(|a| a.input);
    assert_eq!(inputs.collect::<Vec<_>>(), [Some(0); 4]);
}

/// The store holds none of the rows that were relayed. Whoever still has the partition has a foreign
/// store; whoever lost it, and has not heard so, finds pruned what the new owner has relayed on from.
async fn an_assignment_that_is_over_says_nothing_of_the_store(backend: impl Backend) {
    let site = Site::new(&backend).await;
    let mut given = site.bus.group().await.unwrap();
    let topic: Arc<str> = Arc::from("not read");
    let found = recover(&site.bus, &site.store, &topic, &topic, &given).await;
    let foreign = matches!(found, Err(RecoverError::Store(StoreError::Mismatch(_))));
    assert!(foreign, "{found:?}");
    for assigned in &mut given {
        assigned.relay.as_mut().unwrap().seq -= 1;
    }
    let found = recover(&site.bus, &site.store, &topic, &topic, &given).await;
    let over = matches!(
        found,
        Err(RecoverError::Overtaken(BusError::Unavailable(_)))
    );
    assert!(over, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_is_over_says_nothing_of_the_store_on_the_embedded_bus() {
    an_assignment_that_is_over_says_nothing_of_the_store(Embedded::fresh().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_is_over_says_nothing_of_the_store_on_kafka() {
    if Kafka::left_out() {
        return;
    }
    an_assignment_that_is_over_says_nothing_of_the_store(Kafka::fresh().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_positions_are_committed_daily_on_the_embedded_bus() {
    idle_positions_are_committed_daily(Embedded::fresh().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_positions_are_committed_daily_on_kafka() {
    if Kafka::left_out() {
        return;
    }
    idle_positions_are_committed_daily(Kafka::fresh().await).await;
}
