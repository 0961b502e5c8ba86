//! The thread that polls the group's consumer: membership, reading ahead, and beginning to read
//! where it is told. It polls whatever its callers do, so that a slow worker is no dead member.

use super::codec;
use super::desk::{Job, Office};
use super::fault;
use super::settings::KafkaSettings;
use super::state::Shared;
use super::talk::Talk;
use crate::bus::{BusError, Term};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long one poll waits for records; also how long a command may wait.
const POLL: Duration = Duration::from_millis(20);
/// Records taken from the client before they are handed over.
const DRAIN: usize = 1_000;
/// How long nobody has to take anything before reading is paused. Pausing throws away what the
/// client has fetched, so it is for those who are held up, not for those who are merely busy.
const FULL: Duration = Duration::from_millis(300);
/// Between two looks for room.
const LOOK: Duration = Duration::from_millis(1);
/// How long a revocation waits for a transaction under way.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long a partition may take until reading can begin in it.
const BEGIN: Duration = Duration::from_secs(10);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(3);

type Consuming = BaseConsumer<Membership>;

/// What the thread is told.
pub enum Command {
    /// Begin reading partitions at these offsets.
    Start {
        term: Term,
        at: Vec<(u32, i64)>,
        done: oneshot::Sender<Result<(), BusError>>,
    },
    /// Leave the group and end.
    Leave,
}

pub struct Polling {
    consumer: Consuming,
    topic: Arc<str>,
    shared: Arc<Shared>,
    office: Arc<Office>,
    commands: mpsc::Receiver<Command>,
    /// Reading is paused because no term has begun.
    parked: bool,
    /// Since when there has been no room; reading is paused when it takes too long.
    full: Option<Instant>,
    paused: bool,
}

/// The consumer's context: rebalances end terms.
pub struct Membership {
    talk: Talk,
    shared: Arc<Shared>,
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        self.talk.line(level, fac, log_message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.talk.error(&error, reason);
    }
}

impl ConsumerContext for Membership {
    /// Until it has been answered here the member cannot rejoin, so the metadata read before the
    /// answer is that of the generation it speaks of, or of none.
    fn rebalance(&self, consumer: &Consuming, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let metadata = consumer.group_metadata();
        let partitions: Vec<u32> = list
            .elements()
            .iter()
            .filter_map(|e| u32::try_from(e.partition()).ok())
            .collect();
        let cooperative = matches!(
            consumer.rebalance_protocol(),
            RebalanceProtocol::Cooperative
        );
        let answered = if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // Any offset: reading begins where the term says, and is paused until then. Without
            // one the client would ask for the committed offset, which may have to wait.
            let answered = list
                .set_all_offsets(Offset::Offset(0))
                .and_then(|()| match cooperative {
                    true => consumer.incremental_assign(list),
                    false => consumer.assign(list),
                })
                .and_then(|()| match partitions.is_empty() {
                    true => Ok(()),
                    false => consumer.pause(list),
                });
            self.shared.assigned(&partitions, metadata);
            answered
        } else {
            let lost = consumer.assignment_lost();
            let patience = if lost { Duration::ZERO } else { HAND_OVER };
            self.shared.revoked(&partitions, metadata, patience);
            match cooperative {
                true => consumer.incremental_unassign(list),
                false => consumer.unassign(),
            }
        };
        if let Err(error) = answered {
            // Nothing is held that the group does not know of; the member begins anew.
            let text = format!("taking part in the group: {error}");
            self.shared.fail(BusError::Unavailable(text));
        }
    }
}

