//! From times to offsets. Brokers stamp records as they take them, so times never go back.

use super::catalog::{Watcher, blocking};
use super::fault;
use crate::bus::BusError;
use crate::model::Millis;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::Duration;

/// How long the brokers may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// See [`crate::bus::Bus::offsets_at`].
pub async fn offsets_at(
    watcher: Arc<Watcher>,
    topic: Arc<str>,
    partitions: u32,
    at: Millis,
) -> Result<Vec<i64>, BusError> {
    blocking(move || {
        let what = format!("asking for the offsets of a time in topic {topic}");
        let failed = |error| fault::of(&what, &error);
        let mut wanted = TopicPartitionList::new();
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        for partition in 0..partitions {
            // Here an offset stands for a time.
            let time = Offset::Offset(at.0.max(0));
            wanted
                .add_partition_offset(&topic, partition, time)
                .map_err(failed)?;
        }
        let found = watcher.offsets_for_times(wanted, ANSWER).map_err(failed)?;
        let mut offsets = Vec::new();
        for partition in 0..partitions {
            let told = found.find_partition(&topic, partition);
            let told = told.map(|one| one.error().map(|()| one.offset()));
            offsets.push(match told.transpose().map_err(failed)? {
                Some(Offset::Offset(offset)) => offset,
                _ => {
                    let ends = watcher.fetch_watermarks(&topic, partition, ANSWER);
                    ends.map_err(failed)?.1
                }
            });
        }
        Ok(offsets)
    })
    .await
}
