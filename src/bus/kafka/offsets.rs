//! Two consumers that never join their groups: they ask where the group and the relay stand, and
//! lend the second group's metadata to transactions.
//!
//! They read committed offsets only: while a transaction that carries offsets is open, the question
//! waits. Nobody may begin from a position that a unit is just about to move.

use super::codec;
use super::desk::{Abandoned, Desk};
use super::fault;
use super::settings::{KafkaSettings, refused};
use super::state::{Question, Shared};
use super::talk::Plain;
use crate::bus::{Assigned, BusError, Progress};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One attempt; between two of them a question that is void is dropped.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts that fail at once.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Onlookers {
    topic: Arc<str>,
    group: BaseConsumer<Plain>,
    relay: BaseConsumer<Plain>,
    relay_metadata: ConsumerGroupMetadata,
    /// The longest that a question may take.
    patience: Duration,
}

impl Onlookers {
    pub fn open(settings: &KafkaSettings) -> Result<Self, BusError> {
        let open = |group: &str| {
            let config = settings.onlooker(group);
            let made: KafkaResult<BaseConsumer<Plain>> = config.create_with_context(Plain);
            made.map_err(refused)
        };
        let relay = open(&settings.relay_group())?;
        let metadata = relay.group_metadata();
        let missing = || BusError::Unavailable("the second group is not ready".to_owned());
        Ok(Self {
            topic: Arc::clone(&settings.input_topic),
            group: open(&settings.group)?,
            relay_metadata: metadata.ok_or_else(missing)?,
            relay,
            patience: settings.lasts(),
        })
    }

    /// The metadata of the second group, which has no members.
    pub fn relay_metadata(&self) -> &ConsumerGroupMetadata {
        &self.relay_metadata
    }

    /// Takes the clients' events, so that they do not pile up.
    pub fn poll(&self) {
        self.group.poll(Duration::ZERO);
        self.relay.poll(Duration::ZERO);
    }

    /// What a unit commits to the group and to the second group.
    pub fn lists(
        &self,
        progress: &[Progress],
    ) -> KafkaResult<(TopicPartitionList, TopicPartitionList)> {
        let mut input = TopicPartitionList::with_capacity(progress.len());
        let mut relay = TopicPartitionList::with_capacity(progress.len());
        for one in progress {
            let partition = number(one.partition);
            input.add_partition_offset(&self.topic, partition, Offset::Offset(one.input))?;
            let seq = i64::try_from(one.relay.seq).unwrap_or(i64::MAX);
            relay.add_partition_offset(&self.topic, partition, Offset::Offset(seq))?;
            if let Some(mut element) = relay.find_partition(&self.topic, partition) {
                element.set_metadata(codec::metadata(&one.relay));
            }
        }
        Ok((input, relay))
    }

    /// Where the partitions of the question stand. Tries until a dead producer's transaction must
    /// have timed out, unless the question is void before.
    pub fn positions(
        &self,
        desk: &Desk,
        shared: &Shared,
        question: &Question,
    ) -> Result<Result<Vec<Assigned>, BusError>, Abandoned> {
        let begun = Instant::now();
        loop {
            match desk.call(|| self.ask(&question.partitions))? {
                Ok(assigned) => return Ok(Ok(assigned)),
                Err(error) => {
                    let failure = fault::of("reading committed positions", &error);
                    let lasting = matches!(failure, BusError::Refused(_));
                    if lasting
                        || begun.elapsed() > self.patience
                        || !shared.is_asked(question.number)
                    {
                        return Ok(Err(failure));
                    }
                }
            }
            self.poll();
            std::thread::sleep(PAUSE);
        }
    }

    /// Where partitions stand, for an operator: tries as long as a dead worker's transaction may
    /// hold the answer back.
    pub fn standing(&self, partitions: &[u32]) -> Result<Vec<Assigned>, BusError> {
        self.insist("reading committed positions", || self.ask(partitions))
    }

    /// Sets positions: the input first, so that the relay's tell that all is set. Kafka refuses what
    /// is committed past a group's members, but not before it has any.
    pub fn place(&self, group: &str, progress: &[Progress]) -> Result<(), BusError> {
        let what = "asking for the members of the group";
        let groups = self.insist(what, || self.group.fetch_group_list(Some(group), ATTEMPT))?;
        let members: usize = groups.groups().iter().map(|g| g.members().len()).sum();
        if members > 0 {
            return Err(BusError::Refused(format!(
                "group {group} has {members} members: stop all workers first (one that was killed \
                 leaves the group when its session times out)"
            )));
        }
        if progress.is_empty() {
            return Ok(());
        }
        let what = "setting committed positions";
        let (input, relay) = self.lists(progress).map_err(|e| fault::of(what, &e))?;
        self.insist(what, || self.group.commit(&input, CommitMode::Sync))?;
        self.insist(what, || self.relay.commit(&relay, CommitMode::Sync))
    }

    fn insist<T>(
        &self,
        what: &str,
        mut call: impl FnMut() -> KafkaResult<T>,
    ) -> Result<T, BusError> {
        let begun = Instant::now();
        loop {
            let failure = match call() {
                Ok(done) => return Ok(done),
                Err(error) => fault::of(what, &error),
            };
            if matches!(failure, BusError::Refused(_)) || begun.elapsed() > self.patience {
                return Err(failure);
            }
            self.poll();
            std::thread::sleep(PAUSE);
        }
    }

    fn ask(&self, partitions: &[u32]) -> KafkaResult<Vec<Assigned>> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, number(*partition));
        }
        let input = self.group.committed_offsets(list.clone(), ATTEMPT)?;
        let relay = self.relay.committed_offsets(list, ATTEMPT)?;
        let mut assigned = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let missing = || KafkaError::OffsetFetch(rdkafka::error::RDKafkaErrorCode::NoOffset);
            let input = input.find_partition(&self.topic, number(*partition));
            let input = input.ok_or_else(missing)?;
            input.error()?;
            let relay = relay.find_partition(&self.topic, number(*partition));
            let relay = relay.ok_or_else(missing)?;
            relay.error()?;
            assigned.push(Assigned {
                partition: *partition,
                input: offset(input.offset()),
                relay: offset(relay.offset()).and_then(|seq| codec::relay(seq, relay.metadata())),
            });
        }
        Ok(assigned)
    }
}

fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn offset(offset: Offset) -> Option<i64> {
    match offset {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}
