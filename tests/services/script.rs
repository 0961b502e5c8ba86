//! Kafka and PostgreSQL by `kafka-and-postgres.sh`, without Docker.

use super::guard::Guard;
use super::{Source, leave_out, required};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/services/kafka-and-postgres.sh"
);

/// Where a pair listens.
pub struct Addresses {
    pub kafka: String,
    pub postgres: String,
}

/// The pair that the tests of this process share. It ends with the process.
pub fn shared() -> &'static Addresses {
    static SHARED: OnceLock<Pair> = OnceLock::new();
    &SHARED.get_or_init(Pair::up).addresses
}

/// Sets a group that has no members to the beginning of a topic, with Kafka's own tool.
pub fn reset_group(kafka: &str, group: &str, topic: &str) {
    run(&["reset-group", kafka, group, topic]);
}

/// A Kafka and a PostgreSQL of one test alone, which it may kill. Started and killed by blocking calls: async tests make
/// them on a thread of their own, or with `tokio::task::block_in_place`.
pub struct Cluster(Pair);

impl Cluster {
    /// Starts both; `None` if this test is to be left out.
    pub fn start() -> Option<Self> {
        if required() || matches!(Source::asked(), Source::Script) {
            return Some(Self(Pair::up()));
        }
        leave_out(
            "services that may be killed",
            "UNILINK_TEST_SERVICES is not script",
        );
        None
    }

    /// The bootstrap address of Kafka. It stays the same.
    pub fn kafka(&self) -> &str {
        &self.0.addresses.kafka
    }

    /// The URL of an empty database. It stays the same.
    pub fn postgres(&self) -> &str {
        &self.0.addresses.postgres
    }

    /// SIGKILL.
    pub fn kill_broker(&self) {
        self.0.act("kill", "kafka");
    }

    /// In order, as an operator would.
    pub fn stop_broker(&self) {
        self.0.act("stop", "kafka");
    }

    /// Again, with its data; returns once it leads its partitions.
    pub fn start_broker(&self) {
        self.0.act("start", "kafka");
    }

    /// SIGKILL, of all its processes.
    pub fn kill_database(&self) {
        self.0.act("kill", "postgres");
    }

    /// In order; connections are ended.
    pub fn stop_database(&self) {
        self.0.act("stop", "postgres");
    }

    /// Again, with its data; returns once it takes connections.
    pub fn start_database(&self) {
        self.0.act("start", "postgres");
    }

    /// Sets a group that has no members to the beginning of a topic, with Kafka's own tool.
    pub fn reset_group(&self, group: &str, topic: &str) {
        reset_group(self.kafka(), group, topic);
    }

    /// Ends both and removes their data, as does dropping.
    pub fn stop(self) {}
}

struct Pair {
    dir: PathBuf,
    addresses: Addresses,
    // Removes the directory.
    _guard: Guard,
}

impl Pair {
    fn up() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("unilink-services-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        let name = dir.to_str().expect("a path in UTF-8");
        // First, so that what has started is ended if the rest does not.
        let guard = Guard::new(SCRIPT, &["down", name]);
        let said = run(&["up", name]);
        let address = |variable: &str| {
            let mut lines = said.lines().filter_map(|l| l.strip_prefix("export "));
            let found = lines.find_map(|l| l.strip_prefix(variable)?.strip_prefix('='));
            found.expect("the script names both").to_owned()
        };
        let addresses = Addresses {
            kafka: address("UNILINK_TEST_KAFKA"),
            postgres: address("UNILINK_TEST_POSTGRES"),
        };
        Self {
            dir,
            addresses,
            _guard: guard,
        }
    }

    fn act(&self, verb: &str, service: &str) {
        run(&[verb, service, self.dir.to_str().expect("a path in UTF-8")]);
    }
}

impl Drop for Pair {
    /// The logs go with the directory, and a test that fails may want them.
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_end(&self.dir.join("kafka/log"));
            show_end(&self.dir.join("postgres/log"));
        }
    }
}

fn show_end(log: &Path) {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("The end of {}:", log.display());
    for line in &lines[lines.len().saturating_sub(30)..] {
        eprintln!("  {line}");
    }
}

/// Runs the script and returns what it printed on stdout; what it says beside goes into the message if it fails.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(SCRIPT)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the script runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{SCRIPT} {arguments:?}: {told}");
    String::from_utf8(output.stdout).expect("text")
}
