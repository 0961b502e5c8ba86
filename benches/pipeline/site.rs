//! One installation: a database, topics, a group and processes of the real binary. Each timed run
//! has one of its own; what it made is removed when it is done.

use crate::loads;
use crate::measure::{cpu, peak};
use crate::services::{Services, connect};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Row};
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use unilink::bus::Record;
use unilink::cli::assemble::open_bus;
use unilink::config::{Config, Environment};
use uuid::Uuid;

/// Partitions of every topic.
pub const PARTITIONS: u32 = 8;
/// Whatever takes longer is stuck.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// Records handed to the bus at once.
const PUBLISH: usize = 5_000;
/// The sinks of a run besides `account-links`, and the topic that is read.
const TOPICS: [&str; 7] = [
    "logins",
    "account-links",
    "user-merges",
    "registers",
    "link-conflicts",
    "dlq",
    "copy",
];

/// What all installations share.
pub struct Ground {
    /// Kafka and PostgreSQL.
    pub services: Services,
    /// Holds the key file, configurations and logs.
    pub dir: PathBuf,
    /// What user ids are made in.
    pub namespace: Uuid,
    /// Names of databases and topics begin so.
    prefix: String,
    made: AtomicU32,
}

impl Ground {
    /// With a key file.
    pub fn new(dir: &Path) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        let ground = Self {
            services: Services::find(dir),
            dir: dir.to_owned(),
            namespace: Uuid::new_v4(),
            prefix: format!("unilink_bench_{}", &id[..8]),
            made: AtomicU32::new(0),
        };
        let made = command(dir).args(["keys", "new", "unilink.keys"]).output();
        let made = made.expect("runs");
        assert!(made.status.success(), "{}", text(&made.stderr));
        ground
    }

    /// A name that nothing else has.
    pub fn name(&self) -> String {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        format!("{}_{n}", self.prefix)
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unilink"));
    // Nothing of the developer's own configuration.
    command.env_clear().current_dir(dir);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A port of this machine that was free a moment ago.
fn address() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("bound").to_string()
}

/// One installation.
pub struct Site {
    ground: Arc<Ground>,
    name: String,
    /// Its database.
    pub database: PgConnectOptions,
    /// Its configuration.
    pub config: Config,
    dir: PathBuf,
    db: PgConnection,
}

impl Site {
    /// In a new database, or a copy of one. With `proxy`, the processes reach the database there.
    pub async fn new(ground: &Arc<Ground>, of: Option<&str>, proxy: Option<u16>) -> Self {
        let name = ground.name();
        let database = ground.services.database(&name, of).await;
        let dir = ground.dir.join(&name);
        std::fs::create_dir(&dir).expect("a directory");
        let reached = match proxy {
            Some(port) => database.clone().port(port),
            None => database.clone(),
        };
        let text = configuration(ground, &name, reached.to_url_lossy().as_str());
        std::fs::write(dir.join("unilink.toml"), &text).expect("written");
        let config = Config::read(&text, "the benchmark", &Environment::default());
        for todo in ["migrate", "topics"] {
            let done = command(&dir).arg(todo).output().expect("runs");
            assert!(
                done.status.success(),
                "{todo}: {}",
                self::text(&done.stderr)
            );
        }
        Self {
            ground: Arc::clone(ground),
            db: connect(&database).await,
            name,
            database,
            config: config.expect("a configuration"),
            dir,
        }
    }

    /// The full name of one of its topics.
    pub fn topic(&self, of: &str) -> String {
        format!("{}.{of}", self.name)
    }

    /// The real binary, here.
    pub fn command(&self) -> Command {
        command(&self.dir)
    }

