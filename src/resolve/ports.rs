//! What resolution needs from outside: a memory that outlives it. The worker implements it over the
//! store, in micro-batches; tests over a map.

use crate::model::{Account, AppId, Millis, SealedKey};
use async_trait::async_trait;
use uuid::Uuid;

/// HMAC of what a note is about; nobody can tell the code from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(pub [u8; 32]);

/// Something to remember under a mark. The first note under a mark stays.
#[derive(Debug, Clone)]
pub struct Note {
    /// Under which mark.
    pub mark: Mark,
    /// Whom it names, if anyone: an erasure of the account empties the note.
    pub account: Option<Account>,
    /// When it was learnt.
    pub at: Millis,
    /// The content, sealed for rest.
    pub sealed: Vec<u8>,
}

/// A note as it is found again.
#[derive(Debug, Clone)]
pub struct Found {
    /// When it was learnt.
    pub at: Millis,
    /// The content; `None` after an erasure.
    pub sealed: Option<Vec<u8>>,
}

/// The wish of one attempt: to be the only one that sends a code, until then.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The code.
    pub mark: Mark,
    /// The attempt: random, of no other attempt.
    pub holder: Uuid,
    /// The end of the lease.
    pub until: Millis,
}

/// What a claim came to.
#[derive(Debug, Clone, Copy)]
pub enum Claimed {
    /// Nobody else may send it now.
    Mine {
        /// Nobody claimed it before: there can be no answer yet.
        first: bool,
        /// A request of an earlier attempt may have reached WeChat.
        sent: bool,
    },
    /// Not now.
    Held {
        /// The attempt that has it; `None`: its lease ran out, and it has a moment yet to note an
        /// answer that it may have in hand.
        holder: Option<Uuid>,
        /// Until when, at the longest.
        until: Millis,
    },
}

/// The end of an attempt that brought no answer that lasts.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// The code.
    pub mark: Mark,
    /// The attempt.
    pub holder: Uuid,
    /// Whether its request may have reached WeChat.
    pub sent: bool,
}

/// What is known of a code that was claimed.
#[derive(Debug, Clone, Copy)]
pub struct Sending {
    /// An attempt has the lease, or had it until it ran out.
    pub held: bool,
    /// Until when nobody else may send it.
    pub until: Millis,
    /// A request of an attempt that is over may have reached WeChat.
    pub sent: bool,
}

/// What is held of an account.
#[derive(Debug, Clone, Default)]
pub struct HeldKeys {
    /// Whether the account has an active claim.
    pub resolved: bool,
    /// Session keys, newest first.
    pub keys: Vec<SealedKey>,
}

/// The memory cannot be reached. Resolution stops; nothing is decided without it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the memory of resolution is not available: {0}")]
pub struct MemoryFault(pub String);

/// Remembers answers beyond crashes.
#[async_trait]
pub trait Memory: Send + Sync {
    /// The notes under these marks, in their order.
    async fn recall(&self, marks: Vec<Mark>) -> Result<Vec<Option<Found>>, MemoryFault>;
    /// Makes notes durable before it returns.
    async fn remember(&self, note: Note) -> Result<(), MemoryFault>;
    /// Takes the lease of a code, which one attempt at a time has. Whoever has it already goes on.
    async fn claim(&self, claim: Claim) -> Result<Claimed, MemoryFault>;
    /// Gives a lease back, if the attempt still has it.
    async fn release(&self, release: Release) -> Result<(), MemoryFault>;
    /// What is known of the sending of a code; `None`: nobody ever claimed it.
    async fn sending(&self, mark: Mark) -> Result<Option<Sending>, MemoryFault>;
    /// What is held of the account.
    async fn held(&self, account: Account) -> Result<HeldKeys, MemoryFault>;
}

/// An app's access token as it rests.
#[derive(Debug, Clone)]
pub struct Shelved {
    /// Counts refreshes, from 1.
    pub version: u64,
    /// The token, sealed for rest.
    pub sealed: Vec<u8>,
}

/// Where the apps' access tokens rest, for all workers.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// The app's token; `None` if nobody has got one yet.
    async fn token(&self, app: &AppId) -> Result<Option<Shelved>, MemoryFault>;
    /// Takes the right to refresh until `until`, if nobody holds it at `now` and the version is
    /// still `seen` (0: there is none yet).
    async fn lease(
        &self,
        app: &AppId,
        seen: u64,
        now: Millis,
        until: Millis,
    ) -> Result<bool, MemoryFault>;
    /// Puts a token in the place of version `seen`, and gives the right back; `false`: another was
    /// faster.
    async fn put(
        &self,
        app: &AppId,
        seen: u64,
        sealed: Vec<u8>,
        expires_at: Millis,
    ) -> Result<bool, MemoryFault>;
    /// Gives the right to refresh back.
    async fn release(&self, app: &AppId, seen: u64) -> Result<(), MemoryFault>;
    /// What waits for the app is due at once: WeChat answers it again.
    async fn hasten(&self, app: &AppId) -> Result<(), MemoryFault>;
}
