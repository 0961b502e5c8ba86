//! An installation that may be hit: its own Kafka and PostgreSQL, an intake, an api, three workers
//! with names and one without, and the simulated WeChat in this process.

use crate::fleet::{Fleet, PATIENCE, Process};
use crate::harness::{LINKED, LOGINS, free_port, tail_of};
use crate::reader::Onlooker;
use crate::services::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use unilink::cli::assemble::Parts;
use unilink::clock;
use unilink::config::{Config, Environment};
use unilink::simulate::{Settings, Simulator, World, server};

/// The group's name, by default.
pub const GROUP: &str = "unilink";
/// As short as the broker allows.
pub const SESSION: Duration = Duration::from_secs(6);
/// The three with names, and the one without.
pub const WORKERS: usize = 4;
/// Partitions of every topic.
const PARTITIONS: u32 = 8;

pub struct Site {
    pub cluster: Arc<Cluster>,
    pub sim: Arc<Simulator>,
    pub fleet: Fleet,
    pub intake: String,
    pub api: String,
    pub onlooker: Arc<Onlooker>,
    relay: Arc<Onlooker>,
    config: String,
    starts: AtomicU32,
}

/// A worker that runs.
pub struct Worker {
    pub process: Process,
    pub since: Instant,
    pub metrics: String,
}

