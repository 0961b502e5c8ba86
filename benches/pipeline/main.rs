//! Throughput, latency and memory of the production profile: the real binary on a real Kafka and a
//! real PostgreSQL, beside what these two can do on the same machine without it.
//!
//! `cargo bench --bench pipeline`
//!
//! For each load and number of workers, on a fresh copy of one database:
//!
//! - **run**: the workers take the load, which lies ready, from first to last commit (`run`).
//! - **Kafka**: the same records consumed, and as many of the same size produced as the run did, in
//!   transactions as large as the run's, without logic (`kafka`).
//! - **PostgreSQL**: the statements that one worker sent for the load, recorded on their way, replayed
//!   with their values without logic (`trace`, `replay`).
//! - **again** and **beside**: `unilink replay` of what a worker has taken, and live logins beside it (`again`).
//! - **plain**: a consumer that takes one event at a time (`plain`).
//!
//! All of it shares one machine, so that an event which needs both takes at least the sum of what
//! either takes: the two ceilings a and b together allow 1 / (1/a + 1/b) events a second.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark may stop, and rounds"
)]

mod again;
#[path = "../../tests/services/guard.rs"]
mod guard;
mod kafka;
mod latency;
mod loads;
mod measure;
mod plain;
mod preload;
mod replay;
mod report;
mod run;
mod services;
mod site;
mod trace;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use loads::{Load, Loads};
use report::{Figures, Row, Scale};
use run::{Shape, Task};
use site::{Ground, PARTITIONS, Site};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use unilink::bus::Record;
use unilink::seal::Keys;

/// Measures the production profile on Kafka and PostgreSQL: at UNILINK_TEST_KAFKA and
/// UNILINK_TEST_POSTGRES, or else a pair started for it (Java and PostgreSQL must be installed).
#[derive(Parser, Clone)]
struct Options {
    /// What to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "throughput,ceilings,plain,latency,scale,again,beside"
    )]
    parts: Vec<Part>,
    /// With which loads
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "all-new,mostly-repeat,decrypt"
    )]
    loads: Vec<Load>,
    /// With how many workers
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    workers: Vec<usize>,
    /// Events of each load
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Accounts stored before each run, but for those of `scale`
    #[arg(long, default_value_t = 100_000)]
    stored: u64,
    /// Accounts stored before each run of `scale` (mostly-repeat, one worker); 10000000 takes some
    /// minutes and 10 GB
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000")]
    accounts: Vec<u64>,
    /// Logins a second of `latency`
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Seconds of `latency`, of which the first 3 do not count
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Seconds of each `plain`
    #[arg(long, default_value_t = 5)]
    plain_seconds: u64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Where services that are started keep their data [default: the system's temporary directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// `cargo bench` says so.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Loads that lie ready, by number of workers
    Throughput,
    /// What Kafka and PostgreSQL can do of it alone (beside throughput)
    Ceilings,
    /// A consumer of one event at a time (beside throughput)
    Plain,
    /// From the intake's 202 to the link, at a steady rate
    Latency,
    /// Throughput by accounts stored before
    Scale,
    /// `unilink replay` of a load that changes nothing
    Again,
    /// The latency of live logins without and beside such a replay
    Beside,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Ends with what is wrong: in mostly-repeat each person who is stored comes to a third app once at most.
    fn check(&self) {
        let repeats = self.loads.contains(&Load::MostlyRepeat) && self.wants(Part::Throughput);
        let repeats = repeats || self.wants(Part::Again) || self.wants(Part::Beside);
        let stored = repeats.then_some(("--stored", self.stored));
        let accounts = self
            .accounts
            .iter()
            .map(|accounts| ("--accounts", *accounts));
        let accounts = accounts.filter(|_| self.wants(Part::Scale));
        let least = self.events.div_ceil(10);
        if let Some((option, _)) = stored.into_iter().chain(accounts).find(|(_, n)| *n < least) {
            let why = format!(
                "{option}: {} events of mostly-repeat want {least}",
                self.events
            );
            let wrong = Self::command().error(ErrorKind::ValueValidation, why);
            wrong.exit();
        }
    }
}

/// Events of the run that does not count, at most.
const WARMING: u64 = 100_000;

