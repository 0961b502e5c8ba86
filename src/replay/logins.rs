//! A range of the login topic, read without a group: partition by partition, each as live workers read
//! it, in windows that a bound on records and bytes keeps small.

use super::event::{Chunk, Event};
use super::spec::{Logins, Progress};
use super::{ReplayError, Source};
use crate::bus::{Bus, BusError, Range, Stored};
use crate::model::Evidence;
use crate::resolve::ladder::{Ladder, Resolved};
use crate::worker::{Decoded, Decoder};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Most records and bytes of a chunk: one batch for the store.
const CHUNK: (usize, usize) = (500, 1 << 20);
/// Records and bytes of a window, but for its last chunk: its followers fill their batches.
const WINDOW: (usize, usize) = (4_000, 4 << 20);
/// Records decoded by one task.
const TASK: usize = 128;
/// A read that the bus does not answer is tried again this often, with pauses.
const TRIES: u32 = 20;
/// See [`TRIES`].
const PAUSE: Duration = Duration::from_millis(500);

/// Reads logins.
pub struct LoginSource {
    bus: Arc<dyn Bus>,
    reading: Arc<Reading>,
    /// What is left of each partition.
    ranges: VecDeque<Range>,
    /// Read and in no chunk yet; of the first of `ranges`.
    carried: VecDeque<Stored>,
    /// How far the last chunk got.
    progress: Progress,
    stop: CancellationToken,
}

struct Reading {
    decoder: Arc<Decoder>,
    ladder: Arc<Ladder>,
    wanted: Logins,
}

/// Records of a chunk, and how far it gets.
struct Cut {
    records: Vec<Stored>,
    after: Progress,
}

impl LoginSource {
    /// From where the work has got to.
    #[must_use]
    pub fn new(
        bus: Arc<dyn Bus>,
        topic: &Arc<str>,
        (decoder, ladder): (Arc<Decoder>, Arc<Ladder>),
        wanted: Logins,
        progress: Progress,
        stop: CancellationToken,
    ) -> Self {
        let ranges = wanted.ranges.iter().map(|(partition, (from, to))| Range {
            topic: Arc::clone(topic),
            partition: *partition,
            from: progress.offsets.get(partition).copied().unwrap_or(*from),
            to: *to,
        });
        let ranges = ranges.filter(|range| range.from < range.to).collect();
        Self {
            bus,
            ranges,
            reading: Arc::new(Reading {
                decoder,
                ladder,
                wanted,
            }),
            carried: VecDeque::new(),
            progress,
            stop,
        }
    }

    /// The next chunk of records; `None` at the end of all partitions.
    async fn cut(&mut self) -> Result<Option<Cut>, ReplayError> {
        loop {
            if let Some(records) = self.full() {
                return Ok(Some(self.cut_at(records, None)));
            }
            let Some(range) = self.ranges.front() else {
                return Ok(None);
            };
            let (partition, to) = (range.partition, range.to);
            let read = self.read(&range.clone()).await?;
            match (read.last(), self.ranges.front_mut()) {
                (Some(last), Some(range)) => {
                    range.from = last.offset + 1;
                    self.carried.extend(read);
                }
                // What is left of the range is gone, or was never more than a gap.
                _ => {
                    self.ranges.pop_front();
                    let rest = self.carried.len();
                    return Ok(Some(self.cut_at(rest, Some((partition, to)))));
                }
            }
        }
    }

    /// How many of the carried records are a chunk, if they are one.
    fn full(&self) -> Option<usize> {
        let mut bytes = 0;
        for (count, record) in (1..).zip(&self.carried) {
            bytes += size(record);
            if count >= CHUNK.0 || bytes >= CHUNK.1 {
                return Some(count);
            }
        }
        None
    }

