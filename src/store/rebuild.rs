//! What only a rebuild does to a store: taking rows from the topics, or giving it a new life beside
//! new topics. Nobody else opens a store while a rebuild is under way, or after one was interrupted.

use super::{Birth, Deferred, Identity, Operate, StoreError};
use crate::model::{Account, Millis, UserId};
use async_trait::async_trait;
use std::collections::BTreeMap;

/// Where a rebuild takes the truth from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The topics: an empty or restored database.
    Topics,
    /// The store: lost or resized topics.
    Store,
}

impl Origin {
    /// The word, on the command line and in the store.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Store => "store",
        }
    }

    /// The origin behind a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Topics, Self::Store]
            .into_iter()
            .find(|origin| origin.word() == word)
    }
}

/// A rebuild that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderWay {
    /// Where it takes the truth from.
    pub origin: Origin,
    /// Whether the store was reborn and the bus was told so: from then on what the rebuild writes
    /// waits in the outbox, and must not be dropped.
    pub placed: bool,
}

impl UnderWay {
    /// As the store keeps it.
    pub(super) fn text(self) -> String {
        let placed = if self.placed { PLACED } else { "" };
        format!("{}{placed}", self.origin.word())
    }

    /// What the store keeps.
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let none = || StoreError::Corrupt("the kind of the rebuild under way".to_owned());
        let word = text.strip_suffix(PLACED);
        Ok(Self {
            origin: Origin::from_word(word.unwrap_or(text)).ok_or_else(none)?,
            placed: word.is_some(),
        })
    }
}

/// See [`UnderWay::placed`].
const PLACED: &str = ", placed";

/// A tombstone whose account nobody can name any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    /// HMAC of the account, as in the key of its record on `registers`.
    pub mac: [u8; 32],
    /// Events up to this time are without effect.
    pub erased_at: Millis,
    /// The last revision published.
    pub revision: u64,
    /// Every own id the account ever had; the first is that of generation 0.
    pub own_ids: Vec<UserId>,
}

/// How a store begins its next life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebirth {
    /// What it is held against from now on. The namespace cannot change.
    pub birth: Birth,
    /// The next epoch.
    pub epoch: u32,
    /// Partitions whose outbox is emptied, with the sequence that it goes on after. The outbox of
    /// others stays: it was never published.
    pub emptied: BTreeMap<u32, u64>,
    /// Whether the input positions stay.
    pub keep_positions: bool,
}

/// A store that is being rebuilt.
#[async_trait]
pub trait Rebuild: Operate {
    /// Which rebuild has begun and not ended.
    async fn under_way(&self) -> Result<Option<UnderWay>, StoreError>;

    /// From now on nobody else opens the store.
    async fn begin(&self, what: UnderWay) -> Result<(), StoreError>;

    /// Takes tombstones in; of two for one account the later stays.
    async fn load_tombstones(&self, stones: &[Buried]) -> Result<(), StoreError>;

    /// Begins the next life, in one transaction: a new random id, and what is told.
    async fn rebirth(&self, rebirth: &Rebirth) -> Result<Identity, StoreError>;

    /// Others may open the store again.
    async fn finish(&self) -> Result<(), StoreError>;

    /// Living accounts after the place `after` (0: from the first), in the order of places.
    async fn walk(&self, after: i64, limit: usize) -> Result<Vec<(i64, Account)>, StoreError>;

    /// All tombstones.
    async fn tombstones(&self) -> Result<Vec<Buried>, StoreError>;

    /// Unfinished resolutions that still have the place of a record, or a partition that is none of
    /// `partitions`; and the lowest offset in use.
    async fn placed(
        &self,
        partitions: u32,
        limit: usize,
    ) -> Result<(Vec<Deferred>, i64), StoreError>;

    /// Gives unfinished resolutions other places, with their records sealed for those. What is
    /// finished, and therefore only a mark at its record's place, is forgotten.
    async fn replace(&self, moved: &[Move]) -> Result<(), StoreError>;
}

/// A resolution's new place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The place it has.
    pub from: (u32, i64),
    /// The place it gets.
    pub to: (u32, i64),
    /// The record, sealed for the new place.
    pub record: Vec<u8>,
}