/// A benchmark under way.
struct Bench {
    options: Options,
    ground: Arc<Ground>,
    figures: Figures,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    options.check();
    let at = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::Builder::new()
        .prefix("unilink-pipeline-")
        .tempdir_in(at);
    let dir = dir.expect("a directory");
    let ground = Arc::new(Ground::new(dir.path()));
    let mut bench = Bench {
        figures: Figures::new(options.events, options.stored),
        options,
        ground,
    };
    let stock = bench.ground.name();
    let loads = Loads::new(bench.options.stored);
    bench.stock(&stock, &loads).await;
    bench.warm(&loads, &stock).await;
    if bench.options.wants(Part::Throughput) {
        for load in bench.options.loads.clone() {
            bench.load(load, &loads, &stock).await;
        }
    }
    if bench.options.wants(Part::Latency) {
        bench.latency(&loads, &stock).await;
    }
    if bench.options.wants(Part::Again) {
        bench.again(&loads, &stock).await;
    }
    if bench.options.wants(Part::Beside) {
        bench.beside(&loads, &stock).await;
    }
    bench.ground.services.drop_database(&stock).await;
    if bench.options.wants(Part::Scale) {
        for accounts in bench.options.accounts.clone() {
            bench.scale(accounts).await;
        }
    }
    if bench.options.json {
        println!("{:#}", serde_json::to_value(&bench.figures).expect("JSON"));
    } else {
        bench.figures.print();
    }
}

impl Bench {
    /// A database that others are copied from.
    async fn stock(&self, name: &str, loads: &Loads) {
        eprintln!("storing {} accounts …", loads.stored);
        let site = Site::new(&self.ground, None, None).await;
        preload::fill(&site.database, loads, self.ground.namespace).await;
        let kept = site.database.get_database().expect("a name").to_owned();
        site.leave().await;
        let rename = format!("ALTER DATABASE {kept} RENAME TO {name}");
        self.ground.services.admin(rename).await;
    }

    fn records(&self, load: Load, loads: &Loads, site: &Site) -> Vec<Record> {
        self.make(load, self.options.events, loads, site)
    }

    fn make(&self, load: Load, events: u64, loads: &Loads, site: &Site) -> Vec<Record> {
        eprintln!("{}: making {events} events …", load.name());
        let keys = Keys::load(&self.ground.dir.join("unilink.keys")).expect("keys");
        loads.records(load, events, &site.config, keys.hpke.current())
    }

    /// A run that does not count: the broker compiles its own code while it first works.
    async fn warm(&self, loads: &Loads, stock: &str) {
        eprintln!("warming up …");
        let mut site = Site::new(&self.ground, Some(stock), None).await;
        let events = self.options.events.min(WARMING);
        let records = self.make(Load::AllNew, events, loads, &site);
        let task = Task {
            load: Load::AllNew,
            records: &records,
            stored: loads.stored,
            workers: 1,
        };
        run::run(&self.ground, &mut site, &task).await;
        site.end().await;
    }

    /// One load, with all numbers of workers.
    async fn load(&mut self, load: Load, loads: &Loads, stock: &str) {
        let mut records = Vec::new();
        let mut recording = None;
        for workers in self.options.workers.clone() {
            let mut site = Site::new(&self.ground, Some(stock), None).await;
            if records.is_empty() {
                records = self.records(load, loads, &site);
            }
            eprintln!("{}, {workers} workers: run …", load.name());
            let task = Task {
                load,
                records: &records,
                stored: loads.stored,
                workers,
            };
            let (run, shape) = run::run(&self.ground, &mut site, &task).await;
            let mut row = Row::new(load, workers, run, shape);
            if self.options.wants(Part::Ceilings) {
                row.kafka = Some(self.kafka(&site, workers, shape).await);
            }
            if self.options.wants(Part::Plain) {
                eprintln!("{}, {workers} workers: plain …", load.name());
                row.plain = Some(self.plain(&site, stock, workers).await);
            }
            site.end().await;
            if self.options.wants(Part::Ceilings) {
                if recording.is_none() {
                    let task = Task { workers: 1, ..task };
                    recording = Some(Arc::new(self.record(&task, stock).await));
                }
                let recording = recording.as_ref().expect("recorded");
                eprintln!("{}, {workers} workers: PostgreSQL …", load.name());
                row.postgres = Some(self.postgres(recording, stock, workers).await);
            }
            self.figures.add(row);
        }
    }

    async fn kafka(&self, site: &Site, workers: usize, shape: Shape) -> measure::Measured {
        eprintln!("  Kafka …");
        let what = kafka::Copying {
            kafka: self.ground.services.kafka.clone(),
            input: site.topic("logins"),
            output: site.topic("copy"),
            shape,
            workers,
            events: self.options.events,
        };
        self.ground.services.topic(&what.output, PARTITIONS).await;
        tokio::task::block_in_place(|| kafka::ceiling(&self.ground.services, &what))
    }

