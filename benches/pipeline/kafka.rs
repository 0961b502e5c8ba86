//! Kafka's ceiling: the same records read and as many as the product tells written, in
//! transactions as large as the product's, without any logic and without a database.

use crate::measure::{Measured, cpu, load};
use crate::run::Shape;
use crate::services::Services;
use crate::site::PARTITIONS;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(30);
/// Pause while no delivery is told; as in the product, since the client library's own waits are
/// either long or busy.
const STEP: Duration = Duration::from_micros(500);

/// What is copied.
#[derive(Clone)]
pub struct Copying {
    /// The brokers.
    pub kafka: String,
    /// Where from.
    pub input: String,
    /// Where to.
    pub output: String,
    /// How large transactions and records are.
    pub shape: Shape,
    /// How many copy, each its share of the partitions.
    pub workers: usize,
    /// Records there are.
    pub events: u64,
}

/// Copies everything.
pub fn ceiling(services: &Services, what: &Copying) -> Measured {
    let start = Arc::new(Barrier::new(what.workers + 1));
    let copying: Vec<_> = (0..what.workers)
        .map(|n| {
            let (what, start) = (what.clone(), Arc::clone(&start));
            std::thread::spawn(move || copy(&what, n, &start))
        })
        .collect();
    start.wait();
    let me = std::process::id();
    let (own, broker, begun) = (cpu(me), services.kafka_server.cpu(), Instant::now());
    let copied: u64 = copying.into_iter().map(|c| c.join().expect("copied")).sum();
    assert_eq!(copied, what.events);
    let seconds = begun.elapsed().as_secs_f64();
    let per_million = |cpu: f64| cpu / what.events as f64 * 1e6;
    let broker = services.kafka_server.cpu().zip(broker);
    Measured {
        events: copied,
        seconds,
        rate: copied as f64 / seconds,
        cpu_per_million: per_million(cpu(me) - own),
        postgres_cpu_per_million: None,
        kafka_cpu_per_million: broker.map(|(after, before)| per_million(after - before)),
        // The copiers share this process with the loads.
        peak_mib: 0.0,
        load: load(),
    }
}

/// The settings that the product gives its clients, as far as they matter for speed.
fn client(kafka: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in [
        ("bootstrap.servers", kafka),
        ("message.max.bytes", "8388608"),
    ] {
        config.set(key, value);
    }
    config
}

fn consumer(what: &Copying) -> BaseConsumer {
    client(&what.kafka)
        .set("group.id", &what.output)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", "16384")
        .set("max.partition.fetch.bytes", "262144")
        .create()
        .expect("a consumer")
}

fn producer(what: &Copying, n: usize) -> BaseProducer {
    let producer: BaseProducer = client(&what.kafka)
        .set("transactional.id", format!("{}-{n}", what.output))
        .set("acks", "all")
        .set("linger.ms", "0")
        .create()
        .expect("a producer");
    producer.init_transactions(CALL).expect("transactions");
    producer
}

/// The partitions of copier `n`, where they end, and how many records they hold.
fn share(consumer: &BaseConsumer, what: &Copying, n: usize) -> (TopicPartitionList, u64) {
    let (mut list, mut records) = (TopicPartitionList::new(), 0);
    for partition in (0..PARTITIONS).filter(|p| *p as usize % what.workers == n) {
        let partition = i32::try_from(partition).expect("few");
        let added = list.add_partition_offset(&what.input, partition, Offset::Beginning);
        added.expect("a partition");
        let bounds = consumer.fetch_watermarks(&what.input, partition, CALL);
        let (low, high) = bounds.expect("bounds");
        records += u64::try_from(high - low).expect("a count");
    }
    (list, records)
}

fn copy(what: &Copying, n: usize, start: &Barrier) -> u64 {
    let (consumer, producer) = (consumer(what), producer(what, n));
    let (partitions, total) = share(&consumer, what, n);
    let payload = vec![b'x'; what.shape.out_bytes as usize];
    let unit = what.shape.unit.max(1.0) as usize;
    let (mut copied, mut owed) = (0, 0.0);
    start.wait();
    consumer.assign(&partitions).expect("assigned");
    while copied < total {
        let mut positions = TopicPartitionList::new();
        let (mut taken, mut keys) = (0, Vec::new());
        while taken < unit && copied + (taken as u64) < total {
            // A unit is what is there, as the product's are.
            let wait = if taken == 0 { CALL } else { Duration::ZERO };
            let Some(record) = consumer.poll(wait) else {
                break;
            };
            let record = record.expect("a record");
            owed += what.shape.out;
            while owed >= 1.0 {
                keys.push(record.key().unwrap_or_default().to_vec());
                owed -= 1.0;
            }
            let next = Offset::Offset(record.offset() + 1);
            let (topic, partition) = (record.topic(), record.partition());
            match positions.find_partition(topic, partition) {
                Some(mut at) => at.set_offset(next).expect("set"),
                None => positions
                    .add_partition_offset(topic, partition, next)
                    .expect("added"),
            }
            taken += 1;
        }
        if taken > 0 {
            commit(&producer, &consumer, what, (&positions, &keys, &payload));
        }
        copied += taken as u64;
    }
    copied
}

fn commit(
    producer: &BaseProducer,
    consumer: &BaseConsumer,
    what: &Copying,
    (positions, keys, payload): (&TopicPartitionList, &[Vec<u8>], &[u8]),
) {
    producer.begin_transaction().expect("begun");
    for key in keys {
        let mut record = BaseRecord::to(&what.output).key(key).payload(payload);
        while let Err((_, refused)) = producer.send(record) {
            record = refused;
            step(producer);
        }
    }
    while producer.in_flight_count() > 0 {
        step(producer);
    }
    let group = consumer.group_metadata().expect("a group");
    let sent = producer.send_offsets_to_transaction(positions, &group, CALL);
    sent.expect("offsets");
    producer.commit_transaction(CALL).expect("committed");
}

/// Serves what deliveries there are, or lets a moment pass.
fn step(producer: &BaseProducer) {
    let before = producer.in_flight_count();
    producer.poll(Duration::ZERO);
    if producer.in_flight_count() >= before {
        std::thread::sleep(STEP);
    }
}
