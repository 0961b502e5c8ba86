//! Creating topics and telling how they are.

use super::catalog::{Watcher, blocking};
use super::fault;
use super::settings::{KafkaSettings, refused};
use super::talk::Plain;
use crate::bus::{BusError, Keep, TopicSpec, TopicState};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a new topic may take to be known everywhere, with a leader for each partition.
const SPREAD: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Partitions of each topic that exists.
type Counts = BTreeMap<String, u32>;
/// One end of each partition.
type Ends = BTreeMap<(String, i32), i64>;
/// Both ends of a topic's partitions, in order.
type Bounds = Vec<(i64, i64)>;

const ASKING: &str = "asking about topics";

/// Creates what is missing and tells how the topics are, in the order asked; all of them if none is
/// asked for.
pub async fn topics(
    settings: &KafkaSettings,
    watcher: &Arc<Watcher>,
    wanted: &[TopicSpec],
) -> Result<Vec<TopicState>, BusError> {
    let mut counts = look(watcher).await?;
    let missing: Vec<&TopicSpec> = wanted
        .iter()
        .filter(|s| s.partitions > 0 && !counts.contains_key(&*s.name))
        .collect();
    if !missing.is_empty() {
        create(settings, &missing).await?;
        counts = spread(watcher, &missing).await?;
    }
    for spec in wanted.iter().filter(|s| s.partitions > 0) {
        let count = counts.get(&*spec.name).copied().unwrap_or(0);
        if count != spec.partitions {
            return Err(BusError::Refused(format!(
                "topic {} has {count} partitions and the configuration wants {}; the number is \
                 fixed when a topic is created: set it back, or begin with new topics and rebuild",
                spec.name, spec.partitions
            )));
        }
    }
    let names: Vec<Arc<str>> = if wanted.is_empty() {
        // Kafka's own.
        let ours = counts.keys().filter(|name| !name.starts_with("__"));
        ours.map(|name| name.as_str().into()).collect()
    } else {
        wanted.iter().map(|spec| Arc::clone(&spec.name)).collect()
    };
    states(watcher, names, counts, wanted.is_empty()).await
}

async fn look(watcher: &Arc<Watcher>) -> Result<Counts, BusError> {
    let watcher = Arc::clone(watcher);
    blocking(move || {
        let metadata = watcher
            .fetch_metadata(None, ANSWER)
            .map_err(|e| fault::of(ASKING, &e))?;
        let topics = metadata.topics().iter();
        let known = topics.filter(|t| !t.partitions().is_empty());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(known
            .map(|t| (t.name().to_owned(), count(t.partitions().len())))
            .collect())
    })
    .await
}

async fn create(settings: &KafkaSettings, missing: &[&TopicSpec]) -> Result<(), BusError> {
    let admin: AdminClient<Plain> = settings
        .watcher()
        .create_with_context(Plain)
        .map_err(refused)?;
    let configs: Vec<[(&str, String); 3]> = missing.iter().map(|s| config(s.keep)).collect();
    let mut topics = Vec::with_capacity(missing.len());
    for (spec, config) in missing.iter().zip(&configs) {
        let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
        let replication = TopicReplication::Fixed(settings.replication);
        let mut topic = NewTopic::new(&spec.name, partitions, replication);
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        topics.push(topic);
    }
    let options = AdminOptions::new()
        .request_timeout(Some(ANSWER))
        .operation_timeout(Some(ANSWER));
    let made = admin.create_topics(&topics, &options).await;
    // It waits for its thread when dropped.
    drop(tokio::task::spawn_blocking(move || drop(admin)));
    for result in made.map_err(|e| fault::of("creating topics", &e))? {
        match result {
            // Somebody else was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(fault::of_code(&format!("creating topic {name}"), code));
            }
        }
    }
    Ok(())
}

