//! Which dead letters went back to the login topic: so that none goes twice, however often the command
//! runs, however it ends.

use super::StoreError;
use crate::model::Millis;
use async_trait::async_trait;
use rustc_hash::FxHashMap;

/// A dead letter's place on its topic: partition and offset.
pub type LetterPlace = (u32, i64);

/// A letter that is about to go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// Its place.
    pub place: LetterPlace,
    /// The time of its record: topics that were made anew have other letters at the same places.
    pub stamp: Millis,
    /// Where it will stand at the earliest: partition and offset of the login topic.
    pub to: LetterPlace,
}

/// What is known of a letter that went back, or was about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redriven {
    /// The letter.
    pub letter: Redrive,
    /// When it last began to.
    pub at: Millis,
    /// How often it went.
    pub times: u32,
    /// It began to go and nobody noted that it went: a redrive is under way, or ended in between.
    pub under_way: bool,
}

/// The memory of redrives.
#[async_trait]
pub trait Redrives: Send + Sync {
    /// What is known of these letters, each at its place and with its time, in their order.
    async fn redriven(
        &self,
        letters: &[(LetterPlace, Millis)],
    ) -> Result<Vec<Option<Redriven>>, StoreError>;

    /// Notes at `now` that letters are about to go, and returns those that may: not those that went
    /// before, unless `again`, and not those that another has begun after `stale`.
    async fn begin_redrive(
        &self,
        letters: &[Redrive],
        now: Millis,
        stale: Millis,
        again: bool,
    ) -> Result<Vec<LetterPlace>, StoreError>;

    /// Notes of letters that were about to go whether they `went`.
    async fn end_redrive(&self, places: &[LetterPlace], went: bool) -> Result<(), StoreError>;

    /// All that are under way.
    async fn redrives_under_way(&self) -> Result<Vec<Redriven>, StoreError>;

    /// Forgets the letters of a partition that the topic has dropped: those below `first`.
    async fn forget_redrives(&self, partition: u32, first: i64) -> Result<(), StoreError>;
}

/// What is known of each letter, in the order of the question. Another letter at the same place, after the
/// topic was made anew, is not the one that was asked about.
pub(super) fn as_asked(
    letters: &[(LetterPlace, Millis)],
    known: Vec<Redriven>,
) -> Vec<Option<Redriven>> {
    let known: FxHashMap<_, _> = (known.into_iter())
        .map(|one| ((one.letter.place, one.letter.stamp), one))
        .collect();
    letters.iter().map(|key| known.get(key).cloned()).collect()
}
