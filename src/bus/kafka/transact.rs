//! The thread that owns the transactional producer: one unit, one transaction.
//!
//! The records, the input positions for the group and the relay positions for the second group
//! become visible together. An error that says so is answered by aborting. After anything else
//! nobody knows how the transaction ends: the producer is dropped, and the next one, made at once
//! under the same id, fences it and waits until its outcome is settled.

use super::catalog::Placed;
use super::desk::{Abandoned, Desk, Outcome, Turn, Work};
use super::offsets::Onlookers;
use super::settings::{KafkaSettings, refused};
use super::state::{Question, Shared};
use super::talk::Talk;
use super::{codec, fault};
use crate::bus::BusError;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);
/// Pause while no delivery is told. The client library's own waits will not do: its flush goes in
/// steps of 100 ms, and its poll spins through the last millisecond of a timeout.
const STEP: Duration = Duration::from_micros(500);
/// How long a unit that is stopped waits to be told of the record that was the cause.
const CAUSE: Duration = Duration::from_secs(1);
/// How often an idle client's events are looked at.
const IDLE: Duration = Duration::from_secs(1);

type Transactional = BaseProducer<Units>;

pub struct Transactor {
    settings: KafkaSettings,
    id: String,
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    producer: Option<Transactional>,
    onlookers: Option<Onlookers>,
}

/// Why a transaction did not become visible.
enum Trouble {
    /// Aborting undoes it.
    Abort(KafkaError),
    /// The outcome is unknown.
    Unknown(KafkaError),
    /// Another thread has taken over.
    Gone,
}

impl From<Abandoned> for Trouble {
    fn from(_: Abandoned) -> Self {
        Self::Gone
    }
}

/// The producer's context: the first record of the transaction that was not delivered.
struct Units {
    talk: Talk,
    undelivered: Mutex<Option<KafkaError>>,
}

impl ClientContext for Units {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        self.talk.line(level, fac, log_message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.talk.error(&error, reason);
    }
}

impl Units {
    fn undelivered(&self) -> MutexGuard<'_, Option<KafkaError>> {
        let first = self.undelivered.lock();
        first.unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProducerContext for Units {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.undelivered().get_or_insert_with(|| error.clone());
        }
    }
}

impl Transactor {
    pub fn new(settings: &KafkaSettings, id: &str, shared: &Arc<Shared>, desk: &Arc<Desk>) -> Self {
        Self {
            settings: settings.clone(),
            id: id.to_owned(),
            shared: Arc::clone(shared),
            desk: Arc::clone(desk),
            producer: None,
            onlookers: None,
        }
    }