/// A record's time is when the bus took it; whoever writes to a topic could choose it otherwise.
fn config(keep: Keep) -> [(&'static str, String); 3] {
    let (policy, key, time) = match keep {
        Keep::For(time) => ("delete", "retention.ms", time),
        Keep::Newest(tombstones) => ("compact", "delete.retention.ms", tombstones),
    };
    [
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("cleanup.policy", policy.to_owned()),
        (key, time.as_millis().to_string()),
    ]
}

/// Waits until what was created is known.
async fn spread(watcher: &Arc<Watcher>, made: &[&TopicSpec]) -> Result<Counts, BusError> {
    let begun = Instant::now();
    loop {
        let counts = look(watcher).await?;
        if made.iter().all(|s| counts.contains_key(&*s.name)) {
            return Ok(counts);
        }
        if begun.elapsed() > SPREAD {
            let text = "topics were created and the brokers do not know them yet";
            return Err(BusError::Unavailable(text.to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The bounds of every topic; new ones may still be without a leader for a moment. Of `all`
/// topics, those that others are just creating or deleting are left out.
async fn states(
    watcher: &Arc<Watcher>,
    names: Vec<Arc<str>>,
    counts: Counts,
    all: bool,
) -> Result<Vec<TopicState>, BusError> {
    let begun = Instant::now();
    let list = names
        .into_iter()
        .map(|name| (counts.get(&*name).copied().unwrap_or(0), name));
    let list: Arc<Vec<(u32, Arc<str>)>> = Arc::new(list.collect());
    loop {
        let (watcher, asked) = (Arc::clone(watcher), Arc::clone(&list));
        let found = blocking(move || bounds(&watcher, &asked)).await?;
        if !all
            && let Some(name) = list.iter().zip(&found).find(|(_, f)| f.is_none())
            && begun.elapsed() <= SPREAD
        {
            tracing::debug!(topic = %name.0.1, "a partition has no leader yet");
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let mut states = Vec::with_capacity(found.len());
        for ((_, name), bounds) in list.iter().zip(found) {
            match bounds {
                Some(bounds) => states.push(TopicState {
                    name: Arc::clone(name),
                    bounds,
                }),
                None if all => {}
                None => {
                    return Err(BusError::Unavailable(format!(
                        "a partition of topic {name} has no leader"
                    )));
                }
            }
        }
        return Ok(states);
    }
}

/// For each topic the bounds of its partitions, unless one of them cannot be asked. One that has no
/// leader makes the question about all of them fail, so then each topic is asked about alone.
fn bounds(watcher: &Watcher, topics: &[(u32, Arc<str>)]) -> Result<Vec<Option<Bounds>>, BusError> {
    if let Some((first, next)) = both_ends(watcher, topics)? {
        return Ok(paired(topics, &first, &next));
    }
    let mut found = Vec::with_capacity(topics.len());
    for topic in topics.chunks(1) {
        match both_ends(watcher, topic)? {
            Some((first, next)) => found.extend(paired(topic, &first, &next)),
            None => found.push(None),
        }
    }
    Ok(found)
}

fn paired(topics: &[(u32, Arc<str>)], first: &Ends, next: &Ends) -> Vec<Option<Bounds>> {
    let mut found = Vec::with_capacity(topics.len());
    for (count, name) in topics {
        let part = |p: u32| {
            let key = (name.to_string(), i32::try_from(p).ok()?);
            Some((*first.get(&key)?, *next.get(&key)?))
        };
        found.push((0..*count).map(part).collect());
    }
    found
}

/// `None` if a partition is without a leader, or not known to it yet.
fn both_ends(
    watcher: &Watcher,
    topics: &[(u32, Arc<str>)],
) -> Result<Option<(Ends, Ends)>, BusError> {
    use RDKafkaErrorCode as Code;
    let both = ends(watcher, topics, Offset::Beginning)
        .and_then(|first| Ok((first, ends(watcher, topics, Offset::End)?)));
    match both {
        Ok(both) => Ok(Some(both)),
        Err(KafkaError::MetadataFetch(
            Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition,
        )) => Ok(None),
        Err(error) => Err(fault::of(ASKING, &error)),
    }
}

/// One end of every partition, in one request per broker.
fn ends(watcher: &Watcher, topics: &[(u32, Arc<str>)], end: Offset) -> KafkaResult<Ends> {
    let mut list = TopicPartitionList::new();
    for (count, name) in topics {
        for partition in 0..i32::try_from(*count).unwrap_or(i32::MAX) {
            list.add_partition_offset(name, partition, end)?;
        }
    }
    if list.count() == 0 {
        return Ok(Ends::new());
    }
    let answer = watcher.offsets_for_times(list, ANSWER)?;
    let mut ends = Ends::new();
    for element in answer.elements() {
        if let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) {
            ends.insert((element.topic().to_owned(), element.partition()), offset);
        }
    }
    Ok(ends)
}

/// Waits until readers of committed records get to where the topic ends now. A transaction whose
/// worker died is ended by the brokers once it has timed out.
pub fn settled(
    settings: &KafkaSettings,
    watcher: &Watcher,
    asked: (u32, Arc<str>),
) -> Result<(), BusError> {
    let failed = |error: KafkaError| fault::of(ASKING, &error);
    let reader: Watcher = settings
        .reader()
        .create_with_context(Plain)
        .map_err(refused)?;
    let (begun, patience) = (Instant::now(), settings.lasts());
    let topics = [asked];
    let end = ends(watcher, &topics, Offset::End).map_err(failed)?;
    loop {
        let seen = ends(&reader, &topics, Offset::End).map_err(failed)?;
        if end.iter().all(|(at, end)| seen.get(at) >= Some(end)) {
            return Ok(());
        }
        if begun.elapsed() > patience {
            return Err(BusError::Unavailable(format!(
                "a transaction on topic {} is open for more than {} s: stop all workers; if none runs, find \
                 and abort it with Kafka's own kafka-transactions.sh",
                topics[0].1,
                patience.as_secs()
            )));
        }
        std::thread::sleep(LOOK);
    }
}

/// The next offset to be written in each partition.
pub fn next_offsets(watcher: &Watcher, count: u32, topic: &Arc<str>) -> Result<Vec<i64>, BusError> {
    let topics = [(count, Arc::clone(topic))];
    let ends = ends(watcher, &topics, Offset::End).map_err(|e| fault::of(ASKING, &e))?;
    if u32::try_from(ends.len()) != Ok(count) {
        return Err(BusError::Unavailable(format!(
            "a partition of topic {topic} has no leader"
        )));
    }
    Ok(ends.into_values().collect())
}
