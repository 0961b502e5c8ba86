//! On assignment: where to begin, and whether topic and database are the ones that were written.
//!
//! Going back is always free, since state is a join; going on from the wrong place is not. So the
//! smaller of the group's offset and the store's own position wins, and whatever does not fit stops
//! the worker with the remedy.

use super::tracker::digest;
use crate::bus::{Assigned, Bus, BusError, Progress, Range, RelayPosition, TopicSpec};
use crate::outbox::SEQ_HEADER;
use crate::store::{Position, Store, StoreError};
use std::sync::Arc;
use uuid::Uuid;

/// Records of the tail of `account-links` searched for the relay's position when the bus has lost
/// it; more than one unit can hold.
const TAIL: i64 = 50_000;
/// Records read at once.
const CHUNK: usize = 2_000;

/// Why a term cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// It may work later.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// It may work later, unless it is a mismatch.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The relay is farther than this assignment says: a newer one has to come first.
    #[error(transparent)]
    Overtaken(BusError),
}

/// Finds the place to begin for every partition given.
///
/// # Errors
/// [`StoreError::Mismatch`] when store and topics do not belong together; the text names the remedy.
pub async fn recover(
    bus: &Arc<dyn Bus>,
    store: &Arc<dyn Store>,
    input_topic: &Arc<str>,
    links_topic: &Arc<str>,
    given: &[Assigned],
) -> Result<Vec<Progress>, RecoverError> {
    let positions = store.positions().await?;
    let mut progress = Vec::with_capacity(given.len());
    for assigned in given {
        let partition = assigned.partition;
        let own = positions.iter().find(|p| p.partition == partition);
        if let Some(position) = own {
            check_topic(bus, input_topic, position).await?;
        }
        let relay = match assigned.relay {
            Some(relay) => relay,
            None => lost_relay(bus, store, links_topic, partition).await?,
        };
        let relay = match check_store(store, partition, relay).await {
            Err(RecoverError::Store(StoreError::Mismatch(_)))
                if moved_on(bus, partition, relay).await? =>
            {
                let why = format!("another worker relays partition {partition} by now");
                return Err(RecoverError::Overtaken(BusError::Unavailable(why)));
            }
            checked => checked?,
        };
        let input = assigned.input.unwrap_or(0).min(own.map_or(0, |p| p.offset));
        progress.push(Progress {
            partition,
            input,
            relay,
        });
    }
    Ok(progress)
}

/// The record before the store's position must be the one that was applied. If retention has
/// removed it, nothing can be said.
///
/// # Errors
/// [`StoreError::Mismatch`] if it is another one.
pub async fn check_topic(
    bus: &Arc<dyn Bus>,
    topic: &Arc<str>,
    position: &Position,
) -> Result<(), RecoverError> {
    if position.offset == 0 {
        return Ok(());
    }
    let range = Range {
        topic: Arc::clone(topic),
        partition: position.partition,
        from: position.offset - 1,
        to: position.offset,
    };
    let found = bus.read(&range, 1).await?;
    if let Some(record) = found.first() {
        if digest(record) == position.digest {
            return Ok(());
        }
        return Err(mismatch(
            topic,
            position.partition,
            "holds another record than the store has applied",
        ));
    }
    let bounds = bus.topics(&[TopicSpec::asked(topic)]).await?;
    let next = bounds
        .iter()
        .find(|t| t.name == *topic)
        .and_then(|t| t.bounds.get(position.partition as usize).copied());
    match next {
        Some((_, next)) if next >= position.offset => Ok(()),
        _ => Err(mismatch(
            topic,
            position.partition,
            "is shorter than the store's position in it",
        )),
    }
}

/// Whether the relay's position is another than the one that was given: the partition has been taken
/// away meanwhile, which this worker has not heard yet, and its new owner has relayed on and pruned
/// the row that is looked for.
async fn moved_on(
    bus: &Arc<dyn Bus>,
    partition: u32,
    given: RelayPosition,
) -> Result<bool, BusError> {
    let group = bus.group().await?;
    let now = group.iter().find(|a| a.partition == partition);
    let now = now.and_then(|assigned| assigned.relay);
    Ok(now.is_some_and(|now| (now.seq, now.row) != (given.seq, given.row)))
}

/// The store must hold the outbox row that was relayed last, with the same id.
async fn check_store(
    store: &Arc<dyn Store>,
    partition: u32,
    relay: RelayPosition,
) -> Result<RelayPosition, RecoverError> {
    let own = store.identity().store;
    if relay.seq == 0 {
        return Ok(RelayPosition {
            store: own,
            ..relay
        });
    }
    let row = store.outbox_row(partition, relay.seq).await?;
    let known = !relay.row.is_nil();
    // A rebuild leaves no row to compare, but its store's id.
    let fits = relay.store == own
        && if known {
            row == Some(relay.row)
        } else {
            row.is_some() || store.outbox_head(partition).await? >= relay.seq
        };
    if fits {
        return Ok(RelayPosition {
            store: own,
            row: row.unwrap_or(relay.row),
            ..relay
        });
    }
    Err(StoreError::Mismatch(format!(
        "the store does not hold outbox row {} of partition {partition} that was published: it was \
         restored from an older copy, or is empty, or belongs to other topics. If the topics are \
         whole, stop all workers and run `unilink rebuild --from topics`",
        relay.seq
    ))
    .into())
}

fn mismatch(topic: &Arc<str>, partition: u32, what: &str) -> RecoverError {
    StoreError::Mismatch(format!(
        "topic {topic}, partition {partition}, {what}: topic and store do not belong together. \
         Point the configuration at the right ones; or, if the topic was lost or made anew, stop all \
         workers and run `unilink rebuild --from store`"
    ))
    .into()
}

/// The relay's position when the bus no longer knows it: the largest sequence in the tail of
/// `account-links`.
///
/// # Errors
/// The bus cannot be read.
pub async fn lost_relay(
    bus: &Arc<dyn Bus>,
    store: &Arc<dyn Store>,
    topic: &Arc<str>,
    partition: u32,
) -> Result<RelayPosition, RecoverError> {
    let states = bus.topics(&[TopicSpec::asked(topic)]).await?;
    let bounds = states
        .iter()
        .find(|t| t.name == *topic)
        .and_then(|t| t.bounds.get(partition as usize).copied());
    let (start, end) = bounds.unwrap_or((0, 0));
    if start < end {
        // What was relayed last may lie behind what a dead worker left open.
        bus.settled(topic).await?;
    }
    let mut range = Range {
        topic: Arc::clone(topic),
        partition,
        from: start.max(end - TAIL),
        to: end,
    };
    let mut seq = 0;
    loop {
        let records = bus.read(&range, CHUNK).await?;
        let Some(last) = records.last() else {
            break;
        };
        range.from = last.offset + 1;
        let seqs = records
            .iter()
            .flat_map(|r| &r.headers)
            .filter(|(name, _)| name == SEQ_HEADER);
        let largest = seqs
            .filter_map(|(_, v)| std::str::from_utf8(v).ok()?.parse::<u64>().ok())
            .max();
        seq = seq.max(largest.unwrap_or(0));
    }
    Ok(RelayPosition {
        store: store.identity().store,
        seq,
        row: Uuid::nil(),
        inline: -1,
    })
}
