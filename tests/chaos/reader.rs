//! A reader that shares no code with the product: a plain consumer of all partitions from the
//! beginning that sees what is committed, and what the brokers say of a group.

use crate::harness::{CONFLICTS, DEAD, LINKED, LINKS, LOGINS, MERGES};
use crate::verdict::Topics;
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use unilink::bus::Stored;

/// A transaction that a dead worker left open ends within its timeout (15 s) and the broker's next
/// look (10 s); then some.
const OPEN: Duration = Duration::from_secs(60);
/// A broker that was killed a moment ago may still be starting.
const ASK: Duration = Duration::from_secs(10);

fn consumer(kafka: &str, group: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", group)
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer")
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> i32 {
    let told = consumer.fetch_metadata(Some(topic), ASK).expect("metadata");
    i32::try_from(told.topics()[0].partitions().len()).unwrap()
}

/// Everything that is committed, of all topics. Blocks.
pub fn all(kafka: &str) -> Topics {
    let read = |topic| read(kafka, topic);
    Topics {
        logins: read(LOGINS),
        linked: read(LINKED),
        dead: read(DEAD),
        links: read(LINKS),
        merges: read(MERGES),
        conflicts: read(CONFLICTS),
    }
}

/// Everything that is committed on a topic. Blocks.
fn read(kafka: &str, topic: &str) -> Vec<Stored> {
    let committed = consumer(kafka, "an-outside-reader", "read_committed");
    let partitions = partitions(&committed, topic);
    wait_for_open_transactions(kafka, &committed, topic, partitions);
    let mut from = TopicPartitionList::new();
    for partition in 0..partitions {
        from.add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    committed.assign(&from).unwrap();
    let mut found: BTreeMap<i32, Vec<Stored>> = BTreeMap::new();
    let mut ended = vec![false; usize::try_from(partitions).unwrap()];
    let begun = Instant::now();
    while !ended.iter().all(|e| *e) {
        match committed.poll(Duration::from_millis(500)) {
            Some(Ok(record)) => {
                let records = found.entry(record.partition()).or_default();
                let last = records.last().map_or(-1, |r: &Stored| r.offset);
                assert!(record.offset() > last, "offsets of {topic} go back");
                records.push(stored(&record));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended[usize::try_from(partition).unwrap()] = true;
            }
            Some(Err(error)) => eprintln!("reading {topic}: {error}"),
            None => {}
        }
        assert!(begun.elapsed() < OPEN * 5, "{topic} has no end");
    }
    found.into_values().flatten().collect()
}

/// Until nothing that was written is still undecided: the end that a reader of committed records sees
/// is then the end of the log.
fn wait_for_open_transactions(kafka: &str, committed: &BaseConsumer, topic: &str, partitions: i32) {
    let all = consumer(kafka, "an-outside-reader", "read_uncommitted");
    let begun = Instant::now();
    for partition in 0..partitions {
        loop {
            let stable = committed.fetch_watermarks(topic, partition, ASK);
            let end = all.fetch_watermarks(topic, partition, ASK);
            match (&stable, &end) {
                (Ok(stable), Ok(end)) if stable == end => break,
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
            let told = format!("{topic} {partition}: {stable:?}, {end:?}");
            assert!(begun.elapsed() < OPEN, "a transaction stays open: {told}");
        }
    }
}

fn stored(record: &BorrowedMessage<'_>) -> Stored {
    let headers = record.headers().into_iter().flat_map(|h| h.iter());
    let headers = headers.map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()));
    Stored {
        partition: u32::try_from(record.partition()).unwrap(),
        offset: record.offset(),
        timestamp: record.timestamp().to_millis().unwrap(),
        key: record.key().unwrap_or_default().to_vec(),
        value: record.payload().map(<[u8]>::to_vec),
        headers: headers.collect(),
    }
}

/// Looks at the group from outside, without joining it.
pub struct Onlooker {
    consumer: BaseConsumer,
}

impl Onlooker {
    pub fn new(kafka: &str, group: &str) -> Self {
        // Pending commits are not waited for: the last one that counts is told.
        let consumer = consumer(kafka, group, "read_uncommitted");
        Self { consumer }
    }

    /// Where the login topic ends now, by partition; `None` while the broker is away. Blocks.
    pub fn ends(&self) -> Option<Vec<i64>> {
        let told = self.consumer.fetch_metadata(Some(LOGINS), ASK).ok()?;
        let partitions = told.topics().first()?.partitions().len();
        let partitions = 0..i32::try_from(partitions).ok()?;
        partitions
            .map(|p| Some(self.consumer.fetch_watermarks(LOGINS, p, ASK).ok()?.1))
            .collect()
    }

    /// What the group has committed, by partition; `None` while the broker is away. Blocks.
    pub fn committed(&self) -> Option<Vec<i64>> {
        let told = self.consumer.fetch_metadata(Some(LOGINS), ASK).ok()?;
        let partitions = told.topics().first()?.partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).ok()? {
            list.add_partition(LOGINS, partition);
        }
        let found = self.consumer.committed_offsets(list, ASK).ok()?;
        let elements = found.elements();
        let offset = |offset| match offset {
            Offset::Offset(at) => at,
            _ => 0,
        };
        let each = elements.iter();
        each.map(|e| e.error().is_ok().then(|| offset(e.offset())))
            .collect()
    }

    /// How much the group has yet to commit; `None` while the broker is away. Blocks.
    pub fn lag(&self) -> Option<i64> {
        let (ends, committed) = (self.ends()?, self.committed()?);
        Some(ends.iter().zip(&committed).map(|(end, at)| end - at).sum())
    }
}
