//! What goes in and out of a store.

use super::JobNote;
use crate::bus::Record;
use crate::model::{
    Account, AccountRow, AppId, Changes, ClaimRow, EventId, Keys, Millis, SealedKey, UserId,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// A keyed hash: what outlives an erasure is found by it. The same for the life of a store.
pub type Mac = Arc<dyn Fn(&str) -> [u8; 32] + Send + Sync>;

/// Session keys that are kept of an account, the newest. The statements of both adapters hold the same
/// number; the contract compares.
pub const HELD_KEYS: usize = 3;

/// What a store is told at birth and holds against every later opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    /// Partitions of the login topic.
    pub partitions: u32,
    /// The consumer group.
    pub group: String,
    /// SHA-256 of the namespace and of an HMAC under the key file's index key.
    pub secrets_hash: [u8; 32],
}

/// What a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Random, made at birth.
    pub store: Uuid,
    /// Counts rebuilds, from 1.
    pub epoch: u32,
    /// What it was told at birth.
    pub birth: Birth,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It may work later: locked, disconnected, disk full.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store is another than the configuration says, or than the topics say. Names the remedy.
    #[error("{0}")]
    Mismatch(String),
    /// What was read cannot be: the file was damaged or written by another version.
    #[error("the store holds what cannot be: {0}")]
    Corrupt(String),
}

/// How far the login topic has been applied, in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// The lowest offset not finished.
    pub offset: i64,
    /// SHA-256 of the record before it (empty at the start), to recognise the topic.
    pub digest: Vec<u8>,
}

/// One batch for [`super::Store::apply`], besides what the planner decides.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// What to read first.
    pub keys: Keys,
    /// Input positions after the batch.
    pub positions: Vec<Position>,
    /// Resolutions to go on with later. One whose (partition, offset) is known is not added again.
    pub defer: Vec<Deferred>,
    /// How deferred resolutions went.
    pub settle: Vec<Settled>,
    /// Events whose fate somebody may ask about.
    pub tracked: Vec<Tracked>,
}

/// What a batch writes.
#[derive(Debug, Default)]
pub struct Write {
    /// Rows.
    pub changes: Changes,
    /// Records for the outbox, by partition of the login topic.
    pub outbox: BTreeMap<u32, Vec<Record>>,
    /// Progress of the job that the batch is part of, written with it. Refused (and all else with it)
    /// if the job is another's by now, or the store's life another.
    pub job: Option<JobNote>,
}

/// One row of the outbox: all records of one batch for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Gapless per partition, from 1, in commit order.
    pub seq: u64,
    /// Random.
    pub row: Uuid,
    /// What to publish, in order.
    pub records: Vec<Record>,
}

/// HMAC of an app and its code: the ledger's key. The code itself is in no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodeKey(pub [u8; 32]);

/// What a code was exchanged for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The code.
    pub code: CodeKey,
    /// Whom it named, if anyone; an erasure of the account removes the answer.
    pub account: Option<Account>,
    /// When the answer came.
    pub at: Millis,
    /// The answer, sealed for rest; `None` once erased.
    pub answer: Option<Vec<u8>>,
}

/// An app's access token as all workers share it (`docs/wechat.md` §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppToken {
    /// Counts refreshes, from 1.
    pub version: u64,
    /// The token, sealed for rest.
    pub sealed: Vec<u8>,
    /// When it expires.
    pub expires_at: Millis,
}

/// What a deferred resolution waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// Its next attempt.
    Time,
    /// A session key for its account; storing one makes it due at once.
    SessionKey,
}

/// A resolution that goes on later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferred {
    /// Partition and offset of its record: they identify it.
    pub partition: u32,
    /// See `partition`.
    pub offset: i64,
    /// Whether its `linked-logins` record is already out (a replay below the inline mark).
    pub silent: bool,
    /// The event's id.
    pub event: EventId,
    /// Its app.
    pub app: AppId,
    /// Its account, if known.
    pub account: Option<Account>,
    /// Whether a code is to be exchanged: these go newest first, since codes die in minutes.
    pub has_code: bool,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// When it is due. Of one that was taken: when its lease ends, which tells this lease from any other.
    pub next_at: Millis,
    /// When it is given up.
    pub expires_at: Millis,
    /// Attempts made.
    pub attempts: u32,
    /// The original record, sealed for rest.
    pub record: Vec<u8>,
    /// When it was deferred.
    pub since: Millis,
}

/// How an attempt at a deferred resolution went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It ended (link or dead letter); what it ended in stands in the same batch. If it had ended
    /// before, the planner learns it from [`crate::model::View::finished`] and publishes nothing for it.
    Done {
        /// Identifies it.
        partition: u32,
        /// Identifies it.
        offset: i64,
    },
    /// It goes on waiting. Only the attempt that has the lease can say so: what an earlier one did not
    /// find may have come since, and woken the later one.
    Again {
        /// Identifies it.
        partition: u32,
        /// Identifies it.
        offset: i64,
        /// When the attempt's lease ends.
        lease: Millis,
        /// Whose it is, if that is known: what it waits for, if that is a key, must come before or after.
        account: Option<Account>,
        /// What for.
        waits_for: WaitsFor,
        /// Until when.
        next_at: Millis,
        /// Attempts made so far.
        attempts: u32,
    },
}

/// The fate of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// The event.
    pub event: EventId,
    /// Its fate.
    pub state: TrackedState,
    /// Its account, once known.
    pub account: Option<Account>,
    /// A word for why (a dead letter's reason, an unresolved account's reason).
    pub reason: Option<String>,
    /// When this was noted.
    pub at: Millis,
}

/// The fate of an event, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackedState {
    /// An account is linked (perhaps unresolved, with a reason).
    Linked,
    /// Resolution goes on.
    Deferred,
    /// It is a dead letter.
    Dead,
}

/// What a store holds about an account for the ladder: may it skip work, and with which keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Whether the account has an active claim.
    pub resolved: bool,
    /// Its session keys, newest first.
    pub keys: Vec<SealedKey>,
}

/// An account with its claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundAccount {
    /// The row.
    pub row: AccountRow,
    /// Its claims, in (platform, unionid) order.
    pub claims: Vec<ClaimRow>,
}

/// An answer to a look-up of a user id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundUser {
    /// The user it is or became, with all accounts.
    Is(UserId, Vec<FoundAccount>),
    /// Erased.
    Gone,
    /// Never published.
    Unknown,
}

/// Totals, for summaries and gauges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Accounts.
    pub accounts: u64,
    /// Users.
    pub users: u64,
    /// Accounts with an active claim, by its strongest method's word.
    pub linked_by_method: BTreeMap<String, u64>,
    /// Accounts without one, by reason's word.
    pub unresolved_by_reason: BTreeMap<String, u64>,
    /// Contested claims, by the word for why.
    pub contested_by_why: BTreeMap<String, u64>,
    /// Waiting resolutions, by app.
    pub deferred_by_app: BTreeMap<String, u64>,
    /// Erased accounts.
    pub tombstones: u64,
}

/// How far to prune.
#[derive(Debug, Clone, Copy)]
pub struct Prune {
    /// Tracked events noted before this go.
    pub tracked_before: Millis,
    /// Ledger rows, and what is known of the sending of codes, from before this go.
    pub ledger_before: Millis,
    /// Session keys from before this go.
    pub session_keys_before: Millis,
    /// Answers to operators' questions from before this go.
    pub answers_before: Millis,
}