    /// A role of the real binary.
    pub fn start(&self, role: &'static str, n: usize) -> Process {
        let (log, address) = (self.dir.join(format!("{role}-{n}.log")), address());
        let child = command(&self.dir)
            .arg(role)
            .env(format!("UNILINK_{}__LISTEN", role.to_uppercase()), &address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("started");
        Process {
            child,
            log,
            address,
        }
    }

    /// Workers that have joined and hold all partitions between them.
    pub async fn workers(&self, count: usize) -> Vec<Process> {
        let workers: Vec<_> = (0..count).map(|n| self.start("worker", n)).collect();
        let begun = Instant::now();
        let mut settled = 0;
        while settled < 10 {
            let held: Vec<u32> = workers.iter().map(Process::partitions).collect();
            let whole = held.iter().sum::<u32>() == PARTITIONS && held.iter().all(|n| *n > 0);
            settled = if whole { settled + 1 } else { 0 };
            assert!(
                begun.elapsed() < PATIENCE,
                "no worker: {}",
                workers[0].said()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        workers
    }

    /// Publishes records of any installation to this one's login topic.
    pub async fn publish(&self, records: &[Record]) {
        let bus = open_bus(&self.config).await.expect("a bus");
        let logins = Arc::clone(&self.config.topics.logins);
        for some in records.chunks(PUBLISH) {
            let here = some.iter().map(|record| Record {
                topic: Arc::clone(&logins),
                ..record.clone()
            });
            bus.publish(here.collect()).await.expect("published");
        }
    }

    /// Events that the store has applied.
    pub async fn applied(&mut self) -> u64 {
        let sql = "SELECT coalesce(sum(\"offset\"), 0)::bigint FROM positions";
        let row = self.db.fetch_one(sql).await.expect("positions");
        u64::try_from(row.get::<i64, _>(0)).expect("a count")
    }

    /// Accounts that are stored.
    pub async fn accounts(&mut self) -> u64 {
        let sql = "SELECT count(*) FROM accounts WHERE user_id IS NOT NULL";
        let row = self.db.fetch_one(sql).await.expect("accounts");
        u64::try_from(row.get::<i64, _>(0)).expect("a count")
    }

    /// Waits until the group has committed so many events.
    pub async fn committed(&self, events: u64) {
        let (kafka, logins) = (self.ground.services.kafka.clone(), self.topic("logins"));
        let group = self.config.bus.group.clone();
        let waiting = tokio::task::spawn_blocking(move || {
            let consumer = consumer(&kafka, &group, "read_uncommitted");
            let begun = Instant::now();
            while committed(&consumer, &logins) < events {
                assert!(begun.elapsed() < PATIENCE, "never all committed");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        waiting.await.expect("waited");
    }

    /// How many records are committed on a topic, and their bytes.
    pub async fn count(&self, of: &str) -> (u64, u64) {
        let (kafka, topic) = (self.ground.services.kafka.clone(), self.topic(of));
        let counting = tokio::task::spawn_blocking(move || count(&kafka, &topic));
        counting.await.expect("counted")
    }

    /// How many records are committed on each topic but that of logins.
    pub async fn published(&self) -> Vec<u64> {
        let mut counts = Vec::new();
        for topic in &TOPICS[1..6] {
            counts.push(self.count(topic).await.0);
        }
        counts
    }

    /// Rows that were inserted, updated or deleted by processes that have ended, but for what operators'
    /// commands note about themselves.
    pub async fn written(&mut self) -> i64 {
        let sql = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint \
             FROM pg_stat_user_tables WHERE relname NOT IN ('jobs', 'audits', 'answers')";
        let row = self.db.fetch_one(sql).await.expect("statistics");
        row.get(0)
    }

    /// Size of its database.
    pub async fn gib(&mut self) -> f64 {
        let sql = "SELECT pg_database_size(current_database())";
        let row = self.db.fetch_one(sql).await.expect("a size");
        row.get::<i64, _>(0) as f64 / f64::from(1 << 30)
    }

    /// Removes what it made, but for its database.
    pub async fn leave(self) {
        self.db.close().await.expect("closed");
        let topics: Vec<String> = TOPICS
            .iter()
            .map(|t| format!("{}.{t}", self.name))
            .collect();
        self.ground.services.drop_topics(&topics).await;
    }

    /// Removes what it made.
    pub async fn end(self) {
        let (ground, name) = (Arc::clone(&self.ground), self.name.clone());
        self.leave().await;
        ground.services.drop_database(&name).await;
    }
}

fn configuration(ground: &Ground, name: &str, database: &str) -> String {
    let keys = ground.dir.join("unilink.keys").display().to_string();
    let topics = TOPICS[..6].iter().map(|topic| {
        let key = topic.replace('-', "_");
        format!("{key} = \"{name}.{topic}\"\n")
    });
    format!(
        "[store]\nurl = {database:?}\n[bus]\nurl = \"kafka://{}\"\nreplication = 1\n\
         group = \"{name}\"\n[bus.kafka]\n\"session.timeout.ms\" = \"120000\"\n\
         [topics]\n{}logins_partitions = {PARTITIONS}\n[seal]\nkey_file = {keys:?}\n\
         [identity]\nnamespace = \"{}\"\n{}",
        ground.services.kafka,
        topics.collect::<String>(),
        ground.namespace,
        loads::world().toml(),
    )
}

/// A consumer of no group's partitions.
pub fn consumer(kafka: &str, group: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", group)
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .create()
        .expect("a consumer")
}

/// All partitions of a topic, from an offset on.
pub fn partitions(topic: &str, from: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let partition = i32::try_from(partition).expect("few");
        let added = list.add_partition_offset(topic, partition, from);
        added.expect("a partition");
    }
    list
}

fn committed(consumer: &BaseConsumer, topic: &str) -> u64 {
    let list = partitions(topic, Offset::Invalid);
    let found = consumer.committed_offsets(list, Duration::from_secs(10));
    let found = found.expect("offsets");
    let offsets = found.elements().into_iter().map(|e| match e.offset() {
        Offset::Offset(at) => u64::try_from(at).expect("an offset"),
        _ => 0,
    });
    offsets.sum()
}

fn count(kafka: &str, topic: &str) -> (u64, u64) {
    let consumer = consumer(kafka, "a-count", "read_committed");
    let from = partitions(topic, Offset::Beginning);
    consumer.assign(&from).expect("assigned");
    let (mut ended, mut records, mut bytes) = (0, 0, 0);
    while ended < PARTITIONS {
        match consumer.poll(Duration::from_secs(10)) {
            Some(Ok(record)) => {
                records += 1;
                bytes += record.payload_len() as u64;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("{topic}: {error}"),
            None => panic!("{topic} has no end"),
        }
    }
    (records, bytes)
}

/// A process, killed when it is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Where it listens.
    pub address: String,
}

impl Process {
    /// Its log so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Partitions of the term it works on, as its log tells.
    fn partitions(&self) -> u32 {
        let said = self.said();
        let last = said.lines().rev().find(|l| l.contains("working"));
        let held = last.and_then(|l| l.split("partitions=").nth(1));
        held.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }

    /// CPU seconds so far.
    pub fn cpu(&self) -> f64 {
        cpu(self.child.id())
    }

    /// Largest resident set so far, in MiB.
    pub fn peak(&self) -> f64 {
        peak(self.child.id())
    }

    /// Waits for its orderly end.
    pub fn ended(mut self) {
        let status = self.child.wait().expect("ended");
        assert!(status.success(), "{status}: {}", self.said());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Sends one signal to all, at once.
pub fn signal(name: &str, all: &[Process]) {
    let pids = all.iter().map(|p| p.child.id().to_string());
    let sent = Command::new("kill").args(["-s", name]).args(pids).status();
    assert!(sent.expect("kill runs").success());
}