    /// The plain consumers read the same topic, and write to a database of their own.
    async fn plain(&self, of: &Site, stock: &str, workers: usize) -> measure::Measured {
        let database = self.ground.name();
        let services = &self.ground.services;
        let options = services.database(&database, Some(stock)).await;
        let time = Duration::from_secs(self.options.plain_seconds);
        let keys = self.ground.dir.join("unilink.keys");
        let plain = plain::Place {
            database: options,
            logins: of.topic("logins"),
            links: of.topic("copy"),
        };
        plain::prepare(&plain).await;
        let measured = plain::consume(services, &plain, &keys, workers, time).await;
        services.drop_database(&database).await;
        measured
    }

    /// Records the statements of one worker.
    async fn record(&self, task: &Task<'_>, stock: &str) -> trace::Recording {
        eprintln!("{}: recording statements …", task.load.name());
        let postgres = &self.ground.services.postgres;
        let server = format!("{}:{}", postgres.get_host(), postgres.get_port());
        let proxy = trace::Proxy::start(server).await;
        let mut site = Site::new(&self.ground, Some(stock), Some(proxy.port)).await;
        proxy.record(true);
        run::run(&self.ground, &mut site, task).await;
        site.end().await;
        proxy.finish()
    }

    async fn postgres(
        &self,
        recording: &Arc<trace::Recording>,
        stock: &str,
        lanes: usize,
    ) -> measure::Measured {
        let name = self.ground.name();
        let services = &self.ground.services;
        let database = services.database(&name, Some(stock)).await;
        let events = self.options.events;
        let measured = replay::ceiling(services, &database, recording, lanes, events).await;
        let sql = "SELECT count(*) FROM accounts WHERE user_id IS NOT NULL";
        let mut db = services::connect(&database).await;
        let row = sqlx::Executor::fetch_one(&mut db, sql)
            .await
            .expect("a count");
        let stored: i64 = sqlx::Row::get(&row, 0);
        let (applier, relay) = recording.statements();
        eprintln!(
            "  {applier} statements of the applier, {relay} of the relay; {stored} accounts then"
        );
        assert!(
            stored.unsigned_abs() > self.options.stored,
            "nothing was replayed"
        );
        drop(db);
        services.drop_database(&name).await;
        measured
    }

    async fn latency(&mut self, loads: &Loads, stock: &str) {
        for workers in self.options.workers.clone() {
            eprintln!("latency, {workers} workers …");
            let site = Site::new(&self.ground, Some(stock), None).await;
            let pace = (self.options.rate, self.options.seconds);
            let found = latency::measure(&self.ground, &site, loads, pace, (workers, 0)).await;
            self.figures.latency.push((workers, found));
            site.end().await;
        }
    }

    async fn again(&mut self, loads: &Loads, stock: &str) {
        eprintln!("again …");
        let mut site = Site::new(&self.ground, Some(stock), None).await;
        let records = self.records(again::LOAD, loads, &site);
        let task = Task {
            load: again::LOAD,
            records: &records,
            stored: loads.stored,
            workers: 1,
        };
        self.figures.again = Some(again::rates(&self.ground, &mut site, &task).await);
        site.end().await;
    }

    async fn beside(&mut self, loads: &Loads, stock: &str) {
        let pace = (self.options.rate, self.options.seconds);
        let repeats = |site: &Site| self.records(again::LOAD, loads, site);
        let beside = again::latencies(&self.ground, loads, stock, repeats, pace).await;
        self.figures.beside = Some(beside);
    }

    async fn scale(&mut self, accounts: u64) {
        let loads = Loads::new(accounts);
        let mut site = Site::new(&self.ground, None, None).await;
        eprintln!("scale: storing {accounts} accounts …");
        preload::fill(&site.database, &loads, self.ground.namespace).await;
        preload::warm(&site.database).await;
        let records = self.records(Load::MostlyRepeat, &loads, &site);
        let task = Task {
            load: Load::MostlyRepeat,
            records: &records,
            stored: accounts,
            workers: 1,
        };
        let (run, _) = run::run(&self.ground, &mut site, &task).await;
        let gib = site.gib().await;
        self.figures.scale.push(Scale { accounts, gib, run });
        site.end().await;
    }
}
