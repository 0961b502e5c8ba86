//! Replays: a range of the login topic gone through once more, beside the live workers and without
//! their group, so that what was learnt since (a platform, a secret, a key) reaches logins of before.
//!
//! - Nothing newer is undone: facts are joins, and what is known already changes nothing, writes
//!   nothing and publishes nothing.
//! - A code is never sent: what the ledger holds of it counts, and nothing else. Nothing is deferred,
//!   and no dead letter and no `linked-logins` record is written again.
//! - Changes go through the outbox, in transactions that also note how far the job has got and what it
//!   came to; a job that was stopped or killed goes on from there, at the same chunks.
//! - A dry run is the same work on a [`shadow`] of the store.

pub mod accounts;
pub mod counts;
pub mod engine;
pub mod event;
pub mod followers;
pub mod ground;
pub mod job;
pub mod logins;
pub mod pace;
pub mod piece;
pub mod recall;
pub mod resolver;
pub mod shadow;
pub mod spec;

use crate::bus::BusError;
use crate::resolve::ports::MemoryFault;
use crate::store::StoreError;
use async_trait::async_trait;
use counts::Counts;
use event::Chunk;
use spec::Progress;
use tokio::task::JoinError;

/// What is gone through.
#[async_trait]
pub trait Source: Send + Sync {
    /// The next window, in chunks; none at the end.
    async fn next(&mut self) -> Result<Vec<Chunk>, ReplayError>;
}

/// Watches the work.
pub trait Watch: Send + Sync {
    /// It begins, from here.
    fn begin(&self, progress: &Progress);
    /// So far it is, and came to this.
    fn went(&self, progress: &Progress, counts: &Counts);
}

/// Why work did not end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store failed, or the job is not this process's any more.
    #[error("{0}")]
    Store(StoreError),
    /// Resolution lost its memory.
    #[error(transparent)]
    Memory(#[from] MemoryFault),
    /// It cannot go on; the text says why.
    #[error("{0}")]
    Refused(String),
    /// It was told to stop.
    #[error("stopped before it was done")]
    Stopped,
    /// What reads ahead ended without a word.
    #[error("the reader ended before the range did")]
    LostReader,
    /// A task ended unexpectedly.
    #[error("a task ended: {0}")]
    Task(#[from] JoinError),
}

impl ReplayError {
    /// Whether it may work after a while.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Bus(BusError::Unavailable(_))
                | Self::Store(StoreError::Unavailable(_))
                | Self::Memory(_)
        )
    }
}