    fn cut_at(&mut self, count: usize, end: Option<(u32, i64)>) -> Cut {
        let records: Vec<Stored> = self.carried.drain(..count).collect();
        let last = records.last().map(|last| (last.partition, last.offset + 1));
        if let Some((partition, next)) = end.or(last) {
            let first =
                (self.reading.wanted.ranges.get(&partition)).map_or(next, |(from, _)| *from);
            let before = self.progress.offsets.insert(partition, next);
            let went = (next - before.unwrap_or(first)).max(0);
            self.progress.done += u64::try_from(went).unwrap_or(0);
        }
        Cut {
            records,
            after: self.progress.clone(),
        }
    }

    async fn read(&self, range: &Range) -> Result<Vec<Stored>, ReplayError> {
        let mut tries = 0;
        loop {
            match self.bus.read(range, WINDOW.0).await {
                Err(BusError::Unavailable(why)) if tries < TRIES => {
                    tracing::debug!(why, "reading is tried again");
                    tries += 1;
                }
                read => return Ok(read?),
            }
            let pause = tokio::time::sleep(PAUSE);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                return Err(ReplayError::Stopped);
            }
        }
    }
}

#[async_trait]
impl Source for LoginSource {
    async fn next(&mut self) -> Result<Vec<Chunk>, ReplayError> {
        let mut cuts = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        while count < WINDOW.0 && bytes < WINDOW.1 {
            let Some(cut) = self.cut().await? else {
                break;
            };
            count += cut.records.len();
            bytes += cut.records.iter().map(size).sum::<usize>();
            cuts.push(cut);
        }
        decoded(&self.reading, cuts).await
    }
}

/// Decodes the records of chunks, some at a time on tasks of their own.
async fn decoded(reading: &Arc<Reading>, cuts: Vec<Cut>) -> Result<Vec<Chunk>, ReplayError> {
    let mut decoding = JoinSet::new();
    let mut chunks: Vec<Chunk> = Vec::with_capacity(cuts.len());
    for (index, cut) in cuts.into_iter().enumerate() {
        let mut records = cut.records.into_iter();
        for part in 0.. {
            let some: Vec<Stored> = records.by_ref().take(TASK).collect();
            if some.is_empty() {
                break;
            }
            let reading = Arc::clone(reading);
            decoding.spawn(async move {
                let events: Vec<Event> = some.iter().map(|r| reading.event(r)).collect();
                (index, part, events)
            });
        }
        chunks.push(Chunk {
            after: cut.after,
            ..Chunk::default()
        });
    }
    let mut parts: Vec<(usize, usize, Vec<Event>)> = Vec::with_capacity(decoding.len());
    while let Some(done) = decoding.join_next().await {
        parts.push(done?);
    }
    parts.sort_by_key(|(index, part, _)| (*index, *part));
    for (index, _, events) in parts {
        if let Some(chunk) = chunks.get_mut(index) {
            chunk.events.extend(events);
        }
    }
    Ok(chunks)
}

impl Reading {
    /// A record as live workers read it, and as far as it can be resolved at once.
    fn event(&self, record: &Stored) -> Event {
        match self.decoder.decode(record) {
            Decoded::Login(login) if !self.wanted.wants(&login.app) => Event::Other,
            Decoded::Login(login) => {
                // The fact of a code is what the ledger holds of it.
                let at_once = match login.evidence {
                    Evidence::Code { .. } => None,
                    Evidence::OpenId { .. } => self.ladder.at_once(&login),
                };
                let at_once = at_once.filter(|r| !matches!(r, Resolved::Later(_)));
                Event::Login(login, at_once)
            }
            // Part of the range: what it decides may reach what is not wanted.
            Decoded::Operator(..) if !self.wanted.wants_all() => Event::Other,
            Decoded::Operator(_, fact) => Event::Operator(fact),
            Decoded::Dead(head, reason, _) => {
                let app = head.and_then(|head| head.app);
                match app {
                    Some(app) if !self.wanted.wants(&app) => Event::Other,
                    app => Event::Dead(app, reason),
                }
            }
        }
    }
}

fn size(record: &Stored) -> usize {
    let headers = record.headers.iter().map(|(n, v)| n.len() + v.len());
    record.key.len() + record.value.as_ref().map_or(0, Vec::len) + headers.sum::<usize>()
}