impl Polling {
    /// Joins the group under the instance id.
    pub fn new(
        settings: &KafkaSettings,
        instance: &str,
        shared: &Arc<Shared>,
        office: &Arc<Office>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, BusError> {
        let context = Membership {
            talk: Talk::new("member"),
            shared: Arc::clone(shared),
        };
        let made = settings.member(instance).create_with_context(context);
        let consumer: Consuming = made.map_err(super::settings::refused)?;
        consumer
            .subscribe(&[&settings.input_topic])
            .map_err(|e| fault::of("joining the group", &e))?;
        Ok(Self {
            consumer,
            topic: Arc::clone(&settings.input_topic),
            shared: Arc::clone(shared),
            office: Arc::clone(office),
            commands,
            parked: true,
            full: None,
            paused: false,
        })
    }

    /// Polls until told to leave.
    pub fn run(mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Start { term, at, done }) => {
                    let started = self.start(term, &at);
                    done.send(started).ok();
                }
                Ok(Command::Leave) | Err(mpsc::TryRecvError::Disconnected) => break,
                Err(mpsc::TryRecvError::Empty) => {}
            }
            if let Err(error) = self.office.watch() {
                self.shared.fail(error);
            }
            if self.shared.is_over() {
                self.park();
            }
            if let Some(question) = self.shared.question() {
                self.office.put(Job::Positions(question));
            }
            self.read();
        }
        self.leave();
    }

    /// Without a term nothing needs to be read.
    fn park(&mut self) {
        if !self.parked {
            self.parked = true;
            let held = self.consumer.assignment();
            if let Err(error) = held.and_then(|held| self.consumer.pause(&held)) {
                tracing::debug!(%error, "reading goes on without a term");
            }
        }
    }

    fn start(&mut self, term: Term, at: &[(u32, i64)]) -> Result<(), BusError> {
        let failed = |e: &KafkaError| fault::of("beginning to read", e);
        let begun = Instant::now();
        let mut left: Vec<(u32, i64)> = at.to_vec();
        loop {
            // What was taken meanwhile is told by the next `Given`.
            left.retain(|(partition, _)| self.shared.may_start(term, *partition));
            if left.is_empty() {
                return Ok(());
            }
            let mut list = TopicPartitionList::with_capacity(left.len());
            for (partition, offset) in &left {
                self.shared.starting(*partition);
                let offset = Offset::Offset((*offset).max(0));
                let number = i32::try_from(*partition).unwrap_or(i32::MAX);
                list.add_partition_offset(&self.topic, number, offset)
                    .map_err(|e| failed(&e))?;
            }
            let sought = self
                .consumer
                .seek_partitions(list, ATTEMPT)
                .map_err(|e| failed(&e))?;
            let mut ready = TopicPartitionList::new();
            for element in sought.elements() {
                // Not assigned in full yet, otherwise.
                if element.error().is_ok() {
                    ready.add_partition(element.topic(), element.partition());
                    let partition = u32::try_from(element.partition()).unwrap_or(u32::MAX);
                    self.shared.started(term, partition);
                    left.retain(|(p, _)| *p != partition);
                }
            }
            if ready.count() > 0 {
                self.consumer.resume(&ready).map_err(|e| failed(&e))?;
                (self.parked, self.paused, self.full) = (false, false, None);
            }
            if begun.elapsed() > BEGIN {
                let text = "a partition that is held cannot be read";
                return Err(BusError::Unavailable(text.to_owned()));
            }
            if !left.is_empty() {
                self.poll(POLL);
            }
        }
    }

    /// Reads ahead while there is room.
    fn read(&mut self) {
        let (room, low) = self.shared.room();
        if self.paused {
            if low {
                self.paused = false;
                self.full = None;
                self.each_read(Consuming::resume);
            }
        } else if room {
            self.full = None;
        } else if self.full.get_or_insert_with(Instant::now).elapsed() < FULL {
            std::thread::sleep(LOOK);
            return;
        } else {
            self.paused = true;
            self.each_read(Consuming::pause);
        }
        self.poll(POLL);
    }

    fn each_read(&self, what: impl Fn(&Consuming, &TopicPartitionList) -> Result<(), KafkaError>) {
        let mut list = TopicPartitionList::new();
        for partition in self.shared.reading() {
            let number = i32::try_from(partition).unwrap_or(i32::MAX);
            list.add_partition(&self.topic, number);
        }
        if list.count() > 0
            && let Err(error) = what(&self.consumer, &list)
        {
            tracing::debug!(%error, "pausing or going on");
        }
    }

    fn poll(&self, wait: Duration) {
        let mut records = Vec::new();
        let mut wait = wait;
        while records.len() < DRAIN {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => records.push(codec::stored(&message)),
                Some(Err(error)) => self.failed(&error),
                None => break,
            }
            wait = Duration::ZERO;
        }
        if !records.is_empty() {
            self.shared.push(records);
        }
    }

    /// Most failures pass, and the client goes on by itself.
    fn failed(&self, error: &KafkaError) {
        let fatal = self.consumer.client().fatal_error();
        let code = error.rdkafka_error_code();
        match (fatal, code) {
            (Some((RDKafkaErrorCode::FencedInstanceId, _)), _) => {
                self.shared.fail(BusError::Refused(
                    "another worker joined the group under this one's name; give each worker a \
                     name of its own"
                        .to_owned(),
                ));
            }
            (Some((code, _)), _) => {
                let text = format!("taking part in the group: {code}");
                self.shared.fail(BusError::Unavailable(text));
            }
            // It may be about to be created.
            (None, Some(RDKafkaErrorCode::UnknownTopic))
            | (None, Some(RDKafkaErrorCode::UnknownTopicOrPartition)) => {
                let text = format!("there is no topic {}; `topics` creates it", self.topic);
                self.shared.fail(BusError::Unavailable(text));
            }
            (None, Some(code)) if fault::lasting(code) => {
                self.shared
                    .fail(fault::of_code("taking part in the group", code));
            }
            (None, _) => {}
        }
    }

    /// Leaves at once, a named member too, so that others need not wait for a timeout.
    fn leave(&self) {
        let begun = Instant::now();
        self.consumer.unsubscribe();
        while begun.elapsed() < LEAVE {
            self.consumer.poll(Duration::from_millis(5));
            if self
                .consumer
                .assignment()
                .is_ok_and(|held| held.count() == 0)
            {
                return;
            }
        }
        tracing::warn!("leaving the group took too long; others take over after the timeout");
    }
}

/// One attempt to seek.
const ATTEMPT: Duration = Duration::from_secs(1);
