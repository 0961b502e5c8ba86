//! Putting letters back on the login topic, batch by batch.

use super::plan::{Count, Left, Plan, Verdict, Wish};
use super::{Desk, DlqError, Letter};
use crate::bus::{BusError, Record, partition_of};
use crate::store::{LetterPlace, Redrive};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Letters of one batch.
const BATCH: usize = 200;
/// Bytes of one batch, unless one letter alone has more.
const BATCH_BYTES: usize = 512 * 1024;

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Letters that went back, by reason.
    pub went: Count,
    /// Letters that did not go though the plan said so, and all others that were left.
    pub plan: Plan,
    /// It was stopped before its end.
    pub stopped: bool,
}

impl Done {
    /// How many went.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.went.values().sum()
    }
}

/// A redrive at work.
struct Redriving<'a> {
    desk: &'a Desk,
    wish: &'a Wish,
    /// The next offset of each partition of the login topic: what goes stands there or later.
    ends: Vec<i64>,
    begun: Instant,
    batch: Vec<Letter>,
    bytes: usize,
    done: Done,
}

/// Redrives what the plan found in what it looked through. `went` learns how many went so far. Ends
/// after the batch at hand once `stop` is cancelled.
///
/// # Errors
/// Bus or store fail: what went is noted, or found on the login topic by the next redrive.
pub async fn run(
    desk: &Desk,
    wish: &Wish,
    plan: &Plan,
    stop: &CancellationToken,
    went: impl Fn(u64),
) -> Result<Done, (DlqError, Done)> {
    let mut work = Redriving {
        desk,
        wish,
        ends: Vec::new(),
        begun: Instant::now(),
        batch: Vec::new(),
        bytes: 0,
        done: Done::default(),
    };
    match work.all(plan, stop, went).await {
        Ok(()) => Ok(work.done),
        Err(error) => Err((error, work.done)),
    }
}

impl Redriving<'_> {
    async fn all(
        &mut self,
        plan: &Plan,
        stop: &CancellationToken,
        went: impl Fn(u64),
    ) -> Result<(), DlqError> {
        let bounds = self.desk.bounds(&self.desk.logins).await?;
        self.ends = bounds.iter().map(|(_, next)| *next).collect();
        let gone = BTreeSet::new();
        for mut range in plan.held.clone() {
            while let Some((letters, _)) = self.desk.page(&mut range).await? {
                let now = (self.desk.clock)();
                for letter in letters {
                    if !self.wish.filter.takes(&letter) {
                        continue;
                    }
                    if let Verdict::Left(why) = self.wish.judge(&letter, now, &gone) {
                        self.done.plan.leave(&letter, why);
                        continue;
                    }
                    if self.is_full(&letter) {
                        self.send(stop).await?;
                        went(self.done.total());
                    }
                    if stop.is_cancelled() {
                        self.done.stopped = true;
                        return Ok(());
                    }
                    self.bytes += weight(&letter);
                    self.batch.push(letter);
                }
            }
        }
        self.send(stop).await?;
        went(self.done.total());
        Ok(())
    }

    fn is_full(&self, next: &Letter) -> bool {
        let rate = usize::try_from(self.wish.rate).unwrap_or(BATCH);
        let most = if rate == 0 { BATCH } else { BATCH.min(rate) };
        let heavy = !self.batch.is_empty() && self.bytes + weight(next) > BATCH_BYTES;
        self.batch.len() >= most || heavy
    }

    /// Sends the batch: noted before, noted after.
    async fn send(&mut self, stop: &CancellationToken) -> Result<(), DlqError> {
        let letters = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if letters.is_empty() || !self.paced(stop).await {
            self.done.stopped |= !letters.is_empty();
            return Ok(());
        }
        let (store, now) = (&self.desk.store, (self.desk.clock)());
        let about: Vec<Redrive> = letters.iter().map(|l| self.about(l)).collect();
        let stale = now.plus(-super::HELD_MS);
        let mine = store.begin_redrive(&about, now, stale, self.wish.again);
        let mine: BTreeSet<LetterPlace> = mine.await?.into_iter().collect();
        let (mine, others): (Vec<Letter>, Vec<Letter>) = letters
            .into_iter()
            .partition(|letter| mine.contains(&letter.place.pair()));
        for letter in &others {
            self.done.plan.leave(letter, Left::UnderWay);
        }
        let places: Vec<LetterPlace> = mine.iter().map(|l| l.place.pair()).collect();
        let records = mine.iter().map(|letter| self.record(letter)).collect();
        match self.desk.bus.publish(records).await {
            Ok(()) => {}
            // One alone that is too large for the topic keeps nobody else.
            Err(BusError::Refused(_)) if mine.len() == 1 => {
                store.end_redrive(&places, false).await?;
                self.done.plan.leave(&mine[0], Left::NotTaken);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        store.end_redrive(&places, true).await?;
        for letter in &mine {
            *self.done.went.entry(letter.reason()).or_default() += 1;
        }
        Ok(())
    }

    /// Waits until the rate allows the next batch; whether it may go.
    async fn paced(&self, stop: &CancellationToken) -> bool {
        if self.wish.rate > 0 {
            let went = Duration::from_secs(self.done.total()) / self.wish.rate;
            tokio::select! {
                () = sleep_until(self.begun + went) => {}
                () = stop.cancelled() => {}
            }
        }
        !stop.is_cancelled()
    }

    fn about(&self, letter: &Letter) -> Redrive {
        let partitions = u32::try_from(self.ends.len()).unwrap_or(1);
        let to = partition_of(&letter.record.key, partitions.max(1));
        Redrive {
            place: letter.place.pair(),
            stamp: letter.at,
            to: (to, self.ends.get(to as usize).copied().unwrap_or(0)),
        }
    }

    fn record(&self, letter: &Letter) -> Record {
        let times = letter.redriven.as_ref().map_or(0, |one| one.times);
        Record {
            topic: Arc::clone(&self.desk.logins),
            key: letter.record.key.clone(),
            value: letter.record.value.clone(),
            headers: letter.grave.redriven(letter.place.pair(), times),
            partition: None,
        }
    }
}

fn weight(letter: &Letter) -> usize {
    letter.record.value.as_ref().map_or(0, Vec::len) + letter.record.key.len()
}
