//! Dead letters, for operators: looking through the topic, and putting letters back on the login topic
//! that can end otherwise by now.
//!
//! A letter goes back with its key, its headers and its bytes; what came unsealed stays sealed whole.
//! Before a batch goes, the store notes its letters, and after it that they went. Of a batch whose end
//! nobody noted, the login topic itself tells which letters went: each names its place.

pub mod help;
mod letter;
mod plan;
mod recover;
mod redrive;

pub use letter::{Letter, Opened, redacted};
pub use plan::{Count, Left, Plan, Verdict, Wish};
pub use recover::HELD_MS;
pub use redrive::{Done, run};

use crate::bus::{Bus, BusError, Range, TopicSpec};
use crate::clock::Clock;
use crate::model::{AppId, DeadReason, EventId, Millis};
use crate::seal::Keys;
use crate::store::{LetterPlace, Operate, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Letters read at once.
const PAGE: usize = 500;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum DlqError {
    /// The bus did not.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store did not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A place on the dead letter topic, `PARTITION/OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u32, pub i64);

impl Place {
    pub(crate) fn pair(self) -> LetterPlace {
        (self.0, self.1)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be PARTITION/OFFSET, as `unilink dlq list` shows it (0/12)";
        let (partition, offset) = text.split_once('/').ok_or(wrong)?;
        let offset: u32 = offset.parse().map_err(|_| wrong)?;
        Ok(Self(partition.parse().map_err(|_| wrong)?, offset.into()))
    }
}

/// Which letters are meant; an empty filter means all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of these reasons.
    pub reasons: BTreeSet<DeadReason>,
    /// Of these apps.
    pub apps: BTreeSet<AppId>,
    /// That died then or later.
    pub since: Option<Millis>,
    /// That died before.
    pub until: Option<Millis>,
    /// Of this event.
    pub event: Option<EventId>,
    /// At these places.
    pub places: BTreeSet<Place>,
}

impl Filter {
    /// Whether a letter is meant.
    #[must_use]
    pub fn takes(&self, letter: &Letter) -> bool {
        let reason = letter.grave.reason;
        let told = reason.is_some_and(|reason| self.reasons.contains(&reason));
        let app = letter.app.as_ref();
        (self.reasons.is_empty() || told)
            && (self.apps.is_empty() || app.is_some_and(|app| self.apps.contains(app)))
            && self.since.is_none_or(|since| letter.at >= since)
            && self.until.is_none_or(|until| letter.at < until)
            && (self.event.is_none() || self.event == letter.event)
            && (self.places.is_empty() || self.places.contains(&letter.place))
    }
}

/// What looking at dead letters takes.
pub struct Desk {
    /// The log.
    pub bus: Arc<dyn Bus>,
    /// The store.
    pub store: Arc<dyn Operate>,
    /// Opens what was sealed whole.
    pub keys: Arc<Keys>,
    /// The login topic.
    pub logins: Arc<str>,
    /// The dead letter topic.
    pub dlq: Arc<str>,
    /// The time.
    pub clock: Clock,
}

impl Desk {
    /// What the dead letter topic holds by now, partition by partition.
    ///
    /// # Errors
    /// The bus does not tell.
    pub async fn held(&self) -> Result<Vec<Range>, DlqError> {
        let bounds = self.bounds(&self.dlq).await?;
        let range = |(partition, (from, to))| Range {
            topic: Arc::clone(&self.dlq),
            partition,
            from,
            to,
        };
        Ok((0u32..).zip(bounds).map(range).collect())
    }

    async fn bounds(&self, topic: &Arc<str>) -> Result<Vec<(i64, i64)>, DlqError> {
        let mut states = self.bus.topics(&[TopicSpec::asked(topic)]).await?;
        Ok(states.pop().map(|state| state.bounds).unwrap_or_default())
    }

    /// The next letters of a range, which moves on behind them, and how many records were read: some
    /// may be no dead letters. `None` at its end.
    ///
    /// # Errors
    /// Bus or store do not answer.
    pub async fn page(&self, range: &mut Range) -> Result<Option<(Vec<Letter>, u64)>, DlqError> {
        let records = self.bus.read(range, PAGE).await?;
        let Some(last) = records.last() else {
            return Ok(None);
        };
        range.from = last.offset + 1;
        let read = records.len() as u64;
        let letters = records.into_iter().map(|r| Letter::read(r, &self.keys));
        let mut letters: Vec<Letter> = letters.filter_map(Result::ok).collect();
        let places: Vec<_> = letters.iter().map(|l| (l.place.pair(), l.at)).collect();
        let known = self.store.redriven(&places).await?;
        for (letter, known) in letters.iter_mut().zip(known) {
            letter.redriven = known;
        }
        Ok(Some((letters, read)))
    }

    /// The letter at a place, if there is one.
    ///
    /// # Errors
    /// Bus or store do not answer.
    pub async fn letter(&self, place: Place) -> Result<Option<Letter>, DlqError> {
        let known =
            self.held().await?.into_iter().any(|range| {
                range.partition == place.0 && (range.from..range.to).contains(&place.1)
            });
        if !known {
            return Ok(None);
        }
        let mut range = Range {
            topic: Arc::clone(&self.dlq),
            partition: place.0,
            from: place.1,
            to: place.1 + 1,
        };
        let page = self.page(&mut range).await?;
        Ok(page.and_then(|(mut letters, _)| letters.pop()))
    }
}

/// Letters counted by reason's word and app.
pub type ByApp = BTreeMap<(&'static str, Option<AppId>), u64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back() {
        assert_eq!("3/41".parse(), Ok(Place(3, 41)));
        assert_eq!(Place(3, 41).to_string(), "3/41");
        for wrong in ["", "3", "3/", "/4", "a/4", "3/-1", "-1/4", "3/4/5"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
