//! The services of the tests are what they are taken for: a Kafka that keeps a transaction to itself until it is committed,
//! a PostgreSQL that this program can talk to, and a pair that comes back where it was after a kill.

// Helpers of tests are no `#[test]`s; they fail by panicking all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod services;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sqlx::Connection;
use std::time::{Duration, Instant};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);
/// A killed service is back, ready, within this.
const BACK: Duration = Duration::from_secs(20);

fn settings(kafka: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", kafka);
    settings
}

/// A topic of one partition with a name of its own.
async fn topic(kafka: &str) -> String {
    let name = format!("smoke-{}", Uuid::new_v4());
    let admin: AdminClient<DefaultClientContext> = settings(kafka).create().expect("a client");
    let wanted = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let made = admin.create_topics([&wanted], &options).await;
    assert_eq!(made.expect("an answer"), vec![Ok(name.clone())]);
    name
}

type Transactional = ThreadedProducer<rdkafka::producer::DefaultProducerContext>;

fn producer(kafka: &str) -> Transactional {
    let producer: Transactional = settings(kafka)
        .set("transactional.id", Uuid::new_v4().to_string())
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("transactions");
    producer
}

fn send(producer: &Transactional, topic: &str, value: &str) {
    let record = BaseRecord::to(topic).key("key").payload(value);
    producer.send(record).map_err(|(e, _)| e).expect("queued");
    producer.flush(PATIENCE).expect("delivered");
}

/// A reader of the whole topic, in a group of its own; it sees what is committed.
fn reader(kafka: &str, topic: &str, group: &str) -> BaseConsumer {
    let consumer: BaseConsumer = settings(kafka)
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    consumer
}

/// The next value, or none within the time.
fn next(consumer: &BaseConsumer, within: Duration) -> Option<String> {
    let end = Instant::now() + within;
    while Instant::now() < end {
        // Errors come while a broker is away or a topic is new; the reader goes on by itself.
        if let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) {
            let value = record.payload_view::<str>().expect("a value");
            return Some(value.expect("text").to_owned());
        }
    }
    None
}

#[tokio::test]
async fn kafka_shows_a_transaction_once_it_is_committed() {
    let Some(kafka) = services::kafka() else {
        return;
    };
    let topic = topic(kafka).await;
    let producer = producer(kafka);
    producer.begin_transaction().expect("begun");
    send(&producer, &topic, "aborted");
    producer.abort_transaction(PATIENCE).expect("aborted");
    producer.begin_transaction().expect("begun");
    send(&producer, &topic, "committed");

    let reader = reader(kafka, &topic, &topic);
    assert_eq!(next(&reader, Duration::from_secs(3)), None);
    producer.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(next(&reader, PATIENCE).as_deref(), Some("committed"));
    assert_eq!(next(&reader, Duration::from_secs(1)), None);
}

#[tokio::test]
async fn kafka_sets_a_group_back_with_its_own_tool() {
    // The tool comes with the script.
    let Some(cluster) = services::Cluster::start() else {
        return;
    };
    let kafka = cluster.kafka();
    let topic = topic(kafka).await;
    let producer = producer(kafka);
    producer.begin_transaction().expect("begun");
    send(&producer, &topic, "first");
    producer.commit_transaction(PATIENCE).expect("committed");

    let read = reader(kafka, &topic, &topic);
    assert_eq!(next(&read, PATIENCE).as_deref(), Some("first"));
    let mut done = TopicPartitionList::new();
    let added = done.add_partition_offset(&topic, 0, Offset::Offset(1));
    added.expect("a position");
    read.commit(&done, CommitMode::Sync).expect("committed");
    drop(read);

    let read = reader(kafka, &topic, &topic);
    assert_eq!(next(&read, Duration::from_secs(3)), None);
    drop(read);
    cluster.reset_group(&topic, &topic);
    let read = reader(kafka, &topic, &topic);
    assert_eq!(next(&read, PATIENCE).as_deref(), Some("first"));
}

async fn version(url: &str) -> Result<String, sqlx::Error> {
    let mut connection = sqlx::PgConnection::connect(url).await?;
    sqlx::query_scalar("SELECT version()")
        .fetch_one(&mut connection)
        .await
}

#[tokio::test]
async fn postgres_answers() {
    let Some(url) = services::postgres() else {
        return;
    };
    let version = version(url).await.expect("an answer");
    assert!(version.starts_with("PostgreSQL"), "{version}");
}

#[tokio::test]
async fn postgres_comes_back_after_a_kill_with_what_was_committed() {
    let Some(cluster) = services::Cluster::start() else {
        return;
    };
    let url = cluster.postgres();
    let mut connection = sqlx::PgConnection::connect(url).await.expect("connected");
    for statement in [
        "CREATE TABLE kept (word text)",
        "INSERT INTO kept VALUES ('kept')",
    ] {
        let done = sqlx::query(statement).execute(&mut connection).await;
        done.expect("committed");
    }

    cluster.kill_database();
    assert!(connection.ping().await.is_err());
    assert!(version(url).await.is_err());
    let begun = Instant::now();
    cluster.start_database();
    assert!(begun.elapsed() < BACK, "{:?}", begun.elapsed());
    let mut connection = sqlx::PgConnection::connect(url).await.expect("connected");
    let kept: String = sqlx::query_scalar("SELECT word FROM kept")
        .fetch_one(&mut connection)
        .await
        .expect("the row");
    assert_eq!(kept, "kept");

    cluster.stop_database();
    assert!(version(url).await.is_err());
    cluster.start_database();
    version(url).await.expect("an answer");
}

#[tokio::test]
async fn kafka_comes_back_after_a_kill_with_what_was_committed() {
    let Some(cluster) = services::Cluster::start() else {
        return;
    };
    let kafka = cluster.kafka();
    let topic = topic(kafka).await;
    let before = producer(kafka);
    before.begin_transaction().expect("begun");
    send(&before, &topic, "before");
    before.commit_transaction(PATIENCE).expect("committed");

    cluster.kill_broker();
    let admin: BaseConsumer = settings(kafka).create().expect("a client");
    let answer = admin.fetch_metadata(Some(&topic), Duration::from_secs(1));
    assert!(answer.is_err());
    let begun = Instant::now();
    cluster.start_broker();
    assert!(begun.elapsed() < BACK, "{:?}", begun.elapsed());
    // The client that stayed, and one that comes.
    for producer in [before, producer(kafka)] {
        producer.begin_transaction().expect("begun");
        send(&producer, &topic, "after");
        producer.commit_transaction(PATIENCE).expect("committed");
    }
    let reader = reader(kafka, &topic, &topic);
    for expected in ["before", "after", "after"] {
        assert_eq!(next(&reader, PATIENCE).as_deref(), Some(expected));
    }
}
