//! Kafka as a backend of the contract: topics and groups of its own for each test, a client of its
//! own for each process there might be.

use super::bus::{Backend, PARTITIONS, specs};
use crate::services;
use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use unilink::bus::kafka::{KafkaBus, KafkaSettings};
use unilink::bus::{Bus, Next};
use uuid::Uuid;

/// How long the group may take to come to rest.
const REST: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);

pub struct Kafka {
    brokers: String,
    prefix: String,
}

/// The settings of a worker, named or not, in the world that `prefix` stands for.
pub fn settings(prefix: &str, name: Option<&str>) -> KafkaSettings {
    KafkaSettings {
        brokers: services::kafka().unwrap().to_string(),
        group: format!("{prefix}.g"),
        input_topic: format!("{prefix}.in").into(),
        client: BTreeMap::from([("session.timeout.ms".to_owned(), "6000".to_owned())]),
        name: name.map(str::to_owned),
        replication: -1,
    }
}

impl Kafka {
    /// A world of its own, with its topics.
    pub async fn new() -> Self {
        let kafka = Self {
            brokers: services::kafka().unwrap().to_string(),
            prefix: format!("t-{}", Uuid::new_v4().simple()),
        };
        let topics = specs(|short| kafka.name(short));
        kafka.client().await.topics(&topics).await.unwrap();
        kafka
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn settings(&self, name: Option<&str>) -> KafkaSettings {
        settings(&self.prefix, name)
    }

    /// A consumer that has nothing to do with ours.
    pub fn outsider(&self, group: &str) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap()
    }

    /// A transaction with a record in partition 0 that nobody ends, as a killed worker leaves it. The
    /// brokers end it some seconds later.
    pub fn left_open(&self, topic: &str) -> BaseProducer {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("transactional.id", format!("{}.dead", self.prefix))
            .set("transaction.timeout.ms", "6000")
            .set("message.timeout.ms", "6000")
            .create()
            .unwrap();
        producer.init_transactions(REST).unwrap();
        producer.begin_transaction().unwrap();
        let record = BaseRecord::to(topic).partition(0).key("k").payload("open");
        producer.send(record).map_err(|(e, _)| e).unwrap();
        producer.flush(REST).unwrap();
        producer
    }

    /// Waits until the group has this many members, and no more comes of it.
    pub async fn members(&self, count: usize) {
        let (group, outsider) = (self.settings(None).group, self.outsider("nobody"));
        let begun = Instant::now();
        while begun.elapsed() < REST {
            if rests_with(&outsider, &group, count) {
                tokio::time::sleep(Duration::from_millis(500)).await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the group has not come to {count} members");
    }
}

fn rests_with(outsider: &BaseConsumer, group: &str, count: usize) -> bool {
    let groups = outsider.fetch_group_list(Some(group), ANSWER).unwrap();
    let mut groups = groups.groups().iter();
    let one = groups.next();
    one.map_or(count == 0, |g| {
        // One that is gone altogether is dead.
        let quiet = ["Stable", "Empty", "Dead"].contains(&g.state());
        quiet && g.members().len() == count
    })
}

#[async_trait]
impl Backend for Kafka {
    const GAPLESS_UNITS: bool = false;
    /// What is fetched at once is given in the order of fetching.
    const AHEAD: usize = 30_000;
    /// Each takes two changes of membership.
    const TORN: i64 = 16;

    fn left_out() -> bool {
        services::kafka().is_none()
    }

    async fn fresh() -> Self {
        Self::new().await
    }

    async fn client(&self) -> Arc<dyn Bus> {
        KafkaBus::open(self.settings(None)).unwrap()
    }

    fn name(&self, short: &str) -> Arc<str> {
        format!("{}.{short}", self.prefix).into()
    }

    /// Another worker joins, is given its share, and leaves.
    async fn steal(&self) {
        let thief = self.client().await.join().await.unwrap();
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < REST, "nothing was given to the other");
            let next = thief.next(REST, 1).await.unwrap();
            if matches!(next, Next::Given(_, assigned) if !assigned.is_empty()) {
                break;
            }
        }
        drop(thief);
        self.members(1).await;
    }

    async fn reset_group(&self, to: i64) {
        self.members(0).await;
        let settings = self.settings(None);
        let outsider = self.outsider(&settings.group);
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(PARTITIONS).unwrap() {
            let (_, end) = outsider
                .fetch_watermarks(&settings.input_topic, partition, ANSWER)
                .unwrap();
            let to = Offset::Offset(to.min(end));
            list.add_partition_offset(&settings.input_topic, partition, to)
                .unwrap();
        }
        outsider.commit(&list, CommitMode::Sync).unwrap();
    }
}