    /// Works until the desk is closed.
    pub fn run(mut self) {
        loop {
            match self.desk.next(IDLE) {
                Turn::Closed => return,
                Turn::Idle => self.idle(),
                Turn::Unit(work) => {
                    if self.unit(&work).is_err() {
                        return;
                    }
                }
                Turn::Positions(question) => {
                    if self.positions(&question).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn idle(&self) {
        if let Some(producer) = &self.producer {
            producer.poll(Duration::ZERO);
        }
        if let Some(onlookers) = &self.onlookers {
            onlookers.poll();
        }
    }

    fn unit(&mut self, work: &Work) -> Result<(), Abandoned> {
        let Some(metadata) = self.shared.begin(work.term) else {
            self.desk.answer(Outcome::Void);
            return Ok(());
        };
        let outcome = self.commit(work, &metadata)?;
        self.shared.settle(outcome != Outcome::Void);
        self.desk.answer(outcome);
        // An unknown outcome is settled by the next producer; nobody should have to wait for it
        // until the transaction times out.
        if self.producer.is_none()
            && let Err(error) = self.ensure()?
        {
            tracing::warn!(%error, "no producer yet");
        }
        Ok(())
    }

    fn commit(
        &mut self,
        work: &Work,
        metadata: &ConsumerGroupMetadata,
    ) -> Result<Outcome, Abandoned> {
        if let Err(error) = self.ensure()? {
            tracing::warn!(%error, "a unit is void: there is no producer");
            return Ok(Outcome::Void);
        }
        let Some(producer) = &self.producer else {
            return Ok(Outcome::Void);
        };
        match self.attempt(producer, work, metadata) {
            Ok(()) => Ok(Outcome::Visible),
            Err(Trouble::Gone) => Err(Abandoned),
            Err(Trouble::Unknown(error)) => {
                tracing::warn!(%error, "the outcome of a unit is unknown");
                self.drop_producer()?;
                Ok(Outcome::Void)
            }
            Err(Trouble::Abort(error)) => {
                let failed = producer.context().undelivered().is_some();
                let undelivered = failed || producer.in_flight_count() > 0;
                let aborted = self.desk.call(|| producer.abort_transaction(CALL))?;
                if let Err(failure) = &aborted {
                    tracing::warn!(error = %failure, "a unit could not be aborted");
                }
                // A record that was not delivered leaves a gap in its partition's numbering, at
                // which the brokers would stop the next unit.
                if aborted.is_err() || undelivered {
                    self.drop_producer()?;
                }
                match error.rdkafka_error_code() {
                    // Whatever becomes of the abort, what was not committed is not visible.
                    Some(code) if fault::lasting(code) => {
                        Ok(Outcome::Refused(format!("committing a unit: {code}")))
                    }
                    _ => {
                        tracing::warn!(%error, "a unit was aborted");
                        Ok(Outcome::Void)
                    }
                }
            }
        }
    }

    fn attempt(
        &self,
        producer: &Transactional,
        work: &Work,
        metadata: &ConsumerGroupMetadata,
    ) -> Result<(), Trouble> {
        producer.begin_transaction().map_err(Trouble::of)?;
        let deadline = self.hand_over(producer, &work.records)?;
        // While the records are on their way.
        let offsets = self.offsets(producer, work, metadata);
        if let Err(Trouble::Abort(_)) = offsets
            && let Err(Trouble::Abort(cause)) = self.delivered(producer, Instant::now() + CAUSE)
        {
            // A record that was refused stops the offsets too.
            return Err(Trouble::Abort(cause));
        }
        offsets?;
        self.delivered(producer, deadline)?;
        let commit = || producer.commit_transaction(CALL);
        self.desk.call(commit)?.map_err(Trouble::of)
    }

    /// Sends where the group and the relay stand.
    fn offsets(
        &self,
        producer: &Transactional,
        work: &Work,
        metadata: &ConsumerGroupMetadata,
    ) -> Result<(), Trouble> {
        if work.progress.is_empty() {
            return Ok(());
        }
        let onlookers = self.onlookers.as_ref();
        let onlookers = onlookers.ok_or(Trouble::Abort(KafkaError::Canceled))?;
        let (input, relay) = onlookers.lists(&work.progress).map_err(Trouble::Abort)?;
        for (offsets, group) in [(input, metadata), (relay, onlookers.relay_metadata())] {
            let send = || producer.send_offsets_to_transaction(&offsets, group, CALL);
            self.desk.call(send)?.map_err(Trouble::of)?;
        }
        Ok(())
    }

    /// Gives the records to the client library, which sends them; says until when.
    fn hand_over(&self, producer: &Transactional, records: &[Placed]) -> Result<Instant, Trouble> {
        let deadline = Instant::now() + self.settings.transaction_timeout();
        producer.context().undelivered().take();
        for placed in records {
            while let Err((error, _)) = producer.send(codec::outgoing(placed, ())) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(Trouble::Abort(error));
                }
                self.step(producer)?;
                if Instant::now() > deadline {
                    return Err(Trouble::Unknown(late()));
                }
            }
        }
        Ok(deadline)
    }

    /// Waits until the brokers have all records, or one is known as undelivered.
    fn delivered(&self, producer: &Transactional, deadline: Instant) -> Result<(), Trouble> {
        loop {
            let failed = producer.context().undelivered().clone();
            match failed {
                Some(error) => return Err(Trouble::Abort(error)),
                None if producer.in_flight_count() == 0 => return Ok(()),
                None if Instant::now() > deadline => return Err(Trouble::Unknown(late())),
                None => self.step(producer)?,
            }
        }
    }

    /// Serves what deliveries there are, or lets a moment pass.
    fn step(&self, producer: &Transactional) -> Result<(), Abandoned> {
        let before = producer.in_flight_count();
        self.desk.call(|| {
            producer.poll(Duration::ZERO);
            if producer.in_flight_count() >= before {
                std::thread::sleep(STEP);
            }
        })
    }

    /// Where the group stands, read so that no pending transaction is overlooked. Those of a dead
    /// producer end by themselves, when they time out.
    fn positions(&mut self, question: &Question) -> Result<(), Abandoned> {
        let positions = match self.ensure()? {
            Err(error) => Err(error),
            Ok(()) => match &self.onlookers {
                Some(onlookers) => onlookers.positions(&self.desk, &self.shared, question)?,
                None => return Ok(()),
            },
        };
        self.shared.answer(question.number, positions);
        Ok(())
    }

    /// Makes what is missing. A producer is ready once whatever was begun before under its id has
    /// ended.
    fn ensure(&mut self) -> Result<Result<(), BusError>, Abandoned> {
        if self.onlookers.is_none() {
            match Onlookers::open(&self.settings) {
                Ok(onlookers) => self.onlookers = Some(onlookers),
                Err(error) => return Ok(Err(error)),
            }
        }
        if self.producer.is_some() {
            return Ok(Ok(()));
        }
        let context = Units {
            talk: Talk::new("units"),
            undelivered: Mutex::new(None),
        };
        let config = self.settings.transactional(&self.id);
        let producer: Transactional = match config.create_with_context(context) {
            Ok(producer) => producer,
            Err(error) => return Ok(Err(refused(error))),
        };
        match self.desk.call(|| producer.init_transactions(CALL))? {
            Ok(()) => {
                self.producer = Some(producer);
                Ok(Ok(()))
            }
            Err(error) => {
                // What it has to say beyond its error.
                producer.poll(Duration::ZERO);
                self.desk.call(|| drop(producer))?;
                Ok(Err(fault::of("preparing transactions", &error)))
            }
        }
    }

    fn drop_producer(&mut self) -> Result<(), Abandoned> {
        let producer = self.producer.take();
        self.desk.call(|| drop(producer))
    }
}

impl Trouble {
    fn of(error: KafkaError) -> Self {
        match &error {
            KafkaError::Transaction(inner) if inner.txn_requires_abort() => Self::Abort(error),
            _ => Self::Unknown(error),
        }
    }
}

fn late() -> KafkaError {
    KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)
}
