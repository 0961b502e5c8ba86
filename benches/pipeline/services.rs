//! Kafka and PostgreSQL: those that `UNILINK_TEST_KAFKA` and `UNILINK_TEST_POSTGRES` name, or else a
//! pair of the benchmark's own, by the script that the tests use.

use crate::guard::Guard;
use crate::measure::Server;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection};
use std::path::Path;
use std::process::{Command, Stdio};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/services/kafka-and-postgres.sh"
);

/// Where they are.
pub struct Services {
    /// `host:port` of a broker.
    pub kafka: String,
    /// A database of a user who may make others.
    pub postgres: PgConnectOptions,
    /// For their CPU seconds.
    pub kafka_server: Server,
    /// See `kafka_server`.
    pub postgres_server: Server,
    // Ends those that were started here.
    _guard: Option<Guard>,
}

impl Services {
    /// Finds or starts them; what is started keeps its data in `dir`.
    pub fn find(dir: &Path) -> Self {
        let named = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let (kafka, postgres, guard) =
            match (named("UNILINK_TEST_KAFKA"), named("UNILINK_TEST_POSTGRES")) {
                (Some(kafka), Some(postgres)) => (kafka, postgres, None),
                _ => start(&dir.join("services")),
            };
        let postgres: PgConnectOptions = postgres.parse().expect("a URL of PostgreSQL");
        let port = kafka.rsplit_once(':').and_then(|(_, p)| p.parse().ok());
        Self {
            kafka_server: Server::listening(port.expect("host:port of a broker")),
            postgres_server: Server::listening(postgres.get_port()),
            kafka,
            postgres,
            _guard: guard,
        }
    }

    /// Runs statements that take no values, in the database that was given.
    pub async fn admin(&self, sql: String) {
        let mut server = self.postgres.connect().await.expect("PostgreSQL");
        server
            .execute(AssertSqlSafe(sql))
            .await
            .expect("administers");
    }

    /// A database of this name, new: empty, or a copy.
    pub async fn database(&self, name: &str, of: Option<&str>) -> PgConnectOptions {
        let template = of.map_or(String::new(), |of| format!(" TEMPLATE {of}"));
        self.admin(format!("CREATE DATABASE {name}{template}"))
            .await;
        self.postgres.clone().database(name)
    }

    /// Removes it.
    pub async fn drop_database(&self, name: &str) {
        self.admin(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await;
    }

    fn kafka_admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka);
        config.create().expect("a client")
    }

    /// A topic of this name, new.
    pub async fn topic(&self, name: &str, partitions: u32) {
        let partitions = i32::try_from(partitions).expect("few");
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new();
        let made = self.kafka_admin().create_topics([&topic], &options).await;
        made.expect("asked")[0].as_ref().expect("made");
    }

    /// Removes topics that are there.
    pub async fn drop_topics(&self, names: &[String]) {
        let admin = self.kafka_admin();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let gone = admin.delete_topics(&names, &AdminOptions::new()).await;
        gone.expect("asked");
    }
}

/// A connection.
pub async fn connect(to: &PgConnectOptions) -> PgConnection {
    to.clone()
        .disable_statement_logging()
        .connect()
        .await
        .expect("PostgreSQL")
}

/// Of this machine.
fn memory_mib() -> u64 {
    let told = std::fs::read_to_string("/proc/meminfo").expect("readable");
    let total = told.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = total.and_then(|t| t.trim().strip_suffix(" kB"));
    let kib: u64 = kib.and_then(|k| k.parse().ok()).expect("a number");
    kib / 1024
}

/// With a quarter of the memory for PostgreSQL's pages, as its manual advises.
fn start(dir: &Path) -> (String, String, Option<Guard>) {
    eprintln!("starting Kafka and PostgreSQL …");
    let name = dir.to_str().expect("a path in UTF-8");
    // First, so that what has started is ended if the rest does not.
    let guard = Guard::new(SCRIPT, &["down", name]);
    let output = Command::new(SCRIPT)
        .args(["up", name, "--postgres-setting"])
        .arg(format!("shared_buffers={}MB", memory_mib() / 4))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "{SCRIPT} failed");
    let said = String::from_utf8(output.stdout).expect("text");
    let address = |variable: &str| {
        let mut lines = said.lines().filter_map(|l| l.strip_prefix("export "));
        let found = lines.find_map(|l| l.strip_prefix(variable)?.strip_prefix('='));
        found.expect("the script names both").to_owned()
    };
    let (kafka, postgres) = (
        address("UNILINK_TEST_KAFKA"),
        address("UNILINK_TEST_POSTGRES"),
    );
    (kafka, postgres, Some(guard))
}
