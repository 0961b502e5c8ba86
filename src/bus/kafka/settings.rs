//! What the adapter has to know, and the settings of each librdkafka client that follow from it.
//!
//! Three layers, later ones win: our defaults, what the operator passes on, what the promises rest
//! on. An operator's key that would break a promise, or that nothing would heed, is refused by name.

use super::fault;
use crate::bus::BusError;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What the Kafka bus has to know.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port,…`
    pub brokers: String,
    /// The consumer group. `<group>.relay` keeps the relay's position.
    pub group: String,
    /// The topic that the group reads.
    pub input_topic: Arc<str>,
    /// Passed on to librdkafka.
    pub client: BTreeMap<String, String>,
    /// The worker's stable name, if it has one: it comes back under it after a kill without waiting
    /// for any timeout. No two workers that run at a time may share one.
    pub name: Option<String>,
    /// Replicas of topics that are created; -1 leaves it to the broker.
    pub replication: i32,
}

impl std::fmt::Debug for KafkaSettings {
    /// Values passed on may be passwords: their keys only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("input_topic", &self.input_topic)
            .field("client", &self.client.keys().collect::<Vec<_>>())
            .field("name", &self.name)
            .field("replication", &self.replication)
            .finish()
    }
}

/// Whoever owns the outcome of a transaction waits at most about this long for it.
const TRANSACTION_TIMEOUT: &str = "15000";
/// Brokers look for transactions that have timed out every 10 s by default.
const BROKERS_LOOK: Duration = Duration::from_secs(20);

/// Sensible for everybody, unless the operator knows better.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "unilink"),
    // A broker that comes back is found within two seconds.
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
    // Brokers close idle connections; that is no news.
    ("log.connection.close", "false"),
    ("session.timeout.ms", "10000"),
    // A rebalance is noticed within a second.
    ("heartbeat.interval.ms", "1000"),
    // By default librdkafka stops fetching for a second whenever its queue is full.
    ("fetch.queue.backoff.ms", "10"),
    // Bytes read ahead of what the worker has taken.
    ("queued.max.messages.kbytes", "16384"),
    // A partition's share of one answer: one that is far behind holds the others up no longer.
    ("max.partition.fetch.bytes", "262144"),
    ("transaction.timeout.ms", TRANSACTION_TIMEOUT),
    // The topic's own limit decides, not the client's.
    ("message.max.bytes", "8388608"),
];

/// How long a rebalance waits for a member that lives and does not come: the group goes on without it,
/// and it begins anew. librdkafka's five minutes are for applications that poll when they are done
/// with what they have; ours polls all the time.
const REJOIN: &str = "max.poll.interval.ms";
/// It must not be shorter than the session.
const REJOIN_MS: u64 = 30_000;

/// Of the publisher: an answer within seconds, so that the intake can say 503.
const PUBLISHER: &[(&str, &str)] = &[
    ("message.timeout.ms", "5000"),
    ("linger.ms", "2"),
    // The publisher has bounds of its own, where callers wait instead of failing.
    ("queue.buffering.max.messages", "1000000"),
];

/// Of the transactional producer: a unit is complete when it is handed over, so nothing is gained
/// by waiting for more.
const TRANSACTIONAL: &[(&str, &str)] = &[("linger.ms", "0")];

/// Of readers outside the group: the end of a range is noticed at once, where the broker would
/// otherwise wait for more.
const READER: &[(&str, &str)] = &[
    ("fetch.wait.max.ms", "10"),
    ("queued.max.messages.kbytes", "8192"),
    ("max.partition.fetch.bytes", "1048576"),
];

/// Keys the promises rest on, and keys that nothing here would heed.
const RESERVED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set bus.url"),
    ("metadata.broker.list", "set bus.url"),
    ("group.id", "set bus.group"),
    (
        "group.instance.id",
        "it follows from the worker's stable name",
    ),
    (
        "transactional.id",
        "it follows from the group and the worker's stable name",
    ),
    ("enable.auto.commit", "offsets are committed with the work"),
    (
        "auto.commit.interval.ms",
        "offsets are committed with the work",
    ),
    ("auto.commit.enable", "offsets are committed with the work"),
    (
        "enable.auto.offset.store",
        "offsets are committed with the work",
    ),
    ("offset.store.method", "offsets are committed with the work"),
    ("isolation.level", "only committed records may be read"),
    ("enable.idempotence", "each record is published once"),
    ("acks", "all replicas acknowledge"),
    ("request.required.acks", "all replicas acknowledge"),
    ("auto.offset.reset", "each term says where reading begins"),
    ("partition.assignment.strategy", "it is cooperative-sticky"),
    ("group.protocol", "it is classic"),
    ("group.remote.assignor", "the protocol is classic"),
    (
        "partitioner",
        "Kafka's default murmur2 hash chooses partitions",
    ),
    (
        "allow.auto.create.topics",
        "topics are created by `topics` only",
    ),
    ("enable.partition.eof", "readers rely on it"),
    ("statistics.interval.ms", "nothing reads them"),
];

impl KafkaSettings {
    /// Refuses what would break a promise, and what librdkafka does not take.
    pub(super) fn check(&self) -> Result<(), BusError> {
        for (key, why) in RESERVED {
            if self.client.contains_key(*key) {
                return Err(BusError::Refused(format!(
                    "bus.kafka: {key} cannot be set: {why}"
                )));
            }
        }
        for (name, value) in [
            ("bus.url names no broker", &self.brokers),
            ("bus.group is empty", &self.group),
        ] {
            if value.is_empty() || value.contains('\0') {
                return Err(BusError::Refused(name.to_owned()));
            }
        }
        if self.name.as_deref() == Some("") {
            return Err(BusError::Refused("the worker's name is empty".to_owned()));
        }
        for config in [
            self.publisher(),
            self.reader(),
            self.member("x"),
            self.transactional("x"),
        ] {
            config.create_native_config().map_err(refused)?;
        }
        // What does not go together is found only when a client is made; publisher and reader are
        // made when the bus is opened.
        let made: Result<BaseProducer, KafkaError> = self.transactional("x").create();
        made.map(drop).map_err(refused)
    }

    /// The second group, which survives a reset of the first.
    pub(super) fn relay_group(&self) -> String {
        format!("{}.relay", self.group)
    }

    /// How long a dead producer's transaction can hide what it was about to commit.
    pub(super) fn transaction_timeout(&self) -> Duration {
        let text = self.client.get("transaction.timeout.ms");
        let millis = text.map_or(TRANSACTION_TIMEOUT, String::as_str).parse();
        Duration::from_millis(millis.unwrap_or(15_000))
    }

    /// The longest that a dead producer's transaction stays open.
    pub(super) fn lasts(&self) -> Duration {
        self.transaction_timeout() + BROKERS_LOOK
    }

    /// The shared producer of `publish`.
    pub(super) fn publisher(&self) -> ClientConfig {
        self.producer(PUBLISHER)
    }

    /// The producer of a member's units.
    pub(super) fn transactional(&self, id: &str) -> ClientConfig {
        let mut config = self.producer(TRANSACTIONAL);
        // Beyond the transaction's end nothing of it can be delivered.
        let millis = self.transaction_timeout().as_millis().to_string();
        config.set("transactional.id", id);
        config.set("message.timeout.ms", millis);
        config
    }

    fn producer(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.client(defaults);
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        config
    }

    /// The consumer that takes part in the group under the instance id `instance`.
    pub(super) fn member(&self, instance: &str) -> ClientConfig {
        let mut config = self.consumer(&[]);
        config.set("group.id", &self.group);
        config.set("group.instance.id", instance);
        config.set("partition.assignment.strategy", "cooperative-sticky");
        if !self.client.contains_key(REJOIN) {
            let session = config.get("session.timeout.ms");
            let session = session.and_then(|ms| ms.parse().ok()).unwrap_or(0);
            config.set(REJOIN, REJOIN_MS.max(session).to_string());
        }
        config
    }

    /// A consumer that asks about a group's offsets and never joins it.
    pub(super) fn onlooker(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(&[]);
        config.set("group.id", group);
        quiet(config)
    }

    /// A consumer that reads partitions without taking part in a group. librdkafka wants a group's
    /// name all the same; nothing is ever asked of or committed to it.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut config = self.consumer(READER);
        config.set("group.id", &self.group);
        config.set("enable.partition.eof", "true");
        quiet(config)
    }

    /// A client that asks about topics. It sees their ends whoever has written there.
    pub(super) fn watcher(&self) -> ClientConfig {
        let mut config = self.client(&[]);
        config.set("isolation.level", "read_uncommitted");
        quiet(config)
    }

    fn consumer(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.client(defaults);
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("isolation.level", "read_committed");
        // Where records are gone, reading goes on at the first that is held: going back is free.
        config.set("auto.offset.reset", "earliest");
        config
    }

    fn client(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in DEFAULTS.iter().chain(defaults) {
            config.set(*key, *value);
        }
        for (key, value) in &self.client {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config.set("allow.auto.create.topics", "false");
        config
    }
}

/// Nobody polls these clients' logs, which would pile up; members and publishers tell the same.
fn quiet(mut config: ClientConfig) -> ClientConfig {
    config.set_log_level(RDKafkaLogLevel::Emerg);
    config
}

/// How librdkafka says that a setting, or its value, wants TLS, and that a way to log in does.
const WITHOUT_TLS: &[&str] = &["OpenSSL not available at build time", "openssl support"];
/// TLS, and SASL but for PLAIN without TLS.
const NEEDS_TLS: &str = "needs TLS, which this build of unilink is made without: take the container image, or build \
     with `--features kafka-tls`";

/// A setting that librdkafka does not take. The value may be a secret, and so may librdkafka's words.
pub(super) fn refused(error: KafkaError) -> BusError {
    let needs_tls = |said: &str| WITHOUT_TLS.iter().any(|words| said.contains(words));
    match error {
        KafkaError::ClientConfig(result, said, key, _) => {
            let why = match result {
                rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => {
                    "is no setting of this librdkafka"
                }
                _ if needs_tls(&said) => NEEDS_TLS,
                _ => "cannot have this value",
            };
            BusError::Refused(format!("bus.kafka: {key} {why}"))
        }
        KafkaError::ClientCreation(said) if said.contains("mechanism GSSAPI") => {
            let why = "sasl.mechanism is GSSAPI (Kerberos) unless it is set, which unilink is made \
                       without: set it to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";
            BusError::Refused(format!("bus.kafka: {why}"))
        }
        KafkaError::ClientCreation(said) if needs_tls(&said) => {
            BusError::Refused(format!("bus.kafka: sasl.mechanism {NEEDS_TLS}"))
        }
        KafkaError::ClientCreation(said) => BusError::Refused(format!("bus.kafka: {said}")),
        other => fault::of("creating a client", &other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(client: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            brokers: "127.0.0.1:1".to_owned(),
            group: "g".to_owned(),
            input_topic: "in".into(),
            client: client
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            name: None,
            replication: -1,
        }
    }

    fn refusal(client: &[(&str, &str)]) -> String {
        match settings(client).check() {
            Err(BusError::Refused(text)) => text,
            other => panic!("a refusal was expected, not {other:?}"),
        }
    }

    #[test]
    fn what_breaks_a_promise_is_refused_by_name() {
        for (key, _) in RESERVED {
            assert!(refusal(&[(key, "1")]).contains(key));
        }
        settings(&[("session.timeout.ms", "30000"), ("linger.ms", "9")])
            .check()
            .unwrap();
    }

    #[test]
    fn what_librdkafka_does_not_take_is_refused_without_its_value() {
        assert!(refusal(&[("linger.msx", "5")]).contains("linger.msx"));
        let text = refusal(&[("session.timeout.ms", "secret")]);
        assert!(text.contains("session.timeout.ms") && !text.contains("secret"));
        let shown = format!("{:?}", settings(&[("sasl.password", "hidden")]));
        assert!(shown.contains("sasl.password") && !shown.contains("hidden"));
    }

    /// Whoever has TLS can have all of these but Kerberos.
    #[test]
    fn what_needs_tls_is_refused_with_the_remedy() {
        let scram = [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "SCRAM-SHA-256"),
            ("sasl.username", "hidden"),
            ("sasl.password", "hidden"),
        ];
        for client in [
            &[("security.protocol", "ssl")][..],
            &[("security.protocol", "sasl_ssl"), scram[1]],
            &[("ssl.key.password", "hidden")],
            &scram,
        ] {
            if cfg!(feature = "kafka-tls") {
                let client = [client, &scram[2..]].concat();
                settings(&client).check().unwrap();
                continue;
            }
            let text = refusal(client);
            assert!(text.contains("--features kafka-tls"), "{text}");
            let key = ["security.protocol", "ssl.key.password", "sasl.mechanism"];
            assert!(key.iter().any(|key| text.contains(key)), "{text}");
            assert!(!text.contains("hidden"), "{text}");
        }
        let text = refusal(&scram[..1]);
        assert!(text.contains("GSSAPI") && text.contains("PLAIN"), "{text}");
        let plain = [scram[0], ("sasl.mechanism", "PLAIN"), scram[2], scram[3]];
        settings(&plain).check().unwrap();
    }

    #[test]
    fn what_the_operator_sets_wins_over_defaults_only() {
        let settings = settings(&[("linger.ms", "9"), ("message.timeout.ms", "99999")]);
        assert_eq!(settings.publisher().get("linger.ms"), Some("9"));
        assert_eq!(
            settings.publisher().get("message.timeout.ms"),
            Some("99999")
        );
        let long = |key| {
            self::settings(&[(key, "60000")])
                .member("x")
                .get(REJOIN)
                .map(str::to_owned)
        };
        assert_eq!(settings.member("x").get(REJOIN), Some("30000"));
        assert_eq!(long(REJOIN).as_deref(), Some("60000"));
        assert_eq!(long("session.timeout.ms").as_deref(), Some("60000"));
        let units = settings.transactional("x");
        assert_eq!(units.get("message.timeout.ms"), Some("15000"));
        assert_eq!(
            settings.member("x").get("isolation.level"),
            Some("read_committed")
        );
    }
}
