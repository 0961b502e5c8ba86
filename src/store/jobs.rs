//! Long work of operators' that can be stopped and gone on with, and what WeChat answered for it.
//!
//! One process at a time works at a job: it holds it under a random id, with a lease, and each
//! transaction of its work checks that it still does, and that the store is the one that the job was
//! begun in and is not being rebuilt. Who was taken over finds out at its next transaction.

use super::{Identity, StoreError};
use crate::model::{Account, Millis};
use uuid::Uuid;

/// A job as it is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Random.
    pub id: Uuid,
    /// The command's word.
    pub kind: String,
    /// What is to be done: JSON.
    pub spec: String,
    /// Who began it.
    pub author: String,
    /// Why.
    pub note: String,
    /// When.
    pub at: Millis,
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// As it was begun.
    pub new: NewJob,
    /// How far it got: JSON.
    pub progress: String,
    /// What it came to so far: JSON.
    pub counts: String,
    /// Whether it is done.
    pub done: bool,
    /// When progress was noted last.
    pub noted_at: Millis,
    /// The store and epoch that it was begun in.
    pub life: (Uuid, u32),
    /// Until when somebody holds it; `None`: nobody does.
    pub held_until: Option<Millis>,
}

/// Who works at which job, and until when that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The job.
    pub job: Uuid,
    /// Random, made by the process that holds it.
    pub holder: Uuid,
    /// The end of the lease, unless it is renewed.
    pub until: Millis,
}

/// Progress of a job, for the transaction of what it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobNote {
    /// Who notes it.
    pub hold: Hold,
    /// When.
    pub at: Millis,
    /// How far it got.
    pub progress: String,
    /// What it came to.
    pub counts: String,
    /// Whether that is the end: it is held no longer then.
    pub done: bool,
}

/// A question about an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// About whom.
    pub account: Account,
    /// A keyed hash of what was asked.
    pub what: [u8; 16],
}

/// What WeChat answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// To what.
    pub question: Question,
    /// When.
    pub at: Millis,
    /// The answer, sealed for rest.
    pub sealed: Vec<u8>,
}

/// Refuses a job's transaction in another life of the store, or in the middle of a rebuild.
pub(super) fn same_life(
    identity: &Identity,
    (store, epoch): (Uuid, u32),
    rebuilding: bool,
) -> Result<(), StoreError> {
    if rebuilding {
        return Err(StoreError::Mismatch(
            "the store is being rebuilt: what was under way is over, begin it anew afterwards"
                .into(),
        ));
    }
    if (store, epoch) != (identity.store, identity.epoch) {
        return Err(StoreError::Mismatch(
            "the store was rebuilt meanwhile: what was under way is over, begin it anew".into(),
        ));
    }
    Ok(())
}

/// For a note that found no row to write to.
pub(super) fn taken_over() -> StoreError {
    StoreError::Mismatch("another process has taken this job over, or ended it".into())
}