impl Site {
    /// Prepares everything; nothing runs but the services and the simulator.
    pub async fn new(seed: u64) -> Option<Self> {
        // On the thread that has the test's name, which is told if it is left out.
        let cluster = tokio::task::block_in_place(Cluster::start)?;
        let mut world = World::new(seed).unwrap();
        world.blocked_share = 0.0;
        // Whether a follower is asked about depends on what is known of them by then, which the verdict
        // on a history does not follow.
        world.follower_share = 0.0;
        let settings = Settings {
            remember_codes: true,
            ..Settings::default()
        };
        let sim = Arc::new(Simulator::new(world, settings, clock::system()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let wechat = listener.local_addr().unwrap();
        let for_ever = std::future::pending();
        tokio::spawn(server::serve(listener, Arc::clone(&sim), for_ever));
        let config = format!(
            "[store]\nurl = {:?}\n[bus]\nurl = \"kafka://{}\"\nreplication = 1\n\
             [bus.kafka]\n\"session.timeout.ms\" = \"{}\"\n\
             [topics]\nlinked_logins = \"{LINKED}\"\nlogins_partitions = {PARTITIONS}\n\
             [seal]\nkey_file = \"KEYS\"\n\
             [wechat]\nbase_url = \"http://{wechat}\"\n{}",
            cluster.postgres(),
            cluster.kafka(),
            SESSION.as_millis(),
            sim.world().toml(),
        );
        let fleet = Fleet::new(&config.replace("KEYS", "unilink.keys"));
        let keys = fleet.dir.path().join("unilink.keys");
        let config = config.replace("KEYS", keys.to_str().unwrap());
        for command in [
            &["keys", "new", "unilink.keys"][..],
            &["migrate"],
            &["topics"],
        ] {
            fleet.done(command).await;
        }
        let address = || format!("127.0.0.1:{}", free_port());
        Some(Self {
            onlooker: Arc::new(Onlooker::new(cluster.kafka(), GROUP)),
            relay: Arc::new(Onlooker::new(cluster.kafka(), &format!("{GROUP}.relay"))),
            cluster: Arc::new(cluster),
            sim,
            fleet,
            intake: address(),
            api: address(),
            config,
            starts: AtomicU32::new(0),
        })
    }

    /// Logs are kept: each start has one of its own.
    fn log(&self, of: &str) -> String {
        format!("{of}.{}", self.starts.fetch_add(1, Ordering::Relaxed))
    }

    pub async fn role(&self, role: &str, address: &str) -> Process {
        let listen = format!("UNILINK_{}__LISTEN", role.to_uppercase());
        let vars = [(listen.as_str(), address)];
        let process = self.fleet.start(&self.log(role), &[role], &vars);
        let url = format!("http://{address}/readyz");
        self.fleet.until(&url, 200, &process).await;
        process
    }

    /// The last has no name.
    pub fn worker(&self, n: usize) -> Worker {
        let address = format!("127.0.0.1:{}", free_port());
        let name = format!("worker-{n}");
        let mut vars = vec![("UNILINK_WORKER__LISTEN", address.as_str())];
        if n + 1 < WORKERS {
            vars.push(("UNILINK_WORKER__NAME", name.as_str()));
        }
        let process = self.fleet.start(&self.log(&name), &["worker"], &vars);
        Worker {
            process,
            since: Instant::now(),
            metrics: format!("http://{address}/metrics"),
        }
    }

    pub async fn workers(&self) -> Vec<Option<Worker>> {
        let workers: Vec<_> = (0..WORKERS).map(|n| Some(self.worker(n))).collect();
        for worker in workers.iter().flatten() {
            let url = worker.metrics.replace("/metrics", "/readyz");
            self.fleet.until(&url, 200, &worker.process).await;
        }
        workers
    }

    /// Waits until the worker has committed a unit; how long after its start.
    pub async fn committed(&self, worker: &Worker) -> Duration {
        loop {
            if let Some((200, text)) = self.fleet.get(&worker.metrics).await {
                let line = text
                    .lines()
                    .find_map(|l| l.strip_prefix("unilink_relay_seconds_count "));
                if line.is_some_and(|n| n.trim() != "0") {
                    return worker.since.elapsed();
                }
            }
            let told = || tail_of(&worker.process.logs());
            assert!(
                worker.since.elapsed() < PATIENCE,
                "commits nothing: {}",
                told()
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Where the login topic ends now. A broker that has only just come back may not say at once.
    pub async fn ends(&self) -> Vec<i64> {
        let begun = Instant::now();
        loop {
            let onlooker = Arc::clone(&self.onlooker);
            let ends = tokio::task::spawn_blocking(move || onlooker.ends()).await;
            if let Some(ends) = ends.unwrap() {
                return ends;
            }
            assert!(begun.elapsed() < PATIENCE, "the broker does not come back");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the group has committed all that stands in the login topic now; how long it took.
    pub async fn caught_up(&self, workers: &[Option<Worker>]) -> Duration {
        let (begun, ends) = (Instant::now(), self.ends().await);
        loop {
            let onlooker = Arc::clone(&self.onlooker);
            let committed = tokio::task::spawn_blocking(move || onlooker.committed());
            let committed = committed.await.unwrap();
            if committed.is_some_and(|at| at.iter().zip(&ends).all(|(at, end)| at >= end)) {
                return begun.elapsed();
            }
            assert!(
                begun.elapsed() < PATIENCE * 2,
                "stands still: {}",
                tails(workers)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How much the group has yet to commit.
    pub async fn lag(&self) -> i64 {
        let onlooker = Arc::clone(&self.onlooker);
        let lag = tokio::task::spawn_blocking(move || onlooker.lag())
            .await
            .unwrap();
        lag.expect("the broker is there")
    }

    /// A blocking act on the services.
    pub async fn act(&self, act: impl FnOnce(&Cluster) + Send + 'static) {
        let cluster = Arc::clone(&self.cluster);
        tokio::task::spawn_blocking(move || act(&cluster))
            .await
            .unwrap();
    }

    /// The store through the library, for judging.
    pub async fn parts(&self) -> Parts {
        let config = Config::read(&self.config, "the site's", &Environment::default()).unwrap();
        Parts::open(config, None).await.unwrap()
    }

    /// Waits until everything posted is committed and nothing is due within minutes.
    pub async fn settle(&self, parts: &Parts, workers: &[Option<Worker>], patience: Duration) {
        /// What is due later waits for a session key that will not come.
        const SOON_MS: i64 = 10 * 60_000;
        let begun = Instant::now();
        loop {
            let next = parts.store.next_due().await.unwrap();
            let waiting = next.is_some_and(|at| at.since((parts.clock)()) < SOON_MS);
            let onlooker = Arc::clone(&self.onlooker);
            let lag = tokio::task::spawn_blocking(move || onlooker.lag())
                .await
                .unwrap();
            let unrelayed = self.unrelayed().await;
            if !waiting && lag == Some(0) && unrelayed == 0 {
                return;
            }
            let told = format!("lag {lag:?}, next due {next:?}, {unrelayed} rows to relay");
            assert!(begun.elapsed() < patience, "{told}: {}", tails(workers));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Rows of the outbox that the second group does not say are relayed.
    async fn unrelayed(&self) -> i64 {
        let mut db = self.database().await;
        let heads: Vec<(i32, i64)> = sqlx::query_as("SELECT partition, seq FROM heads")
            .fetch_all(&mut db)
            .await
            .unwrap();
        let relay = Arc::clone(&self.relay);
        let relayed = tokio::task::spawn_blocking(move || relay.committed());
        let relayed = relayed.await.unwrap().expect("the broker is there");
        let each = heads.iter();
        each.map(|(p, seq)| seq - relayed[usize::try_from(*p).unwrap()])
            .sum()
    }

    pub async fn database(&self) -> sqlx::PgConnection {
        use sqlx::Connection;
        sqlx::PgConnection::connect(self.cluster.postgres())
            .await
            .unwrap()
    }

    /// The group back at the beginning, by Kafka's own tool.
    pub async fn reset(&self) {
        self.act(|cluster| cluster.reset_group(GROUP, LOGINS)).await;
    }

    /// All logs of all processes there ever were.
    pub fn logs(&self) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(self.fleet.dir.path()).unwrap();
        let paths = entries.map(|e| e.unwrap().path());
        let logs = paths.filter(|p| p.extension().is_some_and(|e| e == "log"));
        logs.map(|p| {
            let name = p.file_name().unwrap().to_string_lossy().into_owned();
            (name, texts_of(&std::fs::read(&p).unwrap()))
        })
        .collect()
    }
}

impl Drop for Site {
    /// The logs go with the directory, and whoever looks for what went wrong wants them all.
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var("UNILINK_CHAOS_LOGS").is_ok() {
            let kept = concat!(env!("CARGO_TARGET_TMPDIR"), "/chaos-logs");
            let kept = format!("{kept}-{}", std::process::id());
            std::fs::create_dir_all(&kept).ok();
            for (name, log) in self.logs() {
                std::fs::write(format!("{kept}/{name}"), log).ok();
            }
            eprintln!("The logs of all processes are in {kept}.");
        }
    }
}

fn texts_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn tails(workers: &[Option<Worker>]) -> String {
    let tails = workers.iter().enumerate().map(|(n, worker)| match worker {
        Some(worker) => format!("worker-{n}:\n{}\n", tail_of(&worker.process.logs())),
        None => format!("worker-{n} is away\n"),
    });
    tails.collect()
}
